"""Warm-up and intervals of quantiles, written down as their definitions read: slow, and obvious."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from fractions import Fraction


def warm_up(latencies: Sequence[int], group: int, fewest_groups: int, share: float, tolerance: float) -> int:
    """The shortest cut whose MSER statistic, on medians of groups, is within `tolerance` of the least one."""
    size = max(1, min(group, len(latencies) // fewest_groups))
    medians = [
        Fraction(statistics.median(latencies[start : start + size]))
        for start in range(0, len(latencies) - size + 1, size)
    ]
    if len(medians) < 2:
        return 0
    errors = []
    for cut in range(max(1, math.floor(share * len(medians)))):
        left = medians[cut:]
        mean = sum(left) / len(left)
        errors.append(sum((value - mean) ** 2 for value in left) / len(left) ** 2)
    limit = Fraction(tolerance) * min(errors)
    cut = next(cut for cut, error in enumerate(errors) if error <= limit) * size
    rest = latencies[cut:]
    for cold in (4, 3, 2, 1):
        if len(rest) >= fewest_groups and all(
            first > after for first in rest[:cold] for after in rest[cold:]
        ):
            return cut + cold
    return cut


def below(rank: int, count: int, quantile: float) -> Fraction:
    """Probability that fewer than `rank` of `count` independent values are below their quantile."""
    share = Fraction(quantile)
    return sum(
        (math.comb(count, k) * share**k * (1 - share) ** (count - k) for k in range(rank)), start=Fraction(0)
    )


def enclosing_ranks(count: int, quantile: float, confidence: float) -> tuple[int | None, int | None]:
    """The innermost ranks (from 1) that leave out at most half of what may be wrong on each side."""
    tail = (1 - Fraction(confidence)) / 2
    low = [rank for rank in range(1, count + 1) if below(rank, count, quantile) <= tail]
    high = [rank for rank in range(1, count + 1) if below(rank, count, quantile) >= 1 - tail]
    return (low[-1] if low else None), (high[0] if high else None)
