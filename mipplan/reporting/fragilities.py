"""What a plan bears and what else could be had: ``mipplan fragility``, ``pareto`` and ``menu``, and their tables."""

from __future__ import annotations

from typing import Annotated, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mipplan.perturbation import Fragility
from mipplan.pipeline import Pipeline
from mipplan.reporting.catalog import sample_notes
from mipplan.reporting.documents import ChoiceReport, Finite, Report, TraceReport
from mipplan.reporting.plans import choice_reports
from mipplan.reporting.text import percent_text, seconds_text, show_notes, show_parts, table, trace_text
from mipplan.trace import Trace
from mipplan.variants import Front, PlanMenu

_SAME_DRAWS = (
    "all replays use the same draws (but for other seeds) and start empty; a finite trace hides overload, so see how "
    "busy the busiest stage is"
)
_NOT_MONOTONE = (
    "exact: the objective is kept under a factor smaller by what is named; replays are not monotone, so one that is "
    "smaller still may miss, too"
)
_RETIMED = "{} dispatch: with service times the tables by which batches are timed grow, as if profiled anew"


class FragilityPointReport(Report):
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


class FragilityReport(Report):
    """``mipplan fragility --json``."""

    command: Literal["fragility"] = "fragility"
    plan_file: str
    pipeline: Annotated[str, "plan.pipeline.name"]
    usd_per_hour: Annotated[float | None, "plan.usd_per_hour"]
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


def fragility_report(fragility: Fragility, plan_file: str, written: list[str]) -> FragilityReport:
    """Describe what a plan bears."""
    return FragilityReport.of(
        fragility, plan_file=plan_file, notes=_fragility_notes(fragility), written=written
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
    objective = f"P{percent_text(report.quantile)} ≤ {seconds_text(report.slo_s)}"
    cost = "" if report.usd_per_hour is None else f", {report.usd_per_hour:.4f} $/h"
    under = f"{report.dispatch} dispatch, {report.discipline.replace('_', ' ')}, seed {report.seed}"
    console.print(f"[bold]{escape(report.pipeline)}[/bold]: {objective}{cost}; {under}")
    console.print(f"[bold]on[/bold]  {trace_text(report.trace)}\n")
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
    points = table("perturbed", "by", quantile, ">slower", "", "busiest stage", ">CV of gaps")
    points.add_row("nothing", *_cells(report.unperturbed))
    for axis in report.axes:
        for number, point in enumerate(axis.points):
            points.add_row("" if number else axis.title, *_cells(point))
    return points


def _cells(point: FragilityPointReport) -> list[str]:
    mark = "[green]kept[/green]" if point.kept else "[bold red]MISSED[/bold red]"
    label = escape(point.label)
    if point.latency_s is None or point.miss_rate is None:
        return [label, "", "", mark, "no replica left", ""]
    busiest = f"{escape(point.busiest or '')} {point.utilisation or 0.0:.0%}"
    cv = "" if point.cv is None else f"{point.cv:.2f}"
    return [label, seconds_text(point.latency_s), f"{point.miss_rate:.3%}", mark, busiest, cv]


# --- cost against accuracy, and menus --------------------------------------------------------------------------------


class OfferReport(Report):
    """One plan of several to choose from."""

    status: str
    usd_per_hour: float
    lower_bound_usd_per_hour: float | None
    accuracy: float | None
    certificate_s: float
    choices: dict[str, ChoiceReport]


class OffersReport(Report):
    """``mipplan pareto --json`` and ``mipplan menu --json``."""

    command: Literal["pareto", "menu"]
    pipeline: str
    objective: str
    trace: TraceReport
    by: str
    within: float | None
    complete: bool
    reason: str | None
    beyond_usd_per_hour: float | None
    plans: list[OfferReport]
    written: list[str]


def offers_report(
    pipeline: Pipeline, trace: Trace, found: Front | PlanMenu, written: list[str]
) -> OffersReport:
    """Describe a front of cost and accuracy, or a menu."""
    plans = [OfferReport.of(plan, choices=choice_reports(plan)) for plan in found.plans]
    is_menu = isinstance(found, PlanMenu)
    return OffersReport.of(
        found,
        command="menu" if is_menu else "pareto",
        pipeline=pipeline.name,
        objective=found.plans[0].objective.text if found.plans else "",
        trace=trace,
        by=found.by if isinstance(found, PlanMenu) else "accuracy",
        within=found.within if isinstance(found, PlanMenu) else None,
        beyond_usd_per_hour=None if isinstance(found, PlanMenu) else found.beyond_usd_per_hour,
        plans=plans,
        written=written,
    )


def show_offers(console: Console, report: OffersReport) -> None:
    """One row per plan, and what is proven of all of them."""
    console.print(f"[bold]{escape(report.pipeline)}[/bold] on {trace_text(report.trace)}\n")
    if report.plans:
        stages = list(report.plans[0].choices)
        rows = table(">$/h", ">accuracy", ">certificate", *stages)
        for plan in report.plans:
            accuracy = "–" if plan.accuracy is None else f"{plan.accuracy:.4g}"
            cells = [
                f"{choice.replicas} × {' on '.join(filter(None, (choice.variant, choice.hardware)))}"
                for choice in plan.choices.values()
            ]
            first = (f"{plan.usd_per_hour:.4f}", accuracy, seconds_text(plan.certificate_s))
            rows.add_row(*(escape(cell) for cell in (*first, *cells)))
        show_parts(console, rows)
    what = "menu" if report.command == "menu" else "front"
    notes = [
        f"the {what} is {'complete: proven, there are no others' if report.complete else 'not complete'}"
    ]
    if report.beyond_usd_per_hour is not None:
        notes.append(
            f"whatever is more accurate than the last costs at least {report.beyond_usd_per_hour:.4f} $/h"
        )
    if report.within is not None:
        notes.append(f"within {report.within:.3g} of the cheapest, and different by {report.by}")
    show_notes(console, [*notes, *([report.reason] if report.reason else [])], report.written)
