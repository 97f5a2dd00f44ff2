"""Frontiers by trying everything: the least cost at a value of an axis, from brute force over all plans."""

from __future__ import annotations

from dataclasses import replace

import mipplan as mp
from mipplan.tokens import Workload, realise
from oracle_planner import Services, cheapest_within, oracle_certificate, oracle_families, oracle_limits
from planning_instances import PlanningInstance


class LeastCosts:
    """Least costs of one instance; each certificate, which objective and prices leave as it is, is computed once."""

    def __init__(self, instance: PlanningInstance) -> None:
        self._instance = instance
        self._loads: dict[float, Workload] = {}
        self._known: dict[object, int] = {}

    def at(
        self, *, slo_ns: int | None = None, prices: dict[str, int] | None = None, factor: float = 1.0
    ) -> int | None:
        """Least cost of a certified plan (micro-dollars per hour) with another objective, price or rate; None if none.

        Raises `TooLargeError` where brute force would take too long.
        """
        asked, profiles = self._instance, self._instance.profiles
        for name, price in (prices or {}).items():
            profiles = profiles.with_hardware(replace(profiles.hardware[name], usd_per_hour=price / 1e6))
        if factor not in self._loads:
            self._loads[factor] = realise(asked.pipeline, asked.trace.scale(factor), asked.seed)
        load = self._loads[factor]

        def certificate(services: Services) -> int:
            key = factor, *services.items()
            if key not in self._known:
                self._known[key] = oracle_certificate(load, services, asked.quantile)
            return self._known[key]

        families = oracle_families(asked.pipeline, profiles, load)
        limit_ns = asked.slo_ns if slo_ns is None else slo_ns
        answer = cheapest_within(families, oracle_limits(profiles), certificate, limit_ns)
        return None if answer is None else answer.cost


def microusd(frontier: mp.Frontier, value: float) -> int | None:
    """Least cost that a frontier has for a value, in micro-dollars per hour."""
    cost = frontier.cost_at(value)
    return None if cost is None else round(1e6 * cost)
