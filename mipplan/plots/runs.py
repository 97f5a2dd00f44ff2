"""Pictures of replays: one over time, policies in closed loop, and one plan under perturbations."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mipplan.core import MICRODOLLARS_PER_DOLLAR, NS_PER_S, Float64, Int64, format_duration
from mipplan.perturbation import AxisFragility, Fragility
from mipplan.plots.style import BLUE, COLOURS, GREY, LOG_FROM, ORANGE, RED, open_frames
from mipplan.result import ReplayResult, Windows
from mipplan.tuner import Tuning, TuningRun

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
#: Names of more points than this below an axis are written upright.
_LABELS_SIDE_BY_SIDE = 8


# --- one replay -------------------------------------------------------------------------------------------------------


def draw_replay(
    result: ReplayResult, slo_s: float, quantile: float, window_s: float | None = None, *, title: str = ""
) -> Figure:
    """Draw latencies over time, the traffic, and the share of queries slower than any latency.

    The objective is drawn as lines. By default windows are so long that each holds enough queries for a quantile.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 4.8), dpi=150, layout="constrained")
    grid = figure.add_gridspec(2, 2, width_ratios=(1.7, 1.0), height_ratios=(3.2, 1.0))
    over_time = figure.add_subplot(grid[0, 0])
    traffic = figure.add_subplot(grid[1, 0], sharex=over_time)
    distribution = figure.add_subplot(grid[:, 1])
    unit, scale = ("ms", 1e3) if slo_s < 1.0 else ("s", 1.0)
    windows = result.windows(window_s or _usual_window_s(result), slo_s)
    _draw_over_time(over_time, windows, slo_s, unit, scale)
    _draw_traffic(traffic, windows)
    _draw_distribution(distribution, result, slo_s, quantile, unit, scale)
    if title:
        figure.suptitle(f"{title}: {result.queries:,} queries, {result.discipline.replace('_', ' ')}")
    open_frames((over_time, traffic, distribution))
    return figure


def _draw_over_time(axes: Axes, windows: Windows, slo_s: float, unit: str, scale: float) -> None:
    edges = _edges(windows)
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
    axes.stairs(windows.p50_s * scale, edges, baseline=None, color=ORANGE, linewidth=1.3, label="P50")
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
    axes.set_title(
        f"latency over time, windows of {format_duration(windows.window_s * NS_PER_S)}",
        fontsize=10,
        loc="left",
    )
    axes.tick_params(labelbottom=False)
    axes.legend(
        frameon=False, ncols=3, fontsize=9, loc="lower right", bbox_to_anchor=(1.0, 0.99), borderpad=0
    )


def _draw_traffic(axes: Axes, windows: Windows) -> None:
    edges = _edges(windows)
    axes.stairs(windows.queries / windows.window_s, edges, fill=True, color=GREY, alpha=0.45)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("queries/s")
    axes.set_xlabel("ingress time (s)")


def _draw_distribution(
    axes: Axes, result: ReplayResult, slo_s: float, quantile: float, unit: str, scale: float
) -> None:
    ordered = np.sort(result.latency_ns)
    places = _places(result.queries)
    latency = ordered[places] * (scale / NS_PER_S)
    slower = 1.0 - places / result.queries
    axes.plot(latency, slower, color=BLUE, linewidth=1.5, drawstyle="steps-pre")
    axes.axvline(slo_s * scale, color=RED, linestyle="--", linewidth=1.2)
    observed = result.quantile(quantile) * scale
    if quantile < 1.0:
        axes.axhline(1.0 - quantile, color=GREY, linestyle=":", linewidth=1.0)
        axes.plot([observed], [1.0 - quantile], "o", color=BLUE, markersize=5)
    axes.annotate(
        f"P{100 * quantile:g} = {observed:.4g} {unit}",
        (observed, max(1.0 - quantile, 1.0 / result.queries)),
        xytext=(-6, -5),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=9,
        color=BLUE,
    )
    axes.set_yscale("log")
    axes.set_ylim(0.5 / result.queries, 1.3)
    if latency[-1] > LOG_FROM * latency[0]:
        axes.set_xscale("log")
    else:
        axes.set_xlim(0.0, 1.05 * max(float(latency[-1]), slo_s * scale))
    axes.set_xlabel(f"latency ({unit})")
    axes.set_ylabel("share of queries at least as slow")
    axes.set_title("distribution", fontsize=10, loc="left")


def _usual_window_s(result: ReplayResult) -> float:
    span_s = float(result.ingress_ns[-1] - result.ingress_ns[0]) / NS_PER_S
    wanted = span_s / min(_WINDOWS, max(1, result.queries // _QUERIES_PER_WINDOW))
    return next((step for step in _NICE_STEPS if step >= wanted), wanted)


def _edges(windows: Windows) -> Float64:
    return np.append(windows.start_s, windows.start_s[-1] + windows.window_s)


def _stairs(values: Float64) -> Float64:
    """Repeat the last value, which ends at the last edge."""
    return np.append(values, values[-1])


def _places(count: int) -> Int64:
    even = np.linspace(0, count - 1, min(count, _POINTS))
    tail = count - np.geomspace(1, count, min(count, _POINTS))
    return np.unique(np.rint(np.concatenate([even, tail])).astype(np.int64))


# --- policies in closed loop ------------------------------------------------------------------------------------------


def draw_tuning(tuning: Tuning, *, title: str = "") -> Figure:
    """Draw the traffic, what replicas cost, the P99 and the misses of each policy over time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 9.0), dpi=130, layout="constrained")
    grid = figure.subplots(4, 1, sharex=True, gridspec_kw={"height_ratios": (1.0, 1.6, 1.6, 1.2)})
    rate, cost, latency, missed = grid
    _draw_rate(rate, tuning)
    for colour, run in zip(COLOURS * len(tuning.runs), tuning.runs, strict=False):
        _draw_cost(cost, tuning, run, colour)
        edges = _edges(run.windows)
        latency.stairs(run.windows.p99_s * 1e3, edges, baseline=None, color=colour, linewidth=1.2)
        missed.stairs(100.0 * run.missed_over_time, edges, baseline=None, color=colour, linewidth=1.2)
    _finish(grid, tuning)
    if title:
        figure.suptitle(title)
    figure.legend(*cost.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw_rate(axes: Axes, tuning: Tuning) -> None:
    step = max(1.0, tuning.trace.duration_s / 400)
    starts_s, rates = tuning.trace.rate_over_time(step)
    axes.stairs(rates, np.append(starts_s, starts_s[-1] + step), fill=True, color=GREY, alpha=0.45)
    axes.axhline(tuning.sample.rate_rps, color=GREY, linestyle=":", linewidth=1.0)
    axes.set_ylim(bottom=0.0)


def _draw_cost(axes: Axes, tuning: Tuning, run: TuningRun, colour: str) -> None:
    """Dollars per hour commanded, over time."""
    hardware = tuning.plan.profiles.hardware
    instants = np.unique(np.concatenate([schedule.change_ns for schedule in run.schedules.values()]))
    begin_ns, end_ns = int(tuning.trace.arrival_ns[0]), int(tuning.trace.arrival_ns[-1])
    edges_ns = np.concatenate([[begin_ns], instants, [max(end_ns, int(instants.max(initial=0)) + 1)]])
    total = np.zeros(edges_ns.size - 1)
    for stage, schedule in run.schedules.items():
        price = hardware[tuning.plan.choices[stage].hardware].microusd_per_hour / MICRODOLLARS_PER_DOLLAR
        counts = schedule.replicas[np.searchsorted(schedule.change_ns, edges_ns[:-1], side="right")]
        total += price * counts
    label = f"{run.policy}: {run.miss_rate:.2%} missed, {run.usd_per_hour:.2f} $/h"
    axes.stairs(total, edges_ns / NS_PER_S, baseline=None, color=colour, linewidth=1.3, label=label)


def _finish(grid: np.ndarray, tuning: Tuning) -> None:
    from matplotlib.ticker import LogLocator

    _, cost, latency, missed = grid
    window_s = tuning.runs[0].windows.window_s
    captions = (
        ("traffic (dotted: the sample's rate)", "queries/s"),
        ("replicas commanded", "$/h"),
        (f"P99 of {window_s:g} s (dashed: the objective)", "P99 (ms)"),
        (f"queries beyond the objective, of those within {window_s:g} s", "missed (%)"),
    )
    for axes, (title, unit) in zip(grid, captions, strict=True):
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_ylabel(unit)
    latency.axhline(tuning.plan.slo_s * 1e3, color=RED, linestyle="--", linewidth=1.0)
    most = max(float(run.missed_over_time.max()) for run in tuning.runs)
    missed.set_ylim(0.0, max(5.0, min(104.0, 110.0 * most)))
    missed.set_xlabel("ingress time (s)")
    for axes in (cost, latency):
        axes.set_yscale("log")  # far dearer policies would press all others onto the axis
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
        axes.yaxis.set_minor_formatter("{x:g}")
    open_frames(grid)
    missed.set_xlim(tuning.trace.arrival_ns[0] / NS_PER_S, tuning.trace.arrival_ns[-1] / NS_PER_S)


# --- one plan under perturbations -------------------------------------------------------------------------------------


def draw_fragility(fragility: Fragility) -> Figure:
    """Draw the latency quantile along every axis, a panel each, with the objective and the first break."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 6.4), dpi=140, layout="constrained")
    panels = figure.subplots(2, -(-len(fragility.axes) // 2), squeeze=False).ravel()
    for axes, axis in zip(panels, fragility.axes, strict=False):
        _draw_axis(axes, fragility, axis)
    for axes in panels[len(fragility.axes) :]:
        axes.set_axis_off()
    open_frames(panels)
    plan, quantile = fragility.plan, f"P{100 * fragility.quantile:g}"
    figure.suptitle(
        f"{plan.pipeline.name} on {fragility.trace.name}: {quantile} under perturbations; breaks first: "
        f"{fragility.breaks_first}",
        fontsize=11,
    )
    return figure


def _draw_axis(axes: Axes, fragility: Fragility, axis: AxisFragility) -> None:
    unit, scale = ("ms", 1e3) if fragility.plan.slo_s < 1.0 else ("s", 1.0)
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
        axes.plot([places[n] for n in chosen], latencies[chosen], marker, color=colour, markersize=6)
    for place, point, latency in zip(places, points, latencies, strict=True):
        if point.quantile_s is None:
            axes.annotate(
                "none left",
                (place, latency),
                xytext=(0, 6),
                textcoords="offset points",
                color=RED,
                fontsize=7,
                ha="center",
            )
    _mark_break(axes, axis, slo, is_line)
    if largest > LOG_FROM * smallest:
        axes.set_yscale("log")
    else:
        axes.set_ylim(0.0, 1.25 * largest)
    axes.set_ylabel(f"P{100 * fragility.quantile:g} ({unit})")
    axes.set_title(f"{axis.title}\n{axis.verdict}", fontsize=9, loc="left")
    if is_line:
        axes.set_xlabel("factor")
    else:
        turned = 30 if len(points) <= _LABELS_SIDE_BY_SIDE else 90
        labels = [point.label for point in points]
        axes.set_xticks(places, labels, rotation=turned, ha="right", rotation_mode="anchor", fontsize=7)


def _mark_break(axes: Axes, axis: AxisFragility, slo: float, is_line: bool) -> None:
    """Draw a line where the objective is missed first."""
    first = axis.first_break
    if first is None:
        return
    numbers = {point.value: float(number) for number, point in enumerate(axis.points, start=1)}
    place = float(first.value) if is_line else numbers[first.value]
    axes.axvline(place, color=RED, linestyle=":", linewidth=1.2)
    if is_line:
        label, offset = first.label, (4, -12)
        axes.annotate(label, (place, slo), xytext=offset, textcoords="offset points", color=RED, fontsize=9)
