"""How long plans with many variants take: nine stages × nine variants × five hardware types × eight batch sizes.

Variants are the more accurate the slower. Objectives are multiples of the least ΣT of the most accurate variants,
floors are so far on the way from the least to the greatest −ln of the accuracy.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np

import mipplan as mp
from benchmarks.planning.instances import TIGHTNESS, make_pipeline, make_profiles, make_trace, objective_s

STAGES, VARIANTS, QUERIES = 9, 9, 10_000
#: Objectives as multiples of the least ΣT of the most accurate variants.
LOOSENESS = (TIGHTNESS, 4.0)
FLOORS = (0.25, 0.5, 0.75, 0.9)
SHAPES, SEEDS = ("chain", "tree"), (1, 2, 3)
LIMIT_S = 10.0
#: An instance is planned so often, unless once takes this long already (seconds).
REPEATS, LONG_S = 3, 5.0
ROWS = "variants.csv"


def make(shape: str, seed: int) -> tuple[mp.Pipeline, mp.Profiles, list[float], float]:
    """Pipeline, profiles, the least and the greatest accuracy, and the least ΣT of the most accurate variants."""
    rng = np.random.default_rng([seed, STAGES, VARIANTS])
    base, profiles = make_pipeline(shape, STAGES, seed), make_profiles(STAGES, seed)
    graph: nx.DiGraph[str] = nx.DiGraph()
    tables, largest, ends = [], [], [1.0, 1.0]
    for number, stage in enumerate(base.stages):
        accuracies = np.sort(rng.uniform(0.6, 0.98, VARIANTS)).round(4).tolist()
        work = np.sort(np.exp(rng.uniform(0.0, math.log(8.0), VARIANTS)))
        names = [f"m{number}-{variant}" for variant in range(VARIANTS)]
        graph.add_node(stage, model=names[0], variants=dict(zip(names, accuracies, strict=True)))
        for table in (t for t in profiles.tables.values() if t.model == f"m{number}"):
            made = [
                replace(table, model=n, latency_ms=w * table.latency_ms)
                for n, w in zip(names, work, strict=True)
            ]
            tables += made
            largest.append(replace(made[-1], model=table.model))
        ends = [ends[0] * accuracies[0], ends[1] * accuracies[-1]]
    for edge in base.edges:
        graph.add_edge(edge.parent, edge.child, delay="1ms", probability=edge.probability)
    slowest = mp.Profiles.from_parts(profiles.hardware.values(), largest)
    made_of = mp.Profiles.from_parts(profiles.hardware.values(), tables)
    return mp.Pipeline(graph, name=f"variants-{shape}"), made_of, ends, objective_s(base, slowest) / TIGHTNESS


def measure_all(shapes: Sequence[str], seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Plan every instance, three times where that is quick, and yield a row with the median time of each."""
    # Imports and first calls of every library are not what is measured: this one is solved by all of them.
    pipeline, profiles, (least, greatest), fastest_s = make("chain", 0)
    middle = math.sqrt(least * greatest)
    mp.plan(pipeline, profiles, make_trace(1_000, 0), slo_s=TIGHTNESS * fastest_s, accuracy=middle)
    for shape, seed in itertools.product(shapes, seeds):
        pipeline, profiles, (least, greatest), fastest_s = make(shape, seed)
        trace = make_trace(QUERIES, seed)
        for loose, floor in itertools.product(LOOSENESS, FLOORS):
            accuracy = least * (greatest / least) ** floor
            asked = {"slo_s": loose * fastest_s, "time_limit_s": LIMIT_S, "accuracy": accuracy}
            runs: list[tuple[float, mp.Plan]] = []
            while len(runs) < REPEATS and (not runs or runs[0][0] < LONG_S):
                started = time.perf_counter()
                plan = mp.plan(pipeline, profiles, trace, **asked)
                runs.append((time.perf_counter() - started, plan))
            seconds, plan = sorted(runs, key=lambda run: run[0])[len(runs) // 2]
            yield {
                "shape": shape,
                "seed": seed,
                "objective": loose,
                "floor": floor,
                "status": plan.status.value,
                "usd_per_hour": plan.usd_per_hour,
                "lower_bound_usd_per_hour": plan.lower_bound_usd_per_hour,
                "seconds": seconds,
            }
