"""Formulation `levels`: the wait of a path climbs a staircase, and a binary per step says how high it has to.

The mathematics, with the proofs that it is exact and at least as strong as `paths`, is on the page ``levels.md``;
row numbers refer to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations.arrays import BoolArray, IntArray
from mipplan_formulations.choices import ChoiceColumns, add_choice_rows, read_choices, write_choices
from mipplan_formulations.extents import Extent, breakable_paths
from mipplan_formulations.linear import LinearModel
from mipplan_formulations.paths import add_deadline_rows
from mipplan_formulations.problem import Path, TimeCostProblem
from mipplan_formulations.rows import RowCollector

MOST_STEPS_PER_PATH = 256
"""Finer staircases than this made the relaxation hardly stronger, and the model much larger."""

MOST_COEFFICIENTS = 2_000_000
"""Steps times modes, over all paths, which rows (4) and (5) may take together; then steps are left out."""


def build(problem: TimeCostProblem) -> LinearModel:
    """Build the model: a binary ``y_{v}_{o}`` per mode and ``step_{p}_{k}`` per step of a path's wait.

    Parameters
    ----------
    problem : TimeCostProblem

    Returns
    -------
    LinearModel
        Paths, capacities and covers that no choice can break have no rows. Modes that no choice of the others
        can make fit are fixed at 0.
    """
    columns = ChoiceColumns(problem)
    staircases = _staircases(problem)
    rows = RowCollector()
    add_choice_rows(problem, columns, rows)
    for stairs in staircases:
        _add_path_rows(problem, stairs, columns, rows)
    total = columns.count + sum(stairs.heights.size for stairs in staircases)
    upper = np.ones(total)
    for stairs in staircases:
        for v, hopeless in _hopeless_modes(problem, stairs):
            upper[columns.of(v)[hopeless]] = 0.0
    return LinearModel(
        objective=np.concatenate([columns.costs(), np.zeros(total - columns.count, dtype=np.int64)]),
        matrix=rows.join(total),
        row_lower=rows.lower,
        row_upper=rows.upper,
        column_lower=np.zeros(total),
        column_upper=upper,
        integrality=np.ones(total, dtype=np.bool_),
        column_names=(*columns.names(), *(name for stairs in staircases for name in stairs.names())),
        row_names=rows.names,
        name="levels",
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
        The chosen modes and the steps that the waits reach. Satisfies all rows if the problem allows the selection.
    """
    values = write_choices(problem, model, selection)
    for stairs in _staircases(problem):
        on_path = zip(stairs.path.activities, stairs.path.waits, strict=True)
        wait = max(int(waits[selection[v]]) for v, waits in on_path)
        values[stairs.columns] = stairs.heights <= wait
    return values


@dataclass(frozen=True, eq=False)
class _Staircase:
    """The heights at which one path's wait is told apart, and the columns that tell.

    Attributes
    ----------
    number : int
        Of the path within the problem.
    path : Path
    extent : Extent
    heights : int64 array, shape (k,)
        Increasing, each above the least wait, each the wait of some mode on the path.
    complete : bool
        Whether every wait that may matter is among them.
    columns : int64 array, shape (k,)
    """

    number: int
    path: Path
    extent: Extent
    heights: IntArray
    complete: bool
    columns: IntArray

    def names(self) -> Iterator[str]:
        """Names of the columns."""
        return (f"step_{self.number}_{k}" for k in range(self.heights.size))


def _staircases(problem: TimeCostProblem) -> list[_Staircase]:
    breakable = breakable_paths(problem)
    counts = problem.mode_counts
    modes = sum(int(counts[v]) for p, _ in breakable for v in problem.paths[p].activities)
    most = max(1, min(MOST_STEPS_PER_PATH, MOST_COEFFICIENTS // max(1, modes)))
    staircases = []
    first = problem.num_binaries
    for p, extent in breakable:
        path = problem.paths[p]
        # a wait above this leaves no room for the shortest durations
        highest = extent.least_wait + problem.deadline - extent.shortest
        waits = np.unique(np.concatenate(path.waits))
        waits = waits[(waits > extent.least_wait) & (waits <= highest)]
        heights = _thin_out(waits, most)
        columns = np.arange(first, first + heights.size, dtype=np.int64)
        staircases.append(_Staircase(p, path, extent, heights, heights.size == waits.size, columns))
        first += heights.size
    return staircases


def _thin_out(waits: IntArray, most: int) -> IntArray:
    """Keep at most so many of the increasing waits: evenly by rank, as the steps then part the modes evenly."""
    if waits.size <= most:
        return waits
    return waits[np.unique(np.linspace(0, waits.size - 1, most).round().astype(np.int64))]


def _add_path_rows(
    problem: TimeCostProblem, stairs: _Staircase, columns: ChoiceColumns, rows: RowCollector
) -> None:
    """Rows (4) to (8) of one path."""
    p, path, heights = stairs.number, stairs.path, stairs.heights
    for position, v in enumerate(path.activities):
        _add_climbs(stairs, position, columns.of(v), rows)
        _add_clashes(problem, stairs, position, columns.of(v), rows)
    ones = np.array([-1, 1], dtype=np.int64)
    for k in range(1, heights.size):
        rows.add(f"order_{p}_{k}", stairs.columns[k - 1 : k + 1], ones, upper=0)
    rises = np.diff(heights, prepend=stairs.extent.least_wait)
    rows.add(
        f"total_{p}",
        np.concatenate([*(columns.of(v) for v in path.activities), stairs.columns]),
        np.concatenate([*(problem.activities[v].duration for v in path.activities), rises]),
        upper=problem.deadline - path.lag - stairs.extent.least_wait,
    )
    if not stairs.complete:
        add_deadline_rows(problem, p, stairs.extent, columns, rows)


def _add_climbs(stairs: _Staircase, position: int, own: IntArray, rows: RowCollector) -> None:
    """Rows (4): a mode climbs every step up to its wait."""
    reached = np.searchsorted(stairs.heights, stairs.path.waits[position], side="right")
    for k, members in _nested(reached, own, stairs.heights.size):
        _add_implication(
            f"climb_{stairs.number}_{stairs.path.activities[position]}_{k}",
            members,
            -1,
            0,
            stairs.columns[k],
            rows,
        )


def _add_clashes(
    problem: TimeCostProblem, stairs: _Staircase, position: int, own: IntArray, rows: RowCollector
) -> None:
    """Rows (5): a mode that is too long for a step, even beside the shortest of the others, keeps it down."""
    v = stairs.path.activities[position]
    spare = _spare(problem, stairs, v)
    # the steps whose height still fits; from that step on the mode clashes
    fitting = np.searchsorted(stairs.heights - stairs.extent.least_wait, spare, side="right")
    for k, members in _nested(stairs.heights.size - fitting, own, stairs.heights.size):
        lowest = stairs.heights.size - 1 - k
        _add_implication(f"clash_{stairs.number}_{v}_{lowest}", members, 1, 1, stairs.columns[lowest], rows)


def _spare(problem: TimeCostProblem, stairs: _Staircase, activity: int) -> IntArray:
    """How far the wait may exceed the least wait for each mode of an activity, the others being the shortest."""
    duration = problem.activities[activity].duration
    return np.asarray(problem.deadline - stairs.extent.shortest + duration.min() - duration, dtype=np.int64)


def _hopeless_modes(problem: TimeCostProblem, stairs: _Staircase) -> Iterator[tuple[int, BoolArray]]:
    """Modes of the path's activities that miss the deadline even beside the shortest of the others."""
    for v, waits in zip(stairs.path.activities, stairs.path.waits, strict=True):
        excess = np.maximum(waits - stairs.extent.least_wait, 0)
        yield v, excess > _spare(problem, stairs, v)


def _nested(depth: IntArray, own: IntArray, count: int) -> Iterator[tuple[int, IntArray]]:
    """Yield k and the columns with ``depth > k``, for each k below `count` at which this set is about to shrink.

    For other k the set is that of the next one, whose row, by the order of the steps, implies that of k.
    """
    order = np.argsort(-depth, kind="stable")
    above = np.searchsorted(-depth[order], -np.arange(count + 1), side="left")
    for k in np.flatnonzero(above[:count] > above[1:]):
        yield int(k), np.sort(own[order[: above[k]]])


def _add_implication(
    name: str, members: IntArray, sign: int, upper: int, step: np.int64, rows: RowCollector
) -> None:
    """Add ``sum of members + sign * step <= upper``."""
    coefficients = np.ones(members.size + 1, dtype=np.int64)
    coefficients[-1] = sign
    rows.add(name, np.append(members, step), coefficients, upper=upper)
