"""Whole units of activities that share a deadline: up to where every path keeps it, then down."""

from __future__ import annotations

from collections.abc import Sequence

from mipplan_formulations import ScalingProblem
from mipplan_formulations.scaling_problem import topological_order


class Timing:
    """Paths through the activities with a demand; times are looked up, not computed again."""

    def __init__(self, problem: ScalingProblem) -> None:
        self.problem = problem
        self.timed = [v for v, demand in enumerate(problem.demands) if demand is not None]
        position = {v: i for i, v in enumerate(topological_order(len(problem.activities), problem.arcs))}
        timed = set(self.timed)
        arcs = [(arc.tail, arc.head, arc.lag) for arc in problem.arcs if arc.tail in timed]
        self._forth = sorted(arcs, key=lambda arc: position[arc[0]])
        self._back = sorted(arcs, key=lambda arc: -position[arc[1]])
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
        own = {v: self.times(v, units[v])[1] for v in self.timed}
        before, after = dict(own), dict(own)
        for tail, head, lag in self._forth:
            before[head] = max(before[head], before[tail] + lag + own[head])
        for tail, head, lag in self._back:
            after[tail] = max(after[tail], after[head] + lag + own[tail])
        return {v: self.problem.activities[v].deadline - (before[v] + after[v] - own[v]) for v in self.timed}

    def is_kept(self, units: Sequence[int]) -> bool:
        """Whether every path keeps its deadline."""
        return all(self.times(v, units[v])[0] <= spare for v, spare in self.spare(units).items())

    def raised(self, units: Sequence[int]) -> list[int] | None:
        """Units, at least those given, that keep every deadline: waits within what own times leave; None if none do.

        For the own times of these units the fewest units that keep the wait are known in closed form. More units
        shorten own times further, so the result is feasible.
        """
        chosen = list(units)
        for v, spare in self.spare(chosen).items():
            demand = self.problem.demands[v]
            assert demand is not None
            needed = demand.units_for(
                spare, self.times(v, chosen[v])[1] - self.problem.activities[v].duration
            )
            if needed is None or needed > int(self.problem.most[v]):
                return None
            chosen[v] = max(chosen[v], needed)
        return chosen

    def lowered(self, units: Sequence[int], floors: Sequence[int]) -> list[int]:
        """Take units away while every path keeps its deadline, the dearest first."""
        chosen = list(units)
        for v in sorted(self.timed, key=lambda v: -self.problem.activities[v].cost):
            while chosen[v] > floors[v]:
                chosen[v] -= 1
                if not self.is_kept(chosen):
                    chosen[v] += 1
                    break
        return chosen
