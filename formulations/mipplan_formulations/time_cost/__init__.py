"""The discrete time-cost trade-off problem with a wait per path: the problem, its formulations, and heuristics.

Formulations are to be had by name from `mipplan_formulations.FORMULATIONS`.
"""

from mipplan_formulations.time_cost.annealing import Annealer, can_anneal
from mipplan_formulations.time_cost.dominance import (
    Reduction,
    drop_dominated,
    drop_useless,
    find_undominated,
    keep_modes,
)
from mipplan_formulations.time_cost.improvement import Improver, suggest
from mipplan_formulations.time_cost.levels import LevelsParams
from mipplan_formulations.time_cost.networks import (
    END,
    NEVER,
    START,
    PathEdge,
    PathNetwork,
    breakable_network,
    join_paths,
)
from mipplan_formulations.time_cost.paths import breakable_paths
from mipplan_formulations.time_cost.problem import (
    Activity,
    Arc,
    Cover,
    Evaluation,
    Path,
    Resource,
    TimeCostProblem,
    topological_order,
)

__all__ = [
    "END",
    "NEVER",
    "START",
    "Activity",
    "Annealer",
    "Arc",
    "Cover",
    "Evaluation",
    "Improver",
    "LevelsParams",
    "Path",
    "PathEdge",
    "PathNetwork",
    "Reduction",
    "Resource",
    "TimeCostProblem",
    "breakable_network",
    "breakable_paths",
    "can_anneal",
    "drop_dominated",
    "drop_useless",
    "find_undominated",
    "join_paths",
    "keep_modes",
    "suggest",
    "topological_order",
]
