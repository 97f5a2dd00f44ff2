"""Failing and dying replicas, clients that go, time-outs, full queues: every accepted query has one answer."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from weakref import WeakSet

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mipplan as mp
from campaigns import campaign_size
from mipplan.pipeline import DispatchLaw
from mipplan.serving import (
    AdmissionParams,
    Blueprint,
    Dispatched,
    Dispatcher,
    DrawnDecisions,
    Outcome,
    Rehearsal,
    ServedBatch,
    rehearse,
)
from random_pipelines import random_case
from serving_plans import MS, small_plan

ONE = small_plan({"a": ([1.0], 1)})
PAIRS = small_plan({"a": ([1.0, 1.5], 2)})


def outcomes(run: Rehearsal) -> dict[object, str]:
    return {answer.query.name: answer.outcome.value for answer in run.answers}


def test_an_overrun_voids_those_behind_it_until_the_stage_is_empty() -> None:
    run = rehearse(
        Dispatcher(Blueprint.of(ONE)),
        [0, 2 * MS, 2 * MS + 1, 20 * MS],
        batch_time=lambda batch: 3 * MS if batch.tokens[0].query.number == 1 else MS,
    )
    assert [batch.tokens[0].query.number for batch in run.overruns] == [1]
    assert run.void == {1, 2}


def test_answered_queries_are_forgotten_before_their_deadline() -> None:
    """A client may have the patience of years, and its query's outputs shall not stay as long as that."""

    class Output:
        pass

    dispatcher, held, most = Dispatcher(Blueprint.of(PAIRS)), WeakSet[Output](), 0
    running: list[ServedBatch] = []
    for number in range(2_000):
        now = number * MS // 2
        for batch in [one for one in running if one.due_ns <= now]:
            running.remove(batch)
            outputs = [Output() for _ in batch.tokens]
            held.update(outputs)
            dispatcher.finished(batch.number, batch.due_ns, outputs)
            del outputs
        assert dispatcher.arrive(number, now, deadline_ns=10**18) is None
        running += [step.batch for step in dispatcher.wake(now) if isinstance(step, Dispatched)]
        # Never idle: a batch that is under way stands before every deadline.
        assert running
        most = max(most, len(held))
    assert len(dispatcher.queries) < 10
    assert most < 200


def test_a_failed_batch_is_tried_again_on_another_replica() -> None:
    run = rehearse(
        Dispatcher(Blueprint.of(PAIRS)),
        [0, 0],
        batch_time=lambda batch: None if batch.number == 0 else 1 * MS,
        incidents=[(MS // 2, lambda dispatcher, now: dispatcher.failed(0, now, "out of memory"))],
    )
    first, second = run.batches["a"]
    assert (first.replica, second.replica) == (0, 1)
    assert second.is_retry
    assert first.tokens == second.tokens
    assert outcomes(run) == {0: "served", 1: "served"}
    assert [(ended.error, ended.retries) for ended in run.ended] == [("out of memory", True), (None, False)]
    assert run.void == {0, 1}


@pytest.mark.parametrize("law", DispatchLaw)
def test_of_a_batch_that_fails_twice_each_token_is_tried_alone(law: DispatchLaw) -> None:
    plan = small_plan({"a": ([1.0, 1.5], 2)}, dispatch=law)
    incidents = [
        (instant, lambda dispatcher, now: [dispatcher.failed(b, now, "boom") for b in odd(dispatcher)])
        for instant in range(MS, 20 * MS, MS // 2)
    ]

    def odd(dispatcher: Dispatcher) -> list[int]:
        found = dispatcher.batches.values()
        return [b.number for b in found if any(token.query.number == 1 for token in b.tokens)]

    run = rehearse(
        Dispatcher(Blueprint.of(plan)),
        [0, 0, 18 * MS],
        batch_time=lambda batch: None if any(token.query.number == 1 for token in batch.tokens) else MS,
        incidents=incidents,
    )
    assert outcomes(run) == {0: "served", 1: "failed", 2: "served"}
    assert {answer.query.name: answer.reason for answer in run.answers}[1] == "stage a: boom"
    batches = [[token.query.number for token in batch.tokens] for batch in run.batches["a"]]
    assert batches == [[0, 1], [0, 1], [0], [1], [2]]
    # By the table of the batch that it is, not of the one it was in.
    assert run.batches["a"][2].due_ns - run.batches["a"][2].dispatched_ns == MS
    assert run.void == {0, 1}


def test_a_batch_whose_replicas_die_under_it_is_answered_with_the_reason() -> None:
    """It is not tried until no replica is left."""
    run = rehearse(
        Dispatcher(Blueprint.of(small_plan({"a": ([1.0, 1.5], 3)}))),
        [0, 0, 5 * MS],
        batch_time=lambda batch: None if batch.number < 2 else MS,
        incidents=[
            (number * MS, lambda dispatcher, now, at=number - 1: dispatcher.gone("a", at, now, "boom"))
            for number in (1, 2)
        ],
    )
    assert outcomes(run) == {0: "failed", 1: "failed", 2: "served"}
    assert [answer.reason for answer in run.answers] == ["stage a: boom"] * 2 + [None]


def test_the_only_replica_tries_again_itself() -> None:
    run = rehearse(
        Dispatcher(Blueprint.of(ONE)),
        [0],
        batch_time=lambda batch: None if batch.number == 0 else MS,
        incidents=[(1, lambda dispatcher, now: dispatcher.failed(0, now, "boom"))],
    )
    assert [batch.replica for batch in run.batches["a"]] == [0, 0]
    assert outcomes(run) == {0: "served"}


def test_the_batch_of_a_dead_replica_goes_to_another_before_what_waits() -> None:
    plan = small_plan({"a": ([2.0], 2)})
    run = rehearse(
        Dispatcher(Blueprint.of(plan)),
        [0, 0, 0],
        batch_time=lambda batch: None if batch.number == 0 else 2 * MS,
        incidents=[(MS, lambda dispatcher, now: dispatcher.gone("a", 0, now, "killed"))],
    )
    assert [[token.query.number for token in batch.tokens] for batch in run.batches["a"]] == [
        [0],
        [1],
        [0],
        [2],
    ]
    assert {batch.replica for batch in run.batches["a"][1:]} == {1}
    assert set(outcomes(run).values()) == {"served"}


def test_with_no_replica_left_everything_is_answered_and_nothing_accepted_until_one_is_back() -> None:
    run = rehearse(
        Dispatcher(Blueprint.of(ONE)),
        [0, 0, 2 * MS, 4 * MS],
        batch_time=lambda batch: None if batch.number == 0 else MS,
        incidents=[
            (MS, lambda dispatcher, now: dispatcher.gone("a", 0, now, "killed")),
            (3 * MS, lambda dispatcher, now: dispatcher.back("a", 0, now)),
        ],
    )
    assert outcomes(run) == {0: "failed", 1: "failed", 3: "served"}
    assert run.rejected == {2: "no replica of stage a is left"}
    assert 3 not in run.void


def test_results_of_a_batch_that_was_given_up_are_ignored() -> None:
    run = rehearse(
        Dispatcher(Blueprint.of(PAIRS)),
        [0],
        batch_time=lambda batch: 5 * MS,
        incidents=[(MS, lambda dispatcher, now: dispatcher.gone("a", 0, now, "lost sight of"))],
    )
    assert len(run.batches["a"]) == 2
    assert [answer.latency_ns for answer in run.answers] == [6 * MS]


def test_time_outs_and_clients_that_go() -> None:
    dispatcher = Dispatcher(Blueprint.of(ONE))
    assert dispatcher.arrive("first", 0, deadline_ns=3 * MS) is None
    assert dispatcher.arrive("second", 0, deadline_ns=MS // 2) is None
    assert dispatcher.arrive("third", 0) is None
    assert [type(step) for step in dispatcher.wake(0)] == [Dispatched]
    assert dispatcher.next_wake_ns == MS // 2
    (timed_out,) = dispatcher.wake(MS // 2)
    assert (timed_out.query.name, timed_out.outcome) == ("second", Outcome.TIMED_OUT)
    dispatcher.cancel("third", MS // 2 + 1)
    dispatcher.cancel("third", MS // 2 + 1)
    (cancelled,) = dispatcher.wake(MS // 2 + 1)
    assert (cancelled.query.name, cancelled.outcome) == ("third", Outcome.CANCELLED)
    assert dispatcher.stages["a"].waiting == 0
    dispatcher.finished(0, MS, ["out"])
    answered = dispatcher.wake(MS)[-1]
    assert (answered.query.name, answered.outcome, answered.query.outputs) == (
        "first",
        Outcome.SERVED,
        [("a", "out")],
    )
    assert dispatcher.next_wake_ns is None


def test_a_client_that_goes_while_its_batch_runs_leaves_the_others_alone() -> None:
    plan = small_plan({"a": ([1.0, 1.0], 1)})
    run = rehearse(
        Dispatcher(Blueprint.of(plan)),
        [0, 0],
        incidents=[(5, lambda dispatcher, now: dispatcher.cancel(0, now))],
    )
    assert outcomes(run) == {0: "cancelled", 1: "served"}


def test_full_queues_turn_queries_away_with_the_reason() -> None:
    waiting = Dispatcher(Blueprint.of(ONE), AdmissionParams(most_waiting=1))
    run = rehearse(waiting, [0, 1, 2, 3])
    assert run.rejected == {3: "2 tokens wait at stage a, the limit is 1"}
    in_flight = Dispatcher(Blueprint.of(ONE), AdmissionParams(most_in_flight=2))
    run = rehearse(in_flight, [0, 1, 2, 5 * MS])
    assert run.rejected == {2: "2 queries are in flight, the limit is 2"}
    assert set(outcomes(run).values()) == {"served"}


def test_draining_serves_what_is_in_flight_and_accepts_nothing() -> None:
    run = rehearse(
        Dispatcher(Blueprint.of(ONE)), [0, 0, MS], incidents=[(1, lambda dispatcher, now: dispatcher.drain())]
    )
    assert run.rejected == {2: "the server is being drained"}
    assert outcomes(run) == {0: "served", 1: "served"}


def test_many_joins_in_a_row_take_no_time_without_end() -> None:
    """Stages above a stage were once found by every way to it, of which there are 2⁴⁰ here."""
    edges = {}
    for n in range(40):
        for way in (f"left{n}", f"right{n}"):
            edges |= {(f"at{n}", way): {}, (way, f"at{n + 1}"): {}}
    stages = dict.fromkeys((stage for arc in edges for stage in arc), ([1.0], 1))
    run = rehearse(Dispatcher(Blueprint.of(small_plan(stages, edges))), [0])
    assert run.latency_ns == {0: 81 * MS}


def test_a_name_in_flight_is_refused() -> None:
    dispatcher = Dispatcher(Blueprint.of(ONE))
    dispatcher.arrive("q", 0)
    with pytest.raises(mp.InputError, match="'q' is in flight"):
        dispatcher.arrive("q", 1)


def test_results_that_do_not_fit_fail_the_batch() -> None:
    dispatcher = Dispatcher(Blueprint.of(ONE))
    dispatcher.arrive("q", 0)
    dispatcher.wake(0)
    with pytest.raises(mp.InputError, match="expected 1, one for each token, found 2"):
        dispatcher.finished(0, 5, [1, 2])
    dispatcher.wake(5)
    assert dispatcher.batches[1].is_retry


def test_decisions_may_come_with_the_results() -> None:
    plan = small_plan(
        {"a": ([1.0], 1), "b": ([1.0], 1), "c": ([5.0], 1), "end": ([1.0], 1)},
        {
            ("a", "b"): {"fanout": 1.5},
            ("a", "c"): {"probability": 0.5},
            ("b", "end"): {},
            ("c", "end"): {"probability": 0.5},
        },
    )

    def decide(batch: ServedBatch) -> list[dict[str, int]]:
        return [{"b": 2, "c": 1, "end": 0} for _ in batch.tokens]

    run = rehearse(Dispatcher(Blueprint.of(plan)), [0], decide=decide)
    assert {stage: len(batches) for stage, batches in run.batches.items()} == {
        "a": 1,
        "b": 2,
        "c": 1,
        "end": 1,
    }
    # b is done at 3 ms, but only at 6 ms it is clear that nothing of c has to be waited for.
    assert run.latency_ns == {0: 7 * MS}
    assert run.void == {0}
    told = [{("a", "b"): [2], ("a", "c"): [1], ("c", "end"): [0]}]
    assert rehearse(Dispatcher(Blueprint.of(plan)), [0], told).batches["end"][0].dispatched_ns == 3 * MS
    with pytest.raises(mp.InputError) as told_wrong:
        Dispatcher(Blueprint.of(plan)).arrive("q", 0, decisions={("a", "b"): [2, 1], ("a", "x"): [1]})
    assert {fault.place for fault in told_wrong.value.faults} == {
        "decisions.a -> x",
        "decisions.a -> b",
        "decisions.a -> c",
    }


def check_nothing_is_lost(seed: int) -> Counter[str]:
    """Random faults; in the end every query has one answer, and no rule of serving was broken on the way."""
    rng = np.random.default_rng(seed)
    case = random_case(rng, max_arrivals=30)
    law = str(rng.choice(list(DispatchLaw)))
    plan = mp.Plan.from_choices(
        case.pipeline,
        case.profiles,
        case.choices,
        slo_s=1.0,
        dispatch=law,
        discipline=str(rng.choice(["oldest_first", "fifo"])),
    )
    admission = AdmissionParams(
        most_in_flight=int(rng.integers(1, 20)) if rng.random() < 0.3 else None,
        most_waiting=int(rng.integers(0, 8)) if rng.random() < 0.3 else None,
    )
    dispatcher = Dispatcher(Blueprint.of(plan), admission)
    ingress = case.ingress_ns()
    last = ingress[-1] + 20 * max(max(times) for times in case.service_ns().values())
    drawn = DrawnDecisions(case.pipeline)
    told = rng.random() < 0.5
    hung: list[ServedBatch] = []

    def batch_time(batch: ServedBatch) -> int | None:
        if rng.random() < 0.1:
            hung.append(batch)
            return None
        return int(rng.integers(0, 2 * (batch.due_ns - batch.dispatched_ns)))

    def fault(dispatcher: Dispatcher, now: int) -> None:
        stage = str(rng.choice(list(case.choices)))
        replica = int(rng.integers(case.choices[stage][2]))
        kind = rng.integers(6)
        if kind == 0:
            dispatcher.gone(stage, replica, now, "killed")
        elif kind == 1:
            dispatcher.back(stage, replica, now)
        elif kind == 2 and dispatcher.batches:
            dispatcher.failed(int(rng.choice(list(dispatcher.batches))), now, "boom")
        elif kind == 3:
            dispatcher.cancel(int(rng.integers(len(ingress))), now)
        elif kind == 4 and rng.random() < 0.1:
            dispatcher.drain()
        else:  # whoever hangs is given up
            for batch in hung:
                dispatcher.failed(batch.number, now, "hangs")

    def decide(batch: ServedBatch) -> list[dict[str, int]]:
        return [{stage: int(rng.integers(3)) for stage in case.choices} for _ in batch.tokens]

    times = rng.integers(ingress[0], last, int(rng.integers(0, 12))).tolist()
    incidents = [(time, fault) for time in times]
    # In the end all replicas are there again, and whoever still hangs is given up as often as it takes.
    incidents += [
        (last + number, lambda dispatcher, now: [dispatcher.failed(b.number, now, "hangs") for b in hung])
        for number in range(0, 400 * 5_000, 997)
    ]
    run = rehearse(
        dispatcher,
        ingress,
        [drawn[query] for query in range(len(ingress))] if told else None,
        batch_time=batch_time,
        decide=decide,
        incidents=incidents,
    )
    answered = Counter(answer.query.name for answer in run.answers)
    assert set(answered.values()) <= {1}
    assert answered.keys() | run.rejected.keys() == set(range(len(ingress)))
    assert not answered.keys() & run.rejected.keys()
    assert not dispatcher.queries
    assert not any(stage.waiting for stage in dispatcher.stages.values())
    ends = {ended.batch.number: ended.now_ns for ended in run.ended}
    for stage, batches in run.batches.items():
        assert all(1 <= len(batch.tokens) <= case.choices[stage][1] for batch in batches)
        tries = Counter(token for batch in batches for token in batch.tokens)
        alone = Counter(batch.tokens[0] for batch in batches if batch.is_retry and len(batch.tokens) == 1)
        assert all(count <= 2 + (token in alone) for token, count in tries.items())
        for replica in range(case.choices[stage][2]):
            mine = [batch for batch in batches if batch.replica == replica]
            for one, other in pairwise(mine):
                assert ends[one.number] <= other.dispatched_ns
    seen = Counter(answer.outcome.value for answer in run.answers)
    seen.update({"rejected": len(run.rejected), "retried": sum(ended.retries for ended in run.ended)})
    return seen


@given(st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_nothing_is_lost(seed: int) -> None:
    check_nothing_is_lost(seed)


def test_nothing_is_lost_in_a_campaign() -> None:
    seen: Counter[str] = Counter()
    for seed in range(campaign_size(30, 10_000)):
        seen += check_nothing_is_lost(seed)
    assert set(seen) == {"served", "failed", "cancelled", "rejected", "retried"}
