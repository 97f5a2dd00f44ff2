"""Questions about the variants of stages: best combinations, most accuracy, fronts, and menus of near-optimal plans."""

from mipplan.variants.asking import Asker
from mipplan.variants.combinations import best_combination
from mipplan.variants.front import Front, most_accurate, pareto
from mipplan.variants.menu import PlanMenu, menu
from mipplan.variants.weighing import WeighedPlan, weigh

__all__ = [
    "Asker",
    "Front",
    "PlanMenu",
    "WeighedPlan",
    "best_combination",
    "menu",
    "most_accurate",
    "pareto",
    "weigh",
]
