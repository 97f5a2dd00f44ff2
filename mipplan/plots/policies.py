"""Picture of policies in closed loop: traffic, replicas stage by stage, their cost, latencies and misses over time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mipplan.core import MICRODOLLARS_PER_DOLLAR, NS_PER_S, Float64, usd_text
from mipplan.plots.style import (
    GREY,
    RED,
    edges_of,
    folded,
    looks_of,
    mark_decades,
    mark_time,
    new_figure,
    on_clock,
    open_frames,
    short_names,
    unit_for,
)
from mipplan.tuner import POLICIES, Tuning, TuningRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: From this ratio on, a linear axis would press most policies onto each other; up to it, 1, 2 and 5 are too few marks.
_LOG_FROM = 8.0


def draw_tuning(tuning: Tuning, *, title: str = "") -> Figure:
    """Draw over time the traffic, and of each policy the replicas at every stage, their cost, the P99 and the misses.

    Times are dates where the trace has dates; axes that are logarithmic say so.

    Parameters
    ----------
    tuning : Tuning
        As `mipplan.tune` returns it.
    title : str
        What it is of.
    """
    stages = list(tuning.plan.choices)
    heights = (1.0, *(0.9 for _ in stages), 1.1, 1.3, 1.0)
    figure = new_figure(1.2 + 0.85 * sum(heights) + 0.17 * (len(tuning.runs) + 1) // 2)
    grid = figure.subplots(len(heights), 1, sharex=True, gridspec_kw={"height_ratios": heights})
    rate, *replicas, cost, latency, missed = grid
    unit, scale = unit_for(tuning.plan.slo_s)
    scale *= NS_PER_S
    _draw_rate(rate, tuning)
    # Policies of the register keep their looks, whichever of them were run.
    looks = looks_of([*POLICIES, *(run.policy for run in tuning.runs if run.policy not in POLICIES)])
    for run in tuning.runs:
        colour, dashes = looks[run.policy]
        look = {"baseline": None, "color": colour, "linestyle": dashes, "linewidth": 1.2}
        edges, counts = _commanded(tuning, run)
        for axes, stage in zip(replicas, stages, strict=True):
            axes.stairs(counts[stage], edges, **look)
        label = f"{run.policy}: {run.miss_rate:.2%} missed, {usd_text(run.usd_per_hour, 2)} $/h"
        cost.stairs(sum(_prices(tuning, counts)), edges, label=label, **look)
        windows = on_clock(edges_of(run.windows), tuning.trace.zero_ns)
        latency.stairs(run.windows.p99_s * scale, windows, **look)
        missed.stairs(100.0 * run.missed_over_time, windows, **look)
    latency.axhline(tuning.plan.slo_s * scale, color=RED, linestyle="--", linewidth=1.0)
    window_s = tuning.runs[0].windows.window_s
    captions = [
        "queries/s (dotted: the rate of the sample)",
        *(f"replicas of {name}" for name in short_names(stages).values()),
    ]
    captions += ["replicas commanded, $/h", f"P99 of {window_s:g} s, {unit} (dashed: objective)"]
    for axes, caption in zip(grid, [*captions, f"missed, % of {window_s:g} s"], strict=True):
        logarithmic = axes not in (rate, missed) and _spread(axes)
        if logarithmic:
            axes.set_yscale("log")
            mark_decades(axes.yaxis)
        axes.set_title(caption + (", logarithmic" if logarithmic else ""), fontsize=8, loc="left", pad=2)
        axes.tick_params(labelsize=8)
    for axes in replicas:
        if axes.get_yscale() == "linear":
            axes.set_ylim(0.0, 1.15 * axes.dataLim.y1)
            axes.yaxis.get_major_locator().set_params(integer=True, nbins=3)
    missed.set_ylim(
        0.0, max(5.0, min(104.0, 110.0 * max(float(run.missed_over_time.max()) for run in tuning.runs)))
    )
    first_s, last_s = (float(tuning.trace.arrival_ns[place]) / NS_PER_S for place in (0, -1))
    missed.set_xlim(*on_clock(np.array([first_s, last_s]), tuning.trace.zero_ns))
    mark_time(missed, tuning.trace.zero_ns)
    open_frames(grid)
    figure.suptitle(folded(title), fontsize=9.5) if title else None
    figure.legend(
        *cost.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=7.5
    )
    return figure


def _draw_rate(axes: Axes, tuning: Tuning) -> None:
    step = max(1.0, tuning.trace.duration_s / 400)
    starts_s, rates = tuning.trace.rate_over_time(step)
    edges = on_clock(np.append(starts_s, starts_s[-1] + step), tuning.trace.zero_ns)
    axes.stairs(rates, edges, fill=True, color=GREY, alpha=0.45)
    axes.axhline(tuning.sample.rate_rps, color=GREY, linestyle=":", linewidth=1.0)
    axes.set_ylim(bottom=0.0)


def _commanded(tuning: Tuning, run: TuningRun) -> tuple[Float64, dict[str, Float64]]:
    """Return the edges between which no count changes, and the counts of every stage between them."""
    instants = np.unique(np.concatenate([schedule.change_ns for schedule in run.schedules.values()]))
    begin_ns, end_ns = int(tuning.trace.arrival_ns[0]), int(tuning.trace.arrival_ns[-1])
    edges_ns = np.concatenate([[begin_ns], instants, [max(end_ns, int(instants.max(initial=0)) + 1)]])
    counts = {
        stage: schedule.replicas[np.searchsorted(schedule.change_ns, edges_ns[:-1], side="right")].astype(
            float
        )
        for stage, schedule in run.schedules.items()
    }
    return on_clock(edges_ns / NS_PER_S, tuning.trace.zero_ns), counts


def _prices(tuning: Tuning, counts: dict[str, Float64]) -> Iterator[Float64]:
    """Dollars per hour of each stage's replicas."""
    hardware, choices = tuning.plan.profiles.hardware, tuning.plan.choices
    for stage, count in counts.items():
        yield hardware[choices[stage].hardware].microusd_per_hour / MICRODOLLARS_PER_DOLLAR * count


def _spread(axes: Axes) -> bool:
    """Whether what is drawn spreads over so much that only a logarithmic axis shows all of it."""
    from matplotlib.patches import StepPatch

    drawn = [stairs.get_data()[0] for stairs in axes.patches if isinstance(stairs, StepPatch)]
    values = np.concatenate(drawn)
    values = values[np.isfinite(values)]
    return bool(values.size) and float(values.min()) > 0.0 and float(values.max() / values.min()) > _LOG_FROM
