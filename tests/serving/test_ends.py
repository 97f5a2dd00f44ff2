"""What becomes of queries and replicas where they end in odd ways, or a host does. Nothing asserts a wall time."""

from __future__ import annotations

from mipplan.serving import Blueprint, Dispatcher, Outcome, rehearse
from serving_plans import MS, small_plan


def test_a_query_that_ends_where_two_stages_merge_at_once_ends_once() -> None:
    """The first has no replica left, which answers the query; the second waited for the same decision."""
    stages = {name: ([1.0], 1) for name in ("first", "second", "one", "two")}
    maybe = {"probability": 0.5}
    edges = {("first", merging): {} for merging in ("second", "one", "two")}
    edges |= {("second", merging): maybe for merging in ("one", "two")}
    run = rehearse(
        Dispatcher(Blueprint.of(small_plan(stages, edges))),
        [0, MS // 2],
        decide=lambda batch: [{"one": 0, "two": 0} for _ in batch.tokens],
        incidents=[(3 * MS // 2, lambda dispatcher, now: dispatcher.gone("one", 0, now, "killed"))],
    )
    ends = {answer.query.name: (answer.outcome, answer.reason) for answer in run.answers}
    assert ends == dict.fromkeys((0, 1), (Outcome.FAILED, "no replica of stage one is left"))
