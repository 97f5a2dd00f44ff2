"""IPA's weighted objective over certified plans, against every configuration of small pipelines."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest

import mipplan as mp
from campaigns import campaign_size
from mipplan.ipa import Weights
from mipplan.profiles import Hardware, LatencyTable
from mipplan.result import Choice

MOST_REPLICAS = 4


def drawn(seed: int) -> tuple[mp.Pipeline, mp.Profiles, mp.Trace]:
    """A chain of one or two stages with two variants each, one or two batch sizes, and bursty traffic."""
    rng = np.random.default_rng(seed)
    graph: nx.DiGraph[str] = nx.DiGraph()
    tables = []
    for number in range(int(rng.integers(1, 3))):
        graph.add_node(f"s{number}", variants=[f"m{number}a", f"m{number}b"], replicas={"max": MOST_REPLICAS})
        if number:
            graph.add_edge("s0", "s1")
        sizes = np.array([1, 4]) if rng.random() < 0.7 else np.array([2])
        for model in (f"m{number}a", f"m{number}b"):
            latency_ms = np.sort(rng.uniform(3, 30, sizes.size)).round(3)
            accuracy = np.full(sizes.size, float(rng.choice([0.5, 0.6, 0.75, 0.9])))
            tables.append(LatencyTable(model, "gpu", sizes, latency_ms, accuracy=accuracy))
    profiles = mp.Profiles.from_parts([Hardware("gpu", float(rng.choice([0.5, 1.0])))], tables)
    slo_s = float(rng.uniform(0.1, 0.3)) / (30 if seed % 5 == 4 else 1)
    return mp.Pipeline(graph, slo_s=slo_s), profiles, mp.Trace.gamma(40.0, 2.0, 3.0, seed=seed)


def every_certified(pipeline: mp.Pipeline, profiles: mp.Profiles, trace: mp.Trace) -> Iterator[mp.Plan]:
    """Every configuration that outruns the rate and is certified, one by one."""
    rate_rps = len(trace) / (trace.span_ns / 1e9)
    per_stage = [
        [
            Choice("gpu", int(b), n, model)
            for model in stage.models
            for b, latency_ms in zip(
                profiles.tables[model, "gpu"].batch, profiles.tables[model, "gpu"].latency_ms, strict=True
            )
            for n in range(1, MOST_REPLICAS + 1)
            if n * b / (latency_ms / 1e3) > rate_rps
        ]
        for stage in pipeline.stages.values()
    ]
    for chosen in itertools.product(*per_stage):
        choices = dict(zip(pipeline.stages, chosen, strict=True))
        plan = mp.Plan.from_choices(pipeline, profiles, choices)
        if mp.certify(plan, trace).bound_s <= pipeline.slo_s:
            yield plan


def value(plan: mp.Plan, weights: Weights) -> float:
    batches = sum(choice.batch for choice in plan.choices.values())
    assert plan.accuracy is not None
    assert plan.usd_per_hour is not None
    return weights.accuracy * plan.accuracy - weights.cost * plan.usd_per_hour - weights.batch * batches


def test_it_is_the_best_of_every_configuration() -> None:
    batches_mattered = found_none = 0
    for seed in range(campaign_size(5, 100)):
        given = drawn(seed)
        every = list(every_certified(*given))
        rng = np.random.default_rng([1, seed])
        for delta in (0.0, 1e-6, float(rng.uniform(0.05, 1.0))):
            weights = Weights(float(rng.uniform(0, 20)), float(rng.uniform(0, 2)), delta)
            answer = mp.weigh(*given, weights=weights)
            if not every:
                assert (answer.value, answer.bound, answer.plan.status) == (None, None, "infeasible")
                found_none += 1
                continue
            best = max(value(plan, weights) for plan in every)
            assert answer.optimal
            assert answer.value == pytest.approx(best, abs=1e-9)
            assert answer.value == pytest.approx(value(answer.plan, weights), abs=1e-12)
            assert mp.verify(answer.plan, given[2]).verified
            front = mp.weigh(*given, weights=replace(weights, batch=0.0)).plan
            batches_mattered += value(front, weights) < best - 1e-9
    assert batches_mattered
    assert found_none


def test_weights_at_their_ends() -> None:
    """α → 0 is the cheapest plan, β → 0 the most accurate one; without a price on batches it is the front's best."""
    given = drawn(2)
    front = mp.pareto(*given)
    cheapest = mp.weigh(*given, weights=Weights(0.0, 1.0, 0.0))
    assert (cheapest.plan.usd_per_hour, cheapest.plan.status) == (front.points[0][0], "optimal")
    assert mp.weigh(*given, weights=Weights(1.0, 0.0, 0.0)).plan.accuracy == front.points[-1][1]
    between = mp.weigh(*given, weights=Weights(6.0, 1.0, 0.0))
    assert between.plan.choices == front.best_by(6.0, 1.0).choices
    assert len(str(between).splitlines()) <= 15


def test_bad_weights_are_named() -> None:
    with pytest.raises(
        mp.InputError, match=r"weights\.batch: expected a number from 0 to 1,000,000, found -1"
    ):
        mp.weigh(*drawn(2), weights=Weights(batch=-1))


def test_stopped_at_once_it_bounds_the_rest() -> None:
    answer = mp.weigh(*drawn(2), weights=Weights(20.0, 1.0, 0.01), time_limit_s=1e-9)
    assert answer.bound is None or (answer.value is not None and answer.bound >= answer.value)
