"""Planners and policies side by side: the documents of ``mipplan compare`` and ``tune``, and their tables."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mipplan.comparison import Comparison, Contender
from mipplan.core import usd_text
from mipplan.documents import write_atomically
from mipplan.pipeline import Pipeline, are_timed, may_draw
from mipplan.reporting.catalog import assumed_power, sample_notes
from mipplan.reporting.documents import BriefReport, ChoiceReport, Report, TraceReport
from mipplan.reporting.plans import choice_reports
from mipplan.reporting.text import (
    moment_text,
    percent_text,
    seconds_text,
    show_notes,
    show_parts,
    table,
    trace_text,
)
from mipplan.tuner import Action, Tuning, TuningRun, WorstWindow

_HELD_OUT = (
    "in sample: judged on what was planned on (bound and certificate too); held out: on arrivals and draws that no "
    "planner saw"
)
_ORACLE = (
    "oracle knows the trace beforehand: it is the cheapest schedule found in hindsight, nobody can run it"
)
#: At most this many changes of counts are listed in the document of a run, because a busy policy makes millions.
_ACTIONS_LISTED = 10_000


# --- compare ---------------------------------------------------------------------------------------------------------


class JudgementReport(BriefReport):
    """A plan replayed on one part of the trace."""

    seed: int
    queries: int
    latency_s: Annotated[float, "quantile_s"]
    misses: int
    miss_rate: float
    kept: Annotated[bool, "keeps"]
    energy: Annotated[dict[str, float] | None, "energy.figures"] = None


class ComparisonRowReport(BriefReport):
    """One planner."""

    planner: str
    status: str
    reason: str | None
    proof: Annotated[str | None, "refinement.proof"]
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
    median_latency_s: Annotated[float | None, "median_quantile_s"]
    worst_latency_s: Annotated[float | None, "worst_quantile_s"]
    median_miss_rate: float | None
    worst_miss_rate: float | None
    # Where stages list variants, and whether that is enough, where it is asked for.
    accuracy: Annotated[float | None, "accuracy"] = None
    accurate: Annotated[bool | None, "accurate"] = None


class ComparedTraceReport(Report):
    """A further trace of a comparison, in two parts."""

    planned_on: TraceReport
    judged_on: TraceReport


class ComparisonReport(BriefReport):
    """``mipplan compare --json``."""

    command: Literal["compare"] = "compare"
    pipeline: str
    objective: Annotated[str, "objective.text"]
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
    # Of several traces and draws: the further ones, and how many of each.
    traces: list[ComparedTraceReport] | None = None
    draws: int | None = None
    min_accuracy: Annotated[float | None, "min_accuracy"] = None


def comparison_report(pipeline: Pipeline, comparison: Comparison, written: list[str]) -> ComparisonReport:
    """Describe a comparison, cheapest plan first."""
    return ComparisonReport.of(
        comparison,
        pipeline=pipeline.name,
        rows=[
            ComparisonRowReport.of(row, row.plan, choices=choice_reports(row.plan))
            for row in comparison.by_cost
        ],
        notes=_comparison_notes(pipeline, comparison),
        written=written,
        traces=[{"planned_on": planned, "judged_on": rest} for planned, rest in comparison.others] or None,
        draws=comparison.draws if comparison.draws > 1 else None,
    )


def _comparison_notes(pipeline: Pipeline, comparison: Comparison) -> list[str]:
    notes = [_HELD_OUT]
    # Several plans, several busy periods: of the sample alone.
    asked = comparison.quantile, None, comparison.objective.per_s
    notes += comparison.planned_on.warnings(*asked)
    notes += [f"{one.name}: {note}" for one, _ in comparison.others for note in one.warnings(*asked)]
    if comparison.others or comparison.draws > 1:
        notes.append(
            "every trace and draw must be kept by itself: quantiles are the greatest, misses those of all; of a "
            "baseline's plans for one each the dearest stands"
        )
    compared = {row.planner for row in comparison.rows}
    if not may_draw(pipeline):
        notes.append("this pipeline draws nothing at random: any seed gives the same replay")
    if comparison.discipline != "oldest_first":
        # Of timed plans the certificate is their replay, under whichever discipline all are judged by.
        if not all(are_timed(row.plan.laws) for row in comparison.rows):
            notes.append("certificates are those of fifo queues, for batches as short as they like")
    elif Contender.INFERLINE in compared:
        notes.append(
            "inferline plans by replays under fifo, as published, and is judged under oldest first like all"
        )
    notes += filter(None, [comparison.accuracy_note])
    notes += dict.fromkeys(note for row in comparison.rows for note in assumed_power(row.plan))
    if comparison.left_out:
        notes.append(f"interrupted before these were done: {', '.join(comparison.left_out)}")
    return notes


def show_comparison(console: Console, report: ComparisonReport) -> None:
    """Who keeps the objective where, at what cost; how it was planned; what must be known to read it."""
    objective = report.objective
    discipline = report.discipline.replace("_", " ")
    console.print(f"[bold]{escape(report.pipeline)}[/bold]: {objective}, all judged under {discipline}")
    last = "" if report.draws is None else f" to {report.seed + report.draws - 1}"
    others = report.traces or []
    for trace in (report.planned_on, *(one.planned_on for one in others)):
        console.print(f"[bold]planned on[/bold]  {trace_text(trace, cut=True)}, seed {report.seed}{last}")
    seeds = f"seed{'s' if len(report.seeds) > 1 else ''} {', '.join(map(str, report.seeds))}"
    for trace in (report.judged_on, *(one.judged_on for one in others)):
        console.print(f"[bold]held out[/bold]    {trace_text(trace, cut=True)}, {seeds}")
    console.print()
    planned = [row for row in report.rows if row.in_sample is not None]
    if planned:
        show_parts(console, _verdict_table(report, planned))
    show_parts(console, _planning_table(report.rows))
    for line in _cheapest_lines(report, planned):
        console.print(line)
    for row in report.rows:
        if row.reason is not None:
            console.print(f"[yellow]{row.planner}[/yellow]: {escape(row.reason)}")
    show_notes(console, report.notes, report.written)


def _verdict_table(report: ComparisonReport, rows: list[ComparisonRowReport]) -> Table:
    quantile, seeds = f"P{percent_text(report.quantile)}", len(report.seeds)
    spread = [f"held out, {seeds} seeds: median, worst {quantile}, slower"] if seeds > 1 else []
    accurate = [">accuracy"] if any(row.accuracy is not None for row in rows) else []
    energy = ["held out: energy"] if any(row.held_out and row.held_out.energy for row in rows) else []
    judged = [f"in sample: {quantile}, slower", f"held out: {quantile}, slower"]
    verdicts = table("planner", ">$/h", *accurate, *judged, *spread, *energy)
    for row in rows:
        cells = [_verdict(row.in_sample), _verdict(row.held_out), *(_spread(row) for _ in spread)]
        known = [_accuracy(row, report.min_accuracy) for _ in accurate]
        taken = [row.held_out.energy or {} for _ in energy if row.held_out]
        watts = (f"{of['mean_power_w']:.4g} W, {of['j_per_thousand']:.4g} J per 1,000" for of in taken)
        verdicts.add_row(row.planner, usd_text(row.usd_per_hour), *known, *cells, *watts)
    return verdicts


def _accuracy(row: ComparisonRowReport, least: float | None) -> str:
    known = "not known" if row.accuracy is None else f"{row.accuracy:.4g}"
    less = "" if row.accuracy is None or least is None else f" < {least:g}"
    return f"[bold red]{known}{less}[/bold red]" if row.accurate is False else known


def _verdict(judged: JudgementReport | None) -> str:
    if judged is None:
        return ""
    mark = "[green]kept[/green]  " if judged.kept else "[bold red]MISSED[/bold red]"
    return f"{mark} {seconds_text(judged.latency_s)}, {judged.miss_rate:.2%}"


def _spread(row: ComparisonRowReport) -> str:
    kept, judged = sum(report.kept for report in row.over_seeds), len(row.over_seeds)
    colour = "green" if kept == judged else "bold red"
    mark = f"[{colour}]kept {kept} of {judged}[/{colour}]"
    latencies = f"{seconds_text(row.median_latency_s or 0)}, {seconds_text(row.worst_latency_s or 0)}"
    return f"{mark}  {latencies}, {row.worst_miss_rate:.2%}"


def _planning_table(rows: list[ComparisonRowReport]) -> Table:
    planning = table("planner", "status", ">lower bound", ">bound", ">certificate", ">planned in", ">replays")
    for row in rows:
        lower_bound = row.lower_bound_usd_per_hour
        planning.add_row(
            row.planner,
            row.status,
            "" if lower_bound is None else f"{usd_text(lower_bound)} $/h",
            "" if row.bound_s is None else seconds_text(row.bound_s),
            "" if row.certificate_s is None else seconds_text(row.certificate_s),
            seconds_text(row.planning_s),
            f"{row.estimator_calls:,}",
        )
    return planning


def _cheapest_lines(report: ComparisonReport, rows: list[ComparisonRowReport]) -> list[str]:
    """Name the cheapest plan with the accuracy asked for that keeps the objective, in sample and held out."""
    rows = [row for row in rows if row.accurate is not False]
    least = "" if report.min_accuracy is None else f" of at least {report.min_accuracy:g} accuracy"
    held_out = "held out" if len(report.seeds) == 1 else "held out with every seed"
    kept = {
        "in sample": [row for row in rows if row.in_sample is not None and row.in_sample.kept],
        held_out: [row for row in rows if all(judged.kept for judged in row.over_seeds)],
    }
    named = {where: _named(keeping[0]) if keeping else "none of these" for where, keeping in kept.items()}
    return [f"[bold]cheapest{least} that keeps it {where}[/bold]: {which}" for where, which in named.items()]


def _named(row: ComparisonRowReport) -> str:
    accuracy = "" if row.accuracy is None else f", accuracy {row.accuracy:.4g}"
    return f"{row.planner}, {usd_text(row.usd_per_hour)} $/h{accuracy}"


# --- tune ------------------------------------------------------------------------------------------------------------


class ScheduleReport(Report):
    """The counts that a policy ordered, as columns."""

    time_s: list[float]
    stage: list[str]
    replicas: list[int]


class TuningRunReport(Report):
    """One policy."""

    policy: str
    clairvoyant: bool
    queries: int
    misses: int
    miss_rate: float
    kept: bool
    latency_s: float
    usd: float
    usd_per_hour: float
    action_count: int
    actions: list[Action]
    worst_window: WorstWindow
    reaction_s: float
    most_replicas: dict[str, int]
    schedule: ScheduleReport
    until_s: float | None


class TuneReport(Report):
    """``mipplan tune --json``."""

    command: Literal["tune"] = "tune"
    pipeline: Annotated[str, "pipeline.name"]
    plan_file: str
    slo_s: float
    quantile: float
    planned_usd_per_hour: Annotated[float, "usd_per_hour"]
    planned_replicas: dict[str, int]
    period_s: float
    activation_delay_s: float
    discipline: str
    seed: int
    sample: TraceReport
    trace: TraceReport
    runs: list[TuningRunReport]
    left_out: list[str]
    notes: list[str]
    written: list[str]


def tune_report(tuning: Tuning, plan_file: str, written: list[str]) -> TuneReport:
    """Describe what came of each policy, in the order asked for."""
    plan = tuning.plan
    return TuneReport.of(
        tuning,
        plan,
        plan_file=plan_file,
        planned_replicas={stage: choice.replicas for stage, choice in plan.choices.items()},
        runs=[_run_report(run) for run in tuning.runs],
        notes=_tuning_notes(tuning),
        written=written,
    )


def _run_report(run: TuningRun) -> TuningRunReport:
    latency_s = run.result.quantile(run.quantile)
    return TuningRunReport.of(
        run,
        run.result,
        kept=latency_s <= run.slo_s,
        latency_s=latency_s,
        action_count=len(run.actions),
        actions=run.actions[:_ACTIONS_LISTED],
        most_replicas={stage: int(schedule.replicas.max()) for stage, schedule in run.schedules.items()},
        schedule=run.schedule.to_dict(orient="list"),
    )


def write_schedule(path: Path, tuning: Tuning) -> None:
    """Write the counts that each policy ordered (`Tuning.schedule`) as CSV, whole or not at all."""
    write_atomically(path, lambda stream: tuning.schedule.to_csv(stream, index=False))


def _tuning_notes(tuning: Tuning) -> list[str]:
    notes = []
    known = {one.sha256 for one in tuning.plan.traces}
    if known and tuning.sample.sha256 not in known:
        notes.append(
            "the sample that policies are told is not the trace that the plan was made for: that is --sample FILE"
        )
    notes += sample_notes(tuning.plan, tuning.sample)
    notes += [f"{run.policy}: {note}" for run in tuning.runs for note in run.notes]
    if any(run.clairvoyant for run in tuning.runs):
        notes.append(_ORACLE)
    notes += [
        f"{run.policy} is partial: Ctrl-C came, and its figures are of the queries up to {run.until_s:,g} s"
        for run in tuning.runs
        if run.until_s is not None
    ]
    if tuning.left_out:
        notes.append(f"interrupted before these were done: {', '.join(tuning.left_out)}")
    return notes


def show_tuning(console: Console, report: TuneReport) -> None:
    """Who misses how much at what cost, and what must be known to read it."""
    objective = f"P{percent_text(report.quantile)} ≤ {seconds_text(report.slo_s)}"
    console.print(
        f"[bold]{escape(report.pipeline)}[/bold]: {objective}, planned at {usd_text(report.planned_usd_per_hour)} $/h; "
        f"control every {seconds_text(report.period_s)}, replicas serve {seconds_text(report.activation_delay_s)} "
        "after their order"
    )
    console.print(f"[bold]sample[/bold]  {trace_text(report.sample)}")
    console.print(f"[bold]run on[/bold]  {trace_text(report.trace)}\n")
    show_parts(console, _run_table(report))
    console.print(
        f"worst: largest share missed within {seconds_text(report.runs[0].worst_window.window_s)}, and when; "
        "reaction: longest time at a stretch that the objective was missed"
    )
    show_notes(console, report.notes, report.written)


def _run_table(report: TuneReport) -> Table:
    quantile = f">P{percent_text(report.quantile)}"
    runs = table("policy", ">missed", quantile, ">$/h", ">actions", ">worst", ">reaction", "most replicas")
    for run in report.runs:
        colour = "green" if run.kept else "bold red"
        worst = run.worst_window
        runs.add_row(
            run.policy if run.until_s is None else f"{run.policy} (partial)",
            f"[{colour}]{run.miss_rate:.3%}[/{colour}]",
            seconds_text(run.latency_s),
            usd_text(run.usd_per_hour),
            f"{run.action_count:,}",
            f"{worst.miss_rate:.0%} at {moment_text(worst.start_s, report.trace.zero)}"
            if worst.miss_rate
            else "none",
            seconds_text(run.reaction_s) if run.reaction_s else "none",
            " ".join(f"{count:,}" for count in run.most_replicas.values()),
        )
    return runs
