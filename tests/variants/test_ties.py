"""Of plans of equal cost the most accurate is the answer, or the plan says that this is not settled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.variants import UNSETTLED

TRACE = mp.Trace.gamma(rate_rps=50, cv=1, duration_s=10, seed=1)
SIZES = np.array([1, 2])
ACCURACIES = {"a": 0.5, "b": 0.8, "c": 0.9, "d": 0.7, "e": 0.75}


def profiles(cpu_usd: float = 0.2) -> Profiles:
    """Of the first stage a and b are as fast, c is slower; d and e of the second one need a GPU to be fast."""
    bases = {"a": 5.0, "b": 5.0, "c": 60.0, "d": 10.0, "e": 10.0}
    tables = [
        LatencyTable(
            model,
            hardware,
            SIZES,
            base * factor * np.array([1.0, 1.5]),
            accuracy=np.full(2, ACCURACIES[model]),
        )
        for model, base in bases.items()
        for hardware, factor in (("cpu", 1.0 if model in "abc" else 9.0), ("gpu", 0.9))
    ]
    return Profiles.from_parts([Hardware("cpu", cpu_usd), Hardware("gpu", 4.0)], tables)


def pipeline(**more: Any) -> mp.Pipeline:
    return mp.Pipeline.from_document(
        {
            "slo": "100ms",
            "stages": {"one": {"variants": ["a", "b", "c"]}, "two": {"variants": ["d", "e"]}},
            "edges": [{"from": "one", "to": "two", **more}],
        }
    )


def variants(plan: mp.Plan) -> list[str | None]:
    return [choice.variant for choice in plan.choices.values()]


@pytest.mark.parametrize(
    "edge", [{}, {"fanout": {"a": 1, "b": 1.001, "c": 2}}], ids=["alike", "other tokens"]
)
@pytest.mark.parametrize("least", [None, 0.3, 0.5])
def test_what_costs_nothing_is_taken(edge: dict[str, Any], least: float | None) -> None:
    plan = mp.plan(pipeline(**edge), profiles(), TRACE, accuracy=least)
    assert (plan.status, plan.reason, plan.limit) == ("optimal", None, None)
    assert plan.lower_bound_microusd_per_hour == plan.microusd_per_hour
    assert variants(plan) == ["b", "e"]
    assert mp.verify(plan, TRACE).verified
    budget = plan.usd_per_hour or 0.0
    assert variants(mp.most_accurate(pipeline(**edge), profiles(), TRACE, budget_usd_per_hour=budget)) == [
        "b",
        "e",
    ]


def test_where_too_much_would_be_looked_through_the_plan_says_so() -> None:
    plan = mp.plan(pipeline(), profiles(cpu_usd=0.0001), TRACE)
    assert (plan.status, plan.reason, plan.limit) == ("optimal", UNSETTLED, None)
    assert "not settled" in str(plan)
    budget = plan.usd_per_hour or 0.0
    settled = mp.most_accurate(pipeline(), profiles(cpu_usd=0.0001), TRACE, budget_usd_per_hour=budget)
    assert (settled.status, settled.reason) == ("optimal", None)
    assert (settled.accuracy or 0.0) >= (plan.accuracy or 0.0)
    assert mp.pareto(pipeline(), profiles(cpu_usd=0.0001), TRACE).plans[0].reason is None


def test_an_interrupt_leaves_the_cheapest_plan() -> None:
    def stop(line: str) -> None:
        if line.startswith("looking for a more accurate plan"):
            raise KeyboardInterrupt

    plan = mp.plan(pipeline(), profiles(), TRACE, progress=stop)
    assert (plan.status, plan.reason, plan.limit) == ("optimal", UNSETTLED, "interrupt")
    assert plan.microusd_per_hour == mp.plan(pipeline(), profiles(), TRACE).microusd_per_hour


def stopping_at(number: int, seen: list[str]) -> Callable[[str], None]:
    """What notes lines of progress, and is interrupted at one of them."""

    def stop(line: str) -> None:
        seen.append(line)
        if len(seen) == number:
            raise KeyboardInterrupt

    return stop


def test_an_interrupt_leaves_what_other_combinations_gave() -> None:
    """Variants make other tokens: combinations are analysed and searched one by one. After Ctrl-C no further one is."""
    asked = pipeline(fanout={"a": 1, "b": 1.5, "c": 2}), profiles(), TRACE
    lines: list[str] = []
    best = mp.plan(*asked, progress=lines.append)
    planned = len(lines)
    whole = mp.menu(*asked, within=10, progress=lines.append)
    assert whole.complete
    # While the second combination is analysed, there is a plan of the first one.
    second = [place for place, line in enumerate(lines[:planned], 1) if line.startswith("analysing")][1]
    seen: list[str] = []
    plan = mp.plan(*asked, progress=stopping_at(second, seen))
    assert (plan.limit, len(seen)) == ("interrupt", second)
    assert (plan.lower_bound_usd_per_hour or 0.0) <= (best.usd_per_hour or 0.0) <= (plan.usd_per_hour or 0.0)
    # A menu looks at all of them once more.
    for stopped_at, count in ((second, 1), (planned + 2, None)):
        seen.clear()
        menu = mp.menu(*asked, within=10, progress=stopping_at(stopped_at, seen))
        assert (menu.complete, menu.limit, menu.reason) == (False, "interrupt", "the search was stopped")
        assert len(seen) == stopped_at
        assert 0 < len(menu.plans) < len(whole.plans)
        assert count is None or len(menu.plans) == count


def test_an_interrupt_while_traffic_is_analysed_leaves_the_front_so_far() -> None:
    asked = pipeline(fanout={"a": 1, "b": 1.5, "c": 2}), profiles(), TRACE
    lines: list[str] = []
    planned = mp.plan(*asked, progress=lines.append)
    count = len(lines)
    complete = mp.pareto(*asked, progress=lines.append)
    later = [place for place, line in enumerate(lines[count:], 1) if line.startswith("analysing")]
    assert complete.complete
    assert later[-1] > count, "a combination is analysed after the first plan is there"
    seen: list[str] = []
    front = mp.pareto(*asked, progress=stopping_at(later[-1], seen))
    assert front.plans[0].microusd_per_hour == planned.microusd_per_hour
    assert (front.complete, front.limit, len(seen)) == (False, "interrupt", later[-1])
    most = mp.most_accurate(*asked, budget_usd_per_hour=1e3, progress=stopping_at(count + 1, []))
    assert (most.status, most.limit) == ("feasible", "interrupt")
