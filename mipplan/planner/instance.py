"""One planning request, realised: everything the search needs and nothing it may change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from mipplan.calculus import (
    ArrivalCurve,
    StageService,
    WorstCase,
    ideal_service,
    most_tokens_per_query,
    worst_case_paths,
)
from mipplan.core import NS_PER_S, InputError
from mipplan.options import (
    StageFamilies,
    StageOptions,
    expand,
    find_families,
    limits_of,
    trace_demand,
    undominated,
)
from mipplan.pipeline import Pipeline
from mipplan.planner.oracle import WorstCaseOracle, Oracle, QuickTest, CertificateOracle
from mipplan.planner.witnesses import QueryCuts
from mipplan.profiles import Profiles
from mipplan.tokens import Workload, realise
from mipplan.trace import Trace


@dataclass(frozen=True)
class Instance:
    """A planning request with its options and judge.

    Attributes
    ----------
    pipeline : Pipeline
    demand : mapping of str to Fraction
        Tokens per ns that each stage must outrun.
    families : mapping of str to StageFamilies
        In file order of the stages.
    limits : mapping of str to int
        Devices by hardware name.
    judge : Oracle
        It remembers what it evaluated; otherwise nothing here changes.
    deadline_ns : int
        What the judge's figure must keep: the objective less any margin.
    """

    pipeline: Pipeline
    demand: Mapping[str, Fraction]
    families: Mapping[str, StageFamilies]
    limits: Mapping[str, int]
    oracle: Oracle
    deadline_ns: int

    def certificate_ns(self, services: Mapping[str, StageService]) -> int:
        """Latency guaranteed under these services."""
        return self.oracle.certificate_ns(services)

    def keeps_slo(self, services: Mapping[str, StageService]) -> bool:
        """Whether the guaranteed latency keeps the deadline."""
        return not self.oracle.exceeds(services, self.deadline_ns)

    def surely_misses_slo(self, services: Mapping[str, StageService]) -> bool:
        """Quick test: True only if the guaranteed latency exceeds the deadline."""
        return self.oracle.surely_exceeds(services, self.deadline_ns)

    def quick_test(self, refused: Mapping[str, StageService]) -> QuickTest:
        """Make a quick, one-sided test of the deadline for services near some that were refused."""
        return self.oracle.quick_test(refused, self.deadline_ns)

    def witnesses(self, services: Mapping[str, StageService], order: Sequence[str]) -> QueryCuts | None:
        """Return queries that miss the deadline under these services or nearly so; None where no query decides."""
        return self.oracle.witnesses(services, self.deadline_ns, order)

    def ideal_services(self) -> dict[str, StageService]:
        """Per stage the least T and the greatest R of all its options: no plan is certified below this."""
        return {
            stage: ideal_service([family.service(family.most) for family in found.families])
            for stage, found in self.families.items()
        }

    def cheapest_by_stage(self) -> dict[str, int]:
        """What keeping up with the demand costs at least, per stage (micro-dollars per hour)."""
        return {
            stage: min(f.fewest * f.microusd_per_hour for f in found.families)
            for stage, found in self.families.items()
        }

    def affordable(
        self, budget: int, prune: Callable[[StageOptions], StageOptions] = undominated
    ) -> dict[str, StageOptions]:
        """Options that could be part of a plan within the budget, pruned; empty where a stage has none."""
        cheapest = self.cheapest_by_stage()
        spare = budget - sum(cheapest.values())
        return {
            stage: prune(expand(found, cheapest[stage] + spare)) for stage, found in self.families.items()
        }

    def with_deadline(self, deadline_ns: int) -> Instance:
        """Return the same request with another deadline; options and judge are shared."""
        return replace(self, deadline_ns=deadline_ns)


def trace_instance(
    pipeline: Pipeline, profiles: Profiles, trace: Trace, deadline_ns: int, quantile: float, seed: int
) -> Instance:
    """Realise a request that is certified on its trace.

    Raises
    ------
    InputError
        If the trace spans no time: it has no rate that a stage could keep up with.
    """
    return workload_instance(profiles, realise(pipeline, trace, seed), deadline_ns, quantile)


def workload_instance(profiles: Profiles, workload: Workload, deadline_ns: int, quantile: float) -> Instance:
    """Make the instance of a request whose tokens are known already; errors as for `trace_instance`."""
    _check_span(workload.span_ns)
    demand = trace_demand(workload)
    return Instance(
        workload.pipeline,
        demand,
        find_families(workload.pipeline, profiles, demand),
        limits_of(profiles),
        CertificateOracle(workload, quantile, deadline_ns),
        deadline_ns,
    )


def envelope_instance(
    pipeline: Pipeline, profiles: Profiles, trace: Trace, deadline_ns: int, arrival: ArrivalCurve
) -> Instance:
    """Realise a request that holds for all traffic inside `arrival`; replicas outrun the trace's mean rate, too.

    Raises
    ------
    InputError
        If a fan-out has no largest value, or the trace spans no time.
    """
    _check_span(trace.span_ns)
    rate = max(Fraction(len(trace), trace.span_ns), Fraction(arrival.rate) / NS_PER_S)
    demand = {stage: rate * most for stage, most in most_tokens_per_query(pipeline).items()}
    return Instance(
        pipeline,
        demand,
        find_families(pipeline, profiles, demand),
        limits_of(profiles),
        WorstCaseOracle(WorstCase(pipeline, arrival), worst_case_paths(pipeline, arrival)),
        deadline_ns,
    )


def _check_span(span_ns: int) -> None:
    if span_ns == 0:
        raise InputError.one("trace", "all arrivals are at one instant: it has no rate to plan for")
