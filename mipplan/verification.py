"""Re-check a plan without a solver: was its file altered, for which trace was it made, does its certificate hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from mipplan.calculus import ArrivalCurve, WorstCase, analyse_paths, most_tokens_per_query, overrun
from mipplan.certificate import (
    Certificate,
    certify_stages,
    check_certificate,
    check_timed,
    plan_services,
    state_certificate,
)
from mipplan.core import MICRODOLLARS_PER_DOLLAR, NS_PER_S, Faults, Printable, Summary, format_duration
from mipplan.pipeline import Discipline, Dispatch, DispatchLaw, Stagger, are_timed
from mipplan.replayer import replay
from mipplan.result import (
    CertificateKind,
    Guarantee,
    Plan,
    PlanDocument,
    PlanStatus,
    RunClass,
    altered_parts,
    check_laws,
    check_runs,
    read_document,
)
from mipplan.tokens import realise
from mipplan.trace import Trace


@dataclass(frozen=True, repr=False)
class Verification(Printable):
    """Outcome of a re-check."""

    verified: bool
    """The file is as it was written, its figures are right, every stage serves more than arrives there on
    average (the plan is stable), and the certificate keeps the objective."""
    problems: tuple[str, ...]
    """What speaks against it, one sentence each; empty exactly if verified."""
    remarks: tuple[str, ...]
    """What does not, but must be known: above all that it was judged on another trace."""
    plan: Plan
    certificate: Certificate | None
    """On this trace, with the plan's headroom; None if the plan holds no choices."""
    worst_case_ns: int | None = None
    """Bound for all traffic inside the plan's arrival curve, if that is its guarantee."""

    def _summary(self) -> Summary:
        plan, bound = self.plan, None if self.certificate is None else self.certificate.bound_ns
        objective = plan.objective.text
        worst_ns = self.worst_case_ns
        worst = None if worst_ns is None else f"{format_duration(worst_ns)}, inside the arrival curve"
        return Summary(
            f"{'Verified' if self.verified else 'Not verified'}: plan for {plan.pipeline.name}",
            figures=(
                ("cost", None if plan.usd_per_hour is None else f"{plan.usd_per_hour:.4f} $/h"),
                ("objective", objective),
                ("certificate", None if bound is None else f"{format_duration(bound)}, recomputed"),
                ("worst case", worst),
                *(("problem", problem) for problem in self.problems),
                *(("remark", remark) for remark in self.remarks),
            ),
        )

    def _line(self) -> str:
        verdict = "verified" if self.verified else f"not verified, {len(self.problems)} problem(s)"
        return f" {self.plan.pipeline.name}: {verdict}"


def certify(
    plan: Plan,
    trace: Trace,
    *,
    dispatch: Dispatch = None,
    discipline: str | None = None,
    stagger_s: Stagger = None,
    certificate: str | None = None,
    runs: RunClass | None = None,
    seed: int | None = None,
) -> Certificate:
    """Bound the latency of every query of `trace` under `plan`.

    Parameters
    ----------
    plan : Plan
        With choices; where they came from does not matter.
    trace : Trace
    dispatch : str or mapping of str to str, optional
        Law of all stages, or of those named; others as the plan says.
    discipline : {"oldest_first", "fifo"}, optional
        As the plan says by default.
    stagger_s : float or mapping of str to float, optional
        Seconds between the outputs of a batch on their way to other stages, at most, as for `mipplan.replay`.
    certificate : {"auto", "classic", "sharp"}, optional
        By which theorem; the plan's own by default. The sharp one is never above the classic one, and takes longer;
        ``"auto"`` takes it where the workload is not too large for it and no stage is paced. Where all stages are timed
        the replay is the certificate, and none is asked for by name.
    runs : RunClass, optional
        The runs that a sharp certificate, or one of ``fifo`` queues, is to hold for; by default the plan's own, or else
        those of the serving model in which batches may finish early. Less is known of overtaking, the earlier they may.
        It goes with these only: the classic one holds for what its theorem says.
    seed : int, optional
        Seed of the token draws; the plan's own by default.

    Raises
    ------
    NoPlanError
        If the plan holds no choices.
    InputError
        If there is no such certificate under this discipline and these laws, or none of a class of runs.

    References
    ----------
    [Theorem (sample path)][theorem-sample-path] and [theorem (paced)][theorem-paced], by the law of each stage;
    [theorem (latest dispatch)][theorem-latest-dispatch]; under ``fifo`` [theorem (fifo)][theorem-fifo]; where all
    stages are timed, the replay itself by [theorem (timed)][theorem-timed].
    """
    wanted = plan.discipline if discipline is None else discipline
    faults = Faults()
    told = faults.take(lambda: check_laws(plan.pipeline, dispatch, wanted, plan.laws))
    faults.take(lambda: None if certificate is None else check_certificate(certificate))
    faults.take(lambda: check_runs(runs))
    pipeline = faults.take(lambda: plan.pipeline.staggered(stagger_s))
    faults.check()
    laws = told.value
    plan = replace(plan, pipeline=pipeline.value, objective=plan.objective.under(laws, wanted))
    if not are_timed(laws):
        return certify_stages(plan, trace, seed=seed, certificate=certificate, runs=runs)
    check_timed(certificate, runs)
    replayed = replay(plan, trace, seed=seed)
    workload = realise(plan.pipeline, trace, replayed.seed)
    exits = {stage: seen.exit_ns for stage, seen in replayed.stages.items()}
    took = {stage: seen.exit_ns - seen.dispatch_ns for stage, seen in replayed.stages.items()}
    staggers_ns = plan.pipeline.staggers_ns(laws)
    fifo = plan.discipline is Discipline.FIFO
    sent = {
        stage: seen.assignment.sent_ns(staggers_ns[stage], fifo=fifo)
        for stage, seen in replayed.stages.items()
    }
    return state_certificate(
        workload,
        exits,
        lambda stage, token: int(took[stage][token]),
        plan.objective.criterion(workload.ingress_ns),
        sent,
    )


def verify(
    plan: Plan | str | Path,
    trace: Trace,
    *,
    dispatch: Dispatch = None,
    discipline: str | None = None,
    stagger_s: Stagger = None,
    certificate: str | None = None,
    runs: RunClass | None = None,
    latency: str | Mapping[str, str] | None = None,
) -> Verification:
    """Recompute cost, bound and certificate of a plan on a trace, from its file alone.

    That no cheaper plan is certified cannot be re-checked without a solver; everything else is. What counts as a
    certified plan is what it is for `mipplan.plan` (docs/glossary.md): an overloaded stage may keep the objective on
    a trace that ends before its queue has grown, and is a problem all the same.

    Parameters
    ----------
    plan : str, Path or Plan
        A file written by `Plan.save`, or a plan: it is judged as its file would be.
    trace : Trace
        The trace it was made for, to check its figures; or another, to see whether the plan would be certified
        there too.
    dispatch, discipline, stagger_s
        As for `certify`; laws and staggers other than the file's say whether the plan would be certified under them.
    certificate : {"auto", "classic", "sharp"}, optional
        By which theorem to judge (`mipplan.certify`); by default the one that the file's figure comes from.
    runs : RunClass, optional
        As for `certify`: by default the class that the file states.
    latency : {"p99", "p50", "table"}, or mapping of str to such, optional
        By which column of the file's measurements to judge (`Plan.using`); as the plan was made by default.

    Raises
    ------
    InputError
        If the file cannot be read as a plan, or there is no such certificate or column.
    """
    if isinstance(plan, Plan):
        document, origin = PlanDocument.model_validate_json(plan.to_json()), "plan"
    else:
        document, origin = read_document(plan), str(plan)
    problems = [
        f"the file was altered after it was written: the checksum of its {part} does not match"
        for part in altered_parts(document)
    ]
    plan = Plan.from_document(document, origin=origin)
    if not plan.choices:
        problems.append(f"the file holds no plan ({plan.status}: {plan.reason})")
        return Verification(False, tuple(problems), (), plan, None)
    problems += _cost_problems(plan)
    planned = trace.scale(plan.headroom)
    wanted = plan.discipline if discipline is None else discipline
    laws = check_laws(plan.pipeline, dispatch, wanted, plan.laws)
    pipeline = plan.pipeline.staggered(stagger_s)
    served = plan if latency is None else plan.using(latency)
    as_planned = (laws, wanted, pipeline) == (plan.laws, plan.discipline, plan.pipeline) and served == plan
    plan = replace(served, pipeline=pipeline, objective=plan.objective.under(laws, wanted))
    if uncovered := _uncovered(plan, certificate):
        problems.append(uncovered)
        return Verification(False, tuple(problems), (), plan, None)
    judged = certify(plan, planned, certificate=certificate, runs=runs)
    curve = None if plan.envelope is None else ArrivalCurve(plan.envelope)
    worst = None if curve is None else WorstCase(plan.pipeline, curve)
    worst_case_ns = None if worst is None else worst.bound_ns(plan_services(plan))
    guaranteed_ns = judged.bound_ns if worst_case_ns is None else worst_case_ns
    same_trace = plan.trace is not None and plan.trace.sha256 == trace.sha256
    remarks = [] if same_trace else [_other_trace(plan, trace)]
    by_arrival = plan.discipline is Discipline.FIFO and not are_timed(laws)
    if judged.runs is not None:
        which = "that of fifo queues" if by_arrival else "a sharp one"
        remarks.append(f"the certificate is {which}, for runs where {judged.runs.text}")
    is_sharp = plan.certificate is CertificateKind.SHARP
    # Of fifo queues there is one certificate; files hold its figure where they say for which runs.
    same_theorem = plan.runs is not None if by_arrival else (judged.runs is not None) == is_sharp
    same_runs = plan.runs is None or judged.runs == plan.runs
    if not as_planned:
        remarks.append(
            "judged under other dispatch laws, discipline, stagger or batch latencies than it was made for"
        )
    elif not same_theorem and not by_arrival:
        remarks.append(
            f"judged by another certificate than the {plan.certificate} one that the file's figure comes from"
        )
    elif not same_runs:
        remarks.append("judged for another class of runs than the one that the file's figure holds for")
    same_figure = same_theorem and same_runs and same_trace
    if as_planned and (same_figure or worst_case_ns is not None):
        problems += _figure_problems(plan, planned, worst, guaranteed_ns)
    problems += _consistency_problems(plan)
    problems += _stability_problems(plan, planned, curve)
    if curve is not None and (excess := overrun(planned.arrival_ns, curve)) > 0:
        remarks.append(
            f"this trace exceeds the plan's arrival curve by up to {excess:.4g} queries: no guarantee covers it"
        )
    if guaranteed_ns > plan.slo_ns - plan.margin_ns:
        margin = f" less {format_duration(plan.margin_ns)} of margin" if plan.margin_ns else ""
        problems.append(
            f"the certificate is {format_duration(guaranteed_ns)}, above the objective of "
            f"{format_duration(plan.slo_ns)}{margin}{_REFINED if plan.guarantee is Guarantee.REPLAY else ''}"
        )
    return Verification(not problems, tuple(problems), tuple(remarks), plan, judged, worst_case_ns)


#: Why a refined plan mostly cannot be verified.
_REFINED = "; the plan was refined by replay, which no theorem covers: judge it with mipplan replay"


def _uncovered(plan: Plan, certificate: str | None) -> str | None:
    """Say why nothing is proven of a plan under its laws; a certificate asked for by name is refused elsewhere."""
    by_arrival = plan.discipline is Discipline.FIFO
    if by_arrival and plan.envelope is not None:
        return "no theorem covers fifo queues inside an arrival curve: judge it under oldest_first"
    is_sharp = certificate is None and plan.certificate is CertificateKind.SHARP
    if is_sharp and not by_arrival and DispatchLaw.PACED in plan.laws.values():
        return (
            "its sharp certificate covers no paced stage: judge it with mipplan verify --certificate classic"
        )
    return None


def _cost_problems(plan: Plan) -> list[str]:
    """Add up what the choices cost; a file that states nothing states nothing wrong."""
    hardware, choices = plan.profiles.hardware, plan.choices.values()
    actual = sum(choice.replicas * hardware[choice.hardware].microusd_per_hour for choice in choices)
    if plan.microusd_per_hour == actual:
        return []
    cost_usd = actual / MICRODOLLARS_PER_DOLLAR
    return [f"the file states a cost of {plan.usd_per_hour} $/h; its choices cost {cost_usd} $/h"]


def _figure_problems(plan: Plan, planned: Trace, worst: WorstCase | None, guaranteed_ns: int) -> list[str]:
    """Recompute the latencies that the file states for the traffic it was made for."""
    recomputed: dict[str, tuple[int | None, int | None]] = {
        "certificate": (plan.certificate_ns, guaranteed_ns),
        "bound": (plan.bound_ns, _bound_ns(plan, planned, worst)),
    }
    return [
        f"the file states a {name} of {'nothing' if stated is None else f'{stated} ns'}; recomputed it is {actual} ns"
        for name, (stated, actual) in recomputed.items()
        if stated != actual
    ]


def _bound_ns(plan: Plan, planned: Trace, worst: WorstCase | None) -> int | None:
    # The bound is a relaxation of what is certified by services; of sharp certificates and replays there is none.
    if plan.certificate is CertificateKind.SHARP or (worst is None and are_timed(plan.laws)):
        return None
    if worst:
        return worst.paths.bound_ns(plan_services(plan))
    workload = realise(plan.pipeline, planned, plan.seed)
    paths = analyse_paths(workload, plan.objective.criterion(workload.ingress_ns))
    return paths.bound_ns(plan_services(plan))


def _consistency_problems(plan: Plan) -> list[str]:
    """Hold the figures of a file against each other."""
    problems = []
    lower_bound, cost = plan.lower_bound_microusd_per_hour, plan.microusd_per_hour
    assert cost is not None  # a plan with choices has one
    if lower_bound is not None:
        if lower_bound > cost:
            problems.append("the file states a lower bound above its cost")
        elif plan.status is PlanStatus.OPTIMAL and lower_bound < cost:
            problems.append("the file calls the plan optimal, but its lower bound is below its cost")
    budget = plan.budget_microusd_per_hour
    if budget is not None and cost > budget:
        problems.append("the plan costs more than the budget that the file states")
    is_sharp, by_arrival = plan.certificate is CertificateKind.SHARP, plan.discipline is Discipline.FIFO
    if is_sharp != (plan.runs is not None) and not by_arrival:
        problems.append("the file's certificate and its class of runs do not go together")
    if (plan.guarantee is Guarantee.ENVELOPE) != (plan.envelope is not None):
        problems.append("the file's guarantee and its arrival curve do not go together")
    return problems


def _stability_problems(plan: Plan, planned: Trace, curve: ArrivalCurve | None) -> Iterator[str]:
    """Name the stages that do not serve more than arrives there on average; without a span there is no average."""
    if planned.span_ns == 0:
        return
    if curve is None:
        workload = realise(plan.pipeline, planned, plan.seed)
        demand = {stage: Fraction(of.count, planned.span_ns) for stage, of in workload.stages.items()}
    else:
        rate = max(Fraction(len(planned), planned.span_ns), Fraction(curve.rate) / NS_PER_S)
        demand = {stage: rate * most for stage, most in most_tokens_per_query(plan.pipeline).items()}
    for stage, service in plan_services(plan).items():
        rate = 1 / service.ns_per_token
        if rate <= demand[stage]:
            most, arriving = float(rate * NS_PER_S), float(demand[stage] * NS_PER_S)
            yield (
                f"stage {stage!r} is overloaded: it serves {most:.4g} tokens/s at most, and {arriving:.4g} arrive on "
                "average, so its queue grows as long as such traffic goes on"
            )


def _other_trace(plan: Plan, trace: Trace) -> str:
    here = _described(trace.name, len(trace), trace.note)
    if plan.trace is None:
        return f"judged on a trace the plan was not made for: it was made for none, this is {here}"
    made_for = _described(plan.trace.name, plan.trace.queries, plan.trace.note)
    return f"judged on another trace: the plan was made for {made_for}, this is {here}"


def _described(name: str, queries: int, note: str) -> str:
    return f"{name!r} ({queries:,} queries{', ' if note else ''}{note})"
