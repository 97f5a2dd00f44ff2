"""The envelope bound by hand, against its definition, and what nobody should simplify."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise
from typing import Any

import networkx as nx
import numpy as np
import pytest

import mipplan as mp
from mipplan.calculus import ArrivalCurve, StageService, WorstCase, most_tokens_per_query
from mipplan.certificate import plan_services
from mipplan.core import NS_PER_S, UNLIMITED_NS
from mipplan.profiles import Hardware, LatencyTable
from mipplan.result import CriticalStage
from oracle_envelope import (
    SlowService,
    conforms,
    exactly,
    per_stage_worst_case,
    slow_most_tokens,
    slow_worst_case,
)
from random_pipelines import random_case


def pipeline_of(
    stages: dict[str, dict[str, Any]], edges: list[tuple[str, str, dict[str, Any]]]
) -> mp.Pipeline:
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name, attributes in stages.items():
        graph.add_node(name, model=name, **attributes)
    graph.add_edges_from(edges)
    return mp.Pipeline(graph=graph, slo_s=1.0, name="hand-made")


def given_plan(pipeline: mp.Pipeline, batch_ns: dict[str, list[int]], replicas: int = 1) -> mp.Plan:
    """ℓ(1), …, ℓ(b) of every stage; the cap is b."""
    tables = [
        LatencyTable(stage, "h", np.arange(1, len(times) + 1), np.array(times) * 1e-6)
        for stage, times in batch_ns.items()
    ]
    profiles = mp.Profiles.from_parts([Hardware("h", 1.0)], tables)
    choices = {stage: ("h", len(times), replicas) for stage, times in batch_ns.items()}
    return mp.Plan.from_choices(pipeline, profiles, choices)


def slow(services: dict[str, StageService]) -> dict[str, SlowService]:
    return {s: SlowService(v.latency_ns, Fraction(v.tokens, v.period_ns)) for s, v in services.items()}


def test_one_stage_by_hand_is_attained() -> None:
    # Five at once at a source that takes 10 ns for each: T = 10 ns, and the last waits for four others.
    plan = given_plan(pipeline_of({"a": {}}, []), {"a": [10]})
    curve = ArrivalCurve.token_bucket(5, 0.1 * NS_PER_S)
    assert WorstCase(plan.pipeline, curve).bound_ns(plan_services(plan)) == 50
    trace = mp.Trace.from_ns([0] * 5 + [10, 20, 30])
    assert conforms(trace.arrival_ns.tolist(), curve.buckets)
    assert mp.replay(plan, trace).latency_ns.tolist() == [10, 20, 30, 40, 50, 50, 50, 50]


def test_fan_out_and_burst_by_hand() -> None:
    # a: T = 10, one token per query. b: T = 2·10, three tokens per query of 10 ns each. A burst of two at once:
    # the two other tokens of the query itself 20, the three of the query before 30, the delay 5.
    pipeline = pipeline_of({"a": {}, "b": {}}, [("a", "b", {"fanout": 3, "delay": "5ns"})])
    plan = given_plan(pipeline, {"a": [10], "b": [10]})
    curve = ArrivalCurve.token_bucket(2, NS_PER_S / 30)
    assert most_tokens_per_query(pipeline) == {"a": 1, "b": 3}
    worst = WorstCase(pipeline, curve)
    services = plan_services(plan)
    assert worst.bound_ns(services) == 10 + 5 + 20 + 20 + 30
    assert worst.wait_ns(services, "b") == 30
    assert worst.critical_path(services) == (CriticalStage("a", 10, 0, 0), CriticalStage("b", 40, 30, 5))
    assert worst.paths.bound_ns(services) == 85


def test_most_tokens_per_query() -> None:
    # A branch counts as taken, a mean of 2.6 as 3, `all` as one token, `each` adds up.
    pipeline = pipeline_of(
        {"a": {}, "b": {}, "c": {}, "sum": {"join": "each"}, "one": {"join": "all"}, "d": {}},
        [
            ("a", "b", {"fanout": 2.6}),
            ("a", "c", {"fanout": {"values": [0, 4], "weights": [9, 1]}, "probability": 0.1}),
            ("b", "sum", {"fanout": 2}),
            ("c", "sum", {}),
            ("b", "one", {}),
            ("sum", "one", {}),
            ("one", "d", {"fanout": 2}),
        ],
    )
    most = {"a": 1, "b": 3, "c": 4, "sum": 10, "one": 1, "d": 2}
    assert most_tokens_per_query(pipeline) == most
    assert {stage: slow_most_tokens(pipeline, stage) for stage in most} == most


def test_poisson_fan_outs_are_refused_by_name() -> None:
    pipeline = pipeline_of(
        {"a": {}, "b": {}, "c": {}},
        [("a", "b", {"fanout": {"poisson": 0.5}}), ("a", "c", {"fanout": {"poisson": 2.0}})],
    )
    with pytest.raises(mp.InputError) as caught:
        most_tokens_per_query(pipeline)
    places = [fault.place for fault in caught.value.faults]
    assert places == ["hand-made: edge a -> b", "hand-made: edge a -> c"]
    assert "values and weights" in str(caught.value)


def test_largest_single_delay_per_path_is_no_bound() -> None:
    # Do not "simplify" the sum of (F − 1)/R to the largest deviation of any one stage. Both b and d see ten tokens of
    # every query, and all ten must leave b before d sees the first, because c merges them: the two delays add up.
    pipeline = pipeline_of(
        {"a": {}, "b": {}, "c": {"join": "all"}, "d": {}},
        [("a", "b", {"fanout": 10}), ("b", "c", {}), ("c", "d", {"fanout": 10})],
    )
    plan = given_plan(pipeline, {"a": [1], "b": [10], "c": [1], "d": [10]})
    curve = ArrivalCurve.token_bucket(1, NS_PER_S / 200)
    trace = mp.Trace.from_ns([0, 200])
    assert conforms(trace.arrival_ns.tolist(), curve.buckets)
    latest_ns = int(mp.replay(plan, trace).latency_ns.max())
    services = plan_services(plan)
    tempting = per_stage_worst_case(pipeline, slow(services), curve.buckets)
    assert tempting == 133
    assert latest_ns == 202
    assert latest_ns / tempting > 1.5
    assert latest_ns <= WorstCase(pipeline, curve).bound_ns(services) == 223


def test_a_rate_above_the_service_has_no_bound_and_one_equal_to_it_has() -> None:
    plan = given_plan(pipeline_of({"a": {}}, []), {"a": [10]}, replicas=2)
    services = plan_services(plan)
    equal = ArrivalCurve.token_bucket(3, NS_PER_S / 5)
    assert WorstCase(plan.pipeline, equal).bound_ns(services) == 10 + 10
    above = ArrivalCurve.token_bucket(3, NS_PER_S / 4)
    assert WorstCase(plan.pipeline, above).bound_ns(services) >= UNLIMITED_NS


def test_two_buckets_meet_in_the_middle() -> None:
    # At most 2 + u/2 and at most 10 + u/20 (queries, ns): they cross at u = 160/9. A token takes 10 ns.
    plan = given_plan(pipeline_of({"a": {}}, []), {"a": [10]})
    curve = ArrivalCurve(((2.0, 0.5 * NS_PER_S), (10.0, 0.05 * NS_PER_S)))
    corner = Fraction(160, 9)
    wait = 10 * (2 + corner / 2 - 1) - corner
    assert WorstCase(plan.pipeline, curve).bound_ns(plan_services(plan)) == 10 + math.ceil(wait)


@pytest.mark.parametrize("part", range(4))
def test_equals_the_definition_up_to_rounding(part: int) -> None:
    for number in range(60 * part, 60 * (part + 1)):
        rng = np.random.default_rng([53, number])
        case = random_case(rng)
        if any(edge.fanout.poisson_mean is not None for edge in case.pipeline.edges):
            continue
        services = plan_services(case.plan())
        buckets = [
            (float(rng.uniform(1, 20)), float(rng.uniform(0, 2)) * min(v.rate_rps for v in services.values()))
            for _ in range(int(rng.integers(1, 5)))
        ]
        curve = ArrivalCurve(tuple(buckets))
        worst = WorstCase(case.pipeline, curve)
        bound_ns = worst.bound_ns(services)
        truth = slow_worst_case(case.pipeline, slow(services), buckets, math.ceil)
        if truth is None:
            assert bound_ns >= UNLIMITED_NS
            continue
        assert bound_ns == truth, f"case {number}"
        exact = slow_worst_case(case.pipeline, slow(services), buckets, exactly)
        assert exact is not None
        assert exact <= bound_ns
        # What goes into the master is the same figure.
        assert worst.paths.bound_ns(services) == bound_ns
        # And the path that is shown adds up to it.
        path = worst.critical_path(services)
        delays = {(edge.parent, edge.child): edge.delay_ns for edge in case.pipeline.edges}
        assert [step.delay_ns for step in path] == [0, *(delays[a.stage, b.stage] for a, b in pairwise(path))]
        assert sum(step.latency_ns + step.wait_ns + step.delay_ns for step in path) == bound_ns


@pytest.mark.parametrize(("layers", "truncated"), [(9, False), (10, True)])
def test_of_very_many_paths_some_are_listed_and_all_are_bounded(layers: int, truncated: bool) -> None:
    """Two ways through every layer: 2ⁿ paths, of which 512 are listed."""
    stages: dict[str, dict[str, Any]] = {"s0": {}}
    edges: list[tuple[str, str, dict[str, Any]]] = []
    for layer in range(layers):
        stages |= {f"a{layer}": {}, f"b{layer}": {}, f"s{layer + 1}": {}}
        for way in "ab":
            edges += [(f"s{layer}", f"{way}{layer}", {}), (f"{way}{layer}", f"s{layer + 1}", {})]
    plan = given_plan(pipeline_of(stages, edges), {stage: [2 if stage[0] == "a" else 5] for stage in stages})
    worst = WorstCase(plan.pipeline, ArrivalCurve.token_bucket(1, 1.0))
    services = plan_services(plan)
    assert len(worst.paths.paths) == 512
    assert worst.paths.truncated == truncated
    assert len({path.stages for path in worst.paths.paths}) == 512
    # The slower way through every layer, listed last.
    whole = 5 + layers * (10 + 10)
    assert worst.bound_ns(services) == whole
    assert (worst.paths.bound_ns(services) == whole) == (not truncated)
