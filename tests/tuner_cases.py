"""Plans and arrival curves for tests of the tuner."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from itertools import pairwise
from typing import Any

import networkx as nx
import numpy as np
from numpy.typing import NDArray

import mipplan as mp
from mipplan.calculus import ArrivalCurve, WorstCase
from mipplan.certificate import plan_services
from mipplan.pipeline import Pipeline
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.tokens import realise
from oracle_envelope import SlowService, slow_most_tokens
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


def singles(case: Case) -> dict[str, SlowService]:
    """Service of one replica of each stage, in rational numbers."""
    services = plan_services(
        case._replace(choices={s: (h, b, 1) for s, (h, b, _) in case.choices.items()}).plan()
    )
    return {s: SlowService(v.latency_ns, Fraction(v.tokens, v.period_ns)) for s, v in services.items()}


def outstanding(
    plan: mp.Plan,
    trace: mp.Trace,
    now_ns: int,
    exit_ns: Mapping[str, NDArray[np.int64]],
    *,
    as_total: bool = False,
) -> int | dict[str, int]:
    """What is in the system at an instant: all queries, or tokens per stage, on their way there or at it.

    `exit_ns` says when the tokens of each stage leave, in token order.
    """
    early = trace.arrival_ns < now_ns
    there = {stage: exits >= now_ns for stage, exits in exit_ns.items()}
    workload = realise(plan.pipeline, trace, plan.seed)
    if as_total:
        there_yet = [tokens.query[there[stage]] for stage, tokens in workload.stages.items()]
        return int(early[np.unique(np.concatenate(there_yet))].sum())
    found = {}
    for stage, tokens in workload.stages.items():
        sent = np.full(tokens.count, not tokens.messages)
        for messages in tokens.messages:
            sent[messages.child[exit_ns[messages.edge.parent][messages.parent] < now_ns]] = True
        found[stage] = int((early[tokens.query] & there[stage] & sent).sum())
    return found


def promises_recovery(step: mp.TuningStep) -> bool:
    """Whether queries that arrive when recovery is over keep the objective."""
    return step.share == 1 and not step.replan and not any("may be late" in note for note in step.notes)


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


#: Tokens of one query at one stage of a fan-out case; times the number of queries this is what a replay takes.
MOST_FANNED_OUT = 128


def fanned_out_case(rng: np.random.Generator) -> Case:
    """Draw a pipeline with fan-outs up to 64, uneven ones among them, hop delays, and few or many replicas."""
    count = int(rng.integers(2, 6))
    scale_ns = int(rng.choice([1, 10, 300]))
    shape = str(rng.choice(["chain", "tree", "diamond", "dag"]))
    graph: nx.DiGraph[str] = nx.DiGraph()
    load: list[int] = []
    tables, choices = [], {}
    for child in range(count):
        parents = _parents(rng, shape, child, count)
        joins = str(rng.choice(["all", "each"])) if len(parents) > 1 or rng.random() < 0.15 else None
        graph.add_node(f"s{child}", model=f"m{child}", **({"join": joins} if joins and parents else {}))
        arriving = 0
        for parent in parents:
            room = max(1, MOST_FANNED_OUT // load[parent] // len(parents))
            attributes, most = _wide_edge(rng, room, scale_ns)
            graph.add_edge(f"s{parent}", f"s{child}", **attributes)
            arriving += load[parent] * most
        merges = bool(parents) and (joins == "all")
        load.append(1 if merges or not parents else arriving)
        cap = int(rng.choice([1, 1, 1, 2, 8]))
        latency_ns = np.cumsum(rng.integers(1, 10 * scale_ns + 1, cap))
        if rng.random() < 0.3:
            latency_ns[:] = latency_ns[-1]
        tables.append(LatencyTable(f"m{child}", "h", np.arange(cap) + 1, latency_ns * 1e-6))
        choices[f"s{child}"] = ("h", cap, int(rng.choice([1, 1, 1, 2, 5, 40])))
    pipeline = Pipeline(graph)
    profiles = Profiles.from_parts([Hardware("h", 1.0)], tables)
    return Case(pipeline, profiles, mp.Trace.from_ns([0, 1]), choices)


def _parents(rng: np.random.Generator, shape: str, child: int, count: int) -> list[int]:
    if child == 0:
        return []
    if shape == "chain":
        return [child - 1]
    if shape == "tree":
        return [int(rng.integers(child))]
    if shape == "diamond":  # all branches meet at the last stage
        return list(range(1, child)) if child == count - 1 and child > 2 else [0]
    fewest = 0 if rng.random() < 0.2 else 1
    size = int(rng.integers(fewest, min(child, 3) + 1))
    return sorted(int(parent) for parent in rng.choice(child, size, replace=False))


def _wide_edge(rng: np.random.Generator, room: int, scale_ns: int) -> tuple[dict[str, Any], int]:
    """Attributes of an edge with at most `room` tokens, and the most it makes."""
    attributes: dict[str, Any] = {}
    if rng.random() < 0.3:
        attributes["delay"] = f"{int(rng.integers(0, 30 * scale_ns))}ns"
    if rng.random() < 0.3:
        attributes["probability"] = float(rng.choice([0.3, 0.8]))
    wide = min(room, int(rng.choice([1, 2, 7, 31, 50, 64])))
    if wide > 1:
        uneven = [{"values": [1, wide], "weights": [4, 1]}, {"values": [0, 1, wide], "weights": [1, 2, 2]}]
        attributes["fanout"] = [wide, wide, *uneven][int(rng.integers(4))]
    return attributes, wide


def single_token_case(rng: np.random.Generator) -> Case:
    """Draw a pipeline in which no stage sees more than one token per query: fan-outs of one, joins of all."""
    case = random_case(rng, max_stages=5)
    graph: nx.DiGraph[str] = nx.DiGraph(case.pipeline.graph)
    for edge in case.pipeline.edges:
        graph.edges[edge.parent, edge.child].pop("fanout", None)
    for name in case.pipeline.stages:
        if len(case.pipeline.incoming(name)) > 1:
            graph.nodes[name]["join"] = "all"
    return case._replace(pipeline=Pipeline(graph))
