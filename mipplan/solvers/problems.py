"""Solving a time-cost problem itself: by a linear model of it, by CP-SAT's own, or by labels."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType, ModuleType

from mipplan.errors import SolverError, SolverUnavailableError
from mipplan.solvers import auto, cp_sat_native, labels
from mipplan.solvers.answer import Settings, SolverInfo, Termination
from mipplan.solvers.dispatch import resolve_solver, solve
from mipplan.solvers.problem_answer import ProblemAnswer, RawProblemAnswer
from mipplan_formulations import FORMULATIONS, TimeCostProblem

#: Modules with `NAME`, `probe()` and `run(problem, settings, start)`.
_NATIVE: Mapping[str, ModuleType] = MappingProxyType({m.NAME: m for m in (cp_sat_native, labels)})
_AUTO = "auto"


def available_problem_solvers() -> tuple[SolverInfo, ...]:
    """Say for each solver that works on problems, not on linear models, whether it works here."""
    return tuple(backend.probe() for backend in _NATIVE.values())


def solve_problem(
    problem: TimeCostProblem,
    solver: str = _AUTO,
    *,
    formulation: str = _AUTO,
    time_limit_s: float | None = None,
    gap: float = 0.0,
    threads: int = 1,
    seed: int = 0,
    log: bool = False,
    start: Sequence[int] | None = None,
) -> ProblemAnswer:
    """Solve a problem and check the selection by `TimeCostProblem.evaluate`.

    Parameters
    ----------
    problem : TimeCostProblem
    solver : str
        A name from `available_problem_solvers` (``"labels"``, ``"cp_sat_native"``) or, for a linear model of the
        problem, from `available_solvers`; or ``"auto"``, by the features of the problem (`mipplan.solvers.auto`).
    formulation : str
        Name of the linear model; plays no part for the former. With ``"auto"`` it goes by the problem's features, too;
        a name is kept to, whoever solves it.
    time_limit_s, gap, threads, seed, log
        As for `solve`; the limit includes building the model.
    start : sequence of int, optional
        A mode per activity to start from. It need not be feasible.

    Returns
    -------
    ProblemAnswer

    Raises
    ------
    SolverUnavailableError
        If there is no such solver, or it does not work here.
    SolverError
        If the solver fails, refuses the problem, or its selection is not what it says.
    KeyError
        If there is no such formulation.
    ValueError
        If a setting is out of range.
    """
    settings = Settings(time_limit_s=time_limit_s, gap=gap, threads=threads, seed=seed, log=log)
    if solver in _NATIVE:
        return _solve_natively(problem, _NATIVE[solver], settings, start)
    if solver == formulation == _AUTO:
        return _solve_natively(problem, auto, settings, start)
    if formulation == _AUTO:
        formulation = auto.choose_formulation(problem)
    return _solve_linear(problem, resolve_solver(solver), formulation, settings, start)


def _solve_natively(
    problem: TimeCostProblem, backend: ModuleType, settings: Settings, start: Sequence[int] | None
) -> ProblemAnswer:
    solver: str = backend.NAME
    info: SolverInfo = backend.probe()
    if not info.available:
        raise SolverUnavailableError(f"solver {solver!r} does not work here: {info.reason}")
    started = time.perf_counter()
    raw: RawProblemAnswer = backend.run(problem, settings, start)
    solve_s = time.perf_counter() - started
    details = MappingProxyType({"version": info.version or "unknown", **raw.details})
    cost = _check(problem, raw.selection, solver)
    bound = _settle(raw.termination, raw.lower_bound, cost, settings.gap)
    return ProblemAnswer(raw.termination, raw.selection, cost, bound, solver, None, 0.0, solve_s, details)


def _solve_linear(
    problem: TimeCostProblem,
    solver: str,
    formulation: str,
    settings: Settings,
    start: Sequence[int] | None,
) -> ProblemAnswer:
    chosen = FORMULATIONS[formulation]
    started = time.perf_counter()
    model = chosen.build(problem)
    build_s = time.perf_counter() - started
    limit_s = None if settings.time_limit_s is None else max(1e-3, settings.time_limit_s - build_s)
    answer = solve(
        model,
        solver,
        time_limit_s=limit_s,
        gap=settings.gap,
        threads=settings.threads,
        seed=settings.seed,
        log=settings.log,
        start=None if start is None else chosen.encode(problem, model, start),
    )
    selection = None if answer.values is None else chosen.decode(problem, model, answer.values)
    cost = _check(problem, selection, solver)
    if cost != answer.objective:
        raise SolverError(f"{solver}: a selection of cost {cost} was said to cost {answer.objective}")
    return ProblemAnswer(
        answer.termination,
        selection,
        cost,
        answer.lower_bound,
        solver,
        formulation,
        build_s,
        answer.solve_s,
        answer.details,
    )


def _check(problem: TimeCostProblem, selection: tuple[int, ...] | None, solver: str) -> int | None:
    """Cost of a selection by the problem's own arithmetic."""
    if selection is None:
        return None
    judged = problem.evaluate(selection)
    if not judged.feasible:
        raise SolverError(
            f"{solver}: returned a selection that is not allowed: {'; '.join(judged.violations)}"
        )
    return judged.cost


def _settle(termination: Termination, bound: float, cost: int | None, gap: float) -> float:
    if cost is None:
        return bound
    if termination is Termination.OPTIMAL and gap == 0:
        return float(cost)
    return min(bound, float(cost)) if not math.isnan(bound) else -math.inf
