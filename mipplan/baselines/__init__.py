"""What others would do: InferLine's greedy search, sizing for a rate, and FA2 and RIM, which IPA was compared with.

None of them uses a solver.
"""

from mipplan.baselines.adaptation import fa2, rim
from mipplan.baselines.greedy import inferline
from mipplan.baselines.problem import BaselineProblem, filled_ns, pose, size_family
from mipplan.baselines.sizing import coarse_grained, half_slo, rate_checks, rate_to_size_for

__all__ = [
    "BaselineProblem",
    "coarse_grained",
    "fa2",
    "filled_ns",
    "half_slo",
    "inferline",
    "pose",
    "rate_checks",
    "rate_to_size_for",
    "rim",
    "size_family",
]
