"""Brute force: what every formulation is held to on small problems."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import numpy as np

from mipplan_formulations.linear import Bool, Int64
from mipplan_formulations.scaling import ScalingProblem
from mipplan_formulations.time_cost import TimeCostProblem


@dataclass(frozen=True)
class ExhaustiveParams:
    """How much brute force may try."""

    most_selections: int = 5_000_000
    """At most this many selections of modes are tried: they take seconds, ten times as many minutes."""
    most_units: int = 2_000_000
    """At most this many combinations of numbers of units are tried, because each is judged in Python."""
    chunk: int = 1 << 16
    """This many selections of modes are judged at a time, because all at once would not fit into memory."""


DEFAULT = ExhaustiveParams()


@dataclass(frozen=True)
class Optimum:
    """The cheapest feasible selection, a mode per activity; among several the lexicographically smallest."""

    cost: int
    selection: tuple[int, ...]


@dataclass(frozen=True)
class ScalingOptimum:
    """The cheapest feasible numbers of units; among several the lexicographically smallest.

    Shed is in thousandths per group.
    """

    cost: int
    units: tuple[int, ...]
    shed: tuple[int, ...]


def solve_exhaustively(problem: TimeCostProblem, params: ExhaustiveParams = DEFAULT) -> Optimum | None:
    """Try every selection; None if none is feasible.

    Raises `ValueError` if there are more than 5 million selections.
    """
    counts = tuple(int(count) for count in problem.mode_counts)
    total = _checked(math.prod(counts), params.most_selections)
    best: Optimum | None = None
    for start in range(0, total, params.chunk):
        numbers = np.arange(start, min(start + params.chunk, total))
        selections = np.array(np.unravel_index(numbers, counts))  # one row per activity, lexicographic order
        costs = np.sum([a.cost[selections[v]] for v, a in enumerate(problem.activities)], axis=0)
        allowed = np.flatnonzero(_are_feasible(problem, selections))
        if allowed.size:
            first = int(allowed[np.argmin(costs[allowed])])
            if best is None or costs[first] < best.cost:
                best = Optimum(int(costs[first]), tuple(int(mode) for mode in selections[:, first]))
    return best


def scale_exhaustively(problem: ScalingProblem, params: ExhaustiveParams = DEFAULT) -> ScalingOptimum | None:
    """Try all numbers of units that are allowed; None if none is feasible.

    Raises `ValueError` if there are more than two million.
    """
    ranges = [*map(range, problem.least.tolist(), (problem.most + 1).tolist())]
    _checked(math.prod(len(units) for units in ranges), params.most_units)
    best: ScalingOptimum | None = None
    for units in product(*ranges):
        evaluation = problem.evaluate(units)
        if evaluation.feasible and (best is None or evaluation.cost < best.cost):
            best = ScalingOptimum(evaluation.cost, units, evaluation.shed)
    return best


def _checked(total: int, most: int) -> int:
    if total > most:
        raise ValueError(f"{total} selections are too many to try; at most {most}")
    return total


def _are_feasible(problem: TimeCostProblem, selections: Int64) -> Bool:
    feasible = np.ones(selections.shape[1], dtype=np.bool_)
    for path in problem.paths:
        durations = np.sum([problem.activities[v].duration[selections[v]] for v in path.activities], axis=0)
        on_path = zip(path.activities, path.waits, strict=True)
        wait = np.max([waits[selections[v]] for v, waits in on_path], axis=0)
        feasible &= path.lag + durations + wait <= problem.deadline
    for r, resource in enumerate(problem.resources):
        used = np.sum([a.usage[selections[v], r] for v, a in enumerate(problem.activities)], axis=0)
        feasible &= used <= resource.capacity
    for cover in problem.covers:
        feasible &= np.any([marked[selections[v]] for v, marked in cover.members], axis=0)
    return feasible
