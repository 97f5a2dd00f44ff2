"""Brute force over numbers of units: what `scaling` is held to on small problems."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

from mipplan_formulations.scaling_problem import ScalingProblem

MOST_SELECTIONS = 2_000_000
"""More are refused: each is judged by itself, in Python."""


@dataclass(frozen=True)
class ScalingOptimum:
    """The cheapest feasible numbers of units; among several the lexicographically smallest.

    Attributes
    ----------
    cost : int
    units : tuple of int
    shed : tuple of int
        Thousandths per group.
    """

    cost: int
    units: tuple[int, ...]
    shed: tuple[int, ...]


def scale_exhaustively(problem: ScalingProblem) -> ScalingOptimum | None:
    """Try all numbers of units that are allowed; None if none is feasible.

    Raises
    ------
    ValueError
        If there are more than two million.
    """
    ranges = [
        range(low, high + 1) for low, high in zip(problem.least.tolist(), problem.most.tolist(), strict=True)
    ]
    total = math.prod(len(units) for units in ranges)
    if total > MOST_SELECTIONS:
        raise ValueError(f"{total} selections are too many to try; at most {MOST_SELECTIONS}")
    best: ScalingOptimum | None = None
    for units in product(*ranges):
        evaluation = problem.evaluate(units)
        if evaluation.feasible and (best is None or evaluation.cost < best.cost):
            best = ScalingOptimum(evaluation.cost, units, evaluation.shed)
    return best
