"""A picture of a comparison: what each plan costs, and whether it keeps the objective."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mipplan.reporting.comparisons import ComparisonReport, ComparisonRowReport

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart by people with any kind of colour vision (Okabe and Ito); hatching says the same without colour.
_KEPT, _MISSED, _OBJECTIVE, _GREY = "#0072B2", "#E69F00", "#D55E00", "#555555"
#: From this ratio on, a linear axis would press what keeps the objective against the edge.
_LOG_FROM = 8.0
#: Between what is shown of one plan, in units of the distance between plans.
_APART = 0.13
_LEGEND: dict[str, Any] = {
    "frameon": False,
    "fontsize": 8.5,
    "ncols": 2,
    "loc": "lower left",
    "bbox_to_anchor": (0.0, 1.0),
    "borderpad": 0.2,
}


def draw_comparison(report: ComparisonReport) -> Figure:
    """Draw cost bars, cheapest plan on top, and beside them the latency quantile in sample and held out.

    Parameters
    ----------
    report : ComparisonReport
    """
    from matplotlib.figure import Figure

    height = 2.2 + 0.42 * max(1, len(report.rows))
    figure = Figure(figsize=(10.5, height), dpi=150, layout="constrained")
    costs, latencies = figure.subplots(1, 2, sharey=True)
    _draw_costs(costs, report)
    _draw_latencies(latencies, report)
    costs.set_yticks(range(len(report.rows)), [row.planner for row in report.rows])
    costs.set_ylim(len(report.rows) - 0.4, -0.6)
    for axes in (costs, latencies):
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
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
            axes.text(0.0, place, f" no plan: {row.status}", va="center", fontsize=9, color=_GREY)
            continue
        kept = _kept(row)
        axes.barh(
            place,
            row.usd_per_hour,
            height=0.62,
            color=_KEPT if kept else "white",
            edgecolor=_KEPT if kept else _MISSED,
            hatch=None if kept else "////",
        )
        axes.text(
            row.usd_per_hour, place, f" {row.usd_per_hour:.2f} $/h\n {_where(row)}", va="center", fontsize=8.5
        )
    axes.set_xlim(0.0, 1.9 * largest if largest else 1.0)  # room for the words beside the longest bar
    axes.set_xlabel("cost ($/h)")
    every_seed = " with every seed" if len(report.seeds) > 1 else ""
    handles = [
        Patch(facecolor=_KEPT, edgecolor=_KEPT, label=f"keeps the objective held out{every_seed}"),
        Patch(facecolor="white", edgecolor=_MISSED, hatch="////", label="misses it"),
    ]
    axes.legend(handles=handles, **_LEGEND)


def _draw_latencies(axes: Axes, report: ComparisonReport) -> None:
    unit, scale = ("ms", 1e3) if report.slo_s < 1.0 else ("s", 1.0)
    shown = [report.slo_s * scale]
    for place, row in enumerate(report.rows):
        if row.in_sample is None or row.held_out is None:
            continue
        colour = _KEPT if _kept(row) else _MISSED
        seeds = [judged.latency_s * scale for judged in row.over_seeds]
        shown += [row.in_sample.latency_s * scale, *seeds]
        # One above the other: they often agree, and would hide each other.
        axes.plot(row.in_sample.latency_s * scale, place - _APART, "o", mfc="white", mec=colour, markersize=6)
        axes.plot([min(seeds), max(seeds)], [place + _APART] * 2, color=colour, linewidth=1.2, marker="|")
        axes.plot(row.held_out.latency_s * scale, place + _APART, "o", color=colour, markersize=6)
    axes.axvline(report.slo_s * scale, color=_OBJECTIVE, linestyle="--", linewidth=1.2, zorder=0)
    if max(shown) > _LOG_FROM * min(shown):
        _make_logarithmic(axes)
    else:
        axes.set_xlim(0.0, 1.08 * max(shown))
    axes.set_xlabel(f"latency, P{100 * report.quantile:g} ({unit})")
    objective = f"SLO {report.slo_s * scale:g} {unit}"
    axes.legend(handles=_latency_handles(objective, len(report.seeds)), **_LEGEND)


def _make_logarithmic(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


def _latency_handles(objective: str, seeds: int) -> list[Artist]:
    from matplotlib.lines import Line2D

    spread = Line2D([], [], color=_GREY, linewidth=1.2, marker="|", label=f"held out, {seeds} seeds")
    return [
        Line2D([], [], marker="o", color=_GREY, mfc="white", linestyle="", markersize=6, label="in sample"),
        Line2D([], [], marker="o", color=_GREY, linestyle="", markersize=6, label="held out"),
        *([spread] if seeds > 1 else []),
        Line2D([], [], color=_OBJECTIVE, linestyle="--", linewidth=1.2, label=objective),
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
