"""Labels over (cost, duration, wait) on one path, cut off where no completion can be cheap enough."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations.arrays import IntArray
from mipplan_formulations.dominance import find_undominated
from mipplan_formulations.labelling.chains import FloatArray, Heights
from mipplan_formulations.labelling.limits import Limits

_MOST_CHILDREN = 1 << 20
"""Labels are extended in portions that make at most so many."""

_SCREENED = 4
"""So many times the labels that may stay are compared with each other; the least promising of more go before."""


@dataclass(frozen=True, eq=False)
class Pass:
    """What one run over the activities found.

    Attributes
    ----------
    chosen : int64 array, shape (v,), or None
        Columns of the cheapest selection found; None if there is none within the cutoff.
    complete : bool
        Whether no label was thrown away for lack of room or time: then `chosen` is the cheapest of all, and nothing
        within the cutoff means that everything costs more.
    labels : int
        Kept on the way, over all activities.
    """

    chosen: IntArray | None
    complete: bool
    labels: int


def search_chain(heights: Heights, prices: list[float], cutoff: int, limits: Limits) -> Pass:
    """Find the cheapest selection that costs at most `cutoff`.

    Parameters
    ----------
    heights : Heights
        Exact: every height that the wait of such a selection may have, and no gathering of several.
    prices : list of float
        Each cuts off labels.
    cutoff : int
    limits : Limits
    """
    run = _Run(heights, prices, cutoff, limits)
    state = _State.start(int(heights.lows.size > 0))
    trail: list[_State] = []
    for stage in range(run.order.size):
        state = run.extend(stage, state)
        if state.cost.size == 0:
            return Pass(None, run.complete, run.labels)
        trail.append(state)
    best = int(np.argmin(state.cost))
    chosen = np.zeros(run.order.size, dtype=np.int64)
    for reached, v in zip(reversed(trail), reversed(run.order.tolist()), strict=True):
        chosen[v] = reached.mode[best]
        best = int(reached.parent[best])
    return Pass(chosen, run.complete, run.labels)


class _Run:
    """One run over the activities, those with few modes first."""

    def __init__(self, heights: Heights, prices: list[float], cutoff: int, limits: Limits) -> None:
        self._heights, self._cutoff, self._limits = heights, cutoff, limits
        self.order = np.argsort(heights.table.allowed.sum(axis=1), kind="stable")
        self._completions = [Completion.of(heights, price, self.order) for price in (*prices, 0.0)]
        self._shortest = _shortest_rests(heights, self.order)
        self.complete = True
        self.labels = 0

    def extend(self, stage: int, state: _State) -> _State:
        """Give every label every mode of the next activity, and keep what may come to something."""
        table, v = self._heights.table, int(self.order[stage])
        modes = int(table.allowed[v].sum())
        # the lowest height at which a mode's wait fits
        level = np.searchsorted(self._heights.lows, table.wait[v, :modes])
        most = self._most()
        found = []
        for portion in state.portions(modes):
            child = portion.extend(
                table.cost[v, :modes], table.duration[v, :modes], level, self._heights.lows.size
            )
            found.append(self._cut(stage, child))
            if sum(part.cost.size for part in found) > _SCREENED * most:
                found = [self._trim(stage, _State.join(found), most)]
                most = self._most()  # time goes by
        children = self._trim(stage, _State.join(found), _SCREENED * most)
        kept = children.take(np.flatnonzero(find_undominated(children.measures())))
        kept = self._trim(stage, kept, most)
        self.labels += kept.cost.size
        return kept

    def _most(self) -> int:
        late = time.monotonic() > self._limits.ends_at
        return self._limits.few_labels if late else self._limits.most_labels

    def _cut(self, stage: int, state: _State) -> _State:
        """Leave out labels that miss the deadline, or whose completions cost more than the cutoff."""
        good = state.duration + self._shortest[stage][state.level] <= self._heights.table.room
        limit = self._cutoff + 1e-9 * (abs(self._cutoff) + 1.0)
        for completion in self._completions:
            good &= completion.bound(stage, state) <= limit
        return state.take(np.flatnonzero(good))

    def _trim(self, stage: int, state: _State, most: int) -> _State:
        """Keep at most so many labels, those with the least bounds."""
        if state.cost.size <= most:
            return state
        self.complete = False
        worth = self._completions[0].bound(stage, state)
        return state.take(np.sort(np.argsort(worth, kind="stable")[:most]))


@dataclass(frozen=True, eq=False)
class _State:
    """Labels after some activities: cost and duration so far, position of the height that the wait needs."""

    cost: IntArray
    duration: IntArray
    level: IntArray
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

    def portions(self, modes: int) -> list[_State]:
        """Parts small enough to extend at once; parents are numbered within the whole."""
        size = max(1, _MOST_CHILDREN // modes)
        numbers = np.arange(self.cost.size, dtype=np.int32)
        numbered = _State(self.cost, self.duration, self.level, numbers, self.mode)
        starts = range(0, max(1, self.cost.size), size)
        return [numbered.take(np.arange(start, min(start + size, self.cost.size))) for start in starts]

    def extend(self, cost: IntArray, duration: IntArray, level: IntArray, count: int) -> _State:
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

    def take(self, rows: IntArray) -> _State:
        """Some of the labels."""
        return _State(
            self.cost[rows], self.duration[rows], self.level[rows], self.parent[rows], self.mode[rows]
        )

    def measures(self) -> IntArray:
        """What makes one label better than another."""
        return np.stack([self.cost, self.duration, self.level], axis=1)


@dataclass(frozen=True, eq=False)
class Completion:
    """What the activities still to come cost at least, at a price of time.

    Attributes
    ----------
    price : float
    rests : float64 array, shape (v, k)
        After each activity, for every height that the wait has reached: the least over all heights from there on.
    """

    price: float
    rests: FloatArray

    @staticmethod
    def of(heights: Heights, price: float, order: IntArray) -> Completion:
        """Prepare the bounds of a price for activities in the given order."""
        least, _ = heights.weigh(price)
        rests = _sums_after(least[order])
        rests += price * (heights.lows - heights.table.room)
        return Completion(price, np.minimum.accumulate(rests[:, ::-1], axis=1)[:, ::-1])

    def bound(self, stage: int, state: _State) -> FloatArray:
        """Least cost of all completions of each label."""
        return np.asarray(state.cost + self.price * state.duration + self.rests[stage][state.level])


def _shortest_rests(heights: Heights, order: IntArray) -> IntArray:
    """After each activity, for every height reached: least duration of what comes, with the wait; shape (v, k)."""
    rests = _sums_after(heights.shortest()[order]) + heights.lows
    return np.asarray(np.minimum.accumulate(rests[:, ::-1], axis=1)[:, ::-1])


def _sums_after(rows: NDArray) -> NDArray:  # type: ignore[type-arg]
    """Row i becomes the sum of all rows after it."""
    sums = np.zeros_like(rows)
    sums[:-1] = np.cumsum(rows[:0:-1], axis=0)[::-1]
    return sums
