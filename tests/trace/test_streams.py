"""Arrivals read, checked and generated piece by piece."""

from __future__ import annotations

import gzip
import os
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipplan.core import InputError
from mipplan.trace import ReadParams, Trace, checked_chunks, gamma_chunks, read_pieces


def fault_of(caught: pytest.ExceptionInfo[InputError]) -> tuple[str, str]:
    (fault,) = caught.value.faults
    return fault.place, fault.message


@given(st.lists(st.lists(st.integers(0, 50), max_size=5), max_size=8), st.integers(1, 7))
def test_chunks_hold_the_same_arrivals_in_the_size_asked_for(gaps: list[list[int]], size: int) -> None:
    ends = np.cumsum([gap for piece in gaps for gap in piece], dtype=np.int64)
    pieces = np.split(ends, np.cumsum([len(piece) for piece in gaps])[:-1]) if gaps else []
    chunks = list(checked_chunks(pieces, size))
    assert [time for chunk in chunks for time in chunk.tolist()] == ends.tolist()
    assert all(chunk.size == size for chunk in chunks[:-1])
    assert all(0 < chunk.size <= size for chunk in chunks[-1:])


@pytest.mark.parametrize(
    ("pieces", "place", "message"),
    [
        ([[0, 5], [7, 6]], "source: row 4", "earlier than the row before"),
        ([[0, 5], [], [4, 6]], "source: row 3", "earlier than the row before"),
        ([[3, 2]], "source: row 2", "earlier than the row before"),
        ([[-1, 2]], "source: row 1", "negative"),
        ([[0, 10**18]], "source: row 2", "ten years"),
        ([np.array([2**63], dtype=np.uint64)], "source: row 1", "ten years"),
        ([[0], [0.5]], "source", "after row 1 comes float64"),
        ([[[0, 1]]], "source", "shape (1, 2)"),
        ([np.int64(3)], "source", "shape ()"),
    ],
)
def test_faults_have_their_row(pieces: list[object], place: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        list(checked_chunks(map(np.asarray, pieces), 3))
    assert fault_of(caught)[0] == place
    assert message in fault_of(caught)[1]


def test_what_precedes_a_fault_is_yielded() -> None:
    chunks = checked_chunks([np.arange(4), np.array([1])], 2)
    assert [next(chunks).tolist(), next(chunks).tolist()] == [[0, 1], [2, 3]]
    with pytest.raises(InputError, match="row 5"):
        next(chunks)


#: Few bytes and rows at a time.
SMALL = ReadParams(bytes_at_once=4_096, rows_at_once=300)


@pytest.mark.parametrize("column", ["arrival_s", "arrival_ms", "timestamp"])
@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_files_hold_what_trace_read_finds(tmp_path: Path, column: str, kind: str) -> None:
    trace = Trace.gamma(rate_rps=100, cv=4, duration_s=20, seed=1)
    times = trace.arrival_ns
    values = {
        "arrival_s": times / 1e9,
        "arrival_ms": times / 1e6,
        "timestamp": pd.to_datetime(times + 1_700_000_000_000_000_000, utc=True),
    }[column]
    table = pd.DataFrame({"user": "a", column: values})
    if column == "timestamp" and kind != "parquet":
        table[column] = [date.isoformat() for date in table[column]]
    path = tmp_path / f"arrivals.{kind}"
    if kind == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False)
    pieces = list(read_pieces(path, SMALL))
    assert len(pieces) > 3
    assert np.concatenate(pieces).tolist() == Trace.read(path).arrival_ns.tolist()


@pytest.mark.parametrize(
    ("cell", "column", "said"),
    [
        ("oops", "arrival_s", "no number (such as 'oops')"),
        ("", "arrival_s", "no value"),
        ("nan", "arrival_s", "NaN"),
        ("-1", "arrival_s", "a negative time"),
        ("inf", "arrival_ms", "an infinite value"),
        ("1e20", "arrival_ms", "a time beyond ten years"),
        ("0.5", "arrival_s", "earlier than the row before"),
        ("soon", "timestamp", "no ISO date (such as 'soon')"),
        ("2025-12-31", "timestamp", "earlier than the row before"),
    ],
)
@pytest.mark.parametrize("header", ["user,{}", '\n"user\nname",{}'])
def test_bad_cells_have_their_line(tmp_path: Path, cell: str, column: str, said: str, header: str) -> None:
    good = "2026-01-01T00:00:00" if column == "timestamp" else "1.0"
    path = tmp_path / "arrivals.csv"
    lines = [header.format(column), *[f"a,{good}"] * 2_000, f"b,{cell}"]
    path.write_text("\n".join(lines) + "\n", newline="")
    with pytest.raises(InputError) as caught:
        list(read_pieces(path, SMALL))
    first = caught.value.faults[0]
    assert first.place == f"{path}: {column}"
    assert said in first.message
    assert f"in line {len(path.read_text().splitlines())}" in first.message
    with pytest.raises(InputError) as whole:
        Trace.read(path)
    assert whole.value.faults == caught.value.faults


def test_all_kinds_of_faults_in_a_piece_come_at_once(tmp_path: Path) -> None:
    path = tmp_path / "arrivals.csv"
    path.write_text("\n".join(["arrival_s", *["5"] * 3_000, "x", "4", "-1", "nan", "inf"]) + "\n")
    with pytest.raises(InputError) as caught:
        list(read_pieces(path, SMALL))
    assert [fault.message.split(" in line")[0] for fault in caught.value.faults] == [
        "NaN",
        "an infinite value",
        "no number (such as 'x')",
        "a negative time",
        "earlier than the row before",
    ]


@st.composite
def messy_rows(draw: st.DrawFn) -> bytes:
    """A CSV file as programs write it: quotes, line ends inside them, blank lines, all kinds of line ends."""
    end = draw(st.sampled_from(["\n", "\r\n", "\r"]))
    words = st.sampled_from(["a", "", '"b"', '"c,d"', '"e\nf"', '"g""h"', '"\r\n"', "i j", "é"])
    gaps = draw(st.lists(st.integers(0, 3), min_size=2, max_size=30))
    rows = [f"{draw(words)},{time}.5,{draw(words)}" for time in np.cumsum(gaps)]
    blank = draw(st.lists(st.integers(0, len(rows)), max_size=3))
    for place in blank:
        rows.insert(place, "")
    text = end.join(["one,arrival_s,two", *rows, *[""] * draw(st.integers(0, 2))])
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode()


@given(messy_rows(), st.integers(40, 200), st.booleans())
def test_pieces_of_messy_files_hold_what_trace_read_finds(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, block: int, zipped: bool
) -> None:
    path = tmp_path_factory.mktemp("messy") / "arrivals.csv"
    path.write_bytes(gzip.compress(data) if zipped else data)
    pieces = list(read_pieces(path, ReadParams(bytes_at_once=block)))
    assert np.concatenate(pieces).tolist() == Trace.read(path).arrival_ns.tolist()


def plain_files() -> dict[str, tuple[bytes, str]]:
    return {
        "nothing": (b"", "is empty"),
        "counts": (b"requests_per_s\n3\n", "counts per interval are not streamed: leave out --stream"),
        "another column": (b"arival_s\n3\n", "did you mean 'arrival_s'?"),
        "two columns": (b"arrival_s,arrival_ms\n3,3\n", "found arrival_s and arrival_ms: keep one"),
        "ragged": (b"arrival_s,user\n3\n", "expected 2 values as in the header, found 1 value in line 2"),
        "parquet": (b"PAR1 and no more", "is damaged"),
        "zip": (b"PK\x03\x04....", "is a zip archive"),
        "half of it": (
            gzip.compress(b"arrival_s\n" + b"1.5\n" * 50_000)[:-60],
            "the gzip data end too early",
        ),
        "damaged": (gzip.compress(b"arrival_s\n1.5\n")[:-8] + bytes(8), "the gzip data are damaged"),
        "zipped twice": (gzip.compress(b"PAR1" + bytes(50)), "is a Parquet file under gzip"),
        "no text": (b"arrival_s,who\n1,a\n2,caf\xe9\n", "is not UTF-8 text (byte 0xe9)"),
        "open quote": (b'arrival_s,who\n1,a\n2,"b\n3,c\n', "a quoted value begins here"),
    }


@pytest.mark.parametrize("name", plain_files())
def test_unusable_files_are_refused(tmp_path: Path, name: str) -> None:
    data, message = plain_files()[name]
    path = tmp_path / "arrivals"
    path.write_bytes(data)
    with pytest.raises(InputError) as caught:
        list(read_pieces(path))
    place, found = fault_of(caught)
    assert place.startswith(str(path))
    assert message in found


def test_text_at_fault_has_its_line_in_later_blocks_too(tmp_path: Path) -> None:
    path = tmp_path / "arrivals.csv"
    rows = b"arrival_s,who\n" + b"1,abc\n" * 2_000
    for last, line in ((b"2,caf\xe9\n", 2_002), (b"2,\0\n", 2_002), (b'2,x\n3,"y\n', 2_003)):
        path.write_bytes(rows + last)
        with pytest.raises(InputError) as caught:
            list(read_pieces(path, SMALL))
        assert fault_of(caught)[0] == f"{path}:{line}"
    path.write_bytes(rows + b"2\n")
    with pytest.raises(InputError, match="found 1 value in line 2002"):
        list(read_pieces(path, SMALL))


def test_a_quote_within_a_value_opens_nothing(tmp_path: Path) -> None:
    """An inch in a column that is not read: all the rows below it are no part of a value."""
    path = tmp_path / "arrivals.csv"
    for which in ([3], [3, 4, 5], range(2_000)):
        rows = [f"{time},{time}{chr(34) if time in which else ''} of \u00e9" for time in range(2_000)]
        path.write_text("\n".join(["arrival_s,who", *rows]), encoding="utf-8")
        pieces = list(read_pieces(path, SMALL))
        assert len(pieces) > 3
        assert np.concatenate(pieces).tolist() == Trace.read(path).arrival_ns.tolist()


def test_an_endless_row_is_refused_where_it_begins(tmp_path: Path) -> None:
    params = ReadParams(bytes_at_once=2**20)
    path = tmp_path / "arrivals.csv"
    for endless in (b"1," + b"x" * 3 * 2**20, b'1,"' + b"x\n" * 2**20):
        path.write_bytes(b"arrival_s,who\n1,a\n" + endless)
        with pytest.raises(InputError) as caught:
            list(read_pieces(path, params))
        place, message = fault_of(caught)
        assert (place, "a row of more than 1 MiB begins here" in message) == (f"{path}:3", True)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        list(read_pieces(tmp_path / "none.csv"))


def test_a_pipe_can_be_streamed(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = b"arrival_s\n" + b"".join(b"%d.25\n" % second for second in range(50_000))
    for sent in (data, gzip.compress(data)):
        writer = threading.Thread(target=pipe.write_bytes, args=(sent,))
        writer.start()
        arrival_ns = np.concatenate(list(read_pieces(pipe)))
        writer.join()
        assert arrival_ns.tolist() == [second * 10**9 + 250_000_000 for second in range(50_000)]


def test_one_large_row_group_is_not_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "arrivals.parquet"
    rows = 2_000_000
    table = pa.table({"arrival_s": np.arange(rows, dtype=np.float64)})
    pq.write_table(table, path, row_group_size=rows, compression="none", use_dictionary=False)
    next(read_pieces(path))  # imports
    tracemalloc.start()
    try:
        assert sum(piece.size for piece in read_pieces(path)) == rows
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size / 2
    finally:
        tracemalloc.stop()


def test_parquet_columns_must_hold_times(tmp_path: Path) -> None:
    path = tmp_path / "arrivals.parquet"
    pd.DataFrame({"arrival_s": [True, False]}).to_parquet(path)
    with pytest.raises(InputError, match="expected numbers, the column holds bool"):
        list(read_pieces(path, SMALL))
    rows = [0.5] * 1_000
    for column, last, said in (
        ("arrival_s", None, "no value in row 1001"),
        ("arrival_s", 0.25, "earlier than the row before in row 1001"),
        ("timestamp", 1.0, "holds numbers; dates such as"),
    ):
        pd.DataFrame({column: [*rows, last]}).to_parquet(path)
        with pytest.raises(InputError) as caught:
            list(read_pieces(path, SMALL))
        assert said in str(caught.value)


@pytest.mark.parametrize("cv", [0.5, 1.0, 4.0])
def test_generated_gaps_have_their_mean_and_variation(cv: float) -> None:
    pieces = list(gamma_chunks(1_000.0, cv, 200_000, seed=3, size=30_000))
    assert [piece.size for piece in pieces] == [30_000] * 6 + [20_000]
    gaps_s = np.diff(np.concatenate([[0], *pieces])) / 1e9
    assert gaps_s.min() >= 0
    assert gaps_s.mean() == pytest.approx(1e-3, rel=0.05)
    assert gaps_s.std() / gaps_s.mean() == pytest.approx(cv, rel=0.05)


def test_generated_pieces_depend_on_the_seed_alone() -> None:
    first, again, other = (
        [piece.tolist() for piece in gamma_chunks(10.0, 2.0, 50, seed, size=20)] for seed in (1, 1, 2)
    )
    assert first == again != other


def test_unusable_generators_are_refused_at_once() -> None:
    with pytest.raises(InputError) as caught:
        gamma_chunks(0.0, -1.0, 0, seed=1)
    assert [fault.place for fault in caught.value.faults] == ["rate_rps", "cv", "queries"]
    with pytest.raises(InputError, match="seed"):
        gamma_chunks(1.0, 1.0, 1, seed=-1)
