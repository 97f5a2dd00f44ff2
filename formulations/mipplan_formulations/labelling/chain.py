"""Labels over (cost, duration, wait) on one path, cut off where no completion can be cheap enough.

Bounds for every height of the wait come first (`lagrange`), then labels within a gap that grows (`search`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations.labelling.lagrange import (
    ChainTable,
    Heights,
    all_heights,
    gathered_heights,
    improve,
    least_onwards,
    tabulate,
)
from mipplan_formulations.labelling.search import GapParams, GapSearch, LabelLimits, LabelRun, Labels
from mipplan_formulations.linear import Bool, Int64
from mipplan_formulations.time_cost import TimeCostProblem, breakable_paths


@dataclass(frozen=True)
class ChainParams(GapParams):
    """Numbers that tune the search on one path; the answer without limits does not depend on them."""

    most_heights: int = 2048
    """At most this many heights are told apart for the first bounds; of more waits, neighbours are gathered."""
    most_exact: int = 4_000_000
    """Labels are set only up to this many activities times heights, because more would not fit into memory."""
    most_tangents: int = 40
    """At most this many prices are tried to raise a bound."""
    prices: int = 3
    """At most this many prices, those with the best bounds, judge modes and labels."""
    growth: int = 4


class ChainSearch(GapSearch):
    """The cheapest selection of a problem with one breakable path; off the path, the cheapest mode is right."""

    def __init__(
        self, problem: TimeCostProblem, limits: LabelLimits, gap: float, cost: int | None, params: ChainParams
    ) -> None:
        super().__init__(problem, limits, gap, cost, params)
        self._params = params
        self._path = path = breakable_paths(problem)[0][1]
        self._cheapest = [int(np.argmin(activity.cost)) for activity in problem.activities]
        own = [problem.activities[v] for v in path.activities]
        costs = [activity.cost for activity in own]
        # What is off the path costs as much whatever is chosen on it.
        costs[0] = costs[0] + sum(int(a.cost.min()) for a in problem.activities if a not in own)
        self.dearest = sum(int(cost.max()) for cost in costs)
        table = tabulate(costs, [a.duration for a in own], path.waits, problem.deadline - path.lag)
        self._heights = all_heights(table, params.most_heights)

    def _prepare(self) -> bool:
        if not self._maximise(self._heights):
            return False
        self._raise_bound(self._heights.bound)
        return True

    def _search(self, cutoff: int) -> tuple[tuple[int, ...] | None, bool]:
        narrowed = self._narrow(cutoff)
        if narrowed is None:
            return None, True
        if not np.array_equal(narrowed.lows, narrowed.highs):
            return None, False
        run = _ChainRun(narrowed, self._params.prices, cutoff, self)
        found = run.run()
        self.labels += run.labels
        return None if found is None else self._selection(narrowed.table, np.array(found)), run.complete

    def _narrow(self, cutoff: int) -> Heights | None:
        """Keep modes and heights of choices up to a cutoff; None if none can be left.

        What is left has better prices, which may leave less.
        """
        heights, prices = self._heights, self._params.prices
        while True:
            table = heights.table
            among, alone = (
                np.maximum.reduce(parts)
                for parts in zip(*map(heights.bound_modes, heights.best_prices(prices)), strict=True)
            )
            limit = cutoff + 1e-9 * (abs(cutoff) + 1)
            kept: Bool = (among <= limit) & table.allowed
            waits = np.unique(table.wait[(alone <= limit) & table.allowed])
            if not kept.any(axis=1).all() or waits.size == 0:
                return None
            smaller = table.keep(kept)
            exact = waits.size * smaller.wait.shape[0] <= self._params.most_exact
            narrowed = gathered_heights(smaller, waits, waits.size if exact else self._params.most_heights)
            if not self._maximise(narrowed):
                return None
            self._raise_bound(min(narrowed.bound, cutoff + 1))
            if narrowed.bound > limit:
                return None
            shrunk = narrowed.table.allowed.sum() < 0.8 * table.allowed.sum()
            if not shrunk and narrowed.lows.size >= 0.8 * heights.lows.size:
                return narrowed
            heights = narrowed

    def _maximise(self, heights: Heights) -> bool:
        """Maximise the bound, and make choices of the tangents that meet the deadline; False if none can."""
        table = heights.table
        if heights.lows.size == 0 or not heights.maximise(self._params.most_tangents):
            return False
        for tangent in heights.tangents:
            if tangent.slope <= 0:
                chosen = heights.choose(tangent.price, tangent.height)
                _, duration, wait = table.value(chosen)
                if duration + wait <= table.room:
                    self.offer(self._selection(table, improve(table, chosen)))
        return True

    def _selection(self, table: ChainTable, chosen: Int64) -> tuple[int, ...]:
        """A mode per activity, given the columns chosen on the path."""
        on_path = dict(zip(self._path.activities, table.selection(chosen), strict=True))
        return tuple(on_path.get(v, mode) for v, mode in enumerate(self._cheapest))

    def _raise_bound(self, bound: float) -> None:
        self.bound = max(self.bound, self.problem.next_cost(bound))


@dataclass(frozen=True, eq=False)
class _ChainLabels(Labels):
    """Besides, the duration so far, and the position of the height that the wait needs."""

    duration: Int64
    level: Int64

    @property
    def measures(self) -> Int64:
        return np.stack([self.cost, self.duration, self.level], axis=1)


class _ChainRun(LabelRun[_ChainLabels]):
    """A run over the activities, those with few modes first; each price cuts off labels, the first is their worth.

    The heights are exact: every height that the wait of a selection within the cutoff may have, and no gathering of
    several.
    """

    def __init__(self, heights: Heights, prices: int, cutoff: int, search: GapSearch) -> None:
        counts = heights.table.allowed.sum(axis=1)
        order = np.argsort(counts, kind="stable")
        super().__init__(order.tolist(), counts[order].tolist(), cutoff, search)
        self._heights = heights
        # What the activities still to come cost at least, at each price of time: after each activity, for every
        # height that the wait has reached, the least over all heights from there on.
        self._rests = []
        for price in (*heights.best_prices(prices), 0.0):
            least, total = heights.weigh(price)  # the total has given away what rounding may lose
            rests = _sums_after(least[order]) + (total - least.sum(axis=0))
            self._rests.append((price, least_onwards(rests)))
        # Likewise the least duration of what comes, with the wait.
        self._shortest = least_onwards(_sums_after(heights.shortest()[order]) + heights.lows)

    def _start(self) -> _ChainLabels:
        zero, none = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int32)
        return _ChainLabels(zero, none, none, np.zeros(1), zero, zero)

    def _children(self, stage: int, labels: _ChainLabels, rows: Int64) -> _ChainLabels:
        """Those left out miss the deadline, or their completions cost more than the cutoff at some price."""
        table, v = self._heights.table, self.order[stage]
        # the lowest height at which a mode's wait fits
        level = np.searchsorted(self._heights.lows, table.wait[v, : self._widths[stage]])
        able = np.flatnonzero(level < self._heights.lows.size)
        cost = (labels.cost[rows, None] + table.cost[v, able]).ravel()
        duration = (labels.duration[rows, None] + table.duration[v, able]).ravel()
        highest = np.maximum(labels.level[rows, None], level[able]).ravel()
        good = duration + self._shortest[stage][highest] <= table.room
        bounds = [cost + price * duration + rests[stage][highest] for price, rests in self._rests]
        for bound in bounds:
            good &= bound <= self.limit
        kept = np.flatnonzero(good)
        parent, mode = rows[kept // able.size], able[kept % able.size]
        return _ChainLabels(
            cost[kept],
            parent.astype(np.int32),
            mode.astype(np.int32),
            bounds[0][kept],
            duration[kept],
            highest[kept],
        )


def _sums_after(rows: NDArray) -> NDArray:  # type: ignore[type-arg]
    """Row i becomes the sum of all rows after it."""
    sums = np.zeros_like(rows)
    sums[:-1] = np.cumsum(rows[:0:-1], axis=0)[::-1]
    return sums
