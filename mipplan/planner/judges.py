"""Who decides whether a plan keeps its objective: the certificate of a trace, or the worst case of an envelope."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from mipplan.certificate import CertificateEvaluator, certify_services
from mipplan.curves import StageService, WorstCase
from mipplan.quantiles import higher_rank, quantile_ns
from mipplan.result import CriticalStage
from mipplan.tokens import Workload

Services = Mapping[str, StageService]

#: `TraceJudge.refusal_test` looks at this many times the queries that are too many to miss the objective …
_WATCHED = 4
#: … and at all queries before each of them, back to this many objectives' time.
_LOOK_BACK = 1


class Judge(Protocol):
    """Bounds the latency of plans; the bound grows with every T and falls with every R."""

    def certificate_ns(self, services: Services) -> int:
        """Latency that is guaranteed under these services, ns."""

    def refusal_test(self, refused: Services, limit_ns: int) -> Callable[[Services], bool]:
        """Make a quick test for services near some refused ones: True only if they surely exceed `limit_ns`."""

    def critical_path(self, services: Services) -> tuple[CriticalStage, ...]:
        """How the guaranteed latency comes about."""


class TraceJudge:
    """The certificate's quantile over the queries of one trace.

    Parameters
    ----------
    workload : Workload
    quantile : float
    """

    def __init__(self, workload: Workload, quantile: float) -> None:
        self._workload = workload
        self._quantile = quantile
        self._evaluator = CertificateEvaluator(workload)

    def certificate_ns(self, services: Services) -> int:
        """Certified latency quantile under these services, ns."""
        return quantile_ns(self._evaluator.latency_ns(services), self._quantile)

    def refusal_test(self, refused: Services, limit_ns: int) -> Callable[[Services], bool]:
        """Make a quick test for services near some refused ones: True only if they surely exceed `limit_ns`.

        It looks only at the slowest queries under `refused`, somewhat more of them than may exceed the limit, and
        at those shortly before them. Leaving tokens out can only lower the bounds of the others, so a query that
        is too slow here is so in truth; and more of them than the quantile allows are a refusal in truth.
        """
        ingress_ns, queries = self._workload.ingress_ns, self._workload.queries
        allowed = queries - 1 - higher_rank(self._quantile, queries)
        latency_ns = self._evaluator.latency_ns(refused)
        watched = min(queries, _WATCHED * (allowed + 1))
        slow = latency_ns >= np.partition(latency_ns, -watched)[-watched]
        ends = np.cumsum(slow)
        before = np.searchsorted(ingress_ns, ingress_ns + _LOOK_BACK * limit_ns, side="right") - 1
        # Query k is kept if some slow query lies between k and the last one that looks back as far as k.
        kept = ends[before] - ends + slow > 0
        evaluator = CertificateEvaluator(self._workload.restricted(kept))

        def surely_refused(services: Services) -> bool:
            return int(np.count_nonzero(evaluator.latency_ns(services) > limit_ns)) > allowed

        return surely_refused

    def critical_path(self, services: Services) -> tuple[CriticalStage, ...]:
        """How a query at the quantile comes to its bound."""
        return certify_services(self._workload, services, self._quantile).critical_path


class EnvelopeJudge:
    """The worst case over all traffic inside an arrival curve.

    Parameters
    ----------
    worst_case : WorstCase
    """

    def __init__(self, worst_case: WorstCase) -> None:
        self._worst_case = worst_case

    def certificate_ns(self, services: Services) -> int:
        """Worst latency of any query under these services, ns."""
        return self._worst_case.bound_ns(services)

    def refusal_test(self, refused: Services, limit_ns: int) -> Callable[[Services], bool]:  # noqa: ARG002
        """Return the exact test: it is quick already."""
        return lambda services: self._worst_case.bound_ns(services) > limit_ns

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
