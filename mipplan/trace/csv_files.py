"""CSV files as tables, read by column; rows at fault are named by line, as an editor shows them."""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mipplan.core import Float64, InputError, Int64, Positions, shown
from mipplan.documents import decode_text
from mipplan.trace.checks import (
    CELLS_AT_ONCE,
    ROWS_NAMED,
    NumberColumn,
    RowFault,
    braced,
    dates_to_ns,
    first_rows,
    number_of,
    row_names,
)

if TYPE_CHECKING:
    import pyarrow as pa

_STEP = 1024 * 1024


def open_csv(data: bytes, origin: str) -> CsvTable:
    """Find the header of a CSV file; refuse what is no UTF-8 text, or has none."""
    data = _checked(data, origin).removeprefix(b"\xef\xbb\xbf")
    for _, last, cells in _records(data):
        return CsvTable(origin, tuple(cell.strip() for cell in cells), data, header_lines=last)
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
        yield table.with_rows(rows, lines_before)


def _whole_rows(read: Callable[[int], bytes], origin: str, at_once: int) -> Iterator[tuple[bytes, int]]:
    """Yield whole rows, some megabytes at a time, and how many lines come before them."""
    held, lines = b"", 0
    while piece := read(at_once):
        while piece.endswith(b"\r") and (following := read(1)):  # may be half of an end of line
            piece += following
        held += piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in piece else piece
        end = _end_of_rows(held)
        if end:
            yield held[:end], lines
            lines += held.count(b"\n", 0, end)
            held = held[end:]
        elif len(held) >= at_once:
            raise InputError.one(
                f"{origin}:{lines + 1}",
                f"a row of more than {at_once // 2**20} MiB begins here: is a quote not closed?",
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


def _checked(data: bytes, origin: str, lines_before: int = 0) -> bytes:
    """Return text with ends of lines of one kind, so that they are counted the same way everywhere below."""
    _check_text(data, origin, lines_before)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    _check_quotes(data, origin, lines_before)
    return data


def _check_text(data: bytes, origin: str, lines_before: int) -> None:
    """Check piece by piece that all is UTF-8, columns that are never read included."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), _STEP):
            piece = data[start : start + _STEP]
            decoder.decode(piece, final=start + _STEP >= len(data))
            if b"\0" in piece:
                line = lines_before + data.count(b"\n", 0, data.index(b"\0", start)) + 1
                raise InputError.one(
                    f"{origin}:{line}", "holds a zero byte: this is no CSV file, nor any text"
                )
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
        raise InputError.one(
            f"{origin}:{lines_before + before + 1}",
            "a quoted value begins here and is not closed as it should be: check its quotes",
        ) from None


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
class CsvTable:
    """A CSV file, or its header and some of its rows; see `mipplan.trace.checks.TableFile`.

    `data` has header and rows; `lines_left_out` are lines of the file between the header and the first of these rows.
    """

    origin: str
    columns: tuple[str, ...]
    data: bytes
    header_lines: int
    lines_left_out: int = 0

    def with_rows(self, rows: bytes, lines_before: int) -> CsvTable:
        """Return a table of other whole rows of the same file, given how many lines come before them."""
        end = _end_of_line(self.data, self.header_lines)
        header = self.data[:end]
        text = _checked(rows, self.origin, lines_before)
        return replace(self, data=header + text, lines_left_out=lines_before - self.header_lines)

    def numbers(self, name: str) -> NumberColumn:
        """Return a column of numbers with its faults."""
        import pyarrow as pa

        try:
            column = self._column(name, pa.float64())
        except pa.ArrowInvalid:
            return self._numbers_of_texts(name)  # some cell is no number; read again as text to tell which
        values: Float64 = column.to_numpy()
        return NumberColumn(values) if np.isfinite(values).all() else self._numbers_of_texts(name)

    def _numbers_of_texts(self, name: str) -> NumberColumn:
        odd = _OddCells()
        values = [odd.convert(texts) for texts in self._texts(name)]
        return NumberColumn(np.concatenate(values) if values else np.empty(0), odd.faults())

    def instants(self, name: str) -> Int64:
        """Return a column of dates as nanoseconds since 1970."""
        return dates_to_ns(self, name, self._texts(name))

    def rows(self, indices: Sequence[int] | Positions) -> str:
        """Name rows by their lines in the file."""
        wanted = first_rows(indices)
        lines: list[int] = []
        for position, (line, _, _) in enumerate(_records(self.data)):
            if position - 1 in wanted:  # the header is record 0
                lines.append(self._in_file(line))
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
        for chunk in column.chunks:
            for start in range(0, len(chunk), CELLS_AT_ONCE):
                yield [text.strip() for text in chunk.slice(start, CELLS_AT_ONCE).to_pylist()]

    def _column(self, name: str, kind: pa.DataType) -> pa.ChunkedArray:
        """Read one column, or raise `pyarrow.ArrowInvalid` if it is of another kind."""
        import pyarrow as pa
        from pyarrow import csv as reader

        uneven = False

        def stop(_row: Any) -> str:
            nonlocal uneven
            uneven = True
            return "error"

        wanted = str(self.columns.index(name))  # by position: names may repeat or be blank
        content = pa.BufferReader(self._content())
        if not content.size():
            return pa.chunked_array([], type=kind)
        try:
            table = reader.read_csv(
                content,
                read_options=reader.ReadOptions(
                    column_names=[str(index) for index in range(len(self.columns))]
                ),
                parse_options=reader.ParseOptions(newlines_in_values=True, invalid_row_handler=stop),
                convert_options=reader.ConvertOptions(include_columns=[wanted], column_types={wanted: kind}),
            )
        except pa.ArrowInvalid:
            if uneven:
                raise self._uneven_rows() from None
            raise
        return table.column(0)

    def _content(self) -> bytes:
        """Return everything after the header, without blank lines at the end."""
        return self.data[_end_of_line(self.data, self.header_lines) :].rstrip()

    def _in_file(self, line: int) -> int:
        """Number in the file of a line of `data` below the header."""
        return self.lines_left_out + line

    def _uneven_rows(self) -> InputError:
        width = len(self.columns)
        lines: list[int] = []
        count, first = 0, width
        for line, _, cells in _records(self.data):
            if len(cells) != width:
                count += 1
                if len(lines) < ROWS_NAMED:
                    lines.append(self._in_file(line))
                if count == 1:
                    first = len(cells)
        found = _values(first) if lines else "another number"
        where = row_names("line", lines, count) if lines else "some lines"
        return InputError.one(
            self.origin, f"expected {_values(width)} as in the header, found {found} in {where}"
        )


def _end_of_line(data: bytes, lines: int) -> int:
    """Return where this number of lines ends: at the end of all, if there are fewer."""
    offset = 0
    for _ in range(lines):
        offset = data.find(b"\n", offset) + 1
        if offset == 0:
            return len(data)
    return offset


def _values(count: int) -> str:
    return "1 value" if count == 1 else f"{count} values"


class _OddCells:
    """The cells of a column that are no finite numbers, piece by piece."""

    def __init__(self) -> None:
        self._read, self._example = 0, ""
        self._rows: dict[str, list[int]] = {"empty": [], "nan": [], "infinite": [], "text": []}

    def convert(self, texts: Sequence[str]) -> Float64:
        """Return the numbers of one piece, NaN where there is none, and remember which cells those are."""
        values = np.array([number_of(text) for text in texts], dtype=np.float64)
        odd = np.flatnonzero(~np.isfinite(values))
        for row in odd.tolist():
            self._rows[self._kind(texts[row], is_nan=bool(np.isnan(values[row])))].append(self._read + row)
        values[odd] = np.nan
        self._read += len(texts)
        return values

    def _kind(self, text: str, *, is_nan: bool) -> str:
        word = text.lower().lstrip("+-")
        if word == "":
            return "empty"
        if not is_nan:
            return "infinite"
        if word == "nan":
            return "nan"
        self._example = self._example or shown(text)
        return "text"

    def faults(self) -> tuple[RowFault, ...]:
        """Return the kinds that occurred."""
        wording = {
            "empty": "no value in {rows}",
            "nan": "NaN in {rows}",
            "infinite": "an infinite value in {rows}",
            "text": f"no number (such as {braced(self._example)}) in {{rows}}",
        }
        return tuple((wording[kind], np.array(rows)) for kind, rows in self._rows.items() if rows)
