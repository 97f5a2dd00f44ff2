"""The cut is exact to the nanosecond, and nothing is lost."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mipplan as mp
from mipplan.trace import split_trace

#: Years in nanoseconds are beyond what float64 tells apart.
_YEAR_NS = 366 * 86_400 * 10**9


@given(
    st.lists(st.integers(0, 12), min_size=4, max_size=30)
    | st.lists(st.integers(0, 5 * _YEAR_NS), min_size=4, max_size=30),
    st.floats(0.0, 1.0, exclude_min=True, exclude_max=True),
)
def test_first_part_is_what_comes_before_the_cut(arrivals: list[int], split: float) -> None:
    ordered = sorted(arrivals)
    cut = ordered[0] + Fraction(split) * (ordered[-1] - ordered[0])
    before = [time for time in ordered if time < cut]
    after = [time for time in ordered if time >= cut]
    trace = mp.Trace.from_ns(ordered)
    if len(set(before)) < 2 or len(set(after)) < 2:
        with pytest.raises(mp.InputError, match="split"):
            split_trace(trace, split)
        return
    planned_on, judged_on = split_trace(trace, split)
    assert planned_on.arrival_ns.tolist() == before
    assert judged_on.arrival_ns.tolist() == after


def test_an_arrival_at_the_cut_belongs_to_the_rest() -> None:
    trace = mp.Trace.from_ns([100, 103, 104, 105, 108])
    planned_on, judged_on = split_trace(trace, 0.5)
    assert planned_on.arrival_ns.tolist() == [100, 103]
    assert judged_on.arrival_ns.tolist() == [104, 105, 108]


def test_a_nanosecond_decides_even_after_years() -> None:
    half = _YEAR_NS + 1
    trace = mp.Trace.from_ns(np.array([0, 1, half - 1, half, 2 * half], np.int64))
    assert split_trace(trace, 0.5)[1].arrival_ns.tolist() == [half, 2 * half]


def test_parts_say_what_they_are() -> None:
    trace = mp.Trace.from_ns([0, 1, 2, 8, 9, 10], "counted", "from a file")
    planned_on, judged_on = split_trace(trace, 0.75)
    assert (planned_on.name, planned_on.note) == ("counted", "from a file; first 75% of its time")
    assert (judged_on.name, judged_on.note) == ("counted", "from a file; after the first 75% of its time")
    assert split_trace(mp.Trace.from_ns([0, 1, 2, 3]), 0.5)[0].note == "first 50% of its time"
