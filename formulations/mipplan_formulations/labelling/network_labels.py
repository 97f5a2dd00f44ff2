"""Labels on a network of paths: cost, two clocks per open node, what is used, and which conditions are unmet.

Activities are chosen one after the other in an order of the arcs. A node of the network is open while some paths
through it have yet to go on: its early clock shows when it is reached without a wait, its late clock with the largest
so far. Once the branches of a series-parallel part have come together, one node is open, and a label is (cost, T, W)
again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations.arrays import IntArray
from mipplan_formulations.dominance import find_undominated
from mipplan_formulations.labelling.limits import Limits
from mipplan_formulations.labelling.plans import NEVER, Plan, Step
from mipplan_formulations.networks import END, START, Edge

FloatArray = NDArray[np.float64]

_MOST_CHILDREN = 1 << 19
_MOST_COMPARED = 1000
"""A label is compared with so many others at most: with many columns few dominate each other."""

_MOST_LABELS = 20_000
"""Comparing more labels in many columns takes longer than it is worth."""

_SCREENED = 4
"""So many times the labels that may stay are compared with each other; the least promising of more go before."""


@dataclass(frozen=True, eq=False)
class NetworkPass:
    """What one run over the activities found: as `chain_labels.Pass`, with a mode per activity."""

    selection: tuple[int, ...] | None
    complete: bool
    labels: int


@dataclass(frozen=True, eq=False)
class _Labels:
    """Labels after some activities.

    Attributes
    ----------
    cost : int64 array, shape (n,)
    excess : float64 array, shape (n,)
        By how much the modes chosen lift the bound.
    state : int64 array, shape (n, columns)
        Smaller is better in each.
    parent, mode : int32 arrays, shape (n,)
    """

    cost: IntArray
    excess: FloatArray
    state: IntArray
    parent: NDArray[np.int32]
    mode: NDArray[np.int32]

    def take(self, rows: IntArray) -> _Labels:
        """Some of the labels."""
        return _Labels(
            self.cost[rows], self.excess[rows], self.state[rows], self.parent[rows], self.mode[rows]
        )

    def most_promising(self, most: int) -> _Labels:
        """At most so many labels, those that lift the bound least; the labels themselves if they are no more."""
        if self.cost.size <= most:
            return self
        return self.take(np.sort(np.argsort(self.excess, kind="stable")[:most]))


def search_network(plan: Plan, cutoff: int, limits: Limits) -> NetworkPass:
    """Find the cheapest selection that costs at most `cutoff`, among the modes a plan has left."""
    none = np.zeros(1, dtype=np.int32)
    labels = _Labels(np.zeros(1, dtype=np.int64), np.zeros(1), plan.first_state(), none, none)
    trail: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = []
    complete, count = True, 0
    for step in plan.steps:
        labels = _extend(plan, step, labels, cutoff)
        if labels.cost.size == 0:
            return NetworkPass(None, complete, count)
        late = time.monotonic() > limits.ends_at
        most = limits.few_labels if late else min(limits.most_labels, _MOST_LABELS)
        screened = labels.most_promising(_SCREENED * most)
        measures = np.column_stack([screened.cost, screened.state])
        kept = screened.take(np.flatnonzero(find_undominated(measures, most_compared=_MOST_COMPARED)))
        complete &= screened is labels and kept.cost.size <= most
        labels = kept.most_promising(most)
        count += labels.cost.size
        trail.append((labels.parent, labels.mode))
    best = int(np.argmin(labels.cost))
    chosen = [0] * len(plan.steps)
    for (parent, mode), step in zip(reversed(trail), reversed(plan.steps), strict=True):
        chosen[step.activity] = int(mode[best])
        best = int(parent[best])
    return NetworkPass(tuple(chosen), complete, count)


def _extend(plan: Plan, step: Step, labels: _Labels, cutoff: int) -> _Labels:
    size = max(1, _MOST_CHILDREN // max(1, step.modes.size * (1 + labels.state.shape[1])))
    parts = []
    for start in range(0, labels.cost.size, size):
        rows = np.arange(start, min(start + size, labels.cost.size))
        parts.append(_extend_portion(plan, step, labels, rows, cutoff))
    return _Labels(
        np.concatenate([part.cost for part in parts]),
        np.concatenate([part.excess for part in parts]),
        np.concatenate([part.state for part in parts]),
        np.concatenate([part.parent for part in parts]),
        np.concatenate([part.mode for part in parts]),
    )


def _extend_portion(plan: Plan, step: Step, labels: _Labels, rows: IntArray, cutoff: int) -> _Labels:
    """Every label of a portion with every mode left, less those that cannot come to anything."""
    activity = plan.problem.activities[step.activity]
    cost = labels.cost[rows][:, None] + activity.cost[step.modes]
    excess = labels.excess[rows][:, None] + plan.excess[step.activity][step.modes]
    limit = cutoff + 1e-9 * (abs(cutoff) + 1)
    good = (plan.base + excess <= limit) & (cost + step.cheapest_rest <= cutoff)
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
    return _Labels(
        cost[parents[kept], modes[kept]],
        excess[parents[kept], modes[kept]],
        new[kept],
        rows[parents[kept]].astype(np.int32),
        options[kept].astype(np.int32),
    )


def _follow(
    plan: Plan, step: Step, edge: Edge, duration: IntArray, wait: IntArray, old: IntArray, new: IntArray
) -> NDArray[np.bool_]:
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
