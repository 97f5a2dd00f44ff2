"""Smaller problems before they are built: modes that only dear selections can have are left out.

A selection at hand costs U, the linear relaxation proves that selections cost at least B, and those with mode o at
least B plus its reduced cost. Modes for which that exceeds U are in no better selection. Without them the relaxation
is stronger (least waits and least durations rise), so this is done again while it helps.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mipplan.solvers.answer import Settings, Termination
from mipplan.solvers.problem_answer import RawProblemAnswer
from mipplan.solvers.relaxation import relax
from mipplan_formulations import FORMULATIONS, TimeCostProblem
from mipplan_formulations.labelling import Guide
from mipplan_formulations.time_cost import Reduction, drop_dominated, keep_modes, suggest

_FEW_PATHS = 50
"""Up to so many paths the relaxation of `levels` is worth its time."""

_MOST_ROUNDS = 5
_WORTH_IT = 0.9
"""Another round follows if at most this share of the modes is left."""

_RELAXATION_SHARE = 0.25
"""Of the time left, for one relaxation."""

_SHARE = 0.4
"""Of a time limit, for shrinking before solving."""

_LEAST_TIME_S = 1e-3


@dataclass(frozen=True, eq=False)
class Shrunk:
    """A problem without modes that cannot matter.

    Attributes
    ----------
    reduction : Reduction
        Every selection that is better than the one at hand is left, and, if there is one, the one at hand.
    guide : Guide or None
        Of the smaller problem, from its last relaxation; None if none was solved.
    selection : tuple of int or None
        The best found on the way, in terms of the original problem.
    cost : int or None
    lower_bound : float
        No feasible selection of the original problem costs less; infinite if there is none at all.
    counts : tuple of int
        Modes at first, without dominated ones, and after every round.
    """

    reduction: Reduction
    guide: Guide | None
    selection: tuple[int, ...] | None
    cost: int | None
    lower_bound: float
    counts: tuple[int, ...]

    @property
    def problem(self) -> TimeCostProblem:
        """The smaller problem."""
        return self.reduction.problem


def shrink(
    problem: TimeCostProblem,
    *,
    start: Sequence[int] | None = None,
    time_limit_s: float | None = None,
    formulation: str | None = None,
) -> Shrunk:
    """Leave out modes that are dominated, or too dear by their reduced costs.

    Parameters
    ----------
    problem : TimeCostProblem
    start : sequence of int, optional
        A selection to start from; it need not be feasible.
    time_limit_s : float, optional
        Wall-clock seconds; what is found by then stays.
    formulation : str, optional
        Whose relaxation is solved. Left out: `potentials` first, as it is quick, and then, unless there are many
        paths, `levels`.

    Returns
    -------
    Shrunk
        Dominated modes only are left out where HiGHS is missing.
    """
    ends_at = math.inf if time_limit_s is None else time.monotonic() + time_limit_s
    names = [formulation] if formulation else ["potentials"]
    if formulation is None and len(problem.paths) <= _FEW_PATHS:
        names.append("levels")
    known = None if start is None or not problem.evaluate(start).feasible else tuple(map(int, start))
    state = Shrunk(
        drop_dominated(problem),
        None,
        known,
        None if known is None else problem.evaluate(known).cost,
        float(sum(int(activity.cost.min()) for activity in problem.activities)),
        (problem.num_binaries,),
    )
    state = _counted(state)
    for number in range(_MOST_ROUNDS):
        name = names[min(number, len(names) - 1)]
        left_s = ends_at - time.monotonic()
        guide = None
        if left_s > 0:
            limit_s = None if math.isinf(left_s) else _RELAXATION_SHARE * left_s
            guide = find_guide(state.problem, name, limit_s)
        if guide is None:
            return state
        state = _narrow(state, guide, ends_at)
        if state.cost is None or state.lower_bound >= state.cost:
            return state
        state = _counted(state)
        if number >= len(names) - 1 and state.counts[-1] > _WORTH_IT * state.counts[-2]:
            return state
    return state


def solve_shrunk(
    problem: TimeCostProblem,
    settings: Settings,
    start: Sequence[int] | None,
    solve: Callable[[Shrunk, Settings, tuple[int, ...] | None], RawProblemAnswer],
) -> RawProblemAnswer:
    """Shrink a problem, solve what is left, and put both answers together.

    Parameters
    ----------
    problem : TimeCostProblem
    settings : Settings
    start : sequence of int or None
    solve : callable
        Given the smaller problem, settings with the time left, and the best selection known in its terms, if it has it.
    """
    limit_s, began = settings.time_limit_s, time.monotonic()
    shrunk = shrink(problem, start=start, time_limit_s=None if limit_s is None else _SHARE * limit_s)
    details = {"modes": shrunk.counts[0], "modes_left": shrunk.counts[-1]}
    cost = shrunk.cost
    if cost is not None and cost - shrunk.lower_bound <= settings.gap * cost:
        return RawProblemAnswer(Termination.OPTIMAL, shrunk.selection, shrunk.lower_bound, details)
    if limit_s is not None:
        settings = replace(settings, time_limit_s=max(_LEAST_TIME_S, limit_s - (time.monotonic() - began)))
    known = None if shrunk.selection is None else shrunk.reduction.lower(shrunk.selection)
    found = solve(shrunk, settings, known)
    return replace(_merge(problem, shrunk, found, settings.gap), details={**found.details, **details})


def _merge(problem: TimeCostProblem, shrunk: Shrunk, found: RawProblemAnswer, gap: float) -> RawProblemAnswer:
    """Whatever beats the selection at hand is in the smaller problem; so is that, unless its modes are dominated."""
    bound, selection, cost = max(shrunk.lower_bound, found.lower_bound), shrunk.selection, shrunk.cost
    if found.selection is not None:
        lifted = shrunk.reduction.lift(found.selection)
        found_cost = problem.evaluate(lifted).cost
        if cost is None or found_cost <= cost:
            selection, cost = lifted, found_cost
    if cost is None:
        return replace(found, lower_bound=bound)
    bound = min(bound, float(cost))
    done = found.termination in (Termination.OPTIMAL, Termination.INFEASIBLE) or cost - bound <= gap * cost
    return replace(
        found,
        termination=Termination.OPTIMAL if done else Termination.FEASIBLE,
        selection=selection,
        lower_bound=bound,
    )


def find_guide(problem: TimeCostProblem, formulation: str, time_limit_s: float | None = None) -> Guide | None:
    """Bound and reduced costs of a formulation's linear relaxation; None where it is not solved in time."""
    model = FORMULATIONS[formulation].build(problem)
    relaxation = relax(model, time_limit_s=time_limit_s)
    if relaxation is None:
        return None
    binaries = slice(problem.num_binaries)
    own = np.where(model.column_upper[binaries] > 0, relaxation.reduced_costs[binaries], np.inf)
    return Guide.from_reduced_costs(relaxation.bound, np.split(own, np.cumsum(problem.mode_counts)[:-1]))


def _narrow(state: Shrunk, guide: Guide, ends_at: float) -> Shrunk:
    """Look for a better selection, then leave out what is too dear for one."""
    reduction, selection, cost = state.reduction, state.selection, state.cost
    if math.isinf(guide.bound):  # of the modes left, none can be combined: nothing beats what is at hand
        return replace(state, lower_bound=math.inf if cost is None else float(cost))
    for suggested in suggest(reduction.problem, guide.excess, ends_at):
        found = reduction.problem.evaluate(suggested).cost
        if cost is None or found < cost:
            selection, cost = reduction.lift(suggested), found
    if cost is None:
        return replace(state, guide=guide, lower_bound=max(state.lower_bound, guide.bound))
    bound = max(state.lower_bound, min(guide.bound, float(cost)))
    limit = cost + 1e-9 * (abs(cost) + 1)
    smaller = keep_modes(reduction.problem, [guide.bound + own <= limit for own in guide.excess])
    if smaller is None:
        return replace(state, selection=selection, cost=cost, lower_bound=float(cost))
    return Shrunk(smaller.after(reduction), guide.lower(smaller.kept), selection, cost, bound, state.counts)


def _counted(state: Shrunk) -> Shrunk:
    return replace(state, counts=(*state.counts, state.problem.num_binaries))
