"""``python -m benchmarks.planning.variants [--seeds 1 2] [--shapes chain tree]``: how long plans with variants take.

Nine stages × nine variants × five hardware types × eight batch sizes, 10⁴ queries. Variants are the more accurate the
slower. Objectives are multiples of the least ΣT of the most accurate variants, floors are so far on the way from the
least to the greatest −ln of the accuracy. Times are of the processor: all cores together, whatever else runs.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from dataclasses import replace

import networkx as nx
import numpy as np
import pandas as pd

import mipplan as mp
from benchmarks.planning.instances import TIGHTNESS, make_pipeline, make_profiles, make_trace, objective_s

STAGES, VARIANTS, QUERIES = 9, 9, 10_000
#: Objectives as multiples of the least ΣT of the most accurate variants.
LOOSENESS = (TIGHTNESS, 4.0)
FLOORS = (0.25, 0.5, 0.75, 0.9)
LIMIT_S = 60.0
AIM_S = 1.0


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


def main() -> None:
    """Plan all and print a row each, then the median, the worst, and how many keep the aim."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planning.variants", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--shapes", nargs="+", default=["chain", "tree"], choices=["chain", "tree"])
    arguments = parser.parse_args()
    rows = []
    # Imports and first calls of every library are not what is measured.
    pipeline, profiles, (least, _), fastest_s = make("chain", 0)
    mp.plan(pipeline, profiles, make_trace(1_000, 0), slo_s=LOOSENESS[1] * fastest_s, accuracy=least)
    for shape, seed in itertools.product(arguments.shapes, arguments.seeds):
        pipeline, profiles, (least, greatest), fastest_s = make(shape, seed)
        trace = make_trace(QUERIES, seed)
        for loose, floor in itertools.product(LOOSENESS, FLOORS):
            accuracy = least * (greatest / least) ** floor
            started, asked = time.process_time(), {"slo_s": loose * fastest_s, "time_limit_s": LIMIT_S}
            plan = mp.plan(pipeline, profiles, trace, accuracy=accuracy, **asked)
            taken_s = time.process_time() - started
            rows.append((shape, seed, loose, floor, plan.status.value, plan.usd_per_hour, taken_s))
            print(*rows[-1][:-1], f"{taken_s:.2f} s", flush=True)
    seconds = pd.Series([row[-1] for row in rows])
    kept = f"{(seconds <= AIM_S).sum()} of {len(rows)} in {AIM_S:g} s"
    print(f"median {seconds.median():.2f} s, worst {seconds.max():.2f} s, {kept}")


if __name__ == "__main__":
    main()
