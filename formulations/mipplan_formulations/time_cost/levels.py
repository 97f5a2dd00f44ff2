"""Formulation `levels`: a binary per path and height says whether the wait of the path reaches that height.

The mathematics, with the proofs that it is exact and at least as strong as `paths`, is on the page ``levels.md``;
row numbers refer to it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mipplan_formulations.linear import Float64, Int64, LinearModel, ModelBuilder, thin_out
from mipplan_formulations.time_cost import paths
from mipplan_formulations.time_cost.paths import breakable_paths
from mipplan_formulations.time_cost.problem import Path, TimeCostProblem


@dataclass(frozen=True)
class LevelsParams:
    """How finely waits are told apart: it changes the size and the strength of the model, never its optimum."""

    most_steps_per_path: int = 256
    """At most this many steps, because finer ones made the relaxation hardly stronger and the model much larger."""
    most_coefficients: int = 2_000_000
    """At most this many steps times modes, over all paths: rows (4) and (5) have as many coefficients together."""


DEFAULT = LevelsParams()


def build(problem: TimeCostProblem, params: LevelsParams = DEFAULT) -> LinearModel:
    """Build the model: a binary ``y_{v}_{o}`` per mode and ``step_{p}_{k}`` per step of a path's wait.

    Paths, capacities and covers that no choice can break have no rows. Modes that no choice of the others can make
    fit are fixed at 0.
    """
    staircases = _staircases(problem, params)
    model = ModelBuilder()
    modes = paths.add_choices(problem, model, upper=_upper_bounds(problem, staircases))
    for stairs in staircases:
        model.add_columns(f"step_{stairs.number}_{k}" for k in range(stairs.heights.size))
        _add_path_rows(problem, stairs, modes, model)
    return model.build("levels")


def encode(
    problem: TimeCostProblem, model: LinearModel, selection: Sequence[int], params: LevelsParams = DEFAULT
) -> Float64:
    """As `paths.encode`, and the steps that the waits reach."""
    values = paths.encode(problem, model, selection)
    for stairs in _staircases(problem, params):
        values[stairs.columns] = stairs.heights <= stairs.path.wait_of(selection)
    return values


@dataclass(frozen=True, eq=False)
class _Staircase:
    """The heights at which the wait of a path (of this number) is told apart, and the columns that tell.

    The heights increase, each above the least wait and each the wait of some mode on the path; they are complete if
    every wait that may matter is among them. A wait above the highest leaves no room for the shortest durations.
    """

    number: int
    path: Path
    highest: int
    heights: Int64
    complete: bool
    columns: Int64


def _staircases(problem: TimeCostProblem, params: LevelsParams) -> list[_Staircase]:
    breakable = breakable_paths(problem)
    counts = problem.mode_counts
    modes = sum(int(counts[v]) for _, path in breakable for v in path.activities)
    most = max(1, min(params.most_steps_per_path, params.most_coefficients // max(1, modes)))
    staircases = []
    first = problem.num_binaries
    for p, path in breakable:
        shortest = sum(int(problem.activities[v].duration.min()) for v in path.activities)
        highest = problem.deadline - path.lag - shortest
        waits = np.unique(np.concatenate(path.waits))
        waits = waits[(waits > path.least_wait) & (waits <= highest)]
        heights = thin_out(waits, most)  # the steps then part the modes evenly
        columns = np.arange(first, first + heights.size, dtype=np.int64)
        staircases.append(_Staircase(p, path, highest, heights, heights.size == waits.size, columns))
        first += heights.size
    return staircases


def _add_path_rows(
    problem: TimeCostProblem, stairs: _Staircase, modes: Sequence[Int64], model: ModelBuilder
) -> None:
    """Rows (4) to (8) of one path."""
    p, path, heights, top = stairs.number, stairs.path, stairs.heights, stairs.heights.size - 1
    for v, waits in zip(path.activities, path.waits, strict=True):
        # (4): a mode climbs every step up to its wait.
        for k, members in _nested(np.searchsorted(heights, waits, side="right"), modes[v], heights.size):
            columns, signs = np.append(members, stairs.columns[k]), np.append(np.ones_like(members), -1)
            model.add_row(f"climb_{p}_{v}_{k}", columns, signs, upper=0)
        # (5): a mode that is too long for a step, even beside the shortest of the others, keeps it down.
        fitting = np.searchsorted(heights, _highest_waits(problem, stairs, v), side="right")
        for k, members in _nested(heights.size - fitting, modes[v], heights.size):
            columns = np.append(members, stairs.columns[top - k])
            model.add_row(f"clash_{p}_{v}_{top - k}", columns, np.ones_like(columns), upper=1)
    ones = np.array([-1, 1], dtype=np.int64)
    for k in range(1, heights.size):
        model.add_row(f"order_{p}_{k}", stairs.columns[k - 1 : k + 1], ones, upper=0)
    rises = np.diff(heights, prepend=path.least_wait)
    model.add_row(
        f"total_{p}",
        np.concatenate([*(modes[v] for v in path.activities), stairs.columns]),
        np.concatenate([*(problem.activities[v].duration for v in path.activities), rises]),
        upper=problem.deadline - path.lag - path.least_wait,
    )
    if not stairs.complete:
        paths.add_deadline_rows(problem, p, modes, model)


def _highest_waits(problem: TimeCostProblem, stairs: _Staircase, activity: int) -> Int64:
    """The highest wait that leaves room for each mode of an activity, the others being the shortest."""
    duration = problem.activities[activity].duration
    return np.asarray(stairs.highest + duration.min() - duration, dtype=np.int64)


def _upper_bounds(problem: TimeCostProblem, staircases: Sequence[_Staircase]) -> Float64:
    """Rows (8): 0 for modes that miss the deadline even beside the shortest of the others, else 1."""
    upper = np.ones(problem.num_binaries)
    modes = paths.mode_columns(problem)
    for stairs in staircases:
        for v, waits in zip(stairs.path.activities, stairs.path.waits, strict=True):
            raised = np.maximum(waits, stairs.path.least_wait)
            upper[modes[v][raised > _highest_waits(problem, stairs, v)]] = 0.0
    return upper


def _nested(depth: Int64, own: Int64, count: int) -> Iterator[tuple[int, Int64]]:
    """Yield k and the columns with ``depth > k``, for each k below `count` at which this set is about to shrink.

    For other k the set is that of the next one, whose row, by the order of the steps, implies that of k.
    """
    order = np.argsort(-depth, kind="stable")
    above = np.searchsorted(-depth[order], -np.arange(count + 1), side="left")
    for k in np.flatnonzero(above[:count] > above[1:]):
        yield int(k), np.sort(own[order[: above[k]]])
