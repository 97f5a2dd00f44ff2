"""Masters with tighter deadlines find good plans early, and change nothing that is proven."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipplan.planner import SearchParams, benders
from mipplan.planner.aiming import Aim, AimParams
from mipplan.solvers import ProblemAnswer
from planning_instances import made_again, planning_instance

#: Instances on which a master's optimum is refused where nothing is listed or halved.
REFUSED = (197, 361, 675)
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
    every = {aim: made_again(best, SearchParams(aim=aim, **SLOW)) for aim in (None, AimParams())}
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
        plan = made_again(best, SearchParams(aim=aim, most_sharpened=0, **SLOW))
        assert plan.microusd_per_hour is not None
        costs.append(plan.microusd_per_hour)
        assert all(deadline < deadlines[0] for deadline in deadlines[1:])
        assert (len(deadlines) > 1) == (aim is not None)
    assert costs[1] < costs[0]
