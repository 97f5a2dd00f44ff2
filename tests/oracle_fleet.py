"""Brute force for problems with several projects: every selection of every project together.

Only for problems so small that the product of all choices can be walked through one by one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from mipplan_formulations import ColumnPool, Programme, TimeCostProblem

MOST = 400_000


class TooLargeError(Exception):
    """There are more combinations than patience."""


def cheapest_programme(programme: Programme) -> int | None:
    """Cost of the cheapest allowed choice of modes of every project; None if nothing is allowed."""
    choices = [_allowed(project) for project in programme.projects]
    if programme.forgone is not None:
        choices = [[*allowed, None] for allowed in choices]
    if math.prod(len(allowed) for allowed in choices) > MOST:
        raise TooLargeError
    costs = [
        found.cost
        for selections in itertools.product(*choices)
        if (found := programme.evaluate(selections)).feasible
    ]
    return min(costs, default=None)


def cheapest_of_pool(pool: ColumnPool) -> int | None:
    """Cost of the cheapest allowed column per project; capacities are firm."""
    choices: list[Sequence[int | None]] = [range(columns.cost.size) for columns in pool.projects]
    if pool.forgone is not None:
        choices = [[*known, None] for known in choices]
    if math.prod(len(known) for known in choices) > MOST:
        raise TooLargeError
    costs = [
        found.cost for chosen in itertools.product(*choices) if (found := pool.evaluate(chosen)).feasible
    ]
    return min(costs, default=None)


def _allowed(project: TimeCostProblem) -> list[tuple[int, ...] | None]:
    modes = [range(int(count)) for count in project.mode_counts]
    return [selection for selection in itertools.product(*modes) if project.evaluate(selection).feasible]
