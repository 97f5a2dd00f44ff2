"""What else replays a chain of stages: SimPy, an event loop over one heap, and Ciw for single tokens.

All serve `fifo`, by the rule of the serving model: at one instant everything that arrives or completes is enqueued, in
token order, before idle replicas dispatch. Whoever measures them gives them plain lists, and gets plain lists back.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class StageSettings:
    """One stage of a chain.

    Attributes
    ----------
    service_ns : list of int
        ℓ(1), …, ℓ(b).
    replicas : int
    """

    service_ns: list[int]
    replicas: int


# --- an event loop over one heap -------------------------------------------------------------------------------------


def replay_by_heap(arrival_ns: Sequence[int], stages: Sequence[StageSettings]) -> list[int]:
    """Latency of each query (ns). The heap holds the batches under way; arrivals are sorted and need none."""
    settings = [(stage.service_ns, len(stage.service_ns)) for stage in stages]
    idle = [stage.replicas for stage in stages]
    queues: list[deque[int]] = [deque() for _ in stages]
    coming: list[list[int]] = [[] for _ in stages]
    under_way: list[tuple[float, int, int, list[int]]] = [(math.inf, 0, 0, [])]
    latency_ns = [0] * len(arrival_ns)
    last_stage = len(stages) - 1
    arrivals = [*arrival_ns, math.inf]
    token = 0
    while (now := min(arrivals[token], under_way[0][0])) < math.inf:
        touched = [0]
        while arrivals[token] == now:
            queues[0].append(token)
            token += 1
        while under_way[0][0] == now:
            _, _, stage, batch = heapq.heappop(under_way)
            idle[stage] += 1
            touched.append(stage)
            if stage == last_stage:
                for query in batch:
                    latency_ns[query] = now - arrival_ns[query]
            else:
                coming[stage + 1] += batch
                touched.append(stage + 1)
        for stage in touched:
            queue = queues[stage]
            if coming[stage]:
                queue.extend(sorted(coming[stage]))
                coming[stage].clear()
            while queue and idle[stage]:
                service_ns, cap = settings[stage]
                size = min(cap, len(queue))
                batch = [queue.popleft() for _ in range(size)]
                idle[stage] -= 1
                # Of two batches that end together, the order in the heap is of no consequence.
                heapq.heappush(under_way, (now + service_ns[size - 1], batch[0], stage, batch))
    return latency_ns


# --- SimPy -----------------------------------------------------------------------------------------------------------


class _SimPyStage:
    """A queue and its replicas. Timeouts with callbacks: a process per batch would cost SimPy half its speed."""

    def __init__(self, env: Any, settings: StageSettings, leave: Callable[[list[int]], None]) -> None:
        self._env = env
        self._service_ns = settings.service_ns
        self._idle = settings.replicas
        self._leave = leave
        self._queue: deque[int] = deque()
        self._coming: list[int] = []
        self._coming_ns = -1
        self._woken_ns = -1

    def enqueue(self, tokens: list[int]) -> None:
        if self._coming_ns != self._env.now:
            self._settle()
            self._coming_ns = self._env.now
        self._coming += tokens
        self._wake()

    def _settle(self) -> None:
        """Put what came at one instant into the queue, in token order."""
        self._coming.sort()
        self._queue.extend(self._coming)
        self._coming.clear()

    def _wake(self) -> None:
        if not self._idle or self._woken_ns == self._env.now:
            return
        if self._env.peek() > self._env.now:
            self._dispatch()
        else:
            # All other events of this instant were scheduled earlier, so a timeout of 0 comes after them.
            self._woken_ns = self._env.now
            self._env.timeout(0).callbacks.append(self._dispatch)

    def _dispatch(self, _event: Any = None) -> None:
        self._settle()
        queue = self._queue
        while queue and self._idle:
            size = min(len(self._service_ns), len(queue))
            batch = [queue.popleft() for _ in range(size)]
            self._idle -= 1
            self._env.timeout(self._service_ns[size - 1], batch).callbacks.append(self._complete)

    def _complete(self, event: Any) -> None:
        self._idle += 1
        self._leave(event.value)
        self._wake()


def replay_by_simpy(arrival_ns: Sequence[int], stages: Sequence[StageSettings]) -> list[int]:
    """Latency of each query (ns)."""
    import simpy

    env = simpy.Environment()
    latency_ns = [0] * len(arrival_ns)

    def leave_for_good(batch: list[int]) -> None:
        for query in batch:
            latency_ns[query] = env.now - arrival_ns[query]

    leave: Callable[[list[int]], None] = leave_for_good
    for settings in reversed(stages):
        first = _SimPyStage(env, settings, leave)
        leave = first.enqueue

    def arrive() -> Generator[Any, Any, None]:
        # Queries of one instant come together, so that no dispatch gets between them.
        together: list[int] = []
        for query, at_ns in enumerate(arrival_ns):
            if at_ns > env.now:
                if together:
                    first.enqueue(together)
                    together = []
                yield env.timeout(at_ns - env.now)
            together.append(query)
        first.enqueue(together)

    env.process(arrive())
    env.run()
    return latency_ns


# --- Ciw -------------------------------------------------------------------------------------------------------------


def replay_by_ciw(arrival_ns: Sequence[int], stages: Sequence[StageSettings]) -> list[float]:
    """Latency of each query (ns, up to float rounding). Ciw has no batches, so every cap must be 1."""
    if any(len(stage.service_ns) > 1 for stage in stages):
        raise ValueError("Ciw serves single tokens")
    import ciw

    gaps_s = [arrival_ns[0] / 1e9, *((after - before) / 1e9 for before, after in pairwise(arrival_ns))]
    count = len(stages)
    network = ciw.create_network(
        # Ciw repeats a sequence at its end, but nobody comes after for ever.
        arrival_distributions=[ciw.dists.Sequential([*gaps_s, math.inf]), *[None] * (count - 1)],
        service_distributions=[ciw.dists.Deterministic(stage.service_ns[0] / 1e9) for stage in stages],
        number_of_servers=[stage.replicas for stage in stages],
        routing=[[float(below == above + 1) for below in range(count)] for above in range(count)],
    )
    simulation = ciw.Simulation(network)
    one_by_one_ns = len(arrival_ns) * sum(stage.service_ns[0] for stage in stages)
    simulation.simulate_until_max_time((arrival_ns[-1] + one_by_one_ns) / 1e9 + 1.0)
    latency_ns = [math.nan] * len(arrival_ns)
    for customer in simulation.nodes[-1].all_individuals:  # numbered from 1, in order of arrival
        visits = customer.data_records
        latency_ns[customer.id_number - 1] = 1e9 * (visits[-1].exit_date - visits[0].arrival_date)
    return latency_ns
