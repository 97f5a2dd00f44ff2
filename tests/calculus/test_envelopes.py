"""Window counts: a staircase above every curve that has them, its hull, and what a wrong pairing would miss."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest

from campaigns import campaign_size
from mipplan.calculus import ArrivalCurve, Envelope, WindowCounts, rate_needed
from mipplan.calculus.envelopes import _upper_hull
from oracle_curves import concave_hull
from oracle_scaling import slow_joined_steps, slow_most_in_windows, slow_step
from random_pipelines import random_trace


def random_counts(rng: np.random.Generator) -> tuple[np.ndarray, WindowCounts]:
    arrival_ns = random_trace(rng, int(rng.choice([3, 100]))).arrival_ns
    first = int(rng.integers(1, 30))
    if rng.random() < 0.5:
        windows = first * 2 ** np.arange(int(rng.integers(1, 7)))
    else:
        windows = np.unique(first + np.cumsum(rng.integers(1, 40, int(rng.integers(1, 6)))))
    return arrival_ns, WindowCounts.of_arrivals(arrival_ns, windows)


def test_counts_are_those_of_all_windows() -> None:
    for number in range(40):
        arrival_ns, counts = random_counts(np.random.default_rng([71, number]))
        slow = [slow_most_in_windows(arrival_ns.tolist(), u) for u in counts.window_ns.tolist()]
        assert counts.count.tolist() == slow


def test_no_window_of_the_trace_exceeds_the_staircase_or_its_hull() -> None:
    for number in range(campaign_size(quick=120, deep=3_000)):
        arrival_ns, counts = random_counts(np.random.default_rng([72, number]))
        starts, bounds = counts.steps()
        envelope = counts.envelope()
        for first in range(arrival_ns.size):
            for last in range(first, arrival_ns.size):
                length, held = int(arrival_ns[last] - arrival_ns[first]), last - first + 1
                assert held <= envelope.at(length), f"case {number}: {held} in {length}"
                if 0 < length <= counts.window_ns[-1]:
                    step = int(np.searchsorted(starts, length, side="left")) - 1
                    assert held <= bounds[step], f"case {number}: {held} in {length}"


def test_doubling_windows_give_the_best_that_counts_can_say() -> None:
    for number in range(campaign_size(quick=30, deep=400)):
        rng = np.random.default_rng([73, number])
        arrival_ns = random_trace(rng, 3).arrival_ns
        first = int(rng.integers(1, 4))
        counts = WindowCounts.of_arrivals(arrival_ns, first * 2 ** np.arange(int(rng.integers(1, 6))))
        starts, bounds = counts.steps()
        windows, most = counts.window_ns.tolist(), counts.count.tolist()
        for start, bound in zip(starts.tolist(), bounds.tolist(), strict=True):
            assert bound == slow_step(windows, most, start + 1), f"case {number}, window {start}"
        # And beyond the longest window the hull covers what several of them can hold.
        for beyond in range(windows[-1], 3 * windows[-1], max(1, windows[-1] // 7)):
            assert slow_step(windows, most, beyond) <= counts.envelope().at(beyond)


def test_pairing_a_count_with_its_own_window_would_miss_arrivals() -> None:
    # Nine arrivals within 5 ns are in every window of 5 to 10 ns. Counts are known at 4 and 10 ns. Whoever takes α(10)
    # = 9 to be the arrivals of a window of 10 ns only, serves 8 of them in 10 + 2 ns: too slow for the 5 ns they take.
    arrival_ns = np.array([0, 0, 0, 1, 2, 3, 5, 5, 5], dtype=np.int64)
    counts = WindowCounts.of_arrivals(arrival_ns, [4, 10])
    assert counts.count.tolist() == [6, 9]
    wrong = Envelope(((0, 1), (4, 6), (10, 9)), Fraction(9, 10))
    assert wrong.at(5) < slow_most_in_windows(arrival_ns.tolist(), 5)
    assert counts.envelope().at(5) >= 9


def test_long_windows_are_not_charged_twice() -> None:
    # Steady traffic: one arrival per ns. Pairing α(2u) with u alone would double the rate of the longest windows; two
    # windows hold no more than both of them.
    counts = WindowCounts.of_arrivals(np.arange(5_000, dtype=np.int64), 8 * 2 ** np.arange(8))
    envelope = counts.envelope()
    assert float(envelope.rate) == pytest.approx(1.0, rel=2e-3)
    assert envelope.at(1000) <= 1.03 * 1000 + 20


def test_hull_is_concave_and_touches_the_staircase() -> None:
    for number in range(60):
        _, counts = random_counts(np.random.default_rng([74, number]))
        envelope = counts.envelope()
        starts, bounds = counts.steps()
        points = set(zip(starts.tolist(), bounds.tolist(), strict=True))
        assert set(envelope.corners) <= points
        slopes = [Fraction(b2 - b1, u2 - u1) for (u1, b1), (u2, b2) in pairwise(envelope.corners)]
        assert all(a >= b for a, b in pairwise([*slopes, Fraction(envelope.rate)]))


def test_rates_needed_are_those_of_the_envelope() -> None:
    for number in range(campaign_size(quick=200, deep=3_000)):
        rng = np.random.default_rng([75, number])
        _, counts = random_counts(rng)
        # Of three sizes of waits; 0 and less go by the envelope itself, and so do those that may overflow.
        waits = rng.integers(1, 10 ** int(rng.integers(1, 4)), 5).tolist()
        waits += [[], [0], [-1, 0], [2**61]][int(rng.integers(4))]
        envelope = counts.envelope()
        found = counts.rates_needed(waits)
        expected = [rate_needed(envelope, wait) for wait in waits]
        assert [pair and Fraction(*pair) for pair in found] == [pair and Fraction(*pair) for pair in expected]


def test_rates_that_floating_point_cannot_tell_apart_are_told_apart() -> None:
    # With t = 2**28 − 1 the steps ask for (t − 1)/t and, as their products differ by 1, for a little more:
    # (2t − 1)/(2t + 1).
    t = 2**28 - 1
    counts = WindowCounts(np.array([2**28, 2**29, 2**30]), np.array([t, 2 * t, 2 * t]))
    assert (t - 1) / t == (2 * t - 1) / (2 * t + 1)
    (found,) = counts.rates_needed([t])
    assert found is not None
    assert Fraction(*found) == Fraction(2 * t - 1, 2 * t + 1)


def test_rates_whose_products_wrap_round_are_told_apart() -> None:
    """The two largest quotients are one in floating point, and 2⁶³ − 1 and 2⁶³ after they are multiplied out."""
    wait, t = 2**37, 2**42 + 2**21 + 1
    assert 2**21 / t == (2**21 - 1) / 2**42
    assert 2**21 * 2**42 - (2**21 - 1) * t == 1
    counts = WindowCounts(np.array([wait, t - wait, 4 * t]), np.array([2**16, 2**21, 2**21 + 1]))
    (found,) = counts.rates_needed([wait])
    assert found is not None
    assert Fraction(*found) == Fraction(2**21, t)


def test_corners_are_right_where_slopes_of_years_are_rounded() -> None:
    """Three windows of years, as long as each other but for nanoseconds: floating point sees one slope."""
    for number in range(200):
        rng = np.random.default_rng([78, number])
        windows = 2**56 * np.arange(4) + rng.integers(-40, 40, 4) * (np.arange(4) > 0)
        found = _upper_hull(windows, np.arange(4))
        points = list(zip(windows.tolist(), range(4), strict=True))
        # One on the line between two others may be among them.
        assert concave_hull([points[place] for place in found]) == concave_hull(points), f"case {number}"


def test_corners_of_a_curve() -> None:
    curve = ArrivalCurve(((2.0, 0.5e9), (10.0, 0.05e9)))
    envelope = Envelope.of_curve(curve)
    assert envelope.corners == ((0, 2), (Fraction(160, 9), Fraction(98, 9)))
    assert envelope.rate == Fraction(1, 20)
    assert envelope.at(4) == 4
    assert envelope.at(Fraction(160, 9) + 20) == Fraction(98, 9) + 1


def test_many_steps_are_joined_without_going_below_any() -> None:
    counts = WindowCounts(np.array([2**k for k in range(16)]), np.array([1 + 3 * k for k in range(16)]))
    starts, bounds = counts.steps()
    assert starts.size < 16 * 129
    windows, most = counts.window_ns.tolist(), counts.count.tolist()
    for length in [5, 100, 1001, 9999, 32767]:
        step = int(np.searchsorted(starts, length, side="left")) - 1
        assert bounds[step] >= slow_step(windows, most, length)


def test_steps_that_are_joined_are_as_high_as_the_last_of_them() -> None:
    for number in range(40):
        rng = np.random.default_rng([77, number])
        windows = np.cumsum(rng.integers([2, 10_000, 10_000], [50, 200_000, 10**6]))
        counts = WindowCounts(windows, np.cumsum(rng.integers([1, 20_000, 0], [5, 10**6, 10**6])))
        found = [values.tolist() for values in counts.steps()]
        assert found == slow_joined_steps(windows.tolist(), counts.count.tolist()), f"case {number}"


@pytest.mark.parametrize(
    ("windows", "counts", "message"),
    [
        ([], [], "at least one"),
        ([1, 2], [1], "one count per window"),
        ([0, 2], [1, 2], "positive"),
        ([2, 2], [1, 2], "strictly"),
        ([1, 2], [2, 1], "no fewer"),
        ([1, 2], [-1, 1], "not be negative"),
    ],
)
def test_wrong_counts_are_refused(windows: list[int], counts: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        WindowCounts(np.array(windows), np.array(counts))


def test_counts_beyond_int64_products_are_as_exact_as_others() -> None:
    """Windows and counts many times as large: the same corners, rates and answers, and none wraps round."""
    for number in range(40):
        _, counts = random_counts(np.random.default_rng([76, number]))
        scale = 2**30
        large = WindowCounts(scale * counts.window_ns, scale * 2**12 * counts.count)
        assert int(large.window_ns[-1]) * int(large.count[-1]) >= 2**60
        found = large.envelope()
        assert found.rate == 2**12 * counts.envelope().rate
        for window, most in zip(large.window_ns.tolist(), large.count.tolist(), strict=True):
            assert found.at(window) >= most
        for wait in (1, 1_000, 10**12):
            needed, (found_at_once,) = rate_needed(found, wait), large.rates_needed([wait])
            assert needed is not None
            assert found_at_once is not None
            rate = Fraction(*needed)
            assert rate == Fraction(*found_at_once)
            starts, bounds = (values.tolist() for values in large.steps())
            longest = [Fraction(bound - 1, start + wait) for start, bound in zip(starts, bounds, strict=True)]
            assert rate == max(found.rate, *longest)


def test_traffic_that_comes_faster_has_the_envelope_of_the_compressed_trace() -> None:
    for number in range(40):
        arrival_ns, counts = random_counts(np.random.default_rng([75, number]))
        for times in (2, 5):
            # Stretched first, so that nothing is rounded when it is compressed.
            slow = WindowCounts.of_arrivals(times * arrival_ns, times * counts.window_ns).envelope()
            found = slow.faster(Fraction(times))
            assert found.rate == counts.envelope().rate
            for window, most in zip(counts.window_ns.tolist(), counts.count.tolist(), strict=True):
                assert found.at(window) >= most
            # Whoever serves it in time serves the slow one in as many times the time.
            fast, calm = rate_needed(found, 1_000), rate_needed(slow, times * 1_000)
            assert fast is not None
            assert calm is not None
            assert Fraction(*fast) == times * Fraction(*calm)
