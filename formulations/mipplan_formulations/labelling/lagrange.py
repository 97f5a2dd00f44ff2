"""Lagrangian bounds: what a dual solution says of each mode, and bounds on one path for every height of its wait.

On a path the wait counts once. Fix its height h: then only modes that wait no longer are allowed, and what is left of
the deadline is a knapsack for durations. With a price λ per unit of time it falls apart into activities,

    L(λ, h) = Σ_v min { c + λ·d : w <= h }  +  λ·(h - room),

a bound on what selections cost whose wait is h, for any λ >= 0. The least over all h bounds the problem, and this
least is concave in λ. (Numbers refer to the page ``labels.md``.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations.linear import Bool, Float64, Int64

_ROUNDING = 1e-9
"""This share of the terms' magnitude, more than floating point can lose in such sums, is given away in every bound."""

_FORBIDDEN = 2**60
"""The wait of an entry that is no mode."""


@dataclass(frozen=True, eq=False)
class DualBound:
    """What a relaxation, whoever solved it, says about the cost of selections: a bound, and how each mode lifts it."""

    bound: float
    # Per activity and mode, not negative. A feasible selection costs at least ``bound`` plus the sum of the
    # excesses of its modes: reduced costs are such, whatever dual solution they come from.
    excess: tuple[Float64, ...]

    @staticmethod
    def from_reduced_costs(bound: float, reduced_costs: Sequence[Float64 | Int64]) -> DualBound:
        """Make one of a Lagrangian bound in which every binary stands at its cheaper end, and its reduced costs.

        Exactly one mode per activity is chosen, so of the terms ``min(0, reduced cost)`` in such a bound, all but one
        were too pessimistic. Modes that cannot be chosen, as their binary is fixed at 0, have infinite reduced cost.
        Costs themselves are reduced costs, of the bound 0.
        """
        excess = []
        for own in reduced_costs:
            if np.isposinf(own).all():
                return DualBound(float("inf"), tuple(np.zeros(modes.size) for modes in reduced_costs))
            bound += float(own.min() - np.minimum(own, 0.0).sum())
            excess.append(own - own.min())
        return DualBound(bound, tuple(excess))

    def lower(self, kept: Sequence[Int64]) -> DualBound:
        """The same for the modes kept only, numbers per activity."""
        excess = tuple(own[numbers] for own, numbers in zip(self.excess, kept, strict=True))
        return DualBound(self.bound, excess)


@dataclass(frozen=True, eq=False)
class ChainTable:
    """Modes of the activities of a chain, one row each, sorted by wait; short rows are filled up with forbidden modes.

    All arrays have shape (v, m). Waits are raised to the least wait of the path; forbidden modes wait for ever. The
    number is that of the mode within its activity, the room the deadline less the lags.
    """

    cost: Int64
    duration: Int64
    wait: Int64
    number: Int64
    room: int

    @property
    def allowed(self) -> Bool:
        """Which entries are modes."""
        return self.wait < _FORBIDDEN

    def keep(self, marked: Bool) -> ChainTable:
        """Only the marked modes; every activity keeps at least one."""
        counts = marked.sum(axis=1)
        first = np.argsort(~marked, axis=1, kind="stable")[:, : int(counts.max())]
        left = np.arange(first.shape[1]) >= counts[:, None]
        arrays = (self.cost, self.duration, self.wait, self.number)
        cost, duration, wait, number = (
            np.where(left, filler, np.take_along_axis(array, first, axis=1))
            for array, filler in zip(arrays, _FILLERS, strict=True)
        )
        return ChainTable(cost, duration, wait, number, self.room)

    def selection(self, chosen: Int64) -> tuple[int, ...]:
        """Mode numbers of a choice of columns, shape (v,)."""
        return tuple(self.number[np.arange(chosen.size), chosen].tolist())

    def value(self, chosen: Int64) -> tuple[int, int, int]:
        """Cost, total duration and wait of a choice of columns, shape (v,)."""
        rows = np.arange(chosen.size)
        return (
            int(self.cost[rows, chosen].sum()),
            int(self.duration[rows, chosen].sum()),
            int(self.wait[rows, chosen].max()),
        )


_FILLERS = (_FORBIDDEN, 0, _FORBIDDEN, 0)


def tabulate(
    costs: Sequence[Int64], durations: Sequence[Int64], waits: Sequence[Int64], room: int
) -> ChainTable:
    """Arrange modes by activity and wait."""
    least = max(int(own.min()) for own in waits)
    shape = len(costs), max(own.size for own in costs)
    arrays = [np.full(shape, filler, dtype=np.int64) for filler in _FILLERS]
    for v, own in enumerate(waits):
        raised = np.maximum(own, least)
        order = np.argsort(raised, kind="stable")
        for array, values in zip(arrays, (costs[v], durations[v], raised, np.arange(own.size)), strict=True):
            array[v, : own.size] = values[order]
    cost, duration, wait, number = arrays
    return ChainTable(cost, duration, wait, number, room)


class Heights:
    """Heights the wait may have, and bounds for each of them.

    A wait counts as the largest of the increasing `lows` that does not exceed it, and then modes that wait up to the
    `high` at the same place are allowed. Where both agree the bounds are those of the module's heading.
    """

    def __init__(self, table: ChainTable, lows: Int64, highs: Int64) -> None:
        self.table, self.lows, self.highs = table, lows, highs
        counts = [np.searchsorted(own, highs, side="right") for own in table.wait]
        self._last = np.stack(counts) - 1
        usable = (self._last >= 0).all(axis=0)
        if not usable.all():
            self.lows, self.highs, self._last = lows[usable], highs[usable], self._last[:, usable]
        self.tangents: list[Tangent] = []

    def shortest(self) -> Int64:
        """Least duration per activity for every height, shape (v, k)."""
        return self._least(np.where(self.table.allowed, self.table.duration, _FORBIDDEN))

    def fastest(self) -> Int64:
        """Least total of durations plus the wait, for every height, shape (k,)."""
        return np.asarray(self.shortest().sum(axis=0) + self.lows)

    def weigh(self, price: float) -> tuple[Float64, Float64]:
        """Least of ``c + price·d`` per activity and height, and L(price, h) per height."""
        least = self._least(self.table.cost + price * self.table.duration)
        terms = price * (self.lows - self.table.room)
        total = least.sum(axis=0) + terms
        total -= _ROUNDING * (least.sum(axis=0) + np.abs(terms) + 1.0)
        return least, total

    def choose(self, price: float, height: int) -> Int64:
        """Columns of the modes of least weight at a height, shape (v,); at an infinite price, of the shortest."""
        cost, duration = self.table.cost, self.table.duration
        weights = duration if np.isinf(price) else cost + price * duration
        allowed = np.arange(cost.shape[1]) <= self._last[:, height, None]
        return np.asarray(np.argmin(np.where(allowed, weights, np.inf), axis=1))

    def maximise(self, most_tangents: int = 40) -> bool:
        """Maximise the bound over prices: where the tangents on both sides meet, until they meet on the curve.

        At most `most_tangents` are drawn; a few already come close to the maximum. False if nothing meets the deadline.
        """
        right = self._tangent(np.inf, int(np.argmin(self.fastest())))
        if right.slope > 0:
            return False
        left = self._evaluate(0.0)
        while left.slope > 0 and len(self.tangents) < most_tangents:
            price = max(0.0, (right.cost - left.cost) / (left.slope - right.slope))
            expected = left.cost + price * left.slope
            found = self._evaluate(price)
            reached = found.cost + price * found.slope
            if found.slope > 0:
                left = found
            else:
                right = found
            if reached >= expected - 1e-7 * abs(expected) or found.slope == 0:
                break
        return True

    def best_prices(self, count: int) -> list[float]:
        """Prices with the best bounds, the best first."""
        ranked = sorted(self.tangents, key=lambda tangent: -tangent.bound)
        return [tangent.price for tangent in ranked[:count]]

    @property
    def bound(self) -> float:
        """No selection costs less."""
        return max((tangent.bound for tangent in self.tangents), default=-np.inf)

    def bound_modes(self, price: float) -> tuple[Float64, Float64]:
        """What selections with a mode cost at least, and what those cost in which it has the longest wait.

        The latter is infinite for a mode whose wait is no height.
        """
        table = self.table
        least, total = self.weigh(price)
        others = total - least
        onwards = least_onwards(others)
        weighted = table.cost + price * table.duration
        # a mode needs a height whose modes may wait as long as it does
        place = np.searchsorted(self.highs, table.wait)
        inside = place < self.lows.size
        place = np.where(inside, place, 0)
        own = inside & (self.lows[place] <= table.wait)
        alone = np.where(own, np.take_along_axis(others, place, axis=1) + weighted, np.inf)
        among = np.where(inside, np.take_along_axis(onwards, place, axis=1) + weighted, np.inf)
        return among, alone

    def _least(self, values: NDArray[Any]) -> NDArray[Any]:
        """Least per activity over the modes allowed, for every height."""
        return np.take_along_axis(np.minimum.accumulate(values, axis=1), self._last, axis=1)

    def _evaluate(self, price: float) -> Tangent:
        _, total = self.weigh(price)
        lowest = int(np.argmin(total))
        tangent = self._tangent(price, lowest, float(total[lowest]))
        self.tangents.append(tangent)
        return tangent

    def _tangent(self, price: float, height: int, bound: float = -np.inf) -> Tangent:
        chosen = self.choose(price, height)
        cost, duration, _ = self.table.value(chosen)
        return Tangent(price, height, cost, duration + int(self.lows[height]) - self.table.room, bound)


@dataclass(frozen=True)
class Tangent:
    """A selection as a line over the price: ``cost + price·slope``, at least the bound's curve everywhere.

    It touches the curve at its price, where the curve's value proves the bound. The height is a position, the slope is
    by how much the selection misses the deadline.
    """

    price: float
    height: int
    cost: int
    slope: int
    bound: float


def all_heights(table: ChainTable, most: int) -> Heights:
    """Heights at all waits that leave room for durations, gathered if there are more than `most`."""
    durations = np.where(table.allowed, table.duration, _FORBIDDEN)
    highest = table.room - int(durations.min(axis=1).sum())
    waits = np.unique(table.wait)
    waits = waits[waits <= max(highest, int(waits[0]))]
    return gathered_heights(table, waits, most)


def gathered_heights(table: ChainTable, waits: Int64, most: int) -> Heights:
    """Heights at the increasing waits, if there are more than `most` gathered evenly into as many."""
    firsts = np.unique(np.linspace(0, waits.size, most, endpoint=False).astype(np.int64))
    return Heights(table, waits[firsts], np.append(waits[firsts[1:] - 1], waits[-1]))


def least_onwards(rows: NDArray[Any]) -> NDArray[Any]:
    """In each row, the least from every place on."""
    return np.asarray(np.minimum.accumulate(rows[:, ::-1], axis=1)[:, ::-1])


def improve(table: ChainTable, chosen: Int64) -> Int64:
    """While time is left, exchange the mode that saves most; the choice must meet the deadline."""
    chosen = chosen.copy()
    rows = np.arange(chosen.size)
    while True:
        _, duration, wait = table.value(chosen)
        slack = table.room - duration - wait
        current = table.duration[rows, chosen][:, None]
        extra = table.duration - current + np.maximum(table.wait - wait, 0)
        saving = np.where(table.allowed & (extra <= slack), table.cost[rows, chosen][:, None] - table.cost, 0)
        best = int(np.argmax(saving))
        v, o = divmod(best, table.wait.shape[1])
        if saving[v, o] <= 0:
            return chosen
        chosen[v] = o
