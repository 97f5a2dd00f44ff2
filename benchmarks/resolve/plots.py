"""Medians and P99 of every way, per case."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pandas as pd

mpl.use("Agg")
import matplotlib.pyplot as plt


def draw(table: pd.DataFrame, folder: Path) -> None:
    """Write ``resolve.png``: a bar up to the median, a line on to P99."""
    cases = table["case"].drop_duplicates().tolist()
    figure, axes = plt.subplots(
        len(cases), 1, figsize=(8, 1.9 * len(cases) + 0.4), sharex=True, squeeze=False
    )
    for axis, case in zip(axes[:, 0], cases, strict=True):
        own = table[table["case"] == case].iloc[::-1]
        colours = ["tab:blue" if way == "mipplan retune" else "0.7" for way in own["way"]]
        axis.barh(own["way"], own["median_ms"], color=colours)
        axis.hlines(own["way"], own["median_ms"], own["p99_ms"], color="black", linewidth=1)
        axis.plot(own["p99_ms"], own["way"], "|", color="black", markersize=9)
        axis.set_xscale("log")
        axis.set_title(case, fontsize=10, loc="left")
        axis.grid(axis="x", which="major", color="0.9")
        axis.set_axisbelow(True)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    axes[-1, 0].set_xlabel("milliseconds per step: median (bar), P99 (mark)")
    figure.tight_layout()
    figure.savefig(folder / "resolve.png", dpi=120)
    plt.close(figure)
