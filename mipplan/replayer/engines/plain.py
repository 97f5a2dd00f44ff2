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
    # A heap, by token number or by place in the order of arrival.
    waiting: list[int] = []
    dispatched: list[int] = []
    starts: list[int] = []
    sizes: list[int] = []
    services: list[int] = []
    now = task.busy_until_ns.min(initial=arrivals[0]) if count else 0
    enqueued = 0
    while enqueued < count or waiting:
        # With tokens waiting, the next dispatch is when a replica idles; with none, not before one arrives.
        now = replicas.idle_from(now if waiting else max(now, arrivals[enqueued]))
        if now > task.until_ns:
            break
        while enqueued < count and arrivals[enqueued] <= now:
            heapq.heappush(waiting, enqueued if task.fifo else order[enqueued])
            enqueued += 1
        taken = [heapq.heappop(waiting) for _ in range(min(cap, len(waiting)))]
        if task.fifo:
            taken = [order[place] for place in taken]
        busy_ns = service[0 if level is None else level[min(taken)]][len(taken) - 1]
        replicas.start(now + busy_ns)
        dispatched += taken
        starts.append(now)
        sizes.append(len(taken))
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
