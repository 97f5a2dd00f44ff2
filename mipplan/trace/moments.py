"""Moments on a trace's time axis, as people write them (``60s``, ``9:00``, ``2024-01-31T12:00``, ``1706702400``) and
as pandas holds them.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

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
    listed,
    parse_duration_ns,
    shown,
)
from mipplan.trace.checks import NO_DATE, instants_of, positions_text, seconds_column_to_ns, time_ns

if TYPE_CHECKING:
    import pandas as pd

_CLOCK = re.compile(r"(?P<hours>\d{1,3}):(?P<minutes>[0-5]\d)(?::(?P<seconds>[0-5]\d))?", re.ASCII)
_NUMBER = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)
_DATE = re.compile(r"\d{4}-\d{2}", re.ASCII)
#: A number without a unit is seconds since 1970 from here on (March 1973), because no trace lasts as long.
_LEAST_EPOCH_S = 100_000_000
#: Columns of times that begin between ten years and this date (2116) count from 1970.
LATEST_DATE_NS = 2**62
_DAY_NS = 24 * 3600 * NS_PER_S
_FORMS = "60s, 1h, 9:00, a date such as 2024-01-31T12:00, or seconds since 1970"
_NO_DATES = "is a date, and the trace has none: its times count from 0"


def moment_ns(name: str, given: float | str, zero_ns: int | None = None) -> int:
    """Return a moment on a trace's axis in ns.

    A duration counts from the axis' zero. Dates (UTC, unless they say otherwise) and seconds since 1970 need a trace
    that has dates. A time of day is the first one in such a trace; in others the axis begins at midnight.

    Raises `InputError` naming the argument.

    Parameters
    ----------
    name : str
        The argument, for messages.
    given : float or str
        Seconds, or a text.
    zero_ns : int, optional
        What the axis' zero is, in ns since 1970; None if the trace has no dates.
    """
    if not isinstance(given, str):
        return time_ns(name, given)
    try:
        return _moment_ns(given.strip(), zero_ns)
    except ValueError as error:
        raise InputError.one(name, str(error)) from None


def since_1970_ns(time: float, unit: int) -> int:
    """Return a time of some unit, in ns, as exactly as its digits are: no number holds it as nanoseconds."""
    return int(time) * unit + round(time % 1 * unit)


def date_text(instant_ns: int) -> str:
    """Write an instant, in ns since 1970, as an ISO date (UTC): whole seconds, or as fine as it is."""
    unit: Any = "auto" if instant_ns % NS_PER_S else "s"
    return str(np.datetime_as_string(np.datetime64(instant_ns, "ns"), unit=unit))


def is_moment(text: str) -> bool:
    """Whether a text is meant as a date, a time of day, or seconds since 1970, and no duration."""
    text = text.strip()
    epoch = _NUMBER.fullmatch(text) is not None and float(text) >= _LEAST_EPOCH_S
    return epoch or _CLOCK.fullmatch(text) is not None or _DATE.match(text) is not None


def _moment_ns(text: str, zero_ns: int | None) -> int:
    if match := _CLOCK.fullmatch(text):
        hours, minutes, seconds = (int(part or 0) for part in match.groups())
        clock_ns = ((60 * hours + minutes) * 60 + seconds) * NS_PER_S
        if zero_ns is None:
            return clock_ns
        if hours >= 24:
            raise ValueError(f"{text!r} is no time of day")
        return (clock_ns - zero_ns) % _DAY_NS
    if _NUMBER.fullmatch(text) and float(text) >= _LEAST_EPOCH_S:
        whole, _, part = text.partition(".")
        return _since(int(whole) * NS_PER_S + int(part.ljust(9, "0")), text, zero_ns)
    if _DATE.match(text):
        try:
            date = datetime.fromisoformat(text)
        except ValueError:
            raise ValueError(f"expected {_FORMS}; found {shown(text)}") from None
        date = date if date.tzinfo is not None else date.replace(tzinfo=UTC)
        micros = (date - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        return _since(1_000 * micros, text, zero_ns)
    return parse_duration_ns(text)


def _since(instant_ns: int, text: str, zero_ns: int | None) -> int:
    """Return an instant since 1970 as a time on the axis, which begins at 0."""
    if zero_ns is None:
        raise ValueError(f"{text!r} {_NO_DATES}")
    return max(0, instant_ns - zero_ns)


def arrivals_of_pandas(data: pd.Series[Any] | pd.DataFrame) -> tuple[Int64, int | None]:
    """Return arrivals in ns: of dates, and of seconds since 1970, relative to the first, which comes with them.

    Dates may be periods, too, which begin then, and ISO dates as text.

    Raises `InputError` unless it is a series, or a table with one column ``arrival_s``, ``arrival_ms`` or
    ``timestamp``.
    """
    import pandas as pd

    unit = NS_PER_S
    if isinstance(data, pd.DataFrame):
        wanted = ("arrival_s", "arrival_ms", "timestamp")
        found = [column for column in data.columns if column in wanted]
        if len(found) != 1:
            named = listed(map(str, data.columns))
            message = f"expected one of the columns {', '.join(wanted)}; the table has {named or 'none'}"
            raise InputError.one("data", message)
        times: pd.Series[Any] = _plain(data[found[0]]) if found[0] == "timestamp" else data[found[0]]
        unit = NS_PER_MS if found[0] == "arrival_ms" else NS_PER_S
        if found[0] == "timestamp" and pd.api.types.is_numeric_dtype(times.dtype):
            raise InputError.one("data", "timestamp holds numbers: call a column of seconds arrival_s")
        if found[0] == "timestamp" and not pd.api.types.is_datetime64_any_dtype(times.dtype):
            times = pd.to_datetime(times, format="ISO8601", utc=True, errors="coerce")
    elif isinstance(data, pd.Series):
        times = _plain(data)
    else:
        raise InputError.one("data", f"expected a pandas Series or DataFrame, found {shown(data)}")
    if times.dtype.kind == "m":  # those of Arrow, too
        return seconds_column_to_ns(times.to_numpy()), None
    if not pd.api.types.is_datetime64_any_dtype(times.dtype):
        if pd.api.types.is_bool_dtype(times.dtype) or pd.api.types.is_complex_dtype(times.dtype):
            raise InputError.one("data", f"expected numbers, durations or dates, found {times.dtype}")
        numbers = pd.to_numeric(times, errors="coerce").to_numpy(dtype=np.float64)
        zero_ns = None
        if numbers.size and MAX_DURATION_NS < numbers[0] * unit < LATEST_DATE_NS:  # they count from 1970
            zero_ns, numbers = since_1970_ns(float(numbers[0]), unit), numbers - numbers[0]
        return seconds_column_to_ns(numbers / (NS_PER_S / unit)), zero_ns
    instants, outside = instants_of(times)
    faults = Faults()
    for what, bad in (
        ("no date", np.flatnonzero(times.isna())),
        ("a date before 1678 or after 2261", outside),
        ("a date more than ten years from the first", _far_from_the_first(instants)),
    ):
        if bad.size:
            faults.add(Fault("data", f"{what} at position {positions_text(bad)}"))
    faults.check()
    return (instants - instants[0], int(instants[0])) if len(instants) else (instants, None)


def _plain(data: pd.Series[Any]) -> pd.Series[Any]:
    """Return a series as numbers, durations or dates, if it is one of these in other clothes; else as it is."""
    import pandas as pd

    if isinstance(data.dtype, pd.CategoricalDtype):
        data = data.astype(data.cat.categories.dtype)
    if isinstance(data.dtype, pd.PeriodDtype):
        data = data.dt.to_timestamp()
    times = data.infer_objects()  # dates and durations of Python are such of pandas, too
    if isinstance(times.dtype, pd.StringDtype) or times.dtype == np.object_:
        held = times.dropna()
        # One that is no number tells a column of dates; what is neither is told with its position.
        if len(held) and pd.to_numeric(held, errors="coerce").isna().all():
            return pd.to_datetime(times, format="ISO8601", utc=True, errors="coerce")
    return times


def _far_from_the_first(instants: Int64) -> Positions:
    """Positions of dates, in ns since 1970, more than ten years from the first: whole numbers may not hold how far."""
    held = np.flatnonzero(instants != NO_DATE)
    dates = instants[held].astype(np.float64)
    return held[np.abs(dates - dates[:1]) > MAX_DURATION_NS]


def pandas_of(arrival_ns: Int64) -> pd.DataFrame:
    """Return arrivals, shape (n,), as a table of seconds."""
    import pandas as pd

    return pd.DataFrame({"arrival_s": arrival_ns / NS_PER_S})
