"""What an activity asks for: how long it makes others wait and takes for itself, by its number of units."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from mipplan_formulations.arrays import IntArray, check_number, raise_if_any, read_integers


@dataclass(frozen=True, eq=False)
class Demand:
    """Times of an activity as functions of its units n, both decreasing and, before rounding, convex.

    Its *wait* w keeps ``n·(offset_k + w) ≥ load_k`` for every k, and its *own time* y keeps ``n·y ≥ own_load``;
    times are integers, so ``wait(n) = max(0, max_k ⌈load_k/n⌉ − offset_k)`` and ``own(n) = ⌈own_load/n⌉``.

    Attributes
    ----------
    offset, load : int64 arrays, shape (k,)
        Not negative; loads in units times time.
    own_load : int
        Not negative.

    Raises
    ------
    ValueError
        Naming every fault.
    """

    offset: IntArray
    load: IntArray
    own_load: int = 0

    def __post_init__(self) -> None:
        faults: list[str] = []
        offset = read_integers(self.offset, 1, "demand: offset", faults)
        load = read_integers(self.load, 1, "demand: load", faults)
        check_number(self.own_load, "demand: own load", faults)
        if not faults and offset.shape != load.shape:
            faults.append(f"demand: {offset.size} offsets for {load.size} loads")
        raise_if_any(faults)
        object.__setattr__(self, "offset", offset)
        object.__setattr__(self, "load", load)

    def times(self, kind: str, units: ArrayLike) -> IntArray:
        """Times (``wait`` or ``own``) for each number of units, shape as `units`."""
        return self.waits(units) if kind == "wait" else self.own_times(units)

    def waits(self, units: ArrayLike) -> IntArray:
        """Wait for each number of units (at least 1), shape as `units`."""
        n = np.asarray(units, dtype=np.int64)
        if self.load.size == 0:
            return np.zeros(n.shape, dtype=np.int64)
        waits = -(-self.load // n[..., None]) - self.offset
        return np.asarray(np.maximum(waits.max(axis=-1), 0), dtype=np.int64)

    def own_times(self, units: ArrayLike) -> IntArray:
        """Own time for each number of units (at least 1), shape as `units`."""
        return np.asarray(-(-self.own_load // np.asarray(units, dtype=np.int64)), dtype=np.int64)

    def units_for(self, wait: int, own_time: int) -> int | None:
        """Fewest units, at least 1, that keep a wait and an own time; None if no number does."""
        needed = 1
        pairs = [
            *zip(self.offset.tolist(), self.load.tolist(), strict=True),
            (own_time - wait, self.own_load),
        ]
        for offset, load in pairs:
            time = offset + wait
            if load > 0 and time <= 0:
                return None
            if load > 0:
                needed = max(needed, -(-load // time))
        return needed if wait >= 0 and own_time >= 0 else None


def lower_hull(units: IntArray, times: IntArray) -> list[tuple[int, int, int]]:
    """Rows ``a·n + b·time >= c`` through neighbouring corners of the lower hull of the points (n, time).

    Parameters
    ----------
    units, times : int64 arrays, shape (m,)
        Units increasing, times decreasing (not strictly).

    Returns
    -------
    list of (a, b, c)
        a and b positive; none for a level edge, which a bound on the time does for.
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
