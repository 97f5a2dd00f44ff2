"""Families of every stage that together are accurate enough: where to look for first plans of a least accuracy.

For several waits that every stage may have on its paths each family has a size, so a cost. What is left is a knapsack
with a choice per stage: the least cost whose T fit every path, and whose losses of accuracy fit the caps. Prices on T
and on −log of accuracy split it by stage; exchanges of two stages at a time make up for what prices cannot say. Nothing
here is proven.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mipplan.calculus import Wait, grid_rate, grid_step
from mipplan.core import Bool, Float64, Int64, first_true
from mipplan.options import StageOptions, tabulate
from mipplan.planner.instance import Instance


@dataclass(frozen=True)
class PriceParams:
    """What is tried."""

    prices: int = 24  # Of accuracy, each half the one before.
    halvings: int = 12  # Of the logarithm of a price on T.
    waits: tuple[float, ...] = (0.04, 0.08, 0.15, 0.25, 0.4, 0.6)  # Shares of the deadline.


def accurate_instances(instance: Instance, params: PriceParams = PriceParams()) -> Iterator[Instance]:
    """Yield the instance with options only any of which together are accurate enough, the most promising first.

    First one family per stage: where cost plus prices on T and on −log of accuracy is least, for several waits that
    every stage may have, sized for these. Of each price on accuracy the price on T is the least with which the deadline
    is kept. Then all that is as accurate as these, and last the greatest accuracy of every stage.
    """
    floor, paths, stages = instance.floor, instance.oracle.paths.paths, tuple(instance.families)
    if floor is None:
        raise AssertionError("asked where a least accuracy is")
    tables = [
        tabulate(found, [np.array([family.fewest], dtype=np.int64) for family in found.families])
        for found in instance.families.values()
    ]
    accuracy = [np.array([f.accuracy or 1.0 for f in found.families]) for found in instance.families.values()]
    prices = max(int(table.cost.max()) for table in tables) * 2.0 ** -np.arange(-8, params.prices)
    # What each family takes: T of every path that the stage is on, and of every cap.
    on_path = np.array([[stage in path.stages for path in paths] for stage in stages])
    taken = [
        np.concatenate([table.latency_ns[:, None] * own, table.uses], axis=1)
        for table, own in zip(tables, on_path, strict=True)
    ]
    lag_ns, caps = np.array([path.lag_ns for path in paths]), np.array([cap.most for cap in instance.caps])
    found: list[tuple[float, tuple[int, ...]]] = []
    for share in params.waits:
        wait_ns = int(share * instance.deadline_ns)
        costs = [_costs_at(instance, *item, wait_ns) for item in zip(stages, tables, strict=True)]
        room = np.concatenate([instance.deadline_ns - wait_ns - lag_ns, caps])
        kept = [_useful(cost, used) for cost, used in zip(costs, taken, strict=True)]
        if not all(own.size for own in kept):
            continue

        def chosen(logarithms: Float64, kept: list[Int64] = kept, costs: list[Float64] = costs) -> Int64:
            """The family of every stage by prices, of T by their logarithms, shape (prices, stages)."""
            per_ns, picks = np.exp2(logarithms)[:, None], []
            for own, cost, a, table in zip(kept, costs, accuracy, tables, strict=True):
                priced = cost[own] - prices[:, None] * np.log(a[own]) + per_ns * table.latency_ns[own]
                picks.append(own[priced.argmin(axis=1)])
            return np.stack(picks, axis=1)

        def keeps(picks: Int64, ends: int | None = len(paths), room: Int64 = room) -> Bool:
            used = np.sum([own[pick] for own, pick in zip(taken, picks.T, strict=True)], axis=0)
            fits: Bool = np.all((used <= room)[:, :ends], axis=1)
            return fits

        low, high = np.full(prices.size, -40.0), np.full(prices.size, 20.0)
        for _ in range(params.halvings):
            middle = (low + high) / 2
            fits = keeps(chosen(middle))
            low, high = np.where(fits, low, middle), np.where(fits, middle, high)
        picks = chosen(high)
        picks = picks[keeps(picks, None)]
        if picks.size:
            spent = np.sum([cost[own] for cost, own in zip(costs, picks.T, strict=True)], axis=0)
            pick = _exchanged(picks[np.argmin(spent)], kept, costs, taken, room)
            known = {s: float(a[own]) for s, a, own in zip(stages, accuracy, pick, strict=True)}
            if floor.reaches({stage: known[stage] for stage in floor.counted}):
                cost = float(sum(c[own] for c, own in zip(costs, pick, strict=True)))
                found.append((cost, tuple(pick.tolist())))
    ordered = [families for _, families in sorted(found)]
    for families in ordered:
        yield _only(instance, [np.array([own]) for own in families])
    for families in ordered:
        yield _only(
            instance, [np.flatnonzero(a >= a[own]) for a, own in zip(accuracy, families, strict=True)]
        )
    if floor.reaches(
        {s: float(a.max()) for s, a in zip(stages, accuracy, strict=True) if s in floor.counted}
    ):
        yield _only(instance, [np.flatnonzero(a == a.max()) for a in accuracy])


def _exchanged(
    pick: Int64, kept: Sequence[Int64], costs: Sequence[Float64], taken: Sequence[Int64], room: Int64
) -> Int64:
    """Exchange the families of two stages at a time for cheaper ones within the room, as long as there are any."""
    pick, improved = pick.copy(), True
    while improved:
        improved = False
        for one, other in itertools.combinations(range(len(kept)), 2):
            spare = room - sum(taken[s][own] for s, own in enumerate(pick) if s not in (one, other))
            pairs = kept[one][:, None], kept[other][None, :]
            fits = np.ones((kept[one].size, kept[other].size), dtype=bool)
            for mine, yours, left in zip(taken[one].T, taken[other].T, spare, strict=True):
                fits &= mine[pairs[0]] + yours[pairs[1]] <= left
            spent = np.where(fits, costs[one][pairs[0]] + costs[other][pairs[1]], np.inf)
            best = np.unravel_index(np.argmin(spent), spent.shape)
            if spent[best] < costs[one][pick[one]] + costs[other][pick[other]]:
                pick[one], pick[other], improved = kept[one][best[0]], kept[other][best[1]], True
    return pick


def _useful(cost: Float64, taken: Int64, block: int = 256) -> Int64:
    """Families that no other one beats in cost and all that is taken."""
    columns, beaten = [cost, *taken.T], []
    for start in range(0, cost.size, block):
        here = [column[start : start + block] for column in columns]
        pairs = [(column[:, None], own) for column, own in zip(columns, here, strict=True)]
        no_worse = np.logical_and.reduce([all_of <= own for all_of, own in pairs])
        better = np.logical_or.reduce([all_of < own for all_of, own in pairs])
        beaten.append((no_worse & better).any(axis=0))
    return np.flatnonzero(np.isfinite(cost) & ~np.concatenate(beaten))


def _only(instance: Instance, kept: Sequence[Int64]) -> Instance:
    """The instance with some families of each stage only."""
    families = {
        stage: replace(found, families=tuple(found.families[place] for place in own))
        for (stage, found), own in zip(instance.families.items(), kept, strict=True)
    }
    return replace(instance, families=families)


def _costs_at(instance: Instance, stage: str, table: StageOptions, wait_ns: int) -> Float64:
    """About what each family costs if the stage waits no longer on any path, shape (m,); infinite if it cannot."""
    ns_per_token, slowest = table.period_ns / table.tokens, math.inf
    for path in instance.oracle.paths.paths:
        if stage in path.stages:
            curve = path.curves[path.stages.index(stage)]
            period_ns, tokens = slowest_within(curve, wait_ns, 0.0, float(ns_per_token.max()))
            slowest = min(slowest, max(period_ns, 1) / tokens)
    factor = np.ceil(table.replicas * np.maximum(1.0, ns_per_token / slowest)) / table.replicas
    most = np.array([family.most for family in table.families.families])
    return np.where(factor * table.replicas <= most, table.cost * factor, np.inf)


def slowest_within(curve: Wait, most_ns: int, least: float, most: float) -> tuple[int, int]:
    """Largest 1/R on the grid, between two in ns per token, with a wait within `most_ns`: it grows with 1/R."""
    beyond = first_true(
        grid_step(least) + 1,
        grid_step(most) + 2,
        lambda step: curve.lower(*grid_rate(step), least_ns=most_ns, most_ns=most_ns) > most_ns,
    )
    return grid_rate(beyond - 1)
