"""The part of a trace that decides: the queries that wait longest, and what they wait for.

Whether a plan keeps an objective depends on its slowest queries alone. Leaving all others out of the theorem
can only lower the bounds of those kept (the maximum over older tokens runs over fewer of them; token numbers
stay those of the whole trace), so a plan that misses the objective on an extract misses it in truth. Only what an
extract does not refuse is put before the whole trace; and where the whole trace then refuses, the extract learns
from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan.calculus import StageService
from mipplan.certificate import CertificateEvaluator
from mipplan.core import UNLIMITED_NS, higher_rank, order_statistic
from mipplan.planner.chains import Chains, critical_chains, waited_for_queries
from mipplan.planner.witnesses import QueryCuts
from mipplan.tokens import StageTokens

#: Utilisations at which the longest waits of each stage are looked up.
_LOADS = (0.65,)
#: This many times the queries that are too many to miss the objective are kept for each …
_WATCHED = 1.5
#: … and what came before them, back to this many times their wait.
_LOOK_BACK = 1.0
#: So many times the queries that are too many to miss the objective bear witness.
_WITNESSES = 1.5
#: An extract of more than this share of the queries is not worth having.
_LARGEST = 0.5


@dataclass(frozen=True)
class Misses:
    """The queries that miss a limit under some services, and why: a quick test for services somewhat better.

    Attributes
    ----------
    chains : Chains
        How they come to their latency under those services.
    limit_ns : int
    allowed : int
        More queries than this may not miss the limit.
    """

    chains: Chains
    limit_ns: int
    allowed: int

    def surely_exceeds(self, services: Mapping[str, StageService]) -> bool:
        """Whether under other services, too, these queries alone are too many to miss the limit."""
        return int(np.count_nonzero(self.chains.latency_ns(services) > self.limit_ns)) > self.allowed

    def floor_ns(self, services: Mapping[str, StageService]) -> int:
        """Return a lower bound on the certificate under other services; of use down to the limit."""
        return _reached_by_more(self.chains.latency_ns(services), self.allowed)


class CriticalSample:
    """Quick lower bounds on certificates, from part of a workload.

    Parameters
    ----------
    whole : CertificateEvaluator
        Of the workload.
    quantile : float
        Of latency over queries, in (0, 1].
    horizon_ns : int
        Latencies beyond it need not be told apart: nobody waits for what came longer ago.
    """

    def __init__(self, whole: CertificateEvaluator, quantile: float, horizon_ns: int = UNLIMITED_NS) -> None:
        self._whole = whole
        self._workload = workload = whole.workload
        self._horizon_ns = horizon_ns
        self._allowed = workload.queries - 1 - higher_rank(quantile, workload.queries)
        self._kept = np.zeros(workload.queries, dtype=bool)
        self._evaluator: CertificateEvaluator | None = None
        self._seed()

    @property
    def queries(self) -> int:
        """Number of queries kept."""
        return int(np.count_nonzero(self._kept))

    def exceeds(self, services: Mapping[str, StageService], limit_ns: int) -> bool:
        """Whether the certificate surely exceeds `limit_ns`; if False, it may still."""
        latency_ns = self._current().latency_ns(services)
        return int(np.count_nonzero(latency_ns > limit_ns)) > self._allowed

    def floor_ns(self, services: Mapping[str, StageService]) -> int:
        """Return a lower bound on the certificate."""
        return _reached_by_more(self._current().latency_ns(services), self._allowed)

    def misses(self, services: Mapping[str, StageService], limit_ns: int) -> Misses:
        """Return the queries whose bound exceeds `limit_ns` under `services`, for quick tests of other services."""
        evaluator = self._current()
        exits = evaluator.exits_ns(services)
        late = np.flatnonzero(evaluator.workload.latency_ns(exits) > limit_ns)
        return Misses(critical_chains(evaluator.workload, services, exits, late), limit_ns, self._allowed)

    def witnesses(
        self, services: Mapping[str, StageService], limit_ns: int, order: Sequence[str]
    ) -> QueryCuts:
        """Return the slowest queries under `services`, for testing many others at once, stages in the given order."""
        evaluator = self._current()
        exits = evaluator.exits_ns(services)
        latency_ns = evaluator.workload.latency_ns(exits)
        wanted = min(latency_ns.size, math.ceil(_WITNESSES * (self._allowed + 1)))
        slow = _greatest(latency_ns, wanted)
        chains = critical_chains(evaluator.workload, services, exits, slow)
        return QueryCuts.of(chains, order, limit_ns, self._allowed)

    def learn(self, services: Mapping[str, StageService], limit_ns: int) -> None:
        """Take in what is slowest under some services, and whom it waits for: then the extract refuses them, too.

        A query may wait for one that came long before it, for as long as the queue has not been empty in between.
        """
        exits = self._whole.exits_ns(services)
        latency_ns = self._workload.latency_ns(exits)
        self.learn_slowest(latency_ns, limit_ns)
        kept = np.zeros(self._workload.queries, dtype=bool)
        kept[waited_for_queries(self._workload, services, exits, self._greatest(latency_ns))] = True
        self._keep(kept)

    def learn_slowest(self, latency_ns: NDArray[np.int64], limit_ns: int) -> None:
        """Take in the slowest queries, given the certified latency of every query of the whole trace, shape (n,)."""
        ingress_ns = self._workload.ingress_ns
        slow = self._greatest(latency_ns)
        back = np.minimum(latency_ns[slow], limit_ns)
        first = np.searchsorted(ingress_ns, ingress_ns[slow] - back)
        self._keep(_covered(first, slow, self._workload.queries))

    def forget(self) -> None:
        """Let go of what the last question left behind, not of what was learnt."""
        if self._evaluator is not None:
            self._evaluator.forget()

    def _current(self) -> CertificateEvaluator:
        if self._evaluator is None:
            self._evaluator = (
                self._whole
                if self._kept.all()
                else CertificateEvaluator(self._workload.restricted(self._kept))
            )
        return self._evaluator

    def _keep(self, queries: NDArray[np.bool_]) -> None:
        if not np.any(queries & ~self._kept):
            return
        self._kept |= queries
        if self._kept.mean() > _LARGEST:
            self._kept[:] = True
        self._evaluator = None

    def _seed(self) -> None:
        """Look up the longest waits of every stage at a few loads; stages that see the same tokens only once."""
        seen: list[StageTokens] = []
        for tokens in self._workload.stages.values():
            if tokens.count == 0 or any(np.array_equal(tokens.query, other.query) for other in seen):
                continue
            seen.append(tokens)
            arrival_ns = self._workload.ingress_ns[tokens.query]
            marked = np.zeros(tokens.count, dtype=bool)
            for load in _LOADS:
                marked |= self._longest_waits(arrival_ns, load)
            kept = np.zeros(self._workload.queries, dtype=bool)
            kept[tokens.query[marked]] = True
            self._keep(kept)

    def _longest_waits(self, arrival_ns: NDArray[np.int64], load: float) -> NDArray[np.bool_]:
        """Tokens that wait longest where the stage has this load, and those they wait for; shape (tokens,)."""
        count = arrival_ns.size
        since_ns = (arrival_ns - arrival_ns[0]).astype(np.float64)
        ahead_ns = np.arange(count) * (load * self._workload.span_ns / count)
        ahead_ns -= since_ns
        np.negative(ahead_ns, out=ahead_ns)
        greatest = np.maximum.accumulate(ahead_ns)
        wait_ns = greatest - ahead_ns
        slow = self._greatest(wait_ns)
        # A maximum lasts from the token that starts a busy period.
        start = np.searchsorted(greatest, greatest[slow])
        back_ns = np.minimum(_LOOK_BACK * wait_ns[slow], self._horizon_ns)
        back = np.searchsorted(since_ns, since_ns[slow] - back_ns)
        marked = _covered(np.maximum(start, back), slow, count)
        marked[start] = True
        return marked

    def _greatest(self, values: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.int64]:
        """Index of the watched share of the values, see `_greatest`."""
        share = _WATCHED * (self._allowed + 1) / self._workload.queries
        return _greatest(values, min(values.size, math.ceil(share * values.size)))


def _greatest(values: NDArray[np.int64] | NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Index of so many values, the greatest of them, ascending; of equal ones, the first.

    (An `argpartition` would take any of these, on another processor others.)
    """
    least = np.partition(values, values.size - count)[values.size - count]
    chosen = values > least
    chosen[np.flatnonzero(values == least)[: count - np.count_nonzero(chosen)]] = True
    return np.flatnonzero(chosen)


def _reached_by_more(latency_ns: NDArray[np.int64] | NDArray[np.float64], allowed: int) -> int:
    """Latency that more than `allowed` queries reach, whole ns; 0 if there are no more than these."""
    rank = latency_ns.size - 1 - allowed
    return order_statistic(latency_ns, rank) if rank >= 0 else 0


def _covered(first: NDArray[np.int64], last: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    """Which of 0, …, count − 1 lie in some interval from `first` to `last`, ends included; shape (count,)."""
    change = np.bincount(first, minlength=count + 1) - np.bincount(last + 1, minlength=count + 1)
    return np.cumsum(change[:count]) > 0
