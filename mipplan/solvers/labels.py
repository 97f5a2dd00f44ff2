"""Labels over (cost, duration, wait): the exact solver of `mipplan_formulations.labelling`.

Chains need no other solver. On other problems labels are cut off by the linear relaxation of `levels` or `potentials`
if HiGHS is there to solve it; without, by costs alone.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Sequence

import numpy as np

from mipplan.errors import SolverError
from mipplan.solvers.answer import Settings, SolverInfo, Termination
from mipplan.solvers.problem_answer import RawProblemAnswer
from mipplan.solvers.relaxation import relax
from mipplan_formulations import FORMULATIONS, TimeCostProblem
from mipplan_formulations.labelling import Guide, LabelAnswer, is_chain, solve_by_labels

NAME = "labels"

_FEW_PATHS = 50
"""Up to so many paths the relaxation of `levels` is worth its time; beyond, that of `potentials` is."""

_RELAXATION_SHARE = 0.5


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
    started = time.monotonic()
    guide = None if is_chain(problem) else find_guide(problem, settings.time_limit_s)
    limit_s = settings.time_limit_s
    if limit_s is not None:
        limit_s = max(1e-3, limit_s - (time.monotonic() - started))
    try:
        answer = solve_by_labels(problem, time_limit_s=limit_s, gap=settings.gap, start=start, guide=guide)
    except ValueError as refusal:
        raise SolverError(f"{NAME}: {refusal}") from refusal
    details = {"labels": answer.labels, "passes": answer.passes}
    return RawProblemAnswer(_termination_of(answer), answer.selection, answer.lower_bound, details)


def find_guide(problem: TimeCostProblem, time_limit_s: float | None = None) -> Guide | None:
    """Bound and reduced costs of the linear relaxation; None where it is not solved in half of the time."""
    name = "levels" if len(problem.paths) <= _FEW_PATHS else "potentials"
    limit_s = None if time_limit_s is None else _RELAXATION_SHARE * time_limit_s
    model = FORMULATIONS[name].build(problem)
    relaxation = relax(model, time_limit_s=limit_s)
    if relaxation is None:
        return None
    binaries = slice(problem.num_binaries)
    own = np.where(model.column_upper[binaries] > 0, relaxation.reduced_costs[binaries], np.inf)
    return Guide.from_reduced_costs(relaxation.bound, np.split(own, np.cumsum(problem.mode_counts)[:-1]))


def _termination_of(answer: LabelAnswer) -> Termination:
    if answer.selection is None:
        return Termination.INFEASIBLE if answer.finished else Termination.NO_SOLUTION_FOUND
    return Termination.OPTIMAL if answer.finished else Termination.FEASIBLE
