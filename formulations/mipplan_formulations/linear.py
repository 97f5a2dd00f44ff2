"""A bounded mixed-integer linear model as plain arrays, for any solver or file format, and how one is built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

Int32 = NDArray[np.int32]
Int64 = NDArray[np.int64]
Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]

LARGEST_MAGNITUDE = 2**53
"""Largest number allowed anywhere in a problem: up to here float64 holds every integer exactly."""


@dataclass(frozen=True, eq=False)
class LinearModel:
    """Minimise ``objective @ x`` subject to ``row_lower <= matrix @ x <= row_upper`` and column bounds.

    The objective has integer coefficients, on integer columns only, and no constant: its value at a solution
    is an integer, so two solvers agree exactly or not at all. Every column has finite bounds, because some
    solver interfaces report an unbounded model as infeasible. The model takes over the arrays it is given and
    makes them read-only. Raises `ValueError` naming every fault, one a line.

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
    """

    objective: Int64
    matrix: sparse.csr_array[Any, tuple[int, int]]
    row_lower: Float64
    row_upper: Float64
    column_lower: Float64
    column_upper: Float64
    integrality: Bool
    column_names: tuple[str, ...]
    row_names: tuple[str, ...]
    name: str = field(default="model")

    def __post_init__(self) -> None:
        raise_if_any(_shape_faults(self) or _value_faults(self))
        _freeze(self)

    def __repr__(self) -> str:
        rows, columns = self.matrix.shape
        return f"<LinearModel {self.name}: {rows} rows, {columns} columns, {self.matrix.nnz} coefficients>"

    def renumbered(self, **numbers: NDArray[Any]) -> LinearModel:
        """Return the same model with other numbers: ``objective``, ``entries``, or sides and bounds by their names.

        Names, shapes and where the coefficients stand are those of this model and not checked again; that takes
        longer than everything else when a model is written anew many times a second.
        Raises `ValueError` if a shape or type differs, a coefficient is zero, or a value is not allowed.
        """
        mine = {**vars(self), "entries": self.matrix.data}
        faults = [
            f"{label}: expected {mine[label].dtype} of shape {mine[label].shape}, got {array.dtype} {array.shape}"
            for label, array in numbers.items()
            if mine[label].dtype != array.dtype or mine[label].shape != array.shape
        ]
        entries = numbers.pop("entries", self.matrix.data)
        if faults or not np.all(entries):
            raise ValueError("\n".join(faults or ["matrix: has zero entries"]))
        model = object.__new__(LinearModel)
        pattern = (entries, self.matrix.indices, self.matrix.indptr)
        matrix = sparse.csr_array(pattern, shape=self.matrix.shape)
        model.__dict__.update(vars(self), matrix=matrix, **numbers)
        raise_if_any(_value_faults(model))
        _freeze(model)
        return model

    @property
    def num_columns(self) -> int:
        """Number of columns n."""
        return int(self.objective.shape[0])

    @property
    def num_rows(self) -> int:
        """Number of rows k."""
        return int(self.row_lower.shape[0])


class ModelBuilder:
    """Columns and rows of a model under construction.

    Python is entered once per block of columns and once per row, never once per coefficient, so that models with
    hundreds of thousands of coefficients are built in a fraction of a second.
    """

    def __init__(self) -> None:
        self._column_names: list[str] = []
        self._blocks: list[tuple[Int64, Float64, Float64, Bool]] = []
        self._rows: list[tuple[str, Int64, Int64, float, float]] = []

    def add_columns(
        self,
        names: Iterable[str],
        *,
        cost: ArrayLike = 0,
        lower: ArrayLike = 0,
        upper: ArrayLike = 1,
        integral: bool = True,
    ) -> Int64:
        """Append columns, binaries if nothing else is said, and return their places; numbers may differ by column."""
        first = len(self._column_names)
        self._column_names.extend(names)
        count = len(self._column_names) - first
        bounds = [np.full(count, bound, dtype=np.float64) for bound in (lower, upper)]
        block = (np.full(count, cost, dtype=np.int64), bounds[0], bounds[1], np.full(count, integral))
        self._blocks.append(block)
        return np.arange(first, first + count, dtype=np.int64)

    def add_row(
        self, name: str, columns: Int64, coefficients: Int64, *, lower: float = -np.inf, upper: float = np.inf
    ) -> None:
        """Append ``lower <= coefficients @ x[columns] <= upper``; no column may occur twice."""
        self._rows.append((name, columns, coefficients, lower, upper))

    def build(self, name: str) -> LinearModel:
        """Return the model of all columns and rows so far."""
        parts = zip(*self._blocks, strict=True)
        objective, column_lower, column_upper, integrality = map(np.concatenate, parts)
        names, columns, coefficients, lower, upper = zip(*self._rows, strict=True) if self._rows else [()] * 5
        none = np.zeros(0, dtype=np.int64)  # np.concatenate refuses an empty list
        starts = np.cumsum([0, *(own.size for own in columns)])
        entries = (np.concatenate([none, *coefficients]), np.concatenate([none, *columns]), starts)
        # Rows stand one after the other already, so there is nothing to sort but within them.
        matrix = sparse.csr_array(entries, shape=(len(names), len(self._column_names)))
        matrix.eliminate_zeros()
        matrix.sort_indices()
        return LinearModel(
            objective=objective,
            matrix=matrix,
            row_lower=np.array(lower, dtype=np.float64),
            row_upper=np.array(upper, dtype=np.float64),
            column_lower=column_lower,
            column_upper=column_upper,
            integrality=integrality,
            column_names=tuple(self._column_names),
            row_names=names,
            name=name,
        )


def _freeze(model: LinearModel) -> None:
    matrix = model.matrix
    for array in (*vars(model).values(), matrix.data, matrix.indices, matrix.indptr):
        if isinstance(array, np.ndarray):
            array.flags.writeable = False


def _shape_faults(model: LinearModel) -> list[str]:
    """Find wrong types and shapes; the values are only looked at once these are right."""
    columns, rows = model.objective.shape[0], model.row_lower.shape[0]
    faults = [] if columns else ["a model needs at least one column"]
    for label, dtype, length in (
        ("objective", np.int64, columns),
        ("row_lower", np.float64, rows),
        ("row_upper", np.float64, rows),
        ("column_lower", np.float64, columns),
        ("column_upper", np.float64, columns),
        ("integrality", np.bool_, columns),
    ):
        array = getattr(model, label)
        if array.dtype != dtype or array.shape != (length,):
            wanted = f"{np.dtype(dtype)} of shape ({length},)"
            faults.append(f"{label}: expected {wanted}, got {array.dtype} {array.shape}")
    matrix = model.matrix
    if getattr(matrix, "format", None) != "csr":
        faults.append("matrix: expected a sparse matrix in csr format")
    elif matrix.dtype != np.int64 or matrix.shape != (rows, columns):
        wanted = f"int64 of shape ({rows}, {columns})"
        faults.append(f"matrix: expected {wanted}, got {matrix.dtype} {matrix.shape}")
    elif not matrix.has_canonical_format or np.any(matrix.data == 0):
        faults.append("matrix: has duplicate, unsorted or zero entries; call sum_duplicates, eliminate_zeros")
    for label, length in (("column_names", columns), ("row_names", rows)):
        names = getattr(model, label)
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
    for label, forbidden in (("row_lower", np.inf), ("row_upper", -np.inf)):
        side = getattr(model, label)
        finite = side[np.isfinite(side)]
        if np.isnan(side).any() or np.any(side == forbidden):
            faults.append(f"{label}: neither nan nor {forbidden} is allowed")
        if np.any(finite % 1):
            faults.append(f"{label}: finite sides must be integers")
    if not faults and np.any(model.row_lower > model.row_upper):
        worst = int(np.argmax(model.row_lower > model.row_upper))
        faults.append(f"row {model.row_names[worst]}: lower above upper side")
    return faults


# ------------------------------------------------- checks of the numbers, arrays and names of problems


def read_integers(values: ArrayLike, ndim: int, place: str, faults: list[str]) -> Int64:
    """Turn into a read-only int64 array, noting faults; floats are refused: they would hide rounding."""
    array = np.asarray(values)
    if array.size and array.dtype.kind not in "iu":
        faults.append(f"{place}: must be integers, not {array.dtype}")
        return np.zeros((0,) * ndim, dtype=np.int64)
    if array.ndim != ndim:
        faults.append(f"{place}: must have {ndim} dimension(s), not {array.ndim}")
        return np.zeros((0,) * ndim, dtype=np.int64)
    integers = array.astype(np.int64, copy=False)
    # Seen without a sign, negative numbers are the largest of all.
    if array.size and integers.view(np.uint64).max() > LARGEST_MAGNITUDE:
        faults.append(f"{place}: every number must be between 0 and 2**53")
    if integers is not array or isinstance(values, (list, tuple)):  # made here, so nobody else holds it
        integers.flags.writeable = False
    return read_only(integers)


def set_integers(part: object, prefix: str, faults: list[str], **dimensions: int) -> None:
    """Turn fields of a frozen part into read-only int64 arrays of these dimensions, as `read_integers` does."""
    for name, ndim in dimensions.items():
        array = read_integers(getattr(part, name), ndim, f"{prefix}{name}", faults)
        object.__setattr__(part, name, array)


def check_number(value: int, place: str, faults: list[str]) -> None:
    """Note a fault unless the value is an integer between 0 and the largest magnitude allowed."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        faults.append(f"{place}: must be an integer, not {value!r}")
    elif not 0 <= value <= LARGEST_MAGNITUDE:
        faults.append(f"{place}: must be between 0 and 2**53, not {value}")


def repeated_names(kind: str, parts: Sequence[Any]) -> Iterator[str]:
    """Yield a fault for every part whose name another had before."""
    seen: set[str] = set()
    for part in parts:
        if part.name in seen:
            yield f"two {kind} entries are called {part.name!r}"
        seen.add(part.name)


def overuse(resources: Sequence[Any], usage: Iterable[int]) -> Iterator[str]:
    """A sentence per resource of which more is used than there is."""
    for resource, used in zip(resources, usage, strict=True):
        if used > resource.capacity:
            yield f"resource {resource.name!r}: {used} used of {resource.capacity}"


def read_only(array: NDArray[Any]) -> NDArray[Any]:
    """Return the array itself if nobody can write to it, else a private copy that nobody can."""
    if not array.flags.writeable:
        return array
    private = array.copy()
    private.flags.writeable = False
    return private


def raise_if_any(faults: list[str]) -> None:
    """Raise one ValueError that names all faults, one a line."""
    if faults:
        raise ValueError("\n".join(faults))


def thin_out(values: Int64, most: int) -> Int64:
    """Keep at most `most` of the increasing values, evenly by rank."""
    if values.size <= most:
        return values
    return values[np.unique(np.linspace(0, values.size - 1, most).round().astype(np.int64))]
