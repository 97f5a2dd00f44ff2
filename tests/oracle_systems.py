"""Serving systems' own laws in one global event loop: at every instant every stage is looked at anew.

Written from the texts of `mipplan.pipeline.systems`, whose fields it reads, and nothing else of the package. Tokens,
replicas and waiting lists are plain lists that are searched; what the router knows is counted from what happened.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mipplan.pipeline import ServingSystem
from oracle_replay import Batch, Event, EventLoop, Replica, SlowReplay


@dataclass
class Desk:
    """A waiting list, and the replicas (by number) that take from it."""

    members: list[int]
    waiting: list[int] = field(default_factory=list)
    listening: list[int] = field(default_factory=list)


@dataclass(eq=False)
class Seeker:
    """A task of the router that seeks a replica for whichever token has waited longest."""

    draws: int = 0
    retry_at: int | None = None
    noted: int = 0


@dataclass
class Station:
    """What is under way at one stage."""

    desks: list[Desk]
    collected: dict[int, list[int]]
    closed: dict[int, list[list[int]]]
    due: dict[int, int] = field(default_factory=dict)
    idle_since: dict[int, int] = field(default_factory=dict)
    sent_to: dict[int, list[int]] = field(default_factory=dict)
    sought: list[int] = field(default_factory=list)
    seekers: list[Seeker] = field(default_factory=list)
    turn: int = 0
    notes: int = 0


class SystemLoop(EventLoop):
    """One execution under a system's law at every stage.

    Parameters
    ----------
    systems
        Per stage.
    seed
        Of the routers' draws.
    arguments
        As for `EventLoop`.
    """

    def __init__(
        self, *arguments: Any, systems: Mapping[str, ServingSystem], seed: int, **settings: Any
    ) -> None:
        super().__init__(*arguments, **settings)
        self.systems = systems
        self.rejected: dict[str, dict[int, int]] = {stage: {} for stage in self.tokens}
        self.random = {stage: random.Random(f"{seed}/{stage}") for stage in self.tokens}
        self.stations: dict[str, Station] = {}
        for stage, pool in self.pool.items():
            numbers = list(range(len(pool)))
            central = systems[stage].routing == "central"
            desks = [Desk(numbers)] if central else [Desk([number]) for number in numbers]
            for desk in desks:
                desk.listening = list(desk.members)
            self.stations[stage] = Station(
                desks, {number: [] for number in numbers}, {number: [] for number in numbers}
            )
            self.stations[stage].sent_to = {number: [] for number in numbers}

    def wake(self, stage: str, time: int) -> None:
        """See to it that the stage is looked at then."""
        heapq.heappush(self.events, Event(time, self.draw_order(), stage))

    def happen(self, event: Event) -> None:
        """As before; an event about nothing only makes everybody look."""
        if event.token != -1 or event.replica is not None or event.count is not None:
            super().happen(event)

    def dispatch_everywhere(self, now: int) -> None:
        """Let every stage do what its system does at this instant."""
        for stage, queue in self.queues.items():
            came = sorted(queue)
            queue.clear()
            self.look(stage, came, now)

    def look(self, stage: str, came: list[int], now: int) -> None:
        """One stage at one instant."""
        station, system = self.stations[stage], self.systems[stage]
        replicas = self.pool[stage]
        if came and not station.idle_since:
            station.idle_since = {
                number: now - number * system.window_ns // len(replicas) for number in range(len(replicas))
            }
        for number, replica in enumerate(replicas):
            listens = any(number in desk.listening for desk in station.desks)
            if replica.busy_with is None and not listens:
                station.idle_since[number] = now
        if system.routing == "pow2":
            self.route(stage, came, now)
        for token in came if system.routing != "pow2" else ():
            station.desks[station.turn % len(station.desks)].waiting.append(token)
            station.turn += 1
        for desk in station.desks:
            if system.collecting == "ahead":
                self.close_ahead(stage, desk, now)
            else:
                self.hand_out(stage, desk, now)
        if system.most_waiting is not None:
            self.turn_away(stage, came, now)

    # --- batches -----------------------------------------------------------------------------------------------------

    def in_order(self, stage: str, desk: Desk) -> None:
        """Sort who waits by the discipline; by arrival they are already."""
        if self.discipline == "oldest_first":
            desk.waiting.sort()

    def hand_out(self, stage: str, desk: Desk, now: int) -> None:
        """Replicas take when they are idle, and collect for the window."""
        station, cap = self.stations[stage], len(self.service[stage])
        freed = [
            number
            for number in desk.members
            if self.pool[stage][number].busy_with is None and number not in desk.listening
        ]
        while desk.waiting and desk.listening:
            number = self.taker(stage, desk)
            desk.listening.remove(number)
            self.give(stage, desk, number, self.at_most(stage), now)
        for number in freed:
            self.give(stage, desk, number, cap, now)
        for number in list(desk.listening):
            if station.collected[number] and station.due[number] <= now:
                desk.listening.remove(number)
                self.begin(stage, number, station.collected[number], now)
                station.collected[number] = []

    def taker(self, stage: str, desk: Desk) -> int:
        """Which of those that listen gets what comes."""
        collected = self.stations[stage].collected
        with_batch = [number for number in desk.listening if collected[number]]
        is_open = self.systems[stage].collecting == "open" and with_batch
        return (with_batch if is_open else desk.listening)[0]

    def at_most(self, stage: str) -> int:
        """How many tokens it gets before another one has its turn."""
        system = self.systems[stage]
        alone = system.window_ns and system.collecting in ("from_first", "by_clock")
        return 1 if alone else len(self.service[stage])

    def collects_for(self, stage: str) -> int:
        """How long a batch is collected from its first token on, if not by the clock."""
        return self.systems[stage].window_ns

    def give(self, stage: str, desk: Desk, number: int, most: int, now: int) -> None:
        """Let an idle replica take up to so many; it begins, or collects, or only listens."""
        station, system, cap = self.stations[stage], self.systems[stage], len(self.service[stage])
        had_none = not station.collected[number]
        self.in_order(stage, desk)
        room = min(most, cap - len(station.collected[number]))
        station.collected[number] += desk.waiting[:room]
        del desk.waiting[:room]
        batch = station.collected[number]
        if len(batch) == cap or (batch and not system.window_ns):
            self.begin(stage, number, batch, now)
            station.collected[number] = []
            return
        if batch and had_none:
            due = now + self.collects_for(stage)
            if system.collecting == "by_clock":
                ended = (now - station.idle_since[number]) // system.window_ns
                due = station.idle_since[number] + (ended + 1) * system.window_ns
            station.due[number] = due
            self.wake(stage, due)
        desk.listening.append(number)

    def close_ahead(self, stage: str, desk: Desk, now: int) -> None:
        """Batches are closed whatever the replica does."""
        station, system, cap = self.stations[stage], self.systems[stage], len(self.service[stage])
        (number,) = desk.members
        self.in_order(stage, desk)
        for token in desk.waiting:
            if not station.collected[number]:
                station.due[number] = now + system.window_ns
                self.wake(stage, station.due[number])
            station.collected[number].append(token)
            if len(station.collected[number]) == cap:
                station.closed[number].append(station.collected[number])
                station.collected[number] = []
        desk.waiting.clear()
        if station.collected[number] and station.due[number] <= now:
            station.closed[number].append(station.collected[number])
            station.collected[number] = []
        if station.closed[number] and self.pool[stage][number].busy_with is None:
            self.begin(stage, number, station.closed[number].pop(0), now)
        desk.listening = [] if self.pool[stage][number].busy_with else [number]

    def begin(self, stage: str, number: int, batch: list[int], now: int) -> None:
        """Let a replica be busy with a batch."""
        replica: Replica = self.pool[stage][number]
        assert replica.busy_with is None
        service = self.service_takes(self.batch_time(stage, min(batch), len(batch)))
        if stage in self.sends_in_order:
            service = max(service, replica.sent_by - now)
        order = batch if self.discipline == "fifo" else sorted(batch)
        replica.busy_with = tuple(order)
        self.seen.batches[stage].append(Batch(now, service, tuple(batch)))
        for token in batch:
            self.seen.dispatch[stage][token] = now
        self.schedule(now + service, stage, replica=replica)

    # --- the router --------------------------------------------------------------------------------------------------

    def known(self, stage: str, number: int, now: int) -> int:
        """Tokens under way at a replica, as the router knows."""
        left, stale = self.seen.exit[stage], self.systems[stage].stale_ns
        sent = self.stations[stage].sent_to[number]
        return sum(1 for token in sent if token not in left or left[token] + stale > now)

    def route(self, stage: str, came: list[int], now: int) -> None:
        """Let those try again whose time has come, then others that are wanted."""
        station = self.stations[stage]
        station.sought += came
        again = [one for one in station.seekers if one.retry_at == now]
        for seeker in sorted(again, key=lambda one: one.noted):
            self.seek(stage, seeker, 1, now)
        while len(station.seekers) < self.wanted(stage):
            station.seekers.append(Seeker())
            self.seek(stage, station.seekers[-1], 2, now)

    def wanted(self, stage: str) -> int:
        """How many may seek at a time."""
        return min(len(self.stations[stage].sought), 50, 2 * len(self.pool[stage]))

    def seek(self, stage: str, seeker: Seeker, draws: int, now: int) -> None:
        """Find replicas for one token after the other until too many seek; note when to try again if all are full."""
        station = self.stations[stage]
        while len(station.seekers) <= self.wanted(stage):
            number = next((found for _ in range(draws) if (found := self.draw(stage, now)) is not None), None)
            if number is None:
                seeker.draws += draws
                backoff_ms = 25
                for _ in range(seeker.draws - 2):
                    backoff_ms = min(2 * backoff_ms, 500)
                seeker.retry_at = now + backoff_ms * 1_000_000
                station.notes += 1
                seeker.noted = station.notes
                self.wake(stage, seeker.retry_at)
                return
            token = station.sought.pop(0)
            station.sent_to[number].append(token)
            station.desks[number].waiting.append(token)
            seeker.draws, draws = 0, 2
        station.seekers.remove(seeker)

    def draw(self, stage: str, now: int) -> int | None:
        """Draw two replicas; the one with fewer tokens, if any may have more."""
        system, chance, count = self.systems[stage], self.random[stage], len(self.pool[stage])
        first = chance.randrange(count)
        drawn = [first]
        if count > 1:
            drawn.append([other for other in range(count) if other != first][chance.randrange(count - 1)])
        loads = {number: self.known(stage, number, now) for number in drawn}
        most = system.most_ongoing
        open_to = [number for number in drawn if most is None or loads[number] < most]
        return min(open_to, key=lambda number: loads[number]) if open_to else None

    # --- bounds ------------------------------------------------------------------------------------------------------

    def turn_away(self, stage: str, came: list[int], now: int) -> None:
        """Give up who came last while more wait than may."""
        station, most = self.stations[stage], self.systems[stage].most_waiting
        assert most is not None
        for token in reversed(came):
            if self.systems[stage].routing == "pow2":
                if token in station.sought and len(station.sought) > most:
                    station.sought.remove(token)
                    self.rejected[stage][token] = now
                continue
            for desk in station.desks:
                if token in desk.waiting and len(desk.waiting) > most:
                    desk.waiting.remove(token)
                    self.rejected[stage][token] = now

    def conclude(self) -> SlowReplay:
        """Latency of a query that lost a token: until the first of them was turned away."""
        ends: dict[int, int] = {}
        for stage, rejected in self.rejected.items():
            for token, time in rejected.items():
                query = self.tokens[stage][token].query
                ends[query] = min(time, ends.get(query, time))
        self.lost = set(ends)
        last = list(self.ingress)
        for stage, made in self.tokens.items():
            for token, one in enumerate(made):
                if one.query in self.lost:
                    last[one.query] = ends[one.query]
                else:
                    last[one.query] = max(last[one.query], self.seen.exit[stage][token])
        self.seen.latency = [end - start for end, start in zip(last, self.ingress, strict=True)]
        return self.seen
