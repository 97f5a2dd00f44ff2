"""Small plans for tests of policies."""

from __future__ import annotations

import networkx as nx
import numpy as np

import mipplan as mp
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.result import Plan


def one_stage(
    replicas: int = 2,
    *,
    latency_ms: float = 100.0,
    batch: int = 1,
    least: int = 1,
    most: int | None = None,
    limit: int | None = None,
    slo_s: float = 0.5,
) -> Plan:
    """A stage whose replicas take 100 ms for a batch, at 1 $/h; P99 within 500 ms."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    bounds = {"min": least} if most is None else {"min": least, "max": most}
    graph.add_node("only", model="m", replicas=bounds)
    sizes = np.arange(1, batch + 1)
    table = LatencyTable("m", "h", sizes, np.full(batch, latency_ms))
    profiles = Profiles.from_parts([Hardware("h", 1.0, limit=limit)], [table])
    return Plan.from_choices(mp.Pipeline(graph), profiles, {"only": ("h", batch, replicas)}, slo_s=slo_s)
