"""The dispatcher on a virtual clock makes the dispatches of `mipplan.replay`, and of the event loops of the oracles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import mipplan as mp
from campaigns import campaign_size
from mipplan.pipeline import Discipline, DispatchLaw
from mipplan.serving import (
    Blueprint,
    Dispatcher,
    DrawnDecisions,
    Rehearsal,
    ServedBatch,
    rehearse,
    with_allowance,
)
from oracle_paced import PacedLoop
from oracle_replay import SlowReplay, slow_noise
from oracle_tokens import slow_tokens
from random_pipelines import Case, random_case, random_noise, staggered
from serving_plans import MS, small_plan

LAWS = [law.value for law in DispatchLaw]
seeds = st.integers(0, 2**32 - 1)


class Seen(NamedTuple):
    """What happened at a stage, by token in token order and by batch in order of dispatch."""

    arrival: list[int]
    dispatch: list[int]
    batches: list[tuple[int, int]]


def seen_by_dispatcher(run: Rehearsal) -> dict[str, Seen]:
    found = {}
    for stage, batches in run.batches.items():
        of = {
            token.order: (token.arrival_ns, batch.dispatched_ns)
            for batch in batches
            for token in batch.tokens
        }
        times = [of[order] for order in sorted(of)]
        found[stage] = Seen(
            [arrival for arrival, _ in times],
            [dispatch for _, dispatch in times],
            [(batch.dispatched_ns, len(batch.tokens)) for batch in batches],
        )
    return found


def seen_by_replay(result: mp.ReplayResult) -> dict[str, Seen]:
    return {
        stage: Seen(
            seen.arrival_ns.tolist(),
            seen.assignment.dispatch_ns.tolist(),
            list(zip(seen.assignment.batch_start_ns.tolist(), seen.batch_size.tolist(), strict=True)),
        )
        for stage, seen in result.stages.items()
    }


def seen_by_oracle(slow: SlowReplay) -> dict[str, Seen]:
    return {
        stage: Seen(
            [slow.arrival[stage][number] for number in sorted(slow.arrival[stage])],
            [slow.dispatch[stage][number] for number in sorted(slow.dispatch[stage])],
            [(batch.start, len(batch.tokens)) for batch in slow.batches[stage]],
        )
        for stage in slow.batches
    }


def plan_under(
    case: Case, dispatch: str | dict[str, str], discipline: str = "oldest_first", seed: int = 0
) -> mp.Plan:
    return mp.Plan.from_choices(
        case.pipeline,
        case.profiles,
        case.choices,
        slo_s=1.0,
        seed=seed,
        dispatch=dispatch,
        discipline=discipline,
    )


def random_laws(rng: np.random.Generator, case: Case) -> str | dict[str, str]:
    """One law for all, or one for each."""
    if rng.random() < 0.7:
        return str(rng.choice(LAWS))
    return {stage: str(rng.choice(LAWS)) for stage in case.choices}


def rehearsed(
    plan: mp.Plan,
    trace: mp.Trace,
    batch_time: Callable[[ServedBatch], int] | None = None,
    *,
    hold_delays: bool = True,
) -> Rehearsal:
    drawn = DrawnDecisions(plan.pipeline, plan.seed)
    ingress = [int(time) for time in trace.arrival_ns]
    decisions = [drawn[query] for query in range(len(ingress))]
    dispatcher = Dispatcher(Blueprint.of(plan, hold_delays=hold_delays))
    return rehearse(dispatcher, ingress, decisions, batch_time=batch_time)


def as_recorded(result: mp.ReplayResult) -> Callable[[ServedBatch], int]:
    """Times of batches in order of dispatch, as a replay had them."""
    left = {stage: iter(seen.batch_service_ns.tolist()) for stage, seen in result.stages.items()}
    return lambda batch: next(left[batch.stage])


def check_is_replay(seed: int) -> set[str]:
    rng = np.random.default_rng(seed)
    case = random_case(rng)
    if rng.random() < 0.3:
        case = staggered(rng, case)
    plan = plan_under(case, random_laws(rng, case), str(rng.choice(list(Discipline))), int(rng.integers(3)))
    result, run = mp.replay(plan, case.trace), rehearsed(plan, case.trace)
    assert seen_by_dispatcher(run) == seen_by_replay(result)
    assert [run.latency_ns[query] for query in range(result.queries)] == result.latency_ns.tolist()
    assert len(run.answers) == result.queries
    assert not run.overruns
    assert not run.void
    return {plan.dispatch, plan.discipline}


@given(seeds)
@settings(deadline=None, max_examples=50)
def test_exact_services_make_the_replay(seed: int) -> None:
    check_is_replay(seed)


def test_exact_services_make_the_replay_in_a_campaign() -> None:
    seen: set[str] = set()
    for seed in range(campaign_size(25, 20_000)):
        seen |= check_is_replay(seed)
    assert seen >= {"eager", "paced", "timed", "mixed", "oldest_first", "fifo"}


@given(seeds)
@settings(deadline=None, max_examples=25)
def test_it_is_the_event_loop_of_the_oracle(seed: int) -> None:
    rng = np.random.default_rng(seed)
    case = random_case(rng)
    laws = {stage: str(rng.choice(["eager", "paced"])) for stage in case.choices}
    discipline = str(rng.choice(list(Discipline)))
    plan = plan_under(case, laws, discipline)
    factors = [0.5, 1.0, 1.7]
    tokens = slow_tokens(case.pipeline, len(case.trace.arrival_ns), 0)
    batch_time = slow_noise(tokens, case.service_ns(), factors, seed=5)
    loop = PacedLoop(
        tokens,
        case.ingress_ns(),
        case.service_ns(),
        case.replicas(),
        discipline,
        batch_time=batch_time,
        paced=frozenset(stage for stage, law in laws.items() if law == "paced"),
    )
    number = {
        stage: {key: place for place, key in enumerate(_orders(plan, case)[stage])} for stage in case.choices
    }
    run = rehearsed(
        plan,
        case.trace,
        lambda batch: batch_time(batch.stage, number[batch.stage][batch.oldest.order], len(batch.tokens)),
    )
    slow = loop.run()
    assert seen_by_dispatcher(run) == seen_by_oracle(slow)
    assert [run.latency_ns[query] for query in range(len(slow.latency))] == slow.latency


def _orders(plan: mp.Plan, case: Case) -> dict[str, list[object]]:
    """Places of all tokens in token order, which do not depend on times."""
    run = rehearsed(plan, case.trace)
    return {
        stage: sorted(token.order for batch in batches for token in batch.tokens)
        for stage, batches in run.batches.items()
    }


@given(seeds)
@settings(deadline=None, max_examples=25)
def test_decisions_that_come_with_the_results_make_the_same_tokens(seed: int) -> None:
    """And the same dispatches, where no stage has to wait until it knows that nothing more will come."""
    rng = np.random.default_rng(seed)
    case = random_case(rng, max_arrivals=30)
    plan = plan_under(case, str(rng.choice(["eager", "paced"])))
    told = rehearsed(plan, case.trace)
    ordinals: dict[tuple[str, object], int] = {}
    for stage, batches in told.batches.items():
        orders = sorted(token.order for batch in batches for token in batch.tokens)
        first = {query: place for place, (query, _) in reversed(list(enumerate(orders)))}
        ordinals.update({(stage, order): place - first[order[0]] for place, order in enumerate(orders)})
    drawn = DrawnDecisions(plan.pipeline)

    def decide(batch: ServedBatch) -> list[dict[str, int]]:
        return [
            {
                child: drawn[token.query.number][parent, child][ordinals[batch.stage, token.order]]
                for parent, child in drawn[token.query.number]
                if parent == batch.stage
            }
            for token in batch.tokens
        ]

    run = rehearse(Dispatcher(Blueprint.of(plan)), case.ingress_ns(), decide=decide)
    assert {
        (stage, token.order)
        for stage, batches in run.batches.items()
        for batch in batches
        for token in batch.tokens
    } == ordinals.keys()
    assert len(run.answers) == len(case.ingress_ns())
    if not any(stage.merges for stage in Blueprint.of(plan).stages.values()):
        assert seen_by_dispatcher(run) == seen_by_dispatcher(told)
        assert run.latency_ns == told.latency_ns


@given(seeds)
@settings(deadline=None, max_examples=40)
def test_timed_runs_are_the_replay_whatever_is_done_early(seed: int) -> None:
    rng = np.random.default_rng(seed)
    case = random_case(rng)
    plan = plan_under(case, "timed", str(rng.choice(list(Discipline))))
    run = rehearsed(
        plan, case.trace, lambda batch: int(rng.integers(0, batch.due_ns - batch.dispatched_ns + 1))
    )
    assert seen_by_dispatcher(run) == seen_by_replay(mp.replay(plan, case.trace))
    assert not run.void


def check_class_of_runs(seed: int) -> bool:
    """Hold early batches and messages back, so that certificates for a class of runs hold; whether they do without."""
    rng = np.random.default_rng(seed)
    case = random_case(rng)
    if rng.random() < 0.4:
        case = staggered(rng, case)
    runs = mp.RunClass(float(rng.choice([0.0, 0.5, 1.0, 1.0])), float(rng.choice([0.0, 0.5, 1.0, 1.0])))
    share = float(rng.choice([0.1, 0.5, 0.9]))
    asked = [("eager", "fifo"), ("eager", "oldest_first"), ("paced", "oldest_first")]
    law, discipline = asked[rng.integers(len(asked))]
    bare = plan_under(case, law, discipline)
    plan = replace(bare, objective=replace(bare.objective, runs=runs))
    kind = "classic" if discipline == "fifo" else "sharp"
    bound = mp.certify(plan, case.trace, certificate=kind, runs=runs).latency_ns.tolist()

    def batch_time(batch: ServedBatch) -> int:
        return 1 if rng.random() < share else batch.due_ns - batch.dispatched_ns

    def exceeds(served: mp.Plan) -> bool:
        run = rehearsed(served, case.trace, batch_time, hold_delays=False)
        assert not run.void
        return any(run.latency_ns[query] > most for query, most in enumerate(bound))

    assert not exceeds(plan)
    return exceeds(bare)


@given(seeds)
@settings(deadline=None, max_examples=30)
def test_certificates_for_a_class_of_runs_hold_whatever_is_done_early(seed: int) -> None:
    check_class_of_runs(seed)


def test_certificates_for_a_class_of_runs_would_not_hold_without_holding_back() -> None:
    assert sum(check_class_of_runs(seed) for seed in range(campaign_size(250, 20_000))) > 0


def test_what_is_early_for_its_class_of_runs_is_held_back() -> None:
    bare = small_plan({"a": ([4.0], 1), "b": ([2.0], 1)}, {("a", "b"): {"delay": "5ms"}})
    plan = replace(bare, objective=replace(bare.objective, runs=mp.RunClass(0.5)))
    latencies = [
        rehearse(
            Dispatcher(Blueprint.of(served, hold_delays=False)), [0], batch_time=lambda batch: 1
        ).latency_ns[0]
        for served in (plan, bare)
    ]
    assert latencies == [8 * MS, 2]
    assert with_allowance(plan, 0.001).runs == plan.runs


@given(seeds)
@settings(deadline=None, max_examples=30)
def test_overruns_of_timed_pipelines_void_what_the_replay_says_at_most(seed: int) -> None:
    rng = np.random.default_rng(seed)
    case = random_case(rng, scales_ns=(100, 5_000))
    plan = plan_under(case, "timed", str(rng.choice(list(Discipline))))
    noisy = mp.replay(plan, case.trace, noise=random_noise(rng))
    run = rehearsed(plan, case.trace, as_recorded(noisy))
    assert seen_by_dispatcher(run) == seen_by_replay(noisy)
    counted = {stage: sum(batch.stage == stage for batch in run.overruns) for stage in case.choices}
    lost = set(np.flatnonzero(noisy.lost).tolist()) if noisy.lost is not None else set()
    assert counted == (noisy.overruns or dict.fromkeys(case.choices, 0))
    assert run.void <= lost
    stated = mp.replay(plan, case.trace)
    for query in set(range(stated.queries)) - run.void:
        assert run.latency_ns[query] == stated.latency_ns[query]


@given(seeds)
@settings(deadline=None, max_examples=60)
def test_overruns_void_what_the_replay_says_where_stages_are_not_timed(seed: int) -> None:
    """Of mixed pipelines, too: a timed stage beside one that is not keeps what an eager one does."""
    rng = np.random.default_rng(seed)
    case = random_case(rng, scales_ns=(100, 5_000))
    laws = {stage: str(rng.choice(["eager", "paced"])) for stage in case.choices}
    plan = plan_under(case, laws)
    noisy = mp.replay(plan, case.trace, noise=random_noise(rng))
    run = rehearsed(plan, case.trace, as_recorded(noisy))
    assert seen_by_dispatcher(run) == seen_by_replay(noisy)
    counted = {stage: sum(batch.stage == stage for batch in run.overruns) for stage in case.choices}
    assert counted == (noisy.overruns or dict.fromkeys(case.choices, 0))
    lost = set() if noisy.lost is None else set(np.flatnonzero(noisy.lost).tolist())
    assert run.void == lost
    try:
        certified = mp.certify(plan, case.trace).latency_ns
    except mp.InputError:
        return
    for query in set(range(len(certified))) - lost:
        assert noisy.latency_ns[query] <= certified[query]


@given(seeds)
@settings(deadline=None, max_examples=60)
def test_queries_that_keep_the_guarantee_keep_their_certificate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    case = random_case(rng, scales_ns=(100, 5_000))
    laws = {stage: str(rng.choice(["eager", "paced"])) for stage in case.choices}
    plan = plan_under(case, laws)
    overruns = float(rng.choice([0.02, 0.2]))

    def batch_time(batch: ServedBatch) -> int:
        table_ns = batch.due_ns - batch.dispatched_ns
        return 9 * table_ns if rng.random() < overruns else int(rng.integers(1, table_ns + 1))

    run = rehearsed(plan, case.trace, batch_time)
    try:
        certified = mp.certify(plan, case.trace).latency_ns
    except mp.InputError:  # some stage cannot keep up with the trace: there is no certificate
        return
    for query in set(range(len(certified))) - run.void:
        assert run.latency_ns[query] <= certified[query]


@given(seeds)
@settings(deadline=None, max_examples=150)
def test_queries_that_keep_the_guarantee_beside_batches_that_fail_keep_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    case = random_case(rng, scales_ns=(100, 5_000))
    is_timed = rng.random() < 0.5
    plan = plan_under(
        case, "timed" if is_timed else {s: str(rng.choice(["eager", "paced"])) for s in case.choices}
    )
    odd = set(rng.choice(len(case.ingress_ns()), 2).tolist())
    hung: list[ServedBatch] = []

    def batch_time(batch: ServedBatch) -> int | None:
        if any(token.query.number in odd for token in batch.tokens):
            hung.append(batch)
            return None
        return int(rng.integers(1, batch.due_ns - batch.dispatched_ns + 1))

    def fail(dispatcher: Dispatcher, now: int) -> None:
        for batch in hung:
            dispatcher.failed(batch.number, now, "odd")

    last = case.ingress_ns()[-1]
    drawn = DrawnDecisions(plan.pipeline)
    run = rehearse(
        Dispatcher(Blueprint.of(plan)),
        case.ingress_ns(),
        [drawn[query] for query in range(len(case.ingress_ns()))],
        batch_time=batch_time,
        incidents=[(time, fail) for time in range(case.ingress_ns()[0], last + 200_000, 97)],
    )
    ends = {int(str(answer.query.name)): answer.outcome.value for answer in run.answers}
    assert {query for query, outcome in ends.items() if outcome == "failed"} == odd
    try:
        stated = mp.replay(plan, case.trace) if is_timed else mp.certify(plan, case.trace)
    except mp.InputError:  # some stage cannot keep up with the trace: there is no certificate
        return
    for query in set(range(len(ends))) - run.void - odd:
        assert run.latency_ns[query] <= stated.latency_ns[query]


def test_replicas_send_what_they_serve_in_its_order_where_a_class_of_runs_asks_for_it() -> None:
    """A short batch behind a long one whose outputs go out one after another would send its own first."""
    stages = {"a": ([10.0] * 4, 1), "b": ([100.0], 4)}
    bare = small_plan(stages, {("a", "b"): {}})
    bare = replace(bare, pipeline=bare.pipeline.staggered({"a": 0.003}))
    plan = replace(bare, objective=replace(bare.objective, runs=mp.RunClass(), certificate="sharp"))
    trace = mp.Trace.from_ns([0, 0, 0, 0, 5 * MS, 11 * MS, 12 * MS])  # type: ignore[arg-type]
    bound = mp.certify(plan, trace).latency_ns.tolist()
    worst = [
        max(
            run.latency_ns[query] - most
            for query, most in enumerate(bound)
            for run in [
                rehearsed(
                    served,
                    trace,
                    lambda batch: (
                        1
                        if batch.stage == "a" and batch.oldest.query.number
                        else batch.due_ns - batch.dispatched_ns
                    ),
                )
            ]
        )
        for served in (plan, bare)
    ]
    assert worst[0] <= 0 < worst[1]
