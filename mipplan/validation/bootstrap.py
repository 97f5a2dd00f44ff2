"""Figures of measured and predicted latencies, and how far chance may have moved them apart.

Both sides saw the same arrivals, so both are slow in the same bursts. Blocks of queries are therefore drawn for both at
once: the interval is that of the ratio of a figure on the same traffic, and bursts cancel. Nothing is compared query by
query: who shares a batch with whom is chance, and single latencies differ widely where all quantiles agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from mipplan.core import NS_PER_S, Bool, Float64, Int64, higher_rank
from mipplan.reliability import best_block, resample
from mipplan.result import Interval, ReplayResult


class Agreement(StrEnum):
    """How a measured figure stands to the predicted one."""

    WITHIN = "within"
    """No difference is in the interval: it may be chance."""
    CLOSE = "close"
    """The interval reaches into what is tolerated."""
    OFF = "off"
    """The whole interval is beyond what is tolerated."""
    UNKNOWN = "unknown"
    """The run is too short to tell."""


@dataclass(frozen=True)
class ResamplingParams:
    """How intervals are made, and what is tolerated."""

    replicates: int = 300
    fewest_replicates: int = 100
    most_drawn: int = 50_000_000
    """Of long runs fewer replicates are drawn, but no fewer than these, so that all of them hold so many latencies."""
    cells: int = 4_096
    """Means are redrawn from sums of neighbours, of which there are at most this many."""
    confidence: float = 0.95
    seed: int = 0
    fewest_blocks: int = 20
    """Blocks are at most a twentieth of the run, so that there are this many."""
    fewest_beyond: int = 10
    """A quantile has an interval only if this many queries are beyond it."""
    tolerance: float = 0.05
    """A latency that is off by less is right for all that planning needs; of the servers that were measured, those
    that follow the serving model were within 2 to 10 %."""
    tolerated_misses: float = 0.01
    """The same for the share of queries that miss the objective."""


@dataclass(frozen=True)
class FigureComparison:
    """One figure of the latencies, measured and predicted.

    Attributes
    ----------
    name : str
        ``p50``, ``p90``, ``p99``, ``mean``, ``miss_rate``.
    measured, predicted : float
        Seconds, or shares.
    measured_interval : Interval or None
    deviation : float or None
        Measured by predicted; of the miss rate measured less predicted. None if the prediction is 0.
    deviation_interval : Interval or None
        None if the run is too short.
    agreement : Agreement
    """

    name: str
    measured: float
    predicted: float
    measured_interval: Interval | None
    deviation: float | None
    deviation_interval: Interval | None
    agreement: Agreement


_QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}


def compare_figures(
    measured_ns: Int64, result: ReplayResult, ok: Bool, slo_ns: int | None, params: ResamplingParams
) -> tuple[FigureComparison, ...]:
    """Compare latencies in the order of sending, shape (queries,).

    Parameters
    ----------
    measured_ns : int64
        Counts only where `ok`.
    result : ReplayResult
        What is predicted of the same queries; those that it turns away miss the objective, whatever it is.
    ok : bool
        Queries with a good answer; others miss the objective, whatever it is.
    slo_ns : int or None
    params : ResamplingParams
    """
    compared = ok if result.rejected is None else ok & ~result.rejected
    latencies = (measured_ns[compared] / NS_PER_S, result.latency_ns[compared] / NS_PER_S)
    statistics: dict[str, _Statistic] = {name: _quantile(quantile) for name, quantile in _QUANTILES.items()}
    statistics["mean"] = _mean
    drawn = _redrawn(latencies, list(statistics.values()), params)
    beyond = {name: latencies[0].size * (1.0 - quantile) for name, quantile in _QUANTILES.items()}
    figures = []
    for place, (name, statistic) in enumerate(statistics.items()):
        is_known = beyond.get(name, math.inf) >= params.fewest_beyond
        pairs = drawn[:, place] if is_known else drawn[:0, place]
        figures.append(_compared(name, latencies, pairs, statistic, params))
    if slo_ns is not None:
        missed = (~ok | (measured_ns > slo_ns)).astype(np.float64)
        shares = (missed, (result.late_ns > slo_ns).astype(np.float64))
        pairs = _redrawn(shares, [_mean], params)[:, 0]
        figures.append(_compared("miss_rate", shares, pairs, _mean, params, is_share=True))
    return tuple(figures)


_Statistic = Callable[[Float64], float]


def _quantile(quantile: float) -> _Statistic:
    def figure(values: Float64) -> float:
        rank = higher_rank(quantile, values.size)
        return float(np.partition(values, rank)[rank])

    return figure


def _mean(values: Float64) -> float:
    return float(values.mean())


def _resamples(measured: Float64, predicted: Float64, params: ResamplingParams) -> Iterator[Int64]:
    """Draw rows in blocks as long as the longer memory of both sides asks for; none if there are too few rows."""
    if measured.size < params.fewest_blocks:
        return
    rng = np.random.default_rng(params.seed)
    block = max(best_block(measured), best_block(predicted), 1.0)
    rows = np.arange(measured.size, dtype=np.int64)
    longest = max(1.0, measured.size / params.fewest_blocks)
    affordable = max(params.fewest_replicates, params.most_drawn // measured.size)
    for _ in range(min(params.replicates, affordable)):
        yield resample(rows, min(block, longest), rng)


def _redrawn(
    sides: tuple[Float64, Float64], statistics: list[_Statistic], params: ResamplingParams
) -> Float64:
    """Redraw figures of both sides, shape (replicates, figures, 2)."""
    drawn = [
        [[statistic(side) for side in (sides[0][rows], sides[1][rows])] for statistic in statistics]
        for rows in _resamples(*sides, params)
    ]
    return np.array(drawn, dtype=np.float64).reshape(-1, len(statistics), 2)


def _compared(
    name: str,
    sides: tuple[Float64, Float64],
    drawn: Float64,
    statistic: _Statistic,
    params: ResamplingParams,
    *,
    is_share: bool = False,
) -> FigureComparison:
    """Compare one figure; `drawn` has it redrawn for both sides, shape (replicates, 2)."""
    if not sides[0].size:
        return FigureComparison(name, math.nan, math.nan, None, None, None, Agreement.UNKNOWN)
    found, stated = statistic(sides[0]), statistic(sides[1])
    deviation = found - stated if is_share else found / stated if stated else None
    if is_share:
        between = interval_of(drawn[:, 0] - drawn[:, 1], params)
    else:
        above = drawn[drawn[:, 1] > 0.0]
        between = interval_of(above[:, 0] / above[:, 1], params)
    neutral, tolerated = (0.0, params.tolerated_misses) if is_share else (1.0, params.tolerance)
    agreement = agreement_of(between, neutral, tolerated)
    own = interval_of(drawn[:, 0], params)
    return FigureComparison(name, found, stated, own, deviation, between, agreement)


def agreement_of(interval: Interval | None, neutral: float, tolerated: float) -> Agreement:
    """Say how an interval of a deviation stands to none (`neutral`), and to what is tolerated around it."""
    if interval is None:
        return Agreement.UNKNOWN
    if interval.low <= neutral <= interval.high:
        return Agreement.WITHIN
    if interval.low <= neutral + tolerated and interval.high >= neutral - tolerated:
        return Agreement.CLOSE
    return Agreement.OFF


def interval_of(drawn: Float64, params: ResamplingParams) -> Interval | None:
    """Return the percentiles of redrawn figures; None if there are none."""
    if not drawn.size:
        return None
    outside = (1.0 - params.confidence) / 2
    low, high = np.quantile(drawn, [outside, 1.0 - outside])
    return Interval(float(low), float(high))


def mean_interval(values: Float64, params: ResamplingParams, over: Float64 | None = None) -> Interval | None:
    """Return the interval of a mean, or of Σ values / Σ over, of neighbours that are not independent.

    Long series are summed up in cells of neighbours first, which a mean does not notice.
    """
    sizes = np.ones(values.size) if over is None else over
    if values.size > params.cells:
        starts = np.arange(params.cells) * values.size // params.cells
        values, sizes = np.add.reduceat(values, starts), np.add.reduceat(sizes, starts)
    drawn = [float(values[rows].sum() / sizes[rows].sum()) for rows in _resamples(values, values, params)]
    return interval_of(np.array(drawn, dtype=np.float64), params)
