"""What a log of a known system says is what the system was made of, and what it cannot say is told."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import mipplan as mp
from mipplan.cli.app import app
from mipplan.exporters import exported_names
from mipplan.logs import MISSING, STEADY_CLOCK, LogMetadata, QueryLog, RunLog, StageLog, StageRow, write_log
from mipplan.observing import batches_of, hops_of
from validation.served_runs import CHOICES, MS, pipeline, plan, profiles, served, traffic


def observed(run: RunLog, **others: object) -> mp.LogObservation:
    return mp.observe(run, **others)  # type: ignore[arg-type]


def test_service_times_hops_and_arrivals_are_those_of_the_system() -> None:
    found = observed(served(), plan=plan())
    table = {stage: plan().service_ns(stage) for stage in CHOICES}
    assert {(one.stage, one.batch) for one in found.batches if one.stage == "detect"} == {
        ("detect", size) for size in (1, 2, 3, 4)
    }
    for one in found.batches:
        assert one.p50.value_ns == one.p99.value_ns == table[one.stage][one.batch - 1]
    assert [(hop.above, hop.below, hop.p50.value_ns) for hop in found.hops] == [
        ("sent", "detect", 0),
        ("detect", "read", 2 * MS),
        ("read", "answered", 0),
    ]
    assert np.array_equal(found.arrival_ns, traffic().arrival_ns)


@pytest.mark.parametrize("system", ["triton", "kserve"])
def test_models_of_triton_are_the_stages_that_they_were_exported_from(system: str) -> None:
    seen = plan()
    names = exported_names(seen)[system]
    run = served()
    model = np.array([names[stage] for stage in run.stages.stage], dtype=object)
    traced = replace(
        run, stages=replace(run.stages, stage=model), sources=(LogMetadata("triton", STEADY_CLOCK),)
    )
    assert observed(traced, plan=seen).batches == observed(run, plan=seen).batches


def test_a_day_is_told_only_where_the_clock_knows_it(tmp_path: Path) -> None:
    run = served()
    traced = replace(run, sources=(LogMetadata("triton", STEADY_CLOCK),))
    alone = replace(traced, queries=QueryLog.from_rows([]))
    for name, told, knows in (("both", traced, True), ("alone", alone, False)):
        observed(told, plan=plan(), out=tmp_path / name)
        text = (tmp_path / name / "models" / "read.csv").read_text()
        assert ("observed 20" in text) == knows
        assert ("observed, stage read" in text) == (not knows)


def test_metrics_are_refused_with_what_they_cannot_tell(tmp_path: Path) -> None:
    """Of mosec: how large batches were, and how long they took, but not how long which took."""
    text = "# TYPE mosec_service_batch_size histogram\nmosec_service_batch_size_count 3\n"
    (tmp_path / "metrics.txt").write_text(text)
    with pytest.raises(mp.InputError) as told:
        mp.observe(tmp_path / "metrics.txt", "http://localhost:8000/metrics")
    assert [fault.message.partition(":")[0] for fault in told.value.faults] == ["metrics are no log"] * 2


def test_written_folder_plans_and_replays_like_the_system(tmp_path: Path) -> None:
    out = tmp_path / "seen"
    found = observed(served(trace=traffic(200.0, 30.0)), plan=plan(), out=out)
    assert sorted(path.name for path in out.rglob("*.*")) == [
        "arrivals.csv",
        "detect.csv",
        "hardware.yaml",
        "hops.csv",
        "read.csv",
    ]
    again = mp.Profiles.read(out)
    trace = mp.Trace.read(out / "arrivals.csv")
    detect = {"detect": CHOICES["detect"]}
    alone = mp.Pipeline.from_document({"slo": "250ms", "stages": {"detect": {"model": "detect"}}})
    results = [mp.replay(mp.Plan.from_choices(alone, known, detect), trace) for known in (again, profiles())]
    assert np.array_equal(results[0].latency_ns, results[1].latency_ns)
    assert str(out / "hops.csv") in found.written
    with pytest.raises(mp.InputError, match="is there already: name a new folder"):
        observed(served(), plan=plan(), out=out)


def test_prices_of_any_hardware_can_be_read_again(tmp_path: Path) -> None:
    name = 'a "new" 😀: #1'
    observed(served(), hardware=name, usd_per_hour=1.5, out=tmp_path / "seen")
    assert mp.Profiles.read(tmp_path / "seen").hardware[name].usd_per_hour == 1.5


def test_what_the_log_cannot_tell_is_told() -> None:
    quiet = traffic(10.0, 60.0)
    found = observed(served(trace=quiet), plan=plan())
    told = "\n".join(found.unknown)
    assert "detect: no batch of 2–4 was seen" in told or "detect: no batch of 3–4 was seen" in told
    assert "the plan's cap is 8: drive at a higher rate to see full batches" in told
    run = served()
    without = RunLog(QueryLog.from_rows([]), run.stages)
    told = "\n".join(observed(without).unknown)
    assert "no log of queries" in told
    assert not any(hop.above == "sent" for hop in observed(without).hops)


def test_rare_sizes_stay_out_of_the_table_and_failed_batches_out_of_all() -> None:
    run = served()
    first = run.stages.batch == run.stages.batch[run.stages.stage == "detect"][0]
    first &= run.stages.stage == "detect"
    error = run.stages.error.copy()
    error[first] = "replica died"
    log = replace(run.stages, error=error)
    seen, whole = batches_of(log)["detect"], batches_of(run.stages)["detect"]
    assert seen.failed == 1
    assert seen.size.size == whole.size.size - 1
    assert observed(replace(run, stages=log)).failed == {"detect": 1}
    sizes = {one.batch: one for one in observed(run, plan=plan()).batches if one.stage == "read"}
    assert all(one.written == (one.count >= 10) for one in sizes.values())


def test_tokens_whose_batch_is_tried_again_come_once() -> None:
    run = served()
    detect = np.flatnonzero(run.stages.stage == "detect")
    batch = run.stages.taken(detect[run.stages.batch[detect] == run.stages.batch[detect[0]]])
    failed = replace(
        batch,
        batch=batch.batch + 10**6,
        finish_ns=np.full(batch.query.size, MISSING),
        error=np.full(batch.query.size, "out of memory", dtype=object),
    )
    again = failed.together([run.stages])
    first, second = (
        {(hop.above, hop.below): hop.count for hop in observed(replace(run, stages=log)).hops}
        for log in (run.stages, again)
    )
    assert first == second
    for log in (run.stages, again):
        stages = {one.stage: one for one in mp.truth(plan(), replace(run, stages=log)).stages}
        assert stages["detect"].tokens_per_query == 1


def test_edges_are_found_without_a_plan_and_joins_take_the_last_parent() -> None:
    document = {
        "slo": "400ms",
        "stages": {name: {"model": "detect"} for name in ("a", "b", "c")} | {"d": {"model": "read"}},
        "edges": [
            {"from": "a", "to": "b", "delay": "1ms"},
            {"from": "a", "to": "c", "delay": "4ms"},
            {"from": "b", "to": "d", "delay": "2ms"},
            {"from": "c", "to": "d", "delay": "2ms"},
        ],
    }
    joined = mp.Pipeline.from_document(document)
    choices = dict.fromkeys("abc", ("t4", 1, 9)) | {"d": ("t4", 1, 9)}
    run = served(mp.Plan.from_choices(joined, profiles(), choices), traffic(20.0, 20.0))
    edges = [(edge.parent, edge.child) for edge in joined.edges]
    for known in (edges, None):
        hops = hops_of(run.queries, run.stages, known)
        medians = {ends: int(np.median(times)) for ends, times in hops.items()}
        assert medians["a", "b"] == MS
        assert medians["a", "c"] == 4 * MS
        assert medians["c", "d"] == 2 * MS  # c ends last: what it passes on completes the query.


def test_most_at_once_and_idle_are_those_of_the_replay() -> None:
    run = served(trace=traffic(200.0, 20.0))
    for stage, seen in batches_of(run.stages).items():
        log = run.stages.at(stage)
        replicas = CHOICES[stage][2]
        assert seen.most_at_once == replicas
        begins, ends = seen.idle_ns(log.arrival_ns, log.dispatch_ns, replicas)
        assert begins.size == ends.size == 0
        begins, ends = seen.idle_ns(log.arrival_ns, log.dispatch_ns, replicas + 1)
        assert np.all(ends > begins)


def test_commands_agree_with_the_calls(tmp_path: Path) -> None:
    run = served()
    plan().save(tmp_path / "plan.json")
    write_log(tmp_path / "q.parquet", run.queries)
    write_log(tmp_path / "s.parquet", run.stages.shifted(50 * MS))
    logs = [str(tmp_path / "q.parquet"), str(tmp_path / "s.parquet")]
    runner = CliRunner()
    shift = ["--shift", "replay=-50ms"]
    refused = runner.invoke(app, ["observe", *logs, "-o", str(tmp_path / "o"), "--hardware", "t4"])
    assert refused.exit_code == 2
    assert "replay: clock: it is 50 ms to 50 ms ahead of" in refused.stderr
    done = runner.invoke(
        app, ["observe", *logs, "-o", str(tmp_path / "o"), "--hardware", "t4", *shift, "--json"]
    )
    assert done.exit_code == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["queries"] == len(run.queries)
    judged = runner.invoke(app, ["truth", str(tmp_path / "plan.json"), *logs, *shift, "--json"])
    assert judged.exit_code == 0, judged.stderr
    assert json.loads(judged.stdout)["verdict"] == "agrees"
    shown = runner.invoke(app, ["truth", str(tmp_path / "plan.json"), *logs, *shift])
    assert "verdict: the prediction is within the interval" in shown.stdout
    assert pipeline().name


def test_stages_whose_names_make_one_file_both_have_their_tables(tmp_path: Path) -> None:
    rows = [
        StageRow(query, stage, at, at, at + MS, batch=query, batch_size=1)
        for query in range(12)
        for stage, at in (("read it", query * 10 * MS), ("read_it", query * 10 * MS + 2 * MS))
    ]
    write_log(tmp_path / "s.parquet", StageLog.from_rows(rows))
    mp.observe(tmp_path / "s.parquet", out=tmp_path / "o", hardware="t4", usd_per_hour=1.0)
    assert mp.Profiles.read(tmp_path / "o").models == ("read it", "read_it")


def test_arguments_at_fault_are_all_told(tmp_path: Path) -> None:
    with pytest.raises(mp.InputError) as caught:
        mp.observe(out=tmp_path / "o", latency="p95", usd_per_hour=-1.0)
    assert [fault.place for fault in caught.value.faults] == ["latency", "hardware", "usd_per_hour", "logs"]
