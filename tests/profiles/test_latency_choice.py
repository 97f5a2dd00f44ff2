"""Which latency of a batch counts: one rule for certificates, replays and plan files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import mipplan as mp
from mipplan.cli.app import app
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.profiling import read_samples

TRACE = mp.Trace.poisson(rate_rps=50, duration_s=10, seed=3)
COLUMNS = {"table": "latency_ms", "p50": "latency_p50_ms", "p99": "latency_p99_ms"}
CHOICES = {"resize": ("cpu", 2, 2), "detect": ("gpu", 2, 1)}


def table(model: str, hardware: str, *, factor: float = 1.0, p99: bool = True) -> LatencyTable:
    given = {"latency_ms": (4.0, 6.0), "latency_p50_ms": (3.0, 5.0), "latency_p99_ms": (7.0, 9.0)}
    columns = {name: np.array(values) * factor for name, values in given.items() if p99 or "p99" not in name}
    return LatencyTable(model, hardware, batch=np.array([1, 2]), **columns)  # type: ignore[arg-type]


def profiles() -> Profiles:
    tables = [table("resize", "cpu", factor=0.5), table("detect", "gpu"), table("detect", "old", p99=False)]
    return Profiles.from_parts([Hardware(name, 1.0) for name in ("cpu", "gpu", "old")], tables)


def pipeline() -> mp.Pipeline:
    stages = {"resize": {"model": "resize"}, "detect": {"model": "detect"}}
    edges = [{"from": "resize", "to": "detect"}]
    return mp.Pipeline.from_document({"name": "two", "slo": "100ms", "stages": stages, "edges": edges})


def rewritten(column: str) -> Profiles:
    """The slow way: profiles in which `latency_ms` is the column."""
    kept = [one for one in profiles().tables.values() if getattr(one, column) is not None]
    tables = [LatencyTable(one.model, one.hardware, one.batch, getattr(one, column)) for one in kept]
    return Profiles.from_parts(profiles().hardware.values(), tables)


@pytest.mark.parametrize("latency", COLUMNS)
def test_plan_certificate_and_replay_are_those_of_tables_that_hold_the_column(latency: str) -> None:
    made = mp.plan(pipeline(), profiles().using(latency), TRACE)
    slowly = mp.plan(pipeline(), rewritten(COLUMNS[latency]), TRACE)
    assert dict(made.choices) == dict(slowly.choices)
    assert made.certificate_ns == slowly.certificate_ns
    assert mp.replay(made, TRACE).latency_ns.tolist() == mp.replay(slowly, TRACE).latency_ns.tolist()
    assert mp.verify(made, TRACE).verified


@given(
    latencies=st.lists(st.tuples(*[st.floats(0.1, 50)] * 3), min_size=1, max_size=4),
    latency=st.sampled_from(list(COLUMNS)),
)
@settings(max_examples=60)
def test_service_times_are_those_of_the_column(latencies: list[tuple[float, ...]], latency: str) -> None:
    columns = dict(zip(COLUMNS.values(), np.array(latencies).T, strict=True))
    batch = 2 ** np.arange(len(latencies))
    measured = LatencyTable("m", "h", batch=batch, latency=latency, **columns)
    plain = LatencyTable("m", "h", batch=batch, latency_ms=columns[COLUMNS[latency]])
    assert measured.service_ns(int(batch[-1])).tolist() == plain.service_ns(int(batch[-1])).tolist()


def test_a_table_without_the_column_is_left_out_and_a_model_without_any_is_a_fault() -> None:
    assert profiles().using("p99").hardware_for("detect") == ("gpu",)
    bare = Profiles.from_parts([Hardware("old", 1.0)], [table("detect", "old", p99=False)])
    with pytest.raises(mp.InputError, match="latency: detect has no column latency_p99_ms on any hardware"):
        bare.using("p99")
    assert bare.using("p99", models=["resize"]) == bare
    assert bare.using({"": "p99", "detect": "table"}) == bare
    with pytest.raises(mp.InputError) as caught:
        profiles().using({"detcet": "p99", "": "p95"})
    assert [fault.message for fault in caught.value.faults] == [
        "there is no model 'detcet'; did you mean 'detect'?",
        "expected one of table, p50, p99, found 'p95'",
    ]


def test_a_plan_says_which_column_it_rests_on_and_can_take_another(tmp_path: Path) -> None:
    plan = mp.Plan.from_choices(pipeline(), profiles().using("p99"), CHOICES)
    plan.save(tmp_path / "plan.json")
    read = mp.Plan.load(tmp_path / "plan.json")
    assert read.profiles == plan.profiles
    assert "latency_p99_ms" in str(read)
    tables = json.loads((tmp_path / "plan.json").read_text())["profiles"]["tables"]
    assert {entry["latency"] for entry in tables} == {"p99"}
    faster = read.using("p50")
    assert (faster.certificate_ns, faster.usd_per_hour) == (None, plan.usd_per_hour)
    assert mp.certify(faster, TRACE).bound_ns < mp.certify(plan, TRACE).bound_ns
    assert read.using("p99") is read
    refined = mp.refine(plan, TRACE, slo_s=1.0, time_limit_s=5)
    assert refined.refinement is not None
    faster = replace(refined, limit=mp.result.Limit.TIME).using("p50")
    assert (faster.refinement, faster.effort, faster.limit, faster.trace) == (None, None, None, refined.trace)
    plain = mp.Plan.from_choices(pipeline(), profiles(), CHOICES)
    assert "latency_p99_ms" not in str(plain)
    assert faster.using("table").service_ns("detect").tolist() == plain.service_ns("detect").tolist()


def test_files_are_as_before_where_no_column_is_chosen(tmp_path: Path) -> None:
    mp.Plan.from_choices(pipeline(), profiles(), CHOICES).save(tmp_path / "plan.json")
    tables = json.loads((tmp_path / "plan.json").read_text())["profiles"]["tables"]
    assert all("latency" not in entry for entry in tables)


def test_a_choice_without_the_column_cannot_take_it() -> None:
    plan = mp.Plan.from_choices(pipeline(), profiles(), {**CHOICES, "detect": ("old", 2, 1)})
    with pytest.raises(mp.InputError, match="detect has no column latency_p99_ms on old"):
        plan.using("p99")


def test_verify_judges_by_another_column_and_says_so() -> None:
    plan = mp.plan(pipeline(), profiles(), TRACE, slo_s=0.03)
    other = mp.verify(plan, TRACE, latency="p99")
    assert other.certificate is not None
    assert other.certificate.bound_ns == mp.certify(plan.using("p99"), TRACE).bound_ns
    assert any("batch latencies" in remark for remark in other.remarks)
    assert mp.verify(plan, TRACE, latency="table").remarks == ()


# --- the command line ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "p" / "models").mkdir(parents=True)
    (tmp_path / "p" / "hardware.yaml").write_text("cpu: {usd_per_hour: 1}\n")
    (tmp_path / "p" / "models" / "m.csv").write_text(
        "model,hardware,batch,latency_ms,latency_p50_ms,latency_p99_ms,source\nfast,cpu,1,3,2,5,test\n"
        "slow,cpu,1,4,3,8,test\n"
    )
    (tmp_path / "p" / "models" / "bare.csv").write_text(
        "model,hardware,batch,latency_ms,source\nbare,cpu,1,1,test\n"
    )
    (tmp_path / "line.yaml").write_text(
        "slo: 200ms\nstages: {a: {model: fast}, b: {model: bare}}\nedges: [{from: a, to: b}]\n"
    )
    rows = "\n".join(f"{time / 1e9:.9f}" for time in TRACE.arrival_ns)
    (tmp_path / "trace.csv").write_text(f"arrival_s\n{rows}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(command: str, *arguments: str) -> str:
    done = CliRunner().invoke(app, [command, *arguments, "--trace", "trace.csv"])
    assert done.exit_code == 0, done.output
    return done.output


def test_commands_take_the_column_by_model(folder: Path) -> None:
    planned = ("line.yaml", "--profiles", "p", "--out", "plan.json", "--no-costs")
    refused = CliRunner().invoke(app, ["plan", *planned, "--latency", "p99", "--trace", "trace.csv"])
    assert refused.exit_code == 2
    assert "bare has no column latency_p99_ms on any hardware" in refused.output
    told = run("plan", *planned, "--latency", "p99,bare=table")
    assert "batches are planned to take latency_ms of bare; latency_p99_ms of fast" in " ".join(told.split())
    assert mp.Plan.load("plan.json").service_ns("a").tolist() == [5_000_000]
    assert "batch latencies than it was made for" in run("verify", "plan.json", "--latency", "fast=p50")
    for command, more in (
        ("replay", ["--json"]),
        ("fragility", ["--json"]),
        ("tune", ["--policy", "static", "--json"]),
    ):
        run(command, "plan.json", "--latency", "fast=p50", *more)
    replayed = json.loads(run("replay", "plan.json", "--latency", "fast=p50", "--json"))
    expected = mp.replay(mp.Plan.load("plan.json").using({"fast": "p50"}), TRACE)
    assert replayed["replay"]["latency_s"]["max"] == expected.quantile(1.0)
    twice = CliRunner().invoke(app, ["plan", *planned, "--latency", "p99,p50", "--trace", "trace.csv"])
    assert "the column of all models is given twice" in twice.output


def test_replay_draws_from_what_was_measured(folder: Path) -> None:
    found = mp.measure(lambda _batch: sum(range(2_000)), name="fast", hardware="cpu", batches=[1], time_limit_s=1,
                       disturbed="keep", out="measured", usd_per_hour=1.0)  # fmt: skip
    samples = read_samples("measured")
    assert samples["fast", "cpu"][1].tolist() == (found.batches[1].latency_ns / 1e6).tolist()
    (folder / "one.yaml").write_text("slo: 200ms\nstages: {a: {model: fast}}\n")
    run("plan", "one.yaml", "--profiles", "measured", "--out", "plan.json", "--no-costs", "--no-replay")
    noisy = json.loads(run("replay", "plan.json", "--noise", "measured", "--json"))
    expected = mp.replay(mp.Plan.load("plan.json"), TRACE, noise=mp.ServiceNoise.from_samples(samples))
    assert noisy["replay"]["latency_s"]["p99"] == expected.quantile(0.99)
    run("replay", "plan.json", "--noise", "p99")
    missing = CliRunner().invoke(app, ["replay", "plan.json", "--trace", "trace.csv", "--noise", "p"])
    assert "holds no record of a measurement" in missing.output


def test_tables_of_pandas_say_which_latency_counts() -> None:
    """What is written could not be read back: the column was none that is known."""
    chosen = profiles().using("p99", ["detect"])
    hardware, tables = chosen.to_pandas()
    assert Profiles.from_pandas(hardware, tables) == chosen != profiles()
    tables.loc[tables.index[tables["model"] == "detect"][0], "latency"] = "p50"
    with pytest.raises(mp.InputError, match="latency: expected text, found"):
        Profiles.from_pandas(hardware, tables)


@pytest.mark.parametrize("latency", COLUMNS)
def test_questions_vary_the_column_that_counts(latency: str) -> None:
    """Sensitivities, differences and what a running system shows are those of tables that hold the column."""
    asked = {"slo_s": {"table": 0.015, "p50": 0.012, "p99": 0.02}[latency]}
    told, slowly = (
        mp.sensitivity(pipeline(), known, TRACE, share=0.4, **asked)  # type: ignore[arg-type]
        for known in (profiles().using(latency), rewritten(COLUMNS[latency]))
    )
    assert told.measurements == slowly.measurements
    assert told.measurements or latency == "p50"
    slow = table("detect", "gpu").slower(1.5)
    assert slow.latency_p50_ms.tolist() == [4.5, 7.5]  # type: ignore[union-attr]
    made = mp.Plan.from_choices(pipeline(), profiles().using(latency), CHOICES)
    other = replace(
        made,
        profiles=Profiles(
            made.profiles.hardware,
            {**made.profiles.tables, ("detect", "gpu"): replace(slow, latency=latency)},
        ),
    )
    texts = [(one.before, one.after) for one in mp.diff(made, other).requests if one.what == "detect on gpu"]
    first = float(getattr(table("detect", "gpu"), COLUMNS[latency])[0])
    assert texts == [(f"{first:g} ms at batch 1 and 1 more", f"{1.5 * first:g} ms at batch 1 and 1 more")]
