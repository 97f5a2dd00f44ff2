"""The wait of one stage on one path as a function of its rate: exact on demand, bounded from below nearly for free.

At one rate a token waits for the work since some older token. That work and that token bound its wait at *every*
rate, linearly in 1/R: the wait is the largest over all older tokens. So one pass over the trace, which finds the
tokens that wait longest and what each waits for, bounds the quantile from below at all rates nearby.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import Protocol

from mipplan.calculus.samplepath import Probes, Supports, longest_waits_ns
from mipplan.core import Int64


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

    def lower(self, period_ns: int, tokens: int) -> int:
        """Return a lower bound on `exact` that is close and costs little."""


class WaitCurve:
    """The wait w(R) of one stage on one path, evaluated on demand and remembered.

    Parameters
    ----------
    arrival_ns : int64, shape (k,)
        Ingress time of each token that came along the path's beginning.
    position : int64, shape (k,), or None
        Their token numbers at the stage; None if these are all its tokens.
    probes : Probes or None
        The tokens whose waits count; None if that is every token above.
    rank : int
        Which of these waits (ascending) is the quantile over all queries.
    """

    def __init__(self, arrival_ns: Int64, position: Int64 | None, probes: Probes | None, rank: int) -> None:
        self._arrival_ns = arrival_ns
        self._position = position
        self._probes = probes
        self._rank = rank
        #: How many waits are at or above the quantile.
        self._above = (arrival_ns.size if probes is None else probes.last.size) - rank
        self._known: dict[tuple[int, int], int] = {}
        self._bounds: dict[tuple[int, int], int] = {}
        #: 1/R of the rates that were evaluated, ascending, with their supports.
        self._slopes: list[float] = []
        self._supports: list[Supports] = []
        self.evaluations = 0

    def exact(self, period_ns: int, tokens: int) -> int:
        """W in ns, rounded up, at ``1/R = period_ns / tokens`` ns per token (0 for R = ∞)."""
        key = _reduced(period_ns, tokens)
        if key not in self._known:
            self._evaluate(key)
        return self._known[key]

    def lower(self, period_ns: int, tokens: int) -> int:
        """Return a lower bound on `exact`, or 0 (on a path some stage waits at least 0, and the longest wait counts).

        It comes from the next rates on both sides: steps of a coarse grid at least.
        """
        key = _reduced(period_ns, tokens)
        if key in self._known:
            return self._known[key]
        if key not in self._bounds:
            step = grid_step(period_ns / tokens)
            below = step // _PARAMS.coarse * _PARAMS.coarse if step >= 0 else -1
            for neighbour in (below, below + _PARAMS.coarse if step >= 0 else 0):
                self.exact(*grid_rate(neighbour))
            self._bounds[key] = self._bound(*key)
        return self._bounds[key]

    def _evaluate(self, key: tuple[int, int]) -> None:
        """Look the wait up on the trace, and remember what the slowest tokens wait for."""
        self.evaluations += 1
        least_ns = self._bound(*key)
        kept = math.ceil(_PARAMS.remembered * self._above)
        self._known[key], supports = longest_waits_ns(
            self._arrival_ns, *key, self._rank, kept, self._position, self._probes, least_ns
        )
        place = bisect.bisect_left(self._slopes, key[0] / key[1])
        self._slopes.insert(place, key[0] / key[1])
        self._supports.insert(place, supports)
        self._bounds.clear()  # some are nearer to this one

    def _bound(self, period_ns: int, tokens: int) -> int:
        """What the tokens that wait longest at the evaluated rates beside this one wait at least."""
        place = bisect.bisect_left(self._slopes, period_ns / tokens)
        least_ns = 0
        for supports in self._supports[max(0, place - 1) : place + 1]:
            least_ns = max(least_ns, supports.lower_ns(period_ns, tokens, self._above))
        return least_ns


def _reduced(period_ns: int, tokens: int) -> tuple[int, int]:
    divisor = math.gcd(period_ns, tokens)
    return period_ns // divisor, tokens // divisor
