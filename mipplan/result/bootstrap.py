"""Block bootstrap of quantiles and shares of a correlated series.

Neighbouring queries share queues and batches, so their latencies are correlated, and intervals that take them for
independent are far too narrow. The bootstrap redraws the series from blocks of consecutive queries, which keeps the
correlation inside a block.

Only counts are redrawn. The series is cut into at most `CELLS` cells of consecutive queries, and for each cell it is
counted how many values lie between neighbouring thresholds, which are order statistics around the quantile; a
replicate is a weighted sum of these counts. A redrawn quantile is thus known up to the spacing of the thresholds,
`REACH` / (`THRESHOLDS` / 2) ≈ 0.08 of its standard error.

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
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Float64, Int64, higher_rank

#: Replicates of one bootstrap.
REPLICATES = 1_000
#: Cells that blocks are made of. A block that is longer than it need be does no harm as long as there are many.
CELLS = 1_024
#: Cells that autocorrelations are estimated from.
FINE_CELLS = 65_536
#: Order statistics that a redrawn quantile may take, and how many standard errors they reach to either side.
THRESHOLDS = 128
REACH = 5.0
#: Multiple of the block length that the rule gives.
SAFETY = 2

_REPLICATES_AT_ONCE = 200


def cell_totals(values: NDArray[np.bool_] | Int64, cells: int) -> Int64:
    """Sum up the values in each of at most `cells` cells of consecutive ones, whose sizes differ by at most one."""
    return np.add.reduceat(values, cell_starts(values.size, cells), dtype=np.int64)


def cell_starts(count: int, cells: int) -> NDArray[np.intp]:
    """Return where each of ``min(count, cells)`` cells begins."""
    used = min(count, cells)
    return -(-(np.arange(used, dtype=np.intp) * count) // used)


def block_length(exceeds: NDArray[np.bool_]) -> int | None:
    """Choose the length of the blocks for the share of a stationary series in which something holds.

    Twice the length of the rule of Politis and White: autocovariances up to twice the lag from which on they are
    insignificant, under a flat-top window, give the length that minimises the mean squared error of the variance.
    That weighs too wide and too narrow alike; bursts make it err on the short side, hence twice. A quantile
    depends on the series only through which values exceed it (Bahadur), so the rule is applied to that series.

    Parameters
    ----------
    exceeds : bool, shape (n,)
        In the order of time.

    Returns
    -------
    int or None
        Number of consecutive values, 1 ≤ length ≤ n; None if the autocorrelations do not die out within a quarter
        of the series, or nothing varies.
    """
    starts = cell_starts(exceeds.size, FINE_CELLS)
    sizes = np.diff(starts, append=exceeds.size)
    series = cell_totals(exceeds, FINE_CELLS) / sizes
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
    return min(exceeds.size, math.ceil(SAFETY * max(1.0, cells) * exceeds.size / count))


def quantile_replicates(
    latency_ns: Int64,
    sorted_ns: Int64,
    quantile: float,
    block: int,
    rng: np.random.Generator,
) -> Int64:
    """Redraw a quantile.

    Parameters
    ----------
    latency_ns, sorted_ns : int64, shape (n,)
        In the order of time, and ascending.
    quantile : float
    block : int
        Length of the blocks.
    rng : numpy.random.Generator

    Returns
    -------
    int64, shape (REPLICATES,)
        Elements of `latency_ns`.
    """
    count = latency_ns.size
    rank = higher_rank(quantile, count)
    cells = min(count, CELLS)
    spread = _rank_error(latency_ns > sorted_ns[rank], block)
    ranks = np.rint(rank + np.linspace(-REACH, REACH, THRESHOLDS + 1) * max(1.0, spread)).astype(np.int64)
    thresholds = np.unique(sorted_ns[np.clip(ranks, 0, count - 1)])
    # What lies at or below the lowest threshold is most of the values and needs no sorting in.
    above = np.flatnonzero(latency_ns > thresholds[0])
    bins = np.searchsorted(thresholds, latency_ns[above], side="left")
    slots = (above * cells // count) * (thresholds.size + 1) + bins
    counts = np.bincount(slots, minlength=cells * (thresholds.size + 1)).reshape(cells, -1)
    sizes = np.diff(cell_starts(count, CELLS), append=count)
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


def share_replicates(exceeds: NDArray[np.bool_], block: int, rng: np.random.Generator) -> Float64:
    """Redraw the share of a series, shape (n,), in which something holds; shape (REPLICATES,)."""
    sizes = np.diff(cell_starts(exceeds.size, CELLS), append=exceeds.size)
    totals = np.stack([cell_totals(exceeds, CELLS), sizes], axis=1).astype(np.float64)
    per_block = _cells_per_block(block, exceeds.size)
    drawn = np.concatenate([weights @ totals for weights in _weights(sizes.size, per_block, rng)])
    return np.asarray(drawn[:, 0] / drawn[:, 1], dtype=np.float64)


def _weights(cells: int, per_block: int, rng: np.random.Generator) -> Iterator[Float64]:
    """How often each replicate holds each cell, shape (replicates, cells), some replicates at a time."""
    blocks = max(1, round(cells / per_block))
    for first in range(0, REPLICATES, _REPLICATES_AT_ONCE):
        replicates = min(_REPLICATES_AT_ONCE, REPLICATES - first)
        starts = rng.integers(0, cells, (replicates, blocks)) + np.arange(replicates)[:, np.newaxis] * cells
        begun = np.bincount(starts.ravel(), minlength=replicates * cells).reshape(replicates, cells)
        # A cell is in every block that began at it or up to per_block - 1 cells before, around the circle.
        begun_before = np.cumsum(np.concatenate([begun[:, cells - per_block :], begun], axis=1), axis=1)
        yield (begun_before[:, per_block:] - begun_before[:, :cells]).astype(np.float64)


def _cells_per_block(block: int, count: int) -> int:
    cells = min(count, CELLS)
    return min(cells, max(1, math.ceil(block * cells / count)))


def _rank_error(exceeds: NDArray[np.bool_], block: int) -> float:
    """Return the standard error of how many values exceed a threshold, from the sums over all circular blocks."""
    totals = cell_totals(exceeds, CELLS)
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
    """Lag after which so many neighbouring autocorrelations are insignificant that the others count as zero."""
    band = 2.0 * math.sqrt(math.log10(count) / count)
    run = max(5, math.ceil(math.sqrt(math.log10(count))))
    significant = np.abs(correlation[1:]) >= band
    if significant.size < run:
        return None
    seen = np.concatenate([[0], np.cumsum(significant)])
    quiet = np.flatnonzero(seen[run:] == seen[:-run])
    return int(quiet[0]) if quiet.size else None
