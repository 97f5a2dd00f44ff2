"""The commands as a user runs them: output, JSON documents, exit codes, and first mistakes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

import mipplan as mp
from mipplan.cli.app import app
from mipplan.reporting import catalog, documents, judgements
from mipplan.result import Limit

PIPELINE = """\
name: small
slo: 100ms
stages:
  first: {model: resize}
  second: {model: classify, replicas: {max: 20}}
edges:
  - {from: first, to: second, delay: 1ms}
"""
HARDWARE = """\
cpu: {usd_per_hour: 0.1, source: "made up for the tests"}
gpu: {usd_per_hour: 1.0, memory_gib: 16, source: "made up for the tests"}
"""
MODELS = """\
model,hardware,batch,latency_ms,source
resize,cpu,1,2.0,made up
classify,cpu,1,30.0,made up
classify,gpu,1,4.0,made up
classify,gpu,8,10.0,made up
"""

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in a folder that holds small inputs."""
    (tmp_path / "profiles" / "models").mkdir(parents=True)
    (tmp_path / "pipeline.yaml").write_text(PIPELINE)
    (tmp_path / "profiles" / "hardware.yaml").write_text(HARDWARE)
    (tmp_path / "profiles" / "models" / "all.csv").write_text(MODELS)
    trace = mp.Trace.gamma(rate_rps=60, cv=3, duration_s=20, seed=4)
    rows = "\n".join(f"{t / 1e9:.9f}" for t in trace.arrival_ns)
    (tmp_path / "trace.csv").write_text(f"arrival_s\n{rows}\n")
    other = mp.Trace.poisson(rate_rps=60, duration_s=20, seed=5)
    rows = "\n".join(f"{t / 1e9:.9f}" for t in other.arrival_ns)
    (tmp_path / "other.csv").write_text(f"arrival_s\n{rows}\n")
    monkeypatch.chdir(tmp_path)

    def invoke(*arguments: str) -> Result:
        return CliRunner().invoke(app, list(arguments))

    return invoke


#: What other guarantees cost takes as long as it may, so tests that are about something else leave it out.
WITH_COSTS = ("plan", "pipeline.yaml", "--trace", "trace.csv", "--profiles", "profiles")
PLAN = (*WITH_COSTS, "--no-costs")


def test_plan_prints_every_figure_and_that_it_is_in_sample(run: Run) -> None:
    result = run(*PLAN, "--out", "plan.json")
    assert result.exit_code == 0, result.output
    plan = mp.Plan.load("plan.json")
    for label in (
        "first",
        "second",
        "optimal",
        "cost",
        "lower bound",
        "bound",
        "certificate",
        "P99 ",
        "in-sample",
    ):
        assert label in result.stdout
    assert f"{plan.usd_per_hour:.4f} $/h" in result.stdout


def test_the_json_document_is_alone_on_stdout_and_fits_its_schema(run: Run) -> None:
    result = run(*PLAN, "--json", "--out", "plan.json")
    assert result.exit_code == 0
    document = json.loads(result.stdout)
    jsonschema.validate(document, documents.PlanReport.model_json_schema())
    plan = mp.Plan.load("plan.json")
    trace = mp.Trace.read("trace.csv")
    assert document["usd_per_hour"] == plan.usd_per_hour == plan.lower_bound_usd_per_hour
    assert document["bound_s"] <= document["certificate_s"] <= document["slo_s"] == 0.1
    assert document["replay"]["latency_s"]["p99"] == mp.replay(plan, trace).quantile(0.99)
    assert document["choices"].keys() == {"first", "second"}
    assert document["plan_file"] == "plan.json"


@pytest.mark.parametrize(
    ("arguments", "schema"),
    [
        (("verify", "plan.json", "--trace", "trace.csv"), judgements.VerifyReport),
        (("replay", "plan.json", "--trace", "trace.csv"), documents.ReplayCommandReport),
        (
            ("replay", "plan.json", "--trace", "trace.csv", "--discipline", "fifo"),
            documents.ReplayCommandReport,
        ),
        (("profiles", "--profiles", "profiles"), catalog.ProfilesReport),
        (("profiles",), catalog.ProfilesReport),
        (("solvers",), catalog.SolversReport),
    ],
)
def test_every_command_has_tables_and_a_document(
    run: Run, arguments: tuple[str, ...], schema: type[judgements.VerifyReport]
) -> None:
    assert run(*PLAN, "--out", "plan.json").exit_code == 0
    for_people = run(*arguments)
    assert for_people.exit_code == 0
    assert for_people.stdout.strip()
    assert for_people.stderr == ""
    for_programs = run(*arguments, "--json")
    assert for_programs.exit_code == 0
    jsonschema.validate(json.loads(for_programs.stdout), schema.model_json_schema())
    assert for_programs.stderr == ""


def test_the_seed_of_a_plan_goes_with_it(run: Run) -> None:
    assert run(*PLAN, "--seed", "7", "--out", "plan.json").exit_code == 0
    document = json.loads(run("replay", "plan.json", "--trace", "trace.csv", "--json").stdout)
    assert document["replay"]["seed"] == 7
    assert document["in_sample"] is True


def test_headroom_and_margin_are_shown(run: Run) -> None:
    flags = (*PLAN, "--headroom", "1.2", "--margin", "10ms", "--out", "plan.json")
    result = run(*flags)
    assert result.exit_code == 0, result.output
    assert "1.2 × the traffic, 10 ms of the objective kept back" in result.stdout
    assert "proven for 1.2 × this trace" in result.stdout
    document = json.loads(run(*flags, "--json").stdout)
    assert (document["headroom"], document["margin_s"], document["slo_s"]) == (1.2, 0.01, 0.1)
    assert document["certificate_s"] <= 0.09
    assert run("verify", "plan.json", "--trace", "trace.csv").exit_code == 0


def test_a_worst_case_is_shown_and_verified(run: Run) -> None:
    flags = (*PLAN, "--slo", "1s", "--guarantee", "envelope", "--envelope", "30:90", "--envelope", "3:900")
    result = run(*flags, "--out", "plan.json")
    assert result.exit_code == 0, result.output
    for said in ("every query ≤ 1 s", "min(3 + 900·u, 30 + 90·u)", "all traffic inside the arrival curve"):
        assert said in result.stdout
    document = json.loads(run(*flags, "--json").stdout)
    assert document["guarantee"] == "envelope"
    assert document["envelope"] == [{"burst": 3, "rate_rps": 900}, {"burst": 30, "rate_rps": 90}]
    assert document["bound_s"] == document["certificate_s"] <= 1
    verified = json.loads(run("verify", "plan.json", "--trace", "other.csv", "--json").stdout)
    assert verified["worst_case_s"] == document["certificate_s"]
    own = json.loads(run(*PLAN, "--slo", "1s", "--guarantee", "envelope", "--json").stdout)
    assert own["envelope"]


def test_a_reliable_plan_shows_its_test(run: Run) -> None:
    flags = (*PLAN, "--trace", "other.csv", "--guarantee", "reliable", "--confidence", "0.5", "--drift", "5%")
    result = run(*flags, "--out", "plan.json")
    assert result.exit_code == 0, result.output
    assert "of 5 fresh scenarios" in " ".join(result.stdout.split())
    document = json.loads(run(*flags, "--json").stdout)
    jsonschema.validate(document, documents.PlanReport.model_json_schema())
    record = document["reliability"]
    assert (document["guarantee"], document["guarantee_costs"]) == ("reliable", None)
    assert (record["scenarios"], len(record["blocks"]), record["passed"]) == (5, 2, True)
    assert record["drift"] == pytest.approx(0.0488, abs=1e-4)
    assert record["summary"] in " ".join(result.stdout.split())
    saved = mp.Plan.load("plan.json")
    assert saved.reliability is not None
    assert saved.reliability.kept == record["kept"]
    assert "reliability" not in json.loads(run(*PLAN, "--json").stdout)


def test_explaining_a_reliable_plan_writes_the_plan_that_was_tested(run: Run) -> None:
    """A cheaper plan is certified on the trace, and was not tested: it takes neither the place nor the record."""
    Path("pipeline.yaml").write_text("slo: 44868872ns\nstages:\n  one: {model: resize}\n")
    Path("profiles/hardware.yaml").write_text(HARDWARE.replace("1.0", "0.11"))
    rows = [MODELS.splitlines()[0], *(f"resize,{hardware},1,20.0,made up" for hardware in ("cpu", "gpu"))]
    Path("profiles/models/all.csv").write_text("\n".join(rows))
    trace = mp.Trace.poisson(rate_rps=120, duration_s=4, seed=1)
    rows = "\n".join(f"{t / 1e9:.9f}" for t in trace.arrival_ns)
    Path("trace.csv").write_text(f"arrival_s\n{rows}\n")
    flags = (*PLAN, "--guarantee", "reliable", "--confidence", "0.9", "--drift", "30%")
    for more, file in (((), "plain.json"), (("--explain",), "explained.json")):
        result = run(*flags, *more, "--out", file)
        assert result.exit_code == 0, result.output
    assert Path("explained.json").read_text() == Path("plain.json").read_text()
    assert "came up" not in result.output


def test_faults_of_a_reliable_plan_come_at_once(run: Run) -> None:
    result = run(*PLAN, "--guarantee", "reliable", "--confidence", "2", "--drift", "much", "--seeds", "0")
    assert result.exit_code == 2
    for said in ("--confidence: expected a share", "--drift: expected a share", "--seeds: expected a whole"):
        assert said in result.output
    other = run(*PLAN, "--confidence", "0.9", "--seeds", "0")
    assert other.exit_code == 2
    assert "--confidence: goes with the guarantee 'reliable' only" in other.output
    assert "--seeds: expected a whole number from 1 to 1,000" in other.output


def test_a_sharp_certificate_says_for_which_runs_it_holds(run: Run) -> None:
    flags = (*PLAN, "--certificate", "sharp", "--runs", "0.9:1:settled", "--time-limit", "60s")
    result = run(*flags, "--out", "plan.json")
    assert result.exit_code == 0, result.output
    assert "it holds for runs where batches take from 0.9·ℓ to ℓ" in " ".join(result.stdout.split())
    document = json.loads(run(*flags, "--json").stdout)
    assert document["certificate"] == "sharp"
    assert document["runs"] == {"least_service": 0.9, "least_delay": 1.0, "ties": "settled"}
    assert document["bound_s"] is None
    verified = json.loads(run("verify", "plan.json", "--trace", "trace.csv", "--json").stdout)
    assert verified["verified"]
    assert verified["runs"] == document["runs"]
    assert verified["critical_path"]
    classic = json.loads(
        run("verify", "plan.json", "--trace", "trace.csv", "--certificate", "classic", "--json").stdout
    )
    assert classic["runs"] is None
    assert classic["certificate_s"] >= verified["certificate_s"]
    wider = ("verify", "plan.json", "--trace", "trace.csv", "--runs", "0:0:any")
    assert json.loads(run(*wider, "--json").stdout)["runs"] == {
        "least_service": 0.0,
        "least_delay": 0.0,
        "ties": "any",
    }
    assert "another class of runs" in " ".join(run(*wider).stdout.split())
    assert "--runs: expected SERVICE:DELAY:TIES" in run(*wider[:-1], "0.9").output


def test_plans_that_are_judged_as_a_whole_are_explained_by_trials(run: Run) -> None:
    for asked, said in (
        (("--certificate", "sharp"), "The sharp certificate is"),
        (("--dispatch", "timed"), "The replayed latency is"),
        (("--guarantee", "replay"), "The replayed latency is"),
    ):
        made = run(*PLAN, *asked, "--explain", "--no-costs", "--out", "judged.json")
        assert made.exit_code == 0
        assert said in made.output
        assert "there are no terms" not in made.output
        told = run("explain", "judged.json", "--trace", "trace.csv", "--json")
        document = json.loads(told.stdout)
        assert document["judged_by"] == ("sharp" if "sharp" in asked else "replay")
        assert {stage["spare_s"] for stage in document["stages"]} == {None}


def test_what_does_not_go_with_a_sharp_certificate_is_told(run: Run) -> None:
    result = run(*PLAN, "--certificate", "sharp", "--runs", "2:1:settled", "--budget", "3", "--explain")
    assert result.exit_code == 2
    for said in ("--runs", "0.9:1:settled", "a budget goes with the classic one only"):
        assert said in result.output
    wrong = run("verify", "plan.json", "--trace", "trace.csv", "--certificate", "dull", "--dispatch", "lazy")
    assert wrong.exit_code == 2
    assert "--dispatch: expected eager, paced or timed" in wrong.output
    assert "--runs: expected" in run(*PLAN, "--certificate", "sharp", "--runs", "0.9:1:any:1").output


def test_what_no_theorem_covers_is_told_with_other_mistakes(run: Run) -> None:
    fifo = run(
        *PLAN, "--quantile", "2", "--discipline", "fifo", "--certificate", "sharp", "--dispatch", "paced"
    )
    for said in ("2 faults", "--quantile", "the sharp one is about oldest first, and this is fifo"):
        assert said in fifo.output
    timed = run(*PLAN, "--dispatch", "timed", "--headroom", "2", "--budget", "3")
    for said in ("2 faults", "--headroom: does not go with timed", "--budget: does not go with timed"):
        assert said in timed.output
    sharp = run(
        *PLAN, "--dispatch", "timed", "--certificate", "sharp", "--runs", "0.9:1:any", "--quantile", "2"
    )
    for said in ("3 faults", "--quantile", "--certificate: does not go with", "--runs: do not go with timed"):
        assert said in sharp.output
    inside = run(
        *PLAN, "--dispatch", "timed", "--guarantee", "envelope", "--discipline", "fifo", "--headroom", "0"
    )
    for said in (
        "2 faults",
        "--discipline: no theorem covers fifo queues inside an arrival curve",
        "--headroom",
    ):
        assert said in inside.output
    unread = run("plan", "none.yaml", "--trace", "trace.csv", "--dispatch", "lazy", "--discipline", "lifo")
    for said in ("none.yaml", "--dispatch: expected", "--discipline: expected"):
        assert said in unread.output


def test_verify_says_under_which_laws_and_discipline_it_judged(run: Run) -> None:
    flags = ("--dispatch", "timed", "--discipline", "fifo", "--time-limit", "5s", "--no-replay")
    assert run(*PLAN, *flags, "--out", "plan.json").exit_code == 0
    judge = ("verify", "plan.json", "--trace", "trace.csv")
    assert "(recomputed, fifo, timed dispatch, no solver)" in run(*judge).stdout
    document = json.loads(run(*judge, "--json").stdout)
    assert document["verified"]
    assert (document["dispatch"], document["discipline"]) == ("timed", "fifo")
    assert document["laws"] == {"first": "timed", "second": "timed"}
    other = json.loads(run(*judge, "--discipline", "oldest_first", "--json").stdout)
    assert (other["discipline"], other["verified"]) == ("oldest_first", True)
    assert "--discipline: expected one of" in run(*judge, "--discipline", "lifo").output
    as_eager = run(
        "replay", "plan.json", "--trace", "trace.csv", "--discipline", "oldest_first", "--dispatch", "eager"
    )
    assert "does not cover this run: dispatch, queues" in " ".join(as_eager.stdout.split())


def test_a_replay_says_whether_the_certificate_covers_it(run: Run) -> None:
    flags = ("--dispatch", "timed", "--discipline", "fifo", "--time-limit", "5s", "--no-replay")
    assert run(*PLAN, *flags, "--out", "plan.json").exit_code == 0
    given = ("replay", "plan.json", "--trace", "trace.csv")
    for stream in ((), ("--stream",)):
        for flags, covered, said in (
            ((), True, None),
            (("--discipline", "oldest_first"), False, "this replay is what every such run does"),
            (("--dispatch", "eager"), False, "no theorem under fifo"),
        ):
            shown = " ".join(run(*given, *stream, *flags).stdout.split())
            for note in ("this replay is what every such run does", "no theorem"):
                assert (note in shown) == (said is not None and note in said), (stream, flags)
            document = json.loads(run(*given, *stream, *flags, "--json").stdout)
            assert document.get("replay", document)["certificate_applies"] == covered
            assert document["dispatch"] == ("eager" if "eager" in flags else "timed")


def price_of(shown: str, label: str) -> str:
    """The price that the table of guarantees has beside a label."""
    found = re.search(rf"^{re.escape(label)}\*? +(\S+) ", shown, re.MULTILINE)
    assert found, shown
    return found[1]


def test_a_plan_ends_with_what_each_guarantee_costs(run: Run) -> None:
    patient = (*WITH_COSTS, "--time-limit", "86400s")
    shown = run(*patient).stdout
    document = json.loads(run(*patient, "--json").stdout)
    jsonschema.validate(document, documents.PlanReport.model_json_schema())
    costs = document["guarantee_costs"]
    assert list(costs) == ["eager", "sharp", "paced", "timed", "replay", "reliable"]
    assert [name for name, cost in costs.items() if cost["is_answer"]] == ["eager"]
    asked = {
        "eager": (),
        "sharp": ("--certificate", "sharp"),
        "paced": ("--dispatch", "paced"),
        "timed": ("--dispatch", "timed"),
        "replay": ("--guarantee", "replay"),
        "reliable": ("--guarantee", "reliable"),
    }
    for name, flags in asked.items():
        own = json.loads(run(*PLAN, "--time-limit", "86400s", *flags, "--json").stdout)
        assert {key: costs[name][key] for key in own if key in costs[name]} == {
            key: own[key] for key in own if key in costs[name]
        }
        assert price_of(shown, costs[name]["label"]) == f"{own['usd_per_hour']:.4f}"
        assert costs[name]["proof"] in shown
    assert re.match(r"kept 5\d of 59 fresh scenarios, ", costs["reliable"]["proof"])
    *_, last = shown.strip().splitlines()
    assert (
        last
        == "* this plan; --guarantee, --dispatch and --certificate choose, --no-costs leaves this table out"
    )


@pytest.mark.parametrize("flags", [("--no-costs",), ("--no-laws",), ("--budget", "2.5")])
def test_the_table_is_left_out_where_it_is_not_wanted_or_has_no_meaning(
    run: Run, flags: tuple[str, ...]
) -> None:
    assert "certified, paced" not in run(*WITH_COSTS, *flags).stdout
    document = json.loads(run(*WITH_COSTS, *flags, "--json").stdout)
    assert document["guarantee_costs"] is None


def test_a_guarantee_without_a_plan_or_a_proof_is_not_given_a_price(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = (*WITH_COSTS, "--time-limit", "86400s")
    none = run(*patient, "--slo", "1ms")
    assert none.exit_code == 1
    for label in ("certified, eager", "certified, paced", "certified, timed", "replay"):
        assert price_of(none.stdout, label) == "–"
        assert re.search(rf"^{label}\*? +– +proven: there is none ", none.stdout, re.MULTILINE)
    only_replayed = run(*patient, "--slo", "8ms").stdout
    assert [price_of(only_replayed, f"certified, {law}") for law in ("eager", "paced", "timed")] == [
        "–",
        "–",
        "9.80",
    ]
    hurried = run(*WITH_COSTS, "--slo", "14ms", "--time-limit", "1ns").stdout
    assert "proven cheapest" not in hurried
    assert re.search(r"^reliable +– +not (found|tested) in the time ", hurried, re.MULTILINE)
    monkeypatch.setattr("mipplan.planner.planning.find_first_plan", lambda *_: None)
    monkeypatch.setattr("mipplan.planner.planning.Feasibility.find", lambda *_: (None, Limit.TIME))
    nothing = run(*WITH_COSTS, "--time-limit", "1ns").stdout
    assert re.search(r"^certified, paced +– +not found in the time ", nothing, re.MULTILINE)


def test_a_stagger_is_planned_for_remembered_and_replaced(run: Run) -> None:
    made = run(*PLAN, "--stagger", "1ms", "--out", "plan.json")
    assert made.exit_code == 0, made.output
    assert "planned to go on up to 1 ms apart at first" in made.stdout
    judge = ("plan.json", "--trace", "trace.csv")
    assert "outputs 1 ms apart at first" in run("replay", *judge).stdout
    assert "outputs" not in run("replay", *judge, "--stagger", "0ms").stdout
    assert json.loads(run("replay", *judge, "--json").stdout)["replay"]["stagger_s"] == {"first": 1e-3}
    streamed = json.loads(run("replay", *judge, "--stream", "--stagger", "2us", "--json").stdout)
    assert streamed["stagger_s"] == {"first": 2e-6}
    assert "stagger_s" not in json.loads(run("replay", *judge, "--stagger", "0s", "--json").stdout)["replay"]
    (sample,) = json.loads(run("verify", *judge, "--json").stdout)["remarks"]
    assert sample.startswith("P99 rests on")  # the sample is short
    remark, again = json.loads(run("verify", *judge, "--stagger", "2us", "--json").stdout)["remarks"]
    assert "stagger" in remark
    assert again == sample
    given = ("compare", "pipeline.yaml", "--trace", "trace.csv", "--profiles", "profiles", "--stagger", "1us")
    assert run(*given, "--planners", "certified").exit_code == 0


def test_a_window_is_planned_for_remembered_and_replaced(run: Run) -> None:
    """Of stages whose batches may hold two: one of one is full at once."""
    document = mp.Pipeline.read("pipeline.yaml").to_document()
    document["stages"]["second"]["batch"] = {"min": 2}
    Path("pipeline.yaml").write_text(json.dumps(document), encoding="utf-8")
    made = run(*PLAN, "--window", "1ms", "--out", "plan.json")
    assert made.exit_code == 0, made.output
    assert "idle replicas are planned to collect a batch for up to 1 ms at second" in made.stdout
    judge = ("plan.json", "--trace", "trace.csv")
    shown = run("replay", *judge).stdout
    assert "collects for 1 ms" in shown
    assert "not certified" not in shown
    beyond = run("replay", *judge, "--window", "2ms").stdout
    assert "replay only: not certified for servers that make batches so" in beyond
    assert "collects" not in run("replay", *judge, "--window", "0ms").stdout
    assert run("verify", *judge).exit_code == 0
    remarks = json.loads(run("verify", *judge, "--window", "2us", "--json").stdout)["remarks"]
    assert any("window" in remark for remark in remarks)
    streamed = run("replay", *judge, "--stream")
    assert streamed.exit_code == 2
    assert "replay with a window of 0" in streamed.output
    assert run("replay", *judge, "--stream", "--window", "0ms").exit_code == 0
    given = ("compare", "pipeline.yaml", "--trace", "trace.csv", "--profiles", "profiles", "--window", "1us")
    assert run(*given, "--planners", "certified").exit_code == 0


@pytest.mark.parametrize("command", ["plan", "compare", "verify"])
def test_a_window_is_for_stages_that_are_eager(run: Run, command: str) -> None:
    """Of others the dispatcher makes the batches: a window would change nothing."""
    given = [command, "pipeline.yaml", "--trace", "trace.csv", "--profiles", "profiles"]
    if command == "verify":
        assert run(*PLAN, "--out", "plan.json").exit_code == 0
        given = [command, "plan.json", "--trace", "trace.csv"]
    told = run(*given, "--dispatch", "paced", "--window", "1ms")
    assert told.exit_code == 2
    assert "--window: is for eager stages, and all are paced" in told.output
    assert run(*given, "--dispatch", "paced", "--window", "0ms").exit_code == 0


@pytest.mark.parametrize("command", ["plan", "replay", "compare", "verify"])
def test_windows_that_are_none_are_told_with_other_mistakes(run: Run, command: str) -> None:
    for window, said in (
        ("soon", "--window: expected a duration"),
        ("61s", "--window: expected seconds from 0"),
    ):
        told = run(command, "none", "--trace", "nowhere.csv", "--window", window)
        assert told.exit_code == 2
        assert said in told.output
        assert "nowhere.csv" in told.output


@pytest.mark.parametrize("command", ["plan", "replay", "compare", "verify"])
@pytest.mark.parametrize(
    ("stagger", "said"),
    [("2s", "--stagger: expected seconds from 0 to 1"), ("soon", "--stagger: expected a duration")],
)
def test_staggers_that_are_none_are_told_with_other_mistakes(
    run: Run, command: str, stagger: str, said: str
) -> None:
    told = run(command, "none", "--trace", "nowhere.csv", "--stagger", stagger)
    assert told.exit_code == 2
    assert said in told.output
    assert "nowhere.csv" in told.output


def test_a_budget_turns_the_question_round(run: Run) -> None:
    result = run(*PLAN, "--budget", "2.5", "--out", "plan.json")
    assert result.exit_code == 0, result.output
    assert "2.5000 $/h  (proven fastest within it)" in result.stdout
    document = json.loads(run(*PLAN, "--budget", "2.5", "--json").stdout)
    assert document["budget_usd_per_hour"] == 2.5
    assert document["usd_per_hour"] <= 2.5
    assert document["slo_s"] == document["certificate_s"]
    assert document["lower_bound_usd_per_hour"] is None
    assert run("verify", "plan.json", "--trace", "trace.csv").exit_code == 0
    over = run(*PLAN, "--budget", "0.05")
    assert over.exit_code == 1
    assert "no plan costs at most 0.05 $/h" in over.stdout


def test_verify_names_another_trace_and_an_altered_file(run: Run) -> None:
    assert run(*PLAN, "--out", "plan.json").exit_code == 0
    other = run("verify", "plan.json", "--trace", "other.csv")
    assert "judged on another trace" in other.stdout
    text = Path("plan.json").read_text()
    Path("altered.json").write_text(text.replace('"replicas": ', '"replicas": 1', 1))
    altered = run("verify", "altered.json", "--trace", "trace.csv")
    assert altered.exit_code == 1
    assert "altered" in altered.stdout
    assert "not verified" in altered.stdout


def test_an_infeasible_objective_is_an_answer_with_a_reason(run: Run) -> None:
    result = run(*PLAN, "--slo", "5ms", "--out", "plan.json")
    assert result.exit_code == 1
    assert "infeasible" in result.stdout
    assert "critical path" in result.stdout
    document = json.loads(run(*PLAN, "--slo", "5ms", "--json").stdout)
    assert document["status"] == "infeasible"
    assert document["choices"] == {}
    assert document["usd_per_hour"] is None
    assert document["certificate_s"] is None
    assert document["reason"]
    assert run("replay", "plan.json", "--trace", "trace.csv").exit_code == 1
    assert run("verify", "plan.json", "--trace", "trace.csv").exit_code == 1


def test_the_reason_of_an_infeasible_objective_names_one_that_works(run: Run) -> None:
    reason = json.loads(run(*PLAN, "--slo", "5ms", "--json").stdout)["reason"]
    reachable = reason.split("Ask for at least ")[1].split(",")[0]
    assert run(*PLAN, "--slo", reachable, "--time-limit", "5s").exit_code == 0


def test_nothing_found_within_the_limit_is_exit_code_3(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mipplan.planner.planning.find_first_plan", lambda *_: None)
    monkeypatch.setattr("mipplan.planner.planning.Feasibility.find", lambda *_: (None, Limit.TIME))
    result = run(*PLAN, "--time-limit", "1ns")
    assert result.exit_code == 3
    assert "unknown" in result.stdout
    assert "time limit" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("plan", "pipelin.yaml", "--trace", "trace.csv"), 2, "did you mean 'pipeline.yaml'"),
        (("plan", "pipeline.yaml", "--trace", "trase.csv"), 2, "did you mean 'trace.csv'"),
        ((*PLAN, "--slo", "300"), 2, "300ms"),
        ((*PLAN, "--slo", "0ms"), 2, "positive"),
        ((*PLAN, "--slo", "-5ms"), 2, "--slo"),
        ((*PLAN, "--time-limit", "10"), 2, "--time-limit"),
        ((*PLAN, "--quantile", "99"), 2, "0.99"),
        ((*PLAN, "--quantile", "nan"), 2, "0.99"),
        ((*PLAN, "--seed", "-1"), 2, "seed"),
        ((*PLAN, "--headroom", "0.5"), 2, "headroom"),
        ((*PLAN, "--margin", "10"), 2, "--margin"),
        ((*PLAN, "--margin", "100ms"), 2, "margin"),
        ((*PLAN, "--guarantee", "worst"), 2, "envelope"),
        ((*PLAN, "--envelope", "20:150"), 2, "guarantee"),
        ((*PLAN, "--guarantee", "envelope", "--envelope", "20"), 2, "BURST:RATE"),
        ((*PLAN, "--guarantee", "envelope", "--envelope", "-1:5"), 2, "BURST:RATE"),
        ((*PLAN, "--guarantee", "envelope", "--envelope", "nan:5"), 2, "BURST:RATE"),
        ((*PLAN, "--budget", "0"), 2, "budget"),
        ((*PLAN, "--solver", "gurobi"), 3, "highs"),
        ((*PLAN, "--formulation", "path"), 2, "paths"),
        ((*PLAN, "--out", "nowhere/plan.json"), 2, "nowhere"),
        ((*PLAN, "--out", "profiles"), 2, "folder"),
        ((*PLAN, "--expand", "poisson"), 2, "expand"),
        ((*PLAN, "--from", "1d"), 2, "--from"),
        (("plan", "pipeline.yaml", "--trace", "trace.csv", "--profiles", "missing"), 2, "missing"),
        (("plan", "pipeline.yaml", "--trace", "trace.csv"), 2, "no model 'resize'"),
        (("verify", "pipeline.yaml", "--trace", "trace.csv"), 2, "not a plan file"),
        (("replay", "nothing.json", "--trace", "trace.csv"), 2, "no such file"),
        (("plan",), 2, "PIPELINE"),
        (("plan", "pipeline.yaml"), 2, "--trace"),
        (("plam",), 2, "plam"),
    ],
)
def test_first_mistakes_get_one_helpful_message(
    run: Run, arguments: tuple[str, ...], code: int, said: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == code, result.output
    assert said in result.stderr
    assert result.stdout == ""
    assert "Traceback" not in result.stderr


def test_all_faults_of_all_inputs_come_at_once(run: Run) -> None:
    Path("bad.yaml").write_text(PIPELINE.replace("model: resize", "modle: resize").replace("100ms", "100"))
    result = run("plan", "bad.yaml", "--trace", "nothing.csv", "--profiles", "profiles", "--slo", "300")
    assert result.exit_code == 2
    for said in ("bad.yaml:2: slo", "bad.yaml:4: stages.first.modle", "nothing.csv", "--slo"):
        assert said in result.stderr


def test_an_error_is_a_document_too(run: Run) -> None:
    result = run("plan", "pipeline.yaml", "--trace", "trace.csv", "--json")
    assert result.exit_code == 2
    document = json.loads(result.stdout)
    jsonschema.validate(document, documents.ErrorReport.model_json_schema())
    assert document["error"] == "input"
    assert len(document["faults"]) == 2


def test_ctrl_c_outside_the_search_says_so(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    assert run(*PLAN, "--out", "plan.json").exit_code == 0
    monkeypatch.setattr("mipplan.replayer.replaying.replay_together", interrupted)
    result = run("replay", "plan.json", "--trace", "trace.csv")
    assert result.exit_code == 130
    assert "interrupted" in result.stderr


def test_shipped_names_stand_for_shipped_files(run: Run) -> None:
    listed = json.loads(run("profiles", "--json").stdout)
    assert "image-processing" in listed["shipped_pipelines"]
    assert "bursty" in listed["shipped_traces"]
    assert run("plan", "image-processing", "--trace", "bursty", "--to", "20s", "--no-replay").exit_code == 0


def test_version_and_help(run: Run) -> None:
    assert run("--version").stdout == f"mipplan {mp.__version__}\n"
    for command in ("plan", "replay", "verify", "profiles", "solvers"):
        assert command in run("--help").stdout
        assert "Usage" in run(command, "--help").stdout


@pytest.mark.parametrize("command", sorted(get_command(app).commands))  # type: ignore[attr-defined]
def test_help_is_whole_on_a_terminal_of_80_columns(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """What has no place to break is cut where it is wider than its column."""

    def cut(columns: int) -> set[str]:
        monkeypatch.setenv("COLUMNS", str(columns))
        shown = run(command, "--help")
        assert shown.exit_code == 0
        return set(re.findall(r"\S*…", shown.stdout))

    assert cut(80) <= cut(400)


SEVERAL = (
    *WITH_COSTS[:2],
    "--trace",
    "trace.csv",
    "--trace",
    "other.csv",
    "--profiles",
    "profiles",
    "--no-costs",
)


def test_several_traces_and_seeds_are_planned_for_verified_and_perturbed(run: Run) -> None:
    shown = run(*SEVERAL, "--out", "plan.json", "--explain")
    assert shown.exit_code == 0, shown.output
    plan = mp.Plan.load("plan.json")
    assert [trace.name for trace in plan.traces] == ["other", "trace"]
    worst = max(plan.samples, key=lambda one: one.certificate_ns or 0)
    for said in ("and trace:", f"each of 2 samples, worst {worst.name}", f"It binds on {worst.name} along"):
        assert said in " ".join(shown.stdout.split())
    document = json.loads(run(*SEVERAL, "--json").stdout)
    jsonschema.validate(document, documents.PlanReport.model_json_schema())
    assert [one["name"] for one in document["samples"]] == ["other", "trace"]
    assert document["replay"]["latency_s"]["p99"] == max(one["replayed_s"] for one in document["samples"])
    assert [one["name"] for one in document["traces"]] == ["other", "trace"]
    one_only = json.loads(run(*PLAN, "--json").stdout)
    assert not {"samples", "traces", "seeds"} & set(one_only)
    both = ("--trace", "other.csv", "--trace", "trace.csv")
    verified = run("verify", "plan.json", *both)
    assert verified.exit_code == 0, verified.output
    assert "the worst of 2 samples" in verified.stdout
    of_one = json.loads(run("verify", "plan.json", "--trace", "trace.csv", "--json").stdout)
    assert of_one["verified"]
    assert "not judged on all that the plan was made for" in of_one["remarks"][0]
    broken = json.loads(run("fragility", "plan.json", *both, "--json").stdout)
    jsonschema.validate(broken, judgements.FragilityReport.model_json_schema())
    assert broken["samples"] == ["other", "trace"]
    assert "worst on" in run("fragility", "plan.json", *both).stdout


def test_several_inputs_are_refused_with_their_faults(run: Run) -> None:
    wrong = run(*SEVERAL[:4], "--trace", "none.csv", "--profiles", "profiles", "--seeds", "0", "--no-costs")
    assert wrong.exit_code == 2
    for said in ("none.csv", "--seeds: expected a whole number from 1 to 1,000"):
        assert said in wrong.output
    over = run(*SEVERAL, "--out", "other.csv")
    assert over.exit_code == 2
    assert "is the 2. trace that is read" in over.output


@pytest.mark.parametrize("command", ["replay", "replay --stream", "tune", "plot --out x.svg", "report"])
def test_of_two_traces_none_is_left_out_without_a_word(run: Run, command: str) -> None:
    """`verify` judges both; here the first was ignored."""
    name, *more = command.split()
    result = run(name, "plan.json", *more, "--trace", "trace.csv", "--trace", "none.csv")
    assert result.exit_code == 2
    for said in ("--trace: takes one trace here, found 2: trace.csv, none.csv", "none.csv: ", "plan.json: "):
        assert said in result.stderr


def test_a_shipped_file_that_is_read_is_not_written_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = Path(mp.documents.shipped_path("pipelines", "cascade"))
    asked = ["plan", "cascade", "--trace", "steady", "--to", "1s", "--time-limit", "x", "--out", str(shipped)]
    before = shipped.read_bytes()
    assert "is the pipeline that is read" in CliRunner().invoke(app, asked).stderr
    assert shipped.read_bytes() == before
