"""Figures of the rows: cost beside greedy's, what tomorrow keeps of a plan, and whether its interval was right."""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmarks.compare.figures import geometric_mean
from benchmarks.compare.planners import GREEDY
from benchmarks.reliability.planners import OURS, Setting
from mipplan.reliability import clopper_pearson

SETTING = ["planner", "of_slo", "headroom", "confidence"]


def of_setting(table: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """Rows of one planner at one setting, by case."""
    own = table[(table["planner"] == setting.planner) & np.isclose(table["of_slo"], setting.of_slo)]
    own = own[np.isclose(own["headroom"], setting.headroom)]
    if setting.confidence is not None:
        own = own[np.isclose(own["confidence"], setting.confidence)]
    return own.set_index("case")


def settings_of(table: pd.DataFrame) -> list[Setting]:
    """Every planner at every setting, in the order of the rows."""
    different = table[SETTING].drop_duplicates().itertuples(index=False)
    return [Setting(p, s, h, None if pd.isna(c) else float(c)) for p, s, h, c in different]


def answers(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows that hold a plan; of ours those whose plan passed its test: of the others it says that they did not."""
    passed = (rows["planner"] != OURS) | (rows["status"] == "feasible")
    return rows[rows["usd_per_hour"].notna() & passed]


def greedy_costs(table: pd.DataFrame) -> pd.Series[float]:
    """Cost of greedy's plan without margin or headroom, by case, where it has one."""
    return of_setting(table, Setting(GREEDY))["usd_per_hour"].dropna()


def ratios(table: pd.DataFrame, setting: Setting) -> pd.Series[float]:
    """Cost beside that of greedy's plain plan, by case, where both have a plan."""
    costs = answers(of_setting(table, setting).reset_index()).set_index("case")["usd_per_hour"]
    return (costs / greedy_costs(table)).dropna()


def points(table: pd.DataFrame) -> pd.DataFrame:
    """One row per planner and setting: cost beside greedy's, and what share of tomorrow is kept.

    Shares are over the cases where greedy has a plan; every case counts alike, and a case without a plan keeps nothing.
    """
    base, found = greedy_costs(table).index, []
    for setting in settings_of(table):
        rows = of_setting(table, setting)
        own = answers(rows.reset_index()).set_index("case")
        kept = (own["kept"] / own["parts"]).reindex(base, fill_value=0.0)
        first = own["first_kept"].astype(float).reindex(base, fill_value=0.0)
        found.append(
            {
                "planner": setting.planner,
                "setting": setting.text,
                "is_plain": setting.is_plain,
                "cases": len(base),
                "plans": int(own.index.isin(base).sum()),
                "cost": geometric_mean(ratios(table, setting)),
                "kept": float(kept.mean()),
                "first_kept": float(first.mean()),
                "cpu_seconds": float(rows["cpu_seconds"].median()),
            }
        )
    return pd.DataFrame(found)


def frontier(found: pd.DataFrame) -> pd.DataFrame:
    """Those of one planner's points that no other one is both cheaper and more reliable than, by cost."""
    ordered = found.dropna(subset=["cost"]).sort_values(
        ["cost", "kept"], ascending=[True, False], kind="stable"
    )
    before = ordered["kept"].cummax().shift(fill_value=-np.inf)
    best: pd.DataFrame = ordered[ordered["kept"] > before]
    return best


def cheapest_as_reliable(found: pd.DataFrame, planner: str, share: float) -> pd.Series | None:
    """A planner's cheapest setting that keeps at least this share; None if none does."""
    able = found[(found["planner"] == planner) & (found["kept"] >= share)].dropna(subset=["cost"])
    return None if able.empty else able.loc[able["cost"].idxmin()]


# --- stated intervals ------------------------------------------------------------------------------------------------


def interval_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Plans of ours with an interval, the share of parts that was observed, and how the two go together.

    `inside`: the observed share lies in the stated interval, whose ends count as shares of so many parts: of a hundred
    parts a share of 99.5 % cannot be observed, so it is 99 to 100 %. `agrees`: the stated interval meets the exact one
    (95 %) of the observed share, which is what a few parts can say. `agrees_tested`: it meets that of the parts whose
    mean rate is no larger than the fastest scenario's, of which alone the test says something.
    """
    rows = table[
        (table["planner"] == OURS) & (table["test_scenarios"] > 0) & table["all_parts"].notna()
    ].copy()
    observed = rows["all_kept"] / rows["all_parts"]
    fast_parts, fast_kept = rows["fast_parts"].fillna(0), rows["fast_kept"].fillna(0)
    return rows.assign(
        observed=observed,
        inside=(np.floor(rows["low"] * rows["all_parts"]) <= rows["all_kept"])
        & (rows["all_kept"] <= np.ceil(rows["high"] * rows["all_parts"])),
        agrees=_meets(rows, rows["all_kept"], rows["all_parts"]),
        agrees_tested=_meets(rows, rows["all_kept"] - fast_kept, rows["all_parts"] - fast_parts),
        is_below=observed < rows["low"],
        missed=rows["all_parts"] - rows["all_kept"],
        fast_missed=fast_parts - fast_kept,
    )


def _meets(rows: pd.DataFrame, kept: pd.Series[float], parts: pd.Series[float]) -> pd.Series[bool]:
    """Whether each row's stated interval meets the exact one (95 %) of a share observed."""
    own = [clopper_pearson(int(k), int(n)) for k, n in zip(kept, parts, strict=True)]
    lows, highs = (pd.Series([pair[side] for pair in own], index=rows.index, dtype=float) for side in (0, 1))
    meets: pd.Series[bool] = (rows["low"] <= highs) & (lows <= rows["high"])
    return meets
