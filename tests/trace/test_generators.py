"""Generators: their statistics, for fixed seeds and with bounds of five standard errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mipplan.core import InputError
from mipplan.trace import Trace, generators

EXAMPLES: dict[str, dict[str, Any]] = {
    "poisson": {"rate_rps": 50.0, "duration_s": 100.0},
    "gamma": {"rate_rps": 50.0, "cv": 3.0, "duration_s": 100.0},
    "markov_modulated": {"rates_rps": [10.0, 200.0], "mean_sojourn_s": 5.0, "duration_s": 100.0},
    "diurnal": {"mean_rps": 50.0, "amplitude": 0.5, "period_s": 20.0, "duration_s": 100.0},
    "ramp": {"rates_rps": [10.0, 90.0], "cvs": [1.0, 4.0], "durations_s": [40.0, 40.0], "transition_s": 20.0},
}


def test_every_generator_is_tested() -> None:
    public = {
        name for name, thing in vars(generators).items() if callable(thing) and not name.startswith("_")
    }
    own = {name for name in public if getattr(generators, name).__module__ == generators.__name__}
    assert own - {"gamma_chunks"} == set(EXAMPLES), "gamma_chunks is tested with streams"


@pytest.mark.parametrize("name", EXAMPLES)
def test_common_properties(name: str) -> None:
    make: Callable[..., Trace] = getattr(Trace, name)
    trace = make(**EXAMPLES[name], seed=3)
    assert trace == make(**EXAMPLES[name], seed=3)
    assert trace.sha256 != make(**EXAMPLES[name], seed=4).sha256
    assert trace.sha256 == make(*EXAMPLES[name].values(), 3).sha256  # positional, in this order
    assert np.all(np.diff(trace.arrival_ns) >= 0)
    assert trace.arrival_ns[0] >= 0
    assert trace.arrival_ns[-1] < 100 * 10**9
    assert trace.name == name
    assert trace.note.startswith(f"{name}(")
    assert trace.note.endswith("seed=3)")
    with pytest.raises(InputError, match="seed"):
        make(**EXAMPLES[name], seed=-1)


def counts(trace: Trace, edges_s: Any) -> np.ndarray:
    return np.histogram(trace.arrival_ns / 1e9, edges_s)[0]


def test_poisson_counts_are_poisson() -> None:
    trace = Trace.poisson(rate_rps=200, duration_s=500, seed=1)
    assert abs(len(trace) - 100_000) < 5 * math.sqrt(100_000)
    per_second = counts(trace, np.arange(501))
    assert per_second.var() / per_second.mean() == pytest.approx(1, abs=5 * math.sqrt(2 / 500))
    assert trace.cv == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("cv", [0.3, 1.0, 4.0])
def test_gamma_gaps_have_the_stated_mean_and_variation(cv: float) -> None:
    trace = Trace.gamma(rate_rps=100, cv=cv, duration_s=2000, seed=5)
    assert abs(len(trace) - 200_000) < 5 * cv * math.sqrt(200_000)
    assert trace.cv == pytest.approx(cv, rel=0.05)


def test_gamma_gaps_are_independent() -> None:
    gaps = np.diff(Trace.gamma(rate_rps=100, cv=2, duration_s=1000, seed=6).arrival_ns).astype(float)
    assert abs(np.corrcoef(gaps[1:], gaps[:-1])[0, 1]) < 5 / math.sqrt(len(gaps))


def test_extreme_burstiness_ends() -> None:
    assert len(generators.gamma(1000.0, 300.0, 100.0, 2)) >= 0


def test_modulated_rate_switches_between_its_states() -> None:
    trace = Trace.markov_modulated(rates_rps=[10, 300], mean_sojourn_s=[30, 10], duration_s=20_000, seed=2)
    expected = (10 * 30 + 300 * 10) / 40
    assert trace.rate_rps == pytest.approx(expected, rel=0.15)
    per_second = counts(trace, np.arange(20_001))
    assert np.mean(per_second < 40) == pytest.approx(0.75, abs=0.08)
    assert np.mean(per_second > 200) == pytest.approx(0.25, abs=0.08)


def test_a_silent_state_is_silent() -> None:
    trace = Trace.markov_modulated(rates_rps=[0, 100], mean_sojourn_s=20, duration_s=1000, seed=2)
    assert np.mean(counts(trace, np.arange(1001)) == 0) > 0.3


def test_a_sojourn_may_be_a_number_of_numpys_and_few_of_them_short() -> None:
    """Of 100 s at most a few are spent beside the long state, however short the sojourns there are."""
    whole = Trace.markov_modulated([10, 200], np.int64(5), 100.0, 3)
    assert whole.sha256 == Trace.markov_modulated([10, 200], 5, 100.0, 3).sha256
    assert len(Trace.markov_modulated([10, 200], [1e-9, 1e9], 100.0, 3)) > 10_000


def test_gaps_that_hardly_vary_are_all_alike() -> None:
    gaps_ns = np.diff(
        Trace.gamma(1000.0, 1e-200, 1.0, 1).arrival_ns
    )  # the inverse square of this CV is no number
    assert np.all(np.abs(gaps_ns - 10**6) <= 1)


def test_every_state_is_visited_equally_often() -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    _, states = generators._state_path(rng, np.array([1.0, 2.0, 3.0]), 20_000.0)
    assert np.all(np.diff(states) != 0)
    assert np.bincount(states) / len(states) == pytest.approx([1 / 3] * 3, abs=0.02)


def test_diurnal_rate_follows_the_sine() -> None:
    trace = Trace.diurnal(mean_rps=100, amplitude=0.8, period_s=100, duration_s=10_000, seed=3)
    assert abs(len(trace) - 1_000_000) < 5 * math.sqrt(1_000_000)
    phase = np.histogram(trace.arrival_ns / 1e9 % 100, np.linspace(0, 100, 21))[0]
    middles = np.arange(2.5, 100, 5)
    expected = 50_000 * (1 + 0.8 * np.sin(2 * np.pi * middles / 100) * np.sinc(1 / 20))
    assert np.all(np.abs(phase - expected) < 5 * np.sqrt(expected))


def test_ramp_holds_and_changes_rate_and_variation() -> None:
    trace = Trace.ramp(rates_rps=[100, 300], cvs=[0.5, 2], durations_s=[500, 500], transition_s=200, seed=4)
    low, rising, high = counts(trace, [0, 500, 700, 1200])
    assert abs(low - 50_000) < 5 * 0.5 * math.sqrt(50_000)
    assert abs(rising - 40_000) < 5 * 2 * math.sqrt(40_000)
    assert abs(high - 150_000) < 5 * 2 * math.sqrt(150_000)
    assert trace.slice(0, 500).cv == pytest.approx(0.5, rel=0.05)
    assert trace.slice(700, 1200).cv == pytest.approx(2, rel=0.05)
    first, second = counts(trace, [500, 600, 700])
    assert (first, second) == (pytest.approx(15_000, rel=0.1), pytest.approx(25_000, rel=0.1))


def test_jump_without_transition() -> None:
    trace = Trace.ramp(rates_rps=[10, 1000], cvs=[1, 1], durations_s=[100, 100], transition_s=0, seed=4)
    assert counts(trace, [0, 100, 200]) == pytest.approx([1000, 100_000], rel=0.2)
    assert trace.duration_s == pytest.approx(200, abs=1)


def test_one_regime_is_a_gamma_process() -> None:
    one = generators.ramp([50.0], [2.0], [100.0], 0.0, 7)
    assert one.tolist() == pytest.approx(generators.gamma(50.0, 2.0, 100.0, 7).tolist(), abs=2)


@pytest.mark.parametrize(
    ("name", "changes", "places"),
    [
        ("poisson", {"rate_rps": 0}, ["rate_rps"]),
        ("poisson", {"rate_rps": math.nan, "duration_s": -1}, ["rate_rps", "duration_s"]),
        ("poisson", {"duration_s": 1e12}, ["duration_s"]),
        ("poisson", {"rate_rps": 1e9}, ["trace"]),
        ("poisson", {"rate_rps": 1e-9}, ["poisson"]),
        ("gamma", {"cv": 0}, ["cv"]),
        ("gamma", {"cv": 1e6, "rate_rps": "x"}, ["rate_rps", "cv"]),
        ("gamma", {"rate_rps": 1e9}, ["trace"]),
        ("markov_modulated", {"rates_rps": [1.0]}, ["rates_rps"]),
        ("markov_modulated", {"rates_rps": [1.0, -1.0]}, ["rates_rps[1]"]),
        ("markov_modulated", {"mean_sojourn_s": [1.0]}, ["rates_rps"]),
        ("markov_modulated", {"mean_sojourn_s": 0}, ["mean_sojourn_s[0]", "mean_sojourn_s[1]"]),
        ("markov_modulated", {"mean_sojourn_s": 1e-9}, ["mean_sojourn_s"]),
        ("markov_modulated", {"rates_rps": 5.0}, ["rates_rps"]),
        ("markov_modulated", {"mean_sojourn_s": None}, ["mean_sojourn_s"]),
        ("markov_modulated", {"rates_rps": [0, 0]}, ["markov_modulated"]),
        ("diurnal", {"amplitude": 1.1}, ["amplitude"]),
        ("diurnal", {"amplitude": -0.1, "period_s": 0}, ["amplitude", "period_s"]),
        ("ramp", {"cvs": [1.0]}, ["rates_rps"]),
        ("ramp", {"rates_rps": [], "cvs": [], "durations_s": []}, ["rates_rps"]),
        ("ramp", {"transition_s": -1, "durations_s": [1.0, 0]}, ["durations_s[1]", "transition_s"]),
        ("ramp", {"rates_rps": [1e9, 1e9]}, ["trace"]),
        ("ramp", {"cvs": 1.0}, ["cvs"]),
        ("ramp", {"durations_s": "40"}, ["durations_s"]),
    ],
)
def test_unusable_arguments(name: str, changes: dict[str, Any], places: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        getattr(Trace, name)(**{**EXAMPLES[name], **changes}, seed=1)
    assert [fault.place for fault in caught.value.faults] == places
