"""Replicas over time and whether a plan still fits: the documents of ``schedule``, ``follow`` and ``watch``."""

from __future__ import annotations

from typing import Annotated, Literal

from rich.console import Console
from rich.markup import escape

from mipplan.core import NS_PER_S, counted, usd_text, window_text
from mipplan.following import FollowSummary
from mipplan.reporting.documents import Report
from mipplan.reporting.text import figures, seconds_text, show_notes, show_parts, table
from mipplan.scheduling import DaySchedule
from mipplan.watching import Watch

#: More bins are not shown one by one; the document has all.
_BINS_SHOWN = 48


# --- schedule --------------------------------------------------------------------------------------------------------


class StageScheduleReport(Report):
    """One stage, bin by bin, and when it is told another count."""

    hardware: str
    planned: int
    needed: list[int]
    replicas: list[int]
    command_s: list[float]
    commanded: list[int]


class DayScheduleReport(Report):
    """``mipplan schedule --json``."""

    command: Literal["schedule"] = "schedule"
    plan_file: str
    pipeline: Annotated[str, "plan.pipeline.name"]
    keep: str
    bin_s: float
    rate_rps: list[float]
    repeats: bool
    activation_delay_s: Annotated[float, "delay_s"]
    settle_s: float
    switch_usd: float
    stages: dict[str, StageScheduleReport]
    usd: float
    peak_usd: float
    starts: int
    notes: list[str]
    written: list[str]


def schedule_report(made: DaySchedule, plan_file: str, written: list[str]) -> DayScheduleReport:
    """Describe a day schedule."""
    stages = {}
    for name, stage in made.stages.items():
        change_ns, counts = made.commands(name)
        stages[name] = StageScheduleReport.of(
            stage,
            needed=stage.needed.tolist(),
            replicas=stage.replicas.tolist(),
            command_s=[0.0, *(change_ns / 1e9).tolist()],
            commanded=counts.tolist(),
        )
    return DayScheduleReport.of(
        made,
        plan_file=plan_file,
        rate_rps=made.rate_rps.tolist(),
        activation_delay_s=made.delay_ns / 1e9,
        stages=stages,
        notes=list(made.notes),
        written=written,
    )


def show_schedule(console: Console, report: DayScheduleReport) -> None:
    """Counts by the bin, and what they cost beside those of the peak all day."""
    span = window_text(round(report.bin_s * len(report.rate_rps) * NS_PER_S))
    # Dollars are rounded up stage by stage, those of the peak at once.
    saved = max(0.0, 1 - report.usd / report.peak_usd) if report.peak_usd else 0.0
    console.print(
        f"[bold]{escape(report.pipeline)}[/bold]: {usd_text(report.usd, 2)} $ for {span}, {saved:.0%} less than the "
        f"{usd_text(report.peak_usd, 2)} $ of the peak's counts all the time; {counted(report.starts, 'start')} of "
        "replicas\n"
    )
    bins = table("from", ">queries/s", *(f">{escape(name)}" for name in report.stages))
    for place, rate in list(enumerate(report.rate_rps))[:_BINS_SHOWN]:
        counts = [
            f"{stage.replicas[place]}" + (f" ({need})" if need < stage.replicas[place] else "")
            for stage in report.stages.values()
            for need in [stage.needed[place]]
        ]
        bins.add_row(_clock(place * report.bin_s), f"{rate:.4g}", *counts)
    show_parts(console, bins)
    if len(report.rate_rps) > _BINS_SHOWN:
        console.print(f"and {len(report.rate_rps) - _BINS_SHOWN:,} more bins: --json has them\n")
    console.print(f"keeps: {escape(report.keep)}, for the sample at each bin's rate")
    if any(stage.replicas != stage.needed for stage in report.stages.values()):
        console.print("in parentheses: what would be enough, where more are kept than a new start would cost")
    show_notes(console, report.notes, report.written)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    text = f"{minutes // 60:02d}:{minutes % 60:02d}"
    return f"{text}:{rest:02d}" if rest else text


# --- follow ----------------------------------------------------------------------------------------------------------


class FollowReport(Report):
    """``mipplan follow --json``."""

    command: Literal["follow"] = "follow"
    plan_file: str
    pipeline: str
    target: str
    policy: str
    shadow: bool
    duration_s: float
    ticks: int
    held: int
    failed_looks: int
    changes: int
    commands: int
    failed_commands: int
    delayed_commands: int
    mismatches: int
    queries: int
    replicas: dict[str, int]
    told: dict[str, int]
    replica_hours: dict[str, float]
    usd: float
    notes: list[str]
    written: list[str]


def follow_report(summary: FollowSummary, plan_file: str, written: list[str]) -> FollowReport:
    """Describe a run of following."""
    return FollowReport.of(
        summary,
        plan_file=plan_file,
        replicas=dict(summary.replicas),
        told=dict(summary.told),
        replica_hours=dict(summary.replica_hours),
        notes=list(summary.notes),
        written=written,
    )


def show_follow(console: Console, report: FollowReport) -> None:
    """What was decided and told, and what failed."""
    console.print(
        f"[bold]{escape(report.pipeline)}[/bold] on {escape(report.target)} by {escape(report.policy)}"
        f"{', in shadow mode: nothing was told' if report.shadow else ''}\n"
    )
    stages = table("stage", ">decided", ">told", ">replica-hours")
    for name, count in report.replicas.items():
        stages.add_row(escape(name), str(count), str(report.told[name]), f"{report.replica_hours[name]:.4f}")
    troubles = [
        ("held", f"{counted(report.held, 'period')} without metrics, or whose policy failed"),
        ("metrics", f"{counted(report.failed_looks, 'look')} failed"),
        ("commands", f"{report.failed_commands:,} failed, {report.delayed_commands:,} put off"),
        ("mismatches", f"{report.mismatches:,}"),
    ]
    done = (
        f"{report.ticks:,} times in {seconds_text(report.duration_s)}, {counted(report.changes, 'change')}, "
        f"{counted(report.commands, 'command')}"
    )
    rows = [
        ("decided", done),
        ("queries", f"{report.queries:,}"),
        ("rent", f"{usd_text(report.usd)} $"),
        *troubles,
    ]
    show_parts(console, figures(rows), stages)
    show_notes(console, report.notes, report.written)


# --- watch -----------------------------------------------------------------------------------------------------------


class MisfitReport(Report):
    """One thing in which a plan no longer fits."""

    kind: str
    place: str
    text: str
    ratio: float


class ReplanReport(Report):
    """A plan for what was seen."""

    status: str
    usd_per_hour: float | None
    certificate_s: float | None
    offer: str | None


class WatchReport(Report):
    """``mipplan watch --json``."""

    command: Literal["watch"] = "watch"
    plan_file: str
    pipeline: Annotated[str, "plan.pipeline.name"]
    usd_per_hour: Annotated[float | None, "plan.usd_per_hour"]
    queries: int
    duration_s: float
    fits: bool
    misfits: list[MisfitReport]
    replan: ReplanReport | None
    command_line: str | None
    notes: list[str]
    written: list[str]


def watch_report(found: Watch, plan_file: str, command_line: str | None, written: list[str]) -> WatchReport:
    """Describe what watching found; `command_line` writes the new plan."""
    replan = None if found.replan is None else ReplanReport.of(found.replan, offer=found.offer)
    return WatchReport.of(
        found,
        plan_file=plan_file,
        misfits=list(found.misfits),
        replan=replan,
        command_line=command_line,
        notes=list(found.notes),
        written=written,
    )


def show_watch(console: Console, report: WatchReport) -> None:
    """The verdict, its reasons, and the plan for what was seen."""
    seen = f"{counted(report.queries, 'query', 'queries')} in {seconds_text(report.duration_s)}"
    verdict = "[green]fits[/green]" if report.fits else "[bold red]no longer fits[/bold red]"
    console.print(f"[bold]{escape(report.pipeline)}[/bold] {verdict}: {seen}\n")
    rows = [(misfit.kind, misfit.text) for misfit in report.misfits]
    if report.replan is not None and report.replan.offer is not None:
        rows.append(("re-plan", report.replan.offer))
        if report.command_line is not None:
            rows.append(("", report.command_line))
    if rows:
        show_parts(console, figures(rows))
    show_notes(console, report.notes, report.written)
