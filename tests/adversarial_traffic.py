"""Traffic that exhausts its arrival curve: as early as the curve admits, or pausing until it admits another burst."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mipplan.calculus import ArrivalCurve
from mipplan.trace import Trace
from oracle_envelope import reach_ns

MOST_QUERIES = 32


def conforming_traffic(rng: np.random.Generator, curve: ArrivalCurve) -> list[Trace]:
    """Traffic inside the curve: as early as it admits, with pauses, and both mirrored in time."""
    window_ns = np.array(reach_ns(curve.buckets, MOST_QUERIES))
    greedy = earliest_arrivals(window_ns, np.zeros(window_ns.size, dtype=np.int64))
    pauses = rng.geometric(1 / (1 + window_ns[-1]), window_ns.size) * (rng.random(window_ns.size) < 0.15)
    paused = earliest_arrivals(window_ns, pauses)
    start = int(rng.integers(0, 50))
    made = [greedy, paused, [greedy, paused][int(rng.integers(2))][::-1] * -1]
    return [Trace.from_ns(times - times.min() + start) for times in made if times.size > 1]


def earliest_arrivals(window_ns: NDArray[np.int64], pauses: NDArray[np.int64]) -> NDArray[np.int64]:
    """Arrivals as early as every window of the curve admits, each after its pause."""
    times = np.zeros(window_ns.size, dtype=np.int64)
    for number in range(1, window_ns.size):
        # The window from arrival j to this one holds number − j + 1 queries.
        admitted = times[:number] + window_ns[number:0:-1]
        times[number] = max(int(admitted.max()), int(times[number - 1] + pauses[number]))
    return times
