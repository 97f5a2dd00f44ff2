"""Jobs of benchmarks: kept while they run, and ended with the run."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.jobs import append_rows
from benchmarks.truth.run import sent_in_time
from benchmarks.truth.summary import ATTEMPTS, LATE

ROOT = Path(__file__).resolve().parents[1]
#: Six jobs of a minute, two at once; each says that it has begun.
_SLEEPERS = """
import sys, time
from benchmarks.__main__ import end_as_by_ctrl_c
from benchmarks.jobs import process_pool

def job(number):
    print("begun", flush=True)
    time.sleep(60)

if __name__ == "__main__":
    end_as_by_ctrl_c()
    try:
        with process_pool(2) as pool:
            list(pool.map(job, range(6)))
    finally:
        print("cleaned up", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_ends_its_jobs_and_cleans_up(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "sleepers.py").write_text(_SLEEPERS)
    with subprocess.Popen(
        [sys.executable, "sleepers.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["begun\n"] * 2
        process.send_signal(number)
        # The pipe ends with the last process that holds it: jobs that went on would begin again.
        told, error = process.communicate(timeout=30)
    assert told == "cleaned up\n"
    assert process.returncode == -signal.SIGINT
    assert error.rstrip().endswith("KeyboardInterrupt")


def test_runs_sent_late_are_driven_again_and_the_least_late_counts() -> None:
    late_ms = [30.0, 20.0, 25.0, 1.0]
    driven: list[float] = []

    def drive() -> dict[str, float]:
        driven.append(late_ms[len(driven)])
        return {LATE: driven[-1], "found": 10 * driven[-1]}

    assert sent_in_time(drive, 5.0) == {"attempts": ATTEMPTS, LATE: 20.0, "found": 200.0}
    driven.clear()
    assert sent_in_time(drive, 22.0) == {"attempts": 2, LATE: 20.0, "found": 200.0}


def test_cells_of_later_jobs_stand_under_their_names(tmp_path: Path) -> None:
    """A job that finds no plan has fewer cells than the first one; one that finds another kind of plan has more."""
    partial, stamped = tmp_path / "partial.csv", {"code": "k"}
    for row in (
        {"job": "a, 1", "usd": 2.0, "kept": 3},
        {"job": "b"},
        {"kept": 5, "job": "c", "drift": 0.1},
    ):
        append_rows(partial, [row], stamped)
    rows = pd.read_csv(partial, dtype=str, keep_default_na=False)
    assert list(rows) == ["job", "usd", "kept", "code", "drift"]
    assert rows.to_numpy().tolist() == [
        ["a, 1", "2.0", "3", "k", ""],
        ["b", "", "", "k", ""],
        ["c", "", "5", "k", "0.1"],
    ]


@pytest.mark.parametrize(
    ("asked", "told"),
    [("planning --report --results new", "run it first"), ("--results /dev/null/x", "/dev")],
)
def test_what_is_not_there_is_told(asked: str, told: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks", *asked.split()]
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (1, 2)
    assert told in done.stderr
    assert "Traceback" not in done.stderr
