"""Logs and metrics of runs on a virtual clock: they say what happened."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mipplan.core import InputError
from mipplan.logs import MISSING, read_log
from mipplan.result import fingerprint
from mipplan.serving import (
    AdmissionParams,
    Blueprint,
    Dispatcher,
    ServingMetrics,
    StageRecorder,
    Step,
    rehearse,
)
from serving_plans import MS, small_plan

PLAN = small_plan({"a": ([1.0, 1.5], 2), "b": ([1.0], 1)}, {("a", "b"): {}}, slo_s=0.004)


def steps_of_a_run(dispatcher: Dispatcher) -> list[Step]:
    """Queries of which one batch fails once, and overruns when it is tried again."""
    run = rehearse(
        dispatcher,
        [0, 0, 0, 0, 0, MS // 2],
        batch_time=lambda batch: None if batch.number == 0 else (5 * MS if batch.is_retry else MS),
        incidents=[(MS // 4, lambda dispatcher, now: dispatcher.failed(0, now, "boom"))],
    )
    return run.steps


@pytest.mark.parametrize("name", ["stages.parquet", "stages"])
def test_a_log_has_a_row_for_every_token_of_every_batch(name: str, tmp_path: Path) -> None:
    steps = steps_of_a_run(Dispatcher(Blueprint.of(PLAN)))
    recorder = StageRecorder(tmp_path / name, PLAN, "a test", rows_at_once=4, allowance_s=0.002)
    for step in steps:
        recorder.observe(step)
    recorder.rejected("full")
    recorder.close()
    log = read_log(tmp_path / name)
    failed = log.stages.taken(log.stages.finish_ns == MISSING)
    assert failed.stage.tolist() == ["a", "a"]
    assert failed.error.tolist() == ["boom", "boom"]
    assert sorted(log.stages.at("b").query.tolist()) == list(range(6))
    first = int(log.stages.arrival_ns.min())
    assert sorted(set((log.stages.at("a").dispatch_ns - first).tolist()))[0] == 0
    assert (tmp_path / name).is_dir() == (name == "stages")
    if name == "stages":
        assert len(list((tmp_path / name).iterdir())) > 1
    assert {source.law for source in log.sources} == {"eager, oldest_first"}
    # By which `mipplan truth` sees that it is given the plan that was served.
    assert {source.plan for source in log.sources} == {fingerprint(PLAN.to_document())}
    assert {source.allowance_ns for source in log.sources} == {2 * MS}


def test_where_little_comes_rows_are_written_after_some_time(tmp_path: Path) -> None:
    recorder = StageRecorder(tmp_path / "stages", PLAN, longest_s=0.01)
    steps = steps_of_a_run(Dispatcher(Blueprint.of(PLAN)))
    for step in steps:
        recorder.observe(step)
    for _ in range(2_000):  # a server that is killed would have written no more
        written = list((tmp_path / "stages").glob("*.parquet"))
        if written and len(read_log(tmp_path / "stages").stages) == 14:
            break
        time.sleep(0.01)
    else:
        raise AssertionError(written)
    recorder.close()
    assert len(read_log(tmp_path / "stages").stages) == 14


def test_a_log_that_could_not_be_written_at_the_end_is_refused_at_the_beginning(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="log: there is no folder"):
        StageRecorder(tmp_path / "gone" / "stages.parquet", PLAN)
    (tmp_path / "stages").write_text("no folder")
    with pytest.raises(InputError, match=r"log: .* is a file: name a folder"):
        StageRecorder(tmp_path / "stages", PLAN)


def test_busy_seconds_never_fall(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that is held back ends when it is due: a look just after that had counted more, as if begun anew."""
    pytest.importorskip("prometheus_client")
    plan = small_plan({"a": ([10.0], 1)}, dispatch="timed")
    dispatcher = Dispatcher(Blueprint.of(plan))
    metrics = ServingMetrics(plan, dispatcher)
    monkeypatch.setattr("mipplan.serving.records.now_ns", lambda: 11 * MS)
    dispatcher.arrive("query", 0)
    for end_ns, served in ((0, 0), (11 * MS, 1)):
        for step in dispatcher.wake(end_ns):
            metrics.observe(step)
        dispatcher.finished(0, 5 * MS)
        value = metrics.registry.get_sample_value
        assert value("mipplan_queries_total", {"outcome": "served"}) == served
        assert value("mipplan_busy_seconds_total", {"stage": "a"}) == 0.011


def test_metrics_count_what_happened() -> None:
    pytest.importorskip("prometheus_client")
    dispatcher = Dispatcher(Blueprint.of(PLAN), AdmissionParams(most_in_flight=5))
    metrics = ServingMetrics(PLAN, dispatcher)
    for step in steps_of_a_run(dispatcher):
        metrics.observe(step)
    metrics.rejected("full")
    value = metrics.registry.get_sample_value
    assert value("mipplan_queries_total", {"outcome": "served"}) == 5
    assert value("mipplan_queries_total", {"outcome": "rejected"}) == 1
    assert value("mipplan_retries_total", {"stage": "a"}) == 1
    assert value("mipplan_overruns_total", {"stage": "a"}) == 1
    assert value("mipplan_missed_total", {"limit": "objective"}) == 2
    assert value("mipplan_void_total") == 5
    assert value("mipplan_batch_size_sum", {"stage": "a"}) == 5 + 2
    assert value("mipplan_batch_size_sum", {"stage": "b"}) == 5
    assert value("mipplan_wait_seconds_count", {"stage": "b"}) == 5
    assert value("mipplan_latency_seconds_count") == 5
    assert value("mipplan_queue_length", {"stage": "a"}) == 0
    assert value("mipplan_replicas", {"stage": "a"}) == 2
    assert value("mipplan_in_flight") == 0
    assert b"# TYPE mipplan_latency_seconds histogram" in metrics.text()
