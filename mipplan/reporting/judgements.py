"""Plans judged, for people and programs: the documents of ``mipplan verify`` and ``fragility``, with tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Annotated, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mipplan.core import NS_PER_S, usd_text
from mipplan.perturbation import Fragility
from mipplan.reporting.catalog import sample_notes
from mipplan.reporting.documents import (
    BriefReport,
    CriticalStageReport,
    Finite,
    Report,
    RunClassReport,
    SampleReport,
    TraceReport,
)
from mipplan.reporting.text import (
    figures,
    percent_text,
    seconds_text,
    show_notes,
    show_parts,
    table,
    trace_text,
)
from mipplan.result import SampleFigure
from mipplan.tokens import read_traces
from mipplan.trace import Trace
from mipplan.verification import Verification

#: At most this many samples are listed in a table, the worst ones of more.
_MOST_SAMPLES = 16
_SAME_DRAWS = (
    "all replays use the same draws (but for other seeds) and start empty; a finite trace hides overload, so see how "
    "busy the busiest stage is"
)
_NOT_MONOTONE = (
    "exact: the objective is kept under a factor smaller by what is named; replays are not monotone, so one that is "
    "smaller still may miss, too"
)
_RETIMED = "{} dispatch: with service times the tables by which batches are timed grow, as if profiled anew"


# --- on every sample, without a solver --------------------------------------------------------------------------------


class VerifyReport(BriefReport):
    """``mipplan verify --json``."""

    command: Literal["verify"] = "verify"
    plan_file: str
    verified: bool
    problems: list[str]
    remarks: list[str]
    objective: Annotated[str, "plan.objective.text"]
    slo_s: float
    quantile: float
    dispatch: str
    laws: dict[str, str]
    discipline: str
    usd_per_hour: float | None
    certificate_s: Annotated[float | None, "certificate.bound_s"]
    runs: Annotated[RunClassReport | None, "certificate.runs"]
    worst_case_s: float | None
    critical_path: list[CriticalStageReport]
    trace: TraceReport
    samples: list[SampleReport] | None = None


def sample_reports(
    samples: Sequence[SampleFigure], replayed_ns: Mapping[str, int] = MappingProxyType({})
) -> list[SampleReport] | None:
    """The figures of each of several samples; None if there are not several."""
    return [
        SampleReport(
            name=one.name,
            seed=one.seed,
            certificate_s=None if one.certificate_ns is None else one.certificate_ns / NS_PER_S,
            replayed_s=replayed_ns[one.name] / NS_PER_S if one.name in replayed_ns else None,
        )
        for one in samples
    ] or None


def sample_tables(samples: list[SampleReport] | None) -> list[Table]:
    """Certificate and replay on each of several samples, the worst first."""
    if samples is None:
        return []
    is_replayed = any(one.replayed_s is not None for one in samples)
    rows = table("sample", ">certificate", *([">replayed"] if is_replayed else []))
    worst_first = sorted(samples, key=lambda one: -(one.certificate_s or 0.0))
    for one in worst_first[:_MOST_SAMPLES]:
        values = (one.certificate_s, one.replayed_s)[: 1 + is_replayed]
        rows.add_row(escape(one.name), *("" if value is None else seconds_text(value) for value in values))
    if len(samples) > _MOST_SAMPLES:
        rows.add_row(f"… and {len(samples) - _MOST_SAMPLES} more (--json)")
    return [rows]


def verify_report(verification: Verification, plan_file: str, trace: Trace | Sequence[Trace]) -> VerifyReport:
    """Describe the re-check of a plan file."""
    certificate, traces = verification.certificate, read_traces(trace)
    return VerifyReport.of(
        verification,
        verification.plan,
        plan_file=plan_file,
        remarks=[*verification.remarks, *sample_notes(verification.plan, traces)],
        critical_path=[] if certificate is None else certificate.critical_path,
        trace=traces[0],
        samples=None if certificate is None else sample_reports(certificate.samples),
    )


def show_verification(console: Console, report: VerifyReport) -> None:
    """Verified or not, and why."""
    console.print(f"[bold]{escape(report.plan_file)}[/bold] on {trace_text(report.trace)}\n")
    rows = [("objective", report.objective)]
    if report.certificate_s is not None:
        certificate = seconds_text(report.certificate_s)
        law = "" if report.dispatch == "eager" else f", {report.dispatch} dispatch"
        under = f"{report.discipline.replace('_', ' ')}{law}"
        worst = "" if report.samples is None else f", the worst of {len(report.samples)} samples"
        rows.append(("certificate", f"{certificate}  (recomputed, {under}, no solver{worst})"))
        rows.append(("critical path", " → ".join(map(_step_text, report.critical_path))))
    if report.worst_case_s is not None:
        worst = seconds_text(report.worst_case_s)
        rows.append(("worst case", f"{worst}  (all traffic inside the arrival curve)"))
    show_parts(console, figures(rows), *sample_tables(report.samples))
    show_notes(console, report.remarks)
    if report.verified:
        console.print("[bold green]verified[/bold green]: stable, and the certificate keeps the objective")
        return
    console.print("[bold red]not verified[/bold red]")
    for problem in report.problems:
        console.print(f"  {escape(problem)}")


def _step_text(step: CriticalStageReport) -> str:
    delay = f", after a delay of {seconds_text(step.delay_s)}" if step.delay_s else ""
    return f"{step.stage} (T {seconds_text(step.latency_s)}, wait {seconds_text(step.wait_s)}{delay})"


# --- under perturbations ---------------------------------------------------------------------------------------------


class FragilityPointReport(BriefReport):
    """A plan replayed under one perturbation."""

    value: float | int | str
    label: str
    size: float
    kept: Annotated[bool, "keeps"]
    latency_s: Annotated[float | None, "quantile_s"]
    miss_rate: float | None
    busiest: str | None
    utilisation: float | None
    cv: Finite
    sample: Annotated[str | None, "sample"] = None


class FragilityBreakReport(Report):
    """The least perturbation along an axis that misses, as far as is known."""

    axis: str
    value: float | int | str
    label: str
    size: float
    resolution: float | None
    how: str


class AxisReport(Report):
    """One way of perturbing."""

    name: str
    title: str
    obstacle: str | None
    points: list[FragilityPointReport]
    first_break: FragilityBreakReport | None
    verdict: str


class FragilityReport(BriefReport):
    """``mipplan fragility --json``."""

    command: Literal["fragility"] = "fragility"
    plan_file: str
    pipeline: Annotated[str, "plan.pipeline.name"]
    usd_per_hour: Annotated[float | None, "plan.usd_per_hour"]
    objective: Annotated[str, "plan.objective.text"]
    slo_s: Annotated[float, "plan.slo_s"]
    quantile: float
    dispatch: Annotated[str, "plan.dispatch"]
    discipline: str
    engine: str
    seed: int
    trace: TraceReport
    kept: Annotated[bool, "keeps"]
    unperturbed: FragilityPointReport
    first_break: FragilityBreakReport | None
    breaks_first: str
    axes: list[AxisReport]
    replays: int
    left_out: list[str]
    notes: list[str]
    written: list[str]
    samples: list[str] | None = None


def fragility_report(fragility: Fragility, plan_file: str, written: list[str]) -> FragilityReport:
    """Describe what a plan bears."""
    return FragilityReport.of(
        fragility,
        plan_file=plan_file,
        notes=_fragility_notes(fragility),
        written=written,
        samples=list(fragility.samples) or None,
    )


def _fragility_notes(fragility: Fragility) -> list[str]:
    notes = [_SAME_DRAWS]
    if any(axis.first_break is not None and axis.first_break.is_exact for axis in fragility.axes):
        notes.append(_NOT_MONOTONE)
    if fragility.plan.dispatch != "eager":
        notes.append(_RETIMED.format(fragility.plan.dispatch))
    notes += sample_notes(fragility.plan, fragility.trace)
    if fragility.left_out:
        notes.append(f"interrupted before these were done: {', '.join(fragility.left_out)}")
    return notes


def show_fragility(console: Console, report: FragilityReport) -> None:
    """What breaks first, from where on each axis breaks, and the figures of every replay."""
    cost = "" if report.usd_per_hour is None else f", {usd_text(report.usd_per_hour)} $/h"
    under = f"{report.dispatch} dispatch, {report.discipline.replace('_', ' ')}, seed {report.seed}"
    console.print(f"[bold]{escape(report.pipeline)}[/bold]: {report.objective}{cost}; {under}")
    console.print(f"[bold]on[/bold]  {trace_text(report.trace)}")
    if report.samples is not None:
        names = escape("; ".join(report.samples))
        console.print(f"[bold]the worst of[/bold] {names}: figures are of the worst in each case")
    console.print()
    show_parts(console, _axis_table(report), _point_table(report))
    console.print(f"[bold]breaks first[/bold]: {escape(report.breaks_first)}")
    show_notes(console, report.notes, report.written)


def _axis_table(report: FragilityReport) -> Table:
    axes = table("perturbed", "objective", "found")
    for axis in report.axes:
        colour = "yellow" if axis.obstacle or not axis.points else "green"
        if any(not point.kept for point in axis.points):
            colour = "bold red"
        verdict = f"[{colour}]{escape(axis.verdict)}[/{colour}]"
        axes.add_row(axis.title, verdict, axis.first_break.how if axis.first_break else "")
    return axes


def _point_table(report: FragilityReport) -> Table:
    quantile = f">P{percent_text(report.quantile)}"
    where = [] if report.samples is None else ["worst on"]
    points = table("perturbed", "by", quantile, ">slower", "", "busiest stage", ">CV of gaps", *where)

    def cells(point: FragilityPointReport) -> list[str]:
        return [*_cells(point), *(escape(point.sample or "") for _ in where)]

    points.add_row("nothing", *cells(report.unperturbed))
    for axis in report.axes:
        for number, point in enumerate(axis.points):
            points.add_row("" if number else axis.title, *cells(point))
    return points


def _cells(point: FragilityPointReport) -> list[str]:
    mark = "[green]kept[/green]" if point.kept else "[bold red]MISSED[/bold red]"
    label = escape(point.label)
    if point.latency_s is None or point.miss_rate is None:
        return [label, "", "", mark, "no replica left", ""]
    busiest = f"{escape(point.busiest or '')} {point.utilisation or 0.0:.0%}"
    cv = "" if point.cv is None else f"{point.cv:.2f}"
    return [label, seconds_text(point.latency_s), f"{point.miss_rate:.3%}", mark, busiest, cv]
