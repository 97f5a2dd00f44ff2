"""Hops, batches and idle times are those of plain loops over the rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle_observing as oracle
from mipplan.logs import QueryLog, QueryRow, StageLog, StageRow
from mipplan.observing import batches_of, hops_of

EDGES = [("a", "b"), ("b", "c"), ("a", "c")]
#: Finishes of one query all differ, as they do on a clock of nanoseconds: at a tie either stage was the last one.
TIMES = st.permutations(range(1, 40))


@st.composite
def ways(draw: st.DrawFn) -> tuple[list[QueryRow], list[StageRow]]:
    """Some queries, each at some stages, once or twice, at times that mean nothing."""
    queries, rows = [], []
    since = draw(st.sampled_from([0, 1_764_000_000_123_456_789]))  # of today's clocks, too
    for query in range(draw(st.integers(1, 4))):
        queries.append(
            QueryRow(
                query,
                since,
                since,
                draw(st.none() | st.integers(since, since + 60)),
                draw(st.sampled_from(["ok", "error"])),
            )
        )
        if queries[-1].answered_ns is None:
            queries[-1] = queries[-1]._replace(status="timeout")
        visits = draw(st.lists(st.sampled_from("abc"), max_size=4))
        finishes = [since + at for at in draw(TIMES)[: len(visits)]]
        for stage, finish in zip(visits, finishes, strict=True):
            arrival = draw(st.integers(since, finish))
            ended = draw(st.integers(0, 9)) > 0
            at = finish if ended else None
            rows.append(StageRow(query, stage, arrival, arrival, at, len(rows), 1))
    return queries, rows


@given(ways())
@settings(max_examples=60, deadline=None)
def test_hops_are_those_of_loops(made: tuple[list[QueryRow], list[StageRow]]) -> None:
    queries, rows = made
    found = hops_of(QueryLog.from_rows(queries), StageLog.from_rows(rows), EDGES)
    expected = oracle.hops(queries, rows, EDGES)
    assert {ends: sorted(times.tolist()) for ends, times in found.items()} == expected


@st.composite
def batches(draw: st.DrawFn) -> list[StageRow]:
    """Batches of one stage, whose outputs may come one after the other."""
    rows = []
    for batch in range(draw(st.integers(1, 5))):
        dispatch = draw(st.integers(0, 20))
        size = draw(st.integers(1, 3))
        for _ in range(size):
            arrival, finish = draw(st.integers(0, dispatch)), draw(st.integers(dispatch + 1, 30))
            rows.append(StageRow(len(rows), "a", arrival, dispatch, finish, batch, size))
    return rows


@given(batches(), st.integers(1, 4))
@settings(max_examples=60, deadline=None)
def test_batches_and_idle_times_are_those_of_loops(rows: list[StageRow], replicas: int) -> None:
    log = StageLog.from_rows(rows)
    seen = batches_of(log)["a"]
    pairs = zip(seen.dispatch_ns.tolist(), seen.finish_ns.tolist(), strict=True)
    assert sorted(pairs) == sorted(oracle.spans(rows))
    assert seen.most_at_once == oracle.most_at_once(rows)
    begins, ends = seen.idle_ns(log.arrival_ns, log.dispatch_ns, replicas)
    idle = {at for begin, end in zip(begins, ends, strict=True) for at in range(begin, end)}
    assert idle == oracle.idle_instants(rows, replicas, 40)
    assert np.all(begins[1:] > ends[:-1])
