"""Extracts and critical chains: never above the truth, and at it where they were made."""

from __future__ import annotations

import numpy as np
import pytest

from campaigns import campaign_size
from mipplan.certificate import bound_exits_ns
from mipplan.curves import StageService, analyse_paths
from mipplan.planner.chains import critical_chains
from mipplan.planner.extract import Extract
from mipplan.planner.judges import TraceJudge
from mipplan.quantiles import quantile_ns
from mipplan.tokens import Workload, realise
from mipplan.trace import Trace
from random_pipelines import Case, features, random_case

CASES = range(campaign_size(quick=150, deep=3_000))


def some_services(rng: np.random.Generator, case: Case) -> dict[str, StageService]:
    """Any T and R: the theorem's recursion does not ask where they come from."""
    return {
        stage: StageService(
            int(rng.integers(1, 60)),
            int(rng.integers(0, 60)) * int(rng.integers(1, 9)),
            int(rng.integers(1, 9)),
        )
        for stage in case.pipeline.stages
    }


def drawn(number: int) -> tuple[np.random.Generator, Case, Workload]:
    rng = np.random.default_rng([77, number])
    case = random_case(rng, max_arrivals=120)
    return rng, case, realise(case.pipeline, case.trace, number)


def test_chains_attain_the_bound_where_they_were_made_and_stay_below_it_elsewhere() -> None:
    seen: set[str] = set()
    for number in CASES:
        rng, case, workload = drawn(number)
        seen |= features(case, workload)
        services = some_services(rng, case)
        exits = bound_exits_ns(workload, services)
        queries = np.arange(workload.queries)
        chains = critical_chains(workload, services, exits, queries)
        # The theorem rounds up by less than 1 ns per stage; the chains do not round.
        short = workload.latency_ns(exits) - chains.latency_ns(services)
        assert np.all(short >= 0)
        assert np.all(short < len(services) + 0.01)
        for _ in range(5):
            other = some_services(rng, case)
            truth = workload.latency_ns(bound_exits_ns(workload, other))
            assert np.all(chains.latency_ns(other) <= truth), f"case {number}"
    assert {"join all", "join each", "skip", "fan-out above 1", "branch", "several sources"} <= seen


def test_chains_are_exact_far_from_time_zero() -> None:
    case = random_case(np.random.default_rng(3))
    late = case._replace(trace=Trace.from_ns(case.trace.arrival_ns + 300_000_000_000_000_000))
    services = some_services(np.random.default_rng(4), case)
    latency = []
    for each in (case, late):
        workload = realise(each.pipeline, each.trace, 0)
        queries = np.arange(workload.queries)
        exits = bound_exits_ns(workload, services)
        latency.append(critical_chains(workload, services, exits, queries).latency_ns(services))
    assert np.array_equal(*latency)


@pytest.mark.parametrize("quantile", [0.5, 0.9, 1.0])
def test_an_extract_is_never_above_the_truth(quantile: float) -> None:
    smaller = 0
    for number in CASES[:: 3 if quantile != 0.9 else 1]:
        rng, case, workload = drawn(number)
        extract = Extract(workload, quantile)
        for _ in range(4):
            services = some_services(rng, case)
            latency_ns = workload.latency_ns(bound_exits_ns(workload, services))
            truth = quantile_ns(latency_ns, quantile)
            assert extract.floor_ns(services) <= truth
            assert not extract.exceeds(services, truth)
            misses = extract.misses(services, truth - 1)
            assert misses.floor_ns(services) <= truth
            assert extract.paths.bound_ns(services) <= analyse_paths(workload, quantile).bound_ns(services)
            extract.learn(latency_ns, truth)
            smaller += extract.queries < workload.queries
    assert smaller > 20, "hardly any extract is smaller than the trace"


def test_what_it_has_learnt_from_it_refuses() -> None:
    refused = 0
    for number in CASES:
        rng, case, workload = drawn(number)
        services = some_services(rng, case)
        judge = TraceJudge(workload, 0.9)
        limit_ns = judge.certificate_ns(services) - 1
        assert judge.exceeds(services, limit_ns)
        assert not judge.exceeds(services, limit_ns + 1)
        refused += judge.surely_exceeds(services, limit_ns)
    assert refused > 0.9 * len(CASES)


def test_quick_tests_only_refuse_what_is_refused() -> None:
    said = 0
    for number in CASES:
        rng, case, workload = drawn(number)
        judge = TraceJudge(workload, 0.9)
        services = some_services(rng, case)
        limit_ns = int(judge.certificate_ns(services) * 0.8)
        test = judge.quick_test(services, limit_ns)
        for _ in range(6):
            other = some_services(rng, case)
            assert test.floor_ns(other) <= judge.certificate_ns(other)
            if test.surely_exceeds(other):
                said += 1
                assert judge.certificate_ns(other) > limit_ns
    assert said > len(CASES) / 2
