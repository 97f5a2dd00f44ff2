"""A bounded mixed-integer linear model as plain arrays, for any solver or file format."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mipplan_formulations.arrays import LARGEST_MAGNITUDE


@dataclass(frozen=True, eq=False)
class LinearModel:
    """Minimise ``objective @ x`` subject to ``row_lower <= matrix @ x <= row_upper`` and column bounds.

    The objective has integer coefficients, on integer columns only, and no constant: its value at a solution
    is an integer, so two solvers agree exactly or not at all. Every column has finite bounds, because some
    solver interfaces report an unbounded model as infeasible. The model takes over the arrays it is given and
    makes them read-only.

    Attributes
    ----------
    objective : int64 array, shape (n,)
    matrix : csr_array of int64, shape (k, n)
        Canonical: no duplicate entries, no stored zeros, column indices sorted.
    row_lower, row_upper : float64 arrays, shape (k,)
        Infinite where a row has no such side; finite sides are integers.
    column_lower, column_upper : float64 arrays, shape (n,)
        Finite; integers for integer columns.
    integrality : bool array, shape (n,)
        True for integer columns.
    column_names, row_names : tuple of str
        Unique, without blanks, fit for LP and MPS files.
    name : str

    Raises
    ------
    ValueError
        Naming every fault, one a line.
    """

    objective: NDArray[np.int64]
    matrix: sparse.csr_array[Any, tuple[int, int]]
    row_lower: NDArray[np.float64]
    row_upper: NDArray[np.float64]
    column_lower: NDArray[np.float64]
    column_upper: NDArray[np.float64]
    integrality: NDArray[np.bool_]
    column_names: tuple[str, ...]
    row_names: tuple[str, ...]
    name: str = field(default="model")

    def __post_init__(self) -> None:
        faults = _shape_faults(self) or _value_faults(self)
        if faults:
            raise ValueError("\n".join(faults))
        for array in _arrays_of(self):
            array.flags.writeable = False

    def renumbered(self, **numbers: NDArray[Any]) -> LinearModel:
        """Return the same model with other numbers: ``objective``, ``entries``, or sides and bounds by their names.

        Names, shapes and where the coefficients stand are those of this model and not checked again; that takes
        longer than everything else when a model is written anew many times a second.

        Raises
        ------
        ValueError
            If a shape or type differs, a coefficient is zero, or a value is not allowed.
        """
        entries = numbers.pop("entries", self.matrix.data)
        faults = [
            f"{label}: expected {mine.dtype} of shape {mine.shape}, got {theirs.dtype} {theirs.shape}"
            for label, mine, theirs in [
                ("entries", self.matrix.data, entries),
                *((name, getattr(self, name), array) for name, array in numbers.items()),
            ]
            if mine.dtype != theirs.dtype or mine.shape != theirs.shape
        ]
        if faults or not np.all(entries):
            raise ValueError("\n".join(faults or ["matrix: has zero entries"]))
        model = object.__new__(LinearModel)
        model.__dict__.update(self.__dict__)
        pattern = (entries, self.matrix.indices, self.matrix.indptr)
        model.__dict__.update(numbers, matrix=sparse.csr_array(pattern, shape=self.matrix.shape))
        faults = _value_faults(model)
        if faults:
            raise ValueError("\n".join(faults))
        for array in _arrays_of(model):
            array.flags.writeable = False
        return model

    @property
    def num_columns(self) -> int:
        """Number of columns n."""
        return int(self.objective.shape[0])

    @property
    def num_rows(self) -> int:
        """Number of rows k."""
        return int(self.row_lower.shape[0])


def _arrays_of(model: LinearModel) -> list[NDArray[Any]]:
    matrix = model.matrix
    return [
        model.objective,
        matrix.data,
        matrix.indices,
        matrix.indptr,
        model.row_lower,
        model.row_upper,
        model.column_lower,
        model.column_upper,
        model.integrality,
    ]


def _shape_faults(model: LinearModel) -> list[str]:
    """Find wrong types and shapes; the values are only looked at once these are right."""
    columns, rows = model.objective.shape[0], model.row_lower.shape[0]
    faults = [] if columns else ["a model needs at least one column"]
    for label, array, dtype, length in (
        ("objective", model.objective, np.int64, columns),
        ("row_lower", model.row_lower, np.float64, rows),
        ("row_upper", model.row_upper, np.float64, rows),
        ("column_lower", model.column_lower, np.float64, columns),
        ("column_upper", model.column_upper, np.float64, columns),
        ("integrality", model.integrality, np.bool_, columns),
    ):
        if array.dtype != dtype or array.shape != (length,):
            faults.append(
                f"{label}: expected {np.dtype(dtype)} of shape ({length},), got {array.dtype} {array.shape}"
            )
    matrix = model.matrix
    if getattr(matrix, "format", None) != "csr":
        faults.append("matrix: expected a sparse matrix in csr format")
    elif matrix.dtype != np.int64 or matrix.shape != (rows, columns):
        faults.append(
            f"matrix: expected int64 of shape ({rows}, {columns}), got {matrix.dtype} {matrix.shape}"
        )
    elif not matrix.has_canonical_format or np.any(matrix.data == 0):
        faults.append("matrix: has duplicate, unsorted or zero entries; call sum_duplicates, eliminate_zeros")
    for label, names, length in (
        ("column_names", model.column_names, columns),
        ("row_names", model.row_names, rows),
    ):
        if len(names) != length or len(set(names)) != length:
            faults.append(f"{label}: expected {length} different names")
        elif any(not name or not name.isascii() or " " in name for name in names):
            faults.append(f"{label}: names must be ASCII without blanks")
    return faults


def _value_faults(model: LinearModel) -> list[str]:
    faults = []
    lower, upper, integral = model.column_lower, model.column_upper, model.integrality
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        faults.append("every column needs finite bounds")
    elif np.any(lower > upper):
        faults.append(f"column {model.column_names[int(np.argmax(lower > upper))]}: lower above upper bound")
    elif np.any(lower[integral] % 1) or np.any(upper[integral] % 1):
        faults.append("the bounds of integer columns must be integers")
    for label, numbers in (("objective", model.objective), ("matrix", model.matrix.data)):
        if np.any(np.abs(numbers) > LARGEST_MAGNITUDE):
            faults.append(f"{label}: numbers beyond 2**53 are not exact in floating point")
    if np.any(model.objective[~integral] != 0):
        faults.append("only integer columns may have an objective coefficient")
    for label, side, forbidden in (
        ("row_lower", model.row_lower, np.inf),
        ("row_upper", model.row_upper, -np.inf),
    ):
        finite = side[np.isfinite(side)]
        if np.isnan(side).any() or np.any(side == forbidden):
            faults.append(f"{label}: neither nan nor {forbidden} is allowed")
        if np.any(finite % 1):
            faults.append(f"{label}: finite sides must be integers")
    if not faults and np.any(model.row_lower > model.row_upper):
        worst = int(np.argmax(model.row_lower > model.row_upper))
        faults.append(f"row {model.row_names[worst]}: lower above upper side")
    return faults
