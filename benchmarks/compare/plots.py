"""How costs compare, and what becomes of the objective on traffic held out."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

from benchmarks.compare.figures import ALLOWED, planned, planners_of, ratios
from benchmarks.compare.planners import (
    CERTIFIED,
    FIFO,
    GREEDY,
    PACED,
    PACED_SHARP,
    REFINED,
    SHARP,
    SHARP_ANY,
    TIMED,
)

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLOURS = {
    GREEDY: "black",
    "coarse, mean": "tab:orange",
    "coarse, peak": "tab:red",
    "half SLO, mean": "tab:olive",
    "half SLO, peak": "tab:green",
    CERTIFIED: "tab:blue",
    REFINED: "tab:purple",
    PACED: "teal",
    PACED_SHARP: "navy",
    TIMED: "tab:pink",
    SHARP: "tab:brown",
    SHARP_ANY: "tab:gray",
    FIFO: "tab:cyan",
}
#: A share of misses below this is drawn as this: the axis is logarithmic.
FEWEST_MISSES = 1e-4
#: A plan that costs more than so many times greedy's is drawn at this; a few cost thousands of times as much.
LARGEST_RATIO = 8.0


def draw(table: pd.DataFrame, folder: Path) -> None:
    """Write ``costs.png`` and ``held_out.png``."""
    compared = table[table["group"] != "large"]
    _draw_costs(compared, folder / "costs.png")
    _draw_held_out(compared, folder / "held_out.png")


def _draw_costs(table: pd.DataFrame, path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    for planner in planners_of(table):
        if planner != GREEDY:
            _distribution(left, ratios(table, planner).clip(upper=LARGEST_RATIO), planner)
    left.axvline(1.0, color="black", linewidth=0.8)
    left.set_xscale("log")
    edge = f"{LARGEST_RATIO:g} or more: at the edge"
    left.set_xlabel(f"cost / cost of greedy ({edge})")
    left.set_ylabel("share of instances where both have a plan")
    left.set_title("whether or not the objective is kept", fontsize=10)
    factors = table.drop_duplicates("instance").set_index("instance")["slo_factor"]
    for planner in (CERTIFIED, REFINED):
        beside = ratios(table, planner).clip(upper=LARGEST_RATIO)
        right.scatter(factors[beside.index], beside, s=14, alpha=0.6, color=COLOURS[planner])
    right.axhline(1.0, color="black", linewidth=0.8)
    right.set_xscale("log")
    right.set_yscale("log")
    ticks = (1.1, 1.5, 2, 3, 4, 6)
    right.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    right.set_xlabel("objective / fastest service time")
    right.set_ylabel(f"cost / cost of greedy ({edge})")
    for axis, shown in ((left, (0.2, 0.5, 1, 2, 4, 8)), (right, (0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 4, 8))):
        ticks_of = axis.xaxis if axis is left else axis.yaxis
        ticks_of.set_major_locator(mpl.ticker.FixedLocator(shown))
        ticks_of.set_major_formatter(mpl.ticker.FormatStrFormatter("%g"))
        axis.minorticks_off()
        axis.grid(visible=True, alpha=0.3)
    _finish(figure, left, path)


def _draw_held_out(table: pd.DataFrame, path: Path) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    for planner in planners_of(table):
        rows = planned(table, planner)
        _distribution(left, rows["held_out_miss_rate"].clip(lower=FEWEST_MISSES), planner)
    left.set_xlabel(
        f"share of held-out queries that miss the objective ({FEWEST_MISSES:g} or fewer: at the left)"
    )
    left.set_ylabel("share of instances with a plan")
    left.axvline(ALLOWED, color="black", linewidth=0.8)
    for planner in planners_of(table):
        rows = planned(table, planner)
        beside = ratios(table, planner)
        misses = rows.set_index("instance")["held_out_miss_rate"].clip(lower=FEWEST_MISSES)
        both = beside.index.intersection(misses.index)
        if len(both):
            cost = float(np.exp(np.log(beside[both]).mean()))
            low, middle, high = misses[both].quantile([0.25, 0.5, 0.75])
            right.plot([low, high], [cost, cost], color=COLOURS[planner], linewidth=2, alpha=0.5)
            right.plot(middle, cost, "o", color=COLOURS[planner])
    right.axvline(ALLOWED, color="black", linewidth=0.8)
    right.set_xlabel("share of held-out queries that miss the objective (median, quartiles)")
    right.set_ylabel("cost / cost of greedy (geometric mean)")
    for axis in (left, right):
        axis.set_xscale("log")
        axis.grid(visible=True, alpha=0.3)
    _finish(figure, left, path)


def _distribution(axis: Axes, figures: pd.Series[float], planner: str) -> None:
    ordered = np.sort(figures.to_numpy())
    if ordered.size:
        share = np.arange(1, ordered.size + 1) / ordered.size
        label = f"{planner} ({ordered.size})"
        axis.step([ordered[0], *ordered], [0.0, *share], where="post", color=COLOURS[planner], label=label)


def _finish(figure: Figure, shares: Axes, path: Path) -> None:
    """Name the planners below, in two rows, and save the figure, one of whose axes shows shares by planner."""
    shares.set_ylim(0.0, 1.02)
    handles, labels = shares.get_legend_handles_labels()
    columns = -(-len(COLOURS) // 2)
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
