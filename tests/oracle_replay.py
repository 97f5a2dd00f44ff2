"""Event-by-event replay of a whole pipeline in one global event loop, written from the theory page alone.

Plain Python objects and a heap. It knows neither `mipplan.replayer` nor `mipplan.tokens`. Besides the serving
model itself it can play the executions that the certificate also covers: shorter service, shorter delays, and
any order of the events of one instant. Replica schedules are played with replicas that are ordered, become active,
are cancelled, finish and retire, one by one; there is no notion of a capacity.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from oracle_tokens import SlowTokens, philox_words, uniform

Discipline = Literal["oldest_first", "fifo"]
#: Given the stated time, the time that something takes in this execution.
Duration = Callable[[int], int]
#: Given stage, oldest token and size of a batch, the time it takes.
BatchTime = Callable[[str, int, int], int]


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
    paid: dict[str, int] = field(default_factory=dict)
    happened: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class SlowSchedule:
    """Replica counts: the first from the beginning, each further one from its time on; and the activation delay."""

    changes: Sequence[int]
    counts: Sequence[int]
    delay: int


@dataclass
class Replica:
    """Serves one batch at a time, from when it is active until it leaves."""

    stage: str
    busy_with: tuple[int, ...] | None = None
    ordered: int | None = None
    active: bool = True
    finishing: bool = False
    left: int | None = None
    sent_by: int = 0

    def paid(self, start: int, end: int) -> int:
        """Time within a window from its order (None: before everything) until it left (None: never)."""
        since = start if self.ordered is None else max(start, self.ordered)
        until = end if self.left is None else min(end, self.left)
        return max(0, until - since)


@dataclass(order=True)
class Event:
    """At `stage` a replica completes or becomes active, a count is commanded, or a message reaches a token."""

    time: int
    order: float
    stage: str = field(compare=False)
    token: int = field(compare=False, default=-1)
    replica: Replica | None = field(compare=False, default=None)
    count: int | None = field(compare=False, default=None)


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
    schedules
        Replica counts over time, for the stages that have them in place of constant `replicas`.
    batch_time
        Time of a batch, in place of `service`.
    service_takes, delay_takes
        Time that a batch or a hop takes in place of the stated one.
    tie
        Order of the events of one instant. If given, replicas dispatch after every single event instead of
        after all events of the instant.
    ordered_ingress
        Whether even then the queries of one instant enter a stage in token order where it takes them one by one:
        T = ℓ(1) at a source with b = 1 rests on that.
    stagger
        ns between the outputs of a batch on their way to other stages, per stage, in the order in which it took them.
    gap_takes
        Time between two outputs in place of the stated one.
    sends_in_order
        Stages at which no batch ends before its replica has sent on all outputs of the last one: it then takes longer.
    """

    def __init__(
        self,
        tokens: SlowTokens,
        ingress: Sequence[int],
        service: Mapping[str, Sequence[int]],
        replicas: Mapping[str, int],
        discipline: Discipline = "oldest_first",
        *,
        schedules: Mapping[str, SlowSchedule] | None = None,
        batch_time: BatchTime | None = None,
        service_takes: Duration = lambda stated: stated,
        delay_takes: Duration = lambda stated: stated,
        tie: Callable[[], float] | None = None,
        ordered_ingress: bool = True,
        stagger: Mapping[str, int] | None = None,
        gap_takes: Duration = lambda stated: stated,
        sends_in_order: Collection[str] = (),
    ) -> None:
        self.stagger = stagger or {}
        self.gap_takes = gap_takes
        self.sends_in_order = sends_in_order
        self.tokens = tokens
        self.ingress = ingress
        self.service = service
        self.discipline = discipline
        self.schedules = schedules or {}
        self.batch_time = batch_time or (lambda stage, oldest, size: service[stage][size - 1])
        self.service_takes = service_takes
        self.delay_takes = delay_takes
        self.tie = tie
        self.ordered_ingress = ordered_ingress
        self.events: list[Event] = []
        self.queues: dict[str, list[int]] = {stage: [] for stage in tokens}
        first = {**replicas, **{stage: schedule.counts[0] for stage, schedule in self.schedules.items()}}
        self.pool = {stage: [Replica(stage) for _ in range(first[stage])] for stage in tokens}
        self.gone: dict[str, list[Replica]] = {stage: [] for stage in tokens}
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
        for stage, schedule in self.schedules.items():
            for time, count in zip(schedule.changes, schedule.counts[1:], strict=True):
                heapq.heappush(self.events, Event(time, self.draw_order(), stage, count=count))
        while self.events:
            now = self.events[0].time
            while self.events and self.events[0].time == now:
                self.happen(heapq.heappop(self.events))
                if self.tie is not None:
                    self.dispatch_everywhere(now)
            self.dispatch_everywhere(now)
        return self.conclude()

    def conclude(self) -> SlowReplay:
        """Sum up, when everything has happened."""
        last = list(self.ingress)
        for stage, made in self.tokens.items():
            for number, token in enumerate(made):
                last[token.query] = max(last[token.query], self.seen.exit[stage][number])
        self.seen.latency = [end - start for end, start in zip(last, self.ingress, strict=True)]
        for stage, pool in self.pool.items():
            staff = [*pool, *self.gone[stage]]
            self.seen.paid[stage] = sum(replica.paid(self.ingress[0], max(last)) for replica in staff)
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
        """Change the number of replicas, let one become active, complete a batch, or receive a message."""
        if event.count is not None:
            self.command(event.stage, event.count, event.time)
        elif event.replica is not None and event.replica.busy_with is None:
            self.activate(event.replica, event.time)
        elif event.replica is not None:
            self.complete(event.replica, event.time)
        else:
            self.missing[event.stage][event.token] -= 1
            if self.missing[event.stage][event.token] <= 0:
                self.seen.arrival[event.stage][event.token] = event.time
                self.queues[event.stage].append(event.token)

    def complete(self, replica: Replica, now: int) -> None:
        """Send on what a batch held; go, if that or another replica was to go after its batch."""
        assert replica.busy_with is not None
        sent = now
        for place, number in enumerate(replica.busy_with):
            self.seen.exit[replica.stage][number] = now
            if place:
                sent += self.gap_takes(self.stagger.get(replica.stage, 0))
            for child, child_number, delay in self.listeners.get((replica.stage, number), ()):
                self.schedule(sent + self.delay_takes(delay), child, token=child_number)
        replica.busy_with = None
        replica.sent_by = sent
        finishing = [other for other in self.pool[replica.stage] if other.finishing]
        if finishing:
            if not replica.finishing:  # whoever completes first goes
                finishing[0].finishing = False
            self.leave(replica, now, "retired after its batch")

    def command(self, stage: str, count: int, now: int) -> None:
        """Order replicas, or send some away."""
        staff = [replica for replica in self.pool[stage] if not replica.finishing]
        for _ in range(count - len(staff)):
            newcomer = Replica(stage, ordered=now, active=False)
            self.pool[stage].append(newcomer)
            self.schedule(now + self.schedules[stage].delay, stage, replica=newcomer)
        for _ in range(len(staff) - count):
            self.send_one_away(stage, now)

    def send_one_away(self, stage: str, now: int) -> None:
        """Cancel the last order, or retire an idle replica, or let one finish."""
        staff = [replica for replica in self.pool[stage] if not replica.finishing]
        ordered = [replica for replica in staff if not replica.active]
        idle = [replica for replica in staff if replica.active and replica.busy_with is None]
        if ordered:
            self.leave(ordered[-1], now, "cancelled")
        elif idle:
            self.leave(idle[0], now, "retired idle")
        else:
            staff[0].finishing = True

    def activate(self, newcomer: Replica, now: int) -> None:
        """Let a replica begin, unless it was cancelled, or one that is still finishing stays in its stead."""
        if newcomer.left is not None:
            return
        finishing = [other for other in self.pool[newcomer.stage] if other.finishing]
        if finishing:
            finishing[0].finishing = False
            self.leave(newcomer, now, "stayed in another's stead")
        else:
            newcomer.active = True
            self.seen.happened.add("activated")

    def leave(self, replica: Replica, now: int, how: str) -> None:
        """Take a replica out of service."""
        replica.left = now
        self.pool[replica.stage].remove(replica)
        self.gone[replica.stage].append(replica)
        self.seen.happened.add(how)

    def dispatch_everywhere(self, now: int) -> None:
        """Let every idle replica take what it may."""
        for stage, queue in self.queues.items():
            for replica in self.pool[stage]:
                if queue and replica.active and replica.busy_with is None:
                    self.dispatch(stage, replica, queue, now)
            if queue and not any(replica.active and not replica.finishing for replica in self.pool[stage]):
                self.seen.happened.add("nobody there for a token")

    def dispatch(self, stage: str, replica: Replica, queue: list[int], now: int) -> None:
        """Take the first min(b, queue length) tokens."""
        if self.discipline == "fifo":
            arrival = self.seen.arrival[stage]
            queue.sort(key=lambda number: (arrival[number], number))
        else:
            queue.sort()
        taken = tuple(queue[: len(self.service[stage])])
        del queue[: len(taken)]
        service = self.service_takes(self.batch_time(stage, min(taken), len(taken)))
        if stage in self.sends_in_order:
            service = max(service, replica.sent_by - now)
        replica.busy_with = taken
        self.seen.batches[stage].append(Batch(now, service, taken))
        for number in taken:
            self.seen.dispatch[stage][number] = now
        self.schedule(now + service, stage, replica=replica)


def slow_noise(
    tokens: SlowTokens, service: Mapping[str, Sequence[int]], factors: Sequence[float], seed: int
) -> BatchTime:
    """Time of a batch: ℓ(k) times the factor that is drawn by (seed, stage, oldest token), in whole ns, at least 1."""

    def batch_time(stage: str, oldest: int, size: int) -> int:
        level = slow_level(tokens, stage, oldest, len(factors), seed)
        return max(1, round(factors[level] * service[stage][size - 1]))

    return batch_time


def slow_level(tokens: SlowTokens, stage: str, token: int, levels: int, seed: int) -> int:
    """Level of a token: the counter is its query and its place among that query's tokens at the stage."""
    query = tokens[stage][token].query
    ordinal = sum(1 for earlier in tokens[stage][:token] if earlier.query == query)
    digest = hashlib.blake2b(f"{seed}\0{stage}".encode(), digest_size=8, person=b"service").digest()
    key = (int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little"))
    words = philox_words((query % 2**32, query // 2**32, ordinal, 0), key)
    return int(uniform(words[0], words[1]) * levels)
