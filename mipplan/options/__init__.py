"""The options of every stage (hardware × batch × replicas), and the time-cost problem made of them."""

from mipplan.options.families import (
    MAX_REPLICAS,
    Configuration,
    Family,
    Option,
    StageFamilies,
    check_names,
    find_families,
    trace_demand,
)
from mipplan.options.problem import build_problem, limits_of, time_cost_problem, wait_bounds
from mipplan.options.table import (
    StageOptions,
    expand,
    extremes,
    frontier,
    tabulate,
    undominated,
    undominated_per_hardware,
)

__all__ = [
    "MAX_REPLICAS",
    "Configuration",
    "Family",
    "Option",
    "StageFamilies",
    "StageOptions",
    "build_problem",
    "check_names",
    "expand",
    "extremes",
    "find_families",
    "frontier",
    "limits_of",
    "tabulate",
    "time_cost_problem",
    "trace_demand",
    "undominated",
    "undominated_per_hardware",
    "wait_bounds",
]
