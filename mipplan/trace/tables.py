"""Columns of CSV and Parquet files, with the rows at fault named as an editor shows them."""

from __future__ import annotations

import csv
import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mipplan.documents import AnyPath, decode_text, read_bytes, shown
from mipplan.errors import Fault, InputError
from mipplan.trace.checks import ROWS_NAMED

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

#: Largest file read, before and after decompression.
MAX_FILE_BYTES = 4 * 1024**3
_GZIP_MAGIC = b"\x1f\x8b"
_PARQUET_MAGIC = b"PAR1"


class Table(Protocol):
    """A file with named columns."""

    @property
    def origin(self) -> str:
        """The file, for messages."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns as written."""

    def numbers(self, name: str) -> Floats:
        """Return a column of finite numbers, or raise `InputError` naming the rows without one."""

    def instants(self, name: str) -> Integers:
        """Return a column of dates as nanoseconds since 1970, or raise `InputError`."""

    def rows(self, indices: Sequence[int] | NDArray[np.intp]) -> str:
        """Name rows, given by 0-based index, for people."""


def read_table(path: AnyPath) -> Table:
    """Open a CSV or Parquet file; gzip and Parquet are recognised by content, not by name.

    Raises
    ------
    InputError
        If the file cannot be read or decompressed, or has no header.
    """
    origin = os.fspath(path)
    data = read_bytes(path, limit=MAX_FILE_BYTES)
    if data.startswith(_GZIP_MAGIC):
        data = _decompressed(data, origin)
    if data.startswith(_PARQUET_MAGIC):
        return _parquet_table(data, origin)
    return _csv_table(data, origin)


def _decompressed(data: bytes, origin: str) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
            plain = stream.read(MAX_FILE_BYTES + 1)
    except EOFError:
        raise InputError.one(origin, "the gzip data end too early: the file is incomplete") from None
    except (OSError, zlib.error):
        raise InputError.one(origin, "the gzip data are damaged") from None
    if len(plain) > MAX_FILE_BYTES:
        raise InputError.one(origin, f"is larger than {MAX_FILE_BYTES // 1024**3} GiB when decompressed")
    return plain


def _bad_rows(table: Table, name: str, kinds: Sequence[tuple[str, NDArray[np.intp]]]) -> InputError:
    return InputError(
        Fault(f"{table.origin}: {name}", f"{kind} in {table.rows(bad)}") for kind, bad in kinds if len(bad)
    )


def _dates_to_ns(table: Table, name: str, texts: Sequence[str]) -> Integers:
    import pandas as pd

    if texts and not np.isnan(_number(texts[0])):
        raise InputError.one(
            f"{table.origin}: {name}",
            "holds numbers; dates such as 2024-01-31T12:00:00.5 were expected "
            "(call a column of seconds arrival_s, one of milliseconds arrival_ms)",
        )
    series = pd.Series(texts, dtype=object)
    dates = pd.to_datetime(series, format="ISO8601", utc=True, errors="coerce")
    bad = np.flatnonzero(dates.isna().to_numpy())
    if len(bad):
        example = shown(texts[int(bad[0])])
        raise _bad_rows(table, name, [(f"no ISO date (such as {example})", bad)])
    return _checked_dates(table, name, dates)


def _checked_dates(table: Table, name: str, dates: pd.Series[Any]) -> Integers:
    import pandas as pd

    try:
        return np.asarray(dates.dt.as_unit("ns").to_numpy(dtype="datetime64[ns]").astype(np.int64))
    except pd.errors.OutOfBoundsDatetime:
        raise InputError.one(f"{table.origin}: {name}", "holds dates before 1678 or after 2261") from None


# ------------------------------------------------------------------------------------------------- CSV


def _csv_table(data: bytes, origin: str) -> _CsvTable:
    decode_text(data, origin)  # columns that are never read must be text, too
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\r" in data:  # one kind of line end, so that lines are counted the same way everywhere below
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for _, last, cells in _csv_records(data):
        return _CsvTable(origin, tuple(cell.strip() for cell in cells), data, header_lines=last)
    raise InputError.one(origin, "is empty; the first line must name the columns")


def _csv_records(data: bytes) -> Iterator[tuple[int, int, list[str]]]:
    """Yield the first line, the last line and the cells of each record that is not blank."""
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8", newline=""))
    before = 0
    try:
        for cells in reader:
            if cells:
                yield before + 1, reader.line_num, cells
            before = reader.line_num
    except csv.Error:
        return  # a field beyond all measure; whoever wants the record goes without


@dataclass(frozen=True)
class _CsvTable:
    origin: str
    columns: tuple[str, ...]
    data: bytes
    header_lines: int

    def numbers(self, name: str) -> Floats:
        import pyarrow as pa

        try:
            column = self._column(name, pa.float64())
        except pa.ArrowInvalid:
            pass  # some cell is no number; read again as text to tell which
        else:
            fast: Floats = column.to_numpy()
            if np.isfinite(fast).all():
                return fast
        return self._checked_numbers(name)

    def _checked_numbers(self, name: str) -> Floats:
        texts = self._texts(name)
        values = np.array([_number(text) for text in texts], dtype=np.float64)
        lowered = np.array([text.lower().lstrip("+-") for text in texts], dtype=object)
        empty = lowered == ""
        nan = lowered == "nan"
        other = np.isnan(values) & ~empty & ~nan
        example = f" (such as {shown(texts[int(np.argmax(other))])})" if other.any() else ""
        kinds = [
            ("no value", np.flatnonzero(empty)),
            ("NaN", np.flatnonzero(nan)),
            ("an infinite value", np.flatnonzero(np.isinf(values))),
            (f"no number{example}", np.flatnonzero(other)),
        ]
        if any(len(bad) for _, bad in kinds):
            raise _bad_rows(self, name, kinds)
        return values

    def instants(self, name: str) -> Integers:
        return _dates_to_ns(self, name, self._texts(name))

    def rows(self, indices: Sequence[int] | NDArray[np.intp]) -> str:
        wanted = [int(index) for index in indices[:ROWS_NAMED]]
        lines: list[int] = []
        for position, (line, _, _) in enumerate(_csv_records(self.data)):
            if position - 1 in wanted:  # the header is record 0
                lines.append(line)
            if len(lines) == len(wanted):
                return _named("line", lines, len(indices))
        return _named("row", [index + 1 for index in wanted], len(indices))

    def _texts(self, name: str) -> list[str]:
        import pyarrow as pa

        try:
            return [text.strip() for text in self._column(name, pa.string()).to_pylist()]
        except pa.ArrowInvalid as error:
            raise InputError.one(self.origin, f"is not a well-formed CSV file: {error}") from None

    def _column(self, name: str, kind: pa.DataType) -> pa.ChunkedArray:
        """Read one column, or raise `pyarrow.ArrowInvalid` if it is of another kind."""
        import pyarrow as pa
        from pyarrow import csv as reader

        uneven: list[int] = []

        def pass_over(row: Any) -> str:
            uneven.append(row.actual_columns)
            return "skip"

        wanted = str(self.columns.index(name))  # by position: names may repeat or be blank
        content = pa.BufferReader(self._content())
        if not content.size():
            return pa.chunked_array([], type=kind)
        table = reader.read_csv(
            content,
            read_options=reader.ReadOptions(column_names=[str(index) for index in range(len(self.columns))]),
            parse_options=reader.ParseOptions(newlines_in_values=True, invalid_row_handler=pass_over),
            convert_options=reader.ConvertOptions(include_columns=[wanted], column_types={wanted: kind}),
        )
        if uneven:
            raise self._uneven_rows()
        return table.column(0)

    def _content(self) -> bytes:
        """Return everything after the header, without blank lines at the end."""
        offset = 0
        for _ in range(self.header_lines):
            offset = self.data.find(b"\n", offset) + 1
            if offset == 0:
                return b""
        return self.data[offset:].rstrip()

    def _uneven_rows(self) -> InputError:
        width = len(self.columns)
        records = [(line, len(cells)) for line, _, cells in _csv_records(self.data) if len(cells) != width]
        lines = [line for line, _ in records]
        found = f"{records[0][1]} values" if records else "another number"
        where = _named("line", lines[:ROWS_NAMED], len(lines)) if lines else "some lines"
        return InputError.one(
            self.origin, f"expected {width} values as in the header, found {found} in {where}"
        )


def _number(text: str) -> float:
    """Convert text to a number, NaN if it is none (Python alone would accept 1_000, other tools do not)."""
    try:
        return float("nan") if "_" in text else float(text)
    except ValueError:
        return float("nan")


def _named(unit: str, numbers: Sequence[int], count: int) -> str:
    if count == 1:
        return f"{unit} {numbers[0]}"
    return f"{unit}s {', '.join(map(str, numbers))}{', …' if count > len(numbers) else ''} ({count} in all)"


# --------------------------------------------------------------------------------------------- Parquet


def _parquet_table(data: bytes, origin: str) -> _ParquetTable:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        return _ParquetTable(origin, tuple(file.schema_arrow.names), lambda name: file.read([name]).column(0))
    except (pa.ArrowException, OSError):
        raise InputError.one(
            origin, "begins like a Parquet file but cannot be read as one: it is damaged"
        ) from None


@dataclass(frozen=True)
class _ParquetTable:
    origin: str
    columns: tuple[str, ...]
    load: Callable[[str], pa.ChunkedArray]

    def numbers(self, name: str) -> Floats:
        import pyarrow as pa

        column = self._loaded(name)
        try:
            # Not `safe`: counts and milliseconds beyond 2**53 are refused as too large later on anyway.
            values: Floats = column.cast(pa.float64(), safe=False).to_numpy()
        except pa.ArrowException:
            raise InputError.one(
                f"{self.origin}: {name}", f"expected numbers, the column holds {column.type}"
            ) from None
        missing = np.asarray(column.is_null().to_numpy(), dtype=bool)
        kinds = [
            ("no value", np.flatnonzero(missing)),
            ("NaN", np.flatnonzero(np.isnan(values) & ~missing)),
            ("an infinite value", np.flatnonzero(np.isinf(values))),
        ]
        if any(len(bad) for _, bad in kinds):
            raise _bad_rows(self, name, kinds)
        return values

    def instants(self, name: str) -> Integers:
        import pyarrow as pa

        column = self._loaded(name)
        missing = np.flatnonzero(np.asarray(column.is_null().to_numpy(), dtype=bool))
        if len(missing):
            raise _bad_rows(self, name, [("no value", missing)])
        if pa.types.is_timestamp(column.type):
            return _checked_dates(self, name, column.to_pandas())
        return _dates_to_ns(self, name, [str(text) for text in column.to_pylist()])

    def rows(self, indices: Sequence[int] | NDArray[np.intp]) -> str:
        return _named("row", [int(index) + 1 for index in indices[:ROWS_NAMED]], len(indices))

    def _loaded(self, name: str) -> pa.ChunkedArray:
        import pyarrow as pa

        try:
            return self.load(name)
        except (pa.ArrowException, OSError):
            raise InputError.one(f"{self.origin}: {name}", "cannot be read: the file is damaged") from None
