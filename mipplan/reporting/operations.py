"""What a running system did, for people and programs: the documents of ``drive``, ``observe`` and ``truth``."""

from __future__ import annotations

from typing import Annotated, Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mipplan.core import NS_PER_MS, NS_PER_S, counted, quantile_ns
from mipplan.driving import Drive
from mipplan.observing import LogObservation
from mipplan.profiling import QuantileRange
from mipplan.reporting.documents import Finite, Report
from mipplan.reporting.text import seconds_text, show_notes, show_parts, table
from mipplan.result import Interval
from mipplan.validation import StageComparison, Truth

#: What a server says that knows no such address, as `Drive.errors` tells it.
_NOT_FOUND = "HTTP 404"
_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


# --- drive -----------------------------------------------------------------------------------------------------------


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
        notes=[*driven.notes, *_advice(driven)],
        written=written,
    )


def _advice(driven: Drive) -> list[str]:
    """Say what to do where all queries went to an address at which nothing is served."""
    if driven.errors.get(_NOT_FOUND, 0) < max(len(driven.log), 1):
        return []
    named = "of a server of the Open Inference Protocol, name the model: --model NAME, or …/v2/models/NAME"
    return [f"nothing is served at {driven.target}; {named}"]


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
    show_parts(console, figures, *([failed] if report.errors else []))
    show_notes(console, report.notes, report.written)


def _label(name: str) -> str:
    return {"miss_rate": "miss rate"}.get(name, name.upper() if name.startswith("p") else name)


# --- observe ---------------------------------------------------------------------------------------------------------


class ObservedBatchReport(Report):
    """Batches of one size at a stage."""

    stage: str
    batch: int
    count: int
    p50_ms: float
    p50_interval_ms: list[float | None]
    p99_ms: float
    p99_interval_ms: list[float | None]
    written: bool


class ObservedHopReport(Report):
    """The way from one stage to the next."""

    above: str
    below: str
    count: int
    p50_ms: float
    p99_ms: float


class ObserveReport(Report):
    """``mipplan observe --json``."""

    command: Literal["observe"] = "observe"
    queries: int
    batches: list[ObservedBatchReport]
    hops: list[ObservedHopReport]
    failed_batches: dict[str, int]
    unknown: list[str]
    written: list[str]


def observe_report(found: LogObservation) -> ObserveReport:
    """Describe what logs say."""
    return ObserveReport(
        queries=found.arrival_ns.size,
        batches=[
            ObservedBatchReport.of(
                one,
                p50_ms=one.p50.value_ns / NS_PER_MS,
                p50_interval_ms=_ends_ms(one.p50),
                p99_ms=one.p99.value_ns / NS_PER_MS,
                p99_interval_ms=_ends_ms(one.p99),
            )
            for one in found.batches
        ],
        hops=[
            ObservedHopReport.of(
                hop, p50_ms=hop.p50.value_ns / NS_PER_MS, p99_ms=hop.p99.value_ns / NS_PER_MS
            )
            for hop in found.hops
        ],
        failed_batches=dict(found.failed),
        unknown=list(found.unknown),
        written=list(found.written),
    )


def _ends_ms(held: QuantileRange) -> list[float | None]:
    return [None if end is None else end / NS_PER_MS for end in (held.low_ns, held.high_ns)]


def show_observation(console: Console, report: ObserveReport) -> None:
    """Service times by batch size, hops, and what the log cannot tell."""
    console.print(f"[bold]observed[/bold]  {counted(report.queries, 'query', 'queries')}\n")
    batches = table("stage", ">batch", ">seen", ">P50", "with 95 %", ">P99", "with 95 %", "in the table")
    for one in report.batches:
        batches.add_row(
            escape(one.stage),
            str(one.batch),
            f"{one.count:,}",
            _ms(one.p50_ms),
            _range_text(one.p50_interval_ms),
            _ms(one.p99_ms),
            _range_text(one.p99_interval_ms),
            "yes" if one.written else "no",
        )
    hops = table("hop", ">seen", ">P50", ">P99")
    for hop in report.hops:
        hops.add_row(escape(f"{hop.above} → {hop.below}"), f"{hop.count:,}", _ms(hop.p50_ms), _ms(hop.p99_ms))
    show_parts(console, batches, hops)
    failed = [f"{count:,} batches at {stage} failed" for stage, count in report.failed_batches.items()]
    show_notes(console, [*failed, *report.unknown], report.written)


def _ms(value: float) -> str:
    return seconds_text(value / 1e3)


def _range_text(ends: list[float | None]) -> str:
    return " … ".join("?" if end is None else f"{end:.4g}" for end in ends)


# --- truth -----------------------------------------------------------------------------------------------------------


class FigureComparisonReport(Report):
    """One figure of the latencies, measured and predicted."""

    name: str
    measured: Finite
    measured_interval: Interval | None
    predicted: Finite
    deviation: float | None
    deviation_interval: Interval | None
    agreement: str


class ServiceComparisonReport(Report):
    """Batches of one size at a stage, and the plan's table."""

    batch: int
    batches: int
    p50_s: float
    p50_interval: Interval | None
    p99_s: float
    table_s: float | None


class StageComparisonReport(Report):
    """One stage, measured and predicted."""

    stage: str
    tokens_per_query: float
    predicted_tokens_per_query: float
    mean_batch: float
    predicted_mean_batch: float
    batch_sizes: dict[str, int]
    predicted_batch_sizes: dict[str, int]
    service_ratio: float | None
    service_interval: Interval | None
    overruns: float | None
    services: list[ServiceComparisonReport]
    wait_s: float
    predicted_wait_s: float
    served_wait_s: float | None
    grows: bool
    predicted_grows: bool
    failed_batches: int
    replicas: int
    most_at_once: int
    longest_idle_s: float


class HopComparisonReport(Report):
    """The way from one stage to the next, measured and predicted."""

    above: str
    below: str
    count: int
    p50_s: float
    p50_interval: Interval | None
    predicted_p50_s: float
    stagger_s: float | None
    predicted_stagger_s: float | None


class CauseReport(Report):
    """One term of the prediction that is off."""

    term: str
    place: str
    text: str


class TruthReport(Report):
    """``mipplan truth --json``."""

    command: Literal["truth"] = "truth"
    plan_file: str
    logs: list[str]
    pipeline: Annotated[str, "plan.pipeline.name"]
    slo_s: float
    queries: int
    answered: int
    verdict: str
    verdict_text: str
    figures: list[FigureComparisonReport]
    causes: list[CauseReport]
    stages: list[StageComparisonReport]
    hops: list[HopComparisonReport]
    sent_late_s: dict[str, float]
    confidence: float
    notes: list[str]


def truth_report(found: Truth, plan_file: str, logs: list[str]) -> TruthReport:
    """Describe a prediction against what was measured."""
    return TruthReport.of(
        found,
        plan_file=plan_file,
        logs=logs,
        figures=list(found.figures),
        causes=list(found.causes),
        stages=[_stage_report(stage) for stage in found.stages],
        hops=list(found.hops),
        sent_late_s=dict(found.send_error_s),
        notes=list(found.notes),
    )


def _stage_report(stage: StageComparison) -> StageComparisonReport:
    def by_size(counts: dict[int, int]) -> dict[str, int]:
        return {str(size): count for size, count in counts.items()}

    return StageComparisonReport.of(
        stage,
        services=list(stage.services),
        batch_sizes=by_size(dict(stage.batch_sizes)),
        predicted_batch_sizes=by_size(dict(stage.predicted_batch_sizes)),
    )


def show_truth(console: Console, report: TruthReport) -> None:
    """The verdict and its causes, then figures, stages, services and hops, measured beside predicted."""
    console.print(
        f"[bold]{escape(report.pipeline)}[/bold]: {counted(report.queries, 'query', 'queries')}, "
        f"{report.answered:,} answered well, objective {seconds_text(report.slo_s)}\n"
    )
    show_parts(console, _figure_table(report), *([_stage_table(report)] if report.stages else []))
    if report.stages:
        show_parts(console, _service_table(report), _hop_table(report))
    console.print(f"[bold]verdict[/bold]: {escape(report.verdict_text)}")
    for cause in report.causes:
        console.print(f"[bold]{cause.term}[/bold]: {escape(cause.text)}")
    show_notes(console, report.notes)


def _figure_table(report: TruthReport) -> Table:
    share = f"{100 * report.confidence:g} %"
    figures = table("", ">measured", ">predicted", ">deviation", f"with {share}", "")
    for one in report.figures:
        is_share = one.name == "miss_rate"
        held = [_amount(value, is_share) for value in (one.measured, one.predicted)]
        ends = one.deviation_interval
        between = "" if ends is None else f"{_off(ends.low, is_share)} … {_off(ends.high, is_share)}"
        figures.add_row(_label(one.name), *held, _off(one.deviation, is_share), between, one.agreement)
    return figures


def _amount(value: float | None, is_share: bool) -> str:
    if value is None:
        return ""
    return f"{value:.2%}" if is_share else seconds_text(value)


def _off(value: float | None, is_share: bool) -> str:
    if value is None:
        return ""
    return f"{100 * value:+.2f} points" if is_share else f"{value:.3f} ×"


def _stage_table(report: TruthReport) -> Table:
    figures = (">batch", ">predicted", ">service", "with 95 %", ">wait", ">predicted", ">by own dispatch")
    stages = table("stage", *figures, "queue")
    for one in report.stages:
        ends = one.service_interval
        stages.add_row(
            escape(one.stage),
            f"{one.mean_batch:.2f}",
            f"{one.predicted_mean_batch:.2f}",
            "" if one.service_ratio is None else f"{one.service_ratio:.3f} ×",
            "" if ends is None else f"{ends.low:.3f} … {ends.high:.3f}",
            seconds_text(one.wait_s),
            seconds_text(one.predicted_wait_s),
            "" if one.served_wait_s is None else seconds_text(one.served_wait_s),
            "grows" if one.grows else "steady",
        )
    return stages


def _service_table(report: TruthReport) -> Table:
    services = table("stage", ">batch", ">seen", ">P50", ">P99", ">table")
    for stage in report.stages:
        for one in stage.services:
            stated = "" if one.table_s is None else seconds_text(one.table_s)
            figures = (f"{one.batches:,}", seconds_text(one.p50_s), seconds_text(one.p99_s), stated)
            services.add_row(escape(stage.stage), str(one.batch), *figures)
    return services


def _hop_table(report: TruthReport) -> Table:
    hops = table("hop", ">seen", ">P50", ">planned")
    for hop in report.hops:
        figures = (f"{hop.count:,}", seconds_text(hop.p50_s), seconds_text(hop.predicted_p50_s))
        hops.add_row(escape(f"{hop.above} → {hop.below}"), *figures)
    return hops
