"""The rate that a plan is sized for when nobody simulates: the mean, or the peak of a sliding window."""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction

import numpy as np

from mipplan.core import InputError, positive_ns
from mipplan.trace import Trace


class Mode(StrEnum):
    """What rate to size for."""

    MEAN = "mean"
    """Queries over the time from the first to the last."""
    PEAK = "peak"
    """The most queries in any window, over its length."""


def queries_per_ns(trace: Trace, mode: Mode, window_ns: int) -> Fraction:
    """Return the rate to size for.

    Parameters
    ----------
    trace : Trace
        That spans some time.
    mode : Mode
    window_ns : int
        Length of the half-open windows of ``peak``; they may start anywhere.
    """
    if mode is Mode.MEAN:
        return Fraction(len(trace), trace.span_ns)
    arrival_ns = trace.arrival_ns
    # A window with the most queries can be moved to start at one of them.
    ends = np.searchsorted(arrival_ns, arrival_ns + window_ns, side="left")
    return Fraction(int(np.max(ends - np.arange(len(trace)))), window_ns)


def check_mode(mode: str) -> Mode:
    """Return the mode of that name.

    Raises
    ------
    InputError
    """
    if mode not in list(Mode):
        raise InputError.one("mode", f"expected one of {', '.join(Mode)}, found {mode!r}")
    return Mode(mode)


def check_window(window_s: float | None, default_ns: int) -> int:
    """Return the length of a window in nanoseconds.

    Raises
    ------
    InputError
        If it is no positive number of seconds.
    """
    if window_s is None:
        return default_ns
    window_ns = positive_ns(window_s)
    if window_ns is None:
        raise InputError.one("window_s", f"expected a positive number of seconds, found {window_s!r}")
    return window_ns
