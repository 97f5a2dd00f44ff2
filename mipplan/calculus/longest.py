"""The longest waits of a stage's tokens at one rate, and what they wait for, for many sets of tokens at once.

All sets share the pass over the stage's tokens that finds every wait, and the look at the waits that finds those that
may be among the longest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np

from mipplan.calculus.samplepath import LARGEST_PRODUCT, latest_start_ns, running_maximum
from mipplan.core import Bool, Int64, SampleParams, find_largest, greatest_values

_SAMPLE_PARAMS = SampleParams()
#: Waits below 0.8 of what is known to be the least one asked for are not looked at, because none of them can count.
_DOUBTED = 0.8


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
    # What is known already: the wait is no shorter, and much shorter ones are not looked at.
    least_ns: int = 0


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
        extent = farthest_ns * tokens + most * period_ns
        if extent >= LARGEST_PRODUCT:
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
    probes = [one.among for one in sought if isinstance(one.among, Probes)]
    scaled = _scaled_waits(arrival_ns, period_ns, tokens, position, probes)
    if scaled is None:
        return [_by_parts(one, arrival_ns, period_ns, tokens, position) for one in sought]
    slow = _slow_tokens(scaled.waits, sought, params)
    return [
        _longest(one, scaled, some, arrival_ns, tokens, position, params)
        for one, some in zip(sought, slow, strict=True)
    ]


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


def _slow_tokens(waits: Int64, sought: Sequence[Sought], params: SampleParams) -> list[Int64 | None]:
    """For each set of tokens at least as many of it as are kept, those that wait longest; None if not known.

    One look at the waits finds the tokens for all sets; how long they wait, a sample of the waits tells.
    """
    every, least = waits.size // params.size, dict[int, int]()
    for place, one in enumerate(sought):
        if every > 1 and not isinstance(one.among, Probes):
            sample = waits[::every] if one.among is None else waits[::every][one.among[::every]]
            rank = sample.size - 1 - math.ceil(params.surplus * one.kept / every)
            if rank > 0:
                least[place] = int(np.sort(sample)[rank])
    found: list[Int64 | None] = [None] * len(sought)
    if least:
        slow = np.flatnonzero(waits >= min(least.values()))
        those = waits[slow]
    for place, least_wait in least.items():
        own, among = slow[those >= least_wait], sought[place].among
        own = own if among is None else own[among[own]]
        found[place] = own if own.size >= sought[place].kept else None
    return found


def _longest(
    sought: Sought,
    scaled: _Scaled,
    slow: Int64 | None,
    arrival_ns: Int64,
    tokens: int,
    position: Int64 | None,
    params: SampleParams,
) -> tuple[int, Supports]:
    """Return one of the waits at a rate, and what the longest ones wait for; these are among `slow`, if known."""
    among, waits = sought.among, scaled.waits
    if isinstance(among, Probes):
        entered = (among.ingress_ns - np.int64(scaled.base_ns)) * np.int64(tokens)
        waits = scaled.greatest[among.last] - (entered - among.number * np.int64(scaled.period_ns))
        slow = _doubtful(waits, sought, tokens, params)
    elif slow is None:
        own = np.arange(waits.size) if among is None else np.flatnonzero(among)
        slow = own[_doubtful(waits[own], sought, tokens, params)]
    # Both order statistics come of one pass: most of the time goes into it.
    those = waits[slow]
    first = max(0, those.size - sought.kept)
    order = np.partition(those, [first, those.size - sought.above])
    slow = slow[greatest_values(those, sought.kept, int(order[first]))]
    exact = -(-int(order[those.size - sought.above]) // tokens)
    if isinstance(among, Probes):
        last, number, ingress_ns = (column[slow] for column in among)
    else:
        last, number, ingress_ns = slow, slow if position is None else position[slow], arrival_ns[slow]
    # A running maximum lasts from the token that sets it, mostly for many tokens.
    greatest = scaled.greatest[last]
    change = np.flatnonzero(np.r_[True, greatest[1:] != greatest[:-1]])
    since = np.searchsorted(scaled.greatest, greatest[change])
    since = np.repeat(since, np.diff(change, append=last.size))
    work = number - (since if position is None else position[since])
    return exact, Supports(work, ingress_ns - arrival_ns[since])


def _doubtful(waits: Int64, sought: Sought, tokens: int, params: SampleParams) -> Int64:
    """Index of waits times `tokens` that may be among the longest, ascending."""
    found = find_largest(waits, sought.kept, params)
    if found is not None:
        return found
    # Rounding up may have added one unit of time. (Of 0 nothing follows: some waits may be negative.)
    least_ns = sought.least_ns - 1
    return (
        np.flatnonzero(waits >= int(_DOUBTED * least_ns) * tokens) if least_ns > 0 else np.arange(waits.size)
    )


def _scaled_waits(
    arrival_ns: Int64, period_ns: int, tokens: int, position: Int64 | None, probes: Sequence[Probes]
) -> _Scaled | None:
    """Waits of all tokens times `tokens`; None if these, or those of some probes, could leave int64."""
    newest = arrival_ns.size - 1 if position is None else int(position[-1])
    base, latest = int(arrival_ns[0]), int(arrival_ns[-1])
    for some in probes:
        newest = max(newest, int(some.number.max(initial=0)))
        latest = max(latest, int(some.ingress_ns.max(initial=0)))
    if (latest - base + 1) * tokens + (newest + 1) * period_ns >= LARGEST_PRODUCT:
        return None
    # Two arrays are all that is made, and written again: with long traces, making more is what takes the time.
    work = np.arange(arrival_ns.size, dtype=np.int64) if position is None else position.astype(np.int64)
    work *= np.int64(period_ns)
    key = arrival_ns - np.int64(base)
    key *= np.int64(tokens)
    key -= work
    greatest = running_maximum(key, out=work)
    return _Scaled(np.subtract(greatest, key, out=key), greatest, base, period_ns)
