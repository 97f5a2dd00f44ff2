"""What is measured."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

OURS = ("numba", "numpy", "python")
PEERS = ("heap", "simpy", "ciw")
#: Queries per second of the reference chain: its stages are then busy for 65, 73 and 53 % with full batches.
RATE_RPS = 800.0
#: With single tokens the stages serve 333, 440 and 333 queries/s.
SINGLE_TOKEN_RPS = 240.0
#: No engine gets a case much longer than ten seconds: so many visits of a query to a stage, at most.
MOST_VISITS = {"python": 3_000_000, "heap": 9_000_000, "simpy": 3_000_000, "ciw": 300_000}
#: As many plans, for those who replay one after the other in Python.
MOST_PLANS = 16


@dataclass(frozen=True)
class Case:
    """One measurement, in a process of its own.

    Attributes
    ----------
    group : str
        The question it answers: ``queries``, ``rate``, ``stages``, ``plans``, ``single token`` or ``stream``.
    engine : str
        One of `OURS` or `PEERS`.
    arrivals : str
        A key of `benchmarks.replay.instances.ARRIVALS`.
    plans, plans_are : int, str
        ``apart`` from the first stage on, or as a ``search`` meets them.
    source : str
        Of a stream: ``generator`` or ``parquet``.
    """

    group: str
    engine: str
    arrivals: str
    queries: int
    rate_rps: float = RATE_RPS
    discipline: str = "fifo"
    stages: int = 3
    single_token: bool = False
    plans: int = 1
    plans_are: str = "apart"
    source: str = "generator"

    @property
    def is_affordable(self) -> bool:
        """Whether this engine is done within some ten seconds."""
        if self.plans > MOST_PLANS and self.engine not in ("numba", "numpy"):
            return False
        visits = self.queries * self.stages * self.plans
        return visits <= MOST_VISITS.get(self.engine, visits)


def list_cases(*, quick: bool) -> list[Case]:
    """All cases worth their time, in the order of the summary."""
    return [case for case in _wanted(quick) if case.is_affordable]


def _wanted(quick: bool) -> Iterator[Case]:
    small = 20_000 if quick else 200_000
    both = ("poisson", "gamma")
    batching = (*OURS, "heap", "simpy")
    for arrivals in both:
        for queries in (small, 50_000) if quick else (small, 1_000_000, 10_000_000):
            for engine in batching:
                yield Case("queries", engine, arrivals, queries)
        for queries in (50_000,) if quick else (small, 10_000_000):
            for engine in OURS:
                yield Case("queries", engine, arrivals, queries, discipline="oldest_first")
    for arrivals in both:
        for rate_rps in (1_000.0,) if quick else (500.0, 1_000.0):
            for engine in ("numba", "numpy", "heap"):
                yield Case("rate", engine, arrivals, small, rate_rps=rate_rps)
    for stages in (1, 4) if quick else (1, 3, 10):
        for engine in batching:
            yield Case("stages", engine, "poisson", small, stages=stages)
    for plans_are in ("apart", "search"):
        for plans in (1, 16, 128) if quick else (1, 16, 128, 1_024):
            for engine in batching:
                queries = 2_000 if quick else 10_000
                yield Case("plans", engine, "poisson", queries, plans=plans, plans_are=plans_are)
    for engine in OURS[:2]:
        plans = 128 if quick else 1_024
        yield Case("plans", engine, "gamma", 2_000 if quick else 10_000, plans=plans)
    for arrivals in both:
        for queries in (5_000,) if quick else (100_000, 1_000_000, 10_000_000):
            for engine in (*OURS, *PEERS):
                yield Case(
                    "single token", engine, arrivals, queries, rate_rps=SINGLE_TOKEN_RPS, single_token=True
                )
    yield from _streams(quick)


def _streams(quick: bool) -> Iterator[Case]:
    size = 100_000 if quick else 10_000_000
    for engine in OURS[:2]:
        for arrivals in ("poisson", "gamma"):
            yield Case("stream", engine, arrivals, size)
    yield Case("stream", "numba", "gamma", size, source="parquet")
    if not quick:
        yield Case("stream", "numba", "poisson", 100_000_000)
        yield Case("stream", "numba", "gamma", 100_000_000)
        yield Case("stream", "numpy", "gamma", 100_000_000)
