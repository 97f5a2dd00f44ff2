"""Formulation `columns`: the restricted master problem of column generation, one binary per known column.

The mathematics, with the proof of the bound, is on the page ``columns.md``; row numbers refer to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mipplan_formulations.linear import LinearModel
from mipplan_formulations.programme import ColumnPool

Sparse = sparse.csr_array[Any, tuple[int, int]]


def build(pool: ColumnPool) -> LinearModel:
    """Build the model.

    Parameters
    ----------
    pool : ColumnPool

    Returns
    -------
    LinearModel
        Columns: a binary ``x_{p}_{j}`` per column, project by project; then, if projects can be left out, a
        binary ``out_{p}`` each; then, if capacities are not firm, an integer ``excess_{r}`` each. Rows: one per
        project (1), in order, then one per resource (2), in order.
    """
    counts = [columns.cost.size for columns in pool.projects]
    projects, known = len(counts), sum(counts)
    owner = np.repeat(np.arange(projects), counts)
    out = projects if pool.forgone is not None else 0
    resources = len(pool.resources)
    usage = np.concatenate([columns.usage for columns in pool.projects])
    excess = resources if pool.excess is not None else 0
    sparing = sparse.eye_array(projects, out, dtype=np.int64, format="csr")
    beyond = -sparse.eye_array(resources, excess, dtype=np.int64, format="csr")
    blocks = [[_ones(owner, projects), sparing, None], [sparse.csr_array(usage.T), None, beyond]]
    matrix: Sparse = sparse.block_array(blocks, format="csr").astype(np.int64)
    matrix.eliminate_zeros()
    matrix.sort_indices()
    binaries = known + out
    largest = np.array([columns.usage.max(axis=0, initial=0) for columns in pool.projects])
    return LinearModel(
        objective=np.concatenate(
            [
                *(columns.cost for columns in pool.projects),
                np.array(pool.forgone or (), dtype=np.int64),
                np.array(pool.excess or (), dtype=np.int64),
            ]
        ),
        matrix=matrix,
        row_lower=np.concatenate([np.ones(projects), np.full(resources, -np.inf)]),
        row_upper=np.concatenate([np.ones(projects), [float(r.capacity) for r in pool.resources]]),
        column_lower=np.zeros(binaries + excess),
        column_upper=np.concatenate([np.ones(binaries), largest.sum(axis=0)[:excess].astype(np.float64)]),
        integrality=np.ones(binaries + excess, dtype=np.bool_),
        column_names=(
            *(f"x_{p}_{j}" for p, count in enumerate(counts) for j in range(count)),
            *(f"out_{p}" for p in range(out)),
            *(f"excess_{r}" for r in range(excess)),
        ),
        row_names=(*(f"one_{p}" for p in range(projects)), *(f"capacity_{r}" for r in range(resources))),
        name="columns",
    )


def decode(pool: ColumnPool, model: LinearModel, values: NDArray[np.float64]) -> tuple[int | None, ...]:
    """Read the chosen column of every project off a solution; None for a project left out.

    Raises
    ------
    ValueError
        If the values are no solution: wrong length, not one column per project.
    """
    if values.shape != (model.num_columns,):
        raise ValueError(f"expected {model.num_columns} values, got shape {values.shape}")
    chosen: list[int | None] = []
    start = 0
    for project, columns in enumerate(pool.projects):
        taken = np.flatnonzero(values[start : start + columns.cost.size] > 0.5)
        start += columns.cost.size
        if taken.size > 1 or (taken.size == 0 and pool.forgone is None):
            raise ValueError(f"project {project} has {taken.size} columns instead of one")
        chosen.append(int(taken[0]) if taken.size else None)
    return tuple(chosen)


def encode(pool: ColumnPool, model: LinearModel, chosen: Sequence[int | None]) -> NDArray[np.float64]:
    """Write a column per project as values of the built model's columns; inverse of `decode`."""
    values = np.zeros(model.num_columns)
    start = 0
    known = sum(columns.cost.size for columns in pool.projects)
    for project, (columns, column) in enumerate(zip(pool.projects, chosen, strict=True)):
        values[known + project if column is None else start + column] = 1.0
        start += columns.cost.size
    if pool.excess is not None:
        capacity = np.array([resource.capacity for resource in pool.resources], dtype=np.int64)
        beyond = np.maximum(pool.evaluate(chosen).usage - capacity, 0)
        values[model.num_columns - capacity.size :] = beyond
    return values


def _ones(owner: NDArray[np.int64], projects: int) -> Sparse:
    """A row per project with ones at its columns, shape (projects, columns)."""
    columns = np.arange(owner.size)
    entries = (np.ones(owner.size, dtype=np.int64), (owner, columns))
    return sparse.csr_array(sparse.coo_array(entries, shape=(projects, owner.size)))
