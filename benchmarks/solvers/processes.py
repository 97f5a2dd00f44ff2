"""Work in a process of its own, with limits on time and memory that it cannot escape; Linux only."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import IO, Any

#: Memory is looked at so often.
_POLL_S = 0.01
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MIB = 2**20
_PR_SET_PDEATHSIG = 1
#: Exit code after Ctrl-C.
INTERRUPTED = 130
#: So much of what a process that died had written goes into the message.
_SHOWN = 300


@contextmanager
def terminated_like_interrupted() -> Iterator[None]:
    """SIGTERM raises KeyboardInterrupt, and so does Ctrl-C even where a shell had it ignored."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class Ending:
    """How the work ended.

    Attributes
    ----------
    kind : str
        ``done``, ``error`` (an exception), ``crash`` (a signal, or an exit without result), ``timeout`` or ``memory``
        (killed for it).
    result : dict
        What the work returned if it is done.
    message : str
        What went wrong.
    wall_s, cpu_s : float
        Of the whole process; its children's CPU time is in it.
    peak_mib : float
        Most memory resident at once, that of child processes and what it has inherited included.
    """

    kind: str
    result: dict[str, Any]
    message: str
    wall_s: float
    cpu_s: float
    peak_mib: float


def run_limited(
    work: Callable[[], dict[str, Any]], *, time_limit_s: float, memory_limit_mib: float
) -> Ending:
    """Fork, work, and wait; kill the process and its children when a limit is hit or this process is interrupted.

    Parameters
    ----------
    work : callable
        Returns what JSON can hold. It runs in a copy of this process, so this one should have a single thread.
    time_limit_s : float
        Wall-clock seconds.
    memory_limit_mib : float
        For all its resident memory, that of its child processes included.
    """
    with tempfile.TemporaryFile() as written:
        reading, writing = os.pipe()
        started = time.perf_counter()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _work(work, writing, written)
        os.close(writing)
        watch = _Watch(pid, reading, started + time_limit_s, memory_limit_mib)
        try:
            kind = watch.wait()
        finally:
            _kill_group(pid)
            _, status, usage = os.wait4(pid, 0)
            os.close(reading)
        wall_s = time.perf_counter() - started
        written.seek(0)
        said = " ".join(written.read().decode(errors="replace").split())[-_SHOWN:]
    ending = _read(kind, bytes(watch.received), status, said)
    peak_mib = max(watch.peak_mib, usage.ru_maxrss / 1024)
    return Ending(*ending, wall_s, usage.ru_utime + usage.ru_stime, peak_mib)


def _work(work: Callable[[], dict[str, Any]], writing: int, written: IO[bytes]) -> None:
    """Child: own process group, output to a file, result through the pipe; never returns."""
    code = 1
    try:
        os.setpgid(0, 0)
        _die_with_parent()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.dup2(written.fileno(), 1)
        os.dup2(written.fileno(), 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        try:
            message = {"done": work()}
        except Exception as failure:
            message = {"error": {"message": f"{type(failure).__name__}: {failure}"[:_SHOWN]}}
        with os.fdopen(writing, "w") as pipe:
            json.dump(message, pipe)
        sys.stdout.flush()
        sys.stderr.flush()
        code = 0
    finally:
        os._exit(code)


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies, even if that is killed itself."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


class _Watch:
    """Waits for a process and looks at its memory."""

    def __init__(self, pid: int, reading: int, ends_at: float, limit_mib: float) -> None:
        self._pid, self._reading, self._ends_at, self._limit_mib = pid, reading, ends_at, limit_mib
        self.received = bytearray()
        self.peak_mib = 0.0

    def wait(self) -> str:
        """Return ``ended``, ``timeout`` or ``memory``."""
        while True:
            ready, _, _ = select.select([self._reading], [], [], _POLL_S)
            if ready:
                block = os.read(self._reading, 1 << 16)
                if not block:
                    return "ended"
                self.received += block
            self.peak_mib = max(self.peak_mib, sum(map(resident_mib, family_of(self._pid))))
            if self.peak_mib > self._limit_mib:
                return "memory"
            if time.perf_counter() > self._ends_at:
                return "timeout"


def _read(kind: str, received: bytes, status: int, said: str) -> tuple[str, dict[str, Any], str]:
    if kind != "ended":
        return kind, {}, f"killed: {kind} limit"
    try:
        message = json.loads(received)
    except json.JSONDecodeError:  # nothing, or not all of it
        signalled = os.WIFSIGNALED(status)
        how = f"signal {os.WTERMSIG(status)}" if signalled else f"exit code {os.WEXITSTATUS(status)}"
        return "crash", {}, f"{how}: {said}" if said else how
    if "error" in message:
        return "error", {}, message["error"]["message"]
    return "done", message["done"], ""


def _kill_group(pid: int) -> None:
    """Kill the process and its children; it may not have its own group yet, or be gone."""
    for kill, target in ((os.killpg, pid), (os.kill, pid)):
        try:
            kill(target, signal.SIGKILL)
        except ProcessLookupError:
            continue


def family_of(pid: int) -> list[int]:
    """The process and its descendants."""
    members, index = [pid], 0
    while index < len(members):
        members += _children(members[index])
        index += 1
    return members


def _children(pid: int) -> list[int]:
    """Child processes of all threads; none of a process, and of a thread, that ends while it is looked at."""
    children: list[int] = []
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return children
    for task in tasks:
        try:
            children += map(int, (task / "children").read_text().split())
        except OSError:
            continue
    return children


def resident_mib(pid: int) -> float:
    """Memory resident of a process; 0 if there is none."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE / _MIB
    except (OSError, IndexError):  # it has ended meanwhile
        return 0.0
