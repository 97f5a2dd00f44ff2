from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipplan.core import InputError
from mipplan.trace.counts import EXPANSIONS, check_expansion, expand_counts

SECOND = 10**9


def expand(counts: list[float], how: str, seed: int = 1, interval_ns: int = SECOND) -> np.ndarray:
    starts = np.arange(len(counts)) * interval_ns
    return expand_counts(starts, interval_ns, np.array(counts, dtype=float), how, seed)


def test_even_spacing_by_hand() -> None:
    assert expand([2, 0, 4], "even").tolist() == [
        SECOND // 4,
        3 * SECOND // 4,
        2 * SECOND + SECOND // 8,
        2 * SECOND + 3 * SECOND // 8,
        2 * SECOND + 5 * SECOND // 8,
        2 * SECOND + 7 * SECOND // 8,
    ]


@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=10),
    st.sampled_from(["uniform", "even"]),
    st.integers(0, 99),
)
def test_observed_counts_are_kept(counts: list[int], how: str, seed: int) -> None:
    arrivals = expand([float(count) for count in counts], how, seed)
    assert np.bincount(arrivals // SECOND, minlength=len(counts)).tolist() == counts
    assert np.all(np.diff(arrivals) >= 0)


def test_fractions_are_rounded_where_counts_are_observed() -> None:
    assert len(expand([2.4, 2.6], "even")) == 5


def test_poisson_counts_vary_with_the_count_as_mean() -> None:
    arrivals = expand([100.0] * 2000, "poisson")
    counts = np.bincount(arrivals // SECOND, minlength=2000)
    assert counts.mean() == pytest.approx(100, abs=5 * 10 / math.sqrt(2000))
    assert counts.var() == pytest.approx(100, rel=5 * math.sqrt(2 / 2000))


@pytest.mark.parametrize("how", ["poisson", "uniform"])
def test_random_times_are_uniform_in_their_interval(how: str) -> None:
    inside = expand([50.0] * 2000, how) % SECOND
    counts = np.histogram(inside, 10, (0, SECOND))[0]
    assert np.all(np.abs(counts - 10_000) < 5 * 100 * 1.1)


@pytest.mark.parametrize("how", EXPANSIONS)
def test_seeds(how: str) -> None:
    assert expand([9.0] * 9, how, 1).tolist() == expand([9.0] * 9, how, 1).tolist()
    if how != "even":
        assert expand([9.0] * 9, how, 1).tolist() != expand([9.0] * 9, how, 2).tolist()


def test_long_intervals_do_not_overflow() -> None:
    day = 86_400 * SECOND
    arrivals = expand([1e6, 1.0], "even", interval_ns=day)
    assert arrivals[999_999] < day <= arrivals[1_000_000] < 2 * day


@pytest.mark.parametrize("counts", [[3e8], [1e8, 1e8, 1.0], [1e300]])
def test_too_many(counts: list[float]) -> None:
    with pytest.raises(InputError, match="more than the 200000000 possible: take a shorter window"):
        expand(counts, "poisson")


def test_names() -> None:
    assert check_expansion("even", "f") == "even"
    with pytest.raises(InputError, match=r"f: holds counts .* add --expand poisson --seed 1"):
        check_expansion(None, "f")
    with pytest.raises(InputError, match="did you mean 'poisson'"):
        check_expansion("poison", "f")
