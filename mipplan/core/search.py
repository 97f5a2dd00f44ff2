"""Searching: where a monotone test turns true, the greatest of many values; how long it may take, and Ctrl-C."""

from __future__ import annotations

import math
import signal
import threading
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

import numpy as np

from mipplan.core.checks import Float64, Int64, check_time_limit
from mipplan.core.errors import LimitReachedError

#: What a long search calls with a line for people.
Report = Callable[[str], None]
#: Told how far a pass over a trace is; by default nobody (`str` keeps it to itself).
TOLD: ContextVar[Callable[[str], object]] = ContextVar("TOLD", default=str)
Numbers = Int64 | Float64
_Values = TypeVar("_Values", Int64, Float64)
_Result = TypeVar("_Result")
#: Values in a run whose maximum is taken by itself, and how many values make that worth while.
_RUN, _LONG = 8, 1 << 13


@contextmanager
def telling(report: Report) -> Iterator[None]:
    """Within this context a pass over a trace tells how far it is."""
    before = TOLD.set(report)
    try:
        yield
    finally:
        TOLD.reset(before)


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
class SampleParams:
    """How the largest of many values are looked for among few."""

    # A sample of about 4,096 values tells how large the largest are; fewer than twice as many are all looked at.
    size: int = 4_096
    # The sample is asked for 1.25 times as many as are wanted, so that there are mostly enough.
    surplus: float = 1.25


def order_statistic(values: Numbers, rank: int) -> int:
    """Return the value of a rank (0-based, ascending); near the end it is looked for among few."""
    above = values.size - rank
    largest = find_largest(values, above)
    among = values.copy() if largest is None else values[largest]
    among.partition(among.size - above)
    return int(among[among.size - above])


def find_largest(values: Numbers, count: int, params: SampleParams = SampleParams()) -> Int64 | None:
    """Index of at least `count` of the largest values, ascending, and not many more; None if a sample tells nothing.

    Parameters
    ----------
    values : int64 or float64, shape (n,)
    count : int
        At least 1, at most n.
    """
    every = values.size // params.size
    if every < 2:
        return None
    sample = values[::every].copy()
    rank = sample.size - 1 - math.ceil(params.surplus * count / every)
    if rank <= 0:
        return None
    sample.sort()  # where most values tie, as waits of 0 do, a partition takes twenty times as long
    found = np.flatnonzero(values >= sample[rank])
    return found if found.size >= count else None


def greatest_values(
    values: Numbers, count: int, least: int | None = None, among: Int64 | None = None
) -> Int64:
    """Index of the greatest values, shape (n,), at most `count` of them, ascending; of equal ones, the first.

    (An `argpartition` would take any of these, on another processor others.) `least` of them, if it is known, and
    `among` which of the values they are, as `find_largest` says.
    """
    count = min(count, values.size)
    if count == 0:
        return np.zeros(0, dtype=np.int64)
    own = values if among is None else values[among]
    if least is None:
        least = np.partition(own, own.size - count)[own.size - count]
    chosen = own > least
    chosen[np.flatnonzero(own == least)[: count - np.count_nonzero(chosen)]] = True
    found = np.flatnonzero(chosen)
    return found if among is None else among[found]


def running_maximum(values: _Values, out: _Values | None = None) -> _Values:
    """Greatest of each value and all before it, shape (n,): ``np.maximum.accumulate``, of long arrays in half the time.

    It waits for each maximum before it takes the next. Here the values of many runs are taken side by side, and then
    what came before each run. `out` may be `values`.
    """
    if values.size < _LONG:
        return np.maximum.accumulate(values, out=out)
    greatest = np.empty_like(values) if out is None else out
    if greatest is not values:
        np.copyto(greatest, values)
    full = values.size // _RUN * _RUN
    runs = greatest[:full].reshape(-1, _RUN)
    for place in range(1, _RUN):
        np.maximum(runs[:, place], runs[:, place - 1], out=runs[:, place])
    before = np.maximum.accumulate(runs[:-1, -1])
    np.maximum(runs[1:], before[:, None], out=runs[1:])
    rest = greatest[full - 1 :]
    np.maximum.accumulate(rest, out=rest)
    return greatest


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


def begun(work: Callable[[], _Result], name: str) -> Future[_Result]:
    """Work in a thread of that name, which a process that ends does not wait for, as it does for those of a pool.

    Whoever waits for a solver, or for a server that does not answer, could not be stopped otherwise.
    """
    outcome: Future[_Result] = Future()

    def attempt() -> None:
        try:
            outcome.set_result(work())
        except BaseException as failure:  # raised again where the result is asked for
            outcome.set_exception(failure)

    threading.Thread(target=attempt, name=name, daemon=True).start()
    return outcome


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


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Within this context Ctrl-C waits until its end, since what is done in it must not be left half-way.

    It is for what takes no longer than a second or two, such as writing down what took hours.
    """
    previous = signal.getsignal(signal.SIGINT)
    if not callable(previous) or threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda _number, frame: held.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, previous)
        if held:
            previous(signal.SIGINT, held[0])


@contextmanager
def terminations_heard(seen: list[int]) -> Iterator[None]:
    """Within this context SIGTERM, by which batch systems and containers end what they run, does what Ctrl-C does.

    So it does where Ctrl-C is ignored, as in the background of a script; then it is noted here. Whoever hears of it
    already goes on doing so.
    """
    earlier = signal.getsignal(signal.SIGTERM)
    if earlier is not signal.SIG_DFL or threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        own = signal.getsignal(signal.SIGINT)
        if not callable(own):
            seen.append(number)
            raise KeyboardInterrupt
        own(signal.SIGINT, frame)

    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, earlier)
