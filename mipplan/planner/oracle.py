"""Oracles, which decide whether services keep a deadline: the certificate of a trace, or the worst case of an envelope.

Whether a plan keeps an objective on a trace depends on its slowest queries alone. Leaving all others out of the theorem
can only lower the bounds of those kept (the maximum over older tokens runs over fewer of them; token numbers
stay those of the whole trace), so a plan that misses the objective on a sample of critical queries misses it in truth.
Only what the sample does not refuse is put before the whole trace; and where the whole trace then refuses, the sample
learns from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Protocol

import numpy as np

from mipplan.calculus import PathWaits, StageService, WorstCase, analyse_paths, join_paths
from mipplan.certificate import CertificateEvaluator, FifoEvaluator, certify_fifo, certify_services
from mipplan.core import UNLIMITED_NS, Bool, Criterion, Float64, Int64, find_largest, greatest_values
from mipplan.planner.cuts import QueryCuts, Services, critical_chains, waited_for_queries
from mipplan.result import CriticalStage, Guarantee, RunClass
from mipplan.tokens import StageTokens, Workload


class SeparationOracle(Protocol):
    """Bounds the latency of plans; the bound grows with every T and all overtaking, and falls with every R.

    What has a body here is right, and quick where `certificate_ns` is.
    """

    @property
    def paths(self) -> PathWaits:
        """Waits per path, or lower bounds on them that are quick to evaluate and may get sharper with use."""

    def certificate_ns(self, services: Services) -> int:
        """Latency that is guaranteed under these services, ns."""

    def critical_path(self, services: Services) -> tuple[CriticalStage, ...]:
        """How the guaranteed latency comes about."""

    def by_sample(self, services: Services) -> tuple[int, ...]:  # noqa: ARG002
        """What is guaranteed on each of several samples, ns; nothing where there is one."""
        return ()

    def exceeds(self, services: Services, limit_ns: int) -> bool:
        """Whether the guaranteed latency exceeds `limit_ns`."""
        return self.certificate_ns(services) > limit_ns

    def surely_exceeds(self, services: Services, limit_ns: int) -> bool:
        """Quick test: True only if the guaranteed latency exceeds `limit_ns`."""
        return self.certificate_ns(services) > limit_ns

    def floor_ns(self, services: Services) -> int:
        """Return a lower bound on the guaranteed latency that costs little, ns."""
        return self.certificate_ns(services)

    def quick_bound(self, refused: Services, limit_ns: int) -> Callable[[Services], float]:  # noqa: ARG002
        """Return what bounds the latency in ns from below, down to a limit, of services near some that were refused."""
        return self.certificate_ns

    def query_cuts(self, services: Services, limit_ns: int, order: Sequence[str]) -> QueryCuts | None:  # noqa: ARG002
        """Queries that miss the limit or nearly so, for testing many services; None where latency is not by query."""
        return None


@dataclass(frozen=True)
class CriticalSampleParams:
    """How large samples of critical queries are, in terms of how many queries are too many to miss the objective."""

    #: Utilisations at which the longest waits of each stage are looked up at first.
    loads: tuple[float, ...] = (0.65,)
    #: For each load and each lesson this many times the queries that are too many are kept.
    watched: float = 1.5
    look_back: float = 1.0  # what came before a query is kept back to this many times its wait
    cutting: float = 1.5  # this many times the queries that are too many make cuts
    #: A sample of more than this share of the queries becomes the whole trace, because it saves too little.
    largest: float = 0.5


class CertificateOracle(SeparationOracle):
    """The certificate's quantile over the queries of one trace, and quick lower bounds on it from a sample of them.

    Latencies beyond `horizon_ns`, the deadline that will mostly be asked about, need not be told apart quickly: nobody
    waits for what came longer ago.
    """

    def __init__(
        self,
        workload: Workload,
        asked: float | Criterion,
        horizon_ns: int = UNLIMITED_NS,
        params: CriticalSampleParams = CriticalSampleParams(),
    ) -> None:
        self._workload, self._criterion = workload, Criterion.of(asked, workload.ingress_ns)
        self._horizon_ns, self._params = horizon_ns, params
        self._allowed = self._criterion.main.total
        self._whole = CertificateEvaluator(workload)
        self._decisive = self._whole  # whose latencies are the certificate's
        #: Certificates by services: that of what keeps a limit is mostly asked for again, at the end.
        self._certified_ns: dict[frozenset[tuple[str, StageService]], int] = {}
        self._kept = np.zeros(workload.queries, dtype=bool)  # which queries are in the sample
        # Of these, made when it is asked, and what they must keep.
        self._sample: tuple[CertificateEvaluator, Criterion] | None = None
        self._seed()

    @property
    def tokens(self) -> int:
        """Tokens of the trace, at all stages together."""
        return sum(stage.count for stage in self._workload.stages.values())

    def forget(self) -> None:
        """Let go of what the last questions left behind, not of what was learnt."""
        self._whole.forget()
        if self._sample is not None:
            self._sample[0].forget()

    @cached_property
    def paths(self) -> PathWaits:
        """Paths and waits of the whole trace."""
        return analyse_paths(self._workload, self._criterion)

    def certificate_ns(self, services: Services) -> int:
        """Certified latency quantile under these services, ns."""
        key = frozenset(services.items())
        if key not in self._certified_ns:
            self._certified_ns[key] = self._criterion.figure_ns(self._decisive.latency_ns(services))
        return self._certified_ns[key]

    def critical_path(self, services: Services) -> tuple[CriticalStage, ...]:
        """How a query at the quantile comes to its bound."""
        return certify_services(self._workload, services, self._criterion, self._whole).critical_path

    def exceeds(self, services: Services, limit_ns: int) -> bool:
        """Whether the certificate exceeds `limit_ns`; the whole trace is only asked if the sample does not know."""
        if self.surely_exceeds(services, limit_ns):
            return True
        latency_ns = self._decisive.latency_ns(services)
        exceeded = self._criterion.exceeds(latency_ns, limit_ns)
        if exceeded:
            self.learn(services, limit_ns)
        else:
            self._certified_ns[frozenset(services.items())] = self._criterion.figure_ns(latency_ns)
        return exceeded

    def surely_exceeds(self, services: Services, limit_ns: int) -> bool:
        """Whether the certificate exceeds `limit_ns` on the sample already; if False, it may still."""
        evaluator, criterion = self._current()
        return criterion.exceeds(evaluator.latency_ns(services), limit_ns)

    def floor_ns(self, services: Services) -> int:
        """Certified latency quantile of the sample, ns."""
        evaluator, criterion = self._current()
        return criterion.figure_ns(evaluator.latency_ns(services))

    def quick_bound(self, refused: Services, limit_ns: int) -> Callable[[Services], float]:
        """Return a quicker bound, under other services, by the queries whose bound exceeds `limit_ns` under these."""
        evaluator, criterion = self._current()
        exits = evaluator.exits_ns(refused)
        latency_ns = evaluator.workload.latency_ns(exits)
        asked, shift_ns = criterion.refusing(latency_ns, limit_ns)
        late, kept = asked.late(latency_ns, limit_ns - shift_ns, self._params.cutting)
        chains = critical_chains(evaluator.workload, refused, exits, late)
        # A latency is a whole number, which a lower bound on it is rounded up to.
        return lambda others: float(kept.figure(np.ceil(chains.latency_ns(others))) + shift_ns)

    def query_cuts(self, services: Services, limit_ns: int, order: Sequence[str]) -> QueryCuts | None:
        """Return cuts by the slowest queries under `services`, with the stages in the given order."""
        evaluator, criterion = self._current()
        exits = evaluator.exits_ns(services)
        latency_ns = evaluator.workload.latency_ns(exits)
        asked, shift_ns = criterion.refusing(latency_ns, limit_ns)
        slow, kept = asked.slowest(latency_ns, self._params.cutting)
        chains = critical_chains(evaluator.workload, services, exits, slow)
        return QueryCuts.of(chains, order, limit_ns - shift_ns, kept)

    def learn(self, services: Services, limit_ns: int) -> None:
        """Take in what is slowest under some services, and whom it waits for: then the sample refuses them, too.

        A query may wait for one that came long before it, for as long as the queue has not been empty in between.
        """
        exits = self._whole.exits_ns(services)
        latency_ns = self._workload.latency_ns(exits)
        self.learn_slowest(latency_ns, limit_ns)
        self._keep(waited_for_queries(self._workload, services, exits, self._slowest(latency_ns)))

    def learn_slowest(self, latency_ns: Int64, limit_ns: int) -> None:
        """Take in the slowest queries, given the certified latency of every query of the whole trace, shape (n,)."""
        ingress_ns = self._workload.ingress_ns
        slow = self._slowest(latency_ns)
        back = np.minimum(latency_ns[slow], limit_ns)
        first = np.searchsorted(ingress_ns, ingress_ns[slow] - back)
        self._keep(_covered(first, slow, self._workload.queries))

    def _current(self) -> tuple[CertificateEvaluator, Criterion]:
        """Evaluator of the sample as it is now, and what its queries must keep."""
        if self._sample is None:
            self._sample = self._whole, self._criterion
            if not self._kept.all():
                some = CertificateEvaluator(self._workload.restricted(self._kept))
                self._sample = some, self._criterion.restricted(self._kept)
        return self._sample

    def _keep(self, queries: Bool | Int64) -> None:
        if self._kept[queries].all():
            return
        self._kept[queries] = True
        if self._kept.mean() > self._params.largest:
            self._kept[:] = True
        self._sample = None

    def _seed(self) -> None:
        """Look up the longest waits of every stage at a few loads; stages that see the same tokens only once."""
        seen: list[StageTokens] = []
        for tokens in self._workload.stages.values():
            if tokens.count == 0 or any(np.array_equal(tokens.query, other.query) for other in seen):
                continue
            seen.append(tokens)
            ingress_ns = self._workload.ingress_ns
            arrival_ns = ingress_ns if tokens.one_per_query else ingress_ns[tokens.query]
            marked = np.zeros(tokens.count, dtype=bool)
            for load in self._params.loads:
                marked |= self._longest_waits(arrival_ns, load)
            self._keep(tokens.query[marked])

    def _longest_waits(self, arrival_ns: Int64, load: float) -> Bool:
        """Tokens that wait longest where the stage has this load, and those they wait for; shape (tokens,)."""
        count = arrival_ns.size
        since_ns = (arrival_ns - arrival_ns[0]).astype(np.float64)
        ahead_ns = np.arange(count) * (load * self._workload.span_ns / count)
        np.subtract(since_ns, ahead_ns, out=ahead_ns)
        greatest = np.maximum.accumulate(ahead_ns)
        wait_ns = np.subtract(greatest, ahead_ns, out=ahead_ns)
        slow = self._slowest(wait_ns)
        # A maximum lasts from the token that starts a busy period.
        start = np.searchsorted(greatest, greatest[slow])
        back_ns = np.minimum(self._params.look_back * wait_ns[slow], self._horizon_ns)
        back = np.searchsorted(since_ns, since_ns[slow] - back_ns)
        marked = _covered(np.maximum(start, back), slow, count)
        marked[start] = True
        return marked

    def _slowest(self, values: Int64 | Float64) -> Int64:
        """Index of the watched share of the values, the greatest."""
        share = self._params.watched * (self._allowed + 1) / self._workload.queries
        count = math.ceil(share * values.size)
        return greatest_values(values, count, among=find_largest(values, count))


class FifoOracle(CertificateOracle):
    """The same where queues are served by arrival; what is refused even if the oldest comes first needs no more."""

    def __init__(
        self, workload: Workload, asked: float | Criterion, runs: RunClass, horizon_ns: int = UNLIMITED_NS
    ) -> None:
        super().__init__(workload, asked, horizon_ns)
        self._runs = runs
        self._decisive = self._by_arrival = self._extract = FifoEvaluator(workload, runs)

    def forget(self) -> None:
        """Let go of what the last questions left behind, not of what was learnt."""
        super().forget()
        self._by_arrival.forget()
        self._extract.forget()

    def critical_path(self, services: Services) -> tuple[CriticalStage, ...]:
        """How a query at the quantile comes to its bound."""
        return certify_fifo(self._workload, services, self._criterion, self._runs).critical_path

    def learn(self, services: Services, limit_ns: int) -> None:
        """Take in what is slowest even with the oldest first; if that keeps the limit, what is slowest by arrival."""
        if self._criterion.exceeds(self._whole.latency_ns(services), limit_ns):
            super().learn(services, limit_ns)
        else:
            self.learn_slowest(self._by_arrival.latency_ns(services), limit_ns)

    def learn_slowest(self, latency_ns: Int64, limit_ns: int) -> None:
        """Take in the slowest queries, and those that came while they may have waited: these may be ahead."""
        super().learn_slowest(latency_ns, limit_ns)
        ingress_ns, slow = self._workload.ingress_ns, self._slowest(latency_ns)
        last_ns = ingress_ns[slow] + np.minimum(latency_ns[slow], limit_ns)
        last = np.searchsorted(ingress_ns, last_ns, side="right") - 1
        self._keep(_covered(slow, last, self._workload.queries))

    def surely_exceeds(self, services: Services, limit_ns: int) -> bool:
        """Whether the certificate exceeds `limit_ns` on the sample already; if False, it may still."""
        if super().surely_exceeds(services, limit_ns):
            return True
        _, criterion = self._current()
        return criterion.exceeds(self._current_by_arrival().latency_ns(services), limit_ns)

    def floor_ns(self, services: Services) -> int:
        """Certified latency quantile of the sample, ns."""
        _, criterion = self._current()
        return criterion.figure_ns(self._current_by_arrival().latency_ns(services))

    def quick_bound(self, refused: Services, limit_ns: int) -> Callable[[Services], float]:
        """Return the quickest of the bounds that see that services are refused; else the certificate itself."""
        bound_ns = super().quick_bound(refused, limit_ns)
        if bound_ns(refused) > limit_ns:
            return bound_ns
        return self.floor_ns if self.floor_ns(refused) > limit_ns else self.certificate_ns

    def _current_by_arrival(self) -> FifoEvaluator:
        """Evaluator of the sample as it is now."""
        sample = self._current()[0].workload
        if sample is self._workload:
            return self._by_arrival
        if self._extract.workload is not sample:
            self._extract = FifoEvaluator(sample, self._runs, self._by_arrival)
        return self._extract

    def query_cuts(self, services: Services, limit_ns: int, order: Sequence[str]) -> QueryCuts | None:
        """Return cuts by the slowest queries if these would be too slow even with the oldest first."""
        if super().surely_exceeds(services, limit_ns):
            return super().query_cuts(services, limit_ns, order)
        return None


class JointOracle(SeparationOracle):
    """Several samples, each of which must keep the deadline by itself: what one of them refuses is refused.

    A cut, a bound or late queries of one of them hold for all together. What refused last is asked first.
    """

    def __init__(self, parts: Sequence[CertificateOracle]) -> None:
        self._parts, self._order = tuple(parts), list(parts)

    @cached_property
    def paths(self) -> PathWaits:
        """Paths of all samples, with the longest wait of any of them."""
        return join_paths([part.paths for part in self._parts])

    def by_sample(self, services: Services) -> tuple[int, ...]:
        """Certified latency quantile on each sample, ns."""
        return tuple(part.certificate_ns(services) for part in self._parts)

    def certificate_ns(self, services: Services) -> int:
        """Greatest certified latency quantile of any sample, ns."""
        return max(self.by_sample(services))

    def critical_path(self, services: Services) -> tuple[CriticalStage, ...]:
        """How the greatest of them comes about."""
        return max(self._parts, key=lambda part: part.certificate_ns(services)).critical_path(services)

    def exceeds(self, services: Services, limit_ns: int) -> bool:
        """Whether any certificate exceeds `limit_ns`; whole traces are only asked if no sample of them knows."""
        return self.surely_exceeds(services, limit_ns) or self._any(lambda p: p.exceeds(services, limit_ns))

    def surely_exceeds(self, services: Services, limit_ns: int) -> bool:
        """Whether any certificate exceeds `limit_ns` for certain; if False, one may still."""
        return self._any(lambda part: part.surely_exceeds(services, limit_ns))

    def _any(self, refuses: Callable[[CertificateOracle], bool]) -> bool:
        """Whether a sample refuses: it is then likely to refuse again, and knows why."""
        found = next((part for part in self._order if refuses(part)), None)
        if found is not None:
            self._order.remove(found)
            self._order.insert(0, found)
        return found is not None

    def floor_ns(self, services: Services) -> int:
        """Greatest of the lower bounds on all certificates, ns."""
        return max(part.floor_ns(services) for part in self._parts)

    def quick_bound(self, refused: Services, limit_ns: int) -> Callable[[Services], float]:
        """Return that of the first sample that sees why these are refused."""
        for part in self._order:
            bound_ns = part.quick_bound(refused, limit_ns)
            if bound_ns(refused) > limit_ns:
                break
        return bound_ns

    def query_cuts(self, services: Services, limit_ns: int, order: Sequence[str]) -> QueryCuts | None:
        """Return those of the sample that refused last."""
        return self._order[0].query_cuts(services, limit_ns, order)


class WorstCaseOracle(WorstCase, SeparationOracle):
    """The worst case over all traffic inside an arrival curve: quick, and not that of a query."""

    def certificate_ns(self, services: Services) -> int:
        """Worst latency of any query under these services, ns."""
        return self.bound_ns(services)


#: What certifies plans, by what is guaranteed.
ORACLES: Mapping[Guarantee, type[SeparationOracle]] = MappingProxyType(
    {Guarantee.TRACE: CertificateOracle, Guarantee.ENVELOPE: WorstCaseOracle}
)


def _covered(first: Int64, last: Int64, count: int) -> Bool:
    """Which of 0, …, count − 1 lie in some interval from `first` to `last`, ends included; shape (count,)."""
    change = np.bincount(first, minlength=count + 1)
    change -= np.bincount(last + 1, minlength=count + 1)
    return np.cumsum(change, out=change)[:count] > 0
