"""CBC, the solver bundled with PuLP, through PuLP: the fallback where HiGHS is missing.

Its coefficients travel through a file of 13 significant digits, and its search is not careful to the last unit: in
1,500 random problems with near-ties of one unit among times of 10⁸ units and more it missed the optimum in three, and
in none of those with smaller times. HiGHS missed none. What CBC returns is checked exactly all the same; what it
failed to find cannot be.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipplan.errors import SolverError
from mipplan.solvers.answer import RawAnswer, Settings, SolverInfo, Termination
from mipplan.solvers.recheck import check_solution
from mipplan.solvers.scaling import ScaledModel, scale_model
from mipplan_formulations.linear import LinearModel

NAME = "cbc"

_BOUND_PATTERN = re.compile(r"^Lower bound:\s+(\S+)", re.MULTILINE)
_NODES_PATTERN = re.compile(r"^Enumerated nodes:\s+(\d+)", re.MULTILINE)
_PRINTED_PRECISION = 1e-3
"""CBC prints the bound with three decimals; a bound must not be rounded up."""


def probe() -> SolverInfo:
    """Tell whether PuLP and the CBC it bundles work here."""
    if importlib.util.find_spec("pulp") is None:
        return SolverInfo(NAME, False, None, "the package pulp is not installed")
    import pulp

    version = importlib.metadata.version("pulp")
    if not _bundled_cbc(pulp, msg=False).available():
        return SolverInfo(NAME, False, version, "PuLP brings no CBC for this platform")
    return SolverInfo(NAME, True, version, None)


def run(model: LinearModel, settings: Settings) -> RawAnswer:
    """Solve a model.

    Raises
    ------
    SolverError
        If CBC fails or ends in a way that tells nothing.
    """
    import pulp

    scaled = scale_model(model)
    problem, columns = _build_problem(model, scaled)
    with tempfile.TemporaryDirectory(prefix="mipplan-cbc-") as folder:
        log_path = Path(folder) / "cbc.log"
        solver = _make_solver(scaled, settings, folder, log_path)
        started = time.monotonic()
        try:
            problem.solve(solver)
        except pulp.PulpSolverError as failure:
            raise SolverError(f"cbc: {failure}\n{_read_log(log_path)[-2000:]}") from failure
        elapsed_s = time.monotonic() - started
        log = _read_log(log_path)
    if settings.log:
        sys.stderr.write(log)
    ran_out = settings.time_limit_s is not None and elapsed_s >= settings.time_limit_s
    answer = _read_answer(model, problem, columns, log, ran_out=ran_out)
    return replace(answer, lower_bound=scaled.lift_bound(answer.lower_bound))


def _build_problem(model: LinearModel, scaled: ScaledModel) -> tuple[Any, list[Any]]:
    """Build PuLP's objects; its expressions are dictionaries, so this is a loop over rows at best."""
    import pulp

    problem = pulp.LpProblem("model", pulp.LpMinimize)
    columns = [
        problem.add_variable(f"x{j}", lower, upper, pulp.LpInteger if integral else pulp.LpContinuous)
        for j, (lower, upper, integral) in enumerate(
            zip(model.column_lower.tolist(), model.column_upper.tolist(), model.integrality, strict=True)
        )
    ]
    costs = scaled.objective.tolist()
    problem.setObjective(pulp.LpAffineExpression([(x, c) for x, c in zip(columns, costs, strict=True) if c]))
    starts, indices = scaled.matrix.indptr.tolist(), scaled.matrix.indices.tolist()
    coefficients = scaled.matrix.data.tolist()
    for i, (lower, upper) in enumerate(
        zip(scaled.row_lower.tolist(), scaled.row_upper.tolist(), strict=True)
    ):
        entries = range(starts[i], starts[i + 1])
        terms = pulp.LpAffineExpression([(columns[indices[e]], coefficients[e]) for e in entries])
        for side, sense in _sides(lower, upper):
            problem.addConstraint(pulp.LpConstraint(terms, sense, f"r{i}_{sense}", side))
    return problem, columns


def _sides(lower: float, upper: float) -> list[tuple[float, int]]:
    """Finite sides of a row with PuLP's senses (0: equal, 1: at least, -1: at most)."""
    if lower == upper:
        return [(lower, 0)]
    return [(side, sense) for side, sense in ((lower, 1), (upper, -1)) if np.isfinite(side)]


def _bundled_cbc(pulp: Any, **options: Any) -> Any:
    """PuLP's COIN_CMD with the CBC it bundles; its PULP_CBC_CMD is the same with a deprecation warning."""
    return pulp.COIN_CMD(path=pulp.PULP_CBC_CMD.pulp_cbc_path, **options)


def _make_solver(scaled: ScaledModel, settings: Settings, folder: str, log_path: Path) -> Any:
    import pulp

    solver = _bundled_cbc(
        pulp,
        msg=False,
        timeLimit=settings.time_limit_s,
        gapRel=settings.gap,
        # objectives differ by a whole step, so half a step left is a proof
        gapAbs=scaled.objective_step / 2,
        # told to use 1 thread, CBC starts its threaded search with one worker, which now and then hangs or crashes
        threads=settings.threads if settings.threads > 1 else None,
        logPath=str(log_path),
        # CBC's own tolerances stay: tightened, it calls models infeasible that are not, whereas a solution that
        # breaks a row within them is found out and cut off afterwards
        options=[f"randomCbcSeed {settings.seed}"],
    )
    solver.tmpDir = folder
    return solver


def _read_log(log_path: Path) -> str:
    return log_path.read_text(encoding="utf-8", errors="replace") if log_path.exists() else ""


def _read_answer(
    model: LinearModel, problem: Any, columns: list[Any], log: str, *, ran_out: bool
) -> RawAnswer:
    """Translate what PuLP read.

    `problem.status` is Optimal after a time limit, too: only `sol_status` tells. Yet an infeasibility found
    by branching is told by `status` alone. Values are there even if there is no solution.
    """
    import pulp

    found = problem.sol_status
    values: NDArray[np.float64] | None = None
    if found in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible):
        values = _read_values(model, columns)
    if found == pulp.LpSolutionOptimal:
        termination = Termination.OPTIMAL
    elif found == pulp.LpSolutionIntegerFeasible:
        termination = Termination.FEASIBLE
        values = _keep_if_sound(model, values)
    elif pulp.LpStatusInfeasible in (found, problem.status) and not ran_out:
        # stopped while preprocessing, CBC calls what it has not solved infeasible
        termination = Termination.INFEASIBLE
    elif found == pulp.LpSolutionUnbounded or problem.status == pulp.LpStatusUndefined:
        raise SolverError(f"cbc: ended without telling how\n{log[-2000:]}")
    else:
        termination = Termination.NO_SOLUTION_FOUND
    if termination is Termination.FEASIBLE and values is None:
        termination = Termination.NO_SOLUTION_FOUND
    return RawAnswer(termination, values, _read_bound(termination, log), _read_details(log))


def _read_values(model: LinearModel, columns: list[Any]) -> NDArray[np.float64]:
    """One value per column; PuLP knows none for a column that occurs nowhere, for which any value will do."""
    pairs = zip(columns, model.column_lower.tolist(), strict=True)
    return np.array([lower if x.varValue is None else x.varValue for x, lower in pairs], dtype=np.float64)


def _keep_if_sound(model: LinearModel, values: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """Drop what is no solution: stopped by a limit, CBC may write down a fractional or broken point."""
    if values is None:
        return None
    try:
        check_solution(model, values, NAME)
    except SolverError:
        return None
    return values


def _read_bound(termination: Termination, log: str) -> float:
    """Bound on the scaled objective from the log, which is the only place that has it."""
    if termination is Termination.INFEASIBLE:
        return float("inf")
    match = _BOUND_PATTERN.search(log)
    if match is None:
        return float("-inf")
    try:
        return float(match[1]) - _PRINTED_PRECISION
    except ValueError:
        return float("-inf")


def _read_details(log: str) -> dict[str, float | int | str]:
    match = _NODES_PATTERN.search(log)
    return {"nodes": int(match[1])} if match else {}
