"""A picture of policies in closed loop: rate, replicas, latency and misses over time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mipplan.core import MICRODOLLARS_PER_DOLLAR, NS_PER_S
from mipplan.tuner import Tuning, TuningRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Told apart by people with any kind of colour vision (Okabe and Ito), first come first served.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#000000", "#8C6D31", "#999999")
_RED, _GREY = "#D55E00", "#555555"


def draw_tuning(tuning: Tuning, *, title: str = "") -> Figure:
    """Draw the traffic, what replicas cost, the P99 and the misses of each policy over time.

    Parameters
    ----------
    tuning : Tuning
    title : str
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 9.0), dpi=130, layout="constrained")
    grid = figure.subplots(4, 1, sharex=True, gridspec_kw={"height_ratios": (1.0, 1.6, 1.6, 1.2)})
    rate, cost, latency, missed = grid
    _draw_rate(rate, tuning)
    for colour, run in zip(_COLOURS * len(tuning.runs), tuning.runs, strict=False):
        _draw_cost(cost, tuning, run, colour)
        edges = np.append(run.windows.start_s, run.windows.start_s[-1] + run.windows.window_s)
        latency.stairs(run.windows.p99_s * 1e3, edges, baseline=None, color=colour, linewidth=1.2)
        missed.stairs(100.0 * run.missed_over_time, edges, baseline=None, color=colour, linewidth=1.2)
    _finish(grid, tuning)
    if title:
        figure.suptitle(title)
    figure.legend(*cost.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw_rate(axes: Axes, tuning: Tuning) -> None:
    starts_s, rates = tuning.trace.rate_over_time(max(1.0, tuning.trace.duration_s / 400))
    step = max(1.0, tuning.trace.duration_s / 400)
    axes.stairs(rates, np.append(starts_s, starts_s[-1] + step), fill=True, color=_GREY, alpha=0.45)
    axes.axhline(tuning.sample.rate_rps, color=_GREY, linestyle=":", linewidth=1.0)
    axes.set_ylabel("queries/s")
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

    rate, cost, latency, missed = grid
    rate.set_title("traffic (dotted: the sample's rate)", fontsize=10, loc="left")
    cost.set_title("replicas commanded", fontsize=10, loc="left")
    cost.set_ylabel("$/h")
    cost.set_yscale("log")  # far dearer policies would press all others onto the axis
    latency.axhline(tuning.plan.slo_s * 1e3, color=_RED, linestyle="--", linewidth=1.0)
    latency.set_yscale("log")
    latency.set_ylabel("P99 (ms)")
    window_s = tuning.runs[0].windows.window_s
    latency.set_title(f"P99 of {window_s:g} s (dashed: the objective)", fontsize=10, loc="left")
    missed.set_ylabel("missed (%)")
    missed.set_title(f"queries beyond the objective, of those within {window_s:g} s", fontsize=10, loc="left")
    most = max(float(run.missed_over_time.max()) for run in tuning.runs)
    missed.set_ylim(0.0, max(5.0, min(104.0, 110.0 * most)))
    missed.set_xlabel("ingress time (s)")
    for axes in (cost, latency):
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(LogLocator(subs=(2.0, 5.0)))
        axes.yaxis.set_minor_formatter("{x:g}")
    for axes in grid:
        axes.spines[["top", "right"]].set_visible(False)
    missed.set_xlim(tuning.trace.arrival_ns[0] / NS_PER_S, tuning.trace.arrival_ns[-1] / NS_PER_S)
