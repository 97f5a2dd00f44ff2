"""Noticing Ctrl-C even where a planner takes it as the end of its own search."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType


class InterruptWatch:
    """Within its ``with`` block, remembers that Ctrl-C was pressed; what Ctrl-C does otherwise stays the same.

    Planners stop at Ctrl-C and return what they have, so their caller would not hear of it and go on.

    Attributes
    ----------
    seen : bool
        Whether Ctrl-C came.
    """

    def __init__(self) -> None:
        self.seen = False
        self._restore: Callable[[], object] | None = None

    def __enter__(self) -> InterruptWatch:
        previous = signal.getsignal(signal.SIGINT)
        # Python delivers signals to the main thread, and lets no other one set a handler.
        if callable(previous) and threading.current_thread() is threading.main_thread():

            def notice(number: int, frame: FrameType | None) -> None:
                self.seen = True
                previous(number, frame)

            signal.signal(signal.SIGINT, notice)
            self._restore = lambda: signal.signal(signal.SIGINT, previous)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._restore is not None:
            self._restore()
