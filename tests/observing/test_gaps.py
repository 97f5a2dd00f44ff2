"""Logs with gaps, and clocks of stages that contradict each other, are told; whole logs are not called broken."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mipplan as mp
import oracle_observing
from mipplan.core import Bool
from mipplan.logs import MISSING, STEADY_CLOCK, LogMetadata, QueryLog, RunLog, StageLog, StageRow, write_log
from mipplan.observing import run_of
from mipplan.validation import replayed_log
from random_pipelines import Case, cases
from validation.served_runs import MS, START_NS, plan, served, traffic


def told(run: RunLog) -> list[str]:
    """Faults of a run, which observing and comparing tell alike."""
    with pytest.raises(mp.InputError) as observed:
        mp.observe(run, plan=plan())
    with pytest.raises(mp.InputError) as compared:
        mp.truth(plan(), run)
    assert observed.value.faults == compared.value.faults
    return [str(fault) for fault in observed.value.faults]


def without(run: RunLog, cut: Callable[[StageLog], Bool]) -> RunLog:
    return replace(run, stages=run.stages.taken(np.flatnonzero(~cut(run.stages))))


def seconds(log: StageLog, begin: float, end: float) -> Bool:
    """Rows of whole queries that were sent between these seconds."""
    sent_s = traffic().arrival_ns[log.query] / 1e9
    return np.asarray((begin <= sent_s) & (sent_s < end))


def test_a_second_without_rows_is_told() -> None:
    (fault,) = told(without(served(), lambda log: seconds(log, 20.0, 21.0)))
    first = int(np.searchsorted(traffic().arrival_ns, 20 * 10**9))
    assert fault.startswith("logs: ")
    assert (
        f"queries from {first} on have no row of detect, where all queries begin: the log has gaps" in fault
    )


def test_without_a_log_of_queries_their_numbers_tell() -> None:
    run = replace(served(), queries=QueryLog.from_rows([]))
    note = "93 numbers of queries between 0 and {} are in no row: these were turned away, or the log has gaps"
    cut = mp.observe(without(run, lambda log: seconds(log, 20.0, 21.0)), plan=plan())
    assert note.format(len(traffic()) - 1) in cut.unknown
    assert not any("are in no row" in text for text in mp.observe(run, plan=plan()).unknown)


def test_a_stage_without_the_rows_of_the_one_above_is_told() -> None:
    run = without(served(), lambda log: seconds(log, 20.0, 21.0) & (log.stage == "detect"))
    faults = told(run)
    assert len(faults) == 2
    assert "have no row of detect, though they came to read: the log has gaps" in faults[1]
    with pytest.raises(mp.InputError, match="though they came to read"):
        mp.observe(replace(run, queries=QueryLog.from_rows([])), plan=plan())


def test_runs_whose_numbers_begin_anew_are_told() -> None:
    """A server that was started again, or driven twice, and nobody's log of what was sent."""
    run = served()
    later = replace(run.stages, arrival_ns=run.stages.arrival_ns + 10**12)
    later = replace(later, dispatch_ns=later.dispatch_ns + 10**12, finish_ns=later.finish_ns + 10**12)
    both = RunLog(QueryLog.from_rows([]), run.stages.together([later]))
    said = f"{len(traffic()):,} queries from 0 on came to detect twice, where queries begin"
    for ask in (lambda: mp.observe(both, plan=plan()), lambda: mp.watch(plan(), both, sample=traffic())):
        with pytest.raises(mp.InputError, match=said):
            ask()
    (note,) = (text for text in mp.observe(both).unknown if "several tokens" in text)
    assert note.startswith(f"{len(traffic()):,} queries have several tokens at detect")
    # A batch that failed is tried again: that is one token.
    failed = replace(later, error=np.full(len(later), "lost", dtype=object))
    tried = RunLog(QueryLog.from_rows([]), failed.together([run.stages]))
    assert mp.observe(tried, plan=plan()).arrival_ns.size == len(traffic())


def test_queries_that_nobody_sent_are_told() -> None:
    run = served()
    late = replace(run, queries=run.queries.taken(np.arange(100, len(run.queries))))
    assert "100 queries from 0 on came to stages, and no log says when they were sent" in told(late)[0]
    with pytest.raises(mp.InputError, match="100 queries from 0 on came to stages"):
        mp.observe(late)
    other = replace(run, queries=replace(run.queries, query=run.queries.query + 10**6))
    assert told(other) == [
        "logs: no query of the stages is among those that were sent: logs of different runs"
    ]


@pytest.mark.parametrize("offset_ms", [-30, 30])
def test_clocks_of_two_hosts_that_are_apart_are_told_without_a_log_of_queries(
    tmp_path: Path, offset_ms: int
) -> None:
    """Behind, where a query comes before it has been sent on; ahead, the hop is as long as any other: nothing tells."""
    run = served()
    for stage, host, shift_ms in (("detect", "a", 0), ("read", "b", offset_ms)):
        log = replace(run.stages.at(stage).shifted(shift_ms * MS), metadata=LogMetadata(host=host, run=host))
        write_log(tmp_path / f"{stage}.parquet", log)
    if offset_ms > 0:
        assert mp.observe(tmp_path, plan=plan()).hops[0].p50.value_ns == (2 + offset_ms) * MS
        return
    with pytest.raises(mp.InputError) as caught:
        mp.observe(tmp_path, plan=plan())
    (fault,) = map(str, caught.value.faults)
    assert "queries come to read up to 28 ms before detect has finished them: clocks of hosts (a, b)" in fault
    assert "--shift HOST=28ms, HOST being where read ran" in fault
    found = mp.observe(tmp_path, plan=plan(), shift_ns={"b": 28 * MS})
    assert [(hop.above, hop.below, hop.p50.value_ns) for hop in found.hops] == [("detect", "read", 0)]


def test_traces_of_single_requests_have_no_gaps() -> None:
    """Triton traces as many requests as it is told to."""
    run = without(served(), lambda log: log.query % 3 > 0)
    traced = replace(run, sources=(LogMetadata("triton", STEADY_CLOCK),))
    assert len(mp.observe(traced, plan=plan()).batches)


def test_a_stage_whose_log_was_not_given_is_no_gap() -> None:
    run = without(served(), lambda log: log.stage == "detect")
    assert "no row of detect" in mp.observe(run, plan=plan()).unknown
    assert mp.truth(plan(), run).notes


def test_queries_that_were_never_answered_need_no_rows() -> None:
    run = served()
    status, answered = run.queries.status.copy(), run.queries.answered_ns.copy()
    status[200:240], answered[200:240] = "error", MISSING
    lost = replace(run, queries=replace(run.queries, status=status, answered_ns=answered))
    assert mp.observe(without(lost, lambda log: (log.query >= 200) & (log.query < 240)), plan=plan()).batches


@settings(max_examples=60, deadline=None)
@given(cases(max_stages=5, max_arrivals=12), st.integers(0, 2**32 - 1), st.sampled_from([0.0, 0.05, 0.3]))
def test_gaps_are_those_that_plain_loops_find(case: Case, seed: int, share: float) -> None:
    """Of any graph, with rows taken out at random; a whole log has none, and no clock is called wrong."""
    served_plan = case.plan()
    whole = replayed_log(served_plan, mp.replay(served_plan, case.trace), START_NS)
    dropped = np.random.default_rng(seed).random(len(whole.stages)) < share
    run = replace(whole, stages=whole.stages.taken(np.flatnonzero(~dropped)))
    if not len(run.stages):
        return
    parents = {
        stage: [edge.parent for edge in case.pipeline.edges if edge.child == stage] for stage in case.choices
    }
    rows = [
        StageRow(*row) for row in zip(*(getattr(run.stages, name) for name in StageRow._fields), strict=True)
    ]
    expected = oracle_observing.gaps(run.queries.query.tolist(), rows, parents)
    assert share or not expected
    try:
        run_of((run,), None, served_plan)
        found = []
    except mp.InputError as error:
        found = [str(fault) for fault in error.faults]
    assert all("the log has gaps" in fault for fault in found)
    assert {fault.partition(" of ")[2].partition(",")[0] for fault in found} == {
        place for place, _ in expected
    }
