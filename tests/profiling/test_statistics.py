"""Warm-up and intervals: equal to their definitions, right for known distributions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import oracle_profiling as oracle
from mipplan.profiling import WarmUpParams, find_warm_up, quantile_range
from mipplan.profiling.statistics import look_confidence

#: Of the trials of a seeded campaign, so many must be right where 95 % are promised: three standard deviations of 400
#: trials below.
TRIALS, FEWEST_RIGHT = 400, 0.95 - 3 * math.sqrt(0.95 * 0.05 / 400)


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=80))
@settings(deadline=None, max_examples=60)
def test_warm_up_is_what_the_rule_says(latencies: list[int]) -> None:
    params = WarmUpParams()
    found = find_warm_up(np.array(latencies, dtype=np.int64), params)
    wanted = oracle.warm_up(
        latencies, params.group, params.fewest_groups, params.largest_share, params.tolerance
    )
    assert found.runs == wanted


@given(
    count=st.integers(1, 40),
    quantile=st.sampled_from([0.5, 0.9, 0.99]),
    confidence=st.sampled_from([0.9, 0.95, 0.975]),
)
@settings(deadline=None, max_examples=25)
def test_interval_is_made_of_the_innermost_ranks(count: int, quantile: float, confidence: float) -> None:
    values = np.arange(1, count + 1, dtype=np.int64)  # rank and value are the same
    found = quantile_range(values[::-1].copy(), quantile, confidence)
    assert (found.low_ns, found.high_ns) == oracle.enclosing_ranks(count, quantile, confidence)
    assert found.value_ns == np.quantile(values, quantile, method="higher")


@pytest.mark.parametrize("quantile", [0.5, 0.99])
@pytest.mark.parametrize("shape", ["uniform", "exponential", "pareto", "two modes"])
def test_interval_covers_the_true_quantile(shape: str, quantile: float) -> None:
    """For any distribution, also where the sample is too small for an upper end: that is infinity."""
    random = np.random.default_rng(7)
    uniform = random.random((TRIALS, 500))
    inverse = {
        "uniform": lambda u: u,
        "exponential": lambda u: -np.log1p(-u),
        "pareto": lambda u: (1 - u) ** (-1 / 1.5),
        "two modes": lambda u: np.where(u < 0.98, 1 + u, 10 + u),
    }[shape]
    true = float(inverse(np.array(quantile))) * 1e6
    latencies = np.rint(inverse(uniform) * 1e6).astype(np.int64)
    ranges = [quantile_range(row, quantile, 0.95) for row in latencies]
    covered = sum((r.low_ns or 0) - 1 <= true <= (r.high_ns or math.inf) + 1 for r in ranges)
    assert covered >= FEWEST_RIGHT * TRIALS


def test_a_sample_too_small_has_no_upper_end_and_is_never_narrow() -> None:
    found = quantile_range(np.arange(1, 101, dtype=np.int64), 0.99, 0.95)
    assert found.high_ns is None
    assert found.width == math.inf
    assert quantile_range(np.full(1_000, 7, dtype=np.int64), 0.99, 0.95).width == 0.0


def test_looks_share_out_what_may_be_wrong() -> None:
    wrong = sum(1 - look_confidence(look, 0.95) for look in range(1, 10_000))
    assert 0.0499 < wrong <= 0.05
    assert look_confidence(1, 0.95) == pytest.approx(0.975)


@pytest.mark.parametrize("warm", [0, 3, 10, 40, 100])
@pytest.mark.parametrize("shape", ["step", "decay"])
def test_warm_up_is_found(warm: int, shape: str) -> None:
    """Runs that take three times as long at first, with noise of 5 %: found within two groups.

    Now and then chance cuts a tenth of the runs more.
    """
    cuts = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        latency = 1e6 * (1 + 0.05 * random.standard_normal(400))
        if shape == "step":
            latency[:warm] *= 3
            allowed = range(warm // 5 * 5, warm + 41)
        else:  # down to 5 % above at run `warm`, to 0.1 % at twice that
            latency *= 1 + 2 * np.exp(-np.arange(400) / max(warm / 4, 0.1))
            allowed = range(warm // 2, 2 * warm + 41)
        found = find_warm_up(np.rint(latency).astype(np.int64))
        assert found.settled
        assert found.runs in allowed
        cuts.append(found.runs)
    assert warm // 2 <= np.median(cuts) <= (warm if shape == "step" else 2 * warm) + 10


def test_single_slow_runs_are_no_warm_up() -> None:
    """They are what the P99 is about: a rule that cuts up to the first of them would make every P99 look good."""
    latency = np.full(300, 1_000_000, dtype=np.int64)
    latency += np.random.default_rng(3).integers(0, 10_000, 300)
    latency[[20, 77, 130]] *= 10
    assert find_warm_up(latency).runs <= 10


@pytest.mark.parametrize("cold", [1, 2, 4])
def test_cold_runs_at_the_very_beginning_are_seen(cold: int) -> None:
    latency = 1_000_000 + np.random.default_rng(9).integers(0, 10_000, 40)
    latency[:cold] = range(9_000_000, 9_000_000 + cold)
    assert find_warm_up(latency).runs >= cold


def test_a_series_that_never_settles_is_said_so() -> None:
    drifting = np.linspace(1e6, 3e6, 300).astype(np.int64)
    assert not find_warm_up(drifting).settled
    assert find_warm_up(np.full(300, 5, dtype=np.int64)).settled
