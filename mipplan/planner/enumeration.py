"""Prove that nothing cheaper is certified: by listing what costs little more than the bound, and by halving the rest.

A certificate falls with every T and 1/R, so a set of options per stage holds no certified plan if even the least T and
the least 1/R of every stage are refused together. What its plans cost at least follows from the linear relaxation of
the master (`Prices`). So all choices are listed up to costs that rise until one of them is certified (`Listing`). Where
there are too many, sets are halved, until they are refused, too dear, or so small that they can be listed. The half
that holds the best plan known comes first, else the cheaper one.

Most sets are refused without the judge, by queries that bore witness against others before: the bounds on their
latency are linear (`QueryCuts`), and also strike single options from the sets.

References
----------
A. H. Land, A. G. Doig, "An automatic method of solving discrete programming problems", Econometrica 28 (1960),
doi:10.2307/1910129.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Float64, Int64
from mipplan.planner.candidates import TooManyError
from mipplan.planner.hearing import Hearing
from mipplan.planner.listing import Listing
from mipplan.planner.pricing import Prices, Pricing
from mipplan.planner.witnesses import QueryCuts
from mipplan_formulations import TimeCostProblem

#: So many groups of witnesses, those that refused last, are asked about single options.
_ASKED = 3
#: A set is priced anew when it has lost so many of its options that only this share is left.
_REPRICED = 0.5
#: Costs rise by this share of the bound, twice as much each time that so few partial choices had to be kept …
_RISE = 0.03
_FEW = 1_000
#: … and half as much where they were more than this; but no less than that share.
_MOST_LISTED = 100_000
_LEAST_RISE = 0.01
#: Where the bound is close to nothing, this share of what plans may cost stands in for it.
_LEAST_BASE = 0.02
#: A set is listed rather than halved where no more partial choices have to be kept.
_LISTED = 3_000
#: If there were more, that is tried again with this share of the options.
_RETRIED = 0.8


@dataclass(frozen=True, eq=False)
class _Set:
    """Plans of certain options.

    Attributes
    ----------
    rows : int64, shape (m,)
        The options, ascending, of all stages one after the other.
    prices : Prices
        Of this set or one that holds it, …
    priced : int
        … with so many options.
    tried : int
        With so many options it, or one that holds it, was too large to be listed.
    """

    rows: Int64
    prices: Prices
    priced: int
    tried: int


class Enumeration:
    """Looks for certified plans below a cost.

    Parameters
    ----------
    hearing : Hearing
        Of the options.
    problem : TimeCostProblem
        A master over these options.
    pricing : Pricing
        Of these options.
    prices : Prices
        Of all of them.
    most : int
        Plans may cost that much (micro-dollars per hour) …
    step : int
        … and another plan is cheaper by at least this.
    proven : int
        No certified plan costs less.
    near : mapping of str to int
        A good selection: where it chooses from one half of a set, that is looked at first.
    """

    def __init__(
        self,
        hearing: Hearing,
        problem: TimeCostProblem,
        pricing: Pricing,
        prices: Prices,
        most: int,
        step: int,
        *,
        proven: int = 0,
        near: Mapping[str, int],
    ) -> None:
        self._hearing = hearing
        self._listing = Listing(hearing, problem)
        self._pricing = pricing
        self._most = most
        self._step = step
        self._proven = proven
        everything = np.arange(hearing.stage.size)
        self._pending = [_Set(everything, prices, everything.size, everything.size)]
        self._near = hearing.rows_of(near)
        self._best: dict[str, int] | None = None

    @property
    def most(self) -> int:
        """What plans that are still looked for may cost."""
        return self._most

    @property
    def witnesses(self) -> Sequence[QueryCuts]:
        """Those remembered, who refused last first."""
        return self._hearing.witnesses

    @property
    def proven(self) -> int:
        """No certified plan of these options costs less."""
        return self._proven

    @property
    def heard(self) -> int:
        """Choices that were listed and put before the judge."""
        return self._listing.heard

    @property
    def best(self) -> Mapping[str, int] | None:
        """Option of each stage in the cheapest plan found within what plans may cost."""
        return self._best

    def climb(self, ends_at: float) -> bool:
        """List all choices up to costs that rise, until one is certified, they are too many, or the time is up.

        Returns whether no plan is cheaper than the best one; False if that is not known.
        """
        (everything,) = self._pending
        bound, rise = everything.prices.bound, _RISE
        while time.monotonic() < ends_at:
            reach = max(rise * max(bound, _LEAST_BASE * self._most), self._step)
            goal = min(self._most, math.ceil(max(bound, self._proven - 1) + reach))
            goal -= goal % self._step  # there is nothing in between
            rows = self._affordable(everything.rows, everything.prices, goal)
            try:
                if rows is not None and self._is_settled(
                    rows, everything.prices, goal, _MOST_LISTED, ends_at
                ):
                    return True
            except TooManyError:
                if rise <= _LEAST_RISE or reach <= self._step:
                    return False
                rise /= 2
                continue
            self._proven = max(self._proven, goal + self._step)
            if goal + self._step > self._most:
                return True
            if self._listing.labels <= _FEW:
                rise *= 2
        return False

    def _is_settled(self, rows: Int64, prices: Prices, most: int, labels: int, ends_at: float) -> bool:
        """List some options; return whether the cheapest plan of at most that cost has been found among them."""
        found = self._listing.cheapest(rows, prices, most, labels, ends_at)
        if found is None:
            return False
        self._take(found)
        return True

    def run(self, most_sets: int, ends_at: float) -> bool:
        """Look at so many more sets of options at most, until ``time.monotonic()`` reaches `ends_at`.

        Returns whether no plan is cheaper than the best one; False if it stopped before that is known.
        """
        for _ in range(most_sets):
            if not self._pending or time.monotonic() >= ends_at:
                break
            # Only what is settled leaves the pile: an interrupt loses nothing.
            parts = self._parts(self._pending[-1], ends_at)
            self._pending[-1:] = parts
        return not self._pending

    def _parts(self, whole: _Set, ends_at: float) -> list[_Set]:
        """Return what is left to look at in a set of plans, first what to look at last; nothing if it is settled."""
        rows = self._reduced(whole.rows, whole.prices)
        if rows is None or self._hearing.is_hopeless(rows):
            return []
        prices, priced = whole.prices, whole.priced
        if rows.size <= _REPRICED * priced:
            found = self._pricing.within(rows)
            if found is not None:
                prices, priced = found, rows.size
                rows = self._affordable(rows, prices, self._most)
                if rows is None:
                    return []
        tried = whole.tried
        if rows.size <= _RETRIED * tried:
            try:
                self._is_settled(rows, prices, self._most, _LISTED, ends_at)
            except TooManyError:
                tried = rows.size
            else:
                return []
        if rows.size == self._hearing.stages:
            self._hear(rows)
            return []
        return [_Set(half, prices, priced, tried) for half in self._halves(rows, prices)]

    def _reduced(self, rows: Int64, prices: Prices) -> Int64 | None:
        """Strike options that are too dear, or refused whatever the other stages choose; None if nothing is left."""
        asked = len(self._hearing.witnesses)
        while True:
            left = self._affordable(rows, prices, self._most)
            if left is None:
                return None
            least = self._least(left)
            if self._hearing.is_known_refused(*least, asked):
                return None
            kept = np.ones(left.size, dtype=bool)
            for witnesses in self._hearing.witnesses[:_ASKED]:
                self._strike(left, kept, *least, witnesses)
            if kept.all():
                return left
            rows = left[kept]
            # Striking raises what the others leave by little: those who refuse now are mostly those who struck.
            asked = _ASKED

    def _affordable(self, rows: Int64, prices: Prices, most: int) -> Int64 | None:
        """Strike options that make every plan too dear: by cost, and by reduced cost; None if nothing is left."""
        for values, base in ((self._hearing.cost, 0.0), (prices.reduced, prices.bound)):
            starts = self._starts(rows)
            if starts is None:
                return None
            least = np.minimum.reduceat(values[rows], starts)
            spare = most - base - least.sum()
            if spare < 0:
                return None
            rows = rows[values[rows] <= (least + spare)[self._hearing.stage[rows]]]
        return rows

    def _starts(self, rows: Int64) -> NDArray[np.int64] | None:
        """Where in `rows` each stage's options start; None if a stage has none."""
        starts = np.searchsorted(self._hearing.stage[rows], np.arange(self._hearing.stages))
        found: bool = starts[-1] < rows.size and bool((np.diff(starts) > 0).all())
        return starts if found else None

    def _least(self, rows: Int64) -> tuple[Float64, Float64]:
        """Least T and least 1/R of every stage, shape (stages,)."""
        starts = np.searchsorted(self._hearing.stage[rows], np.arange(self._hearing.stages))
        return np.minimum.reduceat(self._hearing.latency[rows], starts), np.minimum.reduceat(
            self._hearing.period[rows], starts
        )

    def _strike(
        self, rows: Int64, kept: NDArray[np.bool_], latency: Float64, period: Float64, witnesses: QueryCuts
    ) -> None:
        """Unmark in `kept` what these witnesses refuse even where all other stages are at their least."""
        stage = self._hearing.stage[rows]
        more_latency, more_period = (
            self._hearing.latency[rows] - latency[stage],
            self._hearing.period[rows] - period[stage],
        )
        ends = np.append(np.searchsorted(stage, np.arange(self._hearing.stages)), rows.size)
        excess = witnesses.excess_ns(latency, period)
        most = (np.maximum.reduceat(more, ends[:-1]) for more in (more_latency, more_period))
        for number in witnesses.refuse_some(excess, *most):
            own = slice(ends[number], ends[number + 1])
            kept[own] &= ~witnesses.refuse_each(excess, number, more_latency[own], more_period[own])

    def _hear(self, choice: Int64) -> None:
        if self._hearing.is_allowed(choice) and self._hearing.keeps_slo(choice):
            self._take(choice)

    def _take(self, choice: Int64) -> None:
        """Only cheaper plans than this one are looked for from now on."""
        self._best = self._hearing.selection_of(choice)
        self._near = choice
        self._most = int(self._hearing.cost[choice].sum()) - self._step

    def _halves(self, rows: Int64, prices: Prices) -> tuple[Int64, Int64]:
        """Halve, by cost, the options of the stage that decides most about the latency; last, what to look at first."""
        stage = self._weightiest(rows, prices)
        own = self._hearing.stage[rows] == stage
        options = rows[own]
        options = options[np.argsort(self._hearing.cost[options], kind="stable")]
        cost = self._hearing.cost[options]
        middle = options.size // 2
        # Options that cost the same stay together if that leaves two parts.
        first = int(np.searchsorted(cost, cost[middle])) or int(
            np.searchsorted(cost, cost[middle], side="right")
        )
        middle = first if 0 < first < options.size else middle
        others = rows[~own]
        cheaper, dearer = (
            np.sort(np.concatenate([others, part])) for part in (options[:middle], options[middle:])
        )
        return (cheaper, dearer) if np.isin(self._near[stage], dearer) else (dearer, cheaper)

    def _weightiest(self, rows: Int64, prices: Prices) -> int:
        """Stage with more than one option where the one of least reduced cost costs the witnesses most latency."""
        starts = np.searchsorted(self._hearing.stage[rows], np.arange(self._hearing.stages))
        sizes = np.diff(np.append(starts, rows.size))
        weights = sizes.astype(np.float64)
        if self._hearing.witnesses:
            latency, period = self._least(rows)
            usual = np.array(
                [own[np.argmin(prices.reduced[own])] for own in np.split(rows, starts[1:])], dtype=np.int64
            )
            weights = self._hearing.witnesses[0].burdens_ns(
                self._hearing.latency[usual] - latency, self._hearing.period[usual] - period
            )
        return int(np.argmax(np.where(sizes > 1, weights, -1.0)))
