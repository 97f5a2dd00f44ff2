"""The plane of cost and misses, a curve for every family."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.race.entrants import HINDSIGHT, OURS
from benchmarks.race.frontier import family_of, frontier, points
from benchmarks.race.summary import parts_of

_COLOURS = {
    OURS: "#0072B2",
    "inferline": "#E69F00",
    "hpa": "#009E73",
    "ray": "#999999",
    "ray-tuned": "#CC79A7",
    "static": "#000000",
    HINDSIGHT: "#D55E00",
}
#: Whose plan it runs on.
_LINES = {"certified": ("-", "o"), "inferline": ("--", "s")}


def draw(table: pd.DataFrame, folder: Path) -> None:
    """Write ``frontier.png``."""
    draw_frontiers(parts_of(table)).savefig(folder / "frontier.png")


def draw_frontiers(parts: dict[str, pd.DataFrame]) -> Figure:
    """One plane per part of the traffic: queries missed over cost beside hindsight's least."""
    figure = Figure(figsize=(6.2 * len(parts), 5.4), dpi=110, layout="constrained")
    grid = figure.subplots(1, len(parts), squeeze=False, sharey=True)[0]
    for axes, (name, rows) in zip(grid, parts.items(), strict=True):
        found = points(rows)
        least = found.loc[found["family"].map(family_of) == HINDSIGHT, "usd"].min()
        for family, own in found.groupby("family", sort=False):
            policy, planner = str(family).split(", ")
            line, marker = _LINES[planner]
            best = frontier(own)
            style = {"color": _COLOURS[policy], "marker": marker, "markersize": 4}
            axes.plot(own["usd"] / least, 100 * own["miss_rate"], linestyle="none", alpha=0.25, **style)
            axes.plot(
                best["usd"] / least,
                100 * best["miss_rate"],
                linestyle=line,
                label=family,
                linewidth=1.2,
                **style,
            )
        axes.set_xscale("log")
        axes.set_yscale("symlog", linthresh=0.01)
        axes.set_ylim(-0.002, 110.0)
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_xlabel("cost / hindsight")
        for fixed in (axes.xaxis, axes.yaxis):
            fixed.set_major_formatter("{x:g}")
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].set_ylabel("missed (%)")
    figure.legend(
        *grid[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=1 + 2 * len(parts),
        frameon=False,
    )
    return figure
