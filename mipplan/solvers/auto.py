"""The choice for whoever names neither formulation nor solver, by the features of the problem.

Chosen from the solver benchmark (docs/benchmarks.md, "Formulations and solvers"):

1. One path that may miss the deadline, and no resource or cover that may fail: labels, at any size.
2. Otherwise the problem is shrunk by reduced costs, and few labels are tried on what is left: small problems end here.
3. What is harder becomes a linear model for CP-SAT: `paths`, or `potentials` where there are many paths; with very many
   modes `potentials` for HiGHS.

CBC is fast on these models, too, but left out: it has been seen to call a problem infeasible that is not.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

from mipplan.core import SolverUnavailableError
from mipplan.solvers import cp_sat, highs, labels
from mipplan.solvers.answer import Settings, SolverInfo, Termination
from mipplan.solvers.dispatch import resolve_solver
from mipplan.solvers.modelling import solve_by_model
from mipplan.solvers.problem_answer import RawProblemAnswer
from mipplan.solvers.shrinking import Shrunk, solve_shrunk
from mipplan_formulations import TimeCostProblem
from mipplan_formulations.labelling import is_chain

NAME = "auto"

FEW_STOPS = 500
"""Paths together visit at most so many activities: `paths` then has as many rows at most."""

FEW_MODES = 3_000
"""Beyond so many modes CP-SAT no longer finds a solution in the time HiGHS takes for the optimum."""

FEW_LABELS = 1_000
"""More labels take longer than the model that would be solved instead."""

_LABELS_SHARE = 0.2
"""Of the time left, if there is a limit."""


def probe() -> SolverInfo:
    """It is part of this package: labels need no other."""
    return replace(labels.probe(), name=NAME)


def choose_pair(problem: TimeCostProblem) -> tuple[str, str]:
    """Formulation and solver for a problem that labels do not settle.

    Parameters
    ----------
    problem : TimeCostProblem
        Already shrunk, if it is to be.

    Returns
    -------
    formulation, solver : str
        The solver works here.

    Raises
    ------
    SolverUnavailableError
        If no solver works here.
    """
    formulation = choose_formulation(problem)
    if problem.num_binaries <= FEW_MODES and cp_sat.probe().available:
        return formulation, cp_sat.NAME
    return "potentials" if highs.probe().available else formulation, resolve_solver("auto")


def choose_formulation(problem: TimeCostProblem) -> str:
    """`paths` unless its rows, one per path and activity on it, would be many; then `potentials`."""
    stops = sum(len(path.activities) for path in problem.paths)
    return "paths" if stops <= FEW_STOPS else "potentials"


def run(problem: TimeCostProblem, settings: Settings, start: Sequence[int] | None) -> RawProblemAnswer:
    """Solve a problem; `details` names what has settled it under ``by``.

    Raises
    ------
    SolverError
        If a solver fails.
    """
    if is_chain(problem):
        return _named(labels.run(problem, settings, start), labels.NAME)
    return _named(solve_shrunk(problem, settings, start, _solve_rest), "shrinking")


def _solve_rest(shrunk: Shrunk, settings: Settings, known: tuple[int, ...] | None) -> RawProblemAnswer:
    """Set few labels on the smaller problem; if they do not settle it, solve a linear model from what they found."""
    problem, limit_s, began = shrunk.problem, settings.time_limit_s, time.monotonic()
    share = replace(settings, time_limit_s=None if limit_s is None else _LABELS_SHARE * limit_s)
    few = labels.set_labels(problem, share, known, shrunk.guide, FEW_LABELS)
    if few.termination in (Termination.OPTIMAL, Termination.INFEASIBLE):
        return _named(few, labels.NAME)
    if limit_s is not None:
        settings = replace(settings, time_limit_s=max(1e-3, limit_s - (time.monotonic() - began)))
    try:
        formulation, solver = choose_pair(problem)
    except SolverUnavailableError:  # then labels have to go on
        return _named(labels.set_labels(problem, settings, few.selection, shrunk.guide), labels.NAME)
    modelled, _ = solve_by_model(problem, formulation, solver, settings, few.selection)
    return _named(_better(problem, few, modelled), f"{formulation}/{solver}")


def _better(problem: TimeCostProblem, few: RawProblemAnswer, modelled: RawProblemAnswer) -> RawProblemAnswer:
    """What a linear model came to, with the bound and, if its search ended too soon, the selection of the labels."""
    bound = max(few.lower_bound, modelled.lower_bound)
    if few.selection is None or modelled.termination is Termination.OPTIMAL:
        return replace(modelled, lower_bound=bound)
    of_both = [s for s in (few.selection, modelled.selection) if s is not None]
    best = min(of_both, key=lambda selection: problem.evaluate(selection).cost)
    return replace(modelled, termination=Termination.FEASIBLE, selection=best, lower_bound=bound)


def _named(raw: RawProblemAnswer, by: str) -> RawProblemAnswer:
    """Note what has settled it, unless that is noted already."""
    return replace(raw, details={"by": by, **raw.details})
