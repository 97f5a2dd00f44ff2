"""A fleet for people and programs: the document of ``mipplan fleet``, and its tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mipplan.core import MICRODOLLARS_PER_DOLLAR
from mipplan.fleet import DeviceUse, FleetPlan
from mipplan.reporting.comparisons import choice_reports
from mipplan.reporting.documents import ChoiceReport
from mipplan.reporting.wording import figures, seconds_text
from mipplan.result import Plan

#: Pipelines listed in a table; the dearest ones of larger fleets.
_MOST_LISTED = 40
#: Names listed in a sentence.
_MOST_NAMED = 12

IN_SAMPLE = (
    "in-sample: every plan is certified on the trace it was made for; judge it on others too (mipplan verify)"
)


class _Report(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DeviceUseReport(_Report):
    """What a fleet uses of one hardware type."""

    used: int
    limit: int | None
    usd_per_hour: float
    one_more_usd_per_hour: float | None


class FleetMemberReport(_Report):
    """One pipeline's plan."""

    status: str
    slo_s: float
    usd_per_hour: float
    alone_usd_per_hour: float
    certificate_s: float
    choices: dict[str, ChoiceReport]


class FleetSetReport(_Report):
    """Plans for a set of pipelines."""

    usd_per_hour: float
    lower_bound_usd_per_hour: float
    gap: float
    devices: dict[str, DeviceUseReport]
    pipelines: dict[str, FleetMemberReport]


class AdmissionReport(_Report):
    """Pipelines to admit where not all fit."""

    weight: float
    total_weight: float
    weight_bound: float
    left_out: list[str]
    fleet: FleetSetReport | None


class SloRelaxationReport(_Report):
    """Objectives with which all pipelines fit."""

    factor: float
    too_small: float
    proven: bool
    fleet: FleetSetReport


class FleetReport(_Report):
    """``mipplan fleet --json``."""

    command: Literal["fleet"] = "fleet"
    name: str
    status: str
    reason: str | None
    quantile: float
    seed: int
    usd_per_hour: float | None
    lower_bound_usd_per_hour: float | None
    gap: float | None
    budget_usd_per_hour: float | None
    devices: dict[str, DeviceUseReport]
    pipelines: dict[str, FleetMemberReport]
    admission: AdmissionReport | None
    relaxation: SloRelaxationReport | None
    method: str
    rounds: int
    columns: int
    seconds: float
    notes: list[str]
    written: list[str]


def fleet_report(name: str, quantile: float, seed: int, fleet: FleetPlan, written: list[str]) -> FleetReport:
    """Describe a fleet."""
    admission, relaxation = fleet.admission, fleet.relaxation
    return FleetReport(
        name=name,
        status=fleet.status.value,
        reason=fleet.reason,
        quantile=quantile,
        seed=seed,
        usd_per_hour=fleet.usd_per_hour,
        lower_bound_usd_per_hour=fleet.lower_bound_usd_per_hour,
        gap=fleet.gap,
        budget_usd_per_hour=_dollars(fleet.budget_microusd_per_hour),
        devices=_device_reports(fleet.devices),
        pipelines=_member_reports(fleet.plans),
        admission=None
        if admission is None
        else AdmissionReport(
            weight=admission.weight,
            total_weight=admission.total_weight,
            weight_bound=admission.weight_bound,
            left_out=list(admission.left_out),
            fleet=_set_report(admission.fleet),
        ),
        relaxation=_relaxation_report(fleet),
        method=fleet.effort.method,
        rounds=fleet.effort.rounds,
        columns=fleet.effort.columns,
        seconds=fleet.effort.seconds,
        notes=[IN_SAMPLE] if fleet.plans or admission is not None or relaxation is not None else [],
        written=written,
    )


def _relaxation_report(fleet: FleetPlan) -> SloRelaxationReport | None:
    relaxation = fleet.relaxation
    made = None if relaxation is None else _set_report(relaxation.fleet)
    if relaxation is None or made is None:
        return None
    return SloRelaxationReport(
        factor=relaxation.factor, too_small=relaxation.too_small, proven=relaxation.proven, fleet=made
    )


def _set_report(fleet: FleetPlan) -> FleetSetReport | None:
    if fleet.usd_per_hour is None or fleet.lower_bound_usd_per_hour is None or fleet.gap is None:
        return None
    return FleetSetReport(
        usd_per_hour=fleet.usd_per_hour,
        lower_bound_usd_per_hour=fleet.lower_bound_usd_per_hour,
        gap=fleet.gap,
        devices=_device_reports(fleet.devices),
        pipelines=_member_reports(fleet.plans),
    )


def _device_reports(devices: Mapping[str, DeviceUse]) -> dict[str, DeviceUseReport]:
    return {
        name: DeviceUseReport(
            used=use.used,
            limit=use.limit,
            usd_per_hour=use.microusd_per_hour / MICRODOLLARS_PER_DOLLAR,
            one_more_usd_per_hour=_dollars(use.one_more_microusd_per_hour),
        )
        for name, use in devices.items()
    }


def _member_reports(plans: Mapping[str, Plan]) -> dict[str, FleetMemberReport]:
    return {
        name: FleetMemberReport(
            status=plan.status.value,
            slo_s=plan.slo_s,
            usd_per_hour=plan.usd_per_hour or 0.0,
            alone_usd_per_hour=plan.lower_bound_usd_per_hour or 0.0,
            certificate_s=plan.certificate_s or 0.0,
            choices=choice_reports(plan),
        )
        for name, plan in plans.items()
    }


def show_fleet(console: Console, report: FleetReport) -> None:
    """What is used of what, what every pipeline runs on, and what would do where not all fit."""
    console.print(
        f"[bold]{escape(report.name)}[/bold]: P{100 * report.quantile:g} of every pipeline within its objective\n"
    )
    if report.usd_per_hour is not None:
        _show_set(console, report.devices, report.pipelines)
        console.print()
    console.print(figures(_figures(report)))
    if report.reason is not None:
        console.print(f"[yellow]{report.status}[/yellow]: {escape(report.reason)}")
    if report.admission is not None:
        either = "admit" if report.relaxation is None else "either admit"
        _show_admission(console, report.admission, either)
    if report.relaxation is not None:
        _show_relaxation(console, report.relaxation)
    for note in report.notes:
        console.print(f"[yellow]note[/yellow]: {escape(note)}")
    for path in report.written:
        console.print(f"written to {escape(path)}")


def _figures(report: FleetReport) -> list[tuple[str, str]]:
    rows = [("status", f"{report.status}  ({report.method})")]
    if report.usd_per_hour is not None:
        rows.append(("cost", f"{report.usd_per_hour:,.4f} $/h"))
    if report.lower_bound_usd_per_hour is not None:
        gap = (
            "" if report.gap is None else f"  (gap {report.gap:.3%})" if report.gap else "  (proven cheapest)"
        )
        rows.append(("lower bound", f"{report.lower_bound_usd_per_hour:,.4f} $/h{gap}"))
    if report.budget_usd_per_hour is not None:
        rows.append(("budget", f"{report.budget_usd_per_hour:,.10g} $/h"))
    return rows


def _show_set(
    console: Console,
    devices: Mapping[str, DeviceUseReport],
    pipelines: Mapping[str, FleetMemberReport],
) -> None:
    console.print(_device_table(devices))
    console.print()
    console.print(_member_table(pipelines))
    if len(pipelines) > _MOST_LISTED:
        console.print(f"… and {len(pipelines) - _MOST_LISTED:,} cheaper ones (--out, --json)")


def _device_table(devices: Mapping[str, DeviceUseReport]) -> Table:
    table = Table("hardware", box=None, pad_edge=False, header_style="bold")
    for heading in ("used", "limit", "$/h", "one more saves"):
        table.add_column(heading, justify="right")
    for name, use in devices.items():
        saves = use.one_more_usd_per_hour
        table.add_row(
            name,
            f"{use.used:,}",
            "" if use.limit is None else f"{use.limit:,}",
            f"{use.usd_per_hour:,.4f}",
            "" if saves is None else f"{saves:.4f} $/h" if saves else "nothing",
        )
    return table


def _member_table(pipelines: Mapping[str, FleetMemberReport]) -> Table:
    table = Table("pipeline", box=None, pad_edge=False, header_style="bold")
    for heading in ("$/h", "alone", "certificate", "SLO"):
        table.add_column(heading, justify="right")
    table.add_column("runs on")
    shown = list(pipelines.items())
    if len(shown) > _MOST_LISTED:
        shown = sorted(shown, key=lambda item: -item[1].usd_per_hour)[:_MOST_LISTED]
    for name, member in shown:
        table.add_row(
            escape(name),
            f"{member.usd_per_hour:.4f}",
            f"{member.alone_usd_per_hour:.4f}",
            seconds_text(member.certificate_s),
            seconds_text(member.slo_s),
            _runs_on(member),
        )
    return table


def _runs_on(member: FleetMemberReport) -> str:
    used: dict[str, int] = {}
    for choice in member.choices.values():
        used[choice.hardware] = used.get(choice.hardware, 0) + choice.replicas
    return ", ".join(f"{count} {name}" for name, count in used.items())


def _show_admission(console: Console, admission: AdmissionReport, either: str) -> None:
    proof = (
        "the most that fits"
        if admission.weight >= admission.weight_bound
        else (f"no set of more than {admission.weight_bound:g} fits")
    )
    left_out = ", ".join(admission.left_out[:_MOST_NAMED])
    more = len(admission.left_out) - _MOST_NAMED
    cost = "" if admission.fleet is None else f", for {admission.fleet.usd_per_hour:,.4f} $/h"
    console.print(
        f"[bold]{either}[/bold] weight {admission.weight:g} of {admission.total_weight:g}{cost} ({proof}), "
        f"without {escape(left_out)}{f' and {more:,} more' if more > 0 else ''}"
    )


def _show_relaxation(console: Console, relaxation: SloRelaxationReport) -> None:
    proof = "is proven not to be enough" if relaxation.proven else "was not found to be enough"
    console.print(
        f"[bold]or relax[/bold] every objective to {relaxation.factor:.4g} times what it is: then all fit, for "
        f"{relaxation.fleet.usd_per_hour:,.4f} $/h ({relaxation.too_small:.4g} times {proof})"
    )


def _dollars(microusd: int | None) -> float | None:
    return None if microusd is None else microusd / MICRODOLLARS_PER_DOLLAR
