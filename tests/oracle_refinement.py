"""The cheapest plan that replays within its objective, by replaying every plan there is. Slow and obvious."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import mipplan as mp

Choices = dict[str, tuple[str, int, int]]


@dataclass(frozen=True)
class OraclePlan:
    """A plan, its cost in micro-dollars per hour, and the replayed quantile in ns."""

    choices: Choices
    cost: int
    quantile_ns: int


def replay_everything(
    pipeline: mp.Pipeline,
    profiles: mp.Profiles,
    trace: mp.Trace,
    *,
    quantile: float,
    discipline: str,
    seed: int,
    dispatch: str | None = None,
) -> list[OraclePlan]:
    """Every plan within the limits, replayed; each stage must state its most replicas."""
    every = list(all_choices(pipeline, profiles))
    plans = [mp.Plan.from_choices(pipeline, profiles, made, slo_s=1.0, seed=seed) for made in every]
    results = mp.replay_many(plans, trace, discipline=discipline, dispatch=dispatch)
    return [
        OraclePlan(made, cost(profiles, made), higher_quantile(result.latency_ns.tolist(), quantile))
        for made, result in zip(every, results, strict=True)
    ]


def all_choices(pipeline: mp.Pipeline, profiles: mp.Profiles) -> Iterator[Choices]:
    """Every choice of admitted hardware, measured batch size and replicas, within the device limits."""
    per_stage = [list(_stage_choices(pipeline, profiles, stage)) for stage in pipeline.stages]
    for picked in itertools.product(*per_stage):
        used: Counter[str] = Counter()
        for hardware, _, replicas in picked:
            used[hardware] += replicas
        limits = {name: profiles.hardware[name].limit for name in used}
        if all(limit is None or used[name] <= limit for name, limit in limits.items()):
            yield dict(zip(pipeline.stages, picked, strict=True))


def cost(profiles: mp.Profiles, choices: Choices) -> int:
    """Micro-dollars per hour."""
    return sum(n * profiles.hardware[name].microusd_per_hour for name, _, n in choices.values())


def higher_quantile(values: list[int], quantile: float) -> int:
    """The order statistic at or above the quantile."""
    return sorted(values)[min(len(values) - 1, math.ceil(quantile * (len(values) - 1)))]


def _stage_choices(pipeline: mp.Pipeline, profiles: mp.Profiles, name: str) -> Iterator[tuple[str, int, int]]:
    stage = pipeline.stages[name]
    assert stage.replicas_max is not None
    for hardware in profiles.hardware_for(stage.model):
        table = profiles.table(stage.model, hardware)
        assert table is not None
        for batch in table.batch.tolist():
            for replicas in range(stage.replicas_min, stage.replicas_max + 1):
                yield hardware, batch, replicas
