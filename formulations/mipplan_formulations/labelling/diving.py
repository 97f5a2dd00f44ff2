"""Plans by diving: settle what stands out most by the prices of a dual ascent, ascend again, and so on to the end."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mipplan_formulations.labelling.ascent import DEFAULT, AscentParams, DualAscent
from mipplan_formulations.labelling.diagrams import Diagram, draw
from mipplan_formulations.labelling.lagrange import DualBound
from mipplan_formulations.linear import Float64, Int64
from mipplan_formulations.time_cost import Improver, TimeCostProblem, breakable_paths


@dataclass(frozen=True)
class DiveParams:
    """How much is settled at a time, and how far prices follow; measured on layered graphs of 100 stages."""

    passes: int = 10
    """Passes of the ascent between two steps."""
    share: float = 0.34
    """A third of the activities left is settled at a time."""


class PricedPaths:
    """A dual ascent on the paths of a problem that may miss the deadline, to be gone on with where modes are left out.

    Parameters
    ----------
    costs : sequence of int64 arrays, shape (modes,)
        Per activity, of its modes.
    routes : mapping of int to sequence of int
        Per path, by its number in the problem, its activities.
    diagrams : mapping of int to Diagram
        Per path, of the modes.
    prices : mapping of int to float64 array, shape (modes of all activities,)
        Per path, what it takes of the cost of each mode to begin with.
    params : AscentParams, optional
    """

    def __init__(
        self,
        costs: Sequence[Int64],
        routes: Mapping[int, Sequence[int]],
        diagrams: Mapping[int, Diagram],
        prices: Mapping[int, Float64],
        params: AscentParams = DEFAULT,
    ) -> None:
        self._costs, self._routes, self._diagrams, self._params = costs, routes, diagrams, params
        self.counts = [own.size for own in costs]
        self._ascent = DualAscent(
            costs, [*routes.values()], [diagrams[p] for p in routes], [prices[p] for p in routes], params
        )

    @classmethod
    def drawn(
        cls,
        problem: TimeCostProblem,
        prices: Mapping[int, Float64],
        ends_at: float = math.inf,
        params: AscentParams = DEFAULT,
    ) -> PricedPaths | None:
        """Draw the diagrams first; None if the ``time.monotonic()`` value comes before they are there."""
        diagrams, routes = dict[int, Diagram](), dict[int, Sequence[int]]()
        for number, path in breakable_paths(problem):
            if time.monotonic() > ends_at:
                return None
            diagrams[number], routes[number] = draw(problem, path, params.most_states), path.activities
        return cls([activity.cost for activity in problem.activities], routes, diagrams, prices, params)

    def climb(self, passes: int, ends_at: float = math.inf) -> tuple[DualBound, Float64]:
        """Some more passes; then what they say of the problem, and of each mode alone, as `DualAscent.guide` does."""
        self._ascent.ascend(passes, ends_at)
        return self._ascent.guide()

    def keep(self, kept: Sequence[Int64]) -> tuple[PricedPaths, list[Int64]] | None:
        """Go on with the modes kept, ascending per activity, less those with which a path has no walk any more.

        Prices stay. Returns the numbers of the modes left, too; None if an activity has none. Paths of which every
        choice of the modes left meets the deadline are left out.
        """
        kept, diagrams, changed = [*kept], dict(self._diagrams), set(range(len(kept)))
        while changed:
            todo = [number for number, route in self._routes.items() if not changed.isdisjoint(route)]
            changed = set()
            for number in todo:
                route = self._routes[number]
                diagrams[number] = self._diagrams[number].keep([kept[v] for v in route])
                for v, layer in zip(route, diagrams[number].children, strict=True):
                    possible = (layer >= 0).any(axis=0)
                    if not possible.all():
                        kept[v] = kept[v][possible]
                        changed.add(v)
                        if kept[v].size == 0:
                            return None
        starts = np.cumsum([0, *self.counts[:-1]])
        columns = np.concatenate([start + own for start, own in zip(starts, kept, strict=True)])
        routes = {p: route for p, route in self._routes.items() if not diagrams[p].is_free}
        prices = dict(zip(self._routes, (own[columns] for own in self._ascent.prices()), strict=True))
        costs = [cost[own] for cost, own in zip(self._costs, kept, strict=True)]
        return PricedPaths(costs, routes, diagrams, prices, self._params), kept


def dive(
    priced: PricedPaths,
    alone: Float64,
    improver: Improver,
    most: float = math.inf,
    ends_at: float = math.inf,
    params: DiveParams = DiveParams(),
) -> tuple[int, ...] | None:
    """Settle the activities whose best mode stands out most, go on with the ascent, and so on until all are settled.

    None where that leads nowhere, or the ``time.monotonic()`` value comes first. `alone`, shape (modes of all
    activities,), is what selections with each mode cost at least; what is found is made cheaper by the improver.
    """
    modes, share = [np.arange(count) for count in priced.counts], params.share
    while time.monotonic() <= ends_at:
        by_activity = np.split(alone, np.cumsum(priced.counts)[:-1])
        below = [np.flatnonzero(own < most) for own in by_activity]
        if not all(own.size for own in below):
            return None
        margins = [own.size > 1 and float(np.diff(np.partition(own, 1)[:2])[0]) for own in by_activity]
        open_ones = [v for v in np.argsort(margins)[::-1].tolist() if by_activity[v].size > 1]
        if not open_ones:
            found = [int(own[0]) for own in modes]
            return improver.improve(found) if improver.allows(found) else None
        settled = set(open_ones[: max(1, int(len(open_ones) * share))])
        step = priced.keep(
            [np.array([np.argmin(own)]) if v in settled else below[v] for v, own in enumerate(by_activity)]
        )
        if step is not None:
            fewer, kept = step
            guide, marginal = fewer.climb(params.passes, ends_at)
        if step is not None and not math.isinf(guide.bound):
            priced, alone = fewer, marginal
            modes = [before[own] for before, own in zip(modes, kept, strict=True)]
        elif len(settled) == 1:
            return None
        else:  # too many at once: together they miss a deadline
            share /= 2
    return None
