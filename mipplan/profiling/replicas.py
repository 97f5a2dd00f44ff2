"""Replicas under measurement: each a process of its own, all running at once, and what they saw put together."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from mipplan.core import Fault, InputError
from mipplan.profiling.disturbance import RunBlock, TimedRun, load_between, read_load, used_ticks
from mipplan.profiling.machine import EnergyMeter
from mipplan.profiling.measuring import UnmeasuredError
from mipplan.profiling.subjects import SubjectRequest
from mipplan.profiling.subjects.commands import end_session
from mipplan.profiling.worker import Server

#: Replicas begin a block this long after they are told, so that all of them have heard it.
_LEAD_NS = 2_000_000
#: Starting Python and importing what serves a model may take this long on a busy machine, whatever a run may take.
_LEAST_TO_LOAD_S = 60.0
#: Commands and endpoints keep the time themselves, and say more about it: they are given this long to do so.
_GRACE_S = 2.0
#: Libraries that serve models take the number of their threads from here.
_THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS",
)


class Replica(Protocol):
    """One replica: takes messages, and answers each."""

    @property
    def pid(self) -> int:
        """The process it runs in."""

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message."""

    def hear(self, within_s: float) -> dict[str, Any]:
        """Wait for the answer to it.

        Raises `UnmeasuredError` if there is none in time, or never will be.
        """

    def close(self) -> None:
        """End it, whatever it is doing."""


class LocalReplica:
    """A replica in this very process, for a function that no other process could import."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._answer: dict[str, Any] = {}

    @property
    def pid(self) -> int:
        """The process at hand."""
        return os.getpid()

    def tell(self, message: dict[str, Any]) -> None:
        """Do it at once."""
        self._answer = self._server.answer(message)

    def hear(self, within_s: float) -> dict[str, Any]:  # noqa: ARG002 -- nothing could stop what has been done
        """Return what came of it."""
        return self._answer

    def close(self) -> None:
        """There is nothing to end."""


class ReplicaProcess:
    """A replica in a process of its own."""

    def __init__(self, threads: int | None) -> None:
        environment = dict(os.environ)
        if threads is not None:
            environment |= dict.fromkeys(_THREAD_VARIABLES, str(threads))
        with contextlib.ExitStack() as opened:  # closed again where it cannot be started
            self._said = opened.enter_context(tempfile.TemporaryFile())
            # It ends when this end of a pipe closes: with this process at the latest, however that may end.
            watched, alive = os.pipe()
            opened.callback(os.close, alive)
            with os.fdopen(watched):
                # In a session of its own, so that whatever the model starts ends with it.
                self._process = subprocess.Popen(
                    [sys.executable, "-m", "mipplan.profiling.worker", str(watched)],
                    pass_fds=[watched],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._said,
                    env=environment,
                    start_new_session=True,
                )
            opened.pop_all()
        self._alive: int | None = alive
        self._read = b""

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message; that it has ended is found out when its answer is waited for."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()

    def hear(self, within_s: float) -> dict[str, Any]:
        """Wait for a line of JSON."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        ends = time.monotonic() + within_s
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while b"\n" not in self._read:
                if not selector.select(max(0.0, ends - time.monotonic())):
                    self.close()
                    raise UnmeasuredError(f"no answer within {within_s:.3g} s (--timeout)")
                piece = os.read(descriptor, 1 << 20)
                if not piece:
                    raise UnmeasuredError(self._how_it_ended())
                self._read += piece
        line, _, self._read = self._read.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _how_it_ended(self) -> str:
        code = self._process.wait()
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").strip().splitlines()
        last = f": {lines[-1][:200]}" if lines else ""
        if code < 0:
            hint = " (out of memory?)" if code == -signal.SIGKILL else ""
            return f"its process was ended by {signal.Signals(-code).name}{hint}{last}"
        return f"its process ended by itself with exit code {code}{last}"

    def close(self) -> None:
        """Kill it and all it has started."""
        if self._alive is None:
            return
        os.close(self._alive)  # first, since where no more files may be open, nobody could look for processes
        self._alive = None
        end_session(self._process.pid)
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


class Replicas:
    """Some replicas of one model that are measured together."""

    def __init__(self, request: SubjectRequest, count: int, server: Server | None) -> None:
        self._request = request
        self._count = count
        self._server = server
        self._replicas: list[Replica] = []
        self._is_remote = False
        self._served = set[int]()  # Batch sizes, by the processes at hand.
        self._meter = EnergyMeter.of_machine()
        self.versions: dict[str, str] = {}

    @property
    def energy_from(self) -> str:
        """What meters energy; empty where nothing does, or the model is served elsewhere."""
        return "" if self._is_remote else self._meter.name

    def start(self) -> None:
        """Start all of them and load the model, those that have failed anew.

        Raises `InputError` if it cannot be loaded, `UnmeasuredError` if a replica does not survive that.
        """
        self.close()
        self._served.clear()
        if self._server is not None:
            self._replicas = [LocalReplica(self._server)]
            message: dict[str, Any] = {"do": "describe"}
        else:
            try:
                for _ in range(self._count):  # one after the other, so that those that started are ended
                    self._replicas.append(ReplicaProcess(self._request.threads))
            except OSError as error:
                self.close()
                raise UnmeasuredError(f"{self._count} replicas cannot be started: {error.strerror}") from None
            message = {"do": "load", "request": self._request.to_document()}
        answer = self._ask(message, max(self._request.timeout_s, _LEAST_TO_LOAD_S))[0]
        self.versions, self._is_remote = answer["versions"], answer["is_remote"]

    def prepare(self, batch: int) -> None:
        """Get ready for a batch size; errors as for `start`."""
        # What a process took for a larger batch it may keep, and it counts the most that any command of it held.
        is_smaller = batch not in self._served and batch < max(self._served, default=0)
        if not self._replicas or (is_smaller and not self._is_remote):
            self.start()
        self._served.add(batch)
        self._ask({"do": "prepare", "batch": batch}, max(self._request.timeout_s, _LEAST_TO_LOAD_S))

    def observe(self, for_s: float) -> RunBlock:
        """Run for a while, all at once.

        A run counts if it begins within the time. Whoever is done goes on uncounted until all are, so that every run
        that counts has had the others beside it.

        Raises `UnmeasuredError` if a replica fails.
        """
        ours = {os.getpid(), *(replica.pid for replica in self._replicas)}
        load, energy, used = read_load(), self._meter.read(), used_ticks(ours)
        message = {
            "do": "observe",
            "start_ns": time.monotonic_ns() + _LEAD_NS,
            "for_s": for_s,
            "until_told": len(self._replicas) > 1,
        }
        answers = self._ask(message, for_s + self._request.timeout_s + _GRACE_S)
        spent_j = self._meter.since(energy)
        used_now = used_ticks(ours)
        # A server elsewhere may be on this machine, too: its CPU time is not to pass for other load.
        own = None if self._is_remote or used is None or used_now is None else used_now - used
        runs = sorted(TimedRun(*run) for answer in answers for run in answer["runs"])
        memory = [answer["memory_gib"] for answer in answers if answer["memory_gib"] is not None]
        return RunBlock(
            tuple(runs),
            load_between(load, read_load(), own),
            None if spent_j is None or self._is_remote else spent_j / len(runs),
            max(memory) if memory else None,
        )

    def _ask(self, message: dict[str, Any], within_s: float) -> Sequence[dict[str, Any]]:
        for replica in self._replicas:
            replica.tell(message)
        ends = time.monotonic() + within_s
        try:
            answers = [replica.hear(max(0.01, ends - time.monotonic())) for replica in self._replicas]
        except UnmeasuredError:
            self.close()
            raise
        faults = [Fault(*fault) for answer in answers for fault in answer.get("faults", ())]
        failures = [answer["failure"] for answer in answers if "failure" in answer]
        if faults or failures:
            self.close()
            InputError.raise_if(dict.fromkeys(faults))
            raise UnmeasuredError(failures[0])
        return answers

    def close(self) -> None:
        """End all of them."""
        for replica in self._replicas:
            replica.close()
        self._replicas = []


@contextmanager
def replicas_of(request: SubjectRequest, count: int, server: Server | None = None) -> Iterator[Replicas]:
    """Hold replicas that end with the context, whatever happens in it."""
    replicas = Replicas(request, count, server)
    try:
        yield replicas
    finally:
        replicas.close()
