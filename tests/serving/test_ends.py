"""What becomes of queries and replicas where they end in odd ways, or a host does. Nothing asserts a wall time."""

from __future__ import annotations

import pytest

from mipplan.serving import Blueprint, Dispatcher, Outcome, Voided, rehearse
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


@pytest.mark.parametrize("dispatch", ["eager", "paced", "timed"])
def test_a_query_that_waits_for_no_time_does_not_keep_a_disturbance_up(dispatch: str) -> None:
    dispatcher = Dispatcher(Blueprint.of(small_plan({"a": ([1.0], 1)}, dispatch=dispatch)))
    dispatcher.arrive("hasty", 0, deadline_ns=0)
    steps = dispatcher.wake(0)
    for number, taken_ns in enumerate((3 * MS, MS, MS)):  # the first batch overruns
        sent_ns = (1 + number) * 100 * MS
        dispatcher.arrive(number, sent_ns)
        steps += dispatcher.wake(sent_ns)
        dispatcher.finished(number, sent_ns + taken_ns)
        steps += dispatcher.wake(sent_ns + taken_ns)
    assert [step.query.name for step in steps if isinstance(step, Voided) and step.query.name != "hasty"] == [0]
