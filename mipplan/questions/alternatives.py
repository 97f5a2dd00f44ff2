"""What a stage could run on in place of what a plan chose, found by trying it.

Replays and sharp certificates are no sums of terms that could be varied, and not monotone. So a plan that is judged by
one of them is explained by trials: one choice is changed, the others stay, and the whole is judged again. Nothing is
said of what was not tried.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial

from mipplan.certificate import Certificate, certify_stages, worst_of
from mipplan.core import Deadline, Fault, Faults, InputError, LimitReachedError, first_true, listed
from mipplan.options import Configuration, Family, Option, StageFamilies, joint_demand
from mipplan.pipeline import Discipline, Pipeline, are_timed
from mipplan.refinement import (
    RefinementProblem,
    ReplayOracle,
    Span,
    StageCertificates,
    WorkLimit,
    state_problems,
)
from mipplan.replayer import StageReplays, plan_features, resolve_engine
from mipplan.result import (
    Alternative,
    CertificateKind,
    Choice,
    Explanation,
    Guarantee,
    JudgedBy,
    NearPlan,
    OptionReason,
    OptionVerdict,
    Plan,
    RunClass,
    StageExplanation,
    choice_text,
    worst_sample,
)
from mipplan.tokens import Sample, realise
from mipplan.verification import replayed_certificate


@dataclass(frozen=True)
class ExplanationParams:
    """Which other plans are worth knowing about."""

    near_share: float = 0.05  # Plans within this share of the cost are.
    most_near_plans: int = 3  # At most this many of them are looked for, because each may take a search.


# ------------------------------------------------------------------------------------- for every kind of explanation


def options_of(
    plan: Plan, families: Mapping[str, StageFamilies], demand: Mapping[str, Fraction] | None
) -> Configuration:
    """The plan's choices as options of a problem; raises `InputError` for every stage where it is none.

    With a demand, tokens per ns, every stage must outrun it.
    """
    faults = Faults()
    found = {
        stage: faults.take(partial(_option, plan.pipeline, families[stage], choice))
        for stage, choice in plan.choices.items()
    }
    for stage, own in found.items():
        if own and demand is not None and own.value.tokens_per_ns <= demand[stage]:
            what, fewest = choice_text(plan.choices[stage], "batch "), own.value.family.fewest
            faults.add(Fault("plan", f"{stage} falls behind this trace on {what}: {fewest} replicas keep up"))
    faults.check()
    return Configuration({stage: own.value for stage, own in found.items()})


def _option(pipeline: Pipeline, found: StageFamilies, choice: Choice) -> Option:
    """The option that a stage's choice is; raises `InputError` that says why it is none, and what there is."""
    stage, entry = found.stage, pipeline.stages[found.stage]
    with suppress(KeyError):
        return found.option(choice)
    reason = f"options are {listed(_family_text(family) for family in found.families)}"
    # Sentences name no variant, so that where there are several one may be about another.
    about = () if entry.variants else found.rejected
    own = (f"{choice.hardware} with batch {choice.batch} ", f"{choice.hardware} has ")
    if entry.hardware is not None and choice.hardware not in entry.hardware:
        reason = _allowed_text(stage, entry.hardware)
    elif (told := next((one for one in about if one.startswith(own)), None)) is not None:
        reason = told
    elif not found.families:
        reason = "; ".join(found.rejected)
    message = (
        f"{stage} runs on {choice_text(choice, 'batch ')}, which is no option of it on this trace: {reason}"
    )
    raise InputError.one("plan", message)


def _family_text(family: Family) -> str:
    place = " on ".join(filter(None, (family.variant, family.hardware)))
    return f"{place} with batch {family.batch}"


def _allowed_text(stage: str, hardware: Sequence[str]) -> str:
    return f"the pipeline allows {stage} {', '.join(hardware)} only"


def impossible(plan: Plan, found: StageFamilies) -> Iterator[OptionReason]:
    """What the stage's model is measured on, and the stage cannot run on: rejected, or not allowed by the pipeline."""
    # A sentence begins with the name of the hardware that it is about.
    for sentence in found.rejected:
        hardware, _, detail = sentence.partition(" ")
        yield OptionReason(hardware, None, OptionVerdict.IMPOSSIBLE, detail=detail)
    entry = plan.pipeline.stages[found.stage]
    for name in plan.profiles.hardware_for(entry.model):
        if entry.hardware is not None and name not in entry.hardware:
            detail = _allowed_text(found.stage, entry.hardware)
            yield OptionReason(name, None, OptionVerdict.IMPOSSIBLE, detail=detail)


def cheapest(options: Sequence[OptionReason]) -> Alternative | None:
    """Cheapest option that would do other than the one chosen; of equal ones the first."""
    best = min(filter(would_do, options), key=lambda option: option.microusd_per_hour or 0, default=None)
    if best is None:
        return None
    return Alternative(_choice(best), best.microusd_per_hour or 0, best.certificate_ns or 0)


def would_do(option: OptionReason) -> bool:
    """Whether a plan with the option keeps the objective, and it is another one than the plan's."""
    return option.verdict in (OptionVerdict.THROUGHPUT, OptionVerdict.LATENCY)


def _choice(option: OptionReason) -> Choice:
    return Choice(option.hardware, option.batch or 0, option.replicas or 0, option.variant)


# ---------------------------------------------------------------------------------------------------------- by trial

_RELIABLE = (
    "The guarantee is about scenarios of tomorrow: what would do in the replay of this trace may not keep it."
)


def judge_of(plan: Plan) -> JudgedBy:
    """By what it is judged whether such a plan keeps its objective."""
    if plan.guarantee in (Guarantee.REPLAY, Guarantee.RELIABLE) or are_timed(plan.laws):
        return JudgedBy.REPLAY
    return JudgedBy.SHARP if plan.certificate is CertificateKind.SHARP else JudgedBy.CLASSIC


@dataclass(frozen=True)
class _Judged:
    """One sample, and what says of plans whether they keep the objective on it."""

    sample: Sample
    oracle: ReplayOracle

    @property
    def problem(self) -> RefinementProblem:
        """What has to be kept on it."""
        return self.oracle.problem

    def figure_ns(self, configuration: Configuration, limit: WorkLimit) -> int:
        """The figure of the objective for a plan; of a sharp one that misses, replays stand in for some bounds."""
        exits = {stage: run.exit_ns for stage, run in self.oracle.runs(configuration, limit)}
        return self.problem.criterion.figure_ns(self.problem.workload.latency_ns(exits))


class Trials:
    """Judges plans that differ from one in a single stage, by its replay or by the sharp certificate."""

    def __init__(self, plan: Plan, samples: Sequence[Sample], deadline: Deadline) -> None:
        self.judge = judge_of(plan)
        if self.judge is JudgedBy.REPLAY and plan.refinement is not None:
            # A refined plan may be one of queues that its replay alone serves by another discipline.
            plan = replace(plan, objective=plan.objective.under(plan.laws, plan.refinement.discipline))
        self.plan, self._limit = plan, WorkLimit(deadline=deadline)
        loads = [realise(plan.pipeline, sample.trace, sample.seed) for sample in samples]
        # A finite trace can be replayed within the objective by less than outruns it; a certified plan outruns it.
        is_stable = self.judge is JudgedBy.SHARP or are_timed(plan.laws)
        demand = joint_demand(loads) if is_stable else dict.fromkeys(plan.pipeline.stages, Fraction(0))
        problems = state_problems(plan, loads, demand)
        self._problem = problems[0]
        self._families = {
            stage: StageFamilies(stage, tuple(span.family for span in domain), self._problem.rejected[stage])
            for stage, domain in self._problem.domains.items()
        }
        self._start = options_of(plan, self._families, demand if is_stable else None)
        self._judged = [
            _Judged(sample, self._oracle(problem)) for sample, problem in zip(samples, problems, strict=True)
        ]

    def _oracle(self, problem: RefinementProblem) -> ReplayOracle:
        engine = resolve_engine("auto", plan_features(self.plan))
        replays = StageReplays(problem.workload, engine, fifo=self.plan.discipline is Discipline.FIFO)
        if self.judge is JudgedBy.SHARP:
            replays = StageCertificates(problem, replays, self.plan.runs or RunClass())
        return ReplayOracle(problem, replays)

    def explained(self, params: ExplanationParams = ExplanationParams()) -> Explanation:
        """Explain the plan; stages that there is no time for, or that Ctrl-C comes before, are left out."""
        whole, told = self._certificate(self._start), list[StageExplanation]()
        binding = worst_sample(whole.samples)
        with suppress(KeyboardInterrupt, LimitReachedError):
            for stage in self._start:
                told.append(self._stage(stage, whole.bound_ns))
        return Explanation(
            microusd_per_hour=self._start.microusd_per_hour,
            certificate_ns=whole.bound_ns,
            deadline_ns=self._problem.deadline_ns,
            critical_path=whole.critical_path,
            stages=tuple(told),
            near_plans=self._near_plans(told, params),
            near_share=params.near_share,
            near_complete=False,
            sample=None if binding is None else binding.name,
            stages_complete=len(told) == len(self._start),
            judged_by=self.judge,
            remark=_RELIABLE if self.plan.guarantee is Guarantee.RELIABLE else None,
        )

    def _certificate(self, configuration: Configuration) -> Certificate:
        """What a plan is judged by, on the sample where it is worst."""
        plan = replace(self.plan, choices=configuration.choices)
        certify = replayed_certificate if self.judge is JudgedBy.REPLAY else _certified
        return worst_of([one.sample for one in self._judged], partial(certify, plan))

    def _figure_ns(self, configuration: Configuration, *, keeps: bool) -> int:
        """What a plan is judged by, the greatest of all samples; of a certificate that misses, at least."""
        least_ns = self._least_ns(configuration)
        if keeps or least_ns > self._problem.deadline_ns:
            return least_ns
        return self._exact_ns(configuration)

    def _exact_ns(self, configuration: Configuration) -> int:
        """The same, and no less; a replay shares what it can with those before."""
        if self.judge is JudgedBy.REPLAY:
            return self._least_ns(configuration)
        return self._certificate(configuration).bound_ns

    def _least_ns(self, configuration: Configuration) -> int:
        """The replay of a plan, or a sharp certificate as far as it is bounded."""
        return max(one.figure_ns(configuration, self._limit) for one in self._judged)

    def _keeps(self, configuration: Configuration) -> bool:
        """Whether a plan keeps the objective on all samples, whatever else is asked of it."""
        return all(one.oracle.judge(configuration, self._limit)[0] for one in self._judged)

    def _stage(self, stage: str, figure_ns: int) -> StageExplanation:
        (family, replicas), found = self._start[stage], self._families[stage]
        spans = self._problem.domains[stage]
        fewer, own = None, next(span for span in spans if span.family is family)
        if replicas > own.fewest:
            fewer = self._exact_ns(self._start.replaced(stage, Option(family, replicas - 1)))
        options = [self._reason(stage, span, figure_ns) for span in spans]
        return StageExplanation(
            stage=stage,
            choice=self._start[stage].choice,
            spare_latency_ns=None,
            one_fewer_certificate_ns=fewer,
            alternative=cheapest(options),
            options=(*options, *impossible(self.plan, found)),
        )

    def _reason(self, stage: str, span: Span, figure_ns: int) -> OptionReason:
        """Say of a variant, hardware and batch cap what comes of it."""
        family, start = span.family, self._start
        told = partial(
            OptionReason, family.hardware, family.batch, variant=family.variant, fewest=span.fewest
        )
        if family is start[stage].family:
            cost = start.microusd_per_hour
            return told(
                OptionVerdict.CHOSEN, start[stage].replicas, microusd_per_hour=cost, certificate_ns=figure_ns
            )
        replicas, keeps = self._fewest(stage, span)
        trial = start.replaced(stage, Option(family, replicas))
        told = partial(told, replicas=replicas, certificate_ns=self._figure_ns(trial, keeps=keeps))
        if not keeps:
            return told(OptionVerdict.TOO_SLOW)
        if not self._problem.allows(trial):
            scarce = not trial.keeps(self._problem.limits)
            return told(
                OptionVerdict.LIMIT, detail=None if scarce else "the plan would not be accurate enough"
            )
        verdict = OptionVerdict.THROUGHPUT if replicas == span.fewest else OptionVerdict.LATENCY
        return told(verdict, microusd_per_hour=trial.microusd_per_hour)

    def _fewest(self, stage: str, span: Span) -> tuple[int, bool]:
        """The fewest replicas found with which the objective is kept, and True; else the most tried, and False.

        They are doubled until they do or no token waits for one, and then halved towards what was too few.
        """

        def keeps(replicas: int) -> bool:
            return self._keeps(self._start.replaced(stage, Option(span.family, replicas)))

        few, enough = span.fewest - 1, span.fewest
        while not keeps(enough):
            if enough == span.most or not self._waits(stage, Option(span.family, enough)):
                return enough, False
            few, enough = enough, min(span.most, 2 * enough)
        return first_true(few + 1, enough, keeps), True

    def _waits(self, stage: str, option: Option) -> bool:
        """Whether more replicas than these could make a difference."""
        trial = self._start.replaced(stage, option)
        return any(
            next(run.waits for name, run in one.oracle.runs(trial, self._limit) if name == stage)
            for one in self._judged
        )

    def _near_plans(
        self, told: Sequence[StageExplanation], params: ExplanationParams
    ) -> tuple[NearPlan, ...]:
        """Plans that differ on one stage, in hardware or variant, and cost little more; the cheapest of each place."""
        most = self._start.microusd_per_hour * (1 + params.near_share)
        near: dict[tuple[str, str], NearPlan] = {}
        chosen = self._start.choices
        for stage in told:
            own = stage.choice
            for option in sorted(filter(would_do, stage.options), key=lambda one: one.microusd_per_hour or 0):
                cost, made = option.microusd_per_hour or 0, _choice(option)
                if cost <= most and (made.hardware, made.variant) != (own.hardware, own.variant):
                    choices = tuple({**chosen, stage.stage: made}.items())
                    near.setdefault(
                        (stage.stage, option.place), NearPlan(choices, cost, option.certificate_ns or 0)
                    )
        cheapest_first = sorted(near.values(), key=lambda plan: plan.microusd_per_hour)
        return tuple(cheapest_first[: params.most_near_plans])


def _certified(plan: Plan, sample: Sample) -> Certificate:
    return certify_stages(plan, sample.trace, seed=sample.seed)
