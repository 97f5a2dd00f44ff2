"""IPA's integer program by hand, and against brute force over the program as it is printed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import networkx as nx
import numpy as np
import pytest

import mipplan as mp
from campaigns import campaign_size
from mipplan.ipa import Weights, configure
from mipplan.profiles import Hardware, LatencyTable


def steady(rate_rps: int) -> mp.Trace:
    return mp.Trace.from_seconds(np.linspace(0.0, 1.0, rate_rps))


def chain(slo_s: float, *stages: dict[str, Any], delay: str = "0ms") -> mp.Pipeline:
    graph: nx.DiGraph[str] = nx.DiGraph()
    for number, attributes in enumerate(stages):
        graph.add_node(f"s{number}", **attributes)
        if number:
            graph.add_edge(f"s{number - 1}", f"s{number}", delay=delay)
    return mp.Pipeline(graph, slo_s=slo_s)


def table(
    model: str, hardware: str, sizes: Sequence[int], latency_ms: Sequence[float], accuracy: float
) -> LatencyTable:
    return LatencyTable(
        model, hardware, np.array(sizes), np.array(latency_ms), accuracy=np.full(len(sizes), accuracy)
    )


def two_variants(limit: int | None = None) -> mp.Profiles:
    """Two variants of a first stage, small and quick or large and accurate, and a second stage."""
    return mp.Profiles.from_parts(
        [Hardware("gpu", 1.0, limit=limit)],
        [
            table("small", "gpu", (1, 4), (10.0, 25.0), 0.6),
            table("large", "gpu", (1, 4), (20.0, 60.0), 0.7),
            table("next", "gpu", (1, 4), (5.0, 12.0), 0.9),
        ],
    )


VARIANTS = {"s0": ("small", "large")}


@pytest.mark.parametrize(
    ("alpha", "model", "choice", "objective"),
    [
        # 200 queries/s. small: 2 replicas with b = 1 or b = 4 (1.25); large: 4 with b = 1, 3 with b = 4.
        # The second stage: 1 replica either way (200·5 ms = 1 exactly is enough: the program says at least).
        (10, "small", ("gpu", 1, 2), 10 * 0.6 - 3 - 2e-6),
        # 0.1 more accuracy for one replica more: worth it from α = 10 on
        (11, "large", ("gpu", 4, 3), 11 * 0.7 - 4 - 5e-6),
    ],
)
def test_by_hand(alpha: float, model: str, choice: tuple[str, int, int], objective: float) -> None:
    pipeline = chain(0.1, {"model": "small"}, {"model": "next"})
    trace = mp.Trace.from_seconds(np.arange(0, 201) / 200 * (201 / 200))
    assert len(trace) / trace.span_ns * 1e9 == pytest.approx(200)
    found = configure(pipeline, two_variants(), trace, weights=Weights(accuracy=alpha), variants=VARIANTS)
    chosen = found.plan.choices["s0"]
    assert (found.models["s0"], (chosen.hardware, chosen.batch, chosen.replicas)) == (model, choice)
    assert found.plan.choices["s1"].replicas == 1
    assert found.plan.pipeline.stages["s0"].model == model
    assert found.optimal
    assert found.objective == pytest.approx(objective, abs=1e-9)
    assert (found.plan.status, found.plan.solver) == ("given", "ipa")
    assert found.plan.certificate_s is not None


def test_filling_a_batch_counts() -> None:
    # at 100 queries/s a batch of four fills in 30 ms: 60 + 30 ms miss 80 ms, 25 + 30 ms do not
    profiles = two_variants()
    pipeline = chain(0.080, {"model": "large", "batch": [4]})
    found = configure(pipeline, profiles, steady(100))
    assert found.plan.status == "infeasible"
    assert "take at least 8" in (found.plan.reason or "") or "take at least 9" in (found.plan.reason or "")
    fits = configure(chain(0.091, {"model": "large", "batch": [4]}), profiles, steady(100))
    assert fits.plan.choices["s0"].batch == 4


def slow_best(
    pipeline: mp.Pipeline,
    profiles: mp.Profiles,
    trace: mp.Trace,
    weights: Weights,
    models: dict[str, Sequence[str]],
) -> float | None:
    """The program as printed, by trying everything, with up to 12 replicas, in plain floats."""
    rate = len(trace) / (trace.span_ns / 1e9)
    per_stage = []
    for stage in pipeline.stages:
        configurations = []
        for model, (hardware, device) in itertools.product(models[stage], profiles.hardware.items()):
            own = profiles.table(model, hardware)
            if own is None:
                continue
            for b, latency_ms, accuracy in zip(own.batch, own.latency_ms, own.accuracy, strict=True):
                for n in range(1, 13):
                    if n * b / (latency_ms / 1e3) >= rate * (1 - 1e-12):
                        latency_s = latency_ms / 1e3 + (b - 1) / rate
                        a = accuracy if len(models[stage]) > 1 else 0.0
                        value = (
                            weights.accuracy * a - weights.cost * n * device.usd_per_hour - weights.batch * b
                        )
                        configurations.append((latency_s, value, hardware, n))
        per_stage.append(configurations)
    best = None
    for chosen in itertools.product(*per_stage):
        used: dict[str, int] = {}
        for _, _, hardware, n in chosen:
            used[hardware] = used.get(hardware, 0) + n
        limits = {
            name: device.limit for name, device in profiles.hardware.items() if device.limit is not None
        }
        within = all(used.get(name, 0) <= limit for name, limit in limits.items())
        if within and sum(part[0] for part in chosen) <= pipeline.slo_s:
            value = sum(part[1] for part in chosen)
            best = value if best is None else max(best, value)
    return best


@pytest.mark.parametrize("solver", ["highs", "labels", "cp_sat_native"])
def test_optimum_is_that_of_brute_force(solver: str) -> None:
    verdicts = set()
    for seed in range(campaign_size(12, 200)):
        rng = np.random.default_rng(seed)
        count = int(rng.integers(1, 3))
        hardware = [
            Hardware("cpu", 0.17, limit=int(rng.integers(2, 9)) if rng.random() < 0.4 else None),
            Hardware("gpu", 1.1),
        ]
        tables = [
            table(
                f"m{stage}{variant}",
                device.name,
                (1, 2, 4),
                np.sort(rng.uniform(2, 40, 3)) / (1 if device.name == "cpu" else 3),
                float(rng.uniform(0.5, 0.9)),
            )
            for stage, variant, device in itertools.product(range(count), range(2), hardware)
        ]
        profiles = mp.Profiles.from_parts(hardware, tables)
        models: dict[str, Sequence[str]] = {f"s{s}": (f"m{s}0", f"m{s}1") for s in range(count)}
        pipeline = chain(
            float(rng.uniform(0.001, 0.003 if seed % 4 == 3 else 0.1)),
            *({"model": f"m{s}0"} for s in range(count)),
        )
        trace = steady(int(rng.integers(20, 120)))
        weights = Weights(float(rng.uniform(0, 20)), 1.0, 1e-3)
        found = configure(pipeline, profiles, trace, weights=weights, variants=models, solver=solver)
        expected = slow_best(pipeline, profiles, trace, weights, models)
        verdicts.add(expected is not None)
        assert found.optimal
        if expected is None:
            assert (found.plan.status, found.objective) == ("infeasible", None)
            assert found.plan.reason
        else:
            assert found.objective == pytest.approx(expected, abs=1e-6 * (count + 1))
    assert verdicts == {True, False}


@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, 9e4])
def test_the_optimum_does_not_depend_on_the_scale_of_weights(scale: float) -> None:
    """Costs of the program are whole numbers: weights must not be lost in rounding, nor become too large for it."""
    pipeline = chain(0.1, {"model": "small"}, {"model": "next"})
    for accuracy, cost, model in (
        (1.0, 0.0, "large"),
        (0.0, 1.0, "small"),
        (8.0, 1.0, "small"),
        (10.5, 1.0, "large"),
    ):
        weights = Weights(scale * accuracy, scale * cost, 0.0)
        for solver in ("labels", "highs", "cp_sat_native"):
            found = configure(
                pipeline, two_variants(), steady(200), weights=weights, variants=VARIANTS, solver=solver
            )
            assert (found.models["s0"], found.optimal) == (model, True)


def test_accuracies_that_the_pipeline_states_go_first() -> None:
    """As in plans: `two_variants` has it that large is the more accurate one."""
    stated = chain(1.0, {"model": "large", "variants": {"small": 0.9, "large": 0.2}}, {"model": "next"})
    found = configure(stated, two_variants(), steady(20), weights=Weights(accuracy=10.0))
    assert (found.models["s0"], found.plan.accuracy) == ("small", pytest.approx(0.9 * 0.9))
    named = configure(stated, two_variants(), steady(20), weights=Weights(accuracy=10.0), variants=VARIANTS)
    assert (named.models["s0"], named.objective) == ("small", found.objective)


def test_limits_on_devices_are_a_reason() -> None:
    found = configure(chain(1.0, {"model": "large"}, {"model": "next"}), two_variants(limit=3), steady(150))
    assert found.plan.status == "infeasible"
    assert "limits on devices" in (found.plan.reason or "")
    alone = configure(chain(1.0, {"model": "large"}), two_variants(limit=1), steady(150))
    assert "no allowed number of replicas" in (alone.plan.reason or "")


def test_every_fault_at_once() -> None:
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name in ("a", "b", "c"):
        graph.add_node(name, model="small")
    graph.add_edge("a", "b", probability=0.5)
    graph.add_edge("a", "c", fanout=2)
    profiles = mp.Profiles.from_parts(
        [Hardware("gpu", 1.0)],
        [
            table("small", "gpu", (1,), (5.0,), 0.5),
            LatencyTable("bare", "gpu", np.array([1]), np.array([5.0])),
        ],
    )
    with pytest.raises(mp.InputError) as caught:
        configure(
            mp.Pipeline(graph, slo_s=1),
            profiles,
            steady(10),
            weights=Weights(accuracy=math.inf),
            variants={"d": ("small",), "a": ("small", "bare"), "b": ("none",), "c": ()},
        )
    text = str(caught.value)
    for part in (
        "stages.a: IPA's program needs a chain; 2 edges lead out of this stage",
        "edges.a → b",
        "edges.a → c",
        "weights.accuracy: expected a number from 0 to 1,000,000, found inf",
        "variants.d: there is no such stage",
        "variants.a: the profiles of 'bare' lack accuracy",
        "variants.b: there are no profiles of model 'none'",
        "variants.c: expected at least one model",
    ):
        assert part in text


@pytest.mark.parametrize(
    "ask", [configure, mp.baselines.fa2, partial(mp.baselines.rim, replicas=5), mp.weigh]
)
def test_percentages_are_refused_as_by_all_that_weigh_accuracy(ask: Any) -> None:
    """The objective would be right by far for whatever has the largest number."""
    profiles = mp.Profiles.from_parts(
        [Hardware("gpu", 1.0)],
        [
            table("small", "gpu", (1,), (5.0,), 0.4),
            table("large", "gpu", (1,), (8.0,), 60.0),
            table("next", "gpu", (1,), (5.0,), 70.0),
        ],
    )
    pipeline = chain(1.0, {"variants": ["small", "large"]}, {"model": "next"})
    with pytest.raises(mp.InputError) as caught:
        ask(pipeline, profiles, steady(10))
    hint = "outside (0, 1]; a percentage? divide it by 100"
    for model, value in (("large", 60), ("next", 70)):
        assert f"the profile of {model} on gpu has accuracy {value}, {hint}" in str(caught.value)


def test_accuracies_that_do_not_count_may_be_anything() -> None:
    tables = [table(model, "gpu", (1,), (5.0,), 60.0) for model in ("small", "large")]
    profiles = mp.Profiles.from_parts([Hardware("gpu", 1.0)], tables)
    stated = chain(1.0, {"variants": {"small": 0.6}}, {"model": "small"})
    assert configure(stated, profiles, steady(10)).optimal
    with pytest.raises(mp.InputError, match=r"variants.s1: the profile of small on gpu has accuracy 60"):
        configure(stated, profiles, steady(10), variants={"s1": ("small", "large")})


def test_variants_that_make_other_tokens_are_refused() -> None:
    stages = {"s0": {"variants": {"small": 0.6, "large": 0.7}}, "s1": {"model": "next"}}
    edges = [{"from": "s0", "to": "s1", "fanout": {"small": 1, "large": 2}}]
    pipeline = mp.Pipeline.from_document({"slo": "1s", "stages": stages, "edges": edges})
    with pytest.raises(mp.InputError, match="s0 → s1: IPA's program needs every query to take the edge once"):
        configure(pipeline, two_variants(), steady(50))
    found = configure(pipeline, two_variants(), steady(50), variants={"s0": ["small"]})
    assert found.models == {"s0": "small", "s1": "next"}


def test_what_is_no_list_of_models_is_told() -> None:
    variants: Any = {"s0": "small", "s1": 5}
    with pytest.raises(mp.InputError) as caught:
        configure(
            chain(1.0, {"model": "small"}, {"model": "next"}), two_variants(), steady(10), variants=variants
        )
    for part in (
        "variants.s0: expected a list of models, found 'small'",
        "variants.s1: expected a list of models, found 5",
    ):
        assert part in str(caught.value)


def test_what_is_no_pipeline_and_no_profiles_is_told() -> None:
    told = r"pipeline: expected a Pipeline, found 'video'(.|\n)*profiles: expected a Profiles, found 'mine'"
    with pytest.raises(mp.InputError, match=told):
        configure("video", "mine", steady(10))  # type: ignore[arg-type]
    with pytest.raises(mp.InputError, match=r"variants: expected models by stage, found \['small'\]"):
        configure(chain(1.0, {"model": "small"}), two_variants(), steady(10), variants=["small"])  # type: ignore[arg-type]
