"""The wait of one stage on one path as a function of its rate: exact on demand, bounded from below nearly for free.

At one rate a token waits for the work since some older token. That work and that token bound its wait at *every*
rate, linearly in 1/R: the wait is the largest over all older tokens. So one pass over the trace, which finds the
tokens that wait longest and what each waits for, bounds the quantile from below at all rates nearby.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from itertools import repeat
from typing import Protocol

from mipplan.calculus.samplepath import Probes, Sought, Supports, longest_waits_ns
from mipplan.core import UNLIMITED_NS, Bool, Int64


@dataclass(frozen=True)
class WaitParams:
    """How finely waits are known, chosen by timing plans of 3 to 10 stages on 10⁵ queries."""

    # Rates on the grid are this factor apart; the grid is the same for all stages, so that they share evaluations.
    grid_ratio: float = 1.02
    grid_tokens: int = 1024  # Tokens of a rate on the grid: 1/R is a whole number of ns for 1,024 of them.
    # Every 16th rate of the grid is evaluated on the trace, because what lies between is bounded well from there.
    coarse: int = 16
    # Of 1.5 times as many tokens as wait longer than the quantile it is remembered what they wait for,
    # because at other rates other tokens are slowest.
    remembered: float = 1.5
    # Beyond this share of the way from one evaluated 1/R to the next the tokens of the former say hardly ever more.
    reach: float = 0.6


_PARAMS = WaitParams()


def grid_rate(step: int) -> tuple[int, int]:
    """1/R of a grid step as (period_ns, tokens): from 1 ns per token (step 0) up, a ratio apart; 0 below that."""
    return (
        (round(_PARAMS.grid_tokens * _PARAMS.grid_ratio**step), _PARAMS.grid_tokens) if step >= 0 else (0, 1)
    )


def grid_step(ns_per_token: float) -> int:
    """Largest grid step whose 1/R is surely at most `ns_per_token`; −1 if there is none."""
    if ns_per_token < 1.0:
        return -1
    step = math.floor(math.log(ns_per_token) / math.log(_PARAMS.grid_ratio))
    # The logarithm and the rounding of the grid may each be off by a step.
    while step >= 0 and grid_rate(step)[0] > ns_per_token * _PARAMS.grid_tokens * (1.0 - 1e-12):
        step -= 1
    return step


class Wait(Protocol):
    """The wait of one stage on one path as a function of R; it grows with 1/R."""

    def exact(self, period_ns: int, tokens: int) -> int:
        """W in ns, rounded up, at ``1/R = period_ns / tokens`` ns per token."""

    def lower(
        self,
        period_ns: int,
        tokens: int,
        least_ns: int = 0,
        most_ns: int = UNLIMITED_NS,
    ) -> int:
        """Return a lower bound on `exact` that is close and costs little.

        It need not tell waits of at most `least_ns` apart, nor those above `most_ns`.
        """


class StageQueue:
    """Tokens of one stage that came along one beginning of paths, and the curves of those whose waits count.

    One pass over the tokens serves all curves.

    Parameters
    ----------
    arrival_ns : int64, shape (k,)
        Ingress time of each token.
    position : int64, shape (k,), or None
        Their token numbers at the stage; None if these are all its tokens.
    """

    def __init__(self, arrival_ns: Int64, position: Int64 | None) -> None:
        self._arrival_ns = arrival_ns
        self._position = position
        self._curves: list[WaitCurve] = []
        self.passes = 0

    def curve(self, among: Bool | Probes | None, above: int) -> WaitCurve:
        """Return the curve of the tokens marked, of others, or of all, whose quantile is the least of `above` waits."""
        self._curves.append(WaitCurve(self, among, above))
        return self._curves[-1]

    def evaluate(self, rate: tuple[int, int]) -> None:
        """Look the waits of all curves up on the trace at one rate, in lowest terms."""
        self.passes += 1
        sought = list(map(WaitCurve.sought, self._curves, repeat(rate[0]), repeat(rate[1])))
        found = longest_waits_ns(self._arrival_ns, *rate, sought, self._position)
        for curve, (wait_ns, supports) in zip(self._curves, found, strict=True):
            curve.learn(rate, wait_ns, supports)


class WaitCurve:
    """The wait w(R) of one stage on one path, evaluated on demand and remembered.

    Made by the queue that the tokens wait in (`StageQueue.curve`).
    """

    def __init__(self, queue: StageQueue, among: Bool | Probes | None, above: int) -> None:
        self.queue = queue
        self._among = among
        self._above = above  # How many waits are at or above the quantile.
        self._known: dict[tuple[int, int], int] = {}
        self._bounds: dict[tuple[int, int], int] = {}
        #: 1/R of the rates that were evaluated, ascending, with their waits and supports.
        self._slopes: list[float] = []
        self._waits: list[int] = []
        self._supports: list[Supports] = []

    def exact(self, period_ns: int, tokens: int) -> int:
        """W in ns, rounded up, at ``1/R = period_ns / tokens`` ns per token (0 for R = ∞)."""
        key = _reduced(period_ns, tokens)
        if key not in self._known:
            self.queue.evaluate(key)
        return self._known[key]

    def lower(
        self,
        period_ns: int,
        tokens: int,
        least_ns: int = 0,
        most_ns: int = UNLIMITED_NS,
    ) -> int:
        """Return a lower bound on `exact`, or 0 (on a path some stage waits at least 0, and the longest wait counts).

        It comes from the next rates on both sides: steps of a coarse grid at least, unless what is known of rates
        farther off says enough.
        """
        key = _reduced(period_ns, tokens)
        if key in self._known:
            return self._known[key]
        faster_ns, slower_ns = self._between(key)
        if slower_ns <= least_ns or faster_ns > most_ns:
            return faster_ns
        found = max(faster_ns, self._bound(*key))
        if found > most_ns:
            return found
        step = grid_step(period_ns / tokens)
        below = step // _PARAMS.coarse * _PARAMS.coarse if step >= 0 else -1
        beside = [_reduced(*grid_rate(s)) for s in (below, below + _PARAMS.coarse if step >= 0 else 0)]
        for rate in [key] if key in beside else beside:
            if rate not in self._known:
                self.queue.evaluate(rate)
        return self._known[key] if key in self._known else max(self._between(key)[0], self._bound(*key))

    def _between(self, key: tuple[int, int]) -> tuple[int, int]:
        """Waits at the evaluated rates next to one, or at itself: it lies between them."""
        if key in self._known:
            return self._known[key], self._known[key]
        place = bisect.bisect_left(self._slopes, key[0] / key[1])
        faster_ns = max(0, self._waits[place - 1]) if place else 0
        return faster_ns, self._waits[place] if place < len(self._waits) else UNLIMITED_NS

    def sought(self, period_ns: int, tokens: int) -> Sought:
        """Say what to look up on the trace at a rate in lowest terms."""
        kept = math.ceil(_PARAMS.remembered * self._above)
        return Sought(self._above, kept, self._among, self._bound(period_ns, tokens))

    def learn(self, rate: tuple[int, int], wait_ns: int, supports: Supports) -> None:
        """Take in the wait at a rate in lowest terms, and what the slowest tokens wait for."""
        if rate in self._known:
            return
        self._known[rate] = wait_ns
        place = bisect.bisect_left(self._slopes, rate[0] / rate[1])
        self._slopes.insert(place, rate[0] / rate[1])
        self._waits.insert(place, wait_ns)
        self._supports.insert(place, supports)
        self._bounds.clear()  # some are nearer to this one

    def _bound(self, period_ns: int, tokens: int) -> int:
        """What the tokens that wait longest at the evaluated rates beside this one wait at least."""
        key = period_ns, tokens
        if key not in self._bounds:
            slope = period_ns / tokens
            place, found = bisect.bisect_left(self._slopes, slope), 0
            beside = self._slopes[max(0, place - 1) : place + 1]
            far = len(beside) == 2 and slope - beside[0] > _PARAMS.reach * (beside[1] - beside[0])
            for supports in self._supports[place if far else max(0, place - 1) : place + 1]:
                found = max(found, supports.lower_ns(period_ns, tokens, self._above))
            self._bounds[key] = found
        return self._bounds[key]


@dataclass(frozen=True)
class LongestWait:
    """The longest of several waits: a quantile that every window keeps is no shorter in any of them."""

    waits: tuple[Wait, ...]

    def exact(self, period_ns: int, tokens: int) -> int:
        """Longest of the exact waits."""
        return max(wait.exact(period_ns, tokens) for wait in self.waits)

    def lower(self, period_ns: int, tokens: int, least_ns: int = 0, most_ns: int = UNLIMITED_NS) -> int:
        """Longest of the lower bounds; parameters as for `Wait`."""
        found = 0
        for wait in self.waits:
            found = max(found, wait.lower(period_ns, tokens, max(found, least_ns), most_ns))
            if found > most_ns:
                break
        return found


def slowest_within(curve: Wait, most_ns: int, least: float, most: float) -> tuple[int, int]:
    """Largest 1/R on the grid, between two in ns per token, with a wait within `most_ns`: it grows with 1/R."""
    steps = range(grid_step(least) + 1, grid_step(most) + 2)

    def is_beyond(step: int) -> bool:
        return curve.lower(*grid_rate(step), least_ns=most_ns, most_ns=most_ns) > most_ns

    return grid_rate(steps.start + bisect.bisect_left(steps, True, key=is_beyond) - 1)


def _reduced(period_ns: int, tokens: int) -> tuple[int, int]:
    divisor = math.gcd(period_ns, tokens)
    return period_ns // divisor, tokens // divisor
