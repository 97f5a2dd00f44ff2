"""What an objective over windows says, from its definition: a loop over windows and sorted latencies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

from mipplan.result import Objective


def window_limits(
    latency_ns: Sequence[int], ingress_ns: Sequence[int], quantile: float, per_ns: int | None
) -> list[int]:
    """The quantile of each window that holds a query, in their order."""
    windows: dict[int, list[int]] = {}
    for latency, ingress in zip(latency_ns, ingress_ns, strict=True):
        window = 0 if per_ns is None else (ingress - ingress_ns[0]) // per_ns
        windows.setdefault(window, []).append(latency)
    return [sorted(held)[math.ceil(quantile * (len(held) - 1))] for held in windows.values()]


def kept_limit(latency_ns: Sequence[int], ingress_ns: Sequence[int], objective: Objective) -> int:
    """The least limit, in the place of the objective's, with which all of it would be kept."""
    kept = []
    asked = [(objective.quantile, objective.slo_ns)]
    asked += [(other.quantile, other.limit_ns) for other in objective.others]
    for quantile, limit_ns in asked:
        limits = sorted(window_limits(latency_ns, ingress_ns, quantile, objective.per_ns))
        enough = math.ceil(Fraction(str(objective.share)) * len(limits))
        kept.append(limits[enough - 1] + objective.slo_ns - limit_ns)
    return max(kept)
