"""Does a plan keep its objective? Replays that stop as soon as the answer is certain.

The quantile is an element of the sorted latencies (``method="higher"``): of n queries, those of higher rank than its
own may exceed the objective, and no more. A plan misses as soon as more than that are certain to; it keeps as soon as
all others are certain not to. A query is certain to exceed the objective once a floor under its latency does, so bad
plans are refuted within the first bursts; a good one is replayed until all but the last few queries are finished.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mipplan.core import NS_PER_S, Bool, Int64, check_quantile, check_seed, higher_rank
from mipplan.replayer.settings import group_by_tokens
from mipplan.replayer.stage_task import NEVER
from mipplan.replayer.walk import ChunkedReplay
from mipplan.result import resolve_slo_ns

if TYPE_CHECKING:
    from mipplan.replayer.settings import ReplaySettings
    from mipplan.replayer.stage_task import Engine
    from mipplan.result import Plan
    from mipplan.trace import Trace


@dataclass(frozen=True)
class VerdictParams:
    """How much is replayed between two looks at whether the verdict is certain; no verdict depends on it."""

    first_piece: int = 1_024
    """Queries replayed before the first look. Later pieces double, so that they stay few."""
    largest_share: int = 32
    """A piece is at most this part of the trace (one in …), so that little is replayed in vain."""
    queries_at_once: int = 2**22
    """Queries in a piece over all plans, at most, because it is held under all of them at once."""


@dataclass(frozen=True)
class Verdict:
    """Whether a plan keeps an objective on a trace, and how much of a replay it took to be certain.

    Attributes
    ----------
    keeps : bool
        Whether the latency quantile is at most the objective; what a full replay says.
    slo_s, quantile : float
    queries : int
        Queries of the trace.
    queries_replayed : int
        Queries taken in when the verdict became certain; the rest of the trace was not looked at.
    allowed_misses : int
        Queries that may exceed the objective.
    misses_at_least, misses_at_most : int
        Bounds of the number of queries that exceed it, from what was replayed.
    """

    keeps: bool
    slo_s: float
    quantile: float
    queries: int
    queries_replayed: int
    allowed_misses: int
    misses_at_least: int
    misses_at_most: int


def decide_many(
    plans: Sequence[Plan],
    trace: Trace,
    *,
    slo_s: float,
    quantile: float | None,
    settings: ReplaySettings,
    engine: Engine,
    seed: int | None = None,
    params: VerdictParams = VerdictParams(),
) -> list[Verdict]:
    """Judge several plans on one trace, in their order; parameters as for `mipplan.replayer.replay_many`.

    The engine can do what the settings need, and `EngineFeature.RESUME`.
    """
    verdicts: dict[int, Verdict] = {}
    for members in group_by_tokens([plan.require() for plan in plans], seed):
        group = [plans[member] for member in members]
        tallies = [_Tally(plan, len(trace), slo_s, quantile) for plan in group]
        drawn = check_seed(group[0].seed if seed is None else seed)
        chunks = ChunkedReplay(group, settings, engine, drawn)
        found = _decide(tallies, chunks, trace.arrival_ns, params)
        verdicts.update(zip(members, found, strict=True))
    return [verdicts[number] for number in range(len(plans))]


def _decide(
    tallies: Sequence[_Tally], chunks: ChunkedReplay, ingress_ns: Int64, params: VerdictParams
) -> list[Verdict]:
    start, size = 0, params.first_piece
    verdicts: dict[int, Verdict] = {}
    undecided = list(range(len(tallies)))
    while undecided:
        end = min(start + size, ingress_ns.size)
        last = end == ingress_ns.size
        chunks.advance(ingress_ns[start:end], NEVER if last else int(ingress_ns[end]) - 1)
        released = chunks.release(undecided)
        for plan, latency_ns in zip(undecided, released.latency_ns, strict=True):
            tallies[plan].count(latency_ns)
            verdict = tallies[plan].verdict(*chunks.latency_floor_ns(plan), chunks.seen)
            if verdict is not None:
                verdicts[plan] = verdict
        undecided = [plan for plan in undecided if plan not in verdicts]
        most = min(ingress_ns.size // params.largest_share, params.queries_at_once // max(len(undecided), 1))
        start, size = end, min(2 * size, max(params.first_piece, most))
    return [verdicts[plan] for plan in range(len(tallies))]


class _Tally:
    """The misses of one plan, until they decide."""

    def __init__(self, plan: Plan, queries: int, slo_s: float, quantile: float | None) -> None:
        self._queries = queries
        self._slo_ns = resolve_slo_ns(plan.pipeline, slo_s)
        self._quantile = check_quantile(plan.quantile if quantile is None else quantile)
        self._allowed = queries - 1 - higher_rank(self._quantile, queries)
        self._misses = 0

    def count(self, latency_ns: Int64) -> None:
        """Count the misses among queries that were released."""
        self._misses += int(np.count_nonzero(latency_ns > self._slo_ns))

    def verdict(self, floor_ns: Int64, finished: Bool, seen: int) -> Verdict | None:
        """Return the verdict if it is certain.

        Of the queries not yet released, `floor_ns` is a lower bound of the latency, and `finished` tells whether it is
        the latency itself; `seen` queries were taken in so far.
        """
        late = floor_ns > self._slo_ns
        least = self._misses + int(np.count_nonzero(late))
        most = least + int(np.count_nonzero(~late & ~finished)) + self._queries - seen
        if least <= self._allowed < most:
            return None
        return Verdict(
            least <= self._allowed,
            self._slo_ns / NS_PER_S,
            self._quantile,
            self._queries,
            seen,
            self._allowed,
            least,
            most,
        )
