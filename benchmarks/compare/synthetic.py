"""Seeded pipelines of any shape, and profiles for them: part of what is frozen, so that a change here shows."""

from __future__ import annotations

from typing import Any

import numpy as np

from mipplan import Pipeline, Profiles
from mipplan.profiles import Hardware, LatencyTable

SHAPES = ("chain", "tree", "dag")
#: Dollars per hour.
HARDWARE = {"cpu": 0.1, "small": 0.5, "medium": 1.0, "large": 2.5, "huge": 4.0}
BATCHES = np.array([1, 2, 4, 8, 16, 32, 64])
#: Few enough for all plans to be replayed.
SMALL_HARDWARE = {"small": 0.45, "medium": 1.05, "large": 2.4}
SMALL_BATCHES = BATCHES[:4]
PROBABILITIES = (1.0, 1.0, 0.7, 0.4, 0.2)
FANOUTS: tuple[Any, ...] = (2, 2.6, {"poisson": 1.5}, {"values": [0, 1, 4], "weights": [0.3, 0.5, 0.2]})
FANOUT_MEANS = (2.0, 2.6, 1.5, 1.3)
DELAYS = ("0.5ms", "1ms", "2ms")
#: Mean tokens of a query at one stage, at most.
MOST_TOKENS = 6.0


def make_pipeline(shape: str, stages: int, seed: int) -> Pipeline:
    """Make a chain, a tree, or a DAG with branches, joins and skips; models are m0, m1 and so on."""
    rng = np.random.default_rng([seed, stages, SHAPES.index(shape)])
    tokens = [1.0]
    nodes: dict[str, Any] = {"s0": {"model": "m0"}}
    edges: list[dict[str, Any]] = []
    for stage in range(1, stages):
        node: dict[str, Any] = {"model": f"m{stage}"}
        parents = _parents(rng, shape, stage)
        drawn = [_edge(rng, shape, parent, stage) for parent in parents]
        means = [tokens[parent] * edge["probability"] for parent, edge in zip(parents, drawn, strict=True)]
        if len(parents) > 1:
            each = bool(rng.random() < 0.2) and sum(means) <= MOST_TOKENS
            node["join"] = "each" if each else "all"
            tokens.append(sum(means) if each else min(1.0, sum(means)))
        else:
            kind = int(rng.integers(len(FANOUTS)))
            if rng.random() < 0.25 and means[0] * FANOUT_MEANS[kind] <= MOST_TOKENS:
                drawn[0]["fanout"] = FANOUTS[kind]
                means[0] *= FANOUT_MEANS[kind]
            tokens.append(means[0])
        nodes[f"s{stage}"] = node
        edges += drawn
    return Pipeline.from_document({"name": f"{shape}-{stages}-{seed}", "stages": nodes, "edges": edges})


def make_profiles(stages: int, seed: int, *, small: bool = False) -> Profiles:
    """Latency tables ``base + slope·batch`` with noise on three to five hardware types a model.

    Dearer hardware is faster, more so per item of large batches than for a single one; how much it gains differs by
    model. So no hardware is the cheapest for all.
    """
    rng = np.random.default_rng([seed, stages, 7])
    prices = SMALL_HARDWARE if small else HARDWARE
    names = tuple(prices)
    sizes = SMALL_BATCHES if small else BATCHES
    tables = []
    for stage in range(stages):
        work_ms = float(np.exp(rng.uniform(np.log(4.0), np.log(60.0))))
        fixed = float(rng.uniform(0.2, 0.8))
        gain_fixed, gain_slope = float(rng.uniform(0.1, 0.6)), float(rng.uniform(0.6, 1.3))
        kept = set(
            rng.permutation(len(names))[: int(rng.integers(min(3, len(names)), len(names) + 1))].tolist()
        )
        for position, name in enumerate(names):
            dearer = prices[name] / HARDWARE["cpu"]
            noise = rng.uniform(0.95, 1.05, size=sizes.size)
            base, slope = fixed / dearer**gain_fixed, (1.0 - fixed) / dearer**gain_slope
            if position in kept:
                # Rounded, so that the last bits of a machine's powers do not matter.
                latency_ms = np.round(work_ms * (base + slope * sizes) * noise, 4)
                tables.append(
                    LatencyTable(f"m{stage}", name, sizes, latency_ms, source=("synthetic",) * sizes.size)
                )
    hardware = [Hardware(name, price, source="synthetic") for name, price in prices.items()]
    return Profiles.from_parts(hardware, tables)


def _parents(rng: np.random.Generator, shape: str, stage: int) -> list[int]:
    if shape == "chain":
        return [stage - 1]
    most = 1 if shape == "tree" else int(rng.choice([1, 2, 2, 3]))
    candidates = range(max(0, stage - 4), stage)
    chosen = rng.permutation(len(candidates))[: min(most, len(candidates))]
    return sorted(candidates[int(number)] for number in chosen)


def _edge(rng: np.random.Generator, shape: str, parent: int, stage: int) -> dict[str, Any]:
    probability = 1.0 if shape == "chain" else float(rng.choice(PROBABILITIES))
    return {
        "from": f"s{parent}",
        "to": f"s{stage}",
        "probability": probability,
        "delay": str(rng.choice(DELAYS)),
    }
