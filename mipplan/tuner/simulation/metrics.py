"""Counting, at one stage and period by period, what a controller may see of a replay under way."""

from __future__ import annotations

import numpy as np

from mipplan.replayer import NEVER, Capacity, Served, StageTask
from mipplan.tuner.policies import StageObservation


class StageMetrics:
    """Totals of one stage's present period; nothing has arrived before the first begins."""

    def __init__(self, start_ns: int) -> None:
        self._since_ns = start_ns
        self._waiting = 0
        self._tokens = 0
        # Ends and sizes of the batches under way.
        self._end_ns = np.empty(0, dtype=np.int64)
        self._size = np.empty(0, dtype=np.int64)

    def read(
        self, task: StageTask, served: Served, now_ns: int, capacity: Capacity, replicas: int
    ) -> StageObservation:
        """Close the period that ends at `now_ns`, in which this was served, and begin the next.

        The task's arrivals are what waited at the begin, and what became ready before `now_ns`.
        """
        since_ns = self._since_ns
        length_ns = now_ns - since_ns
        fresh_ns = task.arrival_ns[task.arrival_ns >= since_ns]
        busy_ns = self._end_ns.size * length_ns + _left_ns(served.batch_start_ns, now_ns)
        ongoing_ns = (self._waiting + self._tokens) * length_ns + _left_ns(fresh_ns, now_ns)
        end_ns = np.concatenate([self._end_ns, served.batch_start_ns + served.batch_service_ns])
        size = np.concatenate([self._size, served.batch_size])
        done = end_ns < now_ns
        spared_ns = now_ns - end_ns[done]
        busy_ns -= int(spared_ns.sum())
        ongoing_ns -= int(spared_ns @ size[done])
        self._end_ns, self._size = end_ns[~done], size[~done]
        self._tokens = int(self._size.sum())
        self._waiting = int(np.count_nonzero(served.dispatch_ns == NEVER))
        self._since_ns = now_ns
        return StageObservation(
            replicas=replicas,
            active=_capacity_at(capacity, now_ns - 1),
            waiting=self._waiting,
            under_way=self._tokens,
            arrived=int(fresh_ns.size),
            busy_ns=busy_ns,
            active_ns=_active_ns(capacity, since_ns, now_ns),
            ongoing_ns=ongoing_ns,
        )


def _left_ns(begin_ns: np.ndarray, now_ns: int) -> int:
    """Sum of the times from each of these to now."""
    return now_ns * begin_ns.size - int(begin_ns.sum()) if begin_ns.size else 0


def _capacity_at(capacity: Capacity, instant_ns: int) -> int:
    return int(capacity.replicas[np.searchsorted(capacity.from_ns, instant_ns, side="right") - 1])


def _active_ns(capacity: Capacity, since_ns: int, now_ns: int) -> int:
    """Integral of the capacity."""
    if capacity.is_constant:
        return int(capacity.replicas[0]) * (now_ns - since_ns)
    edges = np.concatenate([np.clip(capacity.from_ns, since_ns, now_ns), [now_ns]])
    return int(np.diff(edges) @ capacity.replicas)
