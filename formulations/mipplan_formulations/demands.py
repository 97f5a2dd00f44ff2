"""The demands of a problem side by side: times and rows of all its activities in a few array operations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from mipplan_formulations.arrays import IntArray
from mipplan_formulations.demand import Demand

KINDS = ("wait", "own")
"""First index of arrays that tell of waits and own times."""
WAIT, OWN = range(len(KINDS))

#: Numbers of units that are simply all looked at.
_FEW = 512
#: Numbers of units looked at in one round otherwise.
_PROBES = 64


class Demands:
    """Demands of several activities, padded to one length: a load of 0 asks for nothing.

    Attributes
    ----------
    activities : tuple of int
        Indices of the t activities that have a demand.
    offset, load : int64 arrays, shape (t, k)
    own_load : int64 array, shape (t,)
    """

    def __init__(self, demands: Sequence[Demand | None]) -> None:
        present = [(v, demand) for v, demand in enumerate(demands) if demand is not None]
        self.activities = tuple(v for v, _ in present)
        longest = max((demand.load.size for _, demand in present), default=0)
        self.offset = np.zeros((len(present), longest), dtype=np.int64)
        self.load = np.zeros((len(present), longest), dtype=np.int64)
        for i, (_, demand) in enumerate(present):
            self.offset[i, : demand.offset.size] = demand.offset
            self.load[i, : demand.load.size] = demand.load
        self.own_load = np.array([demand.own_load for _, demand in present], dtype=np.int64)

    def times(self, units: IntArray) -> IntArray:
        """Waits and own times.

        Parameters
        ----------
        units : int64 array, shape (t, m)
            At least 1, per activity.

        Returns
        -------
        int64 array, shape (2, t, m)
        """
        return self._times_of(slice(None), units)

    def supports(self, slopes: IntArray, least: IntArray, most: IntArray) -> IntArray:
        """For each slope s the least of ``time(n) + s·n`` over least <= n <= most, shape as `slopes`.

        Few numbers of units are all looked at. Of many, only those around the place where sparse ones are least: before
        rounding the sum is convex. Where it is so level that rounding hides which way it falls, the least may lie
        elsewhere, but it is less than 2 below; so 2 less is returned then.

        Parameters
        ----------
        slopes : int64 array, shape (2, t, r)
            Of waits and own times.
        least, most : int64 arrays, shape (t,)
        """
        found = np.empty_like(slopes)
        count = most - least + 1
        for rows in _of_similar(count):
            units = least[rows, None] + np.arange(count[rows].max())
            np.minimum(units, most[rows, None], out=units)
            times = self._times_of(rows, units)
            for k in range(slopes.shape[2]):
                # Slope by slope: all at once would be many times as much memory.
                found[:, rows, k] = (times + slopes[:, rows, k, None] * units).min(axis=2)
        for i in np.flatnonzero(count > _FEW).tolist():
            found[:, i] = self._wide_supports(i, slopes[:, i], int(least[i]), int(most[i]))
        return found

    def _times_of(self, rows: slice | IntArray, units: IntArray) -> IntArray:
        times = np.zeros((2, *units.shape), dtype=np.int64)
        own_load, rounding = self.own_load[rows], units - 1
        if self.load.shape[1]:
            waits = (self.load[rows].T[:, :, None] + rounding) // units - self.offset[rows].T[:, :, None]
            np.maximum(waits.max(axis=0), 0, out=times[WAIT])
        if own_load.any():
            np.floor_divide(own_load[:, None] + rounding, units, out=times[OWN])
        return times

    def _wide_supports(self, i: int, slopes: IntArray, least: int, most: int) -> IntArray:
        found = np.empty_like(slopes)
        row = np.array([i])
        for kind in (WAIT, OWN):
            for k, slope in enumerate(slopes[kind].tolist()):
                low, high = least, most
                while high - low >= _FEW:
                    probe = np.linspace(low, high, _PROBES).astype(np.int64)
                    place = int(np.argmin(self._times_of(row, probe[None])[kind, 0] + slope * probe))
                    low, high = int(probe[max(0, place - 2)]), int(probe[min(_PROBES - 1, place + 2)])
                units = np.arange(low, high + 1, dtype=np.int64)
                found[kind, k] = int((self._times_of(row, units[None])[kind, 0] + slope * units).min()) - 2
        return found


@lru_cache(maxsize=8)
def side_by_side(demands: tuple[Demand | None, ...]) -> Demands:
    """Return the demands of a problem side by side; those of the last few problems are remembered."""
    return Demands(demands)


def _of_similar(count: IntArray) -> Iterator[IntArray]:
    """Rows that have few numbers of units, in parts that differ by a factor of two at most."""
    few = np.flatnonzero(count <= _FEW)
    size = np.ceil(np.log2(count[few]))
    for value in np.unique(size):
        yield few[size == value]
