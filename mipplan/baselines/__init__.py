"""What others would do: InferLine's greedy search, coarse-grained sizing, half the objective for batches.

None of them uses a solver.
"""

from mipplan.baselines.coarse import coarse_grained
from mipplan.baselines.configuration import Assignment, choices_of
from mipplan.baselines.greedy import inferline
from mipplan.baselines.halving import half_slo
from mipplan.baselines.problem import Problem, pose

__all__ = [
    "Assignment",
    "Problem",
    "choices_of",
    "coarse_grained",
    "half_slo",
    "inferline",
    "pose",
]
