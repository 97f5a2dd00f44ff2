"""Searching: where a monotone test turns true, and how long a search may go on."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

from mipplan.core.checks import check_time_limit

#: What a long search calls with a line for people.
Report = Callable[[str], None]


def first_true(low: int, high: int, test: Callable[[int], bool]) -> int:
    """Return the least number in ``low … high - 1`` that passes a test, else `high`.

    What follows a number that passes must pass too. The test is called ⌈log₂(high − low)⌉ times or once more.
    """
    return low + bisect_left(range(low, max(low, high)), True, key=test)


def last_true(low: int, high: int, test: Callable[[int], bool]) -> int:
    """Return the largest number in ``low + 1 … high`` that passes a test, else `low`.

    What comes before a number that passes must pass too; `low` itself is not tested.
    """
    return first_true(low + 1, high + 1, lambda number: not test(number)) - 1


@dataclass(frozen=True)
class Deadline:
    """A moment at which a search stops, on the clock of `time.monotonic`."""

    at: float = math.inf  # Infinite if there is none.

    @classmethod
    def after(cls, time_limit_s: object, started: float | None = None) -> Deadline:
        """Return the deadline that many seconds from `started` (now by default); None sets none.

        Raises `InputError` if the limit is no positive number of seconds.
        """
        return cls((time.monotonic() if started is None else started) + check_time_limit(time_limit_s))

    @property
    def is_over(self) -> bool:
        """Whether it has passed."""
        return time.monotonic() >= self.at

    def left_s(self, least_s: float = 0.0) -> float:
        """Seconds left, at least `least_s`; infinite without a limit."""
        return max(least_s, self.at - time.monotonic())

    def share(self, part: float) -> Deadline:
        """Return the moment at which that part of the time left has passed."""
        if math.isinf(self.at):
            return self
        now = time.monotonic()
        return Deadline(now + part * max(0.0, self.at - now))


@dataclass(frozen=True)
class SearchLimits:
    """How long a search may take, and whom it tells how it goes."""

    deadline: Deadline = Deadline()
    report: Report = lambda _: None  # Called with a line of text now and then.
