"""Checks and conversions of times, shared by traces, their readers and generators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mipplan.core import (
    MAX_DURATION_NS,
    NS_PER_S,
    Fault,
    Float64,
    InputError,
    Int64,
    is_finite,
    seconds_to_ns,
    shown,
)

#: Faulty rows named in a message; their number is always told.
ROWS_NAMED = 5
#: Most arrivals made from counts or by a generator: 1.6 GB.
MAX_ARRIVALS = 200_000_000


def check_arrivals(values: object) -> Int64:
    """Return arrival times as a read-only int64 array, or raise `InputError` saying what is wrong."""
    given = np.asarray(values)
    if given.ndim != 1:
        raise InputError.one("arrival_ns", f"expected one dimension, found shape {given.shape}")
    if given.dtype.kind not in "iu":
        raise InputError.one(
            "arrival_ns", f"expected whole nanoseconds, found {given.dtype}; from_seconds() takes seconds"
        )
    if len(given) < 2:
        raise InputError.one("arrival_ns", f"expected at least two arrivals, found {len(given)}")
    faults = [
        Fault("arrival_ns", f"{message} at position {positions_text(bad)}")
        for message, bad in (
            ("negative time", np.flatnonzero(given < 0)),
            ("time beyond ten years", np.flatnonzero(given > MAX_DURATION_NS)),
            ("earlier than the arrival before it", decreases(given)),
        )
        if len(bad)
    ]
    if faults:
        raise InputError(faults)
    return _own_read_only(given)


def _own_read_only(given: NDArray[np.integer]) -> Int64:
    """Copy unless nobody can write to the array any more, so that a trace never changes under its user."""
    if given.dtype == np.int64 and given.base is None and not given.flags.writeable:
        return given  # type: ignore[return-value]  # just checked
    own = np.array(given, dtype=np.int64, order="C")
    own.flags.writeable = False
    return own


def decreases(times: NDArray[Any]) -> NDArray[np.intp]:
    """Positions whose time is below the one before."""
    return np.flatnonzero(times[1:] < times[:-1]) + 1


def decreases_among_numbers(times: Float64) -> NDArray[np.intp]:
    """Positions whose time is below the last number before, where NaN stands for no number."""
    numbers = np.flatnonzero(~np.isnan(times))
    return numbers[decreases(times[numbers])]


def positions_text(positions: Sequence[int] | NDArray[np.intp]) -> str:
    """Write the first few positions, and how many there are: ``3, 4, 9 (3 in all)``."""
    named = ", ".join(str(int(position)) for position in positions[:ROWS_NAMED])
    more = ", …" if len(positions) > ROWS_NAMED else ""
    return f"{named}{more} ({len(positions)} in all)"


def seconds_column_to_ns(seconds: ArrayLike) -> Int64:
    """Round float seconds, shape (n,), to the nearest nanoseconds.

    Raises
    ------
    InputError
        If a value is no number, not finite, or beyond ten years.
    """
    try:
        values = np.asarray(seconds, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError.one("arrival_s", f"expected numbers, found {shown(seconds)}") from None
    if values.ndim != 1:
        raise InputError.one("arrival_s", f"expected one dimension, found shape {values.shape}")
    bad = np.flatnonzero(~(np.abs(values) <= MAX_DURATION_NS / NS_PER_S))
    if len(bad):
        raise InputError.one(
            "arrival_s", f"not a finite time below ten years at position {positions_text(bad)}"
        )
    return np.rint(values * NS_PER_S).astype(np.int64)


def time_ns(name: str, seconds: float) -> int:
    """Convert one time given in seconds; a fault names the argument."""
    try:
        return seconds_to_ns(seconds)
    except (TypeError, ValueError):
        raise InputError.one(name, f"expected a time in seconds, found {shown(seconds)}") from None


def window_ns(start_s: float | None, end_s: float | None) -> tuple[int, int]:
    """Convert a half-open window to nanoseconds; None is no limit on that side.

    Raises
    ------
    InputError
        If a limit is no time, or the window is empty.
    """
    start = 0 if start_s is None else time_ns("start_s", start_s)
    end = MAX_DURATION_NS + 1 if end_s is None else time_ns("end_s", end_s)
    if start >= end:
        raise InputError.one("window", f"{window_text(start_s, end_s)} is empty: it must end after it starts")
    return start, end


def window_text(start_s: float | None, end_s: float | None) -> str:
    """Write a window: ``[10 s, 20 s)``."""
    start = "start" if start_s is None else f"{start_s:.12g} s"
    end = "end" if end_s is None else f"{end_s:.12g} s"
    return f"[{start}, {end})"


def number_fault(name: str, value: object, *, zero: bool = False, most: float = math.inf) -> Fault | None:
    """Return a fault unless `value` is a finite number above 0 (or 0, where `zero`) and at most `most`."""
    if is_finite(value) and (value > 0 or (zero and value == 0)) and value <= most:
        return None
    least = "of at least 0" if zero else "above 0"
    limit = "" if math.isinf(most) else f" and at most {most:g}"
    return Fault(name, f"expected a number {least}{limit}, found {shown(value)}")
