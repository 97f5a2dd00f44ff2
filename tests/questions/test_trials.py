"""Plans judged by a sharp certificate or by their replay are explained by trials: every figure by public calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

import mipplan as mp
from mipplan import reporting
from mipplan.refinement import ReplayOracle
from mipplan.result import Explanation, JudgedBy, OptionReason, OptionVerdict
from planning_instances import PlanningInstance, planning_instance
from small_problems import arriving_ms, pipeline_of, profiles_of

KINDS: dict[str, tuple[dict[str, Any], JudgedBy]] = {
    "sharp": ({"certificate": "sharp"}, JudgedBy.SHARP),
    "timed": ({"dispatch": "timed"}, JudgedBy.REPLAY),
    "replay": ({"guarantee": "replay"}, JudgedBy.REPLAY),
    "replay, fifo": ({"guarantee": "replay", "discipline": "fifo"}, JudgedBy.REPLAY),
}


def figure_ns(plan: mp.Plan, trace: mp.Trace, judge: JudgedBy, changed: Mapping[str, mp.Choice]) -> int:
    """What the theorem or the replay says of the plan with other choices of some stages."""
    other = replace(plan, choices={**plan.choices, **changed})
    if judge is JudgedBy.SHARP:
        return mp.certify(other, trace).bound_ns
    return mp.replay(other, trace).quantile_ns(plan.quantile)


def choice_of(option: OptionReason, replicas: int | None = None) -> mp.Choice:
    assert option.batch
    assert option.replicas
    return mp.Choice(option.hardware, option.batch, replicas or option.replicas, option.variant)


def check_option(
    instance: PlanningInstance, plan: mp.Plan, told: Explanation, stage: str, option: OptionReason
) -> None:
    """Hold one option against the plan with it."""
    if option.verdict is OptionVerdict.IMPOSSIBLE:
        return
    choices = {**plan.choices, stage: choice_of(option)}
    actual_ns = figure_ns(plan, instance.trace, told.judged_by, choices)
    kept = actual_ns <= told.deadline_ns
    assert kept is (option.verdict is not OptionVerdict.TOO_SLOW)
    if kept or told.judged_by is JudgedBy.REPLAY:
        assert option.certificate_ns == actual_ns
    else:
        assert told.deadline_ns < (option.certificate_ns or 0) <= actual_ns
    if option.verdict in (OptionVerdict.THROUGHPUT, OptionVerdict.LATENCY):
        prices = [
            plan.profiles.hardware[one.hardware].microusd_per_hour * one.replicas for one in choices.values()
        ]
        assert option.microusd_per_hour == sum(prices)
        assert (option.verdict is OptionVerdict.THROUGHPUT) is (option.replicas == option.fewest)
    if option.verdict is OptionVerdict.LATENCY:
        fewer = choice_of(option, (option.replicas or 0) - 1)
        assert figure_ns(plan, instance.trace, told.judged_by, {stage: fewer}) > told.deadline_ns
    if option.verdict is OptionVerdict.LIMIT:
        used = Counter[str]()
        for one in choices.values():
            used[one.hardware] += one.replicas
        assert any(used[name] > (plan.profiles.hardware[name].limit or used[name]) for name in used)


@pytest.mark.parametrize("kind", KINDS)
def test_figures_are_those_of_the_plans_that_were_tried(kind: str) -> None:
    asked, judge = KINDS[kind]
    seen = Counter[str]()
    for number in range(9500, 9516):
        instance = planning_instance(number)
        plan = instance.plan(**asked, time_limit_s=4.0)
        if not plan.choices:
            continue
        told = mp.explain(plan, instance.trace)
        assert (told.stages_complete, told.adopted, told.judged_by) == (True, None, judge)
        assert told.certificate_ns == figure_ns(plan, instance.trace, judge, {}) <= told.deadline_ns
        path_ns = sum(step.latency_ns + step.wait_ns + step.delay_ns for step in told.critical_path)
        assert path_ns == told.certificate_ns
        for stage in told.stages:
            assert stage.spare_latency_ns is None
            own = stage.choice
            if stage.one_fewer_certificate_ns is not None:
                fewer = replace(own, replicas=own.replicas - 1)
                assert stage.one_fewer_certificate_ns == figure_ns(
                    plan, instance.trace, judge, {stage.stage: fewer}
                )
                seen["fewer"] += 1
            for option in stage.options:
                check_option(instance, plan, told, stage.stage, option)
                seen[option.verdict] += 1
            costs = [o.microusd_per_hour for o in stage.options if o.verdict in ("throughput", "latency")]
            assert (stage.alternative and stage.alternative.microusd_per_hour) == min(costs, default=None)
        for near in told.near_plans:
            changed = [name for name, choice in near.choices if choice != plan.choices[name]]
            assert len(changed) == 1
            assert near.certificate_ns == figure_ns(plan, instance.trace, judge, dict(near.choices))
            assert near.microusd_per_hour <= 1.05 * (plan.microusd_per_hour or 0)
            seen["near"] += 1
    expected = {"chosen", "throughput", "latency", "too_slow", "fewer"}
    assert expected <= seen.keys(), seen


CPU = profiles_of({"cpu": 1.0, "gpu": 2.0}, {("m", "cpu"): {1: 10, 4: 16}, ("m", "gpu"): {1: 5, 4: 8}})
PAIR = pipeline_of({"a": {"model": "m"}, "b": {"model": "m"}}, [{"from": "a", "to": "b"}], slo="60ms")
TRACES = [arriving_ms(range(0, 600, 6)), arriving_ms([*range(60), *range(60, 600, 12)])]


@pytest.mark.parametrize("kind", KINDS)
def test_of_several_traces_the_worst_one_is_told(kind: str) -> None:
    asked, judge = KINDS[kind]
    plan = mp.plan(PAIR, CPU, TRACES, **asked)
    told = mp.explain(plan, TRACES)
    figures = [figure_ns(plan, trace, judge, {}) for trace in TRACES]
    assert told.certificate_ns == max(figures)
    assert told.sample is not None
    for stage in told.stages:
        for option in stage.options:
            if option.verdict in ("throughput", "latency"):
                trial = {stage.stage: choice_of(option)}
                worst_ns = max(figure_ns(plan, trace, judge, trial) for trace in TRACES)
                assert option.certificate_ns == worst_ns <= told.deadline_ns


def test_what_there_is_no_time_for_is_left_out() -> None:
    plan = mp.plan(PAIR, CPU, TRACES[0], certificate="sharp")
    told = mp.explain(plan, TRACES[0], time_limit_s=1e-9)
    assert (told.stages, told.stages_complete, told.near_plans) == ((), False, ())
    assert told.certificate_ns == plan.certificate_ns
    assert "no time for all about the stages" in str(told)


def test_ctrl_c_leaves_the_stages_that_were_done(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = mp.plan(PAIR, CPU, TRACES[0], guarantee="replay")
    whole, judge, calls = mp.explain(plan, TRACES[0]), ReplayOracle.judge, Counter[str]()

    def interrupted(self: ReplayOracle, *asked: Any) -> tuple[bool, int]:
        calls["judge"] += 1
        if calls["judge"] == total:
            raise KeyboardInterrupt
        return judge(self, *asked)

    total = -1
    monkeypatch.setattr(ReplayOracle, "judge", interrupted)
    mp.explain(plan, TRACES[0])
    total, _ = calls["judge"], calls.clear()
    told = mp.explain(plan, TRACES[0])
    assert (told.stages, told.stages_complete) == (whole.stages[:-1], False)


def test_of_a_reliable_plan_it_is_said_that_one_trace_is_not_all() -> None:
    plan = mp.plan(PAIR, CPU, TRACES[0], guarantee="reliable", confidence=0.5, time_limit_s=20.0)
    told = mp.explain(plan, TRACES[0])
    assert told.judged_by is JudgedBy.REPLAY
    assert told.certificate_ns == figure_ns(plan, TRACES[0], JudgedBy.REPLAY, {})
    assert "scenarios of tomorrow" in str(told)
    assert reporting.explain_report(told, plan, "pair", [TRACES[0]]).remark == told.remark


def test_choices_that_are_no_options_are_told() -> None:
    made = mp.plan(PAIR, CPU, TRACES[0], dispatch="timed")
    odd = replace(made, choices={"a": mp.Choice("cpu", 3, 2), "b": mp.Choice("cpu", 1, 1)})
    with pytest.raises(mp.InputError) as caught:
        mp.explain(odd, TRACES[0])
    assert [fault.message.split(":")[0] for fault in caught.value.faults] == [
        "a runs on 2 × cpu (batch 3), which is no option of it on this trace",
        "b falls behind this trace on 1 × cpu (batch 1)",
    ]


def test_what_is_found_by_trial_says_so() -> None:
    plan = mp.plan(PAIR, CPU, TRACES[0], certificate="sharp")
    told = mp.explain(plan, TRACES[0])
    assert str(told).startswith("The sharp certificate is ")
    assert "sharp certificate" in repr(told)
    assert "could take" not in str(told)
    document = reporting.explain_report(told, plan, "pair", [TRACES[0]])
    assert (document.judged_by, document.stages[0].spare_s) == ("sharp", None)
    slow = replace(
        told.stages[0].options[0], verdict=OptionVerdict.TOO_SLOW, certificate_ns=told.deadline_ns + 5
    )
    assert slow.text(told).endswith(f": misses by 5 ns even with {slow.replicas} replicas")
