"""A plan and its re-check for people and programs: the documents of ``mipplan plan`` and ``verify``, their tables."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from rich.console import Console
from rich.markup import escape

from mipplan.core import MICRODOLLARS_PER_DOLLAR, NS_PER_S, Fault
from mipplan.reporting.documents import (
    BucketReport,
    ChoiceReport,
    CriticalStageReport,
    ErrorReport,
    PlanReport,
    ReplayReport,
    TraceReport,
    VerifyReport,
)
from mipplan.reporting.text import (
    LABELS,
    figures,
    percent_text,
    seconds_text,
    show_notes,
    table,
    trace_text,
)
from mipplan.result import Explanation, Plan, ReplayResult
from mipplan.trace import Trace
from mipplan.verification import Verification

IN_SAMPLE = (
    "in-sample: planned and judged on the same trace; judge it on another one too (mipplan replay, verify)"
)


def trace_report(trace: Trace) -> TraceReport:
    """Describe a trace; rate and CV are null where all queries arrive at once."""
    rate_rps, cv = (value if math.isfinite(value) else None for value in (trace.rate_rps, trace.cv))
    return TraceReport.of(trace, queries=len(trace), rate_rps=rate_rps, cv=cv)


def choice_reports(plan: Plan) -> dict[str, ChoiceReport]:
    """Configuration of every stage of a plan, and what it costs."""
    prices = {name: device.microusd_per_hour for name, device in plan.profiles.hardware.items()}
    return {
        stage: ChoiceReport.of(
            choice, usd_per_hour=choice.replicas * prices[choice.hardware] / MICRODOLLARS_PER_DOLLAR
        )
        for stage, choice in plan.choices.items()
    }


def error_report(
    kind: Literal["input", "solver", "no_plan", "interrupted"], message: str, faults: Sequence[Fault]
) -> ErrorReport:
    """Describe why a command could not do its work."""
    return ErrorReport(error=kind, message=message, faults=list(faults))


def plan_report(
    plan: Plan,
    trace: Trace,
    replayed: ReplayResult | None,
    explanation: Explanation | None,
    remarks: list[str],
    plan_file: str | None,
) -> PlanReport:
    """Describe a plan made on `trace`, with its replay on the same trace if there was one."""
    budget = plan.budget_microusd_per_hour
    buckets = None if plan.envelope is None else [BucketReport(burst=b, rate_rps=r) for b, r in plan.envelope]
    return PlanReport.of(
        plan,
        pipeline=plan.pipeline.name,
        margin_s=plan.margin_ns / NS_PER_S,
        envelope=buckets,
        budget_usd_per_hour=None if budget is None else budget / MICRODOLLARS_PER_DOLLAR,
        choices=choice_reports(plan),
        trace=trace_report(trace),
        replay=None if replayed is None else replayed.summary(plan.slo_s),
        explanation=None if explanation is None else explanation.lines(),
        remarks=remarks,
        plan_file=plan_file,
    )


def show_plan(console: Console, report: PlanReport) -> None:
    """Plan, cost, lower bound, bound, certificate and replayed quantiles."""
    console.print(f"[bold]{escape(report.pipeline)}[/bold] on {trace_text(report.trace)}")
    if not report.choices:
        console.print(f"\n[bold red]{report.status}[/bold red]: {escape(report.reason or '')}")
        return
    choices = table("stage", "hardware", ">batch", ">replicas", ">$/h")
    for stage, choice in report.choices.items():
        row = (stage, choice.hardware, str(choice.batch), str(choice.replicas), f"{choice.usd_per_hour:.4f}")
        choices.add_row(*(escape(cell) for cell in row))
    console.print()
    console.print(choices)
    console.print()
    console.print(figures(_plan_figures(report)))
    if report.reason:
        console.print(f"\n{escape(report.reason)}")
    if report.explanation is not None:
        console.print()
        for line in report.explanation:
            console.print(escape(line))
        console.print()
    show_notes(console, [*report.remarks, IN_SAMPLE], [report.plan_file] if report.plan_file else [])


def _plan_figures(report: PlanReport) -> list[tuple[str, str]]:
    by = ", ".join(dict.fromkeys(map(str, (report.formulation, report.solver))))  # "auto" once is enough
    rows = [("status", f"{report.status}  ({by})"), ("cost", f"{report.usd_per_hour:.4f} $/h")]
    if report.budget_usd_per_hour is not None:
        proof = _proof(report, "proven fastest within it")
        rows.append(("budget", f"{report.budget_usd_per_hour:.4f} $/h  ({proof})"))
    else:
        proof = _proof(report, "proven cheapest")
        share = "every query" if report.envelope is not None else f"P{percent_text(report.quantile)}"
        rows.append(("lower bound", f"{report.lower_bound_usd_per_hour:.4f} $/h  ({proof})"))
        rows.append(("objective", f"{share} ≤ {seconds_text(report.slo_s)}"))
    if report.headroom != 1.0 or report.margin_s:
        margin = f", {seconds_text(report.margin_s)} of the objective kept back" if report.margin_s else ""
        rows.append(("headroom", f"{report.headroom:g} × the traffic{margin}"))
    rows.append(("bound", f"{seconds_text(report.bound_s or 0)}  (relaxation inside the MILP)"))
    scope = "this trace" if report.headroom == 1.0 else f"{report.headroom:g} × this trace"
    if report.envelope is not None:
        scope = "all traffic inside the arrival curve, every query"
        rows.append(("arrival curve", _envelope_text(report.envelope)))
    certificate = seconds_text(report.certificate_s or 0)
    rows.append(("certificate", f"{certificate}  (proven for {scope}, oldest first)"))
    return rows if report.replay is None else rows + _replay_figures(report.replay)


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


def verify_report(verification: Verification, plan_file: str, trace: Trace) -> VerifyReport:
    """Describe the re-check of a plan file."""
    plan, certificate, worst_ns = verification.plan, verification.certificate, verification.worst_case_ns
    return VerifyReport.of(
        verification,
        plan_file=plan_file,
        slo_s=plan.slo_s,
        quantile=plan.quantile,
        usd_per_hour=plan.usd_per_hour,
        certificate_s=None if certificate is None else certificate.bound_s,
        worst_case_s=None if worst_ns is None else worst_ns / NS_PER_S,
        critical_path=[
            CriticalStageReport(
                stage=step.stage,
                latency_s=step.latency_ns / NS_PER_S,
                wait_s=step.wait_ns / NS_PER_S,
                delay_s=step.delay_ns / NS_PER_S,
            )
            for step in (certificate.critical_path if certificate is not None else ())
        ],
        trace=trace_report(trace),
    )


def show_verification(console: Console, report: VerifyReport) -> None:
    """Verified or not, and why."""
    console.print(f"[bold]{escape(report.plan_file)}[/bold] on {trace_text(report.trace)}\n")
    rows = [("objective", f"P{percent_text(report.quantile)} ≤ {seconds_text(report.slo_s)}")]
    if report.certificate_s is not None:
        certificate = seconds_text(report.certificate_s)
        rows.append(("certificate", f"{certificate}  (recomputed, oldest first, no solver)"))
        rows.append(("critical path", " → ".join(map(_step_text, report.critical_path))))
    if report.worst_case_s is not None:
        worst = seconds_text(report.worst_case_s)
        rows.append(("worst case", f"{worst}  (all traffic inside the arrival curve)"))
    console.print(figures(rows))
    console.print()
    show_notes(console, report.remarks)
    if report.verified:
        console.print("[bold green]verified[/bold green]: the certificate keeps the objective")
        return
    console.print("[bold red]not verified[/bold red]")
    for problem in report.problems:
        console.print(f"  {escape(problem)}")


def _step_text(step: CriticalStageReport) -> str:
    delay = f", after a delay of {seconds_text(step.delay_s)}" if step.delay_s else ""
    return f"{step.stage} (T {seconds_text(step.latency_s)}, wait {seconds_text(step.wait_s)}{delay})"
