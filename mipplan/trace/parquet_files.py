"""Parquet files as tables; rows at fault are counted from 1, as there are no lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mipplan.core import Float64, InputError, Int64, Positions
from mipplan.trace.columns import (
    CELLS_AT_ONCE,
    NumberColumn,
    RowFault,
    checked_dates,
    dates_to_ns,
    first_rows,
    row_faults,
    row_names,
)

if TYPE_CHECKING:
    import pyarrow as pa

#: A column may take this much memory, or `MOST_EXPANSION` times its file: small files can claim any number of rows.
FREE_COLUMN_BYTES = 256 * 1024**2
MOST_EXPANSION = 100


def open_parquet(data: bytes, origin: str) -> ParquetTable:
    """Read the schema of a Parquet file.

    Raises
    ------
    InputError
        If the file is damaged, or claims more rows than a file of its size should hold.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        columns = tuple(file.schema_arrow.names)
    except (pa.ArrowException, OSError, ValueError):
        raise InputError.one(
            origin, "begins like a Parquet file but cannot be read as one: it is damaged"
        ) from None
    rows = file.metadata.num_rows
    if rows * 8 > max(FREE_COLUMN_BYTES, MOST_EXPANSION * len(data)):
        raise InputError.one(
            origin,
            f"claims {rows:,} rows, too many for a file of {len(data):,} bytes: write it without compression "
            "and dictionaries if it is meant",
        )
    return ParquetTable(origin, columns, lambda name: file.read([name]).column(0))


@dataclass(frozen=True)
class ParquetTable:
    """A Parquet file, or some rows of one; see `mipplan.trace.columns.Table`.

    Attributes
    ----------
    origin : str
    columns : tuple of str
    read : callable
        From the name of a column to what it holds.
    rows_before : int
        Rows of the file before the first of these.
    """

    origin: str
    columns: tuple[str, ...]
    read: Callable[[str], pa.ChunkedArray]
    rows_before: int = 0

    def numbers(self, name: str) -> NumberColumn:
        """Return a column of numbers with its faults."""
        import pyarrow as pa

        column = self._loaded(name)
        try:
            if pa.types.is_boolean(column.type):
                raise pa.ArrowTypeError("truth values are no numbers")
            # Not `safe`: counts and milliseconds beyond 2**53 are refused as too large later on anyway.
            values: Float64 = np.array(column.cast(pa.float64(), safe=False).to_numpy())
        except pa.ArrowException:
            raise InputError.one(
                f"{self.origin}: {name}", f"expected numbers, the column holds {column.type}"
            ) from None
        missing = np.asarray(column.is_null().to_numpy(), dtype=bool)
        kinds: list[RowFault] = [
            ("no value in {rows}", np.flatnonzero(missing)),
            ("NaN in {rows}", np.flatnonzero(np.isnan(values) & ~missing)),
            ("an infinite value in {rows}", np.flatnonzero(np.isinf(values))),
        ]
        values[~np.isfinite(values)] = np.nan
        return NumberColumn(values, tuple(kinds))

    def instants(self, name: str) -> Int64:
        """Return a column of dates as nanoseconds since 1970."""
        import pyarrow as pa

        column = self._loaded(name)
        missing = np.flatnonzero(np.asarray(column.is_null().to_numpy(), dtype=bool))
        if len(missing):
            raise InputError(row_faults(self, name, [("no value in {rows}", missing)]))
        if pa.types.is_timestamp(column.type):
            return checked_dates(self, name, column.to_pandas())
        return dates_to_ns(self, name, _texts(column))

    def rows(self, indices: Sequence[int] | Positions) -> str:
        """Name rows by their number."""
        return row_names("row", [self.rows_before + index + 1 for index in first_rows(indices)], len(indices))

    def _loaded(self, name: str) -> pa.ChunkedArray:
        import pyarrow as pa

        try:
            return self.read(name)
        except (pa.ArrowException, OSError, ValueError, LookupError):
            raise InputError.one(f"{self.origin}: {name}", "cannot be read: the file is damaged") from None


def _texts(column: pa.ChunkedArray) -> Iterator[list[str]]:
    for chunk in column.chunks:
        for start in range(0, len(chunk), CELLS_AT_ONCE):
            yield [str(value) for value in chunk.slice(start, CELLS_AT_ONCE).to_pylist()]
