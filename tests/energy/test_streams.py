"""The energy of streamed replays is that of the same replay in memory, to the picojoule."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mipplan as mp
from campaigns import campaign_size
from chunked_replays import RESUMING, chain, random_settings
from mipplan.core import InputError
from mipplan.replayer import Discipline, replay_stream

HOURS = st.lists(st.integers(0, 500).map(float), min_size=1, max_size=4).map(tuple)


def powered(plan: mp.Plan, terms: mp.EnergyTerms, rng: np.random.Generator) -> mp.Plan:
    """The same plan on devices that draw power, some of which were measured."""
    devices, tables = [], []
    for device in plan.profiles.hardware.values():
        idle_w = float(rng.integers(0, 40))
        devices.append(replace(device, idle_w=idle_w, tdp_w=idle_w + float(rng.integers(0, 100))))
    idle = {device.name: device.idle_w or 0.0 for device in devices}
    for table in plan.profiles.tables.values():
        watts = idle[table.hardware] + rng.uniform(0, 100, table.batch.size)
        tables.append(replace(table, power_w=watts) if rng.random() < 0.5 else table)
    profiles = mp.Profiles.from_parts(devices, tables)
    return replace(plan, profiles=profiles, objective=replace(plan.objective, energy=terms))


@pytest.mark.parametrize("engine", RESUMING, ids=lambda engine: engine.name)
def test_energy_is_that_of_the_replay_in_memory(engine: mp.replayer.engines.Engine) -> None:
    from random_pipelines import random_case

    scheduled = 0
    for number in range(campaign_size(quick=25, deep=400)):
        rng = np.random.default_rng([92, number])
        case = random_case(rng)
        own = random_settings(case, list(Discipline)[number % 2], engine, rng)
        scheduled += bool(own.schedule)
        plan = powered(case.plan(), mp.EnergyTerms(gco2_per_kwh=380.0, usd_per_kwh=0.3), rng)
        common = {"discipline": own.discipline, "seed": number, "schedule": own.schedule, "noise": own.noise}
        whole = mp.replay(plan, case.trace, engine="python", **common).energy
        pieces = replay_stream(plan, case.trace, engine=engine.name, chunk=int(rng.integers(1, 20)), **common)
        assert whole is not None
        assert pieces.energy == whole, number
        assert pieces.energy_reason is None
    assert scheduled or engine.name not in ("python", "numba")


@settings(max_examples=15, deadline=None)
@given(grams=HOURS, prices=HOURS, chunk=st.integers(1, 300), first_s=st.floats(0, 4_000))
def test_hours_are_told_apart_whatever_the_pieces(
    grams: tuple[float, ...], prices: tuple[float, ...], chunk: int, first_s: float
) -> None:
    trace = mp.Trace.from_seconds(first_s + np.linspace(0.0, 10_800.0, 400) ** 1.01)
    terms = mp.EnergyTerms(gco2_per_kwh=grams, usd_per_kwh=prices)
    plan = powered(chain(), terms, np.random.default_rng(chunk))
    assert replay_stream(plan, trace, chunk=chunk).energy == mp.replay(plan, trace).energy


def test_what_is_not_known_is_said_with_the_reason() -> None:
    rng, trace = np.random.default_rng(1), mp.Trace.gamma(rate_rps=20, cv=1, duration_s=4, seed=1)
    assert replay_stream(chain(), trace).energy is None
    plan = powered(chain(), mp.EnergyTerms(gco2_per_kwh=(100.0, 200.0)), rng)
    changing = {next(iter(plan.choices)): mp.ReplicaSchedule.from_seconds([1.0], [3, 5])}
    with pytest.raises(InputError, match="the same replicas throughout"):
        _ = mp.replay(plan, trace, schedule=changing).energy
    told = replay_stream(plan, trace, schedule=changing)
    assert told.energy is None
    assert "the same replicas throughout" in told.energy_text()
    stopped = replay_stream(plan, trace, chunk=5, backlog=1)
    assert stopped.partial
    assert "ended early" in stopped.energy_text()
