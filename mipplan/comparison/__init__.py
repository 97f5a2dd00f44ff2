"""Plans side by side: planned on the first part of a trace, judged on that and on the rest."""

from mipplan.comparison.comparing import check_rules, compare
from mipplan.comparison.result import Comparison, ComparisonRow, Contender, Judgement

__all__ = ["Comparison", "ComparisonRow", "Contender", "Judgement", "check_rules", "compare"]
