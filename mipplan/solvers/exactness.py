"""Closing the gap between a solver's tolerance and integer arithmetic.

A floating-point solver may return a solution that breaks a row by less than its tolerance: in a row of
nanoseconds, a deadline missed by 1 ns. Where all columns of a row are integer, the row is judged exactly here,
and a solution that breaks it is cut off together with every solution that breaks it for the same reason.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mipplan.core import SolverError
from mipplan.solvers.differences import Conflict
from mipplan_formulations import LinearModel


@dataclass(frozen=True)
class BrokenRow:
    """A row that a solution breaks in exact arithmetic.

    Attributes
    ----------
    index : int
    above : bool
        True: the activity exceeds the upper side; False: it falls below the lower one.
    """

    index: int
    above: bool


def find_broken_row(model: LinearModel, values: NDArray[np.float64]) -> BrokenRow | None:
    """Return the row without continuous columns that is broken most in integer arithmetic, if any is.

    Parameters
    ----------
    model : LinearModel
    values : float64 array, shape (n,)
        Integer columns hold integers.
    """
    integers = np.where(model.integrality, values, 0).astype(np.int64)
    activity = model.matrix @ integers
    judged = (abs(model.matrix).sign() @ (~model.integrality).astype(np.int64)) == 0
    over = np.where(judged, activity - model.row_upper, -np.inf)
    under = np.where(judged, model.row_lower - activity, -np.inf)
    excess = np.maximum(over, under)
    if excess.size == 0 or excess.max() <= 0:
        return None
    worst = int(np.argmax(excess))
    return BrokenRow(worst, bool(over[worst] > 0))


def add_conflict(model: LinearModel, conflict: Conflict) -> tuple[LinearModel, BrokenRow]:
    """Add the implied row of a conflict, and say that it is the one that is broken."""
    columns = np.flatnonzero(conflict.coefficients).astype(np.int64)
    # no event times and no choice that could help: the row says 0 <= a negative number
    extended = _with_row(model, columns, -conflict.coefficients[columns], -float(conflict.upper))
    return extended, BrokenRow(model.num_rows, above=False)


def cut_off(model: LinearModel, broken: BrokenRow, values: NDArray[np.float64], solver: str) -> LinearModel:
    """Add the cover inequality that a broken row implies.

    Suppose the activity is too large. It stays so unless a column at 1 with a positive coefficient goes to 0,
    or a column at 0 with a negative coefficient goes to 1: at least one of these has to change. Too small: the
    same with the signs exchanged.

    Parameters
    ----------
    model : LinearModel
        Whose row of that index is broken; it may have further rows.
    broken : BrokenRow
    values : float64 array, shape (n,)
    solver : str
        Named in the error.

    Raises
    ------
    SolverError
        If a column of the row is no binary, for which the inequality would not be valid.
    """
    row = slice(model.matrix.indptr[broken.index], model.matrix.indptr[broken.index + 1])
    columns = model.matrix.indices[row].astype(np.int64)
    coefficients = model.matrix.data[row] if broken.above else -model.matrix.data[row]
    if np.any(model.column_lower[columns] < 0) or np.any(model.column_upper[columns] > 1):
        raise SolverError(f"{solver}: row {model.row_names[broken.index]} is broken within the tolerance")
    at_one = values[columns] > 0.5
    to_zero, to_one = columns[(coefficients > 0) & at_one], columns[(coefficients < 0) & ~at_one]
    signs = np.concatenate([np.full(to_zero.size, -1), np.full(to_one.size, 1)]).astype(np.int64)
    return _with_row(model, np.concatenate([to_zero, to_one]), signs, 1.0 - to_zero.size)


def _with_row(
    model: LinearModel, columns: NDArray[np.int64], signs: NDArray[np.int64], lower: float
) -> LinearModel:
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
