"""The replayer against SimPy, an independent event loop, where its order within an instant does not matter.

Arrival, service and change times are drawn at random from billions of nanoseconds, so that the only events of one
instant are those of one batch.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pytest
import simpy

import mipplan as mp
from campaigns import campaign_size
from mipplan.pipeline import Pipeline
from mipplan.profiles import Hardware, LatencyTable, Profiles

Process = Generator[simpy.Event, Any, None]
#: Given stage, oldest token and batch size, the time of a batch in ns.
BatchTime = Callable[[int, int, int], int]
BATCHES = 1
BLOCKED = 0  # goes before batches


class Stage:
    """A queue, a dispatcher and replicas, of which a schedule blocks some by requests that go first."""

    def __init__(
        self,
        env: simpy.Environment,
        caps: tuple[int, int],
        oldest_first: bool,
        time: Callable[[int, int], int],
    ) -> None:
        self.env = env
        self.batch, replicas = caps
        self.time = time
        self.replicas = simpy.PriorityResource(env, replicas)
        self.oldest_first = oldest_first
        self.queue = simpy.PriorityStore(env) if oldest_first else simpy.Store(env)
        self.blocked: list[Any] = []
        self.leave: Callable[[int], object] = lambda token: None
        env.process(self.dispatch())

    def dispatch(self) -> Process:
        while True:
            first = yield self.queue.get()
            request = self.replicas.request(priority=BATCHES)
            yield request
            yield self.env.timeout(0)  # the rest of a batch from above
            if self.oldest_first:  # an older token may have come meanwhile
                self.queue.put(first)
                first = yield self.queue.get()
            batch = [first]
            while len(batch) < self.batch and self.queue.items:
                batch.append((yield self.queue.get()))
            self.env.process(self.serve(batch, request))

    def serve(self, batch: list[int], request: Any) -> Process:
        yield self.env.timeout(self.time(min(batch), len(batch)))
        for token in sorted(batch):
            self.leave(token)
        self.replicas.release(request)

    def follow(self, changes: list[int], counts: list[int]) -> Process:
        """Keep all but the commanded number of replicas blocked."""
        for time, count in zip([0, *changes], counts, strict=True):
            yield self.env.timeout(time - self.env.now)
            while len(self.blocked) < self.replicas.capacity - count:
                self.blocked.append(self.replicas.request(priority=BLOCKED))
            while len(self.blocked) > self.replicas.capacity - count:
                last = self.blocked.pop()
                if last.triggered:
                    self.replicas.release(last)
                else:
                    last.cancel()


def simulate(
    arrivals: list[int],
    stages: list[tuple[int, int]],
    time: BatchTime,
    oldest_first: bool,
    schedules: dict[int, tuple[list[int], list[int]]],
) -> list[int]:
    """Latency of each query in a chain of stages given as (batch, replicas)."""
    env = simpy.Environment()
    made = [
        Stage(env, caps, oldest_first, lambda token, size, number=number: time(number, token, size))
        for number, caps in enumerate(stages)
    ]
    left: dict[int, int] = {}
    for above, below in itertools.pairwise(made):
        above.leave = below.queue.put
    made[-1].leave = lambda token: left.setdefault(token, env.now)
    for number, (changes, counts) in schedules.items():
        env.process(made[number].follow(changes, counts))

    def arrive() -> Process:
        for token, at in enumerate(arrivals):
            yield env.timeout(at - env.now)
            made[0].queue.put(token)

    env.process(arrive())
    env.run()
    return [left[token] - at for token, at in enumerate(arrivals)]


@pytest.mark.parametrize("variation", ["plain", "schedule", "noise", "both"])
@pytest.mark.parametrize("discipline", ["oldest_first", "fifo"])
def test_equals_simpy(discipline: str, variation: str) -> None:
    for number in range(campaign_size(quick=12, deep=100)):
        rng = np.random.default_rng([81, number])
        plan, trace = random_chain(rng)
        names = list(plan.choices)
        schedules = (
            {name: random_schedule(rng, plan.choices[name].replicas) for name in names}
            if variation in ("schedule", "both")
            else {}
        )
        noise = mp.ServiceNoise.lognormal(0.4, seed=number) if variation in ("noise", "both") else None
        made = mp.replay(plan, trace, discipline=discipline, schedule=schedules, noise=noise)
        expected = simulate(
            trace.arrival_ns.tolist(),
            [(plan.choices[name].batch, plan.choices[name].replicas) for name in names],
            batch_time(plan, trace, noise),
            discipline == "oldest_first",
            {
                names.index(name): (schedule.change_ns.tolist(), schedule.replicas.tolist())
                for name, schedule in schedules.items()
            },
        )
        assert made.latency_ns.tolist() == expected, f"case {number}"
        assert max(seen.batch_size.max() for seen in made.stages.values()) > 1


def random_chain(rng: np.random.Generator) -> tuple[mp.Plan, mp.Trace]:
    """A busy chain of one to three stages, and its arrivals."""
    count = int(rng.integers(1, 4))
    names = [f"s{number}" for number in range(count)]
    edges = [{"from": above, "to": below} for above, below in itertools.pairwise(names)]
    pipeline = Pipeline.from_document(
        {"name": "chain", "stages": {name: {"model": name} for name in names}, "edges": edges}
    )
    caps = rng.integers(2, 6, count)
    replicas = rng.integers(1, 5, count)
    tables = [
        LatencyTable(name, "h", np.arange(cap) + 1, np.sort(rng.integers(10**6, 10**7, cap)) * 1e-3)
        for name, cap in zip(names, caps, strict=True)
    ]
    profiles = Profiles.from_parts([Hardware("h", 1.0)], tables)
    choices = {name: ("h", int(cap), int(n)) for name, cap, n in zip(names, caps, replicas, strict=True)}
    plan = mp.Plan.from_choices(pipeline, profiles, choices, slo_s=1.0)
    gaps = rng.gamma(0.3, 1 / 0.3, 150) * 5e9 / float(np.min(caps * replicas))
    return plan, mp.Trace.from_ns(np.cumsum(np.rint(gaps).astype(np.int64) + 1))


def random_schedule(rng: np.random.Generator, most: int) -> mp.ReplicaSchedule:
    """Counts up to `most` that change without delay, now and then to none, and rise by one at a time.

    Two replicas that come together may start two batches of one size, which then end together: SimPy passes their
    riders on batch by batch, and not by token.
    """
    counts = [int(rng.integers(0, most + 1))]
    while len(counts) < 31 or counts[-1] < most:
        above = min(counts[-1] + 1, most)
        counts.append(above if len(counts) >= 31 else int(rng.integers(0, above + 1)))
    changes = np.sort(rng.integers(1, 200 * 10**9, len(counts) - 1))
    return mp.ReplicaSchedule(changes, np.array(counts))


def batch_time(plan: mp.Plan, trace: mp.Trace, noise: mp.ServiceNoise | None) -> BatchTime:
    from mipplan.tokens import realise

    names = list(plan.choices)
    if noise is None:
        certain = [plan.service_ns(name).tolist() for name in names]
        return lambda stage, oldest, size: certain[stage][size - 1]
    assert noise.factors is not None
    tokens = realise(plan.pipeline, trace, plan.seed).stages
    times = [
        np.rint(np.outer(noise.factors, plan.service_ns(name))).astype(np.int64).tolist() for name in names
    ]
    levels = [noise.draw_levels(plan.seed, tokens[name]).tolist() for name in names]
    return lambda stage, oldest, size: times[stage][levels[stage][oldest]][size - 1]
