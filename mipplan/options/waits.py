"""The wait of every option of a stage on a path: exact, or bounded from below at little cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mipplan.calculus import Wait
from mipplan.options.enumeration import StageOptions

Rate = tuple[int, int]


def wait_bounds(
    curve: Wait, options: StageOptions, tolerance_ns: int = 0, beyond_ns: int | None = None
) -> NDArray[np.int64]:
    """Wait of every option on the curve's path, or a lower bound on it; shape (m,), ns.

    Parameters
    ----------
    curve : Wait
    options : StageOptions
    tolerance_ns : int
        0 evaluates every option exactly. Otherwise the curve's own lower bounds are taken, only as finely as to know
        these within the tolerance: the wait grows with 1/R, so what bounds that of a faster option bounds that of a
        slower one, too.
    beyond_ns : int, optional
        Bounds above this need not be told apart.
    """
    rates = list(zip(options.period_ns.tolist(), options.tokens.tolist(), strict=True))
    if tolerance_ns <= 0 or not rates:
        return np.array([curve.exact(*rate) for rate in rates], dtype=np.int64)
    # From fast to slow.
    wanted: dict[Rate, list[int]] = {}
    for option in np.argsort(-options.speed, kind="stable").tolist():
        wanted.setdefault(rates[option], []).append(option)
    farthest = np.iinfo(np.int64).max if beyond_ns is None else beyond_ns
    found = _bounds(curve, list(wanted), tolerance_ns, farthest)
    bounds = np.empty(options.count, dtype=np.int64)
    for members, bound in zip(wanted.values(), found, strict=True):
        bounds[members] = bound
    return bounds


def _bounds(curve: Wait, rates: list[Rate], tolerance_ns: int, beyond_ns: int) -> list[int]:
    """Lower bounds at rates from fast to slow, by halving where they still differ; they do not fall."""
    bounds = [0] * len(rates)
    bounds[0] = curve.lower(*rates[0])
    bounds[-1] = max(bounds[0], curve.lower(*rates[-1])) if bounds[0] <= beyond_ns else bounds[0]
    pending = [(0, len(rates) - 1)]
    while pending:
        low, high = pending.pop()
        if bounds[low] > beyond_ns or bounds[high] - bounds[low] <= tolerance_ns:
            bounds[low + 1 : high] = [bounds[low]] * max(0, high - low - 1)
        elif high - low > 1:
            middle = (low + high) // 2
            bounds[middle] = min(bounds[high], max(bounds[low], curve.lower(*rates[middle])))
            pending += [(low, middle), (middle, high)]
    return bounds
