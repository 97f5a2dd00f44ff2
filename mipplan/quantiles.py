"""The one definition of a quantile used everywhere: over queries, the higher order statistic, never interpolated."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from mipplan.errors import InputError
from mipplan.numbers import is_number


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


def quantile_ns(values_ns: NDArray[np.int64], quantile: float) -> int:
    """Return the quantile of integer nanoseconds, shape (n,), n ≥ 1: an element of `values_ns`."""
    rank = higher_rank(quantile, values_ns.size)
    return int(np.partition(values_ns, rank)[rank])
