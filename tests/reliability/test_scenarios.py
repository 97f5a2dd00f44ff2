"""Scenarios: what resampling keeps of a sample, how long blocks are, and that a seed says it all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mipplan as mp
import oracle_reliable
from mipplan.reliability import Purpose, ScenarioSource
from mipplan.reliability.scenarios import (
    ScenarioParams,
    best_block,
    block_length,
    estimate_drift,
    longest_busy_period,
    resample,
)

SAMPLE = mp.Trace.markov_modulated((20.0, 200.0), (2.0, 1.0), 100.0, seed=4)


def dispersion(gaps_ns: np.ndarray, window_ns: float) -> float:
    """Variance over mean of the counts in windows that follow each other."""
    times = np.cumsum(gaps_ns)
    counts = np.bincount((times // window_ns).astype(np.int64))[:-1]
    return float(counts.var() / counts.mean())


def test_a_resample_is_made_of_blocks_of_the_sample() -> None:
    gaps = np.arange(1, 1_001)
    drawn = resample(gaps, 25.0, np.random.default_rng(1))
    assert drawn.size == gaps.size
    follows = (drawn[1:] - drawn[:-1]) % gaps.size == 1
    assert 1 / (1 - follows.mean()) == pytest.approx(25.0, rel=0.5)  # a block ends once in 25 gaps


def test_blocks_of_one_are_independent_draws() -> None:
    gaps = np.arange(1, 10_001)
    drawn = resample(gaps, 1.0, np.random.default_rng(2))
    assert ((drawn[1:] - drawn[:-1]) % gaps.size == 1).mean() < 0.01


def test_the_mean_rate_is_kept_on_average() -> None:
    source = ScenarioSource([SAMPLE], 0, 0.0)
    rates = [source.scenario(number).trace.rate_rps for number in range(200)]
    spread = np.std(rates) / np.sqrt(len(rates))
    assert np.mean(rates) == pytest.approx(SAMPLE.rate_rps, abs=6 * spread + 0.02 * SAMPLE.rate_rps)


def test_bursts_are_kept() -> None:
    """Counts in windows as long as a burst spread as the sample's do; single gaps would spread far less."""
    gaps = np.diff(SAMPLE.arrival_ns)
    wanted = dispersion(gaps, 5e8)
    rng = np.random.default_rng(0)
    block = block_length(gaps)
    kept = np.mean([dispersion(resample(gaps, block, rng), 5e8) for _ in range(60)])
    shuffled = np.mean([dispersion(resample(gaps, 1.0, rng), 5e8) for _ in range(60)])
    assert kept == pytest.approx(wanted, rel=0.2)
    assert shuffled < 0.5 * wanted


@given(st.lists(st.integers(0, 50), min_size=20, max_size=120), st.sampled_from([1.1, 1.25, 2.0]))
def test_longest_busy_period_is_that_of_a_server(gaps: list[int], faster: float) -> None:
    if sum(gaps) == 0:
        return
    # Whole numbers where the server idles for no time at all: a hair decides there.
    scaled = np.array(gaps, dtype=np.int64) * 1_000_003
    found = longest_busy_period(scaled, faster)
    near = {
        oracle_reliable.longest_busy_period(scaled.tolist(), faster * (1 + e)) for e in (-1e-9, 0.0, 1e-9)
    }
    assert min(near) <= found <= max(near)


@pytest.mark.parametrize("seed", range(6))
def test_best_block_is_the_formula(seed: int) -> None:
    rng = np.random.default_rng(seed)
    noise = rng.exponential(1.0, 400)
    memory = 0.15 * seed
    gaps = np.empty(400)
    gaps[0] = noise[0]
    for place in range(1, 400):  # an autoregression
        gaps[place] = memory * gaps[place - 1] + noise[place]
    assert best_block(gaps) == pytest.approx(oracle_reliable.best_block(gaps.tolist()), rel=1e-9)


def test_best_block_grows_with_memory() -> None:
    rng = np.random.default_rng(9)
    noise = rng.exponential(1.0, 5_000)
    smooth = np.convolve(noise, np.ones(20) / 20, mode="valid")
    assert best_block(noise) < 5 < best_block(smooth)


def test_equal_gaps_have_blocks_of_one() -> None:
    assert best_block(np.full(50, 7.0)) == 1.0


def test_blocks_hold_the_longest_busy_period_up_to_a_twentieth() -> None:
    gaps = np.diff(mp.Trace.gamma(100.0, 1.0, 100.0, seed=0).arrival_ns)
    busy = longest_busy_period(gaps, 1.25)
    assert block_length(gaps) == min(float(busy), gaps.size / 20)
    assert block_length(gaps, ScenarioParams(fewest_blocks=2)) >= busy


def test_stationary_traffic_hardly_drifts() -> None:
    """The mean rate of independent gaps with CV c is off by c/√n; there is little beyond that."""
    found = [
        estimate_drift(np.diff(mp.Trace.gamma(100.0, 2.0, 100.0, seed=seed).arrival_ns)) for seed in range(40)
    ]
    assert np.mean(found) < 0.6 * 2.0 / np.sqrt(10_000)
    assert min(found) == 0.0


def test_a_rate_that_changes_drifts() -> None:
    ramp = mp.Trace.ramp((50.0, 150.0), (1.0, 1.0), (50.0, 50.0), 1.0, seed=0)
    gaps = np.diff(ramp.arrival_ns)
    rates = [1 / part.mean() for part in np.array_split(gaps, 10)]
    # As far as from part to part, not only by what ten parts add to their mean.
    assert 0.8 * np.std(np.log(rates)) < estimate_drift(gaps) < np.std(np.log(rates), ddof=1)


def test_a_rate_moves_where_parts_differ_as_stationary_ones_hardly_do() -> None:
    """Once in a hundred samples without memory, by chance; where the rate is doubled, always."""
    few = ScenarioParams(chance=0.0)  # Nothing moves then.
    seeds = range(300)
    drawn = [np.diff(mp.Trace.poisson(100.0, 20.0, seed=seed).arrival_ns) for seed in seeds]
    moves = [estimate_drift(gaps) > estimate_drift(gaps, few) for gaps in drawn]
    assert sum(moves) <= 10
    steps = [
        np.concatenate([gaps, np.diff(mp.Trace.poisson(200.0, 20.0, seed=seed + 300).arrival_ns)])
        for seed, gaps in enumerate(drawn[:20])
    ]
    assert all(estimate_drift(gaps) > 0.2 for gaps in steps)


def test_traffic_in_one_of_ten_parts_tells_nothing_of_how_rates_differ() -> None:
    gaps = np.zeros(1_000, dtype=np.int64)
    gaps[910::20] = 10**9
    assert 0.0 < estimate_drift(gaps) < 1.0


def test_scenarios_differ_from_the_sample_as_two_samples_do() -> None:
    """Twice the variance of a resample: tomorrow is a draw, and so is the sample."""
    sample = mp.Trace.gamma(100.0, 2.0, 100.0, seed=2)
    source = ScenarioSource([sample], 0, 0.0, ScenarioParams(fewest_blocks=len(sample) - 1))
    assert source.blocks == (1.0,)
    logs = np.log([source.scenario(number).trace.rate_rps for number in range(400)])
    one_draw = sample.cv / np.sqrt(len(sample))
    assert logs.std() == pytest.approx(np.sqrt(2.0) * one_draw, rel=0.12)


def test_a_stated_drift_spreads_the_rate() -> None:
    source = ScenarioSource([SAMPLE], 0, 0.1)
    logs = np.log([source.scenario(number).rate for number in range(400)])
    assert logs.mean() == pytest.approx(0.0, abs=0.02)
    assert logs.std() == pytest.approx(0.1, rel=0.15)


def test_no_drift_leaves_the_rate() -> None:
    source = ScenarioSource([SAMPLE], 0, 0.0)
    assert {source.scenario(number).rate for number in range(5)} == {1.0}


def test_a_seed_says_it_all() -> None:
    first, again, other = (ScenarioSource([SAMPLE], seed) for seed in (3, 3, 4))
    for number in range(3):
        one, same, another = (source.scenario(number) for source in (first, again, other))
        assert (one.trace, one.seed, one.rate) == (same.trace, same.seed, same.rate)
        assert one.trace != another.trace
        assert one.seed != another.seed


def test_scenarios_of_tests_are_none_of_those_chosen_on() -> None:
    source = ScenarioSource([SAMPLE], 0)
    purposes = (Purpose.CHOICE, Purpose.TEST, Purpose.TEST + 1)
    drawn = [source.scenario(number, purpose) for purpose in purposes for number in range(30)]
    assert len({scenario.trace.sha256 for scenario in drawn}) == len(drawn)
    assert len({scenario.seed for scenario in drawn}) == len(drawn)
    rates = np.array([scenario.rate for scenario in drawn]).reshape(3, 30)
    assert np.abs(np.corrcoef(rates)[np.triu_indices(3, 1)]).max() < 0.5


def test_every_trace_is_drawn_from() -> None:
    other = mp.Trace.poisson(50.0, 20.0, seed=1)
    source = ScenarioSource([SAMPLE, other], 0)
    names = [source.scenario(number).trace.name for number in range(100)]
    assert 30 <= names.count("poisson") <= 70
    assert len(source.blocks) == len(source.drifts) == 2


def test_samples_too_short_are_refused_all_at_once() -> None:
    short = mp.Trace.from_ns(np.arange(20) * 1_000, name="short")
    together = mp.Trace.from_ns(np.zeros(30, dtype=np.int64), name="together")
    with pytest.raises(mp.InputError) as caught:
        ScenarioSource([SAMPLE, short, together], 0)
    assert [fault.place for fault in caught.value.faults] == ["trace short", "trace together"]
