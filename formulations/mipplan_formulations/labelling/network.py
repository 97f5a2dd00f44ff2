"""Labels on a network of paths: cost, two clocks per open node, what is used, and which conditions are unmet.

Activities are chosen one after the other in an order of the arcs. A node of the network is open while some paths
through it have yet to go on: its early clock shows when it is reached without a wait, its late clock with the largest
so far. Once the branches of a series-parallel part have come together, one node is open, and a label is (cost, T, W)
again.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from mipplan_formulations.labelling.lagrange import DualBound
from mipplan_formulations.labelling.search import (
    GapParams,
    GapSearch,
    LabelLimits,
    LabelPass,
    Labels,
    trace_back,
)
from mipplan_formulations.linear import Bool, Float64, Int64
from mipplan_formulations.time_cost import (
    END,
    NEVER,
    START,
    Improver,
    PathEdge,
    PathNetwork,
    TimeCostProblem,
    breakable_network,
    find_undominated,
    suggest,
)


@dataclass(frozen=True)
class NetworkParams(GapParams):
    """Numbers that tune the search on a network; the answer without limits does not depend on them."""

    most_children: int = 1 << 19
    """Labels are extended in portions that make at most this many numbers of their state."""
    most_labels: int = 20_000
    """At most this many labels stay, because comparing more in many columns takes longer than it is worth."""
    most_compared: int = 1000
    """A label is compared with at most this many, because with many columns few dominate each other."""
    screened: int = 4
    """At most this many times the labels that may stay are compared; the least promising of more go before."""


DEFAULT = NetworkParams()


class NetworkSearch(GapSearch):
    """The cheapest selection on a network of paths."""

    def __init__(
        self,
        problem: TimeCostProblem,
        guide: DualBound,
        limits: LabelLimits,
        gap: float = 0.0,
        cost: int | None = None,
        params: NetworkParams = DEFAULT,
    ) -> None:
        super().__init__(limits, gap, cost, params)
        self._problem, self._guide, self._params = problem, guide, params

    def _prepare(self) -> bool:
        problem, guide = self._problem, self._guide
        if math.isinf(guide.bound):
            return False
        self.bound = max(self.bound, math.ceil(guide.bound - 1e-6 - 1e-9 * abs(guide.bound)))
        for selection in suggest(problem, guide.excess, self.limits.ends_at):
            self.offer(problem.cost_of(selection), selection)
        return True

    def _dearest(self) -> int:
        return sum(int(activity.cost.max()) for activity in self._problem.activities)

    def _search(self, cutoff: int) -> LabelPass:
        limit = cutoff + 1e-9 * (abs(cutoff) + 1)
        marked = [self._guide.bound + own <= limit for own in self._guide.excess]
        if not all(rows.any() for rows in marked):
            return LabelPass(None, 0, True, 0)
        plan = make_plan(self._problem, self._guide, marked)
        found = search_network(plan, cutoff, self.limits, self._params)
        if found.selection is None or found.complete:
            return found
        better = Improver(self._problem).improve(found.selection)
        return LabelPass(better, self._problem.cost_of(better), False, found.labels)


@dataclass(frozen=True)
class _Layout:
    """Which column of a label's state holds what.

    Early and late clock of every open node; what is used of every resource that may run out; and, for every cover whose
    last member is still to come, 1 unless it is met.
    """

    clocks: dict[int, tuple[int, int]]
    used: dict[int, int]
    unmet: dict[int, int]

    @property
    def count(self) -> int:
        """Number of columns."""
        return 2 * len(self.clocks) + len(self.used) + len(self.unmet)


@dataclass(frozen=True, eq=False)
class _Step:
    """The choice of one activity's mode among those left, and what it does to the columns of a label's state."""

    activity: int
    modes: Int64
    edges: tuple[PathEdge, ...]
    before: _Layout
    after: _Layout
    carried: tuple[tuple[int, int], ...]
    """Columns before and after that keep their value."""
    used: tuple[tuple[int, tuple[int, int]], ...]
    """Resource, column before and after."""
    least_use: Int64
    """What the activities to come use at least, shape (resources,)."""
    unmet: tuple[tuple[int, int | None, Bool], ...]
    """Column before and after (None: this is the last chance) and marks of each cover with the activity."""
    cheapest_rest: int
    """What the activities to come cost at least."""


@dataclass(frozen=True, eq=False)
class _LabelPlan:
    """All steps, and what bounds the labels."""

    problem: TimeCostProblem
    steps: tuple[_Step, ...]
    guide: DualBound
    to_go: list[int]
    to_go_waiting: list[int]
    """Least time from each node to the end along the longest walk, without a wait and with the least one."""

    def first_state(self) -> Int64:
        """State before the first step, shape (1, columns)."""
        layout = self.steps[0].before
        state = np.zeros((1, layout.count), dtype=np.int64)
        for column in layout.unmet.values():
            state[0, column] = 1
        return state


def make_plan(problem: TimeCostProblem, guide: DualBound, marked: Sequence[Bool]) -> _LabelPlan:
    """Plan the choice among the marked modes, shape (modes,) per activity."""
    modes = [np.flatnonzero(rows) for rows in marked]
    network = breakable_network(problem)
    order = _order(problem)
    position = {v: i for i, v in enumerate(order)}
    layouts = [_layout(problem, network, position, i) for i in range(len(order) + 1)]
    costs = [int(problem.activities[v].cost[modes[v]].min()) for v in order]
    uses = [problem.activities[v].usage[modes[v]].min(axis=0) for v in order]
    none = np.zeros(len(problem.resources), dtype=np.int64)
    steps = []
    for i, v in enumerate(order):
        before, after = layouts[i], layouts[i + 1]
        marks = {k: dict(cover.members).get(v) for k, cover in enumerate(problem.covers)}
        step = _Step(
            activity=v,
            modes=modes[v],
            edges=tuple(edge for edge in network.edges if edge.activity == v),
            before=before,
            after=after,
            carried=tuple(_carried(before, after, [k for k, own in marks.items() if own is None])),
            used=tuple((r, (column, after.used[r])) for r, column in before.used.items()),
            least_use=np.sum([none, *uses[i + 1 :]], axis=0),
            unmet=tuple(
                (before.unmet[k], after.unmet.get(k), own) for k, own in marks.items() if own is not None
            ),
            cheapest_rest=sum(costs[i + 1 :]),
        )
        steps.append(step)
    spent, waited = [], []
    for edge in network.edges:
        duration = problem.activities[edge.activity].duration[modes[edge.activity]]
        spent.append(edge.lag + int(duration.min()))
        waited.append(edge.lag + int((duration + edge.waits[modes[edge.activity]]).min()))
    return _LabelPlan(problem, tuple(steps), guide, *network.times_to_go(spent, waited))


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


def _layout(problem: TimeCostProblem, network: PathNetwork, position: dict[int, int], done: int) -> _Layout:
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
    return _Layout(clocks, used, unmet)


def _carried(before: _Layout, after: _Layout, idle: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Columns of clocks of nodes that stay open, and of the idle covers, which do not have the activity."""
    for node, olds in before.clocks.items():
        if node in after.clocks:
            yield from zip(olds, after.clocks[node], strict=True)
    for k, column in before.unmet.items():
        if k in after.unmet and k in idle:
            yield column, after.unmet[k]


@dataclass(frozen=True, eq=False)
class _NetworkLabels(Labels):
    """Besides, by how much the modes chosen lift the bound, and the state: in each of its columns smaller is better."""

    excess: Float64
    state: Int64

    def most_promising(self, most: int) -> _NetworkLabels:
        """At most `most` labels, those that lift the bound least; the labels themselves if they are no more."""
        if self.cost.size <= most:
            return self
        return self.take(np.sort(np.argsort(self.excess, kind="stable")[:most]))


def search_network(plan: _LabelPlan, cutoff: int, limits: LabelLimits, params: NetworkParams) -> LabelPass:
    """Find the cheapest selection that costs at most `cutoff`, among the modes a plan has left."""
    none = np.zeros(1, dtype=np.int32)
    labels = _NetworkLabels(np.zeros(1, dtype=np.int64), none, none, np.zeros(1), plan.first_state())
    trail: list[Labels] = []
    complete, count = True, 0
    for step in plan.steps:
        labels = _extend(plan, step, labels, cutoff, params)
        if labels.cost.size == 0:
            return LabelPass(None, 0, complete, count)
        most = limits.few_labels if limits.is_over() else min(limits.most_labels, params.most_labels)
        screened = labels.most_promising(params.screened * most)
        measures = np.column_stack([screened.cost, screened.state])
        kept = screened.take(np.flatnonzero(find_undominated(measures, most_compared=params.most_compared)))
        complete &= screened is labels and kept.cost.size <= most
        labels = kept.most_promising(most)
        count += labels.cost.size
        trail.append(Labels(labels.cost, labels.parent, labels.mode))  # the states need much memory
    best = int(np.argmin(labels.cost))
    selection = trace_back(trail, [step.activity for step in plan.steps], best)
    return LabelPass(selection, int(labels.cost[best]), complete, count)


def _extend(
    plan: _LabelPlan, step: _Step, labels: _NetworkLabels, cutoff: int, params: NetworkParams
) -> _NetworkLabels:
    size = max(1, params.most_children // max(1, step.modes.size * (1 + labels.state.shape[1])))
    parts = []
    for start in range(0, labels.cost.size, size):
        rows = np.arange(start, min(start + size, labels.cost.size))
        parts.append(_extend_portion(plan, step, labels, rows, cutoff))
    return _NetworkLabels.join(parts)


def _extend_portion(
    plan: _LabelPlan, step: _Step, labels: _NetworkLabels, rows: Int64, cutoff: int
) -> _NetworkLabels:
    """Every label of a portion with every mode left, less those that cannot come to anything."""
    activity = plan.problem.activities[step.activity]
    cost = labels.cost[rows][:, None] + activity.cost[step.modes]
    excess = labels.excess[rows][:, None] + plan.guide.excess[step.activity][step.modes]
    limit = cutoff + 1e-9 * (abs(cutoff) + 1)
    good = (plan.guide.bound + excess <= limit) & (cost + step.cheapest_rest <= cutoff)
    parents, modes = np.nonzero(good)
    options = step.modes[modes]
    old = labels.state[rows[parents]]
    new = np.full((parents.size, step.after.count), NEVER, dtype=np.int64)
    for source, target in step.carried:
        new[:, target] = old[:, source]
    fits = np.ones(parents.size, dtype=np.bool_)
    for edge in step.edges:
        fits &= _follow(plan, step, edge, activity.duration[options], edge.waits[options], old, new)
    for resource, (source, target) in step.used:
        new[:, target] = old[:, source] + activity.usage[options, resource]
        rest = step.least_use[resource]
        fits &= new[:, target] + rest <= plan.problem.resources[resource].capacity
    for source, place, marks in step.unmet:
        still = old[:, source] & ~marks[options]
        if place is None:
            fits &= still == 0
        else:
            new[:, place] = still
    kept = np.flatnonzero(fits)
    return _NetworkLabels(
        cost[parents[kept], modes[kept]],
        rows[parents[kept]].astype(np.int32),
        options[kept].astype(np.int32),
        excess[parents[kept], modes[kept]],
        new[kept],
    )


def _follow(
    plan: _LabelPlan, step: _Step, edge: PathEdge, duration: Int64, wait: Int64, old: Int64, new: Int64
) -> Bool:
    """Move the clocks along an edge; whether what is to come may still meet the deadline."""
    spent = duration + edge.lag
    if edge.tail == START:
        early = spent
        late = spent + wait
    else:
        before, waited = step.before.clocks[edge.tail]
        early = old[:, before] + spent
        late = np.maximum(early + wait, old[:, waited] + spent)
    deadline = plan.problem.deadline
    if edge.head == END:
        return np.asarray(late <= deadline)
    reached, waited = step.after.clocks[edge.head]
    new[:, reached] = np.maximum(new[:, reached], early)
    new[:, waited] = np.maximum(new[:, waited], late)
    return np.asarray(
        (late + plan.to_go[edge.head] <= deadline) & (early + plan.to_go_waiting[edge.head] <= deadline)
    )
