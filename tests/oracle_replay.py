"""Event-by-event replay of a whole pipeline in one global event loop, written from design §2 alone.

Plain Python objects and a heap. It knows neither `mipplan.replayer` nor `mipplan.tokens`. Besides the serving
model itself it can play the executions that the certificate also covers: shorter service, shorter delays, and
any order of the events of one instant.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from oracle_tokens import SlowTokens

Discipline = Literal["oldest_first", "fifo"]
#: Given the stated time, the time that something takes in this execution.
Duration = Callable[[int], int]


@dataclass(frozen=True)
class Batch:
    """Tokens served together."""

    start: int
    service: int
    tokens: tuple[int, ...]


@dataclass
class SlowReplay:
    """What happened, in ns; per stage in token order, batches in order of dispatch."""

    arrival: dict[str, dict[int, int]] = field(default_factory=dict)
    dispatch: dict[str, dict[int, int]] = field(default_factory=dict)
    exit: dict[str, dict[int, int]] = field(default_factory=dict)
    batches: dict[str, list[Batch]] = field(default_factory=dict)
    latency: list[int] = field(default_factory=list)


@dataclass
class Replica:
    """Serves one batch at a time."""

    stage: str
    busy_with: tuple[int, ...] | None = None


@dataclass(order=True)
class Event:
    """A replica completes (`replica`), or a message reaches token `token` of `stage`."""

    time: int
    order: float
    stage: str = field(compare=False)
    token: int = field(compare=False, default=-1)
    replica: Replica | None = field(compare=False, default=None)


class EventLoop:
    """One execution.

    Parameters
    ----------
    tokens
        From `oracle_tokens.slow_tokens`.
    ingress
        ns, per query.
    service
        ℓ(1), …, ℓ(b) in ns, per stage.
    replicas
        Per stage.
    discipline
    service_takes, delay_takes
        Time that a batch or a hop takes in place of the stated one.
    tie
        Order of the events of one instant. If given, replicas dispatch after every single event instead of
        after all events of the instant.
    ordered_ingress
        Whether even then the queries of one instant enter a stage in token order where it takes them one by one:
        T = ℓ(1) at a source with b = 1 rests on that.
    """

    def __init__(
        self,
        tokens: SlowTokens,
        ingress: Sequence[int],
        service: Mapping[str, Sequence[int]],
        replicas: Mapping[str, int],
        discipline: Discipline = "oldest_first",
        *,
        service_takes: Duration = lambda stated: stated,
        delay_takes: Duration = lambda stated: stated,
        tie: Callable[[], float] | None = None,
        ordered_ingress: bool = True,
    ) -> None:
        self.tokens = tokens
        self.ingress = ingress
        self.service = service
        self.discipline = discipline
        self.service_takes = service_takes
        self.delay_takes = delay_takes
        self.tie = tie
        self.ordered_ingress = ordered_ingress
        self.events: list[Event] = []
        self.queues: dict[str, list[int]] = {stage: [] for stage in tokens}
        self.pool = {stage: [Replica(stage) for _ in range(replicas[stage])] for stage in tokens}
        self.missing = {stage: [len(token.senders) for token in made] for stage, made in tokens.items()}
        self.listeners: dict[tuple[str, int], list[tuple[str, int, int]]] = {}
        for stage, made in tokens.items():
            for number, token in enumerate(made):
                for parent, sender, delay in token.senders:
                    self.listeners.setdefault((parent, sender), []).append((stage, number, delay))
        self.seen = SlowReplay(
            {stage: {} for stage in tokens},
            {stage: {} for stage in tokens},
            {stage: {} for stage in tokens},
            {stage: [] for stage in tokens},
        )

    def run(self) -> SlowReplay:
        """Play all events."""
        for stage, made in self.tokens.items():
            if not any(token.senders for token in made):
                self.enter(stage, [self.ingress[token.query] for token in made])
        while self.events:
            now = self.events[0].time
            while self.events and self.events[0].time == now:
                self.happen(heapq.heappop(self.events))
                if self.tie is not None:
                    self.dispatch_everywhere(now)
            self.dispatch_everywhere(now)
        last = list(self.ingress)
        for stage, made in self.tokens.items():
            for number, token in enumerate(made):
                last[token.query] = max(last[token.query], self.seen.exit[stage][number])
        self.seen.latency = [end - start for end, start in zip(last, self.ingress, strict=True)]
        return self.seen

    def enter(self, stage: str, times: Sequence[int]) -> None:
        """Schedule the arrivals at a source."""
        numbers = range(len(times))
        for time, together in itertools.groupby(numbers, key=lambda number: times[number]):
            instant = list(together)
            order = [self.draw_order() for _ in instant]
            if self.ordered_ingress and len(self.service[stage]) == 1:
                order.sort()
            for number, place in zip(instant, order, strict=True):
                heapq.heappush(self.events, Event(time, place, stage, number))

    def draw_order(self) -> float:
        """Place of an event among those of its instant."""
        return 0.0 if self.tie is None else self.tie()

    def schedule(self, time: int, stage: str, token: int = -1, replica: Replica | None = None) -> None:
        """Put an event on the heap."""
        heapq.heappush(self.events, Event(time, self.draw_order(), stage, token, replica))

    def happen(self, event: Event) -> None:
        """Complete a batch, or receive a message."""
        if event.replica is not None:
            assert event.replica.busy_with is not None
            for number in event.replica.busy_with:
                self.seen.exit[event.stage][number] = event.time
                for child, child_number, delay in self.listeners.get((event.stage, number), ()):
                    self.schedule(event.time + self.delay_takes(delay), child, token=child_number)
            event.replica.busy_with = None
            return
        self.missing[event.stage][event.token] -= 1
        if self.missing[event.stage][event.token] <= 0:
            self.seen.arrival[event.stage][event.token] = event.time
            self.queues[event.stage].append(event.token)

    def dispatch_everywhere(self, now: int) -> None:
        """Let every idle replica take what it may."""
        for stage, queue in self.queues.items():
            for replica in self.pool[stage]:
                if queue and replica.busy_with is None:
                    self.dispatch(stage, replica, queue, now)

    def dispatch(self, stage: str, replica: Replica, queue: list[int], now: int) -> None:
        """Take the first min(b, queue length) tokens."""
        if self.discipline == "fifo":
            arrival = self.seen.arrival[stage]
            queue.sort(key=lambda number: (arrival[number], number))
        else:
            queue.sort()
        taken = tuple(queue[: len(self.service[stage])])
        del queue[: len(taken)]
        service = self.service_takes(self.service[stage][len(taken) - 1])
        replica.busy_with = taken
        self.seen.batches[stage].append(Batch(now, service, taken))
        for number in taken:
            self.seen.dispatch[stage][number] = now
        self.schedule(now + service, stage, replica=replica)
