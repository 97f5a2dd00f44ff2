"""How much of a series of runs is warm-up, where a quantile lies for sure, and when that is known well enough.

No clock and no model here: numbers in, numbers out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mipplan.core import Float64, Int64, first_true, higher_rank, last_true


@dataclass(frozen=True)
class WarmUpParams:
    """How the warm-up of a series is looked for."""

    # Runs are looked at in groups of five, as in MSER-5; in short series, where a group would be a tenth of all of it
    # or more, in smaller ones.
    group: int = 5
    fewest_groups: int = 10
    # At most half of a series may be warm-up: a cut beyond says that the series has not settled, whatever follows.
    largest_share: float = 0.5
    # A series whose cut falls into the last fifth of what is allowed would have liked to cut more.
    unsettled_from: float = 0.8
    # The shortest cut whose statistic is within 10 % of the least one: what decides between nearly equal cuts is
    # chance, and a shorter one keeps more runs.
    tolerance: float = 1.1


@dataclass(frozen=True)
class WarmUp:
    """The runs at the beginning of a series that are not like those after them."""

    runs: int
    settled: bool  # False if the series still changes: then the cut is nearly as late as is allowed.


@dataclass(frozen=True)
class QuantileRange:
    """A quantile of a sample, and an interval that covers the quantile of what the sample was drawn from."""

    value_ns: int  # The higher order statistic, as everywhere in mipplan.
    low_ns: int | None  # None where the sample is too small to say.
    high_ns: int | None

    @property
    def width(self) -> float:
        """The larger distance of an end from the value, as a share of it; infinite where an end is unknown."""
        if self.low_ns is None or self.high_ns is None:
            return math.inf
        return max(self.value_ns - self.low_ns, self.high_ns - self.value_ns) / max(self.value_ns, 1)


def find_warm_up(latency_ns: Int64, params: WarmUpParams = WarmUpParams()) -> WarmUp:
    """Find how many runs at the beginning are warm-up.

    First, MSER-5: of all cuts, the one with the least ``S(d) / (n - d)²``, where ``S(d)`` is the sum of squared
    deviations from the mean of what is left after cutting ``d`` groups of five. It differs from the published rule in
    that a group is represented by its median instead of its mean. A mean would let a single slow run, such as a
    pause of the garbage collector, pass for the end of the warm-up; the cut would then remove just the runs that the
    99th percentile is about. Second, the few cold runs that a median does not see (`_cold_runs`).

    Parameters
    ----------
    latency_ns : int64, shape (n,)
        In the order of the runs.

    References
    ----------
    K. P. White Jr., M. J. Cobb, S. C. Spratt: A comparison of five steady-state truncation heuristics for simulation,
    Proc. Winter Simulation Conference 2000, 755-760, doi:10.1109/WSC.2000.899788.
    """
    size = max(1, min(params.group, latency_ns.size // params.fewest_groups))
    count = latency_ns.size // size
    if count < 2:
        return WarmUp(0, settled=True)
    groups = np.median(latency_ns[: count * size].reshape(count, size), axis=1)
    statistic = _marginal_errors(groups)[: max(1, math.floor(params.largest_share * count))]
    cut = int(np.flatnonzero(statistic <= params.tolerance * statistic.min())[0])
    settled = cut == 0 or cut < params.unsettled_from * statistic.size
    return WarmUp(cut * size + _cold_runs(latency_ns[cut * size :], params), settled)


def _cold_runs(latency_ns: Int64, params: WarmUpParams) -> int:
    """Runs at the beginning, fewer than a group, that all took longer than every run after them.

    A median does not see one or two cold runs in a group of five. Among n runs that are all alike, the first one is the
    longest in one case of n: so rarely that no quantile changes by it.
    """
    if latency_ns.size < params.fewest_groups:
        return 0
    counts = range(params.group - 1, 0, -1)
    return next((j for j in counts if latency_ns[:j].min() > latency_ns[j:].max()), 0)


def _marginal_errors(values: Float64) -> Float64:
    """``S(d) / (n - d)²`` for every d < n, from sums over what is left."""
    centred = values - np.median(values)  # so that squares of long latencies cancel little
    left = np.arange(values.size, 0, -1)
    sums = np.cumsum(centred[::-1])[::-1]
    squares = np.cumsum(centred[::-1] ** 2)[::-1]
    deviations: Float64 = np.maximum(squares - sums**2 / left, 0.0)
    # What cancellation leaves behind of a constant series is no deviation.
    deviations[deviations <= 1e-12 * max(float(squares[0]), 1.0)] = 0.0
    errors: Float64 = deviations / left.astype(np.float64) ** 2
    return errors


def quantile_range(latency_ns: Int64, quantile: float, confidence: float) -> QuantileRange:
    """Give a quantile of a sample, and its confidence interval from order statistics.

    Of n independent runs, the number below the true quantile is binomial, whatever the distribution of latencies is.
    So the l-th and the u-th smallest enclose it with at least the stated confidence, if each side leaves out at most
    half of what may be wrong. No distribution is assumed, and no bootstrap is needed.

    Parameters
    ----------
    latency_ns : int64, shape (n,)
        At least one run, in any order.
    quantile, confidence : float
        In (0, 1).

    References
    ----------
    H. A. David, H. N. Nagaraja: Order Statistics, 3rd ed., Wiley 2003, section 7.1.
    """
    ordered = np.sort(latency_ns)
    low, high = _enclosing_ranks(ordered.size, quantile, confidence)
    return QuantileRange(
        value_ns=int(ordered[higher_rank(quantile, ordered.size)]),
        low_ns=None if low is None else int(ordered[low - 1]),
        high_ns=None if high is None else int(ordered[high - 1]),
    )


def _enclosing_ranks(count: int, quantile: float, confidence: float) -> tuple[int | None, int | None]:
    """Ranks from 1 whose values enclose a quantile; None where no value of so small a sample is far enough out."""
    from scipy.special import bdtr

    tail = (1.0 - confidence) / 2

    def at_most(rank: int) -> float:
        """Probability that fewer than `rank` values are below the quantile."""
        return float(bdtr(rank - 1, count, quantile))

    low = last_true(0, count, lambda rank: at_most(rank) <= tail)
    high = first_true(1, count + 1, lambda rank: at_most(rank) >= 1.0 - tail)
    return low or None, high if high <= count else None


def look_confidence(look: int, confidence: float) -> float:
    """Return the confidence of one of several looks at growing data, the first being 1.

    Whoever looks again and again and stops at the first interval that is narrow enough, is misled more often than each
    interval by itself. What may be wrong is therefore shared out among the looks: α / (j (j + 1)) for the j-th, which
    sums to α over all of them. All intervals together then hold with the stated confidence, whenever one stops.
    """
    return 1.0 - (1.0 - confidence) / (look * (look + 1))
