"""A model whose latency is a known function of the batch size, plus noise: measured on a virtual clock, or none."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mipplan.profiling import (
    BatchMeasurement,
    Ending,
    MachineLoad,
    MeasuringParams,
    QuantileRange,
    RunBlock,
    TimedRun,
    measure_batch,
)
from mipplan.profiling.sizes import EnoughSizes, NextSize, SizeRule

#: Milliseconds by batch size.
Latency = Callable[[int], float]


QUIET = MachineLoad(steal=0.0, others=0.0)


class VirtualMachine:
    """Runs take what a function of their number says; the clock moves by that, and by the time between two runs."""

    def __init__(
        self,
        latency_ns: Callable[[int], float],
        load: Callable[[int], MachineLoad | None] = lambda _block: QUIET,
        waited_ns: Callable[[int], int] = lambda _run: 0,
        between_ns: int = 1_000,
    ) -> None:
        self.latency_ns = latency_ns
        self.load = load
        self.waited_ns = waited_ns
        self.between_ns = between_ns
        self.now_ns = 12_345
        self.made = 0
        self.blocks = 0
        self.longest_ns = 0

    def clock(self) -> float:
        return self.now_ns / 1e9

    def observe(self, for_s: float) -> RunBlock:
        ends, runs = self.now_ns + for_s * 1e9, []
        while not runs or self.now_ns < ends:
            wall = max(1, round(self.latency_ns(self.made)))
            runs.append(TimedRun(self.now_ns, wall, wall // 2, self.waited_ns(self.made), 0))
            self.longest_ns = max(self.longest_ns, wall)
            self.now_ns += wall + self.between_ns
            self.made += 1
        self.blocks += 1
        return RunBlock(tuple(runs), self.load(self.blocks - 1), 0.5, 0.25)


def measured_at(batch: int, latency: Latency, spread: float, params: MeasuringParams) -> BatchMeasurement:
    """What the measuring loop makes of such a model: runs are longer than the function says, by a random share."""
    random = np.random.default_rng([5, batch])
    machine = VirtualMachine(lambda _run: 1e6 * latency(batch) * (1 + spread * random.random()))
    return measure_batch(batch, machine.observe, machine.clock, params)


def found_at(
    batch: int,
    latency_ms: float,
    *,
    noise: float = 0.0,
    spent_s: float = 1.0,
    memory_gib: float | None = None,
) -> BatchMeasurement:
    """What measuring one size found: P50 and P99 are alike, and their interval reaches `noise` to both sides."""
    value_ns = round(latency_ms * 1e6)
    low_ns, high_ns = round(value_ns * (1 - noise)), round(value_ns * (1 + noise))
    ends = QuantileRange(value_ns, low_ns, high_ns)
    return BatchMeasurement(
        batch=batch,
        ending=Ending.PRECISE,
        latency_ns=np.array([low_ns, value_ns, high_ns]),
        p50=ends,
        p99=ends,
        confidence=0.95,
        warm_up=0,
        settled=True,
        disturbed=0,
        disturbances={},
        kept=False,
        spent_s=spent_s,
        memory_gib=memory_gib,
    )


def follow(
    rule: SizeRule,
    latency: Latency,
    *,
    noise: float = 0.0,
    fails: Callable[[int], bool] = lambda _batch: False,
    memory_gib: Callable[[int], float | None] = lambda _batch: None,
    known: Mapping[int, BatchMeasurement] | None = None,
) -> tuple[dict[int, BatchMeasurement], list[NextSize], EnoughSizes, set[int]]:
    """Measure what a rule asks for until it has enough: what was found, in which order, why it ended, what failed."""
    found, failed, order = dict(known or {}), dict[int, float](), list[NextSize]()
    while isinstance(choice := rule.next(found, failed), NextSize):
        assert choice.batch not in found, "measured twice"
        assert choice.batch not in failed, "tried twice"
        order.append(choice)
        if fails(choice.batch):
            failed[choice.batch] = 1.0
            continue
        memory = memory_gib(choice.batch)
        found[choice.batch] = found_at(choice.batch, latency(choice.batch), noise=noise, memory_gib=memory)
        found = dict(sorted(found.items()))
    return found, order, choice, set(failed)
