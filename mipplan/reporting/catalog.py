"""What there is to choose from, how it was measured, and what is odd in it: profiles, samples, solvers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.console import Console
from rich.markup import escape

from mipplan.certificate import plan_services
from mipplan.core import NS_PER_MS, NS_PER_S, counted, usd_text
from mipplan.profiles import Finding, Profiles, Severity, examine, power_assumption
from mipplan.profiling import MachineRecord
from mipplan.reporting.documents import Report
from mipplan.reporting.text import show_notes, show_parts, table
from mipplan.result import Plan
from mipplan.solvers import SolverInfo
from mipplan.tokens import read_traces, realise
from mipplan.trace import Trace

if TYPE_CHECKING:  # only who measures needs what measures
    from mipplan.profiling import BatchMeasurement, Measurement

#: At most this many findings about chosen hardware are spelt out in a plan's remarks, because they are read in passing.
_SPELT_OUT = 3


class HardwareReport(Report):
    """One hardware type."""

    usd_per_hour: float
    memory_gib: float | None
    limit: int | None
    source: str


class TableReport(Report):
    """One latency table."""

    model: str
    hardware: str
    batch: list[int]
    latency_ms: list[float]


class ProfilesReport(Report):
    """``mipplan profiles --json``."""

    command: Literal["profiles"] = "profiles"
    folder: str
    hardware: dict[str, HardwareReport]
    tables: list[TableReport]
    shipped_pipelines: list[str]
    shipped_traces: list[str]
    remarks: list[str]


class ExaminationReport(Report):
    """``mipplan profiles --check --json``."""

    command: Literal["profiles --check"] = "profiles --check"
    folder: str
    tables: int
    warnings: int
    notes: int
    findings: list[Finding]


class MeasuredBatchReport(Report):
    """What was measured of one batch size."""

    batch: int
    latency_ms: float
    p50_ms: float
    p50_interval_ms: list[float | None]
    p99_ms: float
    p99_interval_ms: list[float | None]
    mean_ms: float
    max_ms: float
    cpu_ms: float | None
    memory_gib: float | None
    energy_j: float | None
    runs: int
    warm_up: int
    disturbed: int
    disturbances: dict[str, int]
    settled: bool
    ending: str
    spent_s: float
    day: str
    chosen: str


class MeasurementReport(Report):
    """``mipplan profile --json``."""

    command: Literal["profile"] = "profile"
    model: str
    hardware: str
    kind: str
    subject: str
    threads: int | None
    together: int
    latency: str
    machine: MachineRecord
    batches: list[MeasuredBatchReport]
    failures: dict[str, str]
    energy_from: str
    ended: str
    remarks: list[str]
    folder: str


class SolversReport(Report):
    """``mipplan solvers --json``."""

    command: Literal["solvers"] = "solvers"
    solvers: list[SolverInfo]
    formulations: list[str]


def profiles_report(
    profiles: Profiles, folder: str, pipelines: list[str], traces: list[str]
) -> ProfilesReport:
    """Describe a profile folder."""
    return ProfilesReport.of(
        profiles,
        folder=folder,
        tables=[
            TableReport.of(table, batch=table.batch.tolist(), latency_ms=table.latency_ms.tolist())
            for table in profiles.tables.values()
        ],
        shipped_pipelines=pipelines,
        shipped_traces=traces,
    )


def show_profiles(console: Console, report: ProfilesReport) -> None:
    """Hardware with prices, and the measured batch sizes of every model on it."""
    console.print(f"profiles in {escape(report.folder)}\n")
    hardware = table("hardware", ">$/h", ">memory", ">limit", "price from")
    for name, device in report.hardware.items():
        memory = "" if device.memory_gib is None else f"{device.memory_gib:g} GiB"
        limit = "none" if device.limit is None else str(device.limit)
        hardware.add_row(escape(name), usd_text(device.usd_per_hour), memory, limit, escape(device.source))
    show_parts(console, hardware)
    models = table("model", "hardware", "batch sizes", ">latency of one batch")
    previous = ""
    for measured in sorted(report.tables, key=lambda t: (t.model, t.hardware)):
        model = "" if measured.model == previous else measured.model
        previous = measured.model
        sizes = ", ".join(str(size) for size in measured.batch)
        span = f"{min(measured.latency_ms):.4g} … {max(measured.latency_ms):.4g} ms"
        models.add_row(escape(model), escape(measured.hardware), sizes, span)
    console.print(models)
    if report.shipped_pipelines:
        console.print(f"\nshipped pipelines: {escape(', '.join(report.shipped_pipelines))}")
        console.print(f"shipped traces: {escape(', '.join(report.shipped_traces))}")
    show_notes(console, report.remarks)


def examination_report(profiles: Profiles, folder: str, further: Sequence[Finding] = ()) -> ExaminationReport:
    """Describe everything odd in a profile folder: in its tables, and what else was found."""
    places = {key: place for place, key in enumerate(profiles.tables)}
    findings = sorted(
        (*examine(profiles), *further),
        key=lambda one: (places[one.model, one.hardware], one.severity is Severity.NOTE),
    )
    warnings = sum(finding.severity is Severity.WARNING for finding in findings)
    return ExaminationReport(
        folder=folder,
        tables=len(profiles.tables),
        warnings=warnings,
        notes=len(findings) - warnings,
        findings=findings,
    )


def show_examination(console: Console, report: ExaminationReport) -> None:
    """List findings by table, warnings in colour."""
    console.print(f"profiles in {escape(report.folder)}\n")
    shown = ""
    for finding in report.findings:
        heading = f"{finding.model} on {finding.hardware}"
        if heading != shown:
            console.print(f"[bold]{escape(heading)}[/bold]")
            shown = heading
        colour = "red" if finding.severity == "warning" else "yellow"
        text = escape(f"{finding.found}; {finding.treatment}")
        console.print(f"  [{colour}]{finding.severity}[/{colour}]: {text}")
    if report.findings:
        console.print()
    counts = (counted(report.warnings, "warning"), counted(report.notes, "note"))
    console.print(f"{counted(report.tables, 'table')}: {', '.join(counts)}")


def measurement_report(measured: Measurement, folder: str) -> MeasurementReport:
    """Describe a measurement and where it was written."""
    return MeasurementReport.of(
        measured,
        kind=measured.request.kind,
        subject=measured.request.text,
        threads=measured.request.threads,
        batches=[
            MeasuredBatchReport.of(
                found,
                latency_ms=found.latency_ms(measured.latency),
                p50_ms=found.latency_ms("p50"),
                p50_interval_ms=_interval_ms(found, "p50"),
                p99_ms=found.latency_ms("p99"),
                p99_interval_ms=_interval_ms(found, "p99"),
                runs=found.latency_ns.size,
                day=measured.days[batch],
                chosen=measured.chosen.get(batch, ""),
            )
            for batch, found in measured.batches.items()
        ],
        failures={str(batch): why for batch, why in measured.failures.items()},
        remarks=measured.remarks(),
        folder=folder,
    )


def _interval_ms(found: BatchMeasurement, quantile: str) -> list[float | None]:
    held = getattr(found, quantile)
    return [None if end is None else end / NS_PER_MS for end in (held.low_ns, held.high_ns)]


def show_measurement(console: Console, report: MeasurementReport) -> None:
    """Latencies by batch size, what could not be measured, and on what all this was."""
    console.print(f"{escape(report.model)} on {escape(report.hardware)}, {escape(report.subject)}\n")
    batches = table(
        ">batch", ">P50", ">P99", "with 95 %", ">CPU", ">memory", ">energy", ">runs", ">warm-up", ">disturbed"
    )
    for one in report.batches:
        interval = " … ".join("?" if end is None else f"{end:.4g}" for end in one.p99_interval_ms)
        batches.add_row(
            str(one.batch),
            f"{one.p50_ms:.4g} ms",
            f"{one.p99_ms:.4g} ms",
            f"{interval} ms",
            "" if one.cpu_ms is None else f"{one.cpu_ms:.4g} ms",
            "" if one.memory_gib is None else f"{one.memory_gib:.3g} GiB",
            "" if one.energy_j is None else f"{one.energy_j:.3g} J",
            str(one.runs),
            str(one.warm_up),
            str(one.disturbed),
        )
    if report.batches:
        show_parts(console, batches)
    for batch, why in report.failures.items():
        console.print(f"[red]batch {batch}[/red]: {escape(why)}")
    if report.ended:
        console.print(f"ended    {escape(report.ended)}")
    machine = report.machine
    threads = "default threads" if report.threads is None else counted(report.threads, "thread")
    state = [f"{machine.processor} ({machine.processors} CPUs)", machine.power or "", threads]
    software = [f"{name} {version}" for name, version in machine.versions.items()]
    console.print(f"machine  {escape(', '.join(filter(None, [*state, *software])))}")
    if report.batches:
        console.print(f"written  {escape(report.folder)}  (latency_ms is {report.latency})")
    show_notes(console, report.remarks)


def plan_remarks(plan: Plan, folder: Path | str | None) -> list[str]:
    """Say what is doubtful in the measurements a plan rests on, in few lines.

    Warnings about the tables that the plan chose are spelt out, as far as they are few; others, and those about
    tables that it could have chosen, are counted, with the command that shows them.
    `folder` is the profile folder, for that command; None for the shipped one.
    """
    warnings = [finding for finding in examine(plan.profiles) if finding.severity is Severity.WARNING]
    chosen = {(plan.pipeline.stages[name].model, choice.hardware) for name, choice in plan.choices.items()}
    ours = [finding for finding in warnings if (finding.model, finding.hardware) in chosen]
    others = [finding for finding in warnings if finding not in ours and _is_open(plan, finding)]
    remarks = [str(finding) for finding in ours[:_SPELT_OUT]]
    rest = len(ours) - len(remarks) + len(others)
    if rest:
        what = counted(rest, "more warning" if remarks else "warning")
        command = "mipplan profiles --check" + ("" if folder is None else f" --profiles {folder}")
        remarks.append(f"{what} about {_subject(ours, others)}: see `{command}`")
    return remarks


def assumed_power(plan: Plan) -> list[str]:
    """Say what stands in for measurements of power in what a plan tells of energy, if it tells any."""
    told, devices = {} if plan.energy is None else plan.choices, plan.profiles.hardware
    assumed = (power_assumption(plan.table(stage), devices[one.hardware]) for stage, one in told.items())
    return list(filter(None, dict.fromkeys(assumed)))


def sample_notes(plan: Plan, trace: Trace | Sequence[Trace]) -> list[str]:
    """Say what is doubtful about a trace as a sample for a plan's question, its own busy periods included.

    Of several traces it is said of which one.

    Where every query is asked about (an envelope), no tail is estimated; a plan without choices has no busy periods.
    """
    asked = (1.0, None) if plan.envelope is not None else (plan.quantile, plan.objective.per_s)
    notes = [
        (one.name, note)
        for one in read_traces(trace)
        for note in one.warnings(asked[0], _capacity_rps(plan, one) if plan.choices else None, asked[1])
    ]
    several = not isinstance(trace, Trace) and len(trace) > 1
    return [f"{name}: {note}" if several else note for name, note in notes]


def _capacity_rps(plan: Plan, trace: Trace) -> float | None:
    """Queries per second that the slowest stage can serve for long; None if no stage has anything to do."""
    workload, services = realise(plan.pipeline, trace, plan.seed), plan_services(plan)
    capacities = [
        NS_PER_S / float(services[stage].ns_per_token) * len(trace) / tokens.count
        for stage, tokens in workload.stages.items()
        if tokens.count
    ]
    return min(capacities, default=None)


def _is_open(plan: Plan, finding: Finding) -> bool:
    """Whether some stage could have used the table a finding is about."""
    return any(
        stage.model == finding.model and (stage.hardware is None or finding.hardware in stage.hardware)
        for stage in plan.pipeline.stages.values()
    )


def _subject(ours: Sequence[Finding], others: Sequence[Finding]) -> str:
    if not others:
        return "measurements this plan rests on"
    return "measurements of hardware it could have chosen" if len(ours) <= _SPELT_OUT else "measurements"


def show_solvers(console: Console, report: SolversReport) -> None:
    """Which solvers work here, and which formulations there are."""
    solvers = table("solver", "works", "version", "")
    for solver in report.solvers:
        works = "[green]yes[/green]" if solver.available else "[red]no[/red]"
        solvers.add_row(solver.name, works, solver.version or "", escape(solver.reason or ""))
    console.print(solvers)
    console.print(f"\nformulations: {', '.join(report.formulations)}")
