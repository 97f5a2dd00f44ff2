"""CP-SAT of OR-Tools: computes in integers, so what it says needs no tolerance.

Yet its presolve now and then loses the optimum, and calls what is dearer optimal. Two parts of it are switched off:

- Dual reductions: with OR-Tools 9.15 they lost it in 4 of 15,000 random models with event times.
- The search for rows included in others: with coefficients beyond 10⁹, as of nanoseconds, it lost it in 8 of 10,700
  random models, `paths` and `levels` alike.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from mipplan.core import Float64, Int64, SolverError
from mipplan.solvers.backend import (
    Answer,
    PackageBackend,
    Selection,
    Settings,
    SolverFeature,
    Termination,
    run_interruptibly,
)
from mipplan.solvers.exact import find_differences
from mipplan_formulations import LinearModel, TimeCostProblem
from mipplan_formulations.time_cost import breakable_paths

# Stands for infinity: CP-SAT refuses models in which sums could reach it.
_BEYOND = 2**62


class CpSat(PackageBackend):
    """CP-SAT on linear models.

    It has no continuous columns. Those that only occur alone or as differences of two may be taken for integer ones:
    once the other columns are fixed they have integer values if they have any (see `mipplan.solvers.exact`).
    """

    name = "cp_sat"
    packages = ("ortools",)
    features = frozenset({SolverFeature.INTEGRAL})

    def run(self, model: LinearModel, settings: Settings, start: Float64 | None) -> Answer[Float64]:
        """Solve a model."""
        if not model.integrality.all() and find_differences(model) is None:
            raise SolverError(f"{self.name}: the model has continuous columns that may need fractions")
        unit = max(1, int(np.gcd.reduce(model.objective)))
        translated = translate(model, unit)
        if start is not None:
            translated.proto.solution_hint.vars.extend(range(start.size))
            translated.proto.solution_hint.values.extend(np.rint(start).astype(np.int64).tolist())
        solver, termination = _solve(translated, settings, self.name)
        values = None
        if termination in (Termination.OPTIMAL, Termination.FEASIBLE):
            values = np.array(solver.response_proto.solution, dtype=np.float64)
        # an integer; the floating-point bound beside it is rounded
        bound = float(solver.response_proto.inner_objective_lower_bound * unit)
        if values is None and bound == 0:  # it is 0 where nothing is proven, too
            ends = model.objective * np.array([model.column_lower, model.column_upper])
            bound = float(ends.min(axis=0).sum())
        return Answer(termination, values, lower_bound=bound, details={"branches": int(solver.num_branches)})


class CpSatNative(PackageBackend):
    """CP-SAT on the problem itself: a maximum stays a maximum, no linear model lies between.

    Everything is an integer, so what comes back is exact. The model lives here and not with the formulations because it
    is written in CP-SAT's own terms.
    """

    name = "cp_sat_native"
    packages = ("ortools",)

    def run(self, problem: TimeCostProblem, settings: Settings, start: Selection | None) -> Answer[Selection]:
        """Solve a problem."""
        costs = [activity.cost for activity in problem.activities]
        unit = max(1, int(np.gcd.reduce(np.concatenate(costs))))
        native = _NativeModel(problem)
        native.model.minimize(native.total([own // unit for own in costs]))
        if start is not None:
            for own, mode in zip(native.literals, start, strict=True):
                for o, literal in enumerate(own):
                    native.model.add_hint(literal, o == mode)
        solver, termination = _solve(native.model, settings, self.name)
        selection, bound = None, float(sum(int(own.min()) for own in costs))
        if termination in (Termination.OPTIMAL, Termination.FEASIBLE):
            selection = tuple(
                [solver.boolean_value(literal) for literal in own].index(True) for own in native.literals
            )
        if any(own.any() for own in costs):
            bound = max(bound, float(solver.response_proto.inner_objective_lower_bound * unit))
        details = {"branches": int(solver.num_branches), "conflicts": int(solver.num_conflicts)}
        return Answer(termination, selection, lower_bound=bound, details=details)


def translate(model: LinearModel, unit: int) -> Any:
    """Write the model as one of CP-SAT, objective divided by `unit`."""
    from ortools.sat.python import cp_model

    translated = cp_model.CpModel()
    proto = translated.proto
    for lower, upper in zip(model.column_lower.tolist(), model.column_upper.tolist(), strict=True):
        proto.variables.add().domain.extend([int(lower), int(upper)])
    starts, columns = model.matrix.indptr.tolist(), model.matrix.indices.tolist()
    coefficients = model.matrix.data.tolist()
    sides = np.clip([model.row_lower, model.row_upper], -_BEYOND, _BEYOND).astype(np.int64)
    for i, domain in enumerate(sides.T.tolist()):
        row = proto.constraints.add().linear
        row.vars.extend(columns[starts[i] : starts[i + 1]])
        row.coeffs.extend(coefficients[starts[i] : starts[i + 1]])
        row.domain.extend(domain)
    used = np.flatnonzero(model.objective)
    if used.size:
        proto.objective.vars.extend(used.tolist())
        proto.objective.coeffs.extend((model.objective[used] // unit).tolist())
    return translated


def _solve(model: Any, settings: Settings, name: str) -> tuple[Any, Termination]:
    """Run CP-SAT on a model of its own with limit, gap, threads, seed and log as asked; the solver and how it ended.

    A status that says the model is invalid becomes an error.
    """
    from ortools.sat.python import cp_model

    solver: Any = cp_model.CpSolver()
    parameters = solver.parameters
    parameters.num_workers = settings.threads
    parameters.keep_all_feasible_solutions_in_presolve = True  # no dual reductions: see above
    parameters.presolve_inclusion_work_limit = 0  # nor this search
    parameters.random_seed = settings.seed
    parameters.relative_gap_limit = settings.gap
    parameters.catch_sigint_signal = False  # it would keep Ctrl-C from Python
    if settings.time_limit_s is not None:
        parameters.max_time_in_seconds = float(settings.time_limit_s)
    if settings.log:
        parameters.log_search_progress = True
        parameters.log_to_stdout = False
        solver.log_callback = lambda line: sys.stderr.write(f"{line}\n")
    status = run_interruptibly(lambda: solver.solve(model), solver.stop_search, name)
    termination = {
        cp_model.OPTIMAL: Termination.OPTIMAL,
        cp_model.FEASIBLE: Termination.FEASIBLE,
        cp_model.INFEASIBLE: Termination.INFEASIBLE,
        cp_model.UNKNOWN: Termination.NO_SOLUTION_FOUND,
    }.get(status)
    if termination is None:
        raise SolverError(f"{CpSat.name} refused the model: {model.validate()}")
    return solver, termination


class _NativeModel:
    """A CP-SAT model of a problem: a literal per mode, and what paths, resources and covers ask of them."""

    def __init__(self, problem: TimeCostProblem) -> None:
        from ortools.sat.python import cp_model

        self._cp: Any = cp_model
        self._problem = problem
        self.model: Any = cp_model.CpModel()
        #: Per activity.
        self.literals = [
            [self.model.new_bool_var("") for _ in range(activity.num_modes)]
            for activity in problem.activities
        ]
        for own in self.literals:
            self.model.add_exactly_one(own)
        self._known: dict[tuple[int, bytes], Any] = {}
        self._add_paths()
        for r, resource in enumerate(problem.resources):
            self.model.add(self.total([own.usage[:, r] for own in problem.activities]) <= resource.capacity)
        for cover in problem.covers:
            marked = [self.literals[v][o] for v, marks in cover.members for o in np.flatnonzero(marks)]
            self.model.add_bool_or(marked)  # an empty one is false, as it should be

    def total(self, values: Sequence[Int64]) -> Any:
        """Sum of a value per mode of each activity over the chosen modes."""
        everything = [literal for own in self.literals for literal in own]
        return self._cp.LinearExpr.weighted_sum(everything, np.concatenate(values).tolist())

    def _add_paths(self) -> None:
        problem = self._problem
        for _, path in breakable_paths(problem):
            durations = [self._value(v, problem.activities[v].duration) for v in path.activities]
            waits = [
                self._value(v, np.maximum(own, path.least_wait))
                for v, own in zip(path.activities, path.waits, strict=True)
            ]
            highest = max(int(own.max()) for own in path.waits)
            wait = self.model.new_int_var(path.least_wait, highest, "")
            self.model.add_max_equality(wait, waits)
            self.model.add(sum(durations) + wait <= problem.deadline - path.lag)

    def _value(self, activity: int, values: Int64) -> Any:
        """Variable that equals the value of the chosen mode; one for all that ask for the same."""
        key = (activity, values.tobytes())
        if key not in self._known:
            domain = self._cp.Domain.from_values(np.unique(values).tolist())
            variable = self.model.new_int_var_from_domain(domain, "")
            chosen = self._cp.LinearExpr.weighted_sum(self.literals[activity], values.tolist())
            self.model.add(chosen == variable)
            self._known[key] = variable
        return self._known[key]
