"""What an objective costs along an axis, what that depends on, and why: documents and tables of three commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

from rich.console import Console
from rich.markup import escape

from mipplan.core import NS_PER_S, counted, usd_text
from mipplan.questions import Frontier, Sensitivity, cost_range, hardware_text, measurement_row, model_text
from mipplan.reporting.documents import BriefReport, ChoiceReport, CriticalStageReport, Report, TraceReport
from mipplan.reporting.plans import choice_reports
from mipplan.reporting.text import (
    figures,
    seconds_text,
    show_notes,
    show_parts,
    table,
    traffic_parts,
)
from mipplan.result import Explanation, JudgedBy, Plan, choice_text, dollars_text, step_text
from mipplan.trace import Trace


class FrontierStepReport(Report):
    """One step of a frontier."""

    start: float
    end: float
    usd_start: float | None
    usd_end: float | None
    proven: bool
    choices: dict[str, ChoiceReport]


class FrontierReport(BriefReport):
    """``mipplan frontier --json``."""

    command: Literal["frontier"] = "frontier"
    asked: str
    pipeline: Annotated[str, "plan.pipeline.name"]
    over: str
    unit: str
    present: float
    usd_per_hour: float | None
    saving_by: float | None
    saving_usd_per_hour: float | None
    exact: bool
    resolution: float
    solves: int
    complete: bool
    steps: list[FrontierStepReport]
    trace: TraceReport
    notes: list[str]
    # Of several traces and seeds: the draws of each, and all traces.
    seeds: int | None = None
    traces: list[TraceReport] | None = None


def frontier_report(
    frontier: Frontier, asked: str, traces: Sequence[Trace], by: float | None
) -> FrontierReport:
    """Describe a frontier; `by` is how much further up the axis a saving is told of."""
    steps = [
        FrontierStepReport.of(step, choices={} if step.plan is None else choice_reports(step.plan))
        for step in frontier.steps
    ]
    return FrontierReport.of(
        frontier,
        asked=asked,
        usd_per_hour=frontier.now,
        saving_by=by,
        saving_usd_per_hour=None if by is None else frontier.saving(by),
        steps=steps,
        **traffic_parts(traces, frontier.plan.seeds),
    )


def show_frontier(console: Console, frontier: Frontier, by: float | None) -> None:
    """Every step with its cost and what it runs on otherwise than the one before."""
    steps = table(">from", ">to", ">$/h", "changes")
    for step, changed in frontier.changes():
        steps.add_row(
            frontier.text_of(step.start), frontier.text_of(step.end), cost_range(step), escape(changed)
        )
    show_parts(console, steps)
    rows = [("now", f"{_now(frontier)} at {frontier.text_of(frontier.present)}")]
    if by is not None and (saving := frontier.saving(by)) is not None:
        much = frontier.text_of(by).removeprefix("× ")
        cost = f"{usd_text(abs(saving))} $/h" if round(saving, 6) else "nothing"
        last = f"the last {much} cost {cost}", f"{much} more would cost {cost}"
        known = "" if all(step.proven for step in frontier.steps) else ", as far as was found"
        rows.append(("last", f"{last[saving < 0]}{known}"))
    how = "exact" if frontier.exact else f"to {frontier.text_of(frontier.resolution)}"
    rows.append(("steps", f"{how}, {counted(frontier.solves, 'plan')} made"))
    console.print(figures(rows))
    unfinished = [] if frontier.complete else ["stopped before the end of the axis (time, steps, or Ctrl-C)"]
    show_notes(console, [*frontier.notes, *unfinished])


def _now(frontier: Frontier) -> str:
    step = frontier.step_at(frontier.present)
    if frontier.now is None:
        return "no plan" if step is None or step.proven else "no plan found"
    return f"{'' if step is None or step.proven else 'at most '}{usd_text(frontier.now)} $/h"


class HardwareSensitivityReport(Report):
    """What the price of a hardware type decides."""

    name: str
    usd_per_hour: float
    devices: int
    chosen_below_usd: float | None
    cheaper_by: float | None
    kept_up_to_usd: float | None


class ModelSensitivityReport(Report):
    """What the speed of a model decides."""

    model: str
    stages: list[str]
    faster_by: float | None
    usd_per_hour: float | None


class MeasurementSensitivityReport(Report):
    """What one measurement of the profiles decides."""

    model: str
    hardware: str
    batch: int
    latency_ms: float
    usd_slower: float | None
    usd_faster: float


class SensitivityReport(BriefReport):
    """``mipplan sensitivity --json``."""

    command: Literal["sensitivity"] = "sensitivity"
    asked: str
    pipeline: Annotated[str, "plan.pipeline.name"]
    usd_per_hour: Annotated[float, "plan.usd_per_hour"]
    share: float
    hardware: list[HardwareSensitivityReport]
    models: list[ModelSensitivityReport]
    measurements: list[MeasurementSensitivityReport]
    measured: int
    solves: int
    complete: bool
    trace: TraceReport
    # Of several traces and seeds: the draws of each, and all traces.
    seeds: int | None = None
    traces: list[TraceReport] | None = None


def sensitivity_report(sensitivity: Sensitivity, asked: str, traces: Sequence[Trace]) -> SensitivityReport:
    """Describe what the least cost depends on."""
    return SensitivityReport.of(sensitivity, asked=asked, **traffic_parts(traces, sensitivity.plan.seeds))


def show_sensitivity(console: Console, sensitivity: Sensitivity) -> None:
    """Prices and speeds at which something changes, and the measurements that matter."""
    plan, share = sensitivity.plan, f"{100 * sensitivity.share:g} %"
    console.print(f"[bold]{escape(plan.pipeline.name)}[/bold]: {usd_text(plan.usd_per_hour)} $/h\n")
    lines = [hardware_text(one) for one in sensitivity.hardware]
    lines += [model_text(one, plan) for one in sensitivity.models]
    for line in lines:
        console.print(escape(line))
    console.print()
    if sensitivity.measurements:
        rows = table("measurement", ">ms", f">{share} slower", f">{share} faster")
        for one in sensitivity.measurements:
            rows.add_row(*map(escape, measurement_row(one)))
        show_parts(console, rows)
    console.print(f"{sensitivity.found_text} measurements change the cost if they are off by {share}")
    if not sensitivity.complete:
        show_notes(console, ["stopped before all was looked at (time or Ctrl-C)"])


# --- why a plan is what it is ----------------------------------------------------------------------------------------


class OptionReasonReport(BriefReport):
    """Why a stage does not run on something else, the other stages left as they are."""

    hardware: str
    batch: int | None
    verdict: str
    replicas: int | None
    fewest: int | None
    usd_per_hour: float | None
    certificate_s: float | None
    latency_s: float | None
    detail: str | None
    variant: Annotated[str | None, "variant"] = None


class ExplainedStageReport(BriefReport):
    """What one stage's choice does for the plan."""

    stage: str
    hardware: str
    batch: int
    replicas: int
    spare_s: float | None
    one_fewer_certificate_s: float | None
    options: list[OptionReasonReport]
    variant: Annotated[str | None, "variant"] = None


class NearPlanReport(Report):
    """A certified plan on other hardware that costs little more."""

    usd_per_hour: float
    certificate_s: float
    choices: dict[str, ChoiceReport]


class ExplainReport(BriefReport):
    """``mipplan explain --json``."""

    command: Literal["explain"] = "explain"
    asked: str
    pipeline: str
    usd_per_hour: float
    certificate_s: float
    deadline_s: float
    slack_s: float
    critical_path: list[CriticalStageReport]
    stages: list[ExplainedStageReport]
    near_plans: list[NearPlanReport]
    near_share: float
    near_complete: bool
    judged_by: JudgedBy
    remark: Annotated[str | None, "remark"] = None
    trace: TraceReport
    # Of several traces and seeds: the draws of each, and all traces.
    seeds: int | None = None
    traces: list[TraceReport] | None = None


def explain_report(
    explanation: Explanation, plan: Plan, asked: str, traces: Sequence[Trace]
) -> ExplainReport:
    """Describe why a plan is what it is."""
    stages = [
        ExplainedStageReport.of(one, one.choice, spare_s=one.spare_latency_s) for one in explanation.stages
    ]
    near = [
        NearPlanReport.of(one, choices=choice_reports(replace(plan, choices=dict(one.choices))))
        for one in explanation.near_plans
    ]
    traffic, pipeline = traffic_parts(traces, plan.seeds), plan.pipeline.name
    return ExplainReport.of(
        explanation, asked=asked, pipeline=pipeline, stages=stages, near_plans=near, **traffic
    )


def show_explanation(console: Console, explanation: Explanation, plan: Plan) -> None:
    """What binds, and for every stage what each hardware would do in its place."""
    cost = dollars_text(explanation.microusd_per_hour)
    certificate, slack = (
        seconds_text(ns / NS_PER_S) for ns in (explanation.certificate_ns, explanation.slack_ns)
    )
    console.print(
        f"[bold]{escape(plan.pipeline.name)}[/bold]: {cost}, {explanation.judged_by.text} {certificate}, slack {slack}"
    )
    console.print(escape(f"binds along {' → '.join(step_text(step) for step in explanation.critical_path)}"))
    for stage in explanation.stages:
        spare = stage.spare_latency_s
        room = stage.fewer_text(explanation) if spare is None else f"could take {seconds_text(spare)} more"
        console.print(f"\n[bold]{escape(stage.stage)}[/bold]{f': {room}' if room else ''}")
        for option in stage.best_by_hardware().values():
            console.print(escape(f"  {option.text(explanation)}"))
    unseen = [stage for stage in plan.choices if all(stage != one.stage for one in explanation.stages)]
    if unseen:
        console.print(f"\n[bold]{escape(', '.join(unseen))}[/bold]: not looked at, time was up")
    console.print()
    near = explanation.near_plans
    share = f"{explanation.near_share:.0%}"
    known = "" if explanation.near_complete else ", as far as was looked"
    kind = f"{explanation.judged_by.kept} plan"
    console.print(
        f"{counted(len(near), kind) if near else f'no {kind}'} on other hardware within {share} of the cost{known}"
    )
    for one in near:
        mix = ", ".join(f"{stage} {choice_text(choice)}" for stage, choice in one.choices)
        console.print(escape(f"  {dollars_text(one.microusd_per_hour)}: {mix}"))
    show_notes(console, filter(None, [explanation.remark]))
