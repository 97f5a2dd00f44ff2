"""Plans sized by rules of thumb: by hand, and the half-objective rule by brute force."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import networkx as nx
import numpy as np
import pytest

import mipplan as mp
from campaigns import campaign_size, write_summary
from mipplan.baselines.sizing import Mode, queries_per_ns
from mipplan.profiles import Hardware, LatencyTable
from mipplan.tokens import realise
from oracle_greedy import SlowGreedy, as_settings
from planning_instances import PlanningInstance, planning_instance


def two_stages(*, limit: int | None = None, **second: Any) -> tuple[mp.Pipeline, mp.Profiles]:
    """Detect, then identify two objects each; CPUs at 1 $/h for both, GPUs at 10 $/h for detection only."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("detect", model="d")
    graph.add_node("identify", model="i", **second)
    graph.add_edge("detect", "identify", fanout=2, delay="1ms")
    tables = [
        LatencyTable("d", "cpu", np.array([1, 4]), np.array([10.0, 28.0])),
        LatencyTable("d", "gpu", np.array([1, 4]), np.array([2.0, 4.0])),
        LatencyTable("i", "cpu", np.array([1, 2]), np.array([4.0, 6.0])),
    ]
    hardware = [Hardware("cpu", 1.0, limit=limit), Hardware("gpu", 10.0)]
    return mp.Pipeline(graph, slo_s=0.1), mp.Profiles.from_parts(hardware, tables)


def steady(rate_rps: int) -> mp.Trace:
    """Exactly that mean rate: n queries over the time from the first to the last."""
    return mp.Trace.from_seconds(np.linspace(0.0, 1.0, rate_rps))


# ----------------------------------------------------------------------------------------- coarse-grained


def test_boxes_by_hand() -> None:
    """At 300 queries/s.

    Box on CPUs, b = 4: detect takes 28 ms; identify gets 8 tokens in 4 batches of 2, 24 ms. Latency
    28 + 1 + 24 = 53 ms, period 28 ms: 142.9 queries/s, 3 boxes, 6 $/h. With b = 1: 10 and 6 ms: 100 queries/s,
    3 boxes as well, but it serves less. With b = 2 (identify's size) detect is capped at 1: 20 ms and 12 ms for 2.
    Box on GPUs, b = 4: detect 4 ms, identify 24 ms: 166.7 queries/s, 2 boxes at 11 $/h.
    """
    pipeline, profiles = two_stages()
    plan = mp.baselines.coarse_grained(pipeline, profiles, steady(300))
    assert as_settings(plan.choices) == {"detect": ("cpu", 4, 3), "identify": ("cpu", 2, 3)}
    assert (plan.status, plan.solver, plan.usd_per_hour) == ("given", "coarse_grained, mean", 6.0)
    assert plan.effort is not None
    assert plan.effort.estimator_calls == 0
    # At 20 ms, b = 4 takes 53 ms on CPUs, 29 ms with a GPU; b = 1 takes 17 and 9 ms.
    plan = mp.baselines.coarse_grained(pipeline, profiles, steady(300), slo_s=0.02)
    assert as_settings(plan.choices) == {"detect": ("cpu", 1, 3), "identify": ("cpu", 1, 3)}


def test_identify_at_batch_one_serves_its_tokens_one_by_one() -> None:
    """With b = 1 identify is capped at 1 and takes 2 · 4 ms: 17 ms of 1 + 10 + 8 are too slow, the GPU's 11 are not."""
    pipeline, profiles = two_stages()
    plan = mp.baselines.coarse_grained(pipeline, profiles, steady(300), slo_s=0.011)
    # 1 / 8 ms = 125 queries/s: 3 boxes.
    assert as_settings(plan.choices) == {"detect": ("gpu", 1, 3), "identify": ("cpu", 1, 3)}
    plan = mp.baselines.coarse_grained(pipeline, profiles, steady(300), slo_s=0.0109)
    assert plan.status == "infeasible"
    assert plan.reason == "the fastest box takes 11 ms for a batch, more than the objective of 10.9 ms"


def test_whole_boxes_within_bounds() -> None:
    pipeline, profiles = two_stages(replicas={"min": 5})
    plan = mp.baselines.coarse_grained(pipeline, profiles, steady(300))
    assert {stage: c.replicas for stage, c in plan.choices.items()} == {"detect": 3, "identify": 5}
    pipeline, profiles = two_stages(replicas=2)
    plan = mp.baselines.coarse_grained(pipeline, profiles, steady(300))
    assert {stage: c.hardware for stage, c in plan.choices.items()} == {"detect": "gpu", "identify": "cpu"}
    pipeline, profiles = two_stages(limit=5)
    plan = mp.baselines.coarse_grained(pipeline, profiles, steady(300))
    assert {stage: c.hardware for stage, c in plan.choices.items()} == {"detect": "gpu", "identify": "cpu"}
    pipeline, profiles = two_stages(limit=1)
    plan = mp.baselines.coarse_grained(pipeline, profiles, steady(300))
    assert (plan.status, plan.reason) == (
        "infeasible",
        "limits on replicas or devices allow for too few boxes",
    )
    pipeline, profiles = two_stages(batch=[2])
    only_larger = mp.baselines.coarse_grained(pipeline, profiles, steady(300))
    assert only_larger.choices["detect"].batch == 4
    pipeline, profiles = two_stages(replicas={"max": 3})
    assert mp.baselines.coarse_grained(pipeline, profiles, steady(300)).usd_per_hour == 6.0


def test_peak_is_the_fullest_window() -> None:
    """Ten queries in 30 ms, then one a second: 10 / 40 ms = 250 queries/s in windows of 40 ms."""
    trace = mp.Trace.from_ns([*(3_000_000 * np.arange(10) + 500), *(1_000_000_000 * np.arange(1, 11))])
    assert queries_per_ns(trace, Mode.PEAK, 40_000_000) == Fraction(250, 10**9)
    # Half-open: the tenth is 27 ms after the first.
    assert queries_per_ns(trace, Mode.PEAK, 27_000_000) == Fraction(9, 27_000_000)
    assert queries_per_ns(trace, Mode.PEAK, 27_000_001) == Fraction(10, 27_000_001)
    assert queries_per_ns(trace, Mode.MEAN, 1) == Fraction(20, 10_000_000_000 - 500)
    pipeline, profiles = two_stages()
    mean = mp.baselines.coarse_grained(pipeline, profiles, trace)
    peak = mp.baselines.coarse_grained(pipeline, profiles, trace, mode="peak", window_s=0.04)
    by_objective = mp.baselines.coarse_grained(pipeline, profiles, trace, mode="peak")
    # 250/s · 28 ms / 4 = 1.75 boxes; the objective's own window, 100 ms, sees 100/s.
    assert [plan.choices["detect"].replicas for plan in (mean, peak, by_objective)] == [1, 2, 1]


def test_peak_by_brute_force() -> None:
    rng = np.random.default_rng(7)
    for _ in range(50):
        arrivals = np.sort(rng.integers(0, 60, 12))
        arrivals[-1] += 1
        window = int(rng.integers(1, 30))
        most = max(
            int(np.count_nonzero((arrivals >= start) & (arrivals < start + window))) for start in range(100)
        )
        assert queries_per_ns(mp.Trace.from_ns(arrivals), Mode.PEAK, window) == Fraction(most, window)


# --------------------------------------------------------------------------------------------- half SLO


def test_half_slo_by_hand() -> None:
    """At 310 queries/s, 620 tokens/s at identify, 100 ms objective, 1 ms of delay: batches may take 49.5 ms.

    CPU batches of 4 and 2 take 34 ms: 310 · 28 / 4 = 2.2 and 620 · 6 / 2 = 1.9 replicas, 3 + 2 $/h.
    """
    pipeline, profiles = two_stages()
    plan = mp.baselines.half_slo(pipeline, profiles, steady(310))
    assert as_settings(plan.choices) == {"detect": ("cpu", 4, 3), "identify": ("cpu", 2, 2)}
    assert (plan.status, plan.solver, plan.usd_per_hour) == ("given", "half_slo, mean", 5.0)
    # 2 · (10 + 4) + 1 = 29 ms: 4 replicas of 10 ms and 3 of 4 ms. Less, and only a GPU will do.
    plan = mp.baselines.half_slo(pipeline, profiles, steady(310), slo_s=0.029)
    assert as_settings(plan.choices) == {"detect": ("cpu", 1, 4), "identify": ("cpu", 1, 3)}
    plan = mp.baselines.half_slo(pipeline, profiles, steady(310), slo_s=0.0289)
    assert as_settings(plan.choices) == {"detect": ("gpu", 1, 1), "identify": ("cpu", 2, 2)}
    plan = mp.baselines.half_slo(pipeline, profiles, steady(310), slo_s=0.0129)
    assert plan.reason == (
        "twice the fastest batches along detect → identify take 13 ms, more than the objective of 12.9 ms"
    )


def brute_force(instance: PlanningInstance, rate: Fraction) -> int | None:
    """Cost of the cheapest configuration that obeys the rule, over every combination and every path."""
    rules = SlowGreedy(
        instance.pipeline, instance.profiles, instance.trace, instance.slo_ns, 0.99, instance.seed
    )
    workload = realise(instance.pipeline, instance.trace, instance.seed)
    options = []
    for stage in instance.pipeline.stages:
        demand = rate * workload.stages[stage].count / len(instance.trace)
        offered = []
        for hardware in rules.hardware(stage):
            for cap in rules.caps(stage, hardware):
                busy = math.ceil(demand * rules.service(stage, hardware, cap) / cap)
                offered.append((hardware, cap, max(busy, rules.replicas(stage, hardware)[0])))
        options.append(offered)
    best = None
    for chosen in itertools.product(*options):
        settings = dict(zip(instance.pipeline.stages, chosen, strict=True))
        batch_ns = {s: rules.service(s, hardware, cap) for s, (hardware, cap, _) in settings.items()}
        kept = all(
            2 * sum(batch_ns[stage] for stage in path) + delay_ns <= instance.slo_ns
            for path, delay_ns in paths(instance.pipeline)
        )
        if kept and rules.allowed(settings):
            cost = rules.cost(settings)
            best = cost if best is None else min(best, cost)
    return best


def paths(pipeline: mp.Pipeline) -> Iterator[tuple[tuple[str, ...], int]]:
    """Every path from a source to an end, with the sum of its delays."""

    def onward(path: tuple[str, ...], delay_ns: int) -> Iterator[tuple[tuple[str, ...], int]]:
        outgoing = pipeline.outgoing(path[-1])
        if not outgoing:
            yield path, delay_ns
        for edge in outgoing:
            yield from onward((*path, edge.child), delay_ns + edge.delay_ns)

    for source in pipeline.sources:
        yield from onward((source,), 0)


def test_half_slo_is_the_cheapest_that_obeys_its_rule() -> None:
    count = campaign_size(60, 10_000)
    seen = {"planned": 0, "infeasible": 0}
    for number in range(count):
        instance = planning_instance(number)
        mode = ("mean", "peak")[number % 2]
        plan = mp.baselines.half_slo(
            instance.pipeline, instance.profiles, instance.trace, mode=mode, **instance.arguments
        )
        rate = queries_per_ns(instance.trace, Mode(mode), instance.slo_ns)
        assert plan.microusd_per_hour == brute_force(instance, rate), number
        seen["planned" if plan.choices else "infeasible"] += 1
    assert min(seen.values()) > count // 10
    write_summary("half_slo", {"instances": count, **seen})


def test_half_slo_of_many_branches_that_merge_ends() -> None:
    """With an end for each of sixteen branches, nearly all choices would be kept to the last."""
    branches = [f"branch{number}" for number in range(16)]
    graph: nx.DiGraph[str] = nx.DiGraph()
    nx.add_star(graph, ["detect", *branches])
    graph.add_edges_from((branch, "merge") for branch in branches)
    nx.set_node_attributes(graph, dict.fromkeys(graph, "d"), "model")
    plan = mp.baselines.half_slo(mp.Pipeline(graph, slo_s=0.1), two_stages()[1], steady(310))
    assert set(as_settings(plan.choices)) == set(graph)
    assert len({setting for stage, setting in as_settings(plan.choices).items() if stage in branches}) <= 2


# ------------------------------------------------------------------------------------------------- both


@pytest.mark.parametrize("baseline", [mp.baselines.coarse_grained, mp.baselines.half_slo])
def test_every_bad_argument_is_named(baseline: Any) -> None:
    pipeline, profiles = two_stages()
    with pytest.raises(mp.InputError) as caught:
        baseline(pipeline, profiles, steady(10), mode="best", window_s=0, quantile=2)
    assert [fault.place for fault in caught.value.faults] == ["quantile", "mode", "window_s"]


def test_no_solver_is_loaded() -> None:
    probe = (
        "import sys, mipplan; mipplan.baselines.inferline; "
        "print(*(name for name in ('highspy', 'ortools', 'pulp', 'mipplan.solvers') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split()) == (0, []), done.stderr
