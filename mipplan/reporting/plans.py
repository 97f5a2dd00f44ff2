"""Plans for people and programs: the documents of ``mipplan plan`` and ``fleet``, and their tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mipplan.core import MICRODOLLARS_PER_DOLLAR, usd_text
from mipplan.fleet import FleetPlan
from mipplan.pipeline import MIXED, Discipline, DispatchLaw, duties_text, server_habits
from mipplan.reporting.catalog import assumed_power
from mipplan.reporting.documents import (
    AdmissionReport,
    BucketReport,
    ChoiceReport,
    DeviceUseReport,
    FleetMemberReport,
    FleetReport,
    FleetSetReport,
    GuaranteeCostReport,
    PlanReport,
    ReliabilityReport,
    ReplayReport,
    SloRelaxationReport,
)
from mipplan.reporting.judgements import sample_reports, sample_tables
from mipplan.reporting.text import (
    LABELS,
    figures,
    hidden_misses,
    percent_text,
    seconds_text,
    show_notes,
    show_parts,
    table,
    traffic_parts,
    traffic_text,
)
from mipplan.result import CertificateKind, Explanation, Plan, ReplayResult, proof_text
from mipplan.trace import Trace

if TYPE_CHECKING:
    from mipplan.comparison import GuaranteeCost  # which loads all planners

IN_SAMPLE = (
    "in-sample: planned and judged on the same trace; judge it on another one too (mipplan replay, verify)"
)
_FLEET_IN_SAMPLE = (
    "in-sample: every plan is certified on the trace it was made for; judge it on others too (mipplan verify)"
)
#: At most this many pipelines are listed in a table, the dearest ones of larger fleets.
_MEMBERS_LISTED = 40
#: At most this many names are listed in a sentence.
_MOST_NAMED = 12


def choice_reports(plan: Plan) -> dict[str, ChoiceReport]:
    """Configuration of every stage of a plan, and what it costs."""
    prices = {name: device.microusd_per_hour for name, device in plan.profiles.hardware.items()}
    return {
        stage: ChoiceReport.of(
            choice,
            usd_per_hour=choice.replicas * prices[choice.hardware] / MICRODOLLARS_PER_DOLLAR,
            variant=choice.variant,
        )
        for stage, choice in plan.choices.items()
    }


def energy_figures(plan: Plan) -> dict[str, float] | None:
    """Watts of a plan at most and at least, the cap on them, and what of its cost is electricity; None if not asked."""
    if plan.energy is None or plan.power_w is None or plan.microusd_per_hour is None:
        return None
    held = {
        "power_w": plan.power_w,
        "least_power_w": plan.least_power_w,
        "max_power_w": plan.energy.max_power_w,
    }
    devices = sum(choice.usd_per_hour for choice in choice_reports(plan).values())
    power = {name: value for name, value in held.items() if value is not None}
    return {**power, "electricity_usd_per_hour": round((plan.usd_per_hour or 0.0) - devices, 6)}


def plan_report(
    plan: Plan,
    trace: Trace | Sequence[Trace],
    replayed: ReplayResult | None,
    explanation: Explanation | None,
    remarks: list[str],
    plan_file: Path | None,
    costs: Mapping[str, GuaranteeCost] = MappingProxyType({}),
    replayed_ns: Mapping[str, int] = MappingProxyType({}),
) -> PlanReport:
    """Describe a plan made on `trace`, with its replay on the same trace and what other guarantees cost, if known.

    Of several samples `replayed` is the worst replay, and `replayed_ns` are the replayed figures of all by name.
    """
    if plan.runs is not None:
        which = "that of fifo queues" if plan.discipline is Discipline.FIFO else "a sharp one"
        remarks = [f"the certificate is {which}: it holds for runs where {plan.runs.text}", *remarks]
    if column := plan.profiles.latency_text:
        remarks = [f"batches are planned to take {column}", *remarks]
    remarks = [*server_habits(plan.pipeline.staggers_ns(plan.laws), plan.windows_ns()), *remarks]
    remarks = [*remarks, *([] if replayed is None else hidden_misses(replayed, plan.objective))]
    remarks += assumed_power(plan)
    tested = plan.reliability
    buckets = None if plan.envelope is None else [BucketReport(burst=b, rate_rps=r) for b, r in plan.envelope]
    return PlanReport.of(
        plan,
        envelope=buckets,
        choices=choice_reports(plan),
        guarantee_costs={n: GuaranteeCostReport.of(cost, cost.plan) for n, cost in costs.items()} or None,
        replay=None if replayed is None else replayed.summary(plan.slo_s),
        explanation=None if explanation is None else explanation.lines(),
        remarks=remarks,
        plan_file=None if plan_file is None else str(plan_file),
        accuracy=plan.accuracy,
        min_accuracy=plan.min_accuracy,
        energy=energy_figures(plan),
        reliability=tested and ReliabilityReport.of(tested, summary=tested.text(plan.objective.name)),
        **traffic_parts(trace, plan.seeds),
        samples=sample_reports(plan.samples, replayed_ns),
    )


def show_plan(console: Console, report: PlanReport, best: str = "") -> None:
    """Plan, cost, lower bound, bound, certificate and replayed quantiles; and what it is best in, if not in cost."""
    console.print(traffic_text(report.pipeline, report.traces or [report.trace]))
    if not report.choices:
        console.print(f"\n[bold red]{report.status}[/bold red]: {escape(report.reason or '')}")
        _show_costs(console, report)
        return
    named = any(choice.variant for choice in report.choices.values())
    choices = table("stage", *(["variant"] if named else []), "hardware", ">batch", ">replicas", ">$/h")
    for stage, choice in report.choices.items():
        row = (choice.hardware, str(choice.batch), str(choice.replicas), usd_text(choice.usd_per_hour))
        shown = (stage, choice.variant or "", *row) if named else (stage, *row)
        choices.add_row(*(escape(cell) for cell in shown))
    console.print()
    show_parts(console, choices, *sample_tables(report.samples))
    console.print(figures(_plan_figures(report, best)))
    if report.reason:
        console.print(f"\n{escape(report.reason)}")
    if report.explanation is not None:
        console.print()
        for line in report.explanation:
            console.print(escape(line))
        console.print()
    has_budget = report.budget_usd_per_hour is not None
    proof = proof_text(
        report.status, report.guarantee, has_budget=has_budget, timed=report.dispatch == "timed"
    )
    notes = [*([] if proof is None else [proof]), *_law_notes(report), *report.remarks, IN_SAMPLE]
    show_notes(console, notes, [report.plan_file] if report.plan_file else [])
    _show_costs(console, report)


def _show_costs(console: Console, report: PlanReport) -> None:
    """What the objective costs under each guarantee, what is known of that, and what each buys."""
    costs = report.guarantee_costs or {}
    if len(costs) < 2:
        return
    rows = table("guarantee", ">$/h", "proven or tested", "keeps the objective in", "void if")
    usd = [cost.usd_per_hour for cost in costs.values() if cost.usd_per_hour is not None]
    digits = 2 if min(usd, default=1.0) >= 1.0 else 4
    for cost in costs.values():
        label = f"{cost.label}{'*' if cost.is_answer else ''}"
        price = "–" if cost.usd_per_hour is None else usd_text(cost.usd_per_hour, digits)
        rows.add_row(*(escape(cell) for cell in (label, price, cost.proof, cost.holds_for, cost.void_if)))
    console.print()
    console.print(rows)
    # Under other laws than eager nothing else in its row says so.
    is_sharp = report.certificate == CertificateKind.SHARP and report.dispatch != DispatchLaw.EAGER
    found = f"* this plan{', by its sharp certificate' if is_sharp else ''}; "
    answer = found if any(cost.is_answer for cost in costs.values()) else ""
    choose = "--guarantee, --dispatch and --certificate" if "sharp" in costs else "--guarantee and --dispatch"
    console.print(f"{answer}{choose} choose, --no-costs leaves this table out")


def _plan_figures(report: PlanReport, best: str) -> list[tuple[str, str]]:
    by = ", ".join(dict.fromkeys(map(str, (report.formulation, report.solver))))  # "auto" once is enough
    tested = "and tested on" if report.reliability and report.reliability.scenarios else "but not tested on"
    by = {"replay": "refined by replay", "reliable": f"chosen {tested} scenarios"}.get(report.guarantee, by)
    rows = [("status", f"{best or report.status}  ({by})"), ("cost", f"{usd_text(report.usd_per_hour)} $/h")]
    if report.budget_usd_per_hour is not None:
        proof = _proof(report, "proven fastest within it")
        rows.append(("budget", f"{usd_text(report.budget_usd_per_hour)} $/h  ({proof})"))
    else:
        is_other = best and report.status != "optimal"  # The gap to the least cost says nothing of it.
        proof = "of plans of any value" if is_other else _proof(report, "proven cheapest")
        rows.append(("lower bound", f"{usd_text(report.lower_bound_usd_per_hour)} $/h  ({proof})"))
        rows.append(("objective", report.objective))
    if report.accuracy is not None:
        least = "" if report.min_accuracy is None else f"  (at least {report.min_accuracy:g} asked for)"
        rows.append(("accuracy", f"{report.accuracy:.4g}{least}"))
    if report.energy is not None:
        cap = report.energy.get("max_power_w")
        asked = "" if cap is None else f"  (at most {cap:g} W asked for)"
        most, fewest = report.energy["power_w"], report.energy["least_power_w"]
        rows.append(("power", f"at most {most:.6g} W on average, at least {fewest:.6g} W{asked}"))
        if priced := report.energy["electricity_usd_per_hour"]:
            rows.append(("electricity", f"at most {usd_text(priced)} $/h of the cost"))
    if report.headroom != 1.0 or report.margin_s:
        margin = f", {seconds_text(report.margin_s)} of the objective kept back" if report.margin_s else ""
        rows.append(("headroom", f"{report.headroom:g} × the traffic{margin}"))
    if report.bound_s is not None:
        rows.append(("bound", f"{seconds_text(report.bound_s)}  (relaxation inside the MILP)"))
    scope = "this trace"
    if report.samples is not None:
        worst = max(report.samples, key=lambda one: one.certificate_s or 0.0)
        scope = f"each of {len(report.samples)} samples, worst {worst.name}"
    scope = scope if report.headroom == 1.0 else f"{report.headroom:g} × {scope}"
    if report.envelope is not None:
        scope = "all traffic inside the arrival curve, every query"
        rows.append(("arrival curve", _envelope_text(report.envelope)))
    if report.reliability is not None:
        rows.append(("reliable", report.reliability.summary))
        if report.reliability.fastest_rps:
            fastest = f"{report.reliability.fastest_rps:.4g} queries/s"
            rows.append(("tested", f"on scenarios of up to {fastest}: of faster traffic nothing is said"))
    how = report.discipline.replace("_", " ")
    if report.dispatch != "eager":
        how += f", {report.dispatch} dispatch"
    if report.guarantee == "replay" and report.dispatch == "timed":
        how += ": every run is the replay"
    if report.certificate_s is not None:
        certificate = seconds_text(report.certificate_s)
        rows.append(("certificate", f"{certificate}  (proven for {scope}, {how})"))
    return rows if report.replay is None else rows + _replay_figures(report.replay)


def _law_notes(report: PlanReport) -> list[str]:
    """What a plan asks of its servers, unless they do what most do."""
    if report.dispatch == "eager":
        return []
    laws = {stage: DispatchLaw(law) for stage, law in report.laws.items()}
    mixed = "; ".join(f"{stage} {law}" for stage, law in report.laws.items())
    law = f"{report.dispatch} dispatch" if report.dispatch != MIXED else f"mixed dispatch ({mixed})"
    return [f"{law}: {duties_text(laws)}"]


def _proof(report: PlanReport, proven: str) -> str:
    if report.status == "optimal":
        return proven
    return "not proven" if report.gap is None else f"gap {report.gap:.1%}"


def _envelope_text(buckets: Sequence[BucketReport]) -> str:
    shown = [f"{bucket.burst:.4g} + {bucket.rate_rps:.4g}·u" for bucket in buckets[:3]]
    more = [f"… ({len(buckets)} pieces)"] if len(buckets) > len(shown) else []
    return f"queries in any u seconds ≤ min({', '.join([*shown, *more])})"


def _replay_figures(report: ReplayReport) -> list[tuple[str, str]]:
    shown = ("p50", "p90", "p99", "p99_9", "max")
    latencies = ", ".join(f"{LABELS[name]} {seconds_text(report.latency_s[name])}" for name in shown)
    rows = [("replayed", f"{latencies}  ({report.discipline.replace('_', ' ')})")]
    if report.slo_s is not None and report.miss_rate is not None:
        missed = f"{report.miss_rate:.3%} of queries are slower than {seconds_text(report.slo_s)}"
        rows.append(("missed", missed))
    return rows


# --- a fleet of plans -------------------------------------------------------------------------------------------------


def fleet_report(name: str, quantile: float, seed: int, fleet: FleetPlan, written: list[str]) -> FleetReport:
    """Describe a fleet."""
    admission, relaxation = fleet.admission, fleet.relaxation
    admitted = None if admission is None else _set_report(admission.fleet)
    relaxed = None if relaxation is None else _set_report(relaxation.fleet)
    return FleetReport.of(
        fleet,
        fleet.effort,
        name=name,
        quantile=quantile,
        seed=seed,
        pipelines=_member_reports(fleet.plans),
        admission=None if admission is None else AdmissionReport.of(admission, fleet=admitted),
        relaxation=None if relaxed is None else SloRelaxationReport.of(relaxation, fleet=relaxed),
        notes=[_FLEET_IN_SAMPLE] if fleet.plans or admission is not None or relaxation is not None else [],
        written=written,
    )


def _set_report(fleet: FleetPlan) -> FleetSetReport | None:
    if fleet.usd_per_hour is None or fleet.lower_bound_usd_per_hour is None or fleet.gap is None:
        return None
    return FleetSetReport.of(fleet, pipelines=_member_reports(fleet.plans))


def _member_reports(plans: Mapping[str, Plan]) -> dict[str, FleetMemberReport]:
    return {name: FleetMemberReport.of(plan, choices=choice_reports(plan)) for name, plan in plans.items()}


def show_fleet(console: Console, report: FleetReport) -> None:
    """What is used of what, what every pipeline runs on, and what would do where not all fit."""
    console.print(
        f"[bold]{escape(report.name)}[/bold]: P{percent_text(report.quantile)} of every pipeline within its objective\n"
    )
    if report.usd_per_hour is not None:
        show_parts(console, _device_table(report.devices))
        console.print(_member_table(report.pipelines))
        if len(report.pipelines) > _MEMBERS_LISTED:
            console.print(f"… and {len(report.pipelines) - _MEMBERS_LISTED:,} cheaper ones (--out, --json)")
        console.print()
    console.print(figures(_fleet_figures(report)))
    if report.reason is not None:
        console.print(f"[yellow]{report.status}[/yellow]: {escape(report.reason)}")
    if report.admission is not None:
        either = "admit" if report.relaxation is None else "either admit"
        _show_admission(console, report.admission, either)
    if report.relaxation is not None:
        _show_relaxation(console, report.relaxation)
    show_notes(console, report.notes, report.written)


def _fleet_figures(report: FleetReport) -> list[tuple[str, str]]:
    rows = [("status", f"{report.status}  ({report.method})")]
    if report.usd_per_hour is not None:
        rows.append(("cost", f"{usd_text(report.usd_per_hour)} $/h"))
    if report.lower_bound_usd_per_hour is not None:
        gap = (
            "" if report.gap is None else f"  (gap {report.gap:.3%})" if report.gap else "  (proven cheapest)"
        )
        rows.append(("lower bound", f"{usd_text(report.lower_bound_usd_per_hour)} $/h{gap}"))
    if report.budget_usd_per_hour is not None:
        rows.append(("budget", f"{report.budget_usd_per_hour:,.10g} $/h"))
    return rows


def _device_table(devices: Mapping[str, DeviceUseReport]) -> Table:
    used = table("hardware", ">used", ">limit", ">$/h", ">one more saves")
    for name, use in devices.items():
        saves = use.one_more_usd_per_hour
        used.add_row(
            escape(name),
            f"{use.used:,}",
            "" if use.limit is None else f"{use.limit:,}",
            usd_text(use.usd_per_hour),
            "" if saves is None else f"{usd_text(saves)} $/h" if saves else "nothing",
        )
    return used


def _member_table(pipelines: Mapping[str, FleetMemberReport]) -> Table:
    accurate = [">accuracy"] if any(member.accuracy is not None for member in pipelines.values()) else []
    members = table("pipeline", ">$/h", ">alone", ">certificate", ">SLO", *accurate, "runs on")
    shown = list(pipelines.items())
    if len(shown) > _MEMBERS_LISTED:
        shown = sorted(shown, key=lambda item: -item[1].usd_per_hour)[:_MEMBERS_LISTED]
    for name, member in shown:
        members.add_row(
            escape(name),
            usd_text(member.usd_per_hour),
            usd_text(member.alone_usd_per_hour),
            seconds_text(member.certificate_s),
            seconds_text(member.slo_s),
            *("" if member.accuracy is None else f"{member.accuracy:.4g}" for _ in accurate),
            _runs_on(member),
        )
    return members


def _runs_on(member: FleetMemberReport) -> str:
    used: Counter[str] = Counter()
    for choice in member.choices.values():
        used[choice.hardware] += choice.replicas
    return escape(", ".join(f"{count} {name}" for name, count in used.items()))


def _show_admission(console: Console, admission: AdmissionReport, either: str) -> None:
    proof = (
        "the most that fits"
        if admission.weight >= admission.weight_bound
        else (f"no set of more than {admission.weight_bound:g} fits")
    )
    left_out = ", ".join(admission.left_out[:_MOST_NAMED])
    more = len(admission.left_out) - _MOST_NAMED
    cost = "" if admission.fleet is None else f", for {usd_text(admission.fleet.usd_per_hour)} $/h"
    console.print(
        f"[bold]{either}[/bold] weight {admission.weight:g} of {admission.total_weight:g}{cost} ({proof}), "
        f"without {escape(left_out)}{f' and {more:,} more' if more > 0 else ''}"
    )


def _show_relaxation(console: Console, relaxation: SloRelaxationReport) -> None:
    proof = "is proven not to be enough" if relaxation.proven else "was not found to be enough"
    console.print(
        f"[bold]or relax[/bold] every objective to {relaxation.factor:.4g} times what it is: then all fit, for "
        f"{usd_text(relaxation.fleet.usd_per_hour)} $/h ({relaxation.too_small:.4g} times {proof})"
    )
