"""Families, waits and the assembled problem, each against the rule it implements."""

from __future__ import annotations

from dataclasses import replace

import networkx as nx
import numpy as np
import pytest

import mipplan as mp
from mipplan.calculus import analyse_paths
from mipplan.options import expand, find_families, trace_demand, undominated, wait_bounds
from mipplan.profiles import Hardware, LatencyTable
from mipplan.tokens import realise
from mipplan_formulations import ExhaustiveParams, solve_exhaustively
from oracle_planner import oracle_families
from planning_instances import PlanningInstance, hand_made, planning_instance


@pytest.mark.parametrize("number", range(7000, 7040))
def test_families_are_those_of_the_rules(number: int) -> None:
    instance = planning_instance(number)
    workload = realise(instance.pipeline, instance.trace, instance.seed)
    expected = oracle_families(instance.pipeline, instance.profiles, workload)
    found = find_families(instance.pipeline, instance.profiles, trace_demand(workload))
    assert list(found) == list(instance.pipeline.stages)
    for stage, families in expected.items():
        actual = {
            (f.hardware, f.batch, f.service(1).latency_ns, f.microusd_per_hour, f.fewest, f.most)
            for f in found[stage].families
        }
        assert actual == {(f.hardware, f.batch, f.latency_ns, f.price, f.fewest, f.most) for f in families}
        assert found[stage].families or found[stage].rejected


def test_rate_must_be_exceeded_not_met() -> None:
    # 2 queries over 10 ms at 5 ms each: one replica serves exactly the rate, which is not enough.
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="m")
    profiles = mp.Profiles.from_parts(
        [Hardware("cpu", 1.0)], [LatencyTable("m", "cpu", np.array([1]), np.array([5.0]))]
    )
    pipeline = mp.Pipeline(graph=graph, slo_s=1.0)
    for span_ns, fewest in ((10_000_000, 2), (10_000_001, 1), (9_999_999, 2)):
        workload = realise(pipeline, mp.Trace.from_ns([0, span_ns]))
        assert [
            f.fewest for f in find_families(pipeline, profiles, trace_demand(workload))["a"].families
        ] == [fewest]


def test_rejections_say_why() -> None:
    instance = hand_made(limit=1)
    tables = [
        replace(t, memory_gib=np.full(t.batch.size, 17.0)) if t.hardware == "t4" and t.model == "m1" else t
        for t in instance.profiles.tables.values()
    ]
    profiles = mp.Profiles.from_parts(instance.profiles.hardware.values(), tables)
    graph = nx.DiGraph(instance.pipeline.graph)
    graph.nodes["identify"]["batch"] = 3
    pipeline = mp.Pipeline(graph=graph, slo_s=1.0)
    found = find_families(pipeline, profiles, trace_demand(realise(pipeline, instance.trace)))
    assert any("17 GiB" in why and "has 16" in why for why in found["detect"].rejected)
    assert not found["identify"].families
    assert sum("no measurement at an admitted batch size" in why for why in found["identify"].rejected) == 2
    plan = mp.plan(pipeline, profiles, instance.trace)
    assert plan.status == "infeasible"
    assert "identify" in (plan.reason or "")


@pytest.mark.parametrize("number", range(7100, 7112))
def test_wait_bounds_never_exceed_the_exact_wait(number: int) -> None:
    instance = planning_instance(number)
    workload = realise(instance.pipeline, instance.trace, instance.seed)
    families = find_families(instance.pipeline, instance.profiles, trace_demand(workload))
    for tolerance_ns, beyond in ((0, None), (1_000, None), (10**6, instance.slo_ns), (1_000, 0)):
        fresh, reference = (analyse_paths(workload, instance.quantile) for _ in range(2))
        for path, other in zip(fresh.paths, reference.paths, strict=True):
            for stage, curve, truth in zip(path.stages, path.curves, other.curves, strict=True):
                options = expand(
                    families[stage],
                    30 * max((f.microusd_per_hour for f in families[stage].families), default=0),
                )
                waits = wait_bounds(curve, options, tolerance_ns, beyond)
                pairs = zip(options.period_ns.tolist(), options.tokens.tolist(), strict=True)
                exact = np.array([truth.exact(period, tokens) for period, tokens in pairs], dtype=np.int64)
                assert (waits >= 0).all()
                assert (waits <= exact).all()
                if tolerance_ns == 0:
                    assert (waits == exact).all()


@pytest.mark.parametrize("number", range(7200, 7230))
def test_problem_of_a_chain_is_what_the_planner_solves(number: int) -> None:
    instance = planning_instance(number, shape="chain")
    if "plain chain" not in instance.features:
        pytest.skip("bound and certificate differ")
    # Rounding up once per stage may part bound and certificate by a nanosecond a stage: step off that edge.
    certified = replace(instance, slo_ns=instance.slo_ns + len(instance.pipeline.stages))
    plan = certified.plan()
    bounded = problem_of(instance, plan.usd_per_hour)
    if plan.status == "infeasible":
        assert bounded is None or solve_exhaustively(bounded) is None
        return
    assert bounded is not None
    below, above = (
        solve_exhaustively(bounded),
        solve_exhaustively(replace(bounded, deadline=certified.slo_ns)),
    )
    assert above is not None
    assert above.cost <= (plan.microusd_per_hour or 0)
    if below is not None and below.cost == above.cost:
        assert above.cost == plan.microusd_per_hour


def problem_of(instance: PlanningInstance, budget: float | None):  # type: ignore[no-untyped-def]
    try:
        problem = mp.time_cost_problem(
            instance.pipeline,
            instance.profiles,
            instance.trace,
            budget_usd_per_hour=budget,
            **instance.arguments,
        )
    except mp.InputError:
        return None
    return problem if np.prod(problem.mode_counts) <= ExhaustiveParams().most_selections else None


def test_problem_has_names_limits_and_undominated_modes() -> None:
    instance = hand_made(limit=3)
    problem = mp.time_cost_problem(instance.pipeline, instance.profiles, instance.trace)
    assert [activity.name for activity in problem.activities] == ["detect", "identify"]
    assert [(resource.name, resource.capacity) for resource in problem.resources] == [("t4", 3)]
    assert [(arc.tail, arc.head, arc.lag) for arc in problem.arcs] == [(0, 1, 1_000_000)]
    assert problem.deadline == instance.slo_ns
    workload = realise(instance.pipeline, instance.trace)
    for activity, found in zip(
        problem.activities,
        find_families(instance.pipeline, instance.profiles, trace_demand(workload)).values(),
        strict=True,
    ):
        offered = set(activity.cost.tolist())
        assert offered <= set(undominated(expand(found, 10**8)).cost.tolist())


@pytest.mark.parametrize("budget", [0, -1.0, float("nan"), float("inf"), True])
def test_bad_budget(budget: float) -> None:
    instance = hand_made()
    with pytest.raises(mp.InputError, match="budget_usd_per_hour"):
        mp.time_cost_problem(instance.pipeline, instance.profiles, instance.trace, budget_usd_per_hour=budget)


def test_budget_below_every_option_names_each_stage() -> None:
    instance = hand_made()
    with pytest.raises(mp.InputError) as caught:
        mp.time_cost_problem(instance.pipeline, instance.profiles, instance.trace, budget_usd_per_hour=0.01)
    assert [fault.place for fault in caught.value.faults] == ["stages.detect", "stages.identify"]


def test_what_no_problem_can_be_made_of_is_refused() -> None:
    """Several traces, or a name, were an `AttributeError`; delays that solvers cannot count a `ValueError`."""
    instance = hand_made()
    for given in ("arrivals.csv", [instance.trace, instance.trace]):
        with pytest.raises(mp.InputError, match="trace: expected a Trace, found"):
            mp.time_cost_problem(instance.pipeline, instance.profiles, given)  # type: ignore[arg-type]
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("detect", model="m1")
    graph.add_node("identify", model="m2")
    graph.add_edge("detect", "identify", delay="2400h")
    with pytest.raises(mp.InputError, match="latencies of 52 days"):
        mp.time_cost_problem(mp.Pipeline(graph, slo_s=1.0), instance.profiles, instance.trace)
