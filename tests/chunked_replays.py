"""What tests of chunked replays, streams and verdicts share."""

from __future__ import annotations

import networkx as nx
import numpy as np

from mipplan.pipeline import Pipeline
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.replayer import (
    ENGINES,
    NEVER,
    ChunkedReplay,
    Discipline,
    Engine,
    EngineFeature,
    ReplaySettings,
    ReplicaSchedule,
    ServiceNoise,
    replay_many,
)
from mipplan.result import Plan, ReplayResult, StageTotals
from random_pipelines import HARDWARE, Case

RESUMING = [engine for engine in ENGINES.values() if engine.can(frozenset({EngineFeature.RESUME}))]


def chain(
    *, stages: int = 3, replicas: tuple[int, ...] = (4, 11, 2), model: str | None = None, slo_s: float = 0.3
) -> Plan:
    """The reference pipeline of three stages, each with ℓ(k) = a + c·k, or its first few."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    tables, choices = [], {}
    figures = [(10.0, 2.0, 8), (20.0, 5.0, 4), (5.0, 1.0, 16)]
    for number, (fixed_ms, each_ms, cap) in enumerate(figures[:stages]):
        graph.add_node(f"s{number}", model=model or f"m{number}")
        if number:
            graph.add_edge(f"s{number - 1}", f"s{number}")
        sizes = np.arange(1, cap + 1)
        tables.append(LatencyTable(model or f"m{number}", HARDWARE, sizes, fixed_ms + each_ms * sizes))
        choices[f"s{number}"] = (HARDWARE, cap, replicas[number])
    profiles = Profiles.from_parts([Hardware(HARDWARE, 1.0)], tables)
    return Plan.from_choices(Pipeline(graph), profiles, choices, slo_s=slo_s)


def variant(case: Case, rng: np.random.Generator) -> Plan:
    """The same case with other replicas at some stages."""
    choices = {
        stage: (hardware, batch, int(rng.integers(1, 5)) if rng.random() < 0.5 else replicas)
        for stage, (hardware, batch, replicas) in case.choices.items()
    }
    return case._replace(choices=choices).plan()


def random_settings(
    case: Case, discipline: Discipline, engine: Engine, rng: np.random.Generator
) -> ReplaySettings:
    """In a third of the cases changing replicas, in a third random service, as far as the engine can."""
    schedule: dict[str, ReplicaSchedule] = {}
    span_ns = 2 * case.trace.span_ns + 10
    if EngineFeature.SCHEDULE in engine.features and rng.random() < 1 / 3:
        for stage in case.choices:
            change_ns = np.unique(rng.integers(0, span_ns, int(rng.integers(0, 5))))
            replicas = np.append(rng.integers(0, 4, change_ns.size), int(rng.integers(1, 4)))
            schedule[stage] = ReplicaSchedule(change_ns, replicas, int(rng.integers(0, 20)))
    noise = None
    if EngineFeature.RANDOM_SERVICE in engine.features and rng.random() < 1 / 3:
        noise = ServiceNoise.from_factors(rng.uniform(0.2, 3.0, 5))
    return ReplaySettings(discipline, schedule, noise)


def in_chunks(
    plans: list[Plan], case: Case, sizes: list[int], *, settings: ReplaySettings, engine: Engine, seed: int
) -> tuple[list[list[int]], list[dict[str, StageTotals]]]:
    """Latency of each query and totals of each stage, plan by plan, from pieces of these sizes in turn."""
    chunks = ChunkedReplay(plans, settings, engine, seed)
    ingress_ns = case.trace.arrival_ns
    latency_ns = np.full((len(plans), ingress_ns.size), -1)
    start, turn = 0, 0
    while start < ingress_ns.size:
        end = min(start + sizes[turn % len(sizes)], ingress_ns.size)
        # As late as allowed and as early as a stream does it, in turn.
        following = int(ingress_ns[end]) if end < ingress_ns.size and turn % 2 else int(ingress_ns[end - 1])
        chunks.advance(ingress_ns[start:end], following - 1)
        take(chunks, latency_ns)
        start, turn = end, turn + 1
    chunks.advance(ingress_ns[:0], NEVER)
    take(chunks, latency_ns)
    assert chunks.carried_tokens == 0
    return latency_ns.tolist(), [chunks.totals(plan) for plan in range(len(plans))]


def check_pieces(
    plans: list[Plan], case: Case, sizes: list[int], *, settings: ReplaySettings, engine: Engine, seed: int
) -> None:
    """Assert that pieces give what one replay of everything gives, by the plain engine."""
    expected = replay_many(
        plans,
        case.trace,
        discipline=None if settings.discipline is None else settings.discipline.value,
        engine="python",
        seed=seed,
        schedule=settings.schedule,
        noise=settings.noise,
        stagger_s=settings.stagger_s,
    )
    latency_ns, totals = in_chunks(plans, case, sizes, settings=settings, engine=engine, seed=seed)
    assert latency_ns == [result.latency_ns.tolist() for result in expected]
    assert totals == [totals_of(result) for result in expected]


def take(chunks: ChunkedReplay, latency_ns: np.ndarray) -> None:
    """Write down the latencies of the queries that are finished under all plans."""
    released = chunks.release(range(len(latency_ns)))
    assert np.all(latency_ns[:, released.query] == -1), "released twice"
    latency_ns[:, released.query] = released.latency_ns


def totals_of(result: ReplayResult) -> dict[str, StageTotals]:
    """What each stage did, in sums."""
    return {
        stage: StageTotals(
            seen.replicas,
            seen.tokens,
            seen.batch_size.size,
            int((seen.dispatch_ns - seen.arrival_ns).sum()),
            int(seen.batch_service_ns.sum()),
            int((seen.dispatch_ns - seen.arrival_ns).max(initial=0)),
            int(seen.arrival_ns.min()) if seen.tokens else 0,
            int(seen.exit_ns.max(initial=0)),
        )
        for stage, seen in result.stages.items()
    }
