"""Pictures of bars: of planners compared, of a fleet, and of measurements that the cost depends on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mipplan.core import NS_PER_S, usd_text
from mipplan.plots.style import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    SMALLEST,
    folded,
    hardware_looks,
    legend_below,
    mark_decades,
    new_axes,
    new_figure,
    open_frames,
    short_name,
    short_names,
    unit_for,
)
from mipplan.questions import Sensitivity

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mipplan.reporting import (
        ComparisonReport,
        ComparisonRowReport,
        DeviceUseReport,
        FleetMemberReport,
        FleetReport,
    )

_LEGEND: dict[str, Any] = {
    "frameon": False,
    "fontsize": SMALLEST,
    "loc": "lower left",
    "bbox_to_anchor": (0.0, 1.0),
    "borderpad": 0.2,
    "columnspacing": 1.0,
}
#: From this ratio on, a linear axis would press the latencies of plans that keep the objective against the edge.
_LOG_FROM = 8.0
#: What is shown of one plan lies this far apart, in units of the distance between plans.
_APART = 0.13
#: At most this many pipelines are drawn one by one; all others together make one more bar.
_MOST_BARS = 20
#: Titles beside names of models have as many letters in a line.
_LETTERS = 46


def _open_frames(*several: Axes) -> None:
    open_frames(several)
    for axes in several:
        axes.tick_params(axis="y", length=0)


# --- planners compared ------------------------------------------------------------------------------------------------


def draw_comparison(report: ComparisonReport) -> Figure:
    """Draw cost bars, cheapest plan on top, and below them the latency quantile in sample and held out."""
    figure = new_figure(2.4 + 0.7 * max(1, len(report.rows)))
    costs, latencies = figure.subplots(2, 1, sharey=True, height_ratios=(1.2, 1.0))
    _draw_costs(costs, report)
    _draw_latencies(latencies, report)
    costs.set_yticks(range(len(report.rows)), [row.planner for row in report.rows])
    costs.set_ylim(len(report.rows) - 0.4, -0.6)
    _open_frames(costs, latencies)
    title = f"{report.pipeline} on {report.planned_on.name}, planned on its first {report.split:.0%}"
    figure.suptitle(folded(f"{title}, {report.discipline.replace('_', ' ')}"), fontsize=9)
    return figure


def _draw_costs(axes: Axes, report: ComparisonReport) -> None:
    from matplotlib.patches import Patch

    largest = max((row.usd_per_hour or 0.0 for row in report.rows), default=0.0)
    for place, row in enumerate(report.rows):
        if row.usd_per_hour is None:
            axes.text(0.0, place, f" no plan: {row.status}", va="center", fontsize=8, color=GREY)
            continue
        kept = _kept(row) and row.accurate is not False
        axes.barh(
            place,
            row.usd_per_hour,
            height=0.62,
            color=BLUE if kept else "white",
            edgecolor=BLUE if kept else ORANGE,
            hatch=None if kept else "////",
        )
        axes.text(
            row.usd_per_hour,
            place,
            f" {usd_text(row.usd_per_hour, 2)} $/h{_accuracy(row)}\n {_where(row)}",
            va="center",
            fontsize=SMALLEST,
        )
    axes.set_xlim(0.0, 2.0 * largest if largest else 1.0)  # room for the words beside the longest bar
    axes.set_xlabel("cost ($/h)")
    every_seed = " with every seed" if len(report.seeds) > 1 else ""
    what = "objective" if report.min_accuracy is None else "objective and accuracy"
    handles = [
        Patch(facecolor=BLUE, edgecolor=BLUE, label=f"keeps the {what} held out{every_seed}"),
        Patch(facecolor="white", edgecolor=ORANGE, hatch="////", label="misses it"),
    ]
    axes.legend(handles=handles, ncols=2, **_LEGEND)


def _draw_latencies(axes: Axes, report: ComparisonReport) -> None:
    unit, scale = unit_for(report.slo_s)
    scale *= NS_PER_S
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
        axes.set_xscale("log")
        mark_decades(axes.xaxis)
    else:
        axes.set_xlim(0.0, 1.08 * max(shown))
    logarithmic = ", logarithmic" if axes.get_xscale() == "log" else ""
    axes.set_xlabel(f"latency, P{100 * report.quantile:g} ({unit}{logarithmic})")
    objective = f"SLO {report.slo_s * scale:g} {unit}"
    axes.legend(handles=_latency_handles(objective, len(report.seeds)), ncols=2, **_LEGEND)


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


def _accuracy(row: ComparisonRowReport) -> str:
    if row.accuracy is None:
        return ", accuracy not known" if row.accurate is False else ""
    return f", accuracy {row.accuracy:.4g}{', too low' if row.accurate is False else ''}"


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
    devices, pipelines, title = _drawn(report)
    heights = [0.28 * max(2, count) + 0.3 for count in (len(devices), min(len(pipelines), _MOST_BARS + 1))]
    figure = new_figure(1.1 + sum(heights))
    above, below = figure.subplots(2, 1, height_ratios=heights)
    looks = hardware_looks(devices)
    _draw_devices(above, devices, looks)
    _draw_pipelines(below, pipelines, looks)
    _open_frames(above, below)
    figure.suptitle(folded(title), fontsize=9.5)
    return figure


def _drawn(report: FleetReport) -> tuple[Mapping[str, DeviceUseReport], Mapping[str, FleetMemberReport], str]:
    admission = report.admission
    if not report.pipelines and admission is not None and admission.fleet is not None:
        made = admission.fleet
        left_out = len(admission.left_out)
        title = f"{report.name}: {len(made.pipelines):,} pipelines admitted, {left_out:,} left out"
        return made.devices, made.pipelines, f"{title}, {usd_text(made.usd_per_hour, 2)} $/h"
    cost = "no plan" if report.usd_per_hour is None else f"{usd_text(report.usd_per_hour, 2)} $/h"
    gap = f", gap {report.gap:.2%}" if report.gap else ""
    return (
        report.devices,
        report.pipelines,
        f"{report.name}: {len(report.pipelines):,} pipelines, {cost}{gap}",
    )


def _draw_devices(
    axes: Axes, devices: Mapping[str, DeviceUseReport], looks: Mapping[str, tuple[str, str]]
) -> None:
    """Bars of devices used; a black line where the limit is, and what one more would save."""
    from matplotlib.ticker import MaxNLocator

    largest = max((max(use.used, use.limit or 0) for use in devices.values()), default=1)
    for place, (name, use) in enumerate(devices.items()):
        axes.barh(place, use.used, height=0.62, color=looks[name][0], hatch=looks[name][1], edgecolor="white")
        words = f"{use.used:,}"
        if use.limit is not None:
            axes.plot([use.limit] * 2, [place - 0.4, place + 0.4], color="black", linewidth=2.0)
            words = f"{use.used:,} of {use.limit:,}"
        if use.one_more_usd_per_hour:
            words += f", one more saves {use.one_more_usd_per_hour:.3g} $/h"
        axes.text(max(use.used, use.limit or 0), place, f"  {words}", va="center", fontsize=8)
    axes.set_yticks(range(len(devices)), list(short_names(devices).values()))
    axes.set_ylim(len(devices) - 0.4, -0.6)
    axes.set_xlim(0.0, 1.8 * max(largest, 1))  # room for the words beside the longest bar
    axes.xaxis.set_major_locator(
        MaxNLocator("auto", integer=True, steps=[1, 2, 5, 10])
    )  # there are no half devices
    axes.set_xlabel("devices (black line: limit)")


def _draw_pipelines(
    axes: Axes, pipelines: Mapping[str, FleetMemberReport], looks: Mapping[str, tuple[str, str]]
) -> None:
    """Stacked bars of cost by hardware, the dearest pipeline on top; all that are not named make one bar."""
    ordered = sorted(pipelines.items(), key=lambda item: -item[1].usd_per_hour)
    costs = [(name, _by_hardware(member)) for name, member in ordered[:_MOST_BARS]]
    others = [_by_hardware(member) for _, member in ordered[_MOST_BARS:]]
    if others:
        # On the same scale their sum would press all other bars against the edge.
        mean = {name: sum(cost.get(name, 0.0) for cost in others) / len(others) for name in looks}
        costs.append((f"mean of {len(others):,} others", mean))
    for place, (_, by_hardware) in enumerate(costs):
        start = 0.0
        for name, (colour, hatch) in looks.items():
            cost = by_hardware.get(name, 0.0)
            axes.barh(place, cost, left=start, height=0.66, color=colour, hatch=hatch, edgecolor="white")
            start += cost
        axes.text(start, place, f"  {usd_text(start, 2)}", va="center", fontsize=8)
    for name, (colour, hatch) in looks.items():
        axes.barh(0, 0, color=colour, hatch=hatch, edgecolor="white", label=short_name(name))
    axes.set_yticks(range(len(costs)), list(short_names(name for name, _ in costs).values()), fontsize=8.5)
    axes.set_ylim(max(len(costs), 1) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.set_xlabel("cost of a pipeline ($/h)")
    legend_below(axes, ncols=4)


def _by_hardware(member: FleetMemberReport) -> dict[str, float]:
    costs: dict[str, float] = {}
    for choice in member.choices.values():
        costs[choice.hardware] = costs.get(choice.hardware, 0.0) + choice.usd_per_hour
    return costs


# --- measurements -----------------------------------------------------------------------------------------------------


def draw_sensitivity(sensitivity: Sensitivity, *, axes: Axes | None = None) -> Axes:
    """Draw by how much the least cost changes where a measurement is off, what matters most on top.

    Parameters
    ----------
    sensitivity : Sensitivity
        As `mipplan.sensitivity` returns it.
    axes : matplotlib.axes.Axes, optional
        To draw on; of a new figure by default.
    """
    shown = sensitivity.measurements[:_MOST_BARS]
    axes = new_axes(1.3 + 0.32 * max(1, len(shown))) if axes is None else axes
    share = f"{100 * sensitivity.share:g} %"
    for place, one in enumerate(shown):
        axes.barh(place, one.usd_faster, height=0.62, color=BLUE)
        if one.usd_slower is None:
            axes.text(0.0, place, " no plan if slower", va="center", fontsize=SMALLEST, color=RED)
        else:
            axes.barh(place, one.usd_slower, height=0.62, color="white", edgecolor=ORANGE, hatch="////")
    axes.barh(0, 0, color="white", edgecolor=ORANGE, hatch="////", label=f"{share} slower")
    axes.barh(0, 0, color=BLUE, label=f"{share} faster")
    axes.axvline(0.0, color="black", linewidth=0.8)
    names = [f"{short_name(one.model)} on {short_name(one.hardware)}\nbatch {one.batch}" for one in shown]
    axes.set_yticks(range(len(shown)), names, fontsize=SMALLEST)
    axes.set_ylim(max(len(shown), 1) - 0.4, -0.6)
    axes.set_xlabel("change of the least cost ($/h)")
    left = f"{sensitivity.found_text} measurements matter"
    title = folded(f"{sensitivity.plan.pipeline.name}: {left}", _LETTERS)
    axes.set_title(title, fontsize=9, loc="left")
    legend_below(axes, ncols=2)
    _open_frames(axes)
    return axes
