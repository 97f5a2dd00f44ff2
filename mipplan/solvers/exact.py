"""Exact answers from solvers that compute in floating point: every solution is judged by our own arithmetic.

A solver may return a solution that breaks a row by less than its tolerance: in a row of nanoseconds, a deadline
missed by 1 ns. Where all columns of a row are integer, the row is judged exactly here, and a solution that breaks it is
cut off together with every solution that breaks it for the same reason.

Event times, continuous columns that only occur alone or as differences of two, are exact as well. Once the integer
columns are fixed, rows such as ``early_2 - early_1 >= duration`` form a system of difference constraints: it has a
solution, then one in integers, unless a cycle of its rows adds up to a contradiction [1]_. The sum of that cycle's rows
no longer has event times in it: a row of integer columns that the model implies, and that can be judged, and cut off,
like any other.

References
----------
.. [1] T. H. Cormen, C. E. Leiserson, R. L. Rivest, C. Stein, "Introduction to Algorithms", section on difference
   constraints and shortest paths.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse

from mipplan.core import Bool, Float64, Int64, SolverError, frozen
from mipplan.solvers.backend import Answer, LinearBackend, Settings, SolverFeature, Termination
from mipplan_formulations import LinearModel

# Largest violation of a row, relative to its largest coefficient.
_ROW_TOLERANCE = 1e-6

# Largest violation of a bound of a continuous column, relative to the bound but at least absolute.
_BOUND_TOLERANCE = 1e-6

# Farthest an integer column may be from an integer; it is rounded, and the rows are checked afterwards.
_INTEGRALITY_TOLERANCE = 1e-5

# So many units in the largest cost are told apart: errors were seen from 2**33 on (CBC) and 2**43 on (HiGHS, SCIP).
_RESOLVED_COST = 2**31

# More solutions that are not cheaper by our arithmetic, but within the tolerance, leave it open whether one is.
_CHEAPER_ROUNDS = 30

_UNREACHED = 2**62


@dataclass(frozen=True, eq=False)
class Conflict:
    """A row that a model has or implies and a choice of its integer columns breaks: ``coefficients @ x <= upper``.

    Coefficients, shape (n,), are 0 for continuous columns. An implied row has no name.
    """

    coefficients: Int64
    upper: int
    name: str = ""


@dataclass(frozen=True, eq=False)
class CheckedSolution:
    """A solution that our own arithmetic confirms.

    Integer columns are rounded to integers, continuous ones moved into their bounds, event times recomputed; read-only.
    A conflict says why there are no event times for these integers: then it is no solution, even if within tolerances.
    """

    values: Float64
    objective: int
    conflict: Conflict | None = None


def solve_exactly(
    backend: LinearBackend,
    model: LinearModel,
    settings: Settings,
    start: Float64 | None = None,
    *,
    most_rounds: int = 1000,
) -> Answer[Float64]:
    """Solve, and where costs differ by too many digits for a solver's tolerances, until nothing is cheaper.

    Beside a cost of 10¹³ a solver takes what costs 7 for the optimum, though another solution costs 6. So it is asked
    for a cheaper one, as a row and without the columns that cost more: rows are judged exactly, an objective is not.
    """
    deadline, in_floats = settings.deadline(), SolverFeature.INTEGRAL not in backend.features
    is_doubted = in_floats and settings.gap == 0 and _is_blurred(model.objective)
    answer = _solve_in_rounds(backend, model, settings, start, most_rounds)
    while is_doubted and answer.termination is Termination.OPTIMAL:
        assert answer.objective is not None  # there are values
        try:
            cheaper = _below(model, answer.objective)
            better = _solve_in_rounds(backend, cheaper, settings.until(deadline), None, _CHEAPER_ROUNDS)
        except SolverError:  # what is at hand is a solution, only not proven the best
            return replace(answer, termination=Termination.FEASIBLE)
        if better.termination is Termination.INFEASIBLE:
            return answer
        if better.values is None:
            return replace(answer, termination=Termination.FEASIBLE)
        answer = replace(better, lower_bound=min(better.lower_bound, answer.lower_bound))
    return answer


def _is_blurred(objective: Int64) -> bool:
    """Whether one unit of the objective is less than a solver may be wrong by beside its largest cost."""
    divisor = int(np.gcd.reduce(objective))
    return divisor > 0 and int(np.abs(objective).max()) // divisor >= _RESOLVED_COST


def _below(model: LinearModel, objective: int) -> LinearModel:
    """The model of what costs less: a row says so, and columns that cost too much by themselves are fixed at 0."""
    costs = model.objective
    most = objective - int(np.gcd.reduce(costs))
    least = np.minimum(costs * model.column_lower, costs * model.column_upper)
    dear = (costs > most - least.sum()) & (model.column_lower == 0)
    kept = np.where(dear, 0, costs)
    fewer = replace(model, objective=kept, column_upper=np.where(dear, 0.0, model.column_upper))
    used = np.flatnonzero(kept).astype(np.int64)
    return _with_row(fewer, used, -kept[used], -float(most))


def _solve_in_rounds(
    backend: LinearBackend, model: LinearModel, settings: Settings, start: Float64 | None, most_rounds: int
) -> Answer[Float64]:
    """Solve, and while the solution breaks an integer row within the solver's tolerance, cut it off and repeat.

    The same where it leaves no exact event times. The bound of a later round holds for the model, too: a cut removes
    no solution of it. Solutions that are wrong beyond tolerances, and too many rounds, are errors.
    """
    deadline, current = settings.deadline(), model
    for _ in range(most_rounds):
        raw = run_from_start(backend, current, settings.until(deadline), start)
        if raw.values is None:
            return raw
        solution = check_solution(current, raw.values, backend.name)
        broken = find_broken_row(model, solution.values) or solution.conflict
        if broken is None:
            return replace(raw, values=solution.values, objective=solution.objective)
        if deadline.is_over:
            return replace(raw, termination=Termination.NO_SOLUTION_FOUND, values=None)
        current = cut_off(current, broken, solution.values, backend.name)
    raise SolverError(
        f"{backend.name}: {most_rounds} solutions in a row break a row by less than its tolerance"
    )


def run_from_start(
    backend: LinearBackend, model: LinearModel, settings: Settings, start: Float64 | None
) -> Answer[Float64]:
    """Run a backend; once more, without the start, if its bound contradicts the optimum it claims.

    HiGHS 1.16 now and then takes a start over into its presolved model at too low an objective (one start in a hundred,
    on small random problems). It then finds nothing better than this, and calls the start optimal. Its bound gives it
    away: it is below what the returned solution costs, by more than the gap asked for.
    """
    deadline = settings.deadline()
    raw = backend.run(model, settings, start)
    claimed = raw.termination is Termination.OPTIMAL and math.isfinite(raw.lower_bound)
    if start is None or raw.values is None or not claimed:
        return raw
    used = np.flatnonzero(model.objective)
    objective = float(model.objective[used] @ np.rint(raw.values[used]))
    # bounds are whole steps of the objective: one below it is a step below it
    if objective - raw.lower_bound <= settings.gap * abs(objective) + 1e-9 * abs(objective):
        return raw
    again = backend.run(model, settings.until(deadline), None)
    if again.termination is Termination.NO_SOLUTION_FOUND:
        return replace(again, termination=Termination.FEASIBLE, values=raw.values)
    return again


def check_solution(model: LinearModel, values: Float64, solver: str) -> CheckedSolution:
    """Round a solver's values, shape (n,), check integrality, bounds and rows, and recompute the objective.

    An error names the solver, the column or row that is wrong, and by how much.
    """
    if values.shape != (model.num_columns,) or not np.isfinite(values).all():
        raise SolverError(f"{solver}: expected {model.num_columns} finite values")
    nearest = np.rint(values)
    distance = np.where(model.integrality, np.abs(values - nearest), 0.0)
    worst = int(np.argmax(distance))
    if distance[worst] > _INTEGRALITY_TOLERANCE:
        raise SolverError(f"{solver}: integer column {model.column_names[worst]} is {values[worst]:.12g}")
    rounded = np.where(model.integrality, nearest, values)
    _check_bounds(model, rounded, solver)
    settled = np.clip(rounded, model.column_lower, model.column_upper)
    conflict, differences = None, find_differences(model)
    if differences is not None:
        outcome = differences.settle(settled)
        if isinstance(outcome, Conflict):
            conflict = outcome
        else:
            settled = outcome
    _check_rows(model, settled, solver, differences)
    used = np.flatnonzero((model.objective != 0) & (settled != 0))
    objective = sum(
        int(model.objective[j]) * int(settled[j]) for j in used
    )  # in integers that cannot overflow
    return CheckedSolution(frozen(settled), objective, conflict)


def _check_bounds(model: LinearModel, values: Float64, solver: str) -> None:
    below, above = model.column_lower - values, values - model.column_upper
    allowed = _BOUND_TOLERANCE * np.maximum(1.0, np.maximum(abs(model.column_lower), abs(model.column_upper)))
    # a rounded integer that is outside at all is outside by 1 or more
    excess = np.maximum(below, above) - np.where(model.integrality, 0.0, allowed)
    worst = int(np.argmax(excess))
    if excess[worst] > 0:
        raise SolverError(
            f"{solver}: column {model.column_names[worst]} is {values[worst]:.12g}, outside its bounds "
            f"{model.column_lower[worst]:.12g} to {model.column_upper[worst]:.12g}"
        )


def _check_rows(
    model: LinearModel, values: Float64, solver: str, differences: DifferenceSystem | None
) -> None:
    """Check all rows within the tolerance but those with event times, which have been judged exactly."""
    if model.num_rows == 0:
        return
    activity = model.matrix @ values
    violation = np.maximum(model.row_lower - activity, activity - model.row_upper)
    # below 1 an integer row cannot be broken by rounding, and an empty row has no scale of its own
    largest = abs(model.matrix).max(axis=1).toarray().ravel()
    allowed = _ROW_TOLERANCE * np.maximum(1.0, largest)
    if differences is not None:
        allowed[differences.is_row_in] = np.inf
    worst = int(np.argmax(violation - allowed))
    if violation[worst] > allowed[worst]:
        raise SolverError(
            f"{solver}: row {model.row_names[worst]} is violated by {violation[worst]:.6g}; "
            f"{allowed[worst]:.3g} would be tolerated"
        )


def find_broken_row(model: LinearModel, values: Float64) -> Conflict | None:
    """Return the row without continuous columns that is broken most in integer arithmetic, if any is."""
    integers = np.where(model.integrality, values, 0).astype(np.int64)
    activity = model.matrix @ integers
    judged = (abs(model.matrix).sign() @ (~model.integrality).astype(np.int64)) == 0
    over = np.where(judged, activity - model.row_upper, -np.inf)
    under = np.where(judged, model.row_lower - activity, -np.inf)
    excess = np.maximum(over, under)
    if excess.size == 0 or excess.max() <= 0:
        return None
    worst = int(np.argmax(excess))
    row, name = model.matrix[[worst]].toarray().ravel(), model.row_names[worst]
    if over[worst] > 0:
        return Conflict(row, int(model.row_upper[worst]), name)
    return Conflict(-row, -int(model.row_lower[worst]), name)


def cut_off(model: LinearModel, broken: Conflict, values: Float64, solver: str) -> LinearModel:
    """Add the cover inequality that a broken row implies, and first the row itself if the model does not have it.

    The activity stays too large unless a column at 1 with a positive coefficient goes to 0, or a column at 0 with a
    negative coefficient goes to 1: at least one of these has to change. For a column that is no binary the inequality
    would not be valid: that is an error.
    """
    columns = np.flatnonzero(broken.coefficients).astype(np.int64)
    coefficients = broken.coefficients[columns]
    if not broken.name:
        # no event times and no choice that could help: the row says 0 <= a negative number
        model = _with_row(model, columns, -coefficients, -float(broken.upper))
    if np.any(model.column_lower[columns] < 0) or np.any(model.column_upper[columns] > 1):
        name = broken.name or model.row_names[-1]
        raise SolverError(f"{solver}: row {name} is broken within the tolerance")
    at_one = values[columns] > 0.5
    to_zero, to_one = columns[(coefficients > 0) & at_one], columns[(coefficients < 0) & ~at_one]
    signs = np.concatenate([np.full(to_zero.size, -1), np.full(to_one.size, 1)]).astype(np.int64)
    return _with_row(model, np.concatenate([to_zero, to_one]), signs, 1.0 - to_zero.size)


def _with_row(model: LinearModel, columns: Int64, signs: Int64, lower: float) -> LinearModel:
    entry = sparse.coo_array((signs, (np.zeros_like(columns), columns)), shape=(1, model.num_columns))
    matrix = sparse.csr_array(sparse.vstack([model.matrix, entry], format="csr"))
    matrix.sum_duplicates()
    return replace(
        model,
        matrix=matrix,
        row_lower=np.append(model.row_lower, lower),
        row_upper=np.append(model.row_upper, np.inf),
        row_names=(*model.row_names, f"cut_{model.num_rows}"),
    )


@dataclass(frozen=True, eq=False)
class DifferenceSystem:
    """The rows and bounds of a model's continuous columns, as arcs ``time[head] <= time[tail] + weight``.

    `times` are the continuous columns, shape (k,); `integers` is the model's matrix without them, shape (rows, n). The
    origin, whose time is 0, is the node after the last continuous column. An arc's weight depends on the integer
    columns: ``constants - (signs * model rows) @ x``; arcs of column bounds have row -1, which is none.
    """

    times: Int64
    integers: sparse.csr_array[Any, tuple[int, int]]
    tails: Int64
    heads: Int64
    rows: Int64
    signs: Int64
    constants: Int64

    @property
    def is_row_in(self) -> Bool:
        """Whether each row of the model has a continuous column."""
        found = np.zeros(self.integers.shape[0], dtype=np.bool_)
        found[self.rows[self.rows >= 0]] = True
        return found

    def settle(self, values: Float64) -> Float64 | Conflict:
        """Return the values with the latest times that keep all rows and bounds exactly, or why there are none.

        Integer columns of `values`, shape (n,), hold integers; what continuous ones hold plays no part.
        """
        integers = np.rint(values).astype(np.int64)
        integers[self.times] = 0
        activity = self.integers @ integers
        used = np.where(self.rows >= 0, activity[self.rows] if activity.size else 0, 0)
        weights = self.constants - self.signs * used
        origin = self.times.size
        distance = np.full(origin + 1, _UNREACHED, dtype=np.int64)
        distance[origin] = 0
        arrived_by = np.full(origin + 1, -1, dtype=np.int64)
        # every time has an upper bound, so all nodes are reached from the origin in the first round
        for _ in range(origin + 2):
            offered = distance[self.tails] + weights
            shortened = distance.copy()
            np.minimum.at(shortened, self.heads, offered)
            news = (offered == shortened[self.heads]) & (offered < distance[self.heads])
            if not news.any():
                settled = values.copy()
                settled[self.times] = distance[:origin]
                return settled
            arrived_by[self.heads[news]] = np.flatnonzero(news)
            distance = shortened
            cycle = self._find_cycle(arrived_by, origin) if distance[origin] < 0 else []
            if cycle and weights[cycle].sum() < 0:
                return self._add_up(cycle)
        last = int(self.heads[news][0])
        for _ in range(origin + 1):  # what still comes closer after that many rounds does so around a cycle
            last = int(self.tails[arrived_by[last]])
        return self._add_up(self._find_cycle(arrived_by, last))

    def _find_cycle(self, arrived_by: Int64, node: int) -> list[int]:
        """Arcs of the cycle met on the way back from a node; empty if the way ends."""
        position: dict[int, int] = {}
        arcs: list[int] = []
        while node not in position:
            position[node] = len(arcs)
            arc = int(arrived_by[node])
            if arc < 0:
                return []
            arcs.append(arc)
            node = int(self.tails[arc])
        return arcs[position[node] :]

    def _add_up(self, cycle: list[int]) -> Conflict:
        with_row = [arc for arc in cycle if self.rows[arc] >= 0]
        parts = self.integers[self.rows[with_row]].T @ self.signs[with_row]
        return Conflict(np.asarray(parts, dtype=np.int64), int(self.constants[cycle].sum()))


def find_differences(model: LinearModel) -> DifferenceSystem | None:
    """Return the system of a model's continuous columns; None if it has none, or they occur in other ways."""
    times = np.flatnonzero(~model.integrality)
    if times.size == 0:
        return None
    part = sparse.csr_array(model.matrix[:, times])
    part.sort_indices()
    entries = np.diff(part.indptr)
    sums = part @ np.ones(times.size, dtype=np.int64)
    bounds = np.concatenate([model.column_lower[times], model.column_upper[times]])
    if np.any(np.abs(part.data) != 1) or np.any(entries > 2) or np.any((entries == 2) & (sums != 0)):
        return None
    if np.any(bounds % 1):
        return None
    integers: Any = model.matrix @ sparse.diags_array(
        model.integrality.astype(np.int64), format="csr", dtype=np.int64
    )
    origin = times.size
    plus, minus = np.full((2, model.num_rows), origin)
    row_of_entry = np.repeat(np.arange(model.num_rows), entries)
    plus[row_of_entry[part.data > 0]] = part.indices[part.data > 0]
    minus[row_of_entry[part.data < 0]] = part.indices[part.data < 0]
    above = np.flatnonzero((entries > 0) & np.isfinite(model.row_upper))
    below = np.flatnonzero((entries > 0) & np.isfinite(model.row_lower))
    ones, nodes, zeros = np.ones(model.num_rows), np.arange(origin), np.zeros(origin)
    # tails, heads, rows, signs and constants of upper and lower sides of rows, then of columns
    arcs = (
        (minus[above], plus[above], above, ones[above], model.row_upper[above]),
        (plus[below], minus[below], below, -ones[below], -model.row_lower[below]),
        (zeros + origin, nodes, zeros - 1, zeros, model.column_upper[times]),
        (nodes, zeros + origin, zeros - 1, zeros, -model.column_lower[times]),
    )
    parts = (np.concatenate(part).astype(np.int64) for part in zip(*arcs, strict=True))
    return DifferenceSystem(times.astype(np.int64), integers, *parts)
