"""What was found odd in profiles: the document of ``mipplan profiles --check``, its table, and remarks on a plan."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.markup import escape

from mipplan.profiles import Finding, Profiles, Severity, examine
from mipplan.result import Plan

#: Findings about chosen hardware that a plan's remarks spell out.
_SPELT_OUT = 3


class _Report(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FindingReport(_Report):
    """One odd thing in the measurements of a model on a hardware type."""

    severity: Literal["note", "warning"]
    model: str
    hardware: str
    batches: list[int]
    found: str
    treatment: str


class ExaminationReport(_Report):
    """``mipplan profiles --check --json``."""

    command: Literal["profiles --check"] = "profiles --check"
    folder: str
    tables: int
    warnings: int
    notes: int
    findings: list[FindingReport]


def examination_report(profiles: Profiles, folder: str) -> ExaminationReport:
    """Describe everything odd in a profile folder."""
    findings = examine(profiles)
    warnings = sum(finding.severity is Severity.WARNING for finding in findings)
    return ExaminationReport(
        folder=folder,
        tables=len(profiles.tables),
        warnings=warnings,
        notes=len(findings) - warnings,
        findings=[
            FindingReport(
                severity=finding.severity.value,
                model=finding.model,
                hardware=finding.hardware,
                batches=list(finding.batches),
                found=finding.found,
                treatment=finding.treatment,
            )
            for finding in findings
        ],
    )


def show_examination(console: Console, report: ExaminationReport) -> None:
    """List findings by table, warnings in colour."""
    console.print(f"profiles in {escape(report.folder)}\n")
    table = ""
    for finding in report.findings:
        heading = f"{finding.model} on {finding.hardware}"
        if heading != table:
            console.print(f"[bold]{escape(heading)}[/bold]")
            table = heading
        colour = "red" if finding.severity == "warning" else "yellow"
        text = escape(f"{finding.found}; {finding.treatment}")
        console.print(f"  [{colour}]{finding.severity}[/{colour}]: {text}")
    if report.findings:
        console.print()
    console.print(
        f"{_counted(report.tables, 'table')}: {_counted(report.warnings, 'warning')}, "
        f"{_counted(report.notes, 'note')}"
    )


def plan_remarks(plan: Plan, folder: str | None) -> list[str]:
    """Say what is doubtful in the measurements a plan rests on, in few lines.

    Warnings about the tables that the plan chose are spelt out, as far as they are few; others, and those about
    tables that it could have chosen, are counted, with the command that shows them.

    Parameters
    ----------
    plan : Plan
    folder : str or None
        The profile folder, for that command; None for the shipped one.
    """
    warnings = [finding for finding in examine(plan.profiles) if finding.severity is Severity.WARNING]
    chosen = {(plan.pipeline.stages[name].model, choice.hardware) for name, choice in plan.choices.items()}
    ours = [finding for finding in warnings if (finding.model, finding.hardware) in chosen]
    others = [finding for finding in warnings if finding not in ours and _is_open(plan, finding)]
    remarks = [str(finding) for finding in ours[:_SPELT_OUT]]
    rest = len(ours) - len(remarks) + len(others)
    if rest:
        more = "more " if remarks else ""
        remarks.append(
            f"{_counted(rest, f'{more}warning')} about {_subject(ours, others)}: {_command(folder)}"
        )
    return remarks


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


def _command(folder: str | None) -> str:
    return "see `mipplan profiles --check" + ("`" if folder is None else f" --profiles {folder}`")


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
