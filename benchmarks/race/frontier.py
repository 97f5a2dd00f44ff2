"""The plane of cost and misses: what each family can do at most, and where ours is above a rival."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.race.entrants import HINDSIGHT, OURS

#: Miss rates at which costs are compared: twenty, evenly on a log scale.
MISS_RATES = np.geomspace(1e-4, 0.05, 20)
PAIR = ["pipeline", "trace"]


def points(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per family and setting: cost and miss rate over all of these rows together.

    A setting that has no plan on some of the traffic is left out: its total would be of less traffic.
    """
    totals = rows.groupby(["family", "setting"], sort=False)[["usd", "misses", "queries"]].sum()
    complete = totals["queries"] == totals["queries"].max()
    totals = totals[complete]
    found: pd.DataFrame = totals.assign(miss_rate=totals["misses"] / totals["queries"]).reset_index()
    return found


def frontier(found: pd.DataFrame) -> pd.DataFrame:
    """Those of the points that no other one is below and left of, by cost."""
    ordered = found.sort_values(["usd", "miss_rate"], kind="stable")
    least = ordered["miss_rate"].cummin().shift(fill_value=np.inf)
    best: pd.DataFrame = ordered.loc[ordered["miss_rate"] < least]
    return best


def cost_at(found: pd.DataFrame, miss_rate: float) -> float:
    """Least cost of a setting that misses no more; infinite where none does. Nothing between settings is assumed."""
    costs = found.loc[found["miss_rate"] <= miss_rate, "usd"]
    return float(costs.min()) if len(costs) else float("inf")


@dataclass(frozen=True)
class Loss:
    """Where a rival does it for less: its family, the miss rate, and how many times its cost ours is."""

    family: str
    miss_rate: float
    ratio: float


def family_of(name: str) -> str:
    """The policy of a family, without whose plan it runs on."""
    return name.split(",")[0]


def losses(rows: pd.DataFrame) -> list[Loss]:
    """Every rival and miss rate at which ours costs more, of some traffic taken together."""
    found = points(rows)
    kind = found["family"].map(family_of)
    ours = found[kind == OURS]
    lost = []
    for family, own in found[(kind != OURS) & (kind != HINDSIGHT)].groupby("family", sort=False):
        for miss_rate in MISS_RATES:
            rival = cost_at(own, miss_rate)
            if np.isfinite(rival) and not cost_at(ours, miss_rate) <= rival:
                lost.append(Loss(str(family), float(miss_rate), cost_at(ours, miss_rate) / rival))
    return lost


def lost_pairs(rows: pd.DataFrame) -> dict[tuple[str, str], list[Loss]]:
    """Pairs of pipeline and trace on which some rival does it for less."""
    return {
        (str(pipeline), str(trace)): lost
        for (pipeline, trace), own in rows.groupby(PAIR, sort=False)
        if (lost := losses(own))
    }
