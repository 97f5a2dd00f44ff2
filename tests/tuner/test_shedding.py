"""What is not served, and why: only what limits leave no replicas for, or what costs more to serve than is lost."""

from __future__ import annotations

import networkx as nx
import numpy as np
import pytest

import mipplan as mp
from mipplan.calculus import ArrivalCurve
from mipplan.profiles import Hardware, LatencyTable, Profiles
from tuner_cases import chain


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
        else (
            f"{step.share:.1%} of the traffic can be served within the objective: h is used up",
            "queries wait longer for their own tokens than that assumes: see the latency bound",
        )
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
