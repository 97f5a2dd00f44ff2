"""Enumeration by lists and by halves, without any master: what it finds is the cheapest certified plan."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from benchmarks.planning.instances import make_pipeline, make_profiles, make_trace, objective_s
from campaigns import campaign_size, write_summary
from mipplan.fleet.pricing import Pricer
from mipplan.options import build_problem
from mipplan.planner import benders
from mipplan.planner.enumeration import Enumeration
from mipplan.planner.hearing import Hearing
from mipplan.planner.instance import trace_instance
from mipplan.planner.members import keeps_limits
from mipplan.planner.pricing import Prices, Pricing
from mipplan.result import relevant_profiles
from oracle_planner import OracleAnswer, TooLargeError, cheapest_certified
from planning_instances import PlanningInstance, planning_instance

FIRST = 6000


class NoPricing(Pricing):
    """Knows nothing about cost: not even the linear relaxation."""

    def __init__(self, options: int) -> None:
        self._options = options

    def within(self, rows: object = None, time_limit_s: float | None = None) -> Prices:
        return Prices(0.0, np.zeros(self._options))


def enumeration(drawn: PlanningInstance, budget: int, near: int = 0) -> Enumeration:
    """Everything that costs no more than the budget, near the first options that come."""
    instance = trace_instance(
        drawn.pipeline, drawn.profiles, drawn.trace, drawn.slo_ns, drawn.quantile, drawn.seed
    )
    options = instance.affordable(budget)
    count = sum(table.count for table in options.values())

    def is_allowed(selection: Mapping[str, int]) -> bool:
        members = {stage: options[stage].member(option) for stage, option in selection.items()}
        return keeps_limits(members, instance.limits)

    numbers = {stage: np.arange(table.count) for stage, table in options.items()}
    paths, deadline_ns, limits = instance.judge.paths, instance.deadline_ns, instance.limits
    return Enumeration(
        Hearing(instance, options, numbers, is_allowed),
        build_problem(instance.pipeline, options, paths, deadline_ns, limits),
        NoPricing(count),
        Prices(0.0, np.zeros(count)),
        budget,
        1,
        near=dict.fromkeys(options, near),
    )


def truth_of(drawn: PlanningInstance) -> OracleAnswer | None:
    try:
        return cheapest_certified(
            drawn.pipeline, drawn.profiles, drawn.trace, drawn.slo_ns, drawn.quantile, drawn.seed
        )
    except TooLargeError:
        return None


def cost_of(search: Enumeration, selection: Mapping[str, int]) -> int:
    return int(search._hearing.cost[search._hearing.rows_of(selection)].sum())


def test_the_cheapest_certified_plan_is_found_from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """By halving alone, by halving until sets can be listed, and by listing everything up to rising costs."""
    verdicts: Counter[str] = Counter()
    numbers = range(FIRST, FIRST + campaign_size(25, 400))
    for number in numbers:
        drawn = planning_instance(number)
        truth = truth_of(drawn)
        if truth is None:
            continue
        verdicts["compared"] += 1
        for listed in (0, 3_000):
            monkeypatch.setattr("mipplan.planner.enumeration._LISTED", listed)
            dearer, cheaper = enumeration(drawn, truth.cost * 3 // 2), enumeration(drawn, truth.cost)
            cheaper._most = truth.cost - 1
            assert dearer.run(100_000, math.inf)
            assert cheaper.run(100_000, math.inf)
            check(dearer, cheaper, truth, number)
        dearer, cheaper = enumeration(drawn, truth.cost * 3 // 2), enumeration(drawn, truth.cost)
        cheaper._most = truth.cost - 1
        if dearer.climb(math.inf) and cheaper.climb(math.inf):
            check(dearer, cheaper, truth, number)
            assert dearer.proven <= truth.cost == cheaper.proven
            verdicts["listed"] += 1
        else:  # too many choices, without any prices that tell them apart
            assert max(dearer.proven, cheaper.proven) <= truth.cost
    assert verdicts["listed"] > len(numbers) / 4
    write_summary("enumeration", {"instances": len(numbers), **verdicts, "mismatches": 0})


def check(dearer: Enumeration, cheaper: Enumeration, truth: OracleAnswer, number: int) -> None:
    assert dearer.best is not None, number
    assert cost_of(dearer, dearer.best) == truth.cost, number
    assert cheaper.best is None, number


def test_it_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mipplan.planner.enumeration._LISTED", 0)
    stopped = 0
    for number in range(FIRST, FIRST + 15):
        drawn = planning_instance(number)
        truth = truth_of(drawn)
        if truth is None:
            continue
        search = enumeration(drawn, truth.cost)
        assert not search.run(0, math.inf)
        assert not search.run(5, -math.inf), "the time is up before it begins"
        rounds = 0
        while not search.run(3, math.inf):
            rounds += 1
        assert search.best is not None
        assert cost_of(search, search.best) == truth.cost
        stopped += rounds > 0
    assert stopped > 1


def test_masters_and_cuts_alone_find_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The enumeration ends most searches; what goes on without it is held to brute force, too."""
    for way in ("_climb", "_enumerate"):
        monkeypatch.setattr(benders.Search, way, lambda _: False)
    compared = 0
    for number in range(FIRST, FIRST + campaign_size(20, 200)):
        drawn = planning_instance(number)
        truth = truth_of(drawn)
        if truth is None:
            continue
        assert drawn.plan().microusd_per_hour == truth.cost, number
        compared += 1
    assert compared > 5


def test_a_plan_that_keeps_the_objective_by_far_too_much_is_trimmed_on_all_stages_alike() -> None:
    """No quick guess is certified here, so the search starts from the most replicas of everything, 100,000 a stage.

    Trimmed one stage after another it cost 70 times the optimum, which left half a million options to choose among. The
    pricing of a fleet's pipelines is another way to the same optimum.
    """
    drawn = planning_instance(7016, limited=False)
    told: list[str] = []
    plan = drawn.plan(progress=told.append)
    assert plan.status == "optimal"
    profiles = relevant_profiles(drawn.pipeline, drawn.profiles)
    pricer = Pricer(
        lambda: trace_instance(
            drawn.pipeline, profiles, drawn.trace, drawn.slo_ns, drawn.quantile, drawn.seed
        ),
        tuple(drawn.profiles.hardware),
    )
    prices = np.array([device.microusd_per_hour for device in drawn.profiles.hardware.values()])
    assert plan.microusd_per_hour == pricer.price(prices, None).lower_bound
    (choosing,) = (line for line in told if line.startswith("choosing among"))
    assert int(choosing.split()[2].replace(",", "")) < 10_000
    assert sum(line.startswith("round") for line in told) <= 3


def branching(stages: int, seed: int) -> tuple[mp.Plan, Callable[[], mp.Plan]]:
    """A tree with rare branches, where masters alone take many rounds: its plan, and a way to make it again."""
    pipeline, profiles = make_pipeline("tree", stages, seed), make_profiles(stages, seed)
    trace, slo_s = make_trace(3_000, seed), objective_s(pipeline, profiles)

    def make() -> mp.Plan:
        return mp.plan(pipeline, profiles, trace, slo_s=slo_s)

    return make(), make


def without_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only masters, cuts and halving."""
    monkeypatch.setattr(Enumeration, "climb", lambda *_: False)
    monkeypatch.setattr("mipplan.planner.enumeration._LISTED", 0)


@pytest.mark.parametrize(("stages", "seed"), [(4, 1), (4, 2), (5, 2)])
@pytest.mark.parametrize("way", ["_climb", "_enumerate"])
def test_a_search_that_it_ends_would_have_ended_there(
    stages: int, seed: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By listing, or where there is none, by halving."""
    if way == "_enumerate":
        without_listing(monkeypatch)
    ended = 0
    original = getattr(benders.Search, way)

    def counted(self: benders.Search) -> bool:
        nonlocal ended
        found: bool = original(self)
        ended += found
        return found

    monkeypatch.setattr(benders.Search, way, counted)
    plan, make = branching(stages, seed)
    assert plan.status == "optimal"
    assert ended == 1
    for other in ("_climb", "_enumerate"):
        monkeypatch.setattr(benders.Search, other, lambda _: False)
    assert make().microusd_per_hour == plan.microusd_per_hour


@pytest.mark.parametrize("after", [0, 5, 40])
def test_an_interrupt_leaves_what_was_found(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    without_listing(monkeypatch)
    best, make = branching(5, 2)
    original = Enumeration._parts
    looked = 0

    def stopped(self: Any, whole: Any, ends_at: float) -> Any:
        nonlocal looked
        looked += 1
        if looked > after:
            raise KeyboardInterrupt
        return original(self, whole, ends_at)

    monkeypatch.setattr(Enumeration, "_parts", stopped)
    plan = make()
    assert looked == after + 1
    assert plan.status == "feasible"
    assert None not in (plan.microusd_per_hour, best.microusd_per_hour, plan.lower_bound_microusd_per_hour)
    assert plan.lower_bound_microusd_per_hour <= best.microusd_per_hour <= plan.microusd_per_hour
    assert plan.certificate_ns <= plan.slo_ns


@pytest.mark.parametrize("after", [0, 2, 4])
def test_an_interrupted_list_leaves_a_plan_and_a_bound(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    best, make = branching(5, 2)
    original = Hearing.keeps_slo
    heard = 0

    def stopped(self: Hearing, choice: Any) -> bool:
        nonlocal heard
        heard += 1
        if heard > after:
            raise KeyboardInterrupt
        return original(self, choice)

    monkeypatch.setattr(Hearing, "keeps_slo", stopped)
    plan = make()
    assert heard == after + 1
    assert plan.status == "feasible"
    assert None not in (plan.microusd_per_hour, best.microusd_per_hour, plan.lower_bound_microusd_per_hour)
    assert 0 < plan.lower_bound_microusd_per_hour <= best.microusd_per_hour <= plan.microusd_per_hour
