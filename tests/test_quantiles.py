"""Order statistics by short ways are those of a full ordering."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipplan.core import Allowance, Slo, find_largest, higher_rank, order_statistic, quantile_ns


def exceeds(values_ns: np.ndarray, quantile: float, limit_ns: int) -> bool:
    """Whether the quantile exceeds a limit, as it is found out everywhere: by counting."""
    return Allowance.of(quantile, np.arange(values_ns.size)).is_exceeded(values_ns > limit_ns)


#: Enough for a sample to be taken, and fewer.
SIZES = [1, 2, 1_000, 9_000, 30_000]
SHAPES = {
    "drawn": lambda rng, n: rng.integers(0, 10**9, n),
    "ties": lambda rng, n: rng.integers(0, 4, n),
    "level": lambda _, n: np.full(n, 7),
    "rising": lambda _, n: np.arange(n),
    "falling": lambda _, n: -np.arange(n),
    # With the stride of the sample: it sees nothing but the least, or the largest.
    "periodic": lambda _, n: (np.arange(n) % max(1, n // 4_096) > 0).astype(np.int64) * np.arange(n),
    "peaks": lambda _, n: (np.arange(n) % max(1, n // 4_096) == 0).astype(np.int64) * np.arange(n),
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
@given(st.integers(0, 2**32), st.floats(0.0, 1.0, exclude_min=True))
def test_order_statistics_are_those_of_sorted_values(
    shape: str, size: int, seed: int, quantile: float
) -> None:
    values = np.asarray(SHAPES[shape](np.random.default_rng(seed), size), dtype=np.int64)
    ordered, before = np.sort(values), values.copy()
    for asked in (quantile, 0.5, 0.99, 0.9999, 1.0):
        rank = higher_rank(asked, size)
        assert order_statistic(values, rank) == quantile_ns(values, asked) == ordered[rank]
        for limit in (ordered[rank] - 1, ordered[rank], ordered[rank] + 1):
            assert exceeds(values, asked, int(limit)) == (ordered[rank] > limit)
    assert np.array_equal(values, before)


@pytest.mark.parametrize(
    ("quantile", "count", "rank"),
    [
        (1.0, 1, 0),
        (0.01, 1, 0),
        (0.01, 2, 1),  # 0.01: the next whole number is 1
        (0.5, 2, 1),
        (0.5, 3, 1),
        (0.5, 4, 2),
        (0.99, 2, 1),
        (0.99, 100, 99),  # 98.01
        (0.99, 101, 99),
        (0.99, 102, 100),  # 99.99
        (0.9, 11, 9),
        (1.0, 50, 49),
    ],
)
def test_ranks_by_hand(quantile: float, count: int, rank: int) -> None:
    assert higher_rank(quantile, count) == rank
    assert quantile_ns(np.arange(count)[::-1] * 10, quantile) == 10 * rank


@given(st.integers(1, 3_000), st.floats(0.0, 1.0, exclude_min=True), st.integers(0, 2**32))
def test_quantiles_are_numpys(size: int, quantile: float, seed: int) -> None:
    # NumPy's own definition of "higher", which knows nothing of ours.
    values = np.random.default_rng(seed).integers(0, 10**9, size)
    assert quantile_ns(values, quantile) == np.quantile(values, quantile, method="higher")
    assert exceeds(values, quantile, int(values[0])) == (
        np.quantile(values, quantile, method="higher") > values[0]
    )


def test_the_largest_are_few_and_among_them() -> None:
    values = np.random.default_rng(1).integers(0, 10**9, 100_000)
    found = find_largest(values, 1_000)
    assert found is not None
    assert 1_000 <= found.size < 2_000
    assert set(np.argsort(values)[-1_000:].tolist()) <= set(found.tolist())
    assert np.all(np.diff(found) > 0)
    assert find_largest(values[:5_000], 10) is None


def test_a_whole_number_is_the_quantile_that_it_says() -> None:
    """Of 100 the last zeros once went with those behind the point: P100 was written as P1."""
    assert (
        Slo(quantile=1).to_document(5_000_000) == Slo(quantile=1.0).to_document(5_000_000) == {"p100": "5ms"}
    )
