"""Tighter deadlines and neighbourhoods find good plans early, and change nothing that is proven."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns import Violations, campaign_size
from mipplan.core import Deadline, Int64, LimitReachedError
from mipplan.options import build_problem
from mipplan.planner import SearchParams, SearchSpace, benders, trace_instance
from mipplan.planner.improving import Aim, AimParams, NeighbourhoodParams, Neighbourhoods
from mipplan.solvers import ProblemAnswer
from mipplan_formulations import TimeCostProblem
from planning_instances import PlanningInstance, made_again, planning_instance

#: Instances on which a master's optimum is refused where nothing is listed or halved.
REFUSED = (197, 361, 675)
FIRST = 32
SLOW = {"lists": False, "halves": False}


@given(
    deadline_ns=st.integers(1, 10**12),
    needed=st.floats(0.0, 1.0),
    first=st.floats(0.0, 2.0),
    stated=st.floats(0.0, 2.0),
    finest=st.floats(0.001, 0.1),
    masters=st.integers(1, 2000),
)
def test_the_least_tightening_is_found_from_both_sides(
    deadline_ns: int, needed: float, first: float, stated: float, finest: float, masters: int
) -> None:
    # What certificates exceed the deadline by says little of how much tighter it has to be.
    needed_ns, finest_ns = int(needed * deadline_ns), math.ceil(finest * deadline_ns)
    params = AimParams(masters=masters, finest=finest, least_gap=0.0)
    aim = Aim(int(first * deadline_ns), 1, deadline_ns, params)
    short_ns, enough_ns, tried = 0, deadline_ns, 0
    while not aim.is_done(math.inf, 1):
        assert short_ns < aim.tighter_ns < enough_ns
        tried += 1
        if aim.tighter_ns < needed_ns:
            short_ns = aim.tighter_ns
            aim.was_short(int(stated * (needed_ns - aim.tighter_ns)), 1)
        else:
            enough_ns = aim.tighter_ns
            aim.was_enough()
    assert tried <= masters
    assert short_ns <= needed_ns <= enough_ns
    # At the worst the finest step each time until it suffices, then halves of what the last of them left.
    if tried < masters:
        assert enough_ns - short_ns <= finest_ns
        assert tried <= needed_ns / finest_ns + 12


def test_aiming_ends_where_hardly_anything_is_to_be_gained() -> None:
    aim = Aim(5, 980, 1_000, AimParams(least_gap=0.02))
    assert aim.is_done(999, 1)
    assert not aim.is_done(1_001, 1)
    assert aim.is_done(1_001, 25)  # There is no cost in between.
    aim.was_short(5, 990)
    assert aim.is_done(1_001, 1)


@pytest.mark.parametrize("number", REFUSED)
def test_aiming_finds_cheaper_plans_with_the_first_master_and_the_same_at_the_end(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = planning_instance(number)
    best = instance.plan()
    every = {
        aim: made_again(best, SearchParams(aim=aim, neighbourhoods=None, **SLOW))
        for aim in (None, AimParams())
    }
    assert {plan.microusd_per_hour for plan in every.values()} == {best.microusd_per_hour}
    assert {plan.status for plan in every.values()} == {"optimal"}
    original, deadlines = benders.solve_problem, list[int]()

    def stopping(problem: Any, *arguments: Any, **settings: Any) -> ProblemAnswer:
        # The first master has the objective's deadline, and so has the next one that is to prove something.
        if problem.deadline in deadlines[:1]:
            raise KeyboardInterrupt
        deadlines.append(problem.deadline)
        return original(problem, *arguments, **settings)

    monkeypatch.setattr(benders, "solve_problem", stopping)
    costs = []
    for aim in (None, AimParams()):
        deadlines.clear()
        # Bounds are told apart as finely as they can be, so that no master is solved again for that.
        params = SearchParams(aim=aim, neighbourhoods=None, most_sharpened=0, **SLOW)
        plan = made_again(best, params)
        assert plan.microusd_per_hour is not None
        costs.append(plan.microusd_per_hour)
        assert all(deadline < deadlines[0] for deadline in deadlines[1:])
        assert (len(deadlines) > 1) == (aim is not None)
    assert costs[1] < costs[0]


class Surroundings:
    """An instance, the choices that are open, and the best of them that change few stages of a plan at a time."""

    def __init__(self, drawn: PlanningInstance, budget: int) -> None:
        self.instance = trace_instance(
            drawn.pipeline, drawn.profiles, drawn.trace, drawn.slo_ns, drawn.quantile, drawn.seed
        )
        self.space = SearchSpace(self.instance.affordable(budget), self.instance.limits)
        rng = np.random.default_rng(budget)
        own = self.space.by_stage(np.arange(self.space.size))
        self.rows = np.sort(np.concatenate([rng.permutation(rows)[:5] for rows in own]))

    def master(self, rows: Int64) -> TimeCostProblem:
        instance, tables = self.instance, self.space.tables_of(rows)
        return build_problem(
            instance.pipeline, tables, instance.oracle.paths, instance.deadline_ns, instance.limits
        )

    def certified(self) -> list[Int64]:
        """All certified choices of the rows, the cheapest first: by brute force."""
        every = (np.array(choice) for choice in itertools.product(*self.space.by_stage(self.rows)))
        allowed = (choice for choice in every if self.space.is_allowed(choice))
        kept = [c for c in allowed if self.instance.keeps_slo(self.space.services(c))]
        return sorted(kept, key=self.space.cost_of)

    def search(self, start: Int64, rows: Int64, params: NeighbourhoodParams, rounds: int = 9) -> int:
        near = Neighbourhoods(self.instance, self.space, self.master, 1, params)
        near.search(start, rows, rounds, Deadline())
        assert near.best is not None
        return self.space.cost_of(near.best)


def surroundings(numbers: Iterable[int]) -> Iterator[tuple[int, Surroundings, list[Int64]]]:
    """Instances with several certified choices that differ in cost, and these."""
    for number in numbers:
        drawn = planning_instance(number)
        cost = drawn.plan().microusd_per_hour
        if cost is not None:
            around = Surroundings(drawn, 2 * cost)
            certified = around.certified()
            if len({around.space.cost_of(choice) for choice in certified}) > 2:
                yield number, around, certified


def test_neighbourhoods_leave_nothing_cheaper_that_changes_so_few_stages() -> None:
    """Where all stages are free that is the cheapest plan; where one is, nothing that one exchange would make."""
    stuck, judged, violations = 0, 0, Violations()
    for number, around, certified in surroundings(range(FIRST, FIRST + campaign_size(20, 600))):
        judged += 1
        start, stages = certified[-1], len(around.space.tables)
        with violations.case(number):
            for free in (1, 2, stages):
                params = NeighbourhoodParams(fewest=free, most=free, tries=20, sets=10**6)
                found = around.search(start, around.rows, params)
                best = certified[0]
                assert found >= around.space.cost_of(best)
                if free == stages:
                    assert found == around.space.cost_of(best)
                elif free == 1:
                    cheaper = [c for c in certified if around.space.cost_of(c) < found]
                    plans = [c for c in certified if around.space.cost_of(c) == found]
                    assert any(all(np.count_nonzero(c != own) > 1 for c in cheaper) for own in plans)
                    stuck += bool(cheaper)
    assert judged > 5
    assert stuck, "one exchange at a time must not be enough in all cases, or this says little"
    assert not violations.found, violations.found


def test_a_stage_whose_option_was_given_up_is_free() -> None:
    """No cheaper plan has that option: a neighbourhood in which it stayed would hold nothing."""
    around, certified = next((a, c) for _, a, c in surroundings(range(60)) if np.all(c[0] != c[-1]))
    without = np.setdiff1d(around.rows, certified[-1])
    found = around.search(certified[-1], without, NeighbourhoodParams(fewest=1, most=1, sets=10**6))
    kept = [c for c in certified if np.isin(c, without).all()]
    assert found == around.space.cost_of(kept[0])


@pytest.mark.parametrize("stop", [KeyboardInterrupt, LimitReachedError])
def test_what_neighbourhoods_found_is_kept_whatever_ends_them(
    stop: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, around, certified = next(surroundings(range(60)))
    near = Neighbourhoods(around.instance, around.space, around.master, 1, NeighbourhoodParams(sets=10**6))
    asked = list[int]()
    certificate = type(around.instance.oracle).exceeds

    def stopping(oracle: Any, services: Any, limit_ns: int) -> bool:
        asked.append(limit_ns)
        refused = certificate(oracle, services, limit_ns)
        if not refused:
            monkeypatch.setattr(type(around.instance.oracle), "exceeds", ended)
        return refused

    def ended(*_: Any) -> bool:
        raise stop

    monkeypatch.setattr(type(around.instance.oracle), "exceeds", stopping)
    with pytest.raises(stop):
        near.search(certified[-1], around.rows, 9, Deadline())
    assert near.best is not None
    assert around.space.cost_of(near.best) < around.space.cost_of(certified[-1])


@pytest.mark.parametrize("number", REFUSED)
def test_neighbourhoods_change_nothing_that_is_proven(number: int) -> None:
    best = planning_instance(number).plan()
    for aim, near in itertools.product((None, AimParams()), (None, NeighbourhoodParams())):
        again = made_again(best, SearchParams(aim=aim, neighbourhoods=near, **SLOW))
        assert (again.status, again.microusd_per_hour) == ("optimal", best.microusd_per_hour)
