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
from planning_instances import PlanningInstance, check_made, hand_made, planning_instance
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
    check_made(made, instance.trace, tmp_path / "plan.json")
    assert made.status == at_once.status == "optimal"
    batches = {choice.batch for choice in made.choices.values()}
    # A dispatcher makes the batches of others, and one of one is full at once.
    assert made.collects == ("dispatch" not in asked and max(batches) > 1)
    if "budget_usd_per_hour" in asked:
        assert made.certificate_s >= at_once.certificate_s
    else:
        assert made.usd_per_hour >= at_once.usd_per_hour
    if made.collects:
        assert not mp.verify(tmp_path / "plan.json", instance.trace, window_s=1.0).verified


def test_of_a_budget_and_an_objective_the_sharp_certificate_is_refused() -> None:
    instance = hand_made(0.2)
    pipeline, given = instance.pipeline.collecting(2e-3), (instance.profiles, instance.trace)
    counts = {"detect": mp.ReplicaSchedule([], [1])}
    with pytest.raises(InputError, match="the sharp one is about batches that begin at once"):
        mp.plan(pipeline, *given, certificate="sharp")
    made = mp.plan(pipeline, *given)
    with pytest.raises(InputError, match="the sharp one is about batches that begin at once"):
        mp.certify(made, instance.trace, certificate="sharp")
    with pytest.raises(InputError, match="collects batches before they begin"):
        mp.sharpen(made, instance.trace)
    with pytest.raises(InputError, match="auto takes the classic one where batches are collected"):
        mp.certify(made, instance.trace, certificate="auto", runs=mp.RunClass(0.9))
    for refused, why in (
        (lambda: mp.replay(made, instance.trace, schedule=counts), "replicas are constant"),
        (lambda: mp.tune(made, instance.trace, policies=["hpa"]), "replicas are constant"),
        (lambda: mp.replay_stream(made, instance.trace), "nothing is served piece by piece"),
        (lambda: mp.replay_many([made], instance.trace, slo_s=0.2), "verdicts do not stop early"),
    ):
        with pytest.raises(InputError, match=f"{why} in replays where batches are collected, as at detect"):
            refused()
    # What the message says to do.
    assert mp.replay(made, instance.trace, schedule=counts, window_s=0).queries == 50
    assert mp.replay_stream(made, instance.trace, window_s=0).queries == 50
    assert mp.replay_stream(made, instance.trace, dispatch="timed").queries == 50
    # Of single tokens nothing is collected, so nothing is refused.
    single = mp.plan(pipeline, *given, budget_usd_per_hour=12.0)
    assert mp.certify(single, instance.trace, certificate="sharp").runs is not None


def test_paced_stages_stand_beside_those_that_collect() -> None:
    """Each is served by an engine that can; so are both kinds of plans side by side, and all that replays them."""
    instance = hand_made(0.2)
    given = (instance.profiles, instance.trace)
    pipeline = instance.pipeline.collecting(2e-3)
    for paced in ("detect", "identify"):
        choices = {"detect": ("cpu", 2, 1), "identify": ("cpu", 2, 2)}
        plan = mp.Plan.from_choices(pipeline, given[0], choices, slo_s=0.2, dispatch={paced: "paced"})
        run = mp.replay(plan, instance.trace)
        assert run.certificate_applies
        assert [*run.systems] == [stage for stage in choices if stage != paced]
        assert (run.latency_ns <= mp.certify(plan, instance.trace).latency_ns).all()
        other = mp.Plan.from_choices(instance.pipeline, given[0], choices, slo_s=0.2, dispatch="paced")
        both = mp.replay_many([other, plan], instance.trace)
        assert np.array_equal(both[1].latency_ns, run.latency_ns)
        assert np.array_equal(both[0].latency_ns, mp.replay(other, instance.trace).latency_ns)
        assert mp.refine(plan, instance.trace).status == "optimal"
        assert mp.fragility(plan, instance.trace).replays > 0


def test_what_runs_today_is_refined_though_it_is_not_on_offer() -> None:
    """A batch cap between those measured; its replay needs the engine that knows windows, too."""
    instance = hand_made(0.2)
    today = {"detect": ("t4", 3, 1), "identify": ("cpu", 1, 1)}
    plan = mp.Plan.from_choices(instance.pipeline.collecting(6e-4), instance.profiles, today, slo_s=0.2)
    assert mp.refine(plan, instance.trace).status == "optimal"


def test_differences_name_what_servers_take_beside_batches() -> None:
    instance = hand_made(0.2)
    given = (instance.profiles, instance.trace)
    at_once = mp.plan(instance.pipeline, *given)
    for changed in ({"window_s": 6e-3}, {"stagger_s": 1e-6}):
        again = mp.plan(mp.Pipeline(instance.pipeline.graph, slo_s=0.2, name="hand-made", **changed), *given)
        (asked,) = mp.diff(at_once, again).requests
        assert asked.what in ("collected for", "outputs apart")
    assert (
        mp.verify(again, instance.trace, stagger_s=1e-6).remarks == mp.verify(again, instance.trace).remarks
    )


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
