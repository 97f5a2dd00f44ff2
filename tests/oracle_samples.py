"""The cheapest plan that is certified on each of several traces and seeds, by trying everything on each by itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from mipplan.result import Objective
from mipplan.tokens import realise
from mipplan.trace import Trace
from oracle_planner import (
    OracleAnswer,
    OracleFamily,
    Services,
    cheapest_within,
    oracle_families,
    oracle_latencies,
    oracle_limits,
)
from oracle_windows import kept_limit
from planning_instances import PlanningInstance


def all_pairs(instance: PlanningInstance, traces: Sequence[Trace], seeds: int) -> list[PlanningInstance]:
    """The instance on every trace with every seed from its own on."""
    drawn = range(instance.seed, instance.seed + seeds)
    return [replace(instance, trace=trace, seed=seed) for trace in traces for seed in drawn]


def cheapest_on_all(
    pairs: Sequence[PlanningInstance], objective: Objective, *, paced: bool = False
) -> OracleAnswer | None:
    """Find the least cost of a plan that keeps the objective on each, and is stable there; None if there is none.

    Raises
    ------
    TooLargeError
        As for one trace.
    """
    first = pairs[0]
    loads = [realise(pair.pipeline, pair.trace, pair.seed) for pair in pairs]
    every = [oracle_families(first.pipeline, first.profiles, load, paced=paced) for load in loads]

    def certificate(services: Services) -> int:
        """The greatest of all, or the first of them that is too much."""
        found = 0
        for load in loads:
            latency, ingress = oracle_latencies(load, services).tolist(), load.ingress_ns.tolist()
            found = max(found, kept_limit(latency, ingress, objective))
            if found > objective.slo_ns:
                break
        return found

    families = {stage: list(_on_all([found[stage] for found in every])) for stage in every[0]}
    return cheapest_within(families, oracle_limits(first.profiles), certificate, objective.slo_ns)


def _on_all(found: Sequence[list[OracleFamily]]) -> list[OracleFamily]:
    """Families that can carry the stage on every sample, with the most replicas that any of these needs."""
    needed: dict[tuple[str, int], list[OracleFamily]] = {}
    for family in (family for families in found for family in families):
        needed.setdefault((family.hardware, family.batch), []).append(family)
    return [
        replace(own[0], fewest=max(family.fewest for family in own))
        for own in needed.values()
        if len(own) == len(found)
    ]


def cost_on_all(costs: Sequence[int | None]) -> float:
    """The dearest of the cheapest plans of each: no plan for all of them costs less."""
    return max(math.inf if cost is None else cost for cost in costs)
