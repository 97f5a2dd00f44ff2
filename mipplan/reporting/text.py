"""How figures are worded and laid out for people, in all tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from mipplan.core import NS_PER_S, format_duration, higher_rank
from mipplan.reporting.documents import TraceReport

#: Figures of a replay are called by these names.
LABELS = {
    "mean": "mean",
    "p50": "P50",
    "p90": "P90",
    "p95": "P95",
    "p99": "P99",
    "p99_9": "P99.9",
    "max": "max",
    "miss_rate": "the share of slower queries",
}
NO_THEOREM_UNDER_FIFO = "the certificate is no theorem under fifo, where tokens overtake"


def seconds_text(seconds: float) -> str:
    """Write a time in a fitting unit."""
    return format_duration(seconds * NS_PER_S)


def percent_text(quantile: float) -> str:
    """Write a quantile as the number behind the P."""
    return f"{100 * quantile:g}"


def counted(number: int, noun: str, several: str = "") -> str:
    """Write a number with the noun it needs."""
    return f"{number:,} {noun if number == 1 else several or f'{noun}s'}"


def trace_text(trace: TraceReport, *, cut: bool = False) -> str:
    """Write a trace in a line, as markup; with `cut` also which part of a longer one it is."""
    part = f", {trace.note.rsplit('; ', 1)[-1]}" if cut else ""
    rate = "all at once" if trace.rate_rps is None else f"{trace.rate_rps:.4g} queries/s"
    cv = "" if trace.cv is None else f", CV {trace.cv:.2f}"
    return f"{escape(trace.name)}{part}: {trace.queries:,} queries, {trace.duration_s:.4g} s, {rate}{cv}"


def objective_text(quantile: float, slo_s: float, queries: int, misses: int) -> str:
    """Say whether a quantile of the latencies keeps an objective.

    Order statistics: it is at most the objective exactly if few enough queries are slower.
    """
    allowed = queries - 1 - higher_rank(quantile, queries)
    verdict = "kept" if misses <= allowed else "missed"
    return f"P{percent_text(quantile)} ≤ {seconds_text(slo_s)}: {verdict}"


def table(*headings: str) -> Table:
    """Begin a table; a heading that begins with ``>`` stands above numbers, which are aligned to the right."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        made.add_column(heading.removeprefix(">"), justify="right" if heading.startswith(">") else "left")
    return made


def figures(rows: Sequence[tuple[str, str]]) -> Text:
    """Lay out label and text, long texts under themselves; not a table, which would pad every line with blanks."""
    width = max(len(name) for name, _ in rows) + 2
    lines = [Text.assemble((f"{name:<{width}}", "bold"), text) for name, text in rows]
    return Text("\n").join(lines)


def show_parts(console: Console, *parts: RenderableType) -> None:
    """Print tables and figures, with a blank line behind each."""
    for part in parts:
        console.print(part)
        console.print()


def show_notes(console: Console, notes: Iterable[str], written: Iterable[str] = ()) -> None:
    """Say what must be known to read a document, and which files were written."""
    for note in notes:
        console.print(f"[yellow]note[/yellow]: {escape(note)}")
    for path in written:
        console.print(f"written to {escape(path)}")
