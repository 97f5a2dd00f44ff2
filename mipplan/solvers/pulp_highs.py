"""HiGHS through PuLP: the model takes PuLP's way, the settings are those of the solver `highs`.

PuLP's own `HiGHS` prints a banner and its log to stdout, knows no start and cannot be interrupted, so the two steps in
which it makes and runs the solver are replaced. How it ended is read from PuLP, by `sol_status`: after a time limit
`status` says Optimal.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from typing import Any

import numpy as np

from mipplan.core import SolverError
from mipplan.solvers import highs
from mipplan.solvers.answer import RawAnswer, Settings, SolverInfo, Termination
from mipplan.solvers.pulp_models import build_pulp
from mipplan.solvers.scaling import ScaledModel, scale_model
from mipplan_formulations import LinearModel

NAME = "pulp_highs"


def probe() -> SolverInfo:
    """Tell whether PuLP and highspy are installed, without importing them."""
    missing = [name for name in ("pulp", "highspy") if importlib.util.find_spec(name) is None]
    if missing:
        return SolverInfo(NAME, False, None, f"the package {missing[0]} is not installed")
    return SolverInfo(NAME, True, importlib.metadata.version("highspy"), None)


def run(model: LinearModel, settings: Settings) -> RawAnswer:
    """Solve a model.

    Raises
    ------
    SolverError
        If HiGHS rejects the model or an option, or ends in a way that tells nothing.
    """
    scaled = scale_model(model, gain_bits=highs.GAIN_BITS, slack=highs.SLACK)
    problem = build_pulp(model, scaled)
    columns = {f"x{j}": j for j in range(model.num_columns)}
    try:
        problem.solve(_make_solver(scaled, settings, columns))
    except KeyError as unknown:  # PuLP's table of statuses is not complete
        raise SolverError(f"{NAME}: PuLP does not know the status {unknown}") from unknown
    return _read_answer(scaled, problem, columns)


def _make_solver(scaled: ScaledModel, settings: Settings, columns: dict[str, int]) -> Any:
    import pulp

    class Solver(pulp.HiGHS):  # type: ignore[misc]
        def createAndConfigureSolver(self, lp: Any) -> None:  # noqa: N802
            lp.solverModel = highs.make_highs(settings.log)
            highs.set_options(lp.solverModel, scaled, settings)

        def callSolver(self, lp: Any) -> None:  # noqa: N802
            if settings.start is not None:
                start = np.append(scaled.lower_values(settings.start), 0.0)
                # PuLP sorts columns by name, and has one of its own where objective or a row is empty
                order = [columns.get(variable.name, -1) for variable in lp.variables()]
                highs.pass_start(lp.solverModel, start[order])
            highs.run_until_told(lp.solverModel)

    return Solver(msg=False)


def _read_answer(scaled: ScaledModel, problem: Any, columns: dict[str, int]) -> RawAnswer:
    import pulp

    info = problem.solverModel.getInfo()
    termination = {
        pulp.LpSolutionOptimal: Termination.OPTIMAL,
        pulp.LpSolutionIntegerFeasible: Termination.FEASIBLE,
        pulp.LpSolutionInfeasible: Termination.INFEASIBLE,
        pulp.LpSolutionNoSolutionFound: Termination.NO_SOLUTION_FOUND,
    }.get(problem.sol_status)
    if termination is None:
        raise SolverError(f"{NAME}: ended with {pulp.LpSolution[problem.sol_status]!r}")
    if problem.status == pulp.LpStatusNotSolved and not highs.was_limited(problem.solverModel):
        raise SolverError(f"{NAME}: HiGHS ended without telling how")
    if termination is Termination.FEASIBLE and not highs.has_solution(info):
        termination = Termination.NO_SOLUTION_FOUND
    values = None
    if termination in (Termination.OPTIMAL, Termination.FEASIBLE):
        # a column that occurs nowhere is unknown to PuLP: any value will do
        found = scaled.column_lower.copy()
        for variable in problem.variables():
            if variable.name in columns:
                found[columns[variable.name]] = variable.varValue
        values = scaled.lift_values(found.astype(np.float64))
    bound = scaled.lift_bound(highs.read_bound(problem.solverModel, info, termination))
    return RawAnswer(termination, values, bound, highs.read_details(info))
