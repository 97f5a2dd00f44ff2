"""Who decides whether a plan keeps its objective: the certificate of a trace, or the worst case of an envelope."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from mipplan.calculus import PathWaits, StageService, WorstCase, analyse_paths
from mipplan.certificate import CertificateEvaluator, certify_services
from mipplan.core import UNLIMITED_NS, quantile_exceeds, quantile_ns
from mipplan.planner.extract import CriticalSample
from mipplan.planner.witnesses import QueryCuts
from mipplan.result import CriticalStage
from mipplan.tokens import Workload

Services = Mapping[str, StageService]


class QuickTest(Protocol):
    """Quick and one-sided: judges services near some that were refused."""

    def surely_exceeds(self, services: Services) -> bool:
        """Return True only if the guaranteed latency exceeds the limit."""

    def floor_ns(self, services: Services) -> int:
        """Return a lower bound on the guaranteed latency, ns."""


class Oracle(Protocol):
    """Bounds the latency of plans; the bound grows with every T and falls with every R."""

    @property
    def paths(self) -> PathWaits:
        """Waits per path, or lower bounds on them that are quick to evaluate and may get sharper with use."""

    def bound_ns(self, services: Services) -> int:
        """Latency bound of the planning problem (a relaxation of the guaranteed latency), ns."""

    def certificate_ns(self, services: Services) -> int:
        """Latency that is guaranteed under these services, ns."""

    def floor_ns(self, services: Services) -> int:
        """Return a lower bound on the guaranteed latency that costs little, ns."""

    def exceeds(self, services: Services, limit_ns: int) -> bool:
        """Whether the guaranteed latency exceeds `limit_ns`."""

    def surely_exceeds(self, services: Services, limit_ns: int) -> bool:
        """Quick test: True only if the guaranteed latency exceeds `limit_ns`."""

    def quick_test(self, refused: Services, limit_ns: int) -> QuickTest:
        """Make a test for services near some that were refused, cheaper still than `surely_exceeds`."""

    def witnesses(self, services: Services, limit_ns: int, order: Sequence[str]) -> QueryCuts | None:
        """Queries that miss the limit or nearly so, for testing many services; None where latency is not by query."""

    def critical_path(self, services: Services) -> tuple[CriticalStage, ...]:
        """How the guaranteed latency comes about."""


class CertificateOracle:
    """The certificate's quantile over the queries of one trace.

    Parameters
    ----------
    workload : Workload
    quantile : float
    horizon_ns : int
        Latencies beyond it need not be told apart quickly: the deadline that will mostly be asked about.
    """

    def __init__(self, workload: Workload, quantile: float, horizon_ns: int = UNLIMITED_NS) -> None:
        self._workload = workload
        self._quantile = quantile
        self._horizon_ns = horizon_ns
        self._evaluator = CertificateEvaluator(workload)

    @property
    def tokens(self) -> int:
        """Tokens of the trace, at all stages together."""
        return sum(stage.count for stage in self._workload.stages.values())

    def forget(self) -> None:
        """Let go of what the last questions left behind, not of what was learnt."""
        self._evaluator.forget()
        self._extract.forget()

    @cached_property
    def _extract(self) -> CriticalSample:
        return CriticalSample(self._evaluator, self._quantile, self._horizon_ns)

    @cached_property
    def paths(self) -> PathWaits:
        """Paths and waits of the whole trace."""
        return analyse_paths(self._workload, self._quantile)

    def bound_ns(self, services: Services) -> int:
        """Latency bound of the planning problem on the whole trace, ns."""
        return self.paths.bound_ns(services)

    def certificate_ns(self, services: Services) -> int:
        """Certified latency quantile under these services, ns."""
        return quantile_ns(self._evaluator.latency_ns(services), self._quantile)

    def floor_ns(self, services: Services) -> int:
        """Certified latency quantile of the extract, ns."""
        return self._extract.floor_ns(services)

    def exceeds(self, services: Services, limit_ns: int) -> bool:
        """Whether the certificate exceeds `limit_ns`; the whole trace is only asked if the extract does not know."""
        if self.surely_exceeds(services, limit_ns):
            return True
        latency_ns = self._evaluator.latency_ns(services)
        exceeded = quantile_exceeds(latency_ns, self._quantile, limit_ns)
        if exceeded:
            self._extract.learn(services, limit_ns)
        return exceeded

    def surely_exceeds(self, services: Services, limit_ns: int) -> bool:
        """Whether the certificate exceeds `limit_ns` on the extract already."""
        return self._extract.exceeds(services, limit_ns)

    def quick_test(self, refused: Services, limit_ns: int) -> QuickTest:
        """Make a test by the critical chains of the queries that miss the limit."""
        return self._extract.misses(refused, limit_ns)

    def witnesses(self, services: Services, limit_ns: int, order: Sequence[str]) -> QueryCuts | None:
        """Return the slowest queries of the extract under these services."""
        return self._extract.witnesses(services, limit_ns, order)

    def critical_path(self, services: Services) -> tuple[CriticalStage, ...]:
        """How a query at the quantile comes to its bound."""
        return certify_services(self._workload, services, self._quantile).critical_path


class WorstCaseOracle:
    """The worst case over all traffic inside an arrival curve.

    Parameters
    ----------
    worst_case : WorstCase
    paths : PathWaits
        Its waits per path.
    """

    def __init__(self, worst_case: WorstCase, paths: PathWaits) -> None:
        self._worst_case = worst_case
        self.paths = paths

    def bound_ns(self, services: Services) -> int:
        """Latency bound of the planning problem, ns."""
        return self.paths.bound_ns(services)

    def certificate_ns(self, services: Services) -> int:
        """Worst latency of any query under these services, ns."""
        return self._worst_case.bound_ns(services)

    def floor_ns(self, services: Services) -> int:
        """Worst latency itself, ns: it costs little."""
        return self._worst_case.bound_ns(services)

    def exceeds(self, services: Services, limit_ns: int) -> bool:
        """Whether the worst latency exceeds `limit_ns`."""
        return self._worst_case.bound_ns(services) > limit_ns

    def surely_exceeds(self, services: Services, limit_ns: int) -> bool:
        """Return what `exceeds` does: it is quick already."""
        return self.exceeds(services, limit_ns)

    def quick_test(self, refused: Services, limit_ns: int) -> QuickTest:  # noqa: ARG002
        """Return the exact test: it is quick already."""
        return _ExactTest(self._worst_case, limit_ns)

    def witnesses(self, services: Services, limit_ns: int, order: Sequence[str]) -> None:
        """Return None: the worst case is not that of a query."""

    def critical_path(self, services: Services) -> tuple[CriticalStage, ...]:
        """Return the longest path through the stage whose wait is the worst, with that wait."""
        worst = self._worst_case
        bottleneck = worst.critical_stage(services)
        path = worst.longest_path(services, bottleneck)
        delays = {(edge.parent, edge.child): edge.delay_ns for edge in worst.pipeline.edges}
        return tuple(
            CriticalStage(
                stage,
                worst.own_ns(services, stage),
                worst.wait_ns(services, stage) if stage == bottleneck else 0,
                delays[path[step - 1], stage] if step else 0,
            )
            for step, stage in enumerate(path)
        )


@dataclass(frozen=True)
class _ExactTest:
    worst_case: WorstCase
    limit_ns: int

    def surely_exceeds(self, services: Services) -> bool:
        return self.worst_case.bound_ns(services) > self.limit_ns

    def floor_ns(self, services: Services) -> int:
        return self.worst_case.bound_ns(services)
