from __future__ import annotations

import weakref
from types import MappingProxyType

import networkx as nx
import numpy as np
import pytest

from mipplan.calculus import StageService, analyse_paths
from mipplan.certificate import (
    CertificateEvaluator,
    certified_figures,
    certify_services,
    plan_services,
)
from mipplan.core import NoPlanError
from mipplan.pipeline import Pipeline
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.replayer import replay
from mipplan.result import Objective, Plan
from mipplan.tokens import Messages, StageTokens, Workload, realise
from mipplan.trace import Trace
from mipplan.verification import certify
from oracle_replay import EventLoop
from oracle_tokens import slow_tokens

S = 10**9


def plan(
    pipeline: Pipeline,
    tables_ms: dict[str, list[float]],
    choices: dict[str, tuple[int, int]],
    quantile: float = 1.0,
) -> Plan:
    """Plan of stages whose model bears their name; `choices` are (batch, replicas)."""
    tables = [LatencyTable(name, "h", np.arange(len(ms)) + 1, np.array(ms)) for name, ms in tables_ms.items()]
    return Plan.from_choices(
        pipeline,
        Profiles.from_parts([Hardware("h", 1.0)], tables),
        {stage: ("h", *choice) for stage, choice in choices.items()},
        slo_s=1.0,
        quantile=quantile,
    )


def graph_of(*stages: str, **edges: dict[str, object]) -> Pipeline:
    """Pipeline of stages and of edges written ``a_b={…}``."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for stage in stages:
        graph.add_node(stage, model=stage)
    for ends, attributes in edges.items():
        parent, child = ends.split("_")
        graph.add_edge(parent, child, **attributes)
    return Pipeline(graph)


def test_waits_of_different_stages_add_up_along_a_skip() -> None:
    """Design §8: R₁ = 100, R₂ = 10 tokens/s; at t = 0, 100 tokens skip stage 2, then 10 visit it."""
    queries = np.arange(110)
    visitors = np.arange(100, 110)
    pipeline = graph_of("a", "b", a_b={"probability": 0.1})
    (edge,) = pipeline.edges
    stages = {
        "a": StageTokens("a", queries, (), 110),
        "b": StageTokens("b", visitors, (Messages(edge, visitors, np.arange(10)),), 110),
    }
    workload = Workload(pipeline, np.zeros(110, dtype=np.int64), 0, MappingProxyType(stages))
    services = {"a": StageService(0, S, 100), "b": StageService(0, S, 10)}

    exits = CertificateEvaluator(workload).exits_ns(services)
    assert exits["a"][[0, 100, 109]].tolist() == [0, 1.00 * S, 1.09 * S]
    assert exits["b"][[0, 9]].tolist() == [1.00 * S, 1.90 * S]
    certificate = certify_services(workload, services, 1.0)
    assert certificate.bound_s == 1.90
    assert [step.wait_ns for step in certificate.critical_path] == [1.09 * S, 0.81 * S]
    # The relaxation sees only the larger of the two waits: 1.09 s at a, 0.90 s at b.
    found = analyse_paths(workload, 1.0)
    (path,) = [path for path in found.paths if len(path.stages) == 2]
    assert [path.curves[0].exact(S, 100), path.curves[1].exact(S, 10)] == [1.09 * S, 0.9 * S]
    assert found.bound_ns(services) == 1.09 * S


def test_one_stage() -> None:
    """ℓ = (10, 14, 12) ms, n = 2: T = 28 ms, 1/R = 2 ms. Arrivals at 0, 0, 0, 5 ms."""
    trace = Trace.from_ns(np.array([0, 0, 0, 5]) * 10**6)
    certificate = certify(plan(graph_of("a"), {"a": [10, 14, 12]}, {"a": (3, 2)}), trace)
    assert (certificate.latency_ns / 10**6).tolist() == [28, 30, 32, 29]
    assert certificate.bound_s == 0.032
    assert not certificate.latency_ns.flags.writeable


def test_single_replica_source_without_batching_is_exact() -> None:
    """T = ℓ(1): the bound is Lindley's recursion, which is what happens."""
    trace = Trace.from_ns([0, 1, 2, 30, 31, 90])
    lone = plan(graph_of("a"), {"a": [10e-6]}, {"a": (1, 1)})
    assert certify(lone, trace).latency_ns.tolist() == [10, 19, 28, 10, 19, 10]
    assert replay(lone, trace).latency_ns.tolist() == [10, 19, 28, 10, 19, 10]


def test_one_by_one_at_a_source_rests_on_token_order() -> None:
    """T = ℓ(1) is not covered by "any event order within an instant": a tied query may not slip in front."""
    lone = plan(graph_of("a"), {"a": [10e-6]}, {"a": (1, 1)})
    tokens = slow_tokens(lone.pipeline, 2, seed=0)
    assert certify(lone, Trace.from_ns([0, 0])).latency_ns.tolist() == [10, 20]
    backwards = iter([1.0, 0.0, 0.0, 0.0])
    loop = EventLoop(
        tokens, [0, 0], {"a": [10]}, {"a": 1}, tie=lambda: next(backwards), ordered_ingress=False
    )
    assert loop.run().latency == [20, 10]


def test_quantile_is_the_higher_one_and_has_a_critical_path() -> None:
    """Latencies 10, 20, 30, 40 ns."""
    trace = Trace.from_ns([0, 0, 0, 0])
    for quantile, bound_ns, wait_ns in [
        (0.01, 20, 10),
        (1 / 3, 20, 10),
        (0.5, 30, 20),
        (0.99, 40, 30),
        (1.0, 40, 30),
    ]:
        certificate = certify(plan(graph_of("a"), {"a": [10e-6]}, {"a": (1, 1)}, quantile), trace)
        assert certificate.bound_ns == bound_ns
        assert [step.wait_ns for step in certificate.critical_path] == [wait_ns]


def test_critical_path_takes_the_later_branch_of_a_join() -> None:
    pipeline = graph_of(
        "a", "b", "c", "d", a_b={"delay": "3ns"}, a_c={"delay": "1ns"}, b_d={}, c_d={"delay": "2ns"}
    )
    tables = {"a": [1e-6], "b": [5e-6], "c": [20e-6], "d": [1e-6]}
    judged = plan(pipeline, tables, dict.fromkeys(tables, (1, 1)))
    certificate = certify(judged, Trace.from_ns([0, 100]))
    # a: T = ℓ = 1; c: 2·20; d: 2·1; hops 1 and 2.
    assert certificate.latency_ns.tolist() == [1 + 1 + 40 + 2 + 2] * 2
    path = [(step.stage, step.delay_ns, step.wait_ns, step.latency_ns) for step in certificate.critical_path]
    assert path == [("a", 0, 0, 1), ("c", 1, 0, 40), ("d", 2, 0, 2)]


def overtaking() -> tuple[Plan, Trace]:
    """Every query visits `end` twice: at once, and after 30 ns at `slow`. 25 queries, one each ns."""
    pipeline = graph_of("start", "slow", "end", start_slow={}, start_end={}, slow_end={"delay": "30ns"})
    graph = nx.DiGraph(pipeline.graph)
    graph.nodes["end"]["join"] = "each"
    tables = {"start": [1e-6], "slow": [1e-6], "end": [10e-6]}
    made = plan(Pipeline(graph), tables, dict.fromkeys(tables, (1, 1)))
    return made, Trace.from_ns(np.arange(25))


def test_fifo_is_not_covered() -> None:
    """The first query's second visit waits behind younger queries' first one, which the theorem rules out."""
    judged, trace = overtaking()
    certified = certify(judged, trace).latency_ns[0]
    # end is reached at 1 and, after slow and the hop, by 33; one older token in between.
    assert certified == 1 + 2 + 30 + 2 * 10
    assert replay(judged, trace, discipline="oldest_first").latency_ns[0] <= certified
    # 24 younger tokens reach end before 32; all are served first.
    assert replay(judged, trace, discipline="fifo").latency_ns[0] == 1 + 25 * 10 + 10
    assert replay(judged, trace, discipline="fifo").latency_ns[0] > 4 * certified


def test_certificate_needs_choices() -> None:
    empty = Plan(graph_of("a"), Profiles.from_parts([], []), Objective(10**9), reason="too slow")
    with pytest.raises(NoPlanError, match="too slow"):
        certify(empty, Trace.from_ns([0, 1]))


def two_ways() -> Workload:
    """Two queries at one instant; after `a` the first goes to `b`, the second to `c`."""
    pipeline = graph_of("a", "b", "c", a_b={"probability": 0.5}, a_c={"probability": 0.5})
    first, second = pipeline.edges
    one, two = np.array([0]), np.array([1])
    stages = {
        "a": StageTokens("a", np.arange(2), (), 2),
        "b": StageTokens("b", one, (Messages(first, one, np.array([0])),), 2),
        "c": StageTokens("c", two, (Messages(second, two, np.array([0])),), 2),
    }
    return Workload(pipeline, np.zeros(2, dtype=np.int64), 0, MappingProxyType(stages))


def test_of_several_queries_at_the_quantile_the_first_is_told() -> None:
    services = dict.fromkeys("abc", StageService(5, 0, 1))
    certificate = certify_services(two_ways(), services, 1.0)
    assert certificate.latency_ns.tolist() == [10, 10]
    assert [step.stage for step in certificate.critical_path] == ["a", "b"]


class InterruptedServices(dict[str, StageService]):
    """Ctrl-C comes when a stage is looked at for the second time."""

    def __init__(self, services: dict[str, StageService], stage: str) -> None:
        super().__init__(services)
        self._stage, self._looks = stage, 0

    def __getitem__(self, stage: str) -> StageService:
        self._looks += stage == self._stage
        if self._looks == 2:
            raise KeyboardInterrupt
        return super().__getitem__(stage)


def test_an_interrupt_leaves_nothing_that_is_wrong() -> None:
    """The new exits of `a` are known then, and those of `b` are of what `a` was before."""
    evaluator = CertificateEvaluator(two_ways())
    before = dict.fromkeys("abc", StageService(5, 7, 1))
    assert evaluator.latency_ns(before).tolist() == [10, 17]
    after = {**before, "a": StageService(50, 7, 1)}
    with pytest.raises(KeyboardInterrupt):
        evaluator.exits_ns(InterruptedServices(after, "b"))
    assert evaluator.latency_ns(after).tolist() == [55, 62]


def test_only_what_changed_is_computed_anew() -> None:
    evaluator = CertificateEvaluator(two_ways())
    services = dict.fromkeys("abc", StageService(5, 7, 1))
    before = dict(evaluator.exits_ns(services))
    after = dict(evaluator.exits_ns({**services, "b": StageService(6, 7, 1)}))
    assert [after[stage] is before[stage] for stage in "abc"] == [True, False, True]


def test_what_was_evaluated_is_forgotten_when_asked() -> None:
    evaluator = CertificateEvaluator(two_ways())
    services = dict.fromkeys("abc", StageService(5, 7, 1))
    exits = evaluator.exits_ns(services)
    held = [weakref.ref(times) for times in exits.values()]
    del exits
    assert all(times() is not None for times in held)
    evaluator.forget()
    assert all(times() is None for times in held)
    assert evaluator.latency_ns(services).tolist() == [10, 17]


def test_figures_of_a_plan_are_bound_and_certificate() -> None:
    judged = plan(graph_of("a", "b", a_b={}), {"a": [1e-6], "b": [5e-6]}, {"a": (1, 1), "b": (1, 2)}, 0.5)
    workload = realise(judged.pipeline, Trace.from_ns([0, 0, 0, 50]))
    figures = certified_figures(judged, workload)
    certificate = certify_services(workload, plan_services(judged), 0.5)
    assert figures.certificate_ns == certificate.bound_ns
    assert figures.bound_ns == analyse_paths(workload, 0.5).bound_ns(plan_services(judged))
    assert figures.microusd_per_hour == judged.microusd_per_hour
