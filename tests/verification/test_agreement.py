"""`plan` and `verify` mean the same by "certified": the cheapest plan that `verify` accepts is what `plan` finds."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

import mipplan as mp
from campaigns import campaign_size, write_summary
from mipplan.profiles import Hardware, LatencyTable

CASES = campaign_size(quick=6, deep=400)
#: More replicas are not tried; the plan found must need fewer everywhere, or the case says nothing.
MOST_REPLICAS = 7


def one_stage(latency_ms: float) -> tuple[mp.Pipeline, mp.Profiles]:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="m")
    table = LatencyTable("m", "cpu", np.array([1]), np.array([latency_ms]))
    profiles = mp.Profiles.from_parts([Hardware("cpu", 1.0)], [table])
    return mp.Pipeline(graph=graph, slo_s=1.0, name="one"), profiles


@pytest.mark.parametrize(
    ("latency_ms", "slo_s", "trace", "planned_usd"),
    [
        (100.0, 1.0, mp.Trace.from_ns([0, 10_000_000]), 21.0),
        (10.0, 3.0, mp.Trace.gamma(rate_rps=105, cv=1, duration_s=20, seed=1), 2.0),
    ],
    ids=["two queries", "twenty seconds"],
)
def test_overloaded_plan_is_no_certified_plan(
    tmp_path: Path, latency_ms: float, slo_s: float, trace: mp.Trace, planned_usd: float
) -> None:
    """A trace that ends early hides overload: its latency is proven, and yet no such plan is offered or accepted."""
    pipeline, profiles = one_stage(latency_ms)
    plan = mp.plan(pipeline, profiles, trace, slo_s=slo_s)
    assert (plan.status, plan.usd_per_hour) == ("optimal", planned_usd)
    assert plan.lower_bound_usd_per_hour == planned_usd
    overloaded = mp.Plan.from_choices(pipeline, profiles, {"a": ("cpu", 1, 1)}, slo_s=slo_s)
    assert mp.certify(overloaded, trace).bound_s <= slo_s
    overloaded.save(tmp_path / "plan.json")
    verdict = mp.verify(tmp_path / "plan.json", trace)
    assert not verdict.verified
    assert [problem.split(":")[0] for problem in verdict.problems] == ["stage 'a' is overloaded"]


def test_a_rate_that_is_just_met_is_overload(tmp_path: Path) -> None:
    """Utilisation 1 is not below 1: the planner needs one replica more, and so does the judge."""
    pipeline, profiles = one_stage(10.0)
    trace = mp.Trace.from_ns(np.arange(5) * 10_000_000 * 5 // 4)  # 5 queries in 50 ms: 100 per second
    assert mp.plan(pipeline, profiles, trace).choices["a"].replicas == 2
    mp.Plan.from_choices(pipeline, profiles, {"a": ("cpu", 1, 1)}, slo_s=1.0).save(tmp_path / "plan.json")
    assert not mp.verify(tmp_path / "plan.json", trace).verified
    slower = trace.scale(0.999)
    assert mp.plan(pipeline, profiles, slower).choices["a"].replicas == 1
    assert mp.verify(tmp_path / "plan.json", slower).verified


def test_a_trace_at_one_instant_has_no_rate(tmp_path: Path) -> None:
    pipeline, profiles = one_stage(10.0)
    mp.Plan.from_choices(pipeline, profiles, {"a": ("cpu", 1, 1)}, slo_s=1.0).save(tmp_path / "plan.json")
    assert mp.verify(tmp_path / "plan.json", mp.Trace.from_ns([5, 5, 5])).verified


def test_the_long_run_rate_of_a_curve_counts_too(tmp_path: Path) -> None:
    pipeline, profiles = one_stage(10.0)
    curve = mp.ArrivalCurve.token_bucket(2, 150)
    sample = mp.Trace.from_ns(np.arange(100) * 10_000_000)
    plan = mp.plan(pipeline, profiles, sample, guarantee="envelope", envelope=curve)
    assert plan.choices["a"].replicas == 2
    plan.save(tmp_path / "plan.json")
    verdict = mp.verify(tmp_path / "plan.json", sample)
    assert verdict.verified, verdict.problems
    assert not mp.verify(tmp_path / "plan.json", sample.scale(2.5)).verified


@pytest.mark.parametrize("guarantee", ["trace", "envelope"])
@pytest.mark.parametrize("headroom", [1.0, 1.3])
def test_the_fewest_replicas_are_the_same(tmp_path: Path, headroom: float, guarantee: str) -> None:
    """Fan-outs, branches, merges and seeds: with one option per stage and all time in the world, stability decides."""
    lowered = 0
    for seed in range(2):
        graph: nx.DiGraph[str] = nx.DiGraph()
        for name, join in (("a", None), ("b", None), ("c", "each"), ("d", "all")):
            graph.add_node(name, model=name, **({} if join is None else {"join": join}))
        graph.add_edge("a", "b", fanout={"values": [0, 1, 3], "weights": [1, 2, 2]})
        graph.add_edge("a", "c", probability=0.4)
        graph.add_edge("b", "c", fanout=2)
        graph.add_edge("b", "d")
        graph.add_edge("c", "d", probability=0.5)
        tables = [LatencyTable(model, "cpu", np.array([1]), np.array([7.0])) for model in graph]
        profiles = mp.Profiles.from_parts([Hardware("cpu", 1.0)], tables)
        trace = mp.Trace.gamma(rate_rps=300, cv=2, duration_s=0.2, seed=seed)
        plan = mp.plan(
            mp.Pipeline(graph), profiles, trace, slo_s=1e3, headroom=headroom, guarantee=guarantee, seed=seed
        )
        plan.save(tmp_path / "plan.json")
        verdict = mp.verify(tmp_path / "plan.json", trace)
        assert verdict.verified, verdict.problems
        for stage, choice in plan.choices.items():
            if choice.replicas == 1:
                continue
            lowered += 1
            fewer = {**plan.choices, stage: replace(choice, replicas=choice.replicas - 1)}
            replace(plan, choices=fewer).save(tmp_path / "fewer.json")
            problems = mp.verify(tmp_path / "fewer.json", trace).problems
            overloaded = [problem.split("'")[1] for problem in problems if "overloaded" in problem]
            assert overloaded == [stage]
    assert lowered >= 6


def random_request(number: int) -> tuple[mp.Pipeline, mp.Profiles, mp.Trace, float]:
    """One or two stages and a trace so short that overload often keeps the objective."""
    rng = np.random.default_rng([20261126, number])
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="m")
    if rng.random() < 0.5:
        graph.add_node("b", model="n")
        graph.add_edge("a", "b", **({"probability": 0.6} if rng.random() < 0.5 else {}))
    sizes = np.array([1, 2])
    tables = [
        LatencyTable(model, hardware, sizes, np.round(rng.uniform(4, 12) * speed * np.array([1.0, 1.4]), 3))
        for model in "mn"
        for hardware, speed in (("cpu", 1.0), ("t4", 0.5))
    ]
    profiles = mp.Profiles.from_parts([Hardware("cpu", 1.0), Hardware("t4", 2.5)], tables)
    gaps_ns = rng.gamma(0.5, 1.0, int(rng.integers(2, 14))) * 1e6 * rng.uniform(3, 12)
    trace = mp.Trace.from_ns(np.cumsum(np.rint(gaps_ns).astype(np.int64) + 1))
    return mp.Pipeline(graph=graph, slo_s=1.0, name="random"), profiles, trace, float(rng.uniform(0.02, 0.2))


def all_plans(pipeline: mp.Pipeline, profiles: mp.Profiles, slo_s: float) -> Iterator[mp.Plan]:
    options = list(itertools.product(("cpu", "t4"), (1, 2), range(1, MOST_REPLICAS + 1)))
    for chosen in itertools.product(options, repeat=len(pipeline.stages)):
        yield mp.Plan.from_choices(
            pipeline, profiles, dict(zip(pipeline.stages, chosen, strict=True)), slo_s=slo_s
        )


def cheapest_verified(plans: Iterator[mp.Plan], trace: mp.Trace, path: Path) -> tuple[int | None, int]:
    """Return the least cost of the plans that `verify` accepts, and how many it refused for overload alone."""
    hidden = 0
    for plan in sorted(plans, key=lambda plan: plan.microusd_per_hour or 0):
        plan.save(path)
        verdict = mp.verify(path, trace)
        if verdict.verified:
            return plan.microusd_per_hour, hidden
        hidden += all("overloaded" in problem for problem in verdict.problems)
    return None, hidden


def test_plan_finds_the_cheapest_that_verify_accepts(tmp_path: Path) -> None:
    disagreeing, told_apart, compared = [], 0, 0
    for number in range(CASES):
        pipeline, profiles, trace, slo_s = random_request(number)
        plan = mp.plan(pipeline, profiles, trace, slo_s=slo_s)
        if any(choice.replicas >= MOST_REPLICAS for choice in plan.choices.values()):
            continue
        least, hidden = cheapest_verified(all_plans(pipeline, profiles, slo_s), trace, tmp_path / "plan.json")
        compared += 1
        told_apart += hidden > 0
        if plan.microusd_per_hour != least:
            disagreeing.append((number, plan.microusd_per_hour, least))
    assert disagreeing == []
    assert compared >= CASES // 2
    assert told_apart >= CASES // 10  # overload alone decided: without that the test says nothing
    write_summary(
        "plan_verify_agreement",
        {
            "cases": CASES,
            "compared": compared,
            "overload_decided": told_apart,
            "disagreements": len(disagreeing),
        },
    )
