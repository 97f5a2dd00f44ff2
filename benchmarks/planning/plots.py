"""Where planning time goes, and how it grows."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pandas as pd

mpl.use("Agg")
import matplotlib.pyplot as plt

PARTS = ("trace analysis", "waits", "options", "build", "relax", "solve", "enumerate", "certify", "other")


def draw(table: pd.DataFrame, folder: Path) -> None:
    """Write ``planning.png``: stacked medians by number of stages (10⁵ queries) and by queries (5 stages)."""
    figure, axes = plt.subplots(2, 2, figsize=(12, 8), constrained_layout=True)
    for row, shape in enumerate(sorted(table["shape"].unique())):
        own = table[table["shape"] == shape]
        common = own["queries"].mode()[0]
        _stack(axes[row][0], own[own["queries"] == common], "stages", f"{shape}, {common:,} queries")
        stages = own.loc[own["queries"] != common, "stages"].mode()
        subset = own[own["stages"] == (stages.iloc[0] if len(stages) else own["stages"].iloc[0])]
        _stack(axes[row][1], subset, "queries", f"{shape}, {subset['stages'].iloc[0]} stages")
    axes[0][0].legend(fontsize=8)
    figure.savefig(folder / "planning.png", dpi=120)
    plt.close(figure)


def _stack(axis: plt.Axes, table: pd.DataFrame, by: str, title: str) -> None:
    medians = table.groupby(by)[[*PARTS]].median()
    bottom = pd.Series(0.0, index=medians.index)
    positions = range(len(medians))
    for part in PARTS:
        axis.bar(positions, medians[part], bottom=bottom, label=part)
        bottom += medians[part]
    axis.set_xticks(list(positions), [f"{value:,}" for value in medians.index])
    axis.set_xlabel(by)
    axis.set_ylabel("seconds (median)")
    axis.set_title(title)
