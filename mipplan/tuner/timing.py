"""Whole units of activities that share a deadline: up to where every path keeps it, then down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from mipplan_formulations import Arc, ScalingProblem
from mipplan_formulations.scaling import arcs_in_order, side_by_side


@dataclass(frozen=True)
class _Part:
    """Activities joined by arcs, with the arcs (tail, head, lag) in order forth and back."""

    members: list[int]
    forth: list[tuple[int, int, int]]
    back: list[tuple[int, int, int]]


class Timing:
    """Paths through the activities with a demand; times are looked up, not computed again."""

    def __init__(self, problem: ScalingProblem) -> None:
        self.problem = problem
        self._demands = side_by_side(problem.demands)
        self.timed = self._demands.activities
        self._durations = [activity.duration for activity in problem.activities]
        self._parts = _find_parts(len(problem.activities), problem.arcs, self.timed)
        self._part = {v: part for part in self._parts for v in part.members}
        self._known: dict[tuple[int, int], tuple[int, int]] = {}

    def times(self, v: int, units: int) -> tuple[int, int]:
        """Wait, and duration with the own time, of one activity."""
        found = self._known.get((v, units))
        if found is None:
            demand = self.problem.demands[v]
            assert demand is not None
            pairs = zip(demand.offset.tolist(), demand.load.tolist(), strict=True)
            wait = max((-(-load // units) - offset for offset, load in pairs), default=0)
            own = self._durations[v] - (-demand.own_load // units)
            found = self._known[v, units] = (max(0, wait), own)
        return found

    def spare(self, units: Sequence[int]) -> dict[int, int]:
        """For each activity with a demand how long it may make others wait, given all own times; perhaps negative."""
        spare: dict[int, int] = {}
        for part in self._parts:
            spare.update(self._spare_within(part, units))
        return spare

    def is_kept(self, units: Sequence[int]) -> bool:
        """Whether every path keeps its deadline."""
        self._look_up(units)
        return all(self.times(v, units[v])[0] <= time for v, time in self.spare(units).items())

    def raised(self, units: Sequence[int]) -> list[int] | None:
        """Units, at least those given, that keep every deadline; None if none that are allowed do.

        For the own times of these units the fewest units that keep the wait are known in closed form. More units
        shorten own times further, so the result is feasible. Where own times alone are too long, units are added one
        step after another, each where it takes most lateness per cost away.
        """
        most = [int(n) for n in self.problem.most]
        if not self.is_kept(most):
            return None  # times only fall with more units
        in_time = self._closed_form(units, most)
        if in_time is not None:
            return in_time
        chosen = list(units)
        for part in self._parts:
            while (lateness := self._lateness(part, chosen)) > 0:
                self._add_where_best(part, chosen, most, lateness)
        return chosen

    def _closed_form(self, units: Sequence[int], most: Sequence[int]) -> list[int] | None:
        chosen = list(units)
        for v, spare in self.spare(units).items():
            demand = self.problem.demands[v]
            assert demand is not None
            own = self.times(v, units[v])[1] - self._durations[v]
            needed = demand.units_for(spare, own)
            if needed is None or needed > most[v]:
                return None
            chosen[v] = max(chosen[v], needed)
        return chosen

    def _add_where_best(self, part: _Part, chosen: list[int], most: Sequence[int], lateness: int) -> None:
        """Take one step, of a unit or an eighth; of several steps that help the one that is worth most."""
        best: tuple[float, int, int] | None = None
        for v in part.members:
            before, more = chosen[v], min(most[v], chosen[v] + max(1, chosen[v] // 8))
            if more == before:
                continue
            chosen[v] = more
            gained = lateness - self._lateness(part, chosen)
            chosen[v] = before
            price = (self.problem.activities[v].cost + 1) * (more - before)
            if gained > 0 and (best is None or gained / price > best[0]):
                best = (gained / price, v, more)
        if best is not None:
            chosen[best[1]] = best[2]
        else:  # no single step shows in whole units of time, or two paths are late: all of them
            for v in part.members:
                chosen[v] = min(most[v], 2 * chosen[v])

    def _lateness(self, part: _Part, units: Sequence[int]) -> int:
        """Sum over activities of how much longer they make others wait than they may."""
        spare = self._spare_within(part, units)
        return sum(max(0, self.times(v, units[v])[0] - time) for v, time in spare.items())

    def lowered(self, units: Sequence[int], floors: Sequence[int], weights: Sequence[int]) -> list[int]:
        """Take units away while every path keeps its deadline, those of the heaviest activity first."""
        chosen = list(units)
        self._look_up(chosen, [n - 1 for n in chosen])
        spare = self.spare(chosen)
        for v in sorted(self.timed, key=lambda v: -weights[v]):
            while chosen[v] > floors[v]:
                if not self._take_one(v, chosen, spare):
                    break
        return chosen

    def _take_one(self, v: int, chosen: list[int], spare: dict[int, int]) -> bool:
        """Take a unit away if every path keeps its deadline without, and keep up what is spare; False if not."""
        wait, own = self.times(v, chosen[v] - 1)
        longer = own - self.times(v, chosen[v])[1]
        if wait > spare[v] - longer:
            return False
        if longer:
            part = self._part[v]
            left = self._spare_within(part, [*chosen[:v], chosen[v] - 1, *chosen[v + 1 :]])
            if any(self.times(u, chosen[u])[0] > time for u, time in left.items() if u != v):
                return False
            spare.update(left)
        chosen[v] -= 1
        return True

    def _look_up(self, *units: Sequence[int]) -> None:
        """Compute the times of some numbers of units for all activities at once."""
        chosen = np.maximum(1, np.array(units, dtype=np.int64)[:, self.timed])
        waits, owns = self._demands.times(chosen.T)
        for i, v in enumerate(self.timed):
            triples = zip(chosen[:, i].tolist(), waits[i].tolist(), owns[i].tolist(), strict=True)
            self._known.update({(v, n): (wait, own + self._durations[v]) for n, wait, own in triples})

    def _spare_within(self, part: _Part, units: Sequence[int]) -> dict[int, int]:
        own = {v: self.times(v, units[v])[1] for v in part.members}
        before, after = dict(own), dict(own)
        for tail, head, lag in part.forth:
            reached = before[tail] + lag + own[head]
            if reached > before[head]:
                before[head] = reached
        for tail, head, lag in part.back:
            reached = after[head] + lag + own[tail]
            if reached > after[tail]:
                after[tail] = reached
        deadline = self.problem.activities[part.members[0]].deadline
        return {v: deadline - (before[v] + after[v] - own[v]) for v in part.members}


@lru_cache(maxsize=8)
def _find_parts(count: int, arcs: tuple[Arc, ...], timed: tuple[int, ...]) -> tuple[_Part, ...]:
    """Parts of the last few problems: arcs are the same from one to the next.

    Activities joined by arcs have one deadline, which the problem has checked.
    """
    root = {v: v for v in timed}

    def find(v: int) -> int:
        while root[v] != v:
            root[v] = root[root[v]]
            v = root[v]
        return v

    forth, back = arcs_in_order(count, arcs)
    for arc in forth:
        if arc.tail in root:
            root[find(arc.tail)] = find(arc.head)
    parts = {v: _Part([], [], []) for v in timed if find(v) == v}
    for v in timed:
        parts[find(v)].members.append(v)
    for arc in forth:
        if arc.tail in root:
            parts[find(arc.tail)].forth.append((arc.tail, arc.head, arc.lag))
    for arc in back:
        if arc.head in root:
            parts[find(arc.head)].back.append((arc.tail, arc.head, arc.lag))
    return tuple(parts.values())
