"""Leaving out modes that another one dominates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations import Activity, Cover, Path, TimeCostProblem

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


def prune(problem: TimeCostProblem) -> TimeCostProblem:
    """Leave out every mode that another of its activity beats or equals in all that matters.

    That is cost, duration, the wait on every path, the use of every resource and the covers it meets: exchanging one
    for the other makes no selection dearer or infeasible, so the optimum stays.
    """
    return keep_modes(problem, [find_undominated(measures) for measures in _measures(problem)])


def find_undominated(measures: IntArray) -> BoolArray:
    """Which modes no other beats or equals in every measure; of equal ones the first stays.

    Parameters
    ----------
    measures : int64 array, shape (m, k)
        Smaller is better in each.

    Returns
    -------
    bool array, shape (m,)
    """
    kept = np.zeros(measures.shape[0], dtype=bool)
    front = np.empty_like(measures)
    size = 0
    for row in np.lexsort(measures.T[::-1]):  # whoever dominates a row comes before it in this order
        if not bool((front[:size] <= measures[row]).all(axis=1).any()):
            kept[row] = True
            front[size] = measures[row]
            size += 1
    return kept


def keep_modes(problem: TimeCostProblem, kept: list[BoolArray]) -> TimeCostProblem:
    """Only the modes marked, shape (modes,) per activity."""
    cut: dict[tuple[int, int], IntArray] = {}  # paths go on sharing what they shared

    def waits_of(v: int, waits: IntArray) -> IntArray:
        if (v, id(waits)) not in cut:
            cut[v, id(waits)] = waits[kept[v]]
            cut[v, id(waits)].flags.writeable = False
        return cut[v, id(waits)]

    return replace(
        problem,
        activities=tuple(
            Activity(a.name, a.cost[rows], a.duration[rows], a.usage[rows])
            for a, rows in zip(problem.activities, kept, strict=True)
        ),
        paths=tuple(
            Path(
                p.activities, p.lag, tuple(waits_of(v, w) for v, w in zip(p.activities, p.waits, strict=True))
            )
            for p in problem.paths
        ),
        covers=tuple(
            Cover(tuple((v, marked[kept[v]]) for v, marked in cover.members)) for cover in problem.covers
        ),
    )


def _measures(problem: TimeCostProblem) -> list[IntArray]:
    """Per activity one row per mode: cost first, then whatever else can make a mode better than another."""
    columns: list[list[IntArray]] = [[a.cost, a.duration, *a.usage.T] for a in problem.activities]
    seen: set[tuple[int, bytes]] = set()
    for path in problem.paths:
        for v, waits in zip(path.activities, path.waits, strict=True):
            key = (v, waits.tobytes())
            if key not in seen:
                seen.add(key)
                columns[v].append(waits)
    for cover in problem.covers:
        for v, marked in cover.members:
            columns[v].append(1 - marked.astype(np.int64))
    return [np.stack(own, axis=1) for own in columns]
