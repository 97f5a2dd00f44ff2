"""Small random pipelines that look for trouble: ties, overload, odd tables, joins, skips and fan-outs of all kinds.

Times are of the order of nanoseconds to microseconds, so that events fall on the same instant all the time.
Everything is built through the public constructors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import networkx as nx
import numpy as np
from hypothesis import strategies as st

from mipplan.pipeline import Edge, Join, Pipeline
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.replayer import ReplicaSchedule, ServiceNoise
from mipplan.result import Plan
from mipplan.tokens import Workload
from mipplan.trace import Trace

HARDWARE = "h"
MAX_STAGES = 6
MAX_ARRIVALS = 60
LARGEST_CAP = 5
MAX_REPLICAS = 4
#: Mean tokens of one query at one stage; keeps the slow oracles affordable.
MOST_TOKENS = 6.0


class Case(NamedTuple):
    """A pipeline with everything that is needed to run it."""

    pipeline: Pipeline
    profiles: Profiles
    trace: Trace
    choices: dict[str, tuple[str, int, int]]

    def plan(self, *, quantile: float = 0.99, seed: int = 0, dispatch: dict[str, str] | None = None) -> Plan:
        """Plan with these choices; its objective is of no interest."""
        return Plan.from_choices(
            self.pipeline,
            self.profiles,
            self.choices,
            slo_s=1.0,
            quantile=quantile,
            seed=seed,
            dispatch=dispatch,
        )

    def ingress_ns(self) -> list[int]:
        """Ingress time of each query."""
        return [int(time) for time in self.trace.arrival_ns]

    def service_ns(self) -> dict[str, list[int]]:
        """ℓ(1), …, ℓ(b) of each stage."""
        plan = self.plan()
        return {stage: [int(time) for time in plan.service_ns(stage)] for stage in plan.choices}

    def stagger_ns(self) -> dict[str, int]:
        """Time between the outputs of a batch of each stage."""
        return self.pipeline.staggers_ns()

    def window_ns(self) -> dict[str, int]:
        """For how long each stage collects a batch, at most."""
        return self.pipeline.windows_ns()

    def replicas(self) -> dict[str, int]:
        """Replicas of each stage."""
        return {stage: replicas for stage, (_, _, replicas) in self.choices.items()}


def random_case(
    rng: np.random.Generator,
    *,
    max_stages: int = MAX_STAGES,
    max_arrivals: int = MAX_ARRIVALS,
    scales_ns: Sequence[int] = (3, 10, 100, 5_000),
) -> Case:
    """Draw a pipeline, its profiles, a trace and choices; times are of the order of one of the scales."""
    scale_ns = int(rng.choice(scales_ns))
    pipeline = random_pipeline(rng, scale_ns, max_stages=max_stages)
    tables = [_random_table(rng, stage.model, scale_ns) for stage in pipeline.stages.values()]
    profiles = Profiles.from_parts([Hardware(HARDWARE, 1.0)], tables)
    choices = {
        stage: (
            HARDWARE,
            int(rng.integers(1, table.largest_batch + 1)),
            int(rng.integers(1, MAX_REPLICAS + 1)),
        )
        for stage, table in zip(pipeline.stages, tables, strict=True)
    }
    return Case(pipeline, profiles, random_trace(rng, scale_ns, max_arrivals=max_arrivals), choices)


def staggered(rng: np.random.Generator, case: Case) -> Case:
    """The same where outputs of most stages go on one after another: by 1 ns, about as fast as batches, or slower."""
    stagger_s = {
        stage: float(rng.choice([0, 1, 1 + rng.integers(1 + max(times) // 4), max(times)])) / 1e9
        for stage, times in case.service_ns().items()
    }
    return case._replace(pipeline=case.pipeline.staggered(stagger_s))


def collecting(rng: np.random.Generator, case: Case) -> Case:
    """The same where most stages collect batches: for 1 ns, for less than a batch takes, or for longer."""
    window_s = {
        stage: float(rng.choice([0, 1, 1 + rng.integers(1 + max(times) // 2), 2 * max(times)])) / 1e9
        for stage, times in case.service_ns().items()
    }
    return case._replace(pipeline=case.pipeline.collecting(window_s))


def random_pipeline(rng: np.random.Generator, scale_ns: int, *, max_stages: int = MAX_STAGES) -> Pipeline:
    """Draw a pipeline; the order of its stages in the file is not the order of the flow."""
    count = int(rng.integers(1, max_stages + 1))
    parents = _random_parents(rng, count)
    names = [f"s{label}" for label in rng.permutation(count)]
    joins = [_random_join(rng, len(above)) for above in parents]
    graph: nx.DiGraph[str] = nx.DiGraph()
    for child in rng.permutation(count):
        attributes = {} if joins[child] is None else {"join": joins[child]}
        graph.add_node(names[child], model=f"m{child}", **attributes)
    load = [1.0] * count
    for child, above in enumerate(parents):
        for parent in above:
            attributes, mean = _random_edge(rng, scale_ns, room=MOST_TOKENS / load[parent] / len(above))
            graph.add_edge(names[parent], names[child], **attributes)
            load[child] += load[parent] * mean
        merges = joins[child] == "all" or (joins[child] is None and len(above) > 1)
        load[child] = 1.0 if merges or not above else max(1.0, load[child] - 1.0)
    return Pipeline(graph)


def random_laws(rng: np.random.Generator, case: Case) -> dict[str, str]:
    """Draw a law for every stage: paced all, or paced and eager ones mixed."""
    share = float(rng.choice([0.5, 1.0]))
    return {stage: "paced" if rng.random() < share else "eager" for stage in case.choices}


def random_trace(rng: np.random.Generator, scale_ns: int, *, max_arrivals: int = MAX_ARRIVALS) -> Trace:
    """Draw arrivals with many ties: steady, bursty, or all at one instant."""
    count = int(rng.integers(2, max_arrivals + 1))
    gap_ns = scale_ns * float(rng.choice([0.05, 0.3, 1.0, 3.0]))
    gaps = rng.geometric(1.0 / (1.0 + gap_ns), count) - 1
    kind = rng.choice(["steady", "bursts", "once"], p=[0.55, 0.4, 0.05])
    if kind == "bursts":
        gaps = np.where(rng.random(count) < 0.7, 0, 4 * gaps)
    elif kind == "once":
        gaps[:] = 0
    return Trace.from_ns(int(rng.integers(0, 50)) + np.cumsum(gaps))


def random_schedules(rng: np.random.Generator, case: Case) -> dict[str, ReplicaSchedule]:
    """Replica counts over time for most stages: few, now and then none; changes at arrivals as well as between."""
    ingress = case.trace.arrival_ns
    schedules = {}
    for stage, table_ns in case.service_ns().items():
        last = int(ingress[-1]) + 4 * max(table_ns)
        times = [
            rng.integers(0, last + 1, int(rng.integers(0, 5))),
            rng.choice(ingress, int(rng.integers(0, 4))),
        ]
        if rng.random() < 0.5:  # up and down while a batch is under way
            times.append(rng.choice(ingress) + np.cumsum(rng.integers(1, 2 + max(table_ns) // 3, 6)))
        changes = np.unique(np.concatenate(times))
        replicas = rng.integers(0, MAX_REPLICAS + 1, changes.size + 1)
        replicas[-1] = max(1, replicas[-1])
        delay_ns = int(rng.choice([0, 1, max(table_ns), last // 5]))
        if rng.random() < 0.8:
            schedules[stage] = ReplicaSchedule(changes, replicas, delay_ns)
    return schedules


def random_noise(rng: np.random.Generator) -> ServiceNoise:
    """Random service times by few or many factors, above and below 1, with a seed of their own or not."""
    seed = None if rng.random() < 0.5 else int(rng.integers(0, 2**40))
    kinds = [
        ServiceNoise.uniform(0.3, 1.0, seed=seed),
        ServiceNoise.lognormal(0.6, seed=seed),
        ServiceNoise.from_factors([0.5, 1.0, 2.0], seed=seed),
    ]
    return kinds[int(rng.integers(len(kinds)))]


def cases(*, max_stages: int = MAX_STAGES, max_arrivals: int = MAX_ARRIVALS) -> st.SearchStrategy[Case]:
    """Random cases for Hypothesis; what it reports is the seed."""
    seeds = st.integers(0, 2**32 - 1)
    return seeds.map(
        lambda seed: random_case(
            np.random.default_rng(seed), max_stages=max_stages, max_arrivals=max_arrivals
        )
    )


def features(case: Case, workload: Workload) -> set[str]:
    """Which kinds of trouble a case holds, as realised by its tokens."""
    tables = {stage: np.array(times) for stage, times in case.service_ns().items()}
    edges = case.pipeline.edges
    joins = {case.pipeline.stages[edge.child].join for edge in edges if _merges(case.pipeline, edge)}
    found = {
        "several stages": len(tables) > 1,
        "join all": Join.ALL in joins,
        "join each": Join.EACH in joins,
        "merges one edge": any(
            stage.join is Join.ALL and len(case.pipeline.incoming(name)) == 1
            for name, stage in case.pipeline.stages.items()
        ),
        "skip": any(_is_skip(case.pipeline, edge) for edge in edges),
        "several sources": len(case.pipeline.sources) > 1,
        "fan-out above 1": any(_multiplies(workload, edge) for edge in edges),
        "branch": any(edge.probability < 1 for edge in edges),
        "poisson": any(edge.fanout.poisson_mean is not None for edge in edges),
        "delay": any(edge.delay_ns > 0 for edge in edges),
        "ties": bool(np.any(np.diff(case.trace.arrival_ns) == 0)),
        "overload": any(_is_overloaded(case, workload, stage, tables[stage]) for stage in tables),
        "non-monotone": any(bool(np.any(np.diff(table) < 0)) for table in tables.values()),
        "one-token source": any(tables[stage].size == 1 for stage in case.pipeline.sources),
        "no token somewhere": any(tokens.count == 0 for tokens in workload.stages.values()),
    }
    return {name for name, present in found.items() if present}


def _random_parents(rng: np.random.Generator, count: int) -> list[list[int]]:
    shape = rng.choice(["chain", "tree", "diamond", "dag", "sources"])
    parents: list[list[int]] = [[]]
    for child in range(1, count):
        if shape == "chain":
            parents.append([child - 1])
        elif shape == "tree":
            parents.append([int(rng.integers(child))])
        elif shape == "diamond":
            # The last one merges all that branch off the first.
            parents.append(list(range(1, child)) if child == count - 1 and child > 2 else [0])
        else:
            fewest = 0 if shape == "sources" and rng.random() < 0.5 else 1
            size = int(rng.integers(fewest, min(child, 3) + 1))
            parents.append(sorted(int(parent) for parent in rng.choice(child, size, replace=False)))
    return parents


def _random_join(rng: np.random.Generator, incoming: int) -> str | None:
    if incoming == 0:
        return None
    if incoming == 1:
        return "all" if rng.random() < 0.15 else None
    choice = rng.choice(["default", "all", "each"], p=[0.3, 0.3, 0.4])
    return None if choice == "default" else str(choice)


def _random_edge(rng: np.random.Generator, scale_ns: int, *, room: float) -> tuple[dict[str, object], float]:
    """Attributes of an edge as written in a file, and its mean number of tokens, at most about `room`."""
    attributes: dict[str, object] = {}
    if rng.random() < 0.4:
        attributes["delay"] = f"{int(rng.integers(0, 2 * scale_ns))}ns"
    probability = float(rng.choice([1.0, 1.0, 0.9, 0.5, 0.15]))
    if probability < 1.0:
        attributes["probability"] = probability
    fanouts: list[tuple[object, float]] = [
        (2, 2.0),
        (3, 3.0),
        (0.6, 0.6),
        (1.5, 1.5),
        (2.6, 2.6),
        ({"values": [0, 1, 3], "weights": [0.4, 0.3, 0.3]}, 1.2),
        ({"values": [3, 0], "weights": [1, 2]}, 1.0),
        ({"poisson": 0.7}, 0.7),
        ({"poisson": 1.8}, 1.8),
    ]
    fanout, mean = fanouts[int(rng.integers(len(fanouts)))]
    if rng.random() < 0.5 or mean * probability > room:
        return attributes, probability
    attributes["fanout"] = fanout
    return attributes, mean * probability


def _random_table(rng: np.random.Generator, model: str, scale_ns: int) -> LatencyTable:
    """Measured sizes up to 5, not always from 1; latency rising, flat or without any order."""
    sizes = np.flatnonzero(rng.random(LARGEST_CAP) < 0.6) + 1
    if sizes.size == 0:
        sizes = np.array([int(rng.integers(1, LARGEST_CAP + 1))])
    latency_ns = rng.integers(1, scale_ns + 1, sizes.size)
    kind = rng.choice(["rising", "flat", "any"])
    if kind == "rising":
        latency_ns = np.cumsum(latency_ns)
    elif kind == "flat":
        latency_ns[:] = latency_ns[0]
    return LatencyTable(model, HARDWARE, sizes, latency_ns.astype(np.float64) * 1e-6)


def _merges(pipeline: Pipeline, edge: Edge) -> bool:
    return len(pipeline.incoming(edge.child)) > 1


def _is_skip(pipeline: Pipeline, edge: Edge) -> bool:
    """Whether another, longer way leads from the edge's parent to its child."""
    graph: nx.DiGraph[str] = nx.DiGraph((e.parent, e.child) for e in pipeline.edges if e is not edge)
    return edge.parent in graph and edge.child in graph and bool(nx.has_path(graph, edge.parent, edge.child))


def _multiplies(workload: Workload, edge: Edge) -> bool:
    """Whether some token made several tokens along an edge."""
    for messages in workload.stages[edge.child].messages:
        if messages.edge == edge and messages.parent.size:
            return bool(np.bincount(messages.parent).max() > 1)
    return False


def _is_overloaded(case: Case, workload: Workload, stage: str, table: np.ndarray) -> bool:
    """Whether the stage needs longer for its tokens than the trace lasts."""
    _, cap, replicas = case.choices[stage]
    return workload.stages[stage].count * int(table[-1]) > workload.span_ns * cap * replicas
