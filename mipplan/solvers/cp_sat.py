"""CP-SAT of OR-Tools: computes in integers, so what it says needs no tolerance.

Yet the dual reductions of its presolve now and then lose the optimum: with OR-Tools 9.15 in 4 of 15,000 random models
with event times. They are switched off, and with the same models it then lost none.

It has no continuous columns. Those that only occur alone or as differences of two may be taken for integer ones: once
the other columns are fixed they have integer values if they have any (see `mipplan.solvers.differences`).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
from typing import Any

import numpy as np

from mipplan.core import SolverError
from mipplan.solvers.answer import RawAnswer, Settings, SolverInfo, Termination
from mipplan.solvers.differences import find_differences
from mipplan.solvers.interrupts import run_interruptibly
from mipplan_formulations import LinearModel

NAME = "cp_sat"

_BEYOND = 2**62
"""Stands for infinity: CP-SAT refuses models in which sums could reach it."""


def probe() -> SolverInfo:
    """Tell whether OR-Tools is installed, without importing it."""
    if importlib.util.find_spec("ortools") is None:
        return SolverInfo(NAME, False, None, "the package ortools is not installed")
    return SolverInfo(NAME, True, importlib.metadata.version("ortools"), None)


def run(model: LinearModel, settings: Settings) -> RawAnswer:
    """Solve a model.

    Raises
    ------
    SolverError
        If the model has continuous columns that cannot be taken for integer ones, if its numbers are too large,
        or if CP-SAT ends in a way that tells nothing.
    """
    from ortools.sat.python import cp_model

    if not model.integrality.all() and find_differences(model) is None:
        raise SolverError(f"{NAME}: the model has continuous columns that may need fractions")
    unit = max(1, int(np.gcd.reduce(model.objective)))
    translated = translate(model, unit)
    if settings.start is not None:
        _add_hint(translated.proto, settings.start)
    solver = make_solver(cp_model, settings)
    status = run_interruptibly(lambda: solver.solve(translated), solver.stop_search, NAME)
    termination = termination_of(cp_model, translated, status)
    values, bound = None, float("-inf")
    if termination in (Termination.OPTIMAL, Termination.FEASIBLE):
        values = np.array(solver.response_proto.solution, dtype=np.float64)
    if termination is Termination.INFEASIBLE:
        bound = float("inf")
    elif model.objective.any():
        # an integer; the floating-point bound beside it is rounded
        bound = float(solver.response_proto.inner_objective_lower_bound * unit)
    elif values is not None:
        bound = 0.0
    return RawAnswer(termination, values, bound, {"branches": int(solver.num_branches)})


def translate(model: LinearModel, unit: int) -> Any:
    """Write the model as one of CP-SAT, objective divided by `unit`."""
    from ortools.sat.python import cp_model

    translated = cp_model.CpModel()
    proto = translated.proto
    for lower, upper in zip(model.column_lower.tolist(), model.column_upper.tolist(), strict=True):
        proto.variables.add().domain.extend([int(lower), int(upper)])
    starts, columns = model.matrix.indptr.tolist(), model.matrix.indices.tolist()
    coefficients = model.matrix.data.tolist()
    sides = zip(model.row_lower.tolist(), model.row_upper.tolist(), strict=True)
    for i, (lower, upper) in enumerate(sides):
        row = proto.constraints.add().linear
        row.vars.extend(columns[starts[i] : starts[i + 1]])
        row.coeffs.extend(coefficients[starts[i] : starts[i + 1]])
        row.domain.extend([_whole(lower), _whole(upper)])
    used = np.flatnonzero(model.objective)
    if used.size:
        proto.objective.vars.extend(used.tolist())
        proto.objective.coeffs.extend((model.objective[used] // unit).tolist())
    return translated


def _whole(side: float) -> int:
    return int(side) if np.isfinite(side) else int(np.sign(side)) * _BEYOND


def _add_hint(proto: Any, start: np.typing.NDArray[np.float64]) -> None:
    proto.solution_hint.vars.extend(range(start.size))
    proto.solution_hint.values.extend(np.rint(start).astype(np.int64).tolist())


def make_solver(cp_model: Any, settings: Settings) -> Any:
    """Return CP-SAT's solver with limit, gap, threads, seed and log as asked."""
    solver = cp_model.CpSolver()
    parameters = solver.parameters
    parameters.num_workers = settings.threads
    parameters.keep_all_feasible_solutions_in_presolve = True  # no dual reductions: see above
    parameters.random_seed = settings.seed
    parameters.relative_gap_limit = settings.gap
    parameters.catch_sigint_signal = False  # it would keep Ctrl-C from Python
    if settings.time_limit_s is not None:
        parameters.max_time_in_seconds = float(settings.time_limit_s)
    if settings.log:
        parameters.log_search_progress = True
        parameters.log_to_stdout = False
        solver.log_callback = lambda line: sys.stderr.write(f"{line}\n")
    return solver


def termination_of(cp_model: Any, translated: Any, status: Any) -> Termination:
    """Translate CP-SAT's status; one that says the model is invalid becomes an error."""
    if status == cp_model.OPTIMAL:
        return Termination.OPTIMAL
    if status == cp_model.FEASIBLE:
        return Termination.FEASIBLE
    if status == cp_model.INFEASIBLE:
        return Termination.INFEASIBLE
    if status == cp_model.UNKNOWN:
        return Termination.NO_SOLUTION_FOUND
    raise SolverError(f"{NAME} refused the model: {translated.validate()}")
