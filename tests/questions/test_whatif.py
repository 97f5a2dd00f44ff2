"""What-if: every change is what planning a changed problem by hand would give; what cannot be set is told at once."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import mipplan as mp
from mipplan.core import SearchLimits
from mipplan.profiles import Profiles
from mipplan.questions import SETTINGS, Problem, least_cost_text
from mipplan.questions.changes import set_all, settable
from mipplan.result import Limit, PlanStatus, Reliability
from planning_instances import PlanningInstance, hand_made, planning_instance
from small_problems import arriving_ms, pipeline_of, profiles_of


def instance_with_plan() -> PlanningInstance:
    for number in range(74_000, 74_100):
        instance = planning_instance(number, shape="chain", limited=False)
        plan = instance.plan()
        if plan.choices and len(instance.profiles.hardware) > 1 and instance.trace.cv > 0.5:
            return instance
    raise AssertionError("none of a hundred")


INSTANCE = instance_with_plan()
PLAN = INSTANCE.plan()
STAGE = next(iter(PLAN.choices))
HARDWARE = PLAN.choices[STAGE].hardware


def ask(**changes: object) -> mp.WhatIf:
    return mp.whatif(PLAN, INSTANCE.trace, {key.replace("__", "."): value for key, value in changes.items()})


def by_hand(**parts: Any) -> mp.Plan:
    """Plan the changed problem through the public verb."""
    given = {"pipeline": INSTANCE.pipeline, "profiles": INSTANCE.profiles, "trace": INSTANCE.trace}
    arguments = INSTANCE.arguments | parts
    problem = [arguments.pop(name, value) for name, value in given.items()]
    return mp.plan(*problem, **arguments)


def priced(factor: float) -> Profiles:
    device = INSTANCE.profiles.hardware[HARDWARE]
    return INSTANCE.profiles.with_hardware(replace(device, usd_per_hour=device.usd_per_hour * factor))


def with_stage(field: str, value: object) -> mp.Pipeline:
    document = INSTANCE.pipeline.to_document()
    document["stages"][STAGE][field] = value
    return mp.Pipeline.from_document(document)


BATCH = PLAN.choices[STAGE].batch
#: A change, and the same problem made by hand.
CHANGES: dict[tuple[str, object], dict[str, Any]] = {
    ("slo", f"{2 * INSTANCE.slo_ns}ns"): {"slo_s": 2 * INSTANCE.slo_ns / 1e9},
    ("slo", "+50%"): {"slo_s": round(1.5 * INSTANCE.slo_ns) / 1e9},
    ("quantile", "p50"): {"quantile": 0.5},
    ("rate", "0.5x"): {"trace": INSTANCE.trace.scale(0.5)},
    (f"price.{HARDWARE}", "+20%"): {"profiles": priced(1.2)},
    (f"{STAGE}.batch", BATCH): {"pipeline": with_stage("batch", [BATCH])},
    (f"{STAGE}.replicas", 7): {"pipeline": with_stage("replicas", 7)},
    (f"{STAGE}.hardware", HARDWARE): {"pipeline": with_stage("hardware", [HARDWARE])},
    ("margin", "1us"): {"margin_s": 1e-6},
}


@pytest.mark.parametrize(("change", "parts"), CHANGES.items(), ids=lambda value: str(value)[:40])
def test_planned_anew_is_what_planning_by_hand_gives(
    change: tuple[str, object], parts: dict[str, Any]
) -> None:
    key, value = change
    answer = mp.whatif(PLAN, INSTANCE.trace, {key: value})
    (case,) = answer.cases
    expected = by_hand(**parts)
    assert (case.plan.status, case.plan.microusd_per_hour) == (expected.status, expected.microusd_per_hour)
    assert case.name == f"{key}={value}"
    assert answer.base is PLAN  # proven the cheapest on this trace: not planned anew


SMALL = hand_made(0.2, probability=0.5)
#: Ways to ask for a plan, by one search each.
WAYS: dict[str, dict[str, Any]] = {
    "envelope": {"guarantee": "envelope", "slo_s": 1.0},
    "budget": {"budget_usd_per_hour": 2.0},
    "sharp": {"certificate": "sharp", "headroom": 1.2},
    "replay": {"guarantee": "replay", "margin_s": 0.01},
    "timed": {"dispatch": "timed"},
    "mixed": {"dispatch": {"detect": "paced"}, "per_s": 0.2, "share": 0.5, "seeds": 2},
    "fifo": {"discipline": "fifo", "runs": mp.RunClass(least_service=1.0), "slo_s": 1.0},
    "reliable": {"guarantee": "reliable", "confidence": 0.5, "drift": 0.2},
}


@pytest.mark.parametrize("way", WAYS)
def test_what_a_plan_was_asked_for_asked_again_gives_the_same_plan(way: str) -> None:
    plan = SMALL.plan(**WAYS[way])
    tomorrow = (WAYS[way].get(name) for name in ("confidence", "drift"))
    again = Problem(plan, [SMALL.trace], *tomorrow).planned(SearchLimits())
    assert plan.choices
    for part in ("objective", "status", "choices", "figures"):
        assert getattr(again, part) == getattr(plan, part), part
    assert again.provenance.reliability == plan.provenance.reliability


def test_the_same_plan_is_judged_by_its_guarantee_and_by_a_replay() -> None:
    answer = ask(rate="1.5x", slo="-90%")
    assert answer.same.guaranteed_ns == PLAN.certificate_ns
    assert answer.same.keeps
    traces = INSTANCE.trace.scale(1.5), INSTANCE.trace
    for case, trace in zip(answer.cases[:2], traces, strict=True):
        same = case.same
        assert same is not None
        assert same.plan.choices == PLAN.choices
        assert same.guaranteed_ns == mp.certify(PLAN, trace).bound_ns
        assert same.replayed_ns == mp.replay(PLAN, trace).quantile_ns(PLAN.quantile)
        assert same.keeps == (same.guaranteed_ns <= case.plan.slo_ns and not same.overloaded)
    assert answer.cases[-1].name == "all together"
    assert answer.cases[-1].changes == ("rate=1.5x", "slo=-90%")


def test_what_is_set_of_a_stage_is_set_in_the_same_plan_as_well() -> None:
    answer = mp.whatif(PLAN, INSTANCE.trace, {f"{STAGE}.replicas": 7})
    same = answer.cases[0].same
    assert same is not None
    assert same.plan.choices[STAGE].replicas == 7
    extra = (7 - PLAN.choices[STAGE].replicas) * PLAN.profiles.hardware[HARDWARE].microusd_per_hour
    assert same.plan.microusd_per_hour == (PLAN.microusd_per_hour or 0) + extra


def test_a_limit_that_the_same_plan_exceeds_is_told() -> None:
    answer = mp.whatif(PLAN, INSTANCE.trace, {f"hardware.{HARDWARE}.limit": 0})
    same = answer.cases[0].same
    assert same is not None
    assert same.scarce == (HARDWARE,)
    assert not same.keeps
    assert all(choice.hardware != HARDWARE for choice in answer.cases[0].plan.choices.values())


def test_a_plan_by_replays_that_falls_behind_is_kept_where_it_replays_in_time() -> None:
    pipeline = pipeline_of({"s": {"model": "m", "replicas": {"max": 1}}}, slo="90ms")
    profiles, trace = profiles_of({"h": 1.0}, {("m", "h"): {1: 4}}), arriving_ms(range(10))
    answer = mp.whatif(mp.plan(pipeline, profiles, trace, guarantee="replay"), trace, {"slo": "-90%"})
    assert (answer.base.status, answer.base.choices) == ("optimal", answer.same.plan.choices)
    assert (answer.same.keeps, answer.same.overloaded) == (True, ("s",))
    assert "kept, replayed 31 ms, overloaded: s" in str(answer)
    tighter = answer.cases[0]
    assert (tighter.plan.status, tighter.same and tighter.same.keeps) == ("infeasible", False)
    assert "MISSED, replayed 31 ms, overloaded: s" in str(answer)


def test_latency_of_one_stage_leaves_others_of_the_same_model_alone() -> None:
    problem = Problem(PLAN, [INSTANCE.trace])
    changed = set_all(problem, {f"{STAGE}.latency": "2x"})
    for name, stage in problem.pipeline.stages.items():
        model = changed.pipeline.stages[name].model
        for hardware in problem.profiles.hardware_for(stage.model):
            table = problem.profiles.tables[stage.model, hardware]
            factor = 2.0 if name == STAGE else 1.0
            expected = table.slower(factor).latency_ms.tolist()
            assert changed.profiles.tables[model, hardware].latency_ms.tolist() == expected


@pytest.mark.parametrize(("key", "value"), [("quantile", "$95"), ("quantile", "p$95"), ("rate", "$250/s")])
def test_dollars_are_no_quantile_and_no_rate(key: str, value: str) -> None:
    with pytest.raises(mp.InputError, match=rf"expected .*, found '{re.escape(value)}'"):
        mp.whatif(PLAN, INSTANCE.trace, {key: value})


def test_every_fault_is_told_at_once_with_what_would_be_accepted() -> None:
    changes = {
        "slo": "300",
        "rate": "twice",
        f"prise.{HARDWARE}": "-20%",
        f"price.{HARDWARE}": "-120%",
        f"{STAGE}.batch": 7_777,
        f"{STAGE}.replicas": 0,
        f"{STAGE}.hardware": "tpu",
        f"hardware.{HARDWARE}.limit": "many",
        "quantile": "p101",
    }
    with pytest.raises(mp.InputError) as caught:
        mp.whatif(PLAN, INSTANCE.trace, changes)
    faults = {fault.place: fault.message for fault in caught.value.faults}
    assert list(faults) == [f"{key}={value}" for key, value in changes.items()]
    told = list(faults.values())
    assert "write 300ms or 300s" in told[0]
    assert "+10%, -20%, 2x or 250/s" in told[1]
    assert f"did you mean 'price.{HARDWARE}'?" in told[2]
    assert "leaves nothing; accepted are +10%, -20%, 2x, 0.5 ($/h)" in told[3]
    assert f"{PLAN.choices[STAGE].batch}" in told[4]
    assert "measured batch size, of" in told[4]
    assert "expected a whole number from 1" in told[5]
    assert HARDWARE in told[6]
    assert "or none" in told[7]
    assert len(told) == len(changes)


def test_changes_beyond_what_can_be_planned_are_told_at_once() -> None:
    """An objective of millennia, and rates at which a trace has no length, are no faults of what comes after."""
    changes = {"slo": "999999999999x", "rate": "999999999999x", f"price.{HARDWARE}": "999999999999x"}
    with pytest.raises(mp.InputError) as caught:
        mp.whatif(PLAN, INSTANCE.trace, changes)
    faults = {fault.place: fault.message for fault in caught.value.faults}
    assert list(faults) == [f"{key}={value}" for key, value in changes.items()]
    told = list(faults.values())
    assert "at most ten years, found" in told[0]
    assert told[1].startswith("at 1e+12 times the rate all queries arrive at once")
    assert "expected a price from" in told[2]
    several = mp.plan(limiting(60_000, 14_000), MIXED, JITTERY)
    with pytest.raises(mp.InputError, match="slo=999999999999x: expected a positive time"):
        mp.whatif(several, JITTERY, {"slo": "999999999999x"})


@pytest.mark.parametrize("changes", [{}, ["slo=1s"], {1: 2}])
def test_changes_are_a_mapping(changes: Any) -> None:
    with pytest.raises(mp.InputError, match="expected a mapping such as"):
        mp.whatif(PLAN, INSTANCE.trace, changes)


def test_every_rule_has_keys_and_says_what_it_takes() -> None:
    problem = Problem(PLAN, [INSTANCE.trace])
    keys = settable(problem)
    for rule in SETTINGS:
        own = [(key, name) for key, (found, name) in keys.items() if found is rule]
        assert own
        assert all(rule.accepts(problem, name) for _, name in own)


def test_a_plan_of_given_choices_is_planned_anew_as_it_is() -> None:
    given = mp.Plan.from_choices(INSTANCE.pipeline, INSTANCE.profiles, PLAN.choices, **INSTANCE.arguments)
    answer = mp.whatif(given, INSTANCE.trace, {"slo": "+10%"})
    assert answer.base.status is mp.PlanStatus.OPTIMAL
    assert answer.base.microusd_per_hour == PLAN.microusd_per_hour
    table = answer.to_pandas()
    assert list(table["case"]) == ["as it is", "slo=+10%"]
    assert "what if" in str(answer)
    assert "slo=+10%" in repr(answer)


def test_differences_are_those_of_the_plans() -> None:
    document = INSTANCE.pipeline.to_document()
    document["stages"][STAGE]["replicas"] = 7
    other = by_hand(pipeline=mp.Pipeline.from_document(document), profiles=priced(1.25), slo_s=1.0)
    found = mp.diff(PLAN, other)
    assert {one.stage for one in found.stages} == {
        stage for stage in PLAN.choices if PLAN.choices[stage] != other.choices[stage]
    }
    assert found.usd_per_hour == pytest.approx(other.usd_per_hour - PLAN.usd_per_hour)
    whats = {one.what for one in found.requests}
    assert {"objective", f"price of {HARDWARE}", f"stage {STAGE}"} <= whats
    assert "trace" not in whats
    assert sum(one.microusd_after - one.microusd_before for one in found.stages) <= round(
        1e6 * found.usd_per_hour
    )
    assert mp.diff(PLAN, PLAN).is_empty
    assert "status" not in str(mp.diff(PLAN, PLAN))
    unproven = replace(PLAN, status=mp.PlanStatus.FEASIBLE)
    assert ("status", f"{PLAN.status} → feasible") in mp.diff(PLAN, unproven).figures()
    assert "→" in str(found)
    with pytest.raises(mp.InputError, match=r"after: expected a Plan.*Plan.load"):
        mp.diff(PLAN, "plan.json")  # type: ignore[arg-type]


def test_differences_that_read_alike_are_told() -> None:
    """What is written in four digits, and what devices are beside their price."""
    objective = PLAN.objective
    for changed, what in (
        (replace(objective, slo_ns=objective.slo_ns + 1), "objective"),
        (replace(objective, quantile=objective.quantile - 1e-9), "objective"),
        (replace(objective, headroom=1.0 + 1e-9), "headroom"),
    ):
        (told,) = mp.diff(PLAN, replace(PLAN, objective=changed)).requests
        assert told.what == what
        assert told.before != told.after
    device = replace(PLAN.profiles.hardware[HARDWARE], memory_gib=1234.5)
    larger = replace(PLAN, profiles=PLAN.profiles.with_hardware(device))
    (told,) = mp.diff(PLAN, larger).requests
    assert (told.what, told.after) == (f"memory of {HARDWARE}", "1234.5 GiB")
    tested = [
        replace(PLAN, provenance=replace(PLAN.provenance, reliability=Reliability(share)))
        for share in (0.9, 0.95)
    ]
    (told,) = mp.diff(*tested).requests
    assert (told.what, told.before, told.after) == ("share of scenarios", "0.9", "0.95")


def test_differences_of_tables_and_edges() -> None:
    slower = set_all(Problem(PLAN, [INSTANCE.trace]), {f"{STAGE}.latency": "+10%"}).plan
    whats = {one.what: one for one in mp.diff(PLAN, slower).requests}
    assert any(" on " in what for what in whats)
    document = INSTANCE.pipeline.to_document()
    document["edges"][0]["delay"] = "123us"
    edge = document["edges"][0]
    moved = replace(PLAN, pipeline=mp.Pipeline.from_document(document))
    (one,) = mp.diff(PLAN, moved).requests
    assert one.what == f"edge {edge['from']} → {edge['to']}"
    assert "123us" in one.after


def test_variants_are_chosen_anew_and_keep_the_least_accuracy() -> None:
    pipeline, profiles = mp.Pipeline.read("video"), mp.Profiles.default()
    trace = mp.Trace.read("bursty").slice(0, 20)
    plan = mp.plan(pipeline, profiles, trace, accuracy=0.4)
    (looser,) = mp.whatif(plan, trace, {"slo": "2s"}).cases
    assert looser.plan.accuracy is not None
    assert looser.plan.accuracy >= 0.4
    by_itself = mp.plan(pipeline, profiles, trace, slo_s=2.0, accuracy=0.4)
    assert looser.plan.microusd_per_hour == by_itself.microusd_per_hour
    # Another variant is told as such: what it runs on may be the same.
    cheapest = mp.plan(pipeline, profiles, trace)
    found = mp.diff(cheapest, plan)
    assert [(one.what, one.before, one.after) for one in found.requests] == [
        ("least accuracy", "none", "0.4")
    ]
    for one in found.stages:
        assert f"{plan.choices[one.stage].variant} on" in one.text
    # What is set of a stage goes for all that it may run.
    (slower,) = mp.whatif(plan, trace, {"detect.latency": "2x"}).cases
    doubled = [t.slower(2.0) if t.model.startswith("yolo") else t for t in profiles.tables.values()]
    by_hand = mp.plan(pipeline, Profiles.from_parts(profiles.hardware.values(), doubled), trace, accuracy=0.4)
    assert slower.plan.microusd_per_hour == by_hand.microusd_per_hour
    document = pipeline.to_document()
    document["stages"]["classify"] = {"variants": ["yolov5n", "yolov5s"]}
    twice = mp.plan(mp.Pipeline.from_document(document), profiles, trace, slo_s=3.0)
    with pytest.raises(mp.InputError, match=r"no other stage may run, found yolov5n, yolov5s"):
        mp.whatif(twice, trace, {"detect.latency": "2x"})


def test_whatever_is_asked_for_otherwise_is_told() -> None:
    asked: tuple[tuple[str, dict[str, Any]], ...] = (
        ("draws", {"seeds": 2}),
        ("budget (10⁻⁶ $/h)", {"budget_microusd_per_hour": 10**6}),
        ("arrival curve", {"envelope": ((20.0, 150.0),)}),
        ("energy", {"energy": mp.EnergyTerms(max_power_w=500)}),
        ("least accuracy", {"min_accuracy": 0.5}),
        ("runs certified", {"runs": mp.RunClass(0.9)}),
    )
    for what, parts in asked:
        other = replace(PLAN, objective=replace(PLAN.objective, **parts))
        assert what in {one.what for one in mp.diff(PLAN, other).requests}


def test_choices_that_become_impossible_are_an_obstacle_for_the_same_plan_only() -> None:
    tables = pd.DataFrame(
        {
            "model": "m",
            "hardware": ["a", "a", "b", "b"],
            "batch": [1, 4, 1, 2],
            "latency_ms": [10.0, 20.0, 5.0, 6.0],
        }
    )
    profiles = Profiles.from_pandas(pd.DataFrame({"usd_per_hour": [0.1, 1.0]}, index=["a", "b"]), tables)
    pipeline = mp.Pipeline.from_document(
        {"name": "p", "slo": "1s", "stages": {"s": {"model": "m"}}, "edges": []}
    )
    trace = mp.Trace.gamma(rate_rps=150, cv=1, duration_s=5, seed=1)
    plan = mp.plan(pipeline, profiles, trace)
    assert (plan.choices["s"].hardware, plan.choices["s"].batch) == ("a", 4)
    *alone, together = mp.whatif(plan, trace, {"s.hardware": "b", "slo": "2s"}).cases
    assert [case.obstacle is None for case in alone] == [False, True]
    assert together.same is None
    assert together.plan.choices["s"].hardware == "b"
    assert together.plan.slo_s == 2.0


def test_every_answer_about_a_plan_is_a_table_too() -> None:
    explained = PLAN.explain()
    table = explained.to_pandas()
    assert len(table) == sum(len(stage.options) for stage in explained.stages)
    chosen = table[table["verdict"] == "chosen"]
    assert chosen["stage"].tolist() == list(PLAN.choices)
    assert set(chosen["usd_per_hour"]) == {PLAN.usd_per_hour}
    certificate = mp.certify(PLAN, INSTANCE.trace)
    assert certificate.to_pandas()["latency_s"].max() == certificate.latency_ns.max() / 1e9
    other = replace(PLAN, choices={**PLAN.choices, STAGE: replace(PLAN.choices[STAGE], replicas=40)})
    (row,) = mp.diff(PLAN, other).to_pandas().to_dict("records")
    assert row["stage"] == STAGE
    assert row["after"].startswith("40 × ")
    menu = mp.menu(INSTANCE.pipeline, INSTANCE.profiles, INSTANCE.trace, by="hardware", **INSTANCE.arguments)
    assert menu.to_pandas()["usd_per_hour"].tolist() == [plan.usd_per_hour for plan in menu.plans]


MIXED = profiles_of(
    {"cpu": 0.1, "gpu": 0.5},
    {
        ("m", "cpu"): {1: 4, 2: 6, 4: 10},
        ("m", "gpu"): {1: 1.5, 4: 3},
        ("k", "cpu"): {1: 3, 4: 8},
        ("k", "gpu"): {1: 1, 2: 1.3},
    },
)
JITTERY = arriving_ms(np.cumsum(np.random.default_rng(3).exponential(4, 40)))


def limiting(p99_us: int, p50_us: int) -> mp.Pipeline:
    """Two stages whose objective has two quantiles, over windows of 80 ms."""
    return pipeline_of(
        {"a": {"model": "m"}, "b": {"model": "k"}},
        [{"from": "a", "to": "b", "delay": "1ms"}],
        slo={"p99": f"{p99_us}us", "p50": f"{p50_us}us", "per": "80ms"},
    )


def test_every_limit_of_an_objective_changes_with_it() -> None:
    """Planned anew is what planning with all limits changed by hand gives; tighter ones never cost less."""
    plan = mp.plan(limiting(60_000, 14_000), MIXED, JITTERY)
    costs = []
    for percent in (-40, -20, -10, -5, 5, 20, 100, 400):
        (case,) = mp.whatif(plan, JITTERY, {"slo": f"{percent:+}%"}).cases
        by_hand = mp.plan(limiting(600 * (100 + percent), 140 * (100 + percent)), MIXED, JITTERY)
        assert case.plan.objective == by_hand.objective
        assert (case.plan.status, case.plan.microusd_per_hour) == (by_hand.status, by_hand.microusd_per_hour)
        assert case.same is not None
        assert case.same.plan.objective == by_hand.objective
        assert case.same.replayed_ns == mp.replay(plan, JITTERY).objective_ns(by_hand.objective)
        costs.append(by_hand.microusd_per_hour or 10**9)
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) > 2


def test_one_limit_of_several_is_not_set_alone() -> None:
    plan = mp.plan(limiting(60_000, 14_000), MIXED, JITTERY, margin_s=0.005)
    with pytest.raises(mp.InputError) as caught:
        mp.whatif(plan, JITTERY, {"slo": "50ms", "quantile": "p50"})
    assert [str(fault) for fault in caught.value.faults] == [
        "slo=50ms: the objective limits several quantiles, which change together: expected +10%, -20%, 2x",
        "quantile=p50: expected a plan with one limit: the objective has several quantiles, each with its own",
    ]
    # P50 ≤ 4.2 ms, of which 5 ms are kept back.
    with pytest.raises(mp.InputError, match="slo=-70%: leaves nothing of the objective, less the margin"):
        mp.whatif(plan, JITTERY, {"slo": "-70%"})
    # Where another limit was asked for, the pipeline's are not those of the plan.
    alone = mp.plan(limiting(60_000, 14_000), MIXED, JITTERY, slo_s=0.06)
    assert (
        mp.whatif(alone, JITTERY, {"slo": "50ms"}).cases[0].plan.objective.text == "P99 in every 80ms ≤ 50 ms"
    )


def test_costs_that_are_not_proven_the_least_say_so() -> None:
    """Plans tested on scenarios come of a search that proves nothing, stopped or not; a tie left open is no doubt."""
    optimal = replace(PLAN, status=PlanStatus.OPTIMAL)
    for plan, is_open in (
        (replace(optimal, status=PlanStatus.FEASIBLE), True),
        (replace(optimal, status=PlanStatus.FEASIBLE, limit=Limit.TIME), True),
        (optimal, False),
        (replace(optimal, limit=Limit.INTERRUPT), False),
    ):
        assert least_cost_text(plan, " $/h") == f"{'≤ ' * is_open}{plan.usd_per_hour:.4f} $/h"


def test_every_batch_size_that_was_measured_can_be_set() -> None:
    """And a quantile is what is written: 99.9 by 100 is not 0.999 in floating point."""
    profiles = profiles_of({"cpu": 0.2}, {("m", "cpu"): {size: 5.0 + size for size in range(1, 17)}})
    trace = mp.Trace.poisson(rate_rps=50, duration_s=4, seed=1)
    plan = mp.plan(pipeline_of({"a": {"model": "m"}}), profiles, trace)
    found = mp.whatif(plan, trace, {"a.batch": 16, "quantile": "p99.9"})
    assert found.cases[0].plan.choices["a"].batch == 16
    assert found.cases[1].plan.quantile == 0.999
    with pytest.raises(mp.InputError, match=r"expected a measured batch size, of 1, .*, 16, found '17'"):
        mp.whatif(plan, trace, {"a.batch": 17})
