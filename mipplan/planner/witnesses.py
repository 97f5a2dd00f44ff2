"""Queries that bear witness against services: linear bounds on their latency, for judging many services at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Float64
from mipplan.planner.chains import Chains

#: Many choices are put to many witnesses in pieces: of so many witnesses, …
_TOGETHER = 1024
#: … and so many products. More would leave the cache, and threads that wait for each other would take over.
_PRODUCTS = 250_000


@dataclass(frozen=True, eq=False)
class QueryCuts:
    """By how much queries miss a limit at least, as linear functions of every stage's T and 1/R.

    Attributes
    ----------
    constant_ns : float64, shape (q,)
        Less the limit, and less what rounding may add to any sum that is about as large as the limit.
    uses, tokens : float64, shape (stages, q)
        See `Chains`.
    allowed : int
        More queries than this may not miss the limit.
    """

    constant_ns: Float64
    uses: Float64
    tokens: Float64
    allowed: int

    @classmethod
    def of(cls, chains: Chains, order: Sequence[str], limit_ns: int, allowed: int) -> QueryCuts:
        """Make witnesses of critical chains, with the stages in the given order."""
        place = [chains.stages.index(stage) for stage in order]
        # Sums of fewer than 4·(stages + 6) terms: off by an ε each, of all terms together. Only the constant may be
        # negative, so where the sum is near the limit these are at most twice |constant| + limit.
        share = 8 * (len(place) + 6) * np.finfo(np.float64).eps
        margin_ns = share * (np.abs(chains.constant_ns) + limit_ns)
        return cls(
            chains.constant_ns - limit_ns - margin_ns, chains.uses[place], chains.tokens[place], allowed
        )

    def excess_ns(self, latency_ns: Float64, period_ns: Float64) -> Float64:
        """Lower bounds on how far each query misses the limit, given T and 1/R of every stage; shape (q,)."""
        excess: Float64 = self.constant_ns + latency_ns @ self.uses + period_ns @ self.tokens
        return excess

    def refuse(self, excess_ns: Float64) -> bool:
        """Whether too many miss the limit."""
        return int(np.count_nonzero(excess_ns > 0)) > self.allowed

    def refuse_many(self, latency_ns: Float64, period_ns: Float64) -> NDArray[np.bool_]:
        """Whether too many miss the limit, given T and 1/R of every stage of many choices, shape (k, stages)."""
        services = np.concatenate([latency_ns, period_ns], axis=1)
        late = np.zeros(len(services), dtype=np.int64)
        for first in range(0, self.constant_ns.size, _TOGETHER):
            some = slice(first, first + _TOGETHER)
            chains = np.concatenate([self.uses[:, some], self.tokens[:, some]])
            in_time = -self.constant_ns[some]
            step = max(1, _PRODUCTS // max(1, chains.size))
            for start in range(0, len(services), step):
                asked = slice(start, start + step)
                late[asked] += np.count_nonzero(services[asked] @ chains > in_time, axis=1)
        return late > self.allowed

    def refuse_some(self, excess_ns: Float64, more_latency_ns: Float64, more_period_ns: Float64) -> list[int]:
        """Stages any one of which, if T and 1/R grow by that much, shape (stages,), makes too many miss the limit."""
        worst = excess_ns + more_latency_ns[:, None] * self.uses + more_period_ns[:, None] * self.tokens
        return np.flatnonzero(np.count_nonzero(worst > 0, axis=1) > self.allowed).tolist()

    def burdens_ns(self, more_latency_ns: Float64, more_period_ns: Float64) -> Float64:
        """Sum over queries of what they wait longer if T and 1/R of one stage grow by that much, shape (stages,)."""
        burdens: Float64 = more_latency_ns * self.uses.sum(axis=1) + more_period_ns * self.tokens.sum(axis=1)
        return burdens

    def refuse_each(
        self, excess_ns: Float64, stage: int, more_latency_ns: Float64, more_period_ns: Float64
    ) -> NDArray[np.bool_]:
        """Whether too many miss the limit once one stage gets that much slower; shape (options,).

        Parameters
        ----------
        excess_ns : float64, shape (q,)
        stage : int
        more_latency_ns, more_period_ns : float64, shape (options,)
            By how much T and 1/R of the stage grow, at least 0.
        """
        needed = self.allowed + 1 - int(np.count_nonzero(excess_ns > 0))
        # What is on time even where the stage is slowest is on time with all its options.
        slowest = (
            excess_ns + more_latency_ns.max() * self.uses[stage] + more_period_ns.max() * self.tokens[stage]
        )
        doubtful = np.flatnonzero((excess_ns <= 0) & (slowest > 0))
        if doubtful.size < needed:
            return np.zeros(more_latency_ns.size, dtype=bool)
        uses, tokens = self.uses[stage, doubtful], self.tokens[stage, doubtful]
        excess = excess_ns[doubtful] + more_latency_ns[:, None] * uses + more_period_ns[:, None] * tokens
        refused: NDArray[np.bool_] = np.count_nonzero(excess > 0, axis=1) >= needed
        return refused
