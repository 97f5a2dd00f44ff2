"""The one recursion under every bound: the maximum of arrivals plus the work counted since (theorem, design §3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Products above this are split, so that no intermediate leaves int64.
_SAFE = 2**62


def latest_start_ns(
    arrival_ns: NDArray[np.int64],
    period_ns: int,
    tokens: int,
    position: NDArray[np.int64] | None = None,
) -> NDArray[np.int64]:
    """``Y(i) = ⌈ max_{j ≤ i} ( E(j) + (p(i) − p(j))·period_ns/tokens ) ⌉``, shape (k,).

    Parameters
    ----------
    arrival_ns : int64, shape (k,)
        E: bounds on arrival times, any order.
    period_ns, tokens : int
        1/R = ``period_ns / tokens`` ns per token; ``period_ns = 0`` means R = ∞.
    position : int64, shape (k,), optional
        p: increasing token numbers; 0, 1, … if absent. Gaps count tokens whose arrivals are left out.

    Notes
    -----
    Exact in integers: with E(j)·tokens − p(j)·period_ns the maximum is a running one. Where the products could
    leave int64 (spans of months times thousands of parallel tokens) the ratio is split into whole and broken
    nanoseconds and the broken part of each j is dropped: Y is then never below the exact value and at most
    1 ns above it.

    References
    ----------
    Theorem (sample path), docs/theory.md.
    """
    count = arrival_ns.size
    if count == 0:
        return np.empty(0, dtype=np.int64)
    if period_ns == 0:
        return np.maximum.accumulate(arrival_ns)
    index = np.arange(count, dtype=np.int64) if position is None else position
    base = int(arrival_ns.min())
    extent = (int(arrival_ns.max()) - base + 1) * tokens + (int(index[-1]) + 1) * period_ns
    if extent < _SAFE:
        work = index * np.int64(period_ns)
        key = (arrival_ns - np.int64(base)) * np.int64(tokens)
        key -= work
        np.maximum.accumulate(key, out=key)
        key += work
        key += np.int64(tokens - 1)
        key //= np.int64(tokens)
        key += np.int64(base)
        return key
    whole, broken = divmod(period_ns, tokens)
    part, remainder = np.divmod(index * np.int64(broken), np.int64(tokens))
    done = index * np.int64(whole) + part
    latest: NDArray[np.int64] = np.maximum.accumulate(arrival_ns - done) + done + (remainder > 0)
    return latest
