"""The cheapest selection on one path: bounds first, then labels within a gap that grows until the proof is there."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from mipplan_formulations.arrays import BoolArray, IntArray
from mipplan_formulations.labelling.chain_labels import search_chain
from mipplan_formulations.labelling.chains import Heights, Table, all_heights, improve
from mipplan_formulations.labelling.limits import Limits

_MOST_HEIGHTS = 2048
"""More different waits than this are gathered for the first bounds."""

_MOST_EXACT = 4_000_000
"""Activities times heights up to which labels are set on; more would not fit into memory."""

_PRICES = 3
"""So many of the best prices judge modes and labels."""

_FIRST_SHARE, _GROWTH = 1 / 16, 4
"""The first search looks so far into the gap between bound and best selection, each next one so many times as far."""


@dataclass
class ChainSearch:
    """State of a search; the best choice so far and the bound always hold.

    Attributes
    ----------
    table : Table
    limits : Limits
    gap : float
        Relative gap that is proof enough.
    fixed : int
        Cost of what is not on the chain; `cost` and `bound` leave it out.
    chosen : int64 array, shape (v,), or None
        Mode numbers of the best choice; None with a cost: of one known from elsewhere.
    cost : int or None
    bound : int
        No choice costs less.
    labels : int
    passes : int
    exhausted : bool
        Whether nothing is left to look at: `chosen` is the best, or there is none.
    """

    table: Table
    limits: Limits
    gap: float = 0.0
    fixed: int = 0
    chosen: IntArray | None = None
    cost: int | None = None
    bound: int = 0
    labels: int = 0
    passes: int = 0
    exhausted: bool = False

    def run(self) -> None:
        """Search until nothing is left, the gap is reached, or time is over."""
        heights = all_heights(self.table, _MOST_HEIGHTS)
        if heights.lows.size == 0 or heights.fastest().min() > self.table.room:
            self.exhausted = True
            return
        heights.climb()
        self._harvest(heights)
        self._raise_bound(heights.bound)
        top = int(np.where(self.table.allowed, self.table.cost, 0).max(axis=1).sum())
        reach = self._first_reach(top)
        while not self._is_done() and time.monotonic() < self.limits.ends_at:
            most = top if self.cost is None else self.cost - 1
            cutoff = min(most, self.bound + reach)
            if not self._look_below(heights, cutoff):
                return
            if cutoff == most and self.bound > cutoff:
                self.exhausted = True
            reach *= _GROWTH

    def _is_done(self) -> bool:
        if self.exhausted:
            return True
        if self.cost is None:
            return False
        if self.cost <= self.bound:
            self.exhausted = True
        return self.cost - self.bound <= self.gap * (self.cost + self.fixed)

    def _first_reach(self, top: int) -> int:
        span = (top if self.cost is None else self.cost) - self.bound
        return max(1, int(span * _FIRST_SHARE))

    def _look_below(self, heights: Heights, cutoff: int) -> bool:
        """Find the cheapest choice up to a cutoff, or that there is none; False if that is too much."""
        self.passes += 1
        narrowed = self._narrow(heights, cutoff)
        if narrowed is None:
            self.bound = max(self.bound, cutoff + 1)
            return True
        if not np.array_equal(narrowed.lows, narrowed.highs):
            return False
        found = search_chain(narrowed, narrowed.best_prices(_PRICES), cutoff, self.limits)
        self.labels += found.labels
        if found.chosen is not None:
            self._offer(narrowed.table, found.chosen)
            if found.complete and self.cost is not None:
                self.bound = self.cost
        elif found.complete:
            self.bound = max(self.bound, cutoff + 1)
        return found.complete

    def _narrow(self, heights: Heights, cutoff: int) -> Heights | None:
        """Keep modes and heights of choices up to a cutoff; None if none can be left.

        What is left has better prices, which may leave less.
        """
        while True:
            table = heights.table
            among, alone = (
                np.maximum.reduce(parts)
                for parts in zip(*map(heights.bound_modes, heights.best_prices(_PRICES)), strict=True)
            )
            limit = cutoff + 1e-9 * (abs(cutoff) + 1)
            kept: BoolArray = (among <= limit) & table.allowed
            waits = np.unique(table.wait[(alone <= limit) & table.allowed])
            if not kept.any(axis=1).all() or waits.size == 0:
                return None
            narrowed = _heights_at(table.keep(kept), waits)
            if narrowed.lows.size == 0 or narrowed.fastest().min() > table.room:
                return None
            narrowed.climb()
            self._harvest(narrowed)
            self._raise_bound(min(narrowed.bound, cutoff + 1))
            if narrowed.bound > limit:
                return None
            shrunk = narrowed.table.allowed.sum() < 0.8 * table.allowed.sum()
            if not shrunk and narrowed.lows.size >= 0.8 * heights.lows.size:
                return narrowed
            heights = narrowed

    def _harvest(self, heights: Heights) -> None:
        """Make choices of the tangents that meet the deadline."""
        for tangent in heights.tangents:
            if tangent.slope <= 0:
                chosen = heights.choose(tangent.price, tangent.height)
                _, duration, wait = heights.table.value(chosen)
                if duration + wait <= heights.table.room:
                    self._offer(heights.table, improve(heights.table, chosen))

    def _offer(self, table: Table, chosen: IntArray) -> None:
        cost, _, _ = table.value(chosen)
        if self.cost is None or cost < self.cost:
            self.cost = cost
            self.chosen = table.number[np.arange(chosen.size), chosen]

    def _raise_bound(self, bound: float) -> None:
        self.bound = max(self.bound, math.ceil(bound - 1e-6))


def _heights_at(table: Table, waits: IntArray) -> Heights:
    """Heights at these waits only, gathered where they are too many."""
    if waits.size * table.wait.shape[0] <= _MOST_EXACT:
        return Heights(table, waits, waits)
    firsts = np.unique(np.linspace(0, waits.size, _MOST_HEIGHTS, endpoint=False).astype(np.int64))
    return Heights(table, waits[firsts], np.append(waits[firsts[1:] - 1], waits[-1]))
