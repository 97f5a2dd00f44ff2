"""Replicas in reserve: for a jump of the rate, until those ordered then can serve."""

from __future__ import annotations

from collections import deque
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
        self, price: Mapping[str, int], at_surge: Callable[[float], Mapping[str, int] | None]
    ) -> Mapping[str, int]:
        """Return the counts at the largest multiple found within the limits; none where there are to be no spares.

        Parameters
        ----------
        price : mapping of str to int
            Micro-dollars per hour of a replica.
        at_surge : callable
            Counts for a multiple of the rate, non-decreasing in it; None if there are not enough devices.

        Returns
        -------
        mapping of str to int
            Empty if not even the rate itself can be served.
        """
        found = at_surge(1.0) if self.most > 1.0 else None
        if found is None:
            return {}
        affordable = (1.0 + self.share) * cost_of(found, price)

        def tried(surge: float) -> Mapping[str, int] | None:
            counts = at_surge(surge)
            return None if counts is None or cost_of(counts, price) > affordable else counts

        largest = tried(self.most)
        if largest is not None:
            return largest
        low, high = 1.0, self.most
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


class Held:
    """Largest counts of each stage in the last so many nanoseconds.

    Parameters
    ----------
    hold_ns : int
    start_ns : int
    counts : mapping of str to int
        Counts as at the start, if there were any.
    """

    def __init__(self, hold_ns: int, start_ns: int, counts: Mapping[str, int]) -> None:
        self._hold_ns = hold_ns
        # Of each stage instants and counts, the counts decreasing: the first is the largest.
        self._found = {stage: deque([(start_ns, count)]) for stage, count in counts.items()}

    def most(self, now_ns: int, counts: Mapping[str, int]) -> dict[str, int]:
        """Take in the counts of now, and return the largest since `hold_ns` ago."""
        for stage, count in counts.items():
            found = self._found.setdefault(stage, deque())
            while found and found[-1][1] <= count:
                found.pop()
            found.append((now_ns, count))
            while found[0][0] < now_ns - self._hold_ns:
                found.popleft()
        return {stage: self._found[stage][0][1] for stage in counts}
