"""From a problem to its cheapest selection by labels."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mipplan_formulations.labelling.chain import DEFAULT as CHAIN
from mipplan_formulations.labelling.chain import ChainParams, ChainSearch
from mipplan_formulations.labelling.lagrange import DualBound, tabulate
from mipplan_formulations.labelling.network import DEFAULT as NETWORK
from mipplan_formulations.labelling.network import NetworkParams, NetworkSearch
from mipplan_formulations.labelling.search import GapSearch, LabelLimits
from mipplan_formulations.time_cost import (
    Activity,
    Path,
    Reduction,
    TimeCostProblem,
    breakable_paths,
    drop_dominated,
)

_LARGEST_SUM = 2**59
"""Sums of costs or times from this on are refused, because they come close to the end of int64."""


@dataclass(frozen=True)
class LabelParams:
    """Numbers that tune the search, for each of the two kinds of problems."""

    chain: ChainParams = CHAIN
    network: NetworkParams = NETWORK


DEFAULT = LabelParams()


@dataclass(frozen=True)
class LabelAnswer:
    """What labels found and proved.

    Attributes
    ----------
    selection : tuple of int or None
        A mode per activity; None if none was found.
    cost : int or None
    lower_bound : float
        No feasible selection costs less; infinite if it is proven that there is none.
    finished : bool
        The selection is within the gap asked for, or there is none at all. False: a limit came first.
    labels, passes : int
        Labels kept, and runs over the activities.
    """

    selection: tuple[int, ...] | None
    cost: int | None
    lower_bound: float
    finished: bool
    labels: int
    passes: int


def solve_by_labels(
    problem: TimeCostProblem,
    *,
    time_limit_s: float | None = None,
    gap: float = 0.0,
    start: Sequence[int] | None = None,
    guide: DualBound | None = None,
    most_labels: int = 200_000,
    params: LabelParams = DEFAULT,
) -> LabelAnswer:
    """Find the cheapest feasible selection, and prove that it is.

    With one path that may miss the deadline, and no resource or cover that may fail, bounds come from prices of time
    for every height of the path's wait: thousands of modes take milliseconds. Any other problem is solved on the
    network of its paths. There `guide` says how many labels are needed; without it, costs alone cut labels off, which
    is enough for small problems only.

    Parameters
    ----------
    problem : TimeCostProblem
    time_limit_s : float, optional
        Wall-clock seconds.
    gap : float
        Relative gap between cost and bound that is proof enough.
    start : sequence of int, optional
        A mode per activity to start from; it need not be feasible.
    guide : DualBound, optional
        Of the problem's linear relaxation, say.
    most_labels : int
        At most this many labels are kept at a time. If there are more, what is found is perhaps not the best.
    params : LabelParams

    Raises
    ------
    ValueError
        If costs or times are so large that their sums leave int64.
    """
    _check_sums(problem)
    ends_at = math.inf if time_limit_s is None else time.monotonic() + time_limit_s
    known = None
    if start is not None and problem.evaluate(start).feasible:
        known = tuple(map(int, start))
    reduction = drop_dominated(problem)
    smaller = _without_idle_conditions(reduction.problem)
    task = _LabelTask(problem, reduction, smaller, LabelLimits(ends_at, most_labels), gap, known, params)
    if _is_bare_chain(smaller):
        breakable = breakable_paths(smaller)
        return _solve_chain(task, smaller.paths[breakable[0][0]] if breakable else None)
    return _solve_network(task, guide)


def is_chain(problem: TimeCostProblem) -> bool:
    """Whether one path at most may miss the deadline, and no resource or cover may fail: labels then need no guide."""
    return _is_bare_chain(_without_idle_conditions(problem))


def _is_bare_chain(problem: TimeCostProblem) -> bool:
    return not problem.resources and not problem.covers and len(breakable_paths(problem)) <= 1


@dataclass(frozen=True, eq=False)
class _LabelTask:
    """A problem, the part of it that matters, and what is asked for."""

    problem: TimeCostProblem
    reduction: Reduction
    smaller: TimeCostProblem
    limits: LabelLimits
    gap: float
    known: tuple[int, ...] | None
    params: LabelParams

    @property
    def known_cost(self) -> int | None:
        """Cost of the selection to start from."""
        return None if self.known is None else self.problem.evaluate(self.known).cost

    def answer(self, selection: Sequence[int] | None, search: GapSearch) -> LabelAnswer:
        """Put together what a search found; its selection is None if the one to start from is as good."""
        found = self.known if selection is None else self.reduction.lift(selection)
        if found is None:
            bound = math.inf if search.exhausted else float(search.bound)
            return LabelAnswer(None, None, bound, search.exhausted, search.labels, search.passes)
        cost = self.problem.evaluate(found).cost
        bound = float(cost if search.exhausted else min(search.bound, cost))
        finished = search.exhausted or cost - bound <= self.gap * cost
        return LabelAnswer(found, cost, bound, finished, search.labels, search.passes)


def _solve_chain(task: _LabelTask, path: Path | None) -> LabelAnswer:
    """Off the path, the cheapest mode is right."""
    activities = task.smaller.activities
    chosen = [int(np.argmin(activity.cost)) for activity in activities]
    on_path = () if path is None else path.activities
    fixed = sum(
        int(a.cost[o]) for v, (a, o) in enumerate(zip(activities, chosen, strict=True)) if v not in on_path
    )
    if path is None:
        found = task.reduction.lift(chosen)
        return LabelAnswer(found, fixed, float(fixed), True, 0, 0)
    own = [activities[v] for v in path.activities]
    table = tabulate(
        [a.cost for a in own], [a.duration for a in own], path.waits, task.smaller.deadline - path.lag
    )
    known = task.known_cost
    left = None if known is None else known - fixed
    search = ChainSearch(table, task.limits, task.gap, left, fixed, task.params.chain)
    search.run()
    search.bound += fixed
    if search.selection is None:
        return task.answer(None, search)
    for v, mode in zip(path.activities, search.selection, strict=True):
        chosen[v] = mode
    return task.answer(chosen, search)


def _solve_network(task: _LabelTask, guide: DualBound | None) -> LabelAnswer:
    own = DualBound.from_costs(task.smaller) if guide is None else guide.lower(task.reduction.kept)
    search = NetworkSearch(task.smaller, own, task.limits, task.gap, task.known_cost, task.params.network)
    search.run()
    return task.answer(search.selection, search)


def _without_idle_conditions(problem: TimeCostProblem) -> TimeCostProblem:
    """Leave out resources that cannot run out and covers that are always met."""
    most = [
        sum(int(activity.usage[:, r].max()) for activity in problem.activities)
        for r in range(len(problem.resources))
    ]
    scarce = [r for r, resource in enumerate(problem.resources) if most[r] > resource.capacity]
    return replace(
        problem,
        activities=tuple(
            Activity(a.name, a.cost, a.duration, a.usage[:, scarce]) for a in problem.activities
        ),
        resources=tuple(problem.resources[r] for r in scarce),
        covers=tuple(c for c in problem.covers if not any(marks.all() for _, marks in c.members)),
    )


def _check_sums(problem: TimeCostProblem) -> None:
    costs = sum(int(activity.cost.max()) for activity in problem.activities)
    times = sum(int(activity.duration.max()) for activity in problem.activities)
    lags = sum(arc.lag for arc in problem.arcs)
    used = [sum(int(a.usage[:, r].max()) for a in problem.activities) for r in range(len(problem.resources))]
    if max(costs, times + lags, *used) >= _LARGEST_SUM:
        raise ValueError("costs, times or uses are too large to be added up in int64 here")
