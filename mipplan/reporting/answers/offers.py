"""Several plans to choose from, or the best by weights: the documents of ``mipplan pareto``, ``menu`` and ``weigh``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from rich.console import Console
from rich.markup import escape

from mipplan.core import usd_text
from mipplan.pipeline import Pipeline
from mipplan.reporting.documents import BriefReport, ChoiceReport, PlanReport, Report, TraceReport
from mipplan.reporting.plans import choice_reports, show_plan
from mipplan.reporting.text import seconds_text, show_notes, show_parts, table, traffic_parts, traffic_text
from mipplan.trace import Trace
from mipplan.variants import Front, PlanMenu


class OfferReport(BriefReport):
    """One plan of several to choose from."""

    status: str
    usd_per_hour: float
    lower_bound_usd_per_hour: float | None
    accuracy: float | None
    certificate_s: float
    choices: dict[str, ChoiceReport]
    power_w: float | None = None


class OffersReport(BriefReport):
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
    # Of several traces and seeds: the draws of each, and all traces.
    seeds: int | None = None
    traces: list[TraceReport] | None = None


class WeighReport(Report):
    """``mipplan weigh --json``."""

    command: Literal["weigh"] = "weigh"
    alpha: Annotated[float, "weights.accuracy"]
    beta: Annotated[float, "weights.cost"]
    delta: Annotated[float, "weights.batch"]
    value: float | None
    bound: float | None
    optimal: bool
    plan: PlanReport


def offers_report(
    pipeline: Pipeline, traces: Sequence[Trace], seeds: int, found: Front | PlanMenu, written: list[str]
) -> OffersReport:
    """Describe a front of cost and accuracy, or a menu."""
    plans = [OfferReport.of(plan, choices=choice_reports(plan), power_w=plan.power_w) for plan in found.plans]
    kept = [
        f"{one.objective.text} (guarantee {one.guarantee}, {one.dispatch} dispatch, {one.discipline.replace('_', ' ')})"
        for one in found.plans[:1]
    ]
    return OffersReport.of(
        found,
        command="menu" if isinstance(found, PlanMenu) else "pareto",
        pipeline=pipeline.name,
        objective="".join(kept),
        **traffic_parts(traces, seeds),
        by=found.by,
        within=found.within if isinstance(found, PlanMenu) else None,
        beyond_usd_per_hour=None if isinstance(found, PlanMenu) else found.beyond_usd_per_hour,
        plans=plans,
        written=written,
    )


def show_offers(console: Console, report: OffersReport) -> None:
    """One row per plan, and what is proven of all of them."""
    console.print(f"{traffic_text(report.pipeline, report.traces or [report.trace])}\n")
    if report.plans:
        stages = map(escape, report.plans[0].choices)
        power = [] if report.plans[0].power_w is None else [">W at most"]
        rows = table(">$/h", ">accuracy", *power, ">certificate", *stages)
        for plan in report.plans:
            accuracy = "–" if plan.accuracy is None else f"{plan.accuracy:.4g}"
            cells = [
                f"{choice.replicas} × {' on '.join(filter(None, (choice.variant, choice.hardware)))}"
                for choice in plan.choices.values()
            ]
            watts = [f"{plan.power_w:.6g}" for _ in power]
            first = (usd_text(plan.usd_per_hour), accuracy, *watts, seconds_text(plan.certificate_s))
            rows.add_row(*(escape(cell) for cell in (*first, *cells)))
        show_parts(console, rows)
    what = "menu" if report.command == "menu" else "front"
    proof = "complete: proven, there are no others" if report.complete else "not complete"
    notes = [f"all keep {report.objective}"] * bool(report.plans) + [f"the {what} is {proof}"]
    if report.beyond_usd_per_hour is not None:
        notes.append(
            f"whatever {'draws less' if report.by == 'energy' else 'is more accurate'} than the last costs at least "
            f"{usd_text(report.beyond_usd_per_hour)} $/h"
        )
    if report.within is not None:
        notes.append(f"within {report.within:.3g} of the cheapest, and different by {report.by}")
    show_notes(console, [*notes, *([report.reason] if report.reason else [])], report.written)


def show_weighing(console: Console, report: WeighReport) -> None:
    """The plan, as `show_plan` does, and what is proven of its value."""
    show_plan(console, report.plan, f"of the greatest value{', proven' if report.optimal else ' found'}")
    if report.value is not None:
        proof = "proven the greatest" if report.optimal else f"no plan has more than {report.bound:.6g}"
        value = f"{report.value:.6g} = α·accuracy − β·$/h − δ·batch sizes"
        weights = f"α = {report.alpha:g}, β = {report.beta:g}, δ = {report.delta:g}"
        console.print(f"value {value}, with {weights}: {proof}")
