"""The arrival curve a trace itself obeys: concave hull of its empirical envelope."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mipplan.calculus.piecewise import ArrivalCurve
from mipplan.core import NS_PER_S


def empirical_envelope(arrival_ns: NDArray[np.int64], max_pieces: int = 64) -> ArrivalCurve:
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
    first = (0.0, float(_most_at_once(arrival_ns)))
    vertices = [first, last]
    pending = [(first, last)]
    while pending and len(vertices) < max_pieces:
        left, right = pending.pop(0)
        slope = (right[1] - left[1]) / (right[0] - left[0])
        vertex, excess = _support(times, slope)
        if excess > left[1] - slope * left[0] + 1e-9 * count and left[0] < vertex[0] < right[0]:
            vertices.append(vertex)
            pending += [(left, vertex), (vertex, right)]
    vertices.sort()
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in pairwise(vertices)]
    # The burst of every slope is computed from the trace itself, so the curve is valid even if refinement stopped.
    lines = [(max(0.0, _support(times, slope)[1]), slope) for slope in slopes]
    return ArrivalCurve((*lines, (float(count), 0.0)))


def overrun(arrival_ns: NDArray[np.int64], curve: ArrivalCurve) -> float:
    """By how many arrivals the worst closed window of a trace exceeds an arrival curve; at most 0 if inside it.

    Parameters
    ----------
    arrival_ns : int64, shape (n,)
        Non-decreasing, n ≥ 1.
    curve : ArrivalCurve
        In arrivals and seconds.
    """
    times = (arrival_ns - arrival_ns[0]).astype(np.float64) / NS_PER_S
    # Neither the guard in `_support` nor rounding itself may put a trace outside that touches the curve exactly.
    return max(
        float(_support(times, rate)[1]) - 2 * _guard(times, rate) - burst for burst, rate in curve.buckets
    )


def _guard(times: NDArray[np.float64], slope: float) -> float:
    """More than floating-point rounding can take away from a burst."""
    return float(16.0 * np.finfo(np.float64).eps * (times.size + slope * float(times[-1])))


def _support(times: NDArray[np.float64], slope: float) -> tuple[tuple[float, float], float]:
    """Window (length, arrivals) that is furthest above a line of this slope, and that line's burst."""
    height = np.arange(times.size, dtype=np.float64) - slope * times
    lowest = np.minimum.accumulate(height)
    gain = height - lowest
    end = int(np.argmax(gain))
    start = int(np.flatnonzero(height[: end + 1] == lowest[end])[0])
    return (float(times[end] - times[start]), float(end - start + 1)), float(gain[end]) + 1.0 + _guard(
        times, slope
    )


def _most_at_once(arrival_ns: NDArray[np.int64]) -> int:
    edges = np.flatnonzero(np.r_[True, arrival_ns[1:] != arrival_ns[:-1], True])
    return int(np.diff(edges).max())
