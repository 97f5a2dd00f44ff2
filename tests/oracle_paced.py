"""The laws of theory, section 11: rule P, twice, and timed dispatch as a server keeps it.

Rule P is played in the event loop of whole pipelines, and for one stage by a clock that ticks. Both ask the rule as it
is written: sort the worst-case free times that a dispatch would leave, and hold each against ``x + j·δ``. The event
loop looks again at every instant at which that could change, the clock at every nanosecond. They share no line but
`is_spread`, and none with `mipplan.replayer`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from oracle_replay import Event, EventLoop, Replica


def is_spread(free: Sequence[int], now: int, slowest: int) -> bool:
    """Whether worst-case free times are at most now + j·δ, δ = ⌈L/n⌉, in ascending order for j = 1, …, n."""
    delta = -(-slowest // len(free))
    return all(time <= now + (j + 1) * delta for j, time in enumerate(sorted(free)))


class PacedLoop(EventLoop):
    """The event loop of `oracle_replay` with some stages, by default all, dispatched by rule P.

    ``service[stage]`` is the table that the rule goes by, whatever a batch takes (`batch_time`, `service_takes`).
    """

    def __init__(self, *given: Any, paced: frozenset[str] | None = None, **settings: Any) -> None:
        super().__init__(*given, **settings)
        self.paced = frozenset(self.tokens) if paced is None else paced
        self.due: dict[int, int] = {}  # worst-case free time by the identity of a busy replica
        self.looks: set[tuple[str, int]] = (
            set()
        )  # Stages with the instants at which they will be looked at again.

    def happen(self, event: Event) -> None:
        """Nothing happens when it is only time to look again."""
        if event.token >= 0 or event.replica is not None or event.count is not None:
            super().happen(event)

    def dispatch_everywhere(self, now: int) -> None:
        """Let idle replicas take what the rule allows; see to it that a stage that has to wait is looked at again."""
        for stage, queue in self.queues.items():
            for replica in self.pool[stage]:
                if queue and replica.active and replica.busy_with is None:
                    if stage not in self.paced or self.allows(stage, len(queue), now):
                        self.dispatch(stage, replica, queue, now)
                        self.due[id(replica)] = now + self.service[stage][len(replica.busy_with or ()) - 1]
                    else:
                        self.look_again(stage, now)
                        break

    def working(self, stage: str) -> list[Replica]:
        """Replicas of a stage that are active; those that finish are busy, and none idles while there are any."""
        return [replica for replica in self.pool[stage] if replica.active and not replica.finishing]

    def allows(self, stage: str, waiting: int, now: int) -> bool:
        """Ask rule P for the batch that would be dispatched."""
        table = self.service[stage]
        batch = now + table[min(len(table), waiting) - 1]
        others = [self.due[id(r)] for r in self.working(stage) if r.busy_with is not None]
        idle = len(self.working(stage)) - len(others) - 1
        return is_spread([*others, batch, *[now] * idle], now, max(table))

    def look_again(self, stage: str, now: int) -> None:
        """Note the next instant at which a free time comes to be within j·δ, whichever j."""
        staff = self.working(stage)
        delta = -(-max(self.service[stage]) // len(staff))
        times = [self.due[id(r)] - j * delta for r in staff if r.busy_with for j in range(1, len(staff) + 1)]
        later = [time for time in times if time > now]
        # Without any it is an event that changes it. Once is enough: where replicas dispatch after every single event,
        # two stages that wait would make each other look twice as often every time.
        if later and (stage, min(later)) not in self.looks:
            self.looks.add((stage, min(later)))
            self.schedule(min(later), stage)


class TimedLoop(EventLoop):
    """The event loop with a timed dispatcher at every stage: what is done early is held back.

    Batches and messages may take any shorter time (`service_takes`, `delay_takes`), and any of the idle replicas may be
    taken (`shuffle`). With `forgets`, the planted fault, now and then something is not held back.
    """

    def __init__(
        self,
        *given: Any,
        shuffle: Callable[[list[Replica]], None],
        forgets: Callable[[], bool],
        **settings: Any,
    ) -> None:
        super().__init__(*given, **settings)
        self.shuffle, self.forgets = shuffle, forgets
        self.due: dict[int, int] = {}  # when a busy replica is released, by its identity
        self.message_due: dict[int, int] = {}  # when a message is handed on, by the identity of its event

    def dispatch_everywhere(self, now: int) -> None:
        """Ask idle replicas in any order."""
        for pool in self.pool.values():
            self.shuffle(pool)
        super().dispatch_everywhere(now)

    def dispatch(self, stage: str, replica: Replica, queue: list[int], now: int) -> None:
        """Note when the batch is due, by its table."""
        size = min(len(queue), len(self.service[stage]))
        self.due[id(replica)] = now + self.service[stage][size - 1]
        super().dispatch(stage, replica, queue, now)

    def happen(self, event: Event) -> None:
        """Hold back what comes before its time."""
        if event.replica is not None and event.time < self.due[id(event.replica)] and not self.forgets():
            self.schedule(self.due[id(event.replica)], event.stage, replica=event.replica)
        elif (due := self.message_due.pop(id(event), event.time)) > event.time and not self.forgets():
            self.schedule(due, event.stage, token=event.token)
        else:
            super().happen(event)

    def complete(self, replica: Replica, now: int) -> None:
        """Send on what a batch held; messages travel for less than their delay."""
        for place, number in enumerate(replica.busy_with or ()):
            self.seen.exit[replica.stage][number] = now
            sent = now + place * self.stagger.get(replica.stage, 0)
            for child, child_number, delay in self.listeners.get((replica.stage, number), ()):
                travels = Event(now + self.delay_takes(sent - now + delay), 0.0, child, child_number)
                self.message_due[id(travels)] = sent + delay
                heapq.heappush(self.events, travels)
        replica.busy_with = None


@dataclass
class ClockedStage:
    """One stage, looked at every nanosecond; `run` returns the batches as (start, service, tokens).

    Parameters
    ----------
    arrival
        By token, in token order.
    table
        ℓ(1), …, ℓ(b), which rule P goes by.
    allowed
        How many batches may be under way at an instant.
    takes
        Time of a batch, given its oldest token and its size.
    fifo
        Whether tokens go by arrival.
    under_way
        (end, worst-case free time) of batches from before.
    until
        Nothing is dispatched later.
    """

    arrival: Sequence[int]
    table: Sequence[int]
    allowed: Callable[[int], int]
    takes: Callable[[int, int], int]
    fifo: bool = False
    under_way: list[tuple[int, int]] = field(default_factory=list)
    until: int | None = None

    def run(self) -> list[tuple[int, int, tuple[int, ...]]]:
        """Tick until every token is dispatched, or until it is too late."""
        made: list[tuple[int, int, tuple[int, ...]]] = []
        left = sorted(range(len(self.arrival)), key=lambda token: (self.arrival[token], token))
        waiting: list[int] = []
        now = min(self.arrival, default=0)
        while (left or waiting) and (self.until is None or now <= self.until):
            while left and self.arrival[left[0]] <= now:
                waiting.append(left.pop(0))
            self.under_way = [batch for batch in self.under_way if batch[0] > now]
            while waiting and self.may(len(waiting), now):
                if not self.fifo:
                    waiting.sort()
                taken = tuple(waiting[: len(self.table)])
                del waiting[: len(taken)]
                service = self.takes(min(taken), len(taken))
                made.append((now, service, taken))
                self.under_way.append((now + service, now + self.table[len(taken) - 1]))
            now = now + 1 if waiting or not left else max(now + 1, self.arrival[left[0]])
        return made

    def may(self, waiting: int, now: int) -> bool:
        """Whether a batch may be dispatched."""
        idle = self.allowed(now) - len(self.under_way)
        if idle < 1:
            return False
        batch = now + self.table[min(len(self.table), waiting) - 1]
        free = [due for _, due in self.under_way] + [batch] + [now] * (idle - 1)
        return is_spread(free, now, max(self.table))


def slow_paced_service(table: Sequence[int], replicas: int, is_source: bool) -> tuple[int, Fraction]:
    """T and R of a paced stage as they are written, in ns and tokens per ns."""
    slowest, batch = max(table), len(table)
    delta = -(-slowest // replicas)
    period = max(table[-1], -(-slowest // 2)) if replicas == 1 else delta
    latency = table[0] if is_source and batch == 1 else slowest + delta
    return latency, Fraction(batch, period)
