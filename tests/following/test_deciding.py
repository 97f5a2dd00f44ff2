"""Given the same counts, following decides what the simulation decides: one code path, held together here."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mipplan as mp
from mipplan.following import ByCounts, Decider, Scrape, StageFigures, Tick, TickBuilder
from mipplan.tuner import Policy, Setting, simulate
from mipplan.tuner.policies import Hpa, InferLine, Lp, Newsvendor, Ray, Static
from serving_plans import small_plan
from tuned_plans import one_stage

S = 10**9
SAMPLE = mp.Trace.gamma(rate_rps=30, cv=1.5, duration_s=40, seed=1)
CHAIN = small_plan({"a": ([20, 28, 36], 2), "b": ([30], 2)}, {("a", "b"): {}})
POLICIES: dict[str, Policy] = {
    "lp": Lp(),
    "lp-lean": Lp.lean(),
    "newsvendor": Newsvendor(),
    "inferline": InferLine(),
    "hpa": Hpa(sync_s=2.0, down_window_s=4.0),
    "ray": Ray.tuned(),
    "static": Static(),
}


def told_by(schedules: Any, setting: Setting, ticks: list[Tick]) -> list[dict[str, int]]:
    """Counts that the simulation's schedules have from the end of each period on."""
    return [
        {
            stage: int(one.replicas[np.searchsorted(one.change_ns, tick.now_ns, side="right")])
            for stage, one in schedules.items()
        }
        for tick in ticks
    ]


@settings(max_examples=12, deadline=None)
@given(
    name=st.sampled_from(sorted(POLICIES)),
    rates=st.lists(st.sampled_from([5.0, 30.0, 90.0, 200.0]), min_size=2, max_size=4),
    looks=st.sampled_from([1, 4]),
    delay_s=st.sampled_from([0.0, 1.5]),
    seed=st.integers(0, 99),
)
def test_same_counts_same_decisions(
    name: str, rates: list[float], looks: int, delay_s: float, seed: int
) -> None:
    parts = [
        mp.Trace.gamma(rate_rps=rate, cv=1.3, duration_s=5, seed=seed + place).arrival_ns + place * 5 * S
        for place, rate in enumerate(rates)
    ]
    trace = mp.Trace.from_ns(np.sort(np.concatenate(parts)))
    setting = Setting(CHAIN, SAMPLE, int(trace.arrival_ns[0]), S, round(delay_s * S))
    ticks: list[Tick] = []
    run = simulate(setting, trace, ByCounts(POLICIES[name], looks, ticks.append))
    decider = Decider(setting, POLICIES[name])
    decided = [decider.decide(tick) for tick in ticks]
    assert decided == told_by(run.schedules, setting, ticks)


def test_ticks_put_together_from_looks_say_what_was_counted() -> None:
    """Looks of a simulated run, one a period: what the simulation integrates exactly, they have by counters."""
    plan, trace = one_stage(3), mp.Trace.poisson(rate_rps=20, duration_s=10, seed=4)
    setting = Setting(plan, trace, 0, S, 0)
    ticks: list[Tick] = []
    simulate(setting, trace, ByCounts(Static(), 1, ticks.append))
    builder = TickBuilder(0)
    for tick in ticks:
        one = tick.stages["only"]
        figures = StageFigures(one.waiting, one.under_way, one.active, one.arrived, one.busy_ns / S)
        builder.add(tick.now_ns, Scrape(tick.queries[0], {"only": figures}), {})
        made = builder.close()
        assert (made.edges_ns, made.queries) == (tick.edges_ns, tick.queries)
        mine = made.stages["only"]
        assert (mine.active, mine.waiting, mine.under_way, mine.arrived, mine.busy_ns) == (
            one.active,
            one.waiting,
            one.under_way,
            one.arrived,
            one.busy_ns,
        )
        assert mine.active_ns == 3 * S


def test_parts_of_queries_are_carried_on() -> None:
    builder = TickBuilder(0)
    for look in range(1, 9):
        builder.add(look * S, Scrape(0.4, {}), {})
    assert builder.close().queries == (0, 0, 1, 0, 1, 0, 0, 1)


def test_look_at_an_instant_that_was_looked_at_is_left_out() -> None:
    builder = TickBuilder(5)
    builder.add(5, Scrape(3.0, {}), {})
    assert builder.looks == 0


def test_counts_within_what_the_plan_allows() -> None:
    plan = one_stage(2, most=3)
    decider = Decider(Setting(plan, SAMPLE, 0, S, 0), Ray.tuned())
    builder = TickBuilder(0)
    builder.add(S, Scrape(500.0, {"only": StageFigures(400, 2, 2, 500)}), {})
    builder.add(2 * S, Scrape(500.0, {"only": StageFigures(800, 2, 2, 500)}), {})
    assert decider.decide(builder.close()) == {"only": 3}


def test_shadow_decides_from_what_there_is() -> None:
    """A policy that multiplies what it has must not run away from a target that does not follow."""
    plan = one_stage(2)
    decider = Decider(Setting(plan, SAMPLE, 0, S, 0), Hpa(sync_s=1.0))
    wanted = []
    builder = TickBuilder(0)
    for second in range(1, 8):
        figures = StageFigures(0, 2, 2, 20, busy_s=2.0)
        builder.add(second * S, Scrape(20.0, {"only": figures}), {})
        wanted.append(decider.decide(builder.close(), present={"only": 2})["only"])
    assert set(wanted) == {4}


def test_floor_holds_what_was_there_before_a_restart() -> None:
    plan = one_stage(2)
    decider = Decider(Setting(plan, SAMPLE, 0, S, 0), Hpa(sync_s=1.0, down_window_s=0.0), {"only": 6})
    builder = TickBuilder(0)
    builder.add(S, Scrape(1.0, {"only": StageFigures(0, 0, 6, 1, busy_s=0.1)}), {})
    assert decider.decide(builder.close(), least={"only": 6}) == {"only": 6}
    builder.add(2 * S, Scrape(1.0, {"only": StageFigures(0, 0, 6, 1, busy_s=0.1)}), {})
    assert decider.decide(builder.close())["only"] < 6


def test_static_has_the_plans_replicas_whatever_was_there() -> None:
    """Of a system that still starts some are ready at the first look; others were left by another plan."""
    for found in (1, 2, 7):
        decider = Decider(Setting(one_stage(2), SAMPLE, 0, S, 0), Static(), {"only": found})
        builder = TickBuilder(0)
        builder.add(S, Scrape(1.0, {"only": StageFigures(0, 0, found, 1, busy_s=0.1)}), {})
        assert decider.decide(builder.close()) == {"only": 2}


@dataclass
class Answering:
    """A policy that always says the same."""

    answer: dict[str, Any]
    name = "answering"

    def start(self, setting: Setting) -> Answering:
        return self

    def decide(self, seen: object) -> dict[str, int]:
        return self.answer


def test_what_a_policy_answers_is_checked_and_can_be_written() -> None:
    builder = TickBuilder(0)
    builder.add(S, Scrape(1.0, {"only": StageFigures(0, 0, 2, 1)}), {})
    tick, setting = builder.close(), Setting(one_stage(4), SAMPLE, 0, S, 0)
    with pytest.raises(mp.InputError, match="olny"):
        Decider(setting, Answering({"olny": 2})).decide(tick)
    counts = Decider(setting, Answering({"only": np.int64(2)})).decide(tick)
    assert json.dumps(dict(counts)) == '{"only": 2}'
