"""What a table leaves open between its measured batch sizes: how far a straight line may be off there.

Numbers in, numbers out: no clock, no model, no plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from mipplan.core import NS_PER_MS, Float64
from mipplan.profiling.measuring import BatchMeasurement

#: So many places of a gap are looked at, evenly spread: lines hardly differ between them.
_MOST_PLACES = 1_000


class KnownLatency(NamedTuple):
    """The latency found at a batch size, and the ends of its interval, ms."""

    low: float
    value: float
    high: float

    @property
    def doubt(self) -> float:
        """How far the farther end is from the value."""
        return max(self.high - self.value, self.value - self.low)


#: By batch size, increasing.
KnownLatencies = Mapping[int, KnownLatency]


def known_latency(found: BatchMeasurement, latency: str) -> KnownLatency:
    """Return what is known of the latency that goes into the table: ``p99``, ``p50``, ``mean`` or ``max``.

    Means and maxima have no interval. Where there were too few runs for an end of an interval, the shortest or the
    longest of them stands for it.
    """
    value = found.latency_ms(latency)
    if latency not in ("p50", "p99"):
        return KnownLatency(value, value, value)
    ends = found.p50 if latency == "p50" else found.p99
    low = int(found.latency_ns.min()) if ends.low_ns is None else ends.low_ns
    high = int(found.latency_ns.max()) if ends.high_ns is None else ends.high_ns
    return KnownLatency(min(low / NS_PER_MS, value), value, max(high / NS_PER_MS, value))


@dataclass(frozen=True)
class Gap:
    """Two measured batch sizes with others between them that were not measured."""

    low: int
    high: int
    error: float  # A straight line across is off by at most this share of it, if bends show (`find_gaps`).
    shown: float  # … and this much of it is more than the intervals of the latencies can account for.

    @property
    def middle(self) -> int:
        """The size in the middle, the lower one of two."""
        return (self.low + self.high) // 2


def find_gaps(known: KnownLatencies) -> tuple[Gap, ...]:
    """Find the gaps of a table, and bound how far interpolation may be off in each.

    Let a < c be measured neighbours, and ℓ the latency found. The bound holds if two assumptions do:

    *Between.* Inside the gap the latency lies between ℓ(a) and ℓ(c): a bigger batch takes no less time than a smaller
    one (or no more, where the table falls).

    *Bends show.* Inside the gap the latency lies between the straight line from a to c and the lines of the gaps beside
    it, prolonged. If the latency is convex around the gap it lies above the prolonged lines and below the straight one;
    if it is concave, the other way round; where the table bends one way at a and the other way at c, anything between
    is allowed. Without a neighbouring gap only the first assumption is made.

    So the interpolated latency I(k) is off by at most

        max over prolonged lines p and places k of
            min( |p(k) - I(k)|,  distance from I(k) to the end of [ℓ(a), ℓ(c)] on the side of p(k) )

    and by nothing if the four neighbours lie on one line. A step narrower than its gap need not show at the
    neighbours; then the second assumption fails, and only the first bounds the error. Each latency may be off by its
    doubt, and a line by the doubts of the two that it goes through, by their weights: `Gap.shown` is what is left of
    the error without that.

    References
    ----------
    The bound for convex functions is that of sandwich algorithms: R. E. Burkard, H. W. Hamacher, G. Rote: Sandwich
    approximation of univariate convex functions with an application to separable convex programming, Naval Research
    Logistics 38 (1991), 911-924.
    """
    sizes = list(known)
    return tuple(
        _gap(known, low, high, sizes[place - 1 : place], sizes[place + 2 : place + 3])
        for place, (low, high) in enumerate(pairwise(sizes))
        if high - low > 1
    )


def _gap(known: KnownLatencies, low: int, high: int, before: list[int], after: list[int]) -> Gap:
    places = min(high - low - 1, _MOST_PLACES)
    at = np.unique(np.linspace(low + 1, high - 1, places).astype(np.int64)).astype(np.float64)
    line = _Line.through(known, low, high, at)
    beside = [_Line.through(known, one, low, at) for one in before]
    beside += [_Line.through(known, high, one, at) for one in after]
    ends = sorted((known[low].value, known[high].value))
    apart = [(one.latency - line.latency, one.doubt + line.doubt) for one in beside]
    if not beside:  # then whatever lies between the ends
        apart = [(end - line.latency, line.doubt) for end in ends]
    error = shown = 0.0
    for distance, doubt in apart:
        room = np.where(distance > 0, ends[1] - line.latency, line.latency - ends[0])
        error = max(error, float((np.minimum(np.abs(distance), room) / line.latency).max()))
        beyond = np.maximum(np.abs(distance) - doubt, 0.0)
        shown = max(shown, float((np.minimum(beyond, room) / line.latency).max()))
    return Gap(low, high, error, shown)


class _Line(NamedTuple):
    """A straight line through two measured latencies, at some sizes, ms; and how far it may be off by chance."""

    latency: Float64
    doubt: Float64

    @classmethod
    def through(cls, known: KnownLatencies, low: int, high: int, at: Float64) -> _Line:
        share = (at - low) / (high - low)
        first, second = known[low], known[high]
        return cls(
            first.value * (1 - share) + second.value * share,
            np.abs(1 - share) * first.doubt + np.abs(share) * second.doubt,
        )


def expected_latency(known: KnownLatencies, batch: int) -> KnownLatency:
    """Guess the latency of a size that was not measured: on the straight line, or on the last one prolonged."""
    sizes = list(known)
    low, high = next(
        ((a, c) for a, c in pairwise(sizes) if a < batch < c),
        (sizes[-2] if len(sizes) > 1 else 0, sizes[-1]) if batch > sizes[-1] else (0, sizes[0]),
    )
    first = known[low].value if low in known else 0.0
    value = first + (known[high].value - first) * (batch - low) / (high - low)
    value = max(value, known[sizes[-1]].value) if batch > sizes[-1] else value
    doubt = value * known[high].doubt / known[high].value
    return KnownLatency(value - doubt, value, value + doubt)


def falls(known: KnownLatencies) -> Iterator[tuple[int, int]]:
    """Pairs of neighbours of which the larger batch takes less time, beyond the intervals of both."""
    return ((a, c) for a, c in pairwise(known) if known[c].high < known[a].low)
