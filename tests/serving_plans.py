"""Plans of one or few stages with round figures, for tests by hand."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np

import mipplan as mp
from mipplan.profiles import Hardware, LatencyTable, Profiles

MS = 1_000_000


def small_plan(
    stages: Mapping[str, tuple[Sequence[float], int]],
    edges: Mapping[tuple[str, str], Mapping[str, Any]] | None = None,
    *,
    slo_s: float = 1.0,
    **settings: Any,
) -> mp.Plan:
    """Plan of stages given as (ℓ(1), …, ℓ(b) in ms, replicas)."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name in stages:
        graph.add_node(name, model=name)
    for (parent, child), attributes in (edges or {}).items():
        graph.add_edge(parent, child, **attributes)
    tables = [
        LatencyTable(name, "h", np.arange(1, len(times) + 1), np.array(times, dtype=np.float64))
        for name, (times, _) in stages.items()
    ]
    profiles = Profiles.from_parts([Hardware("h", 1.0)], tables)
    choices = {name: ("h", len(times), replicas) for name, (times, replicas) in stages.items()}
    return mp.Plan.from_choices(mp.Pipeline(graph, name="small"), profiles, choices, slo_s=slo_s, **settings)


def double(batch: list[list[Any]]) -> list[Any]:
    """Twice the sum of the inputs of each token; some inputs make it fail, or end its process."""
    if any("die" in inputs for inputs in batch):
        os._exit(3)
    if any("raise" in inputs for inputs in batch):
        raise ValueError("no such number")
    if any("unsendable" in inputs for inputs in batch):
        return [(part for part in inputs) for inputs in batch]
    return [2 * sum(inputs) for inputs in batch]


class Unreadable:
    """Can be sent to another process, and not be read there."""

    def __reduce__(self) -> tuple[Any, ...]:
        return double, ([["raise"]],)


class Doubler:
    """The same as an object that is made first, as a model is loaded."""

    def __call__(self, batch: list[list[Any]]) -> list[Any]:
        return double(batch)
