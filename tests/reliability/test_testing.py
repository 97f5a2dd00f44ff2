"""The test of a plan: exact intervals, how many scenarios, and what it says of the worst."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import oracle_reliable
from mipplan.reliability import clopper_pearson, fewest_scenarios, level_of_test
from mipplan.result import Reliability


@pytest.mark.parametrize("scenarios", [1, 2, 7, 20, 59])
def test_intervals_are_exact(scenarios: int) -> None:
    for kept in range(scenarios + 1):
        for level in (0.5, 0.95, 0.975):
            found = clopper_pearson(kept, scenarios, level)
            by_scipy = stats.binomtest(kept, scenarios).proportion_ci(level, method="exact")
            assert found == pytest.approx((by_scipy.low, by_scipy.high), abs=1e-9)
            assert found == pytest.approx(oracle_reliable.interval(kept, scenarios, level), abs=1e-9)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.95, 0.99])
def test_intervals_cover_as_often_as_they_say(share: float) -> None:
    """Summed over all outcomes, exactly: whatever the share is."""
    scenarios = 59
    covered = sum(
        stats.binom.pmf(kept, scenarios, share)
        for kept in range(scenarios + 1)
        if clopper_pearson(kept, scenarios)[0] <= share <= clopper_pearson(kept, scenarios)[1]
    )
    assert covered >= 0.95


def test_all_intervals_of_a_search_hold_with_95_percent() -> None:
    errors = np.array([1.0 - level_of_test(number) for number in range(1, 2_000)])
    assert errors[0] == pytest.approx(0.025)
    assert np.all(np.diff(errors) < 0)
    assert 0.0499 < errors.sum() < 0.05


@pytest.mark.parametrize(("confidence", "wanted"), [(0.5, 5), (0.9, 29), (0.95, 59), (0.99, 299)])
def test_enough_scenarios_to_show_the_share(confidence: float, wanted: int) -> None:
    assert fewest_scenarios(confidence) == wanted
    assert confidence**wanted <= 0.05 < confidence ** (wanted - 1)


@pytest.mark.parametrize("percent", range(1, 100))
def test_exactly_the_share_is_enough(percent: int) -> None:
    """0.55 · 100 is above 55 in floats."""
    share = percent / 100
    assert Reliability(share, 100, percent).passed
    assert not Reliability(share, 100, percent - 1).passed
