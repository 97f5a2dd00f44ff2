"""Order statistics by short ways are those of a full ordering."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipplan.core import find_largest, higher_rank, order_statistic, quantile_exceeds, quantile_ns

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
            assert quantile_exceeds(values, asked, int(limit)) == (ordered[rank] > limit)
    assert np.array_equal(values, before)


def test_the_largest_are_few_and_among_them() -> None:
    values = np.random.default_rng(1).integers(0, 10**9, 100_000)
    found = find_largest(values, 1_000)
    assert found is not None
    assert 1_000 <= found.size < 2_000
    assert set(np.argsort(values)[-1_000:].tolist()) <= set(found.tolist())
    assert np.all(np.diff(found) > 0)
    assert find_largest(values[:5_000], 10) is None
