"""How time and memory grow with the number of pipelines."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pandas as pd

mpl.use("Agg")
import matplotlib.pyplot as plt

_BLUE, _ORANGE, _GREY = "#0072B2", "#E69F00", "#555555"


def draw(table: pd.DataFrame, folder: Path) -> None:
    """Write ``fleet.png``: seconds and peak memory by number of pipelines, with a line of equal time per pipeline."""
    figure, (seconds, memory) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    sizes = table["pipelines"]
    seconds.loglog(sizes, table["seconds"], "o-", color=_BLUE, label="total")
    seconds.loglog(sizes, table["to_gap_s"], "s--", color=_ORANGE, label="until the proven gap is 1 %")
    per_pipeline = table["seconds"].iloc[-1] / sizes.iloc[-1]
    seconds.loglog(
        sizes, per_pipeline * sizes, ":", color=_GREY, label=f"{1e3 * per_pipeline:.0f} ms per pipeline"
    )
    seconds.set_ylabel("seconds")
    seconds.legend(frameon=False)
    memory.semilogx(sizes, table["peak_mib"], "o-", color=_BLUE)
    memory.set_ylim(bottom=0)
    memory.set_ylabel("peak memory of all processes (MiB)")
    for axes in (seconds, memory):
        axes.set_xlabel("pipelines of five stages")
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / "fleet.png", dpi=120)
    plt.close(figure)
