"""Samples and critical chains: never above the truth, and at it where they were made."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest
from numpy.typing import NDArray

from campaigns import campaign_size
from mipplan.calculus import StageService
from mipplan.certificate import CertificateEvaluator
from mipplan.core import quantile_ns
from mipplan.pipeline import Pipeline
from mipplan.planner import CertificateOracle
from mipplan.planner.cuts import critical_chains
from mipplan.planner.oracle import CriticalSampleParams
from mipplan.tokens import Workload, realise
from mipplan.trace import Trace
from random_pipelines import Case, features, random_case

CASES = range(campaign_size(quick=75, deep=3_000))


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
        exits = CertificateEvaluator(workload).exits_ns(services)
        queries = np.arange(workload.queries)
        chains = critical_chains(workload, services, exits, queries)
        # The theorem rounds up by less than 1 ns per stage; the chains do not round.
        short = workload.latency_ns(exits) - chains.latency_ns(services)
        assert np.all(short >= 0)
        assert np.all(short < len(services) + 0.01)
        for _ in range(5):
            other = some_services(rng, case)
            truth = workload.latency_ns(CertificateEvaluator(workload).exits_ns(other))
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
        exits = CertificateEvaluator(workload).exits_ns(services)
        latency.append(critical_chains(workload, services, exits, queries).latency_ns(services))
    assert np.array_equal(*latency)


@pytest.mark.parametrize("quantile", [0.5, 0.9, 1.0])
def test_a_sample_is_never_above_the_truth(quantile: float) -> None:
    # On traces as short as these most samples would be the whole.
    params = CriticalSampleParams(loads=(0.9,), largest=1.0)
    smaller = 0
    for number in CASES[:: 3 if quantile != 0.9 else 1]:
        rng, case, workload = drawn(number)
        sample = CertificateOracle(workload, quantile, params=params)
        for _ in range(4):
            services = some_services(rng, case)
            latency_ns = workload.latency_ns(CertificateEvaluator(workload).exits_ns(services))
            truth = quantile_ns(latency_ns, quantile)
            floor_ns = sample.floor_ns(services)
            assert floor_ns <= truth
            assert not sample.surely_exceeds(services, truth)
            # The chains of those that miss a limit tell as much under the same services, but for rounding.
            bound_ns = sample.quick_bound(services, floor_ns - 1)
            assert floor_ns - len(services) - 1 <= int(bound_ns(services)) <= floor_ns
            smaller += np.count_nonzero(sample._kept) < workload.queries
            if rng.random() < 0.3:
                sample.learn(services, truth - 1)
                # What the whole trace refuses, the sample refuses from then on: waits of long ago are in it.
                assert sample.surely_exceeds(services, truth - 1)
                assert sample.floor_ns(services) == truth
    assert smaller > len(CASES) / 2, "few samples are smaller than the trace"


def test_of_equal_waits_the_first_are_kept() -> None:
    # Which of equal ones a partition puts first differs between processors; plans may not.
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="m")
    workload = realise(Pipeline(graph), Trace.from_ns(np.arange(1000) * 100))
    sample = CertificateOracle(workload, 0.99)
    assert np.count_nonzero(sample._kept) <= 16
    latency_ns = np.full(1000, 7)
    latency_ns[900:] = 8
    sample.learn_slowest(latency_ns, 7)
    kept = np.flatnonzero(sample._kept)
    assert kept.tolist() == [*range(15), *range(900, 915)]


def test_a_sample_reaches_back_to_where_a_long_busy_period_began() -> None:
    # A little more than the stage can do, for a long time: who waits longest waits for less time than it went on.
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="m")
    workload = realise(
        Pipeline(graph), Trace.from_ns(np.cumsum(np.repeat([1150, 700, 1150], [500, 1000, 1500])))
    )
    whole = CertificateEvaluator(workload)
    sample = CertificateOracle(workload, 0.99, params=CriticalSampleParams(loads=(0.9,)))
    assert np.count_nonzero(sample._kept) < workload.queries / 4
    services = {"a": StageService(1, 900, 1)}
    certificate_ns = quantile_ns(whole.latency_ns(services), 0.99)
    assert sample.floor_ns(services) >= 0.95 * certificate_ns


def test_a_sample_of_more_than_half_is_the_whole() -> None:
    for number in CASES[:40]:
        rng, case, workload = drawn(number)
        sample = CertificateOracle(workload, 0.9)
        assert (
            np.count_nonzero(sample._kept) == workload.queries
            or np.count_nonzero(sample._kept) <= workload.queries / 2
        )
        services = some_services(rng, case)
        certificate_ns = quantile_ns(
            workload.latency_ns(CertificateEvaluator(workload).exits_ns(services)), 0.9
        )
        if np.count_nonzero(sample._kept) == workload.queries:
            assert sample.floor_ns(services) == certificate_ns


def test_query_cuts_refuse_only_what_is_refused_and_what_they_were_made_from() -> None:
    said = struck = 0
    for number in CASES:
        rng, case, workload = drawn(number)
        oracle = CertificateOracle(workload, 0.9)
        order = list(case.pipeline.stages)
        services = some_services(rng, case)
        limit_ns = int(oracle.certificate_ns(services) * 0.8)
        cuts = oracle.query_cuts(services, limit_ns, order)
        assert cuts is not None
        refused = cuts.refuse(cuts.excess_ns(*numbers(services, order)))
        assert refused or not oracle.surely_exceeds(services, limit_ns + len(order) + 1)
        for _ in range(4):
            other = some_services(rng, case)
            latency, period = numbers(other, order)
            excess = cuts.excess_ns(latency, period)
            if cuts.refuse(excess):
                said += 1
                assert oracle.certificate_ns(other) > limit_ns
            # One stage gets slower by this or that: refused each for itself as all services together are.
            stage = int(rng.integers(len(order)))
            more = np.array([0.0, 3.0, 40.0]), np.array([0.0, 5.0, 30.0])
            each = cuts.refuse_each(excess, stage, *more)
            for option, found in enumerate(each.tolist()):
                slower = latency.copy(), period.copy()
                slower[0][stage] += more[0][option]
                slower[1][stage] += more[1][option]
                assert found == cuts.refuse(cuts.excess_ns(*slower))
                struck += found and option > 0
            # Many choices at once are refused as each by itself.
            many = [numbers(some_services(rng, case), order) for _ in range(5)]
            pieces = {"queries": 3, "products": 50}  # many choices are asked about in pieces
            latencies, periods = (np.array(values) for values in zip(*many, strict=True))
            together = cuts.refuse_many(latencies, periods, **pieces)
            assert together.tolist() == [cuts.refuse(cuts.excess_ns(*one)) for one in many]
            most = np.zeros(len(order)), np.zeros(len(order))
            most[0][stage], most[1][stage] = 40.0, 30.0
            assert (stage in cuts.refuse_some(excess, *most)) == each[-1]
    assert min(said, struck) > len(CASES) / 2


def numbers(
    services: dict[str, StageService], order: list[str]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    chosen = [services[stage] for stage in order]
    return np.array([s.latency_ns for s in chosen], float), np.array([s.period_ns / s.tokens for s in chosen])


def test_what_it_has_learnt_from_it_refuses() -> None:
    refused = 0
    for number in CASES:
        rng, case, workload = drawn(number)
        services = some_services(rng, case)
        oracle = CertificateOracle(workload, 0.9)
        limit_ns = oracle.certificate_ns(services) - 1
        assert oracle.exceeds(services, limit_ns)
        assert not oracle.exceeds(services, limit_ns + 1)
        refused += oracle.surely_exceeds(services, limit_ns)
    assert refused > 0.9 * len(CASES)


def test_quick_bounds_only_refuse_what_is_refused() -> None:
    said = 0
    for number in CASES:
        rng, case, workload = drawn(number)
        oracle = CertificateOracle(workload, 0.9)
        services = some_services(rng, case)
        limit_ns = int(oracle.certificate_ns(services) * 0.8)
        bound_ns = oracle.quick_bound(services, limit_ns)
        for _ in range(6):
            other = some_services(rng, case)
            assert bound_ns(other) <= oracle.certificate_ns(other)
            if bound_ns(other) > limit_ns:
                said += 1
                assert oracle.certificate_ns(other) > limit_ns
    assert said > len(CASES) / 2
