"""Where the rows that describe demands are put: few, near the solution, and kept from one solve to the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from mipplan.core import Int64
from mipplan_formulations.scaling import OWN, Demands

#: Rows per activity for its wait, and for its own time.
ROWS = 9


class CutPlaces:
    """Numbers of units n at which the chord from n to n + 1 becomes a row, for every activity with a demand.

    Attributes
    ----------
    units : int64, shape (t, ROWS)
    """

    def __init__(self, count: int) -> None:
        # Between neighbours a·2^(1/2) apart a function c/n is cut off by at most 3 %; the solution adds its own.
        units = np.unique(np.rint(2.0 ** (np.arange(ROWS) / 2)).astype(np.int64))
        units = np.concatenate([units, units[-1] * 2 ** np.arange(1, ROWS - units.size + 1)])
        self.units: Int64 = np.tile(units, (count, 1))

    def slopes(self, demands: Demands, least: Int64, most: Int64) -> Int64:
        """Positive slopes of the rows (5) and (6) for `least` to `most` units, shape (2, t, ROWS).

        Where a time no longer falls by 1, or beyond what is allowed, the smallest slope of the activity's others
        stands in: the row then holds for any number of units. Without an own time there are no rows (6): 0.
        """
        last = np.maximum(least, most - 1)[:, None]
        places = np.clip(self.units, least[:, None], last)
        # Where one number of units is allowed, there is no next: no fall.
        beside = np.minimum(places + 1, most[:, None])
        times = demands.times(np.concatenate([places, beside], axis=1))
        falls = times[:, :, :ROWS] - times[:, :, ROWS:]
        smallest = np.where(falls > 0, falls, _LARGEST).min(axis=2, keepdims=True)
        slopes = np.where(falls > 0, falls, np.where(smallest < _LARGEST, smallest, 1))
        slopes[OWN, demands.own_load == 0] = 0
        return np.asarray(slopes, dtype=np.int64)

    def move_to(self, units: ArrayLike) -> bool:
        """Put rows at a solution, shape (t,), and those beside it; False if all are there."""
        here = np.maximum(1, (np.asarray(units) + 1e-6).astype(np.int64))
        absent = np.flatnonzero(~(self.units == here[:, None]).any(axis=1))
        for i in absent.tolist():
            self._move(self.units[i], int(here[i]))
        return bool(absent.size)

    @staticmethod
    def _move(placed: Int64, here: int) -> None:
        there = placed.tolist()
        for n in (n for n in (here, here - 1, here + 1) if n >= 1 and n not in there):
            distance = np.abs(np.log(placed / here))
            # The ends stay: they bound what is far away.
            distance[[int(np.argmin(placed)), int(np.argmax(placed))]] = -1.0
            placed[int(np.argmax(distance))] = n


_LARGEST = np.iinfo(np.int64).max
