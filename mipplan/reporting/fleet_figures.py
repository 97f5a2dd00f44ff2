"""A picture of a fleet: what is used of every hardware type, and which pipelines use it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mipplan.reporting.fleets import DeviceUseReport, FleetMemberReport, FleetReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart by people with any kind of colour vision (Okabe and Ito).
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#F0E442", "#555555")
_LIMIT = "#000000"
#: Pipelines drawn one by one; all others together make one more bar.
_MOST_BARS = 20


def draw_fleet(report: FleetReport) -> Figure:
    """Draw devices used beside their limits, and the cost of the dearest pipelines by hardware.

    Where not all pipelines fit, those admitted are drawn.

    Parameters
    ----------
    report : FleetReport
    """
    from matplotlib.figure import Figure

    devices, pipelines, title = _drawn(report)
    bars = min(len(pipelines), _MOST_BARS + 1)
    figure = Figure(figsize=(11.0, 2.4 + 0.28 * max(bars, len(devices), 4)), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.3))
    colours = {name: _COLOURS[place % len(_COLOURS)] for place, name in enumerate(devices)}
    _draw_devices(left, devices, colours)
    _draw_pipelines(right, pipelines, colours)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
    figure.suptitle(title, fontsize=11)
    return figure


def _drawn(
    report: FleetReport,
) -> tuple[Mapping[str, DeviceUseReport], Mapping[str, FleetMemberReport], str]:
    admission = report.admission
    if not report.pipelines and admission is not None and admission.fleet is not None:
        made = admission.fleet
        left_out = len(admission.left_out)
        title = f"{report.name}: {len(made.pipelines):,} pipelines admitted, {left_out:,} left out"
        return made.devices, made.pipelines, f"{title}, {made.usd_per_hour:,.2f} $/h"
    cost = "no plan" if report.usd_per_hour is None else f"{report.usd_per_hour:,.2f} $/h"
    gap = f", gap {report.gap:.2%}" if report.gap else ""
    return (
        report.devices,
        report.pipelines,
        f"{report.name}: {len(report.pipelines):,} pipelines, {cost}{gap}",
    )


def _draw_devices(axes: Axes, devices: Mapping[str, DeviceUseReport], colours: Mapping[str, str]) -> None:
    """Bars of devices used; a black line where the limit is, and what one more would save."""
    largest = max((max(use.used, use.limit or 0) for use in devices.values()), default=1)
    for place, (name, use) in enumerate(devices.items()):
        axes.barh(place, use.used, height=0.62, color=colours[name])
        words = f"{use.used:,}"
        if use.limit is not None:
            axes.plot([use.limit] * 2, [place - 0.4, place + 0.4], color=_LIMIT, linewidth=2.0)
            words = f"{use.used:,} of {use.limit:,}"
        if use.one_more_usd_per_hour:
            words += f"\n  one more saves {use.one_more_usd_per_hour:.3g} $/h"
        axes.text(max(use.used, use.limit or 0), place, f"  {words}", va="center", fontsize=8.5)
    axes.set_yticks(range(len(devices)), list(devices))
    axes.set_ylim(len(devices) - 0.4, -0.6)
    axes.set_xlim(0.0, 1.6 * max(largest, 1))  # room for the words beside the longest bar
    axes.set_xlabel("devices (black line: limit)")


def _draw_pipelines(
    axes: Axes, pipelines: Mapping[str, FleetMemberReport], colours: Mapping[str, str]
) -> None:
    """Stacked bars of cost by hardware, the dearest pipeline on top; all that are not named make one bar."""
    ordered = sorted(pipelines.items(), key=lambda item: -item[1].usd_per_hour)
    costs = [(name, _by_hardware(member)) for name, member in ordered[:_MOST_BARS]]
    others = [_by_hardware(member) for _, member in ordered[_MOST_BARS:]]
    if others:
        # On the same scale their sum would press all other bars against the edge.
        mean = {name: sum(cost.get(name, 0.0) for cost in others) / len(others) for name in colours}
        costs.append((f"mean of {len(others):,} others", mean))
    for place, (_, by_hardware) in enumerate(costs):
        start = 0.0
        for name, colour in colours.items():
            cost = by_hardware.get(name, 0.0)
            axes.barh(place, cost, left=start, height=0.66, color=colour)
            start += cost
        axes.text(start, place, f"  {start:.2f}", va="center", fontsize=8)
    for name, colour in colours.items():
        axes.barh(0, 0, color=colour, label=name)
    axes.set_yticks(range(len(costs)), [name for name, _ in costs], fontsize=8.5)
    axes.set_ylim(max(len(costs), 1) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.set_xlabel("cost of a pipeline ($/h)")
    axes.legend(
        frameon=False, fontsize=8.5, ncols=6, loc="lower left", bbox_to_anchor=(0.0, 1.0), borderpad=0.2
    )


def _by_hardware(member: FleetMemberReport) -> dict[str, float]:
    costs: dict[str, float] = {}
    for choice in member.choices.values():
        costs[choice.hardware] = costs.get(choice.hardware, 0.0) + choice.usd_per_hour
    return costs
