"""Seeded planning instances: pipelines of 1 to 20 stages, 5 hardware types × 8 batch sizes, any number of queries."""

from __future__ import annotations

import networkx as nx
import numpy as np

from mipplan import Pipeline, Profiles, Trace
from mipplan.profiles import Hardware, LatencyTable

BATCHES = np.array([1, 2, 4, 8, 16, 32, 64, 128])
HARDWARE = {"cpu": 0.1, "small": 0.5, "medium": 1.0, "large": 2.5, "huge": 4.0}
RATE_RPS = 200.0
#: Objective as a multiple of the least ΣT along the longest path.
TIGHTNESS = 1.6


def make_pipeline(shape: str, stages: int, seed: int) -> Pipeline:
    """Make a chain, or a tree whose branches are taken with probability 0.3 to 1, of models m0, m1 and so on."""
    rng = np.random.default_rng([seed, stages])
    graph: nx.DiGraph[str] = nx.DiGraph()
    for stage in range(stages):
        graph.add_node(f"s{stage}", model=f"m{stage}")
    for stage in range(1, stages):
        parent = stage - 1 if shape == "chain" else int(rng.integers(max(0, stage - 3), stage))
        probability = 1.0 if shape == "chain" else float(rng.choice([0.3, 0.6, 1.0]))
        graph.add_edge(f"s{parent}", f"s{stage}", delay="1ms", probability=probability)
    return Pipeline(graph, name=f"{shape}-{stages}")


def make_profiles(stages: int, seed: int) -> Profiles:
    """Latency tables ``base + slope·batch`` with noise; dearer hardware is faster, above all at large batches."""
    rng = np.random.default_rng([seed, stages, 1])
    hardware = [Hardware(name, price, source="synthetic") for name, price in HARDWARE.items()]
    tables = []
    for stage in range(stages):
        work_ms = float(rng.uniform(1.0, 6.0))
        for position, name in enumerate(HARDWARE):
            speed = 1.0 + 1.2 * position
            base, slope = work_ms / speed**0.5, 0.8 * work_ms / speed**1.5
            noise = rng.uniform(0.95, 1.05, size=BATCHES.size)
            latency_ms = (base + slope * BATCHES) * noise
            tables.append(
                LatencyTable(f"m{stage}", name, BATCHES, latency_ms, source=("synthetic",) * BATCHES.size)
            )
    return Profiles.from_parts(hardware, tables)


def make_trace(queries: int, seed: int) -> Trace:
    """Gamma arrivals with CV 2 at 200 queries/s, cut to exactly this many."""
    drawn = Trace.gamma(rate_rps=RATE_RPS, cv=2.0, duration_s=1.2 * queries / RATE_RPS + 60.0, seed=seed)
    return Trace.from_ns(drawn.arrival_ns[:queries], name=f"gamma-{queries}")


def objective_s(pipeline: Pipeline, profiles: Profiles) -> float:
    """`TIGHTNESS` times the least ΣT plus delays along the slowest path."""
    longest: dict[str, float] = {}
    for stage in pipeline.topological_order:
        model = pipeline.stages[stage].model
        tables = (profiles.table(model, name) for name in HARDWARE)
        least_s = min(2e-3 * float(table.latency_ms[0]) for table in tables if table is not None)
        before = [longest[edge.parent] + edge.delay_ns / 1e9 for edge in pipeline.incoming(stage)]
        longest[stage] = least_s + max(before, default=0.0)
    return TIGHTNESS * max(longest.values())
