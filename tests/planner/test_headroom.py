"""Headroom on the traffic and margin on the objective: nothing but another trace and another objective."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

import mipplan as mp
from campaigns import campaign_size
from mipplan.calculus import empirical_envelope
from planning_instances import hand_made, planning_instance

NUMBERS = range(9000, 9000 + campaign_size(10, 60))


def cost(plan: mp.Plan) -> float:
    assert plan.status in ("optimal", "infeasible")
    return math.inf if plan.microusd_per_hour is None else plan.microusd_per_hour


@pytest.mark.parametrize("number", NUMBERS)
def test_is_planning_on_more_traffic_with_a_tighter_objective(number: int, tmp_path: Path) -> None:
    instance = planning_instance(number)
    slo_s = 1.3 * instance.slo_ns / 1e9
    margin_s = 0.1 * slo_s
    plan = instance.plan(slo_s=slo_s, headroom=1.2, margin_s=margin_s)
    tighter_ns = plan.slo_ns - plan.margin_ns
    scaled = mp.plan(
        instance.pipeline,
        instance.profiles,
        instance.trace.scale(1.2),
        slo_s=tighter_ns / 1e9,
        quantile=instance.quantile,
        seed=instance.seed,
    )
    assert scaled.slo_ns == tighter_ns
    assert (plan.status, dict(plan.choices)) == (scaled.status, dict(scaled.choices))
    assert cost(plan) == cost(scaled)
    assert (plan.certificate_ns, plan.bound_ns) == (scaled.certificate_ns, scaled.bound_ns)
    if plan.choices:
        # The file names the trace as it was given, and is re-checked on that one.
        assert plan.trace is not None
        assert plan.trace.sha256 == instance.trace.sha256
        plan.save(tmp_path / "plan.json")
        verification = mp.verify(tmp_path / "plan.json", instance.trace)
        assert (verification.problems, verification.remarks) == ((), ())
        assert mp.Plan.load(tmp_path / "plan.json") == plan


@pytest.mark.parametrize("number", NUMBERS)
def test_more_headroom_or_margin_never_costs_less(number: int) -> None:
    instance = planning_instance(number)
    slo_s = 1.2 * instance.slo_ns / 1e9
    by_headroom = [cost(instance.plan(slo_s=slo_s, headroom=h)) for h in (1.0, 1.05, 1.3, 2.0)]
    assert by_headroom == sorted(by_headroom)
    by_margin = [cost(instance.plan(slo_s=slo_s, margin_s=share * slo_s)) for share in (0.0, 0.1, 0.3, 0.9)]
    assert by_margin == sorted(by_margin)


def test_margin_to_the_nanosecond() -> None:
    instance = hand_made()
    certificate_ns = instance.plan().certificate_ns
    assert certificate_ns is not None
    slack_ns = instance.slo_ns - certificate_ns
    assert dict(instance.plan(margin_s=slack_ns / 1e9).choices) == dict(instance.plan().choices)
    beyond = instance.plan(margin_s=(slack_ns + 1) / 1e9)
    assert beyond.certificate_ns is not None
    assert beyond.certificate_ns < certificate_ns


def test_verify_holds_the_file_to_its_margin(tmp_path: Path) -> None:
    instance = hand_made()
    plan = instance.plan(margin_s=0.02)
    plan.save(tmp_path / "plan.json")
    assert mp.verify(tmp_path / "plan.json", instance.trace).verified
    # On busier traffic the objective is kept, the margin is not.
    busier = mp.Trace.from_ns([t for start in range(0, 400_000_000, 40_000_000) for t in [start] * 7])
    bound_ns = mp.certify(plan, busier).bound_ns
    assert plan.slo_ns - plan.margin_ns < bound_ns <= plan.slo_ns
    overloaded, missed = mp.verify(tmp_path / "plan.json", busier).problems
    assert "stage 'identify' is overloaded" in overloaded
    assert "less 20 ms of margin" in missed


def test_reason_counts_the_margin_in() -> None:
    instance = hand_made()
    plan = instance.plan(slo_s=0.02, margin_s=0.012)
    assert plan.status == "infeasible"
    reason = plan.reason or ""
    assert "P99 ≤ 20 ms less 12 ms of margin" in reason
    asked_s = int(reason.split("Ask for at least ")[1].split("ms")[0]) / 1e3
    assert instance.plan(slo_s=asked_s, margin_s=0.012).status == "optimal"
    assert instance.plan(slo_s=asked_s - 0.001, margin_s=0.012).status == "infeasible"


def test_own_envelope_is_that_of_the_scaled_traffic() -> None:
    instance = hand_made()
    plan = instance.plan(guarantee="envelope", headroom=1.5, slo_s=0.5)
    assert plan.envelope == empirical_envelope(instance.trace.scale(1.5).arrival_ns).buckets


@pytest.mark.parametrize(
    ("wrong", "place"),
    [
        ({"headroom": 0.9}, "headroom"),
        ({"headroom": math.nan}, "headroom"),
        ({"headroom": 1001}, "headroom"),
        ({"headroom": "1.2"}, "headroom"),
        ({"headroom": True}, "headroom"),
        ({"margin_s": -0.001}, "margin_s"),
        ({"margin_s": 0.08}, "margin_s"),
        ({"margin_s": math.inf}, "margin_s"),
        ({"margin_s": "5ms"}, "margin_s"),
    ],
)
def test_bad_arguments(wrong: dict[str, object], place: str) -> None:
    with pytest.raises(mp.InputError) as caught:
        hand_made().plan(**wrong)
    assert [fault.place for fault in caught.value.faults] == [place]
