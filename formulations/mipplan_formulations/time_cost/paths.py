"""Formulation `paths`: a binary per mode, and one deadline row per path and activity that may set the path's wait.

The mathematics, with the proof that it is exact, is on the page ``paths.md``; row numbers refer to it. The binaries and
the rows (1) to (3), which do not depend on time, are also those of the other formulations.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from mipplan_formulations.linear import Float64, Int64, LinearModel, ModelBuilder
from mipplan_formulations.time_cost.problem import Path, TimeCostProblem

INTEGRALITY_TOLERANCE = 1e-5
"""How far a solver's value of a binary may be from 0 or 1; more than any solver's own tolerance."""


def breakable_paths(problem: TimeCostProblem) -> list[tuple[int, Path]]:
    """Every path, and its number, whose longest modes and longest wait together miss the deadline.

    Perhaps no choice of modes does: the longest ones may have the shorter waits.
    """
    longest = [int(activity.duration.max()) for activity in problem.activities]
    found = []
    for p, path in enumerate(problem.paths):
        most = path.lag + sum(longest[v] for v in path.activities) + max(int(own.max()) for own in path.waits)
        if most > problem.deadline:
            found.append((p, path))
    return found


def build(problem: TimeCostProblem) -> LinearModel:
    """Build the model: a binary ``y_{v}_{o}`` per mode and nothing else.

    Paths, capacities and covers that no choice can break have no rows.
    """
    model = ModelBuilder()
    modes = add_choices(problem, model)
    for p, _ in breakable_paths(problem):
        add_deadline_rows(problem, p, modes, model)
    return model.build("paths")


def decode(problem: TimeCostProblem, model: LinearModel, values: Float64) -> tuple[int, ...]:
    """Read the chosen mode of every activity off a solution, whichever formulation the problem's model is of.

    Raises `ValueError` if the length is wrong, a binary is further than 1e-5 from 0 and 1, or an activity has
    not exactly one mode.
    """
    if values.shape != (model.num_columns,):
        raise ValueError(f"expected {model.num_columns} values, got shape {values.shape}")
    binaries = values[: problem.num_binaries]
    distance = np.abs(binaries - (binaries > 0.5))
    if not np.all(distance <= INTEGRALITY_TOLERANCE):  # written so that nan fails, too
        worst = int(np.argmax(np.where(np.isnan(distance), np.inf, distance)))
        raise ValueError(f"column {model.column_names[worst]} is {binaries[worst]}, neither 0 nor 1")
    selection = []
    for activity, columns in zip(problem.activities, mode_columns(problem), strict=True):
        chosen = np.flatnonzero(binaries[columns] > 0.5)
        if chosen.size != 1:
            raise ValueError(f"activity {activity.name!r} has {chosen.size} modes instead of one")
        selection.append(int(chosen[0]))
    return tuple(selection)


def encode(problem: TimeCostProblem, model: LinearModel, selection: Sequence[int]) -> Float64:
    """Write a choice of modes as values of the columns: a start for a solver; inverse of `decode`.

    The binaries of the chosen modes are 1, all other columns 0; formulations with further columns set those, too.
    The values satisfy all rows if the problem allows the selection. Shape (model.num_columns,).

    Raises `ValueError` if the selection does not name one existing mode per activity.
    """
    values = np.zeros(model.num_columns)
    for columns, mode in zip(mode_columns(problem), problem.modes_of(selection), strict=True):
        values[columns[mode]] = 1.0
    return values


def mode_columns(problem: TimeCostProblem) -> list[Int64]:
    """Columns of the modes of each activity, in order: the binaries are the first of all columns."""
    counts = problem.mode_counts
    return np.split(np.arange(counts.sum(), dtype=np.int64), np.cumsum(counts)[:-1])


def add_choices(problem: TimeCostProblem, model: ModelBuilder, upper: ArrayLike = 1) -> list[Int64]:
    """Add the binaries and the assignment, capacity and cover rows (1) to (3); return the columns per activity."""
    columns = mode_columns(problem)
    model.add_columns(
        (f"y_{v}_{o}" for v, own in enumerate(columns) for o in range(own.size)),
        cost=np.concatenate([activity.cost for activity in problem.activities]),
        upper=upper,
    )
    for v, own in enumerate(columns):
        model.add_row(f"assign_{v}", own, np.ones(own.size, dtype=np.int64), lower=1, upper=1)
    for r, (resource, most) in enumerate(zip(problem.resources, problem.most_used, strict=True)):
        if most > resource.capacity:
            usage = np.concatenate([activity.usage[:, r] for activity in problem.activities])
            model.add_row(f"capacity_{r}", np.concatenate(columns), usage, upper=resource.capacity)
    for k, cover in enumerate(problem.covers):
        if not any(marked.all() for _, marked in cover.members):
            listed = np.concatenate([columns[v][marked] for v, marked in cover.members])
            model.add_row(f"cover_{k}", listed, np.ones(listed.size, dtype=np.int64), lower=1)
    return columns


def add_deadline_rows(problem: TimeCostProblem, p: int, modes: Sequence[Int64], model: ModelBuilder) -> None:
    """Rows (4): the durations along the path and the wait of one activity on it fit before the deadline."""
    path = problem.paths[p]
    durations = [problem.activities[v].duration for v in path.activities]
    entries = np.concatenate([modes[v] for v in path.activities])
    room = problem.deadline - path.lag
    # Activities that may set the wait of the path; if none can exceed its least wait, one row is enough.
    able = [i for i, waits in enumerate(path.waits) if int(waits.max()) > path.least_wait]
    for position in able or [0]:
        raised = np.maximum(path.waits[position], path.least_wait)
        coefficients: list[Int64] = list(durations)
        coefficients[position] = durations[position] + raised
        name = f"deadline_{p}_{path.activities[position]}"
        model.add_row(name, entries, np.concatenate(coefficients), upper=room)
