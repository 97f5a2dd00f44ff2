"""What an objective costs under each guarantee: the price of the plan that asking for it finds, or none."""

from __future__ import annotations

from dataclasses import replace

import pytest

import mipplan as mp
from mipplan.calculus import ArrivalCurve
from mipplan.comparison import GUARANTEES
from mipplan.result import Figures, Limit, PlanStatus, Reliability
from planning_instances import hand_made, planning_instance

ALL = ["eager", "sharp", "paced", "timed", "replay", "reliable"]
CONFIDENCE = 0.6  # Six scenarios to test on.


def costs(made: mp.Plan, trace: mp.Trace, time_limit_s: float | None = None) -> dict[str, mp.GuaranteeCost]:
    return mp.guarantee_costs(made, trace, confidence=CONFIDENCE, time_limit_s=time_limit_s)


@pytest.mark.parametrize("number", [0, 5])
def test_each_guarantee_costs_what_asking_for_it_finds(number: int) -> None:
    instance = planning_instance(number)
    asked = {
        "eager": {},
        "sharp": {"certificate": "sharp"},
        "replay": {"guarantee": "replay"},
        "reliable": {"guarantee": "reliable", "confidence": CONFIDENCE},
    }
    planned = {name: instance.plan(time_limit_s=None, **more) for name, more in asked.items()}  # type: ignore[arg-type]
    for name, made in planned.items():
        found = costs(made, instance.trace)
        assert list(found) == ALL == list(GUARANTEES)
        assert {other for other, cost in found.items() if cost.is_answer} == {name}
        assert found[name].plan is made
        for other, plan in planned.items():
            assert found[other].plan.status is plan.status
            assert found[other].plan.guarantee is plan.guarantee
            assert found[other].plan.microusd_per_hour == plan.microusd_per_hour


def test_plans_keep_what_their_guarantee_says() -> None:
    instance = hand_made()
    found = costs(instance.plan(), instance.trace)
    for name in ("timed", "replay", "reliable"):
        assert mp.replay(found[name].plan, instance.trace).quantile(0.99) <= instance.slo_ns / 1e9
    for name in ("eager", "sharp", "paced", "timed"):
        certified = mp.certify(found[name].plan, instance.trace)
        assert certified.bound_ns <= instance.slo_ns, name
    test = found["reliable"].plan.reliability
    assert test is not None
    assert test.passed
    assert found["reliable"].proof.startswith(f"kept {test.kept} of {test.scenarios} fresh scenarios, ")
    assert found["reliable"].holds_for == "60 % of scenarios of tomorrow"
    # What is certified under timed dispatch replays within the objective.
    prices = {name: cost.usd_per_hour for name, cost in found.items()}
    assert prices["replay"] is not None
    assert prices["timed"] is not None
    assert prices["replay"] <= prices["timed"]


def test_what_does_not_go_with_what_was_asked_for_is_left_out() -> None:
    instance = hand_made(0.5)
    curve = ArrivalCurve.token_bucket(5.0, 125.0)
    inside = costs(instance.plan(guarantee="envelope", envelope=curve), instance.trace)
    assert [cost.holds_for for cost in inside.values()] == [
        "all traffic inside the curve",
        "all traffic inside the curve, paced",
    ]
    more = costs(instance.plan(headroom=1.2), instance.trace)
    assert list(more) == ["eager", "sharp", "paced"]
    assert more["eager"].holds_for == "every run of 1.2 × this trace"
    assert more["sharp"].holds_for == "runs of 1.2 × this trace, exact delays"
    assert more["sharp"].void_if == "the same, or a message is early"
    assert costs(instance.plan(budget_usd_per_hour=9.0), instance.trace) == {}
    mixed = costs(instance.plan(dispatch={"detect": "paced"}), instance.trace)
    assert list(mixed) == ALL
    assert not any(cost.is_answer for cost in mixed.values())
    assert mixed["replay"].plan.laws == mixed["reliable"].plan.laws
    assert mixed["replay"].plan.dispatch == "mixed"
    by_arrival = instance.plan(discipline="fifo", runs=mp.RunClass(0.9))
    found = costs(by_arrival, instance.trace)
    assert found["eager"].holds_for == "all stated runs of this trace"
    assert found["eager"].void_if == "a run is none of those stated"
    assert mixed["eager"].void_if == "a batch overruns or skips the oldest"
    assert {cost.plan.discipline for cost in found.values()} == {"fifo"}
    replayed = costs(instance.plan(discipline="fifo", guarantee="replay"), instance.trace)
    assert list(replayed) == ["timed", "replay", "reliable"]


def test_sharp_plans_are_priced_for_the_runs_that_were_asked_for() -> None:
    instance, narrow = hand_made(), mp.RunClass(0.9)
    made = instance.plan(certificate="sharp", runs=narrow, time_limit_s=None)
    found = costs(made, instance.trace)
    assert [name for name, cost in found.items() if cost.is_answer] == ["sharp"]
    assert (found["sharp"].holds_for, found["sharp"].void_if) == (
        "all stated runs of this trace",
        "a run is none of those stated",
    )
    paced = instance.plan(certificate="sharp", runs=narrow, dispatch="paced", time_limit_s=None)
    beside = costs(paced, instance.trace)
    assert [name for name, cost in beside.items() if cost.is_answer] == ["paced"]
    assert beside["sharp"].plan.runs == narrow
    assert beside["sharp"].usd_per_hour == made.usd_per_hour
    # What is certified by the classic theorem is sharply, too.
    assert found["eager"].usd_per_hour == instance.plan().usd_per_hour
    assert (made.usd_per_hour or 0.0) <= (found["eager"].usd_per_hour or 0.0)


@pytest.mark.parametrize("queries", [60_000, 101_000])
def test_no_sharp_plan_is_looked_for_where_auto_takes_the_classic_certificate(queries: int) -> None:
    """Of more tokens than it takes, or even more queries."""
    instance = hand_made()
    trace = mp.Trace.poisson(rate_rps=50, duration_s=queries / 50, seed=1)
    tokens = len(trace) * 2  # each query is at one stage after the other
    given = mp.baselines.inferline(instance.pipeline, instance.profiles, instance.trace)
    assert tokens > 100_000
    assert mp.guarantee_costs(given, trace, guarantees=("sharp",), time_limit_s=5.0) == {}


def test_traffic_that_cannot_be_resampled_has_no_price_of_reliability() -> None:
    instance = hand_made()
    short = mp.Trace.from_ns(instance.trace.arrival_ns[:15])
    made = mp.plan(instance.pipeline, instance.profiles, short, slo_s=instance.slo_ns / 1e9)
    assert list(costs(made, short)) == ["eager", "sharp", "paced", "timed", "replay"]


def test_a_plan_that_is_not_known_to_keep_anything_has_no_price() -> None:
    instance = hand_made()
    for cost in costs(instance.plan(), instance.trace, time_limit_s=1e-9).values():
        if cost.plan.status is PlanStatus.UNKNOWN:
            assert cost.usd_per_hour is None
            assert cost.proof in ("not found in the time", "not tested in the time")
        elif cost.plan.status is PlanStatus.FEASIBLE and not cost.is_answer:
            assert cost.proof.startswith(("within ", "kept ", "found, "))


def test_a_plan_that_was_given_is_no_answer_under_any_guarantee() -> None:
    instance = hand_made()
    given = mp.baselines.inferline(instance.pipeline, instance.profiles, instance.trace)
    found = mp.guarantee_costs(given, instance.trace, guarantees=("eager",), time_limit_s=None)["eager"]
    assert not found.is_answer
    assert (found.usd_per_hour, found.proof) == (instance.plan().usd_per_hour, "proven cheapest")


def test_what_there_was_no_time_for_says_under_which_guarantee_it_was_asked() -> None:
    instance = hand_made()
    found = mp.guarantee_costs(instance.plan(), instance.trace, confidence=0.8, time_limit_s=1e-9)
    assert list(found) == ALL
    assert found["reliable"].holds_for == "80 % of scenarios of tomorrow"
    assert {name: (cost.plan.guarantee, cost.plan.dispatch) for name, cost in found.items()} == {
        "eager": ("trace", "eager"),
        "sharp": ("trace", "eager"),
        "paced": ("trace", "paced"),
        "timed": ("replay", "timed"),
        "replay": ("replay", "eager"),
        "reliable": ("reliable", "eager"),
    }
    assert [cost.proof for cost in found.values()] == ["proven cheapest", *["not found in the time"] * 5]


def status(made: mp.Plan, status: PlanStatus, **changed: object) -> mp.GuaranteeCost:
    """The cost of a plan that has become what no small search comes to."""
    plan = replace(made, status=status, **changed)  # type: ignore[arg-type]
    return mp.GuaranteeCost("eager", "certified, eager", plan, is_answer=False, holds_for="", void_if="")


def test_the_words_say_what_is_known() -> None:
    made = hand_made().plan()
    cost, optimal = made.microusd_per_hour, PlanStatus.OPTIMAL
    assert cost is not None
    assert status(made, optimal).proof == "proven cheapest"
    assert status(made, optimal).usd_per_hour == made.usd_per_hour
    for gap, said in ((0.25, "25"), (0.0001, "0.1"), (0.0301, "3.1"), (0.003, "0.3")):
        lower = round(cost * (1 - gap))
        found = status(made, PlanStatus.FEASIBLE, figures=Figures(cost, lower))
        assert found.proof == f"within {said} % of the cheapest"
    nothing = status(made, PlanStatus.FEASIBLE, figures=Figures(cost, 0))
    assert nothing.proof == "found, nothing proven"
    none = status(made, PlanStatus.INFEASIBLE, choices={}, figures=Figures())
    assert (none.proof, none.usd_per_hour) == ("proven: there is none", None)
    for choices, limit, said in (
        ({}, Limit.TIME, "not found in the time"),
        ({}, None, "not found"),
        (made.choices, Limit.TIME, "not tested in the time"),
    ):
        unknown = status(made, PlanStatus.UNKNOWN, choices=choices, limit=limit)
        assert (unknown.proof, unknown.usd_per_hour) == (said, None)
    failed = Reliability(0.95, scenarios=59, kept=40, low=0.54, high=0.79)
    record = replace(made.provenance, reliability=failed)
    missed = status(made, PlanStatus.UNKNOWN, provenance=record)
    assert (missed.proof, missed.usd_per_hour) == ("failed its test: kept 40 of 59 fresh scenarios", None)
    begun = replace(made.provenance, reliability=Reliability(0.95, scenarios=12, kept=12, low=0.719))
    cut_short = status(made, PlanStatus.FEASIBLE, provenance=begun)
    assert cut_short.proof == "kept 12 of 12 so far, 71–100 %"


def test_bad_arguments_come_together() -> None:
    instance = hand_made()
    with pytest.raises(mp.InputError) as caught:
        mp.guarantee_costs(
            instance.plan(), instance.trace, confidence=1.5, guarantees=["lazy"], time_limit_s=0
        )
    assert [fault.place for fault in caught.value.faults] == ["confidence", "guarantees", "time_limit_s"]


def test_every_guarantee_is_priced_on_all_samples() -> None:
    instance = hand_made()
    traces = [instance.trace, replace(instance.trace.scale(1.2), name="busier")]
    made = mp.plan(instance.pipeline, instance.profiles, traces, **instance.arguments)
    found = mp.guarantee_costs(made, traces[::-1], confidence=CONFIDENCE, time_limit_s=None)
    assert list(found) == ALL
    drawn = len(made.samples)
    assert drawn >= 2
    assert found["eager"].holds_for == f"every run of each of {drawn} samples"
    assert found["replay"].holds_for == f"one run: the replay of each of {drawn} samples"
    alone = [costs(instance.plan(), trace) for trace in traces]
    for name in ALL[:-1]:
        assert found[name].usd_per_hour is not None
        assert found[name].plan.traces == made.traces
        assert found[name].usd_per_hour >= max(one[name].usd_per_hour or 0.0 for one in alone)
    for trace in traces:
        for name in ("timed", "replay", "reliable"):
            assert mp.replay(found[name].plan, trace).quantile(0.99) <= instance.slo_ns / 1e9
