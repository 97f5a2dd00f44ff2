"""Pictures of replays: one over time, and one plan under perturbations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mipplan.core import NS_PER_S, Float64, Int64, format_duration
from mipplan.perturbation import AxisFragility, Fragility
from mipplan.plots.style import (
    BLUE,
    GREY,
    LOG_FROM,
    ORANGE,
    RED,
    SMALLEST,
    edges_of,
    folded,
    literal,
    mark_time,
    new_figure,
    on_clock,
    open_frames,
    shortened,
    unit_for,
)
from mipplan.result import ReplayResult, Windows

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: At most this many windows of a replay are drawn if none are asked for; fewer where they would hold few queries.
_WINDOWS = 150
_QUERIES_PER_WINDOW = 50
_NICE_STEPS = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0),
    *(60.0, 120.0, 300.0, 600.0, 900.0, 1_800.0, 3_600.0),
)
#: A distribution is drawn with this many points evenly spread, and with as many ever denser towards the slowest query.
_POINTS = 600
#: Verdicts are folded after so many letters: two panels stand side by side.
_LETTERS = 30
#: Left of this share of the width there is no room for a quantile in words.
_MIDDLE = 0.35
#: Names of more points than this below an axis are written upright.
_LABELS_SIDE_BY_SIDE = 8


# --- one replay -------------------------------------------------------------------------------------------------------


def draw_replay(
    result: ReplayResult,
    slo_s: float,
    quantile: float,
    window_s: float | None = None,
    *,
    title: str = "",
    zero_ns: int | None = None,
) -> Figure:
    """Draw latencies over time, the traffic, and the share of queries slower than any latency.

    The objective is drawn as lines. By default windows are so long that each holds enough queries for a quantile.
    With `zero_ns`, what time 0 of the trace is (`Trace.zero_ns`), times are dates.
    """
    figure = new_figure(5.8)
    grid = figure.add_gridspec(3, 1, height_ratios=(2.4, 1.0, 2.6))
    over_time = figure.add_subplot(grid[0])
    traffic = figure.add_subplot(grid[1], sharex=over_time)
    distribution = figure.add_subplot(grid[2])
    unit, scale = unit_for(slo_s)
    scale *= NS_PER_S
    windows = result.windows(window_s or _usual_window_s(result), slo_s)
    edges = on_clock(edges_of(windows), zero_ns)
    _draw_over_time(over_time, windows, edges, slo_s, unit, scale)
    _draw_traffic(traffic, windows, edges)
    mark_time(traffic, zero_ns)
    traffic.xaxis.label.set_fontsize("medium")  # as that of the panel below
    _draw_distribution(distribution, result, slo_s, quantile, unit, scale)
    if title:
        figure.suptitle(
            folded(f"{title}: {result.queries:,} queries, {result.discipline.replace('_', ' ')}"),
            fontsize=9.5,
        )
    open_frames((over_time, traffic, distribution))
    return figure


def _draw_over_time(
    axes: Axes, windows: Windows, edges: Float64, slo_s: float, unit: str, scale: float
) -> None:
    # Bands rather than lines: a window is a stretch of time, and one without queries leaves a gap.
    axes.fill_between(
        edges,
        _stairs(windows.p50_s) * scale,
        _stairs(windows.p99_s) * scale,
        step="post",
        color=BLUE,
        alpha=0.15,
        linewidth=0,
    )
    axes.stairs(windows.p99_s * scale, edges, baseline=None, color=BLUE, linewidth=1.3, label="P99")
    axes.stairs(
        windows.p50_s * scale,
        edges,
        baseline=None,
        color=ORANGE,
        linewidth=1.3,
        label="P50",
        linestyle=(0, (4, 1)),
    )
    axes.axhline(
        slo_s * scale, color=RED, linestyle="--", linewidth=1.2, label=f"SLO {slo_s * scale:g} {unit}"
    )
    largest = max(slo_s, float(np.nanmax(windows.p99_s)))
    smallest = float(np.nanmin(windows.p50_s))
    if largest > LOG_FROM * smallest:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0.0, 1.08 * largest * scale)
    axes.set_ylabel(f"latency ({unit})")
    axes.set_title(f"windows of {format_duration(windows.window_s * NS_PER_S)}", fontsize=8.5, loc="left")
    axes.tick_params(labelbottom=False)
    axes.legend(
        frameon=False,
        ncols=3,
        fontsize=8,
        loc="lower right",
        bbox_to_anchor=(1.0, 0.99),
        borderpad=0,
        columnspacing=1.0,
    )


def _draw_traffic(axes: Axes, windows: Windows, edges: Float64) -> None:
    axes.stairs(windows.queries / windows.window_s, edges, fill=True, color=GREY, alpha=0.45)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("queries/s")


def _draw_distribution(
    axes: Axes, result: ReplayResult, slo_s: float, quantile: float, unit: str, scale: float
) -> None:
    ordered = np.sort(result.answered_ns)
    places = _places(ordered.size)
    latency = ordered[places] * (scale / NS_PER_S)
    slower = 1.0 - places / ordered.size
    axes.plot(latency, slower, color=BLUE, linewidth=1.5, drawstyle="steps-pre")
    axes.axvline(slo_s * scale, color=RED, linestyle="--", linewidth=1.2)
    observed = result.quantile(quantile) * scale
    if quantile < 1.0:
        axes.axhline(1.0 - quantile, color=GREY, linestyle=":", linewidth=1.0)
        axes.plot([observed], [1.0 - quantile], "o", color=BLUE, markersize=5)
    axes.set_yscale("log")
    axes.set_ylim(0.5 / ordered.size, 1.3)
    if latency[-1] > LOG_FROM * latency[0]:
        axes.set_xscale("log")
    else:
        axes.set_xlim(0.0, 1.05 * max(float(latency[-1]), slo_s * scale))
    # On the side with more room: plans with much to spare would have it written over the marks of the axis.
    place = axes.transAxes.inverted().transform(axes.transData.transform((observed, 0.5)))[0]
    side, away = ("right", -6) if place > _MIDDLE else ("left", 6)
    axes.annotate(
        f"P{100 * quantile:g} = {observed:.4g} {unit}",
        (observed, max(1.0 - quantile, 1.0 / ordered.size)),
        xytext=(away, -5),
        textcoords="offset points",
        ha=side,
        va="top",
        fontsize=8.5,
        color=BLUE,
    )
    axes.set_xlabel(f"latency ({unit})")
    axes.set_ylabel("share at least as slow")


def _usual_window_s(result: ReplayResult) -> float:
    span_s = float(result.ingress_ns[-1] - result.ingress_ns[0]) / NS_PER_S
    wanted = span_s / min(_WINDOWS, max(1, result.queries // _QUERIES_PER_WINDOW))
    return next((step for step in _NICE_STEPS if step >= wanted), wanted)


def _stairs(values: Float64) -> Float64:
    """Repeat the last value, which ends at the last edge."""
    return np.append(values, values[-1])


def _places(count: int) -> Int64:
    even = np.linspace(0, count - 1, min(count, _POINTS))
    tail = count - np.geomspace(1, count, min(count, _POINTS))
    return np.unique(np.rint(np.concatenate([even, tail])).astype(np.int64))


# --- one plan under perturbations -------------------------------------------------------------------------------------


def draw_fragility(fragility: Fragility) -> Figure:
    """Draw the latency quantile along every axis, a panel each, with the objective and the first break."""
    rows = -(-len(fragility.axes) // 2)
    figure = new_figure(0.6 + 1.75 * rows)
    panels = figure.subplots(rows, 2, squeeze=False).ravel()
    for axes, axis in zip(panels, fragility.axes, strict=False):
        _draw_axis(axes, fragility, axis)
    for axes in panels[len(fragility.axes) :]:
        axes.set_axis_off()
    open_frames(panels)
    plan = fragility.plan
    of = f"{plan.pipeline.name} on {fragility.trace.name}, {plan.objective.text}"
    figure.suptitle(f"{folded(of)}\n{folded(f'breaks first: {fragility.breaks_first}')}", fontsize=9)
    return figure


def _draw_axis(axes: Axes, fragility: Fragility, axis: AxisFragility) -> None:
    unit, scale = unit_for(fragility.plan.slo_s)
    scale *= NS_PER_S
    slo = fragility.plan.slo_s * scale
    points = (fragility.unperturbed, *axis.points)
    alive = np.array([np.nan if point.quantile_s is None else point.quantile_s * scale for point in points])
    largest, smallest = float(np.nanmax([*alive, slo])), float(np.nanmin([*alive, slo]))
    # A stage without replicas serves nobody: its mark stands above all latencies.
    latencies = np.where(np.isnan(alive), 1.12 * largest, alive)
    is_line = all(isinstance(point.value, float) for point in points)
    places = [float(point.value) if is_line else float(place) for place, point in enumerate(points)]
    axes.axhline(slo, color=RED, linestyle="--", linewidth=1.2)
    axes.plot(places, latencies, color=BLUE, linewidth=1.3 if is_line else 0.0)
    for keeps, marker, colour in ((True, "o", BLUE), (False, "X", RED)):
        chosen = [number for number, point in enumerate(points) if point.keeps is keeps]
        axes.plot([places[n] for n in chosen], latencies[chosen], marker, color=colour, markersize=5)
    dead = [number for number, point in enumerate(points) if point.quantile_s is None]
    if dead:
        axes.annotate(
            "none left",
            (places[dead[-1]], latencies[dead[-1]]),
            xytext=(4, 5),
            textcoords="offset points",
            color=RED,
            fontsize=SMALLEST,
            ha="right",
        )
    _mark_break(axes, axis, is_line)
    if largest > LOG_FROM * smallest:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0.0, 1.25 * largest)
    axes.set_ylabel(f"P{100 * fragility.quantile:g} ({unit})", fontsize=8)
    verdict, labels = axis.verdict, [point.label for point in points]
    for stage, short in shortened(fragility.plan.choices).items() if not is_line else ():
        # Of stages with long names the panels would have no room beside and above them.
        verdict, labels = verdict.replace(stage, short), [label.replace(stage, short) for label in labels]
    axes.set_title(f"{literal(axis.title)}\n{folded(verdict, _LETTERS)}", fontsize=8, loc="left")
    axes.tick_params(labelsize=8)
    if is_line:
        axes.set_xlabel("factor", fontsize=8)
    else:
        turned = 40 if len(points) <= _LABELS_SIDE_BY_SIDE else 90
        axes.set_xticks(
            places,
            [literal(label) for label in labels],
            rotation=turned,
            ha="right",
            rotation_mode="anchor",
            fontsize=SMALLEST,
        )


def _mark_break(axes: Axes, axis: AxisFragility, is_line: bool) -> None:
    """Draw a line where the objective is missed first."""
    first = axis.first_break
    if first is None:
        return
    numbers = {point.value: float(number) for number, point in enumerate(axis.points, start=1)}
    place = float(first.value) if is_line else numbers[first.value]
    axes.axvline(place, color=RED, linestyle=":", linewidth=1.2)
    if is_line:
        # On the side with more room: plans that break early would have it written over the marks of the axis.
        low, high = axes.get_xlim()
        side = "right" if place - low > high - place else "left"
        where = axes.get_xaxis_transform()
        axes.text(place, 0.98, f" {first.label} ", transform=where, color=RED, fontsize=8, ha=side, va="top")
