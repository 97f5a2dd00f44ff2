from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipplan.calculus import ArrivalCurve, empirical_envelope, least_above, overrun
from oracle_curves import concave_hull, slow_envelope

NS_PER_S = 10**9
gaps = st.lists(st.one_of(st.just(0), st.integers(0, 5), st.integers(0, 10**9)), min_size=0, max_size=30)


def arrivals(steps: list[int], start: int = 0) -> np.ndarray:
    return np.cumsum([start, *steps], dtype=np.int64)


@given(gaps, st.integers(0, 10**15))
def test_lies_above_every_window_and_touches_the_hull(steps: list[int], start: int) -> None:
    times = arrivals(steps, start)
    curve = empirical_envelope(times)
    windows = slow_envelope(times.tolist())
    for length_ns, count in windows:
        # Not even rounding takes it below: what is guaranteed for the envelope must cover the trace itself.
        assert curve.just_after(length_ns / NS_PER_S) >= count
    hull = concave_hull(windows)
    for length_ns, count in hull:
        assert curve.just_after(length_ns / NS_PER_S) == pytest.approx(count, rel=1e-4)
    # Nor is it above between two corners: a line through one of them is not enough.
    for (left_ns, low), (right_ns, high) in pairwise(hull):
        middle_s = (left_ns + right_ns) / 2 / NS_PER_S
        assert curve.just_after(middle_s) == pytest.approx((low + high) / 2, rel=1e-4)
    assert curve.rate == 0


@given(gaps, st.integers(2, 5))
def test_lies_above_even_if_refinement_stops_early(steps: list[int], most: int) -> None:
    times = arrivals(steps)
    curve = empirical_envelope(times, max_pieces=most)
    assert len(curve.buckets) <= most
    for length_ns, count in slow_envelope(times.tolist()):
        assert curve.just_after(length_ns / NS_PER_S) >= count * (1 - 1e-6)


@pytest.mark.parametrize("most", [4, 64])
@pytest.mark.parametrize("kind", ["gamma", "grid", "poisson", "bursts within a microsecond", "even"])
def test_every_burst_is_that_of_the_whole_trace(kind: str, most: int) -> None:
    """On long traces only few windows are looked at for a slope: those that matter to it are among them."""
    rng = np.random.default_rng(7)
    for count in (2, 9, 40, 300, 2_000):
        steps = {
            "gamma": rng.gamma(0.3, 1e7, count),
            "grid": rng.integers(0, 4, count) * NS_PER_S,
            "poisson": rng.exponential(1e7, count),
            "bursts within a microsecond": np.where(
                rng.random(count) < 0.05, NS_PER_S, rng.integers(0, 1_000, count)
            ),
            "even": np.full(count, 10**6),
        }[kind]
        times = np.cumsum(steps.astype(np.int64))
        curve = empirical_envelope(times, max_pieces=most)
        for burst, slope in curve.buckets:
            height = np.arange(count) - slope * (times - times[0]) / NS_PER_S
            worst = (height - np.minimum.accumulate(height)).max() + 1
            rounding = 1e-14 * (count + slope * (times[-1] - times[0]) / NS_PER_S)
            assert worst <= burst <= worst + rounding


def test_pieces_are_at_most_64_unless_said() -> None:
    """Of a trace whose gaps get longer and longer every arrival is a corner."""
    times = np.cumsum(np.arange(400)) * 1_000_000
    assert len(empirical_envelope(times).buckets) == 64
    assert len(empirical_envelope(times, max_pieces=9).buckets) == 9


@pytest.mark.parametrize("count", [10, 100, 1000])
def test_arrivals_on_a_line_take_one_piece_besides_the_count(count: int) -> None:
    curve = empirical_envelope(np.arange(count) * 10_000_000)
    assert np.array(curve.buckets) == pytest.approx(np.array([[1, 100], [count, 0]]))


def test_by_hand() -> None:
    """Three at once, then one every second: 3 + u, up to all seven."""
    curve = empirical_envelope(np.array([0, 0, 0, 1, 2, 3, 4]) * NS_PER_S)
    assert np.array(curve.buckets) == pytest.approx(np.array([[3, 1], [7, 0]]))


def test_burst_in_the_middle_counts_from_both_sides() -> None:
    curve = empirical_envelope(np.array([0, 10, 10, 10, 20]) * NS_PER_S)
    assert [curve.just_after(u) for u in (0, 10, 20)] == pytest.approx([3, 4, 5])


@pytest.mark.parametrize("times", [[5], [5, 5, 5]])
def test_all_at_one_instant(times: list[int]) -> None:
    assert empirical_envelope(np.array(times)).buckets == ((len(times), 0),)


buckets = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6)), min_size=1, max_size=3)


@given(st.lists(st.integers(0, 5), max_size=20), st.integers(0, 10**6), buckets)
def test_overrun_is_that_of_the_worst_window(
    steps: list[int], start: int, pairs: list[tuple[int, int]]
) -> None:
    times = arrivals([step * NS_PER_S // 2 for step in steps], start)
    curve = ArrivalCurve(tuple(pairs))
    worst = max(
        count - curve.just_after(length_ns / NS_PER_S) for length_ns, count in slow_envelope(times.tolist())
    )
    found = overrun(times, curve)
    assert found == pytest.approx(worst, abs=1e-9)
    # Halves of seconds and whole numbers are exact in floats: whoever touches the curve is inside it.
    assert (found > 0) == (worst > 0)


@given(gaps, st.integers(0, 10**15))
def test_a_trace_is_inside_its_own_envelope(steps: list[int], start: int) -> None:
    times = arrivals(steps, start)
    assert overrun(times, empirical_envelope(times)) <= 0


@given(st.lists(buckets, min_size=1, max_size=4))
def test_the_least_curve_above_several_is_above_each_and_touches_their_hull(
    several: list[list[tuple[int, int]]],
) -> None:
    curves = [ArrivalCurve(tuple(pairs)) for pairs in several]
    above = least_above(curves)
    windows = sorted({0.0, 0.1, 50.0, *(u for curve in (above, *curves) for u in curve.breakpoints())})
    for window_s in windows:
        highest = max(curve.just_after(window_s) for curve in curves)
        assert above.just_after(window_s) >= highest * (1.0 - 1e-12)
    # Concave, and every corner is a corner of one of them: no smaller concave curve is above all.
    assert above.rate == max(curve.rate for curve in curves)
    for window_s, arrivals_there in above.corners():
        assert arrivals_there == pytest.approx(max(curve.just_after(window_s) for curve in curves), abs=1e-9)
    assert least_above(curves[::-1]) == above
