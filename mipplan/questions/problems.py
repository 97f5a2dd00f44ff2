"""A planning problem that can be changed: planned anew under its own guarantee, or judged with the choices at hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from mipplan.calculus import ArrivalCurve, StageService
from mipplan.certificate import certify_stages, plan_services
from mipplan.core import (
    MICRODOLLARS_PER_DOLLAR,
    NS_PER_S,
    FieldOf,
    InputError,
    LimitReachedError,
    SearchLimits,
)
from mipplan.pipeline import AccuracyKind, Discipline, Pipeline, are_timed, combinations, pinned
from mipplan.planner import Instance, PlanMaker, PlanningParams, Request, uninterrupted
from mipplan.planner import plan as make_plan
from mipplan.profiles import Profiles
from mipplan.replayer import replay
from mipplan.result import CertificateKind, Figures, Guarantee, Plan, PlanStatus, Provenance
from mipplan.solvers import AUTO
from mipplan.tokens import find_samples
from mipplan.trace import Trace

#: The share of scenarios that a reliable plan keeps, where its file holds no test that says another.
_CONFIDENCE = 0.95
#: Of the time for a question about a plan that is still to be made, what making it may take at most.
_FIRST_SHARE = 0.7


def check_no_budget(planning: Mapping[str, object]) -> None:
    """Refuse a budget before anything is planned; raises `InputError`."""
    if planning.get("budget_usd_per_hour") is not None:
        message = "asks for the fastest plan: there is no least cost to look for"
        raise InputError.one("budget_usd_per_hour", message)


def first_plan(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace | Sequence[Trace],
    limits: SearchLimits,
    planning: Mapping[str, Any],
) -> Plan:
    """Make the plan that a question starts from, in a part of the time that there is for all of it.

    Raises `KeyboardInterrupt` at Ctrl-C, of which a search for a plan makes a limit: nothing is asked of what it had.
    """
    first_s = limits.deadline.share(_FIRST_SHARE).limit_s()
    made = make_plan(pipeline, profiles, trace, time_limit_s=first_s, progress=limits.report, **planning)
    return uninterrupted(made)


def is_proven(plan: Plan) -> bool:
    """Whether no plan is cheaper, or there is none; the time limit stopped nothing."""
    return plan.status in (PlanStatus.OPTIMAL, PlanStatus.INFEASIBLE)


@dataclass(frozen=True)
class Problem:
    """What is planned for, and the choices that are judged under it."""

    plan: Plan
    """States pipeline, profiles and objective; its choices, if it has any, are those that are judged."""
    traces: Sequence[Trace]
    """Samples of the traffic before headroom: every plan keeps the objective on each by itself, with each draw."""
    confidence: float | None = None
    """Of the guarantee ``reliable``; by default what the plan was tested for."""
    drift: float | None = None
    """Of the guarantee ``reliable``, as for `mipplan.plan`."""
    obstacle: str | None = None
    """Why the choices that were at hand are impossible since something was changed: there are none then."""

    def __post_init__(self) -> None:
        if self.plan.energy is not None and self.plan.energy.binds:
            message = "has a cap on power or a price of energy, which questions do not keep: plan without"
            raise InputError.one("plan", message)

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline."""
        return self.plan.pipeline

    @property
    def profiles(self) -> Profiles:
        """The profiles."""
        return self.plan.profiles

    def changed(self, **parts: object) -> Problem:
        """Return the problem with other parts of its plan: `pipeline`, `profiles`, `objective`, `choices`."""
        parts = {"figures": Figures(), **parts}
        try:
            return replace(self, plan=replace(self.plan, **parts))  # type: ignore[arg-type]
        except InputError as error:
            # What is wrong with more than the choices is raised once more.
            plan = replace(self.plan, **{**parts, "choices": {}, "status": PlanStatus.UNKNOWN})  # type: ignore[arg-type]
            obstacle = "; ".join(fault.message for fault in error.faults)
            return replace(self, plan=plan, obstacle=self.obstacle or obstacle)

    @property
    def asked(self) -> Plan:
        """What is asked for: the plan without its choices, for these traces.

        With several problems it is that of the variants which the plan runs.
        """
        pipeline, objective = self.plan.pipeline, self.plan.objective
        if self.is_several or objective.guarantee is Guarantee.RELIABLE:
            pipeline, objective = pinned(pipeline), replace(objective, min_accuracy=None)
        return replace(
            self.plan,
            pipeline=pipeline,
            objective=objective,
            choices={},
            status=PlanStatus.UNKNOWN,
            figures=Figures(lower_bound_microusd_per_hour=0),
            provenance=Provenance.on(self.traces, AUTO, AUTO),
            reason=None,
            limit=None,
        )

    @property
    def is_several(self) -> bool:
        """Whether variants make other tokens, or cannot be chosen stage by stage: each combination is a problem."""
        pipeline, least = self.plan.pipeline, self.plan.min_accuracy
        by_table = least is not None and pipeline.accuracy.kind is AccuracyKind.TABLE
        return by_table or len(combinations(pipeline)) > 1

    @property
    def asked_confidence(self) -> float:
        """The share of scenarios that a reliable plan is to keep."""
        tested = self.plan.reliability
        return self.confidence or (_CONFIDENCE if tested is None else tested.confidence)

    @property
    def has_exact_plans(self) -> bool:
        """Whether cheapest plans are proven, by what services certify; else they are found, each by its own search."""
        objective = self.plan.objective
        by_services = objective.guarantee in (Guarantee.TRACE, Guarantee.ENVELOPE)
        by_services &= not are_timed(self.plan.laws) and objective.budget_microusd_per_hour is None
        return by_services and objective.certificate is CertificateKind.CLASSIC

    @property
    def settings(self) -> dict[str, Any]:
        """What `mipplan.plan` is told of what is asked, but for accuracy, budget, time and progress."""
        asked, objective = self.asked, self.plan.objective
        curve, per_s = objective.envelope, objective.per_s
        # Further quantiles stand in the pipeline only, with the limit that they go with.
        more: dict[str, Any] = {} if objective.others else {"slo_s": asked.slo_s, "quantile": asked.quantile}
        if objective.guarantee is Guarantee.RELIABLE:
            more |= {"confidence": self.asked_confidence, "drift": self.drift}
        return more | {
            "guarantee": objective.guarantee,
            "seed": objective.seed,
            "headroom": objective.headroom,
            "margin_s": objective.margin_ns / NS_PER_S,
            "envelope": None if curve is None else ArrivalCurve(curve),
            "dispatch": {stage: law.value for stage, law in asked.laws.items()},
            "discipline": objective.discipline,
            "certificate": objective.certificate,
            "runs": objective.runs,
            "per_s": math.inf if per_s is None else per_s,
            "share": None if per_s is None else objective.share,
            "energy": objective.energy,
            "seeds": objective.seeds,
        }

    def planned(self, limits: SearchLimits) -> Plan:
        """Return the plan that `mipplan.plan` makes for what is asked; raises `KeyboardInterrupt` at Ctrl-C."""
        budget = self.plan.objective.budget_microusd_per_hour
        made = make_plan(
            self.pipeline,
            self.profiles,
            self.traces,
            time_limit_s=limits.deadline.limit_s(),
            budget_usd_per_hour=None if budget is None else budget / MICRODOLLARS_PER_DOLLAR,
            accuracy=self.plan.min_accuracy,
            progress=limits.report,
            **self.settings,
        )
        return uninterrupted(made)

    def judged(self) -> SamePlan:
        """Judge the choices at hand, by the guarantee and by a replay; raises `InputError` if they are impossible."""
        if self.obstacle is not None:
            raise InputError.one("plan", self.obstacle)
        plan, objective = self.plan.require(), self.plan.objective
        request = Request.of(self.asked, self.traces)
        instance, services = request.instance(), plan_services(plan, request.overtaking)
        overloaded = tuple(
            stage for stage, service in services.items() if 1 / service.ns_per_token <= instance.demand[stage]
        )
        used: dict[str, int] = {}
        for choice in plan.choices.values():
            used[choice.hardware] = used.get(choice.hardware, 0) + choice.replicas
        scarce = tuple(name for name, limit in instance.limits.items() if used.get(name, 0) > limit)
        replayed_ns = max(
            replay(plan, one.trace, seed=one.seed).objective_ns(objective)
            for one in find_samples(plan.pipeline, self.traces, plan.seed, plan.seeds)
        )
        guaranteed_ns: int | None = None
        if are_timed(plan.laws):  # every run is the replay
            guaranteed_ns = replayed_ns
        elif objective.guarantee in (Guarantee.TRACE, Guarantee.ENVELOPE):
            sharp = objective.certificate is CertificateKind.SHARP
            guaranteed_ns = (
                max(certify_stages(plan, one.trace, seed=one.seed).bound_ns for one in request.samples)
                if sharp
                else instance.certificate_ns(services)
            )
        figure_ns = replayed_ns if guaranteed_ns is None else guaranteed_ns
        # What rests on replays is of queues that may grow from the first query to the last.
        may_fall_behind = guaranteed_ns is None or not overloaded
        keeps = figure_ns <= objective.deadline_ns and may_fall_behind and not scarce
        return SamePlan(plan, guaranteed_ns, replayed_ns, keeps, overloaded, scarce)


@dataclass(frozen=True)
class SamePlan:
    """The same choices judged under a problem that was changed."""

    plan: Plan
    guaranteed_ns: int | None
    """Certified latency, ns; None where the plan's guarantee rests on replays. Of several samples the greatest."""
    replayed_ns: int
    """Replayed latency quantile, ns; of several samples the greatest."""
    keeps: bool
    """Whether the objective is kept in the sense of the guarantee, there are devices enough, and every stage keeps up
    with the traffic; where nothing is certified it is kept by the replay, and stages may fall behind."""
    overloaded: tuple[str, ...] = ()
    """Stages that serve no more than arrives on average."""
    scarce: tuple[str, ...] = ()
    """Hardware of which the plan uses more than the limit allows."""

    guaranteed_s = FieldOf[float | None]("guaranteed_ns", NS_PER_S)
    """`guaranteed_ns` in seconds."""
    replayed_s = FieldOf[float]("replayed_ns", NS_PER_S)
    """`replayed_ns` in seconds."""


@dataclass(frozen=True)
class _RealisedRequest(Request):
    """A request whose tokens and oracle are at hand."""

    realised: Instance | None = None

    def instance(self, factor: float = 1.0) -> Instance:
        if self.realised is None or factor != 1.0:
            return super().instance(factor)
        return self.realised


class WarmPlanner:
    """Plans one problem under other objectives, prices and profiles: tokens, waits and what was learnt are kept.

    `solves` counts the plans made. Raises `InputError` if cheapest plans are not proven by services: then every plan
    takes a search of its own.
    """

    def __init__(self, problem: Problem, limits: SearchLimits) -> None:
        if not problem.has_exact_plans:
            raise InputError.one("plan", "has a guarantee under which every plan takes a search of its own")
        self._asked, self._limits = problem.asked, limits
        self._maker = PlanMaker(self._asked, SearchLimits(limits.deadline), PlanningParams(diagnosis_s=0.0))
        self._request = self._maker.request
        self.instance = self._request.instance()
        self.solves = 0

    @property
    def is_monotone(self) -> bool:
        """Whether faster service never takes a plan away: under fifo it may, since more tokens overtake."""
        return self._asked.discipline is not Discipline.FIFO

    def plan(
        self, *, slo_ns: int | None = None, profiles: Profiles | None = None, after: Plan | None = None
    ) -> Plan:
        """Return the cheapest plan; without a reason if there is none. `after` is that for a larger objective.

        Raises `KeyboardInterrupt` at Ctrl-C. What the time limit stops is not proven.
        """
        self.solves += 1
        asked = self._asked if slo_ns is None else self._asked.with_slo(slo_ns)
        asked = asked if profiles is None else replace(asked, profiles=profiles)
        realised = self.instance.with_deadline(asked.objective.deadline_ns)
        if profiles is not None:
            found = Instance.of(
                asked.pipeline,
                profiles,
                realised.demand,
                realised.oracle,
                realised.deadline_ns,
                asked.laws,
                self._request.overtaking,
            )
            found = replace(found, least_demand=realised.least_demand)
            realised = found.with_energy(asked.energy, profiles).with_floor(asked.min_accuracy)
        request = _RealisedRequest(asked, self._request.samples, realised)
        if drawn := vars(self._request).get("workloads"):
            vars(request)["workloads"] = drawn  # once, for whoever asks for them again
        return uninterrupted(self._maker.on(asked, request, after).cheapest())

    def proven(self, profiles: Profiles) -> Plan:
        """Return the cheapest plan with other profiles; raises `LimitReachedError` where time stops its proof."""
        self._limits.deadline.check()
        made = self.plan(profiles=profiles)
        if not is_proven(made):
            raise LimitReachedError
        return made

    def keeps(self, plan: Plan) -> bool:
        """Whether a plan's choices are certified for this problem."""
        services = self._stable_services(plan)
        return services is not None and self.instance.keeps_slo(services)

    def certificate_ns(self, plan: Plan) -> int | None:
        """What is certified of a plan's choices on these traces, ns; None if they are none of this problem's."""
        services = self._stable_services(plan)
        with suppress(KeyError):  # an option that falls behind the traffic, or is not on offer, is none
            if services is not None and self.instance.allows(self.instance.configuration(plan.choices)):
                return self.instance.certificate_ns(services)
        return None

    def _stable_services(self, plan: Plan) -> dict[str, StageService] | None:
        services = plan_services(plan, self._request.overtaking)
        demand = self.instance.demand
        stable = all(1 / service.ns_per_token > demand[stage] for stage, service in services.items())
        return services if stable else None
