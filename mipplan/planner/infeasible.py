"""Whether any plan keeps a deadline, the smallest that one keeps, and why there is none and what would work instead."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from itertools import product

from mipplan.calculus import given_up_at
from mipplan.certificate import certify_stages
from mipplan.core import (
    MAX_DURATION_NS,
    MICRODOLLARS_PER_DOLLAR,
    NS_PER_MS,
    NS_PER_S,
    UNLIMITED_NS,
    Deadline,
    LimitReachedError,
    format_duration,
)
from mipplan.options import (
    Configuration,
    Family,
    Option,
    StageOptions,
    find_families,
    limits_of,
    unreachable_caps,
)
from mipplan.pipeline import Pipeline
from mipplan.planner.benders import PlanSearch, SearchMethod, SearchParams
from mipplan.planner.heuristics import CertifiedConfiguration
from mipplan.planner.instance import Instance, Request
from mipplan.planner.narrowing import Ranges
from mipplan.profiles import Profiles
from mipplan.result import Limit, Objective, Plan, PlanStatus, step_text
from mipplan.tokens import Sample

#: A certified plan, if any was found, and what stopped the search for it, if it did not come to its end.
Found = tuple[CertifiedConfiguration | None, Limit | None]
#: The highest rate that works is found in whole percents of the trace's: what is named was tried, not rounded.
_WHOLE = 100
#: Masters that are solved for a plan that is cheaper than the one at hand.
_HURRIED_ROUNDS = 20


@dataclass(frozen=True)
class Feasibility:
    """Decides feasibility with the same search that plans, over the few options that matter for it."""

    method: SearchMethod
    budget: int | None = None  # most micro-dollars per hour a plan may cost
    params: SearchParams = field(default_factory=SearchParams)

    def find(
        self, instance: Instance, start: CertifiedConfiguration | None = None, ranges: Ranges | None = None
    ) -> Found:
        """Find any plan that keeps the instance's deadline; neither a plan nor a limit: there is none.

        If a plan for a similar instance, from which it starts, serves this one as well, there is nothing to search for.
        The ranges that another deadline led to are a better beginning than none.
        """
        if not instance.has_options:
            return None, None
        moved = None if start is None else _moved(start.configuration, instance)
        if moved is not None and instance.keeps_slo(moved.services):
            return CertifiedConfiguration.of(moved, instance), None
        if self.budget is not None:
            return self._among(instance, instance.affordable(self.budget))
        fast = _soonest(instance)
        if fast is None or not instance.keeps_slo(fast.services):
            return self._searched(instance, ranges)
        # There is a plan, the dearest of all. Excluding what is refused, round by round, mostly leads to a cheaper one
        # soon, and may take very long to come to this one.
        hurried = replace(self, params=replace(self.params, most_rounds=_HURRIED_ROUNDS))
        found, limit = hurried._searched(instance, ranges)
        if found is not None:
            return found, limit
        return CertifiedConfiguration.of(fast, instance), limit if limit is Limit.INTERRUPT else None

    def _searched(self, instance: Instance, ranges: Ranges | None) -> Found:
        # The most replicas of everything: if any plan is certified, one of these is.
        ranges = Ranges(instance) if ranges is None else ranges
        while True:
            found, limit = self._among(instance, ranges.options())
            if found is None or not ranges.are_wide(found.configuration):
                return found, limit
            # Under fifo what was found may be no plan: more replicas serve faster, but more tokens overtake.
            for meant in ranges.members(found.configuration):
                if instance.allows(meant) and instance.keeps_slo(meant.services):
                    return CertifiedConfiguration.of(meant, instance), limit
            ranges.halve(found.configuration)

    def _among(self, instance: Instance, options: Mapping[str, StageOptions]) -> Found:
        if not all(table.count for table in options.values()):
            return None, None
        space = instance.space(options)
        outcome = PlanSearch(
            instance, space, self.method, any_plan=True, budget=self.budget, params=self.params
        ).run()
        if outcome.best is None:
            return None, outcome.limit
        configuration = space.configuration(outcome.best.choice)
        return CertifiedConfiguration(configuration, outcome.best.certificate_ns), outcome.limit

    def smallest_deadline(self, instance: Instance, told: Callable[[int], object] = int) -> Found:
        """Find the smallest deadline that a plan keeps, the plan's certificate, by bisection between proven bounds.

        Without a limit, no plan keeps a smaller one; solvers count none beyond `UNLIMITED_NS`. Latencies in ns that are
        `told` alike, as are all between them, are not told apart.
        """
        ranges, limit, deadline = Ranges(instance), None, self.method.limits.deadline
        at_hand = _soonest(instance, self.budget)
        best = None if at_hand is None else CertifiedConfiguration.of(at_hand, instance)
        try:
            with given_up_at(deadline):
                if best is None:
                    best, limit = self.find(instance.with_deadline(UNLIMITED_NS), ranges=ranges)
                if best is None or limit is not None:
                    return best, limit
                deadline.check()
                if self.budget is None:
                    best = _quickened(instance, best, deadline)
                # The first question is whether anything at all is faster: mostly the answer is no, and that is all.
                low = instance.oracle.floor_ns(instance.ideal_services())
                guess = min(best.certificate_ns - 1, UNLIMITED_NS)
                while low <= UNLIMITED_NS and told(low) != told(best.certificate_ns):
                    deadline.check()
                    found, limit = self.find(instance.with_deadline(guess), ranges=ranges)
                    best, low = (best, guess + 1) if found is None else (found, low)
                    if limit is not None:
                        return best, limit
                    low = max(low, instance.certificate_ns(instance.ideal_services()))
                    guess = min((low + best.certificate_ns - 1) // 2, UNLIMITED_NS)
        except (KeyboardInterrupt, LimitReachedError) as stop:
            return best, Limit.INTERRUPT if isinstance(stop, KeyboardInterrupt) else Limit.TIME
        return best, None if told(low) == told(best.certificate_ns) else Limit.TIME


def _moved(configuration: Configuration, instance: Instance) -> Configuration | None:
    """Return the same choices among another instance's options; None if one is not on offer there."""
    moved = Configuration()
    for stage, (family, replicas) in configuration.items():
        for offered in instance.families[stage].families:
            own = (family.variant, family.hardware, family.batch)
            alike = (offered.variant, offered.hardware, offered.batch) == own
            if alike and offered.fewest <= replicas <= offered.most:
                moved[stage] = Option(offered, replicas)
    return moved if len(moved) == len(configuration) and instance.allows(moved) else None


def _soonest(instance: Instance, budget: int | None = None) -> Configuration | None:
    """A plan that keeps some deadline: the most replicas of what serves soonest; within a budget, what is cheapest.

    None where none is known at once: where stages share devices, caps or accuracy, or all costs too much.
    """
    families = [family for found in instance.families.values() for family in found.families]
    shared = instance.caps or instance.floor is not None or any(family.limited for family in families)
    if shared or not instance.has_options:
        return None
    made = Configuration()
    for stage, found in instance.families.items():
        soonest = min(found.families, key=lambda family: family.service(family.most).latency_ns)
        cheapest = min(found.families, key=lambda family: family.cost(family.fewest))
        made[stage] = Option(soonest, soonest.most) if budget is None else Option(cheapest, cheapest.fewest)
    return made if budget is None or made.microusd_per_hour <= budget else None


def _quickened(
    instance: Instance, plan: CertifiedConfiguration, deadline: Deadline
) -> CertifiedConfiguration:
    """Exchange families for others, one stage at a time, while the certificate falls.

    With the most replicas; under fifo, where fewer may be better, with the fewest, too.
    """
    if any(family.limited for found in instance.families.values() for family in found.families):
        return plan  # the most replicas for every stage are not to be had together
    shared = bool(instance.caps) or instance.floor is not None
    kept = tuple if shared else _unbeaten
    families = {stage: kept(found.families) for stage, found in instance.families.items()}
    improved = True
    with suppress(LimitReachedError):
        while improved:
            improved = False
            for stage, own in families.items():
                tried = [(f, n) for f in own for n in {f.most, f.fewest if f.slacks_ns else f.most}]
                for family, replicas in tried:
                    deadline.check()
                    faster = plan.configuration.replaced(stage, Option(family, replicas))
                    if not instance.allows(faster):
                        continue
                    # What only the whole trace sees is learnt from, so that it is asked for few of them.
                    if not instance.oracle.exceeds(faster.services, plan.certificate_ns - 1):
                        plan, improved = CertifiedConfiguration.of(faster, instance), True
    return plan


def _unbeaten(families: Sequence[Family]) -> Sequence[Family]:
    """Those that no other one beats or equals in T and R with the most replicas: no certificate falls with others."""
    if any(family.slacks_ns for family in families):
        return families  # what serves faster may let more tokens pass
    kept: dict[Fraction, Family] = {}
    for family in sorted(families, key=lambda family: family.service(family.most).latency_ns):
        ns_per_token = family.service(family.most).ns_per_token
        if not kept or ns_per_token < min(kept):
            kept[ns_per_token] = family
    return list(kept.values())


_NOTHING_FITS = "Whatever the objective, nothing that keeps up is within the limits"


@dataclass(frozen=True)
class Diagnosis:
    """Explains an infeasible request."""

    request: Request
    instance: Instance
    feasibility: Feasibility
    limits: list[Limit | None] = field(default_factory=list)  # What stopped the searches so far, if anything.

    def reason(self) -> str:
        """Everything that could be found out in the time there is, most useful first."""
        if unreachable := self._unreachable_accuracy():
            return unreachable
        is_blocked = bool(parts := unreachable_caps(self.instance.caps) or self._blocked_stages())
        if not is_blocked:
            parts.append(f"no configuration can be certified to keep {_objective_text(self.request.plan)}")
        # That there is no plan is known, and what was found out by then is told.
        with suppress(KeyboardInterrupt, LimitReachedError):
            self.feasibility.method.limits.report("finding out why there is no plan")
            parts += [] if is_blocked else self._smallest_objective()
            if binding := self._binding_limits():
                verb = "bind" if len(binding) > 1 or binding[0].endswith("s") else "binds"
                told = "; ".join(binding)
                parts.append(f"What {verb}: {told} (with any one of these lifted it would work)")
            elif parts[-1] == _NOTHING_FITS:
                # Lifting one limit is not enough for objective or budget, too: it is named all the same.
                anyhow = replace(self, feasibility=replace(self.feasibility, budget=None))
                named = replace(anyhow, instance=self.instance.with_deadline(UNLIMITED_NS))._binding_limits()
                cost = "" if self.feasibility.budget is None else ", whatever it costs"
                told = f"Something would be without any one of these{cost}: {'; '.join(named)}"
                parts += [told] if named else []
            parts += [] if Limit.INTERRUPT in self.limits else self._highest_rate()
        return ". ".join(parts)

    def what_would_do(self) -> str:
        """Which objective and share of the traffic a certified plan keeps, as far as there is time; else nothing."""
        parts: list[str] = []
        with suppress(KeyboardInterrupt, LimitReachedError):
            if self.instance.has_options:
                parts += [part for part in self._smallest_objective() if part != _NOTHING_FITS]
            parts += [] if Limit.INTERRUPT in self.limits else self._highest_rate()
        return ". ".join(parts)

    def _blocked_stages(self) -> list[str]:
        """Name every stage that nothing can carry, and why each of its options fell out."""
        demand = self.instance.demand
        return [
            f"no hardware can carry stage {stage!r} at {float(demand[stage] * NS_PER_S):.4g} tokens/s: "
            + ("; ".join(found.rejected) or "no hardware is admitted")
            for stage, found in self.instance.families.items()
            if not found.families
        ]

    def _unreachable_accuracy(self) -> str | None:
        """Say what the most accurate variants make of it, if that is not enough."""
        floor = self.instance.floor
        if floor is None or floor.best is None or floor.best >= floor.floor * (1 - floor.resolution):
            return None
        return f"no plan has an accuracy of {floor.floor:g}: with the most accurate variants it is {floor.best:.6g}"

    def _smallest_objective(self) -> list[str]:
        told = partial(_told, self.request.plan.objective)
        fastest, limit = self.feasibility.smallest_deadline(self.instance, told)
        self.limits.append(limit)
        if fastest is None:
            return [] if limit is not None else [_NOTHING_FITS]
        path = " → ".join(map(step_text, self.instance.oracle.critical_path(fastest.configuration.services)))
        worst = self.request.worst(self.instance, fastest.configuration.services)
        path += "" if worst is None else f", on {worst}"
        kind = "fastest reachable certificate" if limit is None else "fastest certificate found in time"
        found, instead = told(fastest.certificate_ns)
        if self.request.plan.objective.others:
            instead = self._limits_kept(fastest.configuration)
        return [
            f"The {kind} {found} (critical path: {path})",
            f"Ask for {instead}, or add faster hardware or smaller batches on that path",
        ]

    def _limits_kept(self, plan: Configuration) -> str:
        """Several limits that a plan keeps: each as it is asked for, or what is certified, if that is more."""
        asked = self.request.plan.objective
        limits = {one.quantile: one.limit_ns for one in asked.others} | {asked.quantile: asked.slo_ns}
        for quantile, sample in product(limits, self.request.samples):
            alone = replace(asked, quantile=quantile, others=())
            made = replace(self.request.plan, choices=plan.choices, objective=alone)
            found_ns = certify_stages(made, sample.trace, seed=sample.seed).bound_ns
            limits[quantile] = max(limits[quantile], found_ns + asked.margin_ns)
        return ",".join(f"p{100 * q:g}={math.ceil(ns / NS_PER_MS)}ms" for q, ns in limits.items())

    def _binding_limits(self) -> list[str]:
        """Limits any one of which, if it were lifted alone, would let a plan be certified."""
        plan, instance, asked = self.request.plan, self.instance, self.request.plan.objective
        lifted = {
            f"the limit of {limit} on {name}": (plan.pipeline, _without_limit(plan.profiles, name), asked)
            for name, limit in instance.limits.items()
        }
        unlimited = _without_replica_limits(plan.pipeline)
        if unlimited.to_document() != plan.pipeline.to_document():
            lifted["the stages' replica limits"] = unlimited, plan.profiles, asked
        if instance.floor is not None:
            lifted["the least accuracy"] = plan.pipeline, plan.profiles, replace(asked, min_accuracy=None)
        if asked.energy is not None and asked.energy.max_power_w is not None:
            anything = replace(asked, energy=replace(asked.energy, max_power_w=None))
            lifted["the cap on power"] = plan.pipeline, plan.profiles, anything
        binding: list[str] = []
        for name, (pipeline, profiles, objective) in lifted.items():
            if self.feasibility.method.limits.deadline.is_over or Limit.INTERRUPT in self.limits:
                break
            families = find_families(pipeline, profiles, instance.demand, plan.laws, self.request.overtaking)
            relaxed = replace(instance, families=families, limits=limits_of(profiles), caps=(), floor=None)
            relaxed = relaxed.with_energy(objective.energy, profiles).with_floor(objective.min_accuracy)
            found, limit = self.feasibility.find(relaxed)
            self.limits.append(limit)
            binding += [] if found is None else [name]
        return binding

    def _highest_rate(self) -> list[str]:
        """Largest share of the traffic for which a plan can be certified, by bisection.

        The tokens are those of the trace at every rate, and a plan found at one rate is tried first at the next. Shares
        at which a trace of months would last longer than traces may are not looked at.
        """
        low, high = max(map(_too_long, self.request.samples)), _WHOLE
        known: CertifiedConfiguration | None = None
        middle = low + 1  # Mostly batches alone take too long, at the lowest rate as at any other.
        while high - low > 1 and not self.feasibility.method.limits.deadline.is_over:
            plan, limit = self.feasibility.find(self.request.instance(middle / _WHOLE), known)
            if plan is not None:
                low, known = middle, plan
            elif limit is None:
                high = middle
            if limit is not None:
                break
            middle = (low + high) // 2
        if known is None:
            return []
        rates_rps = {low / _WHOLE * sample.trace.rate_rps for sample in self.request.samples}
        most = "up to " if len(rates_rps) > 1 else ""
        return [f"At {low}% of the traffic ({most}{max(rates_rps):.4g} queries/s) it would work"]


def _too_long(sample: Sample) -> int:
    """The largest share of the traffic, in parts of `_WHOLE`, at which its trace may last longer than traces may."""
    first_ns = int(sample.trace.arrival_ns[0])
    return sample.trace.span_ns * _WHOLE // max(1, MAX_DURATION_NS - first_ns)


def over_budget(cheapest: Plan, budget: int) -> str:
    """Say why no plan costs at most `budget` (micro-dollars per hour), given the cheapest found."""
    least = cheapest.require().microusd_per_hour or 0
    known = "the cheapest" if cheapest.status is PlanStatus.OPTIMAL else "the cheapest found in time"
    return (
        f"no plan costs at most {budget / MICRODOLLARS_PER_DOLLAR:.10g} $/h: {known} that keeps up with the mean rate "
        f"costs {least / MICRODOLLARS_PER_DOLLAR:.10g} $/h"
    )


def _objective_text(plan: Plan) -> str:
    """The objective as people read it."""
    margin = f" less {format_duration(plan.margin_ns)} of margin" if plan.margin_ns else ""
    return f"{plan.objective.text}{margin}"


def _told(objective: Objective, fastest_ns: int) -> tuple[str, str]:
    """What is told of the fastest certificate, of several limits by the one that binds, and what to ask for instead."""
    later_ns = fastest_ns - objective.deadline_ns
    least = f"{math.ceil((objective.slo_ns + later_ns) / NS_PER_MS)}ms"
    if objective.others:  # which fastest plans are alike in what is to be asked for
        return f"takes {format_duration(later_ns)} more than a limit allows", least
    return f"is {format_duration(fastest_ns)}", f"at least {least}"


def _without_replica_limits(pipeline: Pipeline) -> Pipeline:
    document = pipeline.to_document()
    for stage in document["stages"].values():
        replicas = stage.pop("replicas", None)
        least = replicas.get("min") if isinstance(replicas, dict) else replicas
        if least is not None:
            stage["replicas"] = {"min": least}
    return Pipeline.from_document(document)


def _without_limit(profiles: Profiles, name: str) -> Profiles:
    return profiles.with_hardware(replace(profiles.hardware[name], limit=None))
