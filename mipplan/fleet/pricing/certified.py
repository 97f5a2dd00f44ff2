"""Pricing: the cheapest certified plan of one pipeline when devices have other prices.

The same exact method as `mipplan.planner.benders` (a relaxation, the certificate as oracle, cuts from what it refuses),
made for being asked again and again: multipliers, cuts and sharpened waits stay valid under all prices, so a later
request is mostly answered by a bound, or by judging a handful of choices. Choices are enumerated within the bound
instead of handed to a solver; where they are too many, the planner's own search takes over.

References
----------
Claim 1 of formulations/columns.md; J. N. Hooker, G. Ottosson, "Logic-based Benders decomposition", Math. Program. 96
(2003), doi:10.1007/s10107-003-0375-9.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mipplan.core import NO_DEADLINE, Bool, Deadline, Float64, Int64, LimitReachedError, SearchLimits
from mipplan.fleet.pricing.lagrange import PricedTables
from mipplan.fleet.pricing.tables import Caps, PricingParams, PricingState, Refused, make_tables
from mipplan.fleet.problem import Column
from mipplan.planner import (
    Candidates,
    CertificateOracle,
    Instance,
    PlanSearch,
    SearchMethod,
    TooManyError,
)
from mipplan.result import Limit


@dataclass(frozen=True)
class Priced:
    """The answer to one pricing request.

    The column is a plan that attains the bound; there is none if it costs more than the caller has use for. Where all
    plans within a cost were asked for, the columns are these.
    """

    lower_bound: int  # no certified plan costs less under these prices
    columns: tuple[Column, ...] = ()
    feasible: bool = True  # False: there is no certified plan at all, whatever the prices
    complete: bool = True  # False: all plans were asked for, and there are too many

    @classmethod
    def of_any(cls, several: Sequence[Priced], *, wants_all: bool) -> Priced:
        """The answer for a pipeline with these alternatives: of the cheapest one, or with the plans of all."""
        possible = [one for one in several if one.feasible]
        if not possible:
            return cls(0, feasible=False)
        every = tuple(column for one in possible for column in one.columns)
        if wants_all:
            return cls(0, every, complete=all(one.complete for one in possible))
        least = min(possible, key=lambda one: (one.lower_bound, not one.columns))
        return replace(least, columns=least.columns or every)  # where time was short, others may have plans


@dataclass(eq=False)
class PricingProblem:
    """One pipeline, ready to be priced: its options, waits and oracle, and what was learnt about it.

    `make_instance` realises the pipeline's request. It is called whenever the certificate is needed and the instance is
    not at hand. Devices are counted in the order of `hardware`.
    """

    make_instance: Callable[[], Instance]
    hardware: tuple[str, ...]
    state: PricingState = field(default_factory=PricingState)
    params: PricingParams = field(default_factory=PricingParams)
    # After it answers are not looked for any more: `LimitReachedError` is raised.
    deadline: Deadline = NO_DEADLINE

    def __post_init__(self) -> None:
        self._instance: Instance | None = None
        instance = self.instance
        self.tokens = _trace_oracle(instance).tokens
        self._limits = np.array(
            [instance.limits.get(name, np.iinfo(np.int64).max) for name in self.hardware], dtype=np.int64
        )
        #: Whether there is no certified plan at all, whatever the prices are.
        self.hopeless = not instance.has_options
        if not self.hopeless:
            self._tables = make_tables(instance, self.hardware, self._caps(), self.params, self.deadline)
            options = self._tables.options
            self.hopeless = (
                not all(table.count for table in options.values())
                or not self._tables.may_keep_caps
                or not instance.keeps_slo({stage: table.ideal() for stage, table in options.items()})
            )

    def price(self, prices: Int64, most: int | None) -> Priced:
        """Find the cheapest certified plan under prices of one device of each type, shape (H,), not negative.

        Only plans that cost at most `most` are of interest: if there is none, the lower bound is above it.

        Whether limits bind a pipeline alone is mostly not the question, and without them fewer options matter. So they
        are left out at first, which can only make plans cheaper. Where a range of replicas is chosen, it is spelt out.
        """
        if self.hopeless:
            return Priced(0, feasible=False)
        firm = False
        while True:
            priced, ranges = self._price_once(self._priced_tables(prices, firm=firm), most)
            if ranges:
                self._spell_out(ranges)
            elif firm or all(np.all(np.array(column.devices) <= self._limits) for column in priced.columns):
                return priced
            else:
                firm = True

    def price_all(self, prices: Int64, most: int) -> Priced:
        """Find all certified plans that cost at most `most` under `prices`.

        Left out are plans that another one beats or equals in devices of every type: whatever the prices are, they
        are of no use.
        """
        if self.hopeless:
            return Priced(0, feasible=False)
        while True:
            tables = self._priced_tables(prices, firm=True)
            try:
                picks = self._all_within(tables, most)
            except TooManyError:
                return Priced(0, complete=False)
            ranges = next(filter(None, (self._ranges(prices, pick) for pick in picks)), None)
            if ranges is None:
                # A range that is too wide to be spelt out stands for plans that are not listed.
                rows = zip(self._tables.stages, np.transpose(picks), strict=True) if picks else ()
                complete = not any(table.is_range[chosen].any() for table, chosen in rows)
                columns = tuple(column for pick in picks for column in self._columns(pick))
                return Priced(0, columns, complete=complete)
            self._spell_out(ranges)

    def _price_once(self, tables: PricedTables, most: int | None) -> tuple[Priced, Mapping[str, int]]:
        """Answer, and say which ranges to spell out before the answer counts."""
        reach = self.params.first_reach
        while True:
            if most is not None and tables.bound > most:
                # No more than was asked for: how much higher the bound is depends on what was learnt before.
                return Priced(most + 1), {}
            goal = math.ceil(tables.bound * (1.0 + reach)) + 1
            if most is not None:
                goal = most if goal > most - (goal - tables.bound) // 4 else goal
            goal = min(goal, tables.dearest)
            try:
                found = self._cheapest_within(tables, goal)
            except TooManyError:
                return self._search(tables.prices, most)
            if found is not None:
                pick, cost = found
                return Priced(cost, self._columns(pick)), self._ranges(tables.prices, pick)
            if goal == tables.dearest:
                return Priced(0, feasible=False), {}  # nothing on offer is certified within the limits
            tables.raise_bound(goal + 1)
            reach *= self.params.reach_growth

    def _search(self, prices: Int64, most: int | None) -> tuple[Priced, Mapping[str, int]]:
        """Let the planner's own search answer; it counts devices, so no range of limited ones may be left."""
        ranges = {
            stage: int(np.flatnonzero(limited)[-1])
            for stage, table in zip(self._tables.names, self._tables.stages, strict=True)
            if (limited := table.is_range & table.options.limited).any()
        }
        if ranges:
            return Priced(0), ranges
        options = {
            stage: replace(table.options, cost=table.cost(prices))
            for stage, table in zip(self._tables.names, self._tables.stages, strict=True)
        }
        space = self.instance.space(options)
        limits = SearchLimits(self.deadline)
        outcome = PlanSearch(self.instance, space, SearchMethod("paths", limits=limits), budget=most).run()
        if not outcome.finished:  # at the deadline, or where its solver cannot tell costs apart
            raise KeyboardInterrupt if outcome.limit is Limit.INTERRUPT else LimitReachedError
        if outcome.best is None:
            return Priced(0 if most is None else most + 1, feasible=most is not None), {}
        pick = outcome.best.choice - space.first
        return Priced(outcome.best.cost, self._columns(pick)), self._ranges(prices, pick)

    def _cheapest_within(self, tables: PricedTables, most: int) -> tuple[Int64, int] | None:
        """Cheapest certified choice that costs at most `most`, and its cost; None if there is none."""
        found = self._candidates(tables, most)
        while found is not None and found.cost.size:
            self.deadline.check()
            pick = found.picks[0]
            if not self._is_accurate(pick):
                found = found.keep(self._may_be_accurate(found.picks, pick))
            elif (refused := self._refused(pick)) is not None:
                found = found.keep(~self._tables.is_refused(found.picks, refused))
            else:
                return pick, int(found.cost[0])
        return None

    def _all_within(self, tables: PricedTables, most: int) -> list[Int64]:
        """All certified choices of at most that cost, but for those that another one beats in every device."""
        found = self._candidates(tables, most, self.params.most_listed)
        if found is None:
            return []
        devices = self._tables.devices(found.picks, len(self.hardware))
        certified: list[Int64] = []
        for _ in range(self.params.most_judged):
            self.deadline.check()
            if not found.cost.size:
                return certified
            pick = found.picks[0]
            if not self._is_accurate(pick):
                kept = self._may_be_accurate(found.picks, pick)
            elif (refused := self._refused(pick)) is None:
                certified.append(pick)
                kept = (devices < devices[0]).any(axis=1)
            else:
                kept = ~self._tables.is_refused(found.picks, refused)
            found, devices = found.keep(kept), devices[kept]
        raise TooManyError

    def _candidates(self, tables: PricedTables, most: int, labels: int | None = None) -> Candidates | None:
        """Choices of at most that cost that nothing known rules out, the cheapest first."""
        parts = tables.parts(most, self._sharpen)
        self._keep(tables.multipliers)
        if parts is None:
            return None
        found = tables.choices(parts, most, labels)
        for refused in self.state.refused:
            found = found.keep(~self._tables.is_refused(found.picks, refused))
        return found

    def _is_accurate(self, pick: Int64) -> bool:
        """Whether a choice that keeps the caps has the accuracy asked for: shares of paths are no cap."""
        floor = self.instance.floor
        return floor is None or floor.is_kept(self._tables.configuration(pick))

    def _may_be_accurate(self, picks: Int64, refused: Int64) -> Bool:
        """Which choices meet what follows from one that is not accurate enough; shapes (k, stages) and (k,)."""
        floor, kept = self.instance.floor, np.zeros(len(picks), dtype=bool)
        assert floor is not None
        for place, better in floor.cover(self._tables.configuration(refused), self._tables.options).members:
            kept |= better[picks[:, place]]
        return kept

    def _refused(self, pick: Int64) -> Refused | None:
        """Ask the certificate; None if it keeps the deadline, else what is refused with this choice."""
        options = self._tables.options
        services = self._tables.services(pick)
        if self.instance.keeps_slo(services):
            return None
        (cut,) = self.instance.cuts(services, options, ((self._tables.names, True),))
        refused = []
        for stage, latency_ns, speed, passing in cut:
            table = options[stage]
            row = int(np.flatnonzero(table.speed == speed)[0])
            refused.append((stage, latency_ns, int(table.period_ns[row]), int(table.tokens[row]), passing))
        self.state = replace(self.state, refused=(*self.state.refused, tuple(refused)))
        return tuple(refused)

    def _columns(self, pick: Int64) -> tuple[Column, ...]:
        """The plan of a choice; none if the most replicas of a range, which it has, let too many tokens overtake."""
        made = self._tables.configuration(pick)
        if made.services != self._tables.services(pick) and not self.instance.keeps_slo(made.services):
            return ()
        return (Column.of(made, self.hardware),)

    def _priced_tables(self, prices: Int64, *, firm: bool) -> PricedTables:
        limits, known = self._limits if firm else None, np.array(self.state.multipliers)
        tables = PricedTables(self._tables, prices, limits, known, self.params)
        self._keep(tables.multipliers)
        return tables

    def _keep(self, multipliers: Float64) -> None:
        self.state = replace(self.state, multipliers=tuple(multipliers.tolist()))

    def _caps(self) -> Caps:
        """How many replicas of each family to spell out: as many as was learnt, else a first guess."""
        times, more = self.params.spelt_times, self.params.spelt_more
        return self.state.caps or {
            stage: tuple(min(family.most, times * family.fewest + more) for family in found.families)
            for stage, found in self.instance.families.items()
        }

    def _ranges(self, prices: Int64, pick: Int64) -> dict[str, int]:
        """Ranges in a choice that are worth spelling out: row of the table by stage."""
        ranges: dict[str, int] = {}
        for stage, table, row in zip(self._tables.names, self._tables.stages, pick.tolist(), strict=True):
            narrow = table.options.replicas[row] <= self.params.most_spelt
            # What costs nothing may be had in any number, unless too many let too many tokens overtake.
            matters = prices[table.device[row]] > 0 or bool(table.options.passing.size)
            if table.is_range[row] and narrow and matters:
                ranges[stage] = row
        return ranges

    def _spell_out(self, rows: Mapping[str, int]) -> None:
        """Spell out more replicas of the families whose ranges were chosen, up to what was chosen."""
        caps = dict(self._caps())
        for stage, row in rows.items():
            options = self._tables.options[stage]
            family = int(options.family[row])
            reached = list(caps[stage])
            reached[family] = max(reached[family], int(options.replicas[row]))
            caps[stage] = tuple(reached)
        self._retabulate(replace(self.state, caps=caps))

    def _retabulate(self, state: PricingState) -> None:
        """Tabulate anew from a fresh instance, so that tables do not depend on what the oracle has learnt."""
        self.state = state
        self.forget_instance()
        self._tables = make_tables(self.instance, self.hardware, self._caps(), self.params)

    def _sharpen(self, entry: int, rows: Int64) -> None:
        """Make waits exact where they may decide."""
        self.deadline.check()
        wait = self._tables.waits[entry]
        path, place = wait.use
        curve = self.instance.oracle.paths.paths[path].curves[place]
        wait.sharpen(self._tables.stages[wait.stage].options, rows, curve)

    @property
    def instance(self) -> Instance:
        """The pipeline's request, realised."""
        if self._instance is None:
            self._instance = self.make_instance()
        return self._instance

    def forget_instance(self) -> None:
        """Let go of the trace and all that was made of it; it comes back when needed."""
        self._instance = None

    def forget_exits(self) -> None:
        """Let go of what certificates were last computed from; the trace stays."""
        if self._instance is not None:
            _trace_oracle(self._instance).forget()

    def recall(self, state: PricingState) -> None:
        """Take on what was learnt elsewhere."""
        if dict(state.caps) != dict(self.state.caps):
            self._retabulate(state)
        self.state = state

    def __getstate__(self) -> dict[str, Any]:
        """Everything but the trace's tokens, which can be drawn again, and a moment on this clock."""
        return {**self.__dict__, "_instance": None, "deadline": NO_DEADLINE}


def _trace_oracle(instance: Instance) -> CertificateOracle:
    if not isinstance(instance.oracle, CertificateOracle):
        raise AssertionError("fleets are certified on their traces")
    return instance.oracle
