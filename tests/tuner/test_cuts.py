"""Rows for demands: their slopes are falls of the times, and places move to solutions."""

from __future__ import annotations

import numpy as np

from campaigns import campaign_size
from mipplan.tuner.cuts import ROWS, CutPlaces
from mipplan_formulations import Demand
from mipplan_formulations.scaling import Demands
from random_scaling import random_demand


def slow_slopes(demand: Demand, placed: list[int], least: int, most: int) -> list[list[int]]:
    """One activity's, number by number."""
    found = []
    for kind in ("wait", "own"):
        times = {n: int(demand.times(kind, n)) for n in range(least, most + 1)}
        places = [min(max(n, least), max(least, most - 1)) for n in placed]
        falls = [times[n] - times.get(n + 1, times[n]) for n in places]
        smallest = min((fall for fall in falls if fall > 0), default=1)
        found.append([fall if fall > 0 else smallest for fall in falls])
    return [found[0], found[1] if demand.own_load else [0] * len(placed)]


def test_slopes_are_falls_at_the_places() -> None:
    for seed in range(campaign_size(quick=40, deep=1_000)):
        rng = np.random.default_rng([13, seed])
        mine = [random_demand(rng, unit=int(rng.choice([1, 10**6]))) for _ in range(int(rng.integers(1, 5)))]
        least = rng.integers(1, 20, len(mine))
        most = least + rng.choice([0, 1, 5, 60], len(mine))
        places = CutPlaces(len(mine))
        places.move_to(rng.uniform(1, 40, len(mine)))
        found = places.slopes(Demands(mine), least, most)
        for i, demand in enumerate(mine):
            expected = slow_slopes(demand, places.units[i].tolist(), int(least[i]), int(most[i]))
            assert found[:, i].tolist() == expected, f"case {seed}"


def test_places_move_to_a_solution_and_beside_it_and_keep_their_ends() -> None:
    places = CutPlaces(2)
    before = places.units.copy()
    assert not places.move_to(before[:, 3])
    assert np.array_equal(places.units, before)
    assert places.move_to([float(before[0, 3]), 30.4])
    assert np.array_equal(places.units[0], before[0])
    assert {29, 30, 31, int(before[1].min()), int(before[1].max())} <= set(places.units[1].tolist())
    assert not places.move_to([before[0, 3], 30.0])
    assert places.units.shape == (2, ROWS)
