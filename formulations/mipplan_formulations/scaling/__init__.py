"""The scaling problem: how many units each activity gets, modes fixed; its formulation, and a template of its model."""

from mipplan_formulations.scaling.demands import OWN, Demand, Demands, lower_hull, side_by_side
from mipplan_formulations.scaling.model import ScalingTemplate, build
from mipplan_formulations.scaling.problem import (
    WHOLE,
    Group,
    ScalingActivity,
    ScalingEvaluation,
    ScalingProblem,
)

__all__ = [
    "OWN",
    "WHOLE",
    "Demand",
    "Demands",
    "Group",
    "ScalingActivity",
    "ScalingEvaluation",
    "ScalingProblem",
    "ScalingTemplate",
    "build",
    "lower_hull",
    "side_by_side",
]
