"""A streamed replay for people and programs: the document of ``mipplan replay --stream``, and its tables."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mipplan.result import Plan, StreamEnd, StreamResult
from mipplan.result.histogram import RELATIVE_ERROR
from mipplan.units import NS_PER_S, format_duration

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}
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


def stream_report(plan: Plan, plan_file: str, trace_file: str, result: StreamResult) -> StreamReport:
    """Summarise a streamed replay."""
    latency_s = {name: result.quantile(quantile) for name, quantile in _QUANTILES.items()}
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
    )


def show_stream(console: Console, report: StreamReport) -> None:
    """Latencies, misses and stages."""
    console.print(
        f"[bold]{escape(report.plan_file)}[/bold] on {escape(report.trace_file)}: {report.queries:,} queries, "
        f"{report.last_s - report.first_s:,.6g} s\n"
    )
    figures = ", ".join(
        f"{name.upper().replace('_', '.') if name[0] == 'p' else name} {_seconds(value)}"
        for name, value in report.latency_s.items()
    )
    console.print(f"[bold]latency[/bold]    {figures}")
    misses = f"{report.misses:,} queries ({report.miss_rate:.4%}) slower than {_seconds(report.slo_s)}"
    console.print(f"[bold]objective[/bold]  {misses}")
    console.print(f"[bold]cost[/bold]       {report.usd_per_hour:.2f} $/h\n")
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
            _seconds(stage.mean_wait_s),
            _seconds(stage.max_wait_s),
        )
    console.print(table)
    console.print(
        f"\n[yellow]note[/yellow]: quantiles are at most {report.quantile_error:.1%} too high and never too low; "
        "all else is exact"
    )
    if report.end != StreamEnd.COMPLETE:
        console.print(f"[yellow]note[/yellow]: {_ENDS[StreamEnd(report.end)]}")


def _seconds(seconds: float) -> str:
    return format_duration(seconds * NS_PER_S)
