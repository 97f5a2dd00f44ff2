"""Where the rows that describe demands are put: few, near the solution, and kept from one solve to the next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations import Demand

Integers = NDArray[np.int64]

_NONE = np.zeros(0, dtype=np.int64)

#: Rows per activity for its wait, and for its own time.
ROWS = 9


class CutPlaces:
    """Numbers of units n at which the chord from n to n + 1 becomes a row, for one activity.

    Attributes
    ----------
    units : int64, shape (ROWS,)
    """

    def __init__(self) -> None:
        # Between neighbours a·2^(1/2) apart a function c/n is cut off by at most 3 %; the solution adds its own.
        self.units: Integers = np.unique(np.rint(2.0 ** (np.arange(ROWS) / 2)).astype(np.int64))
        self.units = np.concatenate(
            [self.units, self.units[-1] * 2 ** np.arange(1, ROWS - self.units.size + 1)]
        )

    def slopes(self, demand: Demand, least: int, most: int) -> tuple[Integers, Integers]:
        """Positive slopes of the rows (5) and (6), for `least` to `most` units.

        Where a time no longer falls by 1, or beyond what is allowed, the slope of the nearest place where it does
        stands in: the row then holds for any number of units.
        """
        places = np.clip(self.units, least, max(least, most - 1)) - least
        waits = _falls(demand.table("wait", least, most))
        if not demand.own_load:
            return _positive(waits[places]), _NONE
        return _positive(waits[places]), _positive(_falls(demand.table("own", least, most))[places])

    def move_to(self, units: float) -> bool:
        """Put a row at a solution, and those beside it; False if they are there."""
        here = max(1, int(units + 1e-6))
        wanted = [n for n in (here, here - 1, here + 1) if n >= 1 and n not in self.units]
        if here in self.units:
            return False
        for n in wanted:
            distance = np.abs(np.log(self.units / here))
            # The ends stay: they bound what is far away.
            distance[[int(np.argmin(self.units)), int(np.argmax(self.units))]] = -1.0
            self.units[int(np.argmax(distance))] = n
        return True


def _falls(times: Integers) -> Integers:
    """By how much each time is more than the next; 0 if there is but one."""
    return times[:-1] - times[1:] if times.size > 1 else np.zeros(1, dtype=np.int64)


def _positive(slopes: Integers) -> Integers:
    usable = slopes[slopes > 0]
    return np.where(slopes > 0, slopes, usable.min() if usable.size else 1)
