"""Refined and sharpened plans that must keep several traces and seeds, against every plan on each by itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from mipplan.pipeline import are_timed
from mipplan.profiles import Hardware, LatencyTable
from mipplan.tokens import Sample, find_samples, realise
from oracle_refinement import all_choices, cost, higher_quantile
from random_pipelines import random_trace
from refinement.test_refine import hand_made
from refinement.test_sharpen import random_class
from refinement_instances import RefinementInstance, refinement_instance


def several(number: int) -> tuple[RefinementInstance, list[mp.Trace], int]:
    """An instance with one to three traces and one or two seeds, at least two pairs of them."""
    instance = refinement_instance(number)
    rng = np.random.default_rng([20261130, number])
    most = max(2, int(instance.trace.span_ns) // 20)
    others = [random_trace(rng, most, max_arrivals=30) for _ in range(int(rng.integers(0, 3)))]
    seeds = int(rng.integers(1, 3)) if others else 2
    return instance, [instance.trace, *(replace(t, name=f"t{k}") for k, t in enumerate(others))], seeds


def samples_of(instance: RefinementInstance, traces: list[mp.Trace], seeds: int) -> tuple[Sample, ...]:
    return find_samples(instance.pipeline, traces, instance.seed, seeds)


def every_plan(instance: RefinementInstance, slo_ns: int, dispatch: str) -> list[mp.Plan]:
    given = {
        "slo_s": slo_ns / 1e9,
        "quantile": instance.quantile,
        "seed": instance.seed,
        "dispatch": dispatch,
    }
    return [
        mp.Plan.from_choices(instance.pipeline, instance.profiles, made, **given)  # type: ignore[arg-type]
        for made in all_choices(instance.pipeline, instance.profiles)
    ]


def is_stable(plan: mp.Plan, sample: Sample) -> bool:
    """Whether every stage serves more than arrives there on average."""
    workload = realise(plan.pipeline, sample.trace, sample.seed)
    return all(
        Fraction(choice.replicas * choice.batch, int(plan.service_ns(stage)[-1]))
        > Fraction(workload.stages[stage].count, workload.span_ns)
        for stage, choice in plan.choices.items()
    )


def test_cheapest_plan_that_replays_on_all_is_found() -> None:
    violations, seen = Violations(), Counter[str]()
    numbers = range(campaign_size(8, 2_000))
    for number in numbers:
        with violations.case(number):
            instance, traces, seeds = several(number)
            samples = samples_of(instance, traces, seeds)
            dispatch = "timed" if number % 4 == 0 else "eager"
            if dispatch == "timed" and any(trace.span_ns == 0 for trace in traces):
                continue
            plans = every_plan(instance, instance.slo_ns, dispatch)
            kept = set(range(len(plans)))
            for sample in samples:
                runs = mp.replay_many(plans, sample.trace, discipline=instance.discipline, seed=sample.seed)
                late = [higher_quantile(run.latency_ns.tolist(), instance.quantile) for run in runs]
                kept &= {k for k, quantile_ns in enumerate(late) if quantile_ns <= instance.slo_ns}
                if dispatch == "timed":
                    kept &= {k for k, plan in enumerate(plans) if is_stable(plan, sample)}
            costs = [cost(instance.profiles, vars_of(plans[k])) for k in kept]
            asked = {"discipline": instance.discipline, "seeds": seeds, "time_limit_s": None}
            best = mp.refine(plans[number % len(plans)], traces, **asked)  # type: ignore[arg-type]
            assert best.microusd_per_hour == min(costs, default=None)
            seen.update([best.status.value, f"{min(len(samples), 3)} samples", dispatch])
            if not costs:
                assert best.status is mp.PlanStatus.INFEASIBLE
                assert best.reason
                continue
            assert best.status is mp.PlanStatus.OPTIMAL
            check_record(best, samples, instance.discipline)
            again = mp.refine(plans[number % len(plans)], traces[::-1], **asked)  # type: ignore[arg-type]
            assert again == best
    assert min(seen["optimal"], seen["infeasible"], seen["timed"]) >= 0.1 * len(numbers)
    write_summary("refine_samples", {"mismatches": violations.checked(), "seen": dict(sorted(seen.items()))})


def vars_of(plan: mp.Plan) -> dict[str, tuple[str, int, int]]:
    return {stage: (c.hardware, c.batch, c.replicas) for stage, c in plan.choices.items()}


def check_record(plan: mp.Plan, samples: tuple[Sample, ...], discipline: str) -> None:
    """The record holds the replay of every sample, and where all is timed these are the certificates."""
    record = plan.refinement
    assert record is not None
    by_name = {
        sample.name: mp.replay(plan, sample.trace, discipline=discipline, seed=sample.seed).quantile_ns(
            plan.quantile
        )
        for sample in samples
    }
    assert record.quantile_ns == max(by_name.values())
    assert dict(record.samples_ns) == (by_name if len(samples) > 1 else {})
    if are_timed(plan.laws) and len(samples) > 1:
        assert {one.name: one.certificate_ns for one in plan.samples} == by_name


def test_sharpened_plan_is_the_cheapest_that_is_certified_on_all() -> None:
    seen: Counter[str] = Counter()
    for number in range(campaign_size(10, 600)):
        instance, traces, seeds = several(number)
        samples = samples_of(instance, traces, seeds)
        if any(trace.span_ns == 0 for trace in traces) or len(instance.plans) > 200:
            continue
        slo_ns, runs = instance.slo_ns * (1 + number % 3), random_class(number)
        plans = every_plan(instance, slo_ns, "eager")
        kept = [
            cost(instance.profiles, vars_of(plan))
            for plan in plans
            if all(
                is_stable(plan, one)
                and mp.certify(plan, one.trace, certificate="sharp", runs=runs, seed=one.seed).bound_ns
                <= slo_ns
                for one in samples
            )
        ]
        start = plans[number % len(plans)]
        start = replace(start, objective=replace(start.objective, seeds=seeds))
        best = mp.sharpen(start, traces, runs=runs, time_limit_s=None)
        assert best.microusd_per_hour == min(kept, default=None), number
        assert best.status == ("optimal" if kept else "infeasible"), number
        seen[best.status.value] += 1
        if kept:
            assert mp.certify(best, traces).samples == best.samples
            assert mp.certify(best, traces).bound_ns == best.certificate_ns
    assert min(seen.values()) > 1


def test_a_plan_by_replay_of_several_is_written_and_read(tmp_path: Path) -> None:
    pipeline, profiles = mp.Pipeline.read("profiles/pipelines/cascade.yaml"), mp.Profiles.default()
    traces = [
        mp.Trace.gamma(90.0, 2.0, 4.0, seed=3),
        replace(mp.Trace.gamma(90.0, 2.0, 4.0, seed=4), name="b"),
    ]
    plan = mp.plan(pipeline, profiles, traces, seeds=2, guarantee="replay", time_limit_s=20).require()
    plan.save(tmp_path / "plan.json")
    assert mp.Plan.load(tmp_path / "plan.json") == plan
    assert {(one.trace, one.seed) for one in plan.samples} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    for sample in find_samples(pipeline, traces, 0, 2):
        replayed = mp.replay(plan, sample.trace, seed=sample.seed)
        assert replayed.objective_ns(plan.objective) <= plan.slo_ns
    fewer = mp.refine(plan, traces[0], seed=1, time_limit_s=5)
    assert (fewer.seed, fewer.seeds, fewer.samples) == (1, 1, ())
    with pytest.raises(mp.InputError, match="seeds"):
        mp.refine(plan, traces, seeds=0)
    with pytest.raises(mp.InputError, match="trace"):
        mp.refine(plan, [])


@pytest.mark.parametrize("choice", [("small", 1, 2), ("large", 3, 1)], ids=["offered", "not on offer"])
def test_the_given_plan_must_keep_every_sample(choice: tuple[str, int, int]) -> None:
    """Either keeps single queries at a high rate, which are searched first, and neither keeps bursts at a low one."""
    plan, _ = hand_made()
    given = mp.Plan.from_choices(plan.pipeline, plan.profiles, {"s": choice}, quantile=1.0)
    fast = mp.Trace.from_ns(np.arange(200) * 16_000_000, name="fast")
    bursts = mp.Trace.from_ns(np.repeat(np.arange(3), 24) * 1_000_000_000, name="bursts")
    said: list[str] = []

    def interrupt(line: str) -> None:
        said.append(line)
        if line.startswith("the given plan"):
            raise KeyboardInterrupt

    assert mp.refine(given, fast, progress=interrupt).choices == given.choices
    refused = mp.refine(given, [fast, bursts], progress=interrupt)
    assert (dict(refused.choices), refused.status) == ({}, mp.PlanStatus.UNKNOWN)
    assert [line for line in said if line.startswith("the given plan")] == [
        "the given plan keeps the objective",
        "the given plan does not keep the objective",
    ]


@pytest.mark.parametrize("engine", ["python", "numpy"])
def test_replicas_that_only_another_sample_needs_are_looked_at(engine: str) -> None:
    """On the pivot, a query every 6 ms, nobody waits for 3 replicas of 10 ms; the other brings four at once.

    The devices do not suffice for the fastest plan, which would keep both and lead to the cheapest.
    """
    stages = {"a": {"model": "m"}, "b": {"model": "m"}}
    document = {"name": "two", "slo": "25ms", "stages": stages, "edges": [{"from": "a", "to": "b"}]}
    pipeline = mp.Pipeline.from_document(document)
    table = LatencyTable("m", "small", np.array([1]), np.array([10.0]))
    profiles = mp.Profiles.from_parts([Hardware("small", 1.0, limit=10)], [table])
    even = mp.Trace.from_ns(np.arange(400) * 6_000_000, name="even")
    fours = mp.Trace.from_ns(np.repeat(np.arange(60) * 200_000_000, 4), name="fours")
    start = mp.Plan.from_choices(pipeline, profiles, dict.fromkeys("ab", ("small", 1, 1)), quantile=1.0)
    best = mp.refine(start, [even, fours], engine=engine, time_limit_s=None)
    assert (best.status, best.usd_per_hour) == (mp.PlanStatus.OPTIMAL, 8.0)
    sharp = mp.sharpen(best, [even, fours], time_limit_s=None)
    assert (sharp.status, sharp.usd_per_hour) == (mp.PlanStatus.OPTIMAL, 8.0)


def drawing() -> tuple[mp.Pipeline, mp.Profiles, mp.Trace]:
    """A stage whose small model, which it runs, passes all tokens on, and whose large one passes on four of five."""
    stage = {"variants": {"small": 0.5, "large": 0.9}, "model": "small"}
    edge = {"from": "a", "to": "b", "probability": {"small": 1.0, "large": 0.8}}
    stages = {"a": stage, "b": {"model": "m"}}
    document = {"name": "drawing", "slo": "60ms", "stages": stages, "edges": [edge]}
    sizes = np.array([1, 2, 4])
    tables = [
        LatencyTable(m, "gpu", sizes, ms * np.array([1.0, 1.5, 2.5]))
        for m, ms in {"small": 3.0, "large": 4.0, "m": 6.0}.items()
    ]
    profiles = mp.Profiles.from_parts([Hardware("gpu", 1.0)], tables)
    return (
        mp.Pipeline.from_document(document),
        profiles,
        mp.Trace.gamma(rate_rps=300, cv=2.0, duration_s=2, seed=3),
    )


@pytest.mark.parametrize("ask", ["refine", "sharpen"])
def test_every_seed_is_kept_where_only_the_variant_chosen_draws(ask: str) -> None:
    """One seed stood for all, as the model that the pipeline runs draws nothing."""
    pipeline, profiles, trace = drawing()
    assert not pipeline.is_random
    certified = mp.plan(pipeline, profiles, trace, accuracy=0.8, seeds=3, quantile=0.95)
    start = replace(certified, pipeline=pipeline, choices={})
    best = mp.refine(start, trace) if ask == "refine" else mp.sharpen(start, trace)
    assert best.pipeline.is_random
    assert best.seeds == 3
    if ask == "refine":
        assert best.refinement is not None
        assert len(best.refinement.samples_ns) == 3
        for seed in range(best.seed, best.seed + 3):
            assert mp.replay(best, trace, seed=seed).quantile(0.95) <= 0.06
    else:
        assert len(best.samples) == 3
        assert mp.verify(best, trace).verified
