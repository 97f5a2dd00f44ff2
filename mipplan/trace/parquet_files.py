"""Parquet files as tables; rows at fault are counted from 1, as there are no lines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from typing import TYPE_CHECKING

import numpy as np

from mipplan.core import Float64, InputError, Int64, Positions
from mipplan.trace.checks import (
    ROWS_NAMED,
    RowFault,
    TableFile,
    cells_of,
    dates_to_ns,
    instants_of,
    row_names,
    too_far,
)

if TYPE_CHECKING:
    import pyarrow as pa


def open_parquet(data: bytes, origin: str, most_bytes: int) -> ParquetTable:
    """Read the schema of a Parquet file of which a column may take `most_bytes`.

    It is refused if it is damaged, or claims more rows than a file of its size should hold.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.BufferReader(data))
        columns = tuple(file.schema_arrow.names)
    except (pa.ArrowException, OSError, ValueError):
        raise _damaged(origin) from None
    rows = file.metadata.num_rows
    if rows * 8 > most_bytes:
        raise InputError.one(
            origin,
            f"claims {rows:,} rows, too many for a file of {len(data):,} bytes: write it without compression "
            "and dictionaries if it is meant",
        )
    return ParquetTable(origin, columns, lambda name: file.read([name]).column(0))


def parquet_tables(
    file: BufferedReader, origin: str, at_once: int, main_column: Callable[[str, Sequence[str]], str]
) -> Iterator[ParquetTable]:
    """Cut a Parquet file into tables of `at_once` rows of its main column."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not file.seekable():
        message = "is a Parquet file in a pipe: these are read from their end; give the file"
        raise InputError.one(origin, message)
    try:
        # Otherwise the whole column of a row group is read at once, and one group may be all there is.
        with pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20) as parquet:
            columns = tuple(parquet.schema_arrow.names)
            rows = 0
            for batch in parquet.iter_batches(at_once, columns=[main_column(origin, columns)]):
                yield ParquetTable(origin, columns, pa.Table.from_batches([batch]).column, rows)
                rows += batch.num_rows
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError):
        raise _damaged(origin) from None
    if not rows:
        raise InputError.one(origin, "holds no arrival")


def _damaged(origin: str) -> InputError:
    return InputError.one(origin, "begins like a Parquet file but cannot be read as one: it is damaged")


@dataclass(frozen=True)
class ParquetTable(TableFile):
    """A Parquet file, or some rows of one, before which there are `rows_before`; see `mipplan.trace.checks.TableFile`.

    `read` gets from the name of a column to what it holds.
    """

    read: Callable[[str], pa.ChunkedArray]
    rows_before: int = 0

    def numbers(self, name: str) -> tuple[Float64, list[RowFault]]:
        """Return a column of numbers with its faults."""
        import pyarrow as pa

        column = self._loaded(name)
        try:
            if pa.types.is_boolean(column.type):
                raise pa.ArrowTypeError("truth values are no numbers")
            # Not `safe`: counts and milliseconds beyond 2**53 are refused as too large later on anyway.
            values: Float64 = np.array(column.cast(pa.float64(), safe=False).to_numpy())
        except pa.ArrowException:
            raise self.fault(name, f"expected numbers, the column holds {column.type}") from None
        missing = np.asarray(column.is_null().to_numpy(), dtype=bool)
        faults = [
            RowFault("no value", np.flatnonzero(missing)),
            RowFault("NaN", np.flatnonzero(np.isnan(values) & ~missing)),
            RowFault("an infinite value", np.flatnonzero(np.isinf(values))),
        ]
        values[~np.isfinite(values)] = np.nan
        return values, faults

    def instants(self, name: str) -> tuple[Int64, list[RowFault]]:
        """Return a column of dates as nanoseconds since 1970 with its faults."""
        import pyarrow as pa

        column = self._loaded(name)
        missing = np.flatnonzero(np.asarray(column.is_null().to_numpy(), dtype=bool))
        if pa.types.is_timestamp(column.type):
            instants, outside = instants_of(column.to_pandas())
            return instants, [RowFault("no value", missing), too_far(outside)]
        self.check_rows(name, [RowFault("no value", missing)])
        return dates_to_ns(self, name, ([str(cell) for cell in cells] for cells in cells_of(column)))

    def rows(self, indices: Positions) -> str:
        """Name rows by their number."""
        return row_names("row", self.rows_before + 1 + indices[:ROWS_NAMED], len(indices))

    def _loaded(self, name: str) -> pa.ChunkedArray:
        import pyarrow as pa

        try:
            return self.read(name)
        except (pa.ArrowException, OSError, ValueError, LookupError):
            raise self.fault(name, "cannot be read: the file is damaged") from None
