"""Making feasible selections cheaper, one activity at a time, and finding some to begin with."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations.arrays import BoolArray, IntArray
from mipplan_formulations.extents import breakable_paths
from mipplan_formulations.networks import END, START, Network, join_paths
from mipplan_formulations.problem import TimeCostProblem

_NEVER = -(2**60)
"""A time that nothing has."""

_PRICE_STEPS = 24
_HIGHEST_PRICE = 2.0**20

_BLENDS = (0.0, 0.01, 0.1, 0.5)
"""Shares of plain time in the prices tried."""

_HEIGHTS = 20

_PROMISING = 8
"""So many of what the prices lead to are made cheaper: the cheapest."""


@dataclass(frozen=True, eq=False)
class Clocks:
    """Longest times through the network of paths for one selection.

    Attributes
    ----------
    early, late : list of int
        Until each node is reached, without a wait and with one.
    to_go, to_go_waiting : list of int
        From each node to the end, without a wait and with one.
    """

    early: list[int]
    late: list[int]
    to_go: list[int]
    to_go_waiting: list[int]


class Improver:
    """Judges single exchanges of modes in a problem."""

    def __init__(self, problem: TimeCostProblem) -> None:
        self._problem = problem
        paths = [problem.paths[p] for p, _ in breakable_paths(problem)]
        self._network = join_paths(problem, paths) if paths else Network(0, ())
        self._edges_of: list[list[int]] = [[] for _ in problem.activities]
        for number, edge in enumerate(self._network.edges):
            self._edges_of[edge.activity].append(number)

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
        if self._network.edges and self._clocks(selection).to_go_waiting[START] > problem.deadline:
            return False
        used = sum(
            (a.usage[o] for a, o in zip(problem.activities, selection, strict=True)),
            start=np.zeros(len(problem.resources), dtype=np.int64),
        )
        within = all(amount <= r.capacity for amount, r in zip(used.tolist(), problem.resources, strict=True))
        return within and all(cover.is_met(selection) for cover in problem.covers)

    def round_up(self, penalties: Sequence[NDArray[np.float64]]) -> tuple[int, ...] | None:
        """Find a feasible selection by what delay costs; None if none is found.

        Parameters
        ----------
        penalties : sequence of float64 arrays
            Per activity and mode, what its times cost at the prices of a relaxation (up to a constant per activity).
            They are multiplied by more and more until the selection of least total is feasible.
        """
        best: tuple[int, ...] | None = None
        low, high = 1.0, _HIGHEST_PRICE
        for step in range(_PRICE_STEPS):
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
        edges, nodes = self._network.edges, self._network.num_nodes
        durations = [int(a.duration[o]) for a, o in zip(self._problem.activities, chosen, strict=True)]
        early, late = [_NEVER] * nodes, [_NEVER] * nodes
        to_go, waiting = [_NEVER] * (nodes + 1), [_NEVER] * (nodes + 1)  # the last stands for the end
        to_go[END] = 0
        if nodes:
            early[START] = 0
        for edge in edges:
            if edge.head != END:
                spent = edge.lag + durations[edge.activity]
                wait = int(edge.waits[chosen[edge.activity]])
                early[edge.head] = max(early[edge.head], early[edge.tail] + spent)
                late[edge.head] = max(
                    late[edge.head], late[edge.tail] + spent, early[edge.tail] + spent + wait
                )
        for edge in reversed(edges):
            spent = edge.lag + durations[edge.activity]
            wait = int(edge.waits[chosen[edge.activity]])
            to_go[edge.tail] = max(to_go[edge.tail], spent + to_go[edge.head])
            waiting[edge.tail] = max(
                waiting[edge.tail], spent + waiting[edge.head], spent + wait + to_go[edge.head]
            )
        return Clocks(early, late, to_go, waiting)

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

    def _allowed(self, v: int, chosen: Sequence[int], clocks: Clocks, modes: IntArray) -> BoolArray:
        problem = self._problem
        activity = problem.activities[v]
        allowed = np.ones(modes.size, dtype=np.bool_)
        for number in self._edges_of[v]:
            edge = self._network.edges[number]
            spent = edge.lag + activity.duration[modes]
            before, waited = clocks.early[edge.tail], clocks.late[edge.tail]
            after, waiting = clocks.to_go[edge.head], clocks.to_go_waiting[edge.head]
            longest = np.maximum(before + edge.waits[modes] + after, max(waited + after, before + waiting))
            allowed &= spent + longest <= problem.deadline
        if problem.resources:
            used = np.sum([a.usage[o] for a, o in zip(problem.activities, chosen, strict=True)], axis=0)
            used = used - activity.usage[chosen[v]] + activity.usage[modes]
            allowed &= (used <= np.array([r.capacity for r in problem.resources])).all(axis=1)
        for cover in problem.covers:
            elsewhere = any(marks[chosen[u]] for u, marks in cover.members if u != v)
            if not elsewhere:
                own = [marks[modes] for u, marks in cover.members if u == v]
                allowed &= own[0] if own else np.zeros(modes.size, dtype=np.bool_)
        return allowed


def suggest(
    problem: TimeCostProblem, excess: Sequence[NDArray[np.float64]], ends_at: float = math.inf
) -> Iterator[tuple[int, ...]]:
    """Yield feasible selections, made cheaper one exchange at a time, that the prices of a relaxation suggest.

    Prices say nothing about paths which the relaxation finds slack, so plain time is blended in. Nor do they say that
    a wait counts once: so heights are tried, above which nothing may wait, with a price on durations only.

    Parameters
    ----------
    problem : TimeCostProblem
    excess : sequence of float64 arrays
        Per activity and mode, its reduced cost up to a constant. What it has beyond the mode's cost is what the
        relaxation charges for its times.
    ends_at : float
        ``time.monotonic()`` value from which on what is there is given as it is.
    """
    improver = Improver(problem)
    activities = problem.activities
    priced = [own - activity.cost for own, activity in zip(excess, activities, strict=True)]
    waits = _longest_waits(problem)
    plain = [activity.duration + wait for activity, wait in zip(activities, waits, strict=True)]
    spans = [np.ptp(own[np.isfinite(own)]) for own in priced]
    price = max(float(span) / max(1, int(np.ptp(t))) for span, t in zip(spans, plain, strict=True))
    penalties = [[own + share * price * t for own, t in zip(priced, plain, strict=True)] for share in _BLENDS]
    penalties += [
        [
            np.where(wait <= height, price * activity.duration, np.inf)
            for activity, wait in zip(activities, waits, strict=True)
        ]
        for height in _heights(waits).tolist()
    ]
    found: dict[tuple[int, ...], int] = {}
    for own in penalties:
        selection = improver.round_up(own)
        if selection is not None:
            found[selection] = sum(int(a.cost[o]) for a, o in zip(activities, selection, strict=True))
        if time.monotonic() > ends_at:
            break
    for selection in sorted(found, key=lambda selection: found[selection])[:_PROMISING]:
        yield selection if time.monotonic() > ends_at else improver.improve(selection)


def _heights(waits: Sequence[IntArray]) -> IntArray:
    """Some heights below which every activity has a mode."""
    lowest = max(int(own.min()) for own in waits)
    usable = np.unique(np.concatenate(waits))
    usable = usable[usable >= lowest]
    return usable[np.unique(np.linspace(0, usable.size - 1, _HEIGHTS).round().astype(np.int64))]


def _longest_waits(problem: TimeCostProblem) -> list[IntArray]:
    """Per activity and mode, the longest of its waits on any path."""
    waits = [np.zeros(activity.num_modes, dtype=np.int64) for activity in problem.activities]
    seen: set[tuple[int, int]] = set()
    for path in problem.paths:
        for v, own in zip(path.activities, path.waits, strict=True):
            if (v, id(own)) not in seen:
                seen.add((v, id(own)))
                np.maximum(waits[v], own, out=waits[v])
    return waits
