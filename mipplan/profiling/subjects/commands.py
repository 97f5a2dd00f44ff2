"""Shell commands: ``./detect --batch {batch}``; each run starts the command and waits until it ends.

And processes that end together: all of a session, whatever groups they have formed in it.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from mipplan.profiling.disturbance import children_cpu_ns
from mipplan.profiling.subjects.base import Subject, SubjectError, SubjectRequest

FORM = "a shell command that holds {batch}"
_PLACE = "{batch}"


def recognises(text: str) -> bool:
    """Whether a place for the batch size is in it."""
    return _PLACE in text


def default_name(text: str) -> str:
    """Return the name of the program."""
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    # Assignments before a command, and an interpreter before its script, name nothing.
    named = [word for word in words if "=" not in word and not word.startswith("-")]
    scripts = [word for word in named if Path(word).suffix in (".py", ".sh")]
    return Path((scripts or named or ["command"])[0]).stem


def load(request: SubjectRequest) -> Subject:
    """Nothing is loaded: the command itself does that, every time."""
    request.refuse(
        providers="go with ONNX models only",
        axes="go with models that have a signature",
        inputs="a command reads its own inputs",
    )
    return _Command(request.text, request.timeout_s)


class _Command:
    is_remote = False

    def __init__(self, text: str, timeout_s: float) -> None:
        self._text = text
        self._timeout_s = timeout_s
        self._command = text
        self._failure: str | None = None

    def prepare(self, batch: int) -> None:
        self._command = self._text.replace(_PLACE, str(batch))

    def run(self) -> None:
        with tempfile.TemporaryFile() as said:
            # In a group of its own, so that what it has started ends with it; of this session, which ends as a whole.
            process = subprocess.Popen(
                ["/bin/sh", "-c", self._command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                process_group=0,
            )
            # A wait with a limit of its own looks every 50 ms only, and runs would seem so much longer.
            began_s, limit = time.monotonic(), threading.Timer(self._timeout_s, end_group, (process.pid,))
            try:
                limit.start()
                code = process.wait()
            finally:
                limit.cancel()
                end_group(process.pid)
                process.wait()
            if time.monotonic() - began_s >= self._timeout_s:
                raise SubjectError(f"the command was still running after {self._timeout_s:g} s")
            if code:
                said.seek(0, os.SEEK_END)
                said.seek(max(0, said.tell() - 2_000))
                lines = said.read().decode("utf-8", "replace").strip().splitlines()
                raise SubjectError(f"the command {_ended(code)}" + (f": {lines[-1][:200]}" if lines else ""))

    def check(self) -> None:
        """It ended with exit code 0: that is all there is to know."""

    def cpu_ns(self) -> int | None:
        return children_cpu_ns()

    def versions(self) -> dict[str, str]:
        return {}


def _ended(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"exits with {code}"


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
        _end_others(os.getpid())  # first, since its own group ends with this process
        end_group(os.getpid())

    threading.Thread(target=wait, daemon=True).start()


def _end_others(leader: int) -> None:
    for entry in Path("/proc").glob("[0-9]*"):
        number = int(entry.name)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if number != leader and os.getsid(number) == leader:
                os.kill(number, signal.SIGKILL)
