"""The part all formulations share: one binary per mode, and the rows that do not depend on time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations.arrays import IntArray
from mipplan_formulations.linear import LinearModel
from mipplan_formulations.problem import TimeCostProblem
from mipplan_formulations.rows import RowCollector

INTEGRALITY_TOLERANCE = 1e-5
"""How far a solver's value of a binary may be from 0 or 1; more than any solver's own tolerance."""


class ChoiceColumns:
    """Where the binaries ``y_{v}_{o}`` of a problem stand: first of all columns, activity by activity.

    Attributes
    ----------
    count : int
        Number of binaries.
    """

    def __init__(self, problem: TimeCostProblem) -> None:
        self._problem = problem
        self._offsets = np.concatenate([[0], np.cumsum(problem.mode_counts)]).astype(np.int64)
        self.count = int(self._offsets[-1])

    def of(self, activity: int) -> IntArray:
        """Columns of the modes of one activity, in the order of its modes."""
        return np.arange(self._offsets[activity], self._offsets[activity + 1], dtype=np.int64)

    def names(self) -> list[str]:
        """Names of all binaries."""
        counts = self._problem.mode_counts
        return [f"y_{v}_{o}" for v in range(len(counts)) for o in range(int(counts[v]))]

    def costs(self) -> IntArray:
        """Objective coefficients of all binaries."""
        return np.concatenate([activity.cost for activity in self._problem.activities])


def add_choice_rows(problem: TimeCostProblem, columns: ChoiceColumns, rows: RowCollector) -> None:
    """Add the assignment, capacity and cover rows; those that no choice can break are left out."""
    for v, activity in enumerate(problem.activities):
        rows.add(f"assign_{v}", columns.of(v), np.ones(activity.num_modes, dtype=np.int64), lower=1, upper=1)
    _add_capacities(problem, columns, rows)
    _add_covers(problem, columns, rows)


def read_choices(
    problem: TimeCostProblem, model: LinearModel, values: NDArray[np.float64]
) -> tuple[int, ...]:
    """Read the chosen mode of every activity off a solution.

    Parameters
    ----------
    problem : TimeCostProblem
    model : LinearModel
        Built from that problem.
    values : float64 array, shape (model.num_columns,)

    Raises
    ------
    ValueError
        If the length is wrong, a binary is further than 1e-5 from 0 and 1, or an activity has not exactly
        one mode.
    """
    if values.shape != (model.num_columns,):
        raise ValueError(f"expected {model.num_columns} values, got shape {values.shape}")
    columns = ChoiceColumns(problem)
    binaries = values[: columns.count]
    distance = np.abs(binaries - (binaries > 0.5))
    if not np.all(distance <= INTEGRALITY_TOLERANCE):  # written so that nan fails, too
        worst = int(np.argmax(np.where(np.isnan(distance), np.inf, distance)))
        raise ValueError(f"column {model.column_names[worst]} is {binaries[worst]}, neither 0 nor 1")
    return tuple(_chosen(problem, v, binaries[columns.of(v)]) for v in range(len(problem.activities)))


def write_choices(
    problem: TimeCostProblem, model: LinearModel, selection: Sequence[int]
) -> NDArray[np.float64]:
    """Set the binaries of the chosen modes to 1 and all other columns to 0; shape (model.num_columns,)."""
    values = np.zeros(model.num_columns)
    columns = ChoiceColumns(problem)
    for v, mode in enumerate(selection):
        values[columns.of(v)[mode]] = 1.0
    return values


def _chosen(problem: TimeCostProblem, activity: int, binaries: NDArray[np.float64]) -> int:
    chosen = int(np.count_nonzero(binaries > 0.5))
    if chosen != 1:
        raise ValueError(f"activity {problem.activities[activity].name!r} has {chosen} modes instead of one")
    return int(np.argmax(binaries))


def _add_capacities(problem: TimeCostProblem, columns: ChoiceColumns, rows: RowCollector) -> None:
    users = range(len(problem.activities))
    for r, resource in enumerate(problem.resources):
        usage = [activity.usage[:, r] for activity in problem.activities]
        if sum(int(used.max()) for used in usage) > resource.capacity:
            everything = np.concatenate([columns.of(v) for v in users])
            rows.add(f"capacity_{r}", everything, np.concatenate(usage), upper=resource.capacity)


def _add_covers(problem: TimeCostProblem, columns: ChoiceColumns, rows: RowCollector) -> None:
    for k, cover in enumerate(problem.covers):
        if not any(marked.all() for _, marked in cover.members):
            marked_columns = np.concatenate([columns.of(v)[marked] for v, marked in cover.members])
            rows.add(f"cover_{k}", marked_columns, np.ones(marked_columns.size, dtype=np.int64), lower=1)
