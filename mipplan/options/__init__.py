"""The options of every stage (hardware × batch × replicas), and the time-cost problem made of them."""

from mipplan.options.admissibility import check_names
from mipplan.options.configuration import Configuration, Option
from mipplan.options.enumeration import (
    StageOptions,
    expand,
    extremes,
    frontier,
    tabulate,
    undominated,
    undominated_per_hardware,
)
from mipplan.options.families import MAX_REPLICAS, Family, StageFamilies, find_families, trace_demand
from mipplan.options.problem import build_problem, limits_of, time_cost_problem
from mipplan.options.waits import wait_bounds

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
