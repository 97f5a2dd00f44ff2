"""What differs between plans, and what if: the documents of ``mipplan diff`` and ``whatif``, and their tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from rich.console import Console
from rich.markup import escape

from mipplan.core import format_duration, usd_text
from mipplan.questions import STAGE_HEADINGS, PlanDifference, WhatIf, least_cost_text, verdict
from mipplan.reporting.catalog import sample_notes
from mipplan.reporting.documents import BriefReport, ChoiceReport, Report, TraceReport
from mipplan.reporting.plans import choice_reports
from mipplan.reporting.text import figures, show_notes, show_parts, table, traffic_parts
from mipplan.result import Choice, Plan


class StageDifferenceReport(Report):
    """A stage that runs on something else."""

    stage: str
    before: ChoiceReport | None
    after: ChoiceReport | None


class RequestDifferenceReport(Report):
    """Something that was asked for, or measured, otherwise."""

    what: str
    before: str
    after: str


class DiffReport(Report):
    """``mipplan diff --json``."""

    command: Literal["diff"] = "diff"
    before_file: str
    after_file: str
    usd_before: Annotated[float | None, "before.usd_per_hour"]
    usd_after: Annotated[float | None, "after.usd_per_hour"]
    usd_per_hour: float | None
    certificate_before_s: Annotated[float | None, "before.certificate_s"]
    certificate_after_s: Annotated[float | None, "after.certificate_s"]
    stages: list[StageDifferenceReport]
    requests: list[RequestDifferenceReport]


class SamePlanReport(Report):
    """The same choices judged where something is different."""

    usd_per_hour: Annotated[float, "plan.usd_per_hour"]
    guaranteed_s: float | None
    replayed_s: float
    kept: Annotated[bool, "keeps"]
    overloaded: list[str]
    scarce: list[str]


class WhatIfCaseReport(Report):
    """What comes of some changes."""

    name: str
    changes: list[str]
    status: str
    reason: str | None
    usd_per_hour: float | None
    certificate_s: float | None
    choices: dict[str, ChoiceReport]
    stages: list[StageDifferenceReport]
    same: SamePlanReport | None
    obstacle: str | None


class WhatIfReport(BriefReport):
    """``mipplan whatif --json``."""

    command: Literal["whatif"] = "whatif"
    asked: str
    pipeline: Annotated[str, "plan.pipeline.name"]
    objective: Annotated[str, "plan.objective.text"]
    trace: TraceReport
    as_it_is: WhatIfCaseReport
    cases: list[WhatIfCaseReport]
    complete: bool
    notes: list[str]
    # Of several traces and seeds: the draws of each, and all traces.
    seeds: int | None = None
    traces: list[TraceReport] | None = None


def _choice_report(plan: Plan, stage: str, choice: Choice | None) -> ChoiceReport | None:
    return None if choice is None else choice_reports(plan)[stage]


def _stage_reports(difference: PlanDifference) -> list[StageDifferenceReport]:
    return [
        StageDifferenceReport(
            stage=one.stage,
            before=_choice_report(difference.before, one.stage, one.before),
            after=_choice_report(difference.after, one.stage, one.after),
        )
        for one in difference.stages
    ]


def diff_report(difference: PlanDifference, before: str, after: str) -> DiffReport:
    """Describe what differs between two plan files."""
    return DiffReport.of(difference, before_file=before, after_file=after, stages=_stage_reports(difference))


def show_diff(console: Console, difference: PlanDifference) -> None:
    """Cost, certificate, all that was asked for otherwise, and every stage that runs on something else."""
    console.print(f"[bold]{escape(difference.title)}[/bold]\n")
    console.print(figures(difference.figures()))
    if difference.stages:
        rows = table(*STAGE_HEADINGS)
        for row in difference.rows():
            rows.add_row(*map(escape, row))
        console.print()
        console.print(rows)


def whatif_report(answer: WhatIf, asked: str) -> WhatIfReport:
    """Describe what would be if something were different."""
    base = WhatIfCaseReport.of(
        answer.base,
        name="as it is",
        changes=[],
        choices=choice_reports(answer.base),
        stages=[],
        same=answer.same,
        obstacle=None,
    )
    cases = [
        WhatIfCaseReport.of(
            case, case.plan, choices=choice_reports(case.plan), stages=_stage_reports(case.difference)
        )
        for case in answer.cases
    ]
    notes = sample_notes(answer.plan, answer.traces)
    traffic = traffic_parts(answer.traces, answer.plan.seeds)
    return WhatIfReport.of(answer, asked=asked, as_it_is=base, cases=cases, notes=notes, **traffic)


def show_whatif(console: Console, answer: WhatIf, sample: Sequence[str]) -> None:
    """Cost planned anew, and the same plan's verdict, by case; the choices that change; what to know of the sample."""
    name = escape(answer.plan.pipeline.name)
    console.print(f"[bold]{name}[/bold] on {escape(answer.traffic)}: {escape(answer.plan.objective.text)}\n")
    rows = table("what if", ">anew $/h", ">certificate", ">same $/h", "same plan")
    for what, plan, same, obstacle in answer.rows():
        certificate = "" if plan.certificate_ns is None else format_duration(plan.certificate_ns)
        old = "" if same is None else usd_text(same.plan.usd_per_hour)
        colour = "green" if same is not None and same.keeps else "bold red"
        said = f"[{colour}]{escape(verdict(same, obstacle))}[/{colour}]"
        rows.add_row(escape(what), least_cost_text(plan), certificate, old, said)
    show_parts(console, rows)
    for case in answer.cases:
        changed = ", ".join(one.text for one in case.difference.stages) or "the same choices"
        said = changed if case.plan.choices else case.plan.reason or "no plan"
        console.print(f"[bold]{escape(case.name)}[/bold], planned anew: {escape(said)}")
    is_open = any(least_cost_text(plan).startswith("≤") for _, plan, _, _ in answer.rows())
    notes = ["≤: it is not proven that no plan is cheaper"] if is_open else []
    unfinished = [] if answer.complete else ["interrupted before the last case"]
    show_notes(console, [*notes, *sample, *unfinished])
