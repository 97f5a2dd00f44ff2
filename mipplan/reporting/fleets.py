"""A fleet for people and programs: the document of ``mipplan fleet``, and its tables."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mipplan.core import MICRODOLLARS_PER_DOLLAR
from mipplan.fleet import DeviceUse, FleetPlan
from mipplan.reporting.documents import (
    AdmissionReport,
    DeviceUseReport,
    FleetMemberReport,
    FleetReport,
    FleetSetReport,
    SloRelaxationReport,
)
from mipplan.reporting.plans import choice_reports
from mipplan.reporting.text import figures, percent_text, seconds_text, show_notes, table
from mipplan.result import Plan

_IN_SAMPLE = (
    "in-sample: every plan is certified on the trace it was made for; judge it on others too (mipplan verify)"
)
#: At most this many pipelines are listed in a table, the dearest ones of larger fleets.
_MEMBERS_LISTED = 40
#: At most this many names are listed in a sentence.
_MOST_NAMED = 12


def fleet_report(name: str, quantile: float, seed: int, fleet: FleetPlan, written: list[str]) -> FleetReport:
    """Describe a fleet."""
    admission, relaxation, effort = fleet.admission, fleet.relaxation, fleet.effort
    admitted = None if admission is None else _set_report(admission.fleet)
    relaxed = None if relaxation is None else _set_report(relaxation.fleet)
    return FleetReport.of(
        fleet,
        name=name,
        quantile=quantile,
        seed=seed,
        budget_usd_per_hour=_dollars(fleet.budget_microusd_per_hour),
        devices=_device_reports(fleet.devices),
        pipelines=_member_reports(fleet.plans),
        admission=None if admission is None else AdmissionReport.of(admission, fleet=admitted),
        relaxation=None if relaxed is None else SloRelaxationReport.of(relaxation, fleet=relaxed),
        method=effort.method,
        rounds=effort.rounds,
        columns=effort.columns,
        seconds=effort.seconds,
        notes=[_IN_SAMPLE] if fleet.plans or admission is not None or relaxation is not None else [],
        written=written,
    )


def _set_report(fleet: FleetPlan) -> FleetSetReport | None:
    if fleet.usd_per_hour is None or fleet.lower_bound_usd_per_hour is None or fleet.gap is None:
        return None
    return FleetSetReport.of(
        fleet, devices=_device_reports(fleet.devices), pipelines=_member_reports(fleet.plans)
    )


def _device_reports(devices: Mapping[str, DeviceUse]) -> dict[str, DeviceUseReport]:
    return {
        name: DeviceUseReport.of(
            use,
            usd_per_hour=use.microusd_per_hour / MICRODOLLARS_PER_DOLLAR,
            one_more_usd_per_hour=_dollars(use.one_more_microusd_per_hour),
        )
        for name, use in devices.items()
    }


def _member_reports(plans: Mapping[str, Plan]) -> dict[str, FleetMemberReport]:
    return {
        name: FleetMemberReport.of(
            plan,
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
        f"[bold]{escape(report.name)}[/bold]: P{percent_text(report.quantile)} of every pipeline within its objective\n"
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
    show_notes(console, report.notes, report.written)


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
    if len(pipelines) > _MEMBERS_LISTED:
        console.print(f"… and {len(pipelines) - _MEMBERS_LISTED:,} cheaper ones (--out, --json)")


def _device_table(devices: Mapping[str, DeviceUseReport]) -> Table:
    used = table("hardware", ">used", ">limit", ">$/h", ">one more saves")
    for name, use in devices.items():
        saves = use.one_more_usd_per_hour
        used.add_row(
            name,
            f"{use.used:,}",
            "" if use.limit is None else f"{use.limit:,}",
            f"{use.usd_per_hour:,.4f}",
            "" if saves is None else f"{saves:.4f} $/h" if saves else "nothing",
        )
    return used


def _member_table(pipelines: Mapping[str, FleetMemberReport]) -> Table:
    members = table("pipeline", ">$/h", ">alone", ">certificate", ">SLO", "runs on")
    shown = list(pipelines.items())
    if len(shown) > _MEMBERS_LISTED:
        shown = sorted(shown, key=lambda item: -item[1].usd_per_hour)[:_MEMBERS_LISTED]
    for name, member in shown:
        members.add_row(
            escape(name),
            f"{member.usd_per_hour:.4f}",
            f"{member.alone_usd_per_hour:.4f}",
            seconds_text(member.certificate_s),
            seconds_text(member.slo_s),
            _runs_on(member),
        )
    return members


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
