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
        as long as what is spare costs no more than this share of what is needed for the forecast.

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
        needed: Mapping[str, int],
        price: Mapping[str, int],
        at_surge: Callable[[float], Mapping[str, int] | None],
    ) -> dict[str, int]:
        """Return those needed, and with them spare ones for the largest multiple found within the limits.

        Parameters
        ----------
        needed : mapping of str to int
            For the forecast.
        price : mapping of str to int
            Micro-dollars per hour of a replica.
        at_surge : callable
            Counts for a multiple of the rate, non-decreasing in it; None if there are not enough devices.
        """

        def spared(surge: float) -> dict[str, int] | None:
            counts = at_surge(surge)
            if counts is None:
                return None
            ready = {stage: max(count, counts[stage]) for stage, count in needed.items()}
            spare = sum(price[stage] * (count - needed[stage]) for stage, count in ready.items())
            affordable = self.share * sum(price[stage] * count for stage, count in needed.items())
            return ready if spare <= affordable else None

        if self.most <= 1.0:
            return dict(needed)
        largest = spared(self.most)
        if largest is not None:
            return largest
        low, high, found = 1.0, self.most, dict(needed)
        for _ in range(_HALVINGS):
            surge = (low + high) / 2
            counts = spared(surge)
            if counts is None:
                high = surge
            else:
                low, found = surge, counts
        return found


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
