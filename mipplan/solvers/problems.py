"""Solving a time-cost problem itself: by a linear model of it, by CP-SAT's own, or by labels."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import MappingProxyType, ModuleType

from mipplan.core import SolverError, SolverUnavailableError
from mipplan.solvers import auto, cp_sat_native, labels
from mipplan.solvers.answer import Settings, SolverInfo, Termination
from mipplan.solvers.dispatch import available_solvers, resolve_solver
from mipplan.solvers.modelling import solve_by_model
from mipplan.solvers.problem_answer import ProblemAnswer, RawProblemAnswer
from mipplan.solvers.shrinking import solve_shrunk
from mipplan_formulations import FORMULATIONS, TimeCostProblem

#: Modules with `NAME`, `probe()` and `run(problem, settings, start)`.
_NATIVE: Mapping[str, ModuleType] = MappingProxyType({m.NAME: m for m in (cp_sat_native, labels)})
_AUTO = auto.NAME


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
    shrinking: bool = False,
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
    shrinking : bool
        First leave out modes that are dominated, or too dear by their reduced costs (`mipplan.solvers.shrink`); a
        part of the time limit goes there. ``"auto"`` and ``"labels"`` do so by themselves.

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
    backend = auto if solver == formulation == _AUTO else _NATIVE.get(solver)
    info = _probe(backend, solver)
    if backend is None:
        formulation = auto.choose_formulation(problem) if formulation == _AUTO else formulation
        FORMULATIONS[formulation]  # a wrong name is found before any work
    started = time.perf_counter()
    builds = _Builds(formulation, info.name)
    solve_by = builds.run if backend is None else backend.run
    if shrinking and backend not in (auto, labels):  # these shrink what they need to themselves
        raw = solve_shrunk(
            problem, settings, start, lambda shrunk, left, known: solve_by(shrunk.problem, left, known)
        )
    else:
        raw = solve_by(problem, settings, start)
    solve_s = time.perf_counter() - started - builds.seconds
    details = MappingProxyType({"version": info.version or "unknown", **raw.details})
    cost = _check(problem, raw.selection, info.name)
    bound = raw.lower_bound if cost is None else min(raw.lower_bound, float(cost))
    if cost is not None and raw.termination is Termination.OPTIMAL and gap == 0:
        bound = float(cost)
    return ProblemAnswer(
        raw.termination,
        raw.selection,
        cost,
        bound,
        info.name,
        formulation if backend is None else None,
        builds.seconds,
        solve_s,
        details,
    )


def _probe(backend: ModuleType | None, solver: str) -> SolverInfo:
    if backend is None:
        name = resolve_solver(solver)
        return next(info for info in available_solvers() if info.name == name)
    info: SolverInfo = backend.probe()
    if not info.available:
        raise SolverUnavailableError(f"solver {solver!r} does not work here: {info.reason}")
    return info


class _Builds:
    """Solves problems by linear models, and adds up how long building these takes."""

    def __init__(self, formulation: str, solver: str) -> None:
        self._formulation, self._solver = formulation, solver
        self.seconds = 0.0

    def run(
        self, problem: TimeCostProblem, settings: Settings, start: Sequence[int] | None
    ) -> RawProblemAnswer:
        """Build a model of a problem and solve it."""
        raw, build_s = solve_by_model(problem, self._formulation, self._solver, settings, start)
        self.seconds += build_s
        return raw


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
