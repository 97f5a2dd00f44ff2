"""Explain a plan: what binds, what each stage could spare, and what else would have done."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from mipplan.core import (
    Deadline,
    LimitReachedError,
    SearchLimits,
    check_kinds,
    first_true,
)
from mipplan.options import MAX_REPLICAS, Configuration, Family, Option, undominated_per_hardware
from mipplan.planner import Instance, PlanSearch, Request, SearchMethod
from mipplan.questions.alternatives import (
    ExplanationParams,
    Trials,
    cheapest,
    impossible,
    judge_of,
    options_of,
)
from mipplan.result import (
    Choice,
    CriticalStage,
    Explanation,
    JudgedBy,
    NearPlan,
    OptionReason,
    OptionVerdict,
    Plan,
    PlanStatus,
    StageExplanation,
)
from mipplan.tokens import read_traces
from mipplan.trace import Trace
from mipplan_formulations import Cover

_PARAMS = ExplanationParams()


def explain(plan: Plan, trace: Trace | Sequence[Trace], *, time_limit_s: float = 20.0) -> Explanation:
    """Explain a plan on the trace it was made for.

    A plan of a sharp certificate, and one that rests on its replay, are explained by trials: one choice is changed,
    and the whole judged again (`Explanation.judged_by`). Neither is monotone, so of what was not tried nothing is said.

    Parameters
    ----------
    plan : Plan
        With choices; optimal or not.
    trace : Trace, or sequence of Trace
        Before headroom, as given to `mipplan.plan`; of several traces and seeds it is said which one binds.
    time_limit_s : float
        Wall-clock limit. What there is no time for is left out, and the explanation says so; so does Ctrl-C.

    Returns
    -------
    Explanation
        Of the plan; or, where the search for the cheapest certified plan on these traces was stopped before it was
        proven (`Plan.limit`) and a cheaper one comes up here, of that one, which is then `adopted`.

    Raises
    ------
    NoPlanError
        If the plan holds no choices.
    InputError
        Listing every stage that runs on what is none of its options: a batch size between those measured, what the
        pipeline does not allow, or what no allowed number of replicas keeps up with the trace on; and every stage
        that falls behind it, unless the plan's guarantee rests on replays.
    """
    started = time.monotonic()
    check_kinds(plan=(plan, Plan))
    plan.require()
    deadline = Deadline.after(time_limit_s, started)
    request = Request.of(plan, trace)
    if judge_of(plan) is not JudgedBy.CLASSIC:
        return Trials(plan, request.samples, deadline).explained()
    instance = request.instance()
    configuration, before = options_of(plan, instance.families, instance.demand), time.monotonic()
    path = instance.oracle.critical_path(configuration.services)
    # What is under way when the time is up takes about as long as this, and so does the end for another plan.
    soon = Deadline(deadline.at - 2 * (time.monotonic() - before))
    return _Explaining(request, instance, soon, path, _is_final(plan, trace)).explained(configuration)


def _is_final(plan: Plan, trace: Trace | Sequence[Trace]) -> bool:
    """Whether nothing cheaper takes a plan's place: only a search for what is looked for here was to find that itself.

    Plans of a fleet, of a menu or by weights are not to be the cheapest, and those within a budget are to be the
    fastest. No limit stopped a search for any of them that this one goes on with. What was proven of the cost is of the
    traces planned for.
    """
    is_stopped = plan.status is PlanStatus.FEASIBLE and plan.limit is not None
    if plan.budget_microusd_per_hour is not None or not is_stopped:
        return True
    return [one.sha256 for one in plan.traces] != [one.sha256 for one in read_traces(trace)]


@dataclass
class _Explaining:
    """One explanation under way."""

    request: Request
    instance: Instance
    deadline: Deadline
    path: tuple[CriticalStage, ...]  # The critical path of the plan asked about.
    is_final: bool  # Whether that is explained, whatever comes up.
    is_complete: bool = True  # Whether there was time for everything about the stages.

    @property
    def plan(self) -> Plan:
        """The plan asked about."""
        return self.request.plan

    def explained(self, configuration: Configuration) -> Explanation:
        """Explain a configuration; unless the plan is final, the first cheaper one that comes up."""
        instance, stages = self.instance, dict[str, StageExplanation]()
        cost = configuration.microusd_per_hour
        near: tuple[NearPlan, ...] = ()
        near_complete = False
        try:
            for stage in configuration:
                stages[stage] = self._stage(configuration, stage)
                other = stages[stage].alternative
                if other is not None and other.microusd_per_hour < cost and not self.is_final:
                    option = instance.families[stage].option(other.choice)
                    return self.explained(configuration.replaced(stage, option))
            near, near_complete = self._near_plans(configuration)
            least = min(near, key=lambda plan: plan.microusd_per_hour, default=None)
            if least is not None and least.microusd_per_hour < cost and not self.is_final:
                return self.explained(instance.configuration(dict(least.choices)))
        except (KeyboardInterrupt, LimitReachedError):
            self.is_complete = self.is_complete and len(stages) == len(configuration)
        certificate_ns = instance.certificate_ns(configuration.services)
        is_adopted = configuration.choices != self.plan.choices
        return Explanation(
            microusd_per_hour=cost,
            certificate_ns=certificate_ns,
            deadline_ns=instance.deadline_ns,
            critical_path=instance.oracle.critical_path(configuration.services) if is_adopted else self.path,
            stages=tuple(stages.values()),
            near_plans=near,
            near_share=_PARAMS.near_share,
            near_complete=near_complete,
            sample=self.request.worst(instance, configuration.services),
            stages_complete=self.is_complete,
            adopted=self._adopted(configuration, certificate_ns) if is_adopted else None,
        )

    def _adopted(self, configuration: Configuration, certificate_ns: int) -> Plan:
        """The plan with these choices; what was proven of the cost from below holds for it, too."""
        oracle, services = self.instance.oracle, configuration.services
        figures = replace(
            self.plan.figures,
            microusd_per_hour=configuration.microusd_per_hour,
            bound_ns=oracle.paths.bound_ns(services),
            certificate_ns=certificate_ns,
            samples=self.request.figures(oracle.by_sample(services)),
            **configuration.power_mw,
        )
        # What was found out about a plan by running it is not of another one.
        provenance = replace(self.plan.provenance, reliability=None, refinement=None)
        return replace(self.plan, choices=configuration.choices, figures=figures, provenance=provenance)

    def _has_time(self) -> bool:
        self.is_complete &= not self.deadline.is_over
        return not self.deadline.is_over

    def _stage(self, configuration: Configuration, stage: str) -> StageExplanation:
        family, replicas = configuration[stage]
        instance, fewer = self.instance, None
        if replicas > family.fewest and self._has_time():
            one_fewer = configuration.replaced(stage, Option(family, replicas - 1))
            fewer = instance.certificate_ns(one_fewer.services)
        services, most = configuration.services, instance.deadline_ns

        def is_kept(less: int) -> bool:
            if not self._has_time():
                raise LimitReachedError  # half a bisection knows nothing
            own = services[stage]
            grown = replace(own, latency_ns=own.latency_ns + most - less)
            return instance.keeps_slo({**services, stage: grown})

        options = tuple(self._options(configuration, stage))
        return StageExplanation(
            stage=stage,
            choice=configuration[stage].choice,
            # The largest growth of T that the deadline allows, by bisection: the certificate grows with T.
            spare_latency_ns=most - first_true(0, most, is_kept),
            one_fewer_certificate_ns=fewer,
            alternative=cheapest(options),
            options=(*options, *impossible(self.plan, instance.families[stage])),
        )

    def _options(self, configuration: Configuration, stage: str) -> Iterator[OptionReason]:
        """Say of everything else that a stage could run on what comes of it; what there is no time for is left out."""
        for family in self.instance.families[stage].families:
            reason = self._option(configuration, stage, family)
            if reason is not None:
                yield reason

    def _option(self, configuration: Configuration, stage: str, family: Family) -> OptionReason | None:
        told = partial(
            OptionReason, family.hardware, family.batch, variant=family.variant, fewest=family.fewest
        )
        if family is configuration[stage].family:
            verdict, trial = OptionVerdict.CHOSEN, configuration
        elif not self._has_time():
            return None
        elif found := self._fewest_certified(configuration, stage, family):
            few = found[stage].replicas == family.fewest
            verdict, trial = OptionVerdict.THROUGHPUT if few else OptionVerdict.LATENCY, found
        else:
            enough = self._fewest_certified(configuration, stage, family, anyway=True)
            least_ns = self._least_ns(configuration, stage, family)
            fewest = configuration.replaced(stage, Option(family, family.fewest))
            return (
                told(
                    OptionVerdict.LIMIT if enough else OptionVerdict.TOO_SLOW,
                    certificate_ns=least_ns,
                    latency_ns=family.service(family.most).latency_ns,
                    detail=self._refused(fewest, stage) or (self._refused(enough, stage) if enough else None),
                )
                if self._has_time()
                else None
            )
        return told(
            verdict,
            trial[stage].replicas,
            microusd_per_hour=trial.microusd_per_hour,
            certificate_ns=self.instance.certificate_ns(trial.services),
            latency_ns=trial.services[stage].latency_ns,
        )

    def _refused(self, trial: Configuration, stage: str) -> str | None:
        """Say for what a configuration is refused whatever its latency; None if for nothing, or too few devices."""
        instance, wanted = self.instance, trial[stage].replicas
        if wanted > (most := instance.pipeline.stages[stage].replicas_max or MAX_REPLICAS):
            return f"{wanted} replicas would do, and the pipeline allows {stage} {most}"
        if instance.allows(trial) or not trial.keeps(instance.limits):
            return None
        totals = zip(*(option.uses for option in trial.values()), strict=True)
        passed = [cap.name for cap, own in zip(instance.caps, totals, strict=True) if sum(own) > cap.most]
        is_power = passed == ["power"]
        return f"the plan would {'draw more than the cap on power' if is_power else 'not be accurate enough'}"

    def _fewest_certified(
        self, configuration: Configuration, stage: str, family: Family, *, anyway: bool = False
    ) -> Configuration | None:
        """The configuration with the fewest replicas of another family that is certified; `anyway`: allowed or not."""
        instance, most = self.instance, MAX_REPLICAS if anyway else family.most

        def first(low: int, high: int) -> Configuration | None:
            """Go where a service that is no worse than with any of these numbers does not exclude them."""
            services = {**configuration.services, stage: family.range_service(low, high)}
            trial = configuration.replaced(stage, Option(family, low))
            if not ((anyway or instance.allows(trial)) and self._has_time() and instance.keeps_slo(services)):
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

    def _least_ns(self, configuration: Configuration, stage: str, family: Family) -> int:
        """The least certificate with any number of replicas: the most have it, but under fifo more tokens overtake."""

        def certificate_ns(low: int, high: int) -> int:  # No number between has a smaller one.
            services = {**configuration.services, stage: family.range_service(low, high)}
            return self.instance.certificate_ns(services)

        least_ns, ranges = certificate_ns(family.most, family.most), [(family.fewest, family.most)]
        while ranges and self._has_time():
            low, high = ranges.pop()
            if (bound_ns := certificate_ns(low, high)) < least_ns:
                middle = (low + high) // 2
                ranges += [] if low == high else [(low, middle), (middle + 1, high)]
                least_ns = bound_ns if low == high else least_ns
        return least_ns

    def _near_plans(self, configuration: Configuration) -> tuple[tuple[NearPlan, ...], bool]:
        """Plans on other hardware, cheapest first, by solving again with the patterns found so far excluded."""
        instance = self.instance
        budget = int(configuration.microusd_per_hour * (1 + _PARAMS.near_share))
        # Dominance across hardware would hide just the plans that are wanted.
        options = instance.affordable(budget, undominated_per_hardware)
        if not all(table.count for table in options.values()):
            # Given choices may have fewer replicas than the pipeline asks for, and cost less than those do.
            return (), True
        method = SearchMethod.of(self.plan, SearchLimits(self.deadline))
        found: list[NearPlan] = []
        others: list[Cover] = []
        choices: Mapping[str, Choice] = configuration.choices
        while len(found) < _PARAMS.most_near_plans and not self.deadline.is_over:
            # At least one stage runs on other hardware than in any plan before.
            other = ((place, options[s].hardware != choices[s].hardware) for place, s in enumerate(options))
            others.append(Cover(tuple(other)))
            space = instance.space(options, others)
            outcome = PlanSearch(instance, space, method, budget=budget).run()
            if (best := outcome.best) is None:
                return tuple(found), outcome.finished
            choices = space.configuration(best.choice).choices
            found.append(NearPlan(tuple(choices.items()), best.cost, best.certificate_ns))
            if not outcome.finished:  # Ctrl-C, too, leaves no time for anything more
                self.deadline = Deadline(0.0)
        return tuple(found), False
