"""The tuner as it is used: brute force over counts, replays inside the envelope, limits, and what it says."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import product
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from adversarial_traffic import conforming_traffic
from campaigns import Violations, campaign_size, write_summary
from mipplan.calculus import ArrivalCurve, Envelope, WindowCounts, WorstCase
from mipplan.certificate import plan_services
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.result import Plan
from mipplan.tuner.stages import Tokens
from oracle_scaling import slow_cheapest, slow_keeps
from random_pipelines import Case
from tuned_plans import one_stage
from tuner_cases import bounded_case, chain, singles, with_objective

MOST = 5


def priced(case: Case, rng: np.random.Generator) -> Case:
    """Give every stage hardware of its own price, so that it matters which stage gets a replica less."""
    names = {stage: f"h{k}" for k, stage in enumerate(case.pipeline.stages)}
    hardware = [Hardware(name, float(rng.choice([0.1, 0.5, 1.0, 4.0]))) for name in names.values()]
    tables = []
    for stage, name in names.items():
        model = case.pipeline.stages[stage].model
        table = case.profiles.table(model, "h")
        assert table is not None
        tables.append(LatencyTable(model, name, table.batch, table.latency_ms))
    choices = {stage: (names[stage], b, n) for stage, (_, b, n) in case.choices.items()}
    return case._replace(profiles=Profiles.from_parts(hardware, tables), choices=choices)


def test_counts_are_the_cheapest_that_keep_the_envelope_bound() -> None:
    """Random pipelines, fan-outs included, against every combination of counts and the bound as it is written."""
    seen: Counter[str] = Counter()
    excess = 0.0
    for number in range(campaign_size(quick=60, deep=1_200)):
        rng = np.random.default_rng([101, number])
        case, curve = bounded_case(rng, max_stages=3)
        case = priced(case, rng)
        plan = with_objective(case, curve, rng)
        prices = {s: plan.profiles.hardware[c.hardware].microusd_per_hour for s, c in plan.choices.items()}
        best = slow_cheapest(case.pipeline, singles(case), prices, curve.buckets, plan.slo_ns, MOST)
        step = mp.Tuner(plan).retune(traffic=curve)
        if step.replan:
            # The bound in whole ns is up to a ns per stage above that in rational numbers.
            assert best is None or not slow_keeps(
                case.pipeline, singles(case), best[1], curve.buckets, plan.slo_ns - len(prices) - 1
            )
            seen["none"] += 1
            continue
        assert slow_keeps(case.pipeline, singles(case), step.replicas, curve.buckets, plan.slo_ns), number
        assert step.latency_bound_ns is not None
        assert step.latency_bound_ns <= plan.slo_ns
        assert step.share == 1
        if best is None:
            assert max(step.replicas.values()) > MOST, number
            seen["more than tried"] += 1
            continue
        lower = step.lower_bound_microusd_per_hour
        assert lower is not None
        # Windows of a curve are rounded down to whole ns, which can cost a replica where everything takes a few ns.
        seen["proven" if lower >= step.microusd_per_hour else "with a gap"] += 1
        seen["cheapest" if best[0] >= step.microusd_per_hour else "dearer"] += 1
        excess = max(excess, (step.microusd_per_hour - best[0]) / best[0])
    assert seen["cheapest"] > 0.9 * (seen["cheapest"] + seen["dearer"]), seen
    assert seen["proven"] > 0
    write_summary("tuner_against_exhaustive", {**seen, "largest_excess": round(excess, 4)})


def test_traffic_inside_the_envelope_keeps_the_objective_in_replay() -> None:
    """Adversarial traffic: as early as the curve admits, with pauses, mirrored; every draw; exact replay."""
    tally: Counter[str] = Counter()
    tightest = 0.0
    violations = Violations()
    for number in range(campaign_size(quick=120, deep=6_000)):
        with violations.case(number):
            rng = np.random.default_rng([102, number])
            case, curve = bounded_case(rng)
            plan = with_objective(case, curve, rng)
            step = mp.Tuner(plan).retune(traffic=curve)
            if step.replan:
                tally["refused"] += 1
                continue
            assert step.latency_bound_ns is not None
            tuned = case._replace(
                choices={s: (h, b, step.replicas[s]) for s, (h, b, _) in case.choices.items()}
            )
            for seed, trace in enumerate(conforming_traffic(rng, curve)):
                latest = int(mp.replay(tuned.plan(seed=seed), trace).latency_ns.max())
                assert latest <= step.latency_bound_ns <= plan.slo_ns, f"case {number}"
                tightest = max(tightest, latest / step.latency_bound_ns)
                tally["replays"] += 1
            tally["lowered"] += any(step.replicas[s] < n for s, n in case.replicas().items())
            tally["raised"] += any(step.replicas[s] > n for s, n in case.replicas().items())
    assert min(tally["lowered"], tally["raised"], tally["replays"]) > 10
    assert tightest > 0.95
    write_summary(
        "tuner_in_replay", {**tally, "violations": violations.checked(), "tightest": round(tightest, 4)}
    )


def test_live_windows_are_enough_for_the_traffic_they_saw() -> None:
    """What was observed, replayed with what the tuner made of it: nobody is later than the bound."""
    for number in range(campaign_size(quick=40, deep=600)):
        rng = np.random.default_rng([103, number])
        case, curve = bounded_case(rng)
        plan = with_objective(case, curve, rng)
        trace = conforming_traffic(rng, curve)[0]
        tuner = mp.Tuner(plan)
        for piece in np.array_split(trace.arrival_ns, 3):
            tuner.observe(piece)
        step = tuner.retune()
        tuned = case._replace(choices={s: (h, b, step.replicas[s]) for s, (h, b, _) in case.choices.items()})
        if step.latency_bound_ns is not None:
            assert mp.replay(tuned.plan(), trace).latency_ns.max() <= step.latency_bound_ns, f"case {number}"


def test_bound_is_that_of_the_theorem() -> None:
    for number in range(60):
        rng = np.random.default_rng([104, number])
        case, curve = bounded_case(rng)
        tuner = mp.Tuner(with_objective(case, curve, rng))
        bound = tuner.bound_ns(case.replicas(), curve)
        assert bound == WorstCase(case.pipeline, curve).bound_ns(plan_services(case.plan())), number


def test_numbers_change_models_do_not() -> None:
    """Rebuilds are counted: one model for all traffic, backlogs and prices of change, not one per retuning."""
    plan = chain(a=([10_000_000], 1), b=([8_000_000, 12_000_000], 2))
    tuner = mp.Tuner(
        plan, activation_delay_s=1.0, conditions=mp.Conditions({"h": 30}, added_usd_per_hour=0.1)
    )
    rng = np.random.default_rng(3)
    for number in range(40):
        curve = ArrivalCurve.token_bucket(float(rng.integers(1, 30)), float(rng.integers(1, 900)))
        step = tuner.retune(traffic=curve, backlog=int(rng.integers(0, 5)))
        assert step.reused == (number > 0)
    assert tuner.scaler.builds == 1
    assert tuner.scaler.solves >= 40


def test_waits_are_shared_out_without_rebuilds_too() -> None:
    plan = fanned_out()
    tuner = mp.Tuner(plan)
    for number, rate in enumerate([5, 20, 60, 30, 100, 10]):
        step = tuner.retune(traffic=ArrivalCurve.token_bucket(4, rate))
        assert step.reused == (number > 0)
        assert not step.replan
    assert tuner.scaler.builds == 1


def fanned_out(slo_s: float = 0.5) -> mp.Plan:
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="a")
    graph.add_node("b", model="b")
    graph.add_edge("a", "b", fanout=3)
    tables = [LatencyTable(m, "h", np.array([1, 4]), np.array([10.0, 25.0])) for m in ("a", "b")]
    profiles = Profiles.from_parts([Hardware("h", 1.0)], tables)
    return mp.Plan.from_choices(
        mp.Pipeline(graph), profiles, {"a": ("h", 1, 1), "b": ("h", 4, 1)}, slo_s=slo_s
    )


def test_by_hand() -> None:
    # One stage, a source with b = 1 and 10 ms: T = 10 ms. Five at once, 35 ms to wait: 4·10/35 replicas.
    plan = chain(slo_s=0.045, a=([10_000_000], 1))
    tuner = mp.Tuner(plan, keep="objective")
    step = tuner.retune(traffic=ArrivalCurve.token_bucket(5, 10))
    assert tuner.needs(ArrivalCurve.token_bucket(5, 10)) == {"a": Fraction(40, 35)}
    assert step.replicas == {"a": 2}
    assert (step.usd_per_hour, step.lower_bound_microusd_per_hour, step.gap) == (2.0, 2_000_000, 0.0)
    assert step.latency_bound_s == 0.03
    assert step.transient_bound_s == 0.03
    assert not step.notes
    assert tuner.replicas == {"a": 2}
    # What would do for other traffic changes nothing.
    assert tuner.replicas_for(ArrivalCurve.token_bucket(5, 450)) == {"a": 5}
    assert tuner.replicas == {"a": 2}
    # With ten queries in the queue: (4 + 10)·10/35.
    assert tuner.retune(traffic=ArrivalCurve.token_bucket(5, 10), backlog=10).replicas == {"a": 4}


def test_limits_share_what_there_is_and_say_so() -> None:
    plan = chain(slo_s=0.045, a=([10_000_000], 1))
    tuner = mp.Tuner(plan, keep="objective", conditions=mp.Conditions({"h": 3}))
    curve = ArrivalCurve.token_bucket(29, 10)
    step = tuner.retune(traffic=curve)
    assert step.replicas == {"a": 3}
    assert step.replan
    assert step.share == pytest.approx(3 / 8, abs=1e-3)
    assert step.notes == ("37.5% of the traffic can be served within the objective: h is used up",)
    # The whole traffic is later than the objective, the share that is stated is not.
    assert step.latency_bound_ns is not None
    assert step.latency_bound_ns > plan.slo_ns
    admitted = Envelope.of_curve(curve).thinned(Fraction(step.share))
    assert tuner.bound_ns(step.replicas, admitted) <= plan.slo_ns


def test_budget_and_most_replicas_bind_too() -> None:
    plan = chain(slo_s=0.045, a=([10_000_000], 1), b=([1_000_000], 1))
    curve = ArrivalCurve.token_bucket(29, 10)
    cheap = mp.Tuner(plan, keep="objective", conditions=mp.Conditions(budget_usd_per_hour=4.5)).retune(
        traffic=curve
    )
    assert cheap.usd_per_hour <= 4.5
    assert cheap.replan
    assert "budget is used up" in cheap.notes[0]
    none = mp.Tuner(plan, keep="objective", conditions=mp.Conditions(budget_usd_per_hour=1.5)).retune(
        traffic=curve
    )
    assert none.replan
    assert none.notes == ("the conditions admit not even the fewest replicas",)
    assert (none.gap, none.lower_bound_microusd_per_hour) == (None, None)


def test_a_budget_is_not_mistaken_for_hardware_of_that_name() -> None:
    plan = chain(slo_s=0.045, a=([10_000_000], 1))
    (hardware,) = {choice.hardware for choice in plan.choices.values()}
    profiles = Profiles.from_parts(
        [Hardware("budget", plan.profiles.hardware[hardware].usd_per_hour)],
        [replace(table, hardware="budget") for table in plan.profiles.tables.values()],
    )
    named = Plan.from_choices(plan.pipeline, profiles, {"a": ("budget", 1, 1)}, slo_s=0.045)
    curve = ArrivalCurve.token_bucket(29, 10)
    conditions = mp.Conditions(limits={"budget": 50}, budget_usd_per_hour=40)
    step = mp.Tuner(named, conditions=conditions).retune(traffic=curve)
    assert step.replicas == mp.Tuner(plan).retune(traffic=curve).replicas
    assert step.share == 1.0
    tight = mp.Tuner(named, conditions=replace(conditions, budget_usd_per_hour=1.0))
    assert tight.retune(traffic=curve).notes[0].endswith("served within the objective: the budget is used up")


def test_pace_of_change_is_no_reason_to_plan_anew() -> None:
    plan = chain(slo_s=0.045, a=([10_000_000], 1))
    tuner = mp.Tuner(plan, conditions=mp.Conditions(most_added=2, most_removed=1))
    curve = ArrivalCurve.token_bucket(29, 10)
    counts = []
    for _ in range(4):
        step = tuner.retune(traffic=curve)
        counts.append(step.replicas["a"])
        assert not step.replan
        assert step.share < 1 or counts[-1] == 8
    assert counts == [3, 5, 7, 8]
    assert (
        "has the most replicas allowed (3)"
        in mp.Tuner(plan, conditions=tuner.conditions).retune(traffic=curve).notes[0]
    )
    assert [tuner.retune(traffic=ArrivalCurve.token_bucket(1, 1)).replicas["a"] for _ in range(3)] == [
        7,
        6,
        5,
    ]


@pytest.mark.parametrize("conditions", [{"limits": {"h": 3}}, {"budget_usd_per_hour": 3.0}])
def test_more_than_the_conditions_admit_is_removed_no_faster_than_may_be(conditions: dict[str, Any]) -> None:
    """All but one of six went at once, and no traffic was said to be served."""
    tuner = mp.Tuner(one_stage(6), keep="objective", conditions=mp.Conditions(most_removed=1, **conditions))
    steps = [tuner.retune(traffic=ArrivalCurve.token_bucket(3, 25)) for _ in range(4)]
    assert [step.replicas["only"] for step in steps] == [5, 4, 3, 3]
    assert {(step.share, step.replan) for step in steps} == {(1.0, False)}
    assert [bool(step.notes) for step in steps] == [True, True, False, False]
    assert "most_removed lets no more of them go" in steps[0].notes[0]
    assert steps[0].objective_microusd_per_hour is None


def test_dear_changes_are_left_out() -> None:
    plan = chain(slo_s=0.045, a=([10_000_000], 4))
    calm = ArrivalCurve.token_bucket(1, 1)
    assert mp.Tuner(plan).retune(traffic=calm).replicas == {"a": 1}
    sticky = mp.Tuner(plan, conditions=mp.Conditions(removed_usd_per_hour=1.01))
    step = sticky.retune(traffic=calm)
    assert step.replicas == {"a": 4}
    assert step.objective_microusd_per_hour == step.lower_bound_microusd_per_hour == 4_000_000
    assert mp.Tuner(plan, conditions=mp.Conditions(removed_usd_per_hour=0.99)).retune(
        traffic=calm
    ).replicas == {"a": 1}


@pytest.mark.parametrize("slo_s", [0.009, 0.01])
def test_objectives_that_no_count_keeps_call_for_a_plan(slo_s: float) -> None:
    tuner = mp.Tuner(chain(slo_s=slo_s, a=([10_000_000], 3)))
    step = tuner.retune(traffic=ArrivalCurve.token_bucket(2, 500))
    assert step.replan
    assert step.replicas == {"a": 5}, "keep up with the rate at least"
    words = "no number of replicas keeps the objective: service times and delays alone take 10 ms"
    assert step.notes[0].startswith(words)


def test_fan_outs_that_no_count_keeps_call_for_a_plan() -> None:
    step = mp.Tuner(fanned_out(slo_s=0.055)).retune(traffic=ArrivalCurve.token_bucket(4, 20))
    assert step.replan
    assert step.notes


def test_keeping_the_sample_returns_the_plan_on_the_sample() -> None:
    pipeline = mp.Pipeline.read("profiles/pipelines/cascade.yaml")
    trace = mp.Trace.gamma(rate_rps=150, cv=2, duration_s=20, seed=4)
    plan = mp.plan(pipeline, mp.Profiles.default(), trace)
    tuner = mp.Tuner(plan, sample=trace, keep="sample", tokens="mean")
    same = tuner.retune()
    assert all(same.replicas[stage] <= choice.replicas for stage, choice in plan.choices.items())
    assert same.latency_bound_ns is None, "no theorem speaks of mean tokens"
    tuner.observe(trace.scale(2.0).arrival_ns)
    double = tuner.retune()
    assert double.microusd_per_hour > same.microusd_per_hour
    assert all(double.replicas[s] <= 3 * c.replicas for s, c in plan.choices.items())


def test_before_traffic_the_sample_counts() -> None:
    plan = chain(slo_s=0.045, a=([10_000_000], 1))
    with pytest.raises(mp.InputError, match="nothing to tune for"):
        mp.Tuner(plan).retune()
    tuner = mp.Tuner(plan, sample=ArrivalCurve.token_bucket(5, 10))
    assert tuner.retune().replicas == {"a": 2}
    tuner.observe([0, 10**9])
    assert tuner.retune().replicas == {"a": 1}
    with pytest.raises(mp.InputError, match="before the latest arrival"):
        tuner.retune(10)


def test_traffic_in_all_its_forms() -> None:
    plan = chain(slo_s=0.045, a=([10_000_000], 1))
    tuner = mp.Tuner(plan)
    counts = WindowCounts(np.array([10**7, 10**9]), np.array([5, 20]))
    by_counts = tuner.retune(traffic=counts)
    assert by_counts.replicas == tuner.retune(traffic=counts.envelope()).replicas
    with pytest.raises(mp.InputError, match="expected an ArrivalCurve or WindowCounts"):
        tuner.retune(traffic="much")  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [1, 2])
def test_counts_for_traffic_do_not_depend_on_what_runs(batch: int) -> None:
    plan = chain(slo_s=0.3, a=([10_000_000] * batch, 1), b=([4_000_000], 1))
    curve, quiet = ArrivalCurve.token_bucket(40, 300), ArrivalCurve.token_bucket(1, 1)
    at_once = mp.Tuner(plan).replicas_for(curve)
    tuner = mp.Tuner(plan, activation_delay_s=5.0)
    for traffic in (quiet, ArrivalCurve.token_bucket(400, 3_000), quiet):
        assert tuner.replicas_for(curve) == at_once
        tuner.retune(traffic=traffic)
    assert tuner.replicas_for(curve) == at_once


def test_steps_are_data() -> None:
    step = mp.Tuner(chain(slo_s=0.045, a=([10_000_000], 1))).retune(traffic=ArrivalCurve.token_bucket(5, 10))
    assert pickle.loads(pickle.dumps(step)) == step
    with pytest.raises(TypeError):
        step.replicas["a"] = 3  # type: ignore[index]


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ({"keep": "calm"}, "keep"),
        ({"tokens": "some"}, "tokens"),
        ({"keep": "sample"}, "sample"),
        ({"sample": 3}, "sample"),
        ({"conditions": {"h": 1}}, "conditions"),
        ({"live": 60.0}, "live"),
        ({"activation_delay_s": None}, "activation_delay_s"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, Any], place: str) -> None:
    with pytest.raises(mp.InputError) as caught:
        mp.Tuner(chain(a=([10], 1)), **arguments)
    assert caught.value.faults[0].place == place


def test_wrong_numbers_are_refused_all_at_once() -> None:
    with pytest.raises(mp.InputError) as caught:
        mp.Tuner(
            chain(a=([10], 1)),
            margin_s=-1,
            horizon_s=0,
            activation_delay_s=float("nan"),
            recovery_s=True,
            keep="x",
        )
    assert [fault.place for fault in caught.value.faults] == [
        *("keep", "margin_s", "horizon_s", "activation_delay_s", "recovery_s")
    ]


def test_what_is_no_plan_is_told() -> None:
    with pytest.raises(mp.InputError, match=r"expected a Plan, found 'plan.json'; Plan.load"):
        mp.Tuner("plan.json")  # type: ignore[arg-type]


def test_wrong_situations_are_refused_all_at_once() -> None:
    tuner = mp.Tuner(chain(a=([10], 1)))
    wrong: dict[str, Any] = {
        "ordered": {"b": 1},
        "active": [1],
        "backlog": {"a": -1},
        "now_ns": 1.5,
        "traffic": 3,
    }
    with pytest.raises(mp.InputError) as caught:
        tuner.retune(**wrong)
    places = [fault.place for fault in caught.value.faults]
    assert places == ["ordered.b", "active", "backlog.a", "now_ns", "traffic"]


def test_more_than_can_be_reckoned_with_is_told() -> None:
    curve = ArrivalCurve.token_bucket(1, 1)
    most = 10**9
    for plan in (chain(slo_s=0.045, a=([10_000_000], 1)), chain(slo_s=1e-9, a=([10_000_000], 1))):
        with pytest.raises(mp.InputError, match="a: asks for more than"):
            mp.Tuner(plan).retune(traffic=curve, backlog=most, ordered={"a": most})


def test_bounds_are_for_counts_of_all_stages() -> None:
    tuner = mp.Tuner(chain(a=([10], 1), b=([10], 1)))
    few, many = (tuner.bound_ns({"a": n, "b": n}, ArrivalCurve.token_bucket(1, 1)) for n in (1, 200_000))
    assert 20 <= many <= few
    with pytest.raises(mp.InputError, match=r"waits_ns\.b: is missing"):
        tuner.needs(ArrivalCurve.token_bucket(29, 10), {"a": 5_000_000_000})
    with pytest.raises(mp.InputError, match=r"replicas\.b: is missing"):
        tuner.bound_ns({"a": 1}, ArrivalCurve.token_bucket(1, 1))
    with pytest.raises(mp.InputError, match=r"replicas\.a: expected a whole number of at least 1"):
        tuner.bound_ns({"a": 0, "b": 1}, ArrivalCurve.token_bucket(1, 1))


def test_wrong_conditions_are_refused_all_at_once() -> None:
    with pytest.raises(mp.InputError) as caught:
        mp.Conditions({"h": -1}, budget_usd_per_hour=-2, most_added=1.5, added_usd_per_hour=float("nan"))  # type: ignore[arg-type]
    assert [fault.place for fault in caught.value.faults] == [
        *("limits.h", "most_added", "budget_usd_per_hour", "added_usd_per_hour")
    ]
    with pytest.raises(mp.InputError, match="limits: expected devices by hardware"):
        mp.Conditions(["h"])  # type: ignore[arg-type]
    assert mp.Conditions({"h": np.int64(3)}).limits == {"h": 3}  # type: ignore[dict-item]


def test_several_quantiles_are_more_than_a_bound_of_every_query_keeps() -> None:
    """Within 300 ms are all of them, and hardly any within the 100 ms that half of them were to keep."""
    slo = {"p99": "300ms", "p50": "100ms"}
    document = {"name": "p", "slo": slo, "stages": {"a": {"model": "a"}}, "edges": []}
    table = LatencyTable("a", "h", np.array([1]), np.array([40.0]))
    pipeline, profiles = (
        mp.Pipeline.from_document(document),
        Profiles.from_parts([Hardware("h", 1.0)], [table]),
    )
    plan = Plan.from_choices(pipeline, profiles, {"a": ("h", 1, 4)})
    one = Plan.from_choices(pipeline, profiles, {"a": ("h", 1, 4)}, slo_s=0.3)
    counts = mp.Tuner(one).replicas_for(ArrivalCurve.token_bucket(30, 10))
    bursts = mp.Trace.from_seconds(np.repeat([0.0, 4.0, 8.0], 30))
    schedule = {"a": mp.ReplicaSchedule([], [counts["a"]])}
    latency_s = mp.replay(one, bursts, schedule=schedule).latency_s
    assert latency_s.max() <= 0.3
    assert np.median(latency_s) > 0.1
    with pytest.raises(mp.InputError, match="keep: an arrival curve bounds every query: one limit"):
        mp.Tuner(plan)
    with pytest.raises(mp.InputError, match="keep: an arrival curve bounds every query: one limit"):
        mp.schedule(plan, [100.0], sample=ArrivalCurve.token_bucket(30, 10))
    sample = mp.Trace.poisson(rate_rps=50, duration_s=20, seed=1)
    assert mp.Tuner(plan, sample=sample).replicas_for(ArrivalCurve.token_bucket(5, 10))


def test_poisson_fan_outs_need_mean_tokens() -> None:
    import networkx as nx

    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="a")
    graph.add_node("b", model="b")
    graph.add_edge("a", "b", fanout={"poisson": 2.0})
    tables = [LatencyTable(m, "h", np.array([1]), np.array([10.0])) for m in ("a", "b")]
    plan = mp.Plan.from_choices(
        mp.Pipeline(graph),
        Profiles.from_parts([Hardware("h", 1.0)], tables),
        {"a": ("h", 1, 1), "b": ("h", 1, 1)},
        slo_s=1.0,
    )
    with pytest.raises(mp.InputError, match="Poisson"):
        mp.Tuner(plan)
    tuner = mp.Tuner(plan, tokens="mean")
    assert tuner.tokens is Tokens.MEAN
    assert float(tuner.stages["b"].tokens_per_query) == pytest.approx(2.0, abs=0.05)
    assert tuner.retune(traffic=ArrivalCurve.token_bucket(2, 300)).replicas["b"] >= 6


# ------------------------------------------------------------------------------------------- several pipelines


def test_pipelines_share_devices_as_brute_force_would() -> None:
    """All combinations of counts of two pipelines on one kind of device."""
    for number in range(campaign_size(quick=25, deep=300)):
        rng = np.random.default_rng([105, number])
        plans = {
            name: chain(
                slo_s=0.1,
                a=([int(rng.integers(5, 20)) * 10**6], 1),
                b=([int(rng.integers(5, 20)) * 10**6], 1),
            )
            for name in ("left", "right")
        }
        curves = {
            name: ArrivalCurve.token_bucket(float(rng.integers(1, 12)), float(rng.integers(10, 120)))
            for name in plans
        }
        limit = int(rng.integers(4, 12))
        joint = mp.JointTuner(
            {name: mp.Tuner(plan) for name, plan in plans.items()}, conditions=mp.Conditions({"h": limit})
        )
        steps = joint.retune(traffic=curves)
        used = sum(sum(step.replicas.values()) for step in steps.values())
        assert used <= limit
        needs = [need for name in plans for need in joint.tuners[name].needs(curves[name]).values()]
        assert all(need is not None for need in needs)
        best = max(
            min(
                min(Fraction(1), n / need) if need else Fraction(1)
                for n, need in zip(counts, needs, strict=True)
            )
            for counts in product(range(1, limit), repeat=4)
            if sum(counts) <= limit
        )
        share = min(step.share for step in steps.values())
        assert share <= best + Fraction(1, 1000)
        assert share >= best - Fraction(2, 1000), f"case {number}: {share} for {float(best)}"
        if best == 1:
            assert used == sum(max(1, math.ceil(need)) for need in needs if need is not None)


def test_who_loses_least_by_it_is_served_less() -> None:
    plan = chain(slo_s=0.045, a=([10_000_000], 1))
    curves = {"dear": ArrivalCurve.token_bucket(29, 10), "cheap": ArrivalCurve.token_bucket(29, 10)}
    conditions = mp.Conditions({"h": 10})
    tuners = {name: mp.Tuner(plan) for name in curves}
    equal = mp.JointTuner(tuners, conditions=conditions).retune(traffic=curves)
    assert equal["dear"].replicas == equal["cheap"].replicas == {"a": 5}
    losses = {"dear": 1000.0, "cheap": 100.0}
    unequal = mp.JointTuner(tuners, conditions=conditions, loss_usd_per_hour=losses).retune(traffic=curves)
    assert unequal["dear"].share == 1
    assert unequal["dear"].replicas == {"a": 8}
    assert unequal["cheap"].replicas == {"a": 2}
    assert unequal["cheap"].replan


def test_joint_tuners_check_names() -> None:
    tuner = mp.Tuner(chain(slo_s=0.045, a=([10_000_000], 1)), sample=ArrivalCurve.token_bucket(1, 1))
    for tuners in ({}, [tuner], {"p": tuner.plan}):
        with pytest.raises(mp.InputError, match=r"tuners.*: expected"):
            mp.JointTuner(tuners)  # type: ignore[arg-type]
    with pytest.raises(mp.InputError) as caught:
        mp.JointTuner({"p": tuner}, conditions={"h": 1}, loss_usd_per_hour=3)  # type: ignore[arg-type]
    assert [fault.place for fault in caught.value.faults] == ["conditions", "loss_usd_per_hour"]
    with pytest.raises(mp.InputError, match="backlog: expected values by pipeline, found 5"):
        mp.JointTuner({"p": tuner}).retune(backlog=5)  # type: ignore[arg-type]
    with pytest.raises(mp.InputError, match="there is no such pipeline"):
        mp.JointTuner({"p": tuner}).retune(backlog={"q": 1})
    with pytest.raises(mp.InputError, match=r"loss_usd_per_hour\.p: expected dollars"):
        mp.JointTuner({"p": tuner}, loss_usd_per_hour={})
    joint = mp.JointTuner({"p": tuner})
    for number in range(5):
        assert joint.retune()["p"].reused == (number > 0)
    assert joint.scaler.builds == 1
