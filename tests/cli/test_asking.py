"""The commands that ask, as a user runs them: tables, documents, exit codes, what goes wrong."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from typer.testing import CliRunner, Result

import mipplan as mp
from mipplan import questions
from mipplan.cli.app import app
from mipplan.core import SearchLimits, counted
from mipplan.questions.problems import WarmPlanner
from mipplan.reporting.answers import differences, frontiers
from mipplan.result import Limit
from planning_instances import hand_made

Run = Callable[..., Result]
MODELS: dict[str, Any] = {
    "whatif": differences.WhatIfReport,
    "frontier": frontiers.FrontierReport,
    "sensitivity": frontiers.SensitivityReport,
    "explain": frontiers.ExplainReport,
}


@pytest.fixture(scope="module")
def plan() -> mp.Plan:
    instance = hand_made(probability=0.8)
    return mp.plan(instance.pipeline, instance.profiles, instance.trace)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: mp.Plan) -> Run:
    rows = "\n".join(f"{time / 1e9:.9f}" for time in hand_made().trace.arrival_ns)
    (tmp_path / "bursts.csv").write_text(f"arrival_s\n{rows}\n")
    plan.save(tmp_path / "plan.json")
    monkeypatch.chdir(tmp_path)

    def invoke(command: str, *arguments: str) -> Result:
        trace = [] if command == "diff" else ["--trace", "bursts.csv"]
        return CliRunner().invoke(app, [command, *arguments, *trace])

    return invoke


@pytest.mark.parametrize("command", MODELS)
def test_documents_follow_their_schema(run: Run, command: str) -> None:
    more = ["--set", "slo=+10%"] if command == "whatif" else []
    done = run(command, "plan.json", *more, "--json", "--out", "answer.json")
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["command"] == command
    assert document == json.loads(Path("answer.json").read_text())
    jsonschema.validate(document, MODELS[command].model_json_schema())


@pytest.mark.parametrize(
    "command", ["whatif", "frontier", "sensitivity", "menu", "pareto", "explain", "refine"]
)
def test_several_traces_and_draws_are_asked_about_and_told(run: Run, command: str) -> None:
    more = {"whatif": ["--set", "slo=+10%"], "frontier": ["--start", "299ms", "--end", "300ms"]}
    pipeline = "video" if command == "pareto" else "cascade"
    done = run(
        command, pipeline, "--trace", "steady", "--to", "1s", "--seeds", "2", *more.get(command, []), "--json"
    )
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["seeds"] == 2
    assert [one["name"] for one in document["traces"]] == ["bursts", "steady"]
    assert document["trace"] == document["traces"][0]


def test_several_traces_are_told_to_people_and_a_plan_has_its_own_draws(run: Run) -> None:
    Path("again.csv").write_text(Path("bursts.csv").read_text())
    done = run("whatif", "plan.json", "--trace", "again.csv", "--set", "slo=+10%")
    assert done.exit_code == 0, done.output
    assert "on again, bursts: P99" in done.stdout
    done = run("whatif", "plan.json", "--set", "slo=+10%", "--seeds", "2")
    assert "--seeds: goes with a pipeline" in done.stderr
    done = run("menu", "cascade", "--trace", "steady", "--to", "1s", "--most", "1")
    assert "cascade on bursts: 50 queries" in done.stdout
    assert "and steady" in done.stdout


def test_what_if_tells_cost_verdict_and_changes(run: Run, plan: mp.Plan) -> None:
    stage = next(iter(plan.choices))
    done = run("whatif", "plan.json", "--set", f"{stage}.replicas=9", "--set", "rate=2x")
    assert done.exit_code == 0, done.output
    assert f"{plan.usd_per_hour:.4f}" in done.stdout
    assert "all together" in done.stdout
    assert f"{stage}.replicas=9, planned anew: {stage} " in done.stdout
    assert "9 × " in done.stdout


def test_every_bad_setting_is_told_in_one_error(run: Run) -> None:
    done = run("whatif", "plan.json", "--set", "slo=300", "--set", "colour=red", "--slo", "1s")
    assert done.exit_code == 2
    assert "--slo: goes with a pipeline" in done.stderr
    done = run("whatif", "plan.json", "--set", "slo=300", "--set", "colour=red")
    assert done.exit_code == 2
    assert "the input has 2 faults" in done.stderr
    assert "--set slo=300: '300' has no unit" in done.stderr
    assert "--set colour=red: cannot be set" in done.stderr
    assert "--set" in run("whatif", "plan.json", "--set", "slo").stderr


def test_a_frontier_has_its_steps_and_what_the_last_part_costs(run: Run, plan: mp.Plan) -> None:
    slo_s = plan.slo_s
    ends = ["--start", f"{0.9 * slo_s:.6f}s", "--end", f"{1.1 * slo_s:.6f}s", "--last", "1ms"]
    done = run("frontier", "plan.json", *ends, "--plot", "stairs.svg")
    assert Path("stairs.svg").read_text().startswith("<?xml")
    assert done.exit_code == 0, done.output
    assert f"{plan.usd_per_hour:.4f} $/h at " in done.stdout
    assert "the last 1 ms cost" in done.stdout
    assert "exact" in done.stdout
    hardware = next(iter(plan.profiles.hardware))
    assert (
        run(
            "frontier", "plan.json", "--over", f"price:{hardware}", "--start", "0.2", "--end", "0.3"
        ).exit_code
        == 0
    )
    dearer = run("frontier", "plan.json", "--over", "rate", "--start", "1", "--end", "2", "--last", "1x")
    assert re.search(r"last +1 more would cost \d", dearer.stdout), dearer.output
    beside = run("frontier", "plan.json", "--over", "rate", "--start", "1.1", "--end", "1.2")
    assert f"now    {plan.usd_per_hour:.4f} $/h at × 1\n" in beside.stdout, (
        "not on what was walked, but known"
    )
    done = run("frontier", "plan.json", "--over", "rate", "--start", "fast", "--last", "nan")
    assert done.exit_code == 2
    assert "--start: expected a factor such as 2x" in done.stderr
    assert "--last: expected more than 0, found nan" in done.stderr


def test_what_costs_nothing_and_one_plan_are_told_in_words(run: Run, plan: mp.Plan) -> None:
    ends = ["--start", f"{plan.slo_s:.9f}s", "--end", f"{plan.slo_s + 2e-6:.9f}s", "--last", "1us"]
    done = run("frontier", "plan.json", *ends)
    assert re.search(r"last +the last \S+ \S+ cost nothing\n", done.stdout), done.output
    assert "exact, 1 plan made\n" in done.stdout


def test_an_explanation_has_a_reason_for_every_hardware(run: Run, plan: mp.Plan) -> None:
    done = run("explain", "plan.json")
    assert done.exit_code == 0, done.output
    for stage, choice in plan.choices.items():
        assert f"{stage}: could take" in done.stdout
        chosen = counted(choice.replicas, "replica")
        assert f"{choice.hardware}, batch {choice.batch}: chosen, {chosen}\n" in done.stdout


def test_sensitivities_name_prices_and_models(run: Run, plan: mp.Plan) -> None:
    done = run("sensitivity", "plan.json", "--share", "20%", "--plot", "bars.png")
    assert Path("bars.png").stat().st_size > 1_000
    assert done.exit_code == 0, done.output
    for name in plan.profiles.hardware:
        assert f"{name} at " in done.stdout
    assert "measurements change the cost if they are off by 20 %" in done.stdout
    assert "--share" in run("sensitivity", "plan.json", "--share", "200%").stderr


def test_refine_goes_below_and_diff_says_how(run: Run, plan: mp.Plan) -> None:
    done = run("refine", "plan.json", "--time-limit", "5s", "--out", "refined.json")
    assert done.exit_code == 0, done.output
    refined = mp.Plan.load("refined.json")
    assert refined.guarantee == "replay"
    assert (refined.usd_per_hour or 0) <= (plan.usd_per_hour or 0)
    done = run("diff", "plan.json", "refined.json", "--json")
    document = json.loads(done.stdout)
    jsonschema.validate(document, differences.DiffReport.model_json_schema())
    assert document["usd_after"] == refined.usd_per_hour
    assert {"what": "guarantee", "before": "trace", "after": "replay"} in document["requests"]
    assert "trace → replay" in run("diff", "plan.json", "refined.json").stdout
    done = run("diff", "plan.json", "none.json")
    assert done.exit_code == 2
    assert "there is no such file" in done.stderr


def test_diff_shows_all_that_differs(run: Run, plan: mp.Plan) -> None:
    """A result prints in some lines; the command is asked for every one."""
    names = [f"stage{number}" for number in range(20)]
    stages = {name: {"model": "preprocess"} for name in names}
    other = mp.Pipeline.from_document({"name": "long", "slo": "1s", "stages": stages})
    mp.Plan.from_choices(other, mp.Profiles.default(), dict.fromkeys(names, ("cpu", 1, 1))).save("long.json")
    difference = mp.diff(plan, mp.Plan.load("long.json"))
    assert len(difference.requests) > 20
    lines = run("diff", "plan.json", "long.json").stdout.splitlines()
    for one in difference.requests:
        assert [line for line in lines if line.startswith(one.what) and line.endswith(one.after)], one
    for stage in difference.stages:
        assert [line for line in lines if line.split()[0:1] == [stage.stage]], stage
    assert not [line for line in lines if "more" in line]


def test_a_pipeline_is_planned_first(run: Run) -> None:
    done = CliRunner().invoke(
        app, ["explain", "image-processing", "--trace", "steady", "--slo", "200ms", "--to", "20s"]
    )
    assert done.exit_code == 0, done.output
    assert "image-processing: " in done.stdout


@pytest.mark.parametrize(
    ("command", "after"),
    [("sensitivity", 1), ("sensitivity", 6), ("frontier", 1), ("frontier", 2)],
)
def test_ctrl_c_in_the_search_for_a_plan_ends_the_question(
    run: Run, command: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Searches take Ctrl-C for a limit; what comes of the question then is a part, and the exit code says so."""
    plan, made = WarmPlanner.plan, []

    def interrupted(planner: WarmPlanner, **asked: Any) -> mp.Plan:
        made.append(plan(planner, **asked))
        if len(made) == after:
            signal.raise_signal(signal.SIGINT)
        return made[-1]

    monkeypatch.setattr(WarmPlanner, "plan", interrupted)
    done = run(command, "plan.json")
    assert done.exit_code == 130, done.output
    assert len(made) == after
    if after > 1:
        assert "stopped before" in done.output


def test_a_frontier_without_a_step_is_no_bad_input(
    run: Run, plan: mp.Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is nothing to draw, which was told as a fault of the input, with its exit code."""
    problem = questions.Problem(plan, [hand_made().trace])
    found = questions.frontier_of(problem, "slo", (None, None), [plan.slo_s], 40, 1, SearchLimits())
    monkeypatch.setattr(questions, "frontier_of", lambda *_: replace(found, steps=(), complete=False))
    done = run("frontier", "plan.json", "--plot", "stairs.png")
    assert (done.exit_code, done.stderr) == (3, "")
    assert "stopped before" in done.stdout
    assert not (tmp_path / "stairs.png").exists()


def test_times_that_are_too_long_are_not_told_to_be_written_as_they_are(run: Run) -> None:
    done = run("frontier", "plan.json", "--time-limit", "999999999h")
    assert done.exit_code == 2
    assert "--time-limit: '999999999h' is longer than ten years" in done.stderr


def test_ctrl_c_while_the_first_plan_is_made_asks_nothing_of_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped = replace(mp.Plan.load("plan.json"), limit=Limit.INTERRUPT)
    monkeypatch.setattr(mp, "plan", lambda *_, **__: stopped)
    for command in MODELS:
        more = ["--set", "slo=+10%"] if command == "whatif" else []
        done = run(command, "cascade", *more)
        assert (done.exit_code, done.stdout) == (130, ""), done.output


@pytest.mark.parametrize("command", [*MODELS, "refine"])
def test_what_is_asked_about_is_not_written_over(run: Run, plan: mp.Plan, command: str) -> None:
    """A document in the place of the plan would be all that is left of it."""
    more = ["--set", "slo=+10%"] if command == "whatif" else []
    for file, what in (("plan.json", "plan or pipeline"), ("bursts.csv", "trace")):
        done = run(command, "plan.json", *more, "--out", file)
        assert done.exit_code == 2
        assert f"--out {file}: is the {what} that is read; name another file" in done.output
    assert mp.Plan.load("plan.json").choices == plan.choices


@pytest.mark.parametrize("command", ["frontier", "sensitivity"])
def test_a_figure_and_the_document_beside_it_are_two_files(run: Run, command: str) -> None:
    done = run(command, "plan.json", "--out", "a.svg", "--plot", "a.svg")
    assert done.exit_code == 2
    assert "--plot a.svg: is written by --out already; name another file" in done.output


def test_a_plan_is_told_from_a_pipeline_by_what_it_holds(run: Run, plan: mp.Plan) -> None:
    """A plan under another ending is a plan, and a pipeline in JSON is none."""
    whole = run("explain", "plan.json")
    Path("plan.txt").write_bytes(Path("plan.json").read_bytes())
    assert run("explain", "plan.txt").stdout == whole.stdout.replace("plan.json", "plan.txt")
    Path("pipeline.json").write_text(json.dumps(plan.pipeline.to_document()))
    pipeline = run("explain", "pipeline.json", "--slo", "none such")
    assert "--slo" in pipeline.stderr
    assert "is not a plan file" not in pipeline.stderr
    assert "goes with a pipeline" not in pipeline.stderr
    for text, where in (("{", "bad.json:1"), ("[]", "bad.json"), ('{"format": 1}', "bad.json")):
        Path("bad.json").write_text(text)
        assert where in run("explain", "bad.json").stderr


def test_arrivals_are_placed_by_the_seed_that_is_asked_for(run: Run, plan: mp.Plan) -> None:
    rows = "".join(f"{second},{2 + second}\n" for second in range(10))
    Path("counts.csv").write_text(f"window_start_s,requests_per_s\n{rows}")
    replace(plan, objective=replace(plan.objective, seed=7)).save("plan.json")
    asked = [
        "whatif",
        "plan.json",
        "--set",
        "rate=1x",
        "--trace",
        "counts.csv",
        "--expand",
        "poisson",
        "--json",
    ]
    for flags, seed in (([], 7), (["--seed", "3"], 3)):
        document = json.loads(CliRunner().invoke(app, [*asked, *flags]).stdout)
        placed = mp.Trace.read("counts.csv", expand="poisson", seed=seed)
        assert document["trace"]["sha256"] == placed.sha256


@pytest.mark.parametrize("command", ["refine", "explain"])
def test_the_seed_of_a_pipeline_is_that_of_its_plan(
    run: Run, plan: mp.Plan, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    Path("pipeline.json").write_text(json.dumps(plan.pipeline.to_document()))
    seeds: list[int] = []

    def planned(*given: Any, seed: int, **settings: Any) -> mp.Plan:
        seeds.append(seed)
        return replace(plan, objective=replace(plan.objective, seed=seed))

    monkeypatch.setattr(mp, "plan", planned)
    for flags, seed in (([], 0), (["--seed", "5"], 5)):
        done = run(command, "pipeline.json", "--slo", "1s", "--time-limit", "1s", *flags)
        assert done.exit_code == 0, done.output
        assert seeds.pop() == seed
    assert "--seed: expected a non-negative whole number" in run(command, "plan.json", "--seed", "-1").stderr


def test_time_that_is_up_is_no_proof_that_there_is_no_plan(
    run: Run, plan: mp.Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("pipeline.json").write_text(json.dumps(plan.pipeline.to_document()))
    for status, code in ((mp.PlanStatus.UNKNOWN, 3), (mp.PlanStatus.INFEASIBLE, 1)):
        none = replace(plan, status=status, choices={}, reason="so it is")
        monkeypatch.setattr(mp, "plan", lambda *_, found=none, **__: found)
        done = run("explain", "pipeline.json", "--slo", "1s")
        assert (done.exit_code, done.stderr) == (code, f"mipplan: {status}: so it is\n")
