"""Labels over (cost, duration, wait) on one path, cut off where no completion can be cheap enough.

Bounds for every height of the wait come first (`lagrange`), then labels within a gap that grows (`search`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations.labelling.lagrange import (
    ChainTable,
    Heights,
    all_heights,
    gathered_heights,
    improve,
    tabulate,
)
from mipplan_formulations.labelling.search import (
    GapParams,
    GapSearch,
    LabelLimits,
    LabelPass,
    Labels,
    trace_back,
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
    screened: int = 4
    """At most this many times the labels that may stay are compared; the least promising of more go before."""


DEFAULT = ChainParams()


class ChainSearch(GapSearch):
    """The cheapest selection of a problem with one path; off the path, the cheapest mode is right."""

    def __init__(
        self,
        problem: TimeCostProblem,
        path: Path,
        limits: LabelLimits,
        gap: float,
        cost: int | None,
        params: ChainParams = DEFAULT,
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
        self._table = tabulate(costs, durations, path.waits, problem.deadline - path.lag)
        self._heights = all_heights(self._table, params.most_heights)
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
        heights = self._heights
        if heights.lows.size == 0 or heights.fastest().min() > self._table.room:
            return False
        heights.maximise(self._params.most_tangents)
        self._harvest(heights)
        self._raise_bound(heights.bound)
        return True

    def _dearest(self) -> int:
        return int(np.where(self._table.allowed, self._table.cost, 0).max(axis=1).sum())

    def _search(self, cutoff: int) -> LabelPass:
        narrowed = self._narrow(cutoff)
        if narrowed is None:
            return LabelPass(None, 0, True, 0)
        if not np.array_equal(narrowed.lows, narrowed.highs):
            return LabelPass(None, 0, False, 0)
        prices = narrowed.best_prices(self._params.prices)
        return search_chain(narrowed, prices, cutoff, self.limits, self._params)

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
            narrowed = self._heights_at(table.keep(kept), waits)
            if narrowed.lows.size == 0 or narrowed.fastest().min() > table.room:
                return None
            narrowed.maximise(self._params.most_tangents)
            self._harvest(narrowed)
            self._raise_bound(min(narrowed.bound, cutoff + 1))
            if narrowed.bound > limit:
                return None
            shrunk = narrowed.table.allowed.sum() < 0.8 * table.allowed.sum()
            if not shrunk and narrowed.lows.size >= 0.8 * heights.lows.size:
                return narrowed
            heights = narrowed

    def _heights_at(self, table: ChainTable, waits: Int64) -> Heights:
        """Heights at these waits only, gathered where they are too many."""
        if waits.size * table.wait.shape[0] <= self._params.most_exact:
            return Heights(table, waits, waits)
        return gathered_heights(table, waits, self._params.most_heights)

    def _harvest(self, heights: Heights) -> None:
        """Make choices of the tangents that meet the deadline."""
        table = heights.table
        for tangent in heights.tangents:
            if tangent.slope <= 0:
                chosen = heights.choose(tangent.price, tangent.height)
                _, duration, wait = table.value(chosen)
                if duration + wait <= table.room:
                    chosen = improve(table, chosen)
                    self.offer(table.value(chosen)[0], table.selection(chosen))

    def _raise_bound(self, bound: float) -> None:
        self.bound = max(self.bound, math.ceil(bound - 1e-6))


def search_chain(
    heights: Heights, prices: list[float], cutoff: int, limits: LabelLimits, params: ChainParams
) -> LabelPass:
    """Find the cheapest selection that costs at most `cutoff`.

    The heights are exact: every height that the wait of such a selection may have, and no gathering of several. Each
    price cuts off labels.
    """
    run = _Run(heights, prices, cutoff, limits, params)
    labels = _ChainLabels.start(int(heights.lows.size > 0))
    trail: list[Labels] = []
    for stage in range(run.order.size):
        labels = run.extend(stage, labels)
        if labels.cost.size == 0:
            return LabelPass(None, 0, run.complete, run.labels)
        trail.append(labels)
    best = int(np.argmin(labels.cost))
    chosen = np.array(trace_back(trail, run.order.tolist(), best), dtype=np.int64)
    return LabelPass(heights.table.selection(chosen), int(labels.cost[best]), run.complete, run.labels)


class _Run:
    """One run over the activities, those with few modes first."""

    def __init__(
        self, heights: Heights, prices: list[float], cutoff: int, limits: LabelLimits, params: ChainParams
    ) -> None:
        self._heights, self._cutoff, self._limits, self._params = heights, cutoff, limits, params
        self.order = np.argsort(heights.table.allowed.sum(axis=1), kind="stable")
        self._completions = [_Completion.of(heights, price, self.order) for price in (*prices, 0.0)]
        self._shortest = _shortest_rests(heights, self.order)
        self.complete = True
        self.labels = 0

    def extend(self, stage: int, labels: _ChainLabels) -> _ChainLabels:
        """Give every label every mode of the next activity, and keep what may come to something."""
        table, v = self._heights.table, int(self.order[stage])
        modes = int(table.allowed[v].sum())
        # the lowest height at which a mode's wait fits
        level = np.searchsorted(self._heights.lows, table.wait[v, :modes])
        most, screened = self._most(), self._params.screened
        found = []
        for portion in labels.portions(max(1, self._params.most_children // modes)):
            child = portion.extend(
                table.cost[v, :modes], table.duration[v, :modes], level, self._heights.lows.size
            )
            found.append(self._cut(stage, child))
            if sum(part.cost.size for part in found) > screened * most:
                found = [self._trim(stage, _ChainLabels.join(found), most)]
                most = self._most()  # time goes by
        children = self._trim(stage, _ChainLabels.join(found), screened * most)
        kept = children.take(np.flatnonzero(find_undominated(children.measures())))
        kept = self._trim(stage, kept, most)
        self.labels += kept.cost.size
        return kept

    def _most(self) -> int:
        return self._limits.few_labels if self._limits.is_over() else self._limits.most_labels

    def _cut(self, stage: int, labels: _ChainLabels) -> _ChainLabels:
        """Leave out labels that miss the deadline, or whose completions cost more than the cutoff."""
        good = labels.duration + self._shortest[stage][labels.level] <= self._heights.table.room
        limit = self._cutoff + 1e-9 * (abs(self._cutoff) + 1.0)
        for completion in self._completions:
            good &= completion.bound(stage, labels) <= limit
        return labels.take(np.flatnonzero(good))

    def _trim(self, stage: int, labels: _ChainLabels, most: int) -> _ChainLabels:
        """Keep at most `most` labels, those with the least bounds."""
        if labels.cost.size <= most:
            return labels
        self.complete = False
        worth = self._completions[0].bound(stage, labels)
        return labels.take(np.sort(np.argsort(worth, kind="stable")[:most]))


@dataclass(frozen=True, eq=False)
class _ChainLabels(Labels):
    """Besides, the duration so far, and the position of the height that the wait needs."""

    duration: Int64
    level: Int64

    @staticmethod
    def start(count: int) -> _ChainLabels:
        """One label that has done nothing, or none."""
        zeros, none = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int32)
        return _ChainLabels(zeros, none, none, zeros, zeros)

    def portions(self, size: int) -> list[_ChainLabels]:
        """Parts of at most `size` labels; parents are numbered within the whole."""
        numbered = replace(self, parent=np.arange(self.cost.size, dtype=np.int32))
        starts = range(0, max(1, self.cost.size), size)
        return [numbered.take(np.arange(start, min(start + size, self.cost.size))) for start in starts]

    def extend(self, cost: Int64, duration: Int64, level: Int64, count: int) -> _ChainLabels:
        """Every label with every mode whose wait has a height."""
        able = np.flatnonzero(level < count)
        shape = self.cost.size, able.size
        return _ChainLabels(
            (self.cost[:, None] + cost[able]).ravel(),
            np.broadcast_to(self.parent[:, None], shape).ravel(),
            np.broadcast_to(able.astype(np.int32), shape).ravel(),
            (self.duration[:, None] + duration[able]).ravel(),
            np.maximum(self.level[:, None], level[able]).ravel(),
        )

    def measures(self) -> Int64:
        """What makes one label better than another."""
        return np.stack([self.cost, self.duration, self.level], axis=1)


@dataclass(frozen=True, eq=False)
class _Completion:
    """What the activities still to come cost at least, at a price of time."""

    price: float
    rests: Float64
    """After each activity, for every height that the wait has reached, the least over all heights from there on."""

    @staticmethod
    def of(heights: Heights, price: float, order: Int64) -> _Completion:
        """Prepare the bounds of a price for activities in the given order."""
        least, _ = heights.weigh(price)
        rests = _sums_after(least[order])
        rests += price * (heights.lows - heights.table.room)
        return _Completion(price, np.minimum.accumulate(rests[:, ::-1], axis=1)[:, ::-1])

    def bound(self, stage: int, labels: _ChainLabels) -> Float64:
        """Least cost of all completions of each label."""
        return np.asarray(labels.cost + self.price * labels.duration + self.rests[stage][labels.level])


def _shortest_rests(heights: Heights, order: Int64) -> Int64:
    """After each activity, for every height reached: least duration of what comes, with the wait; shape (v, k)."""
    rests = _sums_after(heights.shortest()[order]) + heights.lows
    return np.asarray(np.minimum.accumulate(rests[:, ::-1], axis=1)[:, ::-1])


def _sums_after(rows: NDArray) -> NDArray:  # type: ignore[type-arg]
    """Row i becomes the sum of all rows after it."""
    sums = np.zeros_like(rows)
    sums[:-1] = np.cumsum(rows[:0:-1], axis=0)[::-1]
    return sums
