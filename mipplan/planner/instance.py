"""A planning request, checked and realised: everything the search needs and nothing it may change."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property

import numpy as np

from mipplan.calculus import ArrivalCurve, StageService, most_tokens_per_query
from mipplan.certificate import check_covered, check_timed
from mipplan.core import NS_PER_S, UNLIMITED_NS, Fault, Faults, InputError, Int64, from_front
from mipplan.options import (
    AccuracyFloor,
    Cap,
    Configuration,
    StageFamilies,
    StageOptions,
    charge_energy,
    check_span,
    expand,
    extremes,
    find_families,
    joint_demand,
    limits_of,
    require_accuracy,
    require_power,
    undominated,
)
from mipplan.pipeline import Discipline, DispatchLaw, Laws, Pipeline, are_timed
from mipplan.planner.choices import SearchSpace
from mipplan.planner.cuts import Cut, Services, strengthen
from mipplan.planner.oracle import (
    CertificateOracle,
    FifoOracle,
    JointOracle,
    SeparationOracle,
    WorstCaseOracle,
)
from mipplan.profiles import EnergyTerms, Profiles
from mipplan.result import (
    CertificateKind,
    Choice,
    Figures,
    Guarantee,
    Objective,
    Plan,
    PlanStatus,
    Provenance,
    RunClass,
    SampleFigure,
    relevant_profiles,
    resolve_objective,
    worst_sample,
)
from mipplan.tokens import Sample, Workload, check_seeds, find_samples, least_demand, realise
from mipplan.trace import Trace
from mipplan_formulations import Cover


@dataclass(frozen=True)
class Instance:
    """A planning request with its options and oracle."""

    pipeline: Pipeline
    demand: Mapping[str, Fraction]  # tokens per ns that each stage must outrun
    families: Mapping[str, StageFamilies]  # in file order of the stages
    limits: Mapping[str, int]  # devices by hardware name
    oracle: SeparationOracle  # it remembers what it evaluated; otherwise nothing here changes
    deadline_ns: int  # what the guaranteed latency must keep: the objective less any margin
    caps: tuple[Cap, ...] = ()  # of which options take
    floor: AccuracyFloor | None = None  # the least accuracy; as far as it is linear it is among the caps
    least_demand: Mapping[str, Fraction] = field(default_factory=dict)  # that arrives at least, where known

    @classmethod
    def of(
        cls,
        pipeline: Pipeline,
        profiles: Profiles,
        demand: Mapping[str, Fraction],
        oracle: SeparationOracle,
        deadline_ns: int,
        laws: Laws | None = None,
        overtaking: RunClass | None = None,
    ) -> Instance:
        """Find the options that a demand leaves."""
        families = find_families(pipeline, profiles, demand, laws, overtaking)
        return cls(pipeline, demand, families, limits_of(profiles), oracle, deadline_ns)

    def with_floor(self, min_accuracy: float | None) -> Instance:
        """Return the same request, whose plans must have some accuracy; options and oracle are shared."""
        if min_accuracy is None:
            return self
        families, floor = require_accuracy(self.pipeline, self.families, min_accuracy)
        return replace(self, families=families, caps=(*self.caps, *floor.caps), floor=floor)

    def with_energy(self, terms: EnergyTerms | None, profiles: Profiles) -> Instance:
        """Return the same request, whose options know their power, pay for it, and keep a cap on it."""
        if terms is None:
            return self
        rates = self.demand, self.least_demand
        families = charge_energy(self.pipeline, profiles, self.families, *rates, terms)
        return replace(self, families=families).with_power(terms.max_power_mw)

    def with_power(self, most_mw: int | None) -> Instance:
        """Return the same request, whose plans draw at most so much power on average; it is known already."""
        if most_mw is None:
            return self
        families, cap = require_power(self.families, most_mw)
        return replace(self, families=families, caps=(*self.caps, cap))

    def space(self, tables: Mapping[str, StageOptions], required: Sequence[Cover] = ()) -> SearchSpace:
        """Return the choices of some options, none empty, that keep what is asked for beside the deadline."""
        return SearchSpace(tables, self.limits, required, self.caps, self.floor)

    def allows(self, plan: Configuration) -> bool:
        """Whether a plan keeps device limits, caps and accuracy; nothing is said of its latency."""
        return plan.keeps(self.limits, self.caps) and (self.floor is None or self.floor.is_kept(plan))

    @property
    def has_options(self) -> bool:
        """Whether every stage has an option at all."""
        return all(found.families for found in self.families.values())

    def certificate_ns(self, services: Services) -> int:
        """Latency guaranteed under these services."""
        return self.oracle.certificate_ns(services)

    def excess_ns(self, services: Services) -> int:
        """By how much it exceeds the deadline; at most 0 where it does not."""
        return self.certificate_ns(services) - self.deadline_ns

    def keeps_slo(self, services: Services) -> bool:
        """Whether the guaranteed latency keeps the deadline."""
        return not self.oracle.exceeds(services, self.deadline_ns)

    def surely_misses_slo(self, services: Services) -> bool:
        """Quick test: True only if the guaranteed latency exceeds the deadline."""
        return self.oracle.surely_exceeds(services, self.deadline_ns)

    def cuts(
        self,
        refused: Services,
        options: Mapping[str, StageOptions],
        ways: Sequence[tuple[Sequence[str], bool]],
    ) -> Iterator[Cut]:
        """Say what follows from services that do not keep the deadline: cuts, which all certified plans meet.

        There is one for each way to find it: an order of the stages, and whether rates come first (`strengthen`). After
        an empty one no other is worth asking for: even where all stages are ideal the deadline is missed.
        """

        def test_from(at: Services) -> Callable[[Services], bool]:
            bound_ns = self.oracle.quick_bound(at, self.deadline_ns)
            # What misses the deadline by a fraction of a nanosecond is below the quick bound's rounding.
            if bound_ns(at) <= self.deadline_ns:
                return self.surely_misses_slo
            return lambda services: bound_ns(services) > self.deadline_ns

        for order, speed_first in ways:
            yield strengthen(refused, options, test_from, order, speed_first)

    def ideal_services(self) -> dict[str, StageService]:
        """Per stage the best T, R and overtaking of all its options: no plan is certified below this."""
        return {stage: extremes(found).ideal() for stage, found in self.families.items()}

    def configuration(self, choices: Mapping[str, Choice]) -> Configuration:
        """Choices in terms of this problem's options; raises `KeyError` if one is none of them."""
        return Configuration({stage: self.families[stage].option(own) for stage, own in choices.items()})

    def cheapest_by_stage(self) -> dict[str, int]:
        """What keeping up with the demand costs at least, per stage (micro-dollars per hour)."""
        return {stage: min(f.cost(f.fewest) for f in own.families) for stage, own in self.families.items()}

    def affordable(
        self,
        budget: int,
        prune: Callable[[StageOptions], StageOptions] = undominated,
        dense: int | None = None,
        also: Configuration | None = None,
    ) -> dict[str, StageOptions]:
        """Options that could be part of a plan within the budget, pruned; empty where a stage has none.

        With `dense` only some numbers of replicas (`expand`), those of `also` among them.
        """
        own = {} if also is None else also
        return {
            stage: prune(expand(self.families[stage], most, dense, own.get(stage)))
            for stage, most in self._spendable(budget).items()
        }

    def ranges(self, budget: int, dense: int) -> tuple[dict[str, list[Int64]], dict[str, list[Int64]]]:
        """Ranges of replicas of each family that hold all numbers within the budget: the first and last of each."""
        starts, ends = dict[str, list[Int64]](), dict[str, list[Int64]]()
        for stage, most in self._spendable(budget).items():
            own = self.families[stage].families
            starts[stage] = [family.numbers_within(most, dense) for family in own]
            ends[stage] = [
                np.append(first[1:] - 1, family.most_within(most))[: first.size]
                for family, first in zip(own, starts[stage], strict=True)
            ]
        return starts, ends

    def count_affordable(self, budget: int) -> int:
        """How many options that is, of all stages together, before any is dropped."""
        most = self._spendable(budget)
        return sum(
            family.count_within(most[stage])
            for stage, found in self.families.items()
            for family in found.families
        )

    def _spendable(self, budget: int) -> dict[str, int]:
        """What each stage may cost at most within the budget (micro-dollars per hour)."""
        least = self.cheapest_by_stage()
        spare = budget - sum(least.values())
        return {stage: own + spare for stage, own in least.items()}

    def with_deadline(self, deadline_ns: int) -> Instance:
        """Return the same request with another deadline; options and oracle are shared."""
        return replace(self, deadline_ns=deadline_ns)


@dataclass(frozen=True)
class Request:
    """What to plan for: a plan that states it, without choices, and samples of the traffic, headroom included."""

    plan: Plan
    samples: tuple[Sample, ...]

    @classmethod
    def of(cls, plan: Plan, traces: Trace | Sequence[Trace]) -> Request:
        """Return the request that a plan answers, given one or several traces before headroom."""
        found = find_samples(plan.pipeline, traces, plan.seed, plan.seeds)
        return cls(plan, tuple(sample.scaled(plan.headroom) for sample in found))

    @property
    def overtaking(self) -> RunClass | None:
        """The runs of fifo queues that are planned for; None if services are those of oldest first."""
        plan = self.plan
        by_arrival = plan.discipline is Discipline.FIFO and not are_timed(plan.laws)
        return (plan.runs or RunClass()) if by_arrival else None

    @cached_property
    def workloads(self) -> tuple[Workload, ...]:
        """The tokens of every sample: drawn once, whatever its rate is multiplied by."""
        return tuple(realise(self.plan.pipeline, sample.trace, sample.seed) for sample in self.samples)

    def figures(self, certified_ns: Sequence[int]) -> tuple[SampleFigure, ...]:
        """Say which samples these certificates are of; empty if there are none."""
        pairs = zip(self.samples, certified_ns, strict=False)
        return tuple(SampleFigure(one.name, one.number, one.seed, own_ns) for one, own_ns in pairs)

    def worst(self, instance: Instance, services: Services) -> str | None:
        """Return the name of the sample that the guaranteed latency comes from; None if there are not several."""
        worst = worst_sample(self.figures(instance.oracle.by_sample(services)))
        return None if worst is None else worst.name

    def instance(self, factor: float = 1.0) -> Instance:
        """Realise the request, with the traffic multiplied by `factor`."""
        plan, traces = self.plan, [sample.scaled(factor).trace for sample in self.samples]
        deadline_ns = plan.objective.deadline_ns
        if plan.envelope is None:
            loads = [load.at(trace.arrival_ns) for load, trace in zip(self.workloads, traces, strict=True)]
            made = _on_traces(plan.profiles, loads, deadline_ns, plan.objective, plan.laws, self.overtaking)
            made = replace(made, least_demand=least_demand(loads, plan.headroom))
            return made.with_energy(plan.energy, plan.profiles).with_floor(plan.min_accuracy)
        # Replicas outrun the mean rate of every trace, too.
        for trace in traces:
            check_span(trace.span_ns)
        arrival = ArrivalCurve(tuple((burst, rate * factor) for burst, rate in plan.envelope))
        mean = max(Fraction(len(trace), trace.span_ns) for trace in traces)
        rate = max(mean, Fraction(arrival.rate) / NS_PER_S)
        demand = {stage: rate * most for stage, most in most_tokens_per_query(plan.pipeline).items()}
        oracle = WorstCaseOracle(plan.pipeline, arrival)
        made = Instance.of(plan.pipeline, plan.profiles, demand, oracle, deadline_ns, plan.laws)
        return made.with_energy(plan.energy, plan.profiles).with_floor(plan.min_accuracy)


def asked_objective(
    pipeline: Pipeline,
    slo_s: float | None,
    quantile: float | None,
    seed: int,
    per_s: float | None,
    share: float | None,
    guarantee: str,
    by_budget: bool,
) -> Objective:
    """Return the objective asked for; within a budget any latency keeps it. Raises `InputError` with every fault."""
    asked_s = 1.0 if by_budget and slo_s is None else slo_s  # wrong ones are told, though any will do
    found = resolve_objective(pipeline, asked_s, quantile, seed, per_s=per_s, share=share)
    if found.others and guarantee == Guarantee.ENVELOPE:
        raise InputError.one("slo", "an arrival curve bounds every query: one limit, not several quantiles")
    return replace(found, slo_ns=UNLIMITED_NS) if by_budget else found


def state_question(
    pipeline: Pipeline, profiles: Profiles, objective: Objective, provenance: Provenance
) -> Plan:
    """Return the plan without choices that states what is asked for, with the traces at hand."""
    return Plan(
        pipeline,
        relevant_profiles(pipeline, profiles, power=objective.energy is not None),
        objective,
        status=PlanStatus.UNKNOWN,
        figures=Figures(lower_bound_microusd_per_hour=0),
        provenance=provenance,
    )


def trace_instance(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace,
    deadline_ns: int,
    asked: float | Objective,
    seed: int,
    laws: Laws | None = None,
    overtaking: RunClass | None = None,
) -> Instance:
    """Realise a request that is certified on its trace; raises `InputError` if the trace spans no time."""
    return _on_traces(profiles, [realise(pipeline, trace, seed)], deadline_ns, asked, laws, overtaking)


def _on_traces(
    profiles: Profiles,
    workloads: Sequence[Workload],
    deadline_ns: int,
    asked: float | Objective,
    laws: Laws | None,
    overtaking: RunClass | None,
) -> Instance:
    def oracle_of(workload: Workload) -> CertificateOracle:
        kept = asked.criterion(workload.ingress_ns) if isinstance(asked, Objective) else asked
        if overtaking is None:
            return CertificateOracle(workload, kept, deadline_ns)
        return FifoOracle(workload, kept, overtaking, deadline_ns)

    demand = joint_demand(workloads)
    oracles = [oracle_of(workload) for workload in workloads]
    oracle = oracles[0] if len(oracles) == 1 else JointOracle(oracles)
    return Instance.of(workloads[0].pipeline, profiles, demand, oracle, deadline_ns, laws, overtaking)


def check_theorem(
    laws: Laws,
    discipline: str,
    guarantee: str,
    certificate: str,
    runs: RunClass | None,
    headroom: float,
    budget_usd_per_hour: float | None,
    energy: EnergyTerms | None = None,
) -> bool:
    """Refuse what nothing is proven of under these laws, with every fault; say whether replays make the plan."""
    binds = energy is not None and energy.binds
    by_replay = guarantee in (Guarantee.REPLAY, Guarantee.RELIABLE)
    is_timed = set(laws.values()) == {DispatchLaw.TIMED}
    if not by_replay and (guarantee == Guarantee.ENVELOPE or not is_timed):
        check_covered(discipline, certificate, runs, inside_curve=guarantee == Guarantee.ENVELOPE)
        if binds and certificate != CertificateKind.CLASSIC and discipline != Discipline.FIFO:
            raise InputError.one("energy", "a cap on it or a price goes with the classic certificate only")
        return False
    faults = Faults()
    # The classic one is the default, so nobody need have asked for it.
    if is_timed:
        faults.take(
            lambda: check_timed(None if certificate == CertificateKind.CLASSIC else certificate, runs)
        )
    what = f"the guarantee {guarantee}" if by_replay else "timed dispatch"
    message = f"does not go with {what}, whose plans are found by replays of the trace as it is"
    given = {
        "headroom": headroom != 1.0,
        "budget_usd_per_hour": budget_usd_per_hour is not None,
        "energy": binds,
        "certificate": not is_timed and certificate == CertificateKind.SHARP,
        "runs": not is_timed and runs is not None,
    }
    faults.add(*(Fault(what, message) for what, is_given in given.items() if is_given))
    faults.check()
    return True


def check_tomorrow(guarantee: str, confidence: float | None, drift: float | None, seeds: int) -> None:
    """Refuse what no reliable plan can be asked for by, and what goes with no other plan.

    Raises `InputError` listing every fault.
    """
    if guarantee == Guarantee.RELIABLE:
        from_front("check_reliability", "mipplan.reliability")(confidence, drift, seeds)
        return
    faults = Faults()
    faults.take(lambda: check_seeds(seeds))
    given = {"confidence": confidence, "drift": drift}
    message = "goes with the guarantee 'reliable' only"
    faults.add(*(Fault(what, message) for what, value in given.items() if value is not None))
    faults.check()
