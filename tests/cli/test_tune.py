"""``mipplan tune`` as a user runs it: table, document, picture, what goes wrong, Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jsonschema
import matplotlib.image
import pandas as pd
import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

import mipplan as mp
from mipplan.cli.app import app
from mipplan.plots import draw_tuning
from mipplan.reporting import comparisons
from mipplan.tuner import USUAL
from mipplan.tuner.policies import Hpa, Observation, Static

Run = Callable[..., Result]
CASCADE = Path(__file__).parents[2] / "profiles" / "pipelines" / "cascade.yaml"
POLICIES = ("inferline", "hpa", "static")


@pytest.fixture(scope="module")
def plan() -> mp.Plan:
    choices = {"preprocess": ("cpu", 1, 1), "fast": ("t4", 2, 1), "slow": ("v100", 8, 1)}
    return mp.Plan.from_choices(mp.Pipeline.read(CASCADE), mp.Profiles.default(), choices)


@pytest.fixture(scope="module")
def trace() -> mp.Trace:
    return mp.Trace.ramp([60, 400], [1.0, 1.0], [15, 25], 0, seed=3)


@pytest.fixture(scope="module")
def tuning(plan: mp.Plan, trace: mp.Trace) -> mp.Tuning:
    return mp.tune(plan, trace, policies=POLICIES, split=0.25)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: mp.Plan, trace: mp.Trace) -> Run:
    rows = "\n".join(f"{time / 1e9:.9f}" for time in trace.arrival_ns)
    (tmp_path / "trace.csv").write_text(f"arrival_s\n{rows}\n")
    plan.save(tmp_path / "plan.json")
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        usual = [
            "tune",
            "plan.json",
            "--trace",
            "trace.csv",
            "--policy",
            ",".join(POLICIES),
            "--split",
            "0.25",
        ]
        return CliRunner().invoke(app, [*usual, *arguments])

    return invoke


def test_table_says_who_misses_how_much_at_what_cost(run: Run, tuning: mp.Tuning) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    assert (
        "cascade: P99 ≤ 80 ms, planned at 3.6710 $/h; control every 1 s, replicas serve 5 s after"
        in done.stdout
    )
    for made in tuning.runs:
        (line,) = re.findall(rf"^{made.policy} .*$", done.stdout, re.MULTILINE)
        worst = made.worst_window
        assert f" {made.miss_rate:.3%} " in line
        assert f" {made.usd_per_hour:.4f} " in line
        assert f" {len(made.actions)} " in line
        assert f" {worst.miss_rate:.0%} at {worst.start_s:.4g} s " in line
        assert f" {made.reaction_s:g} s " in line
    assert "the sample that policies are told is not the trace that the plan was made for" not in done.stdout


def test_the_document_holds_what_the_library_found(run: Run, tuning: mp.Tuning) -> None:
    done = run("--json", "--out", "report.json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert json.loads(Path("report.json").read_text()) == document
    jsonschema.validate(document, comparisons.TuneReport.model_json_schema())
    assert [one["policy"] for one in document["runs"]] == list(POLICIES)
    for one, made in zip(document["runs"], tuning.runs, strict=True):
        assert (one["misses"], one["usd"]) == (made.misses, made.usd)
        assert one["actions"] == [vars(action) for action in made.actions]
        assert one["worst_window"] == vars(made.worst_window)
        assert one["kept"] == (made.result.quantile(0.99) <= 0.08)
        most = {stage: int(schedule.replicas.max()) for stage, schedule in made.schedules.items()}
        assert one["most_replicas"] == most
    assert document["planned_replicas"] == {"preprocess": 1, "fast": 1, "slow": 1}
    parts = (tuning.sample, tuning.trace)
    assert [document[name]["sha256"] for name in ("sample", "trace")] == [part.sha256 for part in parts]


def test_the_counts_ordered_are_written_as_csv_and_stand_in_the_document(run: Run, tuning: mp.Tuning) -> None:
    done = run("--json", "--schedule", "counts.csv")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["written"] == ["counts.csv"]
    table = pd.read_csv("counts.csv")
    pd.testing.assert_frame_equal(table, tuning.schedule)
    for one, made in zip(document["runs"], tuning.runs, strict=True):
        assert one["schedule"] == made.schedule.to_dict(orient="list")
        assert one["until_s"] is None
    refused = run("--schedule", "counts.txt")
    assert refused.exit_code == 2
    assert "--schedule counts.txt: expected a name that ends in" in refused.stderr


def test_a_run_that_ctrl_c_ended_is_marked(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted:
        def decide(self, seen: Observation) -> dict[str, int]:
            if seen.now_ns > 30e9:
                signal.raise_signal(signal.SIGINT)
            return {}

    monkeypatch.setattr(Static, "start", lambda _policy, _setting: Interrupted())
    done = run("--json", "--policy", "hpa,static,ray")
    assert done.exit_code == 130
    document = json.loads(done.stdout)
    assert [one["policy"] for one in document["runs"]] == ["hpa", "static"]
    assert document["left_out"] == ["ray"]
    partial = document["runs"][1]
    assert 10 < partial["until_s"] <= 30
    assert 0 < partial["queries"] < document["runs"][0]["queries"]
    assert any(note.startswith("static is partial: ") for note in document["notes"])
    shown = run("--policy", "static")
    assert shown.exit_code == 130
    assert "static (partial)" in shown.stdout


def test_flags_reach_the_library(run: Run, plan: mp.Plan, trace: mp.Trace) -> None:
    done = run("--json", "--period", "2s", "--activation-delay", "0s", "--seed", "4", "--policy", "hpa")
    document = json.loads(done.stdout)
    expected = mp.tune(
        plan, trace, policies=["hpa"], split=0.25, period_s=2.0, activation_delay_s=0.0, seed=4
    )
    assert (document["period_s"], document["activation_delay_s"], document["seed"]) == (2.0, 0.0, 4)
    assert document["runs"][0]["misses"] == expected.runs[0].misses
    assert document["runs"][0]["usd"] == expected.runs[0].usd


def test_a_sample_of_its_own_leaves_the_whole_trace_to_run_on(run: Run, trace: mp.Trace) -> None:
    lines = Path("trace.csv").read_text().splitlines()
    Path("sample.csv").write_text("\n".join(lines[:500]) + "\n")
    given = ["tune", "plan.json", "--trace", "trace.csv", "--sample", "sample.csv", "--policy", "static"]
    done = CliRunner().invoke(app, [*given, "--json"])
    document = json.loads(done.stdout)
    assert (document["sample"]["queries"], document["trace"]["queries"]) == (499, len(trace))
    both = CliRunner().invoke(app, [*given, "--split", "0.3"])
    assert both.exit_code == 2
    assert "--split: does not go with --sample" in both.stderr


def test_the_sample_is_not_written_over(run: Run) -> None:
    before = Path("trace.csv").read_bytes()
    Path("sample.csv").write_bytes(before)
    given = ["tune", "plan.json", "--trace", "trace.csv", "--sample", "sample.csv", "--policy", "static"]
    done = CliRunner().invoke(app, [*given, "--out", "sample.csv"])
    assert done.exit_code == 2
    assert "--out sample.csv: is the sample that is read; name another file" in done.stderr
    assert Path("sample.csv").read_bytes() == before


def test_a_missing_trace_hides_no_other_fault(run: Run) -> None:
    flags = [
        "--policy",
        "foo",
        "--period",
        "0s",
        "--activation-delay",
        "-1s",
        "--engine",
        "x",
        "--plot",
        "x.txt",
    ]
    done = CliRunner().invoke(app, ["tune", "none.json", "--trace", "nowhere", "--sample", "none", *flags])
    assert done.exit_code == 2
    for place in (
        "nowhere:",
        "none:",
        "none.json:",
        "--policy:",
        "--period:",
        "--activation-delay:",
        "--engine:",
    ):
        assert f"  {place} " in done.stderr
    assert "the input has 8 faults" in done.stderr


def test_the_picture_shows_every_policy(run: Run, tuning: mp.Tuning) -> None:
    done = run("--plot", "timeline.png", "--policy", "static", "--report", "page.html")
    assert done.exit_code == 0, done.output
    assert "timeline.png" in done.stdout
    assert "What each policy costs and misses" in Path("page.html").read_text()
    picture = matplotlib.image.imread("timeline.png")
    assert picture.shape[0] > 400
    assert picture.std() > 0.05
    figure = draw_tuning(tuning, title="what")
    rate, *_, cost, latency, missed = figure.axes
    assert len(cost.patches) == len(POLICIES)
    assert rate.get_title(loc="left").startswith("queries/s")
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == [
        f"{one.policy}: {one.miss_rate:.2%} missed, {one.usd_per_hour:.2f} $/h" for one in tuning.runs
    ]
    assert latency.get_yscale() == "log"
    assert "logarithmic" in latency.get_title(loc="left")
    assert missed.get_ylim()[1] > 100 * max(one.worst_window.miss_rate for one in tuning.runs)


def test_every_bad_flag_is_told_at_once(run: Run) -> None:
    done = run(
        "--policy",
        "lp,hpaa",
        "--worth",
        "1",
        "--period",
        "1",
        "--activation-delay",
        "soon",
        "--plot",
        "x.txt",
        "--engine",
        "no",
    )
    assert done.exit_code == 2
    for expected in (
        "--policy: there is no 'hpaa'; did you mean 'hpa'?",
        "--worth: goes with policy newsvendor only",
        "--period: '1' has no unit: write 1s",
        "--activation-delay: ",
        "--plot x.txt: expected a name that ends in",
        "--engine: ",
    ):
        assert expected in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--split", "1.5"), "--split: expected a share of the trace's time between 0 and 1"),
        (("--period", "0s"), "--period: expected a positive number of seconds"),
        (("--out", "plan.json"), "--out plan.json: is the plan that is read"),
        (("--sample", "nowhere.csv"), "nowhere.csv"),
        (("--policy", ""), "--policy: there is no ''"),
    ],
)
def test_bad_flags(run: Run, arguments: tuple[str, ...], message: str) -> None:
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr


def test_ctrl_c_leaves_the_policies_that_were_done(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(self: object, setting: object) -> object:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("Ctrl-C was not heard")

    monkeypatch.setattr(Hpa, "start", interrupt)
    done = run("--json")
    assert done.exit_code == 130
    document = json.loads(done.stdout)
    assert [one["policy"] for one in document["runs"]] == ["inferline"]
    assert document["left_out"] == ["hpa", "static"]
    assert "interrupted before these were done: hpa, static" in document["notes"]
    done = run("--policy", "hpa")
    assert done.exit_code == 130
    assert "interrupted" in done.stderr


def test_the_command_and_the_library_run_the_same_policies_unless_told_otherwise() -> None:
    flag = next(one for one in get_command(app).commands["tune"].params if one.name == "policy")  # type: ignore[attr-defined]
    assert flag.default == ", ".join(USUAL)


def test_counts_of_a_sample_are_placed_as_those_of_the_plan_were(run: Run, plan: mp.Plan) -> None:
    rows = "".join(f"{second},{60 + second}\n" for second in range(20))
    Path("counts.csv").write_text(f"window_start_s,requests_per_s\n{rows}")
    replace(plan, objective=replace(plan.objective, seed=7)).save("plan.json")
    given = ["--trace", "counts.csv", "--sample", "counts.csv", "--expand", "poisson", "--policy", "static"]
    for flags, seed in (([], 7), (["--seed", "3"], 3)):
        done = CliRunner().invoke(app, ["tune", "plan.json", *given, *flags, "--json"])
        document = json.loads(done.stdout)
        placed = mp.Trace.read("counts.csv", expand="poisson", seed=seed)
        assert document["sample"]["sha256"] == document["trace"]["sha256"] == placed.sha256
