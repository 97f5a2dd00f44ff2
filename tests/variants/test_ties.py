"""Of plans of equal cost the most accurate is the answer, or the plan says that this is not settled."""

from __future__ import annotations

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
