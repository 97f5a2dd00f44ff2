"""Whole units of activities that share a deadline: up to where every path keeps it, then down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mipplan_formulations import ScalingProblem
from mipplan_formulations.scaling_problem import topological_order


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
        self.timed = [v for v, demand in enumerate(problem.demands) if demand is not None]
        self._parts = _find_parts(problem, self.timed)
        self._known: dict[tuple[int, int], tuple[int, int]] = {}

    def times(self, v: int, units: int) -> tuple[int, int]:
        """Wait, and duration with the own time, of one activity."""
        found = self._known.get((v, units))
        if found is None:
            demand = self.problem.demands[v]
            assert demand is not None
            loads = zip(demand.offset.tolist(), demand.load.tolist(), strict=True)
            wait = max((-(-load // units) - offset for offset, load in loads), default=0)
            own = -(-demand.own_load // units)
            found = self._known[v, units] = (max(0, wait), own + self.problem.activities[v].duration)
        return found

    def spare(self, units: Sequence[int]) -> dict[int, int]:
        """For each activity with a demand how long it may make others wait, given all own times; perhaps negative."""
        spare: dict[int, int] = {}
        for part in self._unique_parts():
            spare.update(self._spare_within(part, units))
        return spare

    def is_kept(self, units: Sequence[int], around: int | None = None) -> bool:
        """Whether every path keeps its deadline; with `around` only those of activities joined with that one."""
        spare = self.spare(units) if around is None else self._spare_within(self._parts[around], units)
        return all(self.times(v, units[v])[0] <= time for v, time in spare.items())

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
        for part in self._unique_parts():
            while (lateness := self._lateness(part, chosen)) > 0:
                self._add_where_best(part, chosen, most, lateness)
        return chosen

    def _closed_form(self, units: Sequence[int], most: Sequence[int]) -> list[int] | None:
        chosen = list(units)
        for v, spare in self.spare(units).items():
            demand = self.problem.demands[v]
            assert demand is not None
            own = self.times(v, units[v])[1] - self.problem.activities[v].duration
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

    def _unique_parts(self) -> list[_Part]:
        return list({id(part): part for part in self._parts.values()}.values())

    def lowered(self, units: Sequence[int], floors: Sequence[int], weights: Sequence[int]) -> list[int]:
        """Take units away while every path keeps its deadline, those of the heaviest activity first."""
        chosen = list(units)
        for v in sorted(self.timed, key=lambda v: -weights[v]):
            while chosen[v] > floors[v]:
                chosen[v] -= 1
                if not self.is_kept(chosen, around=v):
                    chosen[v] += 1
                    break
        return chosen

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


def _find_parts(problem: ScalingProblem, timed: Sequence[int]) -> dict[int, _Part]:
    """Parts by activity. Those joined by arcs have one deadline, which the problem has checked."""
    root = {v: v for v in timed}

    def find(v: int) -> int:
        while root[v] != v:
            root[v] = root[root[v]]
            v = root[v]
        return v

    arcs = [(arc.tail, arc.head, arc.lag) for arc in problem.arcs if arc.tail in root]
    for tail, head, _ in arcs:
        root[find(tail)] = find(head)
    position = {v: i for i, v in enumerate(topological_order(len(problem.activities), problem.arcs))}
    parts = {v: _Part([], [], []) for v in timed if find(v) == v}
    for v in timed:
        parts[find(v)].members.append(v)
    for arc in sorted(arcs, key=lambda arc: position[arc[0]]):
        parts[find(arc[0])].forth.append(arc)
    for arc in sorted(arcs, key=lambda arc: -position[arc[1]]):
        parts[find(arc[0])].back.append(arc)
    return {v: parts[find(v)] for v in timed}
