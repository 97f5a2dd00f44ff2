"""Arrival files read piece by piece in bounded memory: Parquet, CSV, and CSV under gzip."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mipplan.documents import AnyPath, shown
from mipplan.errors import InputError
from mipplan.trace.columns import number_of
from mipplan.trace.files import ARRIVAL_COLUMNS, COUNT_COLUMNS
from mipplan.units import MAX_DURATION_NS

if TYPE_CHECKING:
    import pyarrow as pa

Integers = NDArray[np.int64]

#: Rows of a Parquet file, and bytes of a CSV file, read at a time.
_ROWS_AT_ONCE = 2**17
_BYTES_AT_ONCE = 2**22


def read_pieces(path: AnyPath) -> Iterator[Integers]:
    """Yield the arrivals of a file in nanoseconds, piece by piece.

    Parameters
    ----------
    path : str or path
        CSV or Parquet, gzip accepted for CSV (recognised by content), with one column ``arrival_s``,
        ``arrival_ms`` or ``timestamp`` (times become relative to the first). Files of counts are not streamed.

    Raises
    ------
    InputError
        If there is no such file or column, or a value is no time, with its row. Order is not checked here.
    """
    origin = os.fspath(path)
    magic = _first_bytes(path, origin)
    opened = _parquet_batches(origin) if magic == b"PAR1" else _csv_batches(origin, magic[:2] == b"\x1f\x8b")
    rows, zero_ns = 0, None
    for name, cells in opened:
        if len(cells) == 0:
            continue
        place = f"{origin}: {name}"
        unit = ARRIVAL_COLUMNS[name]
        if unit is not None:
            yield _times_ns(cells, unit, rows, place)
        else:
            instants = _instants_ns(cells, rows, place)
            zero_ns = instants[0] if zero_ns is None else zero_ns
            yield instants - zero_ns
        rows += len(cells)


def _first_bytes(path: AnyPath, origin: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            return file.read(4)
    except OSError as error:
        raise InputError.one(origin, f"cannot be read: {error.strerror or error}") from None


def _arrival_column(names: list[str], origin: str) -> str:
    found = [name for name in names if name.strip() in {*ARRIVAL_COLUMNS, *COUNT_COLUMNS}]
    if len(found) == 1 and found[0].strip() in ARRIVAL_COLUMNS:
        return found[0]
    listed = ", ".join(shown(name, 30) for name in names[:12])
    hint = ""
    if any(name.strip() in COUNT_COLUMNS for name in found):
        hint = "; counts per interval are not streamed: Trace.read expands them"
    raise InputError.one(
        origin, f"expected one of the columns {', '.join(ARRIVAL_COLUMNS)}, the file has {listed}{hint}"
    )


@contextmanager
def _damage(origin: str) -> Iterator[None]:
    """Say in our words what pyarrow cannot read."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = (str(error).splitlines() or [""])[0][:200]
        raise InputError.one(origin, f"cannot be read on: {reason}") from None


def _parquet_batches(origin: str) -> Iterator[tuple[str, pa.Array]]:
    import pyarrow.parquet as pq

    with _damage(origin), pq.ParquetFile(origin) as file:
        column = _arrival_column(file.schema_arrow.names, origin)
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[column]):
            yield column.strip(), batch.column(0)


def _csv_batches(origin: str, gzipped: bool) -> Iterator[tuple[str, pa.Array]]:
    """Yield the column as texts; each batch is made numbers on its own, so that a fault has a row."""
    import pyarrow as pa
    from pyarrow import csv

    with _damage(origin), pa.input_stream(origin, compression="gzip" if gzipped else None) as head:
        options = csv.ReadOptions(block_size=_BYTES_AT_ONCE, use_threads=False)
        with csv.open_csv(head, read_options=options) as reader:
            names = reader.schema.names
    column = _arrival_column(names, origin)
    wanted = csv.ConvertOptions(include_columns=[column], column_types={column: pa.string()})
    with (
        _damage(origin),
        pa.input_stream(origin, compression="gzip" if gzipped else None) as stream,
        csv.open_csv(stream, read_options=options, convert_options=wanted) as reader,
    ):
        for batch in reader:
            yield column.strip(), batch.column(0)


def _times_ns(cells: pa.Array, unit: int, rows: int, place: str) -> Integers:
    values = _numbers(cells, place)
    limit = MAX_DURATION_NS / unit
    bad = np.flatnonzero(~((values >= 0) & (values <= limit)))
    if len(bad):
        text = shown(cells[int(bad[0])].as_py())
        raise InputError.one(
            f"{place}: row {rows + int(bad[0]) + 1:,}", f"expected a time from 0 to ten years, found {text}"
        )
    return np.rint(values * unit).astype(np.int64)


def _numbers(cells: pa.Array, place: str) -> NDArray[np.float64]:
    """Convert to float64, NaN for what is no number."""
    import pyarrow as pa

    if pa.types.is_string(cells.type):
        try:
            return _as_floats(cells)
        except pa.ArrowException:
            texts = cells.to_pylist()
            return np.array([number_of(text or "") for text in texts], dtype=np.float64)
    if not (pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type)):
        raise InputError.one(place, f"expected numbers, the column holds {cells.type}")
    return _as_floats(cells)


def _as_floats(cells: pa.Array) -> NDArray[np.float64]:
    import pyarrow as pa

    return np.asarray(cells.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))


def _instants_ns(cells: pa.Array, rows: int, place: str) -> Integers:
    import pandas as pd
    import pyarrow as pa

    if pa.types.is_integer(cells.type) or pa.types.is_floating(cells.type):
        raise InputError.one(place, f"expected dates, the column holds {cells.type}")
    values: Any = cells.to_pandas()
    dates = pd.to_datetime(pd.Series(values), format="ISO8601", utc=True, errors="coerce")
    bad = np.flatnonzero(dates.isna().to_numpy())
    if len(bad):
        text = shown(cells[int(bad[0])].as_py())
        raise InputError.one(
            f"{place}: row {rows + int(bad[0]) + 1:,}", f"expected an ISO date, found {text}"
        )
    try:
        return np.asarray(dates.dt.as_unit("ns").to_numpy(dtype="datetime64[ns]").astype(np.int64))
    except (pd.errors.OutOfBoundsDatetime, OverflowError):
        raise InputError.one(place, "holds dates before 1678 or after 2261") from None
