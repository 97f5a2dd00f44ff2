"""Random small fleets: pipelines of `planning_instances` on one set of profiles, with scarce hardware."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

import mipplan as mp
from mipplan.fleet.request import Fleet, Member
from mipplan.profiles import Hardware, LatencyTable
from planning_instances import planning_instance

FIRST = 31_000


def shared_profiles(rng: np.random.Generator, limits: dict[str, int]) -> mp.Profiles:
    """Three models on three hardware types; every model runs on at least two of them."""
    prices = {"cpu": 0.2, "t4": 0.6, "a100": 2.0}
    hardware = [Hardware(name, price, limit=limits.get(name)) for name, price in prices.items()]
    tables = []
    for model in ("m1", "m2", "m3"):
        left_out = str(rng.choice(["", "", "cpu", "a100"]))
        base = float(rng.uniform(2, 9))
        for rank, name in enumerate(prices):
            if name != left_out:
                sizes = np.array([1, 2, 4][: int(rng.integers(1, 4))])
                latency = base / (1, 2.2, 6)[rank] * (1 + 0.4 * sizes)
                tables.append(LatencyTable(model, name, sizes, np.round(latency, 2)))
    return mp.Profiles.from_parts(hardware, tables)


def fleet_of(number: int, *, pipelines: int | None = None, scarcity: float | None = None) -> Fleet:
    """Fleet `number`, always the same one: limits are a share of what the pipelines would use each by itself.

    Parameters
    ----------
    number : int
    pipelines : int, optional
        From 2 to 4 by default.
    scarcity : float, optional
        That share; drawn if absent, at times below what anything can do with.
    """
    rng = np.random.default_rng([88, number])
    count = int(rng.integers(2, 5)) if pipelines is None else pipelines
    share = float(rng.choice([0.3, 0.5, 0.7, 0.9])) if scarcity is None else scarcity
    state = rng.bit_generator.state
    profiles = shared_profiles(rng, {})
    members = []
    while len(members) < count:
        case = planning_instance(int(rng.integers(FIRST)), shape="chain" if rng.random() < 0.6 else "diamond")
        alone = mp.plan(
            case.pipeline, profiles, case.trace, slo_s=case.slo_ns * 2 / 1e9, quantile=0.9, time_limit_s=5
        )
        if alone.status == "optimal":
            name = f"{case.pipeline.name}-{len(members)}"
            weight = 1000 * int(rng.integers(1, 4))
            members.append((alone, Member(name, case.pipeline, case.trace, case.slo_ns * 2, weight)))
    used = dict.fromkeys(profiles.hardware, 0)
    for alone, _ in members:
        for choice in alone.choices.values():
            used[choice.hardware] += choice.replicas
    limits = {name: int(share * amount + rng.integers(0, 2)) for name, amount in used.items()}
    dearest = max(limits, key=lambda name: used[name])
    limited = {name: limits[name] for name in limits if name == dearest or rng.random() < 0.4}
    rng.bit_generator.state = state
    return Fleet(tuple(member for _, member in members), shared_profiles(rng, limited), 0.9, 0)


def with_budget(fleet: Fleet, budget: int) -> Fleet:
    """Return the fleet with a budget, micro-dollars per hour."""
    return replace(fleet, budget=budget)
