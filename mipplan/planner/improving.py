"""Good plans early, for searches that will not end soon: tighter deadlines, and what is near the best plan.

**Aim.** A master keeps the deadline by a bound. That bound knows neither that waits at several stages add up nor, on
trees, that all paths together share the queries that may be late. So its optimum is mostly refused, and costs far less
than any certified plan. With a tighter deadline it is certified, and where the deadline is no tighter than that takes,
it is nearly as cheap as the best plan there is. That is found as a root is, by halving what lies between a deadline
that was too loose and one that was tight enough.

Nothing is proven by it: what a tighter deadline refuses may be certified all the same. Tried for proofs, and of no
use: to branch on how many queries may be late on each path. Masters that knew that shared number were still refused
where waits add up, after dozens of them.

**Neighbourhoods.** Of the best plan some stages are free to change, drawn at random, and the others stay. What is
cheaper is looked for by halving (`mipplan.planner.enumeration`), which ends soon there, since the stages that stay say
most of what a plan costs and takes. Where a few stages do not do, more are freed (variable neighbourhood search).
A stage whose option was given up is free in any case: no cheaper plan has that option.

References
----------
N. Mladenović, P. Hansen, "Variable neighborhood search", Computers & Operations Research 24 (1997),
doi:10.1016/S0305-0548(97)00031-2. P. Shaw, "Using constraint programming and local search methods to solve vehicle
routing problems", CP 1998, doi:10.1007/3-540-49481-2_30 (large neighbourhoods, searched exactly).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from mipplan.core import Deadline, Int64
from mipplan.planner.choices import ReducedCosts, SearchSpace
from mipplan.planner.cuts import QueryCuts
from mipplan.planner.enumeration import Enumeration
from mipplan.planner.instance import Instance
from mipplan_formulations import TimeCostProblem


@dataclass(frozen=True)
class AimParams:
    """How long good plans are looked for so, chosen on trees of 9 stages with 9 variants of each model."""

    masters: int = 8  # At most so many masters have a tighter deadline,
    share: float = 0.5  # for this share of the time left,
    least_gap: float = 0.02  # while the best plan costs more by this share than what is known to be refused.
    finest: float = 0.002  # Deadlines are told apart by this share.


class Aim:
    """By how many ns the next master's deadline is tightened: between what did not suffice and what did.

    It begins with a refused choice: by how much its certificate exceeds the deadline, and what it costs.
    """

    def __init__(self, excess_ns: int, cost: int, deadline_ns: int, params: AimParams) -> None:
        self._params, self._finest_ns = params, math.ceil(params.finest * deadline_ns)
        self._short_ns, self._enough_ns = 0, deadline_ns
        self._has_sufficed, self._masters, self._dearest_refused = False, -1, 0
        self.tighter_ns = 0
        self.was_short(excess_ns, cost)

    def was_short(self, excess_ns: int, cost: int) -> None:
        """Take in that this did not suffice: an optimum of that cost still exceeds the deadline by `excess_ns`."""
        self._masters, self._dearest_refused = self._masters + 1, max(self._dearest_refused, cost)
        self._short_ns, tried_ns = self.tighter_ns, self.tighter_ns
        self._halve()
        if not self._has_sufficed:
            self.tighter_ns = min(self.tighter_ns, tried_ns + max(excess_ns, self._finest_ns))

    def was_enough(self) -> None:
        """Take in that this sufficed, or that with it there is no plan, or none that is any better."""
        self._masters, self._has_sufficed = self._masters + 1, True
        self._enough_ns = self.tighter_ns
        self._halve()

    def is_done(self, best_cost: float, step: int) -> bool:
        """Whether hardly anything cheaper than the best plan is to be found; costs are multiples of `step`."""
        gap, least_gap = best_cost - self._dearest_refused, self._params.least_gap * self._dearest_refused
        is_found = self._enough_ns - self._short_ns <= self._finest_ns
        return is_found or self._masters >= self._params.masters or gap <= max(step, least_gap)

    def _halve(self) -> None:
        self.tighter_ns = (self._short_ns + self._enough_ns) // 2


@dataclass(frozen=True)
class NeighbourhoodParams:
    """How far from the best plan others are looked for, chosen on pipelines of 8 to 10 stages that merge."""

    fewest: int = 3  # So many stages are free at first,
    most: int = 5  # and so many at last.
    tries: int = 2  # Another one is freed once so many per stage, one after another, held nothing.
    sets: int = 100  # At most so many sets of choices are looked at in each.
    share: float = 0.25  # After a master this share of the time left may go there.
    seed: int = 0


class Neighbourhoods:
    """Looks for plans that differ at few stages from the best one, which is kept whatever ends the search.

    `master` returns the time-cost problem over some rows, with all that is known; costs are multiples of `step`.
    """

    def __init__(
        self,
        instance: Instance,
        space: SearchSpace,
        master: Callable[[Int64], TimeCostProblem],
        step: int,
        params: NeighbourhoodParams = NeighbourhoodParams(),
    ) -> None:
        self._instance, self._space, self._master, self._step = instance, space, master, step
        self._params = params
        self._rng = np.random.default_rng(params.seed)
        self._stages = len(space.tables)
        self._free, self._failed = min(params.fewest, self._stages), 0
        self.best: Int64 | None = None  # The cheapest plan found here.
        self._query_cuts: Sequence[QueryCuts] = ()

    def search(self, best: Int64, rows: Int64, rounds: int, deadline: Deadline) -> None:
        """Look around a plan, and around better ones, which choose from `rows`; farther with every round."""
        self.best, end = best, deadline.share(self._params.share)
        most = min(self._params.fewest + rounds, self._params.most, self._stages)
        while self._free <= most and not end.is_over:
            if self._is_better_near(self.best, rows, self._drawn(self.best, rows), end):
                self._failed = 0
            else:
                self._failed += 1
                if self._failed >= self._params.tries * self._stages:
                    self._free, self._failed = self._free + 1, 0

    def _drawn(self, best: Int64, rows: Int64) -> Int64:
        """Draw the stages that are free: those first whose row was given up, since no cheaper plan has it."""
        stays = np.flatnonzero(np.isin(best, rows))
        count = max(1, self._free - (self._stages - stays.size))
        drawn = self._rng.choice(stays, size=min(count, stays.size), replace=False)
        return np.setdiff1d(np.arange(self._stages), np.setdiff1d(stays, drawn))

    def _is_better_near(self, best: Int64, rows: Int64, free: Int64, end: Deadline) -> bool:
        """Look for a cheaper plan that differs from the best one at the free stages only; keep it if there is one."""
        space = self._space
        most = space.cost_of(best) - self._step
        near = np.union1d(rows[np.isin(space.stage[rows], free)], np.delete(best, free))
        affordable = space.affordable(near, space.cost, most)
        if affordable is None:
            return False
        cost = space.cost[affordable]
        least = np.minimum.reduceat(cost, np.searchsorted(affordable, space.first))
        reduced = np.zeros(space.size)
        reduced[affordable] = cost - least[space.stage[affordable]]
        enumeration = Enumeration(
            self._instance,
            space,
            self._master(affordable),
            affordable,
            None,
            ReducedCosts(float(least.sum()), reduced),
            most,
            self._step,
            near=best,
            query_cuts=self._query_cuts,
        )
        try:
            enumeration.halve(self._params.sets, end)
        finally:  # an interrupt, too, leaves what was found
            self._query_cuts = enumeration.query_cuts
            self.best = best if enumeration.best is None else enumeration.best
        return enumeration.best is not None
