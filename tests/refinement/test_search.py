"""The search itself, without the heuristics around it, against replays of every plan."""

from __future__ import annotations

import pytest

from campaigns import campaign_size
from mipplan.refinement.conditions import narrow
from mipplan.refinement.domains import Options, cost_of, options_of
from mipplan.refinement.meter import Meter, OutOfAllowanceError, Tally
from mipplan.refinement.neighbourhoods import improve
from mipplan.refinement.search import Search
from mipplan.refinement.starts import fastest_plan, propose_plans, study_stages, sufficient_domains
from mipplan.result import Choice
from refinement_instances import Bench, refinement_instance

ANYTHING = 10**12


def cost(options: Options | None) -> int | None:
    """Cost of what was found, if anything."""
    return None if options is None else cost_of(options)


@pytest.mark.parametrize(
    ("engine", "cache_bytes", "is_brief"),
    [("numpy", 1 << 20, False), ("python", 1, False), ("python", 1 << 20, True)],
)
def test_search_finds_the_optimum(engine: str, cache_bytes: int, is_brief: bool) -> None:
    """In groups and one by one; with what was replayed at hand, and all but forgotten; due times by budget or not."""
    for number in range(campaign_size(60, 1_500)):
        instance = refinement_instance(number)
        bench = Bench(instance, engine, cache_bytes)
        assert cost(bench.search(is_brief=is_brief).run(ANYTHING)) == instance.optimum, number
        if instance.optimum is not None:
            assert cost(bench.search(is_brief=is_brief).run(instance.optimum + 1)) == instance.optimum
            assert bench.search(is_brief=is_brief).run(instance.optimum) is None


def test_every_plan_is_judged_as_its_replay_says() -> None:
    for number in range(campaign_size(25, 300)):
        instance = refinement_instance(number)
        bench = Bench(instance)
        for plan in instance.plans[:30]:
            choices = {stage: Choice(*made) for stage, made in plan.choices.items()}
            options = options_of(bench.problem.domains, choices)
            if options is not None:
                kept = bench.judge.keeps(options, bench.meter)
                assert kept == (plan.quantile_ns <= instance.slo_ns), (number, plan)


def test_search_on_trust_is_nearly_always_right_and_never_too_cheap() -> None:
    wrong = 0
    cases = campaign_size(80, 2_000)
    for number in range(cases):
        instance = refinement_instance(number)
        found = cost(Bench(instance).search(trusting=True).run(ANYTHING))
        wrong += found != instance.optimum
        assert found is None or (instance.optimum is not None and found >= instance.optimum)
    assert wrong <= 0.02 * cases


def test_trust_is_no_theorem() -> None:
    """An instance where a stage does with less what it does not do with more."""
    instance = refinement_instance(738)
    bench = Bench(instance)
    domains = sufficient_domains(narrow(bench.problem).problem, bench.replays, bench.meter)
    found = None
    if domains is not None:
        found = Search(bench.problem, domains, bench.replays, bench.meter, trusting=True).run(ANYTHING)
    assert instance.optimum is not None
    assert cost(found) != instance.optimum


def test_search_stops_when_the_allowance_is_used_up() -> None:
    instance = refinement_instance(3)
    bench = Bench(instance)
    search = bench.search()
    search.meter = Meter(Tally(), float("inf"), 2)
    with pytest.raises(OutOfAllowanceError):
        search.run(ANYTHING)
    search.meter = Meter(Tally(), 0.0)
    with pytest.raises(OutOfAllowanceError):
        search.run(ANYTHING)


def test_a_plan_that_is_not_accepted_does_not_count() -> None:
    """The next cheapest takes its place; with trust, too, where that has more replicas."""
    instance = next(i for i in map(refinement_instance, range(200)) if len({p.cost for p in i.good}) > 2)
    costs = sorted({plan.cost for plan in instance.good})
    bench = Bench(instance)
    search = bench.search()
    search.accept = lambda options: cost_of(options) >= costs[1]
    found = cost(search.run(ANYTHING))
    assert found is not None
    assert found >= costs[1]


def test_neighbourhoods_only_improve() -> None:
    """And often reach the optimum, which nothing proves."""
    reached = started = 0
    for number in range(campaign_size(60, 600)):
        instance = refinement_instance(number)
        bench = Bench(instance)
        start = fastest_plan(bench.problem)
        stages = study_stages(bench.problem, bench.replays, instance.quantile, bench.meter)
        if stages is None or not bench.judge.keeps(start, bench.meter):
            continue
        seen: list[int] = []

        def accept(options: Options, seen: list[int] = seen) -> bool:
            seen.append(cost_of(options))
            return True

        best = improve(lambda bench=bench: bench.problem, stages, bench.replays, [start], bench.meter, accept)
        assert bench.judge.keeps(best, bench.meter)
        assert cost_of(best) <= cost_of(start)
        started += 1
        reached += cost_of(best) == instance.optimum
        proposed = [cost_of(plan) for plan in propose_plans(stages)]
        assert proposed == sorted(proposed)
    assert started > 10
    assert reached >= 0.9 * started
