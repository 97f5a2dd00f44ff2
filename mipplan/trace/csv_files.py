"""CSV files as tables, read by column; rows at fault are named by line, as an editor shows them."""

from __future__ import annotations

import codecs
import contextlib
import csv
import io
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mipplan.core import Float64, InputError, Int64, Positions, counted, shown
from mipplan.documents import decode_text
from mipplan.trace.checks import ROWS_NAMED, RowFault, TableFile, cells_of, dates_to_ns, number_of, row_names

if TYPE_CHECKING:
    import pyarrow as pa

_STEP = 1024 * 1024


def open_csv(data: bytes, origin: str) -> CsvTable:
    """Find the header of a CSV file; refuse what is no UTF-8 text, or has none."""
    data = _checked(data, origin).removeprefix(b"\xef\xbb\xbf")
    for _, last, cells in _records(data):
        below = b"".join(data.split(b"\n", last)[last:])
        return CsvTable(origin, tuple(cell.strip() for cell in cells), below, lines_before=last)
    if data.strip():
        raise InputError.one(f"{origin}:1", "is no line of column names: it is far too long for one")
    raise InputError.one(origin, "is empty; the first line must name the columns")


def csv_tables(
    read: Callable[[int], bytes], origin: str, at_once: int, check: Callable[[bytes, str], None]
) -> Iterator[CsvTable]:
    """Cut a CSV file into tables of about `at_once` bytes; `check` is shown the first bytes, and may refuse them."""
    blocks = _whole_rows(read, origin, at_once)
    first, _ = next(blocks, (b"", 0))
    check(first, origin)
    table = open_csv(first, origin)
    yield table
    for rows, lines_before in blocks:
        text = _checked(rows, origin, lines_before)
        yield replace(table, text=text, lines_before=lines_before)


def _whole_rows(read: Callable[[int], bytes], origin: str, at_once: int) -> Iterator[tuple[bytes, int]]:
    """Yield whole rows, some megabytes at a time, and how many lines come before them."""
    held, lines = b"", 0
    while piece := read(at_once):
        while piece.endswith(b"\r") and (following := read(1)):  # may be half of an end of line
            piece += following
        held += piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in piece else piece
        end = _end_of_rows(held)
        if not end and len(held) >= at_once:
            # A quote within a value that has none around it opens nothing; a sign may be cut in two here.
            *_, before, _ = (0, 0, *(last for _, last, _ in _records(held.decode("latin-1").encode())))
            end = len(held) - len(b"".join(held.split(b"\n", before)[before:]))
        if end:
            yield held[:end], lines
            lines += held.count(b"\n", 0, end)
            held = held[end:]
        elif len(held) >= at_once:
            message = f"a row of more than {at_once // 2**20} MiB begins here: is a quote not closed?"
            raise InputError.one(f"{origin}:{lines + 1}", message)
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


def _checked(data: bytes, origin: str, lines_before: int = 0) -> bytes:
    """Return text with ends of lines of one kind, so that they are counted the same way everywhere below."""
    _check_text(data, origin, lines_before)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    _check_quotes(data, origin, lines_before)
    return data


def _check_text(data: bytes, origin: str, lines_before: int) -> None:
    """Check piece by piece that all is UTF-8, columns that are never read included."""
    pieces = (data[start : start + _STEP] for start in range(0, len(data), _STEP))
    try:
        for text in codecs.iterdecode(pieces, "utf-8"):
            if "\0" in text:
                line = lines_before + data.count(b"\n", 0, data.index(b"\0")) + 1
                message = "holds a zero byte: this is no CSV file, nor any text"
                raise InputError.one(f"{origin}:{line}", message)
    except UnicodeDecodeError:
        decode_text(data, origin, lines_before)  # says where
        raise


def _check_quotes(data: bytes, origin: str, lines_before: int) -> None:
    """Refuse a quoted value that never ends: it would swallow all rows below it without a word."""
    if data.count(b'"') % 2 == 0:
        return
    reader = csv.reader(io.TextIOWrapper(io.BytesIO(data), "utf-8", newline=""), strict=True)
    before = 0
    try:
        for _ in reader:
            before = reader.line_num
    except csv.Error:
        message = "a quoted value begins here and is not closed as it should be: check its quotes"
        raise InputError.one(f"{origin}:{lines_before + before + 1}", message) from None


def _records(data: bytes) -> Iterator[tuple[int, int, list[str]]]:
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
class CsvTable(TableFile):
    """A CSV file, or some rows of one, before which there are `lines_before`; see `mipplan.trace.checks.TableFile`."""

    text: bytes
    lines_before: int

    def numbers(self, name: str) -> tuple[Float64, list[RowFault]]:
        """Return a column of numbers with its faults."""
        import pyarrow as pa

        with contextlib.suppress(pa.ArrowInvalid):
            column = self._column(name, pa.float64()).combine_chunks()
            # Not by `to_numpy`: that imports pandas, which takes long, and swallows a Ctrl-C meanwhile.
            if column.null_count == 0:
                found = np.asarray(np.from_dlpack(column), dtype=np.float64)
                if np.isfinite(found).all():
                    return found, []
        # Some cell is no number: read again as text to tell which.
        pieces: list[Float64] = [np.empty(0)]
        odd: dict[str, list[int]] = {"no value": [], "NaN": [], "an infinite value": [], "no number": []}
        example, read = "", 0
        for texts in self._texts(name):
            values = np.array([number_of(text) for text in texts], dtype=np.float64)
            for row in np.flatnonzero(~np.isfinite(values)).tolist():
                kind = _odd_kind(texts[row], values[row])
                odd[kind].append(read + row)
                if kind == "no number":
                    example = example or f" (such as {shown(texts[row])})"
                values[row] = np.nan
            pieces.append(values)
            read += len(texts)
        faults = [
            RowFault(kind + example if kind == "no number" else kind, np.array(rows, np.intp))
            for kind, rows in odd.items()
        ]
        return np.concatenate(pieces), faults

    def instants(self, name: str) -> tuple[Int64, list[RowFault]]:
        """Return a column of dates as nanoseconds since 1970 with its faults."""
        return dates_to_ns(self, name, self._texts(name))

    def rows(self, indices: Positions) -> str:
        """Name rows by their lines in the file."""
        wanted = indices[:ROWS_NAMED].tolist()
        lines: list[int] = []
        for position, (line, _, _) in enumerate(_records(self.text)):
            if position in wanted:
                lines.append(self.lines_before + line)
            if len(lines) == len(wanted):
                return row_names("line", lines, len(indices))
        return row_names("row", [index + 1 for index in wanted], len(indices))

    def _texts(self, name: str) -> Iterator[list[str]]:
        """Yield the cells of a column, some at a time."""
        import pyarrow as pa

        try:
            column = self._column(name, pa.string())
        except pa.ArrowInvalid as error:
            reason = str(error).splitlines()[0][:200]
            if "straddl" in reason:
                reason = "it has a row of more than 1 MiB"
            raise InputError.one(self.origin, f"is not a well-formed CSV file: {reason}") from None
        for cells in cells_of(column):
            yield [text.strip() for text in cells]

    def _column(self, name: str, kind: pa.DataType) -> pa.ChunkedArray:
        """Read one column, or raise `pyarrow.ArrowInvalid` if it is of another kind."""
        import pyarrow as pa
        from pyarrow import csv as reader

        content = self.text.rstrip()  # without blank lines at the end
        if not content:
            return pa.chunked_array([], type=kind)
        # by position: names may repeat or be blank
        wanted, names = str(self.columns.index(name)), [str(index) for index in range(len(self.columns))]
        # A thread of Arrow's may still hold what it read when Python ends. To give back what is Python's, be it these
        # bytes or a function for uneven rows, it would need Python then, and now and then the process is aborted.
        held = pa.allocate_buffer(len(content))
        memoryview(held).cast("B")[:] = content
        try:
            table = reader.read_csv(
                pa.BufferReader(held),
                read_options=reader.ReadOptions(column_names=names),
                parse_options=reader.ParseOptions(newlines_in_values=True),
                convert_options=reader.ConvertOptions(include_columns=[wanted], column_types={wanted: kind}),
            )
        except pa.ArrowInvalid as error:
            if str(error).startswith("CSV parse error: Expected"):
                raise self._uneven_rows() from None
            raise
        return table.column(0)

    def _uneven_rows(self) -> InputError:
        width, found, where = len(self.columns), "another number", "some lines"
        uneven = [(line, len(cells)) for line, _, cells in _records(self.text) if len(cells) != width]
        if uneven:
            lines = [self.lines_before + line for line, _ in uneven[:ROWS_NAMED]]
            fewest, most = min(count for _, count in uneven), max(count for _, count in uneven)
            found = f"{'' if fewest == most else f'{fewest} to '}{counted(most, 'value')}"
            where = row_names("line", lines, len(uneven))
        message = f"expected {counted(width, 'value')} as in the header, found {found} in {where}"
        return InputError.one(self.origin, message)


def _odd_kind(text: str, number: float) -> str:
    """Say what a cell holds in the place of a finite number."""
    word = text.lower().lstrip("+-")
    if word == "":
        return "no value"
    if math.isinf(number):
        return "an infinite value"
    return "NaN" if word == "nan" else "no number"
