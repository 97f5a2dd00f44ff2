"""The cheapest selection on a network of paths: labels within a gap that grows until the proof is there."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from mipplan_formulations.improvement import Improver, suggest
from mipplan_formulations.labelling.guides import Guide
from mipplan_formulations.labelling.limits import Limits
from mipplan_formulations.labelling.network_labels import search_network
from mipplan_formulations.labelling.plans import make_plan
from mipplan_formulations.problem import TimeCostProblem

_FIRST_SHARE, _GROWTH = 1 / 16, 3


@dataclass
class NetworkSearch:
    """State of a search; the best selection so far and the bound always hold.

    Attributes
    ----------
    problem : TimeCostProblem
    guide : Guide
    limits : Limits
    gap : float
    selection : tuple of int or None
    cost : int or None
    bound : int
    labels, passes : int
    exhausted : bool
        As of `ChainSearch`.
    """

    problem: TimeCostProblem
    guide: Guide
    limits: Limits
    gap: float = 0.0
    selection: tuple[int, ...] | None = None
    cost: int | None = None
    bound: int = 0
    labels: int = 0
    passes: int = 0
    exhausted: bool = False

    def offer(self, selection: tuple[int, ...]) -> None:
        """Take over a feasible selection if it is better."""
        cost = sum(int(a.cost[o]) for a, o in zip(self.problem.activities, selection, strict=True))
        if self.cost is None or cost < self.cost:
            self.selection, self.cost = selection, cost

    def run(self) -> None:
        """Search until nothing is left, the gap is reached, or time is over."""
        problem, guide = self.problem, self.guide
        if math.isinf(guide.bound):
            self.exhausted = True
            return
        self.bound = max(self.bound, math.ceil(guide.bound - 1e-6 - 1e-9 * abs(guide.bound)))
        for selection in suggest(problem, guide.excess, self.limits.ends_at):
            self.offer(selection)
        top = sum(int(activity.cost.max()) for activity in problem.activities)
        reach = max(1, int(((top if self.cost is None else self.cost) - self.bound) * _FIRST_SHARE))
        while not self._is_done() and time.monotonic() < self.limits.ends_at:
            most = top if self.cost is None else self.cost - 1
            cutoff = min(most, self.bound + reach)
            if not self._look_below(cutoff):
                return
            if cutoff == most and self.bound > cutoff:
                self.exhausted = True
            reach *= _GROWTH

    def _is_done(self) -> bool:
        if self.exhausted or self.cost is None:
            return self.exhausted
        if self.cost <= self.bound:
            self.exhausted = True
        return self.cost - self.bound <= self.gap * self.cost

    def _look_below(self, cutoff: int) -> bool:
        self.passes += 1
        limit = cutoff + 1e-9 * (abs(cutoff) + 1)
        marked = [self.guide.bound + own <= limit for own in self.guide.excess]
        if not all(rows.any() for rows in marked):
            self.bound = max(self.bound, cutoff + 1)
            return True
        plan = make_plan(self.problem, self.guide.bound, self.guide.excess, marked)
        found = search_network(plan, cutoff, self.limits)
        self.labels += found.labels
        if found.selection is None:
            if found.complete:
                self.bound = max(self.bound, cutoff + 1)
            return found.complete
        if not found.complete:
            self.offer(Improver(self.problem).improve(found.selection))
            return False
        self.offer(found.selection)
        if self.cost is not None:
            self.bound = self.cost
        return True


def trivial_guide(problem: TimeCostProblem) -> Guide:
    """What costs alone say."""
    least = [int(activity.cost.min()) for activity in problem.activities]
    excess = [
        (activity.cost - cost).astype(np.float64)
        for activity, cost in zip(problem.activities, least, strict=True)
    ]
    return Guide(float(sum(least)), tuple(excess))
