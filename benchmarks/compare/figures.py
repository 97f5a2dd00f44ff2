"""Figures of the rows measured: ratios of costs, and what becomes of the objective."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.compare.planners import EXHAUSTIVE, GREEDY

#: Share of queries that may miss the objective: plans are made for P99.
ALLOWED = 0.01
#: Costs are whole micro-dollars; ratios closer to 1 than this are equal.
EQUAL = 1e-9


def planners_of(table: pd.DataFrame) -> list[str]:
    """Planners in the order of the rows, without exhaustive replay."""
    return [planner for planner in table["planner"].unique() if planner != EXHAUSTIVE]


def wide(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """One row per instance, one column per planner."""
    by_planner = {
        planner: rows.set_index("instance")[column] for planner, rows in table.groupby("planner", sort=False)
    }
    return pd.DataFrame(by_planner).reindex(table["instance"].unique())


def ratios(table: pd.DataFrame, planner: str, to: str = GREEDY) -> pd.Series[float]:
    """Cost of one planner's plan to that of another's, by instance, where both have one."""
    costs = wide(table, "usd_per_hour")
    if planner not in costs or to not in costs:
        return pd.Series(dtype=float)
    return (costs[planner] / costs[to]).dropna()


def geometric_mean(figures: pd.Series[float]) -> float:
    """NaN of none."""
    return float(np.exp(np.log(figures).mean())) if len(figures) else float("nan")


def planned(table: pd.DataFrame, planner: str) -> pd.DataFrame:
    """Rows of a planner that hold a plan."""
    return table[(table["planner"] == planner) & table["usd_per_hour"].notna()]


def keeps(rows: pd.DataFrame, column: str = "miss_rate") -> pd.Series[bool]:
    """Whether each plan keeps the objective, by a column of miss rates."""
    if column == "miss_rate":
        # As the planners count it; a share of misses would have to be rounded.
        return rows["p99_s"] <= rows["slo_s"]
    if column == "held_out_miss_rate":
        return rows["held_out_p99_s"] <= rows["slo_s"]
    return rows[column] <= ALLOWED
