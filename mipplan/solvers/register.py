"""The register of solvers, and solving by a name from it: linear models, and time-cost problems themselves.

``"auto"`` leaves a choice to what is to be solved, as far as that tells anything, and otherwise to the order of the
register:

- A linear model tells nothing: the first solver of `LINEAR_BACKENDS` that works is taken, and those after it are not
  asked. So it is for a problem whose formulation is named.
- A problem tells which formulation suits a solver that is named: `choose_formulation`.
- A problem with neither named is solved by `Auto`, by its features.
"""

from __future__ import annotations

import difflib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from mipplan.core import Float64, SolverError, SolverUnavailableError
from mipplan.solvers.backend import (
    Answer,
    Found,
    LinearBackend,
    PackageBackend,
    ProblemAnswer,
    ProblemBackend,
    Selection,
    Settings,
    SolverFeature,
    SolverInfo,
    Termination,
    check_kind,
    read_selection,
    read_start,
)
from mipplan.solvers.cp_sat import CpSat, CpSatNative
from mipplan.solvers.exact import solve_exactly
from mipplan.solvers.highs import Highs
from mipplan.solvers.presolve import LabelSolver, PresolveParams, ReducedProblem, solve_reduced
from mipplan.solvers.pulp import Cbc, PulpHighs
from mipplan.solvers.rounding import LpRounding
from mipplan.solvers.scip import Scip
from mipplan_formulations import FORMULATIONS, LinearModel, TimeCostProblem
from mipplan_formulations.labelling import is_chain
from mipplan_formulations.time_cost import breakable_paths

AUTO = "auto"

_LINEAR: tuple[LinearBackend, ...] = (Highs(), PulpHighs(), Cbc(), CpSat(), Scip())
_PROBLEM: tuple[ProblemBackend, ...] = (CpSatNative(), LabelSolver())

#: Solvers of linear models by name, in the order in which "auto" asks whether they work.
LINEAR_BACKENDS: Mapping[str, LinearBackend] = MappingProxyType({b.name: b for b in _LINEAR})

#: Solvers of problems that need no linear model, by name.
PROBLEM_BACKENDS: Mapping[str, ProblemBackend] = MappingProxyType({b.name: b for b in _PROBLEM})

#: Those that prove a bound but look no further than their first plans, by name.
HEURISTIC_BACKENDS: Mapping[str, ProblemBackend] = MappingProxyType({LpRounding.name: LpRounding()})


def available_solvers() -> tuple[SolverInfo, ...]:
    """Say for each known solver whether it works here, its version, and if it does not, why."""
    return tuple(backend.probe() for backend in LINEAR_BACKENDS.values())


def available_problem_solvers() -> tuple[SolverInfo, ...]:
    """Say for each solver that works on problems, not on linear models, whether it works here."""
    return tuple(backend.probe() for backend in PROBLEM_BACKENDS.values())


def resolve_solver(solver: str = AUTO) -> str:
    """Return the name of the solver that `solve` would use, so that a wrong name is found before any work.

    Raises `SolverUnavailableError` if there is no such solver, or it does not work here; names those that do.
    """
    return _choose(solver)[1].name


def _choose(solver: str) -> tuple[LinearBackend, SolverInfo]:
    """The backend of that name, and what it says of itself; only as many are asked as it takes to find one."""
    if solver == AUTO:
        refusals = []
        for candidate in LINEAR_BACKENDS.values():
            info = candidate.probe()
            if info.available:
                return candidate, info
            refusals.append(f"{info.name}: {info.reason}")
        raise SolverUnavailableError(f"no solver works here ({'; '.join(refusals)})")
    backend = LINEAR_BACKENDS.get(solver) if isinstance(solver, str) else None
    if backend is None:
        close = difflib.get_close_matches(str(solver), [AUTO, *LINEAR_BACKENDS], n=1)
        hint = f", did you mean {close[0]!r}?" if close else ";"
        raise SolverUnavailableError(f"there is no solver {solver!r}{hint} {_working()}")
    info = backend.probe()
    if not info.available:
        raise SolverUnavailableError(f"solver {solver!r} does not work here: {info.reason}; {_working()}")
    return backend, info


def _working() -> str:
    names = [info.name for info in available_solvers() if info.available]
    return f"working solvers: {', '.join(names)}" if names else "no other solver works here"


def solve(
    model: LinearModel,
    solver: str = AUTO,
    *,
    time_limit_s: float | None = None,
    gap: float = 0.0,
    threads: int = 1,
    seed: int = 0,
    log: bool = False,
    start: Float64 | None = None,
) -> Answer[Float64]:
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
    InputError
        If settings are out of range, or what is given is no model or no start of it.
    """
    check_kind("model", model, LinearModel, "see solve_problem")
    settings = Settings(time_limit_s=time_limit_s, gap=gap, threads=threads, seed=seed, log=log)
    backend, info = _choose(solver)
    return _solve_model(backend, info, model, settings, read_start(model.num_columns, start))


def _solve_model(
    backend: LinearBackend, info: SolverInfo, model: LinearModel, settings: Settings, start: Float64 | None
) -> Answer[Float64]:
    started = time.perf_counter()
    raw = solve_exactly(backend, model, settings, start)
    return _checked(raw, raw.objective, info, settings.gap, time.perf_counter() - started)


def _checked(
    raw: Answer[Found], cost: int | None, info: SolverInfo, gap: float, solve_s: float
) -> Answer[Found]:
    """Finish an answer whose values our own arithmetic has confirmed to have this cost."""
    bound = raw.lower_bound
    if cost is not None:
        # with gap 0 the solver closed the gap to less than one step of the objective
        proven = raw.termination is Termination.OPTIMAL and gap == 0
        bound = float(cost) if proven else min(bound, float(cost))
    details = MappingProxyType({"version": info.version or "unknown", **raw.details})
    return Answer(raw.termination, raw.values, cost, bound, info.name, solve_s, details)


def solve_problem(
    problem: TimeCostProblem,
    solver: str = AUTO,
    *,
    formulation: str = AUTO,
    time_limit_s: float | None = None,
    gap: float = 0.0,
    threads: int = 1,
    seed: int = 0,
    log: bool = False,
    start: Sequence[int] | None = None,
    shrinking: bool = False,
    proven: int = 0,
) -> ProblemAnswer:
    """Solve a problem and check the selection by `TimeCostProblem.evaluate`.

    Parameters
    ----------
    problem : TimeCostProblem
    solver : str
        A name from `available_problem_solvers` (``"labels"``, ``"cp_sat_native"``) or, for a linear model of the
        problem, from `available_solvers`; or ``"auto"``, by the features of the problem (`mipplan.solvers.register`).
        ``"lp_rounding"`` is no exact one: it ends with a bound and, mostly, a plan (`mipplan.solvers.rounding`).
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
    proven : int
        What all selections of interest are known to cost at least, which saves the search below; a cheaper one may be
        found all the same.

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
    InputError
        If settings are out of range, or what is given is no problem or no selection of it.
    """
    check_kind("problem", problem, TimeCostProblem, "see solve")
    settings = Settings(time_limit_s, gap, threads, seed, log, proven)
    first = read_selection(problem, start)
    if solver == formulation == AUTO:
        return run_checked(Auto(), problem, settings, first)
    backends = {**PROBLEM_BACKENDS, **HEURISTIC_BACKENDS}
    if solver in backends:
        return run_checked(backends[solver], problem, settings, first, shrinking=shrinking)
    linear, info = _choose(solver)
    name = choose_formulation(problem) if formulation == AUTO else formulation
    modelled = ByModel(name, linear, info)
    answer = run_checked(modelled, problem, settings, first, shrinking=shrinking)
    solve_s = answer.solve_s - modelled.build_s
    return replace(answer, formulation=name, build_s=modelled.build_s, solve_s=solve_s)


def run_checked(
    backend: ProblemBackend,
    problem: TimeCostProblem,
    settings: Settings,
    start: Selection | None = None,
    *,
    shrinking: bool = False,
) -> ProblemAnswer:
    """Solve a problem by a backend, after leaving out modes if asked to, and check the selection."""
    info = backend.probe()
    if not info.available:
        raise SolverUnavailableError(f"solver {backend.name!r} does not work here: {info.reason}")
    started = time.perf_counter()
    if shrinking and SolverFeature.PRESOLVES not in backend.features:
        raw = solve_reduced(
            problem, settings, start, lambda reduced, left, known: backend.run(reduced.problem, left, known)
        )
    else:
        raw = backend.run(problem, settings, start)
    solve_s = time.perf_counter() - started
    cost = None
    if raw.values is not None:
        judged = problem.evaluate(raw.values)
        if not judged.feasible:
            faults = "; ".join(judged.violations)
            raise SolverError(f"{info.name}: returned a selection that is not allowed: {faults}")
        cost = judged.cost
    checked = _checked(raw, cost, info, settings.gap, solve_s)
    bound, details = checked.lower_bound, checked.details
    return ProblemAnswer(raw.termination, raw.values, cost, bound, info.name, None, 0.0, solve_s, details)


class ByModel(PackageBackend):
    """Solves problems by a linear model of them, and adds up how long building these takes."""

    def __init__(self, formulation: str, backend: LinearBackend, info: SolverInfo) -> None:
        self.name = backend.name
        self.build_s = 0.0
        self._formulation = FORMULATIONS[formulation]
        self._backend = backend
        self._info = info

    def probe(self) -> SolverInfo:
        """What the solver of linear models says."""
        return self._info

    def run(self, problem: TimeCostProblem, settings: Settings, start: Selection | None) -> Answer[Selection]:
        """Build a linear model, solve it, and return the answer in terms of the problem; building is timed, too."""
        chosen, deadline = self._formulation, settings.deadline()
        began = time.perf_counter()
        model = chosen.build(problem)
        self.build_s += time.perf_counter() - began
        settings = settings.until(deadline)
        encoded = None if start is None else chosen.encode(problem, model, start)
        answer = _solve_model(self._backend, self._info, model, settings, encoded)
        selection = None if answer.values is None else chosen.decode(problem, model, answer.values)
        return Answer(answer.termination, selection, lower_bound=answer.lower_bound, details=answer.details)


@dataclass(frozen=True)
class AutoParams:
    """Where one way of solving gives way to another, from the solver benchmark (docs/benchmarks.md)."""

    few_stops: int = 500  # At most 500 activities on all paths together, because `paths` has as many rows.
    few_modes: int = 3_000  # At most 3,000 modes: of more CP-SAT finds nothing while HiGHS finds the optimum.
    #: At most 2,000 labels, because more take longer than the model that would be solved instead.
    few_labels: int = 2_000
    one_path: int = 5  # So many times as many on one path, where labels tell little more than cost and time.
    labels_share: float = 0.2  # At most a fifth of the time left for labels, if there is a limit.
    presolve: PresolveParams = field(default_factory=PresolveParams)


class Auto(PackageBackend):
    """The choice for whoever names neither formulation nor solver, by the features of the problem.

    Chosen from the solver benchmark (docs/benchmarks.md, "Formulations and solvers"):

    1. One path that may miss the deadline, and no resource or cover that may fail: labels, at any size.
    2. Otherwise the problem is shrunk by reduced costs, and few labels are tried: small problems end here.
    3. What is harder becomes a linear model for CP-SAT: `paths`, or `potentials` where their rows would be many; with
       many paths or very many modes `potentials` for HiGHS.

    It is there wherever this package is, as labels need no other.
    CBC is fast on these models, too, but left out: it has been seen to call a problem infeasible that is not.
    """

    name = AUTO
    features = frozenset({SolverFeature.PRESOLVES})

    def __init__(self, params: AutoParams = AutoParams()) -> None:
        self.params = params

    def run(self, problem: TimeCostProblem, settings: Settings, start: Selection | None) -> Answer[Selection]:
        """Solve a problem; `details` names what has settled it under ``by``."""
        if is_chain(problem):
            return _settled(LabelSolver().run(problem, settings, start), LabelSolver.name)
        found = solve_reduced(problem, settings, start, self._solve_rest, self.params.presolve)
        return _settled(found, "shrinking")

    def _solve_rest(
        self, reduced: ReducedProblem, settings: Settings, known: Selection | None
    ) -> Answer[Selection]:
        """Set few labels on the smaller problem; if they don't settle it, solve a model from what they found."""
        problem, deadline = reduced.problem, settings.deadline()
        share = settings.share(self.params.labels_share)
        more = self.params.one_path if len(breakable_paths(problem)) == 1 else 1
        few = LabelSolver(more * self.params.few_labels).run_guided(problem, share, known, reduced.guide)
        if few.termination in (Termination.OPTIMAL, Termination.INFEASIBLE):
            return _settled(few, LabelSolver.name)
        settings = settings.until(deadline)
        try:
            formulation, solver = self.choose_pair(problem)
        except SolverUnavailableError:  # then labels have to go on
            return _settled(
                LabelSolver().run_guided(problem, settings, few.values, reduced.guide), LabelSolver.name
            )
        modelled = ByModel(formulation, *_choose(solver)).run(problem, settings, few.values)
        return _settled(_better(problem, few, modelled), f"{formulation}/{solver}")

    def choose_pair(self, problem: TimeCostProblem) -> tuple[str, str]:
        """Formulation and solver, which works here, for a problem that labels do not settle."""
        formulation = choose_formulation(problem, self.params)
        is_small = problem.num_binaries <= self.params.few_modes
        is_small = is_small and len(breakable_paths(problem)) <= self.params.presolve.few_paths
        if is_small and LINEAR_BACKENDS["cp_sat"].probe().available:
            return formulation, "cp_sat"
        return "potentials" if LINEAR_BACKENDS["highs"].probe().available else formulation, resolve_solver()


def choose_formulation(problem: TimeCostProblem, params: AutoParams = AutoParams()) -> str:
    """`paths` unless its rows, one per path and activity on it, would be many; then `potentials`."""
    stops = sum(len(path.activities) for path in problem.paths)
    return "paths" if stops <= params.few_stops else "potentials"


def _better(
    problem: TimeCostProblem, few: Answer[Selection], modelled: Answer[Selection]
) -> Answer[Selection]:
    """What a linear model came to, with the bound and, if its search ended too soon, the selection of the labels."""
    bound = max(few.lower_bound, modelled.lower_bound)
    if few.values is None or modelled.termination is Termination.OPTIMAL:
        return replace(modelled, lower_bound=bound)
    of_both = [selection for selection in (few.values, modelled.values) if selection is not None]
    best = min(of_both, key=lambda selection: problem.evaluate(selection).cost)
    return replace(modelled, termination=Termination.FEASIBLE, values=best, lower_bound=bound)


def _settled(raw: Answer[Selection], by: str) -> Answer[Selection]:
    """Note what has settled it, unless that is noted already."""
    return replace(raw, details={"by": by, **raw.details})
