"""Sums of integer nanoseconds that are exact even where int64 would overflow."""

from __future__ import annotations

import numpy as np

from mipplan.core import Int64

_HALF_BITS = 32
_LOW_HALF = np.int64(2**_HALF_BITS - 1)


def exact_sum(values: Int64) -> int:
    """Add up int64 numbers, shape (n,), n < 2³¹.

    An overloaded stage makes 10⁷ tokens wait for an hour each: 3.6·10¹⁹ ns, beyond int64.
    """
    if not values.size:
        return 0
    largest = max(abs(int(values.max())), abs(int(values.min())))
    if largest * values.size < 2**63:
        return int(values.sum())
    return (int((values >> _HALF_BITS).sum()) << _HALF_BITS) + int((values & _LOW_HALF).sum())


def exact_product_sum(counts: Int64, durations_ns: Int64) -> int:
    """Add up ``counts · durations_ns``, both shape (n,); counts below 2³¹, durations not negative."""
    high, low = durations_ns >> _HALF_BITS, durations_ns & _LOW_HALF
    return (exact_sum(counts * high) << _HALF_BITS) + exact_sum(counts * low)
