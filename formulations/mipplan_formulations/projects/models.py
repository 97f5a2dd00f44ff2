"""Formulations of several projects: `joint`, all in one model, and `columns`, a known way per project.

`columns` is the restricted master problem of column generation. The mathematics, with the proof of the bound, is on the
pages ``joint.md`` and ``columns.md``; row numbers refer to them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from mipplan_formulations.linear import Float64, Int64, LinearModel, ModelBuilder
from mipplan_formulations.projects.problem import ColumnPool, MultiProjectProblem, Selections
from mipplan_formulations.time_cost import paths


def build_joint(problem: MultiProjectProblem) -> LinearModel:
    """Build the model `joint`: every project as `paths` writes it, side by side, and a row per shared resource.

    Columns: a binary ``p{i}_y_{v}_{o}`` per mode, project by project; then, if projects can be left out, a binary
    ``p{i}_out`` each. With that at 1 and no mode chosen, every row of the project is kept.
    """
    parts = [paths.build(project) for project in problem.projects]
    model = ModelBuilder()
    firsts = [
        model.add_columns([f"p{i}_{name}" for name in part.column_names], cost=part.objective)[0]
        for i, part in enumerate(parts)
    ]
    out = range(len(parts)) if problem.forgone is not None else ()
    places = model.add_columns([f"p{i}_out" for i in out], cost=problem.forgone or ())
    for i, part in enumerate(parts):
        matrix = part.matrix
        filling = _filling(part)
        for row, (start, stop) in enumerate(pairwise(matrix.indptr.tolist())):
            columns, coefficients = firsts[i] + matrix.indices[start:stop], matrix.data[start:stop]
            if out and filling[row]:
                columns = np.append(columns, places[i])
                coefficients = np.append(coefficients, filling[row])
            name = f"p{i}_{part.row_names[row]}"
            model.add_row(name, columns, coefficients, lower=part.row_lower[row], upper=part.row_upper[row])
    _add_shared_rows(problem, model)
    return model.build("joint")


def decode_joint(
    problem: MultiProjectProblem, model: LinearModel, values: Float64
) -> tuple[tuple[int, ...] | None, ...]:
    """Read the chosen mode of every activity of every project off a solution; None for a project left out.

    Raises `ValueError` if the values are no solution: wrong length, not binary within 1e-5, not one mode per
    activity.
    """
    if values.shape != (model.num_columns,):
        raise ValueError(f"expected {model.num_columns} values, got shape {values.shape}")
    chosen: list[tuple[int, ...] | None] = []
    start = 0
    first_out = model.num_columns - (len(problem.projects) if problem.forgone is not None else 0)
    for index, project in enumerate(problem.projects):
        part = values[start : start + project.num_binaries]
        start += project.num_binaries
        if problem.forgone is not None and values[first_out + index] > 0.5:
            chosen.append(None)
        else:
            chosen.append(paths.decode(project, paths.build(project), part))
    return tuple(chosen)


def encode_joint(problem: MultiProjectProblem, model: LinearModel, selections: Selections) -> Float64:
    """Write a choice of modes per project as values of the built model's columns; inverse of `decode_joint`."""
    values = np.zeros(model.num_columns)
    start = 0
    first_out = model.num_columns - len(problem.projects)
    for index, (project, selection) in enumerate(zip(problem.projects, selections, strict=True)):
        if selection is None:
            values[first_out + index] = 1.0
        else:
            block = slice(start, start + project.num_binaries)
            values[block] = paths.encode(project, paths.build(project), selection)
        start += project.num_binaries
    return values


def build_columns(pool: ColumnPool) -> LinearModel:
    """Build the model `columns`.

    Columns: a binary ``x_{p}_{j}`` per column, project by project; then, if projects can be left out, a binary
    ``out_{p}`` each; then, if capacities are not firm, an integer ``excess_{r}`` each. Rows: one per project (1), in
    order, then one per resource (2), in order.
    """
    counts = [columns.cost.size for columns in pool.projects]
    model = ModelBuilder()
    known = model.add_columns(
        (f"x_{p}_{j}" for p, count in enumerate(counts) for j in range(count)),
        cost=np.concatenate([columns.cost for columns in pool.projects]),
    )
    own = np.split(known, np.cumsum(counts)[:-1])
    out = model.add_columns([f"out_{p}" for p in range(len(pool.forgone or ()))], cost=pool.forgone or ())
    largest = np.sum([columns.usage.max(axis=0, initial=0) for columns in pool.projects], axis=0)
    resources = len(pool.excess or ())
    excess = model.add_columns(
        [f"excess_{r}" for r in range(resources)], cost=pool.excess or (), upper=largest[:resources]
    )
    for p, columns in enumerate(own):
        ways = np.append(columns, out[p : p + 1])
        model.add_row(f"one_{p}", ways, np.ones(ways.size, dtype=np.int64), lower=1, upper=1)
    usage = np.concatenate([columns.usage for columns in pool.projects])
    for r, resource in enumerate(pool.resources):
        beyond = excess[r : r + 1]
        coefficients = np.append(usage[:, r], np.full(beyond.size, -1))
        model.add_row(f"capacity_{r}", np.append(known, beyond), coefficients, upper=float(resource.capacity))
    return model.build("columns")


def decode_columns(pool: ColumnPool, model: LinearModel, values: Float64) -> tuple[int | None, ...]:
    """Read the chosen column of every project off a solution; None for a project left out.

    Raises `ValueError` if the values are no solution: wrong length, not one column per project.
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


def encode_columns(pool: ColumnPool, model: LinearModel, chosen: Sequence[int | None]) -> Float64:
    """Write a column per project as values of the built model's columns; inverse of `decode_columns`."""
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


def _filling(part: LinearModel) -> Int64:
    """What fills each row of a project with no mode chosen, shape (rows,).

    1 where a row asks for a mode; a negative side where no choice can keep the row.
    """
    filled = np.where(np.isfinite(part.row_lower), 1.0, np.minimum(part.row_upper, 0.0))
    return filled.astype(np.int64)


def _add_shared_rows(problem: MultiProjectProblem, model: ModelBuilder) -> None:
    """Rows (6) of `joint`; left out where even the largest uses of all projects fit."""
    usage = [activity.usage for project in problem.projects for activity in project.activities]
    most = np.sum([part.max(axis=0) for part in usage], axis=0)
    everything = np.concatenate(usage)
    for r, resource in enumerate(problem.resources):
        if most[r] > resource.capacity:
            using = np.flatnonzero(everything[:, r]).astype(np.int64)
            model.add_row(f"shared_{r}", using, everything[using, r], upper=resource.capacity)
