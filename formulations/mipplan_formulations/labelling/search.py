"""What both ways of labelling share: their labels, and a gap to search that grows until the proof is there."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, Self, TypeVar

import numpy as np

from mipplan_formulations.linear import Float64, Int32, Int64
from mipplan_formulations.time_cost import TimeCostProblem, find_undominated

L = TypeVar("L", bound="Labels")


@dataclass(frozen=True)
class LabelLimits:
    """How long and how much a search may take."""

    ends_at: float
    """``time.monotonic()`` value at which to come to an end."""
    most_labels: int = 200_000
    """At most this many labels, those with the least bounds, are kept after an activity, because memory is finite."""
    few_labels: int = 100
    """At most this many are followed up once the time is over, to end with a solution soon."""

    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() > self.ends_at


@dataclass(frozen=True)
class GapParams:
    """How fast the gap grows in which labels are set, and how many of them are made and compared."""

    first_share: float = 1 / 16
    """The first pass looks this share into the gap between bound and best selection."""
    growth: int = 3
    """Each next pass looks this many times as far."""
    screened: int = 4
    """At most this many times the labels that may stay are compared; the least promising of more go before."""
    most_children: int = 1 << 20
    """Labels are extended in portions that make at most this many numbers, because memory is finite."""
    most_labels: int | None = None
    """At most this many labels stay, if the limits allow more."""
    most_compared: int | None = None
    """A label is compared with at most this many, if it is told by more than three numbers."""


@dataclass(frozen=True, eq=False)
class Labels:
    """Labels after some activities, one a row: what each has cost, the label it came from, and its last mode.

    The worth bounds, up to a constant, what its completions cost: of too many labels those of least worth stay.
    """

    cost: Int64
    parent: Int32
    mode: Int32
    worth: Float64

    @property
    def measures(self) -> Int64:
        """All that can make a label better than another, one a row: smaller is better in each column."""
        raise NotImplementedError

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """All labels of several parts."""
        if len(parts) == 1:
            return parts[0]
        arrays = zip(*(vars(part).values() for part in parts), strict=True)
        return cls(*map(np.concatenate, arrays))

    def take(self, rows: Int64) -> Self:
        """Some of the labels."""
        return type(self)(*(array[rows] for array in vars(self).values()))


class LabelRun(ABC, Generic[L]):
    """One run over the activities in an order: labels within a cutoff after each of them, and how many those are.

    It is complete if no label was thrown away for lack of room or time: then the selection is the cheapest of all, and
    none means that everything costs more than the cutoff. The widths say how many numbers the children of one label
    are, activity by activity in that order.
    """

    def __init__(self, order: Sequence[int], widths: Sequence[int], cutoff: int, search: GapSearch) -> None:
        self.order, self.cutoff = order, cutoff
        self.limit = cutoff + 1e-9 * (abs(cutoff) + 1)
        self.complete = True
        self.labels = 0
        self._widths, self._limits, self._params = widths, search.limits, search.params

    def run(self) -> tuple[int, ...] | None:
        """Find the cheapest selection that costs at most the cutoff."""
        labels = self._start()
        trail: list[tuple[Int32, Int32]] = []  # the rest of the labels needs much memory
        for stage in range(len(self.order)):
            labels = self._extend(stage, labels)
            if labels.cost.size == 0:
                return None
            self.labels += labels.cost.size
            trail.append((labels.parent, labels.mode))
        best = int(np.argmin(labels.cost))
        chosen = [0] * len(trail)
        for (parent, mode), v in zip(reversed(trail), reversed(self.order), strict=True):
            chosen[v] = int(mode[best])
            best = int(parent[best])
        return tuple(chosen)

    @abstractmethod
    def _start(self) -> L:
        """The label of having done nothing."""

    @abstractmethod
    def _children(self, stage: int, labels: L, rows: Int64) -> L:
        """Every label of a portion with every mode of the next activity, less those that cannot come to anything."""

    def _extend(self, stage: int, labels: L) -> L:
        """Give every label every mode of the next activity, and keep what may come to something."""
        params = self._params
        found: list[L] = []
        count, portion = labels.cost.size, max(1, params.most_children // max(1, self._widths[stage]))
        for start in range(0, count, portion):
            rows = np.arange(start, min(start + portion, count))
            found.append(self._children(stage, labels, rows))
            few = params.screened * self._most()
            if sum(part.cost.size for part in found) > 2 * few:
                found = [self._least(labels.join(found), few)]
        most = self._most()  # time goes by
        screened = self._least(labels.join(found), params.screened * most)
        undominated = find_undominated(screened.measures, most_compared=params.most_compared)
        return self._least(screened.take(np.flatnonzero(undominated)), most)

    def _most(self) -> int:
        """How many labels may be kept."""
        most = self._limits.few_labels if self._limits.is_over() else self._limits.most_labels
        return min(most, self._params.most_labels or most)

    def _least(self, labels: L, most: int) -> L:
        """At most `most` labels, those of least worth."""
        if labels.cost.size <= most:
            return labels
        self.complete = False
        return labels.take(np.sort(np.argsort(labels.worth, kind="stable")[:most]))


class GapSearch(ABC):
    """Looks for the cheapest selection within a gap above the bound that grows until it is found and proven.

    The best selection so far and the bound always hold. A relative `gap` between cost and bound is proof enough. The
    cost may be that of a selection known from elsewhere: `selection` stays None until a cheaper one is found.
    """

    def __init__(
        self, problem: TimeCostProblem, limits: LabelLimits, gap: float, cost: int | None, params: GapParams
    ) -> None:
        self.problem, self.limits, self.gap, self.cost, self.params = problem, limits, gap, cost, params
        self.dearest = sum(int(activity.cost.max()) for activity in problem.activities)
        """No selection worth a look costs more."""
        self.selection: tuple[int, ...] | None = None
        self.bound = 0
        self.labels = 0
        self.passes = 0
        self.exhausted = False
        """Whether nothing is left to look at: the selection is the best, or there is none."""

    def run(self) -> None:
        """Search until nothing is left, the gap is reached, or time is over."""
        if not self._prepare():
            self.exhausted = True
            return
        step = self.problem.cost_step
        span = (self.dearest if self.cost is None else self.cost) - self.bound
        reach = max(1, int(span * self.params.first_share))
        while not self._is_done() and not self.limits.is_over():
            # Costs are multiples of the step: between them there is nothing to look for.
            most = self.dearest if self.cost is None else self.problem.cost_below(self.cost)
            cutoff = min(most, (self.bound + reach) // step * step)
            self.passes += 1
            found, complete = self._search(cutoff)
            if found is not None:
                self.offer(found)
            if not complete:
                return
            self.bound = max(self.bound, cutoff + step)
            if found is not None and self.cost is not None:
                self.bound = self.cost
            if cutoff == most and self.bound > cutoff:
                self.exhausted = True
            reach *= self.params.growth

    def offer(self, selection: tuple[int, ...]) -> None:
        """Take over a feasible selection if it is better."""
        cost = self.problem.cost_of(selection)
        if self.cost is None or cost < self.cost:
            self.cost, self.selection = cost, selection

    @abstractmethod
    def _prepare(self) -> bool:
        """Find a first bound, and perhaps selections; False if there is no feasible one at all."""

    @abstractmethod
    def _search(self, cutoff: int) -> tuple[tuple[int, ...] | None, bool]:
        """Find the cheapest selection that costs at most `cutoff`, and tell whether the search for it was complete."""

    def _is_done(self) -> bool:
        if self.exhausted or self.cost is None:
            return self.exhausted
        self.exhausted = self.cost <= self.bound
        return self.cost - self.bound <= self.gap * self.cost
