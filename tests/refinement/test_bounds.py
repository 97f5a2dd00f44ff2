"""Conditions refute no plan that replays within the objective: each is held to replays of every plan."""

from __future__ import annotations

import itertools
import time
from collections import Counter

import numpy as np
import pytest

import mipplan as mp
from campaigns import campaign_size
from mipplan.core import Deadline, LimitReachedError
from mipplan.refinement.bounds import (
    CAPACITY,
    PATH_SERVICE,
    LeastTimes,
    count_turned_away,
    find_needed_capacity,
    most_within_by_search,
    most_within_by_walk,
    narrow,
)
from mipplan.refinement.problem import Domains, RefinementProblem, state_problem
from mipplan.result import Objective
from mipplan.tokens import realise
from oracle_refinement import Choices
from refinement_instances import RefinementInstance, refinement_instance


def problem_of(instance: RefinementInstance) -> RefinementProblem:
    """The search problem of an instance."""
    workload = realise(instance.pipeline, instance.trace, instance.seed)
    return state_problem(instance.pipeline, instance.profiles, workload, instance.slo_ns, instance.quantile)


def contains(domains: Domains, choices: Choices) -> bool:
    """Whether a plan is made of what is left in the domains."""
    return all(
        any(
            (span.family.hardware, span.family.batch) == choices[stage][:2]
            and span.fewest <= choices[stage][2] <= span.most
            for span in domain
        )
        for stage, domain in domains.items()
    )


def test_option_set_is_that_of_the_oracle() -> None:
    for number in range(20):
        instance = refinement_instance(number)
        problem = problem_of(instance)
        for plan in instance.plans:
            tokens = {stage: max(1, seen.count) for stage, seen in problem.workload.stages.items()}
            useful = all(plan.choices[stage][2] <= most for stage, most in tokens.items())
            assert contains(problem.domains, plan.choices) == useful


def test_no_good_plan_is_excluded() -> None:
    """With and without a budget; and each condition does exclude something."""
    refuted: Counter[str] = Counter()
    for number in range(campaign_size(115, 4_000)):
        instance = refinement_instance(number)
        problem = problem_of(instance)
        within = [p for p in instance.good if contains(problem.domains, p.choices)]
        narrowed = narrow(problem)
        refuted += narrowed.refuted
        assert narrowed.blocked is None or not within
        assert all(contains(narrowed.problem.domains, plan.choices) for plan in within), number
        for budget in {plan.cost for plan in within[:3]}:
            cheaper = [plan for plan in within if plan.cost < budget]
            narrowed = narrow(problem, budget)
            assert narrowed.blocked is None or not cheaper
            assert all(contains(narrowed.problem.domains, plan.choices) for plan in cheaper), number
    assert refuted[CAPACITY] > 100
    assert refuted[PATH_SERVICE] > 100


def test_least_times_bound_every_replay() -> None:
    for number in range(campaign_size(20, 500)):
        instance = refinement_instance(number)
        times = LeastTimes(problem_of(instance))
        for plan in instance.plans[:: max(1, len(instance.plans) // 20)]:
            made = mp.Plan.from_choices(
                instance.pipeline, instance.profiles, plan.choices, slo_s=1.0, seed=instance.seed
            )
            result = mp.replay(made, instance.trace, discipline=instance.discipline)
            late = set(np.flatnonzero(result.latency_ns > instance.slo_ns).tolist())
            for stage, seen in result.stages.items():
                assert np.all(times.arrival_ns[stage] <= seen.arrival_ns)
                assert set(times.late_queries(stage, seen.exit_ns).tolist()) <= late


def test_least_times_are_not_worked_out_after_the_deadline() -> None:
    with pytest.raises(LimitReachedError):
        LeastTimes(problem_of(refinement_instance(0)), Deadline(time.monotonic()))


def test_most_tokens_in_a_window_are_counted_alike_by_search_by_walk_and_one_by_one() -> None:
    random = np.random.default_rng(12)
    for _ in range(campaign_size(300, 20_000)):
        ingress_ns = np.sort(random.integers(0, random.integers(1, 60), random.integers(1, 30)))
        length_ns = int(random.integers(0, 70))
        expected = max(
            np.count_nonzero((ingress_ns >= t) & (ingress_ns <= t + length_ns)) for t in ingress_ns
        )
        assert most_within_by_search(ingress_ns, length_ns) == expected
        assert most_within_by_walk(ingress_ns, length_ns) == expected


def test_late_queries_are_counted_once_each() -> None:
    counts = Counter[bool]()
    for number in range(40):
        times = LeastTimes(problem_of(refinement_instance(number)))
        for stage, due_ns in times.due_ns.items():
            exit_ns = due_ns + np.random.default_rng(number).choice([-1, 0, 1], due_ns.size)
            late = times.late_queries(stage, exit_ns)
            assert times.count_late(stage, exit_ns) == len(set(late.tolist()))
            counts[late.size > times.count_late(stage, exit_ns)] += 1
    assert min(counts.values()) > 5, counts


def test_last_stage_of_a_chain_is_late_exactly_when_its_query_is() -> None:
    instance = next(
        found
        for found in map(refinement_instance, range(100))
        if len(found.pipeline.stages) == 1 and found.good and len(found.good) < len(found.plans)
    )
    times = LeastTimes(problem_of(instance))
    (stage,) = instance.pipeline.stages
    for plan in instance.plans:
        made = mp.Plan.from_choices(instance.pipeline, instance.profiles, plan.choices, slo_s=1.0)
        result = mp.replay(made, instance.trace, discipline=instance.discipline)
        late = np.flatnonzero(result.latency_ns > instance.slo_ns)
        assert np.array_equal(times.late_queries(stage, result.stages[stage].exit_ns), late)


@pytest.mark.parametrize("seed", range(campaign_size(60, 2_000)))
def test_turned_away_are_as_few_as_can_be(seed: int) -> None:
    """Against every set of jobs, each run by earliest due time with interruptions."""
    rng = np.random.default_rng(seed)
    gaps = rng.integers(0, 6, 8)
    window, work = int(rng.integers(1, 12)), int(rng.integers(1, 8))
    release = np.cumsum(gaps)
    kept = next(
        size
        for size in range(8, -1, -1)
        if any(on_time(release[list(jobs)], window, work) for jobs in itertools.combinations(range(8), size))
    )
    assert count_turned_away(gaps.tolist(), window, work, 100) == 8 - kept
    assert count_turned_away(gaps.tolist(), window, work, 0) == min(1, 8 - kept)


def on_time(release: np.ndarray, window: int, work: int) -> bool:
    """Whether jobs that are due in the order of their release can all be done in time on one machine."""
    free = 0
    for start in release.tolist():
        free = max(free, start) + work
        if free > start + window:
            return False
    return True


def test_capacity_by_hand() -> None:
    """Ten queries at once, 100 ns, batches of up to 2 in 40 ns: two fit one after the other, so 3 replicas it is."""
    pipeline = mp.Pipeline.from_document({"name": "one", "stages": {"s": {"model": "m"}}, "edges": []})
    table = mp.profiles.LatencyTable("m", "h", np.array([1, 2]), np.array([40e-6, 40e-6]))
    profiles = mp.Profiles.from_parts([mp.profiles.Hardware("h", 1.0)], [table])
    trace = mp.Trace.from_ns(np.zeros(10, dtype=np.int64))
    workload = realise(pipeline, trace)
    problem = state_problem(pipeline, profiles, workload, 100, 1.0)
    times = LeastTimes(problem)
    needed = find_needed_capacity(times, "s")
    assert needed is not None
    # Fluid: 10 tokens of 20 ns in 100 ns need 2 replicas. (That the second batch of a pair ends at 80 is for replay.)
    assert needed.fewest_replicas(np.array([40, 40])) == 2
    assert needed.fewest_replicas(np.array([101, 101])) is None
    assert set(needed.crowds.tolist()) == {10}
    start = mp.Plan(pipeline, profiles, Objective(100, 1.0))
    best = mp.refine(start, trace)
    assert (best.status, best.choices["s"].replicas) == ("optimal", 3)


def test_a_batch_is_no_larger_than_the_crowd() -> None:
    """Steady arrivals 10 ns apart: what is left of the window beside a batch bounds the tokens it serves on time."""
    pipeline = mp.Pipeline.from_document({"name": "one", "stages": {"s": {"model": "m"}}, "edges": []})
    table = mp.profiles.LatencyTable("m", "h", np.array([1, 64]), np.array([60e-6, 60e-6]))
    profiles = mp.Profiles.from_parts([mp.profiles.Hardware("h", 1.0)], [table])
    trace = mp.Trace.from_ns(np.arange(200) * 10)
    workload = realise(pipeline, trace)
    problem = state_problem(pipeline, profiles, workload, 80, 1.0)
    times = LeastTimes(problem)
    needed = find_needed_capacity(times, "s")
    assert needed is not None
    # 80 - 60 = 20 ns hold 3 tokens: 60/3 = 20 ns each, one every 10 ns, so 2 replicas; 64 a batch would ask for 1.
    assert needed.fewest_replicas(np.full(64, 60)) == 2
