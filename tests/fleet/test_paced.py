"""Fleets under paced dispatch: T depends on the replicas, which columns, ranges and the joint MILP have to respect."""

from __future__ import annotations

import pytest

import mipplan as mp
from fleet_instances import fleet_of


def argument(number: int) -> dict[str, tuple[mp.Pipeline, mp.Trace, float, float]]:
    fleet = fleet_of(number)
    return {m.name: (m.pipeline, m.trace, m.slo_ns / 1e9, 1.0) for m in fleet.members}


@pytest.mark.parametrize("number", range(3))
def test_without_limits_a_fleet_costs_what_its_pipelines_cost_alone(number: int) -> None:
    fleet = fleet_of(number)
    limits = dict.fromkeys(fleet.profiles.hardware)
    made = mp.plan_fleet(
        argument(number), fleet.profiles, limits=limits, quantile=0.9, gap=0.0, dispatch="paced", n_jobs=1
    )
    free = mp.Profiles.from_parts(
        [mp.profiles.Hardware(h.name, h.usd_per_hour) for h in fleet.profiles.hardware.values()],
        fleet.profiles.tables.values(),
    )
    for member in fleet.members:
        alone = mp.plan(
            member.pipeline, free, member.trace, slo_s=member.slo_ns / 1e9, quantile=0.9, dispatch="paced"
        )
        plan = made.plans[member.name]
        assert plan.dispatch == "paced"
        assert plan.microusd_per_hour == alone.microusd_per_hour
        assert plan.certificate_ns == mp.certify(plan, member.trace).bound_ns


# With tighter objectives some of these pipelines have paced plans only.
@pytest.mark.parametrize(("number", "share"), [(0, 1.0), (1, 1.0), (2, 1.0), (4, 0.6), (17, 0.6), (28, 0.6)])
def test_columns_and_the_joint_problem_agree(number: int, share: float) -> None:
    fleet = fleet_of(number, scarcity=0.9)
    asked = {one.name: (one.pipeline, one.trace, share * one.slo_ns / 1e9) for one in fleet.members}
    common = {"quantile": 0.9, "gap": 0.0, "dispatch": "paced", "alternatives": False, "n_jobs": 1}
    columns, joint = (
        mp.plan_fleet(asked, fleet.profiles, method=method, **common) for method in ("columns", "joint")
    )
    assert (columns.status == "infeasible") == (joint.status == "infeasible")
    if columns.status == joint.status == "optimal":
        assert columns.usd_per_hour == joint.usd_per_hour


def test_what_a_fleet_cannot_be_dispatched_by() -> None:
    fleet = fleet_of(0)
    with pytest.raises(mp.InputError, match="expected one of"):
        mp.plan_fleet(argument(0), fleet.profiles, dispatch="quick")
