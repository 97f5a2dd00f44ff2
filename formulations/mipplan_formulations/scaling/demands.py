"""What activities ask for: how long they make others wait and take for themselves, by their numbers of units."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from mipplan_formulations.linear import Int64, check_number, raise_if_any, set_integers

KINDS = ("wait", "own")
"""First index of arrays that tell of waits and own times."""
WAIT, OWN = range(len(KINDS))


@dataclass(frozen=True)
class SupportParams:
    """How `Demands.supports` looks for the least of a function over a range of numbers of units."""

    few: int = 512
    """At most this many numbers of units are simply all looked at."""
    probes: int = 64
    """Of more, this many are looked at in one round, which narrows the range to the neighbours of the best."""


DEFAULT = SupportParams()


@dataclass(frozen=True, eq=False)
class Demand:
    """Times of an activity as functions of its units n, both decreasing and, before rounding, convex.

    Its *wait* w keeps ``n·(offset_k + w) ≥ load_k`` for every k, and its *own time* y keeps ``n·y ≥ own_load``;
    times are integers, so ``wait(n) = max(0, max_k ⌈load_k/n⌉ − offset_k)`` and ``own(n) = ⌈own_load/n⌉``.
    Raises `ValueError` naming every fault.

    Attributes
    ----------
    offset, load : int64 arrays, shape (k,)
        Not negative; loads in units times time.
    own_load : int
        Not negative.
    """

    offset: Int64
    load: Int64
    own_load: int = 0

    def __post_init__(self) -> None:
        faults: list[str] = []
        set_integers(self, "demand: ", faults, offset=1, load=1)
        check_number(self.own_load, "demand: own load", faults)
        if not faults and self.offset.shape != self.load.shape:
            faults.append(f"demand: {self.offset.size} offsets for {self.load.size} loads")
        raise_if_any(faults)

    def times(self, kind: str, units: ArrayLike) -> Int64:
        """Times (``wait`` or ``own``) for each number of units, shape as `units`."""
        return self.waits(units) if kind == "wait" else self.own_times(units)

    def waits(self, units: ArrayLike) -> Int64:
        """Wait for each number of units (at least 1), shape as `units`."""
        n = np.asarray(units, dtype=np.int64)
        waits = -(-self.load // n[..., None]) - self.offset
        return np.asarray(waits.max(axis=-1, initial=0), dtype=np.int64)

    def own_times(self, units: ArrayLike) -> Int64:
        """Own time for each number of units (at least 1), shape as `units`."""
        return np.asarray(-(-self.own_load // np.asarray(units, dtype=np.int64)), dtype=np.int64)

    def units_for(self, wait: int, own_time: int) -> int | None:
        """Fewest units, at least 1, that keep a wait and an own time; None if no number does."""
        times = [*(offset + wait for offset in self.offset.tolist()), own_time]
        pairs = zip([*self.load.tolist(), self.own_load], times, strict=True)
        asked = [(load, time) for load, time in pairs if load > 0]
        if wait < 0 or own_time < 0 or any(time <= 0 for _, time in asked):
            return None
        return max((-(-load // time) for load, time in asked), default=1)


class Demands:
    """Demands of several activities side by side, for a few array operations on all of them.

    Arrays have a row for each of the t `activities` with a demand, padded to one length: a load of 0 asks for nothing.
    """

    def __init__(self, demands: Sequence[Demand | None], params: SupportParams = DEFAULT) -> None:
        self._params = params
        present = [(v, demand) for v, demand in enumerate(demands) if demand is not None]
        self.activities = tuple(v for v, _ in present)
        longest = max((demand.load.size for _, demand in present), default=0)
        self.offset = np.zeros((len(present), longest), dtype=np.int64)
        self.load = np.zeros((len(present), longest), dtype=np.int64)
        for i, (_, demand) in enumerate(present):
            self.offset[i, : demand.offset.size] = demand.offset
            self.load[i, : demand.load.size] = demand.load
        self.own_load = np.array([demand.own_load for _, demand in present], dtype=np.int64)

    def times(self, units: Int64, rows: slice | Int64 = slice(None)) -> Int64:
        """Waits and own times, shape (2, t, m), for numbers of units of at least 1, shape (t, m); or of some rows."""
        times = np.zeros((2, *units.shape), dtype=np.int64)
        own_load, rounding = self.own_load[rows], units - 1
        waits = (self.load[rows].T[:, :, None] + rounding) // units - self.offset[rows].T[:, :, None]
        waits.max(axis=0, initial=0, out=times[WAIT])
        if own_load.any():
            np.floor_divide(own_load[:, None] + rounding, units, out=times[OWN])
        return times

    def supports(self, slopes: Int64, least: Int64, most: Int64) -> Int64:
        """For each slope s the least of ``time(n) + s·n`` over least <= n <= most, shape as `slopes`: (2, t, r).

        Few numbers of units are all looked at. Of many, only those around the place where sparse ones are least: before
        rounding the sum is convex. Where it is so level that rounding hides which way it falls, the least may lie
        elsewhere, but it is less than 2 below; so 2 less is returned then.
        """
        found = np.empty_like(slopes)
        count = most - least + 1
        few = np.flatnonzero(count <= self._params.few)
        size = np.ceil(np.log2(count[few]))
        for value in np.unique(size):
            # Those side by side differ by a factor of two at most.
            rows = few[size == value]
            units = least[rows, None] + np.arange(count[rows].max())
            np.minimum(units, most[rows, None], out=units)
            times = self.times(units, rows)
            for k in range(slopes.shape[2]):
                # Slope by slope: all at once would be many times as much memory.
                found[:, rows, k] = (times + slopes[:, rows, k, None] * units).min(axis=2)
        for i in np.flatnonzero(count > self._params.few).tolist():
            found[:, i] = self._wide_supports(i, slopes[:, i], int(least[i]), int(most[i]))
        return found

    def _wide_supports(self, i: int, slopes: Int64, least: int, most: int) -> Int64:
        found = np.empty_like(slopes)
        row, probes = np.array([i]), self._params.probes
        for kind in (WAIT, OWN):
            for k, slope in enumerate(slopes[kind].tolist()):
                low, high = least, most
                while high - low >= self._params.few:
                    probe = np.linspace(low, high, probes).astype(np.int64)
                    place = int(np.argmin(self.times(probe[None], row)[kind, 0] + slope * probe))
                    low, high = int(probe[max(0, place - 2)]), int(probe[min(probes - 1, place + 2)])
                units = np.arange(low, high + 1, dtype=np.int64)
                found[kind, k] = int((self.times(units[None], row)[kind, 0] + slope * units).min()) - 2
        return found


@lru_cache(maxsize=8)
def side_by_side(demands: tuple[Demand | None, ...]) -> Demands:
    """Return the demands of a problem side by side; those of the last few problems are remembered."""
    return Demands(demands)


def lower_hull(units: Int64, times: Int64) -> list[tuple[int, int, int]]:
    """Rows ``a·n + b·time >= c`` through neighbouring corners of the lower hull of the points (n, time).

    Units increase, times decrease (not strictly). All a and b are positive: a level edge has no row, as a bound on the
    time does for it.
    """
    corners: list[tuple[int, int]] = []
    for n, time in zip(units.tolist(), times.tolist(), strict=True):
        while len(corners) > 1:
            (n1, t1), (n2, t2) = corners[-2:]
            if (t2 - t1) * (n - n1) < (time - t1) * (n2 - n1):
                break
            corners.pop()
        corners.append((n, time))
    rows = []
    for (n1, t1), (n2, t2) in pairwise(corners):
        a, b = t1 - t2, n2 - n1
        divisor = math.gcd(a, b)
        if a > 0:
            rows.append((a // divisor, b // divisor, (a * n1 + b * t1) // divisor))
    return rows
