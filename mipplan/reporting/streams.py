"""A streamed replay for people and programs: the document of ``mipplan replay --stream``, and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mipplan.core import NS_PER_S
from mipplan.reporting.wording import (
    LABELS,
    NO_THEOREM_UNDER_FIFO,
    counted,
    figures,
    objective_text,
    seconds_text,
)
from mipplan.result import FIGURES, RELATIVE_ERROR, Plan, StreamEnd, StreamResult

_UNDER_WAY = "Queries under way, the slow ones among them, are not in these figures"
_ENDS = {
    StreamEnd.INTERRUPTED: f"interrupted, so far it was this. {_UNDER_WAY}",
    StreamEnd.OVERLOADED: f"stopped: the plan does not keep up, and too much is waiting. {_UNDER_WAY}",
}


class _Report(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StreamStageReport(_Report):
    """What one stage did."""

    replicas: int
    tokens: int
    batches: int
    mean_batch: float
    utilisation: float
    mean_wait_s: float
    max_wait_s: float


class StreamReport(_Report):
    """``mipplan replay --stream --json``."""

    command: Literal["replay --stream"] = "replay --stream"
    plan_file: str
    trace_file: str
    usd_per_hour: float
    end: str
    read: int
    queries: int
    first_s: float
    last_s: float
    discipline: str
    engine: str
    seed: int
    latency_s: dict[str, float]
    quantile_error: float
    slo_s: float
    quantile: float
    misses: int
    miss_rate: float
    stages: dict[str, StreamStageReport]
    written: list[str]


def stream_report(
    plan: Plan, plan_file: str, trace_file: str, result: StreamResult, written: Sequence[str] = ()
) -> StreamReport:
    """Summarise a streamed replay, and name the files written if there are any."""
    latency_s = {name: result.quantile(quantile) for name, quantile in FIGURES.items()}
    return StreamReport(
        plan_file=plan_file,
        trace_file=trace_file,
        usd_per_hour=plan.usd_per_hour or 0.0,
        end=result.end.value,
        read=result.read,
        queries=result.queries,
        first_s=result.first_ns / NS_PER_S,
        last_s=result.last_ns / NS_PER_S,
        discipline=result.discipline,
        engine=result.engine,
        seed=result.seed,
        latency_s={**latency_s, "max": result.max_latency_s, "mean": result.mean_latency_s},
        quantile_error=RELATIVE_ERROR,
        slo_s=result.slo_s,
        quantile=plan.quantile,
        misses=result.misses,
        miss_rate=result.miss_rate,
        stages={
            name: StreamStageReport(
                replicas=totals.replicas,
                tokens=totals.tokens,
                batches=totals.batches,
                mean_batch=totals.mean_batch,
                utilisation=totals.utilisation,
                mean_wait_s=totals.mean_wait_s,
                max_wait_s=totals.max_wait_s,
            )
            for name, totals in result.stages.items()
        },
        written=list(written),
    )


def show_stream(console: Console, report: StreamReport) -> None:
    """Objective, misses and cost; latencies; what each stage did."""
    queries = counted(report.queries, "query", "queries")
    span = seconds_text(report.last_s - report.first_s)
    console.print(
        f"[bold]{escape(report.plan_file)}[/bold] on {escape(report.trace_file)}: {queries}, {span}\n"
    )
    console.print(figures(_verdict_figures(report)))
    console.print()
    console.print(_stage_table(report))
    notes = [
        f"quantiles are at most {report.quantile_error:.1%} too high and never too low; all else is exact"
    ]
    if report.discipline != "oldest_first":
        notes.append(NO_THEOREM_UNDER_FIFO)
    if report.end != StreamEnd.COMPLETE:
        notes.append(_ENDS[StreamEnd(report.end)])
    console.print()
    for note in notes:
        console.print(f"[yellow]note[/yellow]: {note}")
    for path in report.written:
        console.print(f"written to {escape(path)}")


def _verdict_figures(report: StreamReport) -> list[tuple[str, str]]:
    replayed = f"{report.discipline.replace('_', ' ')}, engine {report.engine}, seed {report.seed}"
    latencies = ", ".join(f"{LABELS[name]} {seconds_text(value)}" for name, value in report.latency_s.items())
    rows = [("replayed", replayed)]
    if report.end == StreamEnd.COMPLETE:  # what is missing of a partial result are the slow queries
        verdict = objective_text(report.quantile, report.slo_s, report.queries, report.misses)
        rows.append(("objective", verdict))
    share = f"{report.misses:,} of {report.queries:,} queries ({report.miss_rate:.3%})"
    return [
        *rows,
        ("slower", f"{share} than {seconds_text(report.slo_s)}"),
        ("latency", latencies),
        ("cost", f"{report.usd_per_hour:.4f} $/h"),
    ]


def _stage_table(report: StreamReport) -> Table:
    table = Table("stage", box=None, pad_edge=False, header_style="bold")
    for heading in ("replicas", "busy", "tokens", "mean batch", "mean wait", "max wait"):
        table.add_column(heading, justify="right")
    for name, stage in report.stages.items():
        table.add_row(
            escape(name),
            str(stage.replicas),
            f"{stage.utilisation:.1%}",
            f"{stage.tokens:,}",
            f"{stage.mean_batch:.2f}",
            seconds_text(stage.mean_wait_s),
            seconds_text(stage.max_wait_s),
        )
    return table
