"""Checking a solver's solution by our own arithmetic before anyone sees it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan.core import SolverError
from mipplan.solvers.differences import Conflict, DifferenceSystem, find_differences
from mipplan.solvers.scaling import largest_coefficients
from mipplan_formulations import LinearModel

ROW_TOLERANCE = 1e-6
"""Largest violation of a row, relative to its largest coefficient."""
BOUND_TOLERANCE = 1e-6
"""Largest violation of a bound of a continuous column, relative to the bound but at least absolute."""
INTEGRALITY_TOLERANCE = 1e-5
"""Farthest an integer column may be from an integer; it is rounded, and the rows are checked afterwards."""


@dataclass(frozen=True, eq=False)
class CheckedSolution:
    """A solution that our own arithmetic confirms.

    Attributes
    ----------
    values : float64 array, shape (n,)
        Integer columns rounded to integers, continuous ones moved into their bounds, event times recomputed;
        read-only.
    objective : int
        Computed in integers.
    conflict : Conflict or None
        Why there are no event times for these integers: then it is no solution, even if within tolerances.
    """

    values: NDArray[np.float64]
    objective: int
    conflict: Conflict | None = None


def check_solution(model: LinearModel, values: NDArray[np.float64], solver: str) -> CheckedSolution:
    """Round, check integrality, bounds and rows, and recompute the objective.

    Parameters
    ----------
    model : LinearModel
    values : float64 array, shape (n,)
        As the solver gave them.
    solver : str
        Named in the error.

    Raises
    ------
    SolverError
        Naming the column or row that is wrong, and by how much.
    """
    if values.shape != (model.num_columns,) or not np.isfinite(values).all():
        raise SolverError(f"{solver}: expected {model.num_columns} finite values")
    rounded = _round_integers(model, values, solver)
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
    settled.flags.writeable = False
    return CheckedSolution(settled, _compute_objective(model, settled), conflict)


def _round_integers(model: LinearModel, values: NDArray[np.float64], solver: str) -> NDArray[np.float64]:
    nearest = np.rint(values)
    distance = np.where(model.integrality, np.abs(values - nearest), 0.0)
    worst = int(np.argmax(distance))
    if distance[worst] > INTEGRALITY_TOLERANCE:
        raise SolverError(f"{solver}: integer column {model.column_names[worst]} is {values[worst]:.12g}")
    return np.where(model.integrality, nearest, values)


def _check_bounds(model: LinearModel, values: NDArray[np.float64], solver: str) -> None:
    below, above = model.column_lower - values, values - model.column_upper
    allowed = BOUND_TOLERANCE * np.maximum(1.0, np.maximum(abs(model.column_lower), abs(model.column_upper)))
    # a rounded integer that is outside at all is outside by 1 or more
    excess = np.maximum(below, above) - np.where(model.integrality, 0.0, allowed)
    worst = int(np.argmax(excess))
    if excess[worst] > 0:
        raise SolverError(
            f"{solver}: column {model.column_names[worst]} is {values[worst]:.12g}, outside its bounds "
            f"{model.column_lower[worst]:.12g} to {model.column_upper[worst]:.12g}"
        )


def _check_rows(
    model: LinearModel, values: NDArray[np.float64], solver: str, differences: DifferenceSystem | None
) -> None:
    """Check all rows within the tolerance but those with event times, which have been judged exactly."""
    if model.num_rows == 0:
        return
    activity = model.matrix @ values
    violation = np.maximum(model.row_lower - activity, activity - model.row_upper)
    # below 1 an integer row cannot be broken by rounding, and an empty row has no scale of its own
    allowed = ROW_TOLERANCE * np.maximum(1.0, largest_coefficients(model))
    if differences is not None:
        allowed[differences.is_row_in] = np.inf
    worst = int(np.argmax(violation - allowed))
    if violation[worst] > allowed[worst]:
        raise SolverError(
            f"{solver}: row {model.row_names[worst]} is violated by {violation[worst]:.6g}; "
            f"{allowed[worst]:.3g} would be tolerated"
        )


def _compute_objective(model: LinearModel, values: NDArray[np.float64]) -> int:
    """Sum in Python's integers, which cannot overflow."""
    used = np.flatnonzero((model.objective != 0) & (values != 0))
    return sum(int(model.objective[j]) * int(values[j]) for j in used)
