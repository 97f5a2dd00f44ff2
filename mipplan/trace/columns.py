"""Columns of a file with a header, and how the rows at fault are named."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mipplan.core import Fault, Float64, InputError, Int64, Positions, shown
from mipplan.trace.checks import ROWS_NAMED

if TYPE_CHECKING:
    import pandas as pd


#: One kind of fault in a column, and the 0-based rows that have it; ``{rows}`` in the text stands for them.
RowFault = tuple[str, Positions]

#: Cells turned into Python objects at a time; as such they take ten times the memory.
CELLS_AT_ONCE = 100_000


@dataclass(frozen=True)
class NumberColumn:
    """A column read as numbers.

    Attributes
    ----------
    values : float64[n]
        Finite, NaN where a cell holds no usable number.
    faults : tuple of RowFault
        What those cells hold instead.
    """

    values: Float64
    faults: tuple[RowFault, ...] = ()


class Table(Protocol):
    """A file with named columns."""

    @property
    def origin(self) -> str:
        """The file, for messages."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns as written."""

    def numbers(self, name: str) -> NumberColumn:
        """Return a column of numbers with its faults."""

    def instants(self, name: str) -> Int64:
        """Return a column of dates as nanoseconds since 1970, or raise `InputError`."""

    def rows(self, indices: Sequence[int] | Positions) -> str:
        """Name rows, given by 0-based index, for people."""


def row_faults(table: Table, name: str, found: Iterable[RowFault]) -> list[Fault]:
    """Return one fault for each kind that occurs in a column, naming its rows."""
    return [
        Fault(f"{table.origin}: {name}", text.format(rows=table.rows(bad))) for text, bad in found if len(bad)
    ]


def row_names(unit: str, numbers: Sequence[int], count: int) -> str:
    """Write the first few of `count` rows: ``line 7``, ``lines 3, 4, 9 (3 in all)``."""
    if count == 1:
        return f"{unit} {numbers[0]}"
    return f"{unit}s {', '.join(map(str, numbers))}{', …' if count > len(numbers) else ''} ({count:,} in all)"


def first_rows(indices: Sequence[int] | Positions) -> list[int]:
    """Return the rows that a message names."""
    return [int(index) for index in indices[:ROWS_NAMED]]


def number_of(text: str) -> float:
    """Convert text to a number, NaN if it is none (Python alone would accept 1_000, other tools do not)."""
    try:
        return float("nan") if "_" in text else float(text)
    except ValueError:
        return float("nan")


def dates_to_ns(table: Table, name: str, cells: Iterable[Sequence[str]]) -> Int64:
    """Convert ISO dates, given piece by piece, to nanoseconds since 1970.

    Raises
    ------
    InputError
        If the column holds numbers, or naming the rows without a date.
    """
    pieces: list[Int64] = [np.empty(0, np.int64)]
    bad: list[Positions] = [np.empty(0, np.intp)]
    example = ""
    read = 0
    for texts in cells:
        if not read and not np.isnan(number_of(texts[0])):
            raise InputError.one(
                f"{table.origin}: {name}",
                "holds numbers; dates such as 2024-01-31T12:00:00.5 were expected "
                "(call a column of seconds arrival_s, one of milliseconds arrival_ms)",
            )
        instants, missing = _piece_to_ns(table, name, texts)
        if len(missing):
            example = example or shown(texts[int(missing[0])])
            bad.append(missing + read)
        pieces.append(instants)
        read += len(texts)
    faults = row_faults(
        table, name, [(f"no ISO date (such as {_braced(example)}) in {{rows}}", np.concatenate(bad))]
    )
    if faults:
        raise InputError(faults)
    return np.concatenate(pieces)


def _braced(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def _piece_to_ns(table: Table, name: str, texts: Sequence[str]) -> tuple[Int64, Positions]:
    import pandas as pd

    series = pd.Series(texts, dtype=object)
    dates = pd.to_datetime(series, format="ISO8601", utc=True, errors="coerce")
    missing = np.flatnonzero(dates.isna().to_numpy())
    return checked_dates(table, name, dates), missing


def checked_dates(table: Table, name: str, dates: pd.Series[Any]) -> Int64:
    """Convert dates to nanoseconds since 1970, or raise `InputError` if they do not fit."""
    import pandas as pd

    try:
        return np.asarray(dates.dt.as_unit("ns").to_numpy(dtype="datetime64[ns]").astype(np.int64))
    except (pd.errors.OutOfBoundsDatetime, OverflowError):
        raise InputError.one(f"{table.origin}: {name}", "holds dates before 1678 or after 2261") from None


@dataclass
class OddCells:
    """Collects the cells of a column that are no finite numbers, piece by piece."""

    read: int = 0
    example: str = ""

    def __post_init__(self) -> None:
        self._rows: dict[str, list[Positions]] = {"empty": [], "nan": [], "infinite": [], "text": []}

    def convert(self, texts: Sequence[str]) -> Float64:
        """Return the numbers of one piece, NaN where there is none, and remember which cells those are."""
        values = np.array([number_of(text) for text in texts], dtype=np.float64)
        odd = np.flatnonzero(~np.isfinite(values))
        for kind, rows in self._sorted_out(texts, values, odd):
            self._rows[kind].append(np.asarray(rows, dtype=np.intp) + self.read)
        values[odd] = np.nan
        self.read += len(texts)
        return values

    def _sorted_out(
        self, texts: Sequence[str], values: Float64, odd: Positions
    ) -> Iterator[tuple[str, list[int]]]:
        kinds: dict[str, list[int]] = {}
        for row in odd.tolist():
            text = texts[row].lower().lstrip("+-")
            if text == "":
                kind = "empty"
            elif not np.isnan(values[row]):
                kind = "infinite"
            elif text == "nan":
                kind = "nan"
            else:
                kind = "text"
                self.example = self.example or shown(texts[row])
            kinds.setdefault(kind, []).append(row)
        yield from kinds.items()

    def faults(self) -> tuple[RowFault, ...]:
        """Return the kinds that occurred."""
        wording = {
            "empty": "no value in {rows}",
            "nan": "NaN in {rows}",
            "infinite": "an infinite value in {rows}",
            "text": f"no number (such as {_braced(self.example)}) in {{rows}}",
        }
        return tuple((wording[kind], np.concatenate(rows)) for kind, rows in self._rows.items() if rows)
