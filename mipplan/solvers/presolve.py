"""Smaller problems before they are built: modes that only dear selections can have are left out; and labels.

Modes that others dominate, or that fit beside none, go first (`mipplan_formulations.time_cost.drop_useless`).
A selection at hand costs U, the linear relaxation proves that selections cost at least B, and those with mode o at
least B plus its reduced cost. Modes for which that exceeds U are in no better selection (reduced-cost fixing). Without
them the relaxation is stronger (least waits and least durations rise), so this is done again while it helps. Bound and
reduced costs also guide labels over (cost, duration, wait), the exact solver of `mipplan_formulations.labelling`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mipplan.core import Deadline, SolverError
from mipplan.solvers.backend import Answer, PackageBackend, Selection, Settings, SolverFeature, Termination
from mipplan.solvers.lp import relax
from mipplan_formulations import FORMULATIONS, TimeCostProblem
from mipplan_formulations.labelling import DualBound, is_chain, solve_by_labels
from mipplan_formulations.time_cost import Reduction, drop_dominated, drop_useless, keep_modes, suggest


@dataclass(frozen=True)
class PresolveParams:
    """How much leaving out modes may take."""

    #: At most 50 paths, because the relaxation of `levels` is not worth its time with more.
    few_paths: int = 50
    most_rounds: int = 5  # At most 5 relaxations.
    worth_it: float = 0.9  # Another round follows if at most nine tenths of the modes are left.
    relaxation_share: float = 0.25  # At most a quarter of the time left, for one relaxation.
    share: float = 0.4  # At most two fifths of a time limit, so that enough is left for solving.


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
        Whose relaxation is solved. Left out: `potentials` first, as it is quick, and then, unless there are many
        paths, `levels`.
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
        cheapest if useful else math.inf,
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


def _narrow(state: ReducedProblem, guide: DualBound, deadline: Deadline) -> ReducedProblem:
    """Look for a better selection, then leave out what is too dear for one."""
    reduction, selection, cost = state.reduction, state.selection, state.cost
    if math.isinf(guide.bound):  # of the modes left, none can be combined: nothing beats what is at hand
        return replace(state, lower_bound=math.inf if cost is None else float(cost))
    for suggested in suggest(reduction.problem, guide.excess, deadline.at):
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
    return ReducedProblem(
        smaller.after(reduction), guide.lower(smaller.kept), selection, cost, bound, state.counts
    )


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
    deadline, time_limit_s = settings.deadline(), settings.share(params.share).time_limit_s
    reduced = shrink(problem, start=start, time_limit_s=time_limit_s, params=params)
    details = {"modes": reduced.counts[0], "modes_left": reduced.counts[-1]}
    cost = reduced.cost
    if cost is None and math.isinf(reduced.lower_bound):
        return Answer(Termination.INFEASIBLE, None, details=details)
    if cost is not None and cost - reduced.lower_bound <= settings.gap * cost:
        return Answer(
            Termination.OPTIMAL, reduced.selection, lower_bound=reduced.lower_bound, details=details
        )
    known = None if reduced.selection is None else reduced.reduction.lower(reduced.selection)
    found = solve(reduced, settings.until(deadline), known)
    # Whatever beats the selection at hand is in the smaller problem; so is that, unless its modes are dominated.
    bound, selection = max(reduced.lower_bound, found.lower_bound), reduced.selection
    found = replace(found, details={**found.details, **details})
    if found.values is not None:
        lifted = reduced.reduction.lift(found.values)
        found_cost = problem.evaluate(lifted).cost
        if cost is None or found_cost <= cost:
            selection, cost = lifted, found_cost
    if cost is None:
        return replace(found, lower_bound=bound)
    bound = min(bound, float(cost))
    ended = found.termination in (Termination.OPTIMAL, Termination.INFEASIBLE)
    done = ended or cost - bound <= settings.gap * cost
    termination = Termination.OPTIMAL if done else Termination.FEASIBLE
    return replace(found, termination=termination, values=selection, lower_bound=bound)


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
            )
        except ValueError as refusal:
            raise SolverError(f"{self.name}: {refusal}") from refusal
        if found.selection is None:
            termination = Termination.INFEASIBLE if found.finished else Termination.NO_SOLUTION_FOUND
        else:
            termination = Termination.OPTIMAL if found.finished else Termination.FEASIBLE
        details = {"labels": found.labels, "passes": found.passes}
        return Answer(termination, found.selection, lower_bound=found.lower_bound, details=details)
