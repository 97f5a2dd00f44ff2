"""Arrival times out of trace files, read whole or piece by piece: what the columns mean, and which are needed.

Compression and kind of a file are recognised by content, not by name, and what it expands to is bounded.
"""

from __future__ import annotations

import gzip
import io
import math
import os
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from mipplan.core import (
    MAX_DURATION_NS,
    NS_PER_MS,
    NS_PER_S,
    Fault,
    Faults,
    InputError,
    Int64,
    Positions,
    check_seed,
    shown,
    suggestion,
)
from mipplan.documents import AnyPath, check_path, open_file, read_bytes
from mipplan.trace.checks import (
    NO_DATE,
    RowFault,
    TableFile,
    decreases,
    decreases_among_numbers,
    window_ns,
    window_text,
)
from mipplan.trace.counts import COUNT_COLUMNS, check_expansion, read_counts
from mipplan.trace.csv_files import csv_tables, open_csv
from mipplan.trace.moments import LATEST_DATE_NS, moment_ns, since_1970_ns
from mipplan.trace.parquet_files import open_parquet, parquet_tables

#: Arrival columns and their unit; a timestamp has none.
ARRIVAL_COLUMNS = {"arrival_s": NS_PER_S, "arrival_ms": NS_PER_MS, "timestamp": None}

_GZIP_MAGIC = b"\x1f\x8b"
_PARQUET_MAGIC = b"PAR1"
_FOREIGN = {
    b"PK\x03\x04": "a zip archive or a spreadsheet: unpack it, or save the sheet as CSV",
    b"BZh": "compressed with bzip2: use gzip or none",
    b"\xfd7zXZ\x00": "compressed with xz: use gzip or none",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: use gzip or none",
}
_STEP = 1024 * 1024


@dataclass(frozen=True)
class ReadParams:
    """How much of a trace file is read, as a whole or at a time."""

    most_bytes: int = 4 * 1024**3
    """Bytes of a whole file, before and after decompression, at most, because all are held at once."""
    free_bytes: int = 64 * 1024**2
    """Gzip data may expand to so much without question."""
    most_expansion: int = 100
    """Beyond that, how many times they may expand: arrival times, which are all different, never do more, and a few
    megabytes made to expand a thousand times would fill the memory."""
    free_column_bytes: int = 256 * 1024**2
    """A Parquet column may take so much memory, or `most_expansion` times its file: small files can claim any number
    of rows."""
    rows_at_once: int = 2**17
    """Rows of a Parquet file that is read piece by piece: a piece takes about a megabyte."""
    bytes_at_once: int = 2**21
    """Bytes of a CSV file that is read piece by piece; no row may be longer."""


DEFAULTS = ReadParams()


# ---------------------------------------------------------------------------------------- whole files


def read_arrivals(
    path: AnyPath,
    *,
    expand: str | None,
    seed: int,
    start_s: float | str | None,
    end_s: float | str | None,
    params: ReadParams = DEFAULTS,
) -> tuple[Int64, str, int | None]:
    """Read at least two sorted arrivals, how they came about, and the date of their zero; see `Trace.read`."""
    reader = ArrivalReader()

    def window() -> tuple[int, int]:
        """The window in ns, as soon as it is known what the trace's zero is; checked before, too, if it can be."""
        return window_ns(
            *(
                end if end is None else moment_ns(name, end, reader.zero_ns) / NS_PER_S
                for name, end in (("start_s", start_s), ("end_s", end_s))
            )
        )

    told = Faults()
    if not isinstance(start_s, str) and not isinstance(end_s, str):
        told.take(window)
    table = told.take(lambda: next(tables_of(path, params, whole=True))).value
    column = told.take(lambda: main_column(table.origin, table.columns)).value
    if column in ARRIVAL_COLUMNS:
        if expand is not None:
            message = "holds arrival times, which need no expansion: leave out --expand (in Python: expand)"
            told.add(Fault(f"{table.origin}: {column}", message))
        arrival_ns = told.take(lambda: reader.read(table, column)).value
        told.check()
        notes = [f"read from {column}{reader.since_text}"]
        spans = _span_text(arrival_ns[:1], arrival_ns[-1:])
    else:
        how = told.take(lambda: check_expansion(expand, f"{table.origin}: {column}"))
        told.take(lambda: check_seed(seed))
        counts = told.take(lambda: read_counts(table, column)).value
        told.check()
        arrival_ns = counts.expanded(window(), how.value, seed, table.origin)
        spans = _span_text(counts.start_ns[:1], counts.start_ns[-1:] + counts.interval_ns)
        notes = [*counts.notes, f"expanded by {how.value}, seed {seed}"]
    arrival_ns = arrival_ns[slice(*np.searchsorted(arrival_ns, window()))]
    is_cut = start_s is not None or end_s is not None
    if is_cut:
        notes.append(f"window {window_text(start_s, end_s)}")
    if len(arrival_ns) < 2:
        found = "one arrival" if len(arrival_ns) else "no arrival"
        where = f" in {window_text(start_s, end_s)} of its {spans}" if is_cut else ""
        raise table.fault(column, f"gives {found}{where}; a trace needs at least two")
    return arrival_ns, "; ".join(notes), reader.zero_ns


def _span_text(first_ns: Int64, last_ns: Int64) -> str:
    """Write from when to when a trace reaches, given its first and last instant if it has any."""
    if not len(first_ns):
        return "no rows"
    return f"{first_ns[0] / NS_PER_S:.6g} s to {last_ns[0] / NS_PER_S:.6g} s"


# ------------------------------------------------------------------------------------ piece by piece


def holds_counts(path: AnyPath, params: ReadParams = DEFAULTS) -> bool:
    """Whether a file holds counts, and not arrivals; raises `InputError` if there is no such file or column."""
    table = next(tables_of(path, params, whole=False))
    return main_column(table.origin, table.columns) in COUNT_COLUMNS


def read_pieces(path: AnyPath, params: ReadParams = DEFAULTS) -> Iterator[Int64]:
    """Yield the arrivals of a file in nanoseconds, piece by piece, in bounded memory.

    Raises `InputError` if there is no such file or column; with every fault of the first piece that has any,
    and their rows.

    Parameters
    ----------
    path : str or path
        CSV or Parquet, gzip accepted for CSV (recognised by content), with one column ``arrival_s``,
        ``arrival_ms`` or ``timestamp`` (times become relative to the first). Files of counts are not streamed.
    """
    reader = ArrivalReader()
    for table in tables_of(path, params, whole=False):
        column = main_column(table.origin, table.columns)
        if column in COUNT_COLUMNS:
            message = (
                "counts per interval are not streamed: leave out --stream (in Python: give Trace.read(…))"
            )
            raise table.fault(column, message)
        yield reader.read(table, column)


# -------------------------------------------------------------------------------- files into tables


def tables_of(path: AnyPath, params: ReadParams, *, whole: bool) -> Iterator[TableFile]:
    """Yield a file as one table, or cut into tables of some rows each; the first of these may have none."""
    origin = os.fspath(check_path(path))
    if whole:
        data = read_bytes(path, limit=params.most_bytes)
        if data.startswith(_GZIP_MAGIC):
            data = _unzipped(data, origin, params)
        _check_kind(data, origin)
        if data.startswith(_PARQUET_MAGIC):
            most_bytes = max(params.free_column_bytes, params.most_expansion * len(data))
            yield open_parquet(data, origin, most_bytes)
        else:
            yield open_csv(data, origin)
        return
    with open_file(path) as file:
        first = file.peek(8)[:8]
        _check_kind(first, origin)
        if first.startswith(_PARQUET_MAGIC):
            yield from parquet_tables(file, origin, params.rows_at_once, main_column)
            return
        read = _unzipping(file, origin) if first.startswith(_GZIP_MAGIC) else file.read
        yield from csv_tables(read, origin, params.bytes_at_once, _check_unzipped)


def _check_kind(first: bytes, origin: str) -> None:
    """Refuse, by its first bytes, what is neither text nor Parquet, and say what it is."""
    for magic, kind in _FOREIGN.items():
        if first.startswith(magic):
            raise InputError.one(origin, f"is {kind}")


def _check_unzipped(first: bytes, origin: str) -> None:
    """Refuse what a stream of text begins with, if that is none."""
    _check_kind(first, origin)
    if first.startswith(_PARQUET_MAGIC):
        raise InputError.one(origin, "is a Parquet file under gzip: decompress it, it is compressed itself")


def _unzipped(data: bytes, origin: str, params: ReadParams) -> bytes:
    source, plain = io.BytesIO(data), io.BytesIO()
    read = _unzipping(source, origin)
    while piece := read(_STEP):
        plain.write(piece)
        produced, consumed = plain.tell(), source.tell()
        if produced > params.most_bytes:
            limit = params.most_bytes // 1024**3
            raise InputError.one(origin, f"is larger than {limit} GiB when decompressed")
        if produced > max(params.free_bytes, params.most_expansion * consumed):
            raise InputError.one(
                origin,
                f"expands to more than {params.most_expansion} times its size when decompressed, as no trace "
                "does; if it is one, decompress it first",
            )
    return plain.getvalue()


def _unzipping(file: BinaryIO, origin: str) -> Callable[[int], bytes]:
    """Return how to read at most a number of bytes of what gzip data stand for; their faults are told in our words."""
    unzipped = gzip.GzipFile(fileobj=file)

    def read(size: int) -> bytes:
        try:
            return unzipped.read(size)
        except EOFError:
            fault = "the gzip data end too early: the file is incomplete; copy or download it again"
        except (OSError, zlib.error):
            fault = "the gzip data are damaged; copy or download the file again"
        raise InputError.one(origin, fault)

    return read


# ------------------------------------------------------------------------------------------- columns


def main_column(origin: str, columns: Sequence[str]) -> str:
    """Return the one column that holds arrivals or counts."""
    wanted = [*ARRIVAL_COLUMNS, *COUNT_COLUMNS]
    found = [name for name in columns if name in wanted]
    if len(found) == 1:
        return found[0]
    expected = f"expected one of the columns {', '.join(wanted)}"
    if found:
        raise InputError.one(origin, f"{expected}, found {' and '.join(found)}: keep one")
    named = ", ".join(shown(name, 30) for name in columns[:12])
    if len(columns) == 1 and any(separator in columns[0] for separator in ";\t|"):
        named += " as one column: separate columns by commas"
    hint = next(filter(None, (suggestion(name, wanted) for name in columns)), "")
    raise InputError.one(origin, f"{expected}; the first line names {named}{hint}")


class ArrivalReader:
    """Arrivals of a file, read in one table or in several that follow each other."""

    def __init__(self) -> None:
        self._latest = -math.inf  # the last number so far
        self._epoch = 0.0  # the first of numbers that count from 1970, which the others are relative to
        self._resolution_ns: float | None = None  # of these
        #: The last date so far and the first of all, in nanoseconds since 1970: one element, none at first.
        self._latest_ns = self._zero_ns = np.empty(0, np.int64)

    @property
    def zero_ns(self) -> int | None:
        """The first date of all, in ns since 1970; None as long as there is none."""
        return int(self._zero_ns[0]) if self._zero_ns.size else None

    @property
    def since_text(self) -> str:
        """What numbers that count from 1970 are known to, if they do: a float holds no more digits of one so late."""
        known_ns = self._resolution_ns
        return "" if known_ns is None else f", which counts from 1970 and is read to {known_ns:.0f} ns"

    def read(self, table: TableFile, column: str) -> Int64:
        """Return arrivals in nanoseconds, dates relative to the first of all, shape (rows,)."""
        unit = ARRIVAL_COLUMNS[column]
        return self._dates(table, column) if unit is None else self._numbers(table, column, unit)

    def _numbers(self, table: TableFile, column: str, unit: int) -> Int64:
        values, faults = table.numbers(column)
        # No trace begins so late on its own axis: these count from 1970.
        if values.size and self._latest == -math.inf and MAX_DURATION_NS < values[0] * unit < LATEST_DATE_NS:
            self._epoch = float(values[0])
            self._zero_ns = np.array([since_1970_ns(self._epoch, unit)], np.int64)
            self._resolution_ns = float(np.spacing(self._epoch)) * unit
        values = values - self._epoch
        early = decreases_among_numbers(values)
        if values.size and values[0] < self._latest:
            early = np.concatenate([np.zeros(1, np.intp), early])
        below, beyond = np.flatnonzero(values < 0), np.flatnonzero(values > MAX_DURATION_NS / unit)
        faults += [
            RowFault("a negative time", below, ": let the trace begin at 0 or later"),
            RowFault("a time beyond ten years", beyond, ": subtract the time of the first arrival"),
            _unsorted(early, column),
        ]
        table.check_rows(column, faults)
        self._latest = float(values[-1]) if values.size else self._latest
        return np.rint(values * unit).astype(np.int64)

    def _dates(self, table: TableFile, column: str) -> Int64:
        instants, faults = table.instants(column)
        held = np.flatnonzero(instants != NO_DATE)
        dates = instants[held]
        self._zero_ns = self._zero_ns if self._zero_ns.size else dates[:1].copy()
        early = held[decreases(np.concatenate([self._latest_ns, dates])) - self._latest_ns.size]
        # In floats, as the sum of a late date and ten years may not fit: those few hundred nanoseconds do not matter.
        late = held[dates.astype(np.float64) > self._zero_ns.astype(np.float64) + MAX_DURATION_NS]
        faults += [RowFault("a date more than ten years after the first", late), _unsorted(early, column)]
        table.check_rows(column, faults)
        self._latest_ns = instants[-1:].copy() if instants.size else self._latest_ns
        return instants - self._zero_ns if instants.size else instants


def _unsorted(early: Positions, column: str) -> RowFault:
    advice = f": sort the file by {column}"
    if column == "timestamp":
        advice += ", or, where clocks went back, write dates with their offset from UTC, such as +02:00"
    return RowFault("earlier than the row before", early, advice)
