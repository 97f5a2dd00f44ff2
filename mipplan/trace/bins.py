"""How many queries come in each bin of time, out of a file of counts or of arrivals."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

import numpy as np

from mipplan.core import NS_PER_HOUR, NS_PER_S, Float64, Int64, format_duration
from mipplan.documents import AnyPath
from mipplan.trace.checks import TableFile
from mipplan.trace.counts import Counts, read_counts
from mipplan.trace.moments import date_text
from mipplan.trace.reading import ARRIVAL_COLUMNS, DEFAULTS, ArrivalReader, ReadParams, main_column, tables_of

#: Nobody plans more bins than these: a year of five minutes each.
MOST_BINS = 105_120
_DAY_NS = 24 * NS_PER_HOUR


def read_bins(
    path: AnyPath, bin_ns: int, params: ReadParams = DEFAULTS, *, zone: tzinfo | None = None
) -> Counts:
    """Read how many queries come in each bin of time, from a file of counts or of arrivals.

    Bins begin at the trace's zero. With a `zone`, arrivals of one day that have dates are counted by the clock there,
    from midnight on, though the day may have begun at another hour.

    Raises
    ------
    InputError
        If the file cannot be read, leaves intervals out, or its intervals are longer than a bin, do not divide it, or
        leave the last one unfinished.
    """
    (table,) = tables_of(path, params, whole=True)
    column = main_column(table.origin, table.columns)
    if column in ARRIVAL_COLUMNS:
        return _of_arrivals(table, column, bin_ns, zone)
    counts = read_counts(table, column)
    if bin_ns % counts.interval_ns or (counts.start_ns % counts.interval_ns).any():
        given, wanted = format_duration(counts.interval_ns), format_duration(bin_ns)
        raise table.fault(column, f"counts per {given} do not add up to bins of {wanted}")
    steps = np.diff(counts.start_ns)
    if (steps != counts.interval_ns).any():
        gap = int(np.flatnonzero(steps != counts.interval_ns)[0])
        after = format_duration(int(counts.start_ns[gap]))
        advice = "write 0 where nothing came, and in an hour that clocks skipped what other days have"
        raise table.fault(column, f"leaves intervals out after {after}: {advice}")
    left_ns = int(counts.start_ns[-1] + counts.interval_ns) % bin_ns if counts.count.size else 0
    if left_ns:
        wanted, held = format_duration(bin_ns), format_duration(left_ns)
        raise table.fault(column, f"ends {held} into a bin of {wanted}: its rate would be of a part of it")
    made = _counted(table, column, bin_ns, counts.start_ns // bin_ns, counts.count, counts.notes[:1])
    if counts.start_ns[0]:
        before = int(counts.start_ns[0]) // counts.interval_ns
        raise table.fault(column, f"leaves out the first {before} intervals: write 0 where nothing came")
    return made


def _of_arrivals(table: TableFile, column: str, bin_ns: int, zone: tzinfo | None) -> Counts:
    reader = ArrivalReader()
    arrival_ns = reader.read(table, column)
    notes = (f"arrivals of {column} counted", *_unfinished(arrival_ns, bin_ns))
    number, ones, bins = arrival_ns // bin_ns, np.ones(arrival_ns.size), 0
    is_day = arrival_ns.size and not _DAY_NS % bin_ns and (number[-1] + 1) * bin_ns == _DAY_NS
    if is_day and zone is not None and reader.zero_ns is not None:
        bins = _DAY_NS // bin_ns
        number = (arrival_ns + _clock_ns(reader.zero_ns, zone)) // bin_ns % bins
        first = f"the first arrival is of {date_text(reader.zero_ns)} UTC"
        notes = (*notes, f"{first}; bins are by the clock of {zone}, from midnight")
    return _counted(table, column, bin_ns, number, ones, notes, bins)


def _clock_ns(instant_ns: int, zone: tzinfo) -> int:
    """Time of day in a zone, in ns, of an instant in ns since 1970."""
    local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=instant_ns // NS_PER_S)
    offset = local.astimezone(zone).utcoffset() or timedelta()
    return (instant_ns + round(offset / timedelta(seconds=1)) * NS_PER_S) % _DAY_NS


def _counted(
    table: TableFile,
    column: str,
    bin_ns: int,
    number: Int64,
    values: Float64,
    notes: tuple[str, ...],
    least: int = 0,
) -> Counts:
    """Add up values by the number of their bin, of which there are at least so many."""
    if not number.size:
        raise table.fault(column, "holds no rows")
    last = int(number.max())
    if last >= MOST_BINS:
        message = (
            f"reaches to {format_duration(last * bin_ns)}, more than {MOST_BINS:,} bins: subtract the first time, or "
            "take longer bins"
        )
        raise table.fault(column, message)
    total: Float64 = np.bincount(number, weights=values, minlength=least).astype(np.float64)
    return Counts(np.arange(total.size, dtype=np.int64) * bin_ns, bin_ns, total, notes)


def _unfinished(arrival_ns: Int64, bin_ns: int) -> tuple[str, ...]:
    """Say that arrivals end before the last bin does, if that is for longer than mere chance: ten mean gaps."""
    if not arrival_ns.size:
        return ()
    last_ns = int(arrival_ns[-1])
    missing_ns, gap_ns = bin_ns - last_ns % bin_ns, last_ns / arrival_ns.size
    if missing_ns <= max(10 * gap_ns, bin_ns / 100):
        return ()
    held, wanted = format_duration(bin_ns - missing_ns), format_duration(bin_ns)
    return (f"arrivals end {held} into the last bin: its rate is reckoned over all of its {wanted}",)
