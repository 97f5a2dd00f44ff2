"""The linear model refuses what solvers would misread."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from mipplan_formulations import LinearModel
from random_problems import binary_model


def model() -> LinearModel:
    return binary_model([3, 4], [[1, 2], [5, 0]], [1, -np.inf], [np.inf, 5])


def test_sizes() -> None:
    assert (model().num_columns, model().num_rows, model().matrix.nnz) == (2, 2, 3)


def test_arrays_become_read_only() -> None:
    with pytest.raises(ValueError, match="read-only"):
        model().objective[0] = 1


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"column_upper": np.array([1.0, np.inf])}, "every column needs finite bounds"),
        ({"column_lower": np.array([2.0, 0.0])}, "column x0: lower above upper bound"),
        ({"column_upper": np.array([1.0, 1.5])}, "bounds of integer columns"),
        ({"integrality": np.array([True, False])}, "only integer columns may have an objective"),
        ({"row_upper": np.array([np.inf, 5.5])}, "finite sides must be integers"),
        ({"row_upper": np.array([np.inf, np.nan])}, "neither nan"),
        ({"row_lower": np.array([1.0, 6.0])}, "row r1: lower above upper side"),
        ({"objective": np.array([1.0, 2.0])}, "objective: expected int64"),
        ({"row_lower": np.zeros(3)}, "row_upper: expected float64 of shape"),
        ({"matrix": sparse.csc_array(np.eye(2, dtype=np.int64))}, "csr format"),
        ({"matrix": sparse.csr_array(np.eye(3, dtype=np.int64))}, "matrix: expected int64 of shape"),
        ({"column_names": ("x", "x")}, "column_names: expected 2 different names"),
        ({"row_names": ("a b", "c")}, "without blanks"),
        ({"objective": np.array([2**53 + 1, 0])}, "beyond 2\\*\\*53"),
    ],
)
def test_faults(changes: dict, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        replace(model(), **changes)


def test_stored_zeros_are_refused() -> None:
    matrix = model().matrix.copy()
    matrix.data = np.array([1, 0, 5])
    with pytest.raises(ValueError, match="zero entries"):
        replace(model(), matrix=matrix)


def test_a_model_needs_a_column() -> None:
    with pytest.raises(ValueError, match="at least one column"):
        binary_model([], np.zeros((0, 0)), [], [])
