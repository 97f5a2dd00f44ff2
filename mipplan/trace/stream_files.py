"""Arrival files read piece by piece in bounded memory: Parquet, CSV, and CSV under gzip."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterator
from io import BufferedReader
from typing import TYPE_CHECKING

import numpy as np

from mipplan.core import InputError, Int64
from mipplan.documents import AnyPath, open_file
from mipplan.trace.columns import Table
from mipplan.trace.csv_files import open_csv
from mipplan.trace.files import COUNT_COLUMNS, ArrivalReader, main_column
from mipplan.trace.parquet_files import ParquetTable
from mipplan.trace.tables import GZIP_MAGIC, PARQUET_MAGIC, check_kind, gzip_faults

if TYPE_CHECKING:
    import pyarrow as pa


#: Rows of a Parquet file, and bytes of a CSV file, read at a time.
_ROWS_AT_ONCE = 2**17
_BYTES_AT_ONCE = 2**21


def read_pieces(path: AnyPath) -> Iterator[Int64]:
    """Yield the arrivals of a file in nanoseconds, piece by piece.

    Parameters
    ----------
    path : str or path
        CSV or Parquet, gzip accepted for CSV (recognised by content), with one column ``arrival_s``,
        ``arrival_ms`` or ``timestamp`` (times become relative to the first). Files of counts are not streamed.

    Raises
    ------
    InputError
        If there is no such file or column; with every fault of the first piece that has any, and their rows.
    """
    origin = os.fspath(path)
    reader = ArrivalReader()
    with open_file(path) as file:
        for table in _tables(file, origin):
            column = main_column(table)
            if column in COUNT_COLUMNS:
                raise InputError.one(
                    f"{origin}: {column}",
                    "counts per interval are not streamed: leave out --stream (in Python: give Trace.read(…))",
                )
            yield reader.read(table, column)


def _tables(file: BufferedReader, origin: str) -> Iterator[Table]:
    """Cut a file into tables of some rows each; the first may have none."""
    first = file.peek(8)[:8]
    check_kind(first, origin)
    if first.startswith(PARQUET_MAGIC):
        return _parquet_tables(file, origin)
    if not first.startswith(GZIP_MAGIC):
        return _csv_tables(file.read, origin)
    unzipped = gzip.GzipFile(fileobj=file)

    def read(size: int) -> bytes:
        with gzip_faults(origin):
            return unzipped.read(size)

    return _csv_tables(read, origin)


def _parquet_tables(file: BufferedReader, origin: str) -> Iterator[Table]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not file.seekable():
        raise InputError.one(
            origin, "is a Parquet file in a pipe: these are read from their end; give the file"
        )
    try:
        # Otherwise the whole column of a row group is read at once, and one group may be all there is.
        with pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20) as parquet:
            table = ParquetTable(origin, tuple(parquet.schema_arrow.names), _no_column)
            batches = parquet.iter_batches(_ROWS_AT_ONCE, columns=[main_column(table)])
            rows = 0
            for batch in batches:
                yield ParquetTable(origin, table.columns, _column_of(batch), rows)
                rows += batch.num_rows
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError):
        raise InputError.one(
            origin, "begins like a Parquet file but cannot be read as one: it is damaged"
        ) from None
    if not rows:
        raise InputError.one(origin, "holds no arrival")


def _no_column(name: str) -> pa.ChunkedArray:
    raise AssertionError(f"only the schema was read, and not {name}")


def _column_of(batch: pa.RecordBatch) -> Callable[[str], pa.ChunkedArray]:
    import pyarrow as pa

    return lambda _name: pa.chunked_array([batch.column(0)])


def _csv_tables(read: Callable[[int], bytes], origin: str) -> Iterator[Table]:
    blocks = _rows(read, origin)
    first, _ = next(blocks, (b"", 0))
    check_kind(first, origin)
    if first.startswith(PARQUET_MAGIC):
        raise InputError.one(origin, "is a Parquet file under gzip: decompress it, it is compressed itself")
    table = open_csv(first, origin)
    yield table
    for rows, lines_before in blocks:
        yield table.with_rows(rows, lines_before)


def _rows(read: Callable[[int], bytes], origin: str) -> Iterator[tuple[bytes, int]]:
    """Yield whole rows, some megabytes at a time, and how many lines come before them."""
    held, lines = b"", 0
    while piece := read(_BYTES_AT_ONCE):
        while piece.endswith(b"\r") and (following := read(1)):  # may be half of an end of line
            piece += following
        held += piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in piece else piece
        end = _end_of_rows(held)
        if end:
            yield held[:end], lines
            lines += held.count(b"\n", 0, end)
            held = held[end:]
        elif len(held) >= _BYTES_AT_ONCE:
            raise InputError.one(
                f"{origin}:{lines + 1}",
                f"a row of more than {_BYTES_AT_ONCE // 2**20} MiB begins here: is a quote not closed?",
            )
    if held:
        yield held, lines


def _end_of_rows(text: bytes) -> int:
    """Return where the last whole row ends; what stands in quotes ends none."""
    if b'"' not in text:
        return text.rfind(b"\n") + 1
    symbols = np.frombuffer(text, dtype=np.uint8)
    ends, quotes = np.flatnonzero(symbols == ord("\n")), np.flatnonzero(symbols == ord('"'))
    outside = ends[np.searchsorted(quotes, ends) % 2 == 0]
    return int(outside[-1]) + 1 if outside.size else 0
