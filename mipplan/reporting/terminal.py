"""The same documents as tables for a terminal. Only what the JSON documents hold is shown, so the two agree."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mipplan.reporting.documents import (
    BucketReport,
    CriticalStageReport,
    PlanReport,
    ProfilesReport,
    ReplayCommandReport,
    ReplayReport,
    SolversReport,
    TraceReport,
    VerifyReport,
    WindowReport,
)
from mipplan.reporting.wording import (
    LABELS,
    NO_THEOREM_UNDER_FIFO,
    figures,
    objective_text,
    percent_text,
    seconds_text,
)

IN_SAMPLE = (
    "in-sample: planned and judged on the same trace; judge it on another one too (mipplan replay, verify)"
)
OUT_OF_SAMPLE = "out of sample: the plan was made for another trace"
#: Lines that somebody may still read.
_WINDOWS_SHOWN = 500


def show_plan(console: Console, report: PlanReport) -> None:
    """Plan, cost, lower bound, bound, certificate and replayed quantiles."""
    console.print(f"[bold]{escape(report.pipeline)}[/bold] on {_trace_text(report.trace)}")
    if not report.choices:
        console.print(f"\n[bold red]{report.status}[/bold red]: {escape(report.reason or '')}")
        return
    table = Table("stage", "hardware", box=None, pad_edge=False, header_style="bold")
    for heading in ("batch", "replicas", "$/h"):
        table.add_column(heading, justify="right")
    for stage, choice in report.choices.items():
        row = (stage, choice.hardware, str(choice.batch), str(choice.replicas), f"{choice.usd_per_hour:.4f}")
        table.add_row(*(escape(cell) for cell in row))
    console.print()
    console.print(table)
    console.print()
    console.print(figures(_plan_figures(report)))
    if report.reason:
        console.print(f"\n{escape(report.reason)}")
    if report.explanation is not None:
        console.print()
        for line in report.explanation:
            console.print(escape(line))
        console.print()
    for remark in report.remarks:
        console.print(f"[yellow]note[/yellow]: {escape(remark)}")
    console.print(f"[yellow]note[/yellow]: {IN_SAMPLE}")
    if report.plan_file:
        console.print(f"written to {escape(report.plan_file)}")


def show_replay(console: Console, report: ReplayCommandReport) -> None:
    """Objective, misses, cost; latencies with their intervals; what each stage did; latencies over time."""
    replay = report.replay
    console.print(f"[bold]{escape(report.plan_file)}[/bold] on {_trace_text(report.trace)}\n")
    console.print(figures(_verdict_figures(report)))
    console.print()
    console.print(_latency_table(replay))
    console.print()
    console.print(_stage_table(replay))
    if report.windows is not None:
        console.print()
        console.print(_window_table(report.windows))
        left_out = len(report.windows) - _WINDOWS_SHOWN
        if left_out > 0:
            console.print(f"… and {left_out:,} windows more: --json and --out hold all of them")
    console.print()
    for name, reason in replay.no_interval.items():
        console.print(f"[yellow]note[/yellow]: no interval for {LABELS[name]}: {escape(reason)}")
    console.print(f"[yellow]note[/yellow]: {IN_SAMPLE if report.in_sample else OUT_OF_SAMPLE}")
    if replay.discipline != "oldest_first":
        console.print(f"[yellow]note[/yellow]: {NO_THEOREM_UNDER_FIFO}")
    elif not replay.certificate_applies:
        console.print(
            "[yellow]note[/yellow]: the certificate does not cover this run: replicas or service times are "
            "not those it was made for"
        )
    for path in report.written:
        console.print(f"written to {escape(path)}")


def show_verification(console: Console, report: VerifyReport) -> None:
    """Verified or not, and why."""
    console.print(f"[bold]{escape(report.plan_file)}[/bold] on {_trace_text(report.trace)}\n")
    rows = [("objective", f"P{percent_text(report.quantile)} ≤ {seconds_text(report.slo_s)}")]
    if report.certificate_s is not None:
        rows.append(
            ("certificate", f"{seconds_text(report.certificate_s)}  (recomputed, oldest first, no solver)")
        )
        rows.append(("critical path", _critical_path(report)))
    if report.worst_case_s is not None:
        rows.append(
            ("worst case", f"{seconds_text(report.worst_case_s)}  (all traffic inside the arrival curve)")
        )
    console.print(figures(rows))
    console.print()
    for remark in report.remarks:
        console.print(f"[yellow]note[/yellow]: {escape(remark)}")
    if report.verified:
        console.print("[bold green]verified[/bold green]: the certificate keeps the objective")
        return
    console.print("[bold red]not verified[/bold red]")
    for problem in report.problems:
        console.print(f"  {escape(problem)}")


def show_profiles(console: Console, report: ProfilesReport) -> None:
    """Hardware with prices, and the measured batch sizes of every model on it."""
    console.print(f"profiles in {escape(report.folder)}\n")
    hardware = Table("hardware", box=None, pad_edge=False, header_style="bold")
    for heading in ("$/h", "memory", "limit"):
        hardware.add_column(heading, justify="right")
    hardware.add_column("price from")
    for name, device in report.hardware.items():
        memory = "" if device.memory_gib is None else f"{device.memory_gib:g} GiB"
        limit = "none" if device.limit is None else str(device.limit)
        hardware.add_row(escape(name), f"{device.usd_per_hour:.4f}", memory, limit, escape(device.source))
    console.print(hardware)
    models = Table("model", "hardware", "batch sizes", box=None, pad_edge=False, header_style="bold")
    models.add_column("latency of one batch", justify="right")
    previous = ""
    for table in sorted(report.tables, key=lambda t: (t.model, t.hardware)):
        model = "" if table.model == previous else table.model
        previous = table.model
        sizes = ", ".join(str(size) for size in table.batch)
        span = f"{min(table.latency_ms):.4g} … {max(table.latency_ms):.4g} ms"
        models.add_row(escape(model), escape(table.hardware), sizes, span)
    console.print()
    console.print(models)
    if report.shipped_pipelines:
        console.print(f"\nshipped pipelines: {escape(', '.join(report.shipped_pipelines))}")
        console.print(f"shipped traces: {escape(', '.join(report.shipped_traces))}")
    for remark in report.remarks:
        console.print(f"[yellow]note[/yellow]: {escape(remark)}")


def show_solvers(console: Console, report: SolversReport) -> None:
    """Which solvers work here, and which formulations there are."""
    table = Table("solver", "works", "version", "", box=None, pad_edge=False, header_style="bold")
    for solver in report.solvers:
        works = "[green]yes[/green]" if solver.available else "[red]no[/red]"
        table.add_row(solver.name, works, solver.version or "", escape(solver.reason or ""))
    console.print(table)
    console.print(f"\nformulations: {', '.join(report.formulations)}")


def _plan_figures(report: PlanReport) -> list[tuple[str, str]]:
    by = ", ".join(dict.fromkeys(map(str, (report.formulation, report.solver))))  # "auto" once is enough
    rows = [
        ("status", f"{report.status}  ({by})"),
        ("cost", f"{report.usd_per_hour:.4f} $/h"),
    ]
    if report.budget_usd_per_hour is not None:
        rows.append(
            (
                "budget",
                f"{report.budget_usd_per_hour:.4f} $/h  ({_proof(report, 'proven fastest within it')})",
            )
        )
    else:
        proof = _proof(report, "proven cheapest")
        rows.append(("lower bound", f"{report.lower_bound_usd_per_hour:.4f} $/h  ({proof})"))
        rows.append(("objective", f"{_share(report)} ≤ {seconds_text(report.slo_s)}"))
    if report.headroom != 1.0 or report.margin_s:
        margin = f", {seconds_text(report.margin_s)} of the objective kept back" if report.margin_s else ""
        rows.append(("headroom", f"{report.headroom:g} × the traffic{margin}"))
    rows.append(("bound", f"{seconds_text(report.bound_s or 0)}  (relaxation inside the MILP)"))
    scope = "this trace" if report.headroom == 1.0 else f"{report.headroom:g} × this trace"
    if report.envelope is not None:
        scope = "all traffic inside the arrival curve, every query"
        rows.append(("arrival curve", _envelope(report.envelope)))
    rows.append(
        ("certificate", f"{seconds_text(report.certificate_s or 0)}  (proven for {scope}, oldest first)")
    )
    return rows if report.replay is None else rows + _replay_figures(report.replay)


def _proof(report: PlanReport, proven: str) -> str:
    if report.status == "optimal":
        return proven
    return "not proven" if report.gap is None else f"gap {report.gap:.1%}"


def _share(report: PlanReport) -> str:
    return "every query" if report.envelope is not None else f"P{percent_text(report.quantile)}"


def _envelope(buckets: Sequence[BucketReport]) -> str:
    shown = [f"{bucket.burst:.4g} + {bucket.rate_rps:.4g}·u" for bucket in buckets[:3]]
    more = [f"… ({len(buckets)} pieces)"] if len(buckets) > len(shown) else []
    return f"queries in any u seconds ≤ min({', '.join([*shown, *more])})"


def _replay_figures(report: ReplayReport) -> list[tuple[str, str]]:
    shown = ("p50", "p90", "p99", "p99_9", "max")
    latencies = ", ".join(f"{LABELS[name]} {seconds_text(report.latency_s[name])}" for name in shown)
    rows = [("replayed", f"{latencies}  ({report.discipline.replace('_', ' ')})")]
    if report.slo_s is not None and report.miss_rate is not None:
        missed = f"{report.miss_rate:.3%} of queries are slower than {seconds_text(report.slo_s)}"
        rows.append(("missed", missed))
    return rows


def _verdict_figures(report: ReplayCommandReport) -> list[tuple[str, str]]:
    replay = report.replay
    rows = [
        ("replayed", f"{replay.discipline.replace('_', ' ')}, engine {replay.engine}, seed {replay.seed}")
    ]
    if replay.service != "as measured":
        rows.append(("service", replay.service))
    if replay.slo_s is not None and replay.misses is not None and replay.miss_rate is not None:
        verdict = objective_text(report.quantile, replay.slo_s, replay.queries, replay.misses)
        rows.append(("objective", verdict))
        between = ""
        if replay.miss_rate_interval is not None:
            low, high = replay.miss_rate_interval.low, replay.miss_rate_interval.high
            between = f"; {replay.confidence:.0%} interval {low:.3%} to {high:.3%}"
        share = f"{replay.misses:,} of {replay.queries:,} queries ({replay.miss_rate:.3%}{between})"
        rows.append(("slower", share))
    paid = f"{replay.usd:.4g} $ for the {seconds_text(replay.span_s)} replayed"
    per_thousand = f"{1_000 * replay.usd_per_query:.4g} $ per 1,000 queries"
    return [*rows, ("cost", f"{report.usd_per_hour:.4f} $/h; {paid}, {per_thousand}")]


def _latency_table(replay: ReplayReport) -> Table:
    table = Table("latency", box=None, pad_edge=False, header_style="bold")
    table.add_column("observed", justify="right")
    table.add_column(f"{replay.confidence:.0%} interval")
    for name in ("mean", *replay.latency_interval_s, "max"):
        interval = replay.latency_interval_s.get(name)
        between = "" if interval is None else f"{seconds_text(interval.low)} to {seconds_text(interval.high)}"
        table.add_row(LABELS[name], seconds_text(replay.latency_s[name]), between)
    return table


def _stage_table(replay: ReplayReport) -> Table:
    table = Table("stage", box=None, pad_edge=False, header_style="bold")
    for heading in (
        "replicas",
        "busy",
        "tokens",
        "mean batch",
        "mean wait",
        "P99 wait",
        "max wait",
        "max queue",
    ):
        table.add_column(heading, justify="right")
    for name, stage in replay.stages.items():
        table.add_row(
            escape(name),
            str(stage.replicas),
            f"{stage.utilisation:.1%}",
            f"{stage.tokens:,}",
            f"{stage.mean_batch:.2f}",
            seconds_text(stage.mean_wait_s),
            seconds_text(stage.p99_wait_s),
            seconds_text(stage.max_wait_s),
            f"{stage.max_queue:,}",
        )
    return table


def _window_table(windows: Sequence[WindowReport]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in ("from", "queries", "mean", "P50", "P90", "P99", "max", "slower"):
        table.add_column(heading, justify="right")
    for window in windows[:_WINDOWS_SHOWN]:
        latencies = (window.mean_s, window.p50_s, window.p90_s, window.p99_s, window.max_s)
        table.add_row(
            f"{window.start_s:.10g} s",
            f"{window.queries:,}",
            *("" if latency is None else seconds_text(latency) for latency in latencies),
            "" if window.miss_rate is None else f"{window.miss_rate:.2%}",
        )
    return table


def _critical_path(report: VerifyReport) -> str:
    return " → ".join(f"{step.stage} ({', '.join(_step_parts(step))})" for step in report.critical_path)


def _step_parts(step: CriticalStageReport) -> list[str]:
    delay = [f"after a delay of {seconds_text(step.delay_s)}"] if step.delay_s else []
    return [f"T {seconds_text(step.latency_s)}", f"wait {seconds_text(step.wait_s)}", *delay]


def _trace_text(trace: TraceReport) -> str:
    rate = "all at once" if trace.rate_rps is None else f"{trace.rate_rps:.4g} queries/s"
    cv = "" if trace.cv is None else f", CV {trace.cv:.2f}"
    return f"{escape(trace.name)}: {trace.queries:,} queries, {trace.duration_s:.4g} s, {rate}{cv}"
