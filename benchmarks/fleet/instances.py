"""Fleets of five-stage pipelines on the shipped profiles, with three limits that bind."""

from __future__ import annotations

import networkx as nx
import numpy as np

import mipplan as mp

#: Models of the stages between pre- and postprocessing; most run on several GPU types.
MODELS = (
    *("resnet50", "ssd", "ssd300", "efficientnet-b0", "efficientnet-b4", "bert-base-128", "gnmt"),
    *("resnext101-32x4d", "se-resnext101-32x4d", "jasper-2s", "fastpitch"),
)
#: Devices per pipeline; if none were scarce they would use 3.5, 0.8 and none, and without enough of the first two 0.8.
LIMITS = {"t4": 1.8, "v100": 0.9, "a100": 0.6}
DURATION_S = 60.0
#: Processes that price pipelines.
WORKERS = 2

_SHAPES: dict[str, tuple[tuple[int, int, float], ...]] = {
    "chain": ((0, 1, 1.0), (1, 2, 1.0), (2, 3, 1.0), (3, 4, 1.0)),
    "branch": ((0, 1, 1.0), (1, 2, 1.0), (1, 3, 0.4), (2, 4, 1.0), (3, 4, 1.0)),
}


def make_fleet(pipelines: int) -> dict[str, tuple[mp.Pipeline, mp.Trace, float, float]]:
    """Return the first `pipelines` pipelines of one endless sequence, as `mp.plan_fleet` takes them."""
    return {f"p{number:04}": _member(number) for number in range(pipelines)}


def make_limits(pipelines: int) -> dict[str, int]:
    """Devices of each limited type, in proportion to the fleet."""
    return {name: max(1, round(share * pipelines)) for name, share in LIMITS.items()}


def _member(number: int) -> tuple[mp.Pipeline, mp.Trace, float, float]:
    rng = np.random.default_rng([20260808, number])
    shape = "chain" if rng.random() < 0.7 else "branch"
    models = ["preprocess", *rng.choice(MODELS, 3, replace=False).tolist(), "postprocess"]
    graph: nx.DiGraph[str] = nx.DiGraph()
    for place, model in enumerate(models):
        graph.add_node(f"s{place}", model=model)
    for parent, child, probability in _SHAPES[shape]:
        graph.add_edge(f"s{parent}", f"s{child}", delay="1ms", probability=probability)
    slo_s = float(rng.choice([0.5, 0.6, 0.8]))
    pipeline = mp.Pipeline(graph=graph, slo_s=slo_s, name=shape)
    trace = mp.Trace.gamma(
        rate_rps=float(rng.uniform(20, 160)),
        cv=float(rng.choice([1.0, 2.0, 3.0])),
        duration_s=DURATION_S,
        seed=number,
    )
    return pipeline, trace, slo_s, 1.0
