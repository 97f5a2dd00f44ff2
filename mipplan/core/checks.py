"""Numbers and addresses: names of arrays, what counts as a number, checks that several calls make, and of numba."""

from __future__ import annotations

import importlib.metadata
import math
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from typing import Any, TypeGuard, TypeVar
from urllib.parse import SplitResult, urlsplit

import numpy as np
from numpy.typing import NDArray

from mipplan.core.errors import Fault, InputError
from mipplan.core.units import NS_PER_S, UNLIMITED_NS, dollars_to_microdollars, seconds_to_ns
from mipplan.core.wording import shown

#: Times in ns, micro-dollars per hour, numbers of tokens.
Int64 = NDArray[np.int64]
#: Positions, where memory matters.
Int32 = NDArray[np.int32]
#: Positions as NumPy's own functions return them.
Positions = NDArray[np.intp]
#: Rates, duals, values of a solver.
Float64 = NDArray[np.float64]
#: Masks.
Bool = NDArray[np.bool_]
#: Words of counter-based random draws.
UInt64 = NDArray[np.uint64]

_Array = TypeVar("_Array", bound=NDArray[np.generic])
#: Numbers looked at together: few enough to stay in the processor's cache.
PIECE = 1 << 14
#: The largest piece that glibc takes as a measure is 32 MiB.
_LARGEST_MEASURE = 31 << 20


def keep_memory() -> None:
    """Let freed memory stay with the process, some 60 MiB of it: new pages cost as much as what is computed into them.

    By default glibc returns memory beyond twice the largest piece that was ever freed, so freeing one is enough.
    """
    with suppress(MemoryError):  # where there is little of it, what is computed may need less
        np.empty(_LARGEST_MEASURE, dtype=np.uint8)


def frozen(values: _Array) -> _Array:
    """Return the array itself, made read-only: what a frozen dataclass may hold."""
    values.flags.writeable = False
    return values


def counts_up(values: Int64) -> bool:
    """Whether an array is 0, 1, 2, …; looked at piece by piece, in no memory worth mentioning."""
    numbers = np.arange(min(values.size, PIECE), dtype=np.int64)
    for start in range(0, values.size, PIECE):
        piece = values[start : start + PIECE]
        if piece[0] != start or not np.array_equal(piece - start, numbers[: piece.size]):
            return False
    return True


def array_of(values: object) -> NDArray[Any]:
    """Return what is given as an array; where its rows differ in length, an empty one of two dimensions."""
    try:
        return np.asarray(values)
    except ValueError:
        return np.empty((0, 0))


def is_whole(value: object) -> TypeGuard[int]:
    """Whether it is a whole number."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether it is a number; perhaps infinite, or none at all (NaN)."""
    return is_whole(value) or isinstance(value, float | np.floating)


def is_finite(value: object) -> TypeGuard[float]:
    """Whether it is a finite number that a float can hold."""
    try:
        return is_number(value) and math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


#: The largest price or budget in dollars per hour; anything above is a slip.
_MOST_USD_PER_HOUR = 1e9
#: Seeds are below this, for the generators of draws.
_SEED_LIMIT = 2**128


def split_url(text: object) -> SplitResult | None:
    """Take ``http://HOST[:PORT]…`` apart; None if it is something else, or there can be no such host or port."""
    try:
        parts = urlsplit(text if isinstance(text, str) else "")
        host, is_known = parts.hostname or "", parts.scheme in ("http", "https") and parts.port != 0
        host.encode("idna")  # as whoever looks it up would
    except ValueError:  # no such host or port, or brackets that do not close
        return None
    return parts if is_known and host and host.isprintable() and " " not in host else None


def check_kinds(**given: tuple[object, type]) -> None:
    """Refuse arguments that are none of their kind, such as the name of a file in place of what it holds.

    Raises `InputError` listing all.
    """
    InputError.raise_if(
        Fault(
            place, f"expected a {kind.__name__}, found {shown(value)}; {kind.__name__}.{how}(…) reads a file"
        )
        for place, (value, kind) in given.items()
        for how in ["load" if hasattr(kind, "load") else "read"]  # plans are loaded, what is written is read
        if not isinstance(value, kind)
    )


def check_one_of(
    name: str, value: object, known: Iterable[str], write: Callable[[object], str] = shown
) -> None:
    """Refuse what is none of the known words; `write` says how to write it in the message.

    Raises `InputError`.
    """
    words = list(known)
    if not isinstance(value, str) or value not in words:
        raise InputError.one(name, f"expected one of {', '.join(words)}, found {write(value)}")


def check_seed(seed: object, name: str = "seed") -> int:
    """Return a seed as a plain integer.

    Raises `InputError` if it is no non-negative whole number below 2**128.
    """
    if not is_whole(seed) or not 0 <= seed < _SEED_LIMIT:
        raise InputError.one(name, f"expected a non-negative whole number below 2**128, found {shown(seed)}")
    return int(seed)


def seeds_after(seed: int, count: int) -> list[int]:
    """Return so many seeds after one; after the last that there is comes 0."""
    return [(seed + step) % _SEED_LIMIT for step in range(1, count + 1)]


def check_time_limit(time_limit_s: object) -> float:
    """Return a limit on the time in seconds, infinite for None.

    Raises `InputError` if it is no positive number.
    """
    if time_limit_s is None:
        return math.inf
    if not is_number(time_limit_s) or not time_limit_s > 0:
        message = f"expected seconds above 0 (in Python also None), found {shown(time_limit_s)}"
        raise InputError.one("time_limit_s", message)
    return float(time_limit_s) if is_finite(time_limit_s) else math.inf


#: More workers than this are a slip, and starting them fills any memory.
_MOST_JOBS = 10_000


def check_jobs(n_jobs: object) -> None:
    """Refuse a number of workers that joblib could make nothing of; of those below 0 it takes all processors but some.

    Raises `InputError`.
    """
    if not is_whole(n_jobs) or n_jobs == 0 or abs(n_jobs) > _MOST_JOBS:
        message = f"expected workers, at most {_MOST_JOBS:,}, or -1 for one per core, found {shown(n_jobs)}"
        raise InputError.one("n_jobs", message)


def check_budget(usd_per_hour: object, name: str = "budget_usd_per_hour") -> int | None:
    """Return a budget in micro-dollars per hour; None stays None.

    Raises `InputError` if it is no number of dollars above 0, or more than a billion.
    """
    if usd_per_hour is None:
        return None
    if not is_number(usd_per_hour) or not 0 < usd_per_hour <= _MOST_USD_PER_HOUR:
        message = f"expected dollars above 0, at most a billion, found {shown(usd_per_hour)}"
        raise InputError.one(name, message)
    return dollars_to_microdollars(usd_per_hour)


def to_ns(seconds: object) -> int | None:
    """Round a time to nanoseconds; None for what is no number, or no time of at most ten years."""
    try:
        return seconds_to_ns(seconds) if is_number(seconds) else None
    except ValueError:
        return None


def check_headroom(factor: object) -> None:
    """Refuse what is no multiple of the traffic to plan for.

    Raises `InputError`.
    """
    if not is_number(factor) or not 1.0 <= factor <= 1000.0:
        message = f"expected a multiple of the traffic from 1 to 1000, found {factor!r}"
        raise InputError.one("headroom", message)


def check_allowance(allowance_s: object) -> int:
    """Return what a dispatcher may take for a batch beyond its table in ns; raises `InputError` beyond 0 to 1 s."""
    allowance_ns = to_ns(allowance_s)
    if allowance_ns is None or not 0 <= allowance_ns <= NS_PER_S:
        message = f"expected seconds from 0 to 1, such as 0.001, found {shown(allowance_s)}"
        raise InputError.one("allowance_s", message)
    return allowance_ns


def check_margin(margin_s: object, slo_ns: int) -> int:
    """Return what is kept back from an objective in ns.

    Raises `InputError` if it is no number of seconds from 0 up to the objective.
    """
    if not is_number(margin_s):
        raise InputError.one("margin_s", f"expected seconds such as 0.01, found {shown(margin_s)}")
    margin_ns = to_ns(margin_s)
    if margin_ns is None or not 0 <= margin_ns < slo_ns:
        limit = "" if slo_ns >= UNLIMITED_NS else f" and less than the objective of {slo_ns / NS_PER_S:g} s"
        message = f"expected at least 0{limit}, found {shown(margin_s)}"
        raise InputError.one("margin_s", message)
    return margin_ns


def check_slo(slo_s: float) -> int:
    """Return an objective in ns.

    Raises `InputError` if it is no positive time of at most ten years.
    """
    slo_ns = positive_ns(slo_s)
    if slo_ns is None:
        message = f"expected a positive time in seconds such as 0.3, at most ten years, found {shown(slo_s)}"
        raise InputError.one("slo_s", message)
    return slo_ns


def positive_ns(seconds: object) -> int | None:
    """Round a time to nanoseconds; None for what is no number, or no positive time of at most ten years."""
    rounded = to_ns(seconds)
    return None if rounded is None or rounded <= 0 else rounded


@cache
def numba_fault() -> str | None:
    """Say why numba cannot be used here, None if it can. It is loaded to see, which takes most of a second."""
    try:
        import numba  # noqa: F401
    except ModuleNotFoundError as error:
        absent = "the package numba is not installed: pip install 'mipplan[fast]'"
        return absent if error.name == "numba" else f"numba cannot be loaded: {error}"
    except ImportError as error:  # beside a NumPy that is newer than it knows, for one
        return f"numba cannot be loaded: {error}"
    return None


@cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function by numba at its first call, without the interpreter lock; keep the machine code on disk.

    Where neither the folder of the source nor the user's own cache can be written to, every process compiles anew.
    """
    from numba import njit

    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no place for a cache
        return njit(nogil=True)(function)


def version_of(package: str) -> str:
    """Return the version of an installed package, `unknown` if there is none: of ours in a checkout, say."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
