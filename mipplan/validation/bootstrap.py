"""Figures of measured and predicted latencies, and how far chance may have moved them apart.

Both sides saw the same arrivals, so both are slow in the same bursts. Blocks of queries are therefore drawn for both at
once: the interval is that of the ratio of a figure on the same traffic, and bursts cancel. Nothing is compared query by
query: who shares a batch with whom is chance, and single latencies differ widely where all quantiles agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from mipplan.core import NS_PER_S, Bool, Float64, Int64, higher_rank
from mipplan.reliability import best_block, resample
from mipplan.result import Interval


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
    measured_ns: Int64,
    predicted_ns: Int64,
    ok: Bool,
    slo_ns: int | None,
    params: ResamplingParams,
) -> tuple[FigureComparison, ...]:
    """Compare latencies in the order of sending, shape (queries,).

    Parameters
    ----------
    measured_ns, predicted_ns : int64
        What is measured counts only where `ok`.
    ok : bool
        Queries with a good answer; others miss the objective, whatever it is.
    slo_ns : int or None
    params : ResamplingParams
    """
    measured, predicted = measured_ns[ok] / NS_PER_S, predicted_ns[ok] / NS_PER_S
    rows = list(_resamples(measured, predicted, params)) if measured.size else []
    drawn = [(measured[row], predicted[row]) for row in rows]
    figures = []
    for name, quantile in _QUANTILES.items():
        is_known = measured.size * (1.0 - quantile) >= params.fewest_beyond
        figures.append(
            _compared(name, measured, predicted, drawn if is_known else [], _quantile(quantile), params)
        )
    figures.append(_compared("mean", measured, predicted, drawn, _mean, params))
    if slo_ns is not None:
        missed = (~ok | (measured_ns > slo_ns)).astype(np.float64)
        late = (predicted_ns > slo_ns).astype(np.float64)
        pairs = [(missed[row], late[row]) for row in _resamples(missed, late, params)]
        figures.append(_compared("miss_rate", missed, late, pairs, _mean, params, is_share=True))
    return tuple(figures)


def _quantile(quantile: float) -> Callable[[Float64], float]:
    def figure(values: Float64) -> float:
        rank = higher_rank(quantile, values.size)
        return float(np.partition(values, rank)[rank])

    return figure


def _mean(values: Float64) -> float:
    return float(values.mean())


def _resamples(measured: Float64, predicted: Float64, params: ResamplingParams) -> list[Int64]:
    """Draw rows in blocks as long as the longer memory of both sides asks for; none if there are too few rows."""
    if measured.size < params.fewest_blocks:
        return []
    rng = np.random.default_rng(params.seed)
    block = max(best_block(measured), best_block(predicted), 1.0)
    rows = np.arange(measured.size, dtype=np.int64)
    longest = max(1.0, measured.size / params.fewest_blocks)
    return [resample(rows, min(block, longest), rng) for _ in range(params.replicates)]


def _compared(
    name: str,
    measured: Float64,
    predicted: Float64,
    drawn: list[tuple[Float64, Float64]],
    figure: Callable[[Float64], float],
    params: ResamplingParams,
    *,
    is_share: bool = False,
) -> FigureComparison:
    if not measured.size:
        return FigureComparison(name, np.nan, np.nan, None, None, None, Agreement.UNKNOWN)
    found, stated = figure(measured), figure(predicted)
    deviation = found - stated if is_share else found / stated if stated else None
    pairs = [(figure(one), figure(other)) for one, other in drawn]
    own = interval_of([one for one, _ in pairs], params)
    if is_share:
        between = interval_of([one - other for one, other in pairs], params)
    else:
        between = interval_of([one / other for one, other in pairs if other], params)
    neutral, tolerated = (0.0, params.tolerated_misses) if is_share else (1.0, params.tolerance)
    return FigureComparison(
        name, found, stated, own, deviation, between, agreement_of(between, neutral, tolerated)
    )


def agreement_of(interval: Interval | None, neutral: float, tolerated: float) -> Agreement:
    """Say how an interval of a deviation stands to none (`neutral`), and to what is tolerated around it."""
    if interval is None:
        return Agreement.UNKNOWN
    if interval.low <= neutral <= interval.high:
        return Agreement.WITHIN
    if interval.low <= neutral + tolerated and interval.high >= neutral - tolerated:
        return Agreement.CLOSE
    return Agreement.OFF


def interval_of(drawn: list[float], params: ResamplingParams) -> Interval | None:
    """Return the percentiles of redrawn figures; None if there are none."""
    if not drawn:
        return None
    outside = (1.0 - params.confidence) / 2
    low, high = np.quantile(np.array(drawn), [outside, 1.0 - outside])
    return Interval(float(low), float(high))


def mean_interval(
    values: Float64, params: ResamplingParams, weights: Float64 | None = None
) -> Interval | None:
    """Return the interval of a mean, or of Σ values / Σ weights, of neighbours that are not independent."""
    if values.size < params.fewest_blocks:
        return None
    over = np.ones(values.size) if weights is None else weights
    drawn = [float(values[row].sum() / over[row].sum()) for row in _resamples(values, values, params)]
    return interval_of(drawn, params)
