"""What a running system did, for people and programs: the documents of ``mipplan drive``."""

from __future__ import annotations

from typing import Literal

from rich.console import Console
from rich.markup import escape

from mipplan.core import NS_PER_S, quantile_ns
from mipplan.driving import Drive
from mipplan.reporting.documents import Report
from mipplan.reporting.text import counted, seconds_text, show_notes, show_parts, table

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


class DriveReport(Report):
    """``mipplan drive --json``."""

    command: Literal["drive"] = "drive"
    trace: str
    target: str
    asked: int
    sent: int
    ended: dict[str, int]
    errors: dict[str, int]
    latency_s: dict[str, float]
    sent_late_s: dict[str, float]
    spoilt: bool
    interrupted: bool
    notes: list[str]
    written: list[str]


def drive_report(driven: Drive, written: list[str]) -> DriveReport:
    """Describe a run of a trace against a server."""
    latency = driven.latency_ns
    mean = {"mean": float(latency.mean()) / NS_PER_S} if latency.size else {}
    late = {name: driven.send_error_ns(q) / NS_PER_S for name, q in _QUANTILES.items()}
    return DriveReport.of(
        driven,
        sent=len(driven.log),
        ended=dict(driven.counts),
        errors=dict(driven.errors),
        latency_s={name: quantile_ns(latency, q) / NS_PER_S for name, q in _QUANTILES.items() if latency.size}
        | mean,
        sent_late_s=late if len(driven.log) else {},
        notes=list(driven.notes),
        written=written,
    )


def show_drive(console: Console, report: DriveReport) -> None:
    """How queries ended, their latencies, and how late they were sent."""
    console.print(f"[bold]{escape(report.trace)}[/bold] against {escape(report.target)}\n")
    figures = table("", *(f">{_label(name)}" for name in (*_QUANTILES, "mean")))
    if report.latency_s:
        figures.add_row("latency", *(seconds_text(report.latency_s[name]) for name in (*_QUANTILES, "mean")))
    if report.sent_late_s:
        figures.add_row("sent late by", *(seconds_text(report.sent_late_s[name]) for name in _QUANTILES), "")
    failed = table("error", ">queries")
    for error, count in report.errors.items():
        failed.add_row(escape(error), f"{count:,}")
    ended = ", ".join(f"{count:,} {status}" for status, count in report.ended.items() if count)
    console.print(f"{counted(report.sent, 'query', 'queries')} sent of {report.asked:,}: {ended or 'none'}\n")
    show_parts(console, figures, failed)
    show_notes(console, report.notes, report.written)


def _label(name: str) -> str:
    return name.upper() if name.startswith("p") else name
