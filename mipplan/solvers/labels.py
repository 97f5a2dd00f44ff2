"""Labels over (cost, duration, wait): the exact solver of `mipplan_formulations.labelling`.

Chains need no other solver. On other problems labels are cut off by the linear relaxation of `levels` or `potentials`
if HiGHS is there to solve it; without, by costs alone.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence

from mipplan.core import SolverError
from mipplan.solvers.answer import Settings, SolverInfo, Termination
from mipplan.solvers.problem_answer import RawProblemAnswer
from mipplan.solvers.shrinking import solve_shrunk
from mipplan_formulations import TimeCostProblem
from mipplan_formulations.labelling import Guide, LabelAnswer, is_chain, solve_by_labels

NAME = "labels"

MOST_LABELS = 200_000
"""More are not kept at a time: what is found is then perhaps not the best."""


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
    if is_chain(problem):
        return set_labels(problem, settings, start, None)
    return solve_shrunk(
        problem,
        settings,
        start,
        lambda shrunk, left, known: set_labels(shrunk.problem, left, known, shrunk.guide),
    )


def set_labels(
    problem: TimeCostProblem,
    settings: Settings,
    start: Sequence[int] | None,
    guide: Guide | None,
    most_labels: int = MOST_LABELS,
) -> RawProblemAnswer:
    """Solve a problem as it is, cut off by a guide, with so many labels at a time at most.

    Raises
    ------
    SolverError
        If sums of the problem's numbers would leave int64.
    """
    try:
        answer = solve_by_labels(
            problem,
            time_limit_s=settings.time_limit_s,
            gap=settings.gap,
            start=start,
            guide=guide,
            most_labels=most_labels,
        )
    except ValueError as refusal:
        raise SolverError(f"{NAME}: {refusal}") from refusal
    details = {"labels": answer.labels, "passes": answer.passes}
    return RawProblemAnswer(_termination_of(answer), answer.selection, answer.lower_bound, details)


def _termination_of(answer: LabelAnswer) -> Termination:
    if answer.selection is None:
        return Termination.INFEASIBLE if answer.finished else Termination.NO_SOLUTION_FOUND
    return Termination.OPTIMAL if answer.finished else Termination.FEASIBLE
