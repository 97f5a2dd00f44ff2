"""Intervals of correlated latencies: whether they cover, and whether they are withheld where they would not."""

from __future__ import annotations

import numpy as np
import pytest

from campaigns import campaign_size, write_summary
from mipplan.core import InputError, quantile_ns
from mipplan.result import Estimate
from mipplan.result.statistics import (
    PARAMS,
    block_length,
    latency_statistics,
    quantile_replicates,
    share_replicates,
)

SERVICE_S = 0.8


def queue_latencies(rng: np.random.Generator, count: int, gap_shape: float = 1.0) -> np.ndarray:
    """Latencies (ns) at one server that is busy 80 % of the time, one gap per second on average."""
    gaps = rng.gamma(gap_shape, 1.0 / gap_shape, count + 5_000)
    steps = np.cumsum(SERVICE_S - gaps)
    wait = steps - np.minimum.accumulate(np.minimum(steps, 0.0))
    return np.rint((wait[5_000:] + SERVICE_S) * 1e9).astype(np.int64)


def independent(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.integers(0, 10**9, count)


def only(latency_ns: np.ndarray, quantile: float, **options: float) -> Estimate:
    ((_, estimate),) = latency_statistics(latency_ns, quantiles=(quantile,), **options).quantiles  # type: ignore[arg-type]
    return estimate


def test_values_are_the_order_statistics() -> None:
    latency = queue_latencies(np.random.default_rng(1), 5_000)
    statistics = latency_statistics(latency, slo_s=3.0)
    for quantile, estimate in statistics.quantiles:
        assert estimate.value == quantile_ns(latency, quantile) / 1e9
    assert statistics.misses is not None
    assert statistics.misses.value == np.mean(latency > 3 * 10**9)


@pytest.mark.parametrize(("count", "quantile"), [(900, 0.5), (900, 0.9), (5_000, 0.9), (30_000, 0.5)])
def test_redrawn_independent_values_spread_as_they_should(count: int, quantile: float) -> None:
    """The standard error of a quantile of uniform numbers, and of a share, is √(p(1−p)/n)."""
    expected = np.sqrt(quantile * (1 - quantile) / count)
    spreads, offsets, shares = [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        latency = independent(rng, count)
        redrawn_ns = quantile_replicates(latency, np.sort(latency), quantile, 1, rng)
        assert redrawn_ns.shape == (PARAMS.replicates,)
        assert np.isin(redrawn_ns, latency).all()
        spreads.append(redrawn_ns.std() / 1e9)
        offsets.append((redrawn_ns.mean() - quantile_ns(latency, quantile)) / 1e9)
        shares.append(share_replicates(latency > quantile * 10**9, 1, rng).std())
    # Of one sample, the spread of a redrawn quantile is itself uncertain by 10 to 20 %.
    assert np.mean(spreads) == pytest.approx(expected, rel=0.15)
    assert abs(np.mean(offsets)) < 0.25 * expected
    assert np.mean(shares) == pytest.approx(expected, rel=0.05)


def test_blocks_are_short_for_independent_and_long_for_correlated_values() -> None:
    rng = np.random.default_rng(3)
    short = block_length(independent(rng, 20_000) > 9 * 10**8)
    latency = queue_latencies(rng, 20_000)
    long = block_length(latency > quantile_ns(latency, 0.9))
    assert short is not None
    assert long is not None
    assert short <= 10
    assert 50 <= long <= 1_000


def test_block_length_of_an_autoregression_is_that_of_the_rule() -> None:
    """AR(1) thresholded at its median has correlations (2/π)·arcsin(φᵏ); the best length follows from their sums."""
    phi, count = 0.8, 60_000
    rng = np.random.default_rng(4)
    noise = rng.standard_normal(count)
    series = np.empty(count)
    series[0] = noise[0] / np.sqrt(1 - phi**2)
    for place in range(1, count):
        series[place] = phi * series[place - 1] + noise[place]
    correlation = 2 / np.pi * np.arcsin(phi ** np.arange(1, 200))
    spectrum = 1 + 2 * correlation.sum()
    slope = 2 * (np.arange(1, 200) * correlation).sum()
    best = (2 * slope**2 / (4 / 3 * spectrum**2)) ** (1 / 3) * count ** (1 / 3)
    made = block_length(series > 0)
    assert made is not None
    assert made == pytest.approx(2 * best, rel=0.25)


@pytest.mark.parametrize(
    ("traffic", "gap_shape", "queries", "runs"),
    [
        ("poisson", 1.0, 20_000, campaign_size(quick=20, deep=200)),
        ("gamma-cv4", 1 / 16, 200_000, campaign_size(quick=12, deep=50)),
    ],
)
def test_intervals_cover_and_those_of_independent_queries_would_not(
    traffic: str, gap_shape: float, queries: int, runs: int
) -> None:
    rng = np.random.default_rng(5)
    pieces = campaign_size(quick=2, deep=10)
    long_run = np.concatenate([queue_latencies(rng, 2_000_000, gap_shape) for _ in range(pieces)])
    report = {}
    for quantile in (0.5, 0.9):
        truth_s = quantile_ns(long_run, quantile) / 1e9
        covered = naive = given = 0
        for run in range(runs):
            latency = queue_latencies(rng, queries, gap_shape)
            interval = only(latency, quantile, seed=run).interval
            if interval is not None:
                given += 1
                covered += interval.low <= truth_s <= interval.high
            shuffled = only(rng.permutation(latency), quantile, seed=run).interval
            assert shuffled is not None
            naive += shuffled.low <= truth_s <= shuffled.high
        assert given >= 0.6 * runs
        # 90 %, less what so few runs leave to chance.
        assert covered >= 0.9 * given - 3.0 * np.sqrt(0.09 * given)
        assert naive <= 0.5 * runs
        report[f"p{100 * quantile:g}"] = {
            "given": given / runs,
            "covered": covered / given,
            "taken_as_independent": naive / runs,
        }
    summary = {"runs": runs, "queries": queries, "confidence": 0.95, "coverage": report}
    write_summary(f"bootstrap-{traffic}", summary)


def test_more_confidence_is_wider_and_a_seed_repeats() -> None:
    latency = queue_latencies(np.random.default_rng(6), 20_000)
    wide, narrow, again = (only(latency, 0.9, confidence=c, seed=3).interval for c in (0.99, 0.8, 0.99))
    assert wide is not None
    assert narrow is not None
    assert wide == again
    assert wide.low < narrow.low < narrow.high < wide.high
    assert narrow.low <= quantile_ns(latency, 0.9) / 1e9 <= narrow.high


def test_no_interval_where_too_little_was_seen() -> None:
    rng = np.random.default_rng(7)
    latency = queue_latencies(rng, 2_000, gap_shape=1 / 16)
    for quantile, said in ((1.0, "no query was slower"), (0.999, "needed|too long")):
        estimate = only(latency, quantile)
        assert estimate.interval is None
        assert estimate.reason is not None
        assert any(part in estimate.reason for part in said.split("|"))
    growing = np.arange(1, 10_001) * 1_000
    assert only(growing, 0.5).interval is None  # an overload that builds up is no stationary traffic
    equal = np.full(5_000, 7)
    assert only(equal, 0.5).reason == "no query was slower"
    for slo_s, reason in ((1.0, "no query missed"), (1e-9, "every query missed")):
        misses = latency_statistics(equal, slo_s=slo_s).misses
        assert misses is not None
        assert (misses.interval, misses.reason) == (None, reason)


@pytest.mark.parametrize("count", range(1, 60, 3))
def test_any_small_number_of_queries_gives_values(count: int) -> None:
    latency = np.random.default_rng(count).integers(1, 20, count)
    statistics = latency_statistics(latency, slo_s=1e-8)
    assert all(estimate.interval is None for _, estimate in statistics.quantiles[1:])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"confidence": 1.0}, "confidence"),
        ({"confidence": 0.0}, "confidence"),
        ({"quantiles": (99.0,)}, "0.99"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        latency_statistics(np.arange(10), **options)  # type: ignore[arg-type]
