"""The least capacity of a stage: how fast its tokens must be served so that no more than may be late are late.

Every token of a query that keeps its deadline is served within a window of its own, from its earliest arrival to its
due time. A batch of k that serves any of them on time fits into its window, and holds no more such tokens than
arrive close enough to each other; so there is a least time that a replica spends on each. Whatever the discipline,
the batches and the replicas upstream do, those tokens could also be served on time by one machine that takes
``work`` for each, at will and with interruptions, if ``work`` is at most that least time divided by the replicas. The
most tokens such a machine can finish on time are found by serving them in order and turning away whatever would be
late (docs/theory.md, section on refinement, has the proof).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from mipplan.core import Int64
from mipplan.refinement.least_times import LeastTimes
from mipplan.replayer import NEVER

#: The least work is found to this share of itself.
_PRECISION = 4_096
#: Parts of a ns in which work is counted, if the times leave room for it.
_MOST_PARTS = 1_024
#: Lengths of windows in which tokens are counted; between them the next longer one counts.
_SHARES_OF_WINDOW = np.linspace(0.0, 1.0, 41)


@dataclass(frozen=True)
class Crowds:
    """The most tokens that enter within a closed window, for some lengths of it.

    Attributes
    ----------
    length_ns, tokens : int64, shape (m,)
        Lengths in increasing order.
    """

    length_ns: Int64
    tokens: Int64

    def at_most(self, length_ns: Int64) -> Int64:
        """Bound the tokens within windows of these lengths, none longer than the longest here."""
        counted: Int64 = self.tokens[np.searchsorted(self.length_ns, length_ns)]
        return counted


@dataclass(frozen=True)
class NeededCapacity:
    """What a stage's replicas must be able to do at least.

    Attributes
    ----------
    work : int
        If each token takes at least so much of the stage as a whole, in parts of a ns, more queries than allowed
        are late.
    parts : int
        In a ns.
    window_ns : int
        From the earliest arrival of a token to its due time.
    crowds : Crowds
        Of the tokens that enter within so much time, or less.
    """

    work: int
    parts: int
    window_ns: int
    crowds: Crowds

    def fewest_replicas(self, service_ns: Int64) -> int | None:
        """With fewer replicas whose batches of k take ``service_ns[k - 1]``, too many queries are late.

        None if they are with any number, since every batch takes longer than the window.
        """
        size = np.arange(1, service_ns.size + 1, dtype=np.int64)
        fits = service_ns <= self.window_ns
        if not fits.any():
            return None
        # Tokens that a batch serves on time entered within what it leaves of the window.
        useful = np.minimum(size[fits], self.crowds.at_most(self.window_ns - service_ns[fits]))
        # n replicas are too few if ℓ(k) per useful token is n·work or more for every k.
        too_few = min(
            latency * self.parts // (tokens * self.work)
            for latency, tokens in zip(service_ns[fits].tolist(), useful.tolist(), strict=True)
        )
        return int(too_few) + 1


def find_needed_capacity(times: LeastTimes, stage: str, allowed: int) -> NeededCapacity | None:
    """Find the least capacity of a stage with which at most `allowed` queries are late, or nearly that.

    None if any capacity will do, as far as this condition tells.
    """
    tokens = times.workload.stages[stage]
    if tokens.count == 0:
        return None
    per_query = np.sort(np.bincount(tokens.query))[::-1]
    spare = int(per_query[:allowed].sum())
    if spare >= tokens.count:
        return None
    length_ns = window_ns(times, stage)
    if length_ns <= 0:  # then path service times say it all
        return None
    ingress_ns = times.workload.ingress_ns[tokens.query]
    reach_ns = int(ingress_ns[-1] - ingress_ns[0]) + length_ns
    parts = max(1, min(_MOST_PARTS, (NEVER >> 2) // reach_ns))
    gaps = np.diff(ingress_ns, prepend=ingress_ns[0]) * parts
    window = length_ns * parts
    count = _counter()
    fits, fails = 0, window + 1
    while fails - fits > max(1, fails // _PRECISION):
        work = (fits + fails) // 2
        if count(gaps, window, work, spare) > spare:
            fails = work
        else:
            fits = work
    return NeededCapacity(fails, parts, length_ns, _count_crowds(ingress_ns, length_ns))


def window_ns(times: LeastTimes, stage: str) -> int:
    """One window for all tokens: from the earliest arrival of any to the latest due time of any, since ingress."""
    tokens = times.workload.stages[stage]
    if tokens.count == 0:
        return 0
    ingress_ns = times.workload.ingress_ns[tokens.query]
    return int((times.due_ns[stage] - ingress_ns).max() - (times.arrival_ns[stage] - ingress_ns).min())


def _count_crowds(ingress_ns: Int64, longest_ns: int) -> Crowds:
    lengths = np.unique((longest_ns * _SHARES_OF_WINDOW).astype(np.int64))
    lengths[-1] = longest_ns
    first = np.arange(ingress_ns.size)
    most = [
        int((np.searchsorted(ingress_ns, ingress_ns + length, side="right") - first).max())
        for length in lengths.tolist()
    ]
    return Crowds(lengths, np.array(most, dtype=np.int64))


def count_turned_away(gaps: Sequence[int] | Int64, window: int, work: int, most: int) -> int:
    """Count the tokens that a machine must turn away; stops counting once there are more than `most`.

    Parameters
    ----------
    gaps : int64, shape (tokens,)
        Time since the previous token arrived.
    window : int
        From the arrival of a token to its due time.
    work : int
        That a token takes.
    most : int
    """
    unfinished = 0
    away = 0
    for gap in gaps:
        unfinished = max(unfinished - gap, 0)
        if unfinished + work <= window:
            unfinished += work
        else:
            away += 1
            if away > most:
                return away
    return away


@cache
def _counter() -> Callable[[Int64, int, int, int], int]:
    """`count_turned_away`, compiled where numba is there."""
    if find_spec("numba") is None:
        return lambda gaps, window, work, most: count_turned_away(gaps.tolist(), window, work, most)
    from mipplan.replayer import compiled

    fast: Callable[..., Any] = compiled(count_turned_away)
    return lambda gaps, window, work, most: int(fast(gaps, window, work, most))
