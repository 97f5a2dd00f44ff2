"""Explain a plan: what binds, what each stage could spare, and what else would have done."""

from __future__ import annotations

import time
from collections.abc import Mapping

from mipplan.calculus import ArrivalCurve, StageService
from mipplan.options import Family, StageOptions, undominated_per_hardware
from mipplan.planner.benders import Search
from mipplan.planner.instance import Instance
from mipplan.planner.members import Members, choice_of, cost_of, keeps_limits, services_of
from mipplan.planner.request import Request
from mipplan.result import Alternative, Choice, Explanation, NearPlan, Plan, StageExplanation
from mipplan.solvers import AUTO
from mipplan.trace import Trace
from mipplan_formulations import FORMULATIONS, Cover

#: Plans within this share of the cost are worth knowing about …
NEAR_SHARE = 0.05
#: … but no more than this many of them.
_MOST_NEAR_PLANS = 3


def explain(plan: Plan, trace: Trace, *, time_limit_s: float = 20.0) -> Explanation:
    """Explain a plan on the trace it was made for.

    Parameters
    ----------
    plan : Plan
        With choices; optimal or not.
    trace : Trace
        Before headroom, as it was given to `mipplan.plan`.
    time_limit_s : float
        For the search of plans on other hardware.

    Raises
    ------
    NoPlanError
        If the plan holds no choices.
    """
    plan.require()
    request = request_of(plan, trace)
    instance = request.instance()
    members = {stage: _member(instance, stage, choice) for stage, choice in plan.choices.items()}
    services = services_of(members)
    near, complete = _near_plans(instance, plan, time.monotonic() + time_limit_s)
    return Explanation(
        microusd_per_hour=cost_of(members),
        certificate_ns=instance.certificate_ns(services),
        deadline_ns=instance.deadline_ns,
        critical_path=instance.judge.critical_path(services),
        stages=tuple(_stage(instance, members, stage) for stage in members),
        near_plans=near,
        near_share=NEAR_SHARE,
        near_complete=complete,
    )


def request_of(plan: Plan, trace: Trace) -> Request:
    """Return the request that a plan answers."""
    return Request(
        plan.pipeline,
        plan.profiles,
        trace if plan.headroom == 1.0 else trace.scale(plan.headroom),
        plan.slo_ns,
        plan.margin_ns,
        plan.quantile,
        plan.seed,
        None if plan.envelope is None else ArrivalCurve(plan.envelope),
    )


def _member(instance: Instance, stage: str, choice: Choice) -> tuple[Family, int]:
    """Family and replicas of a choice; it may lie outside what the planner would consider."""
    for family in instance.families[stage].families:
        if (family.hardware, family.batch) == (choice.hardware, choice.batch):
            return family, choice.replicas
    raise AssertionError(f"stage {stage} has no option {choice}")


def _stage(instance: Instance, members: Members, stage: str) -> StageExplanation:
    family, replicas = members[stage]
    fewer = None
    if replicas > family.fewest:
        fewer = instance.certificate_ns(services_of({**members, stage: (family, replicas - 1)}))
    return StageExplanation(
        stage=stage,
        choice=choice_of(family, replicas),
        spare_latency_ns=_spare_latency_ns(instance, members, stage),
        one_fewer_certificate_ns=fewer,
        alternative=_alternative(instance, members, stage),
    )


def _spare_latency_ns(instance: Instance, members: Members, stage: str) -> int:
    """Largest growth of the stage's T that the deadline allows, by bisection: the certificate grows with T."""
    services = services_of(members)
    own = services[stage]
    low, high = 0, instance.deadline_ns
    while low < high:
        middle = (low + high + 1) // 2
        grown = StageService(own.latency_ns + middle, own.period_ns, own.tokens)
        if instance.keeps_slo({**services, stage: grown}):
            low = middle
        else:
            high = middle - 1
    return low


def _alternative(instance: Instance, members: Members, stage: str) -> Alternative | None:
    """Cheapest certified replacement of the stage's hardware or batch cap, within the device limits."""
    best: Alternative | None = None
    others = cost_of(members) - members[stage][0].microusd_per_hour * members[stage][1]
    for family in instance.families[stage].families:
        if family is members[stage][0]:
            continue
        most = family.most
        if best is not None:
            most = min(most, (best.microusd_per_hour - others - 1) // family.microusd_per_hour)
        replicas = _fewest_certified(instance, members, stage, family, most)
        if replicas is None:
            continue
        trial = {**members, stage: (family, replicas)}
        choice = choice_of(family, replicas)
        best = Alternative(choice, cost_of(trial), instance.certificate_ns(services_of(trial)))
    return best


def _fewest_certified(
    instance: Instance, members: Members, stage: str, family: Family, most: int
) -> int | None:
    def is_certified(replicas: int) -> bool:
        trial = {**members, stage: (family, replicas)}
        return keeps_limits(trial, instance.limits) and instance.keeps_slo(services_of(trial))

    low, high = family.fewest, family.fewest
    # Doubling finds an upper end without asking for absurd numbers of replicas first.
    while high < most and not is_certified(high):
        low, high = high + 1, min(most, 2 * high)
    if high > most or not is_certified(high):
        return None
    while low < high:
        middle = (low + high) // 2
        if is_certified(middle):
            high = middle
        else:
            low = middle + 1
    return high


def _near_plans(instance: Instance, plan: Plan, ends_at: float) -> tuple[tuple[NearPlan, ...], bool]:
    """Plans on other hardware, cheapest first, by solving again with the patterns found so far excluded."""
    if plan.microusd_per_hour is None:
        raise AssertionError("a plan with choices has a cost")
    budget = int(plan.microusd_per_hour * (1 + NEAR_SHARE))
    # Dominance across hardware would hide just the plans that are wanted.
    options = instance.affordable(budget, undominated_per_hardware)
    patterns = [{stage: choice.hardware for stage, choice in plan.choices.items()}]
    found: list[NearPlan] = []
    while len(found) < _MOST_NEAR_PLANS:
        search = Search(
            instance,
            options,
            FORMULATIONS.get(plan.formulation or AUTO),
            plan.solver or AUTO,
            ends_at,
            lambda _: None,
            budget=budget,
            required=[_other_hardware(options, pattern) for pattern in patterns],
        )
        outcome = search.run()
        if outcome.best is None:
            return tuple(found), outcome.finished
        chosen = {stage: options[stage].choice(option) for stage, option in outcome.best.selection.items()}
        found.append(NearPlan(tuple(chosen.items()), outcome.best.cost, outcome.best.certificate_ns))
        patterns.append({stage: choice.hardware for stage, choice in chosen.items()})
    return tuple(found), False


def _other_hardware(options: Mapping[str, StageOptions], pattern: Mapping[str, str]) -> Cover:
    """At least one stage runs on other hardware than in the pattern."""
    return Cover(
        tuple(
            (index, table.hardware != pattern[stage]) for index, (stage, table) in enumerate(options.items())
        )
    )
