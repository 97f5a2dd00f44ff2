"""Pictures of bars: of planners compared, and of a fleet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mipplan.reporting.drawing.figures import BLUE, GREY, ORANGE, RED, open_frames

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mipplan.reporting.comparisons import ComparisonReport, ComparisonRowReport
    from mipplan.reporting.documents import DeviceUseReport, FleetMemberReport, FleetReport

_HARDWARE_COLOURS = (BLUE, ORANGE, "#009E73", RED, "#56B4E9", "#CC79A7", "#F0E442", GREY)
_LEGEND: dict[str, Any] = {
    "frameon": False,
    "fontsize": 8.5,
    "loc": "lower left",
    "bbox_to_anchor": (0.0, 1.0),
    "borderpad": 0.2,
}
#: From this ratio on, a linear axis would press the latencies of plans that keep the objective against the edge.
_LOG_FROM = 8.0
#: What is shown of one plan lies this far apart, in units of the distance between plans.
_APART = 0.13
#: At most this many pipelines are drawn one by one; all others together make one more bar.
_MOST_BARS = 20


def _open_frames(*several: Axes) -> None:
    open_frames(several)
    for axes in several:
        axes.tick_params(axis="y", length=0)


# --- planners compared ------------------------------------------------------------------------------------------------


def draw_comparison(report: ComparisonReport) -> Figure:
    """Draw cost bars, cheapest plan on top, and beside them the latency quantile in sample and held out."""
    from matplotlib.figure import Figure

    height = 2.2 + 0.42 * max(1, len(report.rows))
    figure = Figure(figsize=(10.5, height), dpi=150, layout="constrained")
    costs, latencies = figure.subplots(1, 2, sharey=True)
    _draw_costs(costs, report)
    _draw_latencies(latencies, report)
    costs.set_yticks(range(len(report.rows)), [row.planner for row in report.rows])
    costs.set_ylim(len(report.rows) - 0.4, -0.6)
    _open_frames(costs, latencies)
    figure.suptitle(
        f"{report.pipeline} on {report.planned_on.name}: planned on the first {report.split:.0%} of its time, "
        f"{report.discipline.replace('_', ' ')}",
        fontsize=11,
    )
    return figure


def _draw_costs(axes: Axes, report: ComparisonReport) -> None:
    from matplotlib.patches import Patch

    largest = max((row.usd_per_hour or 0.0 for row in report.rows), default=0.0)
    for place, row in enumerate(report.rows):
        if row.usd_per_hour is None:
            axes.text(0.0, place, f" no plan: {row.status}", va="center", fontsize=9, color=GREY)
            continue
        kept = _kept(row)
        axes.barh(
            place,
            row.usd_per_hour,
            height=0.62,
            color=BLUE if kept else "white",
            edgecolor=BLUE if kept else ORANGE,
            hatch=None if kept else "////",
        )
        axes.text(
            row.usd_per_hour, place, f" {row.usd_per_hour:.2f} $/h\n {_where(row)}", va="center", fontsize=8.5
        )
    axes.set_xlim(0.0, 1.9 * largest if largest else 1.0)  # room for the words beside the longest bar
    axes.set_xlabel("cost ($/h)")
    every_seed = " with every seed" if len(report.seeds) > 1 else ""
    handles = [
        Patch(facecolor=BLUE, edgecolor=BLUE, label=f"keeps the objective held out{every_seed}"),
        Patch(facecolor="white", edgecolor=ORANGE, hatch="////", label="misses it"),
    ]
    axes.legend(handles=handles, ncols=2, **_LEGEND)


def _draw_latencies(axes: Axes, report: ComparisonReport) -> None:
    unit, scale = ("ms", 1e3) if report.slo_s < 1.0 else ("s", 1.0)
    shown = [report.slo_s * scale]
    for place, row in enumerate(report.rows):
        if row.in_sample is None or row.held_out is None:
            continue
        colour = BLUE if _kept(row) else ORANGE
        seeds = [judged.latency_s * scale for judged in row.over_seeds]
        shown += [row.in_sample.latency_s * scale, *seeds]
        # One above the other: they often agree, and would hide each other.
        axes.plot(row.in_sample.latency_s * scale, place - _APART, "o", mfc="white", mec=colour, markersize=6)
        axes.plot([min(seeds), max(seeds)], [place + _APART] * 2, color=colour, linewidth=1.2, marker="|")
        axes.plot(row.held_out.latency_s * scale, place + _APART, "o", color=colour, markersize=6)
    axes.axvline(report.slo_s * scale, color=RED, linestyle="--", linewidth=1.2, zorder=0)
    if max(shown) > _LOG_FROM * min(shown):
        _make_logarithmic(axes)
    else:
        axes.set_xlim(0.0, 1.08 * max(shown))
    axes.set_xlabel(f"latency, P{100 * report.quantile:g} ({unit})")
    objective = f"SLO {report.slo_s * scale:g} {unit}"
    axes.legend(handles=_latency_handles(objective, len(report.seeds)), ncols=2, **_LEGEND)


def _make_logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _latency_handles(objective: str, seeds: int) -> list[Artist]:
    from matplotlib.lines import Line2D

    spread = Line2D([], [], color=GREY, linewidth=1.2, marker="|", label=f"held out, {seeds} seeds")
    return [
        Line2D([], [], marker="o", color=GREY, mfc="white", linestyle="", markersize=6, label="in sample"),
        Line2D([], [], marker="o", color=GREY, linestyle="", markersize=6, label="held out"),
        *([spread] if seeds > 1 else []),
        Line2D([], [], color=RED, linestyle="--", linewidth=1.2, label=objective),
    ]


def _kept(row: ComparisonRowReport) -> bool:
    """Whether the objective is kept on the rest, under every seed."""
    return bool(row.over_seeds) and all(judged.kept for judged in row.over_seeds)


def _where(row: ComparisonRowReport) -> str:
    in_sample = "kept" if row.in_sample is not None and row.in_sample.kept else "missed"
    kept, judged = sum(report.kept for report in row.over_seeds), len(row.over_seeds)
    if judged == 1:
        return f"{in_sample} in sample, {'kept' if kept else 'missed'} held out"
    return f"{in_sample} in sample, kept {kept} of {judged} held out"


# --- a fleet ----------------------------------------------------------------------------------------------------------


def draw_fleet(report: FleetReport) -> Figure:
    """Draw devices used beside their limits, and the cost of the dearest pipelines by hardware.

    Where not all pipelines fit, those admitted are drawn.
    """
    from matplotlib.figure import Figure

    devices, pipelines, title = _drawn(report)
    bars = min(len(pipelines), _MOST_BARS + 1)
    figure = Figure(figsize=(11.0, 2.4 + 0.28 * max(bars, len(devices), 4)), dpi=150, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.3))
    colours = {name: _HARDWARE_COLOURS[place % len(_HARDWARE_COLOURS)] for place, name in enumerate(devices)}
    _draw_devices(left, devices, colours)
    _draw_pipelines(right, pipelines, colours)
    _open_frames(left, right)
    figure.suptitle(title, fontsize=11)
    return figure


def _drawn(report: FleetReport) -> tuple[Mapping[str, DeviceUseReport], Mapping[str, FleetMemberReport], str]:
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
            axes.plot([use.limit] * 2, [place - 0.4, place + 0.4], color="black", linewidth=2.0)
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
    axes.legend(ncols=6, **_LEGEND)


def _by_hardware(member: FleetMemberReport) -> dict[str, float]:
    costs: dict[str, float] = {}
    for choice in member.choices.values():
        costs[choice.hardware] = costs.get(choice.hardware, 0.0) + choice.usd_per_hour
    return costs
