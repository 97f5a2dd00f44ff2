"""The mirror problem, least certified latency within a budget: brute force, consistency, reasons."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import networkx as nx
import numpy as np
import pytest

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from mipplan.planner import benders
from mipplan.solvers import ProblemAnswer
from mipplan.tokens import realise
from oracle_planner import (
    Services,
    TooLargeError,
    fastest_within,
    oracle_certificate,
    oracle_families,
    oracle_limits,
)
from planning_instances import PlanningInstance, hand_made, planning_instance
from small_problems import arriving_ms, pipeline_of, profiles_of


def drawn_budget(number: int, instance: PlanningInstance) -> int:
    """Micro-dollars an hour, around what keeping up costs."""
    workload = realise(instance.pipeline, instance.trace, instance.seed)
    families = oracle_families(instance.pipeline, instance.profiles, workload)
    least = sum(min((f.fewest * f.price for f in found), default=100_000) for found in families.values())
    factor = np.random.default_rng([99, number]).choice([0.9, 1.0, 1.2, 1.5, 2.0])
    return int(least * float(factor))


def brute_force(instance: PlanningInstance, budget: int) -> int | None:
    workload = realise(instance.pipeline, instance.trace, instance.seed)

    def certificate(services: Services) -> int:
        return oracle_certificate(workload, services, instance.quantile)

    families = oracle_families(instance.pipeline, instance.profiles, workload)
    return fastest_within(families, oracle_limits(instance.profiles), certificate, budget)


def test_least_certificate_within_the_budget_is_found(tmp_path: Path) -> None:
    numbers = range(8000, 8000 + campaign_size(16, 150))
    verdicts: Counter[str] = Counter()
    skipped = 0
    violations = Violations()
    for number in numbers:
        with violations.case(number):
            instance = planning_instance(number)
            budget = drawn_budget(number, instance)
            try:
                truth = brute_force(instance, budget)
            except TooLargeError:
                skipped += 1
                continue
            plan = instance.plan(budget_usd_per_hour=budget / 1e6)
            verdicts[plan.status] += 1
            assert plan.budget_microusd_per_hour == budget
            if truth is None:
                assert (plan.status, dict(plan.choices)) == ("infeasible", {}), number
                assert plan.reason, number
                continue
            assert plan.status == "optimal", number
            assert plan.certificate_ns == plan.slo_ns == truth, number
            assert plan.certificate_ns == mp.certify(plan, instance.trace).bound_ns, number
            assert plan.bound_ns is not None
            assert plan.bound_ns <= truth, number
            assert plan.microusd_per_hour is not None
            assert plan.microusd_per_hour <= budget, number
            plan.save(tmp_path / "plan.json")
            verification = mp.verify(tmp_path / "plan.json", instance.trace)
            assert (verification.verified, verification.problems) == (True, ()), number
    assert skipped <= len(numbers) / 5
    assert verdicts["optimal"] >= len(numbers) / 2
    assert verdicts["infeasible"]
    write_summary(
        "budget",
        {
            "instances": len(numbers) - skipped,
            "too_large_for_brute_force": skipped,
            "mismatches": violations.checked(),
            "verdicts": dict(sorted(verdicts.items())),
        },
    )


@pytest.mark.parametrize("number", range(8500, 8500 + campaign_size(3, 60)))
def test_mirrors_the_problem_with_an_objective(number: int) -> None:
    instance = planning_instance(number)
    cheapest = instance.plan()
    if not cheapest.choices:
        pytest.skip("infeasible")
    assert cheapest.usd_per_hour is not None
    assert cheapest.certificate_ns is not None
    fastest = instance.plan(budget_usd_per_hour=cheapest.usd_per_hour)
    assert fastest.status == "optimal"
    assert fastest.certificate_ns is not None
    assert fastest.certificate_ns <= cheapest.certificate_ns
    back = instance.plan(slo_s=fastest.certificate_ns / 1e9)
    assert back.status == "optimal"
    assert back.microusd_per_hour is not None
    assert cheapest.microusd_per_hour == back.microusd_per_hour


def test_a_larger_budget_is_never_slower() -> None:
    certificates = [
        hand_made().plan(budget_usd_per_hour=usd).require().certificate_ns
        for usd in (0.2, 0.3, 0.6, 1.0, 4.0)
    ]
    assert certificates == sorted(certificates, key=lambda c: -(c or 0))
    assert certificates[0] != certificates[-1]


def test_worst_case_within_a_budget() -> None:
    instance = hand_made()
    plan = instance.plan(guarantee="envelope", budget_usd_per_hour=1.0)
    assert plan.status == "optimal"
    assert plan.certificate_ns is not None
    cheaper = instance.plan(guarantee="envelope", slo_s=plan.certificate_ns / 1e9)
    assert (cheaper.usd_per_hour or 9.0) <= 1.0
    assert instance.plan(guarantee="envelope", slo_s=(plan.certificate_ns - 1) / 1e9).usd_per_hour != 1.0


def test_over_budget_names_what_it_takes() -> None:
    plan = hand_made().plan(budget_usd_per_hour=0.15)
    assert plan.status == "infeasible"
    found = re.search(r"no plan costs at most 0\.15 \$/h.* ([0-9.]+) \$/h$", plan.reason or "")
    assert found
    # With that much there is one, with a micro-dollar less there is none.
    needed = float(found[1])
    assert hand_made().plan(budget_usd_per_hour=needed).status == "optimal"
    assert hand_made().plan(budget_usd_per_hour=needed - 1e-6).status == "infeasible"


def test_over_budget_under_limits_names_what_really_works() -> None:
    # Each stage alone would fit one cpu of the one there is, so only both together show that a t4 is needed.
    instance = hand_made()
    devices = [replace(hw, limit=1) if hw.name == "cpu" else hw for hw in instance.profiles.hardware.values()]
    profiles = mp.Profiles.from_parts(devices, instance.profiles.tables.values())
    limited = replace(instance, profiles=profiles)
    plan = limited.plan(budget_usd_per_hour=0.3)
    assert plan.status == "infeasible"
    found = re.search(r"no plan costs at most 0\.3 \$/h.* ([0-9.]+) \$/h$", plan.reason or "")
    assert found
    needed = float(found[1])
    assert needed == pytest.approx(0.6)
    assert limited.plan(budget_usd_per_hour=needed).status == "optimal"
    assert limited.plan(budget_usd_per_hour=needed - 1e-6).status == "infeasible"


def test_limits_that_no_budget_gets_around() -> None:
    instance = hand_made()
    graph = nx.DiGraph(instance.pipeline.graph)
    for stage in graph:
        graph.nodes[stage]["hardware"] = ["t4"]
    devices = [replace(hw, limit=1) if hw.name == "t4" else hw for hw in instance.profiles.hardware.values()]
    profiles = mp.Profiles.from_parts(devices, instance.profiles.tables.values())
    limited = replace(instance, profiles=profiles, pipeline=mp.Pipeline(graph=graph, slo_s=0.08))
    plan = limited.plan(budget_usd_per_hour=100.0)
    assert plan.status == "infeasible"
    assert "the limit of 1 on t4" in (plan.reason or "")
    assert "4.504e+06 s" not in (plan.reason or "")
    assert "infeasible, any objective" in repr(plan)


def test_objective_and_margin_play_no_part() -> None:
    graph = nx.DiGraph(hand_made().pipeline.graph)
    without = mp.Pipeline(graph=graph, name="hand-made")
    instance = hand_made()
    plan = mp.plan(without, instance.profiles, instance.trace, budget_usd_per_hour=1.0)
    same = instance.plan(budget_usd_per_hour=1.0, slo_s=0.001, margin_s=0.5)
    assert dict(plan.choices) == dict(same.choices)
    assert (same.margin_ns, same.slo_ns) == (0, plan.certificate_ns)


@pytest.mark.parametrize("budget", [0, -1.0, float("nan"), float("inf"), True, "1"])
def test_bad_budget(budget: object) -> None:
    with pytest.raises(mp.InputError) as caught:
        hand_made().plan(budget_usd_per_hour=budget)
    assert caught.value.faults[0].place == "budget_usd_per_hour"


def test_stopped_search_says_so() -> None:
    plan = hand_made().plan(budget_usd_per_hour=1.0, time_limit_s=1e-9)
    assert plan.status in ("feasible", "unknown")
    assert "stopped" in (plan.reason or "")


def test_an_interrupt_is_not_taken_for_a_budget_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*arguments: object, **settings: object) -> ProblemAnswer:
        raise KeyboardInterrupt

    monkeypatch.setattr(benders, "solve_problem", interrupted)
    # Where stages share devices nothing is known at once; else there is something that the budget pays for.
    instance = hand_made()
    hardware = [replace(one, limit=50) for one in instance.profiles.hardware.values()]
    scarce = mp.Profiles.from_parts(hardware, instance.profiles.tables.values())
    plan = replace(instance, profiles=scarce).plan(budget_usd_per_hour=100.0)
    assert (plan.status, plan.limit, dict(plan.choices)) == ("unknown", "interrupt", {})
    assert plan.reason is not None
    assert plan.reason.endswith("before any plan within the budget was found")
    plan = instance.plan(budget_usd_per_hour=100.0)
    assert (plan.status, plan.limit) == ("feasible", "interrupt")
    assert plan.usd_per_hour <= 100.0


def test_what_would_do_instead_is_within_the_budget() -> None:
    pipeline = pipeline_of(
        {"first": {"model": "m"}, "then": {"model": "m"}}, [{"from": "first", "to": "then"}]
    )
    profiles = profiles_of({"h": 1.0}, {("m", "h"): {1: 12}}, limits={"h": 2})
    trace = arriving_ms(range(0, 200, 10))  # Keeping up takes two devices a stage, and there are two.
    enough = mp.plan(pipeline, profiles, trace, budget_usd_per_hour=4.0).reason or ""
    assert "What binds: the limit of 2 on h (with any one of these lifted it would work)" in enough
    short = mp.plan(pipeline, profiles, trace, budget_usd_per_hour=3.0).reason or ""
    assert "would work)" not in short
    assert "Something would be without any one of these, whatever it costs: the limit of 2 on h" in short
    share = re.search(r"At (\d+)% of the traffic", short)
    assert share is not None
    assert mp.plan(pipeline, profiles, trace.scale(int(share[1]) / 100), budget_usd_per_hour=3.0).choices
