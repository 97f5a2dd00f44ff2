"""Arrival times out of trace files: what the columns mean, and which of them are needed."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mipplan.core import MAX_DURATION_NS, NS_PER_MS, NS_PER_S, Float64, InputError, Int64, shown, suggestion
from mipplan.documents import AnyPath
from mipplan.trace.checks import decreases, decreases_among_numbers, window_ns, window_text
from mipplan.trace.columns import NumberColumn, RowFault, Table, row_faults
from mipplan.trace.expansion import check_expansion, expand_counts
from mipplan.trace.tables import read_table

_NS_PER_MINUTE = 60 * NS_PER_S
#: Arrival columns and their unit; a timestamp has none.
ARRIVAL_COLUMNS = {"arrival_s": NS_PER_S, "arrival_ms": NS_PER_MS, "timestamp": None}
#: Count columns, and the time to which their numbers refer.
COUNT_COLUMNS = {"requests_per_s": NS_PER_S, "requests_per_min": _NS_PER_MINUTE}
#: Columns that tell the start of an interval, and their unit.
INTERVAL_COLUMNS = {"t_s": NS_PER_S, "minute_index": _NS_PER_MINUTE, "window_start_s": NS_PER_S}


def read_arrivals(
    path: AnyPath, *, expand: str | None, seed: int, start_s: float | None, end_s: float | None
) -> tuple[Int64, str]:
    """Read a trace file; see `mipplan.trace.model.Trace.read`.

    Returns
    -------
    arrival_ns : int64[n]
        At least two, sorted.
    note : str
        How they came about.
    """
    window = window_ns(start_s, end_s)
    table = read_table(path)
    column = main_column(table)
    if column in ARRIVAL_COLUMNS:
        if expand is not None:
            raise InputError.one(
                f"{table.origin}: {column}",
                "holds arrival times, which need no expansion: leave out --expand (in Python: expand)",
            )
        arrival_ns, notes = ArrivalReader().read(table, column), [f"read from {column}"]
        spans = _span_text(arrival_ns[:1], arrival_ns[-1:])
        arrival_ns = arrival_ns[slice(*np.searchsorted(arrival_ns, window))]
    else:
        expand = check_expansion(expand, f"{table.origin}: {column}")
        counts = _counts(table, column)
        arrival_ns = _expanded(table, counts, window, expand, seed)
        spans = _span_text(counts.start_ns[:1], counts.start_ns[-1:] + counts.interval_ns)
        notes = [*counts.notes, f"expanded by {expand}, seed {seed}"]
    if start_s is not None or end_s is not None:
        notes.append(f"window {window_text(start_s, end_s)}")
    if len(arrival_ns) < 2:
        found = "one arrival" if len(arrival_ns) else "no arrival"
        where = (
            "" if start_s is None and end_s is None else f" in {window_text(start_s, end_s)} of its {spans}"
        )
        raise InputError.one(f"{table.origin}: {column}", f"gives {found}{where}; a trace needs at least two")
    return arrival_ns, "; ".join(notes)


def _span_text(first_ns: Int64, last_ns: Int64) -> str:
    """Write from when to when a trace reaches, given its first and last instant if it has any."""
    if not len(first_ns):
        return "no rows"
    return f"{first_ns[0] / NS_PER_S:.6g} s to {last_ns[0] / NS_PER_S:.6g} s"


def main_column(table: Table) -> str:
    """Return the one column that holds arrivals or counts.

    Raises
    ------
    InputError
        If there is none, or more than one.
    """
    wanted = [*ARRIVAL_COLUMNS, *COUNT_COLUMNS]
    found = [name for name in table.columns if name in wanted]
    if len(found) == 1:
        return found[0]
    columns = ", ".join(shown(name, 30) for name in table.columns[:12])
    if found:
        raise InputError.one(
            table.origin,
            f"expected one of the columns {', '.join(wanted)}, found {' and '.join(found)}: keep one",
        )
    if len(table.columns) == 1 and any(separator in table.columns[0] for separator in ";\t|"):
        columns += " as one column: separate columns by commas"
    hints = (suggestion(name, wanted) for name in table.columns)
    hint = next((hint for hint in hints if hint), "")
    raise InputError.one(
        table.origin,
        f"expected one of the columns {', '.join(wanted)}; the first line names {columns}{hint}",
    )


def _checked(table: Table, column: str, kinds: Iterable[RowFault]) -> None:
    faults = row_faults(table, column, kinds)
    if faults:
        raise InputError(faults)


# -------------------------------------------------------------------------------------------- arrivals


@dataclass
class ArrivalReader:
    """Arrivals of a file, read in one table or in several that follow each other.

    Attributes
    ----------
    latest : float
        The last number read so far.
    latest_ns, zero_ns : int64, shape (0,) or (1,)
        The last date read so far, and the first of all, in nanoseconds since 1970.
    """

    latest: float = -math.inf
    latest_ns: Int64 = field(default_factory=lambda: np.empty(0, np.int64))
    zero_ns: Int64 = field(default_factory=lambda: np.empty(0, np.int64))

    def read(self, table: Table, column: str) -> Int64:
        """Return arrivals in nanoseconds, dates relative to the first of all, shape (rows,).

        Raises
        ------
        InputError
            With the rows of every kind of fault in the table.
        """
        unit = ARRIVAL_COLUMNS[column]
        return self._dates(table, column) if unit is None else self._numbers(table, column, unit)

    def _numbers(self, table: Table, column: str, unit: int) -> Int64:
        found = table.numbers(column)
        _checked_numbers(table, column, unit, found, self.latest)
        self.latest = float(found.values[-1]) if found.values.size else self.latest
        return np.rint(found.values * unit).astype(np.int64)

    def _dates(self, table: Table, column: str) -> Int64:
        instants = table.instants(column)
        late = decreases(np.concatenate([self.latest_ns, instants])) - self.latest_ns.size
        _checked(table, column, [(_unsorted_message(column), late)])
        if not instants.size:
            return instants
        self.zero_ns = self.zero_ns if self.zero_ns.size else instants[:1].copy()
        self.latest_ns = instants[-1:].copy()
        if instants[-1] - self.zero_ns[0] > MAX_DURATION_NS:
            raise InputError.one(f"{table.origin}: {column}", "spans more than ten years")
        return instants - self.zero_ns


def _checked_numbers(table: Table, column: str, unit: int, found: NumberColumn, latest: float) -> None:
    values = found.values
    early = decreases_among_numbers(values)
    if values.size and values[0] < latest:
        early = np.concatenate([np.zeros(1, np.intp), early])
    _checked(
        table,
        column,
        [
            *found.faults,
            ("a negative time in {rows}: let the trace begin at 0 or later", np.flatnonzero(values < 0)),
            (
                "a time beyond ten years in {rows}: subtract the time of the first arrival",
                np.flatnonzero(values > MAX_DURATION_NS / unit),
            ),
            (_unsorted_message(column), early),
        ],
    )


def _unsorted_message(column: str) -> str:
    return f"earlier than the row before in {{rows}}: sort the file by {column}"


# ---------------------------------------------------------------------------------------------- counts


@dataclass(frozen=True)
class _Counts:
    """Mean arrivals `count` in intervals that begin at `start_ns` and last `interval_ns`."""

    start_ns: Int64
    interval_ns: int
    count: Float64
    notes: tuple[str, ...]


def _counts(table: Table, column: str) -> _Counts:
    found = table.numbers(column)
    values = found.values
    _checked(table, column, [*found.faults, ("a negative count in {rows}", np.flatnonzero(values < 0))])
    per_ns = COUNT_COLUMNS[column]
    keys = [name for name in table.columns if name in INTERVAL_COLUMNS]
    if len(keys) > 1:
        raise InputError.one(
            table.origin, f"found {' and '.join(keys)}: keep the one that tells the interval"
        )
    if not keys:
        _check_end(table, column, len(values) * per_ns)
        start_ns = np.arange(len(values)) * per_ns
        unit = "second" if per_ns == NS_PER_S else "minute"
        return _Counts(start_ns, per_ns, values, (f"read from {column}, one row a {unit}",))
    start_ns, interval_ns, which = _intervals(table, keys[0])
    summed: Float64 = np.bincount(which, weights=values).astype(np.float64) * (interval_ns / per_ns)
    notes = [f"read from {column} per {interval_ns / NS_PER_S:.12g} s of {keys[0]}"]
    if len(start_ns) < len(values):
        notes.append(f"{len(values)} rows of {len(start_ns)} intervals, those of one interval added up")
    return _Counts(start_ns, interval_ns, summed, tuple(notes))


def _intervals(table: Table, key: str) -> tuple[Int64, int, NDArray[np.intp]]:
    """Return the distinct starts, the common length, and the interval of each row."""
    unit = INTERVAL_COLUMNS[key]
    found = table.numbers(key)
    values = found.values
    _checked(
        table,
        key,
        [
            *found.faults,
            ("a negative time in {rows}", np.flatnonzero(values < 0)),
            (
                "a time beyond ten years in {rows}: subtract the time of the first interval",
                np.flatnonzero(values > MAX_DURATION_NS / unit),
            ),
        ],
    )
    start_ns, which = np.unique(np.rint(values * unit).astype(np.int64), return_inverse=True)
    if len(start_ns) < 2:
        raise InputError.one(
            f"{table.origin}: {key}",
            "expected at least two different values: they tell the length of an interval",
        )
    interval_ns = int(np.diff(start_ns).min())
    _check_end(table, key, int(start_ns[-1]) + interval_ns)
    return start_ns, interval_ns, which


def _check_end(table: Table, column: str, end_ns: int) -> None:
    if end_ns > MAX_DURATION_NS:
        raise InputError.one(f"{table.origin}: {column}", "spans more than ten years")


def _expanded(table: Table, counts: _Counts, window: tuple[int, int], expand: str, seed: int) -> Int64:
    """Expand the intervals that meet the window, then keep the arrivals in it."""
    start, end = window
    meets = (counts.start_ns + counts.interval_ns > start) & (counts.start_ns < end)
    arrival_ns = expand_counts(
        counts.start_ns[meets], counts.interval_ns, counts.count[meets], expand, seed, table.origin
    )
    return arrival_ns[slice(*np.searchsorted(arrival_ns, window))]
