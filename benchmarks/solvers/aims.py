"""The aims of the solver benchmark, and what became of them by the rows measured."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from benchmarks.solvers.figures import SHIFT_S, means_by_pair, solves

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
    rows : Series
        The figure of each run by its problem, where the one found pools them; then the aim is kept if each keeps it.
    pooled : str
        How it pools them.
    """

    text: str
    found: float
    most: float
    by: str
    unit: str = "s"
    left: float = 0.0
    rows: pd.Series[float] = field(default_factory=lambda: pd.Series(dtype=float))
    pooled: str = ""

    @property
    def outcome(self) -> str:
        """Kept, or missed by how much: in how many runs, and in the worst."""
        if pd.isna(self.found):
            return "not measured"
        if self.rows.empty:
            return "kept" if self.found <= self.most else f"missed: {self._beyond(self.found, self.left)}"
        missed = self.rows[self.rows > self.most]
        if missed.empty:
            return "kept"
        pooled = "kept" if self.found <= self.most else self._beyond(self.found, self.left)
        return (
            f"missed: {len(missed)} of {len(self.rows)} runs, worst {missed.idxmax()}, "
            f"{self._beyond(missed.max())}; in the {self.pooled} {pooled}"
        )

    def _beyond(self, figure: float, left: float = 0.0) -> str:
        if np.isfinite(figure):
            return f"{figure / self.most:.3g} times as much"
        return f"{100 * left:.1f} % left at the limit" if left else "not within the limits"


def judge_aims(table: pd.DataFrame) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| aim | by | found | outcome |", "|---" * 4 + "|"]
    for aim in find_aims(table):
        found = "–" if not np.isfinite(aim.found) else f"{aim.found:.3g} {aim.unit}".strip()
        lines.append(f"| {aim.text} | {aim.by} | {found} | {aim.outcome} |")
    return lines


def find_aims(table: pd.DataFrame) -> list[Aim]:
    """Judge the rows by all aims."""
    return [*_timed(table), *_left(table), *_building(table), *_auto(table)]


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
        runs = {
            str(pair): own.set_axis(solved.loc[own.index, "instance"])
            for pair, own in seconds.groupby(solved["pair"])
        }
        left = solved["relative_gap"].fillna(1.0).groupby(solved["pair"]).median()
        fastest = medians.drop(index=AUTO, errors="ignore")
        if AUTO in medians:
            aims.append(_pooled(text, float(medians[AUTO]), most, AUTO, float(left[AUTO]), runs[AUTO]))
        if len(fastest):
            # Where none was fast enough, the one with the least left.
            best = str(
                pd.DataFrame({"time": fastest, "left": left}).dropna().sort_values(["time", "left"]).index[0]
            )
            by = f"fastest pair: {best}"
            aims.append(_pooled(text, float(fastest[best]), most, by, float(left[best]), runs[best]))
    return aims


def _left(table: pd.DataFrame) -> list[Aim]:
    """What is left between plan and bound where hardly anything is proven in time."""
    solved = solves(table, "hundred-stages")
    own = solved[solved["pair"] == AUTO].set_index("instance")
    if own.empty:
        return []
    gaps = 100 * own["relative_gap"].fillna(1.0)
    text = "100-stage layered DAG: ≤ 0.5 % between plan and bound after 10 s, median of seeds"
    return [Aim(text, float(gaps.median()), 0.5, AUTO, "%", rows=gaps, pooled="median")]


def _pooled(text: str, median: float, most: float, by: str, left: float, runs: pd.Series[float]) -> Aim:
    """An aim on a median, which each run has to keep besides."""
    return Aim(text, median, most, by, left=left, rows=runs, pooled="median")


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
    if AUTO not in set(solved["pair"]) or solved["pair"].nunique() < 2:
        return []
    aims = []
    seconds = solved.pivot_table(index=["instance", "seed"], columns="pair", values="seconds")
    text = "auto within 2 times the best pair on the suite, shifted geometric mean"
    for shift_s, more in ((SHIFT_S, ""), (0.01, ", shift 0.01 s")):
        means = means_by_pair(solved, shift_s)
        best = str(means.drop(index=AUTO).index[0])
        ratios = (seconds[AUTO] + shift_s) / (seconds[best] + shift_s)
        aims.append(
            Aim(
                text + more,
                float(means[AUTO] / means[best]),
                2.0,
                f"auto beside {best}",
                "",
                rows=ratios.dropna().droplevel("seed"),
                pooled="mean",
            )
        )
    return aims
