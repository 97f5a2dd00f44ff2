"""The engine of serving systems' own laws: event by event, in Python.

Where replicas collect, tokens queue before them or are turned away, no rule for whole arrays is known. What happens
first at one instant is said in `mipplan.pipeline.systems`.
"""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np

from mipplan.pipeline import FIRST_RETRY_NS, LONGEST_RETRY_NS, MOST_ROUTED, SYSTEMS, Collecting, Routing
from mipplan.replayer.stage_task import UNKNOWN, Engine, EngineFeature, Served, StageTask

#: A replica takes all that comes at one instant, as far as it may, though it collects.
_TAKING_TOGETHER = (Collecting.TOGETHER, Collecting.OPEN)


class EventEngine(Engine):
    """Laws of serving systems, and eager dispatch as a special case."""

    name = "events"
    features = frozenset({EngineFeature.RANDOM_SERVICE, EngineFeature.SYSTEM})

    def serve_many(self, tasks: Sequence[StageTask]) -> list[Served]:
        """Serve one stage under several plans."""
        return [_Stage(task).run() for task in tasks]


class _Event(IntEnum):
    ENDED = 0
    """A replica's batch."""
    HEARD = 1
    """Tokens of a replica were served, as the router knows now."""
    RETRY = 2
    """A task of the router that found no replica."""
    DUE = 3
    """A batch is to be closed at a desk."""


@dataclass(eq=False)
class _Replica:
    number: int
    desk: _Desk
    idle_since_ns: int
    held: list[int] = field(default_factory=list)  # What it collects while idle.
    due_ns: int = 0  # Until when.
    busy_with: int = 0


class _Stage:
    """One stage while it is served."""

    def __init__(self, task: StageTask) -> None:
        self.task = task
        self.system = SYSTEMS["central"] if task.system is None else task.system
        self.cap = task.batch
        self._service = task.service_ns.tolist()
        self._level = None if task.level is None else task.level.tolist()
        self._events: list[tuple[int, int, _Event, _Replica | None, int]] = []
        self._pushed = 0
        self._batches: list[tuple[int, list[int], int]] = []
        first_ns = int(task.arrival_ns.min()) if task.tokens else 0
        replicas, system = task.capacity.most, self.system
        kind = _AheadDesk if system.collecting is Collecting.AHEAD else _Desk
        central = system.routing is Routing.CENTRAL
        self.desks = [kind(self, number) for number in range(1 if central else replicas)]
        for number in range(replicas):
            desk = self.desks[0 if central else number]
            began_ns = first_ns - number * system.window_ns // replicas
            desk.add(_Replica(number, desk, began_ns))
        self._in_turn = 0
        self._router = _Router(self, replicas) if system.routing is Routing.POW2 else None

    def push(self, time_ns: int, event: _Event, subject: _Replica | None, number: int = 0) -> None:
        """Note what will happen; events of one kind and instant happen in the order in which they were noted."""
        self._pushed += 1
        heapq.heappush(self._events, (time_ns, self._pushed, event, subject, number))

    def start(self, replica: _Replica, batch: list[int], now_ns: int) -> None:
        """Let a replica serve a batch."""
        row = 0 if self._level is None else self._level[min(batch)]
        busy_ns = self._service[row][len(batch) - 1]
        replica.busy_with = len(batch)
        self._batches.append((now_ns, batch, busy_ns))
        self.push(now_ns + busy_ns, _Event.ENDED, replica)

    def run(self) -> Served:
        """Serve all tokens that arrive."""
        arrival_ns = self.task.arrival_ns
        order = np.argsort(arrival_ns, kind="stable")
        order = order[arrival_ns[order] < UNKNOWN]
        tokens, times, place = order.tolist(), arrival_ns[order].tolist(), 0
        while place < len(tokens) or self._events:
            next_ns = self._events[0][0] if self._events else UNKNOWN
            now_ns = min(next_ns, times[place]) if place < len(tokens) else next_ns
            retries, touched = self._happened(now_ns)
            first = place
            while place < len(tokens) and times[place] == now_ns:
                place += 1
            arrived = tokens[first:place]
            if self._router is not None:
                self._router.route(now_ns, retries, arrived, touched)
            for token in arrived if self._router is None else ():
                desk = self.desks[self._in_turn % len(self.desks)]
                self._in_turn += 1
                desk.enqueue(token)
                desk.came.append(token)
                touched[desk] = None
            for desk in sorted(touched, key=lambda desk: desk.number):
                desk.settle(now_ns)
            if self.system.most_waiting is not None:
                self._turn_away(arrived, touched, self.system.most_waiting)
            for desk in touched:
                desk.came.clear()
        return self._served()

    def _happened(self, now_ns: int) -> tuple[list[int], dict[_Desk, None]]:
        """Let all of an instant happen but arrivals; return which desks to see, and before that how often each task of
        the router drew that is to draw again.
        """
        retries: list[int] = []
        touched: dict[_Desk, None] = {}
        while self._events and self._events[0][0] == now_ns:
            _, _, event, subject, number = heapq.heappop(self._events)
            if subject is None:
                retries.append(number)
                continue
            if event is _Event.HEARD:
                assert self._router is not None
                self._router.known[subject.number] -= number
                continue
            touched[subject.desk] = None
            if event is _Event.ENDED:
                if self._router is not None:
                    self._router.ended(subject, now_ns)
                subject.busy_with, subject.idle_since_ns = 0, now_ns
                subject.desk.freed.append(subject)
        return retries, touched

    def _turn_away(self, arrived: list[int], touched: dict[_Desk, None], most: int) -> None:
        if self._router is not None:
            self._router.turn_away(arrived, most)
            return
        for desk in touched:
            desk.turn_away(most)

    def _served(self) -> Served:
        starts, batches, services = zip(*self._batches, strict=True) if self._batches else ((), (), ())
        return Served(
            self.task.tokens,
            np.array([token for batch in batches for token in batch], dtype=np.int64),
            np.array(starts, dtype=np.int64),
            np.array([len(batch) for batch in batches], dtype=np.int64),
            np.array(services, dtype=np.int64),
        )


class _Desk:
    """Where tokens wait, and the replicas that take them from there: they collect from a first token on."""

    def __init__(self, stage: _Stage, number: int) -> None:
        self._stage, self.number = stage, number
        self._waiting: deque[int] | list[int] = deque() if stage.task.fifo else []
        #: Idle replicas, some of them with tokens: whoever was there first gets the next one, unless a batch is open.
        self.listening: deque[_Replica] = deque()
        self.freed: list[_Replica] = []
        self.came: list[int] = []  # At this instant.

    def add(self, replica: _Replica) -> None:
        """Add a replica, idle."""
        self.listening.append(replica)

    def enqueue(self, token: int) -> None:
        """Add a token that waits."""
        if isinstance(self._waiting, deque):
            self._waiting.append(token)
        else:
            heapq.heappush(self._waiting, token)

    def _take(self) -> int:
        return self._waiting.popleft() if isinstance(self._waiting, deque) else heapq.heappop(self._waiting)

    def settle(self, now_ns: int) -> None:
        """Hand out what waits, and start what is due."""
        spreads = self._stage.system.window_ns and self._stage.system.collecting not in _TAKING_TOGETHER
        at_once = 1 if spreads else self._stage.cap
        while self._waiting and self.listening:
            self._give(self._next(), at_once, now_ns)
        # Who becomes idle while tokens wait takes all that it may.
        for replica in self.freed:
            self._give(replica, self._stage.cap, now_ns)
        self.freed.clear()
        for replica in [one for one in self.listening if one.held and one.due_ns <= now_ns]:
            self.listening.remove(replica)
            self._start(replica, now_ns)

    def _next(self) -> _Replica:
        """Take out of the listening replicas the one that gets the next token."""
        if self._stage.system.collecting is Collecting.OPEN:
            for replica in self.listening:
                if replica.held:
                    self.listening.remove(replica)
                    return replica
        return self.listening.popleft()

    def _give(self, replica: _Replica, most: int, now_ns: int) -> None:
        stage, is_new = self._stage, not replica.held
        while self._waiting and most and len(replica.held) < stage.cap:
            replica.held.append(self._take())
            most -= 1
        if replica.held and (len(replica.held) == stage.cap or not stage.system.window_ns):
            self._start(replica, now_ns)
            return
        if replica.held and is_new:
            window_ns, since_ns = stage.system.window_ns, now_ns
            if stage.system.collecting is Collecting.BY_CLOCK:
                since_ns -= (now_ns - replica.idle_since_ns) % window_ns
            replica.due_ns = since_ns + window_ns
            stage.push(replica.due_ns, _Event.DUE, replica)
        self.listening.append(replica)

    def _start(self, replica: _Replica, now_ns: int) -> None:
        batch, replica.held = replica.held, []
        self._stage.start(replica, batch, now_ns)

    def turn_away(self, most: int) -> None:
        """Give up what waits beyond a bound, of what came at this instant, the last first."""
        for token in reversed(self.came):
            if len(self._waiting) <= most:
                return
            if token in self._waiting:
                self._waiting.remove(token)
                if isinstance(self._waiting, list):
                    heapq.heapify(self._waiting)


class _AheadDesk(_Desk):
    """The queue of one replica, whose batches are closed also while it is busy."""

    def __init__(self, stage: _Stage, number: int) -> None:
        super().__init__(stage, number)
        self._closed: deque[list[int]] = deque()

    def settle(self, now_ns: int) -> None:
        """Put what waits into batches, close what is due, and start what is closed."""
        self.listening.extend(self.freed)
        self.freed.clear()
        stage, replica = self._stage, self._own
        while self._waiting:
            if not replica.held:
                replica.due_ns = now_ns + stage.system.window_ns
                stage.push(replica.due_ns, _Event.DUE, replica)
            replica.held.append(self._take())
            if len(replica.held) == stage.cap:
                self._close(replica)
        if replica.held and replica.due_ns <= now_ns:
            self._close(replica)
        if self._closed and self.listening:
            self.listening.clear()
            stage.start(replica, self._closed.popleft(), now_ns)

    def add(self, replica: _Replica) -> None:
        """Add the one replica, idle."""
        super().add(replica)
        self._own = replica

    def _close(self, replica: _Replica) -> None:
        self._closed.append(replica.held)
        replica.held = []


class _Router:
    """Power of two choices, by what it knows of each replica."""

    def __init__(self, stage: _Stage, replicas: int) -> None:
        self._stage = stage
        self._random = random.Random(stage.task.draws)
        most = stage.system.most_ongoing
        self._most_ongoing = float("inf") if most is None else most
        self.known = [0] * replicas  # Tokens at each replica, served ones not counted once that was heard of.
        self._pending: deque[int] = deque()
        self._seeking = 0  # Tasks that seek a replica, each for whichever token has waited longest then.
        self._most_seeking = min(MOST_ROUTED, 2 * replicas)

    def ended(self, replica: _Replica, now_ns: int) -> None:
        """Hear of a batch that ended, now or later."""
        stale_ns = self._stage.system.stale_ns
        if stale_ns:
            self._stage.push(now_ns + stale_ns, _Event.HEARD, replica, replica.busy_with)
        else:
            self.known[replica.number] -= replica.busy_with

    def route(self, now_ns: int, retries: list[int], arrived: list[int], touched: dict[_Desk, None]) -> None:
        """Find replicas for those that wait, in order: first let tasks draw again that did, then new ones."""
        self._pending.extend(arrived)
        for drawn in retries:
            self._seek(drawn, now_ns, touched)
        while self._seeking < self._wanted():
            self._seeking += 1
            self._seek(0, now_ns, touched)

    def _wanted(self) -> int:
        return min(len(self._pending), self._most_seeking)

    def _seek(self, drawn: int, now_ns: int, touched: dict[_Desk, None]) -> None:
        """Let a task find replicas for one token after another, until there are too many tasks."""
        while self._seeking <= self._wanted():
            number = self._draw()
            if number is None and not drawn:  # The second draw follows the first at once.
                drawn, number = 1, self._draw()
            if number is None:
                retry_ns = min(FIRST_RETRY_NS << min(drawn - 1, 10), LONGEST_RETRY_NS)
                self._stage.push(now_ns + retry_ns, _Event.RETRY, None, drawn + 1)
                return
            self.known[number] += 1
            desk = self._stage.desks[number]
            desk.enqueue(self._pending.popleft())
            touched[desk] = None
            drawn = 0
        self._seeking -= 1

    def _draw(self) -> int | None:
        """Draw two replicas; return the one with fewer tokens, the first of equals, if any may have more."""
        count = len(self.known)
        drawn = [self._random.randrange(count)]
        if count > 1:
            other = self._random.randrange(count - 1)
            drawn.append(other + (other >= drawn[0]))
        open_to = [number for number in drawn if self.known[number] < self._most_ongoing]
        return min(open_to, key=self.known.__getitem__) if open_to else None

    def turn_away(self, arrived: list[int], most: int) -> None:
        """Give up what waits beyond a bound, of what came at this instant, the last first."""
        for token in reversed(arrived):
            if len(self._pending) <= most:
                return
            if self._pending[-1] == token:
                self._pending.pop()
