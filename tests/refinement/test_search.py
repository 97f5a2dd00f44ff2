"""The search itself, without the heuristics around it, against replays of every plan."""

from __future__ import annotations

import pytest

from campaigns import campaign_size
from mipplan.core import Deadline
from mipplan.options import Configuration
from mipplan.refinement.bounds import narrow
from mipplan.refinement.evaluation import LimitReachedError, ReplayOracle, WorkLimit, sufficient_domains
from mipplan.refinement.problem import find_options
from mipplan.refinement.search import RefinementSearch
from mipplan.result import Choice
from refinement_instances import Bench, refinement_instance

ANYTHING = 10**12


def cost(found: Configuration | None) -> int | None:
    """Cost of what was found, if anything."""
    return None if found is None else found.microusd_per_hour


@pytest.mark.parametrize(
    ("engine", "cache_bytes", "is_brief"),
    [("numpy", 1 << 20, False), ("python", 1, False), ("python", 1 << 20, True)],
)
def test_search_finds_the_optimum(engine: str, cache_bytes: int, is_brief: bool) -> None:
    """In groups and one by one; with what was replayed at hand, and all but forgotten; due times by budget or not."""
    for number in range(campaign_size(15, 1_500)):
        instance = refinement_instance(number)
        bench = Bench(instance, engine, cache_bytes)
        assert cost(bench.search(is_brief=is_brief).run(ANYTHING)) == instance.optimum, number
        if instance.optimum is not None:
            assert cost(bench.search(is_brief=is_brief).run(instance.optimum + 1)) == instance.optimum
            assert bench.search(is_brief=is_brief).run(instance.optimum) is None


def test_every_plan_is_judged_as_its_replay_says() -> None:
    for number in range(campaign_size(12, 300)):
        instance = refinement_instance(number)
        bench = Bench(instance)
        for plan in instance.plans[:30]:
            choices = {stage: Choice(*made) for stage, made in plan.choices.items()}
            options = find_options(bench.problem.domains, choices)
            if options is not None:
                kept = bench.oracle.keeps(options, bench.limit)
                assert kept == (plan.quantile_ns <= instance.slo_ns), (number, plan)


def test_search_on_trust_is_nearly_always_right_and_never_too_cheap() -> None:
    wrong = 0
    cases = campaign_size(40, 2_000)
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
    domains = sufficient_domains(ReplayOracle(narrow(bench.problem).problem, bench.replays), bench.limit)
    found = None
    if domains is not None:
        found = RefinementSearch(bench.problem, domains, bench.replays, bench.limit, trusting=True).run(
            ANYTHING
        )
    assert instance.optimum is not None
    assert cost(found) != instance.optimum


def test_search_stops_when_the_allowance_is_used_up() -> None:
    instance = refinement_instance(3)
    bench = Bench(instance)
    search = bench.search()
    search.limit = WorkLimit(most_stage_replays=2)
    with pytest.raises(LimitReachedError):
        search.run(ANYTHING)
    search.limit = WorkLimit(deadline=Deadline(0.0))
    with pytest.raises(LimitReachedError):
        search.run(ANYTHING)


def test_a_plan_that_is_not_accepted_does_not_count() -> None:
    """The next cheapest takes its place; with trust, too, where that has more replicas."""
    instance = next(i for i in map(refinement_instance, range(200)) if len({p.cost for p in i.good}) > 2)
    costs = sorted({plan.cost for plan in instance.good})
    bench = Bench(instance)
    search = bench.search()
    search.accept = lambda plan: plan.microusd_per_hour >= costs[1]
    found = cost(search.run(ANYTHING))
    assert found is not None
    assert found >= costs[1]
