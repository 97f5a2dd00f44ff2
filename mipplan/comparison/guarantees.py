"""What an objective costs under each guarantee that is quick to price.

One register, `GUARANTEES`: what each guarantee holds for, what voids it, which plans it goes with, and how the cheapest
plan under it is found. A guarantee that comes later is one more entry.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType

from mipplan.certificate import AUTO, CertifyParams, resolve_certificate
from mipplan.comparison.result import GuaranteeCost
from mipplan.core import (
    NS_PER_S,
    Deadline,
    InputError,
    SearchLimits,
    check_all,
    check_kinds,
    check_one_of,
    interrupts_seen,
)
from mipplan.pipeline import Discipline, DispatchLaw, Laws, are_timed, pinned
from mipplan.planner import PlanMaker, PlanningParams, Request
from mipplan.refinement import refine, sharpen
from mipplan.reliability import check_reliability, plan_reliably
from mipplan.result import CertificateKind, Figures, Guarantee, Limit, Plan, PlanStatus, Provenance, RunClass
from mipplan.tokens import read_traces
from mipplan.trace import Trace


@dataclass(frozen=True)
class Question:
    """What is asked of every entry of the register: the same objective, under its own guarantee."""

    made: Plan  # The plan that was made for the objective, with or without choices.
    traces: Sequence[Trace]
    confidence: float  # Of the guarantee ``reliable``.
    found: Mapping[str, Plan] = field(default_factory=dict)  # Under the guarantees before.
    limits: SearchLimits = field(default_factory=SearchLimits)

    @property
    def laws(self) -> Laws:
        """Laws of what replays: those of the plan, but nobody needs timers for a replay."""
        return _alike(self.made, DispatchLaw.EAGER) if are_timed(self.made.laws) else self.made.laws

    @property
    def start(self) -> Plan:
        """A plan to refine: one that is timed, or certified under eager dispatch, replays within the objective."""
        known = (self.found.get(name, self.made) for name in ("timed", "eager", "paced"))
        return next((plan for plan in known if plan.choices), self.made)

    def under(
        self,
        kind: Guarantee,
        laws: Laws,
        runs: RunClass | None = None,
        certificate: CertificateKind = CertificateKind.CLASSIC,
    ) -> Plan:
        """Return what was asked for under another guarantee and laws, without anything that came of it."""
        made = self.made
        objective = replace(
            made.objective.under(laws, made.discipline),
            guarantee=kind,
            certificate=certificate,
            runs=runs,
        )
        return replace(
            made,
            objective=objective,
            choices={},
            status=PlanStatus.UNKNOWN,
            figures=Figures(lower_bound_microusd_per_hour=0),
            provenance=Provenance.on(self.traces, made.formulation, made.solver),
            reason=None,
            limit=None,
        )


@dataclass(frozen=True)
class PricedGuarantee:
    """An entry of the register."""

    label: str  # What tables call it.
    share: float  # Of the time that is left when its turn comes; the last one has all of it.
    goes_with: Callable[[Plan], bool]  # Whether it can be asked for beside what a plan was asked for.
    # In a few words, of a plan under it and the confidence asked for; what voids it, in as few.
    holds_for: Callable[[Plan, float], str]
    void_if: Callable[[Plan], str]
    asked: Callable[[Question], Plan]  # What is asked for under it, as a plan without choices.
    find: Callable[[Question, Plan], Plan]  # The cheapest plan for what is asked.


# --- what is asked, and how the cheapest plan is found ---------------------------------------------------------------


def _alike(made: Plan, law: DispatchLaw) -> Laws:
    return dict.fromkeys(made.pipeline.stages, law)


def _certified(law: DispatchLaw) -> Callable[[Question], Plan]:
    """All stages under one law, by the classic certificate, whose plans are proven at once."""

    def asked(question: Question) -> Plan:
        made = question.made
        guarantee = Guarantee.TRACE if made.envelope is None else Guarantee.ENVELOPE
        runs = made.runs if made.discipline is Discipline.FIFO else None
        return question.under(guarantee, _alike(made, law), runs)

    return asked


def _plan(question: Question, asked: Plan) -> Plan:
    # No reason is looked for where there is no plan.
    return PlanMaker(asked, question.limits, PlanningParams(diagnosis_s=0.0)).cheapest()


def _sharp(question: Question) -> Plan:
    """For the runs of a sharp plan that is at hand, or else those of the serving model."""
    runs = question.made.runs or RunClass()
    return question.under(
        Guarantee.TRACE, _alike(question.made, DispatchLaw.EAGER), runs, CertificateKind.SHARP
    )


def _sharpen(question: Question, asked: Plan) -> Plan:
    """Sharpen the classic plan, if there is one; only workloads for which ``auto`` takes the sharp certificate."""
    # Queries make tokens: where there are too many, there are too many of these without a look at them.
    is_short = asked.seeds * sum(map(len, question.traces)) <= CertifyParams().most_tokens
    workloads = Request.of(asked, asked.provenance.samples).workloads if is_short else ()
    if not workloads or resolve_certificate(AUTO, workloads) is CertificateKind.CLASSIC:
        raise InputError.one(
            "guarantees", "a sharp certificate of so many tokens takes too long for a glance"
        )
    begun = question.found.get("eager", asked)
    return sharpen(
        begun if begun.choices else asked,
        question.traces,
        runs=asked.runs,
        time_limit_s=question.limits.deadline.limit_s(),
        progress=question.limits.report,
    )


def _refine(question: Question, asked: Plan) -> Plan:
    return refine(
        question.start,
        question.traces,
        dispatch={stage: law.value for stage, law in asked.laws.items()},
        discipline=asked.discipline.value,
        margin_s=asked.margin_ns / NS_PER_S,
        time_limit_s=question.limits.deadline.limit_s(),
        progress=question.limits.report,
    )


def _plan_reliably(question: Question, asked: Plan) -> Plan:
    return plan_reliably(
        asked,
        question.traces,
        question.confidence,
        seeds=asked.seeds,
        time_limit_s=question.limits.deadline.limit_s(),
        progress=question.limits.report,
    )


# --- the register ----------------------------------------------------------------------------------------------------


def _has_no_budget(made: Plan) -> bool:
    """A budget asks for the fastest plan, and there is no objective to be priced."""
    return made.budget_microusd_per_hour is None


def _is_certifiable(made: Plan) -> bool:
    """Of fifo queues a certificate is priced for runs that were stated; replays state none."""
    return _has_no_budget(made) and (made.discipline is not Discipline.FIFO or made.runs is not None)


def _is_sharpenable(made: Plan) -> bool:
    """Sharp certificates are about one trace, oldest first, and batches that are not collected."""
    oldest_first = made.discipline is Discipline.OLDEST_FIRST
    return _has_no_budget(made) and made.envelope is None and oldest_first and not made.collects


def _replays(made: Plan) -> bool:
    """Replays are of the trace as it is: no more traffic than that, and no arrival curve."""
    return _has_no_budget(made) and made.envelope is None and made.headroom == 1.0


def _tests(made: Plan) -> bool:
    """What is tested on scenarios runs one model at each stage; without a plan none is chosen."""
    return _replays(made) and all(len(stage.models) == 1 for stage in made.pipeline.stages.values())


def _runs(how: str) -> Callable[[Plan, float], str]:
    def holds_for(plan: Plan, _: float) -> str:
        if plan.envelope is not None:
            return f"all traffic inside the curve{how}"
        scope = _traffic(plan) if plan.headroom == 1.0 else f"{plan.headroom:g} × {_traffic(plan)}"
        if plan.runs == RunClass():
            return f"runs of {scope}{how}, exact delays"
        return f"{'every run' if plan.runs is None else 'all stated runs'} of {scope}{how}"

    return holds_for


def _outside(plan: Plan) -> str:
    """A class of runs is left by batches that are too quick, too, if it says how quick they may be."""
    if plan.runs not in (None, RunClass()):
        return "a run is none of those stated"
    first = "oldest" if plan.discipline is Discipline.OLDEST_FIRST else "first"
    return f"a batch overruns or skips the {first}{'' if plan.runs is None else ', or a message is early'}"


def _traffic(plan: Plan) -> str:
    samples = len(plan.traces) * (plan.seeds if plan.pipeline.is_random else 1)
    return "this trace" if samples <= 1 else f"each of {samples} samples"


def _scenarios(plan: Plan, confidence: float) -> str:
    asked = confidence if plan.reliability is None else plan.reliability.confidence
    return f"{100 * asked:g} % of scenarios of tomorrow"


#: In the order in which they are priced: later ones begin with the plans of those before.
GUARANTEES: Mapping[str, PricedGuarantee] = MappingProxyType(
    {
        "eager": PricedGuarantee(
            "certified, eager",
            0.3,
            _is_certifiable,
            _runs(""),
            _outside,
            _certified(DispatchLaw.EAGER),
            _plan,
        ),
        "sharp": PricedGuarantee(
            "certified, sharp",
            0.35,
            _is_sharpenable,
            _runs(""),
            lambda plan: "the same, or a message is early" if plan.runs == RunClass() else _outside(plan),
            _sharp,
            _sharpen,
        ),
        "paced": PricedGuarantee(
            "certified, paced",
            0.3,
            _is_certifiable,
            _runs(", paced"),
            lambda _: "the same, or one is dispatched early",
            _certified(DispatchLaw.PACED),
            _plan,
        ),
        "timed": PricedGuarantee(
            "certified, timed",
            0.35,
            _replays,
            _runs(", timed"),
            lambda _: "the same, or one is released early",
            lambda question: question.under(Guarantee.REPLAY, _alike(question.made, DispatchLaw.TIMED)),
            _refine,
        ),
        "replay": PricedGuarantee(
            "replay",
            0.3,
            _replays,
            lambda plan, _: f"one run: the replay of {_traffic(plan)}",
            lambda _: "anything differs from the replay",
            lambda question: question.under(Guarantee.REPLAY, question.laws),
            _refine,
        ),
        "reliable": PricedGuarantee(
            "reliable",
            1.0,
            _tests,
            _scenarios,
            lambda _: "tomorrow is of another kind",
            lambda question: question.under(Guarantee.RELIABLE, question.laws),
            _plan_reliably,
        ),
    }
)


def guarantee_of(made: Plan) -> str | None:
    """The entry that a plan is an answer under; None if its stages are dispatched by different laws."""
    if made.guarantee is Guarantee.RELIABLE:
        return "reliable"
    if made.guarantee is Guarantee.REPLAY and not are_timed(made.laws):
        return "replay"
    if made.objective.certificate is CertificateKind.SHARP and made.dispatch == DispatchLaw.EAGER:
        return "sharp"
    return made.dispatch if made.dispatch in GUARANTEES else None


def guarantee_costs(
    made: Plan,
    trace: Trace | Sequence[Trace],
    *,
    confidence: float = 0.95,
    guarantees: Sequence[str] = tuple(GUARANTEES),
    time_limit_s: float | None = 7.5,
    progress: Callable[[str], None] | None = None,
) -> dict[str, GuaranteeCost]:
    """Plan for the same objective under other guarantees: what each costs, and what it buys.

    Parameters
    ----------
    made : Plan
        By `mipplan.plan`, with or without choices. It stands for its own guarantee; one that is given, for none.
    trace : Trace, or sequence of Trace
        What it was made for, before headroom.
    confidence : float
        Of the guarantee ``reliable``; that of `made` if it is its own.
    guarantees : sequence of str
        Of `GUARANTEES`; all by default.
    time_limit_s : float or None
        Wall-clock limit for all of them together; what there is no time for is not found.
    progress : callable, optional
        Called with one line of text as the work proceeds.

    Returns
    -------
    dict of str to GuaranteeCost
        In the order of `GUARANTEES`. Certified, with all stages under one dispatch law: what `mipplan.plan` finds with
        that law and all else as it was, but by the classic certificate; ``sharp``: with the sharp one, eager.
        ``replay`` and ``reliable``: what it finds with that guarantee. No reason is looked for where there is no plan.
        Left out is what does not go with what was asked for: all with a budget; ``timed``, ``replay`` and ``reliable``
        with headroom or an arrival curve; ``eager`` and ``paced`` beside a ``fifo`` plan that states no runs; ``sharp``
        with an arrival curve, ``fifo`` queues, windows in which batches are collected, and beyond 100,000 tokens;
        ``reliable`` where traffic or profiles are too scarce to draw scenarios from, or no variants are chosen.
        After Ctrl-C: those that were complete.

    Raises
    ------
    InputError
        Listing every bad argument.
    """
    check_kinds(made=(made, Plan))
    is_several = isinstance(guarantees, Sequence) and not isinstance(guarantees, str)
    wanted = guarantees if is_several else [guarantees]
    check_all(
        lambda: check_reliability(confidence, None, 1),
        lambda: check_all(*(partial(check_one_of, "guarantees", name, GUARANTEES) for name in wanted)),
        lambda: Deadline.after(time_limit_s),
        lambda: read_traces(trace),
    )
    deadline, report = Deadline.after(time_limit_s), progress or (lambda _: None)
    # None but what `mipplan.plan` does by itself keeps a cap on power, or pays for it.
    bound = made.energy is not None and made.energy.binds
    allowed = () if bound else wanted
    names = [name for name in GUARANTEES if name in allowed and GUARANTEES[name].goes_with(made)]
    # Other guarantees are priced for the variants that were chosen.
    fixed = pinned(made.pipeline)
    stated = made if fixed is made.pipeline else replace(made, pipeline=fixed)
    answer, found = None if made.status is PlanStatus.GIVEN else guarantee_of(made), dict[str, Plan]()
    least_s: float | None = None
    with interrupts_seen() as interrupts, suppress(KeyboardInterrupt):
        for name in names:
            entry, question = GUARANTEES[name], Question(stated, read_traces(trace), confidence, found)
            if name == answer:
                found[name] = made
                continue
            asked = entry.asked(question)
            # Analysing a long trace takes as long each time, whatever the limit is, and replaying it as long again.
            if deadline.left_s() <= 2 * (least_s or 0.0):
                found[name] = replace(asked, limit=Limit.TIME)
                continue
            report(f"pricing the guarantee: {entry.label}")
            started = time.monotonic()
            limits = SearchLimits(deadline.share(1.0 if name == names[-1] else entry.share), report)
            # There may be too few queries to resample, or none that spans any time: then there is no such price.
            with suppress(InputError):
                planned = entry.find(replace(question, limits=limits), asked)
                if interrupts:
                    break
                found[name] = planned
                taken_s = time.monotonic() - started
                least_s = taken_s if least_s is None else min(least_s, taken_s)
    return {
        name: GuaranteeCost(
            name,
            GUARANTEES[name].label,
            plan,
            plan is made,
            GUARANTEES[name].holds_for(plan, confidence),
            GUARANTEES[name].void_if(plan),
        )
        for name, plan in found.items()
    }
