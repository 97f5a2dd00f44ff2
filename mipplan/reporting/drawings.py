"""What was drawn of a plan: the document and the words of ``mipplan plot`` and ``mipplan report``."""

from __future__ import annotations

from typing import Literal

from rich.console import Console
from rich.markup import escape

from mipplan.reporting.documents import Report, TraceReport
from mipplan.reporting.text import show_notes, trace_text
from mipplan.trace import Trace


class DrawingReport(Report):
    """``mipplan plot --json`` and ``mipplan report --json``."""

    command: Literal["plot", "report"]
    plan_file: str
    trace: TraceReport
    shows: str
    written: list[str]


def drawing_report(
    command: Literal["plot", "report"], plan_file: str, trace: Trace, shows: str, written: str
) -> DrawingReport:
    """Describe what was drawn.

    Parameters
    ----------
    command : str
        ``plot`` or ``report``.
    plan_file : str
        The plan that was drawn.
    trace : Trace
        What it was judged on.
    shows : str
        What the figure or the page shows, in words.
    written : str
        Where it was written to.
    """
    return DrawingReport(
        command=command,
        plan_file=plan_file,
        trace=TraceReport.of(trace),
        shows=shows,
        written=[written],
    )


def show_drawing(console: Console, report: DrawingReport) -> None:
    """Say what was drawn, on which traffic, and where it lies.

    Parameters
    ----------
    console : rich.console.Console
    report : DrawingReport
    """
    console.print(f"[bold]{escape(report.plan_file)}[/bold] on {trace_text(report.trace)}")
    console.print(escape(report.shows))
    show_notes(console, [], report.written)
