"""What is not served, and why: only what limits leave no replicas for, or what costs more to serve than is lost."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from fractions import Fraction
from typing import Any

import networkx as nx
import numpy as np
import pytest

import mipplan as mp
from campaigns import campaign_size, write_summary
from mipplan.calculus import ArrivalCurve
from mipplan.profiles import Hardware, LatencyTable, Profiles
from oracle_scaling import slow_keeps
from tuner_cases import bounded_case, chain, singles, with_objective


def fan_out_plan() -> mp.Plan:
    """A stage that queries visit once, and one that they visit three times: waits are shared out."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("once", model="m")
    graph.add_node("thrice", model="m")
    graph.add_edge("once", "thrice", fanout=3)
    table = LatencyTable("m", "h", np.array([1]), np.array([10.0]))
    profiles = Profiles.from_parts([Hardware("h", 1.0)], [table])
    choices = {"once": ("h", 1, 1), "thrice": ("h", 1, 1)}
    return mp.Plan.from_choices(mp.Pipeline(graph), profiles, choices, slo_s=0.2)


@pytest.mark.parametrize("rate_rps", [190_000, 900_000])
def test_thousands_of_replicas_are_no_reason_to_shed(rate_rps: int) -> None:
    """A thousandth of such traffic takes several replicas, which must not be dearer than to shed it."""
    tuner = mp.Tuner(chain(slo_s=0.045, a=([10_000_000], 1), b=([1_000_000], 1)), keep="objective")
    step = tuner.retune(traffic=ArrivalCurve.token_bucket(2, rate_rps))
    assert (step.share, step.notes, step.replan) == (1.0, (), False)
    assert step.replicas["a"] >= rate_rps / 100


def test_limits_bind_thousands_of_replicas_too() -> None:
    tuner = mp.Tuner(
        chain(slo_s=0.045, a=([10_000_000], 1)), keep="objective", conditions=mp.Conditions({"h": 4_999})
    )
    step = tuner.retune(traffic=ArrivalCurve.token_bucket(2, 900_000))
    assert step.share == pytest.approx(4_999 / 9_000, abs=1e-3)
    assert step.notes == (
        f"{step.share:.1%} of the traffic can be served within the objective: h is used up",
    )
    assert step.replan


def test_losses_below_the_price_of_serving_are_taken_and_said() -> None:
    tuner = mp.Tuner(chain(slo_s=0.045, a=([10_000_000], 1)), keep="objective")
    joint = mp.JointTuner({"p": tuner}, loss_usd_per_hour={"p": 0.5})
    step = joint.retune(traffic={"p": ArrivalCurve.token_bucket(29, 10)})["p"]
    assert step.replicas == {"a": 1}
    assert step.share < 0.2
    assert step.notes[0].endswith("is served: to serve more would cost more than is lost (loss_usd_per_hour)")
    assert not step.replan, "the hardware is not to blame"


@pytest.mark.parametrize("backlog", [0, 50])
def test_the_bound_is_below_what_shedding_saves(backlog: int) -> None:
    """Where waits are shared out, the bound found first knows of no shedding."""
    tuner = mp.Tuner(fan_out_plan(), keep="objective", activation_delay_s=1.0)
    joint = mp.JointTuner({"p": tuner}, loss_usd_per_hour={"p": 0.01})
    step = joint.retune(traffic={"p": ArrivalCurve.token_bucket(20, 500)}, backlog={"p": backlog})["p"]
    assert step.share < 1
    assert step.gap is not None
    assert 0 <= step.gap < 1


def test_only_limits_on_hardware_that_a_pipeline_uses_bind_it() -> None:
    """With losses each pipeline sheds for itself: what another has used up does not concern it."""
    mine, other = chain(slo_s=0.045, a=([10_000_000], 1)), fan_out_plan()
    renamed = Profiles.from_parts(
        [Hardware("g", 1.0)], [LatencyTable("m", "g", np.array([1]), np.array([10.0]))]
    )
    choices = dict.fromkeys(other.pipeline.stages, ("g", 1, 1))
    other = mp.Plan.from_choices(other.pipeline, renamed, choices, slo_s=0.2)
    joint = mp.JointTuner(
        {"mine": mp.Tuner(mine), "other": mp.Tuner(other)},
        conditions=mp.Conditions({"h": 3, "g": 3}),
        loss_usd_per_hour={"mine": 1_000, "other": 1_000},
    )
    steps = joint.retune(
        traffic={"mine": ArrivalCurve.token_bucket(29, 10), "other": ArrivalCurve.token_bucket(29, 200)}
    )
    assert steps["mine"].notes[0].endswith("within the objective: h is used up")
    assert "g is used up" in steps["other"].notes[0]
    assert "h is used up" not in steps["other"].notes[0]


@pytest.mark.parametrize(
    ("burst", "rate_rps", "limit", "replicas", "share"),
    [
        (4, 50, 3, (1, 2), 1.0),
        (8, 100, 4, (1, 3), 1.0),
        (8, 100, 3, (1, 2), 2 / 3),
        (8, 100, 2, (1, 1), 1 / 3),
    ],
)
def test_shared_out_waits_are_shed_too(
    burst: int, rate_rps: int, limit: int, replicas: tuple[int, int], share: float
) -> None:
    """Three visits of 10 ms at 100 queries per second: three replicas for all of it, one for a third."""
    tuner = mp.Tuner(fan_out_plan(), keep="objective", conditions=mp.Conditions({"h": limit}))
    step = tuner.retune(traffic=ArrivalCurve.token_bucket(burst, rate_rps))
    assert tuple(step.replicas.values()) == replicas
    assert step.share == pytest.approx(share, abs=2e-3)
    assert step.replan == (share < 1)
    assert step.notes == (
        ()
        if share == 1
        else (f"{step.share:.1%} of the traffic can be served within the objective: h is used up",)
    )


def test_an_objective_out_of_reach_is_told_from_limits() -> None:
    """Service times take 30 ms with any number of replicas; counts keep up with the rate all the same."""
    plan = fan_out_plan().with_slo(29_000_000)
    step = mp.Tuner(plan, keep="objective").retune(traffic=ArrivalCurve.token_bucket(8, 190))
    assert tuple(step.replicas.values()) == (2, 6)
    assert step.notes[0].startswith(
        "no number of replicas keeps the objective: service times and delays alone"
    )
    assert (step.share, step.replan) == (1.0, True)


@pytest.mark.parametrize(
    ("limit", "most", "conditions", "replan", "why"),
    [
        (1, None, {}, True, "t4 is used up"),
        (None, None, {"budget_usd_per_hour": 1.5}, True, "the budget is used up"),
        (None, 1, {}, True, "b has the most replicas allowed (1)"),
        # Another one may be ordered the next time.
        (None, None, {"most_added": 0}, False, "b has the most replicas allowed (1)"),
    ],
)
@pytest.mark.parametrize(("burst", "rate_rps"), [(1, 0.5), (3, 1.9)])
def test_too_few_replicas_for_the_tokens_of_one_query_serve_nothing_in_time(
    limit: int | None,
    most: int | None,
    conditions: dict[str, Any],
    replan: bool,
    why: str,
    burst: int,
    rate_rps: float,
) -> None:
    """Fifty tokens of 10 ms take one replica half a second; the objective is 300 ms, which two keep."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("a", model="a")
    graph.add_node("b", model="b", replicas={"min": 1} if most is None else {"min": 1, "max": most})
    graph.add_edge("a", "b", fanout=50)
    tables = [
        LatencyTable("a", "cpu", np.array([1]), np.array([5.0])),
        LatencyTable("b", "t4", np.array([1]), np.array([10.0])),
    ]
    profiles = Profiles.from_parts([Hardware("cpu", 0.1), Hardware("t4", 1.0, limit=limit)], tables)
    plan = mp.Plan.from_choices(
        mp.Pipeline(graph), profiles, {"a": ("cpu", 1, 1), "b": ("t4", 1, 1)}, slo_s=0.3
    )
    tuner = mp.Tuner(plan, keep="objective", conditions=mp.Conditions(**conditions) if conditions else None)
    step = tuner.retune(traffic=ArrivalCurve.token_bucket(burst, rate_rps))
    assert (dict(step.replicas), step.share, step.replan) == ({"a": 1, "b": 1}, 0.0, replan)
    assert step.notes == (
        f"0.0% of the traffic can be served within the objective: {why}",
        "a query's own tokens alone take too long with these replicas: see the latency bound",
    )
    free = mp.Tuner(plan, keep="objective").retune(traffic=ArrivalCurve.token_bucket(1, 0.5))
    if limit is None and most is None:
        assert (free.share, free.replan, free.notes) == (1.0, False, ())


def test_whoever_admits_the_share_that_is_stated_keeps_the_objective() -> None:
    """Random pipelines, fan-outs among them, under limits, budgets and paces, against the bound as it is written."""
    seen: Counter[str] = Counter()
    for number in range(campaign_size(quick=150, deep=3_000)):
        rng = np.random.default_rng([104, number])
        case, curve = bounded_case(rng, max_stages=3)
        plan = with_objective(case, curve, rng)
        kind = rng.choice(["limits", "budget", "pace"])
        given: dict[str, Any] = {
            "limits": {"limits": {"h": int(rng.integers(1, 9))}},
            "budget": {
                "budget_usd_per_hour": (plan.usd_per_hour or 0.0) * float(rng.choice([0.5, 1.0, 2.0]))
            },
            "pace": {"most_added": int(rng.integers(0, 3)), "most_removed": int(rng.integers(0, 3))},
        }[str(kind)]
        step = mp.Tuner(plan, keep="objective", conditions=mp.Conditions(**given)).retune(traffic=curve)
        if any(note.startswith("no number of replicas") for note in step.notes):
            seen["out of reach"] += 1
            continue
        share = Fraction(step.share).limit_denominator(1000)
        buckets = [
            (1 + share * (Fraction(burst) - 1), share * Fraction(rate)) for burst, rate in curve.buckets
        ]
        if share > 0:
            assert slow_keeps(case.pipeline, singles(case), step.replicas, buckets, plan.slo_ns), number
        seen["all" if share == 1 else "some" if share else "none"] += 1
        assert bool(step.notes) == (share < 1)
    assert min(seen["all"], seen["some"], seen["none"]) > 3, seen
    write_summary("tuner_shares", dict(seen))


def test_conditions_and_tuners_can_be_sent_to_another_process() -> None:
    conditions = mp.Conditions({"h": 3, "g": 3}, most_added=2)
    tuner = mp.Tuner(chain(slo_s=0.045, a=([10_000_000], 1)), conditions=conditions)
    for again in (pickle.loads(pickle.dumps(conditions)), copy.deepcopy(conditions)):
        assert {conditions: 1}[again] == 1
    tuner.observe(np.arange(100) * 10**7)
    sent = pickle.loads(pickle.dumps(tuner))
    assert sent.retune() == tuner.retune()
