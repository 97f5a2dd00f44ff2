"""In which order activities are chosen on a network of paths, and what has to be remembered on the way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations.arrays import BoolArray, IntArray
from mipplan_formulations.extents import breakable_paths
from mipplan_formulations.networks import END, START, Edge, Network, join_paths
from mipplan_formulations.problem import TimeCostProblem

NEVER = -(2**60)
"""A time that nothing has."""


@dataclass(frozen=True)
class Layout:
    """Which column of a label's state holds what.

    Attributes
    ----------
    clocks : mapping of int to (int, int)
        Early and late column of every open node.
    used : mapping of int to int
        Column of every resource that may run out.
    unmet : mapping of int to int
        Column of every cover whose last member is still to come: 1 unless it is met.
    """

    clocks: dict[int, tuple[int, int]]
    used: dict[int, int]
    unmet: dict[int, int]

    @property
    def count(self) -> int:
        """Number of columns."""
        return 2 * len(self.clocks) + len(self.used) + len(self.unmet)


@dataclass(frozen=True, eq=False)
class Step:
    """The choice of one activity's mode.

    Attributes
    ----------
    activity : int
    modes : int64 array
        Those to choose from.
    edges : tuple of Edge
        Of the network, through this activity.
    before, after : Layout
    carried : tuple of (int, int)
        Columns that keep their value.
    used : tuple of (int, (int, int))
        Resource, column before and after.
    least_use : int64 array, shape (resources,)
        What the activities to come use at least.
    unmet : tuple of (int, int or None, bool array)
        Column of a cover before and after (None: this is its last chance) and its marks, for covers with the activity.
    cheapest_rest : int
        What the activities to come cost at least.
    """

    activity: int
    modes: IntArray
    edges: tuple[Edge, ...]
    before: Layout
    after: Layout
    carried: tuple[tuple[int, int], ...]
    used: tuple[tuple[int, tuple[int, int]], ...]
    least_use: IntArray
    unmet: tuple[tuple[int, int | None, BoolArray], ...]
    cheapest_rest: int


@dataclass(frozen=True, eq=False)
class Plan:
    """All steps, and what bounds the labels.

    Attributes
    ----------
    problem : TimeCostProblem
    steps : tuple of Step
    base : float
        No selection costs less.
    excess : tuple of float64 arrays
        Per activity and mode: by how much choosing it lifts that bound.
    to_go, to_go_waiting : list of int
        Least time from each node to the end along the longest walk, without a wait and with the least.
    """

    problem: TimeCostProblem
    steps: tuple[Step, ...]
    base: float
    excess: tuple[NDArray[np.float64], ...]
    to_go: list[int]
    to_go_waiting: list[int]

    def first_state(self) -> IntArray:
        """State before the first step, shape (1, columns)."""
        layout = self.steps[0].before
        state = np.zeros((1, layout.count), dtype=np.int64)
        for column in layout.unmet.values():
            state[0, column] = 1
        return state


def make_plan(
    problem: TimeCostProblem, base: float, excess: Sequence[NDArray[np.float64]], marked: Sequence[BoolArray]
) -> Plan:
    """Plan the choice among the marked modes, shape (modes,) per activity."""
    modes = [np.flatnonzero(rows) for rows in marked]
    paths = [problem.paths[p] for p, _ in breakable_paths(problem)]
    network = join_paths(problem, paths) if paths else Network(0, ())
    order = _order(problem)
    position = {v: i for i, v in enumerate(order)}
    layouts = [_layout(problem, network, position, i) for i in range(len(order) + 1)]
    costs = [int(problem.activities[v].cost[modes[v]].min()) for v in order]
    uses = [problem.activities[v].usage[modes[v]].min(axis=0) for v in order]
    steps = []
    for i, v in enumerate(order):
        steps.append(
            _step(
                problem,
                network,
                layouts[i],
                layouts[i + 1],
                v,
                modes[v],
                sum(costs[i + 1 :]),
                np.sum([np.zeros(len(problem.resources), dtype=np.int64), *uses[i + 1 :]], axis=0),
            )
        )
    to_go, waiting = _least_to_go(problem, network, modes)
    return Plan(problem, tuple(steps), base, tuple(excess), to_go, waiting)


def _order(problem: TimeCostProblem) -> list[int]:
    """An order of the arcs that goes on where it is, so that few nodes are open at a time."""
    following: list[list[int]] = [[] for _ in problem.activities]
    waiting = [0] * len(problem.activities)
    for arc in problem.arcs:
        following[arc.tail].append(arc.head)
        waiting[arc.head] += 1
    ready = [v for v in reversed(range(len(waiting))) if waiting[v] == 0]
    order = []
    while ready:
        order.append(ready.pop())
        for head in following[order[-1]]:
            waiting[head] -= 1
            if waiting[head] == 0:
                ready.append(head)
    return order


def _layout(problem: TimeCostProblem, network: Network, position: dict[int, int], done: int) -> Layout:
    """What has to be remembered once the first `done` activities are chosen."""
    entered = {e.head for e in network.edges if e.head != END and position[e.activity] < done}
    left = {e.tail for e in network.edges if e.tail != START and position[e.activity] >= done}
    clocks, column = {}, 0
    for node in sorted(entered & left):
        clocks[node] = (column, column + 1)
        column += 2
    used, unmet = {}, {}
    for r, resource in enumerate(problem.resources):
        if sum(int(a.usage[:, r].max()) for a in problem.activities) > resource.capacity:
            used[r] = column
            column += 1
    for k, cover in enumerate(problem.covers):
        if max(position[v] for v, _ in cover.members) >= done:
            unmet[k] = column
            column += 1
    return Layout(clocks, used, unmet)


def _step(
    problem: TimeCostProblem,
    network: Network,
    before: Layout,
    after: Layout,
    activity: int,
    modes: IntArray,
    cheapest_rest: int,
    least_use: IntArray,
) -> Step:
    marks = {k: dict(cover.members).get(activity) for k, cover in enumerate(problem.covers)}
    carried = [
        (old, new)
        for node, olds in before.clocks.items()
        if node in after.clocks
        for old, new in zip(olds, after.clocks[node], strict=True)
    ]
    carried += [
        (column, after.unmet[k])
        for k, column in before.unmet.items()
        if k in after.unmet and marks[k] is None
    ]
    concerned = [(k, own) for k, own in marks.items() if own is not None]
    return Step(
        activity,
        modes,
        tuple(edge for edge in network.edges if edge.activity == activity),
        before,
        after,
        tuple(carried),
        tuple((r, (column, after.used[r])) for r, column in before.used.items()),
        least_use,
        tuple((before.unmet[k], after.unmet.get(k), own) for k, own in concerned),
        cheapest_rest,
    )


def _least_to_go(
    problem: TimeCostProblem, network: Network, modes: Sequence[IntArray]
) -> tuple[list[int], list[int]]:
    to_go, waiting = [NEVER] * (network.num_nodes + 1), [NEVER] * (network.num_nodes + 1)
    to_go[END] = 0
    for edge in reversed(network.edges):
        own = modes[edge.activity]
        duration = problem.activities[edge.activity].duration[own]
        spent = edge.lag + int(duration.min())
        with_wait = edge.lag + int((duration + edge.waits[own]).min())
        to_go[edge.tail] = max(to_go[edge.tail], spent + to_go[edge.head])
        waiting[edge.tail] = max(waiting[edge.tail], spent + waiting[edge.head], with_wait + to_go[edge.head])
    return to_go, waiting
