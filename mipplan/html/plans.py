"""What a page says of a plan on a trace: what, why, at which price, replayed, how fragile, compared, and from where."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from mipplan.certificate import Certificate, certify_stages
from mipplan.comparison import GuaranteeCost, Judgement, compare, guarantee_costs
from mipplan.core import (
    NS_PER_S,
    Allowance,
    Deadline,
    InputError,
    Int64,
    SearchLimits,
    counted,
    format_duration,
    listed,
    over_text,
    short_number,
    usd_text,
    version_of,
)
from mipplan.html.page import Page, Section, sheet
from mipplan.perturbation import Fragility, fragility, of_a_run
from mipplan.pipeline import are_timed
from mipplan.plots import (
    draw_curves,
    draw_fragility,
    draw_latency,
    draw_plan,
    draw_queues,
    draw_replay,
    draw_sensitivity,
    draw_stays,
    figure_of,
    query_at_quantile,
    slowest_stays,
)
from mipplan.questions import Problem, explain, hardware_text, measurement_row, model_text, sensitivity_of
from mipplan.replayer import replay
from mipplan.reporting import plan_remarks, sample_notes
from mipplan.result import Objective, Plan, PlanStatus, ReplayResult, fingerprint
from mipplan.trace import Trace, TraceReference

#: Shares of the time limit.
_FOR_COSTS, _FOR_EXPLANATION, _FOR_COMPARISON, _FOR_SENSITIVITY = 0.3, 0.2, 0.1, 0.3
#: Planners that a plan is compared with, because they take little time.
_PLANNERS = ("certified", "inferline", "coarse_peak", "half_slo")
#: Measurements are varied by this share.
_SHARE = 0.1
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Parts:
    """Which of the parts that take long a page about a plan has."""

    costs: bool = True
    compare: bool = True
    perturb: bool = True
    vary: bool = True


def page_of_plan(plan: Plan, trace: Trace, parts: Parts, time_limit_s: float, progress: Progress) -> Page:
    """Write the page about a plan on a trace; see `report`."""
    progress("replaying the plan")
    asked, seeds = of_a_run(plan.objective), range(plan.seed, plan.seed + plan.seeds)
    replayed = max(
        (replay(plan, trace, seed=seed) for seed in seeds), key=lambda run: run.objective_ns(asked)
    )
    certificate = None
    if not are_timed(plan.laws):
        certified = (certify_stages(plan, trace, seed=seed) for seed in seeds)
        certificate = max(certified, key=lambda one: one.bound_ns)
    sections = [
        choices_section(plan),
        _reasons(plan, trace, certificate, _FOR_EXPLANATION * time_limit_s, progress),
    ]
    is_own = trace.sha256 in {known.sha256 for known in plan.provenance.traces}
    if parts.costs:
        progress("planning under other guarantees")
        # On another trace than its own it is a plan with given choices: nothing is proven of it there.
        stated = plan if is_own else replace(plan, status=PlanStatus.GIVEN)
        priced = guarantee_costs(stated, trace, time_limit_s=_FOR_COSTS * time_limit_s, progress=progress)
        sections.append(_guarantees(priced))
    sections.append(_replay(plan, trace, replayed, certificate))
    if parts.perturb:
        progress("perturbing the plan")
        sections.append(_fragility(fragility(plan, trace, progress=progress)))
    if parts.compare:
        progress("planning as others would")
        sections.append(_comparison(plan, trace, _FOR_COMPARISON * time_limit_s, progress))
    if parts.vary:
        progress("varying prices, models and measurements")
        sections.append(_sensitivity(plan, trace, _FOR_SENSITIVITY * time_limit_s, progress))
    sections.append(provenance_section(plan, {"judged on": trace}))
    kept = replayed.objective_ns(asked) <= plan.slo_ns
    # A part of a trace, and one at another rate, has the name of the whole.
    made_for = listed(known.text for known in plan.provenance.traces)
    name, bound = quantiles_text(asked, replayed.ingress_ns, certificate)
    _, observed = quantiles_text(asked, replayed.ingress_ns, replayed)
    tiles = [
        ("cost", "–" if plan.usd_per_hour is None else f"{usd_text(plan.usd_per_hour, 2)} $/h"),
        ("objective", plan.objective.text),
        (f"certified{name}", bound),
        (f"replayed{name}", observed),
        ("objective in the replay", "kept" if kept else "MISSED"),
        ("status", str(plan.status) if is_own or not made_for else f"{plan.status} on another trace"),
    ]
    rate = f"{short_number(trace.rate_rps)} a second" if trace.span_ns else "all at once"
    lead = f"{counted(len(plan.choices), 'stage')} on {trace.name} ({len(trace):,} queries, {rate})"
    if made_for and not is_own:
        lead += f". The plan was made for {made_for}, this is {TraceReference.of(trace).text}"
    return Page(f"Plan for {plan.pipeline.name}", lead, tuple(tiles), tuple(sections), foot())


def quantiles_text(
    objective: Objective, ingress_ns: Int64, judged: Certificate | ReplayResult | None
) -> tuple[str, str]:
    """Return what stands behind "certified" and "replayed", and the plan's figure for every limit, by its windows."""
    if judged is None:
        return f" {objective.name}", "by its replay"
    quantiles = (objective.quantile, *(one.quantile for one in objective.others))
    over = objective.per_ns, objective.share
    figures = [Allowance.of(one, ingress_ns, *over).figure(judged.latency_ns) for one in quantiles]
    if len(quantiles) == 1:
        name = objective.name if objective.envelope is None else "for every query"
        return f" {name}", format_duration(figures[0])
    named = zip(quantiles, figures, strict=True)
    told = ", ".join(f"P{100 * one:g} {format_duration(figure)}" for one, figure in named)
    return over_text(*over), told


def choices_section(plan: Plan) -> Section:
    """What runs each stage, as a table and as a graph."""
    rows = (
        (
            stage,
            plan.pipeline.stages[stage].model,
            choice.hardware,
            choice.batch,
            choice.replicas,
            usd_text(choice.replicas * plan.profiles.hardware[choice.hardware].usd_per_hour),
            plan.laws[stage],
        )
        for stage, choice in plan.choices.items()
    )
    headings = ("stage", "model", "hardware", ">batch cap", ">replicas", ">$/h", "dispatch")
    table = sheet("What runs each stage", headings, rows)
    words = (plan.reason,) if plan.reason else ()
    picture = (figure_of(draw_plan(plan)), "The pipeline, with what the plan chooses at each stage.")
    return Section("The plan", words, (table,), (picture,))


def _reasons(
    plan: Plan, trace: Trace, certificate: Certificate | None, time_limit_s: float, progress: Progress
) -> Section:
    try:
        progress("explaining the plan")
        words = tuple(explain(plan, trace, time_limit_s=time_limit_s).lines())
    except InputError as error:
        words = (_refused("alternatives", error),)
    if certificate is None:
        return Section("Why", ("A timed plan is certified by its replay: every run is the replay.", *words))
    steps = sheet(
        "How the certified latency comes about: the critical path",
        ("stage", ">T", ">waits behind others", ">delay before"),
        (
            (step.stage, *map(format_duration, (step.latency_ns, step.wait_ns, step.delay_ns)))
            for step in certificate.critical_path
        ),
    )
    longest = certificate.longest_stage
    picture = (
        figure_of(draw_curves(plan, trace, longest)),
        f"Arrival and service curve of {longest}, the longest step of that path, and their horizontal deviation.",
    )
    return Section("Why", words, (steps,), (picture,))


def _guarantees(priced: dict[str, GuaranteeCost]) -> Section:
    rows = (
        (
            f"{cost.label}{' (this plan)' if cost.is_answer else ''}",
            None if cost.usd_per_hour is None else usd_text(cost.usd_per_hour, 2),
            cost.proof,
            cost.holds_for,
            cost.void_if,
        )
        for cost in priced.values()
    )
    headings = ("guarantee", ">$/h", "proven or tested", "keeps the objective in", "void if")
    words = ("The same objective, under every guarantee that could be priced in the time given.",)
    return Section("Guarantees and their prices", words, (sheet("Price of each guarantee", headings, rows),))


def _replay(plan: Plan, trace: Trace, replayed: ReplayResult, certificate: Certificate | None) -> Section:
    stages = (
        (
            name,
            f"{stage.tokens:,}",
            f"{stage.mean_batch:.2f}",
            format_duration(stage.mean_wait_s * NS_PER_S),
            format_duration(stage.max_wait_s * NS_PER_S),
            f"{stage.max_queue:,}",
            f"{replayed.utilisation(name):.1%}",
        )
        for name, stage in replayed.stages.items()
    )
    headings = ("stage", ">tokens", ">mean batch", ">mean wait", ">longest wait", ">longest queue", ">busy")
    slow = query_at_quantile(plan, replayed)
    stays = slowest_stays(plan, trace, replayed, slow)
    rows = (
        (
            stay.stage,
            format_duration(stay.delay_ns),
            format_duration(stay.dispatch_ns - stay.arrival_ns),
            format_duration(stay.exit_ns - stay.dispatch_ns),
            stay.batch,
        )
        for stay in stays
    )
    figures = [
        (
            draw_replay(replayed, plan.slo_s, plan.quantile, zero_ns=trace.zero_ns),
            "Latencies over time, the traffic, and how latencies are distributed.",
        )
    ]
    if certificate is not None:
        words = "Share of queries slower than any latency: as certified, and as replayed."
        figures.append((figure_of(draw_latency(plan, certificate, replayed)), words))
    figures += [
        (
            draw_queues(plan, replayed, zero_ns=trace.zero_ns),
            "Tokens that wait and replicas that are busy, stage by stage.",
        ),
        (
            figure_of(draw_stays(stays, plan.slo_ns, slow)),
            f"Where query {slow:,} spent its time, which is at the quantile of the objective.",
        ),
    ]
    missed = replayed.miss_rate(plan.slo_s)
    words = f"{replayed.queries:,} queries, {missed:.3%} of them slower than {format_duration(plan.slo_ns)}."
    if plan.seeds > 1:
        words += f" Of {plan.seeds} draws of the tokens this is the worst, of seed {replayed.seed}."
    tables = (
        sheet("Stages in the replay", headings, stages),
        sheet(
            f"Where query {slow:,} spent its time",
            ("stage", ">on its way", ">waits", ">in service", ">batch of"),
            rows,
        ),
    )
    return Section("Replay", (words, *sample_notes(plan, trace)), tables, tuple(figures))


def _fragility(measured: Fragility) -> Section:
    rows = ((axis.title, axis.verdict) for axis in measured.axes)
    table = sheet("What the plan bears", ("perturbed", "objective"), rows)
    picture = (draw_fragility(measured), "The latency quantile along every perturbation, with the objective.")
    return Section("What breaks it first", (f"{measured.breaks_first}.",), (table,), (picture,))


def _comparison(plan: Plan, trace: Trace, time_limit_s: float, progress: Progress) -> Section:
    try:
        compared = compare(
            plan.pipeline,
            plan.profiles,
            trace,
            slo_s=plan.slo_s,
            quantile=plan.quantile,
            discipline=plan.discipline,
            dispatch=dict(plan.laws),
            accuracy=plan.min_accuracy,
            planners=_PLANNERS,
            seed=plan.seed,
            time_limit_s=time_limit_s,
            progress=progress,
        )
    except InputError as error:
        return Section("Compared with others", (_refused("plans of others", error),))
    accurate = [">accuracy"] if any(row.accuracy is not None for row in compared.rows) else []
    rows = (
        (
            row.planner.value,
            None if row.plan.usd_per_hour is None else usd_text(row.plan.usd_per_hour, 2),
            *(None if row.accuracy is None else f"{row.accuracy:.4g}" for _ in accurate),
            _verdict(row.in_sample),
            _verdict(row.held_out),
            None if row.worst_miss_rate is None else f"{row.worst_miss_rate:.3%}",
        )
        for row in compared.by_cost
    )
    headings = ("planner", ">$/h", *accurate, "in sample", "held out", ">worst share missed")
    first = f"the first {compared.split:.0%} of the trace's time"
    words = (
        f"All plan for {compared.objective.text} on {first}, and are judged on that and on the rest, unseen."
    )
    picture = (compared.plot(), "What each plan costs, and its latency quantile in sample and held out.")
    told = (words, *filter(None, [compared.accuracy_note]))
    return Section("Compared with others", told, (sheet("Plans of others", headings, rows),), (picture,))


def _verdict(judged: Judgement | None) -> str | None:
    return (
        None
        if judged is None
        else f"{'kept' if judged.keeps else 'MISSED'}, {format_duration(judged.quantile_ns)}"
    )


def _sensitivity(plan: Plan, trace: Trace, time_limit_s: float, progress: Progress) -> Section:
    title = "What the cost depends on"
    try:
        found = sensitivity_of(
            Problem(plan, [trace]), _SHARE, SearchLimits(Deadline.after(time_limit_s), progress)
        )
    except InputError as error:
        return Section(title, (_refused("prices and measurements", error),))
    words = () if found.complete else ("Not all was looked at: time was up.",)
    headings = ("measurement", ">ms", f">$/h if {_SHARE:.0%} slower", f">$/h if {_SHARE:.0%} faster")
    tables = (
        sheet("Prices", ("hardware",), ([hardware_text(one)] for one in found.hardware)),
        sheet("Models", ("model",), ([model_text(one, found.plan)] for one in found.models)),
        sheet("Measurements that matter", headings, map(measurement_row, found.measurements)),
    )
    picture = (
        figure_of(draw_sensitivity(found)),
        "By how much the least cost changes where a measurement is off.",
    )
    return Section(title, words, tables, (picture,) if found.measurements else ())


def _refused(what: str, error: InputError) -> str:
    return f"No {what} are listed: {'; '.join(fault.message for fault in error.faults)}."


def provenance_section(plan: Plan, traces: Mapping[str, Trace]) -> Section:
    """What a plan rests on: traffic and the plan itself with their hashes, latencies and prices with their sources."""
    facts = [
        *((role, f"{trace.name}, {len(trace):,} queries", trace.sha256) for role, trace in traces.items()),
        *(
            ("planned for", f"{one.name}, {one.queries:,} queries", one.sha256)
            for one in plan.provenance.traces
        ),
        ("plan", plan.pipeline.name, fingerprint(plan.to_document())),
        ("formulation", plan.formulation or "given", ""),
        ("solver", plan.solver or "none", ""),
        ("seed of the token draws", _seeds_text(plan), ""),
    ]
    sources = (
        (stage, plan.pipeline.stages[stage].model, plan.choices[stage].hardware, source)
        for stage in plan.choices
        for source in dict.fromkeys(plan.table(stage).source)
    )
    prices = (
        (name, usd_text(device.usd_per_hour), device.source)
        for name, device in plan.profiles.hardware.items()
        if name in {choice.hardware for choice in plan.choices.values()}
    )
    tables = (
        sheet("Inputs", ("what", "which", "SHA-256 (of a trace: of its times)"), facts),
        sheet("Latencies: where they come from", ("stage", "model", "hardware", "source"), sources),
        sheet("Prices: where they come from", ("hardware", ">$/h", "source"), prices),
    )
    return Section("Where it comes from", tuple(plan_remarks(plan, None)), tables)


def _seeds_text(plan: Plan) -> str:
    return str(plan.seed) if plan.seeds == 1 else f"{plan.seed} to {plan.seed + plan.seeds - 1}"


def foot() -> str:
    """Versions of what made a page."""
    return f"mipplan {version_of('mipplan')}, {', '.join(_versions())}, Python {platform.python_version()}."


def _versions() -> Iterator[str]:
    for name in ("numpy", "highspy", "ortools", "networkx"):
        yield f"{name} {version_of(name)}"
