"""The options of every stage (hardware × batch × replicas), and the time-cost problem made of them."""

from mipplan.options.accuracy import (
    AccuracyFloor,
    accurate_families,
    check_accuracies,
    column_problem,
    require_accuracy,
)
from mipplan.options.energy import charge_energy, check_power, require_power
from mipplan.options.families import (
    MAX_REPLICAS,
    Cap,
    Configuration,
    Family,
    Option,
    StageFamilies,
    check_names,
    check_span,
    find_families,
    joint_demand,
    limits_of,
    trace_demand,
)
from mipplan.options.statement import time_cost_problem
from mipplan.options.table import (
    StageOptions,
    build_problem,
    expand,
    extremes,
    frontier,
    tabulate,
    undominated,
    undominated_per_hardware,
    wait_bounds,
)

__all__ = [
    "MAX_REPLICAS",
    "AccuracyFloor",
    "Cap",
    "Configuration",
    "Family",
    "Option",
    "StageFamilies",
    "StageOptions",
    "accurate_families",
    "build_problem",
    "charge_energy",
    "check_accuracies",
    "check_names",
    "check_power",
    "check_span",
    "column_problem",
    "expand",
    "extremes",
    "find_families",
    "frontier",
    "joint_demand",
    "limits_of",
    "require_accuracy",
    "require_power",
    "tabulate",
    "time_cost_problem",
    "trace_demand",
    "undominated",
    "undominated_per_hardware",
    "wait_bounds",
]
