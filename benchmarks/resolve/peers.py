"""Other ways to solve the same relaxations: each is given every model, and returns its optimum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mipplan.solvers import IncrementalLp
from mipplan_formulations import LinearModel

Solve = Callable[[LinearModel], float]


def highs_kept() -> Solve:
    """HiGHS through highspy, model and basis kept: what mipplan does."""
    kept = IncrementalLp()

    def solve(model: LinearModel) -> float:
        found = kept.solve(model)
        return float("inf") if found is None else float(model.objective @ found.values)

    return solve


def highs_anew() -> Solve:
    """HiGHS through highspy, arrays passed as a whole every time."""

    def solve(model: LinearModel) -> float:
        found = IncrementalLp().solve(model)
        return float("inf") if found is None else float(model.objective @ found.values)

    return solve


def glop_kept() -> Solve:
    """GLOP through OR-Tools' MathOpt, incremental: only what changed is told."""
    from ortools.math_opt.python import mathopt

    state: dict[str, object] = {}

    def solve(model: LinearModel) -> float:
        if "solver" not in state:
            state.update(_mathopt_model(mathopt, model))
        else:
            _tell_changes(state, model)
        result = state["solver"].solve()  # type: ignore[attr-defined]
        if result.termination.reason != mathopt.TerminationReason.OPTIMAL:
            return float("inf")
        return float(result.objective_value())

    return solve


def _mathopt_model(mathopt: object, model: LinearModel) -> dict[str, object]:
    program = mathopt.Model()  # type: ignore[attr-defined]
    columns = [
        program.add_variable(lb=lower, ub=upper)
        for lower, upper in zip(model.column_lower.tolist(), model.column_upper.tolist(), strict=True)
    ]
    rows = [
        program.add_linear_constraint(lb=lower, ub=upper)
        for lower, upper in zip(model.row_lower.tolist(), model.row_upper.tolist(), strict=True)
    ]
    places = _places(model)
    for (row, column), entry in zip(places, model.matrix.data.tolist(), strict=True):
        rows[row].set_coefficient(columns[column], float(entry))
    for column, cost in zip(columns, model.objective.tolist(), strict=True):
        program.objective.set_linear_coefficient(column, float(cost))
    solver = mathopt.IncrementalSolver(program, mathopt.SolverType.GLOP)  # type: ignore[attr-defined]
    return {
        "program": program,
        "columns": columns,
        "rows": rows,
        "places": places,
        "solver": solver,
        "last": model,
    }


def _tell_changes(state: dict[str, object], model: LinearModel) -> None:
    last, columns, rows = state["last"], state["columns"], state["rows"]
    places = state["places"]
    assert isinstance(last, LinearModel)
    assert isinstance(columns, list)
    assert isinstance(rows, list)
    assert isinstance(places, list)
    for name, things, attribute in (
        ("column_lower", columns, "lower_bound"),
        ("column_upper", columns, "upper_bound"),
        ("row_lower", rows, "lower_bound"),
        ("row_upper", rows, "upper_bound"),
    ):
        new = getattr(model, name)
        for k in np.flatnonzero(new != getattr(last, name)).tolist():
            setattr(things[k], attribute, float(new[k]))
    for k in np.flatnonzero(model.matrix.data != last.matrix.data).tolist():
        row, column = places[k]
        rows[row].set_coefficient(columns[column], float(model.matrix.data[k]))
    for k in np.flatnonzero(model.objective != last.objective).tolist():
        state["program"].objective.set_linear_coefficient(columns[k], float(model.objective[k]))  # type: ignore[attr-defined]
    state["last"] = model


def _places(model: LinearModel) -> list[tuple[int, int]]:
    row_of_entry = np.repeat(np.arange(model.num_rows), np.diff(model.matrix.indptr))
    return list(zip(row_of_entry.tolist(), model.matrix.indices.tolist(), strict=True))


def pulp_with(solver_name: str) -> Solve:
    """PuLP: the model is written anew with its variables and constraints, and solved by CBC or HiGHS."""
    import pulp

    def solve(model: LinearModel) -> float:
        problem = pulp.LpProblem("scaling", pulp.LpMinimize)
        columns = [
            pulp.LpVariable(name, lower, upper)
            for name, lower, upper in zip(
                model.column_names, model.column_lower.tolist(), model.column_upper.tolist(), strict=True
            )
        ]
        problem += pulp.LpAffineExpression(
            [(column, cost) for column, cost in zip(columns, model.objective.tolist(), strict=True) if cost]
        )
        starts, indices, data = (
            a.tolist() for a in (model.matrix.indptr, model.matrix.indices, model.matrix.data)
        )
        for k, name in enumerate(model.row_names):
            terms = [(columns[indices[i]], data[i]) for i in range(starts[k], starts[k + 1])]
            expression = pulp.LpAffineExpression(terms)
            lower, upper = float(model.row_lower[k]), float(model.row_upper[k])
            if lower == upper:
                problem += pulp.LpConstraint(expression, pulp.LpConstraintEQ, name, lower)
            elif np.isfinite(lower):
                problem += pulp.LpConstraint(expression, pulp.LpConstraintGE, name, lower)
            elif np.isfinite(upper):
                problem += pulp.LpConstraint(expression, pulp.LpConstraintLE, name, upper)
        # The number of threads is left alone: HiGHS refuses another one than that of the first run in a process.
        make = pulp.PULP_CBC_CMD if solver_name == "cbc" else pulp.HiGHS
        problem.solve(make(msg=False))
        if problem.sol_status != pulp.LpSolutionOptimal:
            return float("inf")
        return float(pulp.value(problem.objective))

    return solve


#: How each is called in the results, and how it is made.
PEERS: dict[str, Callable[[], Solve]] = {
    "HiGHS kept": highs_kept,
    "HiGHS anew": highs_anew,
    "GLOP kept": glop_kept,
    "PuLP with HiGHS": lambda: pulp_with("highs"),
    "PuLP with CBC": lambda: pulp_with("cbc"),
}
