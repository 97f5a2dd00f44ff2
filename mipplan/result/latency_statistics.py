"""Latency quantiles and the miss rate of one replay, with confidence intervals where they can be had."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan.core import (
    NS_PER_S,
    InputError,
    Int64,
    check_all,
    check_quantile,
    check_seed,
    check_slo,
    higher_rank,
    shown,
)
from mipplan.result.bootstrap import REPLICATES, block_length, quantile_replicates, share_replicates

#: The quantiles of a summary.
QUANTILES = (0.5, 0.9, 0.95, 0.99, 0.999)
CONFIDENCE = 0.95
#: Fewest blocks with, and fewest without, a value beyond the quantile. With fewer, intervals of 95 % were seen to
#: cover 65 to 80 % of the time; with as many, 90 to 95 %.
FEWEST_BLOCKS = 30


@dataclass(frozen=True)
class Interval:
    """A confidence interval, ends included."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A figure of a replay and how far chance may have moved it.

    Attributes
    ----------
    value : float
        What the replay observed; a latency in seconds, or a share.
    interval : Interval or None
        None if the replay is too short to tell; `reason` says why.
    block : int or None
        Consecutive queries per block of the bootstrap; None if no length could be chosen.
    reason : str or None
    """

    value: float
    interval: Interval | None
    block: int | None
    reason: str | None = None


@dataclass(frozen=True)
class LatencyStatistics:
    """Figures of the latencies of one replay.

    The intervals are by circular block bootstrap (`mipplan.result.bootstrap`): percentiles of `REPLICATES` redrawn
    traces, made of blocks of consecutive queries. They estimate how much a figure would move from one stretch of the
    same traffic to another of the same length, with this plan. They do not know about traffic that changes its
    nature (rush hours, growth, an overload that builds up), nor about the error of profiles.

    Attributes
    ----------
    quantiles : tuple of (float, Estimate)
        Quantile over queries (``method="higher"``) and its latency in seconds, as asked for.
    misses : Estimate or None
        Share of queries slower than the objective; None if none was given.
    confidence : float
        Nominal. Intervals are approximate and rather too narrow, the more so the burstier the traffic: in experiments
        those of 95 % covered 91 to 95 % of the time under Poisson arrivals, 90 to 93 % under gamma arrivals of CV 4.
    """

    quantiles: tuple[tuple[float, Estimate], ...]
    misses: Estimate | None
    confidence: float


def latency_statistics(
    latency_ns: Int64,
    *,
    quantiles: tuple[float, ...] = QUANTILES,
    slo_s: float | None = None,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> LatencyStatistics:
    """Compute quantiles and the miss rate with their intervals.

    Parameters
    ----------
    latency_ns : int64, shape (n,)
        In the order of ingress.
    quantiles : tuple of float
    slo_s : float, optional
    confidence : float
        In (0, 1).
    seed : int
        Of the bootstrap; same seed, same intervals.

    Raises
    ------
    InputError
        With every argument that cannot be used.
    """
    check_all(
        lambda: None if slo_s is None else check_slo(slo_s),
        lambda: [check_quantile(quantile) for quantile in _listed(quantiles)],
        lambda: _check_confidence(confidence),
        lambda: check_seed(seed),
    )
    wanted, key = [check_quantile(quantile) for quantile in quantiles], check_seed(seed)
    sorted_ns = np.sort(latency_ns)
    return LatencyStatistics(
        tuple((q, _quantile_estimate(latency_ns, sorted_ns, q, confidence, key)) for q in wanted),
        None if slo_s is None else _miss_estimate(latency_ns, check_slo(slo_s), confidence, key),
        float(confidence),
    )


def _listed(quantiles: object) -> Iterable[float]:
    if isinstance(quantiles, str) or not isinstance(quantiles, Iterable):
        raise InputError.one("quantiles", f"expected a tuple such as (0.5, 0.99), found {shown(quantiles)}")
    return quantiles


def _check_confidence(confidence: object) -> None:
    # No whole number lies between 0 and 1.
    if not isinstance(confidence, float | np.floating) or not 0.0 < confidence < 1.0:
        message = f"expected a number in (0, 1) such as 0.95, found {shown(confidence)}"
        raise InputError.one("confidence", message)


def _quantile_estimate(
    latency_ns: Int64, sorted_ns: Int64, quantile: float, confidence: float, seed: int
) -> Estimate:
    value_ns = int(sorted_ns[higher_rank(quantile, latency_ns.size)])
    if value_ns == sorted_ns[-1]:
        return Estimate(value_ns / NS_PER_S, None, None, "no query was slower")

    def redraw(block: int, rng: np.random.Generator) -> NDArray[np.float64]:
        return quantile_replicates(latency_ns, sorted_ns, quantile, block, rng) / NS_PER_S

    return _estimate(value_ns / NS_PER_S, latency_ns > value_ns, redraw, confidence, seed)


def _miss_estimate(latency_ns: Int64, slo_ns: int, confidence: float, seed: int) -> Estimate:
    missed = latency_ns > slo_ns
    share = float(np.mean(missed))
    if share in (0.0, 1.0):
        return Estimate(share, None, None, "no query missed" if share == 0.0 else "every query missed")
    return _estimate(share, missed, lambda block, rng: share_replicates(missed, block, rng), confidence, seed)


def _estimate(
    value: float,
    exceeds: NDArray[np.bool_],
    redraw: Callable[[int, np.random.Generator], NDArray[np.float64]],
    confidence: float,
    seed: int,
) -> Estimate:
    block = block_length(exceeds)
    if block is None:
        reason = "slow queries come in stretches that are too long for this trace, or it is too short"
        return Estimate(value, None, None, reason)
    starts = np.arange(0, exceeds.size, block)
    with_any = int(np.count_nonzero(np.logical_or.reduceat(exceeds, starts)))
    with_others = int(np.count_nonzero(~np.logical_and.reduceat(exceeds, starts)))
    fewest = min(with_any, with_others)
    if fewest < FEWEST_BLOCKS:
        kind = "slower" if with_any <= with_others else "faster"
        some = "1 stretch" if fewest == 1 else f"{fewest} stretches"
        holds = "holds" if fewest == 1 else "hold"
        queries = "1 query" if block == 1 else f"{block:,} queries"
        reason = f"only {some} of {queries} {holds} {kind} ones; {FEWEST_BLOCKS} are needed"
        return Estimate(value, None, block, reason)
    drawn = np.sort(redraw(block, np.random.default_rng(seed)))
    outside = (1.0 - confidence) / 2.0 * (REPLICATES - 1)
    low, high = drawn[int(outside)], drawn[REPLICATES - 1 - int(outside)]
    return Estimate(value, Interval(float(low), float(high)), block)
