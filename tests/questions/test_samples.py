"""Questions about several traces and draws equal planning for all of them at every point, and judging on each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from mipplan.profiles import Profiles
from mipplan.tokens import Sample, find_samples
from oracle_questions import microusd
from planning_instances import hand_made

SMALL = hand_made(0.04, probability=0.5)
TRACES = [SMALL.trace, mp.Trace.from_ns(np.arange(60) * 3_000_000, name="even")]
ASKED = SMALL.arguments | {"seeds": 2}
DEVICE = SMALL.profiles.hardware["t4"]


def planned(factor: float = 1.0, profiles: Profiles = SMALL.profiles, **more: Any) -> mp.Plan:
    traces = [trace.scale(factor) for trace in TRACES]
    return mp.plan(SMALL.pipeline, profiles, traces, **{**ASKED, **more})


def priced(usd_per_hour: float) -> Profiles:
    return SMALL.profiles.with_hardware(replace(DEVICE, usd_per_hour=usd_per_hour))


AXES: dict[str, tuple[float, float, Any]] = {
    "slo": (0.025, 0.06, lambda value: {"slo_s": value}),
    "rate": (0.5, 2.0, lambda value: {"factor": value}),
    "price:t4": (0.1, 1.0, lambda value: {"profiles": priced(value)}),
}


@pytest.mark.parametrize("over", AXES)
def test_every_step_of_a_frontier_is_the_plan_for_all_samples(over: str) -> None:
    start, end, changed = AXES[over]
    frontier, alone = (
        mp.frontier(SMALL.pipeline, SMALL.profiles, traces, over=over, start=start, end=end, **ASKED)
        for traces in (TRACES, TRACES[:1])
    )
    assert len(frontier.steps) > 1
    for step in frontier.steps:
        for value in (step.start, step.end):
            assert microusd(frontier, value) == planned(**changed(value)).microusd_per_hour
            assert (microusd(frontier, value) or 10**9) >= (microusd(alone, value) or 0)
    figures = [[(step.start, step.microusd_start) for step in found.steps] for found in (frontier, alone)]
    assert figures[0] != figures[1]


def test_what_if_plans_for_all_samples_and_judges_on_each() -> None:
    plan = planned()
    answer = mp.whatif(plan, TRACES, {"rate": "1.5x"})
    (case,) = answer.cases
    assert answer.base is plan
    assert case.plan.microusd_per_hour == planned(1.5).microusd_per_hour
    samples = find_samples(SMALL.pipeline, [trace.scale(1.5) for trace in TRACES], plan.seed, plan.seeds)

    def certified_ns(one: Sample) -> int:
        return mp.certify(plan, one.trace, seed=one.seed).bound_ns

    def replayed_ns(one: Sample) -> int:
        return mp.replay(plan, one.trace, seed=one.seed).quantile_ns(plan.quantile)

    assert case.same is not None
    assert case.same.guaranteed_ns == max(map(certified_ns, samples))
    assert case.same.replayed_ns == max(map(replayed_ns, samples))
    assert "bursts, even" in str(answer)


def test_draws_of_a_what_if_are_asked_for_or_those_of_the_plan() -> None:
    plan = planned()
    more = mp.whatif(plan, TRACES, {"slo": "2x"}, seeds=3)
    assert (more.base.seeds, more.cases[0].plan.seeds) == (3, 3)
    assert more.base.microusd_per_hour == planned(seeds=3).microusd_per_hour
    fewer = mp.whatif(plan, TRACES[:1], {"slo": "2x"})
    assert (fewer.base.seeds, len(fewer.base.traces)) == (2, 1)
    with pytest.raises(mp.InputError, match=r"rate=250/s: several traces have several rates"):
        mp.whatif(plan, TRACES, {"rate": "250/s"})
    with pytest.raises(mp.InputError, match="seeds: expected a whole number"):
        mp.whatif(plan, TRACES, {"slo": "2x"}, seeds=0)


def test_every_measurement_changes_the_cost_for_all_samples() -> None:
    found = mp.sensitivity(SMALL.pipeline, SMALL.profiles, TRACES, share=0.25, **ASKED)
    told = {(one.model, one.hardware, one.batch): one for one in found.measurements}
    base = planned().microusd_per_hour or 0
    assert told
    for key, table in SMALL.profiles.tables.items():
        for row, batch in enumerate(table.batch.tolist()):
            for factor, name in ((1.25, "microusd_slower"), (0.75, "microusd_faster")):
                latency_ms = table.latency_ms.copy()
                latency_ms[row] *= factor
                tables = {**SMALL.profiles.tables, key: replace(table, latency_ms=latency_ms)}
                cost = planned(profiles=Profiles(SMALL.profiles.hardware, tables)).microusd_per_hour
                change = None if cost is None else cost - base
                assert change == getattr(told.get((*key, batch)), name, 0)
