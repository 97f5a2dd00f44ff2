"""Performance profiles, strength of relaxations, growth."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd

from benchmarks.solvers.figures import bound_gaps, solves, times_by_pair
from mipplan.plots import draw_performance

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

#: Times below this are not told apart in profiles.
FLOOR_S = 0.01
#: Gaps below this (in per cent) are drawn as this: the axis is logarithmic.
LEAST_GAP = 0.01
SOLVER_COLOURS = {
    "highs": "tab:blue",
    "pulp_highs": "tab:cyan",
    "cbc": "tab:green",
    "cp_sat": "tab:orange",
    "scip": "tab:red",
    "cp_sat_native": "tab:brown",
    "labels": "tab:purple",
    "auto": "black",
}
GROWING = ("stages", "modes", "paths")
FORMULATION_STYLES = {"paths": "-", "potentials": "--", "levels": ":"}


def draw(table: pd.DataFrame, optima: dict[str, int], folder: Path) -> None:
    """Write ``profiles.png``, ``bounds.png`` and ``growth.png``, each if there are rows for it."""
    if len(solves(table, "suite")):
        _draw_profiles(table, folder / "profiles.png")
    gaps = bound_gaps(table, optima)
    if len(gaps):
        _draw_bounds(gaps, folder / "bounds.png")
    if table["group"].isin(GROWING).any():
        _draw_growth(table, folder / "growth.png")


def _look(pair: str) -> dict[str, object]:
    formulation, _, solver = pair.partition(" / ")
    alone = formulation not in FORMULATION_STYLES
    return {
        "color": SOLVER_COLOURS.get(solver, "grey"),
        "linestyle": FORMULATION_STYLES.get(formulation, "-"),
        "linewidth": 2.4 if alone else 1.4,
    }


def _draw_profiles(table: pd.DataFrame, path: Path) -> None:
    figure, axes = plt.subplots(
        figsize=(7.5, 7.0), layout="constrained"
    )  # the usual height has no room for so many
    draw_performance(times_by_pair(solves(table, "suite")), FLOOR_S, look=_look, axes=axes)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_bounds(gaps: pd.DataFrame, path: Path) -> None:
    figure, axis = plt.subplots(figsize=(7.5, 5), layout="constrained")
    for formulation in gaps:
        ordered = np.sort(100 * gaps[formulation].dropna().to_numpy()).clip(min=LEAST_GAP)
        if ordered.size:
            share = np.arange(1, ordered.size + 1) / ordered.size
            axis.step(
                [LEAST_GAP, *ordered],
                [0, *share],
                where="post",
                label=f"{formulation} ({ordered.size})",
                linestyle=FORMULATION_STYLES.get(str(formulation), "-"),
                linewidth=2,
            )
    axis.set_xscale("log")
    axis.set_xlabel(f"linear relaxation below the optimum, % (at most {LEAST_GAP:g}: at the left)")
    axis.set_ylabel("share of problems with a known optimum")
    axis.set_ylim(0.0, 1.02)
    axis.grid(visible=True, alpha=0.3)
    axis.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_growth(table: pd.DataFrame, path: Path) -> None:
    figure, axes = plt.subplots(1, 3, figsize=(14, 5), layout="constrained", sharey=True)
    for axis, group in zip(axes, GROWING, strict=True):
        _draw_growth_with(axis, solves(table, group), group)
    axes[0].set_ylabel("seconds (no point: not decided)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=6, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_growth_with(axis: Axes, solved: pd.DataFrame, group: str) -> None:
    for pair, own in solved.groupby("pair", sort=False):
        times = own[own["decided"]].groupby(group)["seconds"].median()
        axis.plot(times.index, times, marker=".", label=pair, **_look(str(pair)))  # type: ignore[arg-type]
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xlabel(
        {"stages": "stages of a chain", "modes": "modes, over all stages", "paths": "paths"}[group]
    )
    axis.grid(visible=True, alpha=0.3)
