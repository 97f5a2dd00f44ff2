"""``mipplan fragility`` as a user runs it: tables, document, picture, exit codes, what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import matplotlib.image
import pytest
from typer.testing import CliRunner, Result

import mipplan as mp
from mipplan.cli.app import app
from mipplan.perturbation import AXES, Fragility
from mipplan.reporting import judgements
from planning_instances import hand_made

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def plan() -> mp.Plan:
    """Plan with room for a little more, and two replicas at one stage."""
    instance = hand_made(probability=0.8)
    choices = {"detect": ("cpu", 2, 3), "identify": ("t4", 4, 1)}
    return mp.Plan.from_choices(instance.pipeline, instance.profiles, choices)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: mp.Plan) -> Run:
    trace = hand_made().trace
    rows = "\n".join(f"{time / 1e9:.9f}" for time in trace.arrival_ns)
    (tmp_path / "bursts.csv").write_text(f"arrival_s\n{rows}\n")
    plan.save(tmp_path / "plan.json")
    plan.with_slo(10**6).save(tmp_path / "strict.json")
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["fragility", *arguments, "--trace", "bursts.csv"])

    return invoke


@pytest.fixture(scope="module")
def found(plan: mp.Plan) -> Fragility:
    """What the library finds."""
    return mp.fragility(plan, hand_made().trace)


def test_tables_say_what_breaks_where_and_first(run: Run, found: Fragility) -> None:
    done = run("plan.json")
    assert done.exit_code == 0, done.output
    text = done.stdout
    assert "hand-made: P99 ≤ 80 ms" in text
    assert f"breaks first: {found.breaks_first}" in text
    for axis in found.axes:
        assert f"{axis.title} " in text
        assert axis.verdict in text
    lines = text.partition("busiest stage")[2].splitlines()[2:]  # behind the replay as planned
    points = [point for axis in found.axes for point in axis.points]
    for line, point in zip(lines, points, strict=False):
        assert f" {point.label} " in line
        assert ("MISSED" in line, "kept" in line) == (not point.keeps, point.keeps)
    assert "no replica left" in text
    assert "a finite trace hides overload" in " ".join(text.split())


def test_document_holds_the_figures_of_the_library(run: Run, found: Fragility) -> None:
    done = run("plan.json", "--json", "--out", "written.json")
    document = json.loads(done.stdout)
    jsonschema.validate(document, judgements.FragilityReport.model_json_schema())
    assert json.loads(Path("written.json").read_text(encoding="utf-8")) == document
    assert (document["kept"], document["replays"], document["left_out"]) == (True, found.replays, [])
    assert [axis["name"] for axis in document["axes"]] == list(AXES)
    shown: list[Any] = [document["unperturbed"], *(p for axis in document["axes"] for p in axis["points"])]
    for written, (_, point) in zip(shown, found.rows(), strict=True):
        assert written == {
            "value": point.value,
            "label": point.label,
            "size": point.size,
            "kept": point.keeps,
            "latency_s": point.quantile_s,
            "miss_rate": point.miss_rate,
            "busiest": point.busiest,
            "utilisation": point.utilisation,
            "cv": point.cv,
        }
    first = found.first_break
    assert first is not None
    assert document["first_break"]["axis"] == first.axis
    assert (document["first_break"]["value"], document["first_break"]["how"]) == (first.value, first.how)


def test_a_plan_that_misses_as_it_is_ends_with_one(run: Run) -> None:
    done = run("strict.json")
    assert done.exit_code == 1
    assert "breaks first: the objective is missed without any perturbation" in done.stdout
    document = json.loads(run("strict.json", "--json").stdout)
    assert (document["kept"], document["first_break"]) == (False, None)


def test_flags_reach_the_library(run: Run, monkeypatch: pytest.MonkeyPatch, found: Fragility) -> None:
    seen: dict[str, Any] = {}

    def fragility(_plan: mp.Plan, _trace: mp.Trace, **more: Any) -> Fragility:
        seen.update(more)
        return found

    monkeypatch.setattr(mp, "fragility", fragility, raising=False)
    assert run("plan.json", "--engine", "numpy", "--discipline", "fifo", "--seed", "4").exit_code == 0
    seen.pop("progress")
    assert seen == {"engine": "numpy", "discipline": "fifo", "seed": 4}


def test_picture_is_drawn(run: Run) -> None:
    done = run("plan.json", "--plot", "fragility.png")
    assert done.exit_code == 0
    assert "written to fragility.png" in done.stdout
    height, width, _ = matplotlib.image.imread("fragility.png").shape
    assert min(width, height) > 500


def test_ctrl_c_shows_what_was_replayed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = mp.fragility

    def interrupted(plan: mp.Plan, trace: mp.Trace, **more: Any) -> Fragility:
        def progress(line: str) -> None:
            if line.startswith("tokens per query"):
                raise KeyboardInterrupt

        return real(plan, trace, **(more | {"progress": progress}))

    monkeypatch.setattr(mp, "fragility", interrupted, raising=False)
    done = run("plan.json")
    assert done.exit_code == 130
    assert "interrupted before these were done: fanout, replica, seed" in done.stdout
    assert "not tried" in done.stdout


def test_every_fault_is_told_at_once(run: Run) -> None:
    done = run(
        "nowhere.json", "--engine", "cython", "--discipline", "lifo", "--seed", "-1", "--plot", "a.txt"
    )
    assert done.exit_code == 2
    for place in ("nowhere.json", "--engine", "--discipline", "--seed", "--plot a.txt"):
        assert place in done.stderr
    assert "the input has 5 faults" in done.stderr
