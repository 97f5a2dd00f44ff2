"""Frontiers by trying everything: the least cost at a value of an axis, from brute force over all plans."""

from __future__ import annotations

from dataclasses import replace

import mipplan as mp
from oracle_planner import cheapest_certified
from planning_instances import PlanningInstance


def least_cost(
    instance: PlanningInstance,
    *,
    slo_ns: int | None = None,
    prices: dict[str, int] | None = None,
    factor: float = 1.0,
) -> int | None:
    """Least cost of a certified plan in micro-dollars per hour, with another objective, price or rate; None if none.

    Raises `TooLargeError` where brute force would take too long.
    """
    profiles = instance.profiles
    for name, price in (prices or {}).items():
        profiles = profiles.with_hardware(replace(profiles.hardware[name], usd_per_hour=price / 1e6))
    answer = cheapest_certified(
        instance.pipeline,
        profiles,
        instance.trace.scale(factor),
        instance.slo_ns if slo_ns is None else slo_ns,
        instance.quantile,
        instance.seed,
    )
    return None if answer is None else answer.cost


def microusd(frontier: mp.Frontier, value: float) -> int | None:
    """Least cost that a frontier has for a value, in micro-dollars per hour."""
    cost = frontier.cost_at(value)
    return None if cost is None else round(1e6 * cost)
