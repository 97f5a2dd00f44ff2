"""Prove that nothing cheaper is certified: list what costs little more than the bound, and halve what is left.

This is how most searches end. A certificate falls with every T and 1/R, and where queues are fifo with how many tokens
overtake, so a set of options per stage holds no certified plan if even the least of all, of every stage, are refused
together. What its plans cost at least follows from the linear relaxation of the master (`ReducedCosts`). So all choices
are listed up to costs that rise, and put before the oracle, the cheapest first: the first certified one is the
cheapest. Mostly the choices are few, because the bound is close: the linear relaxation drops them by their sum of
reduced costs, the master's own rows by their latency bound, in integers (`list_choices`). Where there are too many,
sets are halved, until they are refused, too dear, or so small that they can be listed. The half that holds the best
plan known comes first, else the cheaper one.

Most choices and sets are refused without the oracle, by queries that missed the deadline under others before: the
bounds on their latency are linear (`QueryCuts`), and also strike single options from the sets. What these do not refuse
and the oracle does, because too many tokens overtake, becomes a cut at once.

References
----------
A. H. Land, A. G. Doig, "An automatic method of solving discrete programming problems", Econometrica 28 (1960),
doi:10.2307/1910129.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mipplan.core import Bool, Deadline, Float64, Int64
from mipplan.planner.choices import (
    Bounds,
    Candidates,
    LpBound,
    PathPart,
    ReducedCosts,
    SearchSpace,
    StagePart,
    TooManyError,
    WalkParams,
    list_choices,
)
from mipplan.planner.cuts import Cut, QueryCuts, Services, cover_of
from mipplan.planner.instance import Instance
from mipplan_formulations import TimeCostProblem


@dataclass(frozen=True)
class EnumerationParams:
    """How far choices are listed and sets halved."""

    remembered: int = 12  # At most this many groups of query cuts are remembered.
    asked: int = 3  # Single options are held against this many of them, those that refused last.
    #: A set gets a new bound once at most this share of its options is left.
    bounded_anew: float = 0.5
    rise: float = 0.03  # The cost up to which choices are listed rises by this share of the bound at first.
    #: It rises twice as much each time that no more partial choices than this had to be kept.
    few: int = 1_000
    #: It rises half as much where more partial choices than this would have to be kept.
    most_listed: int = 100_000
    least_rise: float = 0.01  # It rises by no less than this share of the bound.
    #: Where the bound is close to nothing, this share of what plans may cost stands in for it.
    least_base: float = 0.02
    #: A set is listed rather than halved where no more partial choices than this have to be kept.
    listed: int = 3_000
    retried: float = 0.8  # If there were more, that is tried again with this share of the options.
    together: int = 2_000  # Listed choices are held against the query cuts in groups of at most this many.
    most_asked: int = 400  # At most this many choices of one list are put before the oracle.
    walk: WalkParams = field(default_factory=WalkParams)


@dataclass(frozen=True, eq=False)
class ChoiceSet:
    """All choices of some rows, ascending."""

    rows: Int64
    costs: ReducedCosts  # Of this set or of one that holds it.
    bounded: int  # How many rows that one has.
    tried: int  # With this many rows the set, or one that holds it, was too large to be listed.


class Enumeration:
    """Looks for certified plans that cost at most `most`, if another one is cheaper by at least `step`.

    The modes of the `master` stand for `rows`, ascending. `lp` is over these or more, if sets are to be bounded anew;
    `costs` are of all of them. Where a good choice `near` chooses from one half of a set, that half is looked at first.
    Listed choices are asked about in order of a `rank`, if any, else of cost.
    """

    def __init__(
        self,
        instance: Instance,
        space: SearchSpace,
        master: TimeCostProblem,
        rows: Int64,
        lp: LpBound | None,
        costs: ReducedCosts,
        most: int,
        step: int,
        *,
        near: Int64,
        proven: int = 0,
        query_cuts: Sequence[QueryCuts] = (),
        rank: Callable[[Int64], Float64] | None = None,
        params: EnumerationParams = EnumerationParams(),
    ) -> None:
        self._instance, self._space, self._master, self._lp = instance, space, master, lp
        self._rank = rank
        self._rows, self._params = space.by_stage(rows), params
        self._capacities = np.array([r.capacity for r in master.resources], dtype=np.int64)
        #: What each row takes of every resource, shape (N, resources).
        self._usage = np.zeros((space.size, self._capacities.size), dtype=np.int64)
        self._usage[rows] = np.concatenate([activity.usage for activity in master.activities])
        #: For each cover of the master, shape (covers, N), the rows any of which meets it.
        self._covers = np.zeros((len(master.covers), space.size), dtype=bool)
        for marked, cover in zip(self._covers, master.covers, strict=True):
            for stage, modes in cover.members:
                marked[self._rows[stage][modes]] = True
        self._labels = 0
        self._near, self._step = near, step
        self._pending = [ChoiceSet(rows, costs, rows.size, rows.size)]
        self.most = most  # what plans that are still looked for may cost, micro-dollars per hour
        self.proven = proven  # no certified plan costs less
        self.best: Int64 | None = None  # the cheapest plan found
        self.query_cuts = list(query_cuts)  # what refused last comes first
        self.cuts: list[Cut] = []  # of what queries could not tell: see `_learn`

    def raise_bound(self, deadline: Deadline) -> bool:
        """List all choices up to costs that rise, until one is certified, they are too many, or the time is up.

        Returns whether no plan is cheaper than the best one; False if that is not known.
        """
        params, (everything,) = self._params, self._pending
        bound, rise = everything.costs.bound, params.rise
        while not deadline.is_over:
            reach = max(rise * max(bound, params.least_base * self.most), self._step)
            goal = min(self.most, math.ceil(max(bound, self.proven - 1) + reach))
            goal -= goal % self._step  # there is nothing in between
            rows = self._affordable(everything.rows, everything.costs, goal)
            try:
                if rows is not None and self.is_listed(
                    rows, everything.costs, goal, params.most_listed, deadline
                ):
                    return True
            except TooManyError:
                if rise <= params.least_rise or reach <= self._step:
                    return False
                rise /= 2
                continue
            self.proven = max(self.proven, goal + self._step)
            if goal + self._step > self.most:
                return True
            if self._labels <= params.few:
                rise *= 2
        return False

    def is_listed(self, rows: Int64, costs: ReducedCosts, most: int, labels: int, deadline: Deadline) -> bool:
        """List choices of some rows; return whether a certified plan of at most that cost was found, the cheapest.

        Raises `TooManyError` if there are more partial choices, or too many complete ones to ask about, or
        the time is up.
        """
        found = self._listed(rows, costs, most, labels)
        self._labels = found.labels
        asked = 0
        for start in range(0, found.cost.size, self._params.together):
            picks = found.picks[start : start + self._params.together]
            picks = picks[self._not_refused(picks)]
            picks = picks[self._meets_covers(picks)]
            while len(picks):
                if deadline.is_over or asked >= self._params.most_asked:
                    raise TooManyError
                pick: Int64 = picks[0]
                picks = picks[1:]
                if not self._space.is_allowed(pick):
                    picks = picks[self._meets_refusal(pick, picks)]
                    continue
                asked, asked_before = asked + 1, len(self._covers)
                if self.is_certified(pick):
                    return True
                picks = picks[self._space.beats(picks, pick)]  # others are refused with it
                picks = picks[self._meets_covers(picks, asked_before)]
                picks = picks[self._not_refused(picks, 1)]
        return False

    def _listed(self, rows: Int64, costs: ReducedCosts, most: int, labels: int) -> Candidates:
        """All choices of some rows that keep the master, cost at most `most`, in order of cost."""
        by_stage = self._space.by_stage(rows)
        modes = [np.searchsorted(every, own) for every, own in zip(self._rows, by_stage, strict=True)]
        parts = [
            StagePart(own, a.cost[mode], costs.reduced[own], a.duration[mode], a.usage[mode])
            for own, mode, a in zip(by_stage, modes, self._master.activities, strict=True)
        ]
        paths = []
        for path in self._master.paths:
            waits = (w[modes[stage]] for stage, w in zip(path.activities, path.waits, strict=True))
            paths.append(PathPart(path.activities, path.lag, tuple(waits)))
        bounds = Bounds(self._master.deadline, most - costs.bound, most, self._capacities, labels)
        found = list_choices(parts, paths, bounds, self._params.walk)
        return found.keep(self._meets_covers(found.picks)).in_order(self._rank)

    def _meets_refusal(self, refused: Int64, picks: Int64) -> Bool:
        """Learn from a choice of too little accuracy; which others, shape (k, stages), meet what follows from it."""
        refusal, before = self._space.refusal(refused), len(self._covers)
        if refusal is not None:
            marked = np.zeros(self._space.size, dtype=bool)
            for stage, own in refusal.members:
                marked[self._space.first[stage] + np.flatnonzero(own)] = True
            self._covers = np.vstack([self._covers, marked])
        return self._meets_covers(picks, before)

    def _meets_covers(self, picks: Int64, since: int = 0) -> Bool:
        """Which choices, shape (k, stages), meet all covers, or those that came later than the first few."""
        kept = np.ones(len(picks), dtype=bool)
        for marked in self._covers[since:]:
            kept &= marked[picks].any(axis=1)
        return kept

    def halve(self, most_sets: int, deadline: Deadline) -> bool:
        """Look at this many more sets of choices at most, until the deadline.

        Returns whether no plan is cheaper than the best one; False if it stopped before that is known.
        """
        for _ in range(most_sets):
            if not self._pending or deadline.is_over:
                break
            # Only what is settled leaves the pile: an interrupt loses nothing.
            parts = self.parts_of(self._pending[-1], deadline)
            self._pending[-1:] = parts
        return not self._pending

    def parts_of(self, whole: ChoiceSet, deadline: Deadline) -> list[ChoiceSet]:
        """Return what is left to look at in a set, first what to look at last; nothing if it is settled."""
        rows = self._reduced(whole.rows, whole.costs)
        if rows is None or not self._covers[:, rows].any(axis=1).all() or self._is_hopeless(rows):
            return []
        costs, bounded, tried = whole.costs, whole.bounded, whole.tried
        if rows.size <= self._params.bounded_anew * bounded:
            found = None if self._lp is None else self._lp.within(rows)
            if found is not None:
                costs, bounded = found, rows.size
                rows = self._affordable(rows, costs, self.most)
                if rows is None:
                    return []
        if rows.size <= self._params.retried * tried:
            try:
                self.is_listed(rows, costs, self.most, self._params.listed, deadline)
            except TooManyError:
                tried = rows.size
            else:
                return []
        if rows.size == self._near.size:
            if self._space.is_allowed(rows):
                self.is_certified(rows)
            return []
        return [ChoiceSet(half, costs, bounded, tried) for half in self._halves(rows, costs)]

    def _reduced(self, rows: Int64, costs: ReducedCosts) -> Int64 | None:
        """Strike rows that are too dear, or refused whatever the other stages choose; None if nothing is left."""
        asked = len(self.query_cuts)
        while True:
            left = self._affordable(rows, costs, self.most)
            if left is None:
                return None
            least = self._least(left)
            if self._is_known_refused(*least, asked):
                return None
            kept = np.ones(left.size, dtype=bool)
            for cuts in self.query_cuts[: self._params.asked]:
                self._strike(left, kept, *least, cuts)
            if kept.all():
                return left
            rows = left[kept]
            # Striking raises what the others leave by little: what refuses now is mostly what struck.
            asked = self._params.asked

    def _affordable(self, rows: Int64, costs: ReducedCosts, most: int) -> Int64 | None:
        """Strike rows that make every plan too dear, by cost and by reduced cost, or take too much of a resource.

        None if nothing is left.
        """
        asked = [(self._space.cost, most), (costs.reduced, most - costs.bound)]
        asked += zip(self._usage.T, self._capacities.tolist(), strict=True)
        for values, room in asked:
            left = self._space.affordable(rows, values, room)
            if left is None:
                return None
            rows = left
        return rows

    def _least(self, rows: Int64) -> tuple[Float64, Float64]:
        """Least T and least 1/R of every stage, shape (stages,)."""
        starts = np.searchsorted(rows, self._space.first)
        latency, period = self._space.latency[rows], self._space.period[rows]
        return np.minimum.reduceat(latency, starts), np.minimum.reduceat(period, starts)

    def _strike(self, rows: Int64, kept: Bool, latency: Float64, period: Float64, cuts: QueryCuts) -> None:
        """Unmark in `kept` what these cuts refuse even where all other stages are at their least."""
        stage = self._space.stage[rows]
        more_latency = self._space.latency[rows] - latency[stage]
        more_period = self._space.period[rows] - period[stage]
        ends = np.append(np.searchsorted(rows, self._space.first), rows.size)
        excess = cuts.excess_ns(latency, period)
        most = (np.maximum.reduceat(more, ends[:-1]) for more in (more_latency, more_period))
        for number in cuts.refuse_some(excess, *most):
            own = slice(ends[number], ends[number + 1])
            kept[own] &= ~cuts.refuse_each(excess, number, more_latency[own], more_period[own])

    def _halves(self, rows: Int64, costs: ReducedCosts) -> tuple[Int64, Int64]:
        """Halve, by cost, the rows of the stage that decides most about the latency; last, what to look at first."""
        stage = self._weightiest(rows, costs)
        own = self._space.stage[rows] == stage
        options = rows[own]
        options = options[np.argsort(self._space.cost[options], kind="stable")]
        cost = self._space.cost[options]
        middle = options.size // 2
        # Options that cost the same stay together if that leaves two parts.
        first, end = (int(np.searchsorted(cost, cost[middle], side)) for side in ("left", "right"))
        middle = first or (end if end < options.size else middle)
        others = rows[~own]
        parts = options[:middle], options[middle:]
        cheaper, dearer = (np.sort(np.concatenate([others, part])) for part in parts)
        return (cheaper, dearer) if np.isin(self._near[stage], dearer) else (dearer, cheaper)

    def _weightiest(self, rows: Int64, costs: ReducedCosts) -> int:
        """Stage with more than one row where the one of least reduced cost makes queries wait longest."""
        by_stage = self._space.by_stage(rows)
        sizes = np.array([own.size for own in by_stage])
        weights = sizes.astype(np.float64)
        if self.query_cuts:
            latency, period = self._least(rows)
            usual = np.array([own[np.argmin(costs.reduced[own])] for own in by_stage], dtype=np.int64)
            weights = self.query_cuts[0].burdens_ns(
                self._space.latency[usual] - latency, self._space.period[usual] - period
            )
        return int(np.argmax(np.where(sizes > 1, weights, -1.0)))

    def is_certified(self, choice: Int64) -> bool:
        """Put one choice before the oracle: a certified plan is kept, of another one the queries that are late."""
        services = self._space.services(choice)
        if self._instance.oracle.exceeds(services, self._instance.deadline_ns):
            self._remember(services)
            return False
        self.best = self._near = choice  # only cheaper ones are looked for from now on
        self.most = self._space.cost_of(choice) - self._step
        return True

    def _is_hopeless(self, rows: Int64) -> bool:
        """Ask the oracle, quickly, about the best of all stages together; if it refuses, remember why."""
        services = self._space.ideal(rows)
        hopeless = self._instance.surely_misses_slo(services)
        if hopeless:
            self._remember(services)
        return hopeless

    def _remember(self, refused: Services) -> None:
        deadline_ns, stages = self._instance.deadline_ns, tuple(self._space.tables)
        found = self._instance.oracle.query_cuts(refused, deadline_ns, stages)
        if found is not None:
            self.query_cuts = [found, *self.query_cuts[: self._params.remembered - 1]]
        elif self._space.passing.size:
            self._learn(refused)

    def _learn(self, refused: Services) -> None:
        """Cut off what is refused together with services where overtaking decides: no query says why."""
        options, order = self._space.tables_of(np.concatenate(self._rows)), tuple(self._space.tables)
        for cut in self._instance.cuts(refused, options, ((order, True),)):
            marked = np.zeros(self._space.size, dtype=bool)
            # Refused even where all stages are ideal: there is no cut, and nothing that would meet it.
            for stage, beating in cover_of(cut, self._space.tables).members if cut else ():
                first = self._space.first[stage]
                marked[first : first + beating.size] = beating
            self.cuts += [cut] if cut else []
            self._covers = np.vstack([self._covers, marked])

    def _is_known_refused(self, latency: Float64, period: Float64, asked: int) -> bool:
        """Whether one of the first query cuts refuses services, shape (stages,); it moves to the front."""
        for place, cuts in enumerate(self.query_cuts[:asked]):
            if cuts.refuse(cuts.excess_ns(latency, period)):
                self.query_cuts.insert(0, self.query_cuts.pop(place))
                return True
        return False

    def _not_refused(self, choices: Int64, asked: int | None = None) -> Int64:
        """Places of the choices, shape (k, stages), that none of the first query cuts refuses, ascending."""
        left = np.arange(len(choices))
        for cuts in self.query_cuts[:asked]:
            if not left.size:
                break
            rows = choices[left]
            left = left[~cuts.refuse_many(self._space.latency[rows], self._space.period[rows])]
        return left
