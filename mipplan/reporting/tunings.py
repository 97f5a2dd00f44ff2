"""Policies in closed loop for people and programs: the document of ``mipplan tune``, and its table."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mipplan.reporting.documents import TraceReport
from mipplan.reporting.summaries import trace_report
from mipplan.reporting.wording import counted, percent_text, seconds_text
from mipplan.tuner import Tuning, TuningRun

ORACLE = (
    "oracle knows the trace beforehand: it is the cheapest schedule found in hindsight, nobody can run it"
)
#: A run with more changes of counts is listed only up to here in the document.
_ACTIONS_LISTED = 10_000


class _Report(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ActionReport(_Report):
    """One change of a replica count."""

    at_s: float
    stage: str
    before: int
    after: int


class WorstWindowReport(_Report):
    """The stretch in which the largest share of queries missed the objective."""

    start_s: float
    window_s: float
    queries: int
    miss_rate: float
    p99_s: float


class TuningRunReport(_Report):
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
    actions: list[ActionReport]
    worst_window: WorstWindowReport
    reaction_s: float
    most_replicas: dict[str, int]


class TuneReport(_Report):
    """``mipplan tune --json``."""

    command: Literal["tune"] = "tune"
    pipeline: str
    plan_file: str
    slo_s: float
    quantile: float
    planned_usd_per_hour: float
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
    return TuneReport(
        pipeline=plan.pipeline.name,
        plan_file=plan_file,
        slo_s=plan.slo_s,
        quantile=plan.quantile,
        planned_usd_per_hour=plan.usd_per_hour or 0.0,
        planned_replicas={stage: choice.replicas for stage, choice in plan.choices.items()},
        period_s=tuning.period_s,
        activation_delay_s=tuning.activation_delay_s,
        discipline=tuning.discipline,
        seed=tuning.seed,
        sample=trace_report(tuning.sample),
        trace=trace_report(tuning.trace),
        runs=[_run_report(run) for run in tuning.runs],
        left_out=list(tuning.left_out),
        notes=_notes(tuning),
        written=written,
    )


def _run_report(run: TuningRun) -> TuningRunReport:
    result, worst = run.result, run.worst_window
    latency_s = result.quantile(run.quantile)
    return TuningRunReport(
        policy=run.policy,
        clairvoyant=run.clairvoyant,
        queries=result.queries,
        misses=run.misses,
        miss_rate=run.miss_rate,
        kept=latency_s <= run.slo_s,
        latency_s=latency_s,
        usd=run.usd,
        usd_per_hour=run.usd_per_hour,
        action_count=len(run.actions),
        actions=[ActionReport(**vars(action)) for action in run.actions[:_ACTIONS_LISTED]],
        worst_window=WorstWindowReport(**vars(worst)),
        reaction_s=run.reaction_s,
        most_replicas={stage: int(schedule.replicas.max()) for stage, schedule in run.schedules.items()},
    )


def _notes(tuning: Tuning) -> list[str]:
    notes = []
    known = tuning.plan.trace
    if known is not None and known.sha256 != tuning.sample.sha256:
        notes.append(
            "the sample that policies are told is not the trace that the plan was made for: that is --sample FILE"
        )
    if any(run.clairvoyant for run in tuning.runs):
        notes.append(ORACLE)
    if tuning.left_out:
        notes.append(f"interrupted before these were done: {', '.join(tuning.left_out)}")
    return notes


def show_tuning(console: Console, report: TuneReport) -> None:
    """Who misses how much at what cost, and what must be known to read it."""
    objective = f"P{percent_text(report.quantile)} ≤ {seconds_text(report.slo_s)}"
    console.print(
        f"[bold]{escape(report.pipeline)}[/bold]: {objective}, planned at {report.planned_usd_per_hour:.4f} $/h; "
        f"control every {seconds_text(report.period_s)}, replicas serve {seconds_text(report.activation_delay_s)} "
        "after their order"
    )
    console.print(f"[bold]sample[/bold]  {_trace_text(report.sample)}")
    console.print(f"[bold]run on[/bold]  {_trace_text(report.trace)}\n")
    console.print(_table(report))
    console.print()
    console.print(
        f"worst: largest share missed within {seconds_text(report.runs[0].worst_window.window_s)}, and when; "
        "reaction: longest time at a stretch that the objective was missed"
    )
    for note in report.notes:
        console.print(f"[yellow]note[/yellow]: {escape(note)}")
    for path in report.written:
        console.print(f"written to {escape(path)}")


def _table(report: TuneReport) -> Table:
    table = Table("policy", box=None, pad_edge=False, header_style="bold")
    quantile = f"P{percent_text(report.quantile)}"
    for heading in ("missed", quantile, "$/h", "actions", "worst", "reaction", "most replicas"):
        table.add_column(heading, justify="right" if heading != "most replicas" else "left")
    for run in report.runs:
        colour = "green" if run.kept else "bold red"
        worst = run.worst_window
        table.add_row(
            run.policy,
            f"[{colour}]{run.miss_rate:.3%}[/{colour}]",
            seconds_text(run.latency_s),
            f"{run.usd_per_hour:.4f}",
            f"{run.action_count:,}",
            f"{worst.miss_rate:.0%} at {worst.start_s:.4g} s" if worst.miss_rate else "none",
            seconds_text(run.reaction_s) if run.reaction_s else "none",
            " ".join(f"{count:,}" for count in run.most_replicas.values()),
        )
    return table


def _trace_text(trace: TraceReport) -> str:
    rate = "" if trace.rate_rps is None else f", {trace.rate_rps:.4g} queries/s"
    cv = "" if trace.cv is None else f", CV {trace.cv:.2f}"
    queries = counted(trace.queries, "query", "queries")
    return f"{escape(trace.name)}: {queries}, {trace.duration_s:.4g} s{rate}{cv}"
