"""Smaller problems with the same optimum: modes that others beat or equal, or that fit beside none, are left out.

The value of a path is the largest, over its activities v, of lag + durations + wait of v. A mode enters it with its
duration, where another activity waits longest, and with duration + wait, where it does itself, and both only raise it.
So a mode dominates another that it equals or beats in cost, duration, and duration + wait: its wait may be the longer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations.linear import Bool, Int64, read_only
from mipplan_formulations.time_cost.networks import breakable_network
from mipplan_formulations.time_cost.problem import Activity, Cover, Path, TimeCostProblem

Ranks = NDArray[np.integer[Any]]

_BLOCK = 256
"""Rows are compared with each other in blocks of this size: it fits the cache, and Python is entered rarely."""
_LATER = ~np.tri(_BLOCK, dtype=np.bool_)
"""Which row of a block, along the second axis, comes after which, along the first."""


@dataclass(frozen=True, eq=False)
class Reduction:
    """A problem with some modes left out: what is kept is, per activity, the number each remaining mode had before."""

    problem: TimeCostProblem
    kept: tuple[Int64, ...]

    def after(self, earlier: Reduction) -> Reduction:
        """Return this reduction of what an earlier one left as one of the problem the earlier one began with."""
        kept = tuple(before[own] for before, own in zip(earlier.kept, self.kept, strict=True))
        return Reduction(self.problem, kept)

    def lift(self, selection: Sequence[int]) -> tuple[int, ...]:
        """Turn a selection of the smaller problem into one of the original."""
        return tuple(int(kept[mode]) for kept, mode in zip(self.kept, selection, strict=True))

    def lower(self, selection: Sequence[int]) -> tuple[int, ...] | None:
        """Turn a selection of the original problem into one of the smaller; None if it uses a mode left out."""
        places = [np.flatnonzero(kept == mode) for kept, mode in zip(self.kept, selection, strict=True)]
        return tuple(int(place[0]) for place in places) if all(place.size for place in places) else None


def keep_modes(problem: TimeCostProblem, marked: Sequence[Bool]) -> Reduction | None:
    """Keep the marked modes only, shape (modes,) per activity; None if an activity has none left."""
    if not all(rows.any() for rows in marked):
        return None
    # Paths go on sharing what they shared.
    cut = {(v, id(waits)): read_only(waits[marked[v]]) for v, waits, _ in distinct_waits(problem)}
    smaller = replace(
        problem,
        activities=tuple(
            Activity(a.name, a.cost[rows], a.duration[rows], a.usage[rows])
            for a, rows in zip(problem.activities, marked, strict=True)
        ),
        paths=tuple(
            Path(
                path.activities,
                path.lag,
                tuple(cut[v, id(w)] for v, w in zip(path.activities, path.waits, strict=True)),
            )
            for path in problem.paths
        ),
        covers=tuple(
            Cover(tuple((v, marks[marked[v]]) for v, marks in cover.members)) for cover in problem.covers
        ),
    )
    return Reduction(smaller, tuple(np.flatnonzero(rows) for rows in marked))


def drop_dominated(problem: TimeCostProblem) -> Reduction:
    """Leave out every mode that another of its activity beats or equals in all that matters.

    That is cost, duration, duration with the wait on every path, the use of every resource, and the covers it meets:
    exchanging one for the other makes no selection dearer, and none that was feasible infeasible. So the optimum stays.
    """
    reduced = keep_modes(problem, [find_undominated(measures) for measures in measure_modes(problem)])
    assert reduced is not None  # something is always undominated
    return reduced


def drop_useless(problem: TimeCostProblem) -> Reduction | None:
    """Leave out modes that are dominated, or with which no choice of the others meets the deadline, again and again.

    Without the latter, others become dominated: the wait that a path has at least rises. None if an activity has no
    mode left, so that the problem is infeasible.
    """
    reduction = drop_dominated(problem)
    while True:
        fitting = keep_modes(reduction.problem, _fitting_modes(reduction.problem))
        if fitting is None:
            return None
        if fitting.problem.num_binaries == reduction.problem.num_binaries:
            return reduction
        reduction = drop_dominated(fitting.problem).after(fitting).after(reduction)


def _fitting_modes(problem: TimeCostProblem) -> list[Bool]:
    """Per activity, which modes meet the deadline if the others had the best of all their modes in each respect."""
    network, activities = breakable_network(problem), problem.activities
    shortest = [int(activity.duration.min()) for activity in activities]
    spent = [edge.lag + shortest[edge.activity] for edge in network.edges]
    waited = [
        edge.lag + int((activities[edge.activity].duration + edge.waits).min()) for edge in network.edges
    ]
    clocks = network.clocks(spent, waited)
    fitting = [np.ones(activity.num_modes, dtype=np.bool_) for activity in activities]
    for edge in network.edges:
        longest = clocks.longest_through(edge, activities[edge.activity].duration)
        fitting[edge.activity] &= longest <= problem.deadline
    return fitting


def measure_modes(problem: TimeCostProblem) -> list[Int64]:
    """Per activity a row per mode with all that can make it better than another: smaller is better, cost first.

    These are durations, and per path duration + wait. Waits that agree on several paths are one column; so are those
    below the least wait of their path, as nobody ever waits less.
    """
    columns: list[list[Int64]] = [[a.cost, a.duration, *a.usage.T] for a in problem.activities]
    seen: set[tuple[int, bytes]] = set()
    for v, waits, least in distinct_waits(problem):
        raised = np.maximum(waits, least)
        if (v, raised.tobytes()) not in seen:
            seen.add((v, raised.tobytes()))
            columns[v].append(problem.activities[v].duration + raised)
    for cover in problem.covers:
        for v, marks in cover.members:
            columns[v].append(1 - marks.astype(np.int64))
    return [np.stack(own, axis=1) for own in columns]


def distinct_waits(problem: TimeCostProblem) -> Iterable[tuple[int, Int64, int]]:
    """Activity, waits of its modes and least wait of the path, once for all paths that agree and share the array."""
    leasts = ((path, path.least_wait) for path in problem.paths)
    return {
        (v, id(waits), least): (v, waits, least)
        for path, least in leasts
        for v, waits in zip(path.activities, path.waits, strict=True)
    }.values()


def find_undominated(measures: Int64, *, most_compared: int | None = None) -> Bool:
    """Tell which rows, shape (n, k), no other row beats or equals in every column; of equal ones one stays.

    Smaller is better in each column. With more than three of them, each row is compared with at most `most_compared`
    undominated ones, those nearest in the first column: some dominated rows then stay, none is marked wrongly.
    """
    count, columns = measures.shape
    if count <= 1 or columns == 0:
        return np.asarray(np.arange(count) == 0)
    ranks = _ranks(measures) if columns > 3 else measures
    order = np.lexsort(ranks.T[::-1])  # whoever dominates a row comes before it, or equals it
    ordered = ranks[order]
    result = np.zeros(count, dtype=np.bool_)
    result[order] = _is_new_least(ordered[:, -1]) if columns <= 2 else _sweep(ordered[:, 1:], most_compared)
    return result


def _ranks(measures: Int64) -> Ranks:
    """Per column, which of its distinct values each is: order is all that counts, and few bytes are compared faster."""
    kind = np.uint16 if measures.shape[0] <= 2**16 else np.int64
    ranks: Ranks = np.empty(measures.shape, dtype=kind)
    for column, values in enumerate(measures.T):
        ranks[:, column] = np.unique(values, return_inverse=True)[1]
    return ranks


def _sweep(rest: Ranks, most_compared: int | None) -> Bool:
    """Which rows no earlier row is at most equal to in all columns."""
    kept = np.ones(rest.shape[0], dtype=np.bool_)
    columns = np.ascontiguousarray(rest.T)
    front = columns[:, :0]
    for start in range(0, kept.size, _BLOCK):
        block = columns[:, start : start + _BLOCK]
        alive = ~_is_beaten(block, front)
        own = block[:, alive]
        alive[alive] = ~(_compare(own, own) & _LATER[: own.shape[1], : own.shape[1]]).any(axis=0)
        kept[start : start + _BLOCK] = alive
        front = np.concatenate([front, block[:, alive]], axis=1)
        if len(columns) == 2:  # a staircase: first column increasing, second decreasing
            front = front[:, np.lexsort((front[1], front[0]))]
            front = front[:, _is_new_least(front[1])]
        elif most_compared is not None:
            front = front[:, -most_compared:]
    return kept


def _is_new_least(values: Ranks) -> Bool:
    """Which values are less than all before."""
    return np.concatenate([[True], values[1:] < np.minimum.accumulate(values)[:-1]])


def _is_beaten(block: Ranks, front: Ranks) -> Bool:
    """Which rows of a block some row of the front is at most equal to in all columns; these are the first axis."""
    beaten = np.zeros(block.shape[1], dtype=np.bool_)
    if front.shape[1] and len(block) == 2:
        below = np.searchsorted(front[0], block[0], side="right") - 1
        return np.asarray((below >= 0) & (front[1, below] <= block[1]))
    for start in range(0, front.shape[1], 4 * _BLOCK):
        beaten |= _compare(front[:, start : start + 4 * _BLOCK], block).any(axis=0)
    return beaten


def _compare(first: Ranks, second: Ranks) -> Bool:
    """Whether row i of the first is at most row j of the second in all columns, shape (i, j)."""
    result = first[0, :, None] <= second[0]
    is_less = np.empty_like(result)
    for own, other in zip(first[1:], second[1:], strict=True):
        result &= np.less_equal(own[:, None], other, out=is_less)
    return np.asarray(result)
