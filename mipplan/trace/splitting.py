"""Cutting a trace in two by time."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from mipplan.core import InputError, is_number, shown
from mipplan.trace.model import Trace


def check_split(split: object) -> float:
    """Return a share of a trace's time.

    Raises
    ------
    InputError
        If it is no number in (0, 1).
    """
    if not is_number(split) or not 0.0 < split < 1.0:
        raise InputError.one(
            "split", f"expected a share of the trace's time between 0 and 1, found {shown(split)}"
        )
    return float(split)


def split_trace(trace: Trace, split: float) -> tuple[Trace, Trace]:
    """Cut a trace in two: what comes before the share `split` of its time, and the rest, times unchanged.

    The cut is exact: an arrival at t belongs to the first part if and only if t − t₁ < split · (tₙ − t₁).

    Parameters
    ----------
    trace : Trace
    split : float
        In (0, 1).

    Raises
    ------
    InputError
        If `split` is no such number, or one of the parts has fewer than two arrivals or no duration.
    """
    # Whole numbers: over a few months, float64 no longer tells nanoseconds apart.
    cut_ns = int(trace.arrival_ns[0]) + math.ceil(Fraction(check_split(split)) * trace.span_ns)
    first = int(np.searchsorted(trace.arrival_ns, cut_ns))
    parts = trace.arrival_ns[:first], trace.arrival_ns[first:]
    for name, part in zip(("first part", "rest"), parts, strict=True):
        if part.size < 2 or part[0] == part[-1]:
            raise InputError.one(
                "split",
                f"the {name} of the trace, cut at {split:g} of its time, has {part.size:,} arrival(s) and no "
                "duration: choose another split or a longer trace",
            )
    share = f"first {100 * split:.6g}% of its time"
    planned_on, judged_on = (
        Trace(part, trace.name, f"{trace.note}; {note}" if trace.note else note)
        for part, note in zip(parts, (share, f"after the {share}"), strict=True)
    )
    return planned_on, judged_on
