"""Processes that end together: all of a session, whatever groups they have formed in it."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from pathlib import Path


def end_session(leader: int) -> None:
    """Kill the processes of a session: the group of its leader, so that it starts no more, then all others.

    Where the system does not list its processes (no ``/proc``), only the leader's group is killed.
    """
    end_group(leader)
    _end_others(leader)


def end_group(leader: int) -> None:
    """Kill what is left of a group of processes."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def end_with_parent(descriptor: int) -> None:
    """End this session's processes as soon as a pipe closes whose other end only the parent holds.

    So nothing goes on working for a parent that was killed, which could tell nobody. The thread that waits for that
    reads all the time and needs no time of the CPU.
    """

    def wait() -> None:
        while os.read(descriptor, 1):
            pass
        _end_others(os.getpid())
        end_group(os.getpid())

    threading.Thread(target=wait, daemon=True).start()


def _end_others(leader: int) -> None:
    for entry in Path("/proc").glob("[0-9]*"):
        number = int(entry.name)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if number != leader and os.getsid(number) == leader:
                os.kill(number, signal.SIGKILL)
