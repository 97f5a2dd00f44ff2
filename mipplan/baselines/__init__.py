"""What others would do: InferLine's greedy search, coarse-grained sizing, half the objective for batches.

None of them uses a solver.
"""

from mipplan.baselines.greedy import inferline
from mipplan.baselines.problem import BaselineProblem, pose, size_family
from mipplan.baselines.sizing import coarse_grained, half_slo

__all__ = ["BaselineProblem", "coarse_grained", "half_slo", "inferline", "pose", "size_family"]
