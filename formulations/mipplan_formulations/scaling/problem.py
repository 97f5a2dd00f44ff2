"""How many units of what it uses each activity of a project gets, modes fixed: the scaling problem.

Every activity has a number of identical units. More units cost more and make it faster: they shorten its wait and its
own time (`Demand`), or they are simply needed in a given number. Wanted are the numbers of units of least cost, changes
from the present numbers paid for, such that shared resources suffice, every path meets its deadline and every need is
met; or, where that cannot be, such that little is shed.

All data are integers, so that evaluation is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from mipplan_formulations.linear import (
    LARGEST_MAGNITUDE,
    Int64,
    check_number,
    overuse,
    raise_if_any,
    read_integers,
    repeated_names,
    set_integers,
)
from mipplan_formulations.scaling.demands import OWN, WAIT, Demand, side_by_side
from mipplan_formulations.time_cost import Arc, Resource, topological_order

WHOLE = 1000
"""Needs are in thousandths of a unit, what is shed in thousandths of the whole."""


@dataclass(frozen=True, eq=False)
class ScalingActivity:
    """What does not change from one problem to the next.

    Attributes
    ----------
    name : str
    cost : int
        Per unit.
    usage : int64 array, shape (r,)
        Per unit, of each of the problem's resources.
    group : int
        Index of the group it sheds with.
    duration : int
        Its time apart from what depends on the units.
    deadline : int
        For every path through it. Activities joined by arcs have the same.
    up_cost, down_cost : int
        Per unit added to, or removed from, those at present.
    """

    name: str
    cost: int
    usage: Int64 = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    group: int = 0
    duration: int = 0
    deadline: int = 0
    up_cost: int = 0
    down_cost: int = 0

    def __post_init__(self) -> None:
        place = f"activity {self.name!r}"
        faults: list[str] = [] if self.name else ["an activity needs a name"]
        for label in ("cost", "group", "duration", "deadline", "up_cost", "down_cost"):
            check_number(getattr(self, label), f"{place}: {label}", faults)
        set_integers(self, f"{place}: ", faults, usage=1)
        raise_if_any(faults)


@dataclass(frozen=True)
class Group:
    """Activities that shed together: a share of the whole that none of them serves.

    Attributes
    ----------
    name : str
    penalty : int or None
        Per thousandth shed; None if nothing may be shed.
    """

    name: str
    penalty: int | None = None

    def __post_init__(self) -> None:
        faults: list[str] = [] if self.name else ["a group needs a name"]
        if self.penalty is not None:
            check_number(self.penalty, f"group {self.name!r}: penalty", faults)
        raise_if_any(faults)


@dataclass(frozen=True)
class ScalingEvaluation:
    """What numbers of units come to.

    Attributes
    ----------
    cost : int
        Units, changes and what must be shed.
    shed : tuple of int
        Thousandths that each group must shed at least.
    feasible : bool
    violations : tuple of str
    """

    cost: int
    shed: tuple[int, ...]
    feasible: bool
    violations: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ScalingProblem:
    """Choose the number of units of every activity, at least cost.

    Raises `ValueError` naming every fault, one a line.

    Attributes
    ----------
    activities : tuple of ScalingActivity
    groups : tuple of Group
    resources : tuple of Resource
        Capacities for what all units use together. A budget is one of them.
    arcs : tuple of Arc
        Acyclic; with lags.
    need : int64 array, shape (v,)
        Units needed at least, in thousandths, of what is not shed: ``n·1000·1000 ≥ need·(1000 − shed)``.
    least, most : int64 arrays, shape (v,)
        Units allowed, whatever is shed: ``1 ≤ least ≤ most``. How fast units may be added or removed is part of them.
    present : int64 array, shape (v,)
        Units at present, which changes are counted from.
    demands : tuple of (Demand or None), length v
        Activities with a demand must meet their deadline on every path: lags, durations, own times and once the
        largest wait of an activity on it. Of activities joined by arcs all have a demand or none; with a demand their
        group sheds nothing.
    """

    activities: tuple[ScalingActivity, ...]
    groups: tuple[Group, ...]
    need: Int64
    least: Int64
    most: Int64
    present: Int64
    resources: tuple[Resource, ...] = ()
    arcs: tuple[Arc, ...] = ()
    demands: tuple[Demand | None, ...] = ()

    def __post_init__(self) -> None:
        if not self.demands:
            object.__setattr__(self, "demands", (None,) * len(self.activities))
        for name in ("activities", "groups", "resources", "arcs", "demands"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        faults: list[str] = []
        set_integers(self, "", faults, need=1, least=1, most=1, present=1)
        raise_if_any(faults or list(_find_faults(self)))

    @property
    def is_timed(self) -> tuple[bool, ...]:
        """Whether each activity has a demand."""
        return tuple(demand is not None for demand in self.demands)

    def within(self, least: Int64, most: Int64) -> ScalingProblem:
        """Return the same problem with other numbers of units allowed, which alone are checked again."""
        narrowed = copy(self)
        faults: list[str] = []
        for name, bound in (("least", least), ("most", most)):
            object.__setattr__(narrowed, name, read_integers(bound, 1, name, faults))
        raise_if_any(faults or [*_size_faults(narrowed)] or [*_range_faults(narrowed)])
        return narrowed

    def evaluate(self, units: Sequence[int]) -> ScalingEvaluation:
        """Judge numbers of units by plain integer arithmetic, shedding no more than they make necessary.

        Raises `ValueError` if there is not one number of at least 1 per activity.
        """
        chosen = [int(n) for n in units]
        if len(chosen) != len(self.activities) or min(chosen) < 1:
            raise ValueError(f"expected {len(self.activities)} numbers of at least 1")
        shed = self.least_shed(chosen)
        cost = sum(a.cost * n for a, n in zip(self.activities, chosen, strict=True))
        for activity, n, now in zip(self.activities, chosen, self.present.tolist(), strict=True):
            cost += activity.up_cost * max(0, n - now) + activity.down_cost * max(0, now - n)
        cost += sum((group.penalty or 0) * amount for group, amount in zip(self.groups, shed, strict=True))
        violations = tuple(self._violations(chosen, shed))
        return ScalingEvaluation(cost, shed, not violations, violations)

    def least_shed(self, units: Sequence[int]) -> tuple[int, ...]:
        """Least whole thousandths that each group must shed with these units: 0 to 1000."""
        shed = [0] * len(self.groups)
        for activity, n, need in zip(self.activities, units, self.need.tolist(), strict=True):
            if need > n * WHOLE:
                # need·(1000 − s) ≤ n·10⁶
                shed[activity.group] = max(shed[activity.group], WHOLE - n * WHOLE * WHOLE // need)
        return tuple(shed)

    def longest_paths(self, units: Sequence[int]) -> Int64:
        """Longest path through each activity, its own wait included, shape (v,); without a demand 0."""
        return self.path_times(units)[2]

    def path_times(self, units: Sequence[int]) -> tuple[list[int], list[int], Int64]:
        """Longest paths per activity: up to its end, from its start on, and through it with its wait."""
        count = len(self.activities)
        demands = side_by_side(self.demands)
        timed = list(demands.activities)
        times = demands.times(np.array(units, dtype=np.int64)[timed, None])[:, :, 0]
        own = np.zeros(count, dtype=np.int64)
        own[timed] = times[OWN] + [self.activities[v].duration for v in timed]
        alone: list[int] = own.tolist()
        before, after = alone.copy(), alone.copy()
        arcs = _arcs_in_order(count, self.arcs)
        for arc in arcs:
            before[arc.head] = max(before[arc.head], before[arc.tail] + arc.lag + alone[arc.head])
        for arc in reversed(arcs):
            after[arc.tail] = max(after[arc.tail], after[arc.head] + arc.lag + alone[arc.tail])
        through = np.zeros(count, dtype=np.int64)
        through[timed] = (np.array(before, dtype=np.int64) + after - own)[timed] + times[WAIT]
        return before, after, through

    def _violations(self, units: Sequence[int], shed: Sequence[int]) -> Iterator[str]:
        ranges = zip(self.activities, units, self.least.tolist(), self.most.tolist(), strict=True)
        used = [0] * len(self.resources)
        for activity, n, low, high in ranges:
            used = [so_far + each * n for so_far, each in zip(used, activity.usage.tolist(), strict=True)]
            if not low <= n <= high:
                yield f"activity {activity.name!r}: {n} units, allowed are {low} to {high}"
        yield from overuse(self.resources, used)
        for group, amount in zip(self.groups, shed, strict=True):
            if amount > 0 and group.penalty is None:
                yield f"group {group.name!r}: {amount} thousandths shed, none may be"
        if any(self.is_timed):
            for activity, length in zip(self.activities, self.longest_paths(units).tolist(), strict=True):
                if length > activity.deadline:
                    yield f"activity {activity.name!r}: a path of {length} exceeds the deadline {activity.deadline}"


@lru_cache(maxsize=8)
def _arcs_in_order(count: int, arcs: tuple[Arc, ...]) -> tuple[Arc, ...]:
    """Acyclic arcs, those that lead to a tail before those that leave it."""
    place = {v: i for i, v in enumerate(topological_order(count, arcs))}
    return tuple(sorted(arcs, key=lambda arc: place[arc.tail]))


def _find_faults(problem: ScalingProblem) -> Iterator[str]:
    if not problem.activities:
        yield "a problem needs at least one activity"
    yield from repeated_names("activity", problem.activities)
    yield from repeated_names("group", problem.groups)
    yield from repeated_names("resource", problem.resources)
    wrong = [*_size_faults(problem)]
    yield from wrong
    if wrong:
        return
    yield from _range_faults(problem)
    if np.any(problem.need > LARGEST_MAGNITUDE // (WHOLE * WHOLE)):
        yield "need: too large"
    for activity in problem.activities:
        if not activity.group < len(problem.groups):
            yield f"activity {activity.name!r}: there is no group {activity.group}"
        if activity.usage.size != len(problem.resources):
            used, there = activity.usage.size, len(problem.resources)
            yield f"activity {activity.name!r}: usage of {used} resources, there are {there}"
    count = len(problem.activities)
    for arc in problem.arcs:
        if arc.lag < 0:
            yield f"arc {arc.tail} -> {arc.head}: lag {arc.lag} is negative"
        if not (0 <= arc.tail < count and 0 <= arc.head < count):
            yield f"arc {arc.tail} -> {arc.head}: no such activity"
            return
        if problem.activities[arc.tail].deadline != problem.activities[arc.head].deadline:
            yield f"arc {arc.tail} -> {arc.head}: the deadlines differ"
        if (problem.demands[arc.tail] is None) != (problem.demands[arc.head] is None):
            yield f"arc {arc.tail} -> {arc.head}: only one end has a demand"
    if len(topological_order(count, problem.arcs)) < count:
        yield "the arcs contain a cycle"
    for activity, demand in zip(problem.activities, problem.demands, strict=True):
        may_shed = activity.group < len(problem.groups) and problem.groups[activity.group].penalty is not None
        if demand is not None and may_shed:
            yield f"activity {activity.name!r}: has a demand, so its group may shed nothing"


def _size_faults(problem: ScalingProblem) -> Iterator[str]:
    count = len(problem.activities)
    for name in ("need", "least", "most", "present", "demands"):
        if (size := len(getattr(problem, name))) != count:
            yield f"{name}: {size} entries for {count} activities"


def _range_faults(problem: ScalingProblem) -> Iterator[str]:
    if np.any(problem.least < 1) or np.any(problem.most < problem.least):
        yield "least and most: expected 1 <= least <= most"
