"""Column generation against the joint MILP, and both against brute force."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from fleet_instances import fleet_of
from mipplan.core import Deadline, SearchLimits
from mipplan.fleet import joint
from mipplan.fleet.joint import JointSearch
from mipplan.fleet.master import Pool
from mipplan.fleet.problem import Fleet, FleetObjective, FleetSolution
from mipplan.fleet.solve import ColumnSearch
from mipplan.fleet.workers import WorkerPool
from mipplan.profiles import Hardware, LatencyTable
from mipplan.result import Limit, PlanStatus


def by_columns(fleet: Fleet, gap: float = 0.0) -> FleetSolution:
    with WorkerPool.open(fleet, 1) as workers:
        pool = Pool.empty(len(fleet.members))
        search = SearchLimits(Deadline.after(60))
        return ColumnSearch(FleetObjective.of_cost(fleet), pool, workers, gap, search).run()


def jointly(fleet: Fleet) -> FleetSolution:
    return JointSearch(fleet, "highs", SearchLimits(Deadline.after(60))).run()


def test_columns_find_the_optimum_of_the_joint_milp() -> None:
    verdicts: Counter[str] = Counter()
    count = campaign_size(6, 300)
    violations = Violations()
    for number in range(count):
        with violations.case(number):
            fleet = fleet_of(number)
            truth = jointly(fleet)
            found = by_columns(fleet)
            if truth.infeasible:
                verdicts["infeasible"] += 1
                assert found.chosen is None
                verdicts["infeasible, proven by columns"] += found.infeasible
                continue
            if truth.chosen is None:  # The reference had no answer in time.
                verdicts["not decided jointly"] += 1
                assert found.chosen is None or (truth.lower_bound or 0) <= found.chosen.cost
                continue
            optimum = truth.chosen.cost
            assert not found.infeasible
            assert found.lower_bound is not None
            assert found.lower_bound <= optimum, number
            if found.chosen is None:
                verdicts["none found by columns"] += 1
                continue
            used = np.sum([column.devices for column in found.chosen.columns if column], axis=0)
            limits = [fleet.limits.get(name, 10**9) for name in fleet.hardware]
            assert np.all(used <= limits)
            # within the proven gap, and mostly on the optimum itself
            assert found.lower_bound <= optimum <= found.chosen.cost
            verdicts["closed" if found.chosen.cost == found.lower_bound else "open"] += 1
            verdicts["scarce"] += any(found.saved.values())
    assert verdicts["scarce"] >= 0.3 * count
    assert verdicts["closed"] >= 0.9 * (verdicts["closed"] + verdicts["open"])
    assert verdicts["none found by columns"] <= 0.05 * count
    assert verdicts["not decided jointly"] <= 0.02 * count
    write_summary(
        "fleet_columns_against_joint",
        {"fleets": count, "mismatches": violations.checked(), "verdicts": dict(verdicts)},
    )


def scarce_pair() -> tuple[dict[str, tuple[mp.Pipeline, mp.Trace]], mp.Profiles]:
    """Two pipelines, one device of what both would take, and another type that costs ten times as much."""
    tables = [LatencyTable("m", name, np.array([1]), np.array([5.0])) for name in ("t4", "a100")]
    profiles = mp.Profiles.from_parts([Hardware("t4", 1.0, limit=1), Hardware("a100", 10.0)], tables)
    pipeline = mp.Pipeline.from_document({"name": "p", "slo": "100ms", "stages": {"a": {"model": "m"}}})
    trace = mp.Trace.poisson(rate_rps=50, duration_s=5, seed=1)
    return {"a": (pipeline, trace), "b": (pipeline, trace)}, profiles


def test_a_joint_search_that_is_late_has_the_fleet_that_it_knows() -> None:
    """Twice what pipelines cost alone is not enough here; that says nothing of all plans."""
    pipelines, profiles = scarce_pair()
    lines: list[str] = []

    def wait(line: str) -> None:
        lines.append(line)
        if "whether they fit at all" in line:
            time.sleep(3)

    made = mp.plan_fleet(pipelines, profiles, method="joint", time_limit_s=3, progress=wait)
    assert (made.status, made.usd_per_hour, made.lower_bound_usd_per_hour) == ("feasible", 11, 2)
    assert not any("together: at least 1000" in line for line in lines)
    assert mp.plan_fleet(pipelines, profiles, method="joint").status == "optimal"


def test_ctrl_c_ends_a_joint_search_while_pipelines_are_planned_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipelines, profiles = scarce_pair()
    planned = []

    def interrupted(*given: Any, **how: Any) -> mp.Plan:
        planned.append(mp.plan(*given, **how))
        return replace(planned[-1], status=PlanStatus.FEASIBLE, limit=Limit.INTERRUPT)

    monkeypatch.setattr(joint, "plan", interrupted)
    assert mp.plan_fleet(pipelines, profiles, method="joint").status == "unknown"
    assert len(planned) == 1
