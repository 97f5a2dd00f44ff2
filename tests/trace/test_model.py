from __future__ import annotations

import dataclasses
import hashlib
import math
import pickle
import struct
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipplan.core import MAX_DURATION_NS, InputError
from mipplan.trace import Trace

times = st.lists(st.integers(0, 10**13), min_size=2, max_size=30).map(sorted)


def test_measures_by_hand() -> None:
    trace = Trace.from_seconds([1.0, 2.0, 2.0, 5.0])
    assert trace.arrival_ns.tolist() == [10**9, 2 * 10**9, 2 * 10**9, 5 * 10**9]
    assert trace.arrival_ns.dtype == np.int64
    assert len(trace) == 4
    assert (trace.span_ns, trace.duration_s, trace.rate_rps) == (4 * 10**9, 4.0, 1.0)
    gaps = [1.0, 0.0, 3.0]
    assert trace.cv == pytest.approx(math.sqrt(sum((gap - 4 / 3) ** 2 for gap in gaps) / 3) / (4 / 3))


def test_all_at_once() -> None:
    trace = Trace.from_ns([7, 7, 7])
    assert (trace.span_ns, trace.rate_rps) == (0, math.inf)
    assert math.isnan(trace.cv)
    assert "queries" in repr(trace)


def test_checksum_is_of_little_endian_integers() -> None:
    assert Trace.from_ns([1, 300]).sha256 == hashlib.sha256(struct.pack("<qq", 1, 300)).hexdigest()


def test_arrivals_are_read_only_and_copied() -> None:
    given_ns = np.array([1, 2, 3])
    trace = Trace(given_ns)
    given_ns[0] = 3
    assert trace.arrival_ns[0] == 1
    for made in (
        trace,
        pickle.loads(pickle.dumps(trace)),
        trace.slice(0, 1),
        dataclasses.replace(trace, name="x"),
    ):
        with pytest.raises(ValueError, match="read-only"):
            made.arrival_ns[0] = 0


def test_a_read_only_view_of_a_writeable_array_is_copied_too() -> None:
    owner = np.array([1, 2, 3])
    view = owner[:]
    view.flags.writeable = False
    trace = Trace(view)
    owner[0] = 3
    assert trace.arrival_ns[0] == 1


def test_renaming_shares_the_arrivals() -> None:
    trace = Trace.from_ns([1, 2])
    assert dataclasses.replace(trace, name="other").arrival_ns is trace.arrival_ns


def test_equality() -> None:
    assert Trace.from_ns([1, 2]) == Trace.from_ns([1, 2])
    assert hash(Trace.from_ns([1, 2])) == hash(Trace.from_ns([1, 2]))
    assert Trace.from_ns([1, 2]) != Trace.from_ns([1, 3])
    assert Trace.from_ns([1, 2]) != Trace.from_ns([1, 2], name="x")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], "whole nanoseconds"),
        (np.array([], np.int64), "at least two arrivals, found 0"),
        ([1], "at least two arrivals, found 1"),
        ([[1, 2]], "one dimension"),
        ([1.0, 2.0], "whole nanoseconds, found float64"),
        ([True, False], "whole nanoseconds"),
        (["a", "b"], "whole nanoseconds"),
        ([-1, 2], r"negative time at position 0 \(1 in all\)"),
        ([5, 4, 9, 8], r"earlier than the arrival before it at position 1, 3 \(2 in all\)"),
        (list(range(20, 0, -1)), r"position 1, 2, 3, 4, 5, … \(19 in all\)"),
        ([1, MAX_DURATION_NS + 1], "beyond ten years"),
        (np.array([1, 2**64 - 1], np.uint64), "beyond ten years"),
        ([[1], [2, 3]], "one dimension"),
        (np.ma.array([1, 2, 3], mask=[0, 1, 0]), r"masked at position 1 \(1 in all\)"),
    ],
)
def test_what_is_no_trace(values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Trace.from_ns(values)
    with pytest.raises(InputError, match=message):
        Trace(values)


def test_several_faults_of_an_array_come_together() -> None:
    with pytest.raises(InputError) as caught:
        Trace.from_ns([4, -3])
    assert len(caught.value.faults) == 2


@pytest.mark.parametrize(
    "values", [["a", "b"], [1.0, math.nan], [1.0, math.inf], [1.0, 1e12], [[1.0, 2.0]], [1.0]]
)
def test_seconds_that_are_no_trace(values: Any) -> None:
    with pytest.raises(InputError):
        Trace.from_seconds(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (["1", "2"], "expected numbers or durations"),
        (np.array(["1", "2"], dtype=object), "expected numbers or durations"),
        ([False, True], "expected numbers or durations"),
        (np.array(["1970-01-02", "1970-01-03"], "datetime64[ms]"), "expected numbers or durations"),
        (np.ma.array([1.0, 2.0, 3.0], mask=[0, 1, 0]), r"masked at position 1 \(1 in all\)"),
        (np.array([1, 2], "timedelta64[Y]"), "expected durations in weeks or a shorter unit"),
        (np.zeros(2, "timedelta64"), "expected durations in weeks or a shorter unit"),
        (np.array([1, "NaT"], "timedelta64[s]"), "not a finite time below ten years at position 1"),
        (np.array([1, 2**40], "timedelta64[s]"), "not a finite time below ten years at position 1"),
    ],
)
def test_what_is_no_number_of_seconds_is_told(values: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Trace.from_seconds(values)


@given(st.lists(st.integers(0, 10**6), min_size=2, max_size=6).map(sorted))
def test_durations_are_converted_by_their_unit_exactly(ticks: list[int]) -> None:
    for unit, ns in {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9}.items():
        expected = [tick * ns for tick in ticks]
        durations = np.array(ticks, f"timedelta64[{unit}]")
        assert Trace.from_seconds(durations).arrival_ns.tolist() == expected
        if unit != "m":
            series = pd.Series(durations)
            assert Trace.from_seconds(series).arrival_ns.tolist() == expected
            for column in ("arrival_s", "arrival_ms"):
                table = pd.DataFrame({column: series})
                arrow = table.convert_dtypes(dtype_backend="pyarrow")
                assert Trace.from_pandas(arrow).arrival_ns.tolist() == expected
                assert Trace.from_pandas(table).arrival_ns.tolist() == expected


def test_unusable_name() -> None:
    with pytest.raises(InputError, match="name"):
        Trace.from_ns([1, 2], name="")


def test_labels_that_no_plan_file_could_say() -> None:
    """Plans made for such traces were saved as files that could not be read, or not at all."""
    odd: Any = {"note": 5, "zero_ns": "2026-01-01"}
    with pytest.raises(InputError) as caught:
        Trace(np.array([1, 2]), **odd)
    assert [str(fault) for fault in caught.value.faults] == [
        "trace.note: expected text, found 5",
        "trace.zero_ns: expected ns since 1970, found '2026-01-01'",
    ]
    with pytest.raises(InputError, match=r"trace\.note: .* holds half a character"):
        Trace.from_ns([1, 2], note="\ud800")


def test_slice_is_half_open_and_keeps_times() -> None:
    trace = Trace.from_seconds([0, 1, 2, 3, 4], name="t", note="made")
    part = trace.slice(1, 3)
    assert part.arrival_ns.tolist() == [10**9, 2 * 10**9]
    assert (part.name, part.note) == ("t", "made; slice [1 s, 3 s)")
    assert len(trace.slice(start_s=1)) == 4
    assert len(trace.slice(end_s=4)) == 4
    assert len(trace.slice()) == 5


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (3, 1, "empty"),
        (1, 1, "empty"),
        (0.5, 1.5, "only 1 arrival in"),
        (math.nan, 2, "start_s"),
        (0, "x", "end_s"),
    ],
)
def test_unusable_slices(start: Any, end: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Trace.from_seconds([0, 1, 2, 3, 4]).slice(start, end)


def test_scaling_compresses_time() -> None:
    trace = Trace.from_ns([100, 200, 300, 303])
    assert trace.scale(2).arrival_ns.tolist() == [100, 150, 200, 202]  # 101.5 to the even neighbour
    assert trace.scale(0.5).arrival_ns.tolist() == [100, 300, 500, 506]
    assert trace.scale(1) is trace
    assert trace.scale(2).note == "rate × 2"


@pytest.mark.parametrize("factor", [0, -1, math.nan, math.inf, True, "2", 1e-12])
def test_unusable_factors(factor: Any) -> None:
    with pytest.raises(InputError, match="scale"):
        Trace.from_seconds([0, 1_000_000]).scale(factor)


@given(times, st.floats(0.1, 10))
def test_scaling_scales_the_rate(arrivals: list[int], factor: float) -> None:
    trace = Trace.from_ns(arrivals)
    scaled = trace.scale(factor)
    assert len(scaled) == len(trace)
    assert scaled.arrival_ns[0] == trace.arrival_ns[0]
    assert np.all(
        np.abs((scaled.arrival_ns - arrivals[0]) * factor - (trace.arrival_ns - arrivals[0])) <= factor
    )


@given(times, st.integers(0, 10**4), st.integers(1, 10**4))
def test_slicing_keeps_exactly_the_window(arrivals: list[int], start: int, length: int) -> None:
    expected = [t for t in arrivals if start * 10**9 <= t < (start + length) * 10**9]
    if len(expected) < 2:
        with pytest.raises(InputError):
            Trace.from_ns(arrivals).slice(start, start + length)
    else:
        assert Trace.from_ns(arrivals).slice(start, start + length).arrival_ns.tolist() == expected


def test_concatenation() -> None:
    first = Trace.from_seconds([1, 2, 3], name="a")
    second = Trace.from_seconds([10, 10.5], name="b")
    assert (Trace.concatenate([first, second]).arrival_ns / 1e9).tolist() == [1, 2, 3, 4, 4.5]
    assert (Trace.concatenate([first, second], gap_s=0).arrival_ns / 1e9).tolist() == [1, 2, 3, 3, 3.5]
    three = Trace.concatenate([second, first, second])
    assert (three.arrival_ns / 1e9).tolist() == [10, 10.5, 11, 12, 13, 14, 14.5]
    assert three.name == "b"
    assert three.note.startswith("concatenation of b")


def test_unusable_concatenations() -> None:
    one: Any = Trace.from_ns([1, 2])
    for traces in ([], one, [one, [3, 4]], None, "ab"):
        with pytest.raises(InputError, match="at least one trace"):
            Trace.concatenate(traces)
    with pytest.raises(InputError, match="gap_s"):
        Trace.concatenate([Trace.from_ns([1, 2])], gap_s=-1)
    ten_years = Trace.from_seconds([0.0, 3.1e8])
    for number in (2, 3, 50):
        with pytest.raises(InputError, match="beyond ten years"):
            Trace.concatenate([ten_years] * number)


def test_rate_over_time() -> None:
    t_s, rps = Trace.from_seconds([10, 10.5, 11.9, 16]).rate_over_time(2)
    assert t_s.tolist() == [10, 12, 14, 16]
    assert rps.tolist() == [1.5, 0, 0, 0.5]


@pytest.mark.parametrize("window_s", [0, -1, 1e-9, math.nan, "x"])
def test_unusable_windows(window_s: Any) -> None:
    with pytest.raises(InputError, match="window_s"):
        Trace.from_seconds([0, 100]).rate_over_time(window_s)


@given(times, st.integers(1, 1000))
def test_windows_count_every_arrival(arrivals: list[int], window_s: int) -> None:
    t_s, rps = Trace.from_ns(arrivals).rate_over_time(window_s)
    assert np.rint(rps * window_s).sum() == len(arrivals)
    assert len(t_s) == len(rps)
