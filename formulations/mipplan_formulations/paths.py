"""Formulation `paths`: one deadline row per path and activity that may set the path's wait.

The mathematics, with the proof that it is exact, is on the page ``paths.md``; row numbers refer to it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations.arrays import IntArray
from mipplan_formulations.choices import ChoiceColumns, add_choice_rows, read_choices, write_choices
from mipplan_formulations.extents import Extent, breakable_paths
from mipplan_formulations.linear import LinearModel
from mipplan_formulations.problem import Path, TimeCostProblem
from mipplan_formulations.rows import RowCollector


def build(problem: TimeCostProblem) -> LinearModel:
    """Build the model: a binary ``y_{v}_{o}`` per mode and nothing else.

    Parameters
    ----------
    problem : TimeCostProblem

    Returns
    -------
    LinearModel
        Paths, capacities and covers that no choice can break have no rows.
    """
    columns = ChoiceColumns(problem)
    rows = RowCollector()
    add_choice_rows(problem, columns, rows)
    for p, extent in breakable_paths(problem):
        add_deadline_rows(problem, p, extent, columns, rows)
    return LinearModel(
        objective=columns.costs(),
        matrix=rows.join(columns.count),
        row_lower=rows.lower,
        row_upper=rows.upper,
        column_lower=np.zeros(columns.count),
        column_upper=np.ones(columns.count),
        integrality=np.ones(columns.count, dtype=np.bool_),
        column_names=tuple(columns.names()),
        row_names=rows.names,
        name="paths",
    )


def decode(problem: TimeCostProblem, model: LinearModel, values: NDArray[np.float64]) -> tuple[int, ...]:
    """Read the chosen mode of every activity off a solution of the built model.

    Parameters
    ----------
    problem : TimeCostProblem
    model : LinearModel
        What `build` made of that problem.
    values : float64 array, shape (model.num_columns,)

    Raises
    ------
    ValueError
        If the values are no solution: wrong length, not binary within 1e-5, not one mode per activity.
    """
    return read_choices(problem, model, values)


def encode(problem: TimeCostProblem, model: LinearModel, selection: Sequence[int]) -> NDArray[np.float64]:
    """Write a choice of modes as values of the built model's columns: a start for a solver; inverse of `decode`.

    Parameters
    ----------
    problem : TimeCostProblem
    model : LinearModel
        What `build` made of that problem.
    selection : sequence of int, length = number of activities

    Returns
    -------
    float64 array, shape (model.num_columns,)
        Satisfies all rows if the problem allows the selection.
    """
    return write_choices(problem, model, selection)


def add_deadline_rows(
    problem: TimeCostProblem, p: int, extent: Extent, columns: ChoiceColumns, rows: RowCollector
) -> None:
    """Rows (4): the durations along the path and the wait of one activity on it fit before the deadline."""
    path = problem.paths[p]
    durations = [problem.activities[v].duration for v in path.activities]
    entries = np.concatenate([columns.of(v) for v in path.activities])
    room = problem.deadline - path.lag
    for position in _waiting_positions(path, extent):
        raised = np.maximum(path.waits[position], extent.least_wait)
        coefficients: list[IntArray] = list(durations)
        coefficients[position] = durations[position] + raised
        name = f"deadline_{p}_{path.activities[position]}"
        rows.add(name, entries, np.concatenate(coefficients), upper=room)


def _waiting_positions(path: Path, extent: Extent) -> list[int]:
    """Positions on the path whose activity may set its wait; if none can exceed the least wait, one is enough."""
    able = [i for i, waits in enumerate(path.waits) if int(waits.max()) > extent.least_wait]
    return able or [0]
