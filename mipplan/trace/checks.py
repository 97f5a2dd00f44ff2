"""Checks and conversions of times, for traces, their readers and generators, and how rows at fault are named."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mipplan.core import (
    MAX_DURATION_NS,
    NS_PER_MS,
    NS_PER_S,
    Fault,
    Faults,
    Float64,
    InputError,
    Int64,
    Positions,
    array_of,
    frozen,
    is_finite,
    is_number,
    is_whole,
    name_problem,
    shown,
    text_problem,
    to_ns,
)

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

#: Faulty rows named in a message; their number is always told.
ROWS_NAMED = 5
#: Most arrivals made from counts or by a generator: 1.6 GB.
MAX_ARRIVALS = 200_000_000

#: Cells turned into Python objects at a time; as such they take ten times the memory.
CELLS_AT_ONCE = 100_000

#: Stands in a column of dates where a cell holds none.
NO_DATE = np.iinfo(np.int64).min
_NS_PER_UNIT = {"s": NS_PER_S, "ms": NS_PER_MS, "us": 1_000, "ns": 1}


# ------------------------------------------------------------------------------------ times in arrays


def check_arrivals(values: object) -> Int64:
    """Return arrival times as a read-only int64 array, or raise `InputError` saying what is wrong."""
    given = array_of(values)
    if given.ndim != 1:
        raise InputError.one("arrival_ns", f"expected one dimension, found shape {given.shape}")
    if given.dtype.kind not in "iu":
        message = f"expected whole nanoseconds, found {given.dtype}; from_seconds() takes seconds"
        raise InputError.one("arrival_ns", message)
    if len(given) < 2:
        raise InputError.one("arrival_ns", f"expected at least two arrivals, found {len(given)}")
    faults = Faults()
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        masked = np.flatnonzero(np.ma.getmaskarray(values))
        faults.add(Fault("arrival_ns", f"masked at position {positions_text(masked)}"))
    for message, bad in (
        ("negative time", np.flatnonzero(given < 0)),
        ("time beyond ten years", np.flatnonzero(given > MAX_DURATION_NS)),
        ("earlier than the arrival before it", decreases(given)),
    ):
        if len(bad):
            faults.add(Fault("arrival_ns", f"{message} at position {positions_text(bad)}"))
    faults.check()
    if given.dtype == np.int64 and given.base is None and not given.flags.writeable:
        return given  # nobody can write to it any more: no copy is needed to keep a trace as it is
    return frozen(np.array(given, dtype=np.int64, order="C"))


def check_labels(name: object, note: object, zero_ns: object) -> None:
    """Refuse what a plan file could not say of the trace that it was made for; raises `InputError` listing all."""
    zero = None if zero_ns is None or is_whole(zero_ns) else f"expected ns since 1970, found {shown(zero_ns)}"
    problems = {"trace": name_problem(name), "trace.note": text_problem(note), "trace.zero_ns": zero}
    InputError.raise_if(Fault(place, problem) for place, problem in problems.items() if problem is not None)


def decreases(times: NDArray[Any]) -> Positions:
    """Positions whose time is below the one before."""
    return np.flatnonzero(times[1:] < times[:-1]) + 1


def decreases_among_numbers(times: Float64) -> Positions:
    """Positions whose time is below the last number before, where NaN stands for no number."""
    numbers = np.flatnonzero(~np.isnan(times))
    return numbers[decreases(times[numbers])]


def positions_text(positions: Positions) -> str:
    """Write the first few positions, and how many there are: ``3, 4, 9 (3 in all)``."""
    named = ", ".join(map(str, positions[:ROWS_NAMED]))
    more = ", …" if len(positions) > ROWS_NAMED else ""
    return f"{named}{more} ({len(positions)} in all)"


def seconds_column_to_ns(seconds: ArrayLike) -> Int64:
    """Round float seconds, shape (n,), to the nearest nanoseconds; refuse what is not below ten years.

    Durations (``timedelta64``) are converted by their unit. Dates, texts and masked values are refused: as bare numbers
    they would be something else.
    """
    given = array_of(seconds)
    if given.dtype.kind == "m":
        return _durations_to_ns(given)
    is_numeric = given.dtype.kind in "iuf" or (
        given.dtype.kind == "O" and not any(isinstance(value, str | bytes) for value in given.flat)
    )
    try:
        values = np.asarray(given, dtype=np.float64) if is_numeric else None
    except (TypeError, ValueError):
        values = None
    if values is None:
        raise InputError.one("arrival_s", f"expected numbers or durations, found {shown(seconds)}")
    if isinstance(seconds, np.ma.MaskedArray) and np.ma.is_masked(seconds):
        message = f"masked at position {positions_text(np.flatnonzero(np.ma.getmaskarray(seconds)))}"
        raise InputError.one("arrival_s", message)
    if values.ndim != 1:
        raise InputError.one("arrival_s", f"expected one dimension, found shape {values.shape}")
    bad = np.flatnonzero(~(np.abs(values) <= MAX_DURATION_NS / NS_PER_S))
    if len(bad):
        message = f"not a finite time below ten years at position {positions_text(bad)}"
        raise InputError.one("arrival_s", message)
    return np.rint(values * NS_PER_S).astype(np.int64)


def _durations_to_ns(durations: NDArray[Any]) -> Int64:
    """Return durations of any unit of fixed length, shape (n,), in whole nanoseconds."""
    if np.datetime_data(durations.dtype)[0] in ("generic", "Y", "M"):
        raise InputError.one(
            "arrival_s", f"expected durations in weeks or a shorter unit, found {durations.dtype}"
        )
    seconds = seconds_column_to_ns(durations / np.timedelta64(1, "s"))  # checks them; a float is not exact
    return durations.astype("timedelta64[ns]").astype(np.int64) if seconds.size else seconds


def checked_chunks(pieces: Iterable[object], size: int, origin: str = "source") -> Iterator[Int64]:
    """Yield arrivals in arrays of `size`, the last one shorter, from pieces of any sizes.

    They are whole nanoseconds from 0 to ten years, non-decreasing from the first piece to the last.

    Raises `InputError` when the piece at fault is reached, naming the first row at fault (counted from 1 over
    all pieces).
    """
    held: list[Int64] = []
    count, rows, last_ns = 0, 0, 0
    for piece in pieces:
        arrival_ns = _checked(piece, rows, last_ns, origin)
        if not arrival_ns.size:
            continue
        rows, last_ns = rows + arrival_ns.size, int(arrival_ns[-1])
        held.append(arrival_ns)
        count += arrival_ns.size
        if count >= size:
            together = np.concatenate(held)
            full = count - count % size
            for start in range(0, full, size):
                yield together[start : start + size]
            held, count = [together[full:]], count - full
    if count:
        yield np.concatenate(held)


def _checked(piece: object, rows: int, last_ns: int, origin: str) -> Int64:
    given = array_of(piece)
    if given.ndim == 1 and not given.size:  # an empty list comes as floats
        return given.astype(np.int64)
    if given.ndim != 1 or given.dtype.kind not in "iu":
        raise InputError.one(
            origin,
            f"expected arrays of whole nanoseconds, shape (k,); after row {rows:,} comes {given.dtype}, "
            f"shape {given.shape}",
        )
    beyond = np.flatnonzero(given > MAX_DURATION_NS)
    if len(beyond):
        raise InputError.one(f"{origin}: row {rows + int(beyond[0]) + 1:,}", "a time beyond ten years")
    arrival_ns = given.astype(np.int64, copy=False)
    before = np.array([last_ns], dtype=np.int64) if rows else arrival_ns[:1]
    earlier = decreases(np.concatenate([before, arrival_ns])) - 1
    if len(earlier):
        place = f"{origin}: row {rows + int(earlier[0]) + 1:,}"
        raise InputError.one(place, "earlier than the row before: sort by time")
    if arrival_ns[0] < 0:
        raise InputError.one(f"{origin}: row {rows + 1:,}", "a negative time: begin at 0 or later")
    return arrival_ns


# ----------------------------------------------------------------------------------------- arguments


def time_ns(name: str, seconds: float) -> int:
    """Convert one time given in seconds; a fault names the argument."""
    if (time := to_ns(seconds)) is None:
        raise InputError.one(name, f"expected a time in seconds, found {shown(seconds)}")
    return time


def window_ns(start_s: float | None, end_s: float | None) -> tuple[int, int]:
    """Convert a half-open window to nanoseconds, and refuse an empty one; None is no limit on that side."""
    start = 0 if start_s is None else time_ns("start_s", start_s)
    end = MAX_DURATION_NS + 1 if end_s is None else time_ns("end_s", end_s)
    if start >= end:
        raise InputError.one("window", f"{window_text(start_s, end_s)} is empty: it must end after it starts")
    return start, end


def window_text(start_s: float | str | None, end_s: float | str | None) -> str:
    """Write a window: ``[10 s, 20 s)``, or with its ends as they were written."""
    start, end = (
        otherwise if end is None else end if isinstance(end, str) else f"{end:.12g} s"
        for end, otherwise in ((start_s, "start"), (end_s, "end"))
    )
    return f"[{start}, {end})"


def check_split(split: object) -> float:
    """Return a share of a trace's time.

    Raises `InputError` if it is no number in (0, 1).
    """
    if not is_number(split) or not 0.0 < split < 1.0:
        message = f"expected a share of the trace's time between 0 and 1, found {shown(split)}"
        raise InputError.one("split", message)
    return float(split)


def number_fault(name: str, value: object, *, zero: bool = False, most: float = math.inf) -> Fault | None:
    """Return a fault unless `value` is a finite number above 0 (or 0, where `zero`) and at most `most`."""
    if is_finite(value) and (value > 0 or (zero and value == 0)) and value <= most:
        return None
    least = "of at least 0" if zero else "above 0"
    limit = "" if math.isinf(most) else f" and at most {most:g}"
    return Fault(name, f"expected a number {least}{limit}, found {shown(value)}")


# ---------------------------------------------------------------------------------- columns and rows


class RowFault(NamedTuple):
    """One kind of fault in a column, the 0-based rows that have it, and what to do about it."""

    what: str
    rows: Positions
    advice: str = ""


@dataclass(frozen=True)
class TableFile(ABC):
    """A file with named columns, or some rows of one: `origin` names the file, `columns` are the names as written."""

    origin: str
    columns: tuple[str, ...]

    @abstractmethod
    def numbers(self, name: str) -> tuple[Float64, list[RowFault]]:
        """Return a column as finite numbers, NaN where a cell holds none, and the faults of such cells."""

    @abstractmethod
    def instants(self, name: str) -> tuple[Int64, list[RowFault]]:
        """Return a column of dates as nanoseconds since 1970, `NO_DATE` where a cell holds none, and their faults.

        Raises `InputError` if it is no column of dates at all.
        """

    @abstractmethod
    def rows(self, indices: Positions) -> str:
        """Name rows, given by 0-based index, for people."""

    def fault(self, name: str, message: str) -> InputError:
        """Return the error for what is wrong in a column as a whole."""
        return InputError.one(f"{self.origin}: {name}", message)

    def check_rows(self, name: str, found: Iterable[RowFault]) -> None:
        """Raise `InputError` with one fault for each kind that occurs in a column, naming its rows."""
        faults = Faults()
        for what, bad, advice in found:
            if len(bad):
                faults.add(Fault(f"{self.origin}: {name}", f"{what} in {self.rows(bad)}{advice}"))
        faults.check()


def row_names(unit: str, numbers: Sequence[int] | Positions, count: int) -> str:
    """Write the first few of `count` rows: ``line 7``, ``lines 3, 4, 9 (3 in all)``."""
    if count == 1:
        return f"{unit} {numbers[0]}"
    return f"{unit}s {', '.join(map(str, numbers))}{', …' if count > len(numbers) else ''} ({count:,} in all)"


def number_of(text: str) -> float:
    """Convert text to a number, NaN if it is none (Python alone would accept 1_000, other tools do not)."""
    try:
        return float("nan") if "_" in text else float(text)
    except ValueError:
        return float("nan")


def cells_of(column: pa.ChunkedArray) -> Iterator[list[Any]]:
    """Yield the cells of a column as Python objects, some at a time."""
    for chunk in column.chunks:
        for start in range(0, len(chunk), CELLS_AT_ONCE):
            yield chunk.slice(start, CELLS_AT_ONCE).to_pylist()


def dates_to_ns(table: TableFile, name: str, cells: Iterable[Sequence[str]]) -> tuple[Int64, list[RowFault]]:
    """Convert ISO dates, given piece by piece, as `TableFile.instants` says; raise `InputError` for numbers."""
    import pandas as pd

    pieces: list[Int64] = [np.empty(0, np.int64)]
    bad: list[Positions] = [np.empty(0, np.intp)]
    beyond = bad.copy()
    example = ""
    read = 0
    for texts in cells:
        if not read and not np.isnan(number_of(texts[0])):
            raise table.fault(
                name,
                "holds numbers; dates such as 2024-01-31T12:00:00.5 were expected "
                "(call a column of seconds arrival_s, one of milliseconds arrival_ms)",
            )
        series = pd.Series(texts, dtype=object)
        dates = pd.to_datetime(series, format="ISO8601", utc=True, errors="coerce")
        instants, outside = instants_of(dates)
        pieces.append(instants)
        beyond.append(outside + read)
        missing = np.flatnonzero(dates.isna().to_numpy())
        if len(missing):
            example = example or shown(texts[int(missing[0])])
            bad.append(missing + read)
        read += len(texts)
    no_dates = RowFault(f"no ISO date (such as {example})", np.concatenate(bad))
    return np.concatenate(pieces), [no_dates, too_far(np.concatenate(beyond))]


def too_far(rows: Positions) -> RowFault:
    """Say of rows that nanoseconds cannot hold their dates."""
    return RowFault("a date before 1678 or after 2261", rows)


def instants_of(dates: pd.Series[Any]) -> tuple[Int64, Positions]:
    """Return dates as nanoseconds since 1970, `NO_DATE` for those missing, and the rows that these cannot hold."""
    zoneless = dates.dt.tz_convert("UTC").dt.tz_localize(None) if dates.dt.tz is not None else dates
    held = zoneless.to_numpy(dtype=f"datetime64[{dates.dt.unit}]")
    counts, unit = held.astype(np.int64), _NS_PER_UNIT[dates.dt.unit]
    most = (2**63 - 1) // unit
    outside = ~np.isnat(held) & ((counts > most) | (counts < -most))
    known = ~np.isnat(held) & ~outside
    return np.where(known, np.where(known, counts, 0) * unit, NO_DATE), np.flatnonzero(outside)
