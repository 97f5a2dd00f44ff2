"""Plans side by side: of all planners, judged on what they did not see, and of one objective under every guarantee."""

from mipplan.comparison.comparing import check_rules, compare
from mipplan.comparison.guarantees import GUARANTEES, GuaranteeCost, PricedGuarantee, guarantee_costs
from mipplan.comparison.result import Comparison, ComparisonRow, Contender, Judgement

__all__ = [
    "GUARANTEES",
    "Comparison",
    "ComparisonRow",
    "Contender",
    "GuaranteeCost",
    "Judgement",
    "PricedGuarantee",
    "check_rules",
    "compare",
    "guarantee_costs",
]
