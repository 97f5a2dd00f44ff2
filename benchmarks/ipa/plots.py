"""Cost and accuracy of all plans that keep the objective, a plane for every pipeline."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from benchmarks.ipa.measure import OURS, OURS_REPLAYED
from benchmarks.ipa.summary import FA2, frontier, kept

#: Which traffic is drawn, the first that there is.
SHOWN = ("twitter, bursty", "gamma, CV 4")
_OURS = {OURS: ("#0072B2", "-"), OURS_REPLAYED: ("#56B4E9", "--")}
#: The largest marks first: where rivals have the same plan, all are seen.
_RIVALS = {
    "FA2, any variants": (FA2, "#009E73", "s", 9),
    "RIM": (("rim",), "#CC79A7", "^", 7),
    "IPA's program": (("ipa",), "#E69F00", "o", 5),
}


def draw(table: pd.DataFrame, folder: Path) -> None:
    """Write ``planes.png``."""
    draw_planes(table).savefig(folder / "planes.png")


def draw_planes(table: pd.DataFrame) -> Figure:
    """Our fronts as stairs, rivals' plans at all settings as marks; those no other of a rival beats are filled."""
    trace = next((name for name in SHOWN if (table["trace"] == name).any()), table["trace"].iloc[0])
    rows = kept(table[table["trace"] == trace])
    names = list(dict.fromkeys(table["pipeline"]))
    figure = Figure(figsize=(3.2 * len(names), 4.2), dpi=110, layout="constrained")
    for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        own = rows[rows["pipeline"] == name]
        right = float(own["usd"].max()) * 1.05 if len(own) else 1.0
        for label, (methods, colour, marker, size) in _RIVALS.items():
            found = own[own["method"].isin(methods)]
            axes.plot(
                found["usd"],
                found["accuracy"],
                marker,
                color=colour,
                markersize=3,
                fillstyle="none",
                alpha=0.5,
            )
            best = frontier(found)
            axes.plot(
                *zip(*best, strict=True) if best else ([], []),
                marker,
                color=colour,
                markersize=size,
                label=label,
            )
        for method, (colour, line) in _OURS.items():
            best = frontier(own[own["method"] == method])
            if best:
                cost, accuracy = zip(*best, (right, best[-1][1]), strict=True)
                axes.step(cost, accuracy, line, where="post", color=colour, label=method, linewidth=1.6)
        axes.set_title(name, loc="left", fontsize=10)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_xlabel("$/h")
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("accuracy (product over stages)")
    figure.axes[0].legend(fontsize=8, frameon=False, loc="lower right")
    figure.suptitle(f"Plans that keep P99 in replay, {trace}", x=0.01, ha="left", fontsize=11)
    return figure
