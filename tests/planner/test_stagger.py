"""Plans for servers whose outputs go on one after another: certified, refined, by a baseline, and tuned."""

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
from oracle_refinement import replay_everything
from planning_instances import check_made, hand_made, planning_instance
from random_pipelines import staggered
from refinement_instances import refinement_instance
from tuner_cases import bounded_case


def apart(rng: np.random.Generator, pipeline: mp.Pipeline, longest_s: float) -> mp.Pipeline:
    """The pipeline with outputs of most stages up to so far apart."""
    return pipeline.staggered(
        {stage: float(rng.choice([0, 1e-9, longest_s, longest_s])) for stage in pipeline.stages}
    )


@pytest.mark.parametrize(
    "asked",
    [
        {"certificate": "classic"},
        {"certificate": "sharp"},
        {"guarantee": "envelope", "slo_s": 0.6},
        {"headroom": 1.3, "slo_s": 0.3},
        {"budget_usd_per_hour": 12.0},
        {"formulation": "potentials"},
        {"formulation": "levels"},
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
    at_once = mp.plan(instance.pipeline, *given, **asked).require()
    made = mp.plan(instance.pipeline.staggered(2e-4), *given, **asked).require()
    check_made(made, instance.trace, tmp_path / "plan.json")
    assert made.status == at_once.status
    assert "dispatch" not in asked or mp.verify(tmp_path / "plan.json", instance.trace, stagger_s=0).verified
    if "budget_usd_per_hour" in asked:
        assert made.certificate_s >= at_once.certificate_s
    elif asked.get("certificate") == "classic" or "formulation" in asked:
        assert made.usd_per_hour >= at_once.usd_per_hour
        assert made.usd_per_hour == pytest.approx(made.lower_bound_usd_per_hour)


def test_the_bound_is_a_relaxation_of_the_certificate() -> None:
    planned = 0
    for number in range(campaign_size(quick=24, deep=2_000)):
        instance = planning_instance(3_000 + number)
        pipeline = apart(np.random.default_rng([92, number]), instance.pipeline, 1e-3)
        plan = mp.plan(
            pipeline, instance.profiles, instance.trace, certificate="classic", **instance.arguments
        )
        if plan.choices:
            planned += 1
            assert plan.bound_ns <= plan.certificate_ns <= instance.slo_ns
            certified = mp.certify(plan, instance.trace)
            assert certified.bound_ns == plan.certificate_ns
            assert np.all(mp.replay(plan, instance.trace).latency_ns <= certified.latency_ns)
    assert planned > 10


@pytest.mark.parametrize("dispatch", ["eager", "paced"])
def test_refined_plans_are_the_cheapest_that_replay_within_the_objective(dispatch: str) -> None:
    differing = 0
    for number in range(campaign_size(quick=24, deep=2_000)):
        rng, instance = np.random.default_rng([93, number]), refinement_instance(number)
        pipeline = apart(rng, instance.pipeline, float(rng.choice([2, 20, 500])) / 1e9)
        plans = replay_everything(
            *(pipeline, instance.profiles, instance.trace),
            quantile=instance.quantile,
            discipline=instance.discipline,
            seed=instance.seed,
            dispatch=dispatch,
        )
        optimum = min((plan.cost for plan in plans if plan.quantile_ns <= instance.slo_ns), default=None)
        start = mp.Plan.from_choices(
            *(pipeline, instance.profiles, plans[number % len(plans)].choices),
            slo_s=instance.slo_ns / 1e9,
            quantile=instance.quantile,
            seed=instance.seed,
            dispatch=dispatch,
        )
        best = mp.refine(start, instance.trace, discipline=instance.discipline, time_limit_s=None)
        assert best.microusd_per_hour == optimum, number
        if optimum is not None:
            replayed = mp.replay(best, instance.trace, discipline=instance.discipline)
            assert best.refinement is not None
            assert best.refinement.quantile_ns == replayed.quantile_ns(best.quantile)
        differing += optimum != instance.optimum
    assert differing > 0


def test_inferline_judges_by_what_the_pipeline_does() -> None:
    instance = hand_made(0.2)
    pipeline = instance.pipeline.staggered(1e-3)
    for made in (
        mp.baselines.inferline(pipeline, instance.profiles, instance.trace),
        mp.baselines.inferline(instance.pipeline, instance.profiles, instance.trace),
    ):
        latency = mp.replay(made.require(), instance.trace, discipline="fifo").quantile_ns(made.quantile)
        assert latency <= made.slo_ns
        assert made.pipeline.staggers_ns() == made.pipeline.staggers_ns(made.laws)


@pytest.mark.parametrize("law", ["eager", "paced"])
def test_no_traffic_inside_a_curve_exceeds_the_tuners_bound(law: str) -> None:
    for number in range(campaign_size(quick=60, deep=5_000)):
        rng = np.random.default_rng([94, number])
        case, curve = bounded_case(rng, max_stages=3)
        case = staggered(rng, case)
        plan = mp.Plan.from_choices(case.pipeline, case.profiles, case.choices, slo_s=1e4, dispatch=law)
        worst = WorstCase(case.pipeline, curve).bound_ns(plan_services(plan))
        tuner = mp.Tuner(plan, sample=curve)
        bound = tuner.bound_ns(case.replicas(), curve)
        assert bound >= worst or abs(bound - worst) <= len(case.choices) + 1
        for trace in conforming_traffic(rng, curve):
            latest = int(mp.replay(plan, trace).latency_ns.max())
            assert latest <= bound, number
            assert latest <= worst, number


def test_replicas_that_keep_the_objective_keep_it_with_gaps() -> None:
    kept = 0
    for number in range(campaign_size(quick=24, deep=2_000)):
        rng = np.random.default_rng([95, number])
        case, curve = bounded_case(rng, max_stages=3)
        case = staggered(rng, case)
        plenty = {stage: (h, b, 50 * n) for stage, (h, b, n) in case.choices.items()}
        least_ns = WorstCase(case.pipeline, curve).bound_ns(
            plan_services(case._replace(choices=plenty).plan())
        )
        plan = mp.Plan.from_choices(
            case.pipeline, case.profiles, case.choices, slo_s=2 * (least_ns + 1) * 1e-9
        )
        step = mp.Tuner(plan, sample=curve).retune(0, traffic=curve)
        if step.replan or step.share < 1:
            continue
        kept += 1
        assert step.latency_bound_ns is not None
        assert step.latency_bound_ns <= plan.slo_ns
        now = {stage: (h, b, step.replicas[stage]) for stage, (h, b, _) in case.choices.items()}
        replayed = case._replace(choices=now).plan()
        for trace in conforming_traffic(rng, curve):
            assert int(mp.replay(replayed, trace).latency_ns.max()) <= step.latency_bound_ns, number
    assert kept > 5
