"""Figures by which solvers are compared: times, shifted geometric means, gaps of bounds."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.solvers.verdicts import DECIDED

#: Seconds added to every time before the mean is taken, and subtracted from it: below, differences hardly matter.
SHIFT_S = 0.1


def solves(table: pd.DataFrame, group: str | None = None) -> pd.DataFrame:
    """Rows of solves (of one group), with the pair, its time and whether it has decided the problem.

    Time is processor time, that of child processes included, from the problem to the answer: every solver has one
    thread, so on an idle machine it is what the wall clock says, and on a shared one it can still be compared.
    """
    rows = table[table["kind"] == "solve"]
    if group is not None:
        rows = rows[rows["group"] == group]
    decided = rows["termination"].isin(DECIDED)
    return rows.assign(
        pair=rows["formulation"] + " / " + rows["solver"],
        decided=decided,
        # Whatever has not decided the problem counts with the limit, however it ended.
        seconds=rows["cpu_s"].where(decided, rows["time_limit_s"]),
        wall_s=(rows["build_s"] + rows["solve_s"]).where(decided, rows["time_limit_s"]),
    )


def shifted_geometric_mean(seconds: pd.Series[float], shift_s: float = SHIFT_S) -> float:
    """``exp(mean(log(t + shift))) - shift``; NaN of none."""
    return float(np.exp(np.log(seconds + shift_s).mean()) - shift_s) if len(seconds) else float("nan")


def means_by_pair(solved: pd.DataFrame, shift_s: float = SHIFT_S) -> pd.Series[float]:
    """Shifted geometric mean of every pair, fastest first."""
    means = solved.groupby("pair")["seconds"].apply(lambda own: shifted_geometric_mean(own, shift_s))
    return means.sort_values()


def times_by_pair(solved: pd.DataFrame) -> pd.DataFrame:
    """One row per problem and seed, one column per pair; infinite where it was not decided."""
    seconds = solved["seconds"].where(solved["decided"], np.inf)
    return solved.assign(seconds=seconds).pivot_table(
        index=["instance", "seed"], columns="pair", values="seconds", aggfunc="median", dropna=False
    )


def bound_gaps(table: pd.DataFrame, optima: dict[str, int]) -> pd.DataFrame:
    """How far linear relaxations are below the optimum, as a share of it: rows problems, columns formulations.

    By the simplex of HiGHS, where it was done in time and the optimum is known.
    """
    relaxed = table[(table["kind"] == "relax") & (table["solver"] == "highs_lp")]
    relaxed = relaxed[relaxed["lower_bound"].notna() & relaxed["instance"].isin(optima)]
    best = relaxed["instance"].map(optima).astype(float)
    gaps = (best - relaxed["lower_bound"]).clip(lower=0.0) / best
    return relaxed.assign(share=gaps).pivot_table(
        index=["family", "instance"], columns="formulation", values="share", aggfunc="first"
    )
