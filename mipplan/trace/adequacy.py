"""Whether a sample of traffic carries the question asked of it: what is doubtful about it, with figures and a remedy.

None of these is a fault: a trace is what it is, and a guarantee on it holds. What is in doubt is whether traffic to
come is like it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from mipplan.core import NS_PER_S, Int64, format_duration, higher_rank

#: A quantile should rest on this many queries: their number then varies by less than a fifth from sample to sample.
_LEAST_REACHED = 30
#: Stamps lie on a grid if at least this share of arrivals has the stamp of the one before.
_TIED_SHARE = 0.1
#: A grid is coarse if its step is at least this share of the mean gap.
_LEAST_STEP = 0.5
#: Windows per half of a sample whose counts say how much its rate varies anyway.
_WINDOWS = 20
#: A rate moves if halves differ by more than this many standard errors, and by this share of the mean.
_STANDARD_ERRORS, _LEAST_TREND = 4.0, 0.1
#: Fewer queries say nothing about a trend.
_LEAST_QUERIES = 100
#: No busy period should take more than one over this of the sample.
_BUSY_PERIODS = 10
_SECONDS_PER_MINUTE = 60


def sample_warnings(
    arrival_ns: Int64, quantile: float = 0.99, capacity_rps: float | None = None, per_ns: int | None = None
) -> tuple[str, ...]:
    """Say what is doubtful about a sample, with figures and a remedy; nothing if it carries the question.

    Parameters
    ----------
    arrival_ns : int64[n]
        Sorted.
    quantile : float
        Of latency, that is asked about. With 1 every query counts, and no tail is estimated.
    capacity_rps : float, optional
        Queries per second that the slowest stage of a plan can serve; only with it busy periods are judged.
    per_ns : int, optional
        Length of the windows whose quantiles are asked about; by default there is one, the sample.

    Notes
    -----
    *Grid.* Time stamps are multiples of a unit of clocks (a power of ten of a nanosecond up to a second, or minutes),
    at least a tenth of the arrivals share theirs with the one before, and the unit is at least the median gap and half
    the mean one: ties within a microsecond change nothing.

    *Tail.* The number k of queries that reach a quantile has a relative standard error of 1/√k, 18 % at 30. Of windows
    the one with the median number of queries is judged.

    *Trend.* The rates of both halves differ by more than four standard errors, of counts in 20 windows each [1]_, which
    allows for bursts shorter than these, and by more than a tenth.

    *Busy periods.* Waits start anew whenever the backlog is empty [2]_. Where one busy period takes more than a tenth
    of the sample, its tail is that one period.

    References
    ----------
    .. [1] D. R. Cox, P. A. W. Lewis, *The Statistical Analysis of Series of Events*, Methuen 1966, chapter 3.
    .. [2] M. A. Crane, A. J. Lemoine, *An Introduction to the Regenerative Method for Simulation Analysis*, Springer
       1977, doi:10.1007/BFb0007339.
    """
    found = (
        _grid_warning(arrival_ns),
        _tail_warning(arrival_ns, quantile, per_ns),
        _trend_warning(arrival_ns),
        None if capacity_rps is None else _busy_warning(arrival_ns, capacity_rps),
    )
    return tuple(warning for warning in found if warning is not None)


def grid_step_ns(arrival_ns: Int64) -> int | None:
    """Return the largest step whose multiples, from the first on, all arrivals are at; None if all are at once."""
    gaps = np.diff(arrival_ns)
    step_ns = int(np.gcd.reduce(gaps))
    return step_ns or None


def spread_uniformly(arrival_ns: Int64, seed: int) -> Int64:
    """Move every arrival later by a random part of the grid's step, below one, and sort.

    The order of stamps stays: what had an earlier stamp comes earlier. Not all are at once.
    """
    step_ns = grid_step_ns(arrival_ns) or 1
    offsets = np.random.default_rng(seed).integers(0, step_ns, arrival_ns.size)
    return np.sort(arrival_ns + offsets)


def _grid_warning(arrival_ns: Int64) -> str | None:
    gaps, step_ns = np.diff(arrival_ns), grid_step_ns(arrival_ns)
    tied = float(np.mean(gaps == 0))
    if step_ns is None or not _is_clock_unit(step_ns) or tied < _TIED_SHARE:
        return None
    if step_ns < max(float(np.median(gaps)), _LEAST_STEP * float(np.mean(gaps))):
        return None
    return (
        f"time stamps are whole multiples of {format_duration(step_ns)}, and {tied:.0%} of the queries have that of "
        "the one before: these bursts are the log's, and plans for them cost too much; log finer, or use --spread "
        "uniform (Trace.spread), which places queries at random within their step and assumes that traffic is even "
        "within it"
    )


def _is_clock_unit(step_ns: int) -> bool:
    """Whether clocks and logs count in such steps: frames of a camera every 40 ms really come together."""
    if step_ns >= NS_PER_S:
        return step_ns == NS_PER_S or step_ns % (_SECONDS_PER_MINUTE * NS_PER_S) == 0
    return math.log10(step_ns).is_integer()


def _tail_warning(arrival_ns: Int64, quantile: float, per_ns: int | None) -> str | None:
    window = np.zeros(arrival_ns.size) if per_ns is None else (arrival_ns - arrival_ns[0]) // per_ns
    queries = int(np.median(np.unique(window, return_counts=True)[1]))
    some = f"{queries:,} queries" + ("" if per_ns is None else " in its median window")
    reached = queries - higher_rank(quantile, queries)
    if quantile >= 1.0 or reached >= _LEAST_REACHED:
        return None
    needed = math.ceil(_LEAST_REACHED / (1.0 - quantile) - 1e-9)
    rests = f"rests on {reached} of {some}" if reached > 1 else f"of {some} is their maximum"
    return (
        f"P{100 * quantile:g} {rests}: use {'a sample' if per_ns is None else 'windows'} of at least {needed:,} "
        f"({_LEAST_REACHED} that reach it), or ask for a lower quantile"
    )


def _trend_warning(arrival_ns: Int64) -> str | None:
    span_ns = int(arrival_ns[-1] - arrival_ns[0])
    if arrival_ns.size < _LEAST_QUERIES or span_ns < 2 * _WINDOWS:
        return None
    edges = np.linspace(0.0, float(span_ns), 2 * _WINDOWS + 1)
    counts = np.histogram((arrival_ns - arrival_ns[0]).astype(np.float64), edges)[0].reshape(2, _WINDOWS)
    first, last = counts.mean(axis=1)
    # A Poisson process would have the variance of its mean; smoother traffic is not taken at its word.
    variances = np.maximum(counts.var(axis=1, ddof=1), counts.mean(axis=1))
    moved = abs(last - first)
    if moved <= max(_STANDARD_ERRORS * math.sqrt(variances.sum() / _WINDOWS), _LEAST_TREND * counts.mean()):
        return None
    per_s = 2 * _WINDOWS * NS_PER_S / span_ns
    half, share = ("last", last) if last > first else ("first", first)
    return (
        f"the rate moves within the sample, from {first * per_s:.4g} queries/s in its first half to {last * per_s:.4g} "
        f"in its last: plan for the part that is to be kept (--from, --to), or for the {half} half by --headroom "
        f"{share / counts.mean():.2f}"
    )


def _busy_warning(arrival_ns: Int64, capacity_rps: float) -> str | None:
    span_ns = int(arrival_ns[-1] - arrival_ns[0])
    longest_ns = max(_busy_periods_ns(arrival_ns, NS_PER_S / capacity_rps))
    if not span_ns or _BUSY_PERIODS * longest_ns <= span_ns:
        return None
    return (
        f"the slowest stage works off one backlog for {format_duration(longest_ns)} of the sample's "
        f"{format_duration(span_ns)}: latencies of so few backlogs say little about others; use a sample of at least "
        f"{format_duration(_BUSY_PERIODS * longest_ns)}, or more capacity at that stage"
    )


def _busy_periods_ns(arrival_ns: Int64, service_ns: float) -> Iterator[float]:
    """Lengths of the times at a stretch in which a server at a constant rate has a backlog."""
    arrived = (arrival_ns - arrival_ns[0]).astype(np.float64)
    served = service_ns * np.arange(arrived.size + 1)
    # Query k leaves at the latest t_j − j·s over j ≤ k, plus (k + 1)·s; a period begins where k itself is the latest.
    slack = arrived - served[:-1]
    latest = np.maximum.accumulate(slack)
    starts = np.flatnonzero(np.concatenate([[True], slack[1:] >= latest[:-1]]))
    ends = np.append(starts[1:], arrived.size) - 1
    yield from (latest[ends] + served[ends + 1] - arrived[starts]).tolist()
