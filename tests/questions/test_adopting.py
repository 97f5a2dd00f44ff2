"""Plans are explained as they are; a cheaper one takes the place only of what a search for the cheapest left."""

from __future__ import annotations

from dataclasses import replace

import pytest

import mipplan as mp
from mipplan.core import Deadline
from mipplan.ipa import Weights
from mipplan.planner import PlanSearch, SearchOutcome
from mipplan.result import Figures, Guarantee, Limit, PlanStatus
from planning_instances import PlanningInstance, hand_made, powered_profiles
from small_problems import arriving_ms, pipeline_of, profiles_of

ONE = pipeline_of({"a": {"model": "m"}})
#: Two kinds of hardware that serve alike, one a little dearer.
ALIKE = profiles_of({"cpu": 0.1, "alt": 0.11}, {("m", "cpu"): {1: 20}, ("m", "alt"): {1: 20}})
POISSON = mp.Trace.poisson(rate_rps=120, duration_s=4, seed=1)


def check_is_explained_itself(plan: mp.Plan, trace: mp.Trace) -> None:
    """The explanation is of these choices, though a cheaper plan is certified on the trace."""
    told = mp.explain(plan, trace)
    assert told.adopted is None
    assert told.microusd_per_hour == plan.microusd_per_hour
    assert {one.stage: one.choice for one in told.stages} == dict(plan.choices)
    cheaper = mp.plan(plan.pipeline, plan.profiles, trace, slo_s=plan.slo_s, quantile=plan.quantile)
    assert (cheaper.usd_per_hour or 0.0) < (plan.usd_per_hour or 0.0)
    assert plan.status is PlanStatus.FEASIBLE


def test_a_reliable_plan_keeps_the_replicas_that_its_test_was_of() -> None:
    slo_s = mp.certify(mp.Plan.from_choices(ONE, ALIKE, {"a": ("cpu", 1, 4)}), POISSON).bound_s
    plan = mp.plan(ONE, ALIKE, POISSON, slo_s=slo_s, guarantee="reliable", confidence=0.9, drift=0.3)
    assert plan.reliability is not None
    check_is_explained_itself(plan, POISSON)
    for limit in Limit:
        check_is_explained_itself(replace(plan, limit=limit), POISSON)


def test_a_plan_of_a_fleet_leaves_the_hardware_that_others_need() -> None:
    """One pipeline is slow on all but the one cpu there is, so the other, which could use it, runs on gpu."""
    profiles = profiles_of(
        {"cpu": 0.1, "gpu": 1.0},
        {("m", "cpu"): {1: 5}, ("m", "gpu"): {1: 5}, ("k", "cpu"): {1: 5}},
        limits={"cpu": 1},
    )
    trace = arriving_ms(range(0, 400, 20))
    pipelines = {"m": (ONE, trace), "k": (pipeline_of({"a": {"model": "k"}}), trace)}
    plan = mp.plan_fleet(pipelines, profiles, n_jobs=1).plans["m"]
    assert plan.choices["a"].hardware == "gpu"
    check_is_explained_itself(plan, trace)


def test_plans_of_a_menu_are_told_apart() -> None:
    plans = mp.menu(ONE, ALIKE, POISSON, within=0.5, by="hardware").plans
    assert [plan.choices["a"].hardware for plan in plans] == ["cpu", "alt"]
    check_is_explained_itself(plans[1], POISSON)


VARIED = (
    pipeline_of({"a": {"variants": {"s": 0.5, "l": 0.9}}}),
    profiles_of({"cpu": 0.1}, {("s", "cpu"): {1: 5}, ("l", "cpu"): {1: 30}}),
    arriving_ms(range(0, 400, 20)),
)


def test_a_plan_by_weights_keeps_its_accuracy() -> None:
    found = mp.weigh(*VARIED, weights=Weights(10.0, 1.0, 0.0))
    assert found.plan.choices["a"].variant == "l"
    assert (found.limit, found.plan.limit) == (None, None)
    check_is_explained_itself(found.plan, VARIED[2])


def test_weights_that_are_stopped_say_so_beside_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the accurate plan was found time is up: no search for the cheapest was stopped by that."""
    weights, seen = Weights(10.0, 1.0, 1e-6), list[str]()
    mp.weigh(*VARIED, weights=weights, progress=seen.append)
    for looks in range(200):
        left = iter([False] * looks)
        with monkeypatch.context() as patch:
            patch.setattr(Deadline, "is_over", property(lambda _, left=left: next(left, True)))
            found = mp.weigh(*VARIED, weights=weights)
        if found.limit is not None and found.plan.choices and found.plan.choices["a"].variant == "l":
            check_is_explained_itself(found.plan, VARIED[2])
            return
    raise AssertionError("it was never stopped with the accurate plan")


def stopped(instance: PlanningInstance, **parts: object) -> mp.Plan:
    """A plan with a replica too many at every stage, as of a search that time stopped."""
    best = instance.plan(**parts)
    choices = {stage: replace(choice, replicas=choice.replicas + 1) for stage, choice in best.choices.items()}
    figures = Figures(lower_bound_microusd_per_hour=best.microusd_per_hour)
    return replace(best, choices=choices, figures=figures, status=PlanStatus.FEASIBLE, limit=Limit.TIME)


def test_only_a_stopped_search_for_the_cheapest_plan_on_the_trace_is_gone_on_with() -> None:
    instance = hand_made()
    plan, trace = stopped(instance), instance.trace
    assert mp.explain(plan, trace).adopted is not None
    check_is_explained_itself(replace(plan, limit=None), trace)
    # The same arrivals a little later are another trace, of whose plans nothing is proven.
    check_is_explained_itself(
        plan, mp.Trace.from_ns(trace.arrival_ns + trace.arrival_ns // 1000, name="late")
    )
    for parts in (
        {"budget_microusd_per_hour": 10**7},
        {"guarantee": Guarantee.REPLAY},
        {"guarantee": Guarantee.RELIABLE},
    ):
        check_is_explained_itself(replace(plan, objective=replace(plan.objective, **parts)), trace)


def test_what_is_adopted_has_the_power_of_its_own_replicas() -> None:
    instance = hand_made()
    instance = replace(instance, profiles=powered_profiles(instance))
    plan = stopped(instance, energy=mp.EnergyTerms())
    adopted = mp.explain(plan, instance.trace).adopted
    assert adopted is not None
    assert adopted.power_w is not None
    assert mp.verify(adopted, instance.trace).problems == ()


def test_no_other_plan_is_looked_for_after_an_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search takes Ctrl-C for a limit, and may have found a plan before."""
    searched: list[SearchOutcome] = []

    class Interrupted(PlanSearch):
        def run(self) -> SearchOutcome:
            searched.append(replace(super().run(), limit=Limit.INTERRUPT))
            return searched[-1]

    alike = {"cpu": 0.1, "alt": 0.101, "more": 0.102, "last": 0.103}
    profiles = profiles_of(alike, {("m", name): {1: 20} for name in alike})
    plan = mp.plan(ONE, profiles, POISSON)
    assert len(mp.explain(plan, POISSON).near_plans) == 3
    monkeypatch.setattr("mipplan.questions.explanations.PlanSearch", Interrupted)
    told = mp.explain(plan, POISSON)
    assert (len(searched), len(told.near_plans), told.near_complete) == (1, 1, False)
    assert [stage.stage for stage in told.stages] == ["a"]
