"""Smaller problems before they are built: modes that only dear selections can have are left out; and labels.

Modes that others dominate, or that fit beside none, go first (`mipplan_formulations.time_cost.drop_useless`).
A selection at hand costs U, the linear relaxation proves that selections cost at least B, and those with mode o at
least B plus its reduced cost. Modes for which that exceeds U are in no better selection (reduced-cost fixing). Without
them the relaxation is stronger (least waits and least durations rise), so this is done again while it helps. Bound and
reduced costs also guide labels over (cost, duration, wait), the exact solver of `mipplan_formulations.labelling`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mipplan.core import Deadline, Float64, SolverError
from mipplan.solvers.backend import Answer, PackageBackend, Selection, Settings, SolverFeature, Termination
from mipplan.solvers.lp import relax
from mipplan.solvers.rounding import Rounding, RoundingParams
from mipplan_formulations import FORMULATIONS, TimeCostProblem
from mipplan_formulations.labelling import (
    AscentParams,
    DiveParams,
    DualBound,
    PricedPaths,
    dive,
    is_chain,
    solve_by_labels,
)
from mipplan_formulations.time_cost import (
    Annealer,
    Improver,
    Reduction,
    breakable_paths,
    can_anneal,
    drop_dominated,
    drop_useless,
    keep_modes,
    suggest,
)


@dataclass(frozen=True)
class PresolveParams:
    """How much leaving out modes may take."""

    #: At most 50 paths, because the relaxation of `levels` is not worth its time with more.
    few_paths: int = 50
    most_rounds: int = 5  # At most 5 relaxations.
    worth_it: float = 0.9  # Another round follows if at most nine tenths of the modes are left.
    relaxation_share: float = 0.25  # At most a quarter of the time left, for one relaxation.
    share: float = 0.4  # At most two fifths of a time limit, so that enough is left for solving.
    # With more paths and few modes left, a model is tried before dual ascent: where it is solved at all, it is soon.
    few_modes: int = 500  # At most 500, as graphs of thousands of paths have that are hard for it;
    try_share: float = 0.5  # half of the time left,
    try_s: float = 10.0  # and no more than ten seconds.
    # What follows is for dual ascent, where there are more paths than that; measured on layered graphs of 100 stages.
    tight_share: float = 0.95  # At most so much of what is then left: models of such problems get nowhere.
    anneal_runs: int = 8  # At most so many runs of annealing,
    anneal_share: float = 0.08  # or a twelfth of the time left; one of them takes 0.2 s.
    annealing_s: float = 5.0  # With at least five seconds left: where it was never compiled, that takes four.
    cover_gain: float = 5e-3  # Linear programs for first prices while the bound rises by 0.5 %.
    passes: int = 10  # 10 passes between two looks at which modes are left.
    looks: int = 4  # As long as those up to the fourth next look
    least_gain: float = 0.01  # close a hundredth of the gap.
    tight_worth: float = 0.85  # Diagrams lose their walks when a seventh of the modes is gone.
    #: Shares of the time after which plans are dived for, where annealing cannot be had; and always at the end.
    dives_at: tuple[float, ...] = (0.35, 0.7)
    dive: DiveParams = field(default_factory=DiveParams)
    ascent: AscentParams = field(default_factory=AscentParams)


@dataclass(frozen=True, eq=False)
class ReducedProblem:
    """A problem without modes that cannot matter."""

    reduction: Reduction
    """Every selection that is better than the one at hand is left, and, if there is one, the one at hand."""
    guide: DualBound | None
    """Of the smaller problem, from its last relaxation; None if none was solved."""
    selection: Selection | None
    """The best found on the way, in terms of the original problem."""
    cost: int | None
    lower_bound: float
    """No feasible selection of the original problem costs less; infinite if there is none at all."""
    counts: tuple[int, ...]
    """Modes at first, without dominated ones, and after every round."""

    @property
    def problem(self) -> TimeCostProblem:
        """The smaller problem."""
        return self.reduction.problem

    def counted(self) -> ReducedProblem:
        """Note how many modes are left."""
        return replace(self, counts=(*self.counts, self.problem.num_binaries))


def shrink(
    problem: TimeCostProblem,
    *,
    start: Sequence[int] | None = None,
    time_limit_s: float | None = None,
    formulation: str | None = None,
    proven: float = 0.0,
    params: PresolveParams = PresolveParams(),
) -> ReducedProblem:
    """Leave out modes that are dominated, fit beside none, or are too dear by their reduced costs.

    Parameters
    ----------
    problem : TimeCostProblem
    start : sequence of int, optional
        A selection to start from; it need not be feasible.
    time_limit_s : float, optional
        Wall-clock seconds; what is found by then stays.
    formulation : str, optional
        Whose relaxation is solved. Left out: quick `potentials` first, then, unless there are many paths, `levels`.
    proven : float, optional
        What all selections of interest are known to cost at least.
    params : PresolveParams, optional

    Returns
    -------
    ReducedProblem
        Only modes that are dominated or fit beside none are left out where HiGHS is missing.
    """
    deadline = Deadline.after(time_limit_s)
    names = [formulation] if formulation else ["potentials"]
    if formulation is None and len(problem.paths) <= params.few_paths:
        names.append("levels")
    known = None if start is None or not problem.evaluate(start).feasible else tuple(map(int, start))
    useful = drop_useless(problem)
    cheapest = float(sum(int(activity.cost.min()) for activity in problem.activities))
    state = ReducedProblem(
        useful or drop_dominated(problem),
        None,
        known,
        None if known is None else problem.evaluate(known).cost,
        max(cheapest, proven) if useful else math.inf,
        (problem.num_binaries,),
    ).counted()
    if useful is None:
        return state
    for number in range(params.most_rounds):
        name = names[min(number, len(names) - 1)]
        left_s = deadline.left_s()
        guide = find_guide(state.problem, name, params.relaxation_share * left_s) if left_s > 0 else None
        if guide is None:
            return state
        state = _narrow(state, guide, deadline)
        if state.cost is None or state.lower_bound >= state.cost:
            return state
        state = state.counted()
        if number >= len(names) - 1 and state.counts[-1] > params.worth_it * state.counts[-2]:
            return state
    return state


def find_guide(
    problem: TimeCostProblem, formulation: str, time_limit_s: float | None = None
) -> DualBound | None:
    """Bound and reduced costs of a formulation's linear relaxation; None where it is not solved in time."""
    model = FORMULATIONS[formulation].build(problem)
    relaxation = relax(model, time_limit_s=time_limit_s)
    if relaxation is None:
        return None
    binaries = slice(problem.num_binaries)
    own = np.where(model.column_upper[binaries] > 0, relaxation.reduced_costs[binaries], np.inf)
    return DualBound.from_reduced_costs(relaxation.bound, np.split(own, np.cumsum(problem.mode_counts)[:-1]))


def _narrow(
    state: ReducedProblem, guide: DualBound, deadline: Deadline, alone: Float64 | None = None
) -> ReducedProblem:
    """Look for a better selection, then leave out what is too dear for one.

    What selections with a mode cost at least is the bound and its excess, or given as `alone`, shape (binaries,).
    """
    reduction, selection, cost = state.reduction, state.selection, state.cost
    if math.isinf(guide.bound):  # of the modes left, none can be combined: nothing beats what is at hand
        return replace(state, lower_bound=math.inf if cost is None else float(cost))
    for suggested in suggest(reduction.problem, guide.excess, deadline.at) if alone is None else ():
        found = reduction.problem.evaluate(suggested).cost
        if cost is None or found < cost:
            selection, cost = reduction.lift(suggested), found
    if cost is None:
        return replace(state, guide=guide, lower_bound=max(state.lower_bound, guide.bound))
    bound = max(state.lower_bound, min(float(reduction.problem.next_cost(guide.bound)), float(cost)))
    limit = reduction.problem.cost_below(cost) + 1e-9 * (abs(cost) + 1)
    least = [guide.bound + own for own in guide.excess]
    if alone is not None:
        least = np.split(alone, np.cumsum(reduction.problem.mode_counts)[:-1])
    marked = [own <= limit for own in least]
    if not all(own.any() for own in marked):
        return replace(state, selection=selection, cost=cost, lower_bound=float(cost))
    held = None if selection is None else reduction.lower(selection)
    for own, mode in zip(marked, held or (), strict=held is not None):
        own[mode] = True
    smaller = keep_modes(reduction.problem, marked)
    assert smaller is not None  # something is marked everywhere
    return ReducedProblem(
        smaller.after(reduction), guide.lower(smaller.kept), selection, cost, bound, state.counts
    )


def tighten(
    state: ReducedProblem, deadline: Deadline, gap: float, params: PresolveParams = PresolveParams()
) -> ReducedProblem:
    """Raise the bound by dual ascent on the diagrams of all paths, and leave out modes by it, as long as that helps.

    It ends within the relative `gap`. The first prices are those of the linear program of `mipplan.solvers.rounding`.
    """
    anneals = _can_anneal(state, deadline, params)
    covering = RoundingParams(least_gain=params.cover_gain)
    rounding = Rounding(state.problem, deadline.share(params.relaxation_share), covering)
    rounding.relax()
    numbers = [number for number, _ in breakable_paths(state.problem)]
    prices = dict(zip(numbers, rounding.prices, strict=bool(rounding.prices)))
    cost = state.cost
    priced = PricedPaths.drawn(state.problem, prices, deadline.at, params.ascent) if prices else None
    if priced is None or cost is None:
        return state
    has_limit, bounds = not math.isinf(deadline.at), list[float]()
    dives = [deadline.share(part) for part in params.dives_at if has_limit and not anneals]
    while True:
        guide, alone = priced.climb(params.passes, deadline.at)
        bounds.append(guide.bound)
        gain = math.inf if len(bounds) <= params.looks else guide.bound - bounds[-1 - params.looks]
        ends = gain <= params.least_gain * max(0.0, cost - guide.bound) or deadline.is_over
        is_narrower = (alone <= cost).sum() <= params.tight_worth * alone.size
        if ends or (dives[0].is_over if dives else is_narrower and not has_limit):
            dives = dives[1:]
            found = dive(priced, alone, Improver(state.problem), cost, deadline.at, params.dive)
            if found is not None and state.problem.cost_of(found) < cost:
                cost = state.problem.cost_of(found)
                state = replace(state, selection=state.reduction.lift(found), cost=cost)
        if not ends and not is_narrower and cost - guide.bound > gap * cost:
            continue
        known = state.reduction.kept
        state = _narrow(state, guide, deadline, alone)
        useful = drop_useless(state.problem)
        if state.lower_bound >= cost or useful is None:  # what is better than the one at hand would be left
            return replace(state, lower_bound=float(cost))
        state = _left_out(state, useful).counted()
        if ends or cost - state.lower_bound <= gap * cost:
            return state
        fewer = priced.keep(
            [np.searchsorted(old, new) for old, new in zip(known, state.reduction.kept, strict=True)]
        )
        if fewer is None:
            return replace(state, lower_bound=float(cost))
        priced, left = fewer
        matched = [
            np.isin(now, old[own]) for now, old, own in zip(state.reduction.kept, known, left, strict=True)
        ]
        smaller = keep_modes(state.problem, matched)
        assert smaller is not None  # every activity has a mode left
        state = _left_out(state, smaller)
        if anneals:  # among fewer modes a run finds more
            state = _annealed(state, deadline, [len(state.counts)])
        cost = cost if state.cost is None else state.cost


def _can_anneal(state: ReducedProblem, deadline: Deadline, params: PresolveParams) -> bool:
    return can_anneal(state.problem) and deadline.left_s() >= params.annealing_s


def _annealed(state: ReducedProblem, deadline: Deadline, seeds: Iterable[int]) -> ReducedProblem:
    """Make the selection at hand cheaper by annealing, if its modes are left."""
    selection = None if state.selection is None else state.reduction.lower(state.selection)
    if selection is None:
        return state
    found = Annealer(state.problem).improve(selection, seeds, deadline.at)
    return replace(state, selection=state.reduction.lift(found), cost=state.problem.cost_of(found))


def _left_out(state: ReducedProblem, reduction: Reduction) -> ReducedProblem:
    """Leave out what a reduction of the problem leaves out."""
    lowered = None if state.guide is None else state.guide.lower(reduction.kept)
    return replace(state, reduction=reduction.after(state.reduction), guide=lowered)


def solve_reduced(
    problem: TimeCostProblem,
    settings: Settings,
    start: Selection | None,
    solve: Callable[[ReducedProblem, Settings, Selection | None], Answer[Selection]],
    params: PresolveParams = PresolveParams(),
) -> Answer[Selection]:
    """Shrink a problem, solve what is left, and put both answers together.

    `solve` gets the smaller problem, settings with the time left, and the best selection known, if it is left there.
    """
    deadline, limit_s = settings.deadline(), settings.share(params.share).time_limit_s
    reduced = shrink(problem, start=start, time_limit_s=limit_s, proven=settings.proven, params=params)
    is_hard = len(breakable_paths(reduced.problem)) > params.few_paths and _is_open(reduced, settings.gap)
    if is_hard and _can_anneal(reduced, deadline, params):
        reduced = _annealed(reduced, deadline.share(params.anneal_share), range(params.anneal_runs))
    if is_hard and reduced.problem.num_binaries <= params.few_modes:
        soon = min(deadline.share(params.try_share).at, Deadline.after(params.try_s).at)
        answer = _solve_left(reduced, replace(settings, time_limit_s=Deadline(soon).limit_s()), solve)
        if answer.termination in (Termination.OPTIMAL, Termination.INFEASIBLE):
            return answer
        bound = answer.lower_bound
        reduced = replace(reduced, selection=answer.values, cost=answer.objective, lower_bound=bound)
    if is_hard and reduced.cost is not None:
        reduced = tighten(reduced, deadline.share(params.tight_share), settings.gap, params)
    return _solve_left(reduced, settings.until(deadline), solve)


def _is_open(state: ReducedProblem, gap: float) -> bool:
    """Whether a selection is at hand that is not yet proven to be the cheapest, but for the gap."""
    return state.cost is not None and state.cost - state.lower_bound > gap * state.cost


def _solve_left(
    reduced: ReducedProblem,
    settings: Settings,
    solve: Callable[[ReducedProblem, Settings, Selection | None], Answer[Selection]],
) -> Answer[Selection]:
    """Solve what is left, unless there is nothing to find, and put both answers together."""
    cost, details = reduced.cost, {"modes": reduced.counts[0], "modes_left": reduced.counts[-1]}
    if cost is None and math.isinf(reduced.lower_bound):
        return Answer(Termination.INFEASIBLE, None, details=details)
    if cost is not None and not _is_open(reduced, settings.gap):
        return Answer(Termination.OPTIMAL, reduced.selection, cost, reduced.lower_bound, details=details)
    known = None if reduced.selection is None else reduced.reduction.lower(reduced.selection)
    found = solve(reduced, settings, known)
    # Whatever beats the selection at hand is in the smaller problem; so is that, unless its modes are dominated.
    bound, selection = max(reduced.lower_bound, found.lower_bound), reduced.selection
    found = replace(found, details={**found.details, **details})
    if found.values is not None:
        found_cost = reduced.problem.cost_of(found.values)
        if cost is None or found_cost <= cost:
            selection, cost = reduced.reduction.lift(found.values), found_cost
    if cost is None:
        return replace(found, lower_bound=bound)
    bound = min(bound, float(cost))
    ended = found.termination in (Termination.OPTIMAL, Termination.INFEASIBLE)
    done = ended or cost - bound <= settings.gap * cost
    termination = Termination.OPTIMAL if done else Termination.FEASIBLE
    return replace(found, termination=termination, values=selection, objective=cost, lower_bound=bound)


class LabelSolver(PackageBackend):
    """Labels over (cost, duration, wait), which are part of this package.

    Chains need no other solver. On other problems labels are cut off by the linear relaxation of `levels` or
    `potentials` if HiGHS is there to solve it; without, by costs alone. At most `most_labels` are kept at a time: with
    more, what is found is perhaps not the best.
    """

    name = "labels"
    features = frozenset({SolverFeature.PRESOLVES})

    def __init__(self, most_labels: int = 200_000) -> None:
        self.most_labels = most_labels

    def run(self, problem: TimeCostProblem, settings: Settings, start: Selection | None) -> Answer[Selection]:
        """Solve a problem; threads, seed and log play no part. Sums that would leave int64 are an error."""
        if is_chain(problem):
            return self.run_guided(problem, settings, start, None)
        return solve_reduced(
            problem,
            settings,
            start,
            lambda reduced, left, known: self.run_guided(reduced.problem, left, known, reduced.guide),
        )

    def run_guided(
        self, problem: TimeCostProblem, settings: Settings, start: Selection | None, guide: DualBound | None
    ) -> Answer[Selection]:
        """Solve a problem as it is, labels cut off by a guide."""
        try:
            found = solve_by_labels(
                problem,
                time_limit_s=settings.time_limit_s,
                gap=settings.gap,
                start=start,
                guide=guide,
                most_labels=self.most_labels,
                proven=settings.proven,
            )
        except ValueError as refusal:
            raise SolverError(f"{self.name}: {refusal}") from refusal
        if found.selection is None:
            termination = Termination.INFEASIBLE if found.finished else Termination.NO_SOLUTION_FOUND
        else:
            termination = Termination.OPTIMAL if found.finished else Termination.FEASIBLE
        details = {"labels": found.labels, "passes": found.passes}
        return Answer(termination, found.selection, lower_bound=found.lower_bound, details=details)
