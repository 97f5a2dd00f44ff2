"""Several projects that share resources, pools of ways to carry each of them out, and their formulations.

Each project is a `TimeCostProblem` of its own, with its own deadline. What joins them are the resources: all projects
together may use no more than there is. A *column* is one way to carry out one project as far as the others can
tell: what it costs and what it uses. Choosing among columns is the restricted master problem of column generation.

All data are integers, so that evaluation is exact. The mathematics of the formulations `joint`, all projects in one
model, and `columns`, a known way per project, is on the pages ``joint.md`` and ``columns.md``; row numbers refer to
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from mipplan_formulations.linear import (
    Float64,
    Int64,
    LinearModel,
    ModelBuilder,
    check_number,
    overuse,
    raise_if_any,
    set_integers,
)
from mipplan_formulations.time_cost import Resource, TimeCostProblem, paths

Selections = Sequence[Sequence[int] | None]


@dataclass(frozen=True)
class MultiProjectProblem:
    """Carry out every project, at least cost, within the shared capacities.

    Raises `ValueError` naming every fault, one a line.

    Attributes
    ----------
    projects : tuple of TimeCostProblem
        At least one. Each has the shared resources, by name and in order; capacities it states itself bind
        it alone.
    resources : tuple of Resource
        What all projects share.
    forgone : tuple of int, or None
        Cost of leaving each project out; None if all have to be carried out.
    """

    projects: tuple[TimeCostProblem, ...]
    resources: tuple[Resource, ...]
    forgone: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        names = [resource.name for resource in self.resources]
        faults = [] if self.projects else ["a programme needs at least one project"]
        faults += [
            f"project {index}: has the resources {[r.name for r in project.resources]}, not {names}"
            for index, project in enumerate(self.projects)
            if [resource.name for resource in project.resources] != names
        ]
        raise_if_any(faults + _shared_faults(self))

    def evaluate(self, selections: Selections) -> MultiProjectEvaluation:
        """Judge a selection of modes per project (None: left out) by plain integer arithmetic."""
        return _add_up(self, selections)


@dataclass(frozen=True, eq=False)
class MultiProjectEvaluation:
    """What a choice costs and whether it is allowed, in exact integers.

    Attributes
    ----------
    cost : int
    usage : int64 array, shape (r,)
    violations : tuple of str
        One sentence per constraint that is not kept.
    """

    cost: int
    usage: Int64
    violations: tuple[str, ...]

    @property
    def feasible(self) -> bool:
        """Whether every constraint is kept."""
        return not self.violations


@dataclass(frozen=True, eq=False)
class Columns:
    """Ways to carry out one project.

    Attributes
    ----------
    cost : int64 array, shape (k,)
        Not negative.
    usage : int64 array, shape (k, r)
        Amount that each uses of each shared resource, not negative.
    """

    cost: Int64
    usage: Int64

    def __post_init__(self) -> None:
        faults: list[str] = []
        set_integers(self, "columns: ", faults, cost=1, usage=2)
        if self.usage.shape[0] != self.cost.size:
            faults.append(f"columns: usage has {self.usage.shape[0]} rows, cost has {self.cost.size}")
        raise_if_any(faults)

    def evaluate(self, column: int) -> MultiProjectEvaluation:
        """What one of them comes to."""
        return MultiProjectEvaluation(int(self.cost[column]), self.usage[column], ())


@dataclass(frozen=True)
class ColumnPool:
    """Choose one known column per project: a multi-project problem restricted to what is known of it.

    Raises `ValueError` naming every fault, one a line.

    Attributes
    ----------
    projects : tuple of Columns
        One entry per project; an entry may be empty if the project can be left out.
    resources : tuple of Resource
    forgone : tuple of int, or None
        Cost of leaving each project out; None if all have to be carried out.
    excess : tuple of int, or None
        Cost of one unit of each resource beyond its capacity; None if capacities are firm.
    """

    projects: tuple[Columns, ...]
    resources: tuple[Resource, ...]
    forgone: tuple[int, ...] | None = None
    excess: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        faults = [] if self.projects else ["a pool needs at least one project"]
        for index, columns in enumerate(self.projects):
            if columns.usage.shape[1] != len(self.resources):
                faults.append(f"project {index}: usage has {columns.usage.shape[1]} columns")
            if self.forgone is None and columns.cost.size == 0:
                faults.append(f"project {index}: has no column and cannot be left out")
        faults += _shared_faults(self)
        if self.excess is not None:
            if len(self.excess) != len(self.resources):
                faults.append(f"excess: {len(self.excess)} prices for {len(self.resources)} resources")
            for price in self.excess:
                check_number(price, "excess", faults)
        raise_if_any(faults)

    def evaluate(self, chosen: Sequence[int | None]) -> MultiProjectEvaluation:
        """Judge a column per project (None: left out) by plain integer arithmetic; excess is a violation."""
        return _add_up(self, chosen)


def _shared_faults(problem: MultiProjectProblem | ColumnPool) -> list[str]:
    faults: list[str] = []
    for resource in problem.resources:
        check_number(resource.capacity, f"resource {resource.name!r}: capacity", faults)
    if len({resource.name for resource in problem.resources}) != len(problem.resources):
        faults.append("two resources have one name")
    if problem.forgone is not None:
        if len(problem.forgone) != len(problem.projects):
            faults.append(f"forgone: {len(problem.forgone)} costs for {len(problem.projects)} projects")
        for cost in problem.forgone:
            check_number(cost, "forgone", faults)
    return faults


def _add_up(problem: MultiProjectProblem | ColumnPool, choice: Sequence[Any]) -> MultiProjectEvaluation:
    """Cost, usage and violations of all projects, given what each takes; None for a project left out."""
    cost, usage = 0, np.zeros(len(problem.resources), dtype=np.int64)
    violations: list[str] = []
    projects: Sequence[TimeCostProblem | Columns] = problem.projects
    for index, (project, chosen) in enumerate(zip(projects, choice, strict=True)):
        if chosen is not None:
            part = project.evaluate(chosen)
            cost += part.cost
            usage += part.usage
            violations += [f"project {index}: {violation}" for violation in part.violations]
        elif problem.forgone is not None:
            cost += problem.forgone[index]
        else:
            violations.append(f"project {index} is left out")
    violations += overuse(problem.resources, usage)
    return MultiProjectEvaluation(cost, usage, tuple(violations))


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
        # What fills each row with no mode chosen: 1 where it asks for one; a negative side that no choice can keep.
        filling = np.where(np.isfinite(part.row_lower), 1.0, np.minimum(part.row_upper, 0.0)).astype(np.int64)
        for row, (start, stop) in enumerate(pairwise(matrix.indptr.tolist())):
            columns, coefficients = firsts[i] + matrix.indices[start:stop], matrix.data[start:stop]
            if out and filling[row]:
                columns = np.append(columns, places[i])
                coefficients = np.append(coefficients, filling[row])
            name = f"p{i}_{part.row_names[row]}"
            model.add_row(name, columns, coefficients, lower=part.row_lower[row], upper=part.row_upper[row])
    usages = [activity.usage for project in problem.projects for activity in project.activities]
    usage = np.concatenate(usages)
    for r, resource in enumerate(problem.resources):
        # (6), left out where even the largest uses of all projects fit
        if sum(project.most_used[r] for project in problem.projects) > resource.capacity:
            using = np.flatnonzero(usage[:, r])
            model.add_row(f"shared_{r}", using, usage[using, r], upper=resource.capacity)
    return model.build("joint")


def decode_joint(
    problem: MultiProjectProblem, model: LinearModel, values: Float64
) -> tuple[tuple[int, ...] | None, ...]:
    """Read the chosen mode of every activity of every project off a solution; None for a project left out.

    Raises `ValueError` if the values are no solution: wrong length, not binary within 1e-5, not one mode per
    activity.
    """
    *parts, out = _parted(values, model, [project.num_binaries for project in problem.projects])
    left_out = np.zeros(len(parts)) if problem.forgone is None else out
    return tuple(
        None if left > 0.5 else paths.decode(project, paths.build(project), part)
        for project, part, left in zip(problem.projects, parts, left_out, strict=True)
    )


def encode_joint(problem: MultiProjectProblem, model: LinearModel, selections: Selections) -> Float64:
    """Write a choice of modes per project as values of the built model's columns; inverse of `decode_joint`."""
    values = np.zeros(model.num_columns)
    *parts, out = _parted(values, model, [project.num_binaries for project in problem.projects])
    for i, (project, selection) in enumerate(zip(problem.projects, selections, strict=True)):
        if selection is None:
            out[i] = 1.0
        else:
            parts[i][:] = paths.encode(project, paths.build(project), selection)
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
    *parts, _ = _parted(values, model, [columns.cost.size for columns in pool.projects])
    chosen: list[int | None] = []
    for project, part in enumerate(parts):
        taken = np.flatnonzero(part > 0.5)
        if taken.size > 1 or (taken.size == 0 and pool.forgone is None):
            raise ValueError(f"project {project} has {taken.size} columns instead of one")
        chosen.append(int(taken[0]) if taken.size else None)
    return tuple(chosen)


def encode_columns(pool: ColumnPool, model: LinearModel, chosen: Sequence[int | None]) -> Float64:
    """Write a column per project as values of the built model's columns; inverse of `decode_columns`."""
    values = np.zeros(model.num_columns)
    *parts, out = _parted(values, model, [columns.cost.size for columns in pool.projects])
    for i, (part, column) in enumerate(zip(parts, chosen, strict=True)):
        if column is None:
            out[i] = 1.0
        else:
            part[column] = 1.0
    if pool.excess is not None:
        capacity = np.array([resource.capacity for resource in pool.resources], dtype=np.int64)
        beyond = np.maximum(pool.evaluate(chosen).usage - capacity, 0)
        values[model.num_columns - capacity.size :] = beyond
    return values


def _parted(values: Float64, model: LinearModel, sizes: Sequence[int]) -> list[Float64]:
    """Views of the values of each project's columns, and of all that follow."""
    if values.shape != (model.num_columns,):
        raise ValueError(f"expected {model.num_columns} values, got shape {values.shape}")
    return np.split(values, np.cumsum(sizes))
