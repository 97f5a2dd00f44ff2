"""Formulations of the discrete time-cost trade-off problem with a bottleneck term, and of scaling, as linear models.

Speaks of activities, modes, costs, durations, waits, resources, arcs, paths and a deadline only, and imports
no solver: what is built here can be handed to any.
"""

from mipplan_formulations.documents import from_document, to_document
from mipplan_formulations.exhaustive import (
    ExhaustiveParams,
    Optimum,
    ScalingOptimum,
    scale_exhaustively,
    solve_exhaustively,
)
from mipplan_formulations.linear import LARGEST_MAGNITUDE, Int64, LinearModel, ModelBuilder
from mipplan_formulations.projects import ColumnPool, Columns, MultiProjectEvaluation, MultiProjectProblem
from mipplan_formulations.register import (
    FORMULATIONS,
    MULTI_PROJECT_FORMULATIONS,
    REGISTER,
    SCALING,
    Formulation,
    FormulationOf,
    MultiProjectFormulation,
    ScalingFormulation,
)
from mipplan_formulations.scaling import Demand, Group, ScalingActivity, ScalingEvaluation, ScalingProblem
from mipplan_formulations.time_cost import Activity, Arc, Cover, Evaluation, Path, Resource, TimeCostProblem

# Old names.
PROGRAMME_FORMULATIONS = MULTI_PROJECT_FORMULATIONS
Programme = MultiProjectProblem
ProgrammeFormulation = MultiProjectFormulation
RegisteredFormulation = FormulationOf

__all__ = [
    "FORMULATIONS",
    "LARGEST_MAGNITUDE",
    "MULTI_PROJECT_FORMULATIONS",
    "PROGRAMME_FORMULATIONS",
    "REGISTER",
    "SCALING",
    "Activity",
    "Arc",
    "ColumnPool",
    "Columns",
    "Cover",
    "Demand",
    "Evaluation",
    "ExhaustiveParams",
    "Formulation",
    "FormulationOf",
    "Group",
    "Int64",
    "LinearModel",
    "ModelBuilder",
    "MultiProjectEvaluation",
    "MultiProjectFormulation",
    "MultiProjectProblem",
    "Optimum",
    "Path",
    "Programme",
    "ProgrammeFormulation",
    "RegisteredFormulation",
    "Resource",
    "ScalingActivity",
    "ScalingEvaluation",
    "ScalingFormulation",
    "ScalingOptimum",
    "ScalingProblem",
    "TimeCostProblem",
    "from_document",
    "scale_exhaustively",
    "solve_exhaustively",
    "to_document",
]
