"""Arrivals piece by piece, for traces larger than memory: from files, from iterators, and generated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from mipplan.core import MAX_DURATION_NS, NS_PER_S, Fault, InputError, Int64, check_seed, faults_of, shown
from mipplan.trace.checks import decreases, number_fault


def checked_chunks(pieces: Iterable[object], size: int, origin: str = "source") -> Iterator[Int64]:
    """Yield arrivals in arrays of `size`, the last one shorter, from pieces of any sizes.

    Parameters
    ----------
    pieces : iterable of int64, shape (k,)
        Nanoseconds from 0 to ten years, non-decreasing from the first piece to the last.
    size : int
    origin : str
        For messages.

    Raises
    ------
    InputError
        When the piece at fault is reached, naming the first row at fault (counted from 1 over all pieces).
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
    try:
        given = np.asarray(piece)
    except ValueError:  # rows of different lengths
        given = np.empty((0, 0))
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
        raise InputError.one(
            f"{origin}: row {rows + int(earlier[0]) + 1:,}", "earlier than the row before: sort by time"
        )
    if arrival_ns[0] < 0:
        raise InputError.one(f"{origin}: row {rows + 1:,}", "a negative time: begin at 0 or later")
    return arrival_ns


def gamma_chunks(rate_rps: float, cv: float, queries: int, seed: int, size: int = 2**18) -> Iterator[Int64]:
    """Generate arrivals with gamma gaps, piece by piece; `Trace.gamma` for traces of any length.

    Parameters
    ----------
    rate_rps : float
        Mean arrivals per second.
    cv : float
        Coefficient of variation of the gaps: 1 is Poisson, 4 very bursty; at most 1000.
    queries : int
        Arrivals in all.
    seed : int
    size : int
        Arrivals in a piece. With another size, other numbers are drawn.

    Yields
    ------
    int64, shape (k,)

    Raises
    ------
    InputError
        With every argument that cannot be used; and when times beyond ten years are reached.
    """
    faults = [
        number_fault("rate_rps", rate_rps),
        number_fault("cv", cv, most=1_000.0),
        _whole_number_fault("queries", queries),
        _whole_number_fault("size", size),
    ]
    found = [*(fault for fault in faults if fault is not None), *faults_of(lambda: check_seed(seed))]
    if found:
        raise InputError(found)
    # A generator function would check its arguments only when the first piece is asked for.
    return _gamma_pieces(float(rate_rps), float(cv), int(queries), check_seed(seed), int(size))


def _gamma_pieces(rate_rps: float, cv: float, queries: int, seed: int, size: int) -> Iterator[Int64]:
    rng = np.random.Generator(np.random.PCG64(seed))
    # Gaps of a CV below that are whole nanoseconds all the same.
    shape = max(cv, 1e-9) ** -2
    last_ns = 0
    for start in range(0, queries, size):
        gaps_ns = rng.gamma(shape, NS_PER_S / (rate_rps * shape), min(size, queries - start))
        # Sums begin anew in each piece: one float sum over all would lose nanoseconds in the end.
        since_ns = np.floor(np.cumsum(gaps_ns))
        if not since_ns[-1] <= MAX_DURATION_NS - last_ns:
            raise InputError.one(
                "rate_rps", f"{queries:,} queries at {rate_rps:g} per second take over ten years"
            )
        arrival_ns = last_ns + since_ns.astype(np.int64)
        last_ns = int(arrival_ns[-1])
        yield arrival_ns


def _whole_number_fault(name: str, value: object) -> Fault | None:
    """Return a fault unless `value` is a whole number from 1 on; ``1e6`` is one."""
    fault = number_fault(name, value)
    if fault is None and float(value) % 1 == 0:  # type: ignore[arg-type]  # a number, as just checked
        return None
    return Fault(name, f"expected a whole number from 1 on, found {shown(value)}")
