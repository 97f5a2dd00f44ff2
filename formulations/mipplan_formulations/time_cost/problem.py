"""The discrete time-cost trade-off problem (deadline version) with a bottleneck term per path.

A project is a directed acyclic graph of *activities*. Each activity is carried out in one of several *modes*;
a mode has a cost, a duration and an amount used of every shared resource. Besides durations and arc lags,
every path carries a *wait*: the largest of the waits of the modes chosen along it. Wanted is the cheapest
choice of one mode per activity such that every path meets the deadline. All data are integers in whatever
units the caller likes, so that evaluation is exact.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from itertools import pairwise

import numpy as np

from mipplan_formulations.linear import (
    Bool,
    Int64,
    check_number,
    overuse,
    raise_if_any,
    read_integers,
    read_only,
    repeated_names,
    set_integers,
)

Lags = dict[tuple[int, int], tuple[int, int]]


@dataclass(frozen=True, eq=False)
class Activity:
    """Something to be carried out in exactly one of its modes.

    Raises `ValueError` naming every fault: not integers, negative or too large numbers, shapes that do not agree.

    Attributes
    ----------
    name : str
        Unique within the problem.
    cost, duration : int64 arrays, shape (m,)
        Of each mode, not negative; at least one mode.
    usage : int64 array, shape (m, r)
        Amount each mode takes of each of the problem's r resources, not negative. Left out: no resources.
    """

    name: str
    cost: Int64
    duration: Int64
    usage: Int64 = field(default_factory=lambda: np.zeros((0, 0), dtype=np.int64))

    def __post_init__(self) -> None:
        place = f"activity {self.name!r}"
        faults: list[str] = [] if self.name else ["an activity needs a name"]
        set_integers(self, f"{place}: ", faults, cost=1, duration=1)
        modes = self.cost.size
        if not np.size(self.usage):
            object.__setattr__(self, "usage", np.zeros((modes, 0), dtype=np.int64))
        set_integers(self, f"{place}: ", faults, usage=2)
        if modes == 0:
            faults.append(f"{place}: needs at least one mode")
        for label, rows in (("duration", self.duration.shape[0]), ("usage", self.usage.shape[0])):
            if rows != modes:
                faults.append(f"{place}: {label} has {rows} modes, cost has {modes}")
        raise_if_any(faults)

    @property
    def num_modes(self) -> int:
        """Number of modes."""
        return int(self.cost.size)


@dataclass(frozen=True)
class Arc:
    """A precedence: the head starts no earlier than `lag` (not negative) after the end of the tail.

    Attributes
    ----------
    tail, head : int
        Indices into the problem's activities.
    lag : int
    """

    tail: int
    head: int
    lag: int = 0


@dataclass(frozen=True, eq=False)
class Path:
    """A chain of activities that has to meet the deadline.

    Raises `ValueError` naming every fault.

    Attributes
    ----------
    activities : tuple of int
        Indices in order; consecutive activities are joined by an arc.
    lag : int
        Sum of the lags of the arcs along the path.
    waits : tuple of int64 arrays
        Per activity of the path, shape (its modes,): the wait if that mode is chosen, not negative. The largest of
        the chosen waits counts once for the whole path.
    """

    activities: tuple[int, ...]
    lag: int
    waits: tuple[Int64, ...]

    def __post_init__(self) -> None:
        activities = tuple(int(v) for v in self.activities)
        place = f"path {activities}"
        faults: list[str] = [] if activities else ["a path needs at least one activity"]
        if len(set(activities)) != len(activities):
            faults.append(f"{place}: an activity occurs twice")
        if len(self.waits) != len(activities):
            faults.append(f"{place}: {len(self.waits)} wait arrays for {len(activities)} activities")
        check_number(self.lag, f"{place}: lag", faults)
        waits = tuple(read_integers(w, 1, f"{place}: waits[{i}]", faults) for i, w in enumerate(self.waits))
        raise_if_any(faults)
        for name, value in (("activities", activities), ("lag", int(self.lag)), ("waits", waits)):
            object.__setattr__(self, name, value)

    @cached_property
    def least_wait(self) -> int:
        """What every choice of modes waits at least."""
        return max(int(waits.min()) for waits in self.waits)

    def wait_of(self, selection: Sequence[int]) -> int:
        """The largest of the chosen waits, for a mode index per activity of the problem."""
        return max(int(waits[selection[v]]) for v, waits in zip(self.activities, self.waits, strict=True))


@dataclass(frozen=True)
class Resource:
    """Something all activities share.

    Attributes
    ----------
    name : str
        Unique within the problem.
    capacity : int
        The most that the chosen modes may use together, not negative.
    """

    name: str
    capacity: int


@dataclass(frozen=True, eq=False)
class Cover:
    """At least one listed activity must be in one of its marked modes, as a logic-based Benders cut says.

    Raises `ValueError` naming every fault.

    Attributes
    ----------
    members : tuple of (int, bool array)
        Index of an activity, and for each of its modes whether it is marked. Where nothing is marked at all
        the problem is infeasible.
    """

    members: tuple[tuple[int, Bool], ...]

    def __post_init__(self) -> None:
        faults: list[str] = [] if self.members else ["a cover needs at least one member"]
        members = []
        for index, marked in self.members:
            array = np.asarray(marked)
            if array.dtype != np.bool_ or array.ndim != 1:
                faults.append(f"cover: the marks of activity {index} must be a one-dimensional bool array")
            members.append((int(index), read_only(array)))
        if len({index for index, _ in members}) != len(members):
            faults.append("cover: an activity is listed twice")
        raise_if_any(faults)
        object.__setattr__(self, "members", tuple(members))

    def is_met(self, selection: Sequence[int]) -> bool:
        """Tell whether the selection (a mode index per activity) has a listed activity in a marked mode."""
        return any(bool(marked[selection[index]]) for index, marked in self.members)


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a selection costs and whether it is allowed, in exact integers.

    Attributes
    ----------
    cost : int
        Sum of the costs of the chosen modes.
    makespan : int
        Largest path value; 0 for a problem without paths.
    usage : int64 array, shape (r,)
        Amount used of each resource.
    feasible : bool
        Deadline, capacities and covers are all kept.
    violations : tuple of str
        One sentence per constraint that is not kept; empty exactly if feasible.
    """

    cost: int
    makespan: int
    usage: Int64
    feasible: bool
    violations: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class TimeCostProblem:
    """Choose one mode per activity, at least cost, so that every path meets the deadline.

    Raises `ValueError` naming every fault, one a line.

    Attributes
    ----------
    activities : tuple of Activity
        At least one.
    arcs : tuple of Arc
        Acyclic. Parallel arcs are allowed.
    paths : tuple of Path
        The paths that must meet the deadline: ``lag + sum of durations + largest wait <= deadline``.
    deadline : int
    resources : tuple of Resource
    covers : tuple of Cover
    """

    activities: tuple[Activity, ...]
    arcs: tuple[Arc, ...]
    paths: tuple[Path, ...]
    deadline: int
    resources: tuple[Resource, ...] = ()
    covers: tuple[Cover, ...] = ()

    def __post_init__(self) -> None:
        for name in ("activities", "arcs", "paths", "resources", "covers"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        raise_if_any(_find_faults(self))

    def __repr__(self) -> str:
        return f"<TimeCostProblem: modes {self.mode_counts.tolist()}, paths {len(self.paths)}>"

    @property
    def mode_counts(self) -> Int64:
        """Number of modes of each activity."""
        return np.array([activity.num_modes for activity in self.activities], dtype=np.int64)

    @property
    def num_binaries(self) -> int:
        """Number of modes over all activities: the binaries of a formulation that has one per mode."""
        return sum(activity.num_modes for activity in self.activities)

    @property
    def most_used(self) -> list[int]:
        """Amount of each resource if every activity uses as much of it as it may."""
        most = [activity.usage.max(axis=0).tolist() for activity in self.activities]
        return [sum(uses) for uses in zip(*most, strict=True)]

    @cached_property
    def cost_step(self) -> int:
        """What the cost of every selection is a multiple of, at least 1."""
        return math.gcd(*(int(np.gcd.reduce(activity.cost)) for activity in self.activities)) or 1

    def next_cost(self, bound: float) -> int:
        """The least cost that a selection may have by a bound on it, which may be off by rounding."""
        return -(-math.ceil(bound - 1e-6 - 1e-9 * abs(bound)) // self.cost_step) * self.cost_step

    def cost_below(self, cost: int) -> int:
        """The most that a selection may cost which is cheaper."""
        return (cost - 1) // self.cost_step * self.cost_step

    def with_covers(self, *covers: Cover) -> TimeCostProblem:
        """Return this problem with further covers appended to those it has."""
        return replace(self, covers=(*self.covers, *covers))

    def path_value(self, path: Path, selection: Sequence[int]) -> int:
        """Lag, durations and the largest wait along one path, for a mode index per activity."""
        durations = sum(int(self.activities[v].duration[selection[v]]) for v in path.activities)
        return path.lag + durations + path.wait_of(selection)

    def cost_of(self, selection: Sequence[int]) -> int:
        """Sum of the costs of the chosen modes, for a mode index per activity."""
        return sum(int(a.cost[o]) for a, o in zip(self.activities, selection, strict=True))

    def usage_of(self, selection: Sequence[int]) -> Int64:
        """Amount the chosen modes use of each resource, shape (r,), for a mode index per activity."""
        none = np.zeros(len(self.resources), dtype=np.int64)
        return sum((a.usage[o] for a, o in zip(self.activities, selection, strict=True)), start=none)

    def modes_of(self, selection: Sequence[int]) -> tuple[int, ...]:
        """Return a selection as plain integers; `ValueError` unless it names one existing mode per activity."""
        chosen = tuple(int(mode) for mode in selection)
        if len(chosen) != len(self.activities):
            raise ValueError(f"the selection has {len(chosen)} modes for {len(self.activities)} activities")
        for activity, mode in zip(self.activities, chosen, strict=True):
            if not (modes := activity.num_modes) > mode >= 0:
                raise ValueError(f"activity {activity.name!r} has modes 0 to {modes - 1}, not {mode}")
        return chosen

    def evaluate(self, selection: Sequence[int]) -> Evaluation:
        """Judge a mode index per activity by plain integer arithmetic, independently of any formulation or solver.

        Raises `ValueError` if the selection does not name one existing mode per activity.
        """
        chosen = self.modes_of(selection)
        usage = self.usage_of(chosen)
        usage.flags.writeable = False
        makespan = max((self.path_value(path, chosen) for path in self.paths), default=0)
        late = makespan > self.deadline
        violations = [f"makespan {makespan} exceeds the deadline {self.deadline}"] if late else []
        violations += overuse(self.resources, usage)
        violations += [f"cover {k} is not met" for k, c in enumerate(self.covers) if not c.is_met(chosen)]
        return Evaluation(self.cost_of(chosen), makespan, usage, not violations, tuple(violations))


@lru_cache(maxsize=8)  # arcs are the same from one problem to the next
def topological_order(count: int, arcs: tuple[Arc, ...], *, depth_first: bool = False) -> tuple[int, ...]:
    """Activities, tails before heads; fewer than `count` if the arcs contain a cycle."""
    waiting = [0] * count
    heads: list[list[int]] = [[] for _ in range(count)]
    for arc in arcs:
        waiting[arc.head] += 1
        heads[arc.tail].append(arc.head)
    ready = deque(v for v in range(count) if waiting[v] == 0)
    if depth_first:  # the order goes on where it is, so that few branches are under way at a time
        ready.reverse()
    order: list[int] = []
    while ready:
        order.append(ready.pop() if depth_first else ready.popleft())
        for head in heads[order[-1]]:
            waiting[head] -= 1
            if waiting[head] == 0:
                ready.append(head)
    return tuple(order)


def _find_faults(problem: TimeCostProblem) -> list[str]:
    """What can be wrong with a problem whose parts are each valid on their own."""
    faults = [] if problem.activities else ["a problem needs at least one activity"]
    faults += repeated_names("activity", problem.activities)
    faults += repeated_names("resource", problem.resources)
    check_number(problem.deadline, "deadline", faults)
    for resource in problem.resources:
        check_number(resource.capacity, f"resource {resource.name!r}: capacity", faults)
    there = len(problem.resources)
    for activity in problem.activities:
        if (columns := activity.usage.shape[1]) != there:
            place = f"activity {activity.name!r}"
            faults.append(f"{place}: usage has {columns} columns, there are {there} resources")
    count, wrong = len(problem.activities), []
    for arc in problem.arcs:
        if not (0 <= arc.tail < count and 0 <= arc.head < count):
            wrong.append(f"arc {arc.tail} -> {arc.head}: no such activity")
        check_number(arc.lag, f"arc {arc.tail} -> {arc.head}: lag", wrong)
    if not wrong and len(topological_order(count, problem.arcs)) < count:
        wrong.append("the arcs contain a cycle")
    faults += wrong
    if not wrong:
        lags = lags_between(problem.arcs)
        for path in problem.paths:
            faults += _path_faults(problem, path, lags)
    for index, cover in enumerate(problem.covers):
        for v, marked in cover.members:
            faults += _array_faults(problem, v, marked, f"cover {index}")
    return faults


def _path_faults(problem: TimeCostProblem, path: Path, lags: Lags) -> Iterator[str]:
    place = f"path {path.activities}"
    for v, waits in zip(path.activities, path.waits, strict=True):
        yield from _array_faults(problem, v, waits, place)
    steps = list(pairwise(path.activities))
    if missing := [step for step in steps if step not in lags]:
        yield from (f"{place}: there is no arc {tail} -> {head}" for tail, head in missing)
        return
    least, greatest = (sum(lags[step][side] for step in steps) for side in (0, 1))
    if not least <= path.lag <= greatest:
        expected = f"{least}" if least == greatest else f"between {least} and {greatest}"
        yield f"{place}: lag {path.lag}, the arcs along it make {expected}"


def _array_faults(problem: TimeCostProblem, v: int, array: Int64 | Bool, place: str) -> Iterator[str]:
    if not 0 <= v < len(problem.activities):
        yield f"{place}: there is no activity {v}"
    elif array.size != (modes := problem.activities[v].num_modes):
        name = problem.activities[v].name
        yield f"{place}: {array.size} entries for activity {name!r}, which has {modes} modes"


def lags_between(arcs: Sequence[Arc]) -> Lags:
    """Least and greatest lag of the arcs from one activity to another (they differ for parallel arcs)."""
    lags: Lags = {}
    for arc in arcs:
        least, greatest = lags.get((arc.tail, arc.head), (arc.lag, arc.lag))
        lags[arc.tail, arc.head] = (min(least, arc.lag), max(greatest, arc.lag))
    return lags
