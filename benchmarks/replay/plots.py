"""How replay grows, as one picture."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pandas as pd

from benchmarks.replay.aims import select

mpl.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {
    "numba": "tab:blue",
    "numpy": "tab:green",
    "python": "tab:olive",
    "heap": "tab:orange",
    "simpy": "tab:red",
    "ciw": "tab:purple",
}
SOLID_DASHED = {"solid": "-", "dashed": "--"}


def draw(table: pd.DataFrame, folder: Path) -> None:
    """Write ``replay.png``: seconds by queries, stages and plans, and by queries for single tokens."""
    figure, axes = plt.subplots(2, 2, figsize=(12, 9), layout="constrained")
    queries = select(table, {"group": "queries", "discipline": "fifo"})
    _lines(axes[0][0], queries, "queries", "arrivals", "one plan, reference chain, fifo")
    stages = select(table, {"group": "stages"})
    _lines(axes[0][1], stages, "stages", "arrivals", f"chains, {stages['queries'].iloc[0]:,} queries")
    plans = select(table, {"group": "plans", "arrivals": "poisson"})
    _lines(axes[1][0], plans, "plans", "plans_are", f"many plans, {plans['queries'].iloc[0]:,} queries")
    single = select(table, {"group": "single token"})
    _lines(axes[1][1], single, "queries", "arrivals", "single tokens, three stages, fifo")
    shown = {
        line.get_label(): line
        for axis in axes.flat
        for line in axis.get_lines()
        if line.get_linestyle() == "-"
    }
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=len(shown))
    figure.savefig(folder / "replay.png", dpi=110)
    plt.close(figure)


def _lines(axis: plt.Axes, table: pd.DataFrame, by: str, style_by: str, title: str) -> None:
    """Seconds of each engine; what `style_by` says is told apart by the style of the line."""
    kinds = dict(zip(table[style_by].unique(), SOLID_DASHED, strict=False))
    for (engine, kind), rows in table.groupby(["engine", style_by], sort=False):
        ordered = rows.sort_values(by)
        axis.plot(
            ordered[by],
            ordered["seconds"],
            marker="o",
            markersize=4,
            color=COLOURS[engine],
            linestyle=SOLID_DASHED[kinds[kind]],
            label=engine,
        )
    axis.set_xscale("log")
    axis.set_yscale("log")
    ticks = sorted(table[by].unique())
    axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axis.minorticks_off()
    axis.set_xlabel(by)
    axis.set_ylabel("seconds, whole call (median)")
    axis.set_title(f"{title} ({', '.join(f'{kind} {style}' for kind, style in kinds.items())})", fontsize=10)
    axis.grid(visible=True, which="major", alpha=0.3)
