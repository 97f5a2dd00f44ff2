"""From known plans to a fleet: one plan per pipeline, in whole numbers, within what there is."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mipplan.core import Int64
from mipplan.fleet.columns import Column
from mipplan.fleet.objective import Objective
from mipplan.solvers import solve
from mipplan_formulations import MULTI_PROJECT_FORMULATIONS

#: Combinations of the plans of split pipelines that are tried one by one.
_MOST_COMBINATIONS = 20_000
#: Exchanges of a plan for another one, per pipeline, before giving up.
_MOST_EXCHANGES = 3


@dataclass(frozen=True)
class Chosen:
    """A plan for every pipeline, or none where it is left out, within all capacities.

    Attributes
    ----------
    columns : tuple of (Column or None)
    cost : int
        What the objective makes of it.
    """

    columns: tuple[Column | None, ...]
    cost: int


@dataclass(frozen=True, eq=False)
class _Options:
    """All known plans side by side; the last one of a pipeline may be to leave it out.

    Attributes
    ----------
    owner : int64, shape (k,)
    place : int64, shape (k,)
        Place among the pipeline's known plans; −1 to leave it out.
    cost : int64, shape (k,)
    usage : int64, shape (k, r)
    """

    owner: Int64
    place: Int64
    cost: Int64
    usage: Int64


def choose_by_rounding(
    objective: Objective, known: Sequence[list[Column]], shares: Sequence[Sequence[float]]
) -> Chosen | None:
    """Round a solution of the relaxed master to a fleet that fits; None where that does not succeed.

    Pipelines that the relaxation does not split keep their plan. For the few others all combinations are tried; where
    none fits, plans are exchanged, each time the one that costs least per unit of what is missing.
    """
    options = _side_by_side(objective, known)
    fixed, split = [], []
    for index, taken in enumerate(shares):
        whole = [place for place, share in enumerate(taken) if share > 1.0 - 1e-6]
        if whole:
            fixed.append((index, whole[0]))
        elif objective.forgone is not None and sum(taken) < 1e-6:
            fixed.append((index, -1))
        else:
            split.append(index)
    picks = np.full(len(known), -1, dtype=np.int64)
    for index, place in fixed:
        picks[index] = _row(options, index, place)
    best = _best_combination(objective, options, picks, split)
    if best is None:
        for index in split:
            rows = np.flatnonzero(options.owner == index)
            picks[index] = rows[np.argmin(options.cost[rows])]
        best = _exchanged(objective, options, picks)
    return None if best is None else _chosen(objective, options, known, best)


def choose_exactly(
    objective: Objective,
    known: Sequence[list[Column]],
    start: Chosen | None,
    time_limit_s: float | None,
    gap: float,
) -> tuple[Chosen | None, float]:
    """Choose among the known plans by a MILP (price and branch).

    Returns
    -------
    chosen, lower_bound
        The start if nothing better is found in time; and what any choice of *known* plans costs at least.
    """
    pool = objective.pool(list(known), firm=True)
    formulation = MULTI_PROJECT_FORMULATIONS["columns"]
    model = formulation.build(pool)
    values = None
    if start is not None:
        places = [
            None if column is None else columns.index(column)
            for columns, column in zip(known, start.columns, strict=True)
        ]
        values = formulation.encode(pool, model, places)
    answer = solve(model, time_limit_s=time_limit_s, gap=gap, start=values)
    if answer.values is None:
        return start, answer.lower_bound
    picked = formulation.decode(pool, model, answer.values)
    found = pool.evaluate(picked)
    if not found.feasible or (start is not None and found.cost >= start.cost):
        return start, answer.lower_bound
    columns = tuple(
        None if place is None else columns[place] for columns, place in zip(known, picked, strict=True)
    )
    return Chosen(columns, found.cost), answer.lower_bound


def _side_by_side(objective: Objective, known: Sequence[list[Column]]) -> _Options:
    pool = objective.pool(list(known), firm=True)
    owner: list[int] = []
    place: list[int] = []
    cost, usage = [], []
    for index, columns in enumerate(pool.projects):
        count = columns.cost.size
        owner += [index] * count
        place += range(count)
        cost.append(columns.cost)
        usage.append(columns.usage)
        if objective.forgone is not None:
            owner.append(index)
            place.append(-1)
            cost.append(objective.forgone[index : index + 1])
            usage.append(np.zeros((1, len(objective.rows)), dtype=np.int64))
    return _Options(
        np.array(owner, dtype=np.int64),
        np.array(place, dtype=np.int64),
        np.concatenate(cost),
        np.concatenate(usage),
    )


def _row(options: _Options, index: int, place: int) -> int:
    return int(np.flatnonzero((options.owner == index) & (options.place == place))[0])


def _best_combination(
    objective: Objective, options: _Options, picks: Int64, split: Sequence[int]
) -> Int64 | None:
    """Cheapest combination of the split pipelines' plans that fits beside the others; None if none does."""
    rows = [np.flatnonzero(options.owner == index).tolist() for index in split]
    if math.prod(map(len, rows)) > _MOST_COMBINATIONS:
        return None
    used = options.usage[np.delete(picks, list(split))].sum(axis=0)
    best: tuple[int, tuple[int, ...]] | None = None
    for combination in itertools.product(*rows):
        taken = used + options.usage[list(combination)].sum(axis=0)
        if np.all(taken <= objective.capacity):
            cost = int(options.cost[list(combination)].sum())
            if best is None or cost < best[0]:
                best = cost, combination
    if best is None:
        return None
    found = picks.copy()
    found[list(split)] = best[1]
    return found


def _exchanged(objective: Objective, options: _Options, picks: Int64) -> Int64 | None:
    """Exchange plans until all fits; None if that does not come about."""
    picks = picks.copy()
    for _ in range(_MOST_EXCHANGES * picks.size):
        used = options.usage[picks].sum(axis=0)
        missing = np.maximum(used - objective.capacity, 0)
        if not missing.any():
            return picks
        after = used - options.usage[picks[options.owner]] + options.usage
        weight = 1.0 / np.maximum(objective.capacity, 1)
        less = (missing - np.maximum(after - objective.capacity, 0)) @ weight
        extra = options.cost - options.cost[picks[options.owner]]
        helpful = np.flatnonzero(less > 1e-12)
        if helpful.size == 0:
            return None
        best = helpful[np.argmin(np.maximum(extra[helpful], 0) / less[helpful])]
        picks[options.owner[best]] = best
    return None


def _chosen(
    objective: Objective, options: _Options, known: Sequence[list[Column]], picks: Int64
) -> Chosen | None:
    if np.any(options.usage[picks].sum(axis=0) > objective.capacity):
        return None
    places = options.place[picks].tolist()
    columns = tuple(
        None if place < 0 else columns[place] for columns, place in zip(known, places, strict=True)
    )
    return Chosen(columns, sum(options.cost[picks].tolist()))
