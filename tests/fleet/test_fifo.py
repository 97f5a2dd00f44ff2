"""Fleets of fifo queues, where more replicas let more tokens overtake: ranges and columns have to respect that."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from fleet_instances import arguments_of, fleet_of, small_fleet
from mipplan.fleet.pricing import PricingParams, PricingProblem
from mipplan.fleet.problem import Fleet
from mipplan.pipeline import Discipline
from oracle_fleet import certified_device_vectors, cheapest_selection, check_verdict

RUNS = (mp.RunClass(), mp.RunClass(0.5), mp.RunClass(0.9, 0.5), mp.RunClass(1.0))
#: Shares of what the pipelines would use each by itself, oldest first, that there is of every device.
SCARCITY = (0.5, 0.8, 1.2, 2.0)


def in_order_of_arrival(fleet: Fleet, runs: mp.RunClass, slo: float = 1.0) -> Fleet:
    """The same fleet with fifo queues, for some runs, and with objectives that are so many times as long."""
    members = [
        replace(one, discipline=Discipline.FIFO, runs=runs, slo_ns=round(slo * one.slo_ns))
        for one in fleet.members
    ]
    return replace(fleet, members=tuple(members))


def test_fifo_fleets_cost_what_brute_force_finds() -> None:
    verdicts: Counter[str] = Counter()
    violations, count = Violations(), campaign_size(6, 150)
    for number in range(count):
        with violations.case(number):
            runs = RUNS[number // len(SCARCITY) % len(RUNS)]
            drawn = small_fleet(number, scarcity=SCARCITY[number % len(SCARCITY)])
            fleet = in_order_of_arrival(drawn, runs, 1.5)
            vectors = [certified_device_vectors(member, fleet) for member in fleet.members]
            optimum, (pipelines, profiles) = cheapest_selection(vectors, fleet), arguments_of(fleet)
            eldest = [
                certified_device_vectors(replace(one, discipline=Discipline.OLDEST_FIRST), fleet)
                for one in fleet.members
            ]
            verdicts["other plans than oldest first"] += vectors != eldest
            common = {"quantile": fleet.quantile, "gap": 0.0, "n_jobs": 1, "discipline": "fifo", "runs": runs}
            for method in ("auto", "joint"):
                made = mp.plan_fleet(pipelines, profiles, method=method, **common)
                verdicts[made.status] += 1
                if not check_verdict(made, optimum, vectors, fleet):
                    continue
                for member in fleet.members:
                    plan = made.plans[member.name]
                    assert (plan.discipline, plan.runs) == ("fifo", runs)
                    assert mp.verify(plan, member.trace).verified
    assert verdicts["optimal"]
    assert verdicts["infeasible"]
    assert verdicts["other plans than oldest first"] >= 0.1 * count
    write_summary(
        "fleet_fifo_against_brute_force",
        {"fleets": count, "mismatches": violations.checked(), "verdicts": dict(sorted(verdicts.items()))},
    )


@pytest.mark.parametrize("number", range(4))
def test_without_limits_a_fifo_fleet_costs_what_its_pipelines_cost_alone(number: int) -> None:
    fleet, runs = fleet_of(number), mp.RunClass(0.9)
    free = mp.Profiles.from_parts(
        [replace(device, limit=None) for device in fleet.profiles.hardware.values()],
        fleet.profiles.tables.values(),
    )
    asked = {one.name: (one.pipeline, one.trace, 2 * one.slo_ns / 1e9) for one in fleet.members}
    common = {"quantile": 0.9, "discipline": "fifo", "runs": runs}
    made = mp.plan_fleet(asked, free, gap=0.0, n_jobs=1, **common)
    alone = {
        name: mp.plan(one, free, trace, slo_s=slo_s, **common) for name, (one, trace, slo_s) in asked.items()
    }
    assert all(own.status == "optimal" for own in alone.values())
    assert made.microusd_per_hour == sum(own.microusd_per_hour or 0 for own in alone.values())


def test_what_costs_nothing_is_no_reason_for_too_many_replicas() -> None:
    """Under some duals devices cost nothing, and a range of replicas is then as good as its best member seems."""
    hurried = PricingParams(spelt_times=1, spelt_more=0)
    columns = 0
    for number in range(6):
        fleet = in_order_of_arrival(fleet_of(number), mp.RunClass(0.5), 1.5)
        for member, realise in zip(fleet.members, fleet.realisations, strict=True):
            problem = PricingProblem(realise, fleet.hardware, params=hurried)
            for prices in (np.zeros(len(fleet.hardware), dtype=np.int64), fleet.prices):
                priced = problem.price(prices, None)
                for column in priced.columns:
                    columns += 1
                    plan = mp.Plan.from_choices(
                        member.pipeline,
                        fleet.profiles,
                        dict(zip(member.pipeline.stages, column.choices, strict=True)),
                        quantile=0.9,
                        discipline="fifo",
                    )
                    assert mp.certify(plan, member.trace, runs=member.overtaking).bound_ns <= member.slo_ns
    assert columns > 10


def test_pipelines_of_both_disciplines_share_devices(tmp_path: Path) -> None:
    fleet = fleet_of(1, scarcity=2.0)
    first, *others = fleet.members
    by_arrival = mp.Pipeline.from_document({**first.pipeline.to_document(), "discipline": "fifo"})
    asked = {one.name: (one.pipeline, one.trace, 2 * one.slo_ns / 1e9) for one in others}
    asked[first.name] = (by_arrival, first.trace, 3 * first.slo_ns / 1e9)
    saved = tmp_path / "fleet.checkpoint"
    made, again = (
        mp.plan_fleet(
            asked, fleet.profiles, quantile=0.9, gap=0.0, runs=mp.RunClass(0.9), n_jobs=1, checkpoint=saved
        )
        for _ in range(2)
    )
    assert made.status == again.status == "optimal"
    assert made.microusd_per_hour == again.microusd_per_hour
    assert made.plans[first.name].runs == mp.RunClass(0.9)
    assert {name: str(plan.discipline) for name, plan in made.plans.items()} == {
        name: "fifo" if name == first.name else "oldest_first" for name in asked
    }
    with pytest.raises(mp.InputError, match="another fleet"):
        mp.plan_fleet(asked, fleet.profiles, quantile=0.9, gap=0.0, n_jobs=1, checkpoint=saved)
