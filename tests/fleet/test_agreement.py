"""Column generation against the joint MILP, and both against brute force."""

from __future__ import annotations

from collections import Counter

import numpy as np

from campaigns import Violations, campaign_size, write_summary
from fleet_instances import fleet_of
from mipplan.core import Deadline, SearchLimits
from mipplan.fleet.joint import JointSearch
from mipplan.fleet.master import Pool
from mipplan.fleet.problem import Fleet, FleetObjective, FleetSolution
from mipplan.fleet.solve import ColumnSearch
from mipplan.fleet.workers import WorkerPool


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
