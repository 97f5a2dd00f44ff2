"""Prove that nothing cheaper is certified, by halving what stages may choose from.

A certificate falls with every T and 1/R, so a set of options per stage holds no certified plan if even the least T and
the least 1/R of every stage are refused together. What its plans cost at least follows from the linear relaxation of
the master (`Prices`). So sets are halved, until they are refused, too dear, or a single plan that is put before the
judge. The half that holds the best plan known comes first, else the cheaper one.

Most sets are refused without the judge, by queries that bore witness against others before: the bounds on their
latency are linear (`Witnesses`), and also strike single options from the sets.

References
----------
A. H. Land, A. G. Doig, "An automatic method of solving discrete programming problems", Econometrica 28 (1960),
doi:10.2307/1910129.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan.curves import StageService
from mipplan.options import StageOptions
from mipplan.planner.instance import Instance
from mipplan.planner.pricing import Prices, Pricing
from mipplan.planner.witnesses import Witnesses

Rows = NDArray[np.int64]
Column = NDArray[np.float64]

#: So many groups of witnesses are remembered, …
_REMEMBERED = 12
#: … and so many, those that refused last, are asked about single options.
_ASKED = 3
#: A set is priced anew when it has lost so many of its options that only this share is left.
_REPRICED = 0.5


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
    """

    rows: Rows
    prices: Prices
    priced: int


class Enumeration:
    """Looks for certified plans below a cost.

    Parameters
    ----------
    instance : Instance
    options : mapping of str to StageOptions
        None empty.
    number : mapping of str to int64 arrays
        What each of a stage's options is called in selections.
    pricing : Pricing
        Of these options.
    is_allowed : callable
        Whether a selection keeps everything but the objective.
    most : int
        Plans may cost that much (micro-dollars per hour) …
    step : int
        … and another plan is cheaper by at least this.
    near : mapping of str to int
        A good selection: where it chooses from one half of a set, that is looked at first.
    witnesses : sequence of Witnesses
        Known from elsewhere, of the same instance and the same order of stages.
    """

    def __init__(
        self,
        instance: Instance,
        options: Mapping[str, StageOptions],
        number: Mapping[str, Rows],
        pricing: Pricing,
        is_allowed: Callable[[Mapping[str, int]], bool],
        most: int,
        step: int,
        *,
        near: Mapping[str, int],
        witnesses: Sequence[Witnesses] = (),
    ) -> None:
        self._instance = instance
        self._options = options
        self._number = number
        self._pricing = pricing
        self._is_allowed = is_allowed
        self._most = most
        self._step = step
        tables = list(options.values())
        counts = [table.count for table in tables]
        self._stage = np.repeat(np.arange(len(tables)), counts)
        self._first = np.concatenate([[0], np.cumsum(counts)[:-1]])
        self._latency = np.concatenate([table.latency_ns for table in tables]).astype(np.float64)
        self._period = np.concatenate([table.period_ns / table.tokens for table in tables])
        self._cost = np.concatenate([table.cost for table in tables]).astype(np.float64)
        self._witnesses = list(witnesses)
        self._pending: list[_Set] | None = None
        self._near = np.array(
            [
                first + found[0] if (found := np.flatnonzero(number[name] == near[name])).size else -1
                for first, name in zip(self._first.tolist(), options, strict=True)
            ]
        )
        self._best: dict[str, int] | None = None

    @property
    def most(self) -> int:
        """What plans that are still looked for may cost."""
        return self._most

    @property
    def witnesses(self) -> Sequence[Witnesses]:
        """Those remembered, who refused last first."""
        return self._witnesses

    @property
    def best(self) -> Mapping[str, int] | None:
        """Option of each stage in the cheapest plan found within what plans may cost."""
        return self._best

    def run(self, most_sets: int, ends_at: float) -> bool:
        """Look at so many more sets of options at most, until ``time.monotonic()`` reaches `ends_at`.

        Returns whether no plan is cheaper than the best one; False if it stopped before that is known.
        """
        if self._pending is None:
            everything = np.arange(self._stage.size)
            prices = self._pricing.within(everything)
            if prices is None:
                return False
            self._pending = [_Set(everything, prices, everything.size)]
        for _ in range(most_sets):
            if not self._pending or time.monotonic() >= ends_at:
                break
            # Only what is settled leaves the pile: an interrupt loses nothing.
            parts = self._parts(self._pending[-1])
            self._pending[-1:] = parts
        return not self._pending

    def _parts(self, whole: _Set) -> list[_Set]:
        """Return what is left to look at in a set of plans, first what to look at last; nothing if it is settled."""
        rows = self._reduced(whole.rows, whole.prices)
        if rows is None or self._is_refused(rows):
            return []
        prices, priced = whole.prices, whole.priced
        if rows.size <= _REPRICED * priced:
            found = self._pricing.within(rows)
            if found is not None:
                prices, priced = found, rows.size
                rows = self._affordable(rows, prices)
                if rows is None:
                    return []
        if rows.size == len(self._options):
            self._judge(rows)
            return []
        return [_Set(half, prices, priced) for half in self._halves(rows, prices)]

    def _reduced(self, rows: Rows, prices: Prices) -> Rows | None:
        """Strike options that are too dear, or refused whatever the other stages choose; None if nothing is left."""
        asked = len(self._witnesses)
        while True:
            left = self._affordable(rows, prices)
            if left is None:
                return None
            least = self._least(left)
            if self._is_known_refused(*least, asked):
                return None
            kept = np.ones(left.size, dtype=bool)
            for witnesses in self._witnesses[:_ASKED]:
                self._strike(left, kept, *least, witnesses)
            if kept.all():
                return left
            rows = left[kept]
            # Striking raises what the others leave by little: those who refuse now are mostly those who struck.
            asked = _ASKED

    def _affordable(self, rows: Rows, prices: Prices) -> Rows | None:
        """Strike options that make every plan too dear: by cost, and by reduced cost; None if nothing is left."""
        for values, base in ((self._cost, 0.0), (prices.reduced, prices.bound)):
            starts = self._starts(rows)
            if starts is None:
                return None
            least = np.minimum.reduceat(values[rows], starts)
            spare = self._most - base - least.sum()
            if spare < 0:
                return None
            rows = rows[values[rows] <= (least + spare)[self._stage[rows]]]
        return rows

    def _starts(self, rows: Rows) -> NDArray[np.int64] | None:
        """Where in `rows` each stage's options start; None if a stage has none."""
        starts = np.searchsorted(self._stage[rows], np.arange(len(self._options)))
        found: bool = starts[-1] < rows.size and bool((np.diff(starts) > 0).all())
        return starts if found else None

    def _least(self, rows: Rows) -> tuple[Column, Column]:
        """Least T and least 1/R of every stage, shape (stages,)."""
        starts = np.searchsorted(self._stage[rows], np.arange(len(self._options)))
        return np.minimum.reduceat(self._latency[rows], starts), np.minimum.reduceat(
            self._period[rows], starts
        )

    def _is_known_refused(self, latency: Column, period: Column, asked: int) -> bool:
        """Whether some of the first witnesses refuse these services; they move to the front."""
        for place, witnesses in enumerate(self._witnesses[:asked]):
            if witnesses.refuse(witnesses.excess_ns(latency, period)):
                self._witnesses.insert(0, self._witnesses.pop(place))
                return True
        return False

    def _strike(
        self, rows: Rows, kept: NDArray[np.bool_], latency: Column, period: Column, witnesses: Witnesses
    ) -> None:
        """Unmark in `kept` what these witnesses refuse even where all other stages are at their least."""
        stage = self._stage[rows]
        more_latency, more_period = self._latency[rows] - latency[stage], self._period[rows] - period[stage]
        ends = np.append(np.searchsorted(stage, np.arange(len(self._options))), rows.size)
        excess = witnesses.excess_ns(latency, period)
        most = (np.maximum.reduceat(more, ends[:-1]) for more in (more_latency, more_period))
        for number in witnesses.refuse_some(excess, *most):
            own = slice(ends[number], ends[number + 1])
            kept[own] &= ~witnesses.refuse_each(excess, number, more_latency[own], more_period[own])

    def _is_refused(self, rows: Rows) -> bool:
        """Ask the judge, quickly, about the best of all stages together; if it refuses, remember who bore witness."""
        services = self._best_services(rows)
        if not self._instance.surely_misses_slo(services):
            return False
        self._remember(services)
        return True

    def _remember(self, services: Mapping[str, StageService]) -> None:
        found = self._instance.witnesses(services, tuple(self._options))
        if found is not None:
            self._witnesses = [found, *self._witnesses[: _REMEMBERED - 1]]

    def _best_services(self, rows: Rows) -> dict[str, StageService]:
        starts = np.searchsorted(self._stage[rows], np.arange(len(self._options)))
        services = {}
        for own, first, (name, table) in zip(
            np.split(rows, starts[1:]), self._first, self._options.items(), strict=True
        ):
            options = own - first
            fastest = options[np.argmax(table.speed[options])]
            latency_ns = int(table.latency_ns[options].min())
            services[name] = StageService(
                latency_ns, int(table.period_ns[fastest]), int(table.tokens[fastest])
            )
        return services

    def _judge(self, rows: Rows) -> None:
        """Put a single plan before the judge; if it keeps everything, only cheaper ones are looked for from now on."""
        chosen = dict(zip(self._options, (rows - self._first).tolist(), strict=True))
        selection = {name: int(self._number[name][option]) for name, option in chosen.items()}
        if not self._is_allowed(selection):
            return
        services = {name: self._options[name].service(option) for name, option in chosen.items()}
        if self._instance.keeps_slo(services):
            self._best = selection
            self._near = rows
            self._most = int(self._cost[rows].sum()) - self._step
        else:
            self._remember(services)

    def _halves(self, rows: Rows, prices: Prices) -> tuple[Rows, Rows]:
        """Halve, by cost, the options of the stage that decides most about the latency; last, what to look at first."""
        stage = self._weightiest(rows, prices)
        own = self._stage[rows] == stage
        options = rows[own]
        options = options[np.argsort(self._cost[options], kind="stable")]
        cost = self._cost[options]
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

    def _weightiest(self, rows: Rows, prices: Prices) -> int:
        """Stage with more than one option where the one of least reduced cost costs the witnesses most latency."""
        starts = np.searchsorted(self._stage[rows], np.arange(len(self._options)))
        sizes = np.diff(np.append(starts, rows.size))
        weights = sizes.astype(np.float64)
        if self._witnesses:
            latency, period = self._least(rows)
            usual = np.array(
                [own[np.argmin(prices.reduced[own])] for own in np.split(rows, starts[1:])], dtype=np.int64
            )
            weights = self._witnesses[0].burdens_ns(
                self._latency[usual] - latency, self._period[usual] - period
            )
        return int(np.argmax(np.where(sizes > 1, weights, -1.0)))
