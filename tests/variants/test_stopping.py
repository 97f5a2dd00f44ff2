"""Ctrl-C ends every question about variants, whatever it comes into, and leaves what there is; so does the time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from mipplan.planner import PlanSearch, SearchOutcome
from mipplan.result import Limit
from variants.test_ties import TRACE, pipeline, profiles

ASKED = pipeline(), profiles(), TRACE
#: Variants of the first stage make other tokens each: three combinations.
SEVERAL = pipeline(fanout={"a": 1, "b": 1.5, "c": 2}), profiles(), TRACE
ROWS = [{"one": one, "two": "e", "accuracy": known} for one, known in (("b", 0.6), ("c", 0.7))]
TABLE = mp.Pipeline.from_document({**pipeline().to_document(), "accuracy": {"table": ROWS}}), *ASKED[1:]
CHEAPEST = mp.plan(*ASKED)
#: Begins the line of progress that is the last before ties are looked for.
TIES = "looking for a more accurate plan"


class Progress:
    """Does something at the line that begins so for the given time, and keeps those that come later."""

    def __init__(self, begins: str, act: Callable[[], object], number: int = 1) -> None:
        self._begins, self._act, self._left = begins, act, number
        self.later: list[str] = []

    def __call__(self, line: str) -> None:
        if not self._left:
            self.later.append(line)
        elif line.startswith(self._begins):
            self._left -= 1
            if not self._left:
                self._act()


def interrupt() -> None:
    raise KeyboardInterrupt


@pytest.fixture
def lose_time(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """What makes the clock jump by days."""
    real, lost_s = time.monotonic, [0.0]
    monkeypatch.setattr("time.monotonic", lambda: real() + sum(lost_s))
    return lambda: lost_s.append(1e6)


QUESTIONS: dict[str, Callable[..., Any]] = {
    "front": mp.pareto,
    "menu by accuracy": partial(mp.menu, within=10, by="accuracy"),
    "menu": partial(mp.menu, within=10),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_an_interrupt_while_ties_are_looked_for_ends_the_question(question: str) -> None:
    progress = Progress(TIES, interrupt)
    answer = QUESTIONS[question](*ASKED, progress=progress)
    assert not progress.later
    assert (answer.complete, answer.limit) == (False, "interrupt")
    assert [plan.microusd_per_hour for plan in answer.plans] == [CHEAPEST.microusd_per_hour]


def test_an_interrupt_while_ties_are_looked_for_ends_weighing() -> None:
    progress = Progress(TIES, interrupt)
    answer = mp.weigh(*ASKED, weights=mp.ipa.Weights(accuracy=100), progress=progress)
    assert not progress.later
    assert (answer.limit, answer.optimal) == ("interrupt", False)
    assert answer.plan.microusd_per_hour == CHEAPEST.microusd_per_hour


def test_an_interrupt_while_ties_are_looked_for_ends_the_search_within_a_budget() -> None:
    progress = Progress(TIES, interrupt)
    plan = mp.most_accurate(*ASKED, budget_usd_per_hour=10, progress=progress)
    assert not progress.later
    assert (plan.status, plan.limit) == ("feasible", "interrupt")
    assert plan.microusd_per_hour == CHEAPEST.microusd_per_hour


@pytest.mark.parametrize("stopped_at", ["looking for a first", "choosing among"])
def test_an_interrupt_of_the_first_plan_ends_questions_about_tables(stopped_at: str) -> None:
    progress = Progress(stopped_at, interrupt)
    front = mp.pareto(*TABLE, progress=progress)
    assert not progress.later
    assert (front.complete, front.limit) == (False, "interrupt")


def test_an_interrupt_of_the_first_plan_ends_the_walk_along_accuracies() -> None:
    """One plan is made for the question before, and one of the walk's own."""
    progress = Progress("looking for a first", interrupt, 2)
    walked = mp.frontier(*ASKED, over="accuracy", progress=progress)
    assert not progress.later
    assert (walked.complete, walked.steps) == (False, ())


@pytest.mark.parametrize("by", ["hardware", "variants", "both"])
def test_what_stops_a_menu_leaves_the_cheapest_plan(by: str, lose_time: Callable[[], None]) -> None:
    stops = {"interrupt": Progress("analysing", interrupt, 2), "time": Progress(TIES, lose_time)}
    for limit, stop in stops.items():
        menu = mp.menu(*ASKED, within=10, by=by, progress=stop)
        assert (menu.complete, menu.limit) == (False, limit)
        assert [plan.microusd_per_hour for plan in menu.plans] == [CHEAPEST.microusd_per_hour]


def test_no_other_pattern_is_looked_for_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search takes Ctrl-C for a limit, and may have found a plan before."""

    class Interrupted(PlanSearch):
        def run(self) -> SearchOutcome:
            return replace(super().run(), limit=Limit.INTERRUPT)

    whole = mp.menu(*ASKED, within=10)
    assert len(whole.plans) > 1
    monkeypatch.setattr("mipplan.variants.menus.PlanSearch", Interrupted)
    menu = mp.menu(*ASKED, within=10)
    assert (menu.complete, menu.limit, len(menu.plans)) == (False, "interrupt", 1)


def test_no_further_combination_is_analysed_once_time_is_up(lose_time: Callable[[], None]) -> None:
    questions: dict[str, Callable[..., Any]] = {
        "menu": mp.menu,
        "most": partial(mp.most_accurate, budget_usd_per_hour=10),
    }
    for question in questions.values():
        progress = Progress("opened 3 of 3", lose_time)
        assert question(*SEVERAL, progress=progress).limit == "time"
        assert sum(line.startswith("analysing") for line in progress.later) <= 1


def test_where_no_combination_is_accurate_enough_nothing_bounds_the_cost() -> None:
    for asked, accuracy in ((SEVERAL, 0.99), (TABLE, 0.8)):
        plan = mp.plan(*asked, accuracy=accuracy)
        assert (plan.status, plan.lower_bound_usd_per_hour) == ("infeasible", None)


def test_weights_may_be_numbers_of_numpy() -> None:
    found = [mp.weigh(*ASKED, weights=mp.ipa.Weights(accuracy=own(10))).value for own in (float, np.float32)]
    assert found[0] == found[1]


def test_numbers_of_numpy_say_how_many_plans_a_menu_has() -> None:
    assert len(mp.menu(*ASKED, within=10, most=np.int64(1)).plans) == 1
    with pytest.raises(mp.InputError, match="most: expected a whole number from 1 to 1,000, found True"):
        mp.menu(*ASKED, most=True)
