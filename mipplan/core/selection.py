"""Greatest values of long arrays, found quickly: order statistics near the end, and running maxima."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mipplan.core.checks import Float64, Int64

Numbers = Int64 | Float64
#: Values in a run whose maximum is taken by itself, and how many values make that worth while.
_RUN, _LONG = 8, 1 << 13


@dataclass(frozen=True)
class SampleParams:
    """How the largest of many values are looked for among few."""

    # A sample of about 4,096 values tells how large the largest are; fewer than twice as many are all looked at.
    size: int = 4_096
    # The sample is asked for 1.25 times as many as are wanted, so that there are mostly enough.
    surplus: float = 1.25


def order_statistic(values: Numbers, rank: int) -> int:
    """Return the value of a rank (0-based, ascending); near the end it is looked for among few."""
    above = values.size - rank
    largest = find_largest(values, above)
    among = values.copy() if largest is None else values[largest]
    among.partition(among.size - above)
    return int(among[among.size - above])


def find_largest(values: Numbers, count: int, params: SampleParams = SampleParams()) -> Int64 | None:
    """Index of at least `count` of the largest values, ascending, and not many more; None if a sample tells nothing.

    Parameters
    ----------
    values : int64 or float64, shape (n,)
    count : int
        At least 1, at most n.
    """
    every = values.size // params.size
    if every < 2:
        return None
    sample = values[::every].copy()
    rank = sample.size - 1 - math.ceil(params.surplus * count / every)
    if rank <= 0:
        return None
    sample.sort()  # where most values tie, as waits of 0 do, a partition takes twenty times as long
    found = np.flatnonzero(values >= sample[rank])
    return found if found.size >= count else None


def greatest_values(values: Numbers, count: int, least: int | None = None) -> Int64:
    """Index of the greatest values, shape (n,), n ≥ 1, at most `count` of them, ascending; of equal ones, the first.

    (An `argpartition` would take any of these, on another processor others.) `least` of them, if it is known.
    """
    count = min(count, values.size)
    if least is None:
        least = np.partition(values, values.size - count)[values.size - count]
    chosen = values > least
    chosen[np.flatnonzero(values == least)[: count - np.count_nonzero(chosen)]] = True
    return np.flatnonzero(chosen)


def running_maximum(values: Int64, out: Int64 | None = None) -> Int64:
    """Greatest of each value and all before it, shape (n,): ``np.maximum.accumulate``, of long arrays in half the time.

    It waits for each maximum before it takes the next. Here the values of many runs are taken side by side, and then
    what came before each run. `out` may be `values`.
    """
    if values.size < _LONG:
        return np.maximum.accumulate(values, out=out)
    greatest = np.empty_like(values) if out is None else out
    if greatest is not values:
        np.copyto(greatest, values)
    full = values.size // _RUN * _RUN
    runs = greatest[:full].reshape(-1, _RUN)
    for place in range(1, _RUN):
        np.maximum(runs[:, place], runs[:, place - 1], out=runs[:, place])
    before = np.maximum.accumulate(runs[:-1, -1])
    np.maximum(runs[1:], before[:, None], out=runs[1:])
    rest = greatest[full - 1 :]
    np.maximum.accumulate(rest, out=rest)
    return greatest
