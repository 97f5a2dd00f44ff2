"""What an export wrote, and what the serving system does not keep of the plan: document and text."""

from __future__ import annotations

from typing import Literal

from rich.console import Console
from rich.markup import escape

from mipplan.exporters import Export
from mipplan.reporting.documents import Report
from mipplan.reporting.text import counted

#: At most this many files are listed for people; the JSON document has all.
_FILES_LISTED = 12


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


def export_report(plan: str, written: Export) -> ExportReport:
    """Describe an export of a plan file."""
    return ExportReport.of(
        written,
        plan=plan,
        departures=[DepartureReport.of(one) for one in written.departures],
        assumptions=list(written.assumptions),
        files=list(written.files),
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
