"""Measured by predicted of every run: a panel for each figure, a column of dots for each system."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.truth.summary import FIGURES, errors, is_spoilt

_COLOURS = {"poisson": "#0072B2", "bursty": "#E69F00", "shipped": "#009E73"}


def draw(table: pd.DataFrame, folder: Path) -> None:
    """Write ``errors.png``."""
    draw_errors(table).savefig(folder / "errors.png")


def draw_errors(table: pd.DataFrame) -> Figure:
    """Dots by kind of traffic, ordered by load within a system; rings are spoilt runs."""
    off, spoilt = 100 * errors(table), is_spoilt(table)
    systems = list(dict.fromkeys(table["system"]))
    figure = Figure(figsize=(3.1 * len(FIGURES), 4.4), dpi=110, layout="constrained")
    grid = figure.subplots(1, len(FIGURES), squeeze=False, sharey=True)[0]
    for axes, (column, name) in zip(grid, FIGURES.items(), strict=True):
        axes.axhline(0.0, color="#666666", linewidth=0.8)
        for number, system in enumerate(systems):
            rows = table[table["system"] == system].sort_values(["load", "traffic", "seed"])
            across = number + np.linspace(-0.3, 0.3, len(rows))
            for kind, colour in _COLOURS.items():
                for late, face in ((False, colour), (True, "none")):
                    chosen = ((rows["traffic"] == kind) & (spoilt[rows.index] == late)).to_numpy()
                    axes.scatter(
                        across[chosen],
                        off.loc[rows.index[chosen], column],
                        s=16,
                        facecolors=face,
                        edgecolors=colour,
                        label=f"{kind}, spoilt" if late else kind,
                    )
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_xticks(
            range(len(systems)), [system.replace("_", " ") for system in systems], rotation=30, ha="right"
        )
        axes.yaxis.set_major_formatter("{x:+g}%")
        axes.spines[["top", "right"]].set_visible(False)
    grid[0].set_ylabel("measured by predicted, less 1")
    handles = dict(zip(*reversed(grid[0].get_legend_handles_labels()), strict=True))
    shown = {name: handle for name, handle in handles.items() if handle.get_offsets().size}
    figure.legend(list(shown.values()), list(shown), loc="outside lower center", ncols=6, frameon=False)
    return figure
