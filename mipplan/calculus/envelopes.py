"""What an arrival curve asks of a server, in exact numbers: the corners of its concave hull, and the servers needed.

A server of rate R answers within S after its latency if and only if ``R·(u + S) ≥ α(u) − 1`` for all windows u
([theory, section 6][6-the-worst-case-inside-an-arrival-curve]). For a given R that is a straight line above α, so
only the corners of the concave hull of α can decide it. Two kinds of knowledge about traffic come down to such
corners: an `ArrivalCurve`, and counts measured over a few windows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import pairwise
from operator import ge, gt

import numpy as np
from numpy.typing import ArrayLike

from mipplan.calculus.arrival import ArrivalCurve
from mipplan.core import NS_PER_S, UNLIMITED_NS, Int64, frozen

Number = int | Fraction

#: At most 64 steps are kept of each doubling of the window: half as many would raise the bound of long windows by a
#: percent.
_STEPS_PER_DOUBLING = 64
#: Products of arrivals and nanoseconds stay below this in arrays of int64, far from its end.
_MOST_PRODUCT = 2**60


@dataclass(frozen=True)
class Envelope:
    """Corners of an arrival curve's concave hull; exact."""

    # Window length in ns, the first 0, and the arrivals just after it, both increasing.
    corners: tuple[tuple[Number, Number], ...]
    # Long-run arrivals per ns, at most the slope of the hull before the last corner; from there on the curve
    # stays below the line of this slope.
    rate: Number

    @cached_property
    def excesses(self) -> tuple[tuple[int, int, int], ...]:
        """Arrivals over the first, window in ns, and the denominator of both, of each corner, as whole numbers."""
        return tuple(
            (
                (arrivals.numerator - arrivals.denominator) * window.denominator,
                window.numerator * arrivals.denominator,
                arrivals.denominator * window.denominator,
            )
            for window, arrivals in self.corners
        )

    @classmethod
    def of_curve(cls, curve: ArrivalCurve) -> Envelope:
        """Corners of a concave curve: where its slope changes."""
        lines = [(Fraction(burst), Fraction(rate) / NS_PER_S) for burst, rate in curve.buckets]
        windows = [Fraction(0)]
        windows += [(b2 - b1) / (r1 - r2) for (b1, r1), (b2, r2) in pairwise(lines)]
        corners = tuple((u, min(burst + rate * u for burst, rate in lines)) for u in windows)
        return cls(corners, lines[-1][1])

    def at(self, window_ns: Number) -> Number:
        """Value of the hull just after a window length (ns), which is at least 0."""
        (left, low), *others = self.corners
        for right, high in others:
            if window_ns < right:
                return low + Fraction(high - low) / (right - left) * (window_ns - left)
            left, low = right, high
        return low + self.rate * (window_ns - left)

    def faster(self, times: Fraction) -> Envelope:
        """Envelope of this traffic as it comes `times` as fast, bursts and all: ``α(times·u)``, for times > 0."""
        corners = tuple((Fraction(u) / times, arrivals) for u, arrivals in self.corners)
        return Envelope(corners, self.rate * times)

    def thinned(self, share: Fraction) -> Envelope:
        """Envelope of a share of this traffic: ``1 + share·(α − 1)``, for a share from 0 to 1."""
        corners = tuple((u, 1 + share * (arrivals - 1)) for u, arrivals in self.corners)
        return Envelope(corners, share * self.rate)


@dataclass(frozen=True, eq=False, repr=False)
class WindowCounts:
    """Most arrivals in any closed window of a few lengths, as they are measured.

    Raises
    ------
    ValueError
        If they are not so.
    """

    window_ns: Int64
    """Shape (k,). Positive, strictly increasing."""
    count: Int64
    """Shape (k,). Not negative, not decreasing."""

    def __repr__(self) -> str:
        return f"<WindowCounts: {self.window_ns.size} windows, at most {int(self.count.max())} queries>"

    def __post_init__(self) -> None:
        for name in ("window_ns", "count"):
            array = np.array(getattr(self, name), dtype=np.int64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if self.window_ns.ndim != 1 or self.window_ns.size == 0 or self.window_ns.shape != self.count.shape:
            raise ValueError("window counts need one count per window, and at least one window")
        # Compared by hand, as tuners make these by the thousand, and there are few windows.
        windows, counts = self.window_ns.tolist(), self.count.tolist()
        if windows[0] <= 0 or any(map(ge, windows, windows[1:])):
            raise ValueError("window lengths must be positive and increase strictly")
        if counts[0] < 0 or any(map(gt, counts, counts[1:])):
            raise ValueError("counts must not be negative, and a longer window holds no fewer arrivals")

    @classmethod
    def of_arrivals(cls, arrival_ns: Int64, window_ns: ArrayLike) -> WindowCounts:
        """Count a whole trace (non-decreasing, at least one arrival)."""
        windows = np.array(window_ns, dtype=np.int64)
        ends = np.arange(1, arrival_ns.size + 1)
        counts = [int((ends - np.searchsorted(arrival_ns, arrival_ns - u)).max()) for u in windows]
        return cls(windows, np.array(counts, dtype=np.int64))

    def steps(self) -> tuple[Int64, Int64]:
        """Staircase above every curve with these counts: windows d and a bound for windows just longer than d.

        A window of length u with ``d < u ≤ next d`` holds at most ``bound`` arrivals. That is the count of the
        shortest measured window that is not shorter, or, if less, that of a measured window plus the bound of the
        rest: α(u + w) ≤ α(u) + α(w), because a closed window is two windows, one of them without its end.
        Windows longer than the longest are not part of it; `envelope` covers them by the long-run rate.

        Returns
        -------
        window_ns, bound : int64, shape (s,)
            Both increasing (the bound not strictly), the first window 0.
        """
        starts, blocks = _staircase(tuple(self.window_ns.tolist()))
        bounds, counts = np.empty(starts.size, dtype=np.int64), self.count.tolist()
        bounds[0] = within = counts[0]
        place = 1
        for source, window, is_measured in blocks:
            # Between measured windows: two of the shorter one, and no more than the longer one.
            most = counts[window] if is_measured else min(counts[window], 2 * within)
            added = bounds[source] + within
            np.minimum(added, most, out=bounds[place : place + added.size])
            place, within = place + added.size, most
        return starts, bounds

    def envelope(self) -> Envelope:
        """Concave hull of the staircase; the long-run rate is the least of ``count / window``.

        References
        ----------
        [Lemma (known windows)][lemma-known-windows].
        """
        count, length = self._long_run()
        rate = Fraction(count, length)
        # Traffic of hundreds of thousands a second, or windows of days, take numbers of any length: exact and slower.
        kind = np.int64 if int(self.window_ns[-1]) * int(self.count[-1]) < _MOST_PRODUCT else object
        starts, bounds = (values.astype(kind, copy=False) for values in self.steps())
        # Beyond the corner that is furthest above a line of the long-run rate, the curve repeats along that line.
        last = int(np.argmax(bounds * length - starts * count))
        kept = _upper_hull(starts[: last + 1], bounds[: last + 1])
        return Envelope(tuple((int(starts[i]), int(bounds[i])) for i in kept), rate)

    def rates_needed(self, waits_ns: Sequence[int]) -> tuple[tuple[int, int] | None, ...]:
        """`rate_needed` of the envelope for each wait, numerators and denominators perhaps not the same.

        All steps are looked at instead of the corners, because to find these takes longer.
        """
        longest_ns = int(self.window_ns[-1]) + max(waits_ns)
        if min(waits_ns) > 0 and longest_ns * int(self.count[-1]) < _MOST_PRODUCT:
            starts, bounds = self.steps()
            excess, time = bounds - 1, starts + np.array(waits_ns)[:, None]
            best = (excess / time).argmax(axis=1)
            up, down = excess[best], time[np.arange(best.size), best]
            # Quotients are rounded, so that another may be larger.
            if not (excess * down[:, None] > time * up[:, None]).any():
                count, length = self._long_run()
                pairs = zip(up.tolist(), down.tolist(), strict=True)
                return tuple((a, t) if a * length > count * t else (count, length) for a, t in pairs)
        envelope = self.envelope()
        return tuple(rate_needed(envelope, wait) for wait in waits_ns)

    def _long_run(self) -> tuple[int, int]:
        """Count and length of the window of least ``count / length``; exact."""
        count, length = int(self.count[0]), int(self.window_ns[0])
        for other, window in zip(self.count.tolist(), self.window_ns.tolist(), strict=True):
            if other * length < count * window:
                count, length = other, window
        return count, length


class EnvelopeCurve:
    """The wait ``sup_u [ (F/R)·(α(u) − 1) − u ]⁺`` of one stage as a function of R; exact, rounded up to ns.

    α comes as a curve in queries and seconds, or as the corners of its hull; F is `tokens_per_query`.
    """

    def __init__(self, arrival: ArrivalCurve | Envelope, tokens_per_query: int | Fraction) -> None:
        self._fanout = tokens_per_query
        # The hull of α is concave, so the supremum lies at one of its corners or at infinity.
        envelope = arrival if isinstance(arrival, Envelope) else Envelope.of_curve(arrival)
        self._rate = envelope.rate
        self._excesses = envelope.excesses

    def exact(self, period_ns: int, tokens: int) -> int:
        """Return the wait in ns at ``1/R = period_ns / tokens``; `UNLIMITED_NS` if the traffic outruns R."""
        up, down = self._fanout.numerator * period_ns, self._fanout.denominator * tokens
        if up * self._rate.numerator > down * self._rate.denominator:
            return UNLIMITED_NS
        wait = max(
            -((window * down - up * excess) // (down * common)) for excess, window, common in self._excesses
        )
        return min(UNLIMITED_NS, max(0, wait))

    def lower(
        self,
        period_ns: int,
        tokens: int,
        least_ns: int = 0,  # noqa: ARG002
        most_ns: int = UNLIMITED_NS,  # noqa: ARG002
    ) -> int:
        """Return `exact`: nothing is saved by a bound."""
        return self.exact(period_ns, tokens)


def rate_needed(envelope: Envelope, wait_ns: int) -> tuple[int, int] | None:
    """Least rate, in queries per ns, at which all but the first query of each window u are served within ``u + wait``.

    ``max over corners of (a − 1)/(u + wait)``, and at least the long-run rate, as numerator and denominator; None if
    no rate is enough ([theorem (replicas)][theorem-replicas]).
    """
    if wait_ns < 0:
        return None
    best, per = envelope.rate.numerator, envelope.rate.denominator
    for excess, window, common in envelope.excesses:
        time = window + wait_ns * common
        if excess * per > best * time:
            if time == 0:
                return None  # several at one instant, and no time for any but the first
            best, per = excess, time
    return best, per


def servers_needed(
    envelope: Envelope, period_ns: int, tokens: int, wait_ns: int, tokens_per_query: int | Fraction = 1
) -> Fraction | None:
    """Least real number n for which n servers keep a wait; None if no number does.

    ``n = F·period/tokens · rate_needed``: the n servers then serve at the rate that is needed. One server takes
    `period_ns` for `tokens` tokens, and `tokens_per_query` is F ([theorem (replicas)][theorem-replicas]).
    """
    rate = rate_needed(envelope, wait_ns)
    if rate is None:
        return None
    (up, down), fanout = rate, tokens_per_query
    return Fraction(fanout.numerator * period_ns * up, fanout.denominator * tokens * down)


#: Where in the bounds so far those of a block come from, the window measured next, and whether the block ends there.
_Block = tuple[slice | Int64, int, bool]


@lru_cache(maxsize=256)
def _staircase(window_ns: tuple[int, ...]) -> tuple[Int64, tuple[_Block, ...]]:
    """Return the steps' windows, which do not depend on counts, and how to find the bounds block by block.

    A block goes from a length to the next, at most twice as long; kept because tuners ask for the same windows again.
    """
    starts, blocks = np.zeros(1, dtype=np.int64), []
    below = window_ns[0]
    for window, target in enumerate(window_ns[1:], 1):
        while below < target:
            length = min(target, 2 * below)
            inside = int(np.searchsorted(starts, length - below, side="left"))
            # Neighbouring steps are joined if there are too many: from the first to the last, as high as the last.
            stride = -(-inside // _STEPS_PER_DOUBLING)
            last = np.minimum(np.arange(stride - 1, inside + stride - 1, stride), inside - 1)
            blocks.append((slice(inside) if stride == 1 else last, window, length == target))
            starts = np.concatenate([starts, starts[:inside:stride] + below])
            below = length
    return frozen(starts), tuple(blocks)


def _upper_hull(x: Int64, y: Int64, *, pushed: bool = False) -> list[int]:
    """Positions of the corners of the upper hull, from the first point to the last; x increases strictly.

    Corners are guessed by their slopes in floating point. Where that leaves a point above them, which integers tell, it
    is done again, and each is pushed out until no point lies above its chord.
    """
    kept = [0]
    while kept[-1] < x.size - 1:
        here = kept[-1]
        dx, dy = x[here + 1 :] - x[here], y[here + 1 :] - y[here]
        best = int((dy / dx).argmax())
        while pushed:
            above = dy * dx[best] - dx * dy[best]
            higher = int(np.argmax(above))
            if above[higher] <= 0:
                break
            best = higher
        kept.append(here + 1 + best)
    return kept if pushed or _is_upper_hull(x, y, np.array(kept)) else _upper_hull(x, y, pushed=True)


def _is_upper_hull(x: Int64, y: Int64, corners: Int64) -> bool:
    """Whether slopes between these points do not increase, and no other point lies above; exact."""
    left, lengths = corners[:-1], corners[1:] - corners[:-1]
    dx, dy = x[corners[1:]] - x[left], y[corners[1:]] - y[left]
    if (dy[1:] * dx[:-1] > dy[:-1] * dx[1:]).any():
        return False
    start = left.repeat(lengths)
    up, along = y[:-1] - y[start], x[:-1] - x[start]
    return not (up * dx.repeat(lengths) > along * dy.repeat(lengths)).any()
