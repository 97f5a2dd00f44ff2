"""The plain engine: one loop over batches for one stage. Slow, obvious, exact; the others are held to it."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]


@dataclass(frozen=True)
class Served:
    """What happened at one stage.

    Attributes
    ----------
    dispatch_ns, exit_ns : int64, shape (tokens,)
        In token order.
    batch_start_ns, batch_size, batch_service_ns : int64, shape (batches,)
        In order of dispatch.
    """

    dispatch_ns: Times
    exit_ns: Times
    batch_start_ns: Times
    batch_size: Times
    batch_service_ns: Times


def serve(arrival_ns: Times, service_ns: Times, replicas: int, fifo: bool) -> Served:
    """Serve the tokens of one stage.

    Whenever a replica is idle and a token waits, the replica takes the first ``k = min(b, waiting)`` tokens and
    is busy for ℓ(k). At one instant everything that arrives or completes is enqueued before anything is
    dispatched.

    Parameters
    ----------
    arrival_ns : int64, shape (tokens,)
        In token order.
    service_ns : int64, shape (b,)
        ℓ(1), …, ℓ(b).
    replicas : int
    fifo : bool
        Queue by arrival at the stage, ties by token order; else by token order alone.
    """
    count = int(arrival_ns.size)
    order = np.argsort(arrival_ns, kind="stable").tolist()
    arrivals = arrival_ns[order].tolist()
    latency = [0, *service_ns.tolist()]
    batch = len(latency) - 1
    # Busy replicas' next idle times; never-used replicas are idle since before the first arrival.
    idle_at = [arrivals[0] if arrivals else 0] * min(replicas, max(count, 1))
    queue = _FifoQueue() if fifo else _TokenOrderQueue()
    dispatched: list[int] = []
    starts: list[int] = []
    sizes: list[int] = []
    now = enqueued = 0
    while enqueued < count or queue:
        # With tokens waiting, the next dispatch is when a replica idles; with none, not before one arrives.
        now = max(now, idle_at[0]) if queue else max(idle_at[0], arrivals[enqueued])
        while enqueued < count and arrivals[enqueued] <= now:
            queue.push(order[enqueued])
            enqueued += 1
        taken = queue.pop_first(batch)
        dispatched += taken
        starts.append(now)
        sizes.append(len(taken))
        heapq.heapreplace(idle_at, now + latency[len(taken)])
    batch_start_ns = np.asarray(starts, dtype=np.int64)
    batch_size = np.asarray(sizes, dtype=np.int64)
    batch_service_ns = service_ns[batch_size - 1] if count else np.empty(0, dtype=np.int64)
    tokens = np.asarray(dispatched, dtype=np.int64)
    dispatch_ns, exit_ns = np.empty(count, dtype=np.int64), np.empty(count, dtype=np.int64)
    dispatch_ns[tokens] = np.repeat(batch_start_ns, batch_size)
    exit_ns[tokens] = np.repeat(batch_start_ns + batch_service_ns, batch_size)
    return Served(dispatch_ns, exit_ns, batch_start_ns, batch_size, batch_service_ns)


class _FifoQueue:
    """Waiting tokens in the order they were enqueued."""

    def __init__(self) -> None:
        self._waiting: deque[int] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def push(self, token: int) -> None:
        self._waiting.append(token)

    def pop_first(self, most: int) -> list[int]:
        return [self._waiting.popleft() for _ in range(min(most, len(self._waiting)))]


class _TokenOrderQueue:
    """Waiting tokens by token number."""

    def __init__(self) -> None:
        self._waiting: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def push(self, token: int) -> None:
        heapq.heappush(self._waiting, token)

    def pop_first(self, most: int) -> list[int]:
        return [heapq.heappop(self._waiting) for _ in range(min(most, len(self._waiting)))]
