"""Plans and arrival curves for tests of the tuner."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import networkx as nx
import numpy as np

import mipplan as mp
from mipplan.calculus import ArrivalCurve, WorstCase
from mipplan.certificate import plan_services
from mipplan.pipeline import Pipeline
from mipplan.profiles import Hardware, LatencyTable, Profiles
from oracle_envelope import slow_most_tokens
from random_pipelines import Case, random_case


def bounded_case(rng: np.random.Generator, *, max_stages: int = 4) -> tuple[Case, ArrivalCurve]:
    """Draw a pipeline without unbounded fan-outs, and a curve that its replicas may or may not keep up with."""
    case = random_case(rng, max_stages=max_stages)
    graph: nx.DiGraph[str] = nx.DiGraph(case.pipeline.graph)
    for edge in case.pipeline.edges:
        if edge.fanout.poisson_mean is not None:
            graph.edges[edge.parent, edge.child]["fanout"] = {"values": [0, 2], "weights": [1, 1]}
    case = case._replace(pipeline=Pipeline(graph))
    services = plan_services(case.plan())
    capacity = min(v.rate_rps / slow_most_tokens(case.pipeline, s) for s, v in services.items())
    rate = capacity * float(rng.choice([0.3, 0.9, 1.5, 4.0]))
    curve = ArrivalCurve.token_bucket(float(rng.choice([1.0, 3.0, 8.0, 20.0])), rate)
    if rng.random() < 0.5:
        curve = curve.minimum(ArrivalCurve.token_bucket(2.0, 10 * rate))
    return case, curve


def with_objective(case: Case, curve: ArrivalCurve, rng: np.random.Generator) -> mp.Plan:
    """Plan of a case with an objective from a little to a lot above what plenty of replicas take."""
    plenty = {stage: (h, b, 50 * n) for stage, (h, b, n) in case.choices.items()}
    least_ns = WorstCase(case.pipeline, curve).bound_ns(plan_services(case._replace(choices=plenty).plan()))
    slo_ns = int(least_ns * float(rng.choice([1.02, 1.2, 2.0, 5.0]))) + 1
    return mp.Plan.from_choices(case.pipeline, case.profiles, case.choices, slo_s=slo_ns * 1e-9)


def chain(*, slo_s: float = 1.0, **service: tuple[list[int], int]) -> mp.Plan:
    """Plan of a chain from (ℓ(1), …, ℓ(b) in ns, replicas) per stage."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from((name, {"model": name}) for name in service)
    graph.add_edges_from(pairwise(service))
    tables = [
        LatencyTable(name, "h", np.arange(len(times)) + 1, np.array(times) * 1e-6)
        for name, (times, _) in service.items()
    ]
    profiles = Profiles.from_parts([Hardware("h", 1.0)], tables)
    choices: dict[str, Any] = {name: ("h", len(times), n) for name, (times, n) in service.items()}
    return mp.Plan.from_choices(Pipeline(graph), profiles, choices, slo_s=slo_s)
