"""Labels over (cost, duration, wait) on one path, cut off where no completion can be cheap enough.

Bounds for every height of the wait come first (`lagrange`), then labels within a gap that grows (`search`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations.arrays import Bool, Float64, Int64
from mipplan_formulations.labelling.lagrange import (
    ChainTable,
    Heights,
    all_heights,
    gathered_heights,
    improve,
)
from mipplan_formulations.labelling.search import GapSearch, LabelLimits, LabelPass
from mipplan_formulations.time_cost import find_undominated


@dataclass(frozen=True)
class ChainParams:
    """Numbers that tune the search on one path; the answer without limits does not depend on them."""

    most_heights: int = 2048
    """At most this many heights are told apart for the first bounds; of more waits, neighbours are gathered."""
    most_exact: int = 4_000_000
    """Labels are set only up to this many activities times heights, because more would not fit into memory."""
    most_tangents: int = 40
    """At most this many prices are tried to raise a bound."""
    prices: int = 3
    """At most this many prices, those with the best bounds, judge modes and labels."""
    first_share: float = 1 / 16
    """The first pass looks this share into the gap between bound and best selection."""
    growth: int = 4
    """Each next pass looks this many times as far."""
    most_children: int = 1 << 20
    """Labels are extended in portions that make at most this many, because memory is finite."""
    screened: int = 4
    """At most this many times the labels that may stay are compared; the least promising of more go before."""


DEFAULT = ChainParams()


class ChainSearch(GapSearch):
    """The cheapest selection on one path; selections are mode numbers of the table's activities."""

    def __init__(
        self,
        table: ChainTable,
        limits: LabelLimits,
        gap: float = 0.0,
        cost: int | None = None,
        fixed: int = 0,
        params: ChainParams = DEFAULT,
    ) -> None:
        super().__init__(limits, gap, cost, first_share=params.first_share, growth=params.growth, fixed=fixed)
        self._params = params
        self._table = table
        self._heights = all_heights(table, params.most_heights)

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
    state = _State.start(int(heights.lows.size > 0))
    trail: list[_State] = []
    for stage in range(run.order.size):
        state = run.extend(stage, state)
        if state.cost.size == 0:
            return LabelPass(None, 0, run.complete, run.labels)
        trail.append(state)
    best = int(np.argmin(state.cost))
    cost = int(state.cost[best])
    chosen = np.zeros(run.order.size, dtype=np.int64)
    for reached, v in zip(reversed(trail), reversed(run.order.tolist()), strict=True):
        chosen[v] = reached.mode[best]
        best = int(reached.parent[best])
    return LabelPass(heights.table.selection(chosen), cost, run.complete, run.labels)


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

    def extend(self, stage: int, state: _State) -> _State:
        """Give every label every mode of the next activity, and keep what may come to something."""
        table, v = self._heights.table, int(self.order[stage])
        modes = int(table.allowed[v].sum())
        # the lowest height at which a mode's wait fits
        level = np.searchsorted(self._heights.lows, table.wait[v, :modes])
        most, screened = self._most(), self._params.screened
        found = []
        for portion in state.portions(max(1, self._params.most_children // modes)):
            child = portion.extend(
                table.cost[v, :modes], table.duration[v, :modes], level, self._heights.lows.size
            )
            found.append(self._cut(stage, child))
            if sum(part.cost.size for part in found) > screened * most:
                found = [self._trim(stage, _State.join(found), most)]
                most = self._most()  # time goes by
        children = self._trim(stage, _State.join(found), screened * most)
        kept = children.take(np.flatnonzero(find_undominated(children.measures())))
        kept = self._trim(stage, kept, most)
        self.labels += kept.cost.size
        return kept

    def _most(self) -> int:
        return self._limits.few_labels if self._limits.is_over() else self._limits.most_labels

    def _cut(self, stage: int, state: _State) -> _State:
        """Leave out labels that miss the deadline, or whose completions cost more than the cutoff."""
        good = state.duration + self._shortest[stage][state.level] <= self._heights.table.room
        limit = self._cutoff + 1e-9 * (abs(self._cutoff) + 1.0)
        for completion in self._completions:
            good &= completion.bound(stage, state) <= limit
        return state.take(np.flatnonzero(good))

    def _trim(self, stage: int, state: _State, most: int) -> _State:
        """Keep at most `most` labels, those with the least bounds."""
        if state.cost.size <= most:
            return state
        self.complete = False
        worth = self._completions[0].bound(stage, state)
        return state.take(np.sort(np.argsort(worth, kind="stable")[:most]))


@dataclass(frozen=True, eq=False)
class _State:
    """Labels after some activities: cost and duration so far, position of the height that the wait needs."""

    cost: Int64
    duration: Int64
    level: Int64
    parent: NDArray[np.int32]
    mode: NDArray[np.int32]

    @staticmethod
    def start(count: int) -> _State:
        """One label that has done nothing, or none."""
        zeros, none = np.zeros(count, dtype=np.int64), np.zeros(count, dtype=np.int32)
        return _State(zeros, zeros, zeros, none, none)

    @staticmethod
    def join(states: list[_State]) -> _State:
        """All labels of several states."""
        if len(states) == 1:
            return states[0]
        return _State(
            *(
                np.concatenate([getattr(state, name) for state in states])
                for name in ("cost", "duration", "level", "parent", "mode")
            )
        )

    def portions(self, size: int) -> list[_State]:
        """Parts of at most `size` labels; parents are numbered within the whole."""
        numbers = np.arange(self.cost.size, dtype=np.int32)
        numbered = _State(self.cost, self.duration, self.level, numbers, self.mode)
        starts = range(0, max(1, self.cost.size), size)
        return [numbered.take(np.arange(start, min(start + size, self.cost.size))) for start in starts]

    def extend(self, cost: Int64, duration: Int64, level: Int64, count: int) -> _State:
        """Every label with every mode whose wait has a height."""
        able = np.flatnonzero(level < count)
        shape = self.cost.size, able.size
        return _State(
            (self.cost[:, None] + cost[able]).ravel(),
            (self.duration[:, None] + duration[able]).ravel(),
            np.maximum(self.level[:, None], level[able]).ravel(),
            np.broadcast_to(self.parent[:, None], shape).ravel(),
            np.broadcast_to(able.astype(np.int32), shape).ravel(),
        )

    def take(self, rows: Int64) -> _State:
        """Some of the labels."""
        return _State(
            self.cost[rows], self.duration[rows], self.level[rows], self.parent[rows], self.mode[rows]
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

    def bound(self, stage: int, state: _State) -> Float64:
        """Least cost of all completions of each label."""
        return np.asarray(state.cost + self.price * state.duration + self.rests[stage][state.level])


def _shortest_rests(heights: Heights, order: Int64) -> Int64:
    """After each activity, for every height reached: least duration of what comes, with the wait; shape (v, k)."""
    rests = _sums_after(heights.shortest()[order]) + heights.lows
    return np.asarray(np.minimum.accumulate(rests[:, ::-1], axis=1)[:, ::-1])


def _sums_after(rows: NDArray) -> NDArray:  # type: ignore[type-arg]
    """Row i becomes the sum of all rows after it."""
    sums = np.zeros_like(rows)
    sums[:-1] = np.cumsum(rows[:0:-1], axis=0)[::-1]
    return sums
