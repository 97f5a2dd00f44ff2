"""What a page says: of a plan on a trace, of policies in closed loop, of a fleet."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import assert_never

from mipplan.certificate import Certificate, certify_stages
from mipplan.comparison import GuaranteeCost, guarantee_costs
from mipplan.core import NS_PER_S, InputError, check_time_limit, format_duration
from mipplan.fleet import FleetPlan
from mipplan.html.page import Page, Section, sheet
from mipplan.perturbation import Fragility, fragility
from mipplan.pipeline import are_timed
from mipplan.planner import explain
from mipplan.plots import (
    draw_curves,
    draw_fragility,
    draw_latency,
    draw_plan,
    draw_queues,
    draw_waterfall,
    figure_of,
    query_at_quantile,
    slowest_stays,
)
from mipplan.replayer import replay
from mipplan.reporting import plan_remarks, sample_notes
from mipplan.result import Plan, ReplayResult
from mipplan.trace import Trace
from mipplan.tuner import Tuning

#: Shares of the time limit.
_FOR_COSTS, _FOR_EXPLANATION = 0.4, 0.2
Progress = Callable[[str], None]


def report(
    subject: Plan | Tuning | FleetPlan,
    trace: Trace | None = None,
    *,
    costs: bool = True,
    perturb: bool = True,
    time_limit_s: float = 30.0,
    progress: Progress | None = None,
) -> Page:
    """Write a page about a plan, a tuning or a fleet.

    Parameters
    ----------
    subject : Plan, Tuning or FleetPlan
        A plan with choices; what `mipplan.tune` or `mipplan.plan_fleet` returned.
    trace : Trace, optional
        For a plan: the traffic to judge it on. By default the trace it was made for, if that is at hand (it is not
        after the plan was read from a file).
    costs : bool
        Whether a plan's page says what other guarantees cost.
    perturb : bool
        Whether it says what breaks the plan first.
    time_limit_s : float
        For what is searched: plans under other guarantees, plans on other hardware. Replays come on top.
    progress : callable, optional
        Called with one line of text as the work proceeds.

    Returns
    -------
    Page
        ``page.save("report.html")`` writes it, ``page.html`` is its text.

    Raises
    ------
    InputError
        If a plan comes without a trace, or the time limit is not positive.
    NoPlanError
        If the plan has no choices.
    """
    check_time_limit(time_limit_s)
    told: Progress = progress if progress is not None else lambda _: None
    match subject:
        case Plan():
            sample = trace if trace is not None else subject.provenance.sample
            if sample is None:
                raise InputError.one("trace", "is needed: the plan has none at hand")
            return _of_plan(subject.require(), sample, costs, perturb, time_limit_s, told)
        case Tuning():
            return _of_tuning(subject)
        case FleetPlan():
            return _of_fleet(subject)
        case _:
            assert_never(subject)


# --- a plan -----------------------------------------------------------------------------------------------------------


def _of_plan(
    plan: Plan, trace: Trace, costs: bool, perturb: bool, time_limit_s: float, progress: Progress
) -> Page:
    progress("replaying the plan")
    replayed = replay(plan, trace)
    timed = are_timed(plan.laws)
    certificate = None if timed else certify_stages(plan, trace)
    sections = [_choices(plan), _reasons(plan, trace, certificate, _FOR_EXPLANATION * time_limit_s, progress)]
    if costs:
        progress("planning under other guarantees")
        priced = guarantee_costs(plan, trace, time_limit_s=_FOR_COSTS * time_limit_s, progress=progress)
        sections.append(_guarantees(priced))
    sections.append(_replay(plan, trace, replayed, certificate))
    if perturb:
        progress("perturbing the plan")
        sections.append(_fragility(fragility(plan, trace, progress=progress)))
    sections.append(_provenance(plan, trace))
    kept = replayed.objective_ns(plan.objective) <= plan.slo_ns
    observed = format_duration(replayed.quantile_ns(plan.quantile))
    quantile = f"P{100 * plan.quantile:g}"
    tiles = [
        ("cost", "–" if plan.usd_per_hour is None else f"{plan.usd_per_hour:,.2f} $/h"),
        ("objective", plan.objective.text),
        (
            f"certified {quantile}",
            "by its replay" if certificate is None else format_duration(certificate.bound_ns),
        ),
        (f"replayed {quantile}", observed),
        ("objective in the replay", "kept" if kept else "MISSED"),
        ("status", str(plan.status)),
    ]
    lead = (
        f"{len(plan.choices)} stages on {trace.name} ({len(trace):,} queries, {trace.rate_rps:,.4g} a second)"
    )
    return Page(f"Plan for {plan.pipeline.name}", lead, tuple(tiles), tuple(sections), _foot())


def _choices(plan: Plan) -> Section:
    rows = (
        (
            stage,
            plan.pipeline.stages[stage].model,
            choice.hardware,
            choice.batch,
            choice.replicas,
            f"{choice.replicas * plan.profiles.hardware[choice.hardware].usd_per_hour:,.4f}",
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
    if certificate is None:
        return Section("Why", ("A timed plan is certified by its replay: every run is the replay.",))
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
    try:
        progress("explaining the plan")
        words = tuple(explain(plan, trace, time_limit_s=time_limit_s).lines())
    except InputError as error:
        words = (f"No alternatives are listed: {'; '.join(fault.message for fault in error.faults)}.",)
    return Section("Why", words, (steps,), (picture,))


def _guarantees(priced: dict[str, GuaranteeCost]) -> Section:
    rows = (
        (
            f"{cost.label}{' (this plan)' if cost.is_answer else ''}",
            None if cost.usd_per_hour is None else f"{cost.usd_per_hour:,.2f}",
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
    stays = (
        (
            stay.stage,
            format_duration(stay.delay_ns),
            format_duration(stay.dispatch_ns - stay.arrival_ns),
            format_duration(stay.exit_ns - stay.dispatch_ns),
            stay.batch,
        )
        for stay in slowest_stays(plan, trace, replayed, slow)
    )
    figures = [
        (
            replayed.plot(plan.slo_s, plan.quantile),
            "Latencies over time, the traffic, and how latencies are distributed.",
        )
    ]
    if certificate is not None:
        words = "Share of queries slower than any latency: as certified, and as replayed."
        figures.append((figure_of(draw_latency(plan, certificate, replayed)), words))
    figures += [
        (draw_queues(plan, replayed), "Tokens that wait and replicas that are busy, stage by stage."),
        (
            figure_of(draw_waterfall(plan, trace, replayed, slow)),
            f"Where query {slow:,} spent its time, which is at the quantile of the objective.",
        ),
    ]
    missed = replayed.miss_rate(plan.slo_s)
    words = f"{replayed.queries:,} queries, {missed:.3%} of them slower than {format_duration(plan.slo_ns)}."
    tables = (
        sheet("Stages in the replay", headings, stages),
        sheet(
            f"Where query {slow:,} spent its time",
            ("stage", ">on its way", ">waits", ">in service", ">batch of"),
            stays,
        ),
    )
    return Section("Replay", (words, *sample_notes(plan, trace)), tables, tuple(figures))


def _fragility(measured: Fragility) -> Section:
    rows = ((axis.title, axis.verdict) for axis in measured.axes)
    table = sheet("What the plan bears", ("perturbed", "objective"), rows)
    picture = (draw_fragility(measured), "The latency quantile along every perturbation, with the objective.")
    return Section("What breaks it first", (f"{measured.breaks_first}.",), (table,), (picture,))


def _provenance(plan: Plan, trace: Trace) -> Section:
    planned = plan.trace
    facts = [
        ("judged on", f"{trace.name}, {len(trace):,} queries", trace.sha256),
        *(
            []
            if planned is None
            else [("planned for", f"{planned.name}, {planned.queries:,} queries", planned.sha256)]
        ),
        ("formulation", plan.formulation or "given", ""),
        ("solver", plan.solver or "none", ""),
        ("seed of the token draws", str(plan.seed), ""),
    ]
    sources = (
        (stage, plan.pipeline.stages[stage].model, plan.choices[stage].hardware, source)
        for stage in plan.choices
        for source in dict.fromkeys(plan.table(stage).source)
    )
    prices = (
        (name, f"{device.usd_per_hour:,.4f}", device.source)
        for name, device in plan.profiles.hardware.items()
        if name in {choice.hardware for choice in plan.choices.values()}
    )
    tables = (
        sheet("Inputs", ("what", "which", "SHA-256 of its times"), facts),
        sheet("Latencies: where they come from", ("stage", "model", "hardware", "source"), sources),
        sheet("Prices: where they come from", ("hardware", ">$/h", "source"), prices),
    )
    return Section("Where it comes from", tuple(plan_remarks(plan, None)), tables)


# --- a tuning, a fleet ------------------------------------------------------------------------------------------------


def _of_tuning(tuning: Tuning) -> Page:
    plan = tuning.plan
    rows = (
        (run.policy, f"{run.miss_rate:.3%}", f"{run.usd_per_hour:,.2f}", f"{max(run.missed_over_time):.2%}")
        for run in tuning.runs
    )
    headings = ("policy", ">missed", ">$/h", ">worst window missed")
    policies = Section(
        "Policies",
        ("All judged by the same exact replay of the same traffic.",),
        (sheet("What each policy costs and misses", headings, rows),),
        ((tuning.plot(), "Traffic, what replicas cost, P99 and misses of each policy over time."),),
    )
    cheapest = min(tuning.runs, key=lambda run: run.usd_per_hour)
    tiles = (
        ("plan", "–" if plan.usd_per_hour is None else f"{plan.usd_per_hour:,.2f} $/h"),
        ("objective", plan.objective.text),
        ("policies", str(len(tuning.runs))),
        ("cheapest", f"{cheapest.policy}: {cheapest.usd_per_hour:,.2f} $/h, {cheapest.miss_rate:.2%} missed"),
    )
    lead = f"Replicas that follow {tuning.trace.name} ({len(tuning.trace):,} queries)"
    sections = (policies, _choices(plan), _provenance(plan, tuning.trace))
    return Page(f"Policies for {plan.pipeline.name}", lead, tiles, sections, _foot())


def _of_fleet(fleet: FleetPlan) -> Page:
    members = sheet(
        "Pipelines",
        ("pipeline", "objective", ">$/h", ">replicas"),
        (
            (
                name,
                plan.objective.text,
                None if plan.usd_per_hour is None else f"{plan.usd_per_hour:,.4f}",
                sum(choice.replicas for choice in plan.choices.values()),
            )
            for name, plan in fleet.plans.items()
        ),
    )
    section = Section(
        "Pipelines", (), (members,), ((fleet.plot(), "Devices used and their limits; cost by pipeline."),)
    )
    cost = fleet.usd_per_hour
    tiles = (
        ("cost", "–" if cost is None else f"{cost:,.2f} $/h"),
        ("pipelines", f"{len(fleet.plans):,}"),
        ("status", str(fleet.status)),
    )
    return Page("Fleet", f"{len(fleet.plans):,} pipelines on shared hardware", tiles, (section,), _foot())


def _foot() -> str:
    return f"mipplan {version('mipplan')}, {', '.join(_versions())}, Python {platform.python_version()}."


def _versions() -> Iterator[str]:
    for name in ("numpy", "highspy", "ortools", "networkx"):
        yield f"{name} {version(name)}"
