"""Figures of a table of runs: each policy beside hindsight, settings chosen, aims judged."""

from __future__ import annotations

import pandas as pd

from benchmarks.tuner.contenders import GREEDY, HINDSIGHT, OURS, SWEPT

KEYS = ["pipeline", "trace", "draw"]
#: The aims.
MISS_SHARE, COST_FACTOR, TRACE_SHARE = 0.1, 1.25, 0.8


def with_hindsight(table: pd.DataFrame) -> pd.DataFrame:
    """Add what hindsight makes of the same traffic: cost ratio, and misses beyond its own."""
    known = table[table["policy"] == HINDSIGHT].set_index(KEYS)
    joined = table.join(known[["usd", "misses"]].add_suffix("_oracle"), on=KEYS)
    joined["cost_ratio"] = joined["usd"] / joined["usd_oracle"]
    joined["excess"] = (joined["misses"] - joined["misses_oracle"]).clip(lower=0)
    return joined.drop(columns=["usd_oracle", "misses_oracle"])


def tuned(table: pd.DataFrame, family: str, ours: str = OURS) -> pd.DataFrame:
    """Rows of a swept policy, in each pipeline at its best setting.

    That is the one with the fewest misses over all traces of those that cost no more than ours over all traces; the
    cheapest, if all cost more.
    """
    rows = table[table["policy"] == family]
    if family not in SWEPT:
        return rows
    chosen = []
    for pipeline, own in rows.groupby("pipeline", sort=False):
        beside = table[(table["policy"] == ours) & (table["pipeline"] == pipeline)]
        totals = own.groupby("setting")[["usd", "misses"]].sum()
        within = totals[totals["usd"] <= beside["usd"].sum()]
        best = within["misses"].idxmin() if len(within) else totals["usd"].idxmin()
        chosen.append(own[own["setting"] == best])
    return pd.concat(chosen)


def beside_ours(table: pd.DataFrame, rows: pd.DataFrame, ours: str = OURS) -> pd.DataFrame:
    """Another policy's rows with ours of the same traffic, columns ending in ``_ours``."""
    known = table[table["policy"] == ours].set_index(KEYS)
    return rows.join(known[["usd", "misses", "excess"]].add_suffix("_ours"), on=KEYS)


def keeps_share(table: pd.DataFrame, rows: pd.DataFrame, ours: str = OURS) -> pd.Series[bool]:
    """Whether ours misses, beyond hindsight, at most a tenth of what they do, at no more cost."""
    both = beside_ours(table, rows, ours)
    return (both["excess_ours"] <= MISS_SHARE * both["excess"]) & (both["usd_ours"] <= both["usd"])


def beats_greedy(table: pd.DataFrame, ours: str = OURS) -> pd.Series[bool]:
    """Whether ours misses no more than InferLine's tuner and costs less."""
    both = beside_ours(table, table[table["policy"] == GREEDY], ours)
    return (both["misses_ours"] <= both["misses"]) & (both["usd_ours"] < both["usd"])


def beats_greedy_by_trace(table: pd.DataFrame, ours: str = OURS) -> pd.Series[bool]:
    """The same of each draw of a trace, misses and costs over all pipelines together."""
    both = beside_ours(table, table[table["policy"] == GREEDY], ours)
    totals = both.groupby(KEYS[1:])[["misses", "misses_ours", "usd", "usd_ours"]].sum()
    return (totals["misses_ours"] <= totals["misses"]) & (totals["usd_ours"] < totals["usd"])
