"""The one definition of a quantile used everywhere: over queries, the higher order statistic, never interpolated."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mipplan.core.checks import is_number
from mipplan.core.errors import InputError

Numbers = NDArray[np.int64] | NDArray[np.float64]

#: Of so many values or some more it is told how large the largest of all are, …
_SAMPLE = 4_096
#: … a little too small, so that there are mostly enough.
_SURPLUS = 1.25


def check_quantile(quantile: float) -> float:
    """Return `quantile` as a float.

    Raises
    ------
    InputError
        If it is no number in (0, 1].
    """
    if not is_number(quantile):
        raise InputError.one("quantile", f"expected a number in (0, 1] such as 0.99, found {quantile!r}")
    if not 0.0 < quantile <= 1.0:
        hint = f": for P{quantile:g} write {quantile / 100:g}" if 1.0 < quantile <= 100.0 else ""
        message = f"expected a number in (0, 1] such as 0.99, found {quantile!r}{hint}"
        raise InputError.one("quantile", message)
    return float(quantile)


def higher_rank(quantile: float, count: int) -> int:
    """Rank (0-based, ascending) of the quantile of `count` values, as ``numpy.quantile(method="higher")``."""
    return min(count - 1, math.ceil(quantile * (count - 1)))


def quantile_exceeds(values_ns: NDArray[np.int64], quantile: float, limit_ns: int) -> bool:
    """Whether ``quantile_ns(values_ns, quantile) > limit_ns``; counting is many times as fast as ordering."""
    at_or_after = values_ns.size - higher_rank(quantile, values_ns.size)
    return int(np.count_nonzero(values_ns > limit_ns)) >= at_or_after


def quantile_ns(values_ns: NDArray[np.int64], quantile: float) -> int:
    """Return the quantile of integer nanoseconds, shape (n,), n ≥ 1: an element of `values_ns`."""
    return order_statistic(values_ns, higher_rank(quantile, values_ns.size))


def order_statistic(values: Numbers, rank: int) -> int:
    """Return the value of a rank (0-based, ascending); near the end it is looked for among few."""
    above = values.size - rank
    largest = find_largest(values, above)
    among = values.copy() if largest is None else values[largest]
    among.partition(among.size - above)
    return int(among[among.size - above])


def find_largest(values: Numbers, count: int) -> NDArray[np.int64] | None:
    """Index of so many of the largest values at least, ascending, and not many more; None if a sample tells nothing.

    Parameters
    ----------
    values : int64 or float64, shape (n,)
    count : int
        At least 1, at most n.
    """
    every = values.size // _SAMPLE
    if every < 2:
        return None
    sample = values[::every].copy()
    rank = sample.size - 1 - math.ceil(_SURPLUS * count / every)
    if rank <= 0:
        return None
    sample.partition(rank)
    found = np.flatnonzero(values >= sample[rank])
    return found if found.size >= count else None
