"""Formulation `joint`: all projects of a programme in one model.

The mathematics is on the page ``joint.md``; row numbers refer to it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mipplan_formulations import paths
from mipplan_formulations.choices import read_choices, write_choices
from mipplan_formulations.linear import LinearModel
from mipplan_formulations.programme import Programme, Selections
from mipplan_formulations.rows import RowCollector

Sparse = sparse.csr_array[Any, tuple[int, int]]


def build(programme: Programme) -> LinearModel:
    """Build the model: every project as `paths` writes it, side by side, and a row per shared resource.

    Parameters
    ----------
    programme : Programme

    Returns
    -------
    LinearModel
        Columns: a binary ``p{i}_y_{v}_{o}`` per mode, project by project; then, if projects can be left out, a
        binary ``p{i}_out`` each.
    """
    parts = [paths.build(project) for project in programme.projects]
    blocks = sparse.block_diag([part.matrix for part in parts], format="csr")
    out = _leave_out(programme, parts)
    shared = _shared_rows(programme)
    top = sparse.hstack([blocks, out], format="csr")
    matrix: Sparse = sparse.vstack([top, shared.join(top.shape[1])], format="csr").astype(np.int64)
    matrix.sort_indices()
    matrix.eliminate_zeros()
    count = matrix.shape[1]
    return LinearModel(
        objective=np.concatenate(
            [*(part.objective for part in parts), np.array(programme.forgone or (), dtype=np.int64)]
        ),
        matrix=matrix,
        row_lower=np.concatenate([*(part.row_lower for part in parts), shared.lower]),
        row_upper=np.concatenate([*(part.row_upper for part in parts), shared.upper]),
        column_lower=np.zeros(count),
        column_upper=np.ones(count),
        integrality=np.ones(count, dtype=np.bool_),
        column_names=(
            *(f"p{i}_{name}" for i, part in enumerate(parts) for name in part.column_names),
            *(f"p{i}_out" for i in range(out.shape[1])),
        ),
        row_names=(
            *(f"p{i}_{name}" for i, part in enumerate(parts) for name in part.row_names),
            *shared.names,
        ),
        name="joint",
    )


def decode(
    programme: Programme, model: LinearModel, values: NDArray[np.float64]
) -> tuple[tuple[int, ...] | None, ...]:
    """Read the chosen mode of every activity of every project off a solution; None for a project left out.

    Raises
    ------
    ValueError
        If the values are no solution: wrong length, not binary within 1e-5, not one mode per activity.
    """
    if values.shape != (model.num_columns,):
        raise ValueError(f"expected {model.num_columns} values, got shape {values.shape}")
    chosen: list[tuple[int, ...] | None] = []
    start = 0
    first_out = model.num_columns - (len(programme.projects) if programme.forgone is not None else 0)
    for index, project in enumerate(programme.projects):
        part = values[start : start + project.num_binaries]
        start += project.num_binaries
        if programme.forgone is not None and values[first_out + index] > 0.5:
            chosen.append(None)
        else:
            chosen.append(read_choices(project, paths.build(project), part))
    return tuple(chosen)


def encode(programme: Programme, model: LinearModel, selections: Selections) -> NDArray[np.float64]:
    """Write a choice of modes per project as values of the built model's columns; inverse of `decode`."""
    values = np.zeros(model.num_columns)
    start = 0
    first_out = model.num_columns - len(programme.projects)
    for index, (project, selection) in enumerate(zip(programme.projects, selections, strict=True)):
        if selection is None:
            values[first_out + index] = 1.0
        else:
            block = slice(start, start + project.num_binaries)
            values[block] = write_choices(project, paths.build(project), selection)
        start += project.num_binaries
    return values


def _leave_out(programme: Programme, parts: list[LinearModel]) -> Sparse:
    """Coefficients of the columns ``p{i}_out``: with the column at 1 and no mode chosen, every row is kept."""
    if programme.forgone is None:
        return sparse.csr_array((sum(part.num_rows for part in parts), 0), dtype=np.int64)
    filled = [sparse.coo_array(_filling(part)) for part in parts]
    return sparse.csr_array(sparse.block_diag(filled, format="csr"))


def _filling(part: LinearModel) -> NDArray[np.int64]:
    """What fills each row of a project with no mode chosen, shape (rows, 1).

    1 where a row asks for a mode; a negative side where no choice can keep the row.
    """
    filled = np.where(np.isfinite(part.row_lower), 1.0, np.minimum(part.row_upper, 0.0))
    return filled.astype(np.int64).reshape(-1, 1)


def _shared_rows(programme: Programme) -> RowCollector:
    """Rows (6); left out where even the largest uses of all projects fit."""
    rows = RowCollector()
    usage = [activity.usage for project in programme.projects for activity in project.activities]
    most = np.sum([part.max(axis=0) for part in usage], axis=0) if usage else np.zeros(0)
    everything = np.concatenate(usage)
    for r, resource in enumerate(programme.resources):
        if most[r] > resource.capacity:
            using = np.flatnonzero(everything[:, r]).astype(np.int64)
            rows.add(f"shared_{r}", using, everything[using, r], upper=resource.capacity)
    return rows
