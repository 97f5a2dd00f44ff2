"""The sharp certificate, both ways of finding it, against the theorem as written, and against what it must be."""

from __future__ import annotations

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns import campaign_size
from mipplan.calculus import StageArrivals, StageBounds, bound_stage
from mipplan.certificate import (
    CertificateEvaluator,
    SharpEvaluator,
    certify_sharply,
    plan_services,
    plan_settings,
)
from mipplan.core import Deadline, InputError, LimitReachedError
from mipplan.pipeline import DispatchLaw
from mipplan.replayer import replay
from mipplan.result import RunClass, Ties
from mipplan.tokens import realise
from mipplan.verification import certify
from oracle_sharp import SlowRuns, SlowStage, slow_certificate, slow_dispatches, slow_exits
from oracle_tokens import slow_tokens
from random_pipelines import Case, random_case, random_laws

WAYS = [pytest.param(False, id="numpy"), pytest.param(True, id="numba")]


def random_runs(rng: np.random.Generator) -> RunClass:
    """Draw a class of runs."""
    least_service = float(rng.choice([0.0, 0.5, 0.9, 1.0]))
    least_delay = float(rng.choice([1.0, 1.0, 0.5, least_service]))
    return RunClass(least_service, least_delay, Ties.SETTLED if rng.random() < 0.7 else Ties.ANY)


@st.composite
def stages(draw: st.DrawFn) -> SlowStage:
    """One stage, its arrivals in any order that token numbers allow, alone or in groups."""
    settled, is_source = draw(st.booleans()), draw(st.booleans())
    sizes = draw(st.lists(st.integers(1, 3 if settled else 1), min_size=1, max_size=5))
    earliest: list[int] = []
    latest: list[int] = []
    group: list[int] = []
    for number, size in enumerate(sizes):
        first = draw(st.integers(0, 12))
        earliest += [first] * size
        latest += [first + draw(st.sampled_from([0, 0, 1, 5]))] * size
        group += [number] * size
    known = st.none() | st.integers(0, 3) if settled else st.none()
    overtakers = draw(st.lists(known, min_size=len(group), max_size=len(group)))
    service = draw(st.lists(st.integers(1, 8), min_size=1, max_size=4))
    replicas, paced = draw(st.integers(1, 4)), draw(st.booleans())
    return SlowStage(earliest, latest, group, overtakers, service, replicas, is_source, settled, paced)


def bounds(stage: SlowStage, is_compiled: bool) -> StageBounds:
    """What the package finds for it."""
    overtakers = [-1 if most is None else most for most in stage.overtakers]
    given = (
        np.array(part, dtype=np.int64) for part in (stage.earliest, stage.latest, stage.group, overtakers)
    )
    return bound_stage(
        StageArrivals(*given),
        np.array(stage.service, dtype=np.int64),
        stage.replicas,
        stage.is_source,
        RunClass(ties=Ties.SETTLED if stage.settled else Ties.ANY),
        DispatchLaw.PACED if stage.paced else DispatchLaw.EAGER,
        is_compiled=is_compiled,
    )


@pytest.mark.parametrize("is_compiled", WAYS)
@given(stage=stages())
def test_a_stage_equals_the_theorem_as_written(is_compiled: bool, stage: SlowStage) -> None:
    found = bounds(stage, is_compiled)
    dispatch = slow_dispatches(stage)
    assert found.latest_dispatch_ns.tolist() == dispatch
    assert (found.latest_exit_ns.tolist(), found.largest_batch.tolist()) == slow_exits(stage, dispatch)


@given(stage=stages())
def test_tokens_bounded_few_at_a_time_get_the_same_bounds(stage: SlowStage) -> None:
    whole = bounds(stage, is_compiled=True)
    with patch("mipplan.calculus.interval_kernels._TOGETHER", 2):
        few = bounds(stage, is_compiled=True)
    for one, other in zip(vars(whole).values(), vars(few).values(), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("is_compiled", WAYS)
def test_the_clock_is_looked_at_while_a_stage_is_bounded(is_compiled: bool) -> None:
    """Thousands of tokens wait for one replica, and the time is over from the beginning."""
    arrivals_ns = 7 * np.arange(20_000, dtype=np.int64)
    given = StageArrivals(arrivals_ns, arrivals_ns, np.arange(20_000), np.zeros(20_000, dtype=np.int64))
    over = Deadline(0.0)
    with pytest.raises(LimitReachedError):
        bound_stage(given, np.array([5, 9]), 1, False, RunClass(), is_compiled=is_compiled, check=over.check)


def test_bounds_ask_for_the_time_before_each_part_of_what_a_pass_needs() -> None:
    """On millions of tokens each takes a good part of a second."""
    given = StageArrivals(
        *(np.array([0, 1]), np.array([3, 4]), np.array([0, 1])), overtakers=np.array([0, 1])
    )
    asked = []
    bound_stage(given, np.array([5]), 1, False, RunClass(), is_compiled=True, check=lambda: asked.append(1))
    passes = 2  # The first changes something, the second nothing.
    assert len(asked) >= 4 + passes


def parts(
    case: Case, laws: dict[str, str], seed: int, runs: RunClass, is_compiled: bool
) -> dict[str, list[list[int]]]:
    """All that the package says of the tokens of a pipeline."""
    workload = realise(case.pipeline, case.trace, seed)
    settings = plan_settings(case.plan(seed=seed, dispatch=laws))
    made = SharpEvaluator(workload, runs, is_compiled=is_compiled).bound(settings)
    return {
        stage: [
            part.tolist()
            for part in (
                bound.arrivals.earliest_ns,
                bound.arrivals.latest_ns,
                bound.arrivals.group,
                bound.arrivals.overtakers,
                bound.tokens.latest_dispatch_ns,
                bound.tokens.latest_exit_ns,
                bound.tokens.largest_batch,
                bound.tokens.earliest_exit_ns,
            )
        ]
        for stage, bound in made.items()
    }


def test_a_pipeline_equals_the_theorem_as_written() -> None:
    judged, number = 0, 0
    while judged < campaign_size(quick=40, deep=1_000):
        number += 1
        rng = np.random.default_rng([51, number])
        case = random_case(rng, max_stages=4, max_arrivals=10, scales_ns=(3, 10))
        tokens = slow_tokens(case.pipeline, len(case.trace), number)
        if sum(map(len, tokens.values())) > 40 or case.trace.span_ns > 100:
            continue  # the oracle tries every time and every set of batches
        judged += 1
        runs, laws = random_runs(rng), random_laws(rng, case) if number % 2 else {}
        slow = slow_certificate(
            tokens,
            case.ingress_ns(),
            case.service_ns(),
            case.replicas(),
            SlowRuns(runs.least_service, runs.least_delay, runs.is_settled),
            case.stagger_ns(),
            frozenset(stage for stage, law in laws.items() if law == "paced"),
        )
        expected = {
            stage: [
                list(own.earliest),
                list(own.latest),
                own.group,
                [-1 if most is None else most for most in own.overtakers],
                own.dispatch,
                own.exit,
                own.largest,
                own.earliest_exit,
            ]
            for stage, own in slow.items()
        }
        assert parts(case, laws, number, runs, False) == expected, f"case {number}"
        assert parts(case, laws, number, runs, True) == expected, f"case {number}"


@pytest.mark.parametrize("number", [2378, 5935, 8183, 9360])
def test_both_ways_are_equal_where_a_batch_that_others_begin_decides(number: int) -> None:
    """Four in ten thousand cases, which fewer would not hold: the batches of tokens that come while it waits."""
    case = random_case(np.random.default_rng([31, number]), max_arrivals=60)
    for laws in ({}, dict.fromkeys(case.pipeline.stages, DispatchLaw.PACED)):
        for runs in (RunClass(0.9), RunClass(0.9, 0.7)):
            assert parts(case, laws, number, runs, False) == parts(case, laws, number, runs, True)


def test_both_ways_are_equal_and_between_replay_and_the_classic_certificate() -> None:
    for number in range(campaign_size(quick=75, deep=5_000)):
        rng = np.random.default_rng([52, number])
        case = random_case(rng)
        runs, laws = random_runs(rng), random_laws(rng, case) if number % 2 else {}
        assert parts(case, laws, number, runs, False) == parts(case, laws, number, runs, True), (
            f"case {number}"
        )
        plan = case.plan(seed=number, dispatch=laws)
        certificate = certify(plan, case.trace, certificate="sharp", runs=runs)
        assert np.all(replay(plan, case.trace).latency_ns <= certificate.latency_ns), f"case {number}"
        if runs.is_settled:
            workload = realise(case.pipeline, case.trace, number)
            classic = CertificateEvaluator(workload).exits_ns(plan_services(plan))
            sharp = SharpEvaluator(workload, runs).bound(plan_settings(plan))
            for stage, exits in classic.items():
                assert np.all(sharp[stage].tokens.latest_exit_ns <= exits), f"case {number}"


def latest_exits_of_all_runs(arrival: list[int], service: list[int]) -> list[int]:
    """One replica: when each token can leave at the latest, by all whole service times of all batches."""
    tokens, latest = len(arrival), [0] * len(arrival)
    reached = {(0, arrival[0])}  # The first token that waits, and the instant of the dispatch that takes it.
    open_ = list(reached)
    while open_:
        first, start = open_.pop()
        size = min(len(service), sum(time <= start for time in arrival[first:]))
        for took in range(1, service[size - 1] + 1):
            for token in range(first, first + size):
                latest[token] = max(latest[token], start + took)
            if first + size < tokens:
                state = (first + size, max(start + took, arrival[first + size]))
                if state not in reached:
                    reached.add(state)
                    open_.append(state)
    return latest


@given(st.data())
def test_exact_at_sources_with_one_replica(data: st.DataObject) -> None:
    """Where larger batches take longer, some run comes as late as any can, but for the ns between batch and query."""
    arrival = sorted(data.draw(st.lists(st.integers(0, 40).map(lambda t: 10 * t), min_size=1, max_size=7)))
    service = sorted(data.draw(st.lists(st.integers(1, 9).map(lambda t: 10 * t), min_size=1, max_size=4)))
    times = np.array(arrival, dtype=np.int64)
    group = np.cumsum(np.diff(times, prepend=times[0]) > 0)
    given = StageArrivals(times, times, group, np.zeros(times.size, dtype=np.int64))
    bound = bound_stage(given, np.array(service), 1, True, RunClass()).latest_exit_ns
    reached = np.array(latest_exits_of_all_runs(arrival, service))
    assert np.all(reached <= bound)
    assert np.all(bound - reached <= len(arrival))


def test_critical_path_adds_up() -> None:
    for number in range(100):
        rng = np.random.default_rng([53, number])
        case = random_case(rng)
        plan = case.plan(quantile=0.9, seed=number)
        certificate = certify_sharply(
            realise(case.pipeline, case.trace, number), plan_settings(plan), plan.quantile, random_runs(rng)
        )
        path = certificate.critical_path
        assert sum(step.latency_ns + step.wait_ns + step.delay_ns for step in path) == certificate.bound_ns
        assert all(step.latency_ns > 0 and step.wait_ns >= 0 for step in path)
        assert case.pipeline.incoming(path[0].stage) == ()


def test_a_narrower_class_of_runs_is_never_bounded_higher() -> None:
    for number in range(100):
        rng = np.random.default_rng([54, number])
        case = random_case(rng)
        plan = case.plan(seed=number)
        wide = RunClass(float(rng.choice([0.0, 0.5])), float(rng.choice([0.0, 0.5, 1.0])), Ties.ANY)
        changes = ({"least_service": 0.9}, {"least_delay": 1.0}, {"ties": Ties.SETTLED})
        widest = certify(plan, case.trace, certificate="sharp", runs=wide).latency_ns
        for change in changes:
            runs = replace(wide, **change)  # type: ignore[arg-type]
            assert np.all(certify(plan, case.trace, certificate="sharp", runs=runs).latency_ns <= widest)


def test_classes_of_runs_are_checked() -> None:
    with pytest.raises(InputError) as caught:
        RunClass(least_service=1.5, least_delay=-1.0, ties="sometimes")  # type: ignore[arg-type]
    assert [fault.place for fault in caught.value.faults] == [
        "runs.least_service",
        "runs.least_delay",
        "runs.ties",
    ]


def test_times_beyond_int64_are_refused() -> None:
    late = StageArrivals(*(np.full(2, 2**60) for _ in range(2)), np.arange(2), np.zeros(2, dtype=np.int64))
    with pytest.raises(InputError, match="century"):
        bound_stage(late, np.array([2**60]), 1, True, RunClass())
