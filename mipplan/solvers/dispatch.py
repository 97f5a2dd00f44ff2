"""Solving a model with a solver chosen by name, and saying which solvers there are."""

from __future__ import annotations

import difflib
import time
from dataclasses import replace
from types import MappingProxyType, ModuleType

import numpy as np
from numpy.typing import NDArray

from mipplan.core import SolverError, SolverUnavailableError
from mipplan.solvers import cbc, cp_sat, highs, pulp_highs, scip
from mipplan.solvers.answer import Answer, RawAnswer, Settings, SolverInfo, Termination
from mipplan.solvers.exactness import add_conflict, cut_off, find_broken_row
from mipplan.solvers.recheck import CheckedSolution, check_solution
from mipplan.solvers.starts import run_from_start
from mipplan_formulations import LinearModel

# Each backend is a module with `NAME`, `probe()` and `run(model, settings)`; "auto" takes the first
# that works.
_BACKENDS: MappingProxyType[str, ModuleType] = MappingProxyType(
    {m.NAME: m for m in (highs, pulp_highs, cbc, cp_sat, scip)}
)


_MOST_ROUNDS = 1000
_LEAST_TIME_S = 1e-3


def available_solvers() -> tuple[SolverInfo, ...]:
    """Say for each known solver whether it works here, its version, and if it does not, why."""
    return tuple(backend.probe() for backend in _BACKENDS.values())


def resolve_solver(solver: str = "auto") -> str:
    """Return the name of the solver that `solve` would use, so that a wrong name is found before any work.

    Parameters
    ----------
    solver : str
        A name from `available_solvers`, or "auto".

    Raises
    ------
    SolverUnavailableError
        If there is no such solver, or it does not work here; names those that do.
    """
    return _choose(solver).name


def solve(
    model: LinearModel,
    solver: str = "auto",
    *,
    time_limit_s: float | None = None,
    gap: float = 0.0,
    threads: int = 1,
    seed: int = 0,
    log: bool = False,
    start: NDArray[np.float64] | None = None,
) -> Answer:
    """Solve a model and check the solution by our own arithmetic.

    Parameters
    ----------
    model : LinearModel
    solver : str
        A name from `available_solvers`, or "auto": the first that works of HiGHS, CBC, CP-SAT and SCIP.
    time_limit_s : float, optional
        Wall-clock seconds.
    gap : float
        Relative gap between objective and bound that counts as optimal. 0 asks for a full proof.
    threads : int
        Most threads to use.
    seed : int
        Random seed of the solver; the same seed gives the same solution unless a time limit is hit.
    log : bool
        Write the solver's own log to stderr.
    start : float64 array, shape (number of columns,), optional
        A solution to start from. All solvers use it, none is bound by it, and it need not be feasible.

    Returns
    -------
    Answer

    Raises
    ------
    SolverUnavailableError
        If there is no such solver, or it does not work here.
    SolverError
        If the solver fails, or its solution breaks a row, a bound or integrality.
    ValueError
        If a setting is out of range.
    """
    settings = Settings(time_limit_s=time_limit_s, gap=gap, threads=threads, seed=seed, log=log, start=start)
    info = _choose(solver)
    started = time.perf_counter()
    raw, solution = _solve_exactly(model, info, settings, started)
    solve_s = time.perf_counter() - started
    return _combine(raw, solution, info, settings, solve_s)


def _solve_exactly(
    model: LinearModel, info: SolverInfo, settings: Settings, started: float
) -> tuple[RawAnswer, CheckedSolution | None]:
    """Solve, and while the solution breaks an integer row within the solver's tolerance, cut it off and repeat.

    The same where it leaves no exact event times. The bound of a later round holds for the model, too: a cut removes
    no solution of it.
    """
    backend = _BACKENDS[info.name]
    current = model
    for _ in range(_MOST_ROUNDS):
        left_s = _time_left(settings, started)
        raw = run_from_start(backend, current, replace(settings, time_limit_s=left_s))
        if raw.values is None:
            return raw, None
        solution = check_solution(current, raw.values, info.name)
        broken, conflict = find_broken_row(model, solution.values), solution.conflict
        if broken is None and conflict is None:
            return raw, solution
        if left_s is not None and _time_left(settings, started) == _LEAST_TIME_S:
            return replace(raw, termination=Termination.NO_SOLUTION_FOUND, values=None), None
        if broken is None and conflict is not None:
            current, broken = add_conflict(current, conflict)
        if broken is not None:
            current = cut_off(current, broken, solution.values, info.name)
    raise SolverError(
        f"{info.name}: {_MOST_ROUNDS} solutions in a row break a row by less than its tolerance"
    )


def _time_left(settings: Settings, started: float) -> float | None:
    if settings.time_limit_s is None:
        return None
    return max(_LEAST_TIME_S, settings.time_limit_s - (time.perf_counter() - started))


def _choose(solver: str) -> SolverInfo:
    if solver != "auto" and solver in _BACKENDS:
        info: SolverInfo = _BACKENDS[solver].probe()
        if info.available:
            return info
        raise SolverUnavailableError(f"solver {solver!r} does not work here: {info.reason}; {_working()}")
    if solver == "auto":
        for candidate in available_solvers():
            if candidate.available:
                return candidate
        reasons = "; ".join(f"{info.name}: {info.reason}" for info in available_solvers())
        raise SolverUnavailableError(f"no solver works here ({reasons})")
    close = difflib.get_close_matches(solver, ["auto", *_BACKENDS], n=1)
    hint = f", did you mean {close[0]!r}?" if close else ";"
    raise SolverUnavailableError(f"there is no solver {solver!r}{hint} {_working()}")


def _working() -> str:
    names = [info.name for info in available_solvers() if info.available]
    return f"working solvers: {', '.join(names)}" if names else "no other solver works here"


def _combine(
    raw: RawAnswer, solution: CheckedSolution | None, info: SolverInfo, settings: Settings, solve_s: float
) -> Answer:
    values, objective = None, None
    lower_bound = raw.lower_bound
    if solution is not None:
        values, objective = solution.values, solution.objective
        proven = raw.termination is Termination.OPTIMAL and settings.gap == 0
        # with gap 0 the solver closed the gap to less than one step of the objective
        lower_bound = float(objective) if proven else min(lower_bound, float(objective))
    details = MappingProxyType({"version": info.version or "unknown", **raw.details})
    return Answer(raw.termination, values, objective, lower_bound, info.name, solve_s, details)
