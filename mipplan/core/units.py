"""Units: time is int64 nanoseconds inside, money is whole micro-dollars per hour.

Float seconds flip ties, and ties flip batches, so seconds exist only at the border (arguments,
reports) and every conversion goes through this module.
"""

from __future__ import annotations

import math
import re

NS_PER_S = 1_000_000_000
NS_PER_HOUR = 3_600 * NS_PER_S
NS_PER_MS = 1_000_000
MICRODOLLARS_PER_DOLLAR = 1_000_000

_NS_PER_UNIT = {"ns": 1, "us": 1_000, "ms": NS_PER_MS, "s": NS_PER_S, "min": 60 * NS_PER_S, "h": NS_PER_HOUR}
_DURATION = re.compile(
    r"\s*(?P<number>[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*(?P<unit>ns|us|ms|s|min|h)\s*", re.ASCII
)
#: Where four digits do not do, because this is rounded to ten thousand.
_WHOLE_FROM = 9_999.5
#: Longest duration accepted anywhere: ten years. Sums of such values stay far inside int64.
MAX_DURATION_NS = 10 * 366 * 24 * 3600 * NS_PER_S

#: Stands for "no limit" where a formulation needs a number: 52 days, exact in float64 even when doubled.
UNLIMITED_NS = 2**52


def parse_duration_ns(text: object) -> int:
    """Read a duration such as ``300ms`` or ``0.5 s`` into nanoseconds.

    Raises `ValueError` unless it is a string of a non-negative decimal number and a unit: ``ns us ms s min h``.
    """
    if isinstance(text, int | float) and not isinstance(text, bool):
        if not 0 <= text < math.inf:
            raise ValueError(f"expected a duration such as 300ms, found {text!r}")
        raise ValueError(f"{text!r} has no unit: write {text!r}ms or {text!r}s")
    if not isinstance(text, str):
        raise ValueError(f"expected a duration with a unit such as 300ms, found {text!r}")
    match = _DURATION.fullmatch(text)
    if match is None:
        bare = text.strip()
        if re.fullmatch(r"[0-9.]+", bare):
            raise ValueError(f"{bare!r} has no unit: write {bare}ms or {bare}s")
        raise ValueError(f"expected a duration such as 300ms, 0.5s, 40us or 10ns, found {text[:80]!r}")
    number = match["number"]
    if len(number) > 40:
        raise ValueError(f"the number in {text[:20]!r}… is too long")
    value = float(number) * _NS_PER_UNIT[match["unit"]]
    if value > MAX_DURATION_NS:
        raise ValueError(f"{text.strip()!r} is longer than ten years")
    return round(value)


def short_number(value: float) -> str:
    """Write a number in four digits, from ten thousand on as a whole one: few people read ``8.64e+04``."""
    return f"{value:.4g}" if abs(value) < _WHOLE_FROM else f"{value:.0f}"


def usd_text(usd: float | None, decimals: int = 4, *, sign: bool = False) -> str:
    """Write dollars; what so few decimals would round to nothing in the millionths that prices are counted in."""
    if usd is None:
        return "–"
    # Differences of floats may leave less than a millionth, of either sign, where there is none.
    usd = round(usd, 6) + 0.0
    digits = decimals if usd == 0 or abs(usd) >= 10.0**-decimals else 6
    return f"{usd:{'+' if sign else ''},.{digits}f}"


def format_duration(ns: float) -> str:
    """Write nanoseconds for people: ``312 ms``, ``1.25 s``, ``40 us``, ``7 ns``."""
    if not math.isfinite(ns):
        return "unbounded"
    for unit, scale in (("s", NS_PER_S), ("ms", NS_PER_MS), ("us", 1_000)):
        if abs(ns) >= scale:
            return f"{short_number(ns / scale)} {unit}"
    return f"{ns:.4g} ns"


def format_seconds(seconds: float) -> str:
    """Write seconds as `format_duration` writes nanoseconds."""
    return format_duration(seconds * NS_PER_S)


def duration_text(ns: int) -> str:
    """Write nanoseconds exactly, in the file syntax (``300ms``, ``1500us``); inverse of `parse_duration_ns`."""
    for unit in ("s", "ms", "us"):
        if ns and ns % _NS_PER_UNIT[unit] == 0:
            return f"{ns // _NS_PER_UNIT[unit]}{unit}"
    return f"{ns}ns"


def window_text(ns: int) -> str:
    """Write the length of a window exactly, in the file syntax: ``5min`` where `duration_text` says ``300s``."""
    for unit in ("h", "min"):
        if ns and ns % _NS_PER_UNIT[unit] == 0:
            return f"{ns // _NS_PER_UNIT[unit]}{unit}"
    return duration_text(ns)


def seconds_to_ns(seconds: float) -> int:
    """Round float seconds to the nearest nanosecond.

    Raises `ValueError` if not finite or beyond ten years.
    """
    try:
        value = float(seconds)
    except OverflowError:  # an integer beyond all floats
        value = math.inf
    if not math.isfinite(value) or abs(value) * NS_PER_S > MAX_DURATION_NS:
        raise ValueError(f"{seconds!r} s is not a usable time")
    return round(value * NS_PER_S)


def dollars_to_microdollars(usd: float) -> int:
    """Round dollars to whole micro-dollars, the planner's integer currency."""
    return round(float(usd) * MICRODOLLARS_PER_DOLLAR)
