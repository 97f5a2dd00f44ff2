"""A comparison for people and programs: the document of ``mipplan compare``, and its tables."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mipplan.comparison import Comparison, ComparisonRow, Contender, Judgement
from mipplan.core import MICRODOLLARS_PER_DOLLAR, NS_PER_S, format_duration
from mipplan.pipeline import Pipeline
from mipplan.reporting.documents import ChoiceReport, TraceReport
from mipplan.reporting.summaries import trace_report
from mipplan.result import Plan

IN_SAMPLE = (
    "in sample: judged on what was planned on (bound and certificate too); held out: on arrivals and draws that no "
    "planner saw"
)


class _Report(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class JudgementReport(_Report):
    """A plan replayed on one part of the trace."""

    seed: int
    queries: int
    latency_s: float
    misses: int
    miss_rate: float
    kept: bool


class ComparisonRowReport(_Report):
    """One planner."""

    planner: str
    status: str
    reason: str | None
    proof: str | None
    usd_per_hour: float | None
    lower_bound_usd_per_hour: float | None
    bound_s: float | None
    certificate_s: float | None
    choices: dict[str, ChoiceReport]
    planning_s: float
    estimator_calls: int
    in_sample: JudgementReport | None
    held_out: JudgementReport | None
    over_seeds: list[JudgementReport]
    median_latency_s: float | None
    worst_latency_s: float | None
    median_miss_rate: float | None
    worst_miss_rate: float | None


class ComparisonReport(_Report):
    """``mipplan compare --json``."""

    command: Literal["compare"] = "compare"
    pipeline: str
    slo_s: float
    quantile: float
    discipline: str
    split: float
    seed: int
    seeds: list[int]
    planned_on: TraceReport
    judged_on: TraceReport
    rows: list[ComparisonRowReport]
    left_out: list[str]
    notes: list[str]
    written: list[str]


def comparison_report(pipeline: Pipeline, comparison: Comparison, written: list[str]) -> ComparisonReport:
    """Describe a comparison, cheapest plan first."""
    return ComparisonReport(
        pipeline=pipeline.name,
        slo_s=comparison.slo_s,
        quantile=comparison.quantile,
        discipline=comparison.discipline,
        split=comparison.split,
        seed=comparison.seed,
        seeds=list(comparison.seeds),
        planned_on=trace_report(comparison.planned_on),
        judged_on=trace_report(comparison.judged_on),
        rows=[_row_report(row) for row in comparison.by_cost],
        left_out=[contender.value for contender in comparison.left_out],
        notes=_notes(pipeline, comparison),
        written=written,
    )


def _row_report(row: ComparisonRow) -> ComparisonRowReport:
    plan = row.plan
    return ComparisonRowReport(
        planner=row.planner.value,
        status=plan.status.value,
        reason=plan.reason,
        proof=None if plan.refinement is None else plan.refinement.proof,
        usd_per_hour=plan.usd_per_hour,
        lower_bound_usd_per_hour=plan.lower_bound_usd_per_hour,
        bound_s=plan.bound_s,
        certificate_s=row.certificate_s,
        choices=choice_reports(plan),
        planning_s=row.planning_s,
        estimator_calls=row.estimator_calls,
        in_sample=_judgement_report(row.in_sample),
        held_out=_judgement_report(row.held_out),
        over_seeds=[report for report in map(_judgement_report, row.over_seeds) if report is not None],
        median_latency_s=row.median_quantile_s,
        worst_latency_s=row.worst_quantile_s,
        median_miss_rate=row.median_miss_rate,
        worst_miss_rate=row.worst_miss_rate,
    )


def choice_reports(plan: Plan) -> dict[str, ChoiceReport]:
    """Configuration of every stage of a plan, and what it costs."""
    return {
        stage: ChoiceReport(
            hardware=choice.hardware,
            batch=choice.batch,
            replicas=choice.replicas,
            usd_per_hour=choice.replicas
            * plan.profiles.hardware[choice.hardware].microusd_per_hour
            / MICRODOLLARS_PER_DOLLAR,
        )
        for stage, choice in plan.choices.items()
    }


def _judgement_report(judged: Judgement | None) -> JudgementReport | None:
    if judged is None:
        return None
    return JudgementReport(
        seed=judged.seed,
        queries=judged.queries,
        latency_s=judged.quantile_s,
        misses=judged.misses,
        miss_rate=judged.miss_rate,
        kept=judged.keeps,
    )


def _notes(pipeline: Pipeline, comparison: Comparison) -> list[str]:
    """What must be known to read the figures."""
    notes = [IN_SAMPLE]
    compared = {row.planner for row in comparison.rows}
    if not pipeline.is_random:
        notes.append("this pipeline draws nothing at random: any seed gives the same replay")
    if comparison.discipline != "oldest_first":
        notes.append("the certificate is no theorem under fifo, where tokens overtake")
    elif Contender.INFERLINE in compared:
        notes.append(
            "inferline plans by replays under fifo, as published, and is judged under oldest first like all"
        )
    if comparison.left_out:
        notes.append(f"interrupted before these were done: {', '.join(comparison.left_out)}")
    return notes


def show_comparison(console: Console, report: ComparisonReport) -> None:
    """Who keeps the objective where, at what cost; how it was planned; what must be known to read it."""
    objective = f"P{100 * report.quantile:g} ≤ {_seconds(report.slo_s)}"
    discipline = report.discipline.replace("_", " ")
    console.print(f"[bold]{escape(report.pipeline)}[/bold]: {objective}, all judged under {discipline}")
    console.print(f"[bold]planned on[/bold]  {_trace_text(report.planned_on)}, seed {report.seed}")
    seeds = f"seed{'s' if len(report.seeds) > 1 else ''} {', '.join(map(str, report.seeds))}"
    console.print(f"[bold]held out[/bold]    {_trace_text(report.judged_on)}, {seeds}\n")
    planned = [row for row in report.rows if row.in_sample is not None]
    if planned:
        console.print(_verdict_table(report, planned))
        console.print()
    console.print(_planning_table(report.rows))
    console.print()
    for line in _cheapest_lines(report, planned):
        console.print(line)
    for row in report.rows:
        if row.reason is not None:
            console.print(f"[yellow]{row.planner}[/yellow]: {escape(row.reason)}")
    for note in report.notes:
        console.print(f"[yellow]note[/yellow]: {escape(note)}")
    for path in report.written:
        console.print(f"written to {escape(path)}")


def _verdict_table(report: ComparisonReport, rows: list[ComparisonRowReport]) -> Table:
    table = Table("planner", box=None, pad_edge=False, header_style="bold")
    table.add_column("$/h", justify="right")
    quantile = f"P{100 * report.quantile:g}"
    table.add_column(f"in sample: {quantile}, slower")
    table.add_column(f"held out: {quantile}, slower")
    if len(report.seeds) > 1:
        table.add_column(f"held out, {len(report.seeds)} seeds: median, worst {quantile}, slower")
    for row in rows:
        cells = [row.planner, f"{row.usd_per_hour:.4f}", _verdict(row.in_sample), _verdict(row.held_out)]
        table.add_row(*cells, *([_spread(row)] if len(report.seeds) > 1 else []))
    return table


def _verdict(judged: JudgementReport | None) -> str:
    if judged is None:
        return ""
    mark = "[green]kept[/green]  " if judged.kept else "[bold red]MISSED[/bold red]"
    return f"{mark} {_seconds(judged.latency_s)}, {judged.miss_rate:.2%}"


def _spread(row: ComparisonRowReport) -> str:
    kept, judged = sum(report.kept for report in row.over_seeds), len(row.over_seeds)
    colour = "green" if kept == judged else "bold red"
    mark = f"[{colour}]kept {kept} of {judged}[/{colour}]"
    latencies = f"{_seconds(row.median_latency_s or 0)}, {_seconds(row.worst_latency_s or 0)}"
    return f"{mark}  {latencies}, {row.worst_miss_rate:.2%}"


def _planning_table(rows: list[ComparisonRowReport]) -> Table:
    table = Table("planner", "status", box=None, pad_edge=False, header_style="bold")
    for heading in ("lower bound", "bound", "certificate", "planned in", "replays"):
        table.add_column(heading, justify="right")
    for row in rows:
        lower_bound = row.lower_bound_usd_per_hour
        table.add_row(
            row.planner,
            row.status,
            "" if lower_bound is None else f"{lower_bound:.4f} $/h",
            "" if row.bound_s is None else _seconds(row.bound_s),
            "" if row.certificate_s is None else _seconds(row.certificate_s),
            _seconds(row.planning_s),
            f"{row.estimator_calls:,}",
        )
    return table


def _cheapest_lines(report: ComparisonReport, rows: list[ComparisonRowReport]) -> list[str]:
    """Name the cheapest plan that keeps the objective, in sample and held out under every seed."""
    held_out = "held out" if len(report.seeds) == 1 else "held out with every seed"
    kept = {
        "in sample": [row for row in rows if row.in_sample is not None and row.in_sample.kept],
        held_out: [row for row in rows if all(judged.kept for judged in row.over_seeds)],
    }
    named = {
        where: f"{keeping[0].planner}, {keeping[0].usd_per_hour:.4f} $/h" if keeping else "none of these"
        for where, keeping in kept.items()
    }
    return [f"[bold]cheapest that keeps it {where}[/bold]: {which}" for where, which in named.items()]


def _trace_text(trace: TraceReport) -> str:
    rate = "all at once" if trace.rate_rps is None else f"{trace.rate_rps:.4g} queries/s"
    cv = "" if trace.cv is None else f", CV {trace.cv:.2f}"
    cut = trace.note.rsplit("; ", 1)[-1]
    return f"{escape(trace.name)}, {cut}: {trace.queries:,} queries, {trace.duration_s:.4g} s, {rate}{cv}"


def _seconds(seconds: float) -> str:
    return format_duration(seconds * NS_PER_S)
