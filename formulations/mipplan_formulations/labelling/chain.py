"""Labels over (cost, duration, wait) on one path, cut off where no completion can be cheap enough.

Bounds for every height of the wait come first (`lagrange`), then labels within a gap that grows (`search`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations.labelling.lagrange import (
    Heights,
    all_heights,
    gathered_heights,
    improve,
    least_onwards,
    tabulate,
)
from mipplan_formulations.labelling.search import (
    GapParams,
    GapSearch,
    LabelLimits,
    LabelPass,
    LabelRun,
    Labels,
)
from mipplan_formulations.linear import Bool, Float64, Int64
from mipplan_formulations.time_cost import Path, TimeCostProblem, find_undominated


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
    most_children: int = 1 << 20
    """Labels are extended in portions that make at most this many, because memory is finite."""


class ChainSearch(GapSearch):
    """The cheapest selection of a problem with one path; off the path, the cheapest mode is right."""

    def __init__(
        self,
        problem: TimeCostProblem,
        path: Path,
        limits: LabelLimits,
        gap: float,
        cost: int | None,
        params: ChainParams,
    ) -> None:
        self._params, self._path = params, path
        self._cheapest = [int(np.argmin(activity.cost)) for activity in problem.activities]
        fixed = sum(
            int(activity.cost[self._cheapest[v]])
            for v, activity in enumerate(problem.activities)
            if v not in path.activities
        )
        own = [problem.activities[v] for v in path.activities]
        costs, durations = [a.cost for a in own], [a.duration for a in own]
        table = tabulate(costs, durations, path.waits, problem.deadline - path.lag)
        self._heights = all_heights(table, params.most_heights)
        super().__init__(limits, gap, None if cost is None else cost - fixed, params, fixed)

    def best(self) -> tuple[int, ...] | None:
        """The best selection found, a mode per activity."""
        if self.selection is None:
            return None
        chosen = self._cheapest.copy()
        for v, mode in zip(self._path.activities, self.selection, strict=True):
            chosen[v] = mode
        return tuple(chosen)

    def _prepare(self) -> bool:
        if not self._maximise(self._heights):
            return False
        self._raise_bound(self._heights.bound)
        return True

    def _dearest(self) -> int:
        table = self._heights.table
        return int(np.where(table.allowed, table.cost, 0).max(axis=1).sum())

    def _search(self, cutoff: int) -> LabelPass:
        narrowed = self._narrow(cutoff)
        if narrowed is None:
            return LabelPass(None, 0, True, 0)
        if not np.array_equal(narrowed.lows, narrowed.highs):
            return LabelPass(None, 0, False, 0)
        prices = narrowed.best_prices(self._params.prices)
        zero, none = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int32)
        run = _ChainRun(narrowed, prices, cutoff, self.limits, self._params)
        found = run.run(_ChainLabels(zero, none, none, zero, zero))
        if found.selection is None:
            return found
        return replace(found, selection=narrowed.table.selection(np.array(found.selection)))

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
            if waits.size * smaller.wait.shape[0] <= self._params.most_exact:
                narrowed = Heights(smaller, waits, waits)
            else:
                narrowed = gathered_heights(smaller, waits, self._params.most_heights)
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
        if heights.lows.size == 0 or heights.fastest().min() > table.room:
            return False
        heights.maximise(self._params.most_tangents)
        for tangent in heights.tangents:
            if tangent.slope <= 0:
                chosen = heights.choose(tangent.price, tangent.height)
                _, duration, wait = table.value(chosen)
                if duration + wait <= table.room:
                    chosen = improve(table, chosen)
                    self.offer(table.value(chosen)[0], table.selection(chosen))
        return True

    def _raise_bound(self, bound: float) -> None:
        self.bound = max(self.bound, math.ceil(bound - 1e-6))


@dataclass(frozen=True, eq=False)
class _ChainLabels(Labels):
    """Besides, the duration so far, and the position of the height that the wait needs."""

    duration: Int64
    level: Int64


class _ChainRun(LabelRun[_ChainLabels]):
    """A run over the activities, those with few modes first; each price cuts off labels.

    The heights are exact: every height that the wait of a selection within the cutoff may have, and no gathering of
    several.
    """

    def __init__(
        self, heights: Heights, prices: list[float], cutoff: int, limits: LabelLimits, params: ChainParams
    ) -> None:
        order = np.argsort(heights.table.allowed.sum(axis=1), kind="stable")
        super().__init__(order.tolist(), cutoff, limits)
        self._heights, self._params = heights, params
        # What the activities still to come cost at least, at each price of time: after each activity, for every
        # height that the wait has reached, the least over all heights from there on.
        self._rests = []
        for price in (*prices, 0.0):
            rests = _sums_after(heights.weigh(price)[0][order])
            rests += price * (heights.lows - heights.table.room)
            self._rests.append((price, least_onwards(rests)))
        # Likewise the least duration of what comes, with the wait.
        self._shortest = least_onwards(_sums_after(heights.shortest()[order]) + heights.lows)

    def _extend(self, stage: int, labels: _ChainLabels) -> _ChainLabels:
        table, v = self._heights.table, self.order[stage]
        modes = int(table.allowed[v].sum())
        # the lowest height at which a mode's wait fits
        level = np.searchsorted(self._heights.lows, table.wait[v, :modes])
        most, screened = self._most(), self._params.screened
        worth = partial(self._bound, 0, stage)
        found: list[_ChainLabels] = []
        for rows in labels.portions(max(1, self._params.most_children // modes)):
            found.append(self._children(stage, labels, rows, level))
            if sum(part.cost.size for part in found) > screened * most:
                found = [self._least(_ChainLabels.join(found), most, worth)]
                most = self._most()  # time goes by
        children = self._least(_ChainLabels.join(found), screened * most, worth)
        measures = np.stack([children.cost, children.duration, children.level], axis=1)
        kept = children.take(np.flatnonzero(find_undominated(measures)))
        return self._least(kept, most, worth)

    def _children(self, stage: int, labels: _ChainLabels, rows: Int64, level: Int64) -> _ChainLabels:
        """Every label of a portion with every mode whose wait has a height, less those that come to nothing.

        These miss the deadline, or their completions cost more than the cutoff.
        """
        table, v = self._heights.table, self.order[stage]
        able = np.flatnonzero(level < self._heights.lows.size)
        shape = rows.size, able.size
        children = _ChainLabels(
            (labels.cost[rows, None] + table.cost[v, able]).ravel(),
            np.broadcast_to(rows.astype(np.int32)[:, None], shape).ravel(),
            np.broadcast_to(able.astype(np.int32), shape).ravel(),
            (labels.duration[rows, None] + table.duration[v, able]).ravel(),
            np.maximum(labels.level[rows, None], level[able]).ravel(),
        )
        good = children.duration + self._shortest[stage][children.level] <= table.room
        for price in range(len(self._rests)):
            good &= self._bound(price, stage, children) <= self.limit
        return children.take(np.flatnonzero(good))

    def _bound(self, number: int, stage: int, labels: _ChainLabels) -> Float64:
        """Least cost of all completions of each label, at the price of a number."""
        price, rests = self._rests[number]
        return np.asarray(labels.cost + price * labels.duration + rests[stage][labels.level])


def _sums_after(rows: NDArray) -> NDArray:  # type: ignore[type-arg]
    """Row i becomes the sum of all rows after it."""
    sums = np.zeros_like(rows)
    sums[:-1] = np.cumsum(rows[:0:-1], axis=0)[::-1]
    return sums
