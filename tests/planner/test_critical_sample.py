"""Which queries a sample holds: those that the rules name, found here one token after the other."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import networkx as nx
import numpy as np

import mipplan as mp
from benchmarks.planning.instances import make_pipeline, make_profiles, make_trace, objective_s
from campaigns import campaign_size
from mipplan.calculus import StageService
from mipplan.certificate import CertificateEvaluator, FifoEvaluator, classic
from mipplan.core import UNLIMITED_NS, Int64, find_largest, higher_rank
from mipplan.pipeline import Pipeline
from mipplan.planner import CertificateOracle
from mipplan.planner import oracle as oracle_module
from mipplan.planner.cuts import waited_for_queries
from mipplan.planner.oracle import CriticalSampleParams, FifoOracle
from mipplan.result import RunClass
from mipplan.tokens import Workload, realise
from mipplan.trace import Trace
from random_pipelines import random_case

CASES = range(campaign_size(quick=80, deep=2_000))


def greatest(values: Sequence[float], count: int) -> list[int]:
    """Places of the greatest values; of equal ones, the first."""
    return sorted(sorted(range(len(values)), key=lambda i: (-values[i], i))[:count])


class SlowSample:
    """The rules as their docstrings say them."""

    #: What bounds latencies where queues are served by arrival; None for the oldest first.
    by_arrival: FifoEvaluator | None = None

    def __init__(
        self, workload: Workload, quantile: float, horizon_ns: int, params: CriticalSampleParams
    ) -> None:
        self.workload, self.params, self.horizon_ns = workload, params, horizon_ns
        self.allowed = workload.queries - 1 - higher_rank(quantile, workload.queries)
        self.kept: set[int] = set()
        seen: list[list[int]] = []
        for tokens in workload.stages.values():
            query = tokens.query.tolist()
            if query and query not in seen:
                seen.append(query)
                arrival_ns = [int(workload.ingress_ns[q]) for q in query]
                self.keep({query[i] for load in params.loads for i in self.longest_waits(arrival_ns, load)})

    def watched(self, count: int) -> int:
        """How many of so many values are watched."""
        return math.ceil(self.params.watched * (self.allowed + 1) / self.workload.queries * count)

    def longest_waits(self, arrival_ns: list[int], load: float) -> set[int]:
        count = len(arrival_ns)
        since_ns = [float(time - arrival_ns[0]) for time in arrival_ns]
        ahead_ns = [since - i * (load * self.workload.span_ns / count) for i, since in enumerate(since_ns)]
        wait_ns = [max(ahead_ns[: i + 1]) - ahead for i, ahead in enumerate(ahead_ns)]
        marked = set()
        for i in greatest(wait_ns, self.watched(count)):
            start = ahead_ns.index(max(ahead_ns[: i + 1]))
            back_ns = min(self.params.look_back * wait_ns[i], self.horizon_ns)
            first = next(j for j, since in enumerate(since_ns) if since >= since_ns[i] - back_ns)
            marked |= {start, *range(max(start, first), i + 1)}
        return marked

    def learn(self, services: dict[str, StageService], limit_ns: int) -> None:
        exits = CertificateEvaluator(self.workload).exits_ns(services)
        latency_ns = self.workload.latency_ns(exits).tolist()
        self.learn_slowest(latency_ns, limit_ns)
        slow = greatest(latency_ns, self.watched(len(latency_ns)))
        self.keep(set(waited_for_queries(self.workload, services, exits, np.array(slow)).tolist()))

    def learn_slowest(self, latency_ns: list[int], limit_ns: int) -> None:
        ingress_ns = self.workload.ingress_ns.tolist()
        for q in greatest(latency_ns, self.watched(len(latency_ns))):
            apart_ns = min(latency_ns[q], limit_ns)
            self.keep({i for i in range(q + 1) if ingress_ns[i] >= ingress_ns[q] - apart_ns})
            if self.by_arrival is not None:
                later = range(q, len(ingress_ns))
                self.keep({i for i in later if ingress_ns[i] <= ingress_ns[q] + apart_ns})

    def keep(self, queries: set[int]) -> None:
        if queries <= self.kept:
            return
        self.kept |= queries
        if len(self.kept) / self.workload.queries > self.params.largest:
            self.kept = set(range(self.workload.queries))


def test_a_sample_holds_what_the_rules_name() -> None:
    sizes = []
    for number in CASES:
        rng = np.random.default_rng([41, number])
        case = random_case(rng, max_arrivals=80)
        workload = realise(case.pipeline, case.trace, number)
        params = CriticalSampleParams(
            loads=tuple(rng.choice([0.4, 0.65, 0.9, 1.1], int(rng.integers(1, 3)), replace=False).tolist()),
            watched=float(rng.choice([0.4, 1.0, 1.5, 2.0])),
            look_back=float(rng.choice([0.25, 1.0, 2.0])),
            largest=float(rng.choice([0.5, 0.75, 1.0])),
        )
        quantile = float(rng.choice([0.5, 0.9, 0.95, 1.0]))
        horizon_ns = int(rng.choice([5, 200, UNLIMITED_NS]))
        oracle = CertificateOracle(workload, quantile, horizon_ns, params)
        slow = SlowSample(workload, quantile, horizon_ns, params)
        assert set(np.flatnonzero(oracle._kept).tolist()) == slow.kept, f"case {number}"
        for _ in range(2):
            services = {
                stage: StageService(
                    int(rng.integers(1, 60)), int(rng.integers(0, 200)), int(rng.integers(1, 9))
                )
                for stage in case.pipeline.stages
            }
            limit_ns = int(rng.integers(1, 300))
            oracle.learn(services, limit_ns)
            slow.learn(services, limit_ns)
            assert set(np.flatnonzero(oracle._kept).tolist()) == slow.kept, f"case {number}"
            sizes.append(len(slow.kept) / workload.queries)
    assert sum(size < 1 for size in sizes) > len(sizes) / 4


def test_a_sample_by_arrival_holds_those_that_may_be_ahead_as_well() -> None:
    """What keeps the limit with the oldest first is judged by arrival, and then nobody knows who was waited for."""
    sizes, learnt, params = list[float](), Counter[bool](), CriticalSampleParams()
    for number in CASES:
        rng = np.random.default_rng([43, number])
        case = random_case(rng, max_arrivals=250)
        workload, runs = realise(case.pipeline, case.trace, number), RunClass(0.5)
        horizon_ns = int(rng.choice([5, UNLIMITED_NS]))
        oracle = FifoOracle(workload, 0.98, runs, horizon_ns)
        slow = SlowSample(workload, 0.98, horizon_ns, params)
        assert set(np.flatnonzero(oracle._kept).tolist()) == slow.kept
        slow.by_arrival = FifoEvaluator(workload, runs)
        for _ in range(3):
            services = {
                stage: StageService(
                    int(rng.integers(1, 60)),
                    int(rng.integers(0, 90)),
                    int(rng.integers(1, 9)),
                    # As many as there may be different delays behind a stage.
                    (int(rng.integers(0, 7)),) * 9,
                )
                for stage in case.pipeline.stages
            }
            limit_ns = int(rng.choice([50, 300, 5_000]))
            oldest_ns = workload.latency_ns(CertificateEvaluator(workload).exits_ns(services))
            refused = np.count_nonzero(oldest_ns > limit_ns) > slow.allowed
            if refused:
                slow.learn(services, limit_ns)
            else:
                slow.learn_slowest(slow.by_arrival.latency_ns(services).tolist(), limit_ns)
            oracle.learn(services, limit_ns)
            assert set(np.flatnonzero(oracle._kept).tolist()) == slow.kept, f"case {number}"
            learnt[refused] += 1
            sizes.append(len(slow.kept) / workload.queries)
    assert min(learnt.values()) > len(CASES) / 2
    assert sum(size < 1 for size in sizes) > len(sizes) / 4


def one_stage(arrival_ns: list[int]) -> Workload:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="m")
    return realise(Pipeline(graph), Trace.from_ns(arrival_ns))


def test_half_of_the_queries_are_a_sample_and_more_are_the_whole() -> None:
    calm = [1000 * i for i in range(10)]
    params = CriticalSampleParams(watched=0.01, largest=0.5)
    for slowest, kept in (([6, 7, 8, 9], 5), ([5, 6, 7, 8, 9], 10)):
        oracle = CertificateOracle(one_stage(calm), 1.0, params=params)
        assert np.flatnonzero(oracle._kept).tolist() == [0]
        for query in slowest:
            latency_ns = np.zeros(10, dtype=np.int64)
            latency_ns[query] = 1
            oracle.learn_slowest(latency_ns, 1)
        assert np.count_nonzero(oracle._kept) == kept


def test_a_quick_bound_needs_more_late_queries_than_may_miss() -> None:
    """Ten at once, served one by one every 10 ns: of ten queries four may miss the objective."""
    oracle = CertificateOracle(one_stage([0] * 10), 0.5, params=CriticalSampleParams(largest=0.0))
    assert 9 - higher_rank(0.5, 10) == 4
    services = {"a": StageService(10, 10, 1)}
    assert oracle.certificate_ns(services) == 60
    for limit_ns in (99, 60):
        assert oracle.quick_bound(services, limit_ns)(services) == 0.0
        assert not oracle.surely_exceeds(services, limit_ns)
    assert oracle.surely_exceeds(services, 59)
    for limit_ns in (59, 49):
        bound_ns = oracle.quick_bound(services, limit_ns)
        assert 59.9 < bound_ns(services) <= 60
        # Twice as fast: half the wait.
        assert 34.9 < bound_ns({"a": StageService(10, 5, 1)}) <= 35


def test_a_floor_needs_more_queries_than_may_miss() -> None:
    calm = [1000 * i for i in range(10)]
    params = CriticalSampleParams(watched=0.01, largest=1.0)
    oracle = CertificateOracle(one_stage(calm), 0.8, params=params)
    services = {"a": StageService(10, 10, 1)}
    assert np.flatnonzero(oracle._kept).tolist() == [0]
    floors = []
    for query in range(1, 4):
        floors.append(oracle.floor_ns(services))
        latency_ns = np.zeros(10, dtype=np.int64)
        latency_ns[query] = 1
        oracle.learn_slowest(latency_ns, 1)
    # One of the ten may miss the objective.
    assert 9 - higher_rank(0.8, 10) == 1
    assert floors == [0, 10, 10]


def test_a_sample_learns_from_what_the_whole_trace_refuses_and_from_nothing_else() -> None:
    learnt = 0
    for number in CASES:
        rng = np.random.default_rng([42, number])
        case = random_case(rng, max_arrivals=80)
        workload = realise(case.pipeline, case.trace, number)
        oracle = CertificateOracle(
            workload, 0.9, params=CriticalSampleParams(loads=(0.3,), watched=1.0, largest=1.0)
        )
        services = {stage: StageService(5, int(rng.integers(1, 90)), 2) for stage in case.pipeline.stages}
        certificate_ns = oracle.certificate_ns(services)
        kept = oracle._kept.copy()
        assert not oracle.exceeds(services, certificate_ns)
        assert np.array_equal(oracle._kept, kept)
        was_known = oracle.surely_exceeds(services, certificate_ns - 1)
        assert oracle.exceeds(services, certificate_ns - 1)
        assert oracle.surely_exceeds(services, certificate_ns - 1)
        assert np.array_equal(oracle._kept, kept) == was_known
        learnt += not was_known
    assert learnt > len(CASES) / 10


def test_cuts_are_made_of_a_few_more_queries_than_are_too_many() -> None:
    workload = one_stage([0] * 40)
    services = {"a": StageService(10, 10, 1)}
    for quantile, cutting, expected in ((0.9, 1.5, 6), (0.9, 1.0, 4), (0.96, 1.4, 3), (1.0, 1.5, 2)):
        params = CriticalSampleParams(cutting=cutting, largest=0.0)
        cuts = CertificateOracle(workload, quantile, params=params).query_cuts(services, 100, ("a",))
        assert cuts is not None
        assert cuts.constant_ns.size == expected
        # The slowest ones: each waits for all before it.
        assert sorted(cuts.tokens[0].tolist()) == [39 - i for i in range(expected)][::-1]


def test_what_was_asked_is_forgotten_and_what_was_learnt_is_not() -> None:
    case = random_case(np.random.default_rng(5), max_arrivals=60)
    workload = realise(case.pipeline, case.trace, 0)
    oracle = CertificateOracle(workload, 0.9, params=CriticalSampleParams(largest=1.0))
    assert oracle.tokens == sum(stage.count for stage in workload.stages.values())
    services = {stage: StageService(7, 5, 1) for stage in case.pipeline.stages}
    oracle.forget()  # before anything was asked
    answers = oracle.certificate_ns(services), oracle.floor_ns(services)
    kept = oracle._kept.copy()
    assert oracle._sample is not None
    held = [oracle._whole, oracle._sample[0]]
    assert all(evaluator._exits for evaluator in held)
    oracle.forget()
    assert all(not evaluator._exits for evaluator in held)
    assert np.array_equal(oracle._kept, kept)
    assert (oracle.certificate_ns(services), oracle.floor_ns(services)) == answers


def test_queues_by_arrival_forget_as_much_and_make_their_sample_anew_only_as_it_grows() -> None:
    workload = one_stage([1000 * i for i in range(40)])
    with patch.object(oracle_module, "FifoEvaluator", wraps=FifoEvaluator) as made:
        oracle = FifoOracle(workload, 0.9, RunClass(0.5))
        services = {"a": StageService(7, 5, 1, (1,))}
        oracle.learn(services, 0)
        oracle.certificate_ns(services)
        answers = [oracle.floor_ns(services), oracle.floor_ns(services)]
        assert made.call_count == 2, "the whole, and a sample"
        held = [oracle._whole, oracle._by_arrival, oracle._extract]
        assert oracle._extract.workload.queries < workload.queries
        assert all(evaluator._exits for evaluator in held)
        oracle.forget()
        assert not any(evaluator._exits for evaluator in held)
        assert oracle.floor_ns(services) == answers[0] == answers[1]
        assert made.call_count == 2
        oracle.learn_slowest(np.arange(40), 1)
        oracle.floor_ns(services)
        assert made.call_count == 3


def test_stages_that_see_the_same_tokens_are_looked_up_once() -> None:
    graph: nx.DiGraph[str] = nx.DiGraph()
    for stage in "abcd":
        graph.add_node(stage, model="m")
    graph.add_edges_from([("a", "b"), ("b", "c")])
    graph.add_edge("c", "d", probability=0.5)
    workload = realise(Pipeline(graph), Trace.poisson(100.0, 10.0, seed=1))
    for loads in ((0.65,), (0.4, 0.9)):
        with patch.object(oracle_module, "find_largest", wraps=find_largest) as looked:
            CertificateOracle(workload, 0.99, params=CriticalSampleParams(loads=loads))
        assert looked.call_count == 2 * len(loads), "what all see, and what half of them do"


def test_a_certificate_that_was_found_when_a_limit_was_kept_is_remembered() -> None:
    """What keeps a limit is mostly asked for its certificate at the end, when much else was asked in between."""
    oracle = CertificateOracle(one_stage([0] * 40), 0.9)
    services, other = {"a": StageService(10, 10, 1)}, {"a": StageService(10, 9, 1)}
    assert not oracle.exceeds(services, 1000)
    assert not oracle.exceeds(other, 1000)
    with patch.object(classic, "stage_exits_ns") as asked:
        assert oracle.certificate_ns(services) == 370
        assert oracle.certificate_ns(other) == 334
    asked.assert_not_called()


def test_ties_are_judged_by_the_sample_once_it_has_learnt_from_one() -> None:
    """The whole trace is asked about the first plan, whether it keeps the objective, and one exchange."""
    seen, exits_ns = list[int](), classic.stage_exits_ns

    def noted(workload: Workload, *asked: Any) -> Int64:
        seen.append(workload.queries)
        return exits_ns(workload, *asked)

    pipeline, profiles = make_pipeline("chain", 5, 1), make_profiles(5, 1)
    with patch.object(classic, "stage_exits_ns", noted):
        mp.plan(pipeline, profiles, make_trace(20_000, 1), slo_s=objective_s(pipeline, profiles))
    assert seen.count(20_000) <= 3 * 5
    assert len(seen) > 50
