"""Whether any plan keeps a deadline, the smallest that one keeps, and why there is none and what would work instead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mipplan.core import NS_PER_MS, NS_PER_S, UNLIMITED_NS, format_duration
from mipplan.options import (
    Configuration,
    Option,
    StageFamilies,
    StageOptions,
    extremes,
    find_families,
    undominated,
)
from mipplan.pipeline import Pipeline
from mipplan.planner.benders import PlanSearch, SearchMethod, SearchParams
from mipplan.planner.choices import SearchSpace
from mipplan.planner.heuristics import CertifiedConfiguration, certified
from mipplan.planner.instance import Instance, Request
from mipplan.profiles import Profiles
from mipplan.result import Limit, Plan, step_text

#: The highest rate that works is found in whole percents of the trace's: what is named was tried, not rounded.
_WHOLE = 100


@dataclass(frozen=True)
class Smallest:
    """The smallest deadline found that a plan keeps, which is the plan's certificate; None if none was found."""

    plan: CertifiedConfiguration | None
    #: What stopped the search; None: no plan keeps a smaller one.
    limit: Limit | None = None


@dataclass(frozen=True)
class Feasibility:
    """Decides feasibility with the same search that plans, over the few options that matter for it."""

    method: SearchMethod
    #: Most micro-dollars per hour a plan may cost.
    budget: int | None = None
    params: SearchParams = field(default_factory=SearchParams)

    def find(
        self, instance: Instance, start: CertifiedConfiguration | None = None
    ) -> tuple[CertifiedConfiguration | None, Limit | None]:
        """Find any plan that keeps the instance's deadline; neither a plan nor a limit: there is none.

        If a plan for a similar instance, from which it starts, serves this one as well, there is nothing to search for.
        """
        if not instance.has_options:
            return None, None
        moved = None if start is None else _moved(start.configuration, instance)
        if moved is not None and instance.keeps_slo(moved.services):
            return certified(instance, moved), None
        options = self._options(instance)
        if not all(table.count for table in options.values()):
            return None, None
        space = SearchSpace(options, instance.limits)
        outcome = PlanSearch(
            instance, space, self.method, any_plan=True, budget=self.budget, params=self.params
        ).run()
        if outcome.best is None:
            return None, outcome.limit
        configuration = space.configuration(outcome.best.choice)
        return CertifiedConfiguration(configuration, outcome.best.certificate_ns), outcome.limit

    def _options(self, instance: Instance) -> dict[str, StageOptions]:
        """Without a budget the most replicas of everything; with one, whatever could be part of a plan within it."""
        if self.budget is None:
            return {stage: undominated(extremes(found)) for stage, found in instance.families.items()}
        return instance.affordable(self.budget)

    def smallest_deadline(self, instance: Instance) -> Smallest:
        """Smallest deadline that any plan keeps, by bisection between proven bounds."""
        best, limit = self.find(instance.with_deadline(UNLIMITED_NS))
        if best is None:
            return Smallest(None, limit)
        if self.budget is None:
            best = _quickened(instance, best)
        low = instance.certificate_ns(instance.ideal_services())
        # The first question is whether anything at all is faster: mostly the answer is no, and that is all.
        guess = best.certificate_ns - 1
        while low < best.certificate_ns:
            found, limit = self.find(instance.with_deadline(guess))
            if found is not None:
                best = found
            elif limit is None:
                low = guess + 1
            else:
                return Smallest(best, limit)
            guess = (low + best.certificate_ns - 1) // 2
        return Smallest(best)


def _moved(configuration: Configuration, instance: Instance) -> Configuration | None:
    """Return the same choices among another instance's options; None if one is not on offer there."""
    moved = Configuration()
    for stage, (family, replicas) in configuration.items():
        for offered in instance.families[stage].families:
            alike = (offered.hardware, offered.batch) == (family.hardware, family.batch)
            if alike and offered.fewest <= replicas <= offered.most:
                moved[stage] = Option(offered, replicas)
    return moved if len(moved) == len(configuration) and moved.keeps(instance.limits) else None


def _quickened(instance: Instance, plan: CertifiedConfiguration) -> CertifiedConfiguration:
    """Exchange families for others, one stage at a time with the most replicas, while the certificate falls."""
    if any(family.limited for found in instance.families.values() for family in found.families):
        return plan  # the most replicas for every stage are not to be had together
    improved = True
    while improved:
        improved = False
        for stage, found in instance.families.items():
            for family in found.families:
                trial = certified(instance, plan.configuration.replaced(stage, Option(family, family.most)))
                if trial.certificate_ns < plan.certificate_ns:
                    plan, improved = trial, True
    return plan


@dataclass(frozen=True)
class Diagnosis:
    """Explains an infeasible request."""

    request: Request
    instance: Instance
    feasibility: Feasibility

    def reason(self) -> str:
        """Everything that could be found out in the time there is, most useful first."""
        parts = [*_blocked_stages(self.instance)]
        if not parts:
            parts.append(f"no configuration can be certified to keep {_objective_text(self.request.plan)}")
            parts += self._smallest_objective()
        parts += self._binding_limits()
        parts += self._highest_rate()
        return ". ".join(parts)

    def _smallest_objective(self) -> list[str]:
        smallest = self.feasibility.smallest_deadline(self.instance)
        if smallest.plan is None:
            return []
        certificate_ns = smallest.plan.certificate_ns
        services = smallest.plan.configuration.services
        path = " → ".join(step_text(step) for step in self.instance.oracle.critical_path(services))
        kind = (
            "fastest reachable certificate" if smallest.limit is None else "fastest certificate found in time"
        )
        asked = math.ceil((certificate_ns + self.request.plan.margin_ns) / NS_PER_MS)
        return [
            f"The {kind} is {format_duration(certificate_ns)} (critical path: {path})",
            f"Ask for at least {asked}ms, or add faster hardware or smaller batches on that path",
        ]

    def _binding_limits(self) -> list[str]:
        """Limits any one of which, if it were lifted alone, would let a plan be certified."""
        plan = self.request.plan
        candidates: dict[str, Instance] = {}
        for name, limit in self.instance.limits.items():
            profiles = _without_limit(plan.profiles, name)
            candidates[f"the limit of {limit} on {name}"] = replace(
                self.instance,
                families=find_families(plan.pipeline, profiles, self.instance.demand),
                limits={other: most for other, most in self.instance.limits.items() if other != name},
            )
        pipeline = _without_replica_limits(plan.pipeline)
        candidates["the stages' replica limits"] = replace(
            self.instance, families=find_families(pipeline, plan.profiles, self.instance.demand)
        )
        binding = [
            name for name, relaxed in candidates.items() if self.feasibility.find(relaxed)[0] is not None
        ]
        if not binding:
            return []
        verb = "bind" if len(binding) > 1 or binding[0].endswith("s") else "binds"
        return [f"What {verb}: {'; '.join(binding)} (with any one of these lifted it would work)"]

    def _highest_rate(self) -> list[str]:
        """Largest share of the traffic for which a plan can be certified, by bisection.

        The tokens are those of the trace at every rate, and a plan found at one rate is tried first at the next.
        """
        low, high = 0, _WHOLE
        known: CertifiedConfiguration | None = None
        while high - low > 1:
            middle = (low + high) // 2
            plan, limit = self.feasibility.find(self.request.instance(middle / _WHOLE), known)
            if plan is not None:
                low, known = middle, plan
            elif limit is None:
                high = middle
            else:
                break
        if low == 0:
            return []
        rate_rps = low / _WHOLE * self.request.trace.rate_rps
        return [f"At {low}% of the traffic ({rate_rps:.4g} queries/s) it would work"]


def _objective_text(plan: Plan) -> str:
    """The objective as people read it."""
    if plan.slo_ns >= UNLIMITED_NS:
        return "any objective"
    share = "every query" if plan.envelope is not None else f"P{100 * plan.quantile:g}"
    margin = f" less {format_duration(plan.margin_ns)} of margin" if plan.margin_ns else ""
    return f"{share} ≤ {format_duration(plan.slo_ns)}{margin}"


def _blocked_stages(instance: Instance) -> list[str]:
    """Name every stage that nothing can carry, and why each of its options fell out."""
    families: Mapping[str, StageFamilies] = instance.families
    return [
        f"no hardware can carry stage {stage!r} at {float(instance.demand[stage] * NS_PER_S):.4g} tokens/s: "
        + ("; ".join(found.rejected) or "no hardware is admitted")
        for stage, found in families.items()
        if not found.families
    ]


def _without_replica_limits(pipeline: Pipeline) -> Pipeline:
    document = pipeline.to_document()
    for stage in document["stages"].values():
        replicas = stage.pop("replicas", None)
        least = replicas.get("min") if isinstance(replicas, dict) else replicas
        if least is not None:
            stage["replicas"] = {"min": least}
    return Pipeline.from_document(document)


def _without_limit(profiles: Profiles, name: str) -> Profiles:
    hardware = [
        replace(device, limit=None) if device.name == name else device
        for device in profiles.hardware.values()
    ]
    return Profiles.from_parts(hardware, profiles.tables.values())
