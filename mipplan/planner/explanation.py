"""Explain a plan: what binds, what each stage could spare, and what else would have done."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mipplan.core import Deadline, InputError, SearchLimits, first_true
from mipplan.options import Configuration, Family, Option, undominated_per_hardware
from mipplan.pipeline import are_timed
from mipplan.planner.benders import PlanSearch, SearchMethod
from mipplan.planner.instance import Instance, Request
from mipplan.result import Alternative, CertificateKind, Choice, Explanation, NearPlan, Plan, StageExplanation
from mipplan.solvers import AUTO
from mipplan.trace import Trace
from mipplan_formulations import FORMULATIONS, Cover


@dataclass(frozen=True)
class ExplanationParams:
    """Which other plans are worth knowing about."""

    near_share: float = 0.05  # Plans within this share of the cost are.
    most_near_plans: int = 3  # At most this many of them are looked for, because each takes a search.


_PARAMS = ExplanationParams()


def explain(plan: Plan, trace: Trace | Sequence[Trace], *, time_limit_s: float = 20.0) -> Explanation:
    """Explain a plan on the trace it was made for.

    Parameters
    ----------
    plan : Plan
        With choices; optimal or not.
    trace : Trace, or sequence of Trace
        Before headroom, as given to `mipplan.plan`; of several traces and seeds it is said which one binds.
    time_limit_s : float
        For the search of plans on other hardware.

    Raises
    ------
    NoPlanError
        If the plan holds no choices.
    InputError
        If its certificate is a sharp one, or all stages are timed: the certificate is then no sum of terms to vary.
    """
    plan.require()
    held = "mipplan.certify(plan, trace).critical_path shows how it comes about"
    if are_timed(plan.laws):
        raise InputError.one("plan", f"is certified by its replay, which has no terms to explain; {held}")
    if plan.certificate is CertificateKind.SHARP:
        raise InputError.one("plan", f"has a sharp certificate, which has no terms to explain; {held}")
    request = Request.of(plan, trace)
    instance = request.instance()
    configuration = Configuration(
        {stage: instance.families[stage].option(choice) for stage, choice in plan.choices.items()}
    )
    services = configuration.services
    budget = int(configuration.microusd_per_hour * (1 + _PARAMS.near_share))
    near, complete = _near_plans(instance, plan, budget, Deadline(time.monotonic() + time_limit_s))
    return Explanation(
        microusd_per_hour=configuration.microusd_per_hour,
        certificate_ns=instance.certificate_ns(services),
        deadline_ns=instance.deadline_ns,
        critical_path=instance.oracle.critical_path(services),
        stages=tuple(_stage(instance, configuration, stage) for stage in configuration),
        near_plans=near,
        near_share=_PARAMS.near_share,
        near_complete=complete,
        sample=request.worst(instance, services),
    )


def _stage(instance: Instance, configuration: Configuration, stage: str) -> StageExplanation:
    family, replicas = configuration[stage]
    fewer = None
    if replicas > family.fewest:
        one_fewer = configuration.replaced(stage, Option(family, replicas - 1))
        fewer = instance.certificate_ns(one_fewer.services)
    services, most = configuration.services, instance.deadline_ns

    def is_kept(less: int) -> bool:
        own = services[stage]
        grown = replace(own, latency_ns=own.latency_ns + most - less)
        return instance.keeps_slo({**services, stage: grown})

    return StageExplanation(
        stage=stage,
        choice=configuration[stage].choice,
        # The largest growth of T that the deadline allows, by bisection: the certificate grows with T.
        spare_latency_ns=most - first_true(0, most, is_kept),
        one_fewer_certificate_ns=fewer,
        alternative=_alternative(instance, configuration, stage),
    )


def _alternative(instance: Instance, configuration: Configuration, stage: str) -> Alternative | None:
    """Cheapest certified replacement of the stage's hardware or batch cap, within the device limits."""
    best: Alternative | None = None
    others = configuration.microusd_per_hour - configuration[stage].microusd_per_hour
    for family in instance.families[stage].families:
        if family is configuration[stage].family:
            continue
        most = family.most
        if best is not None:
            most = min(most, (best.microusd_per_hour - others - 1) // family.microusd_per_hour)
        trial = _fewest_certified(instance, configuration, stage, family, most)
        if trial is not None:
            certificate_ns = instance.certificate_ns(trial.services)
            best = Alternative(trial[stage].choice, trial.microusd_per_hour, certificate_ns)
    return best


def _fewest_certified(
    instance: Instance, configuration: Configuration, stage: str, family: Family, most: int
) -> Configuration | None:
    """Return the configuration with the fewest replicas of another family for one stage that is certified."""

    def first(low: int, high: int) -> Configuration | None:
        """Go where a service that is no worse than with any of these numbers does not exclude them."""
        services = {**configuration.services, stage: family.range_service(low, high)}
        trial = configuration.replaced(stage, Option(family, low))
        if not (instance.allows(trial) and instance.keeps_slo(services)):
            return None
        if low == high:
            return trial
        middle = (low + high) // 2
        return first(low, middle) or first(middle + 1, high)

    low, high = family.fewest, family.fewest
    # Doubling finds an upper end without asking for absurd numbers of replicas first.
    while low <= most:
        if found := first(low, high):
            return found
        low, high = high + 1, min(most, 2 * high)
    return None


def _near_plans(
    instance: Instance, plan: Plan, budget: int, deadline: Deadline
) -> tuple[tuple[NearPlan, ...], bool]:
    """Plans on other hardware, cheapest first, by solving again with the patterns found so far excluded."""
    # Dominance across hardware would hide just the plans that are wanted.
    options = instance.affordable(budget, undominated_per_hardware)
    # A plan may come from elsewhere, by what is no formulation of these problems.
    formulation = plan.formulation if plan.formulation in FORMULATIONS else AUTO
    method = SearchMethod(formulation or AUTO, plan.solver or AUTO, SearchLimits(deadline))
    found: list[NearPlan] = []
    others: list[Cover] = []
    choices: Mapping[str, Choice] = plan.choices
    while len(found) < _PARAMS.most_near_plans:
        # At least one stage runs on other hardware than in any plan before.
        other = ((place, options[s].hardware != choices[s].hardware) for place, s in enumerate(options))
        others.append(Cover(tuple(other)))
        space = instance.space(options, others)
        outcome = PlanSearch(instance, space, method, budget=budget).run()
        best = outcome.best
        if best is None:
            return tuple(found), outcome.finished
        choices = space.configuration(best.choice).choices
        found.append(NearPlan(tuple(choices.items()), best.cost, best.certificate_ns))
    return tuple(found), False
