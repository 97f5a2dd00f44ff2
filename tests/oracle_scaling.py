"""Replica counts as they are defined: try them one by one against the envelope bound (design §3), in rational numbers.

Knows neither closed forms nor corners: counts are tried upwards, windows are looked at one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import product

import numpy as np

from mipplan.pipeline import Pipeline
from oracle_envelope import Buckets, SlowService, slow_worst_case


def slow_least_counts(
    pipeline: Pipeline, services: Mapping[str, SlowService], buckets: Buckets, deadline_ns: int, most: int
) -> dict[str, int] | None:
    """Fewest replicas of each stage, all others at `most`, for which the envelope bound is within the deadline.

    `services` are those of one replica. Where no stage has more than one token per query, these counts together keep
    the deadline: that is what the closed form claims, and what is tested.
    """
    least = {}
    for stage in pipeline.stages:
        for count in range(1, most + 1):
            counts = {name: count if name == stage else most for name in pipeline.stages}
            if slow_keeps(pipeline, services, counts, buckets, deadline_ns):
                least[stage] = count
                break
        else:
            return None
    return least


def slow_keeps(
    pipeline: Pipeline,
    services: Mapping[str, SlowService],
    counts: Mapping[str, int],
    buckets: Buckets,
    deadline_ns: int,
) -> bool:
    """Whether the bound of design §3 is within the deadline with these counts."""
    scaled = {stage: SlowService(s.latency, s.rate * counts[stage]) for stage, s in services.items()}
    bound = slow_worst_case(pipeline, scaled, buckets)
    return bound is not None and bound <= deadline_ns


def slow_cheapest(
    pipeline: Pipeline,
    services: Mapping[str, SlowService],
    prices: Mapping[str, int],
    buckets: Buckets,
    deadline_ns: int,
    most: int,
) -> tuple[int, dict[str, int]] | None:
    """Cheapest counts from 1 to `most` that keep the bound: cost and counts."""
    best: tuple[int, dict[str, int]] | None = None
    for counts in product(range(1, most + 1), repeat=len(pipeline.stages)):
        named = dict(zip(pipeline.stages, counts, strict=True))
        cost = sum(prices[stage] * count for stage, count in named.items())
        if (best is None or cost < best[0]) and slow_keeps(pipeline, services, named, buckets, deadline_ns):
            best = (cost, named)
    return best


def slow_most_in_windows(arrival_ns: Sequence[int], length: int) -> int:
    """Most arrivals in a closed window of a length: one window from each arrival."""
    return max(
        (sum(1 for t in arrival_ns if start <= t <= start + length) for start in arrival_ns), default=0
    )


def slow_step(windows: Sequence[int], counts: Sequence[int], length: int) -> int:
    """Most arrivals that a closed window can hold for all that window counts say: cover it by measured windows.

    The cheapest cover, by dynamic programming over lengths in units of the greatest common divisor.
    """
    unit = int(np.gcd.reduce([*windows, length]))
    target = length // unit
    best = [0.0] + [float("inf")] * target
    for covered in range(1, target + 1):
        for window, count in zip(windows, counts, strict=True):
            best[covered] = min(best[covered], best[max(0, covered - window // unit)] + count)
    # An empty window (length 0) still holds what comes at one instant.
    return int(best[target]) if target else counts[0]


def slow_joined_steps(windows: Sequence[int], counts: Sequence[int], most_steps: int = 64) -> list[list[int]]:
    """Windows and bounds of the staircase, at most `most_steps` for each doubling: neighbours are joined.

    A window a little longer than one measured is that one and a rest; steps joined begin with the first of them and are
    as high as the last.
    """
    starts, bounds = [0], [counts[0]]
    longest, within = windows[0], counts[0]
    for window, count in zip(windows[1:], counts[1:], strict=True):
        while longest < window:
            length = min(window, 2 * longest)
            most = count if length == window else min(count, 2 * within)
            rests = [place for place, start in enumerate(starts) if start < length - longest]
            joined = -(-len(rests) // most_steps)
            for first in range(0, len(rests), joined):
                last = rests[first : first + joined][-1]
                starts.append(starts[first] + longest)
                bounds.append(min(bounds[last] + within, most))
            longest, within = length, most
    return [starts, bounds]


def slow_thinned(buckets: Buckets, share: Fraction) -> list[tuple[float, float]]:
    """Token buckets of a share of the traffic: ``1 + share·(α − 1)``."""
    return [(float(1 + share * (Fraction(b) - 1)), float(share * Fraction(r))) for b, r in buckets]
