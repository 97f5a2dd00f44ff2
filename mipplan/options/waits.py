"""Waits of a stage's options on one path: exact, or bounded from below on a grid of rates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mipplan.curves import Wait
from mipplan.options.enumeration import StageOptions


def wait_bounds(
    curve: Wait, options: StageOptions, resolution: float, beyond_ns: int | None = None
) -> NDArray[np.int64]:
    """Wait of every option on the curve's path, or a lower bound on it; shape (m,), ns.

    Parameters
    ----------
    curve : Wait
    options : StageOptions
    resolution : float
        0 evaluates every option exactly. A positive value passes over the trace only for options whose 1/R is
        more than this fraction above the last one evaluated; those between take its wait, which is a lower
        bound because the wait grows with 1/R.
    beyond_ns : int, optional
        Waits above this need not be told apart: the first evaluation above it serves all slower options.
    """
    slopes = options.period_ns / options.tokens
    waits = np.empty(options.count, dtype=np.int64)
    last_slope, last_wait = -1.0, 0
    for option in np.argsort(slopes, kind="stable").tolist():
        period, tokens = int(options.period_ns[option]), int(options.tokens[option])
        settled = beyond_ns is not None and last_wait > beyond_ns
        if settled or slopes[option] <= last_slope * (1.0 + resolution) * (resolution > 0):
            waits[option] = max(curve.lower(period, tokens), last_wait if settled else 0)
            continue
        waits[option] = last_wait = curve.exact(period, tokens)
        last_slope = float(slopes[option])
    return waits
