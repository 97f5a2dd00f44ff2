"""Latency quantiles and the miss rate of one replay, with confidence intervals by a block bootstrap.

Neighbouring queries share queues and batches, so their latencies are correlated, and intervals that take them for
independent are far too narrow. The bootstrap redraws the series from blocks of consecutive queries, which keeps the
correlation inside a block.

Only counts are redrawn. The series is cut into cells of consecutive queries, and for each cell it is counted how many
values lie between neighbouring thresholds, which are order statistics around the quantile; a replicate is a weighted
sum of these counts. A redrawn quantile is thus known up to the spacing of the thresholds, ``reach / (thresholds / 2)``
≈ 0.08 of its standard error.

References
----------
Künsch, "The jackknife and the bootstrap for general stationary observations", Ann. Statist. 17(3), 1989,
doi:10.1214/aos/1176347265 (blocks). Politis and Romano, "A circular block-resampling procedure for stationary
data", in: Exploring the Limits of Bootstrap, Wiley, 1992 (circular). Politis and White, "Automatic block-length
selection for the dependent bootstrap", Econometric Reviews 23(1), 2004, doi:10.1081/ETR-120028836, with the
correction of Patton, Politis and White, 28(4), 2009, doi:10.1080/07474930802459016 (block length). Sun and Lahiri,
"Bootstrapping the sample quantile of a weakly dependent sequence", Sankhyā 68(1), 2006 (validity for quantiles).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mipplan.core import (
    NS_PER_S,
    Bool,
    Float64,
    InputError,
    Int64,
    Positions,
    check_all,
    check_quantile,
    check_seed,
    check_slo,
    counted,
    higher_rank,
    shown,
)

#: A summary holds these quantiles, by their names in JSON.
FIGURES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999}
QUANTILES = tuple(FIGURES.values())
CONFIDENCE = 0.95


@dataclass(frozen=True)
class BootstrapParams:
    """What the bootstrap is made of."""

    replicates: int = 1_000
    """This many series are redrawn, some at a time because of their memory."""
    replicates_at_once: int = 200
    cells: int = 1_024
    """Blocks are made of at most this many cells; a block longer than it need be does no harm while there are many."""
    fine_cells: int = 65_536
    """Autocorrelations are estimated from at most this many cells."""
    thresholds: int = 128
    """A redrawn quantile may be one of this many order statistics."""
    reach: float = 5.0
    """They reach this many standard errors to either side."""
    safety: int = 2
    """Blocks are this many times as long as the rule says, because bursts make it err on the short side."""
    fewest_blocks: int = 30
    """At least this many blocks with, and without, a value beyond the quantile. With fewer, intervals of 95 % were
    seen to cover 65 to 80 % of the time; with as many, 90 to 95 %."""


PARAMS = BootstrapParams()


@dataclass(frozen=True)
class Interval:
    """A confidence interval, ends included."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """A figure of a replay and how far chance may have moved it."""

    value: float
    """What the replay observed; a latency in seconds, or a share."""
    interval: Interval | None
    """None if the replay is too short to tell; `reason` says why."""
    block: int | None
    """Consecutive queries per block of the bootstrap; None if no length could be chosen."""
    reason: str | None = None


@dataclass(frozen=True)
class LatencyStatistics:
    """Figures of the latencies of one replay.

    The intervals are by circular block bootstrap (`mipplan.result.statistics`): percentiles of redrawn
    traces, made of blocks of consecutive queries. They estimate how much a figure would move from one stretch of the
    same traffic to another of the same length, with this plan. They do not know about traffic that changes its
    nature (rush hours, growth, an overload that builds up), nor about the error of profiles.
    """

    quantiles: tuple[tuple[float, Estimate], ...]
    """Quantile over queries (``method="higher"``) and its latency in seconds, as asked for."""
    misses: Estimate | None
    """Share of queries slower than the objective; None if none was given."""
    confidence: float
    """Nominal. Intervals are approximate and rather too narrow, the more so the burstier the traffic: in
    experiments those of 95 % covered 91 to 95 % of the time under Poisson arrivals, 90 to 93 % under gamma
    arrivals of CV 4."""


def latency_statistics(
    latency_ns: Int64,
    *,
    quantiles: tuple[float, ...] = QUANTILES,
    slo_s: float | None = None,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> LatencyStatistics:
    """Compute quantiles and the miss rate of latencies in the order of ingress, with their intervals.

    Raises `InputError` with every argument that cannot be used.
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

    def redraw(block: int, rng: np.random.Generator) -> Float64:
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
    exceeds: Bool,
    redraw: Callable[[int, np.random.Generator], Float64],
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
    if fewest < PARAMS.fewest_blocks:
        kind = "slower" if with_any <= with_others else "faster"
        some = counted(fewest, "stretch", "stretches")
        holds = "holds" if fewest == 1 else "hold"
        queries = counted(block, "query", "queries")
        reason = f"only {some} of {queries} {holds} {kind} ones; {PARAMS.fewest_blocks} are needed"
        return Estimate(value, None, block, reason)
    drawn = np.sort(redraw(block, np.random.default_rng(seed)))
    outside = (1.0 - confidence) / 2.0 * (PARAMS.replicates - 1)
    low, high = drawn[int(outside)], drawn[PARAMS.replicates - 1 - int(outside)]
    return Estimate(value, Interval(float(low), float(high)), block)


# --- the bootstrap ----------------------------------------------------------------------------------------------------


def cell_totals(values: Bool | Int64, cells: int) -> Int64:
    """Sum up the values in each of at most `cells` cells of consecutive ones, whose sizes differ by at most one."""
    return np.add.reduceat(values, cell_starts(values.size, cells), dtype=np.int64)


def cell_starts(count: int, cells: int) -> Positions:
    """Return where each of ``min(count, cells)`` cells begins."""
    used = min(count, cells)
    return -(-(np.arange(used, dtype=np.intp) * count) // used)


def block_length(exceeds: Bool) -> int | None:
    """Choose the length of the blocks for the share of a stationary series in which something holds.

    Twice the length of the rule of Politis and White: autocovariances up to twice the lag from which on they are
    insignificant, under a flat-top window, give the length that minimises the mean squared error of the variance.
    That weighs too wide and too narrow alike; bursts make it err on the short side, hence twice. A quantile
    depends on the series only through which values exceed it (Bahadur), so the rule is applied to that series.

    Returns
    -------
    int or None
        Number of consecutive values, 1 ≤ length ≤ n; None if the autocorrelations do not die out within a quarter
        of the series, or nothing varies.
    """
    starts = cell_starts(exceeds.size, PARAMS.fine_cells)
    sizes = np.diff(starts, append=exceeds.size)
    series = cell_totals(exceeds, PARAMS.fine_cells) / sizes
    count = series.size
    covariance = _autocovariances(series, largest_lag=count // 4)
    if covariance[0] <= 0.0:
        return None
    cutoff = _last_significant_lag(covariance / covariance[0], count)
    if cutoff is None:
        return None
    lags = np.arange(1, min(2 * cutoff, covariance.size - 1) + 1)
    window = np.minimum(1.0, 2.0 * (1.0 - lags / (2.0 * cutoff))) if cutoff else np.empty(0)
    tapered = window * covariance[lags]
    spectrum = covariance[0] + 2.0 * tapered.sum()
    slope = 2.0 * (lags * tapered).sum()
    if spectrum <= 0.0:
        # Alternating series; the window does not keep the estimate positive.
        cells = 1.0
    else:
        cells = (2.0 * slope**2 / (4.0 / 3.0 * spectrum**2)) ** (1.0 / 3.0) * count ** (1.0 / 3.0)
    return min(exceeds.size, math.ceil(PARAMS.safety * max(1.0, cells) * exceeds.size / count))


def quantile_replicates(
    latency_ns: Int64, sorted_ns: Int64, quantile: float, block: int, rng: np.random.Generator
) -> Int64:
    """Redraw a quantile of latencies in the order of time, given sorted too; shape (replicates,)."""
    count = latency_ns.size
    rank = higher_rank(quantile, count)
    cells = min(count, PARAMS.cells)
    spread = _rank_error(latency_ns > sorted_ns[rank], block)
    errors = np.linspace(-PARAMS.reach, PARAMS.reach, PARAMS.thresholds + 1)
    ranks = np.rint(rank + errors * max(1.0, spread)).astype(np.int64)
    thresholds = np.unique(sorted_ns[np.clip(ranks, 0, count - 1)])
    # What lies at or below the lowest threshold is most of the values and needs no sorting in.
    above = np.flatnonzero(latency_ns > thresholds[0])
    bins = np.searchsorted(thresholds, latency_ns[above], side="left")
    slots = (above * cells // count) * (thresholds.size + 1) + bins
    counts = np.bincount(slots, minlength=cells * (thresholds.size + 1)).reshape(cells, -1)
    sizes = np.diff(cell_starts(count, PARAMS.cells), append=count)
    counts[:, 0] = sizes - counts.sum(axis=1)
    # Columns: how many do not exceed each threshold; last: how many there are.
    at_most = np.cumsum(counts, axis=1, dtype=np.float64)
    redrawn: list[Int64] = []
    for weights in _weights(cells, _cells_per_block(block, count), rng):
        drawn = weights @ at_most
        wanted = np.ceil(quantile * (drawn[:, -1:] - 1.0)) + 1.0
        first = np.argmax(drawn >= np.minimum(wanted, drawn[:, -1:]), axis=1)
        redrawn.append(thresholds[np.minimum(first, thresholds.size - 1)])
    return np.concatenate(redrawn)


def share_replicates(exceeds: Bool, block: int, rng: np.random.Generator) -> Float64:
    """Redraw the share of a series, shape (n,), in which something holds; shape (replicates,)."""
    sizes = np.diff(cell_starts(exceeds.size, PARAMS.cells), append=exceeds.size)
    totals = np.stack([cell_totals(exceeds, PARAMS.cells), sizes], axis=1).astype(np.float64)
    per_block = _cells_per_block(block, exceeds.size)
    drawn = np.concatenate([weights @ totals for weights in _weights(sizes.size, per_block, rng)])
    return np.asarray(drawn[:, 0] / drawn[:, 1], dtype=np.float64)


def _weights(cells: int, per_block: int, rng: np.random.Generator) -> Iterator[Float64]:
    """How often each replicate holds each cell, shape (replicates, cells), some replicates at a time."""
    blocks = max(1, round(cells / per_block))
    for first in range(0, PARAMS.replicates, PARAMS.replicates_at_once):
        replicates = min(PARAMS.replicates_at_once, PARAMS.replicates - first)
        starts = rng.integers(0, cells, (replicates, blocks)) + np.arange(replicates)[:, np.newaxis] * cells
        begun = np.bincount(starts.ravel(), minlength=replicates * cells).reshape(replicates, cells)
        # A cell is in every block that began at it or up to per_block - 1 cells before, around the circle.
        begun_before = np.cumsum(np.concatenate([begun[:, cells - per_block :], begun], axis=1), axis=1)
        yield (begun_before[:, per_block:] - begun_before[:, :cells]).astype(np.float64)


def _cells_per_block(block: int, count: int) -> int:
    cells = min(count, PARAMS.cells)
    return min(cells, max(1, math.ceil(block * cells / count)))


def _rank_error(exceeds: Bool, block: int) -> float:
    """Return the standard error of how many values exceed a threshold, from the sums over all circular blocks."""
    totals = cell_totals(exceeds, PARAMS.cells)
    per_block = _cells_per_block(block, exceeds.size)
    around = np.concatenate([[0], np.cumsum(np.concatenate([totals, totals[: per_block - 1]]))])
    sums = around[per_block:] - around[:-per_block]
    return math.sqrt(totals.size / per_block * float(np.var(sums)))


def _autocovariances(series: Float64, largest_lag: int) -> Float64:
    centred = series - series.mean()
    length = 1 << (2 * series.size - 1).bit_length()
    power = np.abs(np.fft.rfft(centred, length)) ** 2
    return np.asarray(np.fft.irfft(power, length)[: largest_lag + 1] / series.size, dtype=np.float64)


def _last_significant_lag(correlation: Float64, count: int) -> int | None:
    """Lag after which a run of autocorrelations is insignificant, so that all later ones count as zero."""
    band = 2.0 * math.sqrt(math.log10(count) / count)
    run = max(5, math.ceil(math.sqrt(math.log10(count))))
    significant = np.abs(correlation[1:]) >= band
    if significant.size < run:
        return None
    seen = np.concatenate([[0], np.cumsum(significant)])
    quiet = np.flatnonzero(seen[run:] == seen[:-run])
    return int(quiet[0]) if quiet.size else None
