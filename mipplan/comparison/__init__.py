"""Plans side by side: of all planners, judged on what they did not see, and of one planner under every law."""

from mipplan.comparison.comparing import check_rules, compare, plan_under_laws
from mipplan.comparison.result import Comparison, ComparisonRow, Contender, Judgement

__all__ = [
    "Comparison",
    "ComparisonRow",
    "Contender",
    "Judgement",
    "check_rules",
    "compare",
    "plan_under_laws",
]
