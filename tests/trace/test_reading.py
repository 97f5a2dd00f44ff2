from __future__ import annotations

import gzip
import io
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipplan.core import InputError
from mipplan.trace import Trace
from mipplan.trace.reading import ReadParams, read_arrivals, read_pieces

#: pandas reads dates that nanoseconds since 1970 cannot hold from version 3 on; before, it takes them for no dates.
TOO_EARLY = (
    "a date before 1678 or after 2261 in lines 2, 3"
    if pd.__version__ >= "3"
    else "no ISO date (such as '1000-01-01')"
)


def written(tmp_path: Path, content: str | bytes, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def parquet(tmp_path: Path, **columns: Any) -> Path:
    path = tmp_path / "t.parquet"
    pd.DataFrame(columns).to_parquet(path)
    return path


def faults_of(path: Path, **options: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        Trace.read(path, **options)
    return [str(fault).replace(f"{path.parent}/", "") for fault in caught.value.faults]


def read_or_refuse(path: Path) -> None:
    """Any file gives a trace, or faults that name the file; any other error fails the test."""
    try:
        trace = Trace.read(path)
    except InputError as error:
        refused = error
    else:
        assert len(trace) >= 2
        return
    assert all(fault.place.startswith(str(path)) for fault in refused.faults)


def seconds(trace: Trace) -> list[float]:
    return (trace.arrival_ns / 1e9).tolist()


# -------------------------------------------------------------------------------------------- arrivals


@pytest.mark.parametrize(
    "text",
    [
        "arrival_s\n0.5\n1\n2.25\n",
        "id,arrival_s,model\na,0.5,x\nb,1.0,é\nc,2.25,\n",
        "arrival_ms\n500\n1000\n2250\n",
        " arrival_s ,x\r\n0.5,1\r\n1.0,1\r\n2.25,1\r\n",
        "\ufeffarrival_s\n0.5\n\n1\n2.25\n\n\n",
        'note,arrival_s\n"two\nlines, and ""more""",0.5\nb, 1.0\nc,2.25',
        "arrival_s\r0.5\r1\r2.25\r",
        "arrival_s\r0.5\n1\r\n2.25\r",
        "arrival_s,requests_total\n0.5,3\n+1.0,4\n225e-2,5\n",
    ],
)
def test_csv_arrivals(text: str, tmp_path: Path) -> None:
    trace = Trace.read(written(tmp_path, text, "my trace.v2.csv"))
    assert seconds(trace) == [0.5, 1.0, 2.25]
    assert trace.name == "my trace"
    assert trace.note.startswith("read from arrival_")


def test_gzip_is_recognised_by_content(tmp_path: Path) -> None:
    data = gzip.compress(b"arrival_s\n1\n2\n")
    assert seconds(Trace.read(written(tmp_path, data, "t.csv"))) == [1.0, 2.0]
    assert seconds(Trace.read(written(tmp_path, "arrival_s\n1\n2\n", "t.csv.gz"))) == [1.0, 2.0]


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64", "Int64"])
def test_parquet_arrivals(dtype: str, tmp_path: Path) -> None:
    path = parquet(tmp_path, x=["a", "b", "c"], arrival_ms=pd.Series([1, 2, 5], dtype=dtype))
    assert Trace.read(path).arrival_ns.tolist() == [1_000_000, 2_000_000, 5_000_000]


def test_gzipped_parquet(tmp_path: Path) -> None:
    data = gzip.compress(parquet(tmp_path, arrival_s=[1.0, 2.0]).read_bytes())
    assert seconds(Trace.read(written(tmp_path, data, "t.parquet.gz"))) == [1.0, 2.0]


def test_window_keeps_times(tmp_path: Path) -> None:
    trace = Trace.read(written(tmp_path, "arrival_s\n1\n2\n3\n4\n"), start_s=2, end_s=4)
    assert seconds(trace) == [2.0, 3.0]
    assert trace.note == "read from arrival_s; window [2 s, 4 s)"


DATES = ["2024-01-31T23:59:59.5", "2024-02-01T00:00:00.25Z", "2024-02-01 02:00:01.123456789+02:00"]


def test_timestamps_become_relative_to_the_first(tmp_path: Path) -> None:
    trace = Trace.read(written(tmp_path, "timestamp\n" + "\n".join(DATES)))
    assert trace.zero_ns == pd.Timestamp(DATES[0]).value
    assert trace.slice().zero_ns == pickle.loads(pickle.dumps(trace)).zero_ns == trace.zero_ns
    assert replace(trace, zero_ns=None) != trace
    assert trace.arrival_ns.tolist() == [0, 750_000_000, 1_623_456_789]


@pytest.mark.parametrize(
    ("column", "unit", "resolution"), [("arrival_s", 1, 238), ("arrival_ms", 1_000, 244)]
)
def test_times_since_1970_are_dates(tmp_path: Path, column: str, unit: int, resolution: int) -> None:
    times = [1_772_616_600.25, 1_772_616_600.75, 1_772_616_660.25]
    path = written(tmp_path, f"{column}\n" + "\n".join(repr(unit * time) for time in times))
    trace = Trace.read(path)
    assert trace.arrival_ns.tolist() == [0, 500_000_000, 60_000_000_000]
    assert trace.zero == "2026-03-04T09:30:00.250"
    assert trace.note == f"read from {column}, which counts from 1970 and is read to {resolution} ns"
    assert np.concatenate(list(read_pieces(path))).tolist() == trace.arrival_ns.tolist()
    table = pd.DataFrame({column: [unit * time for time in times]})
    assert Trace.from_pandas(table).zero_ns == trace.zero_ns
    assert len(Trace.read(path, end_s="1772616601")) == len(Trace.read(path, end_s="9:30:01")) == 2


def test_parquet_timestamps(tmp_path: Path) -> None:
    dates = pd.to_datetime(pd.Series(["2024-01-01T00:00:00.0", "2024-01-01T00:00:01.5"]))
    for column in (dates, dates.dt.as_unit("us").dt.tz_localize("Europe/Paris"), dates.astype(str)):
        assert Trace.read(parquet(tmp_path, timestamp=column)).arrival_ns.tolist() == [0, 1_500_000_000]


@given(st.lists(st.integers(0, 10**12), min_size=2, max_size=20).map(sorted))
def test_nanoseconds_survive_a_csv_file(
    tmp_path_factory: pytest.TempPathFactory, arrivals: list[int]
) -> None:
    path = tmp_path_factory.mktemp("trace") / "t.csv"
    path.write_text("arrival_s\n" + "".join(f"{t // 10**9}.{t % 10**9:09d}\n" for t in arrivals))
    assert Trace.read(path).arrival_ns.tolist() == arrivals


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("arrival_s\n1\n3\n2\n5\n4\n", "earlier than the row before in lines 4, 6 (2 in all): sort the"),
        ("arrival_s\n-1\n2\n", "t.csv: arrival_s: a negative time in line 2"),
        ("arrival_s\n1\nx\n3\n", "t.csv: arrival_s: no number (such as 'x') in line 3"),
        ("arrival_s\n1\n1_0\n30\n", "no number (such as '1_0') in line 3"),
        ("arrival_s\n1\nnan\nNaN\n", "t.csv: arrival_s: NaN in lines 3, 4 (2 in all)"),
        ("arrival_s\n1\n-inf\n", "t.csv: arrival_s: an infinite value in line 3"),
        ("arrival_s,b\n1,2\n,2\n", "t.csv: arrival_s: no value in line 3"),
        ("arrival_s,b\n1,2\nNA,2\n", "no number (such as 'NA') in line 3"),
        ("arrival_s\n0\n1700000000000\n", "t.csv: arrival_s: a time beyond ten years in line 3: subtract"),
        ("arrival_s\n", "t.csv: arrival_s: gives no arrival; a trace needs at least two"),
        ("arrival_s\n1\n", "t.csv: arrival_s: gives one arrival; a trace needs at least two"),
        ("arrival_s", "t.csv: arrival_s: gives no arrival"),
        ("timestamp\n2024-01-01\nsoon\n", "t.csv: timestamp: no ISO date (such as 'soon') in line 3"),
        ("timestamp\n2024-01-01\n\"\"\n", "t.csv: timestamp: no ISO date (such as '') in line 3"),
        ("timestamp\n1700000000.5\n1700000001\n", "t.csv: timestamp: holds numbers; dates such as"),
        ("timestamp\n2024-01-02\n2024-01-01\n", "the row before in line 3: sort the file by timestamp"),
        ("timestamp\n2026-10-25T02:40:00\n2026-10-25T02:10:00\n", "or, where clocks went back, write dates with"),
        ("timestamp\n1990-01-01\n2024-01-01\n", "a date more than ten years after the first in line 3"),
        ("timestamp\n1000-01-01\n1000-01-02\n", f"t.csv: timestamp: {TOO_EARLY}"),
        ("a,arrival_s\n1,2\n1,2,3\n1\n", "expected 2 values as in the header, found 1 to 3 values in lines 3, 4"),
        ("", "t.csv: is empty; the first line must name the columns"),
        ("\n\n", "t.csv: is empty; the first line must name the columns"),
        ("1.5\n2.5\n", "requests_per_hour; the first line names '1.5'"),
        ("arrivals_s\n1\n2\n", "the first line names 'arrivals_s'; did you mean 'arrival_s'?"),
        ("arrival_s;x\n1;2\n", "the first line names 'arrival_s;x'"),
        ("arrival_s,arrival_ms\n1,1\n", "found arrival_s and arrival_ms: keep one"),
        ("arrival_s,requests_per_s\n1,1\n", "found arrival_s and requests_per_s: keep one"),
        ("arrival_s,arrival_s\n1,1\n", "found arrival_s and arrival_s: keep one"),
    ],
)  # fmt: skip
def test_faulty_csv(text: str, expected: str, tmp_path: Path) -> None:
    faults = faults_of(written(tmp_path, text))
    assert len(faults) == 1
    assert expected in faults[0]


def test_all_kinds_of_fault_in_a_column_with_their_lines(tmp_path: Path) -> None:
    text = 'x,arrival_s\n"a\nb",1\n\n,nan\n,inf\n,\n,oops\n' + ",bad\n" * 6
    assert faults_of(written(tmp_path, text)) == [
        "t.csv: arrival_s: no value in line 7",
        "t.csv: arrival_s: NaN in line 5",
        "t.csv: arrival_s: an infinite value in line 6",
        "t.csv: arrival_s: no number (such as 'oops') in lines 8, 9, 10, 11, 12, … (7 in all)",
    ]
    assert len(faults_of(written(tmp_path, "arrival_s\n5\n-3\n-4\n"))) == 2


def test_all_kinds_of_fault_in_dates_with_their_lines(tmp_path: Path) -> None:
    """Whoever mends one should not have to read the file again to hear of the next."""
    text = "timestamp\n2026-01-02\n2026-01-01\nsoon\n2062-01-01\n2026-01-03\n"
    assert faults_of(written(tmp_path, text)) == [
        "t.csv: timestamp: no ISO date (such as 'soon') in line 4",
        "t.csv: timestamp: a date more than ten years after the first in line 5",
        (
            "t.csv: timestamp: earlier than the row before in lines 3, 6 (2 in all): sort the file by timestamp, or, "
            "where clocks went back, write dates with their offset from UTC, such as +02:00"
        ),
    ]


def test_all_that_is_wrong_with_counts_is_told_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "t_s,requests_per_s\nx,1\n1,-1\n")
    window, expansion, negative, key = faults_of(path, start_s=5, end_s=3)
    assert "is empty" in window
    assert "how they become arrivals must be said" in expansion
    assert negative == "t.csv: requests_per_s: a negative count in line 3"
    assert key == "t.csv: t_s: no number (such as 'x') in line 2"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"arrival_s": [1.0, None, 3.0]}, "arrival_s: no value in row 2"),
        ({"arrival_s": [3.0, 1.0, 2.0]}, "earlier than the row before in row 2: sort"),
        ({"arrival_s": [1.0, float("inf"), 3.0]}, "an infinite value in row 2"),
        ({"arrival_s": ["a", "b", "c"]}, "arrival_s: expected numbers, the column holds"),
        ({"timestamp": pd.to_datetime(["2024-01-01", None, "2024-01-02"])}, "timestamp: no value in row 2"),
        ({"other": [1, 2]}, "the first line names 'other'"),
    ],
)
def test_faulty_parquet(columns: dict[str, Any], expected: str, tmp_path: Path) -> None:
    faults = faults_of(parquet(tmp_path, **columns))
    assert len(faults) == 1
    assert expected in faults[0]


def test_damaged_files(tmp_path: Path) -> None:
    packed = gzip.compress(np.random.default_rng(1).bytes(5000))
    whole = parquet(tmp_path, arrival_s=np.arange(1000.0)).read_bytes()
    cases = [
        (packed[:-1000], "the gzip data end too early: the file is incomplete"),
        (packed[:100] + bytes(50) + packed[150:], "the gzip data are damaged"),
        (whole[:-100], "begins like a Parquet file but cannot be read as one"),
        (b"PAR1", "begins like a Parquet file but cannot be read as one"),
        (b"arrival_s\n1\n\xff\n", "t.csv:3: is not UTF-8 text (byte 0xff)"),
        ("arrival_s\n1\n".encode("utf-16"), "is not UTF-8 text"),
        (gzip.compress(b"arrival_s,\xe9\n1,2\n"), "is not UTF-8 text"),
    ]
    for data, expected in cases:
        faults = faults_of(written(tmp_path, data))
        assert len(faults) == 1
        assert expected in faults[0], faults


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("bytes") / "t"
    for prefix in (b"", b"arrival_s\n", b"PAR1", b"\x1f\x8b\x08\x00"):
        path.write_bytes(prefix + data)
        read_or_refuse(path)


@given(st.text('0123456789.,;-+eE "\n\rnaif\t', max_size=60))
def test_any_table_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("text") / "t.csv"
    path.write_text("arrival_s,x\n" + text, newline="")
    read_or_refuse(path)


def test_decompression_is_bounded(tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress(bytes(100_000)))
    with pytest.raises(InputError, match="when decompressed"):
        read_arrivals(
            path, expand=None, seed=0, start_s=None, end_s=None, params=ReadParams(most_bytes=10_000)
        )


def test_missing_files(tmp_path: Path) -> None:
    written(tmp_path, "arrival_s\n", "arrivals.csv")
    assert "did you mean 'arrivals.csv'?" in faults_of(tmp_path / "arrival.csv")[0]
    assert "is a folder" in faults_of(tmp_path)[0]


def test_expanding_arrivals_is_refused(tmp_path: Path) -> None:
    faults = faults_of(written(tmp_path, "arrival_s\n1\n2\n"), expand="poisson")
    assert len(faults) == 1
    assert faults[0].startswith(
        "t.csv: arrival_s: holds arrival times, which need no expansion: leave out --expand "
    )


@pytest.mark.parametrize(("start_s", "end_s"), [(5, 5), (5, 4), (float("nan"), 1), ("x", 1)])
def test_unusable_window(start_s: Any, end_s: Any, tmp_path: Path) -> None:
    faults = faults_of(written(tmp_path, "arrival_s\n1\n2\n"), start_s=start_s, end_s=end_s)
    assert len(faults) == 1


def test_empty_window_names_itself(tmp_path: Path) -> None:
    faults = faults_of(written(tmp_path, "arrival_s\n1\n2\n"), start_s=5)
    assert faults == [
        "t.csv: arrival_s: gives no arrival in [5 s, end) of its 1 s to 2 s; a trace needs at least two"
    ]


# ---------------------------------------------------------------------------------------------- counts


@pytest.mark.parametrize(
    ("text", "interval_s", "counts"),
    [
        ("requests_per_s\n2\n0\n3\n", 1, [2, 0, 3]),
        ("requests_per_min\n2\n0\n3\n", 60, [2, 0, 3]),
        ("t_s,requests_per_s\n0,2\n1,0\n2,3\n", 1, [2, 0, 3]),
        ("minute_index,requests_per_min\n0,2\n1,0\n2,3\n", 60, [2, 0, 3]),
        ("minute_index,requests_per_s\n0,2\n1,0.5\n", 60, [120, 30]),
        ("window_start_s,requests_per_min\n0,2\n30,4\n", 30, [1, 2]),
        ("window_start_s,requests_per_s\n0,2\n10,0\n20,0.3\n", 10, [20, 0, 3]),
        ("client,window_start_s,requests_per_s\na,0,1\na,10,2\nb,0,0.5\nb,10,0\n", 10, [15, 20]),
        ("t_s,requests_per_s\n2,3\n0,2\n", 2, [4, 6]),
        ("t_s,requests_per_s\n0,2\n10,3\n20,1\n50,1\n", 10, [20, 30, 10, 0, 0, 10]),
    ],
)
def test_counts_by_hand(text: str, interval_s: int, counts: list[int], tmp_path: Path) -> None:
    trace = Trace.read(written(tmp_path, text), expand="uniform", seed=4)
    assert np.bincount(trace.arrival_ns // (interval_s * 10**9)).tolist() == counts
    assert "expanded by uniform, seed 4" in trace.note


def test_repeated_intervals_are_told(tmp_path: Path) -> None:
    path = written(tmp_path, "t_s,requests_per_s\n0,1\n0,1\n1,1\n")
    assert "3 rows of 2 intervals" in Trace.read(path, expand="even").note


def test_counts_from_parquet(tmp_path: Path) -> None:
    path = parquet(tmp_path, t_s=[0, 1, 2], requests_per_s=[1, 2, 1])
    assert seconds(Trace.read(path, expand="even")) == [0.5, 1.25, 1.75, 2.5]


def test_the_same_seed_gives_the_same_arrivals(tmp_path: Path) -> None:
    path = written(tmp_path, "requests_per_s\n20\n30\n")
    first, again, other = (Trace.read(path, expand="poisson", seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert first.sha256 != other.sha256


def test_window_is_applied_before_expansion(tmp_path: Path) -> None:
    path = written(tmp_path, "requests_per_s\n" + "1000000000\n" * 50 + "4\n4\n4\n")
    trace = Trace.read(path, expand="even", start_s=50.5, end_s=52)
    assert seconds(trace) == [50.625, 50.875, 51.125, 51.375, 51.625, 51.875]
    assert trace.note.endswith("window [50.5 s, 52 s)")
    assert "more than the 200000000 possible" in faults_of(path, expand="even")[0]


@pytest.mark.parametrize(
    ("text", "expand", "expected"),
    [
        ("requests_per_s\n1\n2\n", None, "t.csv: requests_per_s: holds counts per interval"),
        (
            "requests_per_s\n1\n2\n",
            "random",
            "t.csv: requests_per_s: there is no expansion 'random'; known are",
        ),
        ("requests_per_s\n1\n-2\n", "even", "t.csv: requests_per_s: a negative count in line 3"),
        ("t_s,requests_per_s\n0,1\n1,\n", "even", "t.csv: requests_per_s: no value in line 3"),
        ("t_s,requests_per_s\n0,1\n1,nan\n", "even", "t.csv: requests_per_s: NaN in line 3"),
        ("t_s,requests_per_s\n-1,1\n1,1\n", "even", "t.csv: t_s: a negative time in line 2"),
        ("t_s,requests_per_s\n0,1\nx,1\n", "even", "t.csv: t_s: no number (such as 'x') in line 3"),
        ("t_s,requests_per_s\n0,1\n", "even", "t.csv: t_s: expected at least two different values"),
        ("t_s,requests_per_s\n0,1\n1e9,1\n", "even", "t.csv: t_s: a time beyond ten years in line 3"),
        ("t_s,requests_per_s\n0,1\n2e8,1\n", "even", "t.csv: t_s: spans more than ten years"),
        ("t_s,minute_index,requests_per_s\n0,0,1\n", "even", "found t_s and minute_index: keep the one"),
        (
            "requests_per_s,requests_per_min\n0,1\n",
            "even",
            "found requests_per_s and requests_per_min: keep one",
        ),
        ("requests_per_s\n0\n0\n", "even", "t.csv: requests_per_s: gives no arrival"),
        # Each 0.6 would be rounded to a query: two thirds more traffic than there was.
        (
            "requests_per_s\n" + "0.6\n" * 100,
            "even",
            "t.csv: intervals hold parts of queries: even makes 100 of 60;",
        ),
        ("requests_per_s\n" + "0.4\n" * 100, "uniform", "uniform makes 0 of 40; expand by poisson"),
        ("requests_per_s\n", "even", "t.csv: requests_per_s: gives no arrival"),
        ("t_s\n1\n2\n", "even", "expected one of the columns"),
    ],
)
def test_faulty_counts(text: str, expand: str | None, expected: str, tmp_path: Path) -> None:
    faults = faults_of(written(tmp_path, text), expand=expand)
    assert len(faults) == 1
    assert expected in faults[0]


def test_unusable_seed(tmp_path: Path) -> None:
    assert faults_of(written(tmp_path, "requests_per_s\n5\n"), expand="even", seed=-1)[0].startswith("seed")


def test_a_million_arrivals_are_read_exactly(tmp_path: Path) -> None:
    arrivals = np.sort(np.random.default_rng(1).integers(0, 3_600_000_000, 1_000_000))  # microseconds
    buffer = io.StringIO()
    pd.DataFrame({"arrival_s": arrivals / 1e6}).to_csv(buffer, index=False)
    trace = Trace.read(written(tmp_path, buffer.getvalue()))
    assert np.array_equal(trace.arrival_ns, arrivals * 1000)
