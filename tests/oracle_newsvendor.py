"""Expected loss the slow way: the formula written out for one stage, one count and one rate at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

from mipplan.tuner.policies.losses import PricedStage


def missed_share(stage: PricedStage, count: int, rate_rps: float, spread: float, wait_share: float) -> float:
    """exp(−2 W c (c − r) / (r v²)), with c and W between the counts measured by powers."""
    capacity = stage.capacity
    known, measured = capacity.replicas.tolist(), capacity.rate_rps.tolist()
    calm, bursty = capacity.burstiness.tolist()
    part = min(1.0, max(0.0, math.log(spread / calm) / math.log(bursty / calm)))
    waits = [a ** (1 - part) * b**part for a, b in zip(*capacity.wait_s.tolist(), strict=True)]
    if count >= known[-1]:
        power = math.log(measured[-1] / measured[-2]) / math.log(known[-1] / known[-2])
        served, wait = measured[-1] * (count / known[-1]) ** power, waits[-1]
    else:
        low = max(k for k, one in enumerate(known) if one <= count)
        weight = math.log(count / known[low]) / math.log(known[low + 1] / known[low])
        served = measured[low] ** (1 - weight) * measured[low + 1] ** weight
        wait = waits[low] ** (1 - weight) * waits[low + 1] ** weight
    if rate_rps >= served:
        return 1.0
    return math.exp(-2.0 * wait_share * wait * served * (served - rate_rps) / (rate_rps * spread**2))


def expected_usd(
    stages: Sequence[PricedStage],
    counts: Sequence[int],
    rates_rps: Sequence[float],
    chances: Sequence[float],
    *,
    spread: float,
    worth_usd: float,
    wait_share: float,
    lead_s: float,
) -> float:
    """Dollars of one lead time, what is missed included."""
    rent = sum(stage.usd_per_s * count for stage, count in zip(stages, counts, strict=True))
    missed_rps = 0.0
    for rate_rps, chance in zip(rates_rps, chances, strict=True):
        shares = [
            missed_share(stage, count, rate_rps, spread, wait_share)
            for stage, count in zip(stages, counts, strict=True)
        ]
        missed_rps += chance * rate_rps * min(1.0, sum(shares))
    return lead_s * (rent + worth_usd * missed_rps)


def all_counts(stages: Sequence[PricedStage], most: int) -> Iterator[tuple[int, ...]]:
    """Every choice of counts up to so many replicas a stage."""
    yield from itertools.product(*(range(stage.scale.least, most + 1) for stage in stages))
