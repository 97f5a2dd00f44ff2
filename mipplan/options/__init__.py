"""The options of every stage (hardware × batch × replicas), and the time-cost problem made of them."""

from mipplan.options.families import (
    MAX_REPLICAS,
    Configuration,
    Family,
    Option,
    StageFamilies,
    check_names,
    check_span,
    find_families,
    limits_of,
    trace_demand,
)
from mipplan.options.table import (
    StageOptions,
    build_problem,
    expand,
    extremes,
    frontier,
    tabulate,
    time_cost_problem,
    undominated,
    undominated_per_hardware,
    wait_bounds,
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
    "check_span",
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
