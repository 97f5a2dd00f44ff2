"""The greedy search: against the slow one, its guarantee, and instances worked by hand."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mipplan as mp
from campaigns import campaign_size, write_summary
from mipplan.baselines.greedy import Estimator, GreedySearch
from mipplan.baselines.problem import BaselineProblem, pose
from mipplan.core import Deadline
from mipplan.profiles import Hardware, LatencyTable
from mipplan.result import Limit
from oracle_greedy import Settings, SlowGreedy, as_settings
from planning_instances import PlanningInstance, planning_instance

#: What the event loop of the oracle can afford.
MOST_ARRIVALS = 30


def short_instance(number: int) -> PlanningInstance:
    """An instance of few arrivals, its objective as it is or much tighter."""
    made = planning_instance(number)
    trace = mp.Trace.from_ns(made.trace.arrival_ns[:MOST_ARRIVALS], name="random")
    slo_ns = max(1, int(made.slo_ns * (1.0, 0.6, 0.4, 0.25)[number % 4]))
    return PlanningInstance(
        made.pipeline, made.profiles, trace, slo_ns, made.quantile, made.seed, made.features
    )


def greedy(instance: PlanningInstance, **more: Any) -> mp.Plan:
    """Plan it greedily."""
    arguments = {**instance.arguments, **more}
    return mp.baselines.inferline(instance.pipeline, instance.profiles, instance.trace, **arguments)


def slow(instance: PlanningInstance) -> SlowGreedy:
    """The oracle on the same problem."""
    return SlowGreedy(
        instance.pipeline,
        instance.profiles,
        instance.trace,
        instance.slo_ns,
        instance.quantile,
        instance.seed,
    )


def is_blocked(plan: mp.Plan) -> bool:
    """Whether some stage can run on nothing."""
    return (plan.reason or "").startswith("nothing can carry")


def replayed_ns(plan: mp.Plan, trace: mp.Trace) -> int:
    """What the estimator estimates."""
    return mp.replay(plan, trace, discipline="fifo").quantile_ns(plan.quantile)


def test_it_does_what_the_slow_one_does() -> None:
    count = campaign_size(40, 10_000)
    seen = dict.fromkeys(("planned", "no start", "blocked", "estimator calls", "calls of the oracle"), 0)
    first = 0 if count < 1_000 else 50_000
    for number in range(first, first + count):
        instance = short_instance(number)
        if instance.trace.span_ns == 0:
            continue
        plan = greedy(instance)
        if is_blocked(plan):
            seen["blocked"] += 1
            continue
        oracle = slow(instance)
        assert as_settings(plan.choices) == (oracle.minimize() or {}), number
        seen["planned" if plan.choices else "no start"] += 1
        assert plan.effort is not None
        assert plan.effort.estimator_calls <= len(oracle.simulated)
        seen["estimator calls"] += plan.effort.estimator_calls
        seen["calls of the oracle"] += len(oracle.simulated)
    assert min(seen.values()) > 0
    write_summary("greedy", {"instances": count, **seen})


@given(st.integers(0, 10**6))
@settings(max_examples=campaign_size(15, 2_000))
def test_no_single_action_improves_the_result(number: int) -> None:
    """The paper's guarantee: every cheaper neighbour misses the objective."""
    instance = short_instance(number)
    if instance.trace.span_ns == 0:
        return
    plan = greedy(instance)
    if not plan.choices:
        assert plan.status == "infeasible"
        assert plan.reason
        return
    assert replayed_ns(plan, instance.trace) <= plan.slo_ns
    oracle, chosen = slow(instance), as_settings(plan.choices)
    assert oracle.allowed(chosen)
    for stage, (hardware, cap, replicas) in chosen.items():
        fewer: Settings = {**chosen, stage: (hardware, cap, replicas - 1)}
        if replicas > 1 and oracle.allowed(fewer):
            thinner = mp.Plan.from_choices(instance.pipeline, instance.profiles, fewer, **instance.arguments)
            assert replayed_ns(thinner, instance.trace) > plan.slo_ns
        downgraded = oracle.downgrade(chosen, stage)
        assert downgraded is None or oracle.cost(downgraded) >= oracle.cost(chosen)
        larger = oracle.increase_batch(chosen, stage)
        assert larger is None or not oracle.feasible(larger)


@given(st.integers(0, 10**6))
@settings(max_examples=campaign_size(25, 1_000))
def test_estimates_are_what_replay_says(number: int) -> None:
    """Whatever the estimator remembers, in whatever order it is asked."""
    instance = short_instance(number)
    posed: list[Any] = []

    class Watched(Estimator):
        def keeps(self, configuration: Any) -> bool:
            answer = super().keeps(configuration)
            posed.append(({s: c.choice for s, c in configuration.items()}, answer))
            return answer

    if instance.trace.span_ns:
        problem = pose(
            instance.pipeline, instance.profiles, instance.trace, "inferline", **instance.arguments
        )
        if isinstance(problem, BaselineProblem):
            GreedySearch(problem, Watched(problem, "auto", Deadline()), lambda _: None).run()
    plans = [
        mp.Plan.from_choices(instance.pipeline, instance.profiles, choices, **instance.arguments)
        for choices, _ in posed[:60]
    ]
    for (_, answer), plan in zip(posed, plans, strict=False):
        assert answer == (replayed_ns(plan, instance.trace) <= plan.slo_ns)


def knapsack() -> tuple[mp.Pipeline, mp.Profiles, mp.Trace]:
    """Three stages in a row, each on a fast and a slow device of its own, at most two replicas."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for stage in "abc":
        graph.add_node(stage, model=stage, replicas={"max": 2})
    graph.add_edges_from([("a", "b"), ("b", "c")])
    figures = {"a": (5.5, 0.5, 50.0), "b": (4.75, 0.25, 30.0), "c": (4.75, 0.25, 30.0)}
    hardware, tables = [], []
    for stage, (fast_usd, slow_usd, slow_ms) in figures.items():
        for kind, price, latency_ms in (("fast", fast_usd, 10.0), ("slow", slow_usd, slow_ms)):
            hardware.append(Hardware(f"{kind}_{stage}", price))
            tables.append(LatencyTable(stage, f"{kind}_{stage}", np.array([1]), np.array([latency_ms])))
    trace = mp.Trace.from_seconds(np.arange(20) * 0.2)
    return mp.Pipeline(graph, slo_s=0.07), mp.Profiles.from_parts(hardware, tables), trace


def test_greedy_pays_10_where_6_would_do() -> None:
    """A knapsack: the largest saving uses up the time that two smaller ones would have shared.

    One query every 200 ms, an objective of 70 ms: nothing ever waits, and a query takes the sum of its three
    batches. On fast devices that is 3 · 10 ms for 5.5 + 4.75 + 4.75 = 15 $/h, which leaves 40 ms. The slow device
    of *a* saves 5 and takes 40 ms more; those of *b* and *c* save 4.5 each and take 20 ms more each. The greedy
    search takes the 5, has no time left, and pays 10; the other two save 9 in the same time, which leaves 6.
    """
    pipeline, profiles, trace = knapsack()
    plan = mp.baselines.inferline(pipeline, profiles, trace)
    assert as_settings(plan.choices) == {
        "a": ("slow_a", 1, 1),
        "b": ("fast_b", 1, 1),
        "c": ("fast_c", 1, 1),
    }
    assert plan.usd_per_hour == 10.0
    assert replayed_ns(plan, trace) == plan.slo_ns

    kept = []
    options = [[(f"{kind}_{stage}", 1, n) for kind in ("fast", "slow") for n in (1, 2)] for stage in "abc"]
    for chosen in itertools.product(*options):
        other = mp.Plan.from_choices(pipeline, profiles, dict(zip("abc", chosen, strict=True)))
        if replayed_ns(other, trace) <= other.slo_ns:
            kept.append(other.usd_per_hour)
    assert min(kept) == 6.0


def test_replicas_go_to_the_bottleneck_and_larger_batches_replace_them() -> None:
    """One stage, ten queries at once every second, 100 ms: at batch 1 (20 ms) five waves are in time, so 2 replicas.

    At batch 2 (24 ms) one replica serves the ten in 5 · 24 = 120 ms, too late; at batch 4 (30 ms) in 90 ms. So the
    cap has to be doubled twice, at no saving, before the second replica goes.
    """
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="m")
    table = LatencyTable("m", "gpu", np.array([1, 2, 4]), np.array([20.0, 24.0, 30.0]))
    profiles = mp.Profiles.from_parts([Hardware("gpu", 1.0)], [table])
    trace = mp.Trace.from_seconds(np.repeat(np.arange(5), 10))
    lines: list[str] = []
    plan = mp.baselines.inferline(
        mp.Pipeline(graph, slo_s=0.1), profiles, trace, quantile=1.0, progress=lines.append
    )
    assert as_settings(plan.choices) == {"a": ("gpu", 4, 1)}
    # Start: 1, 2 replicas. Improve: 1 at batch 1 is known; batch 2; 1 at batch 2; batch 4; 1 at batch 4.
    assert plan.effort is not None
    assert plan.effort.estimator_calls == 6
    assert lines[0] == "2.0000 $/h after 2 replays"
    assert lines[-1] == "1.0000 $/h after 6 replays"


def test_no_start_if_batches_alone_are_too_slow() -> None:
    pipeline, profiles, trace = knapsack()
    plan = mp.baselines.inferline(pipeline, profiles, trace, slo_s=0.03)
    assert plan.status == "given"
    plan = mp.baselines.inferline(pipeline, profiles, trace, slo_s=0.0299)
    assert (plan.status, dict(plan.choices), plan.usd_per_hour) == ("infeasible", {}, None)
    assert plan.reason == (
        "the greedy search gives up: batches of one on the fastest hardware take 30 ms along a → b → c, more than "
        "the objective of 29.9 ms"
    )
    assert plan.effort is not None
    assert plan.effort.estimator_calls == 0


def test_a_pinned_stage_that_is_too_slow_ends_the_search() -> None:
    pipeline, profiles, _ = knapsack()
    trace = mp.Trace.from_seconds(np.arange(40) * 0.001)
    plan = mp.baselines.inferline(pipeline, profiles, trace)
    assert plan.status == "infeasible"
    assert "no token waits where replicas may be added" in (plan.reason or "")


def test_a_stage_that_nothing_can_carry_is_named() -> None:
    pipeline, profiles, trace = knapsack()
    for name in ("fast_b", "slow_b"):
        limited = Hardware(name, 1.0, limit=0)
        profiles = profiles.with_hardware(limited)
    plan = mp.baselines.inferline(pipeline, profiles, trace)
    assert plan.status == "infeasible"
    assert (plan.reason or "").startswith("nothing can carry b: fast_b")


def test_devices_that_are_taken_are_passed_over() -> None:
    pipeline, profiles, trace = knapsack()
    tables = [LatencyTable(stage, "shared", np.array([1]), np.array([1.0])) for stage in "abc"]
    plan = mp.baselines.inferline(
        pipeline, profiles.with_hardware(Hardware("shared", 0.125, limit=2), tables), trace
    )
    assert [choice.hardware for choice in plan.choices.values()] == ["shared", "shared", "slow_c"]


def test_time_limit_and_interrupt_leave_the_best_so_far() -> None:
    pipeline, profiles, trace = knapsack()
    plan = mp.baselines.inferline(pipeline, profiles, trace, time_limit_s=1e-9)
    assert (plan.status, plan.limit) == ("unknown", Limit.TIME)
    assert "time limit" in (plan.reason or "")

    def interrupt(line: str) -> None:
        raise KeyboardInterrupt

    plan = mp.baselines.inferline(pipeline, profiles, trace, progress=interrupt)
    assert (plan.status, plan.usd_per_hour, plan.limit) == ("given", 15.0, Limit.INTERRUPT)
    assert "interrupted" in (plan.reason or "")


def test_the_plan_is_a_plan_like_any_other(tmp_path: Path) -> None:
    """Saved, loaded, replayed, and re-checked: `verify` says that its certificate does not keep the objective."""
    pipeline, profiles, trace = knapsack()
    plan = mp.baselines.inferline(pipeline, profiles, trace, seed=3, quantile=0.9)
    plan.save(tmp_path / "plan.json")
    loaded = mp.Plan.load(tmp_path / "plan.json")
    assert loaded == plan
    assert (loaded.solver, loaded.formulation, loaded.seed) == ("inferline", None, 3)
    assert loaded.lower_bound_usd_per_hour is None
    assert plan.certificate_ns == mp.certify(plan, trace).bound_ns == (50 + 2 * 10 + 2 * 10) * 1_000_000
    checked = mp.verify(tmp_path / "plan.json", trace)
    assert checked.problems == ("the certificate is 90 ms, above the objective of 70 ms",)


@pytest.mark.parametrize("engine", ["numba", "numpy", "python"])
def test_engines_agree(engine: str) -> None:
    pytest.importorskip("numba")
    instance = short_instance(8)
    assert greedy(instance, engine=engine) == greedy(instance)


def test_every_bad_argument_is_named() -> None:
    pipeline, profiles, trace = knapsack()
    with pytest.raises(mp.InputError) as caught:
        mp.baselines.inferline(
            pipeline, profiles, trace, slo_s=-1, quantile=99, seed=-1, time_limit_s=0, engine="steam"
        )
    places = [fault.place for fault in caught.value.faults]
    assert places == ["slo_s", "quantile", "seed", "time_limit_s", "engine"]
    with pytest.raises(mp.InputError, match="one instant"):
        mp.baselines.inferline(pipeline, profiles, mp.Trace.from_ns([5, 5]))
    with pytest.raises(mp.InputError, match=r"trace: a baseline plans for one Trace, found .*compare"):
        mp.baselines.inferline(pipeline, profiles, [trace, trace])  # type: ignore[arg-type]
