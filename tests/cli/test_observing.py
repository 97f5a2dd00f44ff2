"""The commands observe, truth and drive: what they refuse, all of it at once, before anything is read or sent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mipplan.cli.app import app
from mipplan.logs import write_log
from validation.served_runs import plan as served_plan
from validation.served_runs import served


def refused(*arguments: object) -> str:
    """What a command says that does not begin."""
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2, result.output
    return result.stderr


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    served_plan().save(tmp_path / "plan.json")
    return tmp_path / "plan.json"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with the logs of a run."""
    folder, whole = tmp_path / "run", served()
    folder.mkdir()
    write_log(folder / "queries.parquet", whole.queries)
    write_log(folder / "stages.parquet", whole.stages)
    return folder


@pytest.mark.parametrize("as_files", [True, False])
def test_truth_writes_over_nothing_that_it_reads(plan: Path, run: Path, as_files: bool) -> None:
    logs = sorted(run.iterdir()) if as_files else [run]
    for file in (plan, *sorted(run.iterdir())):
        before = file.read_bytes()
        assert "that is read; name another file" in refused("truth", plan, *logs, "--out", file)
        assert file.read_bytes() == before


def test_truth_tells_everything_at_once(plan: Path, run: Path, tmp_path: Path) -> None:
    said = refused(
        "truth", plan, run, "--slo", "0s", "--dispatch", "x", "--discipline", "x", "--system", "x", "--engine", "x",
        "--seed", "-1", "--stagger", "3h", "--shift", "x", "--noise", tmp_path / "gone",
    )  # fmt: skip
    for flag in ("slo", "dispatch", "discipline", "system", "engine", "seed", "stagger", "shift"):
        assert f"  --{flag}: " in said
    assert "there is no such folder" in said


@pytest.mark.parametrize(
    "command", ["truth PLAN LOG", "observe LOG --plan PLAN -o OUT", "watch PLAN --log LOG"]
)
def test_a_log_through_a_pipe_is_refused_before_anybody_waits_for_it(
    command: str, plan: Path, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "log")
    named = {"PLAN": plan, "LOG": tmp_path / "log", "OUT": tmp_path / "out"}
    said = refused(*(named.get(word, word) for word in command.split()))
    assert f"  {tmp_path / 'log'}: is a pipe, and a log is read more than once" in said
    assert not (tmp_path / "out").exists()


def test_drive_writes_over_nothing_that_it_reads(tmp_path: Path) -> None:
    trace = tmp_path / "t.parquet"
    trace.write_bytes(b"arrivals")
    said = refused("drive", trace, "--target", "http://127.0.0.1:9", "--model", "net", "-o", trace)
    assert f"--out {trace}: is the trace that is read; name another file" in said
    assert trace.read_bytes() == b"arrivals"


def test_drive_tells_everything_at_once(tmp_path: Path) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("arrival_s\n0\n1\n")
    said = refused(
        "drive", trace, "--target", "http://127.0.0.1:9/x", "-o", tmp_path / "q.txt", "--time-limit", "0s",
        "--scale", "0x", "--timeout", "0s", "--header", "X-Key=a\nb", "--method", "PATCH", "--axis", "n=3",
        "--inputs", "x.npz", "--from", "x",
    )  # fmt: skip
    for flag in ("time-limit", "scale", "timeout", "header X-Key", "method", "axis", "inputs", "from"):
        assert f"  --{flag}: " in said
    assert "expected a name that ends in .parquet" in said


def test_observe_tells_everything_at_once(plan: Path, run: Path) -> None:
    said = refused(
        "observe", run, "-o", run, "--plan", plan, "--latency", "p75", "--shift", "x", "--hardware", "t4",
        "--usd-per-hour", "-1",
    )  # fmt: skip
    for flag in ("out", "latency", "shift", "hardware", "usd-per-hour"):
        assert f"  --{flag}: " in said
    # What it ran on is not asked for, too, where a plan was given that cannot be read.
    plan.write_text("{")
    assert "say what it ran on" not in refused("observe", run, "-o", run / "new", "--plan", plan)
