"""The cost–miss plane trace by trace, and policies on a spike over time."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

import mipplan as mp
from benchmarks.tuner.comparing import with_hindsight
from benchmarks.tuner.contenders import DELAY_S, GREEDY, HINDSIGHT, LEAN, OURS, PERIOD_S, SWEPT, usual_plan
from benchmarks.tuner.traffic import SCENARIOS
from mipplan.plots import draw_tuning

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_STYLES = {
    OURS: ("#0072B2", "o"),
    LEAN: ("#56B4E9", "o"),
    GREEDY: ("#E69F00", "s"),
    "hpa": ("#009E73", "^"),
    "ray": ("#999999", "x"),
    "ray-tuned": ("#CC79A7", "v"),
    "static": ("#000000", "+"),
    HINDSIGHT: ("#D55E00", "*"),
}
_SPIKE_PIPELINE = "cascade"


def draw(table: pd.DataFrame, folder: Path) -> None:
    """Write ``planes.png`` and ``spike.png``."""
    draw_planes(with_hindsight(table)).savefig(folder / "planes.png")
    draw_spike().savefig(folder / "spike.png")


def draw_planes(runs: pd.DataFrame) -> Figure:
    """One plane per trace: queries missed over cost beside hindsight, pipelines together."""
    names = list(dict.fromkeys(runs["trace"]))
    columns = 4 if len(names) > 2 else len(names)
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.7 * rows + 0.5), dpi=110, layout="constrained")
    grid = np.atleast_1d(figure.subplots(rows, columns, sharex=True, sharey=True)).ravel()
    for axes, name in zip(grid, names, strict=False):
        _draw_plane(axes, runs[runs["trace"] == name])
        axes.set_title(str(name), fontsize=10, loc="left")
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    for axes in grid[::columns]:
        axes.set_ylabel("missed (%)")
    for axes in grid[max(0, len(names) - columns) : len(names)]:
        axes.set_xlabel("cost / hindsight")
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=8, frameon=False)
    return figure


def _draw_plane(axes: Axes, runs: pd.DataFrame) -> None:
    for policy, (colour, marker) in _STYLES.items():
        own = runs[runs["policy"] == policy]
        settings = own.groupby("setting", dropna=False, sort=True)
        missed = [100 * rows["misses"].sum() / rows["queries"].sum() for _, rows in settings]
        cost = [float(np.exp(np.log(rows["cost_ratio"]).mean())) for _, rows in settings]
        line = "-" if policy in SWEPT else "none"
        axes.plot(
            cost,
            missed,
            color=colour,
            marker=marker,
            linestyle=line,
            linewidth=0.8,
            label=policy,
            zorder=3 if policy == OURS else 2,
        )
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=0.01)
    axes.set_ylim(-0.003, 110.0)
    axes.axvline(1.25, color="#BBBBBB", linewidth=0.8, linestyle=":")
    axes.axhline(1.0, color="#BBBBBB", linewidth=0.8, linestyle=":")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.spines[["top", "right"]].set_visible(False)


def draw_spike() -> Figure:
    """Every policy on the spike, over time."""
    (scenario,) = (one for one in SCENARIOS if one.name == "spike")
    plan, sample, trace = usual_plan(_SPIKE_PIPELINE, scenario)
    tuning = mp.tune(
        plan,
        trace,
        policies=[OURS, GREEDY, "hpa", "ray-tuned", HINDSIGHT],
        sample=sample,
        period_s=PERIOD_S,
        activation_delay_s=DELAY_S,
        seed=plan.seed + 1,
    )
    return draw_tuning(tuning, title=f"{_SPIKE_PIPELINE}: {scenario.what}")
