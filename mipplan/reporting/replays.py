"""A replay for people, programs and files: the documents of ``mipplan replay``, whole or streamed, and their tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO, Literal

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mipplan.core import NS_PER_S, InputError, Int64, check_slo, counted, usd_text
from mipplan.documents import write_atomically
from mipplan.perturbation import of_a_run
from mipplan.pipeline import Discipline, DispatchLaw
from mipplan.reporting.documents import (
    BriefReport,
    ReplayCommandReport,
    ReplayReport,
    Report,
    StageReport,
    WindowReport,
)
from mipplan.reporting.plans import IN_SAMPLE
from mipplan.reporting.text import (
    LABELS,
    NO_THEOREM_UNDER_FIFO,
    figures,
    hidden_misses,
    moments_text,
    objective_text,
    seconds_text,
    show_notes,
    show_parts,
    table,
    trace_text,
)
from mipplan.result import (
    FIGURES,
    RELATIVE_ERROR,
    Plan,
    ReplayResult,
    StreamEnd,
    StreamResult,
    Windows,
    energy_text,
    overruns_text,
    state_manner,
    systems_text,
)
from mipplan.trace import Trace

if TYPE_CHECKING:
    import pyarrow as pa

LATENCY_FILES = (".csv", ".parquet")
OUT_OF_SAMPLE = "out of sample: the plan was made for another trace"
#: At most this many windows are shown in a table, because nobody reads more lines.
_WINDOWS_SHOWN = 500
_JUDGED = "of {} only the first limit is judged, over all queries: streams keep no latency of each query"
_UNDER_WAY = "Queries under way, the slow ones among them, are not in these figures"
_ENDS = {
    StreamEnd.INTERRUPTED: f"interrupted, so far it was this. {_UNDER_WAY}",
    StreamEnd.OVERLOADED: f"stopped: the plan does not keep up, and too much is waiting. {_UNDER_WAY}",
}


class StreamStageReport(Report):
    """What one stage did in a streamed replay."""

    replicas: int
    tokens: int
    batches: int
    mean_batch: float
    utilisation: float
    mean_wait_s: float
    max_wait_s: float


class StreamReport(BriefReport):
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
    dispatch: str
    discipline: str
    engine: str
    seed: int
    certificate_applies: bool
    latency_s: dict[str, float]
    quantile_error: float
    slo_s: float
    quantile: float
    misses: int
    miss_rate: float
    stages: dict[str, StreamStageReport]
    written: list[str]
    stagger_s: dict[str, float] | None = None
    energy: Annotated[dict[str, float] | None, "energy.figures"] = None
    stage_energy_j: Annotated[dict[str, dict[str, float]] | None, "energy.by_stage"] = None
    energy_reason: Annotated[str | None, "energy_reason"] = None
    remarks: list[str] | None = None


def replay_report(result: ReplayResult, slo_s: float | None) -> ReplayReport:
    """Describe a replay, beside an objective if there is one."""
    if slo_s is not None:
        slo_s = check_slo(slo_s) / NS_PER_S
    statistics = result.statistics(slo_s)
    estimates = dict(zip(FIGURES, (estimate for _, estimate in statistics.quantiles), strict=True))
    missed = statistics.misses
    judged = estimates if missed is None else {**estimates, "miss_rate": missed}
    return ReplayReport.of(
        result,
        statistics,
        latency_s={
            **{name: estimate.value for name, estimate in estimates.items()},
            "max": result.quantile(1.0),
            "mean": result.mean_latency_s,
        },
        slo_s=slo_s,
        misses=None if slo_s is None else result.misses(slo_s),
        overruns=result.overruns,
        queries_lost=result.queries_lost,
        stagger_s=_staggers_s(result),
        systems=dict(result.systems) or None,
        rejected=result.queries_rejected,
        miss_rate=None if missed is None else missed.value,
        latency_interval_s={name: estimate.interval for name, estimate in estimates.items()},
        miss_rate_interval=None if missed is None else missed.interval,
        no_interval={
            name: estimate.reason for name, estimate in judged.items() if estimate.reason is not None
        },
        stages={
            name: StageReport.of(
                stage,
                batch_sizes={str(size): count for size, count in stage.batch_sizes.items()},
                utilisation=result.utilisation(name),
                p99_wait_s=stage.wait_quantile(0.99),
            )
            for name, stage in result.stages.items()
        },
    )


def replay_command_report(
    plan: Plan,
    plan_file: str,
    trace: Trace,
    result: ReplayResult,
    windows: Windows | None = None,
    written: Sequence[str] = (),
    *,
    dispatch: str | None = None,
) -> ReplayCommandReport:
    """Describe a replay of a plan file, under a law other than its own if one is named; with what was written."""
    held = of_a_run(plan.objective)
    return ReplayCommandReport.of(
        plan,
        plan_file=plan_file,
        trace=trace,
        dispatch=dispatch or plan.dispatch,
        in_sample=trace.sha256 in {one.sha256 for one in plan.traces},
        objective=held.text,
        quantile=held.quantile,
        kept=result.objective_ns(held) <= plan.slo_ns,
        replay=replay_report(result, plan.slo_s),
        window_s=None if windows is None else windows.window_s,
        windows=None if windows is None else windows.to_pandas().to_dict(orient="records"),
        remarks=hidden_misses(result, held),
        written=list(written),
    )


def show_replay(console: Console, report: ReplayCommandReport) -> None:
    """Objective, misses, cost; latencies with their intervals; what each stage did; latencies over time."""
    replay = report.replay
    console.print(f"[bold]{escape(report.plan_file)}[/bold] on {trace_text(report.trace)}\n")
    show_parts(
        console, figures(_verdict_figures(report)), _latency_table(replay), _stage_table(replay.stages)
    )
    if report.windows is not None:
        console.print(_window_table(report.windows[:_WINDOWS_SHOWN], report.trace.zero))
        left_out = len(report.windows) - _WINDOWS_SHOWN
        if left_out > 0:
            console.print(f"… and {left_out:,} windows more: --json and --out hold all of them")
        console.print()
    notes = [f"no interval for {LABELS[name]}: {reason}" for name, reason in replay.no_interval.items()]
    notes.append(IN_SAMPLE if report.in_sample else OUT_OF_SAMPLE)
    if (overran := overruns_text(replay.overruns, replay.queries_lost)) is not None:
        notes.append(f"overruns: {overran}")
    notes += [*_uncovered_notes(report.dispatch, replay), *report.remarks]
    show_notes(console, notes, report.written)


def _uncovered_notes(dispatch: str, replay: ReplayReport | StreamReport) -> list[str]:
    """Say why the plan's certificate does not cover a run, if it does not."""
    if replay.certificate_applies:
        return []
    if getattr(replay, "systems", None) and not getattr(replay, "overruns", None):
        otherwise = "the plan says otherwise of queues, their order, window or stagger"
        return [f"replay only: not certified for servers that make batches so: {otherwise}"]
    note = (
        "the certificate does not cover this run: dispatch, queues, stagger, replicas or service times are not as "
        "planned"
    )
    if dispatch == DispatchLaw.TIMED:
        note += "; as all stages are timed here, this replay is what every such run does"
    elif replay.discipline != Discipline.OLDEST_FIRST:
        note = NO_THEOREM_UNDER_FIFO
    return [note]


def _replayed(report: ReplayReport | StreamReport) -> tuple[str, str]:
    staggers_ns = {stage: round(s * NS_PER_S) for stage, s in (report.stagger_s or {}).items()}
    return ("replayed", state_manner(report.discipline, report.engine, report.seed, staggers_ns))


def _verdict_figures(report: ReplayCommandReport) -> list[tuple[str, str]]:
    replay = report.replay
    service = "" if replay.service == "as measured" else replay.service
    energy = energy_text(replay.energy)
    told = (("service", service), ("system", systems_text(replay.systems or {})), ("energy", energy))
    rows = [_replayed(replay), *(row for row in told if row[1])]
    if replay.slo_s is not None and replay.misses is not None and replay.miss_rate is not None:
        rows.append(("objective", f"{report.objective}: {'kept' if report.kept else 'missed'}"))
        between = ""
        if replay.miss_rate_interval is not None:
            low, high = replay.miss_rate_interval.low, replay.miss_rate_interval.high
            between = f"; {replay.confidence:.0%} interval {low:.3%} to {high:.3%}"
        share = f"{replay.misses:,} of {replay.queries:,} queries ({replay.miss_rate:.3%}{between})"
        rows.append(("slower", share + (f", {replay.rejected:,} turned away" if replay.rejected else "")))
    # The plan's cost counts all the electricity that it may take; what this run took is told with its energy.
    is_powered = bool(replay.energy and replay.energy["usd"])
    most, rent = (" with electricity at its most", "rent ") if is_powered else ("", "")
    paid = f"{rent}{replay.usd:.4g} $ for the {seconds_text(replay.span_s)} replayed"
    per_thousand = f"{1_000 * replay.usd_per_query:.4g} $ per 1,000 queries"
    return [*rows, ("cost", f"{usd_text(report.usd_per_hour)} $/h{most}; {paid}, {per_thousand}")]


def _latency_table(replay: ReplayReport) -> Table:
    latencies = table("latency", ">observed", f"{replay.confidence:.0%} interval")
    for name in ("mean", *replay.latency_interval_s, "max"):
        interval = replay.latency_interval_s.get(name)
        between = "" if interval is None else f"{seconds_text(interval.low)} to {seconds_text(interval.high)}"
        latencies.add_row(LABELS[name], seconds_text(replay.latency_s[name]), between)
    return latencies


def _stage_table(reports: Mapping[str, StageReport] | Mapping[str, StreamStageReport]) -> Table:
    """Of a streamed replay, neither a quantile of the waits nor the longest queue is known."""
    streamed = any(isinstance(stage, StreamStageReport) for stage in reports.values())
    columns = ("replicas", "busy", "tokens", "mean batch", "mean wait", "P99 wait", "max wait", "max queue")
    shown = [column for column in columns if not streamed or column not in ("P99 wait", "max queue")]
    stages = table("stage", *(f">{column}" for column in shown))
    for name, stage in reports.items():
        cells = {
            "replicas": str(stage.replicas),
            "busy": f"{stage.utilisation:.1%}",
            "tokens": f"{stage.tokens:,}",
            "mean batch": f"{stage.mean_batch:.2f}",
            "mean wait": seconds_text(stage.mean_wait_s),
            "max wait": seconds_text(stage.max_wait_s),
        }
        if isinstance(stage, StageReport):
            cells |= {"P99 wait": seconds_text(stage.p99_wait_s), "max queue": f"{stage.max_queue:,}"}
        stages.add_row(escape(name), *(cells[column] for column in shown))
    return stages


def _window_table(reports: Sequence[WindowReport], zero: str | None) -> Table:
    heading, begins = moments_text([window.start_s for window in reports], zero)
    windows = table(f">{heading}", ">queries", ">mean", ">P50", ">P90", ">P99", ">max", ">slower")
    for begin, window in zip(begins, reports, strict=True):
        latencies = (window.mean_s, window.p50_s, window.p90_s, window.p99_s, window.max_s)
        cells = ("" if latency is None else seconds_text(latency) for latency in latencies)
        missed = "" if window.miss_rate is None else f"{window.miss_rate:.2%}"
        windows.add_row(begin, f"{window.queries:,}", *cells, missed)
    return windows


# --- streamed --------------------------------------------------------------------------------------------------------


def stream_report(
    plan: Plan,
    plan_file: str,
    trace_file: str,
    result: StreamResult,
    written: Sequence[str] = (),
    *,
    dispatch: str | None = None,
) -> StreamReport:
    """Summarise a streamed replay, as `replay_command_report` does one of a whole trace."""
    latency_s = {name: result.quantile(quantile) for name, quantile in FIGURES.items()}
    held = of_a_run(plan.objective)
    return StreamReport.of(
        result,
        plan_file=plan_file,
        trace_file=trace_file,
        dispatch=dispatch or plan.dispatch,
        usd_per_hour=plan.usd_per_hour or 0.0,
        latency_s={**latency_s, "max": result.max_latency_s, "mean": result.mean_latency_s},
        quantile_error=RELATIVE_ERROR,
        quantile=held.quantile,
        stagger_s=_staggers_s(result),
        written=list(written),
        remarks=[_JUDGED.format(held.text)] if held.per_ns or held.others else None,
    )


def _staggers_s(result: ReplayResult | StreamResult) -> dict[str, float] | None:
    """Seconds between outputs of a batch, where they did not go on at once; None if they did everywhere."""
    return {stage: ns / NS_PER_S for stage, ns in result.staggers_ns.items() if ns} or None


def show_stream(console: Console, report: StreamReport) -> None:
    """Objective, misses and cost; latencies; what each stage did."""
    size = f"{counted(report.queries, 'query', 'queries')}, {seconds_text(report.last_s - report.first_s)}"
    console.print(f"[bold]{escape(report.plan_file)}[/bold] on {escape(report.trace_file)}: {size}\n")
    show_parts(console, figures(_stream_figures(report)), _stage_table(report.stages))
    notes = [
        f"quantiles are at most {report.quantile_error:.1%} too high and never too low; all else is exact"
    ]
    notes += [*_uncovered_notes(report.dispatch, report), *(report.remarks or [])]
    if report.end != StreamEnd.COMPLETE:
        notes.append(_ENDS[StreamEnd(report.end)])
    show_notes(console, notes, report.written)


def _stream_figures(report: StreamReport) -> list[tuple[str, str]]:
    latencies = ", ".join(f"{LABELS[name]} {seconds_text(value)}" for name, value in report.latency_s.items())
    energy = f"not known: {report.energy_reason}" if report.energy_reason else energy_text(report.energy)
    rows = [_replayed(report), *([("energy", energy)] if energy else [])]
    if report.end == StreamEnd.COMPLETE:  # what is missing of a partial result are the slow queries
        verdict = objective_text(report.quantile, report.slo_s, report.queries, report.misses)
        rows.append(("objective", verdict))
    share = f"{report.misses:,} of {report.queries:,} queries ({report.miss_rate:.3%})"
    rows += [("slower", f"{share} than {seconds_text(report.slo_s)}"), ("latency", latencies)]
    return [*rows, ("cost", f"{usd_text(report.usd_per_hour)} $/h")]


# --- files -----------------------------------------------------------------------------------------------------------


def write_latencies(path: str | Path, result: ReplayResult) -> None:
    """Write ``arrival_s`` and ``latency_s`` of each answered query, in the order of ingress, whole or not at all.

    The file is a trace file as well. CSV holds seconds with nine decimals, Parquet float64; both give back whole
    nanoseconds when rounded.

    Raises
    ------
    InputError
        If the name ends in none of `LATENCY_FILES`, or the place cannot be written to.
    """
    ending = Path(path).suffix.lower()
    if ending not in LATENCY_FILES:
        raise InputError.one(str(path), f"expected a name that ends in {' or '.join(LATENCY_FILES)}")
    write = _write_csv if ending == ".csv" else _write_parquet
    times_ns = {"arrival_s": result.answered(result.ingress_ns), "latency_s": result.answered_ns}
    write_atomically(path, lambda stream: write(stream, times_ns))


def _write_csv(stream: BinaryIO, times_ns: Mapping[str, Int64]) -> None:
    import pyarrow as pa
    import pyarrow.csv as pa_csv

    columns = {name: _decimals(column_ns) for name, column_ns in times_ns.items()}
    stream.write(f"{','.join(columns)}\n".encode())
    # Arrow would put the names in quotes.
    options = pa_csv.WriteOptions(include_header=False, quoting_style="none")
    pa_csv.write_csv(pa.table(columns), stream, options)


def _write_parquet(stream: BinaryIO, times_ns: Mapping[str, Int64]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: column_ns / NS_PER_S for name, column_ns in times_ns.items()}
    pq.write_table(pa.table(columns), stream)


def _decimals(times_ns: Int64) -> pa.Array:
    """Seconds with nine decimals, exactly, as text."""
    import pyarrow as pa
    import pyarrow.compute as pc

    whole, part = np.divmod(times_ns, NS_PER_S)
    padded = pc.utf8_lpad(pa.array(part).cast(pa.string()), width=9, padding="0")
    return pc.binary_join_element_wise(pa.array(whole).cast(pa.string()), padded, ".")
