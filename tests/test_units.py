from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipplan.core import (
    MAX_DURATION_NS,
    dollars_to_microdollars,
    duration_text,
    format_duration,
    parse_duration_ns,
    seconds_to_ns,
    usd_text,
)


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("300ms", 300_000_000),
        ("0.5 s", 500_000_000),
        (" 40us ", 40_000),
        ("7ns", 7),
        ("0s", 0),
        (".25ms", 250_000),
        ("1.5ns", 2),  # to the nearest, ties to even
        ("2.s", 2_000_000_000),
    ],
)
def test_durations_are_read(text: str, ns: int) -> None:
    assert parse_duration_ns(text) == ns


@pytest.mark.parametrize("bare", [300, 0.3, "300", " 0.3 "])
def test_a_bare_number_is_told_to_take_a_unit(bare: object) -> None:
    with pytest.raises(ValueError, match=r"has no unit: write .*ms or .*s"):
        parse_duration_ns(bare)


@pytest.mark.parametrize(
    "wrong", ["", "ms", "-1ms", "1 d", "1e3ms", "nan s", "infs", "1msx", "٣ms", None, True, [1], "11y"]
)
def test_what_is_no_duration_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration_ns(wrong)


@pytest.mark.parametrize("text", ["400000000s", "9" * 39 + "ns", "9" * 50 + "ns"])
def test_endless_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"longer than ten years|too long"):
        parse_duration_ns(text)


@given(st.integers(0, 2**52))
def test_exact_text_reads_back(ns: int) -> None:
    assert parse_duration_ns(duration_text(ns)) == ns


@given(st.integers(0, 50 * 24 * 3600 * 10**9))
def test_seconds_of_whole_nanoseconds_read_back(ns: int) -> None:
    assert seconds_to_ns(ns / 1e9) == ns


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -math.inf, 2 * MAX_DURATION_NS / 1e9])
def test_unusable_seconds_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="not a usable time"):
        seconds_to_ns(seconds)


def test_people_read_durations() -> None:
    long = [format_duration(s * 1e9) for s in (9_999.4, 9_999.6, 86_400.0, 1.5e7)]
    assert long == ["9999 s", "10000 s", "86400 s", "15000000 s"]
    texts = [format_duration(ns) for ns in (0, 7, 40_000, 312_400_000, 1_250_000_000, math.inf)]
    assert texts == ["0 ns", "7 ns", "40 us", "312.4 ms", "1.25 s", "unbounded"]


def test_dollars_become_whole_microdollars() -> None:
    assert dollars_to_microdollars(0.526) == 526_000
    assert dollars_to_microdollars(4.1) == 4_100_000


@pytest.mark.parametrize(
    ("usd", "decimals", "text"),
    [
        (0.0, 4, "0.0000"),
        (0.085, 2, "0.09"),
        (0.0042, 2, "0.004200"),
        (-3e-6, 4, "-0.000003"),
        (1234.5, 2, "1,234.50"),
    ],
)
def test_what_costs_something_never_reads_as_nothing(usd: float, decimals: int, text: str) -> None:
    assert usd_text(usd, decimals) == text
    assert usd_text(usd, decimals, sign=True) == (text if usd < 0 else f"+{text}")
    assert usd_text(0.1 + 0.2 - 0.3) == usd_text(0.3 - 0.1 - 0.2) == "0.0000"
