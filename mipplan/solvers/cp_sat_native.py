"""CP-SAT on the problem itself: a maximum stays a maximum, no linear model lies between.

Per activity one literal per mode, exactly one of which holds, and its duration as an integer variable over the
durations that occur; per path the waits of its activities likewise, and the path's wait as their maximum, which
CP-SAT propagates as such. Everything is an integer, so what comes back is exact. The model lives here and not with the
formulations because it is written in CP-SAT's own terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mipplan.solvers import cp_sat
from mipplan.solvers.answer import Settings, SolverInfo, Termination
from mipplan.solvers.interrupts import run_interruptibly
from mipplan.solvers.problem_answer import RawProblemAnswer
from mipplan_formulations import Int64, TimeCostProblem
from mipplan_formulations.time_cost import breakable_paths

NAME = "cp_sat_native"


def probe() -> SolverInfo:
    """Tell whether OR-Tools is installed, without importing it."""
    info = cp_sat.probe()
    return SolverInfo(NAME, info.available, info.version, info.reason)


def run(problem: TimeCostProblem, settings: Settings, start: Sequence[int] | None) -> RawProblemAnswer:
    """Solve a problem.

    Raises
    ------
    SolverError
        If its numbers are too large for CP-SAT, or it ends in a way that tells nothing.
    """
    from ortools.sat.python import cp_model

    costs = np.concatenate([activity.cost for activity in problem.activities])
    unit = max(1, int(np.gcd.reduce(costs)))
    builder = _Builder(problem)
    builder.minimise(costs // unit)
    if start is not None:
        builder.hint(start)
    solver = cp_sat.make_solver(cp_model, settings)
    status = run_interruptibly(lambda: solver.solve(builder.model), solver.stop_search, NAME)
    termination = cp_sat.termination_of(cp_model, builder.model, status)
    selection, bound = None, float(sum(int(activity.cost.min()) for activity in problem.activities))
    if termination in (Termination.OPTIMAL, Termination.FEASIBLE):
        selection = builder.read(solver)
    if termination is Termination.INFEASIBLE:
        bound = float("inf")
    elif costs.any():
        bound = max(bound, float(solver.response_proto.inner_objective_lower_bound * unit))
    details = {"branches": int(solver.num_branches), "conflicts": int(solver.num_conflicts)}
    return RawProblemAnswer(termination, selection, bound, details)


class _Builder:
    """A CP-SAT model under construction: literals per mode, then what they bring along."""

    def __init__(self, problem: TimeCostProblem) -> None:
        from ortools.sat.python import cp_model

        self._cp: Any = cp_model
        self._problem = problem
        self.model: Any = cp_model.CpModel()
        self._literals = [
            [self.model.new_bool_var("") for _ in range(activity.num_modes)]
            for activity in problem.activities
        ]
        for own in self._literals:
            self.model.add_exactly_one(own)
        self._known: dict[tuple[int, bytes], Any] = {}
        self._add_paths()
        self._add_resources()
        for cover in problem.covers:
            marked = [self._literals[v][o] for v, marks in cover.members for o in np.flatnonzero(marks)]
            self.model.add_bool_or(marked)  # an empty one is false, as it should be

    def minimise(self, costs: Int64) -> None:
        """Set the objective, one coefficient per mode."""
        everything = [literal for own in self._literals for literal in own]
        self.model.minimize(self._cp.LinearExpr.weighted_sum(everything, costs.tolist()))

    def hint(self, start: Sequence[int]) -> None:
        """Suggest a mode per activity."""
        for own, mode in zip(self._literals, start, strict=True):
            for o, literal in enumerate(own):
                self.model.add_hint(literal, o == mode)

    def read(self, solver: Any) -> tuple[int, ...]:
        """Modes chosen by a solution."""
        return tuple(
            next(o for o, literal in enumerate(own) if solver.boolean_value(literal))
            for own in self._literals
        )

    def _add_paths(self) -> None:
        problem = self._problem
        for p, extent in breakable_paths(problem):
            path = problem.paths[p]
            durations = [self._value(v, problem.activities[v].duration) for v in path.activities]
            waits = [
                self._value(v, np.maximum(own, extent.least_wait))
                for v, own in zip(path.activities, path.waits, strict=True)
            ]
            highest = max(int(own.max()) for own in path.waits)
            wait = self.model.new_int_var(extent.least_wait, highest, "")
            self.model.add_max_equality(wait, waits)
            self.model.add(sum(durations) + wait <= problem.deadline - path.lag)

    def _add_resources(self) -> None:
        everything = [literal for own in self._literals for literal in own]
        for r, resource in enumerate(self._problem.resources):
            usage = np.concatenate([activity.usage[:, r] for activity in self._problem.activities])
            used = self._cp.LinearExpr.weighted_sum(everything, usage.tolist())
            self.model.add(used <= resource.capacity)

    def _value(self, activity: int, values: Int64) -> Any:
        """Variable that equals the value of the chosen mode; one for all that ask for the same."""
        key = (activity, values.tobytes())
        if key not in self._known:
            domain = self._cp.Domain.from_values(np.unique(values).tolist())
            variable = self.model.new_int_var_from_domain(domain, "")
            chosen = self._cp.LinearExpr.weighted_sum(self._literals[activity], values.tolist())
            self.model.add(chosen == variable)
            self._known[key] = variable
        return self._known[key]
