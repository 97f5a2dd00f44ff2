"""What each dispatch law costs is what planning under it finds, beside a plan that was made under any of them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import pytest

import mipplan as mp
from campaigns import campaign_size
from mipplan.calculus import ArrivalCurve
from planning_instances import PlanningInstance, hand_made, planning_instance

LAWS = ["eager", "paced", "timed"]


def plan_under_laws(
    made: mp.Plan,
    trace: mp.Trace,
    time_limit_s: float | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, mp.Plan]:
    limits = {"time_limit_s": time_limit_s, "progress": progress}
    found = mp.guarantee_costs(made, trace, guarantees=LAWS, **limits)  # type: ignore[arg-type]
    return {name: cost.plan for name, cost in found.items()}


def costs(
    instance: PlanningInstance, made: mp.Plan, time_limit_s: float | None = None
) -> dict[str, int | None]:
    found = plan_under_laws(made, instance.trace, time_limit_s)
    return {law: plan.microusd_per_hour for law, plan in found.items()}


@pytest.mark.parametrize("number", range(campaign_size(4, 150)))
def test_each_law_costs_what_planning_under_it_finds(number: int) -> None:
    instance = planning_instance(number)
    planned = {law: instance.plan(dispatch=law, time_limit_s=None) for law in LAWS}
    assert {plan.status for plan in planned.values()} <= {mp.PlanStatus.OPTIMAL, mp.PlanStatus.INFEASIBLE}
    expected = {law: plan.microusd_per_hour for law, plan in planned.items()}
    for law in LAWS:
        found = plan_under_laws(planned[law], instance.trace)
        assert found[law] is planned[law]
        assert {other: plan.microusd_per_hour for other, plan in found.items()} == expected
        assert {other: plan.status for other, plan in found.items()} == {
            other: plan.status for other, plan in planned.items()
        }
    # Every plan that is certified under eager dispatch is a timed one.
    if expected["eager"] is not None:
        assert expected["timed"] is not None
        assert expected["timed"] <= expected["eager"]


@pytest.mark.parametrize("law", LAWS)
def test_a_plan_under_a_law_is_one_like_any_other(tmp_path: Path, law: str) -> None:
    instance = hand_made()
    made = instance.plan(margin_s=0.002, certificate="sharp", time_limit_s=60)
    found = plan_under_laws(made, instance.trace)[law]
    assert found.dispatch == law
    assert found.certificate == "classic", "the sharp plan stands for itself"
    found.save(tmp_path / "plan.json")
    verified = mp.verify(tmp_path / "plan.json", instance.trace)
    assert verified.verified, verified.problems
    assert found.certificate_ns is not None
    assert found.certificate_ns <= instance.slo_ns - 2_000_000


def test_another_law_may_do_where_this_one_cannot() -> None:
    instance = hand_made(0.007)
    none = instance.plan()
    assert none.status is mp.PlanStatus.INFEASIBLE
    found = costs(instance, none)
    assert found["eager"] is None
    assert found["timed"] is not None


def test_laws_that_do_not_go_with_what_was_asked_for_are_left_out() -> None:
    instance = hand_made(0.5)
    curve = ArrivalCurve.token_bucket(5.0, 125.0)
    mixed = {"detect": "timed"}
    assert list(costs(instance, instance.plan(dispatch=mixed))) == LAWS
    assert list(costs(instance, instance.plan(headroom=1.2))) == ["eager", "paced"]
    inside = instance.plan(guarantee="envelope", envelope=curve, dispatch="paced")
    assert costs(instance, inside) == {
        law: instance.plan(guarantee="envelope", envelope=curve, dispatch=law).microusd_per_hour
        for law in ("eager", "paced")
    }
    by_arrival = instance.plan(discipline="fifo", runs=mp.RunClass(0.9))
    assert costs(instance, by_arrival) == {
        law: instance.plan(
            dispatch=law, discipline="fifo", runs=None if law == "timed" else mp.RunClass(0.9)
        ).microusd_per_hour
        for law in LAWS
    }
    assert costs(instance, instance.plan(budget_usd_per_hour=9.0)) == {}


def test_what_a_limit_stopped_is_not_called_the_cheapest() -> None:
    instance = hand_made(0.02)
    best = costs(instance, instance.plan())
    found = plan_under_laws(instance.plan(dispatch="paced"), instance.trace, time_limit_s=1e-9)
    assert found["timed"].status in ("feasible", "unknown")
    for law, plan in found.items():
        cost, least = plan.microusd_per_hour, best[law]
        assert cost is None or least is None or cost >= least
        assert plan.status is not mp.PlanStatus.OPTIMAL or cost == least
    with pytest.raises(mp.InputError, match="time_limit_s"):
        plan_under_laws(instance.plan(), instance.trace, time_limit_s=0)


def test_ctrl_c_keeps_the_laws_that_were_complete() -> None:
    def interrupt(line: str) -> None:
        if "timed" in line:
            signal.raise_signal(signal.SIGINT)

    instance = hand_made()
    before = signal.getsignal(signal.SIGINT)
    found = plan_under_laws(instance.plan(), instance.trace, progress=interrupt)
    assert list(found) == ["eager", "paced"]
    assert signal.getsignal(signal.SIGINT) is before
