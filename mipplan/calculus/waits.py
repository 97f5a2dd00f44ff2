"""The wait of one stage on one path as a function of its rate: exact on demand, bounded from below nearly for free.

At one rate a token waits for the work since some older token. That work and that token bound its wait at *every*
rate, linearly in 1/R: the wait is the largest over all older tokens. So one pass over the trace, which finds the
tokens that wait longest and what each waits for, bounds the quantile from below at all rates nearby.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np

from mipplan.calculus.samplepath import SAFE, TIME_CHECK, latest_start_ns, running_maxima
from mipplan.core import (
    UNLIMITED_NS,
    Bool,
    Int64,
    SampleParams,
    find_largest,
    greatest_values,
)


@dataclass(frozen=True)
class WaitParams:
    """How finely waits are known, chosen by timing plans of 3 to 10 stages on 10⁵ queries."""

    # Rates on the grid are this factor apart; the grid is the same for all stages, so that they share evaluations.
    grid_ratio: float = 1.02
    grid_tokens: int = 1024  # Tokens of a rate on the grid: 1/R is a whole number of ns for 1,024 of them.
    # Every 16th rate of the grid is evaluated on the trace, because what lies between is bounded well from there.
    coarse: int = 16
    # Every fourth where a stage has at most 20,000 tokens: passes over these take less than the masters that they save.
    fine: int = 4
    few_tokens: int = 20_000
    # At every second of these where waits are at most 32 times what need not be told apart: that is well enough.
    short: int = 32
    # Of 1.5 times as many tokens as wait longer than the quantile it is remembered what they wait for,
    # because at other rates other tokens are slowest.
    remembered: float = 1.5
    # Beyond this share of the way from one evaluated 1/R to the next the tokens of the former say hardly ever more.
    reach: float = 0.6


_PARAMS = WaitParams()
_SAMPLE_PARAMS = SampleParams()


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


class Probes(NamedTuple):
    """Tokens whose waits count where they came another way than those that they wait for: one per query."""

    last: Int64  # Shape (q,). Index of the last token before or at it that came along the path's beginning.
    number: Int64  # Shape (q,). Its token number at the stage.
    ingress_ns: Int64  # Shape (q,). Its query's ingress.


class Sought(NamedTuple):
    """Which of the waits at one rate is looked for: the least of the longest `above`."""

    above: int
    kept: int  # What this many of the tokens wait for that wait longest is told, too: at least `above`.
    #: Whose waits count: the tokens marked, shape (k,), or others; None for all tokens.
    among: Bool | Probes | None = None


@dataclass(frozen=True)
class Supports:
    """Lower bounds on the waits of some tokens at every rate: the work since an older token, less the time since."""

    work: Int64  # Shape (s,). Tokens served from the older one on.
    gap_ns: Int64  # Shape (s,). How much later the token entered than the older one.

    def lower_ns(self, period_ns: int, tokens: int, above: int) -> int:
        """Wait that `above` of these tokens reach at least at ``1/R = period_ns / tokens``, rounded up; ≥ 0."""
        size = self.work.size
        if size < above:
            return 0
        farthest_ns, most = self._extents
        if farthest_ns * tokens + most * period_ns >= SAFE:
            return 0  # true, if of no use: such rates are far from any of interest
        waits = self.work * np.int64(period_ns) - self.gap_ns * np.int64(tokens)
        waits.partition(size - above)
        return max(0, -(-int(waits[size - above]) // tokens))

    @cached_property
    def _extents(self) -> tuple[int, int]:
        """Longest gap, either way, and most work."""
        return int(np.abs(self.gap_ns).max()), int(self.work.max())


def longest_waits_ns(
    arrival_ns: Int64,
    period_ns: int,
    tokens: int,
    sought: Sequence[Sought],
    position: Int64 | None = None,
    params: SampleParams = _SAMPLE_PARAMS,
) -> list[tuple[int, Supports]]:
    """Return waits ``Y(i) − t(i)``, and what the longest ones wait for, all from one pass over the tokens.

    Y is that of `latest_start_ns`, t the ingress of each probe, or `arrival_ns` without any; waits are rounded up to
    ns. Of equal waits, the first are kept. Order does not change when all waits are multiplied by `tokens`, so only
    those that are returned are ever divided.
    """
    scaled = _scaled_waits(arrival_ns, period_ns, tokens, position, sought)
    if scaled is None:
        return [_by_parts(one, arrival_ns, period_ns, tokens, position) for one in sought]
    slow, every = _slow_tokens(scaled.waits, sought, params), enumerate(sought)
    return [_longest(one, scaled, slow.get(n), arrival_ns, tokens, position, params) for n, one in every]


def _by_parts(
    sought: Sought, arrival_ns: Int64, period_ns: int, tokens: int, position: Int64 | None
) -> tuple[int, Supports]:
    """Return one of the waits at a rate with which products could leave int64, and nothing of what it is for."""
    among, nothing = sought.among, np.empty(0, dtype=np.int64)
    if isinstance(among, Probes):
        waits = latest_start_ns(arrival_ns, period_ns, tokens, position, among[:2]) - among.ingress_ns
    else:
        waits = latest_start_ns(arrival_ns, period_ns, tokens, position) - arrival_ns
        waits = waits if among is None else waits[among]
    rank = waits.size - sought.above
    return int(np.partition(waits, rank)[rank]), Supports(nothing, nothing)


class _Scaled(NamedTuple):
    """Waits times `tokens` at one rate, and the running maximum behind them; shape (k,)."""

    waits: Int64
    greatest: Int64
    base_ns: int
    period_ns: int


def _slow_tokens(waits: Int64, sought: Sequence[Sought], params: SampleParams) -> dict[int, Int64]:
    """Tokens that wait longest, at least as many as are kept, for each set of tokens of which this is known.

    One look at the waits finds the tokens for all sets; how long they wait, a sample of the waits tells.
    """
    every, least = waits.size // params.size, dict[int, int]()
    for place, one in enumerate(sought):
        if every > 1 and not isinstance(one.among, Probes):
            sample = waits[::every] if one.among is None else waits[::every][one.among[::every]]
            rank = sample.size - 1 - math.ceil(params.surplus * one.kept / every)
            if rank > 0:
                least[place] = int(np.sort(sample)[rank])
    slow = np.flatnonzero(waits >= min(least.values())) if least else np.empty(0, dtype=np.int64)
    those, found = waits[slow], dict[int, Int64]()
    for place, least_wait in least.items():
        own, among = slow[those >= least_wait], sought[place].among
        own = own if among is None else own[among[own]]
        if own.size >= sought[place].kept:
            found[place] = own
    return found


def _longest(
    sought: Sought,
    scaled: _Scaled,
    known: Int64 | None,
    arrival_ns: Int64,
    tokens: int,
    position: Int64 | None,
    params: SampleParams,
) -> tuple[int, Supports]:
    """Return one of the waits at a rate, and what the longest ones wait for; these are among `known`, if that is."""
    among, waits, marked = sought.among, scaled.waits, None
    if isinstance(among, Probes):
        entered = (among.ingress_ns - np.int64(scaled.base_ns)) * np.int64(tokens)
        waits = scaled.greatest[among.last] - (entered - among.number * np.int64(scaled.period_ns))
    elif known is None and among is not None:
        marked = np.flatnonzero(among)
        waits = waits[marked]
    slow = find_largest(waits, sought.kept, params) if known is None else known
    slow = np.arange(waits.size) if slow is None else slow
    # Both order statistics come of one pass: most of the time goes into it.
    those = waits[slow]
    first = max(0, those.size - sought.kept)
    order = np.partition(those, [first, those.size - sought.above])
    chosen = greatest_values(those, sought.kept, int(order[first]))
    slow = slow[chosen] if marked is None else marked[slow[chosen]]
    exact = -(-int(order[those.size - sought.above]) // tokens)
    if isinstance(among, Probes):
        last, number, ingress_ns = (column[slow] for column in among)
    else:
        last, number, ingress_ns = slow, slow if position is None else position[slow], arrival_ns[slow]
    greatest = scaled.greatest[last]  # mostly the same for many tokens: it lasts from the one that sets it
    is_first = np.ones(last.size, dtype=bool)
    np.not_equal(greatest[1:], greatest[:-1], out=is_first[1:])
    since = np.searchsorted(scaled.greatest, greatest[is_first])[np.cumsum(is_first) - 1]
    work = number - (since if position is None else position[since])
    return exact, Supports(work, ingress_ns - arrival_ns[since])


def _scaled_waits(
    arrival_ns: Int64, period_ns: int, tokens: int, position: Int64 | None, sought: Sequence[Sought]
) -> _Scaled | None:
    """Waits of all tokens times `tokens`; None if these, or those of some probes, could leave int64."""
    newest = arrival_ns.size - 1 if position is None else int(position[-1])
    base, latest = int(arrival_ns[0]), int(arrival_ns[-1])
    for probes in (one.among for one in sought if isinstance(one.among, Probes)):
        newest = max(newest, int(probes.number.max(initial=0)))
        latest = max(latest, int(probes.ingress_ns.max(initial=0)))
    if (latest - base + 1) * tokens + (newest + 1) * period_ns >= SAFE:
        return None
    waits, greatest = np.empty((2, arrival_ns.size), dtype=np.int64)
    for some, key, so_far, _ in running_maxima(arrival_ns, base, period_ns, tokens, position):
        greatest[some] = so_far
        np.subtract(so_far, key, out=waits[some])
    return _Scaled(waits, greatest, base, period_ns)


class Wait(Protocol):
    """The wait of one stage on one path as a function of R; it grows with 1/R."""

    def exact(self, period_ns: int, tokens: int) -> int:
        """W in ns, rounded up, at ``1/R = period_ns / tokens`` ns per token."""

    def lower(self, period_ns: int, tokens: int, least_ns: int = 0, most_ns: int = UNLIMITED_NS) -> int:
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
        #: So many steps of the grid are between rates that are evaluated.
        self.coarse = _PARAMS.fine if arrival_ns.size <= _PARAMS.few_tokens else _PARAMS.coarse

    def curve(self, among: Bool | Probes | None, above: int) -> WaitCurve:
        """Return the curve of the tokens marked, of others, or of all, whose quantile is the least of `above` waits."""
        self._curves.append(WaitCurve(self, among, above))
        return self._curves[-1]

    def evaluate(self, rate: tuple[int, int]) -> None:
        """Look the waits of all curves up on the trace at one rate, in lowest terms."""
        TIME_CHECK.get()()
        self.passes += 1
        sought = [curve.sought() for curve in self._curves]
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

    def lower(self, period_ns: int, tokens: int, least_ns: int = 0, most_ns: int = UNLIMITED_NS) -> int:
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
        if found > most_ns or self._is_between_near(period_ns / tokens):
            return found
        step = grid_step(period_ns / tokens)
        # The slower one mostly tells enough, and of short waits those farther off do.
        coarse = self.queue.coarse
        for apart in (2 * coarse, coarse) if least_ns else (coarse,):
            below = step // apart * apart if step >= 0 else -1
            beside = [_reduced(*grid_rate(s)) for s in (below + apart if step >= 0 else 0, below)]
            for rate in [key] if key in beside else beside:
                if rate not in self._known:
                    self.queue.evaluate(rate)
                faster_ns, slower_ns = self._between(key)
                found = max(faster_ns, self._bound(*key))
                if slower_ns <= least_ns or found > most_ns:
                    return found
            if slower_ns <= min(most_ns, _PARAMS.short * least_ns):
                break
        return found

    def _is_between_near(self, slope: float) -> bool:
        """Whether evaluated rates on both sides are as near to each other as steps of the coarse grid."""
        place = bisect.bisect_left(self._slopes, slope)
        near = _PARAMS.grid_ratio**self.queue.coarse
        return 0 < place < len(self._slopes) and self._slopes[place] <= near * self._slopes[place - 1]

    def _between(self, key: tuple[int, int]) -> tuple[int, int]:
        """Waits at the evaluated rates next to one, or at itself: it lies between them."""
        if key in self._known:
            return self._known[key], self._known[key]
        place = bisect.bisect_left(self._slopes, key[0] / key[1])
        faster_ns = max(0, self._waits[place - 1]) if place else 0
        return faster_ns, self._waits[place] if place < len(self._waits) else UNLIMITED_NS

    def sought(self) -> Sought:
        """Say what to look up on the trace."""
        return Sought(self._above, math.ceil(_PARAMS.remembered * self._above), self._among)

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


def _reduced(period_ns: int, tokens: int) -> tuple[int, int]:
    divisor = math.gcd(period_ns, tokens)
    return period_ns // divisor, tokens // divisor
