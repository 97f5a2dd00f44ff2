"""Enumeration by halves, without any master: what it finds is the cheapest certified plan."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from benchmarks.planning.instances import make_pipeline, make_profiles, make_trace, objective_s
from campaigns import campaign_size, write_summary
from mipplan.planner import benders
from mipplan.planner.enumeration import Enumeration
from mipplan.planner.instance import trace_instance
from mipplan.planner.members import keeps_limits
from mipplan.planner.pricing import Prices, Pricing
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

    def is_allowed(selection: Mapping[str, int]) -> bool:
        members = {stage: options[stage].member(option) for stage, option in selection.items()}
        return keeps_limits(members, instance.limits)

    return Enumeration(
        instance,
        options,
        {stage: np.arange(table.count) for stage, table in options.items()},
        NoPricing(sum(table.count for table in options.values())),
        is_allowed,
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
    return sum(int(search._options[stage].cost[option]) for stage, option in selection.items())


def test_the_cheapest_certified_plan_is_found_from_nothing() -> None:
    numbers = range(FIRST, FIRST + campaign_size(25, 400))
    found = 0
    for number in numbers:
        drawn = planning_instance(number)
        truth = truth_of(drawn)
        if truth is None:
            continue
        dearer = enumeration(drawn, truth.cost * 3 // 2)
        assert dearer.run(100_000, math.inf)
        assert dearer.best is not None, number
        assert cost_of(dearer, dearer.best) == truth.cost, number
        below = truth.cost - 1
        cheaper = enumeration(drawn, truth.cost)
        cheaper._most = below
        assert cheaper.run(100_000, math.inf)
        assert cheaper.best is None, number
        found += 1
    assert found > len(numbers) / 4
    write_summary("enumeration", {"instances": len(numbers), "compared": found, "mismatches": 0})


def test_it_goes_on_where_it_stopped() -> None:
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
    monkeypatch.setattr(benders.Search, "_enumerate", lambda _: False)
    compared = 0
    for number in range(FIRST, FIRST + campaign_size(20, 200)):
        drawn = planning_instance(number)
        truth = truth_of(drawn)
        if truth is None:
            continue
        assert drawn.plan().microusd_per_hour == truth.cost, number
        compared += 1
    assert compared > 5


def branching(stages: int, seed: int) -> tuple[mp.Plan, Callable[[], mp.Plan]]:
    """A tree with rare branches, where masters alone take many rounds: its plan, and a way to make it again."""
    pipeline, profiles = make_pipeline("tree", stages, seed), make_profiles(stages, seed)
    trace, slo_s = make_trace(3_000, seed), objective_s(pipeline, profiles)

    def make() -> mp.Plan:
        return mp.plan(pipeline, profiles, trace, slo_s=slo_s)

    return make(), make


@pytest.mark.parametrize(("stages", "seed"), [(4, 1), (4, 2), (5, 2)])
def test_a_search_that_it_ends_would_have_ended_there(
    stages: int, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = 0
    original = benders.Search._enumerate

    def counted(self: benders.Search) -> bool:
        nonlocal ended
        found = original(self)
        ended += found
        return found

    monkeypatch.setattr(benders.Search, "_enumerate", counted)
    plan, make = branching(stages, seed)
    assert plan.status == "optimal"
    assert ended == 1
    monkeypatch.setattr(benders.Search, "_enumerate", lambda _: False)
    assert make().microusd_per_hour == plan.microusd_per_hour


@pytest.mark.parametrize("after", [0, 5, 40])
def test_an_interrupt_leaves_what_was_found(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    best, make = branching(5, 2)
    original = Enumeration._parts
    looked = 0

    def stopped(self: Any, whole: Any) -> Any:
        nonlocal looked
        looked += 1
        if looked > after:
            raise KeyboardInterrupt
        return original(self, whole)

    monkeypatch.setattr(Enumeration, "_parts", stopped)
    plan = make()
    assert looked == after + 1
    assert plan.status == "feasible"
    assert None not in (plan.microusd_per_hour, best.microusd_per_hour, plan.lower_bound_microusd_per_hour)
    assert plan.lower_bound_microusd_per_hour <= best.microusd_per_hour <= plan.microusd_per_hour
    assert plan.certificate_ns <= plan.slo_ns
