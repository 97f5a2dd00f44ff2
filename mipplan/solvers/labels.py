"""Labels over (cost, duration, wait): the exact solver of `mipplan_formulations.labelling`.

Chains need no other solver. On other problems labels are cut off by the linear relaxation of `levels` or `potentials`
if HiGHS is there to solve it; without, by costs alone.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Sequence
from dataclasses import replace

from mipplan.errors import SolverError
from mipplan.solvers.answer import Settings, SolverInfo, Termination
from mipplan.solvers.problem_answer import RawProblemAnswer
from mipplan.solvers.shrinking import shrink
from mipplan_formulations import TimeCostProblem
from mipplan_formulations.labelling import LabelAnswer, is_chain, solve_by_labels

NAME = "labels"

_SHRINKING_SHARE = 0.5
"""Of the time limit, for making the problem smaller before labels are set."""


def probe() -> SolverInfo:
    """It is part of this package."""
    return SolverInfo(NAME, True, importlib.metadata.version("mipplan"), None)


def run(problem: TimeCostProblem, settings: Settings, start: Sequence[int] | None) -> RawProblemAnswer:
    """Solve a problem; threads, seed and log play no part.

    Raises
    ------
    SolverError
        If sums of the problem's numbers would leave int64.
    """
    try:
        if is_chain(problem):
            answer = solve_by_labels(
                problem, time_limit_s=settings.time_limit_s, gap=settings.gap, start=start
            )
        else:
            answer = _solve_network(problem, settings, start)
    except ValueError as refusal:
        raise SolverError(f"{NAME}: {refusal}") from refusal
    details = {"labels": answer.labels, "passes": answer.passes}
    return RawProblemAnswer(_termination_of(answer), answer.selection, answer.lower_bound, details)


def _solve_network(problem: TimeCostProblem, settings: Settings, start: Sequence[int] | None) -> LabelAnswer:
    """Shrink the problem, and set labels on what is left, cut off by the last relaxation."""
    limit_s, started = settings.time_limit_s, time.monotonic()
    shrunk = shrink(
        problem, start=start, time_limit_s=None if limit_s is None else _SHRINKING_SHARE * limit_s
    )
    lower_bound, cost = shrunk.lower_bound, shrunk.cost
    if cost is not None and cost - lower_bound <= settings.gap * cost:
        return LabelAnswer(shrunk.selection, cost, lower_bound, True, 0, 0)
    answer = solve_by_labels(
        shrunk.problem,
        time_limit_s=None if limit_s is None else max(1e-3, limit_s - (time.monotonic() - started)),
        gap=settings.gap,
        start=None if shrunk.selection is None else shrunk.reduction.lower(shrunk.selection),
        guide=shrunk.guide,
    )
    if answer.selection is None:
        # what is at hand stays, and the smaller problem has everything that is better
        proven = shrunk.selection is not None and answer.finished
        bound = float(cost) if proven and cost is not None else max(lower_bound, answer.lower_bound)
        return replace(
            answer,
            selection=shrunk.selection,
            cost=cost,
            lower_bound=bound if cost is None else min(bound, cost),
        )
    bound = min(max(lower_bound, answer.lower_bound), float(answer.cost or 0))
    return replace(answer, selection=shrunk.reduction.lift(answer.selection), lower_bound=bound)


def _termination_of(answer: LabelAnswer) -> Termination:
    if answer.selection is None:
        return Termination.INFEASIBLE if answer.finished else Termination.NO_SOLUTION_FOUND
    return Termination.OPTIMAL if answer.finished else Termination.FEASIBLE
