"""A model whose latency is a known function of the batch size, plus noise: measured without a clock."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from mipplan.profiling import BatchMeasurement, Ending, QuantileRange
from mipplan.profiling.sizes import EnoughSizes, NextSize, SizeRule

#: Milliseconds by batch size.
Latency = Callable[[int], float]


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
    found, failed, order = dict(known or {}), set[int](), list[NextSize]()
    while isinstance(choice := rule.next(found, failed), NextSize):
        assert choice.batch not in found, "measured twice"
        assert choice.batch not in failed, "tried twice"
        order.append(choice)
        if fails(choice.batch):
            failed.add(choice.batch)
            continue
        memory = memory_gib(choice.batch)
        found[choice.batch] = found_at(choice.batch, latency(choice.batch), noise=noise, memory_gib=memory)
        found = dict(sorted(found.items()))
    return found, order, choice, failed
