"""Moments of a trace, written as people do; traces to and from pandas; shipped names in the readers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mipplan as mp
from mipplan.trace import is_moment, moment_ns

#: 2024-01-31T08:30:00Z.
ZERO_NS = 1_706_689_800 * 10**9
HOUR_NS = 3600 * 10**9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("60s", 60 * 10**9),
        ("1h", HOUR_NS),
        ("9:00", HOUR_NS // 2),
        ("08:30:01", 10**9),
        ("8:00", 24 * HOUR_NS - HOUR_NS // 2),
        ("2024-01-31T09:30", HOUR_NS),
        ("2024-01-31T10:30+01:00", HOUR_NS),
        ("2024-01-31", 0),
        ("2024-02-01", 31 * HOUR_NS // 2),
        ("1706693400", HOUR_NS),
        ("1706693400.5", HOUR_NS + 5 * 10**8),
    ],
)
def test_moments_of_a_trace_with_dates(text: str, expected: int) -> None:
    assert moment_ns("start_s", text, ZERO_NS) == expected


def test_moments_of_a_trace_without_dates() -> None:
    assert moment_ns("start_s", "9:00") == 9 * HOUR_NS
    assert moment_ns("start_s", "36:30:10") == 36 * HOUR_NS + 1810 * 10**9
    assert moment_ns("start_s", 1.5) == 1_500_000_000
    for text in ("2024-01-31", "1706693400"):
        with pytest.raises(mp.InputError, match=r"start_s: .* is a date, and the trace has none"):
            moment_ns("start_s", text)


@pytest.mark.parametrize("text", ["2024-13-01", "25:00", "2024-01-31 noon"])
def test_no_moments(text: str) -> None:
    assert is_moment(text)
    with pytest.raises(mp.InputError, match="start_s"):
        moment_ns("start_s", text, ZERO_NS)


@given(st.integers(0, 23), st.integers(0, 59), st.integers(0, 10**6))
def test_a_time_of_day_is_the_next_one(hours: int, minutes: int, zero_s: int) -> None:
    found = moment_ns("start_s", f"{hours}:{minutes:02d}", zero_s * 10**9)
    assert 0 <= found < 24 * HOUR_NS
    assert (found // 10**9 + zero_s) % 86_400 == 60 * (60 * hours + minutes)


def test_a_window_by_dates_is_read(tmp_path: Path) -> None:
    rows = "\n".join(f"2024-01-31T{8 + hour:02d}:30:00Z" for hour in range(6))
    (tmp_path / "log.csv").write_text(f"timestamp\n{rows}\n")
    by_clock = mp.Trace.read(tmp_path / "log.csv", start_s="9:00", end_s="12:00")
    by_date = mp.Trace.read(tmp_path / "log.csv", start_s="2024-01-31T09:00", end_s="210min")
    assert (by_clock.arrival_ns // HOUR_NS).tolist() == [1, 2, 3] == (by_date.arrival_ns // HOUR_NS).tolist()
    assert "window [9:00, 12:00)" in by_clock.note
    (tmp_path / "plain.csv").write_text("arrival_s\n0\n1\n2\n")
    with pytest.raises(mp.InputError, match="the trace has none"):
        mp.Trace.read(tmp_path / "plain.csv", start_s="2024-01-31")


def test_traces_from_and_to_pandas() -> None:
    trace = mp.Trace.poisson(50.0, 2.0, seed=3)
    again = mp.Trace.from_pandas(trace.to_pandas())
    assert np.abs(again.arrival_ns - trace.arrival_ns).max() <= 1
    seconds = pd.Series([0.0, 1.5, 2.0])
    assert mp.Trace.from_pandas(seconds).arrival_ns.tolist() == [0, 1_500_000_000, 2_000_000_000]
    assert mp.Trace.from_pandas(pd.DataFrame({"arrival_ms": [0, 1.5], "x": 0})).arrival_ns.tolist() == [
        0,
        1_500_000,
    ]
    dates = pd.Series(pd.to_datetime(["2024-01-31T08:30", "2024-01-31T08:31"]).tz_localize("Europe/Vienna"))
    assert mp.Trace.from_pandas(dates).arrival_ns.tolist() == [0, 60 * 10**9]
    assert mp.Trace.from_pandas(dates).zero_ns is not None
    texts = pd.DataFrame({"timestamp": ["2024-01-31T08:30", "2024-01-31T08:31"]})
    assert mp.Trace.from_pandas(texts).arrival_ns.tolist() == [0, 60 * 10**9]
    # With and without fractions of a second, as programs write them; durations, and dates of Python.
    texts = pd.DataFrame({"timestamp": ["2024-01-31T08:30:00", "2024-01-31T08:30:00.5"]})
    assert mp.Trace.from_pandas(texts).arrival_ns.tolist() == [0, 500_000_000]
    durations = pd.Series(pd.to_timedelta([0.0, 1.5], unit="s"))
    assert mp.Trace.from_pandas(durations).arrival_ns.tolist() == [0, 1_500_000_000]
    python = pd.Series([datetime(2024, 1, 31), datetime(2024, 1, 31, 0, 1)], dtype=object)
    assert mp.Trace.from_pandas(python).arrival_ns.tolist() == [0, 60 * 10**9]
    # The same moments in other clothes; each as a series and as the column of a table.
    minutes = pd.Series(["2024-01-31T08:30", "2024-01-31T08:31"])
    days = pd.Series(["2024-01-31", "2024-02-01"])
    for clothed, apart_s in (
        (minutes, 60),
        (minutes.astype(object), 60),
        (minutes.astype("category"), 60),
        (pd.Series(pd.to_datetime(minutes)).astype("category"), 60),
        (pd.Series(pd.PeriodIndex(minutes, freq="min")), 60),
        (pd.Series(pd.PeriodIndex(days, freq="D")), 86_400),
        (pd.Series([date(2024, 1, 31), date(2024, 2, 1)]), 86_400),
    ):
        for held in (clothed, pd.DataFrame({"timestamp": clothed})):
            read = mp.Trace.from_pandas(held)
            assert (read.arrival_ns.tolist(), read.zero_ns is None) == ([0, apart_s * 10**9], False), clothed
    assert mp.Trace.from_pandas(pd.Series(["0.5", "1.5"])).arrival_ns.tolist() == [500_000_000, 1_500_000_000]
    assert mp.Trace.from_pandas(pd.Series([0.5, 1.5]).astype("category")).arrival_ns[1] == 1_500_000_000
    for bad, message in (
        (pd.Series(["soon", "later"]), r"no date at position 0, 1 \(2 in all\)"),
        (pd.Series(["2024-01-31", "soon"]), r"no date at position 1 \(1 in all\)"),
        ([1, 2], "expected a pandas Series or DataFrame"),
        (pd.DataFrame({"timestamp": [1.7e9, 1.7e9 + 1]}), "holds numbers"),
        (pd.DataFrame({"timestamp": ["2024-01-31", "soon"]}), r"no date at position 1 \(1 in all\)"),
        (pd.DataFrame({"t": [1]}), "expected one of the columns arrival_s"),
        (pd.Series(pd.to_datetime(["2024-01-31", None])), r"no date at position 1 \(1 in all\)"),
        # Nanoseconds cannot hold them, and wrap around.
        (pd.Series(np.array(["1500-01-01", "1500-01-02"], "datetime64[s]")), "before 1678 .* position 0, 1"),
        (pd.Series(np.array(["1700-01-01", "2200-01-01"], "datetime64[s]")), "ten years from the first"),
        (pd.Series([1j, 2j]), "expected numbers, durations or dates, found complex128"),
        (pd.Series([False, True]), "expected numbers, durations or dates, found bool"),
        (pd.DataFrame([[0, 1], [1, 2]], columns=["arrival_s", "arrival_s"]), "the table has arrival_s"),
    ):
        with pytest.raises(mp.InputError, match=message):
            mp.Trace.from_pandas(bad)  # type: ignore[arg-type]


def test_profiles_from_and_to_pandas() -> None:
    profiles = mp.Profiles.default()
    assert mp.Profiles.from_pandas(*profiles.to_pandas()) == profiles
    hardware = pd.DataFrame({"usd_per_hour": [0.5], "limit": [4]}, index=["t4"])
    tables = pd.DataFrame({"model": "m", "hardware": "t4", "batch": [1, 2], "latency_ms": [3.0, 4.0]})
    made = mp.Profiles.from_pandas(hardware, tables)
    assert made.hardware["t4"].limit == 4
    assert made.tables["m", "t4"].latency_ms.tolist() == [3.0, 4.0]
    with pytest.raises(mp.InputError) as caught:
        mp.Profiles.from_pandas(hardware.rename(columns={"limit": "limits"}), tables.drop(columns="batch"))
    assert len(caught.value.faults) == 2
    assert mp.Profiles.from_pandas(hardware, tables.iloc[::-1]) == made
    with pytest.raises(mp.InputError) as caught:
        mp.Profiles.from_pandas(pd.concat([hardware, hardware]), tables.assign(model=["m", None]))
    assert [fault.place for fault in caught.value.faults] == ["hardware: t4", "tables"]
    with pytest.raises(mp.InputError, match="tables: batch: there are several columns of this name"):
        mp.Profiles.from_pandas(hardware, pd.concat([tables, tables[["batch"]]], axis=1))
    with pytest.raises(mp.InputError, match="expected a pandas DataFrame"):
        mp.Profiles.from_pandas({}, tables)  # type: ignore[arg-type]


def test_shipped_names_in_the_readers() -> None:
    assert mp.Pipeline.read("video-monitoring").name == "video-monitoring"
    assert mp.Trace.read("bursty", end_s="10s").name == "bursty"
    with pytest.raises(mp.InputError, match="did you mean 'video-monitoring'"):
        mp.Pipeline.read("video-monitor")
    with pytest.raises(mp.InputError, match="nor one of the shipped traces"):
        mp.Trace.read("quiet")


@pytest.mark.parametrize(
    ("read", "name"),
    [(mp.Pipeline.read, "cascade.yaml"), (mp.Trace.read, "bursty.csv"), (mp.Trace.read, "bursty.csv.gz")],
)
def test_shipped_names_with_an_ending_are_files_and_those_that_are_not_there_are_told(
    read: Callable[[str], object], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bare = name.split(".")[0]
    with pytest.raises(mp.InputError, match=rf"no such file; what is shipped is called '{bare}', without \."):
        read(name)
    with pytest.raises(mp.InputError, match=r"there is no such file$"):
        read(f"other-{name}")


def test_milliseconds_since_1970_are_exact_in_pandas_as_in_files(tmp_path: Path) -> None:
    ms = [1_700_000_000_000 + at for at in (1, 41, 79, 122)]
    (tmp_path / "ms.csv").write_text("\n".join(["arrival_ms", *map(str, ms)]), encoding="utf-8")
    read, given = mp.Trace.read(tmp_path / "ms.csv"), mp.Trace.from_pandas(pd.DataFrame({"arrival_ms": ms}))
    assert given.arrival_ns.tolist() == read.arrival_ns.tolist() == [0, 40_000_000, 78_000_000, 121_000_000]
    assert given.zero_ns == read.zero_ns == ms[0] * 10**6
