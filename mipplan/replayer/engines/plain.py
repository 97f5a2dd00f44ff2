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
        ready = replicas.spread_from(now, size)
        if ready > now:
            # Looked at again when time alone makes it right, or when anything happens before.
            now = min(ready, replicas.next_change(), arrivals[enqueued] if enqueued < count else NEVER)
            continue
        taken = order[left : left + size] if task.fifo else [heapq.heappop(waiting) for _ in range(size)]
        busy_ns = service[0 if level is None else level[min(taken)]][size - 1]
        replicas.start(now, busy_ns, size)
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
    """The replicas of a stage: how many are busy, until when, and how many there may be."""

    def __init__(self, task: StageTask) -> None:
        due_ns = task.busy_until_ns if task.pace_ns is None else task.busy_due_ns
        #: When batches under way end, and when they should by the table that rule P goes by.
        self._busy: list[tuple[int, int]] = sorted(
            zip(task.busy_until_ns.tolist(), due_ns.tolist(), strict=True)
        )
        self._pace: list[int] | None = None if task.pace_ns is None else task.pace_ns.tolist()
        self._from_ns: list[int] = [*task.capacity.from_ns.tolist(), NEVER]
        self._slowest = 0 if task.pace_ns is None else int(task.pace_ns.max())
        self._replicas: list[int] = task.capacity.replicas.tolist()
        self._step = 0

    def idle_from(self, instant: int) -> int:
        """Return the first instant at or after `instant` at which one may start a batch."""
        while True:
            while self._busy and self._busy[0][0] <= instant:
                heapq.heappop(self._busy)
            while self._from_ns[self._step + 1] <= instant:
                self._step += 1
            if len(self._busy) < self._replicas[self._step]:
                return instant
            instant = self.next_change()

    def next_change(self) -> int:
        """Return when the next batch ends, or the number of replicas changes."""
        changes = self._from_ns[self._step + 1]
        return min(self._busy[0][0], changes) if self._busy else changes

    def spread_from(self, now: int, size: int) -> int:
        """Return when rule P allows a batch of that size, from `now` on, if nothing else happens; one is idle now.

        The i-th of m worst-case free times must be at most j·δ later than the dispatch, j being its rank among those
        of all n replicas after the dispatch: n − m + i, or one less where the new batch ranks above it, at
        J = ⌈ℓ(k)/δ⌉ or later. For at each j at least j free times must be no later than j·δ after the dispatch: those
        of the n − m − 1 replicas that stay idle are, that of the new batch is if j ≥ J, and so the others have to be
        among the m (no more of them are asked for, as ℓ(k) ≤ n·δ).
        """
        if self._pace is None:
            return now
        replicas, busy = self._replicas[self._step], len(self._busy)
        delta = -(-self._slowest // replicas)
        own = -(-self._pace[size - 1] // delta)
        for place, due in enumerate(sorted(due for _, due in self._busy), replicas - busy + 1):
            rank = place - 1 if place <= own else place
            now = max(now, due - rank * delta)
        return now

    def start(self, now: int, busy_ns: int, size: int) -> None:
        """Let one be busy with a batch of that size for so long."""
        due = now + (busy_ns if self._pace is None else self._pace[size - 1])
        heapq.heappush(self._busy, (now + busy_ns, due))
