"""What a plan bears: it is replayed under more traffic, slower service and lost replicas until its objective is missed.

`mipplan.fragility` is the door. The room is not called after it, since a module would hide the function of its name.
"""

from mipplan.perturbation.measuring import fragility
from mipplan.perturbation.perturbations import AXES, Amount, Axis, Case, clustered
from mipplan.perturbation.result import AxisFragility, Fragility, FragilityBreak, FragilityPoint

__all__ = [
    "AXES",
    "Amount",
    "Axis",
    "AxisFragility",
    "Case",
    "Fragility",
    "FragilityBreak",
    "FragilityPoint",
    "clustered",
    "fragility",
]
