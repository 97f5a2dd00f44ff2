"""Re-check a plan without a solver: was its file altered, for which trace was it made, does its certificate hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from mipplan.calculus import ArrivalCurve, WorstCase, analyse_paths, most_tokens_per_query, overrun
from mipplan.certificate import Certificate, check_certificate, plan_services
from mipplan.core import NS_PER_S, Printable, Summary, check_all, counted, format_duration, usd_text
from mipplan.pipeline import CollectionWindow, Discipline, Dispatch, Stagger, are_timed, check_collecting
from mipplan.profiles import MW_PER_W, EnergyTerms, electricity, power_bounds
from mipplan.result import (
    CertificateKind,
    Guarantee,
    Plan,
    PlanDocument,
    RunClass,
    SampleFigure,
    altered_parts,
    check_laws,
    check_runs,
    read_document,
    worst_sample,
)
from mipplan.tokens import Sample, find_samples, least_demand, read_traces, realise
from mipplan.trace import Trace, TraceReference
from mipplan.verification.certifying import certify_samples
from mipplan.verification.consistency import consistency_problems, cost_problems, limit_problems


@dataclass(frozen=True, eq=False, repr=False)
class Verification(Printable):
    """Outcome of a re-check."""

    verified: bool
    """The file is as it was written, its figures are right, its choices keep the limits on replicas, devices and
    accuracy, every stage serves more than arrives there on average (the plan is stable), and the certificate keeps the
    objective: of plans for an arrival curve the worst case, and of a trace that leaves the curve its own, too.
    """
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
        worst_ns = self.worst_case_ns
        worst = None if worst_ns is None else f"{format_duration(worst_ns)}, inside the arrival curve"
        binding = None if self.certificate is None else worst_sample(self.certificate.samples)
        where = "" if binding is None else f" on {binding.name}"
        return Summary(
            f"{'Verified' if self.verified else 'Not verified'}: plan for {plan.pipeline.name}",
            figures=(
                ("cost", None if plan.usd_per_hour is None else f"{usd_text(plan.usd_per_hour)} $/h"),
                ("objective", plan.objective.text),
                ("certificate", None if bound is None else f"{format_duration(bound)}, recomputed{where}"),
                ("worst case", worst),
                *(("problem", problem) for problem in self.problems),
                *(("remark", remark) for remark in self.remarks),
            ),
        )

    def _line(self) -> str:
        verdict = "verified" if self.verified else f"not verified, {counted(len(self.problems), 'problem')}"
        return f" {self.plan.pipeline.name}: {verdict}"


def verify(
    plan: Plan | PlanDocument | str | Path,
    trace: Trace | Sequence[Trace],
    *,
    dispatch: Dispatch = None,
    discipline: str | None = None,
    stagger_s: Stagger = None,
    window_s: CollectionWindow = None,
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
    plan : str, Path, Plan or PlanDocument
        A file written by `Plan.save`, or a plan: it is judged as its file would be. Or the file as it was read, since a
        pipe can be read only once.
    trace : Trace, or sequence of Trace
        The trace it was made for, or all of several, to check its figures; or others, to see whether the plan would be
        certified there too. Each is judged by itself, with every seed of the plan.
    dispatch, discipline, stagger_s, window_s
        As for `certify`; laws and times other than the file's say whether the plan would be certified under them.
    certificate : {"auto", "classic", "sharp"}, optional
        By which theorem to judge (`mipplan.certify`); by default the one that the file's figure comes from.
    runs : RunClass, optional
        As for `certify`: by default the class that the file states.
    latency : {"p99", "p50", "table"}, or mapping of str to such, optional
        By which column of the file's measurements to judge (`Plan.using`); as the plan was made by default.

    Raises
    ------
    InputError
        If the file cannot be read as a plan; else with everything that is wrong in what is asked for.
    """
    if isinstance(plan, Plan):
        document = PlanDocument.model_validate_json(plan.to_json())
    else:
        document = plan if isinstance(plan, PlanDocument) else read_document(plan)
    problems = [
        f"the file was altered after it was written: the checksum of its {part} does not match"
        for part in altered_parts(document)
    ]
    plan = loaded = Plan.from_document(document, origin=document.origin)
    wanted = plan.discipline if discipline is None else discipline
    check_all(
        lambda: read_traces(trace),
        lambda: check_laws(loaded.pipeline, dispatch, wanted, loaded.laws),
        lambda: loaded.pipeline.staggered(stagger_s),
        lambda: loaded.pipeline.collecting(window_s),
        lambda: None if certificate is None else check_certificate(certificate),
        lambda: check_runs(runs),
        lambda: None if latency is None else loaded.using(latency),
    )
    laws = check_laws(plan.pipeline, dispatch, wanted, plan.laws)
    check_collecting(window_s, laws)
    if not plan.choices:
        problems.append(f"the file holds no plan ({plan.status}: {plan.reason})")
        return Verification(False, tuple(problems), (), plan, None)
    if plan.figures.power_mw is None:
        problems += cost_problems(plan)
    traces = read_traces(trace)
    found = find_samples(plan.pipeline, traces, plan.seed, plan.seeds)
    planned = [sample.scaled(plan.headroom) for sample in found]
    pipeline = plan.pipeline.staggered(stagger_s).collecting(window_s)
    served = plan if latency is None else plan.using(latency)
    times_ns = pipeline.staggers_ns(laws), pipeline.windows_ns(laws)
    planned_ns = plan.pipeline.staggers_ns(plan.laws), plan.pipeline.windows_ns(plan.laws)
    as_planned = (laws, wanted, times_ns) == (plan.laws, plan.discipline, planned_ns) and served == plan
    plan = replace(served, pipeline=pipeline, objective=plan.objective.under(laws, wanted))
    if plan.envelope is not None and wanted == Discipline.FIFO:
        problems.append("no theorem covers fifo queues inside an arrival curve: judge it under oldest_first")
        return Verification(False, tuple(problems), (), plan, None)
    judged = certify_samples(plan, planned, certificate, runs)
    curve = None if plan.envelope is None else ArrivalCurve(plan.envelope)
    worst = None if curve is None else WorstCase(plan.pipeline, curve)
    worst_case_ns = None if worst is None else worst.bound_ns(plan_services(plan))
    guaranteed_ns = judged.bound_ns if worst_case_ns is None else worst_case_ns
    remarks = list(_other_traces(plan, traces))
    same_trace = not remarks
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
            "judged under other laws, discipline, stagger, window or batch latencies than it was made for"
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
    if as_planned and same_theorem and same_runs and worst_case_ns is None:
        problems += _sample_problems(plan, traces, judged)
    problems += (*consistency_problems(plan), *limit_problems(plan))
    if plan.energy is not None and all(sample.trace.span_ns for sample in planned):
        problems += _power_problems(plan, planned, curve, as_planned and same_trace)
    own_ns = [one.certificate_ns or 0 for one in judged.samples] or [judged.bound_ns]
    for sample, certified_ns in zip(planned, own_ns, strict=True):
        problems += [told for told in _stability_problems(plan, sample, curve) if told not in problems]
        if curve is not None and (excess := overrun(sample.trace.arrival_ns, curve)) > 0:
            # The worst case says nothing of it; what is certified of this trace by itself does.
            above = _above(plan, certified_ns)
            (problems if above else remarks).append(
                f"{sample.name or 'this trace'} exceeds the plan's arrival curve by up to {excess:.4g} queries: only "
                f"its own certificate covers it, {format_duration(certified_ns)}{above}"
            )
    if above := _above(plan, guaranteed_ns):
        how = None if are_timed(plan.laws) else _UNCOVERED.get(plan.guarantee)
        why = f"; the plan was {how}, which no theorem covers: judge it with mipplan replay" if how else ""
        problems.append(f"the certificate is {format_duration(guaranteed_ns)}{above}{why}")
    return Verification(not problems, tuple(problems), tuple(remarks), plan, judged, worst_case_ns)


def _above(plan: Plan, certified_ns: int) -> str:
    """Say of a certificate that it misses the objective; nothing if it keeps it."""
    if certified_ns <= plan.slo_ns - plan.margin_ns:
        return ""
    margin = f" less {format_duration(plan.margin_ns)} of margin" if plan.margin_ns else ""
    return f", above the objective of {format_duration(plan.slo_ns)}{margin}"


#: Why a plan that is not made by a theorem mostly cannot be verified.
_UNCOVERED = {Guarantee.REPLAY: "refined by replay", Guarantee.RELIABLE: "tested on scenarios"}


def _power_of(
    plan: Plan, demand: Mapping[str, Fraction], least: Mapping[str, Fraction]
) -> tuple[int, int, int]:
    """Mean power of a plan at most and at least, milliwatts, and its electricity, micro-dollars per hour."""
    terms, most_mw, least_mw, microusd = plan.energy or EnergyTerms(), 0, 0, 0
    for stage, draw in plan.draws().items():
        power = power_bounds(draw, plan.service_ns(stage).tolist(), demand[stage], least[stage])
        replicas = plan.choices[stage].replicas
        most_mw, least_mw = most_mw + power.most.of(replicas), least_mw + power.least.of(replicas)
        priced = electricity(power, terms)
        microusd += 0 if priced is None else priced.of(replicas)
    return most_mw, least_mw, microusd


def _power_problems(
    plan: Plan, planned: Sequence[Sample], curve: ArrivalCurve | None, same_trace: bool
) -> Iterator[str]:
    """Hold cost and power of a plan that energy is asked of against the traffic; figures only if it is the plan's."""
    demands = [_demand(plan, sample, curve) for sample in planned]
    demand = {stage: max(one[stage] for one in demands) for stage in plan.choices}
    # An arrival curve does not say how little comes.
    least: Mapping[str, Fraction] = dict.fromkeys(demand, Fraction(0))
    if curve is None:
        loads = [realise(plan.pipeline, sample.trace, sample.seed) for sample in planned]
        least = least_demand(loads, plan.headroom)
    most_mw, least_mw, microusd = _power_of(plan, demand, least)
    cap = None if plan.energy is None else plan.energy.max_power_mw
    if cap is not None and most_mw > cap:
        yield f"the mean power may reach {most_mw / MW_PER_W:g} W, above the {cap / MW_PER_W:g} W asked for"
    if same_trace and plan.figures.power_mw is not None:
        stated = plan.figures.power_mw, plan.figures.least_power_mw
        if stated != (most_mw, least_mw):
            yield f"the file states a mean power of {stated} mW; recomputed it is {(most_mw, least_mw)} mW"
        yield from cost_problems(plan, microusd)


def _sample_problems(plan: Plan, traces: Sequence[Trace], judged: Certificate) -> Iterator[str]:
    """Hold what the file states of each sample against what it is, for the traces that are at hand."""
    figures = judged.samples or (SampleFigure("", 0, plan.seed, judged.bound_ns),)
    actual = {(traces[figure.trace].sha256, figure.seed): figure.certificate_ns for figure in figures}
    for stated in plan.samples:
        own_ns = stated.certificate_ns
        found_ns = actual.get((plan.traces[stated.trace].sha256, stated.seed), own_ns)
        if found_ns != own_ns:
            yield f"the file states a certificate of {own_ns} ns on {stated.name}; recomputed it is {found_ns} ns"


def _figure_problems(
    plan: Plan, planned: Sequence[Sample], worst: WorstCase | None, guaranteed_ns: int
) -> list[str]:
    """Recompute the latencies that the file states for the traffic it was made for."""
    recomputed: dict[str, tuple[int | None, int | None]] = {
        "certificate": (plan.certificate_ns, guaranteed_ns),
        "bound": (plan.bound_ns, _bound_ns(plan, planned, worst)),
    }
    return [
        f"the file states a {name} of {'nothing' if stated is None else f'{stated} ns'}; recomputed it is {actual} ns"
        for name, (stated, actual) in recomputed.items()
        # Where there was no time left for figures of the theorem, such plans state none.
        if stated != actual and (stated is not None or plan.guarantee not in _UNCOVERED)
    ]


def _bound_ns(plan: Plan, planned: Sequence[Sample], worst: WorstCase | None) -> int | None:
    # The bound is a relaxation of what is certified by services; of sharp certificates and replays there is none.
    if plan.certificate is CertificateKind.SHARP or (worst is None and are_timed(plan.laws)):
        return None
    if worst:
        return worst.paths.bound_ns(plan_services(plan))
    workloads = (realise(plan.pipeline, sample.trace, sample.seed) for sample in planned)
    paths = (analyse_paths(load, plan.objective.criterion(load.ingress_ns)) for load in workloads)
    return max(waits.bound_ns(plan_services(plan)) for waits in paths)


def _demand(plan: Plan, sample: Sample, curve: ArrivalCurve | None) -> dict[str, Fraction]:
    """Mean token rate of every stage, tokens per ns; with a curve the greatest that it allows in the long run."""
    planned = sample.trace
    if curve is None:
        workload = realise(plan.pipeline, planned, sample.seed)
        return {stage: Fraction(of.count, planned.span_ns) for stage, of in workload.stages.items()}
    rate = max(Fraction(len(planned), planned.span_ns), Fraction(curve.rate) / NS_PER_S)
    return {stage: rate * most for stage, most in most_tokens_per_query(plan.pipeline).items()}


def _stability_problems(plan: Plan, sample: Sample, curve: ArrivalCurve | None) -> Iterator[str]:
    """Name the stages that do not serve more than arrives there on average; without a span there is no average."""
    if sample.trace.span_ns == 0:
        return
    demand = _demand(plan, sample, curve)
    for stage, service in plan_services(plan).items():
        rate = 1 / service.ns_per_token
        if rate <= demand[stage]:
            most, arriving = float(rate * NS_PER_S), float(demand[stage] * NS_PER_S)
            yield (
                f"stage {stage!r} is overloaded: it serves {most:.4g} tokens/s at most, and {arriving:.4g} arrive on "
                "average, so its queue grows as long as such traffic goes on"
            )


def _other_traces(plan: Plan, traces: Sequence[Trace]) -> Iterator[str]:
    """Name what the plan was not made for, and what it was made for that is not at hand."""
    known = {one.sha256: one.text for one in plan.traces}
    here = {one.sha256: TraceReference.of(one).text for one in traces}
    missing = ", ".join(name for sha256, name in known.items() if sha256 not in here)
    for this in (name for sha256, name in here.items() if sha256 not in known):
        if not known:
            yield f"judged on a trace the plan was not made for: it was made for none, this is {this}"
        else:
            yield f"judged on another trace: the plan was made for {', '.join(known.values())}, this is {this}"
    if missing and known.keys() & here.keys():
        yield f"not judged on all that the plan was made for, which is also {missing}"
