"""Collecting rows of a linear model, each as two short arrays, and joining them into one sparse matrix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mipplan_formulations.arrays import IntArray


class RowCollector:
    """Rows of a model under construction.

    Python is entered once per row, never once per coefficient, so that models with hundreds of thousands of
    coefficients are built in a fraction of a second.
    """

    def __init__(self) -> None:
        self._names: list[str] = []
        self._columns: list[IntArray] = []
        self._coefficients: list[IntArray] = []
        self._lower: list[float] = []
        self._upper: list[float] = []

    def add(
        self,
        name: str,
        columns: IntArray,
        coefficients: IntArray,
        *,
        lower: float = -np.inf,
        upper: float = np.inf,
    ) -> None:
        """Append ``lower <= coefficients @ x[columns] <= upper``; no column may occur twice."""
        self._names.append(name)
        self._columns.append(columns)
        self._coefficients.append(coefficients)
        self._lower.append(lower)
        self._upper.append(upper)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the rows so far."""
        return tuple(self._names)

    @property
    def lower(self) -> NDArray[np.float64]:
        """Lower sides of the rows so far."""
        return np.array(self._lower, dtype=np.float64)

    @property
    def upper(self) -> NDArray[np.float64]:
        """Upper sides of the rows so far."""
        return np.array(self._upper, dtype=np.float64)

    def join(self, num_columns: int) -> sparse.csr_array[Any, tuple[int, int]]:
        """Return all rows as a canonical csr matrix of int64, shape (number of rows, num_columns)."""
        none = [np.zeros(0, dtype=np.int64)]  # np.concatenate refuses an empty list
        starts = np.cumsum([0, *(columns.size for columns in self._columns)])
        columns = np.concatenate(self._columns or none)
        coefficients = np.concatenate(self._coefficients or none).astype(np.int64, copy=False)
        shape = (len(self._columns), num_columns)
        # rows stand one after the other already, so there is nothing to sort but within them
        matrix = sparse.csr_array((coefficients, columns, starts), shape=shape)
        matrix.eliminate_zeros()
        matrix.sort_indices()
        return matrix
