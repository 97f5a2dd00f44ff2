"""`mipplan.plan(…, guarantee="reliable")` as a whole: what it returns, tests, refuses, prints and writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import mipplan as mp
from mipplan.core import SearchLimits
from mipplan.profiles import Hardware, LatencyTable
from mipplan.reliability import (
    Purpose,
    Scenario,
    ScenarioSource,
    clopper_pearson,
    fewest_scenarios,
    level_of_test,
    plan_reliably,
    planning,
)
from mipplan.result import Figures, Guarantee, Limit, Objective, Provenance, Reliability
from mipplan.variants import best_combination

PROFILES = mp.Profiles.default()
PIPELINE = mp.Pipeline.read("profiles/pipelines/cascade.yaml")
SAMPLE = mp.Trace.gamma(120.0, 2.0, 8.0, seed=3)


def reliable(*traces: mp.Trace, **asked: object) -> mp.Plan:
    given = {"guarantee": "reliable", "time_limit_s": None, "confidence": 0.8} | asked
    return mp.plan(PIPELINE, PROFILES, list(traces) or SAMPLE, **given)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made() -> mp.Plan:
    return reliable()


def kept_in(plan: mp.Plan, source: ScenarioSource, number: int, purpose: int) -> bool:
    """Whether a plan keeps its objective in a scenario, by the public replay."""
    scenario = source.scenario(number, purpose)
    noise = {
        stage: mp.ServiceNoise.from_p99()
        for stage in plan.choices
        if plan.table(stage).latency_p99_ms is not None
    }
    replayed = mp.replay(plan, scenario.trace, seed=scenario.seed, noise=noise)
    return replayed.quantile(plan.quantile) <= plan.slo_s


def test_a_plan_is_tested_on_fresh_scenarios(made: mp.Plan) -> None:
    record = made.reliability
    assert record is not None
    assert made.status is mp.PlanStatus.FEASIBLE
    assert made.guarantee == "reliable"
    assert record.passed
    assert record.scenarios == fewest_scenarios(0.8) == 14
    assert record.share is not None
    assert record.share >= 0.8
    level = level_of_test(record.tests)
    assert (record.low, record.high) == clopper_pearson(record.kept, record.scenarios, level)
    source = ScenarioSource([SAMPLE], made.seed)
    purpose = Purpose.TEST + record.tests - 1
    assert record.kept == sum(kept_in(made, source, number, purpose) for number in range(14))


def test_it_keeps_what_it_was_chosen_on(made: mp.Plan) -> None:
    record = made.reliability
    assert record is not None
    source = ScenarioSource([SAMPLE], made.seed)
    assert all(kept_in(made, source, number, Purpose.CHOICE) for number in range(10))  # 2 / (1 - 0.8)
    assert record.chosen_on >= 11 - record.left_out
    assert mp.replay(made, SAMPLE).quantile(0.99) <= made.slo_s


def test_the_worst_scenario_is_one_of_the_test(made: mp.Plan) -> None:
    record = made.reliability
    assert record is not None
    assert record.worst is not None
    scenario = ScenarioSource([SAMPLE], made.seed).scenario(
        record.worst.number, Purpose.TEST + record.tests - 1
    )
    assert record.worst.rate == scenario.rate
    noise = {
        stage: mp.ServiceNoise.from_p99()
        for stage in made.choices
        if made.table(stage).latency_p99_ms is not None
    }
    replayed = mp.replay(made, scenario.trace, seed=scenario.seed, noise=noise)
    assert replayed.quantile_ns(0.99) == record.worst.quantile_ns
    assert record.worst.stage in made.choices


def test_the_same_seed_gives_the_same_plan(made: mp.Plan) -> None:
    again = reliable()
    assert again.choices == made.choices
    assert again.reliability == made.reliability
    assert reliable(seed=1).reliability != made.reliability


def test_cost_is_between_the_bound_and_more_than_the_replay_asks(made: mp.Plan) -> None:
    replayed = mp.plan(PIPELINE, PROFILES, SAMPLE, guarantee="replay", time_limit_s=None)
    assert replayed.guarantee == "replay"
    assert replayed.refinement is not None
    assert replayed.reliability is None
    assert made.usd_per_hour is not None
    assert made.lower_bound_usd_per_hour is not None
    assert replayed.lower_bound_usd_per_hour is not None
    assert made.lower_bound_usd_per_hour <= made.usd_per_hour
    assert replayed.lower_bound_usd_per_hour <= made.usd_per_hour


def test_plan_files_hold_the_test(made: mp.Plan, tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    made.save(path)
    loaded = mp.Plan.load(path)
    assert loaded == made
    assert loaded.reliability == made.reliability
    assert loaded.to_json() == made.to_json()
    changed = json.loads(path.read_text())
    changed["reliability"]["kept"] = 1
    path.write_text(json.dumps(changed))
    with pytest.raises(mp.InputError, match="altered"):
        mp.Plan.load(path)


def test_a_confidence_of_numpys_is_written_as_any_other() -> None:
    asked = {"guarantee": "reliable", "confidence": np.float32(0.5), "time_limit_s": 1e-3}
    assert '"confidence": 0.5' in mp.plan(PIPELINE, PROFILES, SAMPLE, **asked).to_json()


def test_files_of_other_plans_have_none(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    mp.plan(PIPELINE, PROFILES, SAMPLE, slo_s=1.0).save(path)
    assert "reliability" not in json.loads(path.read_text())
    assert mp.Plan.load(path).reliability is None


def test_it_prints_the_test(made: mp.Plan) -> None:
    assert made.reliability is not None
    text = " ".join(str(made).split())
    assert f"kept in {made.reliability.kept} of 14 fresh scenarios" in text
    assert f"95 % interval {made.reliability.interval}" in text
    assert Reliability(0.9, scenarios=29, kept=29, low=0.8597).interval == "85–100 %"  # rounded outwards
    misses = " ".join(mp.verify(made, SAMPLE).problems)
    assert not misses or "the plan was tested on scenarios, which no theorem covers" in misses
    assert "no plan that keeps all scenarios it was chosen on" in text


def test_fifo_and_timed_dispatch() -> None:
    queued = reliable(discipline="fifo")
    assert queued.discipline == "fifo"
    assert queued.reliability is not None
    assert queued.reliability.passed
    timed = reliable(dispatch="timed")
    assert timed.dispatch == "timed"
    assert timed.certificate_s == mp.replay(timed, SAMPLE).quantile(0.99)


def test_several_samples_and_draws() -> None:
    other = mp.Trace.gamma(150.0, 1.0, 6.0, seed=5)
    plan = reliable(SAMPLE, other, seeds=2)
    assert plan.reliability is not None
    assert len(plan.reliability.blocks) == 2
    assert plan.reliability.chosen_on >= 2 * 2 + 2 * 10 - plan.reliability.left_out
    for trace in (SAMPLE, other):
        for seed in (plan.seed, plan.seed + 1):
            assert mp.replay(plan, trace, seed=seed).quantile(0.99) <= plan.slo_s


def test_a_margin_is_kept_back() -> None:
    plan = reliable(margin_s=0.01)
    assert mp.replay(plan, SAMPLE).quantile(0.99) <= plan.slo_s - 0.01


def test_an_objective_that_nothing_keeps_is_infeasible() -> None:
    plan = reliable(slo_s=0.003)
    assert plan.status is mp.PlanStatus.INFEASIBLE
    assert "no option of stage" in (plan.reason or "")
    assert plan.reliability is not None
    assert (plan.reliability.scenarios, plan.reliability.share) == (0, None)


def test_without_time_nothing_is_claimed() -> None:
    plan = reliable(time_limit_s=1e-6)
    assert plan.status is mp.PlanStatus.UNKNOWN
    assert plan.limit is Limit.TIME
    assert "before any plan was found" in (plan.reason or "")
    # Each stage needs a device, whatever it keeps.
    least = [
        min(PROFILES.hardware[name].usd_per_hour for name in PROFILES.hardware_for(stage.model))
        for stage in PIPELINE.stages.values()
    ]
    assert plan.lower_bound_usd_per_hour == pytest.approx(sum(least))


def interrupting(after: str) -> object:
    def progress(text: str) -> None:
        if text.startswith(after):
            raise KeyboardInterrupt

    return progress


def test_ctrl_c_returns_what_there_is() -> None:
    found = reliable(progress=interrupting("found a plan"))
    assert (found.status, found.limit) == (mp.PlanStatus.UNKNOWN, Limit.INTERRUPT)
    assert found.choices
    assert found.reason == "it was interrupted before the plan was tested"
    none = reliable(progress=interrupting("drawing"))
    assert (none.status, none.limit, dict(none.choices)) == (mp.PlanStatus.UNKNOWN, Limit.INTERRUPT, {})


def test_a_failed_test_is_told_and_its_scenarios_are_chosen_on() -> None:
    """Chosen on the sample and one scenario, under a drift of a quarter, a plan fails."""
    said: list[str] = []
    asked = mp.Plan(PIPELINE, PROFILES, Objective(round(0.06e9), 0.99).under(PIPELINE.laws()))
    plan = planning.plan_reliably(
        asked,
        [SAMPLE],
        0.9,
        0.25,
        params=planning.ReliabilityParams(per_miss=0.1),
        time_limit_s=None,
        progress=said.append,
    )
    record = plan.reliability
    assert record is not None
    failed = [line for line in said if line.startswith("the plan failed its test")]
    assert failed
    assert record.tests == len(failed) + 1
    assert record.passed
    assert record.chosen_on > 2
    # Whatever takes long says how far it is, or what is proven so far.
    assert said[-1].startswith(f"testing plan {record.tests} on fresh scenarios: 9")
    assert any(line.startswith("found a plan of ") and "; none below " in line for line in said)


@pytest.mark.parametrize(
    ("asked", "places"),
    [
        ({"confidence": 1.0, "drift": -0.1, "seeds": 0}, ["confidence", "drift", "seeds"]),
        ({"confidence": 0.0, "drift": float("nan"), "seeds": 1.5}, ["confidence", "drift", "seeds"]),
        ({"confidence": "high", "drift": 2.0, "seeds": True}, ["confidence", "drift", "seeds"]),
        ({"headroom": 1.2, "budget_usd_per_hour": 5.0}, ["headroom", "budget_usd_per_hour"]),
        ({"certificate": "sharp"}, ["certificate"]),
    ],
)
def test_bad_arguments_are_refused_all_at_once(asked: dict[str, object], places: list[str]) -> None:
    with pytest.raises(mp.InputError) as caught:
        reliable(**asked)
    assert [fault.place for fault in caught.value.faults] == places


@pytest.mark.parametrize("guarantee", ["trace", "envelope", "replay"])
def test_other_guarantees_know_no_scenarios(guarantee: str) -> None:
    with pytest.raises(mp.InputError) as caught:
        reliable(SAMPLE, SAMPLE, guarantee=guarantee, drift=0.1, seeds=2)
    assert [fault.place for fault in caught.value.faults] == ["confidence", "drift"]
    one = mp.plan(PIPELINE, PROFILES, [SAMPLE], slo_s=1.0)
    assert one.choices == mp.plan(PIPELINE, PROFILES, SAMPLE, slo_s=1.0).choices
    # What a confidence is by default asks for nothing, and may be written out beside any guarantee.
    usual = mp.plan(PIPELINE, PROFILES, SAMPLE, slo_s=1.0, guarantee=guarantee, confidence=0.95)
    assert usual.choices == mp.plan(PIPELINE, PROFILES, SAMPLE, slo_s=1.0, guarantee=guarantee).choices


@pytest.mark.parametrize("trace", [None, "trace.csv", [], ["trace.csv"], [SAMPLE, None]])
def test_what_is_no_trace_is_refused(trace: object) -> None:
    with pytest.raises(mp.InputError, match="expected a Trace"):
        mp.plan(PIPELINE, PROFILES, trace)  # type: ignore[arg-type]


def test_a_sample_too_short_is_refused() -> None:
    with pytest.raises(mp.InputError, match="too few to resample"):
        reliable(mp.Trace.from_ns(np.arange(15) * 1_000_000))


def test_time_that_is_up_while_scenarios_are_drawn_is_not_waited_for(
    made: mp.Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []
    draw = ScenarioSource.scenario

    def count(source: ScenarioSource, number: int, purpose: int = Purpose.CHOICE) -> object:
        drawn.append(number)
        return draw(source, number, purpose)

    monkeypatch.setattr(ScenarioSource, "scenario", count)
    plan = plan_reliably(replace(made, choices={}), [SAMPLE], 0.8, time_limit_s=1e-9)
    assert not drawn
    assert (plan.status, plan.limit, dict(plan.choices)) == (mp.PlanStatus.UNKNOWN, Limit.TIME, {})
    assert plan.reason is not None
    assert "the time was up before any plan was found" in plan.reason


def test_as_many_scenarios_are_left_out_as_the_confidence_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ten that are drawn two may be left out at 80 %, though 1 − 0.8 is a hair less than a fifth."""
    table = LatencyTable("m", "gpu", np.array([1]), np.array([10.0]))
    profiles = mp.Profiles.from_parts([Hardware("gpu", 1.0, limit=2)], [table])
    pipeline = mp.Pipeline.from_document({"stages": {"a": {"model": "m"}}})
    asked = mp.Plan(pipeline, profiles, Objective(15_000_000, 0.99).under(pipeline.laws()))
    even = mp.Trace.from_seconds(np.arange(40) / 10)

    def draw(_: ScenarioSource, number: int, purpose: int = Purpose.CHOICE) -> Scenario:
        at_once = purpose == Purpose.CHOICE and number < 2
        return Scenario(number, mp.Trace.from_ns(0 * even.arrival_ns) if at_once else even, number)

    monkeypatch.setattr(ScenarioSource, "scenario", draw)
    plan = plan_reliably(asked, [even], 0.8, time_limit_s=None)
    assert plan.status is mp.PlanStatus.FEASIBLE
    assert plan.reliability is not None
    assert plan.reliability.left_out == 2


def test_of_several_variants_a_plan_that_failed_its_test_is_never_the_best() -> None:
    stages = {"detect": {"variants": ["yolov5n", "yolov5s"]}}
    pipeline = mp.Pipeline.from_document({"slo": "1s", "stages": stages})

    def judged(model: str, status: mp.PlanStatus, cost: int) -> mp.Plan:
        plan = mp.Plan.from_choices(pipeline, PROFILES, {"detect": ("cpu", 1, 1, model)})
        return replace(plan, status=status, figures=Figures(cost, cost), reason="as tested")

    failed = judged("yolov5n", mp.PlanStatus.UNKNOWN, 1)
    passed = judged("yolov5s", mp.PlanStatus.FEASIBLE, 2)
    objective = replace(failed.objective, guarantee=Guarantee.RELIABLE)
    asked = replace(failed, choices={}, objective=objective, provenance=Provenance.on(SAMPLE))
    for answers, best in (([failed, passed], passed), ([failed, failed], failed)):
        left = iter(answers)
        found = best_combination(asked, lambda *_, left=left: lambda: next(left), SearchLimits())  # type: ignore[misc]
        assert (found.status, found.choices, found.reason) == (best.status, best.choices, "as tested")
        assert found.lower_bound_microusd_per_hour == 1


def test_timed_plans_need_not_outrun_the_rate_of_each_scenario() -> None:
    """The test asks for the quantile only, and so does the choice."""
    profiles = mp.Profiles.from_parts([Hardware("a", 1.0)], [LatencyTable("m", "a", [1], [10.0])])  # type: ignore[arg-type]
    pipeline = mp.Pipeline.from_document({"slo": "200ms", "stages": {"one": {"model": "m"}}})
    trace = mp.Trace.gamma(95, 0.5, 0.4, seed=1)
    costs = {
        law: mp.plan(
            pipeline, profiles, trace, guarantee="reliable", confidence=0.8, drift=0.1, dispatch=law
        ).usd_per_hour
        for law in ("eager", "timed")
    }
    assert costs == {"eager": 1.0, "timed": 1.0}
