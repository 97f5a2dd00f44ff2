"""The clock of real time that hosts serve by, and how to wake up on it in time.

A timer of the event loop may come a millisecond late: the loop waits in whole milliseconds. So whoever has to be on
time sleeps until shortly before, and then gives way to others again and again until the time has come. That costs a
core up to `LEAD_NS` for each wake-up, less where several fall together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

#: Waiting ends this long before the time, because a timer may be 1 ms late and a task needs some time to come up.
LEAD_NS = 1_500_000


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
