"""Pricing: the cheapest certified plan of one pipeline when devices have other prices.

The same exact method as `mipplan.planner.benders` (a relaxation, the certificate as judge, cuts from what it refuses),
made for being asked again and again: multipliers, cuts and sharpened waits stay valid under all prices, so a later
question is mostly answered by a bound, or by judging a handful of choices. Choices are enumerated within the bound
instead of handed to a solver; where they are too many, the planner's own search takes over.

References
----------
Claim 1 of formulations/columns.md; J. N. Hooker, G. Ottosson, "Logic-based Benders decomposition", Math. Program. 96
(2003), doi:10.1007/s10107-003-0375-9.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mipplan.core import Int64
from mipplan.fleet.columns import Column, Priced
from mipplan.fleet.inquiry import Inquiry
from mipplan.fleet.knowledge import Knowledge
from mipplan.planner import PlanSearch, SearchMethod, SearchSpace, TooManyError

#: Without a plan in hand, costs are searched up to this share above the bound, then further.
_FIRST_STEP, _FURTHER = 0.01, 2.0
#: Ranges are spelt out up to so many replicas; a wider one stays a bound.
MOST_SPELT = 20_000


class Pricer(Knowledge):
    """One pipeline, ready to be priced."""

    def price(self, prices: Int64, most: int | None) -> Priced:
        """Find the cheapest certified plan under `prices`.

        Parameters
        ----------
        prices : int64, shape (H,)
            Of one device of each hardware type; not negative.
        most : int or None
            Only plans that cost at most this much are of interest.

        Returns
        -------
        Priced
            With a column if there is a plan of at most that cost; without, the lower bound is above `most`.
        """
        if self.hopeless:
            return Priced(0, feasible=False)
        priced = self._price_exactly(prices, most, firm=False)
        if all(map(self._keeps_limits, priced.columns)):
            return priced
        return self._price_exactly(prices, most, firm=True)

    def _price_exactly(self, prices: Int64, most: int | None, *, firm: bool) -> Priced:
        """Price, and where a range of replicas is chosen, spell it out and price again.

        Whether limits bind a pipeline alone is mostly not the question, and without them fewer options
        matter. So they are left out at first, which can only make plans cheaper (`firm` puts them in).
        """
        while True:
            priced, spelt = self._price_once(Inquiry(self, prices, firm=firm), most)
            if spelt is None:
                return priced
            self.spell_out(spelt)

    def price_all(self, prices: Int64, most: int) -> Priced:
        """Find all certified plans that cost at most `most` under `prices`.

        Left out are plans that another one beats or equals in devices of every type: whatever the prices are, they
        are of no use.
        """
        if self.hopeless:
            return Priced(0, feasible=False)
        while True:
            question = Inquiry(self, prices, firm=True)
            try:
                picks = question.all_within(most)
            except TooManyError:
                return Priced(0, complete=False)
            spelt = next((ranges for pick in picks if (ranges := self._ranges(question, pick))), None)
            if spelt is None:
                # A range that is too wide to be spelt out stands for plans that are not listed.
                complete = not any(self._has_range(pick) for pick in picks)
                return Priced(0, tuple(map(self.column_of, picks)), complete=complete)
            self.spell_out(spelt)

    def _keeps_limits(self, column: Column) -> bool:
        return bool(np.all(np.array(column.devices) <= self.limits))

    # ------------------------------------------------------------------------------------- one attempt

    def _price_once(self, question: Inquiry, most: int | None) -> tuple[Priced, Mapping[str, int] | None]:
        """Answer, and say which ranges to spell out before the answer counts (None: it does)."""
        reach = _FIRST_STEP
        while True:
            if most is not None and question.bound > most:
                # No more than was asked for: how much higher the bound is depends on what was learnt before.
                return Priced(most + 1), None
            goal = math.ceil(question.bound * (1.0 + reach)) + 1
            if most is not None:
                goal = most if goal > most - (goal - question.bound) // 4 else goal
            goal = min(goal, question.dearest)
            try:
                found = question.cheapest_within(goal)
            except TooManyError:
                return self._search(question, most)
            if found is not None:
                return self._answer(question, *found)
            if goal == question.dearest:
                return Priced(0, feasible=False), None  # nothing on offer is certified within the limits
            question.raise_bound(goal + 1)
            reach *= _FURTHER

    def _answer(self, question: Inquiry, pick: Int64, cost: int) -> tuple[Priced, Mapping[str, int] | None]:
        """Turn the cheapest choice into an answer; a range in it is spelt out first, unless it is a wide one."""
        ranges = self._ranges(question, pick)
        return Priced(cost, (self.column_of(pick),)), ranges or None

    def _ranges(self, question: Inquiry, pick: Int64) -> dict[str, int]:
        """Ranges in a choice that are worth spelling out: row of the table by stage."""
        ranges: dict[str, int] = {}
        for stage, table, row in zip(self.stages, self.required_tables.stages, pick.tolist(), strict=True):
            replicas = int(table.options.replicas[row])
            price = int(question.prices[table.device[row]])
            if table.charged[row] < replicas <= MOST_SPELT and price > 0:
                ranges[stage] = row
        return ranges

    def _has_range(self, pick: Int64) -> bool:
        tables = self.required_tables.stages
        return any(
            table.charged[row] < table.options.replicas[row]
            for table, row in zip(tables, pick.tolist(), strict=True)
        )

    def _search(self, question: Inquiry, most: int | None) -> tuple[Priced, Mapping[str, int] | None]:
        """Let the planner's own search answer; it counts devices, so no range of limited ones may be left."""
        ranges = {
            stage: int(np.flatnonzero(ranged)[-1])
            for stage, table in zip(self.stages, self.required_tables.stages, strict=True)
            if (ranged := (table.charged < table.options.replicas) & table.options.limited).any()
        }
        if ranges:
            return Priced(0), ranges
        options = {
            stage: replace(table.options, cost=question.prices[table.device] * table.charged)
            for stage, table in zip(self.stages, self.required_tables.stages, strict=True)
        }
        space = SearchSpace(options, self.instance.limits)
        outcome = PlanSearch(self.instance, space, SearchMethod("paths"), budget=most).run()
        if not outcome.finished:
            raise KeyboardInterrupt  # it has no other limit, and took the interrupt for one
        if outcome.best is None:
            return Priced(0 if most is None else most + 1, feasible=most is not None), None
        pick = outcome.best.choice - space.first
        return self._answer(question, pick, outcome.best.cost)
