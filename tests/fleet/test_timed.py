"""Fleets with pipelines whose stages are all timed: their plans are found, and certified, by replays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pytest

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from fleet_instances import arguments_of, fleet_of, small_fleet
from mipplan.core import NO_DEADLINE, Deadline, Int64, LimitReachedError, SearchLimits
from mipplan.fleet.master import Pool
from mipplan.fleet.pricing import Priced, ReplayedPricing
from mipplan.fleet.problem import Column, Fleet, FleetObjective, ReplayedMember
from mipplan.fleet.solve import ColumnSearch
from mipplan.fleet.workers import WorkerParams, WorkerPool
from mipplan.pipeline import Discipline, DispatchLaw
from oracle_fleet import certified_device_vectors, cheapest_selection, greatest_weight

#: Shares of what the pipelines would use each by itself, if eager, that there is of every device.
SCARCITY = (0.3, 0.5, 0.8, 1.2)


def timed(fleet: Fleet, discipline: Discipline, eager: int = 0) -> Fleet:
    """The same fleet under timed dispatch, but for the first pipelines."""
    members = [
        replace(one, laws=dict.fromkeys(one.pipeline.stages, DispatchLaw.TIMED), discipline=discipline)
        for one in fleet.members[eager:]
    ]
    return replace(fleet, members=(*fleet.members[:eager], *members))


def test_timed_fleets_cost_what_brute_force_finds() -> None:
    verdicts: Counter[str] = Counter()
    violations, count = Violations(), campaign_size(6, 100)
    for number in range(count):
        with violations.case(number):
            discipline = list(Discipline)[number % 2]
            drawn = small_fleet(number, scarcity=SCARCITY[number % len(SCARCITY)])
            fleet = timed(drawn, discipline)
            vectors = [certified_device_vectors(member, fleet) for member in fleet.members]
            verdicts["other plans than eager"] += vectors != [
                certified_device_vectors(member, drawn) for member in drawn.members
            ]
            optimum, (pipelines, profiles) = cheapest_selection(vectors, fleet), arguments_of(fleet)
            how = {"dispatch": "timed", "discipline": discipline, "quantile": fleet.quantile}
            made = mp.plan_fleet(pipelines, profiles, **how, gap=0.0, n_jobs=1)
            verdicts[made.status] += 1
            if optimum is None:
                assert not made.plans
                if made.admission is not None:
                    assert (
                        made.admission.weight
                        <= greatest_weight(vectors, fleet)
                        <= made.admission.weight_bound
                    )
                continue
            assert made.microusd_per_hour is not None
            assert made.lower_bound_microusd_per_hour is not None
            assert made.lower_bound_microusd_per_hour <= optimum <= made.microusd_per_hour
            verdicts["cheapest"] += made.microusd_per_hour == optimum
            for member in fleet.members:
                plan = made.plans[member.name]
                assert (plan.dispatch, plan.discipline, plan.guarantee) == ("timed", discipline, "replay")
                assert plan.certificate_ns == mp.certify(plan, member.trace).bound_ns <= member.slo_ns
                assert mp.verify(plan, member.trace).verified
    assert verdicts["optimal"]
    assert verdicts["other plans than eager"] >= 0.2 * count
    assert verdicts["cheapest"] >= 0.9 * (verdicts["optimal"] + verdicts["feasible"])
    write_summary(
        "fleet_timed_against_brute_force",
        {"fleets": count, "mismatches": violations.checked(), "verdicts": dict(sorted(verdicts.items()))},
    )


def test_timed_and_eager_pipelines_share_devices() -> None:
    fleet = timed(small_fleet(3, scarcity=1.5), Discipline.OLDEST_FIRST, eager=1)
    vectors = [certified_device_vectors(member, fleet) for member in fleet.members]
    first, *others = fleet.members
    asked = {first.name: (first.pipeline, first.trace, first.slo_ns / 1e9)}
    for one in others:
        document = {**one.pipeline.to_document(), "dispatch": "timed"}
        asked[one.name] = (mp.Pipeline.from_document(document), one.trace, one.slo_ns / 1e9)
    made = mp.plan_fleet(asked, fleet.profiles, quantile=fleet.quantile, gap=0.0, n_jobs=1)
    assert made.microusd_per_hour == cheapest_selection(vectors, fleet)
    assert [plan.dispatch for plan in made.plans.values()] == ["eager", "timed", "timed"]
    with pytest.raises(mp.InputError, match="columns can do it"):
        mp.plan_fleet(asked, fleet.profiles, method="joint")


def test_a_fleet_of_one_costs_what_its_pipeline_costs_alone() -> None:
    fleet = fleet_of(2)
    member = fleet.members[0]
    asked = {"one": (member.pipeline, member.trace, member.slo_ns / 1e9)}
    made = mp.plan_fleet(asked, fleet.profiles, quantile=0.9, gap=0.0, dispatch="timed", n_jobs=1)
    alone = mp.plan(
        member.pipeline,
        fleet.profiles,
        member.trace,
        slo_s=member.slo_ns / 1e9,
        quantile=0.9,
        dispatch="timed",
    )
    assert alone.status == made.status == "optimal"
    assert made.microusd_per_hour == alone.microusd_per_hour


def test_bounds_hold_at_any_prices() -> None:
    """What is free, and prices as weights make them: bounds are below every plan, and `most` is respected."""
    fleet = timed(small_fleet(1), Discipline.OLDEST_FIRST)
    free = np.zeros(len(fleet.hardware), dtype=np.int64)
    some_free = fleet.prices * (np.arange(len(fleet.hardware)) % 2)
    for member, data in zip(fleet.members, fleet.realisations, strict=True):
        assert isinstance(data, ReplayedMember)
        vectors = np.array(sorted(certified_device_vectors(member, fleet)), dtype=np.int64)
        problem = ReplayedPricing(data, fleet.hardware)
        for prices in (fleet.prices, some_free, free, fleet.prices * 10**9, fleet.prices + 10**12):
            least = int((vectors @ prices).min())
            for most in (None, 2 * least, least, least - 1):
                priced = problem.price(prices, most)
                assert priced.feasible
                assert priced.lower_bound <= (least if most is None else min(least, most + 1))
                assert all(
                    tuple(column.devices) in set(map(tuple, vectors.tolist())) for column in priced.columns
                )
                if most is None:
                    assert priced.columns
                if most is None and prices is fleet.prices:
                    assert priced.lower_bound == priced.columns[0].cost(prices) == least
        problem.deadline = Deadline(0.0)
        with pytest.raises(LimitReachedError):
            problem.price(fleet.prices, None)


def test_what_no_replay_keeps_is_told() -> None:
    fleet = fleet_of(0)
    asked = {one.name: (one.pipeline, one.trace, 1e-6) for one in fleet.members}
    made = mp.plan_fleet(asked, fleet.profiles, dispatch="timed", n_jobs=1, alternatives=False)
    assert made.status == "infeasible"
    assert "no certified plan even alone" in (made.reason or "")


@dataclass(eq=False)
class HastyWorkers(WorkerPool):
    """Workers with little time: a plan is found in some round only, and never proven the cheapest."""

    finds_in: int = 1
    rounds: int = 0

    def price(
        self,
        prices: Int64,
        most: Mapping[int, int | None],
        deadline: Deadline = NO_DEADLINE,
        *,
        wants_all: bool = False,
    ) -> dict[int, Priced]:
        """Answer with a bound of half of what the only plan costs, one device of each type."""
        self.rounds += 1
        if wants_all:
            return dict.fromkeys(most, Priced(0, complete=False))
        columns = (Column((), (1,) * prices.size),) if self.rounds >= self.finds_in else ()
        return dict.fromkeys(most, Priced(int(prices.sum()) // 2, columns))


@pytest.mark.parametrize(("finds_in", "limit_s"), [(1, None), (3, 60.0), (10**9, 0.3), (10**9, None)])
def test_plans_that_hasty_searches_find_are_not_called_cheapest(finds_in: int, limit_s: float | None) -> None:
    drawn = fleet_of(0)
    devices = [replace(device, limit=None) for device in drawn.profiles.hardware.values()]
    fleet = replace(drawn, profiles=mp.Profiles.from_parts(devices, drawn.profiles.tables.values()))
    pool = Pool.empty(len(fleet.members))
    workers = HastyWorkers(fleet, "", None, 1, WorkerParams(), finds_in=finds_in)
    search = SearchLimits(Deadline.after(limit_s))
    found = ColumnSearch(FleetObjective.of_cost(fleet), pool, workers, 0.0, search).run()
    least = int(fleet.prices.sum()) // 2
    assert not found.infeasible
    assert found.lower_bound == len(fleet.members) * least
    assert pool.alone == dict.fromkeys(range(len(fleet.members)), least)
    # Without any plan the time is used, and where there is no limit on it the search ends all the same.
    assert all(pool.columns) == (finds_in < 10)
