"""Enumeration by lists and by halves, without any master: what it finds is the cheapest certified plan."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from benchmarks.planning.instances import make_pipeline, make_profiles, make_trace, objective_s
from campaigns import Violations, campaign_size, write_summary
from mipplan.core import Deadline, Int64
from mipplan.fleet.pricing import PricingProblem
from mipplan.options import build_problem
from mipplan.planner import SearchParams, SearchSpace, break_ties, planning, trace_instance
from mipplan.planner.choices import ReducedCosts
from mipplan.planner.enumeration import Enumeration, EnumerationParams
from mipplan.result import relevant_profiles
from oracle_planner import OracleAnswer, TooLargeError, cheapest_certified
from planning_instances import PlanningInstance, made_again, planning_instance

FIRST = 6000
FOREVER = Deadline()
USUAL = EnumerationParams()
MASTERS_ALONE = SearchParams(lists=False, halves=False)
#: Only masters, cuts and halving.
WITHOUT_LISTS = SearchParams(lists=False, enumeration=EnumerationParams(listed=0), neighbourhoods=None)


class NoBound:
    """Knows nothing about cost: not even the linear relaxation."""

    def __init__(self, options: int) -> None:
        self._options = options

    def within(self, rows: Int64, time_limit_s: float | None = None) -> ReducedCosts:
        return ReducedCosts(0.0, np.zeros(self._options))


def enumeration(drawn: PlanningInstance, budget: int, params: EnumerationParams = USUAL) -> Enumeration:
    """Everything that costs no more than the budget, near the first options that come."""
    instance = trace_instance(
        drawn.pipeline, drawn.profiles, drawn.trace, drawn.slo_ns, drawn.quantile, drawn.seed
    )
    space = SearchSpace(instance.affordable(budget), instance.limits)
    paths, deadline_ns, limits = instance.oracle.paths, instance.deadline_ns, instance.limits
    problem = build_problem(instance.pipeline, space.tables, paths, deadline_ns, limits)
    return Enumeration(
        instance,
        space,
        problem,
        np.arange(space.size),
        NoBound(space.size),
        ReducedCosts(0.0, np.zeros(space.size)),
        budget,
        1,
        near=space.first,
        params=params,
    )


def truth_of(drawn: PlanningInstance) -> OracleAnswer | None:
    try:
        return cheapest_certified(
            drawn.pipeline, drawn.profiles, drawn.trace, drawn.slo_ns, drawn.quantile, drawn.seed
        )
    except TooLargeError:
        return None


def test_the_cheapest_certified_plan_is_found_from_nothing() -> None:
    """By halving alone, by halving until sets can be listed, and by listing everything up to rising costs."""
    verdicts: Counter[str] = Counter()
    numbers = range(FIRST, FIRST + campaign_size(5, 400))
    violations = Violations()
    for number in numbers:
        with violations.case(number):
            drawn = planning_instance(number)
            truth = truth_of(drawn)
            if truth is None:
                continue
            verdicts["compared"] += 1
            for listed in (0, 3_000):
                dearer, cheaper = around(drawn, truth, EnumerationParams(listed=listed))
                assert dearer.halve(100_000, FOREVER)
                assert cheaper.halve(100_000, FOREVER)
                check(dearer, cheaper, truth, number)
            dearer, cheaper = around(drawn, truth)
            if dearer.raise_bound(FOREVER) and cheaper.raise_bound(FOREVER):
                check(dearer, cheaper, truth, number)
                assert dearer.proven <= truth.cost == cheaper.proven
                verdicts["listed"] += 1
            else:  # too many choices, without any bound that tells them apart
                assert max(dearer.proven, cheaper.proven) <= truth.cost
    assert verdicts["listed"] > len(numbers) / 4
    write_summary("enumeration", {"instances": len(numbers), **verdicts, "mismatches": violations.checked()})


def around(
    drawn: PlanningInstance, truth: OracleAnswer, params: EnumerationParams = USUAL
) -> tuple[Enumeration, Enumeration]:
    """Two enumerations: of what may cost more than the optimum, and of what has to cost less."""
    dearer, cheaper = (enumeration(drawn, budget, params) for budget in (truth.cost * 3 // 2, truth.cost))
    cheaper.most = truth.cost - 1
    return dearer, cheaper


def check(dearer: Enumeration, cheaper: Enumeration, truth: OracleAnswer, number: int) -> None:
    assert dearer.best is not None, number
    assert dearer.most == truth.cost - 1, number  # only cheaper ones than what was found are still looked for
    assert cheaper.best is None, number


def test_it_goes_on_where_it_stopped() -> None:
    stopped = 0
    for number in range(FIRST, FIRST + 8):
        drawn = planning_instance(number)
        truth = truth_of(drawn)
        if truth is None:
            continue
        search = enumeration(drawn, truth.cost, EnumerationParams(listed=0))
        assert not search.halve(0, FOREVER)
        assert not search.halve(5, Deadline(-math.inf)), "the time is up before it begins"
        rounds = 0
        while not search.halve(3, FOREVER):
            rounds += 1
        assert search.best is not None
        assert search.most == truth.cost - 1
        stopped += rounds > 0
    assert stopped > 1


def test_masters_and_cuts_alone_find_the_same() -> None:
    """The enumeration ends most searches; what goes on without it is held to brute force, too."""
    compared = 0
    for number in range(FIRST, FIRST + campaign_size(8, 200)):
        drawn = planning_instance(number)
        truth = truth_of(drawn)
        if truth is None:
            continue
        assert made_again(drawn.plan(), MASTERS_ALONE).microusd_per_hour == truth.cost, number
        compared += 1
    assert compared > 3


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
    pricing = PricingProblem(
        lambda: trace_instance(
            drawn.pipeline, profiles, drawn.trace, drawn.slo_ns, drawn.quantile, drawn.seed
        ),
        tuple(drawn.profiles.hardware),
    )
    prices = np.array([device.microusd_per_hour for device in drawn.profiles.hardware.values()])
    assert plan.microusd_per_hour == pricing.price(prices, None).lower_bound
    (choosing,) = (line for line in told if line.startswith("choosing among"))
    assert int(choosing.split()[2].replace(",", "")) < 10_000
    assert sum(line.startswith("round") for line in told) <= 3


def branching(stages: int, seed: int) -> mp.Plan:
    """The plan of a tree with rare branches, where masters alone take many rounds."""
    pipeline, profiles = make_pipeline("tree", stages, seed), make_profiles(stages, seed)
    return mp.plan(pipeline, profiles, make_trace(3_000, seed), slo_s=objective_s(pipeline, profiles))


@pytest.mark.parametrize(("stages", "seed"), [(4, 1), (4, 2), (5, 2)])
@pytest.mark.parametrize("way", ["raise_bound", "halve"])
def test_a_search_that_it_ends_would_have_ended_there(
    stages: int, seed: int, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By listing, or where there is none, by halving."""
    ended = 0
    original = getattr(Enumeration, way)

    def counted(self: Enumeration, *arguments: Any) -> bool:
        nonlocal ended
        found: bool = original(self, *arguments)
        ended += found
        return found

    plan = branching(stages, seed)
    monkeypatch.setattr(Enumeration, way, counted)
    found = made_again(plan, WITHOUT_LISTS if way == "halve" else SearchParams())
    assert found.status == "optimal"
    assert found.microusd_per_hour == plan.microusd_per_hour
    assert ended == 1
    assert made_again(plan, MASTERS_ALONE).microusd_per_hour == plan.microusd_per_hour


@pytest.mark.parametrize("after", [0, 5, 40])
def test_an_interrupt_leaves_what_was_found(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    best = branching(5, 2)
    check_interrupted(best, WITHOUT_LISTS, "parts_of", after, monkeypatch)


@pytest.mark.parametrize("after", [0, 2, 4])
def test_an_interrupted_list_leaves_a_plan_and_a_bound(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    best = branching(5, 2)
    plan = check_interrupted(best, SearchParams(), "is_certified", after, monkeypatch)
    assert plan.lower_bound_microusd_per_hour


def test_after_an_interrupt_no_ties_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    """On long traces that took as long as it took, and the bound was lost where Ctrl-C came again."""
    best, over = branching(5, 2), []

    def noted(*arguments: Any) -> Any:
        over.append(arguments[-1].is_over)
        return break_ties(*arguments)

    monkeypatch.setattr(planning, "break_ties", noted)
    check_interrupted(best, SearchParams(), "is_certified", 2, monkeypatch)
    assert over == [True]


def check_interrupted(
    best: mp.Plan, params: SearchParams, step: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> mp.Plan:
    """Make a plan again, and press Ctrl-C after so many steps of the enumeration."""
    original = getattr(Enumeration, step)
    done = 0

    def stopped(self: Enumeration, *arguments: Any) -> Any:
        nonlocal done
        done += 1
        if done > after:
            raise KeyboardInterrupt
        return original(self, *arguments)

    monkeypatch.setattr(Enumeration, step, stopped)
    plan = made_again(best, params)
    assert done == after + 1
    assert (plan.status, plan.limit) == ("feasible", "interrupt")
    assert None not in (plan.microusd_per_hour, best.microusd_per_hour, plan.lower_bound_microusd_per_hour)
    assert plan.lower_bound_microusd_per_hour <= best.microusd_per_hour <= plan.microusd_per_hour
    assert plan.certificate_ns <= plan.slo_ns
    return plan
