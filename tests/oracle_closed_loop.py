"""A closed loop in one global event loop: what a controller sees is read off replicas and batches themselves."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence

import numpy as np

from mipplan.tuner.policies import Controller, Observation, StageObservation
from oracle_replay import Event, EventLoop, SlowReplay, SlowSchedule
from oracle_tokens import SlowTokens


class SlowClosedLoop(EventLoop):
    """`EventLoop` whose counts a controller commands; everything before an instant of control has happened then."""

    def __init__(
        self,
        tokens: SlowTokens,
        ingress: Sequence[int],
        service: Mapping[str, Sequence[int]],
        replicas: Mapping[str, int],
        delay: int,
    ) -> None:
        constant = {stage: SlowSchedule((), (count,), delay) for stage, count in replicas.items()}
        super().__init__(tokens, ingress, service, replicas, schedules=constant)
        self.told = dict(replicas)
        #: After each instant at which anything happened: how many replicas are active and stay.
        self.active: dict[str, list[tuple[int, int]]] = {
            stage: [(-(2**62), count)] for stage, count in replicas.items()
        }
        self.observations: list[Observation] = []

    def control(self, controller: Controller, instants: Sequence[int], start: int) -> SlowReplay:
        """Play all events, asking the controller at each instant."""
        for stage, made in self.tokens.items():
            if not any(token.senders for token in made):
                self.enter(stage, [self.ingress[token.query] for token in made])
        since = start
        for now in instants:
            self.play_before(now)
            seen = self.observe(since, now)
            self.observations.append(seen)
            for stage, count in controller.decide(seen).items():
                if count != self.told[stage]:
                    self.told[stage] = count
                    heapq.heappush(self.events, Event(now, 0.0, stage, count=count))
            since = now
        self.play_before(2**62)
        return self.conclude()

    def play_before(self, end: int) -> None:
        """Let happen what happens before an instant."""
        while self.events and self.events[0].time < end:
            now = self.events[0].time
            while self.events and self.events[0].time == now:
                self.happen(heapq.heappop(self.events))
            self.dispatch_everywhere(now)
            for stage, pool in self.pool.items():
                staying = sum(replica.active and not replica.finishing for replica in pool)
                self.active[stage].append((now, staying))

    def observe(self, since: int, now: int) -> Observation:
        """Look at everything before now."""
        arrivals = [time for time in self.ingress if since <= time < now]
        return Observation(
            now,
            now - since,
            np.array(arrivals, dtype=np.int64),
            {stage: self.observe_stage(stage, since, now) for stage in self.tokens},
        )

    def observe_stage(self, stage: str, since: int, now: int) -> StageObservation:
        arrival, dispatch = self.seen.arrival[stage], self.seen.dispatch[stage]
        batches = self.seen.batches[stage]
        ongoing = 0
        leaves = {token: batch.start + batch.service for batch in batches for token in batch.tokens}
        for token, at in arrival.items():
            ongoing += max(0, min(now, leaves.get(token, now)) - max(since, at))
        return StageObservation(
            replicas=self.told[stage],
            active=self.active[stage][-1][1],
            waiting=len(arrival) - len(dispatch),
            under_way=sum(end >= now for end in leaves.values()),
            arrived=sum(at >= since for at in arrival.values()),
            busy_ns=sum(
                max(0, min(now, batch.start + batch.service) - max(since, batch.start)) for batch in batches
            ),
            active_ns=self.integrate(self.active[stage], since, now),
            ongoing_ns=ongoing,
        )

    @staticmethod
    def integrate(steps: list[tuple[int, int]], since: int, now: int) -> int:
        ends = [time for time, _ in steps[1:]] + [now]
        return sum(
            count * max(0, min(now, end) - max(since, begin))
            for (begin, count), end in zip(steps, ends, strict=True)
        )
