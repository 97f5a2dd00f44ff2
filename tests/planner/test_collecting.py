"""Plans for servers that collect batches before they begin: certified, refined, by a baseline, and tuned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from adversarial_traffic import conforming_traffic
from campaigns import campaign_size
from mipplan.calculus import WorstCase
from mipplan.certificate import plan_services
from mipplan.core import InputError, quantile_ns
from oracle_planner import TooLargeError, cheapest_certified
from oracle_refinement import replay_everything
from planning_instances import PlanningInstance, hand_made, planning_instance
from random_pipelines import collecting
from refinement_instances import refinement_instance
from tuner_cases import bounded_case


def collected(rng: np.random.Generator, pipeline: mp.Pipeline, longest_s: float) -> mp.Pipeline:
    """The pipeline whose stages collect, most of them for so long."""
    return pipeline.collecting(
        {stage: float(rng.choice([0, 1e-9, longest_s, longest_s])) for stage in pipeline.stages}
    )


def least_cost(pipeline: mp.Pipeline, instance: PlanningInstance) -> int | None:
    """Of all that is certified, by brute force."""
    asked = (instance.slo_ns, instance.quantile, instance.seed)
    answer = cheapest_certified(pipeline, instance.profiles, instance.trace, *asked)
    return None if answer is None else answer.cost


@pytest.mark.parametrize(
    "asked",
    [
        {"certificate": "classic"},
        {"certificate": "auto"},
        {"guarantee": "envelope", "slo_s": 0.6},
        {"headroom": 1.3, "slo_s": 0.3},
        {"budget_usd_per_hour": 12.0},
        {"formulation": "potentials"},
        {"discipline": "fifo", "slo_s": 0.6, "runs": mp.RunClass(0.9)},
        {"dispatch": "paced"},
        {"dispatch": "timed"},
    ],
    ids=lambda asked: "-".join(str(value) for value in next(iter(asked.items()))),
)
def test_plans_are_verified_cover_their_replays_and_are_never_cheaper(
    asked: dict[str, Any], tmp_path: Path
) -> None:
    instance = hand_made(0.2)
    given = (instance.profiles, instance.trace)
    at_once = mp.plan(instance.pipeline, *given, **{**asked, "certificate": "classic"}).require()
    made = mp.plan(instance.pipeline.collecting(2e-3), *given, **asked).require()
    made.save(tmp_path / "plan.json")
    assert mp.Plan.load(tmp_path / "plan.json").to_json() == made.to_json()
    verification = mp.verify(tmp_path / "plan.json", instance.trace)
    assert verification.verified, verification.problems
    assert made.status == at_once.status == "optimal"
    assert made.collects == ("dispatch" not in asked)  # a dispatcher makes the batches of others
    replayed = mp.replay(made, instance.trace)
    assert replayed.certificate_applies
    assert replayed.quantile(made.quantile) <= made.certificate_s
    if "budget_usd_per_hour" in asked:
        assert made.certificate_s >= at_once.certificate_s
    else:
        assert made.usd_per_hour >= at_once.usd_per_hour
    if any(choice.batch > 1 for choice in made.choices.values()) and made.collects:
        assert not mp.verify(tmp_path / "plan.json", instance.trace, window_s=1.0).verified


def test_of_a_budget_and_an_objective_the_sharp_certificate_is_refused() -> None:
    instance = hand_made(0.2)
    pipeline, given = instance.pipeline.collecting(2e-3), (instance.profiles, instance.trace)
    with pytest.raises(InputError, match="the sharp one is about batches that begin at once"):
        mp.plan(pipeline, *given, certificate="sharp")
    made = mp.plan(pipeline, *given)
    with pytest.raises(InputError, match="the sharp one is about batches that begin at once"):
        mp.certify(made, instance.trace, certificate="sharp")
    with pytest.raises(InputError, match="collects batches before they begin"):
        mp.sharpen(made, instance.trace)
    with pytest.raises(InputError, match="auto takes the classic one where batches are collected"):
        mp.certify(made, instance.trace, certificate="auto", runs=mp.RunClass(0.9))
    with pytest.raises(InputError, match="replicas are constant in replays where batches are collected"):
        mp.replay(made, instance.trace, schedule={"a": mp.ReplicaSchedule([], [1])})


def test_plans_are_the_cheapest_of_all_that_are_certified() -> None:
    planned = dearer = 0
    for number in range(campaign_size(quick=24, deep=2_000)):
        instance = planning_instance(3_000 + number)
        pipeline = collected(np.random.default_rng([96, number]), instance.pipeline, 2e-3)
        plan = mp.plan(pipeline, instance.profiles, instance.trace, **instance.arguments)
        try:
            least, at_once = least_cost(pipeline, instance), least_cost(instance.pipeline, instance)
        except TooLargeError:
            continue
        assert plan.microusd_per_hour == least, number
        if not plan.choices:
            continue
        planned += 1
        assert plan.bound_ns <= plan.certificate_ns <= instance.slo_ns
        certified = mp.certify(plan, instance.trace)
        assert certified.bound_ns == plan.certificate_ns
        assert np.all(mp.replay(plan, instance.trace).latency_ns <= certified.latency_ns)
        dearer += least != at_once
    assert planned > 10
    assert dearer > 0


def test_refined_plans_are_the_cheapest_that_replay_within_the_objective() -> None:
    differing = 0
    for number in range(campaign_size(quick=24, deep=2_000)):
        rng, instance = np.random.default_rng([97, number]), refinement_instance(number)
        pipeline = collected(rng, instance.pipeline, float(rng.choice([2, 20, 500])) / 1e9)
        plans = replay_everything(
            *(pipeline, instance.profiles, instance.trace),
            quantile=instance.quantile,
            discipline=instance.discipline,
            seed=instance.seed,
        )
        optimum = min((plan.cost for plan in plans if plan.quantile_ns <= instance.slo_ns), default=None)
        start = mp.Plan.from_choices(
            *(pipeline, instance.profiles, plans[number % len(plans)].choices),
            slo_s=instance.slo_ns / 1e9,
            quantile=instance.quantile,
            seed=instance.seed,
        )
        best = mp.refine(start, instance.trace, discipline=instance.discipline, time_limit_s=None)
        assert best.microusd_per_hour == optimum, number
        if optimum is not None:
            replayed = mp.replay(best, instance.trace, discipline=instance.discipline)
            assert quantile_ns(replayed.latency_ns, best.quantile) <= instance.slo_ns
        differing += optimum != instance.optimum
    assert differing > 0


def test_inferline_judges_by_what_the_pipeline_does() -> None:
    instance = hand_made(0.2)
    made = mp.baselines.inferline(instance.pipeline.collecting(1e-2), instance.profiles, instance.trace)
    latency = mp.replay(made.require(), instance.trace, discipline="fifo").quantile_ns(made.quantile)
    assert made.collects
    assert latency <= made.slo_ns


def test_no_traffic_inside_a_curve_exceeds_the_tuners_bound() -> None:
    for number in range(campaign_size(quick=60, deep=5_000)):
        rng = np.random.default_rng([98, number])
        case, curve = bounded_case(rng, max_stages=3)
        case = collecting(rng, case)
        plan = mp.Plan.from_choices(case.pipeline, case.profiles, case.choices, slo_s=1e4)
        worst = WorstCase(case.pipeline, curve).bound_ns(plan_services(plan))
        bound = mp.Tuner(plan, sample=curve).bound_ns(case.replicas(), curve)
        assert bound >= worst or abs(bound - worst) <= len(case.choices) + 1
        for trace in conforming_traffic(rng, curve):
            latest = int(mp.replay(plan, trace).latency_ns.max())
            assert latest <= bound, number
            assert latest <= worst, number


def test_policies_are_not_simulated_where_replicas_collect() -> None:
    """Replays there know no counts that change; it is said before any work."""
    instance = hand_made(0.2)
    plan = mp.plan(instance.pipeline.collecting(2e-3), instance.profiles, instance.trace)
    with pytest.raises(InputError, match="replicas are constant in replays where batches are collected"):
        mp.tune(plan, instance.trace, policies=["hpa"])
