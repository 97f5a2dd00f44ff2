"""Random small planning problems, made through the public constructors, that brute force can settle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np

import mipplan as mp
from mipplan.core import SearchLimits
from mipplan.planner import PlanMaker, PlanningParams, SearchParams
from mipplan.planner.narrowing import NarrowingParams
from mipplan.profiles import Hardware, LatencyTable
from mipplan.result import Figures, PlanStatus
from mipplan.tokens import Workload, realise
from oracle_planner import OracleFamily, oracle_certificate, oracle_families

_HARDWARE = ("cpu", "t4", "a100")
_SHAPES: dict[str, tuple[tuple[str, str], ...]] = {
    "chain": (("a", "b"), ("b", "c"), ("c", "d")),
    "branch": (("a", "b"), ("a", "c"), ("b", "d")),
    "diamond": (("a", "b"), ("a", "c"), ("b", "d"), ("c", "d")),
    "skip": (("a", "b"), ("b", "c"), ("a", "c")),
    "sources": (("a", "c"), ("b", "c")),
}


@dataclass(frozen=True)
class PlanningInstance:
    """One planning request, with the words for what is special about it."""

    pipeline: mp.Pipeline
    profiles: mp.Profiles
    trace: mp.Trace
    slo_ns: int
    quantile: float
    seed: int
    features: frozenset[str]

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments for `mipplan.plan`."""
        return {"slo_s": self.slo_ns / 1e9, "quantile": self.quantile, "seed": self.seed}

    def plan(self, **more: Any) -> mp.Plan:
        """Plan it."""
        return mp.plan(self.pipeline, self.profiles, self.trace, **{**self.arguments, **more})


def made_again(plan: mp.Plan, params: SearchParams, narrowing: NarrowingParams | None = None) -> mp.Plan:
    """Search for the same plan in another way."""
    asked = replace(
        plan,
        choices={},
        status=PlanStatus.UNKNOWN,
        figures=Figures(lower_bound_microusd_per_hour=0),
        reason=None,
        limit=None,
    )
    return PlanMaker(
        asked, SearchLimits(), PlanningParams(search=params, narrowing=narrowing or NarrowingParams())
    ).cheapest()


def check_made(plan: mp.Plan, trace: mp.Trace, path: Path) -> None:
    """Assert that its file holds the plan and is verified, and that its certificate covers its replay."""
    plan.save(path)
    assert mp.Plan.load(path).to_json() == plan.to_json()
    verification = mp.verify(path, trace)
    assert verification.verified, verification.problems
    replayed = mp.replay(plan, trace)
    assert replayed.certificate_applies
    assert replayed.quantile(plan.quantile) <= plan.certificate_s


def check_ranges(plan: mp.Plan) -> None:
    """Assert that it costs the same where options are struck in ranges first, as happens where they are many."""
    again = made_again(plan, SearchParams(), NarrowingParams(many=0))
    assert again.status == plan.status
    assert again.microusd_per_hour == plan.microusd_per_hour
    assert again.lower_bound_microusd_per_hour == plan.lower_bound_microusd_per_hour


def planning_instance(
    number: int, *, shape: str | None = None, limited: bool | None = None
) -> PlanningInstance:
    """Instance `number`, always the same one.

    Parameters
    ----------
    number : int
    shape : str, optional
        A key of the shapes above; drawn if absent.
    limited : bool, optional
        Whether hardware has device limits and stages restrictions; drawn if absent.
    """
    rng = np.random.default_rng([20260101, number])
    shape = shape or str(rng.choice(list(_SHAPES), p=[0.35, 0.2, 0.2, 0.15, 0.1]))
    limited = bool(rng.random() < 0.4) if limited is None else limited
    features = {shape, *(["limited"] if limited else [])}
    trace = _trace(rng, features)
    profiles = _profiles(rng, limited, features)
    pipeline = _pipeline(rng, shape, limited, tuple(profiles.hardware), features)
    quantile = float(rng.choice([0.5, 0.9, 0.99, 1.0]))
    seed = int(rng.integers(0, 4))
    workload = realise(pipeline, trace, seed)
    slo_ns = _objective(rng, workload, oracle_families(pipeline, profiles, workload), quantile, features)
    return PlanningInstance(pipeline, profiles, trace, slo_ns, quantile, seed, frozenset(features))


def _trace(rng: np.random.Generator, features: set[str]) -> mp.Trace:
    count = int(rng.choice([20, 30, 45, 70, 200], p=[0.35, 0.3, 0.2, 0.12, 0.03]))
    gaps_ms = rng.gamma(float(rng.choice([0.15, 0.5, 1.0, 4.0])), 1.0, count)
    gaps_ms *= float(rng.choice([2.0, 5.0, 15.0])) / gaps_ms.mean()
    arrival_ms = np.cumsum(gaps_ms)
    if rng.random() < 0.5:
        features.add("ties")
        arrival_ms = np.floor(arrival_ms / 4.0) * 4.0
    arrival_ns = np.rint(arrival_ms * 1e6).astype(np.int64)
    arrival_ns[-1] = max(int(arrival_ns[-1]), int(arrival_ns[0]) + 20_000_000)
    return mp.Trace.from_ns(np.sort(arrival_ns), name="random")


def _profiles(rng: np.random.Generator, limited: bool, features: set[str]) -> mp.Profiles:
    names = _HARDWARE[: int(rng.choice([1, 2, 3], p=[0.2, 0.5, 0.3]))]
    hardware = []
    for rank, name in enumerate(names):
        # Few distinct prices, so that plans of equal cost are common.
        price = float(rng.choice([0.1, 0.2, 0.25])) * (1, 3, 8)[rank]
        limit = int(rng.integers(0, 7)) if limited and rng.random() < 0.6 else None
        memory = float(rng.choice([4.0, 16.0])) if rng.random() < 0.5 else None
        hardware.append(Hardware(name, price, memory, limit))
    tables = []
    for model in ("m1", "m2", "m3"):
        for rank, name in enumerate(names):
            if rank and rng.random() < 0.1:
                continue
            tables.append(_table(rng, model, name, 1.0 / (1, 2.5, 6)[rank], features))
    return mp.Profiles.from_parts(hardware, tables)


def _table(
    rng: np.random.Generator, model: str, hardware: str, scale: float, features: set[str]
) -> LatencyTable:
    sizes = np.sort(rng.choice([1, 2, 3, 4, 8], size=int(rng.choice([1, 2, 3])), replace=False))
    latency = scale * float(rng.uniform(1, 12)) * (1 + float(rng.uniform(0.02, 0.8)) * sizes)
    if sizes.size > 1 and rng.random() < 0.3:
        latency[int(rng.integers(0, sizes.size - 1))] *= float(rng.uniform(1.5, 4))
        if np.any(np.diff(latency) < 0):
            features.add("non-monotone")
    memory = None
    if rng.random() < 0.3:
        memory = sizes * float(rng.uniform(0.5, 4))
        features.add("memory")
    # Rounded coarsely at times: then rates and latencies of different options tie.
    return LatencyTable(
        model, hardware, sizes, np.round(latency, int(rng.choice([0, 3, 6]))) + 0.5, memory_gib=memory
    )


def _pipeline(
    rng: np.random.Generator, shape: str, limited: bool, names: tuple[str, ...], features: set[str]
) -> mp.Pipeline:
    edges = list(_SHAPES[shape])
    if shape == "chain":
        edges = edges[: int(rng.choice([1, 2, 3], p=[0.45, 0.4, 0.15]))]
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name in sorted({end for edge in edges for end in edge}):
        graph.add_node(
            name, model=str(rng.choice(["m1", "m2", "m3"])), **_restrictions(rng, limited, names, features)
        )
    for parent, child in edges:
        attributes: dict[str, Any] = {"delay": f"{int(rng.integers(0, 3))}ms"}
        # Some chains pass every query on, once: there bound and certificate agree.
        if shape != "chain" or rng.random() < 0.5:
            if rng.random() < 0.4:
                attributes["probability"] = float(rng.choice([0.1, 0.4, 0.8]))
                features.add("probability")
            if rng.random() < 0.3:
                attributes["fanout"] = [2, 1.5, {"values": [0, 1, 3], "weights": [1, 2, 1]}][
                    int(rng.integers(3))
                ]
                features.add("fanout")
        graph.add_edge(parent, child, **attributes)
    if not features & {"probability", "fanout"} and shape == "chain":
        features.add("plain chain")
    merging = [name for name in graph if graph.in_degree(name) > 1]
    for name in merging:
        if rng.random() < 0.3:
            graph.nodes[name]["join"] = "each"
            features.add("join each")
        else:
            features.add("join all")
    return mp.Pipeline(graph=graph, slo_s=1.0, name=shape)


def _restrictions(
    rng: np.random.Generator, limited: bool, names: tuple[str, ...], features: set[str]
) -> dict[str, Any]:
    restrictions: dict[str, Any] = {}
    if not limited:
        return restrictions
    draw = rng.random()
    if draw < 0.15:
        restrictions["replicas"] = int(rng.integers(1, 4))
    elif draw < 0.4:
        least = int(rng.integers(1, 3))
        restrictions["replicas"] = {"min": least, "max": least + int(rng.integers(0, 4))}
    if rng.random() < 0.2:
        restrictions["batch"] = {"min": 1, "max": int(rng.choice([2, 4]))}
    elif rng.random() < 0.1:
        restrictions["batch"] = [1, 2, 4]
    if rng.random() < 0.15:
        restrictions["hardware"] = list(names[:2])
    if restrictions:
        features.add("restricted")
    return restrictions


def _objective(
    rng: np.random.Generator,
    workload: Workload,
    families: dict[str, list[OracleFamily]],
    quantile: float,
    features: set[str],
) -> int:
    """Around the certificate of some plan: exactly on it, just below, hopeless, or anywhere."""
    if any(not found for found in families.values()):
        features.add("blocked")
        return 100_000_000
    services = {}
    for name, found in families.items():
        family = found[int(rng.integers(len(found)))]
        services[name] = family.service(min(family.most, family.fewest + int(rng.integers(0, 3))))
    reached = oracle_certificate(workload, services, quantile)
    kind = str(rng.choice(["exact", "below", "near", "loose", "hopeless"], p=[0.3, 0.15, 0.3, 0.15, 0.1]))
    features.add(kind)
    factor = {"near": float(rng.uniform(0.7, 1.3)), "loose": 5.0, "hopeless": 0.1}.get(kind, 1.0)
    return max(1, int(reached * factor) - (kind == "below"))


def powered_profiles(instance: PlanningInstance) -> mp.Profiles:
    """Profiles of the hand-made instance whose devices draw 20 W and 100 W."""
    watts = {"cpu": 20.0, "t4": 100.0}
    devices = [replace(d, tdp_w=watts[d.name]) for d in instance.profiles.hardware.values()]
    return mp.Profiles.from_parts(devices, instance.profiles.tables.values())


def hand_made(slo_s: float = 0.08, *, limit: int | None = None, probability: float = 1.0) -> PlanningInstance:
    """Two stages, two hardware types, fifty arrivals in bursts of five: small enough to follow by hand."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("detect", model="m1")
    graph.add_node("identify", model="m2")
    graph.add_edge("detect", "identify", delay="1ms", probability=probability)
    hardware = [Hardware("cpu", 0.1), Hardware("t4", 0.5, memory_gib=16.0, limit=limit)]
    tables = [
        LatencyTable("m1", "cpu", np.array([1, 2]), np.array([8.0, 14.0])),
        LatencyTable("m1", "t4", np.array([1, 4]), np.array([3.0, 6.0])),
        LatencyTable("m2", "cpu", np.array([1, 2]), np.array([6.0, 10.0])),
        LatencyTable("m2", "t4", np.array([1, 4]), np.array([2.0, 3.0]), memory_gib=np.array([2.0, 4.0])),
    ]
    arrival_ms = np.repeat(np.arange(10) * 40, 5)
    trace = mp.Trace.from_ns(arrival_ms * 1_000_000, name="bursts")
    pipeline = mp.Pipeline(graph=graph, slo_s=slo_s, name="hand-made")
    return PlanningInstance(
        pipeline, mp.Profiles.from_parts(hardware, tables), trace, round(slo_s * 1e9), 0.99, 0, frozenset()
    )
