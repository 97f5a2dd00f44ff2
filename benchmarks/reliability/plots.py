"""Cost against the share of tomorrow kept, a curve for every planner."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.compare.planners import CERTIFIED, GREEDY, REFINED
from benchmarks.reliability.figures import frontier, points
from benchmarks.reliability.planners import OURS
from benchmarks.reliability.summary import KINDS

_COLOURS = {GREEDY: "#000000", REFINED: "#CC79A7", CERTIFIED: "#009E73", OURS: "#0072B2"}
#: Where the labels of ours stand, by confidence: alignment, and points to the right and up.
_SIDES = (("right", -5, 3), ("center", 4, 9), ("left", 6, -11))
_MARKERS = {GREEDY: "o", REFINED: "s", CERTIFIED: "^", OURS: "D"}


def draw(table: pd.DataFrame, folder: Path) -> None:
    """Write ``frontier.png``."""
    draw_frontiers(table).savefig(folder / "frontier.png")


def draw_frontiers(table: pd.DataFrame) -> Figure:
    """One plane per kind of traffic: the share of parts kept over cost beside greedy's."""
    parts = {title: table[table["kind"] == kind] for kind, title in KINDS.items()}
    parts = {title: rows for title, rows in parts.items() if len(rows)}
    figure = Figure(figsize=(5.6 * len(parts), 5.0), dpi=110, layout="constrained")
    grid = figure.subplots(1, len(parts), squeeze=False, sharey=True)[0]
    for axes, (title, rows) in zip(grid, parts.items(), strict=True):
        for planner, own in points(rows).groupby("planner", sort=False):
            style = {"color": _COLOURS[str(planner)], "marker": _MARKERS[str(planner)]}
            best = frontier(own)
            axes.plot(own["cost"], 100 * own["kept"], linestyle="none", alpha=0.3, markersize=4, **style)
            axes.plot(best["cost"], 100 * best["kept"], label=planner, linewidth=1.3, markersize=5, **style)
            if planner == OURS:
                # Each on a side of its own: two may lie on one another.
                for row, (side, x, y) in zip(
                    own.dropna(subset=["cost"]).to_dict("records"), _SIDES, strict=False
                ):
                    place = (row["cost"], 100 * row["kept"])
                    text = row["setting"].removeprefix("confidence ")
                    style = {"textcoords": "offset points", "ha": side, "color": _COLOURS[OURS]}
                    axes.annotate(text, place, (x, y), fontsize=8, **style)
        axes.axhline(95.0, color="#999999", linewidth=0.8, linestyle=":")
        axes.set_title(title, loc="left", fontsize=10)
        axes.set_xlabel("cost / greedy as it is (geometric mean)")
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].set_ylabel("held-out parts kept (%)")
    grid[0].legend(frameon=False, loc="lower right")
    return figure
