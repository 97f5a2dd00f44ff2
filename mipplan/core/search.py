"""Searching: where a monotone test turns true, how long a search may go on, and whether Ctrl-C ended it."""

from __future__ import annotations

import math
import signal
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from mipplan.core.checks import check_time_limit
from mipplan.core.errors import LimitReachedError

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

    def check(self) -> None:
        """Raise `LimitReachedError` if it has passed."""
        if self.is_over:
            raise LimitReachedError

    def left_s(self, least_s: float = 0.0) -> float:
        """Seconds left, at least `least_s`; infinite without a limit."""
        return max(least_s, self.at - time.monotonic())

    def limit_s(self, least_s: float = 1e-3) -> float | None:
        """Seconds left as a time limit, at least `least_s`, since no limit is 0; None without one."""
        return None if math.isinf(self.at) else self.left_s(least_s)

    def share(self, part: float) -> Deadline:
        """Return the moment at which that part of the time left has passed."""
        if math.isinf(self.at):
            return self
        now = time.monotonic()
        return Deadline(now + part * max(0.0, self.at - now))


#: For what may take as long as it takes.
NO_DEADLINE = Deadline()


@dataclass(frozen=True)
class SearchLimits:
    """How long a search may take, and whom it tells how it goes."""

    deadline: Deadline = Deadline()
    report: Report = lambda _: None  # Called with a line of text now and then.


@contextmanager
def interrupts_seen() -> Iterator[list[int]]:
    """Within this context, note every Ctrl-C in a list; what Ctrl-C does otherwise stays the same.

    Planners stop at Ctrl-C and return what they have, so their caller would not hear of it and go on.
    """
    seen: list[int] = []
    previous = signal.getsignal(signal.SIGINT)
    # Python delivers signals to the main thread, and lets no other one set a handler.
    if not callable(previous) or threading.current_thread() is not threading.main_thread():
        yield seen
        return

    def notice(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        previous(number, frame)

    signal.signal(signal.SIGINT, notice)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, previous)
