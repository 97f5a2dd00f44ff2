"""From a problem to its cheapest selection by labels."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mipplan_formulations.labelling.chain import ChainParams, ChainSearch
from mipplan_formulations.labelling.lagrange import DualBound
from mipplan_formulations.labelling.network import NetworkParams, NetworkSearch
from mipplan_formulations.labelling.search import GapSearch, LabelLimits
from mipplan_formulations.time_cost import TimeCostProblem, breakable_paths, drop_dominated

_LARGEST_SUM = 2**59
"""Sums of costs or times from this on are refused, because they come close to the end of int64."""


@dataclass(frozen=True)
class LabelParams:
    """Numbers that tune the search, for each of the two kinds of problems."""

    chain: ChainParams = field(default_factory=ChainParams)
    network: NetworkParams = field(default_factory=NetworkParams)


DEFAULT = LabelParams()


@dataclass(frozen=True)
class LabelAnswer:
    """What labels found and proved."""

    selection: tuple[int, ...] | None  # A mode per activity; None if none was found.
    cost: int | None
    lower_bound: float  # No feasible selection costs less; infinite if it is proven that there is none.
    # The selection is within the gap asked for, or there is none at all. False: a limit came first.
    finished: bool
    # Labels kept, and runs over the activities.
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
    proven: int = 0,
    params: LabelParams = DEFAULT,
) -> LabelAnswer:
    """Find the cheapest feasible selection, and prove that it is.

    With one path that may miss the deadline, and no resource or cover that may fail, bounds come from prices of time
    for every height of the path's wait: thousands of modes take milliseconds. Any other problem is solved on the
    network of its paths. There `guide` says how many labels are needed; without it, costs alone cut labels off, which
    is enough for small problems only.

    Raises `ValueError` if costs or times are so large that their sums leave int64.

    Parameters
    ----------
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
    proven : int
        What all selections of interest are known to cost at least: the search begins there.
    """
    _check_sums(problem)
    limits = LabelLimits(math.inf if time_limit_s is None else time.monotonic() + time_limit_s, most_labels)
    known, known_cost = None, None
    if start is not None and (judged := problem.evaluate(start)).feasible:
        known, known_cost = tuple(map(int, start)), judged.cost
    reduction = drop_dominated(problem)
    smaller = _without_idle_conditions(reduction.problem)
    search: GapSearch
    if not _is_bare_chain(smaller):
        costs = [activity.cost for activity in smaller.activities]
        own = guide.lower(reduction.kept) if guide else DualBound.from_reduced_costs(0.0, costs)
        search = NetworkSearch(smaller, own, limits, gap, known_cost, params.network)
    elif breakable_paths(smaller):
        search = ChainSearch(smaller, limits, gap, known_cost, params.chain)
    else:
        found = reduction.lift([int(np.argmin(activity.cost)) for activity in smaller.activities])
        cost = problem.evaluate(found).cost
        return LabelAnswer(found, cost, float(cost), True, 0, 0)
    search.bound = proven
    search.run()
    selection = known if search.selection is None else reduction.lift(search.selection)
    if selection is None:
        bound = math.inf if search.exhausted else float(search.bound)
        return LabelAnswer(None, None, bound, search.exhausted, search.labels, search.passes)
    cost = problem.evaluate(selection).cost
    bound = float(cost if search.exhausted else min(search.bound, cost))
    finished = search.exhausted or cost - bound <= gap * cost
    return LabelAnswer(selection, cost, bound, finished, search.labels, search.passes)


def is_chain(problem: TimeCostProblem) -> bool:
    """Whether one path at most may miss the deadline, and no resource or cover may fail: labels then need no guide."""
    return _is_bare_chain(_without_idle_conditions(problem))


def _is_bare_chain(problem: TimeCostProblem) -> bool:
    return not problem.resources and not problem.covers and len(breakable_paths(problem)) <= 1


def _without_idle_conditions(problem: TimeCostProblem) -> TimeCostProblem:
    """Leave out resources that cannot run out and covers that are always met."""
    scarce = [r for r, most in enumerate(problem.most_used) if most > problem.resources[r].capacity]
    return replace(
        problem,
        activities=tuple(replace(a, usage=a.usage[:, scarce]) for a in problem.activities),
        resources=tuple(problem.resources[r] for r in scarce),
        covers=tuple(c for c in problem.covers if not any(marks.all() for _, marks in c.members)),
    )


def _check_sums(problem: TimeCostProblem) -> None:
    costs = sum(int(activity.cost.max()) for activity in problem.activities)
    times = sum(int(activity.duration.max()) for activity in problem.activities)
    lags = sum(arc.lag for arc in problem.arcs)
    if max(costs, times + lags, *problem.most_used) >= _LARGEST_SUM:
        raise ValueError("costs, times or uses are too large to be added up in int64 here")
