"""Plans with caps on power and prices of energy against brute force, and runs inside the bounds that are proven."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from mipplan.result import PlanDocument
from oracle_energy import PoweredEnumeration, powers, run_energy_pj
from oracle_planner import TooLargeError
from oracle_replay import EventLoop
from oracle_tokens import slow_tokens
from planning_instances import PlanningInstance, check_ranges, planning_instance


def powered_instance(number: int) -> tuple[PlanningInstance, float, set[str]]:
    """A random planning problem whose devices draw power, and a price of electricity."""
    rng, base = np.random.default_rng([20261127, number]), planning_instance(9000 + number)
    features, devices, tables = set(base.features), [], []
    for rank, device in enumerate(base.profiles.hardware.values()):
        tdp_w = float(rng.choice([12.5, 70.0, 250.0])) * (rank + 1)
        idle_w = None if rng.random() < 0.4 else tdp_w * float(rng.choice([0.1, 0.3, 0.6]))
        features.add("assumed idle" if idle_w is None else "known idle")
        devices.append(replace(device, idle_w=idle_w, tdp_w=tdp_w))
    by_name = {device.name: device for device in devices}
    for table in base.profiles.tables.values():
        device, kind = by_name[table.hardware], str(rng.choice(["tdp", "power_w", "energy_j"]))
        features.add(kind)
        idle_w = device.tdp_w / 2 if device.idle_w is None else device.idle_w
        watts = idle_w + (device.tdp_w - idle_w) * rng.uniform(0.05, 1.0, table.batch.size)
        if kind == "power_w":
            table = replace(table, power_w=watts)
        elif kind == "energy_j":
            table = replace(table, energy_j=watts * table.latency_ms / 1e3)
        tables.append(table)
    price = float(rng.choice([0.0, 0.0, 0.25, 40.0]))  # The dear one makes power matter as much as devices.
    features |= {"priced"} if price else {"unpriced"}
    return replace(base, profiles=mp.Profiles.from_parts(devices, tables)), price, features


def oracle_of(instance: PlanningInstance, price: float) -> PoweredEnumeration:
    given = instance.pipeline, instance.profiles, instance.trace, instance.slo_ns, instance.quantile
    return PoweredEnumeration(*given, instance.seed, price)


def test_plans_with_energy_are_those_of_brute_force() -> None:
    numbers = range(campaign_size(2, 0), campaign_size(7, 1200))
    features, verdicts = Counter[str](), Counter[str]()
    violations, skipped, fronts, points, runs = Violations(), 0, 0, 0, 0
    for number in numbers:
        with violations.case(number):
            instance, price, own = powered_instance(number)
            try:
                truth = oracle_of(instance, price)
                verdicts.update(check_caps(instance, price, truth))
                found = check_front(instance, price, truth) if number % 4 == 0 else None
            except TooLargeError:
                skipped += 1
                continue
            features.update(own)
            fronts, points = fronts + (found is not None), points + (found or 0)
            runs += check_runs(instance, number)
    assert skipped <= 0.4 * len(numbers)
    assert min(verdicts["optimal"], verdicts["infeasible"]) >= 0.1 * sum(verdicts.values())
    assert all(features[feature] for feature in ("priced", "unpriced", "limited"))
    write_summary(
        "energy_against_brute_force",
        {
            "instances": len(numbers) - skipped,
            "too_large_for_brute_force": skipped,
            "mismatches": violations.checked(),
            "verdicts": dict(sorted(verdicts.items())),
            "fronts": fronts,
            "points_of_fronts": points,
            "runs_inside_bounds": runs,
            "features": dict(sorted(features.items())),
        },
    )


def check_caps(instance: PlanningInstance, price: float, truth: PoweredEnumeration) -> Counter[str]:
    """Whatever the cap, the plan costs what brute force's does, and keeps it; a lower one is never cheaper."""
    verdicts: Counter[str] = Counter()
    free = instance.plan(energy=mp.EnergyTerms(usd_per_kwh=price))
    plain = instance.plan()
    assert (free.status, plain.energy, plain.power_w) == (plain.status, None, None)
    if price == 0:
        assert free.choices == plain.choices
        assert free.microusd_per_hour == plain.microusd_per_hour
    caps: list[int | None] = [None]
    if free.choices:
        own = free.figures.power_mw or 0
        caps += [own, own - 1, int(own * 0.8)]
    before = 0
    for cap in caps:
        terms = mp.EnergyTerms(max_power_w=None if cap is None else max(cap, 0) / 1000, usd_per_kwh=price)
        plan, least = instance.plan(energy=terms), truth.cheapest(cap)
        verdicts[plan.status] += 1
        assert (plan.status == "optimal") == (least is not None), (cap, plan.status, plan.reason)
        if least is None:
            assert plan.status == "infeasible"
            before = 2**62
            continue
        assert plan.microusd_per_hour == plan.lower_bound_microusd_per_hour == least, cap
        assert least >= before
        before = least
        check_figures(plan, truth, instance)
        assert cap is None or (plan.figures.power_mw or 0) <= cap
        check_ranges(plan)
    return verdicts


def check_figures(plan: mp.Plan, truth: PoweredEnumeration, instance: PlanningInstance) -> None:
    """Power and cost are those of the definitions; the plan file holds them, and verifies."""
    figures = plan.figures
    stated = figures.power_mw, figures.least_power_mw, figures.microusd_per_hour
    assert stated == powers(plan, truth.families)
    assert mp.verify(plan, instance.trace).verified
    again = mp.Plan.from_document(PlanDocument.model_validate({**plan.to_document(), "checksum": ""}))
    assert again == plan


def check_front(instance: PlanningInstance, price: float, truth: PoweredEnumeration) -> int:
    """Every breakpoint of cost over power is there, none is missing."""
    terms = mp.EnergyTerms(usd_per_kwh=price)
    front = mp.pareto(
        instance.pipeline, instance.profiles, instance.trace, by="energy", energy=terms, **instance.arguments
    )
    assert front.complete
    costs = [plan.microusd_per_hour for plan in front.plans]
    mw = [plan.figures.power_mw or 0 for plan in front.plans]
    assert costs == sorted(set(costs), key=lambda cost: cost or 0)
    assert mw == sorted(set(mw), reverse=True)
    for place, cost in enumerate(costs):
        assert truth.cheapest(mw[place]) == cost
        # Between two breakpoints there is nothing: just below one the next is the cheapest.
        assert truth.cheapest(mw[place] - 1) == (costs[place + 1] if place + 1 < len(costs) else None)
    check_menu(instance, terms, front)
    return len(costs)


def check_menu(instance: PlanningInstance, terms: mp.EnergyTerms, front: mp.Front) -> None:
    """A menu by energy is the cheap end of the front."""
    menu = mp.menu(
        instance.pipeline,
        instance.profiles,
        instance.trace,
        by="energy",
        within=0.3,
        energy=terms,
        **instance.arguments,
    )
    dearest = int(1.3 * (front.plans[0].microusd_per_hour or 0)) if front.plans else 0
    within = [plan for plan in front.plans if (plan.microusd_per_hour or 0) <= dearest]
    assert menu.complete == (len(within) <= 20)
    assert [p.figures.power_mw for p in menu.plans] == [p.figures.power_mw for p in within][:20]
    assert [p.microusd_per_hour for p in menu.plans] == [p.microusd_per_hour for p in within][:20]
    assert all(mp.verify(plan, instance.trace).verified for plan in menu.plans[-1:])


def check_runs(instance: PlanningInstance, number: int) -> int:
    """The replay takes what the slow loop does; runs that conform stay below the bound, the replay above the lower."""
    plan = instance.plan(energy=mp.EnergyTerms(gco2_per_kwh=(100.0, 500.0)))
    if not plan.choices:
        return 0
    rng, seed = np.random.default_rng(number), instance.seed
    given: tuple[Any, ...] = (
        slow_tokens(instance.pipeline, instance.trace.arrival_ns.size, seed),
        instance.trace.arrival_ns.tolist(),
        {stage: plan.service_ns(stage).tolist() for stage in plan.choices},
        {stage: choice.replicas for stage, choice in plan.choices.items()},
    )
    first, span = int(instance.trace.arrival_ns[0]), instance.trace.span_ns
    for early in (False, True):
        takes = (lambda ns: int(rng.integers(0, ns + 1))) if early else (lambda ns: ns)
        seen = EventLoop(*given, service_takes=takes).run()
        ends = [at + lasted for at, lasted in zip(given[1], seen.latency, strict=True)]
        slow = {stage: (idle, busy) for stage, idle, busy in run_energy_pj(plan, seen, first, max(ends))}
        total_pj = sum(map(sum, slow.values()))
        assert total_pj <= (plan.figures.power_mw or 0) * (max(ends) - first)
        if not early:
            energy = mp.replay(plan, instance.trace).energy
            assert energy is not None
            assert {name: (own.idle_pj, own.busy_pj) for name, own in energy.stages.items()} == slow
            assert total_pj >= (plan.figures.least_power_mw or 0) * span
    return 2
