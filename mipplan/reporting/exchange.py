"""What goes to other systems and comes from them: documents and text of ``mipplan export``, of ``mipplan profiles
import`` and ``prices``, and of ``mipplan profile --pipeline``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from rich.console import Console
from rich.markup import escape

from mipplan.core import Fault, counted, listed, usd_text
from mipplan.exporters import Export
from mipplan.importers import FolderMerge, HardwareMerge, ImportedFile, PriceList
from mipplan.profiling import ScaleFactors
from mipplan.reporting.catalog import HardwareReport
from mipplan.reporting.documents import Report
from mipplan.reporting.text import show_notes, show_parts, table

#: At most this many tables and refused figures are spelt out for people; the JSON document has all.
_SPELT_OUT = 20
#: At most this many exported files are listed; the JSON document has all.
_FILES_LISTED = 12


class ImportedFileReport(Report):
    """One file that was imported."""

    path: str
    sha256: str
    format: str
    tool: str


class ImportedRowReport(Report):
    """One row that was imported."""

    model: str
    hardware: str
    batch: int
    latency_ms: float
    latency_p99_ms: float | None
    statistic: str
    what: str
    place: str


class ImportReport(Report):
    """``mipplan profiles import --json``."""

    command: Literal["profiles import"] = "profiles import"
    folder: str
    files: list[ImportedFileReport]
    rows: list[ImportedRowReport]
    refused: list[Fault]
    added: int
    replaced: int
    unchanged: int
    notes: list[str]
    written: list[str]


class PricesReport(Report):
    """``mipplan profiles prices --json``."""

    command: Literal["profiles prices"] = "profiles prices"
    path: str
    sha256: str
    tier: str
    region: str | None
    hardware: dict[str, HardwareReport]
    refused: list[Fault]
    added: list[str]
    replaced: list[str]
    unchanged: list[str]
    written: list[str]


def import_report(folder: str, files: Sequence[ImportedFile], merge: FolderMerge) -> ImportReport:
    """Describe what files gave to a profile folder."""
    return ImportReport.of(
        merge,
        folder=folder,
        files=[ImportedFileReport.of(file) for file in files],
        rows=[ImportedRowReport.of(row) for file in files for row in file.rows],
        refused=[fault for file in files for fault in file.refused],
        notes=[note for file in files for note in file.notes] + list(merge.notes),
        written=list(merge.written),
    )


def show_import(console: Console, report: ImportReport) -> None:
    """Batch sizes and latencies by table, then what was left out and why."""
    for file in report.files:
        console.print(f"{escape(file.path)}: {escape(f'{file.format} {file.tool}'.strip())}")
    console.print()
    by_table: dict[tuple[str, str, str], list[ImportedRowReport]] = {}
    for row in report.rows:
        by_table.setdefault((row.model, row.hardware, row.statistic), []).append(row)
    models = table("model", "hardware", "batch sizes", ">latency of one batch", "statistic")
    for (model, hardware, statistic), rows in list(by_table.items())[:_SPELT_OUT]:
        sizes = ", ".join(str(batch) for batch in sorted({row.batch for row in rows}))
        least, most = (pick(row.latency_ms for row in rows) for pick in (min, max))
        span = f"{least:.4g} ms" if least == most else f"{least:.4g} … {most:.4g} ms"
        models.add_row(escape(model), escape(hardware), sizes, span, statistic)
    show_parts(console, models)
    if len(by_table) > _SPELT_OUT:
        console.print(f"and {counted(len(by_table) - _SPELT_OUT, 'more table')}\n")
    _show_refused(console, report.refused)
    counts = (
        f"{counted(report.added, 'row')} added, {report.replaced:,} replaced, {report.unchanged:,} as before"
    )
    console.print(f"{counts}, in {escape(report.folder)}")
    show_notes(console, report.notes, report.written[:_SPELT_OUT])


def _show_refused(console: Console, refused: Sequence[Fault]) -> None:
    """Say why figures were left out, each reason once."""
    by_reason: dict[str, list[str]] = {}
    for fault in refused:
        by_reason.setdefault(fault.message, []).append(fault.place)
    for reason, places in list(by_reason.items())[:_SPELT_OUT]:
        more = f" and {len(places) - 1:,} more" if len(places) > 1 else ""
        console.print(f"[yellow]left out[/yellow]: {escape(places[0])}{more}: {escape(reason)}")
    if len(by_reason) > _SPELT_OUT:
        console.print(f"[yellow]left out[/yellow]: {len(by_reason) - _SPELT_OUT:,} more; --json has all")
    if refused:
        console.print()


def prices_report(
    prices: PriceList, merge: HardwareMerge, *, tier: str, region: str | None, written: Sequence[str]
) -> PricesReport:
    """Describe the prices taken from a list."""
    return PricesReport.of(
        prices,
        tier=tier,
        region=region,
        hardware={entry.name: HardwareReport.of(entry) for entry in prices.hardware},
        refused=list(prices.refused),
        added=list(merge.added),
        replaced=list(merge.replaced),
        unchanged=list(merge.unchanged),
        written=list(written),
    )


def show_prices(console: Console, report: PricesReport) -> None:
    """Hardware types with price, memory and source."""
    where = f" in {escape(report.region)}" if report.region else ""
    console.print(f"{report.tier} prices{where}, from {escape(report.path)}\n")
    hardware = table("hardware", ">$/h", ">memory", "price from")
    for name, entry in list(report.hardware.items())[:_SPELT_OUT]:
        memory = "" if entry.memory_gib is None else f"{entry.memory_gib:g} GiB"
        hardware.add_row(escape(name), usd_text(entry.usd_per_hour), memory, escape(entry.source))
    show_parts(console, hardware)
    if len(report.hardware) > _SPELT_OUT:
        console.print(f"and {counted(len(report.hardware) - _SPELT_OUT, 'more hardware type')}\n")
    _show_refused(console, report.refused)
    counts = (
        f"{len(report.added):,} added, {len(report.replaced):,} replaced, {len(report.unchanged):,} as before"
    )
    console.print(counts)
    show_notes(console, (), report.written)


class DepartureReport(Report):
    """Something of a plan that a serving system does not keep."""

    subject: str
    what: str
    effect: str
    voids: bool


class ExportReport(Report):
    """``mipplan export --json``."""

    command: Literal["export"] = "export"
    plan: str
    pipeline: str
    target: str
    emulated: bool
    certificate_holds: bool
    departures: list[DepartureReport]
    assumptions: list[str]
    directory: str
    files: list[str]
    kept: list[str]


class EdgeScaleReport(Report):
    """What an edge made of tokens, as measured on samples."""

    parent: str
    child: str
    tokens: int
    taken: float
    taken_interval: list[float]
    mean: float
    values: list[int]
    times: list[int]


class ScaleReport(Report):
    """``mipplan profile --pipeline --json``."""

    command: Literal["profile --pipeline"] = "profile --pipeline"
    pipeline: Annotated[str, "pipeline.name"]
    samples: int
    factors: dict[str, float]
    edges: list[EdgeScaleReport]
    remarks: list[str]
    file: str | None


def scale_report(measured: ScaleFactors, file: Path | None) -> ScaleReport:
    """Describe the scale factors of a pipeline, and the file that they were written to, if they could be."""
    edges = []
    for scale in measured.edges:
        values, times = np.unique(scale.counts, return_counts=True)
        ends = {"parent": scale.edge.parent, "child": scale.edge.child, "mean": float(scale.counts.mean())}
        held = {"values": values.tolist(), "times": times.tolist(), "tokens": scale.counts.size}
        share = {"taken": scale.taken, "taken_interval": list(scale.taken_interval)}
        edges.append(EdgeScaleReport.of(scale, **ends, **held, **share))
    return ScaleReport.of(measured, edges=edges, remarks=list(measured.remarks), file=file and str(file))


def show_scale(console: Console, report: ScaleReport) -> None:
    """What each edge did, and how many tokens a query makes at each stage."""
    console.print(f"{escape(report.pipeline)} on {counted(report.samples, 'sample')}\n")
    edges = table("edge", ">tokens", ">taken", "with 95 %", ">tokens each if taken", "from", "to")
    for one in report.edges:
        low, high = one.taken_interval
        made = [value for value in one.values if value]
        mean = f"{one.mean / one.taken:.4g}" if made else ""
        span = (str(made[0]), str(made[-1])) if made else ("", "")
        interval = f"{low:.3g} … {high:.3g}"
        name = escape(f"{one.parent} → {one.child}")
        edges.add_row(name, f"{one.tokens:,}", f"{one.taken:.4g}", interval, mean, *span)
    factors = ", ".join(f"{stage} {factor:.4g}" for stage, factor in report.factors.items())
    show_parts(console, edges, escape(f"tokens per query  {factors}"))
    show_notes(console, report.remarks, [report.file] if report.file else [])


def export_report(plan: str, written: Export) -> ExportReport:
    """Describe an export of a plan file."""
    return ExportReport.of(
        written,
        plan=plan,
        departures=[DepartureReport.of(one) for one in written.departures],
        assumptions=list(written.assumptions),
        files=list(written.files),
        kept=list(written.kept),
    )


def show_export(console: Console, report: ExportReport) -> None:
    """Files, then whether the certificate holds, and what is not as the plan assumes."""
    models = ", with models that sleep as long as the plan's tables say" if report.emulated else ""
    console.print(f"{escape(report.pipeline)} for {report.target}{models}\n")
    verdict = (
        "the certificate of the plan holds there, given what has to be so"
        if report.certificate_holds
        else "[yellow]the certificate of the plan does not hold there as it stands[/yellow]"
    )
    console.print(f"{verdict}:" if report.departures else verdict)
    for one in report.departures:
        mark = "[yellow]![/yellow]" if one.voids else "-"
        console.print(f"{mark} {escape(f'{one.subject}: {one.what}. {one.effect}')}")
    console.print("\nwhat has to be so:")
    for sentence in report.assumptions:
        console.print(f"- {escape(sentence)}")
    console.print(f"\n{counted(len(report.files), 'file')} written to {escape(report.directory)}/:")
    for file in report.files[:_FILES_LISTED]:
        console.print(f"  {escape(file)}")
    if len(report.files) > _FILES_LISTED:
        console.print(f"  and {counted(len(report.files) - _FILES_LISTED, 'more file')}; --json lists all")
    if report.kept:
        console.print(
            f"{counted(len(report.kept), 'file')} of the earlier one kept: {escape(listed(report.kept))}"
        )
