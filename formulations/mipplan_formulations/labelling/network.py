"""Labels on a network of paths: cost, two clocks per open node, what is used, and which conditions are unmet.

Activities are chosen one after the other in an order of the arcs. A node of the network is open while some paths
through it have yet to go on: its early clock shows when it is reached without a wait, its late clock with the largest
so far. Once the branches of a series-parallel part have come together, one node is open, and a label is (cost, T, W)
again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mipplan_formulations.labelling.lagrange import DualBound
from mipplan_formulations.labelling.search import GapParams, GapSearch, LabelLimits, LabelRun, Labels
from mipplan_formulations.linear import Bool, Int64
from mipplan_formulations.time_cost import (
    END,
    NEVER,
    START,
    Improver,
    PathEdge,
    PathNetwork,
    TimeCostProblem,
    breakable_network,
    suggest,
    topological_order,
)


@dataclass(frozen=True)
class NetworkParams(GapParams):
    """Numbers that tune the search on a network; the answer without limits does not depend on them."""

    most_children: int = 1 << 19
    most_labels: int = 20_000
    """At most this many labels stay, because comparing more in many columns takes longer than it is worth."""
    most_compared: int = 150
    """A label is compared with at most this many, because with many columns few dominate each other."""


class NetworkSearch(GapSearch):
    """The cheapest selection on a network of paths."""

    def __init__(
        self,
        problem: TimeCostProblem,
        guide: DualBound,
        limits: LabelLimits,
        gap: float,
        cost: int | None,
        params: NetworkParams,
    ) -> None:
        super().__init__(problem, limits, gap, cost, params)
        self.guide = guide

    def _prepare(self) -> bool:
        guide = self.guide
        if math.isinf(guide.bound):
            return False
        self.bound = max(self.bound, self.problem.next_cost(guide.bound))
        for selection in suggest(self.problem, guide.excess, self.limits.ends_at):
            self.offer(selection)
        return True

    def _search(self, cutoff: int) -> tuple[tuple[int, ...] | None, bool]:
        limit = cutoff + 1e-9 * (abs(cutoff) + 1)
        marked = [self.guide.bound + own <= limit for own in self.guide.excess]
        if not all(rows.any() for rows in marked):
            return None, True
        run = _NetworkRun(self, marked, cutoff)
        found = run.run()
        self.labels += run.labels
        if found is None or run.complete:
            return found, run.complete
        return Improver(self.problem).improve(found), False


_Layout = dict[tuple[str, int], int]
"""Which column of a label's state holds what.

The ``early`` and ``late`` clock of every open node; of every resource what is ``used``; and, for every cover whose last
member is still to come, 1 unless it is met (``unmet``).
"""


@dataclass(frozen=True, eq=False)
class _Step:
    """The choice of one activity's mode among those left, and what it does to the columns of a label's state."""

    modes: Int64
    edges: list[PathEdge]
    marks: dict[int, Bool]  # of each cover with the activity
    before: _Layout
    after: _Layout
    least_use: Int64  # what the activities to come use at least, shape (resources,)
    cheapest_rest: int  # what the activities to come cost at least


@dataclass(frozen=True, eq=False)
class _NetworkLabels(Labels):
    """Besides, the state: in each of its columns smaller is better. The worth is how much the modes lift the bound."""

    state: Int64

    @property
    def measures(self) -> Int64:
        return np.column_stack([self.cost, self.state])


class _NetworkRun(LabelRun[_NetworkLabels]):
    """A run over the activities among their marked modes, shape (modes,) each; it goes on where it is.

    So few nodes are open at a time.
    """

    def __init__(self, search: NetworkSearch, marked: Sequence[Bool], cutoff: int) -> None:
        problem = search.problem
        order = topological_order(len(problem.activities), problem.arcs, depth_first=True)
        modes = [np.flatnonzero(rows) for rows in marked]
        network = breakable_network(problem)
        layouts = [_layout(problem, network, set(order[:i])) for i in range(len(order) + 1)]
        widths = [modes[v].size * (1 + len(layouts[i])) for i, v in enumerate(order)]
        super().__init__(order, widths, cutoff, search)
        self._problem, self._guide = problem, search.guide
        costs = [int(problem.activities[v].cost[modes[v]].min()) for v in order]
        uses = [problem.activities[v].usage[modes[v]].min(axis=0) for v in order]
        none = np.zeros(len(problem.resources), dtype=np.int64)
        self._steps = [
            _Step(
                modes=modes[v],
                edges=[edge for edge in network.edges if edge.activity == v],
                marks={k: own for k, c in enumerate(problem.covers) for u, own in c.members if u == v},
                before=layouts[i],
                after=layouts[i + 1],
                least_use=np.sum([none, *uses[i + 1 :]], axis=0),
                cheapest_rest=sum(costs[i + 1 :]),
            )
            for i, v in enumerate(order)
        ]
        spent, waited = [], []
        for edge in network.edges:
            duration = problem.activities[edge.activity].duration[modes[edge.activity]]
            spent.append(edge.lag + int(duration.min()))
            waited.append(edge.lag + int((duration + edge.waits[modes[edge.activity]]).min()))
        # Least time from each node to the end along the longest walk, without a wait and with the least one.
        self._to_go, self._to_go_waiting = network.times_to_go(spent, waited)

    def _start(self) -> _NetworkLabels:
        layout = self._steps[0].before
        state = np.array([[int(kind == "unmet") for kind, _ in layout]], dtype=np.int64).reshape(1, -1)
        none = np.zeros(1, dtype=np.int32)
        return _NetworkLabels(np.zeros(1, dtype=np.int64), none, none, np.zeros(1), state)

    def _children(self, stage: int, labels: _NetworkLabels, rows: Int64) -> _NetworkLabels:
        step, v = self._steps[stage], self.order[stage]
        activity = self._problem.activities[v]
        cost = labels.cost[rows][:, None] + activity.cost[step.modes]
        excess = labels.worth[rows][:, None] + self._guide.excess[v][step.modes]
        good = (self._guide.bound + excess <= self.limit) & (cost + step.cheapest_rest <= self.cutoff)
        parents, modes = np.nonzero(good)
        options = step.modes[modes]
        old = labels.state[rows[parents]]
        new = np.full((parents.size, len(step.after)), NEVER, dtype=np.int64)
        lasting = [what for what in step.before if what in step.after]
        new[:, [step.after[what] for what in lasting]] = old[:, [step.before[what] for what in lasting]]
        fits = np.ones(parents.size, dtype=np.bool_)
        for edge in step.edges:
            fits &= self._follow(step, edge, activity.duration[options], edge.waits[options], old, new)
        for r, resource in enumerate(self._problem.resources):
            used = new[:, step.after["used", r]]
            used += activity.usage[options, r]
            fits &= used + step.least_use[r] <= resource.capacity
        for k, marks in step.marks.items():
            still = old[:, step.before["unmet", k]] & ~marks[options]
            if ("unmet", k) in step.after:
                new[:, step.after["unmet", k]] = still
            else:  # this was the last chance
                fits &= still == 0
        kept = np.flatnonzero(fits)
        return _NetworkLabels(
            cost[parents[kept], modes[kept]],
            rows[parents[kept]].astype(np.int32),
            options[kept].astype(np.int32),
            excess[parents[kept], modes[kept]],
            new[kept],
        )

    def _follow(
        self, step: _Step, edge: PathEdge, duration: Int64, wait: Int64, old: Int64, new: Int64
    ) -> Bool:
        """Move the clocks along an edge; whether what is to come may still meet the deadline."""
        early = duration + edge.lag
        late = early + wait
        if edge.tail != START:
            before, waited = step.before["early", edge.tail], step.before["late", edge.tail]
            late = np.maximum(old[:, before] + late, old[:, waited] + early)
            early = old[:, before] + early
        deadline = self._problem.deadline
        if edge.head == END:
            return np.asarray(late <= deadline)
        reached, waited = step.after["early", edge.head], step.after["late", edge.head]
        new[:, reached] = np.maximum(new[:, reached], early)
        new[:, waited] = np.maximum(new[:, waited], late)
        in_time = late + self._to_go[edge.head] <= deadline
        return np.asarray(in_time & (early + self._to_go_waiting[edge.head] <= deadline))


def _layout(problem: TimeCostProblem, network: PathNetwork, done: set[int]) -> _Layout:
    """What has to be remembered once some activities are chosen."""
    entered = {e.head for e in network.edges if e.head != END and e.activity in done}
    left = {e.tail for e in network.edges if e.tail != START and e.activity not in done}
    open_covers = [k for k, c in enumerate(problem.covers) if not done.issuperset(dict(c.members))]
    held = [(clock, node) for node in sorted(entered & left) for clock in ("early", "late")]
    held += [("used", r) for r in range(len(problem.resources))] + [("unmet", k) for k in open_covers]
    return {what: column for column, what in enumerate(held)}
