"""Arrivals of the recent past, and the most of them in windows of given lengths."""

from __future__ import annotations

import numpy as np

from mipplan.core import NS_PER_S, Int64
from mipplan.result import Plan

#: The longest window that an envelope looks at.
LONGEST_NS = 60 * NS_PER_S


def service_time_ns(plan: Plan) -> int:
    """Time that a query takes through full batches and delays on the longest path, when nothing waits."""
    pipeline = plan.pipeline
    done: dict[str, int] = {}
    for stage in pipeline.topological_order:
        begins = [done[edge.parent] + edge.delay_ns for edge in pipeline.incoming(stage)]
        done[stage] = max(begins, default=0) + int(plan.service_ns(stage)[-1])
    return max(done.values())


def window_lengths_ns(plan: Plan) -> Int64:
    """Lengths of an envelope's windows: the pipeline's service time, doubling to 60 s, shape (w,)."""
    lengths, length = [], service_time_ns(plan)
    while length < LONGEST_NS:
        lengths.append(length)
        length *= 2
    return np.array([*lengths, LONGEST_NS], dtype=np.int64)


def most_in_windows(arrival_ns: Int64, window_ns: Int64) -> Int64:
    """Most arrivals in any closed window of each length, shape (w,)."""
    return _most_ending(arrival_ns, arrival_ns, window_ns)


def _most_ending(arrival_ns: Int64, end_ns: Int64, window_ns: Int64) -> Int64:
    """Most arrivals in the closed windows that end at these arrivals; 0 if there are none."""
    if not end_ns.size:
        return np.zeros(window_ns.size, dtype=np.int64)
    last = np.searchsorted(arrival_ns, end_ns, side="right")
    most = [int(np.max(last - np.searchsorted(arrival_ns, end_ns - int(length)))) for length in window_ns]
    return np.array(most, dtype=np.int64)


class RecentArrivals:
    """The arrivals of the last while.

    Parameters
    ----------
    kept_ns : int
        How long they are kept.
    """

    def __init__(self, kept_ns: int) -> None:
        self._kept_ns = kept_ns
        self.arrival_ns: Int64 = np.empty(0, dtype=np.int64)

    def add(self, arrival_ns: Int64, now_ns: int) -> None:
        """Take in what came since the last time."""
        together = np.concatenate([self.arrival_ns, arrival_ns])
        # Windows that end at the oldest of the new ones must be covered.
        oldest_ns = (int(arrival_ns[0]) if arrival_ns.size else now_ns) - self._kept_ns
        self.arrival_ns = together[np.searchsorted(together, oldest_ns) :]

    def most_ending(self, end_ns: Int64, window_ns: Int64) -> Int64:
        """Most arrivals in the closed windows of each length that end at these arrivals, shape (w,)."""
        return _most_ending(self.arrival_ns, end_ns, window_ns)
