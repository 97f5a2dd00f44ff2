"""By how much the deadline of masters is tightened so that their optima are certified: good plans, found early.

A master keeps the deadline by a bound. That bound knows neither that waits at several stages add up nor, on trees, that
all paths together share the queries that may be late. So its optimum is mostly refused, and costs far less than any
certified plan. With a tighter deadline it is certified, and where the deadline is no tighter than that takes, it
is nearly as cheap as the best plan there is. That is found as a root is, by halving what lies between a deadline that
was too loose and one that was tight enough.

Nothing is proven by this: what a tighter deadline refuses may be certified all the same. Tried for proofs, and of no
use: to branch on how many queries may be late on each path. Masters that knew that shared number were still refused
where waits add up, after dozens of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class AimParams:
    """How long good plans are looked for so, chosen on trees of 9 stages with 9 variants of each model."""

    masters: int = 8  # At most so many masters have a tighter deadline,
    share: float = 0.5  # for this share of the time left,
    least_gap: float = 0.02  # while the best plan costs more by this share than what is known to be refused.
    finest: float = 0.002  # Deadlines are told apart by this share.


class Aim:
    """By how many ns the next master's deadline is tightened: between what did not suffice and what did.

    It begins with a refused choice: by how much its certificate exceeds the deadline, and what it costs.
    """

    def __init__(self, excess_ns: int, cost: int, deadline_ns: int, params: AimParams) -> None:
        self._params, self._finest_ns = params, math.ceil(params.finest * deadline_ns)
        self._short_ns, self._enough_ns = 0, deadline_ns
        self._has_sufficed, self._masters, self._dearest_refused = False, -1, 0
        self.tighter_ns = 0
        self.was_short(excess_ns, cost)

    def was_short(self, excess_ns: int, cost: int) -> None:
        """Take in that this did not suffice: an optimum of that cost still exceeds the deadline by `excess_ns`."""
        self._masters, self._dearest_refused = self._masters + 1, max(self._dearest_refused, cost)
        self._short_ns, tried_ns = self.tighter_ns, self.tighter_ns
        self._halve()
        if not self._has_sufficed:
            self.tighter_ns = min(self.tighter_ns, tried_ns + max(excess_ns, self._finest_ns))

    def was_enough(self) -> None:
        """Take in that this sufficed, or that with it there is no plan, or none that is any better."""
        self._masters, self._has_sufficed = self._masters + 1, True
        self._enough_ns = self.tighter_ns
        self._halve()

    def is_done(self, best_cost: float, step: int) -> bool:
        """Whether hardly anything cheaper than the best plan is to be found; costs are multiples of `step`."""
        gap, least_gap = best_cost - self._dearest_refused, self._params.least_gap * self._dearest_refused
        is_found = self._enough_ns - self._short_ns <= self._finest_ns
        return is_found or self._masters >= self._params.masters or gap <= max(step, least_gap)

    def _halve(self) -> None:
        self.tighter_ns = (self._short_ns + self._enough_ns) // 2
