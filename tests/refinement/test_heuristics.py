"""Drafts: against every choice there is. What drafts and neighbourhoods lead to is never worse than the start."""

from __future__ import annotations

import itertools

import numpy as np

import mipplan as mp
from campaigns import campaign_size
from mipplan.options import Configuration, Family, Option
from mipplan.refinement.evaluation import study_stages
from mipplan.refinement.heuristics import Heuristics, Menu, draft_plans, fastest_plan, propose_plans
from mipplan.refinement.problem import find_options
from mipplan.result import Choice
from random_pipelines import random_pipeline
from refinement_instances import Bench, refinement_instance

BUDGET = 40


def menus_of(rng: np.random.Generator, pipeline: mp.Pipeline) -> dict[str, Menu]:
    """A few options of random cost and time for every stage, in topological order."""
    menus = {}
    for stage in pipeline.topological_order:
        size = int(rng.integers(1, 4))
        cost = rng.integers(1, 20, size)
        family = Family("h", 1, np.array([1]), 1, 1, 20, False, False)
        menus[stage] = Menu([Option(family, int(c)) for c in cost], cost, rng.integers(0, 100, size))
    return menus


def longest(pipeline: mp.Pipeline, time_ns: dict[str, int]) -> int:
    """Length of the longest path."""

    def until(stage: str) -> int:
        above = [until(edge.parent) + edge.delay_ns for edge in pipeline.incoming(stage)]
        return max(above, default=0) + time_ns[stage]

    return max(map(until, time_ns))


def test_front_is_that_of_all_choices() -> None:
    for number in range(campaign_size(30, 2_000)):
        rng = np.random.default_rng([20261126, number])
        pipeline = random_pipeline(rng, 30, max_stages=5)
        menus = menus_of(rng, pipeline)
        reached: dict[int, int] = {}
        for modes in itertools.product(*(range(menu.cost.size) for menu in menus.values())):
            picked = list(zip(menus.items(), modes, strict=True))
            cost = sum(int(menu.cost[mode]) for (_, menu), mode in picked)
            length = longest(pipeline, {stage: int(menu.time_ns[mode]) for (stage, menu), mode in picked})
            if cost <= BUDGET:
                reached[cost] = min(length, reached.get(cost, length))
        expected = [
            cost
            for cost in sorted(reached)
            if all(reached[cost] < reached[other] for other in reached if other < cost)
        ]
        drafts = draft_plans(pipeline, menus, BUDGET)
        assert [draft.microusd_per_hour for draft in drafts.front()] == expected, number
        assert [draft.microusd_per_hour for draft in drafts.quickest(1)] == expected[-1:]


def test_redrafted_plans_keep_the_deadline_and_are_no_dearer() -> None:
    cheaper = 0
    for number in range(campaign_size(15, 600)):
        instance = refinement_instance(number)
        bench = Bench(instance, "python")
        oracle, limit = bench.oracle, bench.limit
        start = fastest_plan(bench.problem)
        stages = study_stages(bench.oracle, instance.quantile, limit)
        if stages is None or not oracle.keeps(start, limit):
            continue
        seen: list[int] = []

        def accept(plan: Configuration, seen: list[int] = seen) -> bool:
            seen.append(plan.microusd_per_hour)
            return True

        heuristics = Heuristics(lambda bench=bench: bench.problem, stages, bench.replays, limit, accept)
        best = heuristics.redraft(start)
        assert oracle.keeps(best, limit)
        assert best.microusd_per_hour == min([start.microusd_per_hour, *seen])
        assert instance.optimum is not None
        assert best.microusd_per_hour >= instance.optimum
        cheaper += best.microusd_per_hour < start.microusd_per_hour
    assert cheaper > 5


def test_lateness_is_latency_beyond_the_deadline() -> None:
    for number in range(campaign_size(20, 300)):
        instance = refinement_instance(number)
        bench = Bench(instance, "python")
        for plan in instance.plans[:10]:
            choices = {stage: Choice(*made) for stage, made in plan.choices.items()}
            options = find_options(bench.problem.domains, choices)
            if options is None:
                continue
            made = mp.Plan.from_choices(
                instance.pipeline, instance.profiles, choices, slo_s=1.0, seed=instance.seed
            )
            latency_ns = mp.replay(made, instance.trace, discipline=instance.discipline).latency_ns
            found = bench.oracle.lateness_ns(dict(bench.oracle.runs(options, bench.limit)))
            assert np.array_equal(found, latency_ns - instance.slo_ns)


def test_neighbourhoods_only_improve() -> None:
    """And often reach the optimum, which nothing proves."""
    reached = started = 0
    for number in range(campaign_size(30, 600)):
        instance = refinement_instance(number)
        bench = Bench(instance)
        start = fastest_plan(bench.problem)
        stages = study_stages(bench.oracle, instance.quantile, bench.limit)
        if stages is None or not bench.oracle.keeps(start, bench.limit):
            continue
        heuristics = Heuristics(
            lambda bench=bench: bench.problem, stages, bench.replays, bench.limit, lambda _: True
        )
        best = heuristics.improve([start])
        assert bench.oracle.keeps(best, bench.limit)
        assert best.microusd_per_hour <= start.microusd_per_hour
        started += 1
        reached += best.microusd_per_hour == instance.optimum
        proposed = [plan.microusd_per_hour for plan in propose_plans(stages)]
        assert proposed == sorted(proposed)
    assert started > 10
    assert reached >= 0.9 * started
