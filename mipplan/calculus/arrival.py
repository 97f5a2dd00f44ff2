"""Arrival curves: concave, piecewise linear, for all traffic or as a trace itself obeys.

Float tokens and seconds: these curves describe traffic for people and for the envelope guarantee. What a plan is
certified by is computed in integers elsewhere (`samplepath`, `envelopes`).

References
----------
J.-Y. Le Boudec, P. Thiran, "Network Calculus", Springer LNCS 2050, 2001, doi:10.1007/3-540-45318-0.
A. Bouillard, M. Boyer, E. Le Corronc, "Deterministic Network Calculus", Wiley 2018, doi:10.1002/9781119440284.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mipplan.core import NS_PER_S, Bool, Fault, Float64, InputError, Int64, is_finite, running_maximum, shown


@dataclass(frozen=True)
class ArrivalCurve:
    """Concave arrival curve ``α(u) = min_k (burst_k + rate_k·u)`` for u > 0 and ``α(0) = 0``.

    At most α(u) tokens arrive in any window of length u. Made through `token_bucket` or `minimum`.
    """

    buckets: tuple[tuple[float, float], ...]
    """Only those that matter somewhere, by rate descending, burst ascending (tokens, tokens/s)."""

    def __post_init__(self) -> None:
        try:
            pairs = [(burst, rate) for burst, rate in self.buckets]
        except (TypeError, ValueError):
            message = f"expected (burst, rate) pairs, found {shown(self.buckets)}"
            raise InputError.one("arrival curve", message) from None
        if not pairs:
            raise InputError.one("arrival curve", "needs at least one (burst, rate) pair")
        message = "burst and rate must be finite and not negative, found ({}, {})"
        InputError.raise_if(
            Fault("arrival curve", message.format(shown(burst), shown(rate)))
            for burst, rate in pairs
            if not (is_finite(burst) and is_finite(rate) and burst >= 0 and rate >= 0)
        )
        # A plan file holds plain numbers: whole ones would not come back as the same bytes.
        plain = tuple((float(burst), float(rate)) for burst, rate in pairs)
        object.__setattr__(self, "buckets", _lower_envelope(plain))

    @classmethod
    def token_bucket(cls, burst: float, rate: float) -> ArrivalCurve:
        """Build α(u) = burst + rate·u."""
        return cls(((burst, rate),))

    def minimum(self, other: ArrivalCurve) -> ArrivalCurve:
        """Both constraints at once. For concave curves also their min-plus convolution (Le Boudec, thm 3.1.6)."""
        return ArrivalCurve(self.buckets + other.buckets)

    @property
    def rate(self) -> float:
        """Long-run rate, tokens/s."""
        return self.buckets[-1][1]

    def breakpoints(self) -> tuple[float, ...]:
        """Window lengths (s, ascending) where the slope changes."""
        return tuple((b2 - b1) / (r1 - r2) for (b1, r1), (b2, r2) in pairwise(self.buckets))

    def corners(self) -> list[tuple[float, float]]:
        """Where the slope changes, and just after 0: window length (s) and α there."""
        return [(window_s, self.just_after(window_s)) for window_s in (0.0, *self.breakpoints())]

    def __call__(self, window_s: float) -> float:
        """α at one window length (s)."""
        if window_s <= 0:
            return 0.0
        return self.just_after(window_s)

    def just_after(self, window_s: float) -> float:
        """Right limit of α: at 0 this is the burst, elsewhere α itself."""
        return min(burst + rate * window_s for burst, rate in self.buckets)

    def first_reach(self, tokens: float) -> float:
        """Infimum of u > 0 with α(u) ≥ tokens (s); 0 within the burst, ∞ if never."""
        if tokens <= self.just_after(0.0):
            return 0.0
        reached = ((tokens - burst) / rate for burst, rate in self.buckets if rate > 0)
        never = self.rate == 0 and self.buckets[-1][0] < tokens
        return math.inf if never else max(reached, default=0.0)


def least_above(curves: Sequence[ArrivalCurve]) -> ArrivalCurve:
    """Return the smallest concave curve above some others, at least one: traffic inside any of them is inside it."""
    if len(set(curves)) == 1:
        return curves[0]
    rate = max(curve.rate for curve in curves)
    hull: list[tuple[float, float]] = []
    for corner in sorted(corner for curve in curves for corner in curve.corners()):
        while hull and (
            corner[0] == hull[-1][0]
            or (len(hull) > 1 and _slope(hull[-2], corner) >= _slope(hull[-2], hull[-1]))
        ):
            hull.pop()
        hull.append(corner)
    slopes = [slope for slope in (_slope(a, b) for a, b in pairwise(hull)) if slope > rate]
    # The burst of every slope is that of the highest corner, so the curve is above all of them, rounding aside.
    bursts = (max(arrivals - slope * window for window, arrivals in hull) for slope in (*slopes, rate))
    guard = 1.0 + 16.0 * float(np.finfo(np.float64).eps)
    return ArrivalCurve(
        tuple((burst * guard, slope) for burst, slope in zip(bursts, (*slopes, rate), strict=True))
    )


def _slope(left: tuple[float, float], right: tuple[float, float]) -> float:
    return (right[1] - left[1]) / (right[0] - left[0])


def check_curve(envelope: object, is_kept: bool) -> None:
    """Refuse what is no arrival curve that a plan could keep, or one given to a plan that `is_kept` says keeps none.

    Raises `InputError`.
    """
    if not is_kept:
        raise InputError.one("envelope", "goes with the guarantee envelope only")
    if not isinstance(envelope, ArrivalCurve):
        raise InputError.one("envelope", f"expected an ArrivalCurve, found {type(envelope).__name__}")
    if envelope.just_after(0.0) < 1.0:
        message = "its burst is below one query, so no query could ever arrive; give a burst of at least 1"
        raise InputError.one("envelope", message)


def empirical_envelope(arrival_ns: Int64, max_pieces: int = 64) -> ArrivalCurve:
    """Smallest concave curve that no closed window of the trace exceeds.

    The envelope α⁺(u), the most arrivals in any closed window of length u, needs all O(n²) windows; its concave
    hull needs only ``burst(r) = max over i ≥ j of (i − j + 1) − r·(t_i − t_j)``, one running maximum per slope r.
    Slopes are found as in a convex-hull search: the chord between two known vertices is either an edge of the
    hull, or its slope yields a new vertex beyond it. Cost O(n) per vertex.

    Parameters
    ----------
    arrival_ns : int64, shape (n,)
        Non-decreasing, n ≥ 1.
    max_pieces : int
        Stop refining after about this many pieces; the result still lies above the envelope, only less tightly.

    Returns
    -------
    ArrivalCurve
        In arrivals and seconds; its long-run rate is zero, because a trace is finite.
    """
    times = (arrival_ns - arrival_ns[0]).astype(np.float64) / NS_PER_S
    count = times.size
    last = (float(times[-1]), float(count))
    if last[0] == 0.0:
        return ArrivalCurve.token_bucket(count, 0.0)
    first = (0.0, float(np.unique(arrival_ns, return_counts=True)[1].max()))  # the most at once
    vertices, everything = 2, _Windows(times, np.arange(count, dtype=np.float64))
    pending = [(first, first[1], last, everything)]
    # The burst of every slope is computed from the trace itself, so the curve is valid even if refinement stopped.
    lines = list[tuple[float, float]]()
    while pending:
        # No burst of the slopes in between is below `least`.
        left, least, right, windows = pending.pop(0)
        slope = _slope(left, right)
        guard, view = _guard(times, slope), windows.above(slope)
        vertex, burst = windows.furthest(view)
        spare = burst - (left[1] - slope * left[0]) - 1e-9 * count
        if spare > guard and left[0] < vertex[0] < right[0] and vertices < max_pieces:
            vertices += 1
            pending.append((left, least, vertex, windows.for_steeper(view, least - 2 * guard)))
            pending.append((vertex, burst, right, windows.for_flatter(view, 2 * guard)))
        else:
            lines.append((max(0.0, burst + guard), slope))
    return ArrivalCurve((*lines, (float(count), 0.0)))


@dataclass(frozen=True)
class _Windows:
    """Arrivals at which the windows that are furthest above lines of some slopes may begin and end.

    What is left out makes no difference for these slopes but for rounding, which `_guard` covers.
    """

    times: Float64  # Seconds, shape (m,), ascending.
    ranks: Float64  # Each one's place among all arrivals, shape (m,).

    def above(self, slope: float) -> _View:
        """Where arrivals are beside a line of this slope."""
        depth = slope * self.times - self.ranks
        return _View(depth, running_maximum(depth) - depth)

    def furthest(self, view: _View) -> tuple[tuple[float, float], float]:
        """The window (length, arrivals) that is furthest above the line, and the line's burst."""
        end = int(np.argmax(view.gain))
        start = int(np.argmax(view.depth[: end + 1]))
        window = float(self.times[end] - self.times[start]), float(self.ranks[end] - self.ranks[start] + 1)
        return window, float(view.gain[end]) + 1.0

    def for_steeper(self, view: _View, least: float) -> _Windows:
        """For greater slopes, as long as their bursts are at least so large.

        A window rises above its start all the time, beside this line too, and there it is higher.
        """
        starts = np.flatnonzero(view.gain == 0.0)
        kept = np.maximum.reduceat(view.gain, starts) + 1.0 >= least
        return self._only(np.repeat(kept, np.diff(starts, append=view.gain.size)))

    def for_flatter(self, view: _View, tolerance: float) -> _Windows:
        """For lesser slopes: a window begins lower than all before it, and ends no lower than all after it."""
        ends = view.depth <= np.minimum.accumulate(view.depth[::-1])[::-1] + tolerance
        return self._only((view.gain <= tolerance) | ends)

    def _only(self, kept: Bool) -> _Windows:
        return _Windows(self.times[kept], self.ranks[kept])


@dataclass(frozen=True)
class _View:
    """How far below a line each arrival is, and how much higher than the lowest one until then; both shape (m,)."""

    depth: Float64
    gain: Float64


def overrun(arrival_ns: Int64, curve: ArrivalCurve) -> float:
    """By how many arrivals the worst closed window of a trace exceeds an arrival curve; at most 0 if inside it.

    Parameters
    ----------
    arrival_ns : int64, shape (n,)
        Non-decreasing, n ≥ 1.
    curve : ArrivalCurve
        In arrivals and seconds.
    """
    times = (arrival_ns - arrival_ns[0]).astype(np.float64) / NS_PER_S
    # Rounding may not put a trace outside that touches the curve exactly.
    windows = _Windows(times, np.arange(times.size, dtype=np.float64))
    bursts = ((windows.furthest(windows.above(rate))[1], burst, rate) for burst, rate in curve.buckets)
    return max(found - _guard(times, rate) - burst for found, burst, rate in bursts)


def _guard(times: Float64, slope: float) -> float:
    """More than floating-point rounding can take away from a burst."""
    return float(16.0 * np.finfo(np.float64).eps * (times.size + slope * float(times[-1])))


def _lower_envelope(lines: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Keep the lines that are the minimum somewhere on u > 0, by rate descending."""
    kept: list[tuple[float, float]] = []
    for burst, rate in sorted(lines, key=lambda line: (-line[1], line[0])):
        if kept and kept[-1][1] == rate:
            continue
        # A lower rate with no larger burst is below everything before it.
        while kept and burst <= kept[-1][0]:
            kept.pop()
        while len(kept) >= 2 and _cross(kept[-2], (burst, rate)) <= _cross(kept[-2], kept[-1]):
            kept.pop()
        kept.append((burst, rate))
    return tuple(kept)


def _cross(steep: tuple[float, float], flat: tuple[float, float]) -> float:
    return (flat[0] - steep[0]) / (steep[1] - flat[1])
