"""Work in other processes, through joblib, and how Ctrl-C ends it: with what each of them has.

Ctrl-C in a terminal reaches every process of it, a `kill` one of them, and joblib throws away what its workers have
once the process that asks is interrupted. So that one alone decides: it leaves a note in a folder of the run, which
workers look for, and waits for what they have by then.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing import current_process
from pathlib import Path
from types import FrameType
from typing import Generic, TypeVar

from mipplan.core.errors import SolverError

Result = TypeVar("Result")
#: A worker looks so often whether it shall end.
_LOOK_S = 0.1
#: What workers on other machines, or in threads, do not see ends all so long after Ctrl-C, without what they had.
_GRACE_S = 10.0


def effective_jobs(n_jobs: int) -> int:
    """How many workers joblib makes of a number of jobs, with the backend that applies."""
    if n_jobs == 1:
        return 1
    import joblib

    return int(joblib.effective_n_jobs(n_jobs))


def run_apart(tasks: Sequence[Callable[[], Result]], n_jobs: int) -> list[Result | None]:
    """Run tasks in joblib's workers, and return what each returned, in their order.

    Ctrl-C is raised in every task once; None stands for those that return nothing then, or had not begun. A second
    Ctrl-C, or seconds of waiting for workers, end them: None stands for what had not come back.

    Raises `SolverError` if a worker is ended from outside.
    """
    import joblib

    done: list[Result | None] = []
    with tempfile.TemporaryDirectory(prefix="mipplan-run-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        apart = [joblib.delayed(_Apart(task, folder, os.getpid()))() for task in tasks]
        # Not every backend hands over results as they come.
        backend, _ = joblib.parallel.get_active_backend()
        by_one = getattr(backend, "supports_return_generator", False)
        with lost_workers_told(), _noting_interrupts(folder):
            try:
                parallel = joblib.Parallel(
                    n_jobs, batch_size=1, pre_dispatch="all", return_as="generator" if by_one else "list"
                )
                with _interrupts_ignored(by_one):  # as it starts workers, which inherit that
                    results = parallel(apart)
                done.extend(results)  # of which it keeps those that came before it is interrupted
            except BaseException as stop:
                # A worker that was interrupted before it could hear of it ends, and all others with it.
                if not isinstance(stop, KeyboardInterrupt) and not _stop_of(folder).exists():
                    raise
    return done + [None] * (len(tasks) - len(done))


@contextmanager
def lost_workers_told() -> Iterator[None]:
    """Within this context a worker that is ended from outside, as systems short of memory do, is no defect of ours.

    Raises `SolverError` then.
    """
    try:
        yield
    except BrokenExecutor as error:
        advice = "which systems do that are short of memory: take fewer at once (--jobs)"
        raise SolverError(f"a worker process was ended from outside, {advice}") from error


@cache
def end_with(asking: int) -> None:
    """Let this process, if it is a worker of joblib's own, end as soon as the one that it works for is gone.

    Killed, that one could not say so: a worker would go on with what nobody waits for, or begin it, and then wait for
    minutes for more. Workers of other backends, perhaps on other machines, are no children of who asks.
    """
    is_child = os.getppid() == asking or current_process().name.startswith("LokyProcess")
    if asking == os.getpid() or not is_child:
        return

    def watch() -> None:
        while os.getppid() == asking:
            time.sleep(_LOOK_S)
        os._exit(1)

    threading.Thread(target=watch, name="mipplan-parent", daemon=True).start()


def _stop_of(folder: Path) -> Path:
    """The note that a run shall end."""
    return folder / "stop"


def _begun_of(folder: Path) -> Path:
    """The note that one of its tasks began."""
    return folder / "begun"


@contextmanager
def _interrupts_ignored(ignores: bool) -> Iterator[None]:
    """Within this context, a moment, Ctrl-C means nothing, also to the processes started in it until they say so.

    Blocking it would lose none, but joblib unblocks it before it starts them.
    """
    before = signal.getsignal(signal.SIGINT)
    if not ignores or not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@dataclass(frozen=True)
class _Apart(Generic[Result]):
    """A task, as a worker runs it."""

    task: Callable[[], Result]
    folder: Path  # Of the run.
    asking: int  # The process that waits for it.

    def __call__(self) -> Result | None:
        end_with(self.asking)
        result, stop = None, _stop_of(self.folder)
        with suppress(KeyboardInterrupt), _interrupted_by(stop, self.asking):
            if not stop.exists():
                with suppress(OSError):  # On another machine there is no such folder.
                    _begun_of(self.folder).touch()
                result = self.task()
        return result


@contextmanager
def _noting_interrupts(folder: Path) -> Iterator[None]:
    """Within this context the first Ctrl-C leaves a note, and does all that it does but for ending what is under way.

    Where no task has begun it ends that, too.
    """
    note = _stop_of(folder)
    previous = signal.getsignal(signal.SIGINT)
    if not callable(previous) or threading.current_thread() is not threading.main_thread():
        yield
        return
    # What must end whatever workers do: in a thread, since the main one waits for them.
    alarm = threading.Timer(_GRACE_S, _thread.interrupt_main)
    alarm.daemon = True

    def hear(number: int, frame: FrameType | None) -> None:
        is_first = not note.exists()
        note.touch()
        if not is_first or not _begun_of(folder).exists():
            previous(number, frame)
            return
        alarm.start()
        with suppress(KeyboardInterrupt):  # whoever counts interrupts hears of it
            previous(number, frame)

    signal.signal(signal.SIGINT, hear)
    try:
        yield
    finally:
        alarm.cancel()
        signal.signal(signal.SIGINT, previous)


@contextmanager
def _interrupted_by(note: Path, asking: int) -> Iterator[None]:
    """Within this context a worker is interrupted once, by a note.

    Ctrl-C in the terminal means nothing to it, also when it has nothing to do: a worker that ends takes what the others
    have with it.
    """
    is_apart = os.getpid() != asking
    if not is_apart or threading.current_thread() is not threading.main_thread():
        yield
        return
    over, told = threading.Event(), list[int]()

    def hear(number: int, _frame: FrameType | None) -> None:
        if not over.is_set() and not told and note.exists():
            told.append(number)
            raise KeyboardInterrupt

    def watch() -> None:
        while not over.wait(_LOOK_S):
            if note.exists():
                if sys.platform == "win32":
                    _thread.interrupt_main()
                else:  # A signal also wakes it where it waits.
                    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                return

    signal.signal(signal.SIGINT, hear)
    threading.Thread(target=watch, name="mipplan-watch", daemon=True).start()
    try:
        yield
    finally:
        over.set()
