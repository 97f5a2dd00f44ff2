"""Random small fleets: pipelines of `planning_instances` on one set of profiles, with scarce hardware."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import networkx as nx
import numpy as np

import mipplan as mp
from mipplan.fleet.problem import Fleet, FleetMember
from mipplan.profiles import Hardware, LatencyTable
from planning_instances import planning_instance

FIRST = 31_000


def shared_profiles(rng: np.random.Generator, limits: dict[str, int]) -> mp.Profiles:
    """Three models on three hardware types; every model runs on at least two of them."""
    prices = {"cpu": 0.2, "t4": 0.6, "a100": 2.0}
    hardware = [Hardware(name, price, limit=limits.get(name)) for name, price in prices.items()]
    tables = []
    for model in ("m1", "m2", "m3"):
        left_out = str(rng.choice(["", "", "cpu", "a100"]))
        base = float(rng.uniform(2, 9))
        for rank, name in enumerate(prices):
            if name != left_out:
                sizes = np.array([1, 2, 4][: int(rng.integers(1, 4))])
                latency = base / (1, 2.2, 6)[rank] * (1 + 0.4 * sizes)
                tables.append(LatencyTable(model, name, sizes, np.round(latency, 2)))
    return mp.Profiles.from_parts(hardware, tables)


def fleet_of(number: int, *, pipelines: int | None = None, scarcity: float | None = None) -> Fleet:
    """Fleet `number`, always the same one: limits are a share of what the pipelines would use each by itself.

    Parameters
    ----------
    number : int
    pipelines : int, optional
        From 2 to 4 by default.
    scarcity : float, optional
        That share; drawn if absent, at times below what anything can do with.
    """
    rng = np.random.default_rng([88, number])
    count = int(rng.integers(2, 5)) if pipelines is None else pipelines
    share = float(rng.choice([0.3, 0.5, 0.7, 0.9])) if scarcity is None else scarcity
    state = rng.bit_generator.state
    profiles = shared_profiles(rng, {})
    members = []
    while len(members) < count:
        case = planning_instance(int(rng.integers(FIRST)), shape="chain" if rng.random() < 0.6 else "diamond")
        alone = mp.plan(
            case.pipeline, profiles, case.trace, slo_s=case.slo_ns * 2 / 1e9, quantile=0.9, time_limit_s=5
        )
        if alone.status == "optimal":
            name = f"{case.pipeline.name}-{len(members)}"
            weight = 1000 * int(rng.integers(1, 4))
            members.append((alone, FleetMember(name, case.pipeline, case.trace, case.slo_ns * 2, weight)))
    used = dict.fromkeys(profiles.hardware, 0)
    for alone, _ in members:
        for choice in alone.choices.values():
            used[choice.hardware] += choice.replicas
    limits = {name: int(share * amount + rng.integers(0, 2)) for name, amount in used.items()}
    dearest = max(limits, key=lambda name: used[name])
    limited = {name: limits[name] for name in limits if name == dearest or rng.random() < 0.4}
    rng.bit_generator.state = state
    return Fleet(tuple(member for _, member in members), shared_profiles(rng, limited), 0.9, 0)


def with_budget(fleet: Fleet, budget: int) -> Fleet:
    """Return the fleet with a budget, micro-dollars per hour."""
    return replace(fleet, budget=budget)


def arguments_of(fleet: Fleet) -> tuple[dict[str, tuple[Any, ...]], mp.Profiles]:
    """Return the fleet as `plan_fleet` is given it; the accuracy only where one is asked for."""
    pipelines = {
        member.name: (member.pipeline, member.trace, member.slo_ns / 1e9, member.weight / 1000)
        + (() if member.min_accuracy is None else (member.min_accuracy,))
        for member in fleet.members
    }
    return pipelines, fleet.profiles


RULES = ("product", "sum", "worst_path", "path_shares")


def small_fleet(
    number: int, *, scarcity: float | None = None, variants: bool = False, changing: float = 0.5
) -> Fleet:
    """A fleet so small that every certified plan of every pipeline can be listed: two stages, few replicas.

    With `variants` every pipeline chooses models, by one of the rules and up to an accuracy that some choice has; of
    some pipelines, a share `changing` of those that can, variants change the tokens.
    """
    rng = np.random.default_rng([89, number])
    share = float(rng.choice([0.4, 0.6, 0.8])) if scarcity is None else scarcity
    profiles = shared_profiles(rng, {})
    members = []
    used = dict.fromkeys(profiles.hardware, 0)
    while len(members) < 3:
        graph: nx.DiGraph[str] = nx.DiGraph()
        for stage in ("a", "b"):
            graph.add_node(stage, model=str(rng.choice(["m1", "m2", "m3"])), replicas={"min": 1, "max": 2})
            if variants:
                models = ["m1", "m2", "m3"] if rng.random() < 0.7 else [graph.nodes[stage]["model"]]
                accuracies = rng.choice([0.5, 0.6, 0.75, 0.9, 0.97], len(models), replace=False)
                graph.nodes[stage]["variants"] = dict(zip(models, accuracies.tolist(), strict=True))
        graph.add_edge("a", "b", delay="1ms", probability=float(rng.choice([1.0, 0.5])))
        if variants and len(graph.nodes["a"]["variants"]) > 1 and rng.random() < changing:
            shares = rng.choice([0.3, 0.6, 1.0], 3)
            graph.edges["a", "b"]["probability"] = dict(zip(["m1", "m2", "m3"], shares.tolist(), strict=True))
        rule = {"accuracy": str(rng.choice(RULES))} if variants else {}
        pipeline = mp.Pipeline(graph=graph, slo_s=1.0, name="small", **rule)
        floor = _drawn_floor(rng, pipeline) if variants and rng.random() < 0.9 else None
        gaps_ms = rng.gamma(0.5, 2.0, 40) * float(rng.uniform(4, 12))
        trace = mp.Trace.from_ns(np.rint(np.cumsum(gaps_ms) * 1e6).astype(np.int64))
        slo_s = float(rng.uniform(0.02, 0.08))
        alone = mp.plan(pipeline, profiles, trace, slo_s=slo_s, quantile=0.9, accuracy=floor)
        if alone.status != "optimal":
            continue
        weight = 1000 * int(rng.integers(1, 4))
        name, slo_ns = f"p{len(members)}", round(slo_s * 1e9)
        members.append(FleetMember(name, pipeline, trace, slo_ns, weight, min_accuracy=floor))
        for choice in alone.choices.values():
            used[choice.hardware] += choice.replicas
    limits = {name: max(1, int(share * amount)) for name, amount in used.items()}
    hardware = [replace(device, limit=limits[name]) for name, device in profiles.hardware.items()]
    return Fleet(tuple(members), mp.Profiles.from_parts(hardware, profiles.tables.values()), 0.9, 0)


def _drawn_floor(rng: np.random.Generator, pipeline: mp.Pipeline) -> float | None:
    """An accuracy that some choice of variants just has; none where no stage has several."""
    every = [list(stage.accuracies or ()) for stage in pipeline.stages.values()]
    if max(map(len, every)) < 2:
        return None
    own = {name: float(rng.choice(known)) for name, known in zip(pipeline.stages, every, strict=True)}
    return pipeline.accuracy.value(pipeline, own)
