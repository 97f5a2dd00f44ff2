"""The worst case inside an arrival curve as it is written (design §3): every path, every window, rational numbers.

It knows neither `mipplan.calculus.worstcase` nor the piecewise curves; an arrival curve is its (burst, rate) pairs.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from mipplan.pipeline import Edge, Join, Pipeline

NS_PER_S = 10**9

Number = int | Fraction
Buckets = Sequence[tuple[float, float]]
#: What is done with each stage's own time and with the wait: nothing, or rounding up to whole nanoseconds.
Rounding = Callable[[Number], Number]


def exactly(value: Number) -> Number:
    """Leave a number as it is."""
    return value


@dataclass(frozen=True)
class SlowService:
    """T in ns, and R in tokens per ns."""

    latency: int
    rate: Fraction


def slow_most_tokens(pipeline: Pipeline, stage: str) -> int:
    """F of one stage: along the edges back to the sources, anew for every stage."""
    incoming = pipeline.incoming(stage)
    if not incoming or pipeline.stages[stage].join is Join.ALL:
        return 1
    return sum(slow_most_tokens(pipeline, edge.parent) * max(edge.fanout.values) for edge in incoming)


def slow_alpha(buckets: Buckets, window: Number) -> Fraction:
    """Most queries in a closed window, in ns."""
    return min(Fraction(burst) + Fraction(rate) / NS_PER_S * window for burst, rate in buckets)


def slow_paths(pipeline: Pipeline) -> Iterator[tuple[tuple[str, ...], int]]:
    """Every path from a source to a stage without successor, with its delays in ns."""

    def onward(path: tuple[str, ...], delay: int) -> Iterator[tuple[tuple[str, ...], int]]:
        edges: tuple[Edge, ...] = tuple(pipeline.outgoing(path[-1]))
        if not edges:
            yield path, delay
        for edge in edges:
            yield from onward((*path, edge.child), delay + edge.delay_ns)

    for stage in pipeline.stages:
        if not pipeline.incoming(stage):
            yield from onward((stage,), 0)


@lru_cache(maxsize=4)
def slow_corners(buckets: tuple[tuple[float, float], ...]) -> tuple[tuple[Fraction, Fraction], ...]:
    """(u, α(u)) at 0 and wherever two lines of α cross on it."""
    lines = [(Fraction(burst), Fraction(rate) / NS_PER_S) for burst, rate in buckets]
    found = {Fraction(0): slow_alpha(buckets, 0)}
    for (b1, r1), (b2, r2) in itertools.combinations(lines, 2):
        window = (b2 - b1) / (r1 - r2) if r1 != r2 else Fraction(0)
        if window > 0 and slow_alpha(buckets, window) == b1 + r1 * window:
            found[window] = b1 + r1 * window
    return tuple(found.items())


def slow_wait(buckets: Buckets, slopes: Sequence[Fraction]) -> Number | None:
    """``sup_u [ max_v slope_v·(α(u) − 1) − u ]⁺`` over all u ≥ 0 jointly; None if it is infinite.

    Each stage's function is concave and piecewise linear, so it is enough to look where α has a corner; what
    happens where stages cross cannot exceed that.
    """
    if max(slopes) * min(Fraction(rate) for _, rate in buckets) / NS_PER_S > 1:
        return None
    return max(
        0, *(s * (queries - 1) - window for window, queries in slow_corners(tuple(buckets)) for s in slopes)
    )


def slow_worst_case(
    pipeline: Pipeline,
    services: Mapping[str, SlowService],
    buckets: Buckets,
    rounded: Rounding = exactly,
) -> Number | None:
    """The formula of design §3, ns, over every path; None if it is infinite."""
    most = {stage: slow_most_tokens(pipeline, stage) for stage in pipeline.stages}
    bounds: list[Number] = []
    for path, delay in slow_paths(pipeline):
        wait = slow_wait(buckets, [most[stage] / services[stage].rate for stage in path])
        if wait is None:
            return None
        own = sum(
            rounded(services[stage].latency + (most[stage] - 1) / services[stage].rate) for stage in path
        )
        bounds.append(own + delay + rounded(wait))
    return max(bounds)


def per_stage_worst_case(pipeline: Pipeline, services: Mapping[str, SlowService], buckets: Buckets) -> Number:
    """What looks like a simplification and is *wrong*: per path the largest delay of any one stage.

    It takes, stage by stage, the deviation of F·α from the service curve, tokens of the same query included, and
    pays the largest of them once.
    """
    most = {stage: slow_most_tokens(pipeline, stage) for stage in pipeline.stages}
    bounds: list[Number] = []
    for path, delay in slow_paths(pipeline):
        deviations: list[Number] = []
        for stage in path:
            wait = slow_wait(buckets, [most[stage] / services[stage].rate])
            assert wait is not None
            deviations.append(wait + (most[stage] - 1) / services[stage].rate)
        bounds.append(sum(services[stage].latency for stage in path) + delay + max(deviations))
    return max(bounds)


def reach_ns(buckets: Buckets, most: int) -> list[int]:
    """Shortest closed window (whole ns) that may hold 1, 2, … queries; as many as may ever come, up to `most`."""
    windows: list[int] = []
    for queries in range(1, most + 1):
        if any(rate == 0 and queries > burst for burst, rate in buckets):
            return windows
        windows.append(
            max(
                math.ceil(max(queries - Fraction(burst), 0) * NS_PER_S / Fraction(rate)) if rate > 0 else 0
                for burst, rate in buckets
            )
        )
    return windows


def conforms(arrival_ns: Sequence[int], buckets: Buckets) -> bool:
    """Whether no closed window of the arrivals holds more than the curve admits."""
    return all(
        last - first + 1 <= slow_alpha(buckets, arrival_ns[last] - arrival_ns[first])
        for first in range(len(arrival_ns))
        for last in range(first, len(arrival_ns))
    )
