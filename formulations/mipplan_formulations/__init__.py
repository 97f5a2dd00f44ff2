"""Formulations of the discrete time-cost trade-off problem with a bottleneck term, and of scaling, as linear models.

Speaks of activities, modes, costs, durations, waits, resources, arcs, paths and a deadline only, and imports
no solver: what is built here can be handed to any.
"""

from mipplan_formulations.demand import Demand
from mipplan_formulations.exhaustive import Optimum, solve_exhaustively
from mipplan_formulations.linear import LinearModel
from mipplan_formulations.problem import (
    Activity,
    Arc,
    Cover,
    Evaluation,
    Path,
    Resource,
    TimeCostProblem,
)
from mipplan_formulations.programme import ColumnPool, Columns, Programme
from mipplan_formulations.programme_registry import PROGRAMME_FORMULATIONS, ProgrammeFormulation
from mipplan_formulations.registry import FORMULATIONS, SCALING, Formulation, ScalingFormulation
from mipplan_formulations.scaling_exhaustive import ScalingOptimum, scale_exhaustively
from mipplan_formulations.scaling_problem import Group, ScalingActivity, ScalingEvaluation, ScalingProblem

__all__ = [
    "FORMULATIONS",
    "PROGRAMME_FORMULATIONS",
    "SCALING",
    "Activity",
    "Arc",
    "ColumnPool",
    "Columns",
    "Cover",
    "Demand",
    "Evaluation",
    "Formulation",
    "Group",
    "LinearModel",
    "Optimum",
    "Path",
    "Programme",
    "ProgrammeFormulation",
    "Resource",
    "ScalingActivity",
    "ScalingEvaluation",
    "ScalingFormulation",
    "ScalingOptimum",
    "ScalingProblem",
    "TimeCostProblem",
    "scale_exhaustively",
    "solve_exhaustively",
]
