"""Pricing against the planner: a plan under other prices is a plan with other prices in the profiles."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from mipplan.core import LimitReachedError
from mipplan.fleet.pricing import Priced, PricingParams, PricingProblem
from mipplan.fleet.problem import Column
from mipplan.planner import Instance, PlanSearch, SearchOutcome, WalkParams, trace_instance
from mipplan.result import Limit, relevant_profiles
from planning_instances import PlanningInstance, planning_instance

FIRST = 7000
DEFAULTS = PricingParams()


def pricing_of(case: PlanningInstance, params: PricingParams = DEFAULTS) -> PricingProblem:
    profiles = relevant_profiles(case.pipeline, case.profiles)

    def make() -> Instance:
        return trace_instance(case.pipeline, profiles, case.trace, case.slo_ns, case.quantile, case.seed)

    return PricingProblem(make, tuple(case.profiles.hardware), params=params)


def repriced(case: PlanningInstance, prices: np.ndarray) -> PlanningInstance:
    hardware = [
        replace(device, usd_per_hour=int(price) / 1e6)
        for device, price in zip(case.profiles.hardware.values(), prices, strict=True)
    ]
    profiles = mp.Profiles.from_parts(hardware, case.profiles.tables.values())
    return replace(case, profiles=profiles)


def random_prices(case: PlanningInstance, rng: np.random.Generator) -> np.ndarray:
    """Dearer where the hardware is limited, as the duals of limits make it."""
    base = np.array([device.microusd_per_hour for device in case.profiles.hardware.values()])
    limited = np.array([device.limit is not None for device in case.profiles.hardware.values()])
    return base + limited * rng.integers(0, 4, base.size) * rng.integers(0, 2_000_000, base.size)


def check_price(
    case: PlanningInstance, pricing: PricingProblem, prices: np.ndarray, verdicts: Counter[str]
) -> None:
    truth = repriced(case, prices).plan(time_limit_s=0.5)
    found = pricing.price(prices, None)
    verdicts[truth.status] += 1
    if truth.status == "infeasible":
        assert not found.feasible
        return
    if truth.status == "unknown":
        return
    (column,) = found.columns
    cost = int(prices @ np.array(column.devices))
    assert found.lower_bound == cost
    assert truth.lower_bound_microusd_per_hour <= cost <= truth.microusd_per_hour
    if truth.status == "optimal":
        assert cost == truth.microusd_per_hour
    again = pricing.price(prices, cost - 1)
    assert (again.lower_bound, again.columns, again.feasible) == (cost, (), True)
    choices = dict(zip(case.pipeline.stages, column.choices, strict=True))
    plan = mp.Plan.from_choices(
        case.pipeline, case.profiles, choices, slo_s=1.0, quantile=case.quantile, seed=case.seed
    )
    assert mp.certify(plan, case.trace).bound_ns <= case.slo_ns


@pytest.mark.parametrize("most_labels", [None, 3])
def test_pricing_is_planning_with_other_prices(most_labels: int | None) -> None:
    # With few labels mostly the planner's own search answers.
    few = None if most_labels is None else PricingParams(walk=WalkParams(most_labels=most_labels))
    verdicts: Counter[str] = Counter()
    count = campaign_size(16, 400) // (1 if most_labels is None else 4)
    violations = Violations()
    for number in range(FIRST, FIRST + count):
        with violations.case(number):
            case = planning_instance(number, limited=number % 4 != 0)
            rng = np.random.default_rng(number)
            pricing = pricing_of(case, few or DEFAULTS)
            for _ in range(3):
                check_price(case, pricing, random_prices(case, rng), verdicts)
                if rng.random() < 0.5:
                    pricing.forget_instance()
    mismatches = violations.checked()
    assert min(verdicts["optimal"], verdicts["infeasible"]) >= 0.15 * 3 * count
    if most_labels is None:
        write_summary(
            "fleet_pricing", {"questions": 3 * count, "mismatches": mismatches, "verdicts": dict(verdicts)}
        )


def test_what_was_learnt_is_valid_under_other_prices() -> None:
    """A problem that starts from another one's state gives the same answers as one that starts from nothing."""
    for number in range(FIRST, FIRST + campaign_size(10, 100)):
        case = planning_instance(number, limited=True)
        rng = np.random.default_rng(number)
        experienced = pricing_of(case)
        for _ in range(4):
            experienced.price(random_prices(case, rng), None)
        prices = random_prices(case, rng)
        assert experienced.price(prices, None) == pricing_of(case).price(prices, None)


def test_all_plans_within_a_cost_are_all_that_could_matter() -> None:
    """At any other prices, the cheapest plan is among them if it is within that cost at these."""
    compared = 0
    for number in range(FIRST, FIRST + campaign_size(16, 200)):
        case = planning_instance(number, limited=True)
        rng = np.random.default_rng(number)
        pricing = pricing_of(case)
        prices = random_prices(case, rng)
        cheapest = pricing.price(prices, None)
        if not cheapest.feasible:
            continue
        most = int(cheapest.lower_bound * 1.3)
        everything = pricing.price_all(prices, most)
        if not everything.complete:
            continue
        devices = np.array([column.devices for column in everything.columns])
        assert (devices @ prices).min() == cheapest.lower_bound
        assert (devices @ prices).max() <= most
        for _ in range(5):
            others = random_prices(case, rng)
            (best,) = pricing.price(others, None).columns
            if int(prices @ np.array(best.devices)) <= most:
                assert (devices @ others).min() == int(others @ np.array(best.devices))
                compared += 1
    assert compared >= 10


def test_ranges_of_replicas_are_spelt_out_where_they_matter() -> None:
    verdicts: Counter[str] = Counter()
    for number in range(FIRST, FIRST + campaign_size(12, 100)):
        case = planning_instance(number, limited=False)
        pricing = pricing_of(case, PricingParams(spelt_times=1, spelt_more=0))
        base = np.array([device.microusd_per_hour for device in case.profiles.hardware.values()])
        check_price(case, pricing, base, verdicts)
        verdicts["spelt out"] += bool(pricing.state.caps)
    assert verdicts["spelt out"] >= 1


def test_devices_that_cost_nothing_are_taken_in_plenty() -> None:
    case = planning_instance(FIRST, limited=False)
    pricing = pricing_of(case)
    found = pricing.price(np.zeros(len(case.profiles.hardware), dtype=np.int64), None)
    assert (found.lower_bound, found.feasible) == (0, not pricing.hopeless)


@pytest.mark.parametrize("most_labels", [None, 3])
def test_prices_that_weights_make_change_no_plan(most_labels: int | None) -> None:
    """Of a hundred million times the price, ranges of most replicas cost more than 64 bits hold."""
    params = DEFAULTS if most_labels is None else PricingParams(walk=WalkParams(most_labels=most_labels))
    feasible = 0
    for number in range(FIRST, FIRST + campaign_size(8, 60)):
        case = planning_instance(number, limited=number % 2 != 0)
        prices = np.array([device.microusd_per_hour for device in case.profiles.hardware.values()])
        cheapest = pricing_of(case, params).price(prices, None)
        least, dear = cheapest.lower_bound, pricing_of(case, params)
        if cheapest.feasible and least < 10**7:
            assert dear.price(prices * 10**8, None).lower_bound == least * 10**8
            assert dear.price(prices * 10**8, least * 10**8 - 1).columns == ()
            feasible += 1
    assert feasible


def test_a_search_that_ends_before_its_time_is_no_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A solver may end before the deadline without a proof, where it cannot tell costs apart."""

    class Ended(PlanSearch):
        def run(self) -> SearchOutcome:
            return replace(super().run(), limit=limits[-1])

    monkeypatch.setattr("mipplan.fleet.pricing.certified.PlanSearch", Ended)
    case = planning_instance(FIRST + 1, limited=True)
    prices = np.array([device.microusd_per_hour for device in case.profiles.hardware.values()])
    pricing = pricing_of(case, PricingParams(walk=WalkParams(most_labels=0)))
    limits: list[Limit] = []
    for limit, raised in ((Limit.TIME, LimitReachedError), (Limit.INTERRUPT, KeyboardInterrupt)):
        limits.append(limit)
        with pytest.raises(raised):
            pricing.price(prices, None)


def test_where_the_cheapest_alternative_has_no_plan_yet_those_of_others_count() -> None:
    plans = Column((), (1,)), Column((), (2,))
    found = Priced.of_any([Priced(0), Priced(5, plans[:1]), Priced(9, plans[1:])], wants_all=False)
    assert found == Priced(0, plans)
    assert Priced.of_any([Priced(5, plans[:1]), Priced(9, plans[1:])], wants_all=False).columns == plans[:1]
