"""The plain engine: one loop over batches for one stage. Slow, obvious, exact; the others are held to it."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from mipplan.replayer.stage_task import NEVER, Engine, Served, StageTask


class PlainEngine(Engine):
    """Python and nothing else."""

    name = "python"

    def serve_many(self, tasks: Sequence[StageTask]) -> list[Served]:
        """Serve one stage under several plans."""
        return [serve(task) for task in tasks]


def serve(task: StageTask) -> Served:
    """Serve the tokens of one stage, batch by batch."""
    order = np.argsort(task.arrival_ns, kind="stable").tolist()
    arrivals = task.arrival_ns[order].tolist()
    service = task.service_ns.tolist()
    level = None if task.level is None else task.level.tolist()
    count, cap = len(arrivals), task.batch
    replicas = _Replicas(task)
    waiting: list[int] = []  # Where tokens go by number: a heap of those enqueued.
    dispatched: list[int] = []
    starts: list[int] = []
    sizes: list[int] = []
    services: list[int] = []
    now = task.busy_until_ns.min(initial=arrivals[0]) if count else 0
    enqueued = 0
    while len(dispatched) < count:
        left = len(dispatched)
        # With tokens waiting, the next dispatch is when a replica idles; with none, not before one arrives.
        now = replicas.idle_from(now if left < enqueued else max(now, arrivals[enqueued]))
        if now > task.until_ns:
            break
        while enqueued < count and arrivals[enqueued] <= now:
            if not task.fifo:
                heapq.heappush(waiting, order[enqueued])
            enqueued += 1
        size = min(cap, enqueued - left)
        taken = order[left : left + size] if task.fifo else [heapq.heappop(waiting) for _ in range(size)]
        busy_ns = service[0 if level is None else level[min(taken)]][size - 1]
        replicas.start(now + busy_ns)
        dispatched += taken
        starts.append(now)
        sizes.append(size)
        services.append(busy_ns)
    batch_start_ns, batch_size, batch_service_ns = (
        np.asarray(numbers, dtype=np.int64) for numbers in (starts, sizes, services)
    )
    rider = np.asarray(dispatched, dtype=np.int64)
    return Served(count, rider, batch_start_ns, batch_size, batch_service_ns)


class _Replicas:
    """The replicas of a stage: how many are busy, and how many there may be."""

    def __init__(self, task: StageTask) -> None:
        self._busy_until = sorted(task.busy_until_ns.tolist())
        self._from_ns = [*task.capacity.from_ns.tolist(), NEVER]
        self._replicas = task.capacity.replicas.tolist()
        self._step = 0

    def idle_from(self, instant: int) -> int:
        """Return the first instant at or after `instant` at which one may start a batch."""
        while True:
            while self._busy_until and self._busy_until[0] <= instant:
                heapq.heappop(self._busy_until)
            while self._from_ns[self._step + 1] <= instant:
                self._step += 1
            if len(self._busy_until) < self._replicas[self._step]:
                return instant
            changes = self._from_ns[self._step + 1]
            instant = min(self._busy_until[0], changes) if self._busy_until else changes

    def start(self, until_ns: int) -> None:
        """Let one be busy until then."""
        heapq.heappush(self._busy_until, until_ns)
