"""Making feasible selections cheaper, one activity at a time, and finding some to begin with."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mipplan_formulations.linear import Bool, Float64, Int64, thin_out
from mipplan_formulations.time_cost.dominance import distinct_waits
from mipplan_formulations.time_cost.networks import START, Clocks, PathEdge, breakable_network
from mipplan_formulations.time_cost.problem import TimeCostProblem


@dataclass(frozen=True)
class ImprovementParams:
    """How many selections are made of the prices of a relaxation, and how many of them are made cheaper."""

    price_steps: int = 24
    """At most this many prices are tried per penalty, because the interval of prices is halved each time."""
    highest_price: float = 2.0**20
    """The highest multiple of a penalty that is tried: where it is not enough, none is."""
    blends: tuple[float, ...] = (0.0, 0.01, 0.1, 0.5)
    """Shares of plain time in the prices tried, because prices say nothing about paths with slack."""
    heights: int = 20
    """At most this many heights are tried above which nothing may wait."""
    most_improved: int = 8
    """At most this many selections, the cheapest, are made cheaper, because that takes longer than finding them."""


DEFAULT = ImprovementParams()


class Improver:
    """Judges single exchanges of modes in a problem."""

    def __init__(self, problem: TimeCostProblem) -> None:
        self._problem = problem
        self._network = breakable_network(problem)
        self._capacities = np.array([resource.capacity for resource in problem.resources], dtype=np.int64)
        self._edges_of: list[list[PathEdge]] = [[] for _ in problem.activities]
        for edge in self._network.edges:
            self._edges_of[edge.activity].append(edge)

    def improve(self, selection: Sequence[int]) -> tuple[int, ...]:
        """Exchange the mode that saves most for as long as one saves anything; the selection must be feasible."""
        chosen = list(selection)
        clocks = self._clocks(chosen)
        savings = [self._best_saving(v, chosen, clocks) for v in range(len(chosen))]
        stale = False
        while True:
            v = int(np.argmax([saving for saving, _ in savings]))
            if savings[v][0] <= 0:
                if not stale:
                    return tuple(chosen)
                # what others have done may help, too: it may have freed a resource, or met a cover
                savings = [self._best_saving(u, chosen, clocks) for u in range(len(chosen))]
                stale = False
                continue
            # ... or have used up what this one needs
            savings[v] = self._best_saving(v, chosen, clocks)
            if savings[v][0] > 0 and savings[v][0] >= max(saving for saving, _ in savings):
                chosen[v] = savings[v][1]
                clocks = self._clocks(chosen)
                savings[v] = self._best_saving(v, chosen, clocks)
                stale = True

    def allows(self, selection: Sequence[int]) -> bool:
        """Whether a selection is feasible; faster than `TimeCostProblem.evaluate` where there are many paths."""
        problem = self._problem
        _, to_go_waiting = self._network.times_to_go(*self._network.times_spent(problem, selection))
        if to_go_waiting[START] > problem.deadline:
            return False
        within = np.all(problem.usage_of(selection) <= self._capacities)
        return bool(within) and all(cover.is_met(selection) for cover in problem.covers)

    def round_up(
        self, penalties: Sequence[Float64], params: ImprovementParams = DEFAULT
    ) -> tuple[int, ...] | None:
        """Find a feasible selection by what delay costs; None if none is found.

        Penalties are what the times of each mode cost at the prices of a relaxation, up to a constant per activity.
        They are multiplied by more and more until the selection of least total is feasible.
        """
        best: tuple[int, ...] | None = None
        low, high = 1.0, params.highest_price
        for step in range(params.price_steps):
            factor = high if step == 0 else float(np.sqrt(low * high))
            chosen = tuple(
                int(np.argmin(a.cost + factor * own))
                for a, own in zip(self._problem.activities, penalties, strict=True)
            )
            if self.allows(chosen):
                best, high = chosen, factor
            elif step == 0:
                return None
            else:
                low = factor
            if high < low * 1.001:
                break
        return best

    def _clocks(self, chosen: Sequence[int]) -> Clocks:
        return self._network.clocks(*self._network.times_spent(self._problem, chosen))

    def _best_saving(self, v: int, chosen: Sequence[int], clocks: Clocks) -> tuple[int, int]:
        activity = self._problem.activities[v]
        saving = int(activity.cost[chosen[v]]) - activity.cost
        worth = np.flatnonzero(saving > 0)
        if worth.size:
            worth = worth[self._allowed(v, chosen, clocks, worth)]
        if worth.size == 0:
            return 0, int(chosen[v])
        best = int(worth[np.argmax(saving[worth])])
        return int(saving[best]), best

    def _allowed(self, v: int, chosen: Sequence[int], clocks: Clocks, modes: Int64) -> Bool:
        problem = self._problem
        activity = problem.activities[v]
        allowed = np.ones(modes.size, dtype=np.bool_)
        for edge in self._edges_of[v]:
            allowed &= clocks.longest_through(edge, activity.duration)[modes] <= problem.deadline
        if problem.resources:
            used = problem.usage_of(chosen) - activity.usage[chosen[v]] + activity.usage[modes]
            allowed &= (used <= self._capacities).all(axis=1)
        for cover in problem.covers:
            if not any(marks[chosen[u]] for u, marks in cover.members if u != v):
                allowed &= dict(cover.members).get(v, np.zeros_like(activity.cost, dtype=np.bool_))[modes]
        return allowed


def suggest(
    problem: TimeCostProblem,
    excess: Sequence[Float64],
    ends_at: float = math.inf,
    params: ImprovementParams = DEFAULT,
) -> Iterator[tuple[int, ...]]:
    """Yield feasible selections, made cheaper one exchange at a time, that the prices of a relaxation suggest.

    Prices say nothing about paths which the relaxation finds slack, so plain time is blended in. Nor do they say that
    a wait counts once: so heights are tried, above which nothing may wait, with a price on durations only. The excess
    of a mode is its reduced cost up to a constant: what it has beyond the mode's cost is what the relaxation charges
    for its times. From the ``time.monotonic()`` value `ends_at` on, what is there is given as it is.
    """
    improver = Improver(problem)
    activities = problem.activities
    priced = [own - activity.cost for own, activity in zip(excess, activities, strict=True)]
    waits = [np.zeros_like(activity.duration) for activity in activities]  # the longest on any path
    for v, own_waits, _ in distinct_waits(problem):
        np.maximum(waits[v], own_waits, out=waits[v])
    plain = [activity.duration + wait for activity, wait in zip(activities, waits, strict=True)]
    spans = [np.ptp(own[np.isfinite(own)]) for own in priced]
    price = max(float(span) / max(1, int(np.ptp(t))) for span, t in zip(spans, plain, strict=True))
    penalties = [
        [own + share * price * t for own, t in zip(priced, plain, strict=True)] for share in params.blends
    ]
    # Below a height that is tried, every activity has a mode.
    lowest, usable = max(int(own.min()) for own in waits), np.unique(np.concatenate(waits))
    penalties += [
        [
            np.where(wait <= height, price * activity.duration, np.inf)
            for activity, wait in zip(activities, waits, strict=True)
        ]
        for height in thin_out(usable[usable >= lowest], params.heights).tolist()
    ]
    found: dict[tuple[int, ...], int] = {}
    for own in penalties:
        selection = improver.round_up(own, params)
        if selection is not None:
            found[selection] = problem.cost_of(selection)
        if time.monotonic() > ends_at:
            break
    for selection in sorted(found, key=found.__getitem__)[: params.most_improved]:
        yield selection if time.monotonic() > ends_at else improver.improve(selection)
