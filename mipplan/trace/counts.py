"""Counts per interval, and how they become arrivals by a stated process and seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mipplan.core import (
    MAX_DURATION_NS,
    NS_PER_HOUR,
    NS_PER_S,
    Fault,
    Faults,
    Float64,
    InputError,
    Int64,
    Positions,
    check_seed,
    format_duration,
    shown,
    suggestion,
)
from mipplan.trace.checks import MAX_ARRIVALS, RowFault, TableFile

_NS_PER_MINUTE = 60 * NS_PER_S
#: Count columns, and the time to which their numbers refer.
COUNT_COLUMNS = {
    "requests_per_s": NS_PER_S,
    "requests_per_min": _NS_PER_MINUTE,
    "requests_per_hour": NS_PER_HOUR,
}
_UNITS = {NS_PER_S: "second", _NS_PER_MINUTE: "minute", NS_PER_HOUR: "hour"}
#: Columns that tell the start of an interval, and their unit.
INTERVAL_COLUMNS = {
    "t_s": NS_PER_S,
    "minute_index": _NS_PER_MINUTE,
    "window_start_s": NS_PER_S,
    "hour": NS_PER_HOUR,
}
#: Rounding the counts of intervals to whole queries may change their sum by this share, because more is other traffic.
_MOST_ROUNDED = 0.01
#: How counts can be expanded, and what each means.
EXPANSIONS = {
    "poisson": "a Poisson number of arrivals with the count as its mean, at random times",
    "uniform": "the count itself, at random times",
    "even": "the count itself, evenly spaced",
}


@dataclass(frozen=True)
class Counts:
    """Mean arrivals `count` in intervals that begin at `start_ns` and last `interval_ns`."""

    start_ns: Int64
    interval_ns: int
    count: Float64
    notes: tuple[str, ...]

    def expanded(self, window: tuple[int, int], expand: str, seed: int, place: str) -> Int64:
        """Expand the intervals that meet the window; arrivals of the first and the last may lie outside."""
        start, end = window
        meets = (self.start_ns + self.interval_ns > start) & (self.start_ns < end)
        return expand_counts(self.start_ns[meets], self.interval_ns, self.count[meets], expand, seed, place)


def read_counts(table: TableFile, column: str) -> Counts:
    """Read a column of counts, and the one that tells their intervals if there is one."""
    values, faults = table.numbers(column)
    told = Faults()
    negative = RowFault("a negative count", np.flatnonzero(values < 0))
    told.take(lambda: table.check_rows(column, [*faults, negative]))
    per_ns = COUNT_COLUMNS[column]
    keys = [name for name in table.columns if name in INTERVAL_COLUMNS]
    if len(keys) > 1:
        told.add(Fault(table.origin, f"found {' and '.join(keys)}: keep the one that tells the interval"))
        told.check()
    if not keys:
        told.check()
        _check_end(table, column, len(values) * per_ns)
        start_ns = np.arange(len(values)) * per_ns
        return Counts(start_ns, per_ns, values, (f"read from {column}, one row a {_UNITS[per_ns]}",))
    start_ns, interval_ns, which = told.take(lambda: _intervals(table, keys[0])).value
    told.check()
    twice = np.flatnonzero(np.bincount(which) == 2)
    if (
        twice.size * interval_ns == NS_PER_HOUR
        and 0 < which.size - start_ns.size == twice.size < start_ns.size
    ):
        at = format_duration(int(start_ns[twice[0]]))
        message = (
            f"has the hour from {at} on twice, all else once: if clocks went back, write one hour for both"
        )
        raise table.fault(keys[0], message)
    summed: Float64 = np.bincount(which, weights=values).astype(np.float64) * (interval_ns / per_ns)
    notes = [f"read from {column} per {interval_ns / NS_PER_S:.12g} s of {keys[0]}"]
    if len(start_ns) < len(values):
        notes.append(f"{len(values)} rows of {len(start_ns)} intervals, those of one interval added up")
    return Counts(start_ns, interval_ns, summed, tuple(notes))


def _intervals(table: TableFile, key: str) -> tuple[Int64, int, Positions]:
    """Return the distinct starts, the common length, and the interval of each row."""
    unit = INTERVAL_COLUMNS[key]
    values, faults = table.numbers(key)
    beyond = np.flatnonzero(values > MAX_DURATION_NS / unit)
    faults.append(RowFault("a negative time", np.flatnonzero(values < 0)))
    faults.append(RowFault("a time beyond ten years", beyond, ": subtract the time of the first interval"))
    table.check_rows(key, faults)
    start_ns, which = np.unique(np.rint(values * unit).astype(np.int64), return_inverse=True)
    if len(start_ns) < 2:
        message = "expected at least two different values: they tell the length of an interval"
        raise table.fault(key, message)
    interval_ns = int(np.diff(start_ns).min())
    _check_end(table, key, int(start_ns[-1]) + interval_ns)
    return start_ns, interval_ns, which


def _check_end(table: TableFile, column: str, end_ns: int) -> None:
    if end_ns > MAX_DURATION_NS:
        raise table.fault(column, "spans more than ten years")


def check_expansion(expand: object, place: str) -> str:
    """Return the name of an expansion, or raise `InputError` listing them."""
    if expand is None:
        choices = "; ".join(f"{name}: {meaning}" for name, meaning in EXPANSIONS.items())
        raise InputError.one(
            place,
            "holds counts per interval, and how they become arrivals must be said: add "
            f"--expand poisson --seed 1 (in Python: expand='poisson', seed=1). {choices}",
        )
    if expand not in EXPANSIONS:
        known = ", ".join(EXPANSIONS)
        hint = suggestion(expand, EXPANSIONS) or f"; known are {known}"
        raise InputError.one(place, f"there is no expansion {shown(expand)}{hint}")
    return str(expand)


def expand_counts(
    start_ns: Int64, interval_ns: int, counts: Float64, expand: str, seed: int, place: str = "counts"
) -> Int64:
    """Make sorted arrival times from the mean or observed number of arrivals in intervals of one length.

    Each arrival lies in its interval; observed numbers are rounded to whole ones.

    Raises `InputError` if there would be more than `MAX_ARRIVALS`, or rounding makes other traffic.
    """
    rng = np.random.Generator(np.random.PCG64(check_seed(seed)))
    mean = float(counts.sum())
    _check_total(mean, place)
    whole = rng.poisson(counts) if expand == "poisson" else np.rint(counts).astype(np.int64)
    total = int(whole.sum())
    _check_total(total, place)
    if expand != "poisson" and abs(total - mean) > max(1.0, _MOST_ROUNDED * mean):
        message = (
            f"intervals hold parts of queries: {expand} makes {total:,} of {mean:,.6g}; expand by poisson"
        )
        raise InputError.one(place, message)
    if expand == "even":
        rank = np.arange(total) - np.repeat(np.cumsum(whole) - whole, whole)
        offsets = np.floor((rank + 0.5) / np.repeat(whole, whole) * interval_ns).astype(np.int64)
    else:
        offsets = rng.integers(0, interval_ns, size=total)
    arrival_ns = np.repeat(start_ns, whole) + offsets
    arrival_ns.sort()
    return arrival_ns


def _check_total(total: float, place: str) -> None:
    if total > MAX_ARRIVALS:
        raise InputError.one(
            place,
            f"the counts make {total:.4g} arrivals, more than the {MAX_ARRIVALS} possible: "
            "take a shorter window (--from, --to; in Python start_s, end_s)",
        )
