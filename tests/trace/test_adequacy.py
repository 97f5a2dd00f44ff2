"""Warnings about samples: none about good ones, each kind about bad ones; traces spread over their grid."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from functools import reduce
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mipplan as mp
from mipplan.reporting import sample_notes
from mipplan.trace import adequacy

PROFILES = Path(__file__).parents[2] / "profiles"
#: IPA's pipelines with models of seconds on two cores: two minutes of traffic are few backlogs, and are said to be.
SLOW = {"audio-qa", "audio-sent", "nlp", "sum-qa"}
SHIPPED = sorted({path.stem for path in (PROFILES / "pipelines").glob("*.yaml")} - SLOW)
SECOND = 10**9
MARKS = {"grid": "time stamps", "tail": "P99", "trend": "the rate moves", "busy": "the slowest stage"}

times = st.lists(st.integers(0, 3_000), min_size=2, max_size=40).map(sorted)


def shipped(name: str, end_s: float | None = None) -> mp.Trace:
    return mp.Trace.read(PROFILES / "traces" / f"{name}.csv.gz", end_s=end_s)


def kinds(warnings: tuple[str, ...]) -> list[str]:
    """Which warnings these are; each has figures."""
    assert all(any(character.isdigit() for character in warning) for warning in warnings)
    return [kind for warning in warnings for kind, mark in MARKS.items() if warning.startswith(mark)]


# --- good samples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["steady", "bursty"])
@pytest.mark.parametrize("pipeline", SHIPPED)
def test_shipped_traces_carry_shipped_pipelines(pipeline: str, name: str) -> None:
    trace = shipped(name)
    asked = mp.Pipeline.read(PROFILES / "pipelines" / f"{pipeline}.yaml")
    plan = mp.plan(asked, mp.Profiles.default(), trace, time_limit_s=None)
    assert plan.choices
    assert sample_notes(plan, trace) == []


def test_few_backlogs_of_slow_models_are_told() -> None:
    trace, asked = shipped("bursty"), mp.Pipeline.read(PROFILES / "pipelines" / "audio-qa.yaml")
    plan = mp.plan(asked, mp.Profiles.default(), trace, time_limit_s=None)
    assert kinds(sample_notes(plan, trace)) == ["busy"]


def test_stationary_traffic_is_not_said_to_move() -> None:
    """Smooth, Poisson and very bursty; the rule allows for one in some thousand."""
    traces = [
        make
        for seed in range(60)
        for make in (
            mp.Trace.poisson(rate_rps=100, duration_s=60, seed=seed),
            mp.Trace.gamma(rate_rps=100, cv=4, duration_s=60, seed=seed),
            mp.Trace.gamma(rate_rps=100, cv=0.3, duration_s=60, seed=seed),
        )
    ]
    assert [kinds(trace.warnings()) for trace in traces].count([]) >= len(traces) - 1


def test_regular_and_batched_traffic_is_not_said_to_be_coarse() -> None:
    regular = mp.Trace.from_ns(np.arange(5_000) * SECOND)
    frames = mp.Trace.from_ns(np.repeat(np.arange(1_000) * 40_000_000, 5))
    sparse = mp.Trace.from_ns(shipped("steady").arrival_ns // 1_000_000 * 1_000_000)  # 7 ms apart on average
    for trace in (regular, frames, sparse):
        assert kinds(trace.warnings()) == []


# --- bad samples ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step_ns", [10_000_000, 100_000_000, SECOND, 60 * SECOND])
def test_coarse_stamps_are_noticed_and_spreading_them_helps(step_ns: int) -> None:
    exact = mp.Trace.poisson(rate_rps=150, duration_s=600, seed=2)
    logged = mp.Trace.from_ns(exact.arrival_ns // step_ns * step_ns)
    assert kinds(logged.warnings())[0] == "grid"
    assert "--spread uniform" in logged.warnings()[0]
    spread = logged.spread(seed=3)
    assert "grid" not in kinds(spread.warnings())
    assert spread.cv == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("queries", "quantile", "enough"),
    [(3_000, 0.99, 1), (2_999, 0.99, 1), (2_900, 0.99, 0), (310, 0.9, 1), (50, 0.99, 0)],
)
def test_tail_needs_thirty_queries(queries: int, quantile: float, enough: int) -> None:
    trace = mp.Trace.from_ns(np.arange(queries) * 7_000_000)
    least = Fraction(str(quantile)) * (queries - 1)
    beyond = sum(rank >= least for rank in range(queries))
    assert (beyond >= 30) == bool(enough)
    warnings = trace.warnings(quantile)
    assert len(warnings) == 1 - enough
    if not enough:
        assert ("is their maximum" if beyond == 1 else f"rests on {beyond} of {queries:,}") in warnings[0]
        assert f"at least {round(30 / (1 - quantile)):,}" in warnings[0]


def test_of_windows_the_median_one_needs_thirty_queries() -> None:
    trace = mp.Trace.from_ns(np.arange(30_000) * 10_000_000)  # 100 queries/s, so 3,000 in half a minute
    assert trace.warnings(0.99, per_s=30.0) == ()
    (warning,) = trace.warnings(0.99, per_s=5.0)
    assert warning.startswith(
        "P99 rests on 5 of 500 queries in its median window: use windows of at least 3,000"
    )
    assert trace.warnings(1.0, per_s=5.0) == ()
    pipeline = mp.Pipeline.read(PROFILES / "pipelines" / "cascade.yaml")
    plan = mp.plan(pipeline, mp.Profiles.default(), trace, per_s=5.0)
    assert warning in sample_notes(plan, trace)
    with pytest.raises(mp.InputError, match="positive number of seconds"):
        trace.warnings(per_s=0.0)


def test_every_query_is_no_tail() -> None:
    assert mp.Trace.from_ns([0, 5, 11]).warnings(1.0) == ()


@pytest.mark.parametrize(("rates", "half"), [((100, 160), "last"), ((160, 100), "first")])
def test_trend_is_noticed_with_both_rates(rates: tuple[float, float], half: str) -> None:
    trace = mp.Trace.ramp(rates_rps=rates, cvs=[1, 1], durations_s=[60, 60], transition_s=1, seed=1)
    (warning,) = trace.warnings()
    counts = [len(trace.slice(0, 60.5)), len(trace.slice(60.5))]
    assert f"for the {half} half by --headroom {max(counts) / (len(trace) / 2):.2f}" in warning
    assert kinds((warning,)) == ["trend"]


def test_sample_shorter_than_its_backlogs_is_noticed() -> None:
    """Every ten seconds 900 queries at once, for a stage that serves 100 in a second."""
    few = mp.Trace.from_ns(np.repeat(np.arange(5) * 10 * SECOND, 900) + np.tile(np.arange(900), 5))
    many = mp.Trace.from_ns(np.repeat(np.arange(15) * 10 * SECOND, 900) + np.tile(np.arange(900), 15))
    assert kinds(few.warnings(0.9, capacity_rps=100)) == ["busy"]
    assert "for 9 s of the sample's 40 s" in few.warnings(0.9, capacity_rps=100)[0]
    assert "at least 90 s" in few.warnings(0.9, capacity_rps=100)[0]
    assert kinds(many.warnings(0.9, capacity_rps=100)) == []
    assert kinds(few.warnings(0.9)) == []


def test_notes_of_a_plan_look_at_its_slowest_stage() -> None:
    pipeline = mp.Pipeline.read(PROFILES / "pipelines" / "cascade.yaml")
    trace = shipped("steady", end_s=30)
    plan = mp.plan(pipeline, mp.Profiles.default(), trace)
    assert kinds(tuple(sample_notes(plan, trace))) == []
    faster = trace.scale(4.0)  # more than the stage with the least capacity serves
    assert kinds(tuple(sample_notes(plan, faster))) == []
    assert kinds(tuple(sample_notes(plan, trace.scale(40.0)))) == ["busy"]


# --- against plain loops ----------------------------------------------------------------------------------------------


def slow_busy_periods(arrival_ns: list[int], service_ns: int) -> Iterator[int]:
    """One server, queries one after the other; a query that comes when the last one leaves begins anew."""
    begun = free = arrival_ns[0]
    for time in arrival_ns:
        if time >= free and time != begun:
            yield free - begun
            begun = time
        free = max(free, time) + service_ns
    yield free - begun


@given(times, st.integers(1, 200))
def test_busy_periods_are_those_of_a_queue(arrival_ns: list[int], service_ns: int) -> None:
    found = list(adequacy._busy_periods_ns(np.array(arrival_ns), float(service_ns)))
    assert found == list(slow_busy_periods(arrival_ns, service_ns))


@given(times)
def test_step_divides_every_gap_and_none_larger_does(arrival_ns: list[int]) -> None:
    step = adequacy.grid_step_ns(np.array(arrival_ns))
    gaps = [time - arrival_ns[0] for time in arrival_ns]
    assert (step or 0) == reduce(math.gcd, gaps)


# --- spreading --------------------------------------------------------------------------------------------------------


@given(times.filter(lambda each: each[0] < each[-1]), st.integers(1, 1_000), st.integers(0, 9))
def test_spread_keeps_every_query_within_its_step(stamps: list[int], unit: int, seed: int) -> None:
    logged = mp.Trace.from_ns(np.array(stamps) * unit)
    step = reduce(math.gcd, [time - stamps[0] for time in stamps]) * unit
    spread = logged.spread(seed=seed)
    assert len(spread) == len(logged)
    # As later queries have no smaller stamps, each is within the step of the stamp at its place.
    assert (spread.arrival_ns >= logged.arrival_ns).all()
    assert (spread.arrival_ns < logged.arrival_ns + step).all()
    assert logged.spread(seed=seed) == spread
    assert f"seed {seed}" in spread.note


def test_spread_is_uniform() -> None:
    logged = mp.Trace.from_ns(np.repeat([0, SECOND], [60_000, 60_000]))
    parts = np.histogram(logged.spread(1).arrival_ns % SECOND, 10, (0, SECOND))[0]
    assert abs(parts - 12_000).max() < 5 * math.sqrt(12_000)
    assert logged.spread(1) != logged.spread(2)


def test_stamps_without_a_common_step_stay() -> None:
    trace = mp.Trace.from_ns([5, 7, 8])
    assert trace.spread(3).arrival_ns.tolist() == [5, 7, 8]


def test_what_cannot_be_spread_or_judged_is_refused() -> None:
    with pytest.raises(mp.InputError, match="all queries arrive at once"):
        mp.Trace.from_ns([5, 5]).spread()
    with pytest.raises(mp.InputError, match="seed"):
        mp.Trace.from_ns([5, 6]).spread(seed=-1)
    with pytest.raises(mp.InputError) as raised:
        mp.Trace.from_ns([5, 6]).warnings(1.5, capacity_rps=0)
    assert [fault.place for fault in raised.value.faults] == ["quantile", "capacity_rps"]
