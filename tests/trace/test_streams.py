"""Arrivals read, checked and generated piece by piece."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mipplan.errors import InputError
from mipplan.trace import Trace, stream_files
from mipplan.trace.stream_files import read_pieces
from mipplan.trace.streams import checked_chunks, gamma_chunks


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


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(stream_files, "_BYTES_AT_ONCE", 4_096)
    monkeypatch.setattr(stream_files, "_ROWS_AT_ONCE", 300)
    return iter(())


@pytest.mark.usefixtures("small_blocks")
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
    pieces = list(read_pieces(path))
    assert len(pieces) > 3
    assert np.concatenate(pieces).tolist() == Trace.read(path).arrival_ns.tolist()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("cell", "column", "shown"),
    [
        ("oops", "arrival_s", "'oops'"),
        ("", "arrival_s", "''"),
        ("nan", "arrival_s", "'nan'"),
        ("-1", "arrival_s", "'-1'"),
        ("inf", "arrival_ms", "'inf'"),
        ("1e20", "arrival_ms", "'1e20'"),
        ("soon", "timestamp", "'soon'"),
    ],
)
def test_bad_cells_have_their_row(tmp_path: Path, cell: str, column: str, shown: str) -> None:
    good = "2026-01-01T00:00:00" if column == "timestamp" else "1.0"
    path = tmp_path / "arrivals.csv"
    path.write_text("\n".join(["user," + column, *[f"a,{good}"] * 2_000, f"b,{cell}"]) + "\n")
    with pytest.raises(InputError) as caught:
        list(read_pieces(path))
    place, message = fault_of(caught)
    assert place == f"{path}: {column}: row 2,001"
    assert shown in message


def write_bytes(path: Path, data: bytes) -> None:
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "cannot be read"),
        (b"requests_per_s\n3\n", "counts per interval are not streamed"),
        (b"time\n3\n", "the file has 'time'"),
        (b"arrival_s,arrival_ms\n3,3\n", "expected one of the columns"),
        (b"arrival_s,user\n3\n", "cannot be read on"),
        (b"PAR1 and no more", "cannot be read on"),
        (gzip.compress(b"arrival_s\n" + b"1.5\n" * 50_000)[:-60], "cannot be read on"),
        (b"timestamp\n2026-01-01\nyesterday\n", "expected an ISO date, found 'yesterday'"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "arrivals"
    write_bytes(path, data)
    with pytest.raises(InputError) as caught:
        list(read_pieces(path))
    place, found = fault_of(caught)
    assert place.startswith(str(path))
    assert message in found


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: No such file"):
        list(read_pieces(tmp_path / "none.csv"))


def test_parquet_columns_must_hold_times(tmp_path: Path) -> None:
    path = tmp_path / "arrivals.parquet"
    pd.DataFrame({"arrival_s": [True, False]}).to_parquet(path)
    with pytest.raises(InputError, match="expected numbers, the column holds bool"):
        list(read_pieces(path))
    pd.DataFrame({"arrival_s": [0.5, None]}).to_parquet(path)
    with pytest.raises(InputError, match="row 2: expected a time"):
        list(read_pieces(path))
    pd.DataFrame({"timestamp": [0.5, 1.0]}).to_parquet(path)
    with pytest.raises(InputError, match="expected dates, the column holds double"):
        list(read_pieces(path))


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
