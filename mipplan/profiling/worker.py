"""The process of one replica: it loads a subject and runs it when told to, by lines of JSON on its pipes."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from mipplan.core import InputError
from mipplan.profiling.disturbance import TimedRun, preemptions, waited_ns
from mipplan.profiling.subjects import SUBJECTS, Subject, SubjectError, SubjectRequest
from mipplan.profiling.subjects.commands import end_with_parent

#: Runs of one block: more would only make the answer long.
_MOST_RUNS = 5_000
_BYTES_PER_GIB = 1024**3


class Server:
    """Does what is asked of a replica, one message after the other.

    Every answer is a JSON-able mapping. ``faults`` in it are those of an `InputError`, ``failure`` is the text of a
    `SubjectError`; otherwise it holds what was asked for.
    """

    def __init__(self, subject: Subject | None = None) -> None:
        self._subject = subject
        self._runs = 0  # Of the batch size at hand.

    def answer(self, message: dict[str, Any]) -> dict[str, Any]:
        """Do what one message asks for."""
        try:
            return self._ACTIONS[message["do"]](self, message)
        except InputError as error:
            return {"faults": [[fault.place, fault.message] for fault in error.faults]}
        except SubjectError as error:
            return {"failure": str(error)}
        except MemoryError:
            return {"failure": "there is not enough memory"}

    def keep_busy(self, told_to_stop: Callable[[], bool]) -> None:
        """Go on running, uncounted, while other replicas are still being measured."""
        if self._subject is None:
            return
        while not told_to_stop():
            try:
                self._subject.run()
            except SubjectError:  # told when it happens to a run that counts
                return

    def _load(self, message: dict[str, Any]) -> dict[str, Any]:
        request = SubjectRequest.from_document(message["request"])
        self._subject = SUBJECTS[request.kind].load(request)
        return self._describe(message)

    def _describe(self, _message: dict[str, Any]) -> dict[str, Any]:
        subject = self._loaded()
        return {"versions": subject.versions(), "is_remote": subject.is_remote}

    def _prepare(self, message: dict[str, Any]) -> dict[str, Any]:
        self._loaded().prepare(message["batch"])
        self._runs = 0
        _forget_peak()
        return {}

    def _observe(self, message: dict[str, Any]) -> dict[str, Any]:
        subject = self._loaded()
        while time.monotonic_ns() < message["start_ns"]:
            time.sleep(max(0.0, (message["start_ns"] - time.monotonic_ns()) / 2e9))
        ends_ns = message["start_ns"] + round(message["for_s"] * 1e9)
        runs: list[TimedRun] = []
        while not runs or (time.monotonic_ns() < ends_ns and len(runs) < _MOST_RUNS):
            runs.append(_timed(subject))
            # The first answers of a batch size are looked at, and the last one of every block: all of them would take
            # longer than the runs, and nothing of it is timed.
            self._runs += 1
            if self._runs <= 3:
                subject.check()
        subject.check()
        return {"runs": runs, "memory_gib": None if subject.is_remote else _peak_gib()}

    def _loaded(self) -> Subject:
        if self._subject is None:
            raise SubjectError("nothing is loaded")
        return self._subject

    _ACTIONS: ClassVar = {"load": _load, "describe": _describe, "prepare": _prepare, "observe": _observe}


def _timed(subject: Subject) -> TimedRun:
    """Run once. What is read besides the clock is read before the first and after the second reading of it."""
    waited, preempted, cpu = waited_ns(), preemptions(), subject.cpu_ns()
    start = time.monotonic_ns()
    subject.run()
    end = time.monotonic_ns()
    used = subject.cpu_ns()
    waited_after = waited_ns()
    return TimedRun(
        start_ns=start,
        wall_ns=max(1, end - start),
        cpu_ns=None if cpu is None or used is None else used - cpu,
        waited_ns=None if waited is None or waited_after is None else max(0, waited_after - waited),
        preempted=preemptions() - preempted,
    )


def _forget_peak() -> None:
    """Look for the most memory anew; where Linux does not allow it, the peak of all sizes so far stays."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return


def _peak_gib() -> float:
    """Most memory that this process, or one that it has waited for, has held."""
    import resource

    unit = 1 if sys.platform == "darwin" else 1024  # macOS tells bytes, all others KiB
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        own = next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return max(own, children) / _BYTES_PER_GIB


class _Lines:
    """Lines from a pipe, and whether another one has come."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._read = b""

    def next(self) -> str | None:
        """Wait for a line; None at the end."""
        while b"\n" not in self._read:
            piece = os.read(self._descriptor, 65_536)
            if not piece:
                return None
            self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def has_come(self) -> bool:
        return b"\n" in self._read or bool(select.select([self._descriptor], [], [], 0)[0])


def main() -> None:
    """Serve until the pipe ends. The subject may print, to stderr, and finds nothing to read: the pipes are ours."""
    end_with_parent(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    lines = _Lines(os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    server = Server()
    while (line := lines.next()) is not None:
        message = json.loads(line)
        answer = server.answer(message)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()
        if message.get("until_told") and "runs" in answer:
            server.keep_busy(lines.has_come)


if __name__ == "__main__":
    main()
