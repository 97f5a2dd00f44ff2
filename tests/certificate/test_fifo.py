"""The certificate of `fifo` queues: the theorem as written, and executions of the runs that it is stated for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any
from unittest.mock import patch

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns import Violations, campaign_size, write_summary
from mipplan.calculus import StageService
from mipplan.certificate import (
    NO_LIMIT,
    CertificateEvaluator,
    FifoEvaluator,
    classic,
    delay_slacks_ns,
    most_passing,
    plan_services,
)
from mipplan.core import InputError, Int64
from mipplan.pipeline import Edge, Join, Pipeline
from mipplan.replayer import replay
from mipplan.result import RunClass, Ties
from mipplan.tokens import Workload, realise
from mipplan.trace import Trace
from mipplan.verification import certify
from oracle_certificate import slow_services
from oracle_fifo import most_in_a_row, slow_along, slow_fifo_exits, slow_in_a_row, slow_overtakers
from oracle_replay import EventLoop
from oracle_tokens import slow_tokens
from random_pipelines import Case, random_case

#: Shares of ℓ(k) that batches take at least.
SHARES = (0.0, 0.5, 0.9, 1.0)


def bounds_of(case: Case, workload: Workload, runs: RunClass) -> dict[str, Int64]:
    """Bound on the exit of every token."""
    return dict(FifoEvaluator(workload, runs).exits_ns(plan_services(case.plan(seed=workload.seed), runs)))


@given(
    service=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    replicas=st.integers(1, 4),
    delay=st.integers(0, 12),
    share=st.sampled_from(SHARES),
    exact=st.booleans(),
)
def test_overtakers_are_counted_as_written(
    service: list[int], replicas: int, delay: int, share: float, exact: bool
) -> None:
    slack = 0 if exact else delay
    runs = RunClass(share, 1.0 if exact else 0.0)
    assert delay_slacks_ns([Edge("a", "b", delay_ns=delay)], runs) == (slack,)
    ((found,),) = most_passing(np.array(service), np.array([replicas]), [slack], runs).tolist()
    slow = slow_along(service, replicas, delay, Fraction(share), exact)
    assert found == (NO_LIMIT if slow == np.inf else 2 * slow + (slack > 0))


@given(least=st.lists(st.integers(1, 12), min_size=1, max_size=4), within=st.integers(1, 60))
def test_no_more_are_served_in_a_row_than_is_said(least: list[int], within: int) -> None:
    assert most_in_a_row(least, within) <= slow_in_a_row(least, within)


def check_as_written(case: Case, number: int, share: float, exact: bool) -> None:
    service, replicas = case.service_ns(), case.replicas()
    tokens, ingress = slow_tokens(case.pipeline, len(case.trace), number), case.ingress_ns()
    slow = slow_fifo_exits(
        tokens,
        ingress,
        *slow_services(service, replicas, case.pipeline.sources),
        slow_overtakers(case.pipeline, tokens, service, replicas, Fraction(share), exact, case.stagger_ns()),
        exact,
    )
    made = bounds_of(case, realise(case.pipeline, case.trace, number), RunClass(share, 1.0 if exact else 0.0))
    assert {stage: times.tolist() for stage, times in made.items()} == slow, f"case {number}"


def test_equals_the_theorem_as_written() -> None:
    for number in range(campaign_size(quick=150, deep=5_000)):
        rng = np.random.default_rng([31, number])
        case = random_case(rng, max_arrivals=30)
        check_as_written(case, number, float(rng.choice(SHARES)), bool(rng.integers(2)))


def test_merges_that_wait_for_everything_keep_the_order_of_their_edges() -> None:
    """Behind few replicas: there the number of those that overtake decides more than when they may arrive."""
    decided = 0
    for number in range(campaign_size(quick=1_500, deep=20_000)):
        rng = np.random.default_rng([37, number])
        case = random_case(rng, max_arrivals=30)
        merging = {
            stage
            for stage, about in case.pipeline.stages.items()
            if about.join is Join.ALL and len(case.pipeline.incoming(stage)) > 1
        }
        if not merging or max(case.replicas().values()) > 3:
            continue
        check_as_written(case, number, 1.0, True)
        decided += 1
    assert decided > 20


def test_a_sample_bounds_from_below() -> None:
    """Whatever queries are left out, and whatever the services: the bounds of the others are not above those of all."""
    equal = lower = 0
    for number in range(campaign_size(quick=220, deep=5_000)):
        rng = np.random.default_rng([36, number])
        case = random_case(rng)
        workload = realise(case.pipeline, case.trace, number)
        runs = RunClass(float(rng.choice(SHARES)), float(rng.choice([0.0, 0.5, 1.0])))
        services = plan_services(case.plan(seed=number), runs)
        kept = rng.random(workload.queries) < rng.choice([0.3, 0.8, 1.0])
        kept[int(rng.integers(workload.queries))] = True
        whole = FifoEvaluator(workload, runs)
        sample = FifoEvaluator(workload.restricted(kept), runs, whole).latency_ns(services)
        every = whole.latency_ns(services)[kept]
        assert (sample <= every).all(), f"case {number}"
        assert not kept.all() or np.array_equal(sample, every), f"case {number}"
        equal += bool((sample == every).all() and not kept.all())
        lower += bool((sample < every).any())
    assert min(equal, lower) > 20


def slow_start_by_counting(
    arrival: int, latest: list[int], others: list[int], earliest: list[int], ns_per_token: Fraction
) -> Fraction:
    """``max_{s ≤ arrival} ( s − N(s⁻)/R ) + (N_A(arrival) − 1)/R`` over the latest arrivals s.

    N counts those that have arrived before at the latest, and those left out that may have; N_A all that may have.
    """
    behind = sum(time <= arrival for time in earliest) - 1
    counted = latest + others
    return max(
        since + (behind - sum(time < since for time in counted)) * ns_per_token
        for since in latest
        if since <= arrival
    )


def test_what_is_left_out_of_a_sample_counts_from_after_its_earliest_arrival() -> None:
    """Two stages whose tokens arrive in ties, the first of which lets any number pass: the second as written."""
    decided = 0
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from("ab", model="m")
    graph.add_edge("a", "b", delay="2ns")
    for number in range(campaign_size(quick=60, deep=2_000)):
        rng = np.random.default_rng([38, number])
        trace = Trace.from_ns(np.sort(rng.integers(0, 30, 24) * 2))
        workload, runs, period = realise(Pipeline(graph), trace), RunClass(), int(rng.integers(3, 9))
        services = {
            "a": StageService(int(rng.integers(2, 12)), period, 2, (NO_LIMIT,)),
            "b": StageService(5, period, 2),
        }
        kept, slope = rng.random(24) < 0.6, Fraction(period, 2)
        kept[0] = True
        whole = FifoEvaluator(workload, runs)
        exits = FifoEvaluator(workload.restricted(kept), runs, whole).exits_ns(services)
        arrivals, earliest = (exits["a"] + 2).tolist(), (trace.arrival_ns + 2).tolist()
        numbers, others = np.flatnonzero(kept).tolist(), (trace.arrival_ns[~kept] + 2).tolist()
        for place, exit_ns in enumerate(exits["b"].tolist()):
            before = zip(arrivals[: place + 1], numbers, strict=False)
            in_order = max(time + (numbers[place] - other) * slope for time, other in before)
            counted = slow_start_by_counting(arrivals[place], arrivals, others, earliest, slope)
            assert exit_ns == 5 + math.ceil(max(counted, in_order)), f"case {number}"
            decided += math.ceil(counted) > math.ceil(in_order)
    assert decided > 50


def test_stages_that_stay_as_they_are_are_not_bounded_anew() -> None:
    case = random_case(np.random.default_rng([39, 1]))
    workload, runs = realise(case.pipeline, case.trace, 0), RunClass(0.9)
    services = plan_services(case.plan(), runs)
    evaluator = FifoEvaluator(workload, runs)
    latency_ns = evaluator.latency_ns(services)
    with patch.object(classic, "latest_start_ns") as asked:
        assert np.array_equal(evaluator.latency_ns(services), latency_ns)
    asked.assert_not_called()


def test_grows_with_latency_overtaking_and_falls_with_rate() -> None:
    """What the planner goes by: services that are no better in anything have no smaller certificate."""
    grown = Counter[str]()
    for number in range(campaign_size(quick=300, deep=5_000)):
        rng = np.random.default_rng([37, number])
        case = random_case(rng)
        workload = realise(case.pipeline, case.trace, number)
        runs = RunClass(float(rng.choice(SHARES)), float(rng.choice([0.0, 0.5, 1.0])))
        services = plan_services(case.plan(seed=number), runs)
        evaluator = FifoEvaluator(workload, runs)
        before = {stage: exits.copy() for stage, exits in evaluator.exits_ns(services).items()}
        changed = str(rng.choice([*services]))
        own, what = services[changed], str(rng.choice(["passing", "latency", "rate"]))
        if what == "passing":
            worse = replace(own, passing=tuple(p + int(rng.integers(0, 9)) for p in own.passing))
        elif what == "latency":
            worse = replace(own, latency_ns=own.latency_ns + int(rng.integers(1, 9)))
        else:
            worse = replace(own, period_ns=own.period_ns + int(rng.integers(1, 9)))
        after = evaluator.exits_ns({**services, changed: worse})
        assert all((after[stage] >= before[stage]).all() for stage in before), f"case {number}"
        grown[what] += any((after[stage] > before[stage]).any() for stage in before)
    assert min(grown[what] for what in ("passing", "latency", "rate")) > 10


def late_exits(
    case: Case, seed: int, runs: RunClass, bounds: Mapping[str, Int64], rng: np.random.Generator
) -> tuple[int, int]:
    """Exits of one run that come after their bounds, and such as come at them."""

    def service_takes(stated: int) -> int:
        least = max(1, int(np.ceil(runs.least_service * stated)))
        return (
            int(rng.choice([least, stated])) if rng.random() < 0.5 else int(rng.integers(least, stated + 1))
        )

    def delay_takes(stated: int) -> int:
        return int(rng.integers(runs.least_delay_ns(stated), stated + 1))

    loop = EventLoop(
        slow_tokens(case.pipeline, len(case.trace), seed),
        case.ingress_ns(),
        case.service_ns(),
        case.replicas(),
        "fifo",
        service_takes=service_takes,
        delay_takes=delay_takes,
    )
    seen = loop.run()
    late = attained = 0
    for stage, bound in bounds.items():
        exits = np.array([seen.exit[stage][token] for token in range(bound.size)], dtype=np.int64)
        late += int(np.sum(exits > bound))
        attained += int(np.sum(exits == bound))
    return late, attained


def test_no_fifo_run_exceeds_its_bound() -> None:
    """Random pipelines, services from the least share on, delays exact or not, by the event loop."""
    violations = Violations()
    seen: Counter[str] = Counter()
    for number in range(campaign_size(quick=300, deep=200_000)):
        with violations.case(number):
            rng = np.random.default_rng([32, number])
            case = random_case(rng, max_arrivals=25)
            workload = realise(case.pipeline, case.trace, number)
            runs = RunClass(float(rng.choice(SHARES)), float(rng.choice([0.0, 0.5, 1.0])))
            bounds = bounds_of(case, workload, runs)
            classic = CertificateEvaluator(workload).exits_ns(plan_services(case.plan(seed=number)))
            assert all((bounds[stage] >= classic[stage]).all() for stage in bounds)
            late, attained = late_exits(case, number, runs, bounds, rng)
            seen["runs"] += 1
            seen["bounds"] += sum(bound.size for bound in bounds.values())
            seen["attained"] += attained
            seen[f"least service {runs.least_service}"] += 1
            seen[f"least delay {runs.least_delay}"] += 1
            assert late == 0, f"case {number}: {late} exits after their bounds"
    assert seen["attained"] > seen["runs"]
    summary: dict[str, Any] = {"cases": seen["runs"], **dict(sorted(seen.items()))}
    write_summary("fifo", {**summary, "violations": violations.checked()})


def test_harness_catches_bounds_that_know_of_no_overtaking() -> None:
    """The bounds for oldest-first queues are none here: the campaign's own runs break them."""
    caught = 0
    for number in range(400):
        rng = np.random.default_rng([33, number])
        case = random_case(rng, max_arrivals=25)
        workload = realise(case.pipeline, case.trace, number)
        classic = CertificateEvaluator(workload).exits_ns(plan_services(case.plan(seed=number)))
        late, _ = late_exits(case, number, RunClass(0.5), classic, rng)
        caught += late > 0
    assert caught > 0


def test_single_replicas_with_exact_delays_keep_the_order() -> None:
    """Then `fifo` is oldest first, and costs nothing: even if batches may take no time, each ends before the next."""
    chains = 0
    for number in range(120):
        case = random_case(np.random.default_rng([34, number]))
        if any(len(case.pipeline.incoming(stage)) > 1 for stage in case.pipeline.stages):
            continue
        chains += 1
        alone = case._replace(choices={stage: (h, b, 1) for stage, (h, b, _) in case.choices.items()})
        workload = realise(alone.pipeline, alone.trace, number)
        classic = CertificateEvaluator(workload).exits_ns(plan_services(alone.plan(seed=number)))
        bounds = bounds_of(alone, workload, RunClass(0.0))
        assert all(np.array_equal(bounds[stage], classic[stage]) for stage in bounds)
    assert chains > 10


def test_certify_bounds_fifo_queues() -> None:
    """The public way: no replay is above it, its class of runs is stated, and what it does not cover is refused."""
    for number in range(campaign_size(60, 2_000)):
        case = random_case(np.random.default_rng([35, number]))
        plan = case.plan(seed=number)
        found = certify(plan, case.trace, discipline="fifo", runs=RunClass(0.9))
        replayed = replay(plan, case.trace, discipline="fifo")
        assert (replayed.latency_ns <= found.latency_ns).all()
        paced = certify(plan, case.trace, discipline="fifo", dispatch="paced", runs=RunClass(0.9))
        seen = replay(plan, case.trace, discipline="fifo", dispatch="paced")
        assert (seen.latency_ns <= paced.latency_ns).all()
        assert (found.latency_ns >= certify(plan, case.trace).latency_ns).all()
        assert found.runs == RunClass(0.9)
        wide = certify(plan, case.trace, discipline="fifo")
        assert (wide.latency_ns >= found.latency_ns).all()
    with pytest.raises(InputError, match="oldest first"):
        certify(plan, case.trace, discipline="fifo", certificate="sharp")
    with pytest.raises(InputError, match="settled"):
        certify(plan, case.trace, discipline="fifo", runs=RunClass(0.9, ties=Ties.ANY))
