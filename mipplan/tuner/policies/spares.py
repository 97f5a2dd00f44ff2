"""Replicas in reserve: for a jump of the rate, until those ordered then can serve."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mipplan.tuner.policies.parameters import MOST_TIMES, check_numbers

#: Of the interval that the multiple lies in.
_HALVINGS = 5


@dataclass(frozen=True)
class SpareRule:
    """For what multiple of the present rate to have replicas.

    The pipeline is as fast as its slowest stage, so all stages are ready for the same multiple.

    Attributes
    ----------
    most : float
        At most this one,
    share : float
        as long as what is spare costs no more than this share of what the rate itself needs.

    Raises
    ------
    InputError
        With every parameter that makes no sense.
    """

    most: float = 3.0
    share: float = 1.0

    def __post_init__(self) -> None:
        check_numbers(self, most=(1.0, MOST_TIMES), share=(0.0, MOST_TIMES))

    def counts(
        self,
        present: Mapping[str, int] | None,
        price: Mapping[str, int],
        at_surge: Callable[[float], Mapping[str, int] | None],
    ) -> Mapping[str, int]:
        """Return the counts at the largest multiple found within the limits; none where there are to be no spares.

        Parameters
        ----------
        present : mapping of str to int or None
            Counts for the rate itself; None if there are not enough devices.
        price : mapping of str to int
            Micro-dollars per hour of a replica.
        at_surge : callable
            The same for a multiple of the rate, non-decreasing in it.

        Returns
        -------
        mapping of str to int
            Empty if not even the rate itself can be served.
        """
        if present is None or self.most <= 1.0:
            return {}
        affordable = (1.0 + self.share) * cost_of(present, price)

        def tried(surge: float) -> Mapping[str, int] | None:
            counts = at_surge(surge)
            return None if counts is None or cost_of(counts, price) > affordable else counts

        largest = tried(self.most)
        if largest is not None:
            return largest
        low, high, found = 1.0, self.most, present
        for _ in range(_HALVINGS):
            surge = (low + high) / 2
            counts = tried(surge)
            if counts is None:
                high = surge
            else:
                low, found = surge, counts
        return found


def cost_of(counts: Mapping[str, int], price: Mapping[str, int]) -> int:
    """Return what so many replicas cost, micro-dollars per hour."""
    return sum(price[stage] * count for stage, count in counts.items())
