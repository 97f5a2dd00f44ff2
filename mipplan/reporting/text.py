"""How figures are worded and laid out for people, in all tables."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from pydantic_core import PydanticSerializationError
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from mipplan.core import (
    NS_PER_MS,
    NS_PER_S,
    Allowance,
    format_duration,
    higher_rank,
    short_number,
    window_text,
)
from mipplan.reporting.documents import Report, TraceReport
from mipplan.result import Objective, ReplayResult
from mipplan.tokens import read_traces
from mipplan.trace import Trace, date_text

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
#: Names in a table are folded to so many signs where it is narrow, and no further.
_SHORTEST_NAME = 10
#: Between columns there are so many blanks.
_BETWEEN = 2
#: Wider than any text in a table.
_ANY_WIDTH = 100_000
NO_THEOREM_UNDER_FIFO = "the certificate is no theorem under fifo, where tokens overtake"


def json_text(report: Report) -> str:
    """Return a document as JSON; bytes of a file's name that are no UTF-8 are escaped as Python has read them."""
    try:
        return report.model_dump_json(indent=2)
    except PydanticSerializationError:
        return json.dumps(report.model_dump(mode="json"), indent=2)


def seconds_text(seconds: float) -> str:
    """Write a time in a fitting unit."""
    return format_duration(seconds * NS_PER_S)


def moment_text(seconds: float, zero: str | None) -> str:
    """Write a time on a trace's axis: as month, day and time (UTC) where it is known what its zero is."""
    if zero is None:
        return f"{seconds:.10g} s"
    instant_ns = int(np.datetime64(zero, "ns").astype(np.int64)) + round(seconds * NS_PER_S)
    fine_ns = NS_PER_S if seconds == round(seconds) else NS_PER_MS  # windows begin anywhere within a second
    return date_text(instant_ns - instant_ns % fine_ns)[5:].replace("T", " ")


def moments_text(times_s: Sequence[float], zero: str | None) -> tuple[str, list[str]]:
    """Write times on a trace's axis, and what stands above them: the day if it is one, so that they fit 80 columns."""
    texts = [moment_text(time_s, zero) for time_s in times_s]
    days = {text.split()[0] for text in texts}
    if zero is None or len(days) > 1:
        return "from", texts
    return f"on {days.pop()}", [text.split()[1] for text in texts]


def percent_text(quantile: float) -> str:
    """Write a quantile as the number behind the P."""
    return f"{100 * quantile:g}"


def trace_text(trace: TraceReport, *, cut: bool = False) -> str:
    """Write a trace in a line, as markup; with `cut` also which part of a longer one it is."""
    part = f", {trace.note.rsplit('; ', 1)[-1]}" if cut else ""
    rate = "all at once" if trace.rate_rps is None else f"{short_number(trace.rate_rps)} queries/s"
    cv = "" if trace.cv is None else f", CV {trace.cv:.2f}"
    return f"{escape(trace.name)}{part}: {trace.queries:,} queries, {short_number(trace.duration_s)} s, {rate}{cv}"


def traffic_parts(trace: Trace | Sequence[Trace], seeds: int) -> dict[str, Any]:
    """Parts of a document about samples: one trace; all traces, and the draws of each, where there are several."""
    traces = read_traces(trace)
    drawn = seeds if seeds > 1 else None
    return {"trace": traces[0], "seeds": drawn, "traces": traces if len(traces) > 1 else None}


def traffic_text(pipeline: str, traces: Iterable[TraceReport]) -> str:
    """Write what a pipeline is planned for, as markup: each of several traces in a line."""
    return f"[bold]{escape(pipeline)}[/bold] on " + "\nand ".join(map(trace_text, traces))


def objective_text(quantile: float, slo_s: float, queries: int, misses: int) -> str:
    """Say whether a quantile of the latencies keeps an objective.

    Order statistics: it is at most the objective exactly if few enough queries are slower.
    """
    allowed = queries - 1 - higher_rank(quantile, queries)
    verdict = "kept" if misses <= allowed else "missed"
    return f"P{percent_text(quantile)} ≤ {seconds_text(slo_s)}: {verdict}"


#: Windows that are looked at where an objective has none: the longest of which there are at least a dozen.
_WINDOWS_NS = (300 * NS_PER_S, 60 * NS_PER_S)
_FEWEST_WINDOWS = 12


def hidden_misses(result: ReplayResult, objective: Objective) -> list[str]:
    """Say in which windows of time an objective is missed that is kept over the whole trace: one remark, or none."""
    span_ns = int(result.ingress_ns[-1] - result.ingress_ns[0])
    per_ns = next((per_ns for per_ns in _WINDOWS_NS if span_ns >= _FEWEST_WINDOWS * per_ns), None)
    if per_ns is None or objective.per_ns or result.objective_ns(objective) > objective.slo_ns:
        return []
    limits_ns = Allowance.of(objective.quantile, result.ingress_ns, per_ns).limits(result.late_ns)
    missed = sum(limit_ns > objective.slo_ns for limit_ns in limits_ns)
    if not missed:
        return []
    worst, length = format_duration(max(limits_ns)), window_text(per_ns)
    where = f"missed in {missed} of {len(limits_ns)} windows of {length} (worst {worst})"
    return [
        f"{objective.text} is kept over the whole trace, but {where}: plan with --per {length} to keep it in each"
    ]


class WholeTable(Table):
    """A table that cuts nothing: names are folded where it is narrow, and where numbers find no room it is wider."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Keep room for every number; rich would write ``21.…`` for ``21.47 ms``."""
        wide = options.update_width(_ANY_WIDTH)
        if self.__rich_measure__(console, wide).maximum > options.max_width:
            for column in self.columns:
                heading, *cells = (
                    Measurement.get(console, wide, cell) for cell in (column.header, *column.cells)
                )
                if column.justify == "right":
                    column.width = max(heading.minimum, *(cell.maximum for cell in cells), 0)
                else:
                    words = max(heading.minimum, *(cell.minimum for cell in cells), 0)
                    column.overflow, column.min_width = "fold", min(words, _SHORTEST_NAME)
            needed = sum(column.width or column.min_width or 0 for column in self.columns)
            needed += _BETWEEN * (len(self.columns) - 1)
            options = options.update_width(max(options.max_width, needed))
        yield from super().__rich_console__(console, options)


def table(*headings: str) -> Table:
    """Begin a table; a heading that begins with ``>`` stands above numbers, which are aligned to the right."""
    made = WholeTable(box=None, pad_edge=False, header_style="bold")
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
