"""Brute force: what every formulation is held to on small problems."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations.arrays import IntArray
from mipplan_formulations.problem import TimeCostProblem

MOST_SELECTIONS = 5_000_000
"""More selections than this are refused: that many take seconds, ten times as many minutes."""

_CHUNK = 1 << 16


@dataclass(frozen=True)
class Optimum:
    """The cheapest feasible selection; among several the lexicographically smallest.

    Attributes
    ----------
    cost : int
    selection : tuple of int
        Chosen mode of every activity.
    """

    cost: int
    selection: tuple[int, ...]


def solve_exhaustively(problem: TimeCostProblem) -> Optimum | None:
    """Try every selection.

    Parameters
    ----------
    problem : TimeCostProblem

    Returns
    -------
    Optimum or None
        None if no selection is feasible.

    Raises
    ------
    ValueError
        If there are more than 5 million selections.
    """
    counts = tuple(int(count) for count in problem.mode_counts)
    total = math.prod(counts)
    if total > MOST_SELECTIONS:
        raise ValueError(f"{total} selections are too many to try; at most {MOST_SELECTIONS}")
    best: Optimum | None = None
    for start in range(0, total, _CHUNK):
        numbers = np.arange(start, min(start + _CHUNK, total))
        selections = np.array(np.unravel_index(numbers, counts))  # one row per activity, lexicographic order
        costs = _add_up([a.cost[selections[v]] for v, a in enumerate(problem.activities)])
        allowed = np.flatnonzero(_are_feasible(problem, selections))
        if allowed.size:
            first = int(allowed[np.argmin(costs[allowed])])
            if best is None or costs[first] < best.cost:
                best = Optimum(int(costs[first]), tuple(int(mode) for mode in selections[:, first]))
    return best


def _are_feasible(problem: TimeCostProblem, selections: IntArray) -> NDArray[np.bool_]:
    feasible = np.ones(selections.shape[1], dtype=np.bool_)
    for path in problem.paths:
        durations = _add_up([problem.activities[v].duration[selections[v]] for v in path.activities])
        on_path = zip(path.activities, path.waits, strict=True)
        wait = np.max([waits[selections[v]] for v, waits in on_path], axis=0)
        feasible &= path.lag + durations + wait <= problem.deadline
    for r, resource in enumerate(problem.resources):
        used = _add_up([a.usage[selections[v], r] for v, a in enumerate(problem.activities)])
        feasible &= used <= resource.capacity
    for cover in problem.covers:
        feasible &= np.any([marked[selections[v]] for v, marked in cover.members], axis=0)
    return feasible


def _add_up(terms: list[IntArray]) -> IntArray:
    return np.asarray(np.sum(terms, axis=0), dtype=np.int64)
