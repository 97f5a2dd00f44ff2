"""One planning request, realised: everything the search needs and nothing it may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mipplan.certificate import CertificateEvaluator
from mipplan.curves import PathWaits, StageService, analyse_paths, ideal_service
from mipplan.errors import InputError
from mipplan.options import StageFamilies, find_families
from mipplan.options.problem import limits_of
from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles
from mipplan.tokens import Workload, realise
from mipplan.trace import Trace


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
        return self.evaluator.quantile_ns(services)

    def keeps_slo(self, services: Mapping[str, StageService]) -> bool:
        """Whether the certificate keeps the objective."""
        return self.certificate_ns(services) <= self.slo_ns

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
        CertificateEvaluator(workload, quantile),
        slo_ns,
        quantile,
    )
