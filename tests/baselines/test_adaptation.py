"""FA2 and RIM by hand, and against brute force over their rules as they are written."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import networkx as nx
import numpy as np
import pytest

import mipplan as mp
from campaigns import campaign_size
from mipplan.profiles import Hardware, LatencyTable
from oracle_greedy import as_settings


def table(
    model: str, hardware: str, latency_ms: list[float], accuracy: float, sizes: Sequence[int] = (1, 4)
) -> LatencyTable:
    return LatencyTable(model, hardware, np.array(sizes), np.array(latency_ms), accuracy=np.full(2, accuracy))


def two_stages() -> tuple[mp.Pipeline, mp.Profiles, mp.Trace]:
    """A small and a large variant, then a stage with one model; 200 queries/s."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_node("detect", variants=["small", "large"])
    graph.add_node("classify", model="next")
    graph.add_edge("detect", "classify")
    tables = [
        table("small", "gpu", [10.0, 25.0], 0.6),
        table("large", "gpu", [20.0, 60.0], 0.7),
        table("next", "gpu", [5.0, 12.0], 0.9),
    ]
    profiles = mp.Profiles.from_parts([Hardware("gpu", 1.0)], tables)
    return mp.Pipeline(graph, slo_s=0.1), profiles, mp.Trace.from_seconds(np.linspace(0.0, 1.0, 200))


def test_fa2_by_hand() -> None:
    """small: 2 replicas with b = 1 (200 · 10 ms) or b = 4 (1.25); large: 4 with b = 1, 3 with b = 4; next: 1.

    A batch of 4 fills in 15 ms, so large takes 60 + 15 + 5 ms with b = 4 and 25 ms in all with b = 1.
    """
    given = two_stages()
    low = mp.baselines.fa2(*given)
    assert (low.usd_per_hour, low.choices["detect"].variant, low.choices["detect"].replicas) == (
        3.0,
        "small",
        2,
    )
    assert (low.status, low.solver, low.accuracy) == ("given", "fa2, low, mean", pytest.approx(0.54))
    high = mp.baselines.fa2(*given, variants="high", slo_s=0.080)
    assert as_settings(high.choices)["detect"] == ("gpu", 4, 3)
    assert high.accuracy == pytest.approx(0.63)
    named = mp.baselines.fa2(*given, variants={"detect": "large"}, slo_s=0.079)
    assert as_settings(named.choices) == {"detect": ("gpu", 1, 4), "classify": ("gpu", 1, 1)}
    # Twice the rate at the peak: all queries of a second come in its first half.
    bunched = mp.Trace.from_seconds(np.append(np.linspace(0.0, 0.5, 200), 1.0))
    peak = mp.baselines.fa2(*given[:2], bunched, variants={"detect": "large"}, mode="peak", window_s=0.5)
    assert peak.choices["detect"].replicas == 6
    never = mp.baselines.fa2(*given, slo_s=0.014)
    assert (never.status, never.reason) == (
        "infeasible",
        "batches and filling them along detect → classify take 15 ms, more than the objective of 14 ms",
    )


def test_rim_by_hand() -> None:
    """With 3 replicas large keeps up in batches of 4, with 2 only small does; with 1 nothing does."""
    given = two_stages()
    plan = mp.baselines.rim(*given, replicas=3)
    assert [(c.variant, c.batch, c.replicas) for c in plan.choices.values()] == [
        ("large", 4, 3),
        (None, 1, 3),
    ]
    assert (plan.solver, plan.accuracy, plan.usd_per_hour) == ("rim, mean", pytest.approx(0.63), 6.0)
    for asked in ({"replicas": 2}, {"replicas": 3, "largest_batch": 1}, {"replicas": 3, "slo_s": 0.079}):
        assert mp.baselines.rim(*given, **asked).choices["detect"].variant == "small"
    assert mp.baselines.rim(
        *given, replicas={"detect": 4, "classify": 1}, slo_s=0.079
    ).accuracy == pytest.approx(0.63)
    short = mp.baselines.rim(*given, replicas=1)
    assert (short.status, short.reason) == (
        "infeasible",
        "no allowed number of replicas keeps up with the rate at detect",
    )


@pytest.mark.parametrize("rule", [mp.baselines.fa2, partial(mp.baselines.rim, replicas=np.int64(4))])
def test_a_stage_that_no_token_reaches_waits_for_no_batch_to_fill(rule: Callable[..., mp.Plan]) -> None:
    """Of 200 queries none takes the edge; and a lone token a year does not fill a batch within any objective."""
    pipeline, profiles, trace = two_stages()
    rare = nx.DiGraph(pipeline.graph)
    rare.edges["detect", "classify"]["probability"] = 1e-9
    made = rule(mp.Pipeline(rare, slo_s=0.1), profiles, trace)
    assert (made.status, set(made.choices)) == ("given", {"detect", "classify"})
    assert all(type(choice.replicas) is int for choice in made.choices.values())
    tables = [table(model, "gpu", [10.0] * 2, 0.6, [1, 10**6]) for model in ("small", "large", "next")]
    profiles = mp.Profiles.from_parts([Hardware("gpu", 1.0)], tables)
    yearly = rule(pipeline, profiles, mp.Trace.from_seconds([0.0, 3e7]))
    assert {choice.batch for choice in yearly.choices.values()} == {1}


@pytest.mark.parametrize("rule", [mp.baselines.fa2, partial(mp.baselines.rim, replicas=4)])
def test_what_is_no_pipeline_and_no_profiles_is_told(rule: Callable[..., mp.Plan]) -> None:
    with pytest.raises(
        mp.InputError, match=r"pipeline: expected a Pipeline, found 'p.yaml'.*\nprofiles: expected"
    ):
        rule("p.yaml", None, two_stages()[2])


def test_bad_arguments() -> None:
    given = two_stages()
    with pytest.raises(
        mp.InputError, match="variants: expected 'low', 'high' or a variant per stage, found 'mid'"
    ):
        mp.baselines.fa2(*given, variants="mid")
    with pytest.raises(mp.InputError, match="variants: expected 'low', 'high' or"):
        mp.baselines.fa2(*given, variants=None)  # type: ignore[arg-type]
    with pytest.raises(mp.InputError, match="there is no variant 'lage'"):
        mp.baselines.fa2(*given, variants={"detect": "lage"})
    with pytest.raises(mp.InputError) as caught:
        mp.baselines.rim(*given, replicas={"detect": 0, "nowhere": 3}, largest_batch=0)
    assert "largest_batch: expected a whole number from 1" in str(caught.value)
    assert "replicas.detect" in str(caught.value)
    assert "replicas.nowhere" in str(caught.value)


# ---------------------------------------------------------------------------------------------- brute force


def drawn(seed: int) -> tuple[mp.Pipeline, mp.Profiles, mp.Trace]:
    """Three stages, a chain or a fork, of up to two variants on two devices, one of which may be limited."""
    rng = np.random.default_rng(seed)
    graph: nx.DiGraph[str] = nx.DiGraph()
    hardware = [
        Hardware("cpu", 0.3, limit=int(rng.integers(3, 8)) if seed % 3 == 0 else None),
        Hardware("gpu", 1.0),
    ]
    tables = []
    for stage in ("a", "b", "c"):
        models = [f"{stage}{k}" for k in range(int(rng.integers(1, 3)))]
        graph.add_node(stage, variants=models)
        for model, device in itertools.product(models, hardware):
            latency_ms = np.sort(rng.uniform(4, 60, 2)) / (3 if device.name == "gpu" else 1)
            accuracy = float(rng.choice([0.5, 0.7, 0.8]))
            tables.append(table(model, device.name, latency_ms.round(3).tolist(), accuracy))
    graph.add_edge("a", "b")
    graph.add_edge("a" if seed % 2 else "b", "c")
    pipeline = mp.Pipeline(graph, slo_s=float(rng.uniform(0.04, 0.3)) / (12 if seed % 4 == 3 else 1))
    return pipeline, mp.Profiles.from_parts(hardware, tables), mp.Trace.from_seconds(np.linspace(0, 1, 80))


def every(
    given: tuple[mp.Pipeline, mp.Profiles, mp.Trace], numbers: range, models: dict[str, str] | None
) -> Iterator[tuple[float, float, int]]:
    """Dollars, accuracy and sum of batch sizes of every choice that obeys the rule, from its definition."""
    pipeline, profiles, trace = given
    rate = len(trace) / (trace.span_ns / 1e9)
    stages: list[list[Any]] = []
    for name, stage in pipeline.stages.items():
        own = []
        for model, device in itertools.product(stage.models, profiles.hardware.values()):
            held = profiles.tables[model, device.name]
            assert held.accuracy is not None
            if models is not None and models[name] != model:
                continue
            for b, latency_ms, accuracy in zip(held.batch, held.latency_ms, held.accuracy, strict=True):
                for n in numbers:
                    if n * b / (latency_ms / 1e3) >= rate:
                        took_s = latency_ms / 1e3 + (b - 1) / rate
                        own.append((took_s, n * device.usd_per_hour, float(accuracy), int(b), device.name, n))
        stages.append(own)
    ways = [("a", "b"), ("a", "c")] if len(pipeline.outgoing("a")) == 2 else [("a", "b", "c")]
    names = list(pipeline.stages)
    for chosen in itertools.product(*stages):
        took = dict(zip(names, (part[0] for part in chosen), strict=True))
        cpus = sum(part[5] for part in chosen if part[4] == "cpu")
        limit = profiles.hardware["cpu"].limit
        if all(sum(took[stage] for stage in way) <= pipeline.slo_s for way in ways) and cpus <= (limit or 99):
            yield sum(p[1] for p in chosen), math.prod(p[2] for p in chosen), sum(p[3] for p in chosen)


def test_against_brute_force() -> None:
    found = set()
    for seed in range(campaign_size(20, 200)):
        given = drawn(seed)
        least = {name: stage.models[-1] for name, stage in given[0].stages.items()}
        answer = mp.baselines.fa2(*given, variants=least)
        costs = [usd for usd, _, _ in every(given, range(1, 6), least)]
        found.add(("fa2", bool(costs)))
        assert (answer.usd_per_hour is None) == (not costs)
        assert answer.usd_per_hour == (pytest.approx(min(costs)) if costs else None)
        fixed = 1 + seed % 3
        switched = mp.baselines.rim(*given, replicas=fixed)
        choices = list(every(given, range(fixed, fixed + 1), None))
        found.add(("rim", bool(choices)))
        if not choices:
            assert switched.status == "infeasible"
            continue
        usd, accuracy, batches = min(choices, key=lambda one: (-round(one[1], 9), round(one[0], 6), one[2]))
        assert switched.accuracy == pytest.approx(accuracy)
        assert switched.usd_per_hour == pytest.approx(usd)
        assert sum(choice.batch for choice in switched.choices.values()) == batches
    assert len(found) == 4
