"""The live envelope: counts are those of all windows, and an arrival costs the same however many are held."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import mipplan as mp
from campaigns import campaign_size
from mipplan.tuner import LiveEnvelope, doubling_windows_ns
from random_pipelines import random_trace


def slow_counts(arrival_ns: list[int], windows: list[int], earliest_end: int) -> list[int]:
    """Most arrivals in any window that ends at an arrival not before `earliest_end`."""
    ends = [t for t in arrival_ns if t >= earliest_end]
    return [max((sum(1 for t in arrival_ns if e - u <= t <= e) for e in ends), default=0) for u in windows]


def test_counts_are_those_of_all_recent_windows() -> None:
    for number in range(campaign_size(quick=80, deep=1_500)):
        rng = np.random.default_rng([91, number])
        arrival_ns = random_trace(rng, int(rng.choice([3, 100]))).arrival_ns
        windows = np.unique(rng.integers(1, 400, 4))
        slot_ns, horizon_ns = int(rng.integers(1, 50)), int(rng.integers(1, 400))
        live = LiveEnvelope(windows, horizon_ns=horizon_ns, slot_ns=slot_ns)
        cuts = np.unique(rng.integers(0, arrival_ns.size, 5))
        for piece in np.split(arrival_ns, cuts):
            live.observe(piece)
            if live.last_ns is None:
                continue
            so_far = arrival_ns[arrival_ns <= live.last_ns][: live_size(live, arrival_ns, piece)]
            now = live.last_ns + int(rng.integers(0, 40))
            wanted = int(rng.integers(1, horizon_ns + 1))
            counts = live.counts(now, wanted)
            assert counts is not None
            seen = max(1, int((windows <= now - int(arrival_ns[0])).sum()))
            assert counts.window_ns.tolist() == windows[:seen].tolist()
            # Whole slots: the horizon asked for, and what else lies in its first slot.
            earliest = max(0, now - wanted) // slot_ns * slot_ns
            assert counts.count.tolist() == slow_counts(so_far.tolist(), windows[:seen].tolist(), earliest)


def live_size(live: LiveEnvelope, arrival_ns: np.ndarray, piece: np.ndarray) -> int:
    """Arrivals taken in so far: up to the end of the piece, of which several may be at its last instant."""
    start = int(np.flatnonzero(arrival_ns == piece[0])[0]) if piece.size else 0
    for offset in range(start, arrival_ns.size):
        if np.shares_memory(arrival_ns[offset : offset + 1], piece[:1]):
            return offset + piece.size
    return int((arrival_ns <= live.last_ns).sum())


def test_cost_of_an_arrival_does_not_grow_with_what_is_held() -> None:
    """Entries read per arrival are counted: the same with a thousand and with half a million arrivals in the window."""
    windows = doubling_windows_ns(50_000_000)
    per_arrival = {}
    for rate_rps in (20, 10_000):
        trace = mp.Trace.gamma(rate_rps=rate_rps, cv=2, duration_s=70, seed=1).arrival_ns
        live = LiveEnvelope(windows)
        for piece in np.array_split(trace[:-1000], 200):
            live.observe(piece)
        before, held = live.touched, live.held
        for piece in np.array_split(trace[-1000:], 20):
            live.observe(piece)
        per_arrival[held] = (live.touched - before) / 1000
    few, many = sorted(per_arrival)
    assert many > 300 * few
    # Per window an arrival is read once as it comes and once as the pointer passes, or twice that as steps double;
    # a bisection over what is held would need 19 readings more per window for the many.
    assert per_arrival[many] <= 4 * windows.size
    assert per_arrival[many] <= 1.5 * per_arrival[few]


def test_total_cost_is_linear_in_arrivals_one_by_one_too() -> None:
    trace = mp.Trace.gamma(rate_rps=300, cv=4, duration_s=20, seed=2).arrival_ns
    live = LiveEnvelope(doubling_windows_ns(50_000_000))
    for arrival in trace:
        live.observe([int(arrival)])
    assert live.touched <= 4 * live.window_ns.size * trace.size


def test_what_no_window_reaches_is_let_go() -> None:
    live = LiveEnvelope([1_000])
    for start in range(0, 2_000_000, 10_000):
        live.observe(np.arange(start, start + 10_000, 10))
    assert live.held < 10_000
    counts = live.counts(2_000_000)
    assert counts is not None
    assert counts.count.tolist() == [101]


def test_long_pauses_forget() -> None:
    live = LiveEnvelope([10, 100], horizon_ns=1_000, slot_ns=10)
    assert live.counts(5) is None
    live.observe([0, 0, 0, 50])
    counts = live.counts(60)
    assert counts is not None
    assert (counts.window_ns.tolist(), counts.count.tolist()) == ([10], [3])
    later = live.counts(5_000)
    assert later is not None
    assert later.count.tolist() == [0, 0]


def test_windows_double() -> None:
    assert doubling_windows_ns(7, 60).tolist() == [7, 14, 28, 56]
    assert doubling_windows_ns(100, 60).tolist() == [100]


@pytest.mark.parametrize(
    ("arrivals", "message"),
    [
        ([5, 4], r"arrival_ns\[1\]: 4 is before the arrival it follows \(5\)"),
        ([2], r"arrival_ns\[0\]: 2 is before the arrival it follows \(3\)"),
        ([0.5], "whole nanoseconds"),
        ([[1, 2]], "whole nanoseconds"),
        (["a"], "whole nanoseconds"),
        ([[1], [2, 3]], "whole nanoseconds"),
    ],
)
def test_wrong_arrivals_are_refused_and_change_nothing(arrivals: Any, message: str) -> None:
    live = LiveEnvelope([10])
    live.observe([3])
    with pytest.raises(mp.InputError, match=message):
        live.observe(arrivals)
    assert live.held == 1


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ({"window_ns": []}, "window_ns"),
        ({"window_ns": [0, 5]}, "window_ns"),
        ({"window_ns": [5, 5]}, "window_ns"),
        ({"window_ns": [1.5]}, "window_ns"),
        ({"window_ns": [5], "horizon_ns": 0}, "horizon_ns"),
        ({"window_ns": [5], "slot_ns": 0}, "horizon_ns"),
        ({"window_ns": [5], "horizon_ns": 10**9, "slot_ns": 1}, "horizon_ns"),
    ],
)
def test_wrong_settings_are_refused(arguments: dict[str, Any], place: str) -> None:
    with pytest.raises(mp.InputError) as caught:
        LiveEnvelope(**arguments)
    assert caught.value.faults[0].place == place


def test_negative_times_are_refused() -> None:
    with pytest.raises(mp.InputError, match=r"arrival_ns\[0\]: expected at least 0, found -1"):
        LiveEnvelope([10]).observe([-1])
