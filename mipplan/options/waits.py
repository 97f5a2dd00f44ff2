"""Waits of a stage's options on one path: exact, or bounded from below on a grid of rates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mipplan.curves import Wait
from mipplan.options.enumeration import StageOptions


def wait_bounds(
    curve: Wait, options: StageOptions, tolerance_ns: int = 0, beyond_ns: int | None = None
) -> NDArray[np.int64]:
    """Wait of every option on the curve's path, or a lower bound on it; shape (m,), ns.

    Parameters
    ----------
    curve : Wait
    options : StageOptions
    tolerance_ns : int
        0 evaluates every option exactly. Otherwise the curve is evaluated on a grid of rates, only as finely as
        to know it within this tolerance (or one step of the grid), and each option takes the value at the next
        faster rate known: a lower bound, because the wait grows with 1/R.
    beyond_ns : int, optional
        Waits above this need not be told apart.
    """
    rates = list(zip(options.period_ns.tolist(), options.tokens.tolist(), strict=True))
    if tolerance_ns <= 0 or not rates:
        return np.array([curve.exact(*rate) for rate in rates], dtype=np.int64)
    slopes = options.period_ns / options.tokens
    farthest = np.iinfo(np.int64).max if beyond_ns is None else beyond_ns
    curve.prepare(float(slopes.min()), float(slopes.max()), tolerance_ns, farthest)
    return np.array([curve.lower(*rate) for rate in rates], dtype=np.int64)
