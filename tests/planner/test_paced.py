"""What is asked for besides a trace and an objective, under paced and mixed dispatch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import mipplan as mp
from planning_instances import hand_made, planning_instance


@pytest.mark.parametrize(
    "asked",
    [
        {"guarantee": "envelope", "slo_s": 0.6},
        {"headroom": 1.3, "slo_s": 0.2},
        {"margin_s": 0.01, "slo_s": 0.1},
        {"budget_usd_per_hour": 8.0},
        {"solver": "cbc", "formulation": "potentials", "slo_s": 0.1},
    ],
    ids=lambda asked: next(iter(asked)),
)
@pytest.mark.parametrize("dispatch", ["paced", {"detect": "paced"}], ids=["paced", "mixed"])
def test_paced_plans_are_verified_and_never_dearer(
    asked: dict[str, Any], dispatch: Any, tmp_path: Path
) -> None:
    instance = hand_made(0.1)
    given = (instance.pipeline, instance.profiles, instance.trace)
    made, eager = mp.plan(*given, dispatch=dispatch, **asked), mp.plan(*given, **asked)
    made.require().save(tmp_path / "plan.json")
    verification = mp.verify(tmp_path / "plan.json", instance.trace)
    assert verification.verified, verification.problems
    assert made.status == "optimal"
    assert made.usd_per_hour is not None
    if "budget_usd_per_hour" in asked:
        assert made.certificate_s <= eager.require().certificate_s
    elif eager.usd_per_hour is not None:
        assert made.usd_per_hour <= eager.usd_per_hour
    replayed = mp.replay(made, instance.trace)
    assert replayed.certificate_applies
    assert replayed.quantile(made.quantile) <= made.certificate_s
    assert set(made.laws.values()) != set(eager.laws.values())


def test_reasons_are_those_of_the_law() -> None:
    """What paced dispatch cannot keep is said for paced dispatch: the smallest objective is below that of eager."""
    instance = hand_made(0.004)
    given = (instance.pipeline, instance.profiles, instance.trace)
    eager, paced = (mp.plan(*given, slo_s=0.004, dispatch=law) for law in ("eager", "paced"))
    for plan in (eager, paced):
        assert plan.status == "infeasible"
        assert plan.reason is not None
    least = [mp.plan(*given, slo_s=s, dispatch="paced").status for s in (0.004, 0.5)]
    assert least == ["infeasible", "optimal"]
    assert eager.reason != paced.reason


def test_explanations_are_those_of_the_law() -> None:
    instance = planning_instance(1003)
    plan = instance.plan(dispatch="paced")
    if plan.choices:
        explained = plan.explain()
        assert explained.certificate_ns == plan.certificate_ns
        assert sum(step.latency_ns + step.wait_ns + step.delay_ns for step in explained.critical_path) > 0
