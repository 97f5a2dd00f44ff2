"""The clock of real time that hosts serve by, and how to wake up on it in time.

A timer of asyncio may come a millisecond late on Linux, because the loop asks epoll to wait in whole milliseconds.
Whoever bridges that by asking the time again and again wins little: on a machine with other work he is put aside for
many milliseconds, just when he has to be there. So `precise_loop` makes a loop that waits in microseconds, and only the
last of them are bridged.
"""

from __future__ import annotations

import asyncio
import select
import selectors
import sys
import time
from collections.abc import Callable

#: Waiting ends this long before the time: a timer is some 0.06 ms late, and a task needs some time to come up. Measured
#: beside other work, 0.1 and 0.4 ms did equally well; at 1.5 ms, batches ended 0.5 ms later in the median.
LEAD_NS = 200_000
#: `select` knows no file descriptor beyond.
_MOST_SELECTED = 1024


def now_ns() -> int:
    """Return the present instant, ns of a clock that nobody sets."""
    return time.monotonic_ns()


def unix_offset_ns() -> int:
    """Return what is to be added to an instant for the UNIX clock, as it is set now."""
    before = time.monotonic_ns()
    unix = time.time_ns()
    return unix - (before + time.monotonic_ns()) // 2


async def sleep_until(instant_ns: int) -> None:
    """Sleep until an instant, and not much longer."""
    ahead_ns = instant_ns - now_ns()
    if ahead_ns > LEAD_NS:
        await asyncio.sleep((ahead_ns - LEAD_NS) / 1e9)
    while now_ns() < instant_ns:
        await asyncio.sleep(0)


class Alarm:
    """Calls back at an instant; the last one that was set holds.

    Parameters
    ----------
    callback : callable
        Called without arguments, from the event loop.
    """

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self._handle: asyncio.Handle | None = None
        self._instant_ns: int | None = None

    def set(self, instant_ns: int | None) -> None:
        """Ring at this instant, or at once if it is past; None for not at all."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._instant_ns = instant_ns
        if instant_ns is not None:
            self._look()

    def _look(self) -> None:
        if self._instant_ns is None:
            return
        loop, ahead_ns = asyncio.get_running_loop(), self._instant_ns - now_ns()
        if ahead_ns > LEAD_NS:
            self._handle = loop.call_later((ahead_ns - LEAD_NS) / 1e9, self._look)
        else:
            self._handle = loop.call_soon(self._ring if ahead_ns <= 0 else self._look)

    def _ring(self) -> None:
        self._handle = self._instant_ns = None
        self._callback()


def precise_loop() -> asyncio.AbstractEventLoop:
    """Make an event loop whose timers come within a tenth of a millisecond where the machine allows for it.

    Use it as ``asyncio.Runner(loop_factory=precise_loop)``.
    """
    if sys.platform != "linux":  # elsewhere loops wait as precisely as the system can
        return asyncio.new_event_loop()
    return asyncio.SelectorEventLoop(_PreciseSelector())


if sys.platform == "linux":

    class _PreciseSelector(selectors.EpollSelector):
        """Waits for epoll's own descriptor with `select`, whose time-out is in microseconds."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            """Return what is ready, after at most this time."""
            if timeout is not None and timeout > 0 and self.fileno() < _MOST_SELECTED:
                select.select([self.fileno()], [], [], timeout)
                timeout = 0
            return super().select(timeout)
