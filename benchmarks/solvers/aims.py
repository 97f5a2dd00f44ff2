"""The aims of the solver benchmark, and what became of them by the rows measured."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.solvers.figures import means_by_pair, shifted_geometric_mean, solves

AUTO = "auto / auto"
#: Backends that take arrays, without PuLP in between.
DIRECT = ("highs", "cp_sat", "scip")
BINARIES = 100_000


@dataclass(frozen=True)
class Aim:
    """A figure to be reached.

    Attributes
    ----------
    text : str
    found, most : float
        What was measured, NaN if nothing was, and what it may be at most.
    by : str
        Which pair, formulation or backend it was measured on.
    unit : str
    left : float
        Relative gap left where no time was enough.
    """

    text: str
    found: float
    most: float
    by: str
    unit: str = "s"
    left: float = 0.0

    @property
    def outcome(self) -> str:
        """Kept, or missed by how much."""
        if pd.isna(self.found):
            return "not measured"
        if np.isinf(self.found):
            return "missed: " + (
                f"{100 * self.left:.1f} % left at the limit" if self.left else "not within the limits"
            )
        return "kept" if self.found <= self.most else f"missed: {self.found / self.most:.2g} times as much"


def judge_aims(table: pd.DataFrame) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| aim | by | found | outcome |", "|---" * 4 + "|"]
    for aim in find_aims(table):
        found = "–" if not np.isfinite(aim.found) else f"{aim.found:.3g} {aim.unit}".strip()
        lines.append(f"| {aim.text} | {aim.by} | {found} | {aim.outcome} |")
    return lines


def find_aims(table: pd.DataFrame) -> list[Aim]:
    """Judge the rows by all aims."""
    return [*_timed(table), *_building(table), *_auto(table)]


def _timed(table: pd.DataFrame) -> list[Aim]:
    aims = []
    for group, text, most in (
        ("ten-stages", "10 stages × 360 raw modes to optimality ≤ 0.1 s, median over objectives", 0.1),
        ("forty-stages", "40-stage chain × 350 undominated modes ≤ 1 s at 0.01 %, median of seeds", 1.0),
        ("hundred-stages", "100-stage layered DAG ≤ 10 s at 0.1 %, median of seeds", 10.0),
    ):
        solved = solves(table, group)
        # Undecided counts as no time at all would suffice.
        seconds = solved["seconds"].where(solved["decided"], float("inf"))
        medians = seconds.groupby(solved["pair"]).median()
        left = solved["relative_gap"].fillna(1.0).groupby(solved["pair"]).median()
        fastest = medians.drop(index=AUTO, errors="ignore")
        if AUTO in medians:
            aims.append(Aim(text, float(medians[AUTO]), most, AUTO, left=float(left[AUTO])))
        if len(fastest):
            # Where none was fast enough, the one with the least left.
            best = str(
                pd.DataFrame({"time": fastest, "left": left}).dropna().sort_values(["time", "left"]).index[0]
            )
            aims.append(
                Aim(text, float(fastest[best]), most, f"fastest pair: {best}", left=float(left[best]))
            )
    return aims


def _building(table: pd.DataFrame) -> list[Aim]:
    loaded = table[(table["kind"] == "load") & table["solver"].isin(DIRECT)]
    # What was killed was not built at all.
    seconds = loaded["cpu_s"].where(loaded["termination"] == "loaded", float("inf"))
    text = f"{BINARIES:,} binaries built and handed over < 1 s by every direct backend"
    aims = []
    for (stages, formulation), own in loaded.groupby(["stages", "formulation"], sort=False):
        slowest = seconds[own.index].idxmax()
        by = f"{formulation}, {stages} stages, slowest: {own.loc[slowest, 'solver']}"
        aims.append(Aim(text, float(seconds[slowest]), 1.0, by))
    return aims


def _auto(table: pd.DataFrame) -> list[Aim]:
    solved = solves(table, "suite")
    means = means_by_pair(solved)
    others = means.drop(index=AUTO, errors="ignore")
    if AUTO not in means or not len(others):
        return []
    best = str(others.index[0])
    ratio = float(means[AUTO]) / float(others.iloc[0])
    finer = {
        pair: shifted_geometric_mean(own["seconds"], 0.01)
        for pair, own in solved.groupby("pair")
        if pair == AUTO
    }
    best_finer = means_by_pair(solved, 0.01).drop(index=AUTO).iloc[0]
    text = "auto within 2 times the best pair on the suite, shifted geometric mean"
    return [
        Aim(text, ratio, 2.0, f"auto beside {best}", ""),
        Aim(f"{text}, shift 0.01 s", finer[AUTO] / float(best_finer), 2.0, "auto beside the best pair", ""),
    ]
