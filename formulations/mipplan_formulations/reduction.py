"""Smaller problems with the same optimum: leaving out modes that cannot matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mipplan_formulations.arrays import BoolArray, IntArray
from mipplan_formulations.dominance import find_undominated
from mipplan_formulations.problem import Activity, Cover, Path, TimeCostProblem


@dataclass(frozen=True, eq=False)
class Reduction:
    """A problem with some modes left out.

    Attributes
    ----------
    problem : TimeCostProblem
    kept : tuple of int64 arrays
        Per activity, what number each remaining mode had before.
    """

    problem: TimeCostProblem
    kept: tuple[IntArray, ...]

    def after(self, earlier: Reduction) -> Reduction:
        """Return this reduction of what an earlier one left as one of the problem the earlier one began with."""
        kept = tuple(before[own] for before, own in zip(earlier.kept, self.kept, strict=True))
        return Reduction(self.problem, kept)

    def lift(self, selection: Sequence[int]) -> tuple[int, ...]:
        """Turn a selection of the smaller problem into one of the original."""
        return tuple(int(kept[mode]) for kept, mode in zip(self.kept, selection, strict=True))

    def lower(self, selection: Sequence[int]) -> tuple[int, ...] | None:
        """Turn a selection of the original problem into one of the smaller; None if it uses a mode left out."""
        lowered = []
        for kept, mode in zip(self.kept, selection, strict=True):
            position = int(np.searchsorted(kept, mode))
            if position == kept.size or kept[position] != mode:
                return None
            lowered.append(position)
        return tuple(lowered)


def keep_modes(problem: TimeCostProblem, marked: Sequence[BoolArray]) -> Reduction | None:
    """Keep the marked modes only, shape (modes,) per activity; None if an activity has none left."""
    if not all(rows.any() for rows in marked):
        return None
    cut: dict[tuple[int, int], IntArray] = {}  # paths go on sharing what they shared

    def waits_of(v: int, waits: IntArray) -> IntArray:
        key = (v, id(waits))
        if key not in cut:
            cut[key] = waits[marked[v]]
            cut[key].flags.writeable = False
        return cut[key]

    smaller = replace(
        problem,
        activities=tuple(
            Activity(a.name, a.cost[rows], a.duration[rows], a.usage[rows])
            for a, rows in zip(problem.activities, marked, strict=True)
        ),
        paths=tuple(
            Path(path.activities, path.lag, tuple(map(waits_of, path.activities, path.waits)))
            for path in problem.paths
        ),
        covers=tuple(
            Cover(tuple((v, marks[marked[v]]) for v, marks in cover.members)) for cover in problem.covers
        ),
    )
    return Reduction(smaller, tuple(np.flatnonzero(rows) for rows in marked))


def drop_dominated(problem: TimeCostProblem) -> Reduction:
    """Leave out every mode that another of its activity beats or equals in all that matters.

    That is cost, duration, the wait on every path, the use of every resource, and the covers it meets: exchanging one
    for the other makes no selection dearer, and none that was feasible infeasible. So the optimum stays.
    """
    reduced = keep_modes(problem, [find_undominated(measures) for measures in measure_modes(problem)])
    assert reduced is not None  # something is always undominated
    return reduced


def measure_modes(problem: TimeCostProblem) -> list[IntArray]:
    """Per activity a row per mode with all that can make it better than another: smaller is better, cost first.

    Waits that agree on several paths are one column; so are those below the least wait of their path, as nobody
    ever waits less.
    """
    columns: list[list[IntArray]] = [[a.cost, a.duration, *a.usage.T] for a in problem.activities]
    seen: set[tuple[int, bytes]] = set()
    raised: dict[tuple[int, int], IntArray] = {}
    for path in problem.paths:
        least = max(int(waits.min()) for waits in path.waits)
        for v, waits in zip(path.activities, path.waits, strict=True):
            if (id(waits), least) not in raised:
                raised[id(waits), least] = np.maximum(waits, least)
                own = raised[id(waits), least]
                key = (v, own.tobytes())
                if key not in seen:
                    seen.add(key)
                    columns[v].append(own)
    for cover in problem.covers:
        for v, marks in cover.members:
            columns[v].append(1 - marks.astype(np.int64))
    return [np.stack(own, axis=1) for own in columns]
