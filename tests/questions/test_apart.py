"""Work in other processes: Ctrl-C leaves what each of them has, and SIGTERM does what Ctrl-C does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import mipplan as mp
from mipplan.core import Deadline, SearchLimits, interrupts_seen, run_apart, terminations_heard
from mipplan.questions import Problem, frontier_of, frontiers
from mipplan.questions.staircases import PointWalker, Walk

VIDEO = mp.Pipeline.read("video-monitoring")
BURSTY = mp.Trace.read("bursty", end_s=4.0)

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its signals are others")


@contextmanager
def interrupted_when(is_time: Callable[[], bool], number: int = signal.SIGINT) -> Iterator[None]:
    """A signal comes once, as soon as it is time."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            if is_time():
                os.kill(os.getpid(), number)
                return

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.fixture
def has_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    """Whether a worker began with something."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return lambda: any(tmp_path.glob("mipplan-run-*/begun"))


def test_what_workers_have_at_ctrl_c_is_kept(tmp_path: Path) -> None:
    done = tmp_path / "done"
    tasks: list[Callable[[], object]] = [partial(done.write_text, "x"), partial(time.sleep, 3600.0)]
    with interrupts_seen() as seen, interrupted_when(done.exists):
        assert run_apart(tasks, 2) == [1, None]
    assert seen == [signal.SIGINT]  # whoever counts them hears of it
    assert run_apart([partial(divmod, 7, 2), partial(divmod, 9, 2)], 2) == [(3, 1), (4, 1)]


def test_workers_end_with_whoever_asked_them(tmp_path: Path) -> None:
    """Killed, a process tells its workers nothing; they may not go on until the time limit, nor wait for more."""
    pid = tmp_path / "pid"
    code = (
        "import subprocess, sys\nfrom functools import partial\nfrom mipplan.core import run_apart\n"
        f"shell = ['sh', '-c', 'echo $PPID > {pid}.new; mv {pid}.new {pid}; while kill -0 $PPID; do sleep 0.1; done']\n"
        "run_apart([partial(subprocess.run, shell), partial(divmod, 7, 2)], 2)"
    )
    asking = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", code])
    try:
        while not pid.exists():
            assert os.waitpid(asking, os.WNOHANG) == (0, 0)
            time.sleep(0.05)
    finally:
        os.kill(asking, signal.SIGKILL)
        os.waitpid(asking, 0)
    worker = int(pid.read_text())
    while Path(f"/proc/{worker}").exists() and ") Z " not in Path(f"/proc/{worker}/stat").read_text():
        time.sleep(0.05)


#: Kills itself as its workers, of which each had something to do, wait for more: it says who they are.
KILLED = """\
import os, signal, time
from mipplan.core import run_apart
def meet():
    open(str(os.getpid()), "w").close()
    while len(os.listdir()) < 2:
        time.sleep(0.05)
    return os.getpid()
print(*run_apart([meet] * 2, 2), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_workers_that_wait_for_more_end_with_who_asked(tmp_path: Path) -> None:
    """They stayed for five minutes, and those that had only begun to load worked on for nobody."""
    command = [sys.executable, "-c", KILLED]
    done = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, check=False)
    for worker in map(int, done.stdout.split()):
        while Path(f"/proc/{worker}").exists() and ") Z " not in Path(f"/proc/{worker}/stat").read_text():
            time.sleep(0.05)
    assert done.returncode == -signal.SIGKILL


def test_frontiers_and_what_ifs_in_parts_are_answers_at_ctrl_c(has_begun: Callable[[], bool]) -> None:
    plan = mp.plan(VIDEO, mp.Profiles.default(), BURSTY)
    problem = Problem(plan, [BURSTY])
    with interrupted_when(has_begun):
        found = frontier_of(problem, "slo", (0.06, 3.0), None, 4_000, 2, SearchLimits())
    assert not found.complete
    with interrupted_when(has_begun):
        answer = mp.whatif(plan, BURSTY, {"rate": "20x", "slo": "61ms"}, n_jobs=2)
    assert not answer.complete


@contextmanager
def signalled(number: int, handler: Any) -> Iterator[None]:
    """What a signal does within this context, whatever was loaded before: Ray has a handler of its own."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60.0)  # which the signal ends


def test_sigterm_does_what_ctrl_c_does() -> None:
    heard: list[int] = []
    with signalled(signal.SIGTERM, signal.SIG_DFL):
        with interrupts_seen() as seen, terminations_heard([]), pytest.raises(KeyboardInterrupt):
            terminate()
        assert seen == [signal.SIGINT]
        with (  # as in the background of a script
            signalled(signal.SIGINT, signal.SIG_IGN),
            interrupts_seen() as seen,
            terminations_heard(seen),
            pytest.raises(KeyboardInterrupt),
        ):
            terminate()
        assert seen == [signal.SIGTERM]
    with signalled(signal.SIGTERM, lambda number, _: heard.append(number)), terminations_heard([]):
        os.kill(os.getpid(), signal.SIGTERM)
    assert heard == [signal.SIGTERM]  # whoever hears of it already goes on doing so


def test_workers_that_are_ended_from_outside_are_no_defect() -> None:
    """Systems short of memory end them: that was a traceback, with the exit code that says that there is no plan."""
    with pytest.raises(mp.SolverError, match="ended from outside, which systems do that are short of memory"):
        run_apart([partial(os._exit, 9), partial(time.sleep, 0.1)], 2)


@pytest.mark.parametrize("n_jobs", [0, 1.5, "all"])
def test_jobs_are_counted(n_jobs: Any) -> None:
    plan = mp.plan(VIDEO, mp.Profiles.default(), BURSTY)
    with pytest.raises(
        mp.InputError, match="n_jobs: expected workers, at most 10,000, or -1 for one per core"
    ):
        mp.whatif(plan, BURSTY, {"rate": "2x"}, n_jobs=n_jobs)


def test_values_that_outnumber_workers_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven values in four rounds of two workers: the first have a quarter of the time, the last all of it."""
    given: list[float] = []

    def run_here(tasks: Sequence[Callable[[], Walk]], _: int) -> list[Walk]:
        return [task() for task in tasks]

    class Walked(PointWalker):
        def walk(self, low: int, high: int, most_steps: int, limits: SearchLimits) -> Walk:
            given.append(limits.deadline.left_s())
            return Walk()

    monkeypatch.setattr(frontiers, "run_apart", run_here)
    monkeypatch.setattr(frontiers, "PointWalker", Walked)
    values = [0.1 * number for number in range(1, 8)]
    plan = mp.plan(VIDEO, mp.Profiles.default(), BURSTY)
    limits = SearchLimits(Deadline.after(1e6))
    frontier_of(Problem(plan, [BURSTY]), "price:t4", (None, None), values, 40, 2, limits)
    assert [round(1e6 / left) for left in given] == [4, 3, 3, 2, 2, 1, 1]
