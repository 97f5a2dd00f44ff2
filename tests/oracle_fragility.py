"""What a plan bears, the slow way: perturb plain lists, play every event, sort latencies.

No code of `mipplan.perturbation`. Eager dispatch only, as `oracle_replay` plays it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import gammaincinv

from mipplan.pipeline import Edge, FanOut, Pipeline
from oracle_replay import Discipline, EventLoop
from oracle_tokens import slow_tokens
from random_pipelines import Case

FACTORS = (1.05, 1.1, 1.2, 1.3, 1.5)
CV_FACTORS = (1.25, 1.5, 2.0, 3.0)


@dataclass(frozen=True)
class World:
    """All that a replay depends on, as plain as can be."""

    pipeline: Pipeline
    arrivals: list[int]
    tables: dict[str, tuple[list[int], list[float], int]]  # Sizes, latencies in ms and the cap, by stage.
    replicas: dict[str, int]
    seed: int


def world_of(case: Case, seed: int = 0) -> World:
    """The world as planned."""
    plan = case.plan()
    tables = {
        stage: (plan.table(stage).batch.tolist(), plan.table(stage).latency_ms.tolist(), choice.batch)
        for stage, choice in plan.choices.items()
    }
    return World(case.pipeline, case.ingress_ns(), tables, case.replicas(), seed)


def latencies(world: World, discipline: Discipline) -> list[int]:
    """Latency of every query, by playing every event."""
    service = {
        stage: [max(1, round(float(np.interp(k, sizes, times)) * 1e6)) for k in range(1, cap + 1)]
        for stage, (sizes, times, cap) in world.tables.items()
    }
    tokens = slow_tokens(world.pipeline, len(world.arrivals), world.seed)
    stagger = world.pipeline.staggers_ns()
    return (
        EventLoop(tokens, world.arrivals, service, world.replicas, discipline, stagger=stagger).run().latency
    )


def quantile(values: list[int], share: float) -> int:
    """The least value that at least this share of all does not exceed, counted from the next whole rank up."""
    return sorted(values)[math.ceil(share * (len(values) - 1) - 1e-12)]


# --- perturbations ----------------------------------------------------------------------------------------------------


def faster(world: World, factor: float) -> World:
    """Every arrival comes that much earlier after the first."""
    first = world.arrivals[0]
    return replace(world, arrivals=[first + round((time - first) / factor) for time in world.arrivals])


def burstier(world: World, factor: float) -> World:
    """Every gap is multiplied by a gamma variable; all of them end when they did. For few queries: one part."""
    times = world.arrivals
    gaps = [after - before for before, after in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    if not mean:
        return world
    c = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) / mean
    aimed = c + (factor - 1) * max(c, 1.0)
    variance = (1 + aimed * aimed) / (1 + c * c) - 1
    rng = np.random.default_rng(world.seed)
    reached, offsets = 0.0, []
    for gap in gaps:
        reached += gap * (float(gammaincinv(1 / variance, rng.random())) * variance)
        offsets.append(reached)
    if not reached:
        return world
    span = times[-1] - times[0]
    return replace(
        world, arrivals=[times[0], *(times[0] + round(span * (offset / reached)) for offset in offsets)]
    )


def slower(world: World, factor: float) -> World:
    """All measured latencies are longer."""
    tables = {
        stage: (sizes, [time * factor for time in times], cap)
        for stage, (sizes, times, cap) in world.tables.items()
    }
    return replace(world, tables=tables)


def more_tokens(world: World, factor: float) -> World:
    """Every edge that makes other than one token of one makes more of them."""
    document = world.pipeline.to_document()
    for edge, entry in zip(world.pipeline.edges, document["edges"], strict=True):
        if makes_one(edge) and edge.probability == 1.0:
            continue
        if makes_one(edge):
            entry["probability"] = min(1.0, edge.probability * factor)
        elif edge.fanout.poisson_mean is not None:
            entry["fanout"] = {"poisson": edge.fanout.poisson_mean * factor}
        else:
            law = scaled_law(edge.fanout, factor)
            entry["fanout"] = {"values": list(law), "weights": list(law.values())}
    return replace(world, pipeline=Pipeline.from_document(document))


def makes_one(edge: Edge) -> bool:
    """Whether a token that takes an edge makes one."""
    return edge.fanout.poisson_mean is None and edge.fanout.values == (1,)


def scaled_law(fanout: FanOut, factor: float) -> dict[int, float]:
    """Every value is multiplied and goes to the whole number below or above, such that the mean is right."""
    law: dict[int, float] = {}
    for value, weight in zip(fanout.values, fanout.weights, strict=True):
        product = round(value * factor, 9)
        for whole in sorted({math.floor(product), math.ceil(product)}):
            law[whole] = law.get(whole, 0.0) + weight * (1.0 - abs(product - whole))
    return law


PERTURBED = {"rate": faster, "burstiness": burstier, "service": slower, "fanout": more_tokens}


def points(world: World) -> Iterator[tuple[str, float | int | str, World | None]]:
    """Every perturbation: axis, amount, and the world after it, None where a stage has no replica left."""
    for axis, perturb in PERTURBED.items():
        if axis in ("rate", "burstiness") and world.arrivals[0] == world.arrivals[-1]:
            continue
        if axis == "fanout" and all(
            makes_one(edge) and edge.probability == 1 for edge in world.pipeline.edges
        ):
            continue
        for factor in CV_FACTORS if axis == "burstiness" else FACTORS:
            yield axis, factor, perturb(world, factor)
    for stage, count in sorted(world.replicas.items(), key=lambda item: -item[1]):
        left = {**world.replicas, stage: count - 1}
        yield "replica", stage, replace(world, replicas=left) if count > 1 else None
    if world.pipeline.is_random:
        for seed in range(world.seed + 1, world.seed + 6):
            yield "seed", seed, replace(world, seed=seed)
