"""One planning request, realised: everything the search needs and nothing it may change."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from mipplan.certificate import CertificateEvaluator
from mipplan.curves import PathWaits, StageService, analyse_paths, ideal_service
from mipplan.errors import InputError
from mipplan.options import StageFamilies, find_families
from mipplan.options.problem import limits_of
from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles
from mipplan.quantiles import higher_rank, quantile_ns
from mipplan.tokens import Workload, realise
from mipplan.trace import Trace

#: `Instance.refusal_test` looks at this many times the queries that are too many to miss the objective …
_WATCHED = 4
#: … and at all queries before each of them, back to this many objectives' time.
_LOOK_BACK = 1


@dataclass(frozen=True)
class Instance:
    """A planning request with its workload and path waits.

    Attributes
    ----------
    pipeline : Pipeline
    workload : Workload
    paths : PathWaits
        Its wait curves remember what they evaluated; otherwise nothing here changes.
    families : mapping of str to StageFamilies
        In file order of the stages.
    limits : mapping of str to int
        Devices by hardware name.
    evaluator : CertificateEvaluator
        Remembers the exits of the plan it judged last.
    slo_ns : int
    quantile : float
    """

    pipeline: Pipeline
    workload: Workload
    paths: PathWaits
    families: Mapping[str, StageFamilies]
    limits: Mapping[str, int]
    evaluator: CertificateEvaluator
    slo_ns: int
    quantile: float

    def certificate_ns(self, services: Mapping[str, StageService]) -> int:
        """Certified latency quantile under these services."""
        return quantile_ns(self.evaluator.latency_ns(services), self.quantile)

    def keeps_slo(self, services: Mapping[str, StageService]) -> bool:
        """Whether the certificate keeps the objective."""
        return self.certificate_ns(services) <= self.slo_ns

    def refusal_test(
        self, refused: Mapping[str, StageService]
    ) -> Callable[[Mapping[str, StageService]], bool]:
        """Make a quick test that never refuses wrongly, for services near some that the certificate refuses.

        It looks only at the slowest queries under `refused`, somewhat more of them than may miss the objective, and
        at those shortly before them. Leaving tokens out can only lower the bounds of the others, so a query that
        misses here misses in truth; and so many misses as the quantile does not allow are a refusal in truth.

        Returns
        -------
        callable
            True if the services surely miss the objective; False may be wrong.
        """
        ingress_ns = self.workload.ingress_ns
        allowed = self.workload.queries - 1 - higher_rank(self.quantile, self.workload.queries)
        latency_ns = self.evaluator.latency_ns(refused)
        watched = min(self.workload.queries, _WATCHED * (allowed + 1))
        slow = latency_ns >= np.partition(latency_ns, -watched)[-watched]
        ends = np.cumsum(slow)
        before = np.searchsorted(ingress_ns, ingress_ns + _LOOK_BACK * self.slo_ns, side="right") - 1
        # Query k is kept if some slow query lies between k and the last one that looks back as far as k.
        kept = ends[before] - ends + slow > 0
        evaluator = CertificateEvaluator(self.workload.restricted(kept))

        def surely_refused(services: Mapping[str, StageService]) -> bool:
            return int(np.count_nonzero(evaluator.latency_ns(services) > self.slo_ns)) > allowed

        return surely_refused

    def ideal_services(self) -> dict[str, StageService]:
        """Per stage the least T and the greatest R of all its options: no plan is certified below this."""
        return {
            stage: ideal_service([family.service(family.most) for family in found.families])
            for stage, found in self.families.items()
        }


def realise_instance(
    pipeline: Pipeline, profiles: Profiles, trace: Trace, slo_ns: int, quantile: float, seed: int
) -> Instance:
    """Draw the tokens, analyse the paths and find the families of every stage.

    Raises
    ------
    InputError
        If the trace spans no time: it has no rate that a stage could keep up with.
    """
    workload = realise(pipeline, trace, seed)
    if workload.span_ns == 0:
        raise InputError.one("trace", "all arrivals are at one instant: it has no rate to plan for")
    return Instance(
        pipeline,
        workload,
        analyse_paths(workload, quantile),
        find_families(pipeline, profiles, workload),
        limits_of(profiles),
        CertificateEvaluator(workload),
        slo_ns,
        quantile,
    )
