"""The rate that a plan is sized for when nobody simulates: the mean, or the peak of a sliding window."""

from __future__ import annotations

from enum import StrEnum
from fractions import Fraction

import numpy as np

from mipplan.baselines.problem import BaselineProblem, pose
from mipplan.core import InputError, check_one_of, positive_ns
from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles
from mipplan.result import Plan
from mipplan.trace import Trace


class Mode(StrEnum):
    """What rate to size for."""

    MEAN = "mean"
    """Queries over the time from the first to the last."""
    PEAK = "peak"
    """The most queries in any window, over its length."""


def pose_at_rate(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace,
    name: str,
    mode: str,
    window_s: float | None,
    slo_s: float | None,
    quantile: float,
    seed: int,
) -> tuple[BaselineProblem, Fraction] | Plan:
    """Pose a problem as `pose` does, and find the rate to size for, in queries per ns.

    Raises `InputError` listing every bad argument.
    """
    checks = (lambda: check_one_of("mode", mode, Mode, repr), lambda: check_peak_window(window_s, 1))
    problem = pose(pipeline, profiles, trace, f"{name}, {mode}", slo_s, quantile, seed, checks)
    if isinstance(problem, Plan):
        return problem
    return problem, queries_per_ns(trace, Mode(mode), check_peak_window(window_s, problem.deadline_ns))


def queries_per_ns(trace: Trace, mode: Mode, window_ns: int) -> Fraction:
    """Return the rate to size for, of a trace that spans some time.

    The half-open windows of ``peak``, of that length, may start anywhere.
    """
    if mode is Mode.MEAN:
        return Fraction(len(trace), trace.span_ns)
    arrival_ns = trace.arrival_ns
    # A window with the most queries can be moved to start at one of them.
    ends = np.searchsorted(arrival_ns, arrival_ns + window_ns, side="left")
    return Fraction(int(np.max(ends - np.arange(len(trace)))), window_ns)


def check_peak_window(window_s: float | None, default_ns: int) -> int:
    """Return the length of a window in ns; raises `InputError` if it is no positive number of seconds."""
    if window_s is None:
        return default_ns
    window_ns = positive_ns(window_s)
    if window_ns is None:
        raise InputError.one("window_s", f"expected a positive number of seconds, found {window_s!r}")
    return window_ns
