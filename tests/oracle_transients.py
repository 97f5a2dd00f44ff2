"""The transient theorem as it is written (theory, section 10): every path, every window, rational numbers.

It knows neither `mipplan.tuner` nor piecewise curves. An arrival curve is its (burst, rate) pairs, replicas are those
that serve before the delay and after it, a backlog is tokens per stage.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction

from mipplan.pipeline import Join, Pipeline
from oracle_envelope import NS_PER_S, Buckets, SlowService, slow_alpha, slow_most_tokens, slow_paths


@dataclass(frozen=True)
class SlowChange:
    """A change of replicas: from how many of each stage to how many, and how long orders take, ns."""

    active: Mapping[str, int]
    replicas: Mapping[str, int]
    delay: int

    @property
    def before(self) -> dict[str, int]:
        """Who serves until the delay is over: those removed go at once."""
        return {stage: min(count, self.active[stage]) for stage, count in self.replicas.items()}

    @property
    def wait(self) -> int:
        """Until when counts may rise; nothing is waited for if none do."""
        rises = any(count > self.active[stage] for stage, count in self.replicas.items())
        return self.delay if rises else 0


def slow_before(pipeline: Pipeline, stage: str) -> set[str]:
    """A stage and all on the way to it."""
    return {stage}.union(*(slow_before(pipeline, edge.parent) for edge in pipeline.incoming(stage)))


def slow_gathers(pipeline: Pipeline, stage: str) -> bool:
    """Whether a stage merges what may be several tokens of a query."""
    edges = pipeline.incoming(stage)
    merges = pipeline.stages[stage].join is Join.ALL
    return merges and sum(slow_most_tokens(pipeline, edge.parent) for edge in edges) > 1


def slow_backlog(pipeline: Pipeline, stage: str, tokens: Mapping[str, int]) -> int:
    """Q of a stage: tokens at it and before it, and before every stage further on that gathers."""
    counted = slow_before(pipeline, stage)
    for other in pipeline.stages:
        if stage in slow_before(pipeline, other) and slow_gathers(pipeline, other):
            counted |= slow_before(pipeline, other) - {other}
    return sum(tokens.get(other, 0) for other in counted)


def slow_time(work: Fraction, early: Fraction, late: Fraction, delay: int) -> Fraction:
    """When an amount of work is done that is served at one rate until the delay is over, and at another after it."""
    if early > 0 and work <= early * delay:
        return work / early
    return delay + (work - early * delay) / late if work > 0 else Fraction(0)


def slow_transient(
    pipeline: Pipeline,
    services: Mapping[str, SlowService],
    buckets: Buckets,
    change: SlowChange,
    backlog: int | Mapping[str, int],
) -> Fraction | None:
    """Evaluate the bound, ns, over every path, for services of one replica; None if there is none."""
    most = {stage: slow_most_tokens(pipeline, stage) for stage in pipeline.stages}
    paths = list(slow_paths(pipeline))
    early = {stage: services[stage].rate * count for stage, count in change.before.items()}
    late = {stage: services[stage].rate * count for stage, count in change.replicas.items()}
    waits: dict[str, Fraction] = {}
    for stage in pipeline.stages:
        together = [path for path, _ in paths if stage in path]
        least = min(early[other] / most[other] for path in together for other in path if most[other])
        queries = backlog if isinstance(backlog, int) else slow_backlog(pipeline, stage, backlog)
        if not most[stage]:
            waits[stage] = Fraction(0)
            continue
        last = late[stage] / most[stage]
        first = least if change.wait else last
        if first <= 0 or min(Fraction(rate) for _, rate in buckets) / NS_PER_S > last:
            return None
        waits[stage] = max(
            slow_time(slow_alpha(buckets, window) - 1 + queries, first, last, change.wait) - window
            for window in slow_windows(buckets, 1 - queries + first * change.wait)
        )
    return max(
        sum(
            services[stage].latency
            + slow_time(Fraction(max(0, most[stage] - 1)), early[stage], late[stage], change.wait)
            for stage in path
        )
        + delay
        + max(Fraction(0), *(waits[stage] for stage in path))
        for path, delay in paths
    )


def slow_windows(buckets: Buckets, served: Fraction) -> Collection[Fraction]:
    """Windows at which a wait may be longest: 0, where two lines of α cross, and where one reaches what is served."""
    lines = [(Fraction(burst), Fraction(rate) / NS_PER_S) for burst, rate in buckets]
    crossings = [(b2 - b1) / (r1 - r2) for (b1, r1), (b2, r2) in itertools.combinations(lines, 2) if r1 != r2]
    reaching = [(served - burst) / rate for burst, rate in lines if rate > 0]
    return {window for window in [Fraction(0), *crossings, *reaching] if window >= 0}
