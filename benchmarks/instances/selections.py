"""Selections found without a solver, in integers, to place deadlines by."""

from __future__ import annotations

import numpy as np

from mipplan_formulations import TimeCostProblem

#: Micro-dollars are weighed so much; prices of a microsecond go up to a power of two, and are told apart to so many
#: bits.
_PER_COST = 1 << 10
_HIGHEST_PRICE_BITS = 40
_PRICE_BITS = 12


def fastest(problem: TimeCostProblem) -> tuple[int, ...]:
    """Least duration plus wait per activity; among equals the cheapest."""
    return _least(problem, 0, 1)


def good(problem: TimeCostProblem) -> tuple[int, ...]:
    """Cheap, and within the deadline if the fastest is: the lowest price of time, one for all, that gets there."""
    best = fastest(problem)
    low, high = -1, 1 << _HIGHEST_PRICE_BITS
    while high - low > max(1, high >> _PRICE_BITS):
        # Halve the exponent first, then the interval.
        price = (
            (low + high) // 2
            if high < 4 * max(low, 1)
            else 1 << ((max(low, 1).bit_length() + high.bit_length()) // 2 - 1)
        )
        found = _least(problem, _PER_COST, price)
        if problem.evaluate(found).makespan <= problem.deadline:
            best, high = found, price
        else:
            low = price
    return best


def _least(problem: TimeCostProblem, per_cost: int, per_time: int) -> tuple[int, ...]:
    """Mode of least ``per_cost·cost + per_time·(duration + longest wait)``, time in microseconds, per activity."""
    waits = _longest_waits(problem)
    chosen = []
    for activity, wait in zip(problem.activities, waits, strict=True):
        time_us = (activity.duration + wait) // 1_000
        scores = [
            per_cost * c + per_time * t for c, t in zip(activity.cost.tolist(), time_us.tolist(), strict=True)
        ]
        least = min(scores)
        equal = [mode for mode, score in enumerate(scores) if score == least]
        chosen.append(min(equal, key=lambda mode: (int(time_us[mode]), int(activity.cost[mode]))))
    return tuple(chosen)


def _longest_waits(problem: TimeCostProblem) -> list[np.ndarray]:
    """Per activity and mode, the longest wait over the paths through it."""
    longest = [np.zeros(activity.num_modes, dtype=np.int64) for activity in problem.activities]
    seen: set[tuple[int, int]] = set()
    for path in problem.paths:
        for v, waits in zip(path.activities, path.waits, strict=True):
            if (v, id(waits)) not in seen:
                seen.add((v, id(waits)))
                np.maximum(longest[v], waits, out=longest[v])
    return longest
