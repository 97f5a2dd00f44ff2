"""Limits and Ctrl-C, wherever they fall: by clocks that count work, and by interrupts at every look at the clock."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import pytest

import mipplan as mp
from mipplan.calculus import StageService, given_up_at, latest_start_ns
from mipplan.calculus.waits import StageQueue
from mipplan.certificate import CertificateEvaluator, FifoEvaluator
from mipplan.core import Deadline, Int64, LimitReachedError
from mipplan.result import Figures, Limit
from mipplan.tokens import realise
from planning_instances import hand_made, planning_instance

#: How long a call may go on after its limit where a whole evaluation of a certificate takes a second: what is under way
#: is given up at the next stage, and what is known is not evaluated again, the plan that is returned least of all.
MOST_BEYOND_S = 1.0
SLOW = mp.RunClass(least_service=0.9)


def calls(number: int) -> Mapping[str, Callable[[float | None], mp.Plan]]:
    """Searches of all kinds, of one instance, by name; each is given its time limit."""
    made = planning_instance(number)

    two = [made.trace, replace(made.trace.scale(0.9), name="slower")]

    def planned(**more: Any) -> Callable[[float | None], mp.Plan]:
        return lambda limit_s: made.plan(**{"time_limit_s": limit_s, **more})

    def planned_on_two(**more: Any) -> Callable[[float | None], mp.Plan]:
        given = {**made.arguments, **more}
        return lambda limit_s: mp.plan(made.pipeline, made.profiles, two, time_limit_s=limit_s, **given)

    tight_s = made.slo_ns / 50e9
    return {
        "trace": planned(),
        "paced": planned(dispatch="paced"),
        "fifo": planned(discipline="fifo", runs=SLOW),
        "infeasible": planned(slo_s=tight_s),
        "budget": planned(budget_usd_per_hour=5.0, slo_s=None),
        "replay": planned(guarantee="replay"),
        "sharp": planned(certificate="sharp", runs=SLOW),
        "two traces": planned_on_two(seeds=2),
        "replay of two": planned_on_two(guarantee="replay", discipline="fifo"),
        "sharp on two": planned_on_two(certificate="sharp", runs=SLOW),
    }


@pytest.mark.parametrize("name", ["trace", "paced", "fifo", "infeasible", "two traces", "budget"])
def test_no_call_goes_on_after_its_limit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Evaluating the certificate takes a second, of a sample as much less, and nothing else takes any time."""
    seen: Counter[str] = Counter()
    for number in range(7000, 7012):
        made = planning_instance(number)
        tokens = sum(stage.count for stage in realise(made.pipeline, made.trace, 0).stages.values())
        for limit_s in (0.5, 3.0, 9.0):
            clock = [0.0]

            def slow(
                arrival_ns: Int64, *more: Any, clock: list[float] = clock, tokens: int = tokens
            ) -> Int64:
                clock[0] += arrival_ns.size / tokens
                return latest_start_ns(arrival_ns, *more)

            with monkeypatch.context() as patch:
                patch.setattr("mipplan.certificate.classic.latest_start_ns", slow)
                patch.setattr("time.monotonic", lambda clock=clock: clock[0])
                plan = calls(number)[name](limit_s)
            seen[plan.limit or "whole"] += 1
            assert clock[0] <= limit_s + MOST_BEYOND_S, (number, limit_s, clock[0])
    assert name == "infeasible" or seen["time"] > 3


def test_no_stage_is_evaluated_after_the_deadline() -> None:
    """What is given up leaves nothing that is wrong."""
    instance = hand_made()
    workload = realise(instance.pipeline, instance.trace, 0)
    services = dict.fromkeys(workload.stages, StageService(5, 7, 1, (1,)))
    queue = StageQueue(instance.trace.arrival_ns, None)
    curve = queue.curve(None, 1)
    evaluators: list[CertificateEvaluator] = [CertificateEvaluator(workload), FifoEvaluator(workload, SLOW)]
    for evaluate in (*(each.latency_ns for each in evaluators), lambda _: curve.exact(7, 1)):
        with pytest.raises(LimitReachedError), given_up_at(Deadline()), given_up_at(Deadline(-math.inf)):
            evaluate(services)
    assert queue.passes == 0
    assert curve.exact(7, 1) == 28
    anew: list[CertificateEvaluator] = [CertificateEvaluator(workload), FifoEvaluator(workload, SLOW)]
    for given_up, other in zip(evaluators, anew, strict=True):
        assert given_up.latency_ns(services).tolist() == other.latency_ns(services).tolist()


@pytest.mark.parametrize("name", calls(7000))
def test_ctrl_c_at_any_look_at_the_clock_returns_what_there_is(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: Counter[str] = Counter()
    for number, places in ((7000, (0, 2, 5, 13, 34, 89)), (7003, (1, 3, 8, 21, 55))):
        call, whole = calls(number)[name], 0
        for after in places:
            looks = count()

            def interrupted(self: Deadline, looks: Any = looks, after: int = after) -> bool:
                if next(looks) == after:
                    raise KeyboardInterrupt
                return False

            with monkeypatch.context() as patch:
                patch.setattr(Deadline, "is_over", property(interrupted))
                plan = call(None)
            seen[plan.status] += 1
            if next(looks) <= after:
                whole += 1  # It was done before.
            elif plan.limit is not None:
                assert plan.limit is Limit.INTERRUPT
                assert plan.reason
            if plan.choices:
                assert plan.microusd_per_hour is not None
                assert plan.status in (mp.PlanStatus.FEASIBLE, mp.PlanStatus.OPTIMAL)
            if whole > 2:
                break
    assert seen.total() > 3


def test_explaining_a_stopped_plan_adopts_a_cheaper_one() -> None:
    instance = hand_made()
    best = instance.plan()
    dearer = {stage: replace(choice, replicas=choice.replicas + 1) for stage, choice in best.choices.items()}
    for status, adopts in ((mp.PlanStatus.FEASIBLE, True), (mp.PlanStatus.OPTIMAL, False)):
        stopped = replace(best, choices=dearer, status=status, limit=Limit.TIME)
        told = mp.explain(stopped, instance.trace)
        assert "-" not in str(told).replace(" - ", "").replace("t4-", "")
        assert (told.adopted is not None) == adopts
        if told.adopted is not None:
            assert told.microusd_per_hour == told.adopted.microusd_per_hour
            certificate = mp.certify(told.adopted, instance.trace)
            assert told.certificate_ns == certificate.bound_ns == told.adopted.certificate_ns
            assert told.certificate_ns <= told.deadline_ns
            assert "came up" in str(told)
    assert mp.explain(best, instance.trace).adopted is None


def test_what_is_adopted_is_certified_on_every_trace() -> None:
    instance = hand_made()
    traces = [replace(instance.trace.scale(0.5), name="slow"), replace(instance.trace, name="fast")]
    best = mp.plan(instance.pipeline, instance.profiles, traces, **instance.arguments)
    dearer = {stage: replace(choice, replicas=choice.replicas + 1) for stage, choice in best.choices.items()}
    parts = {"status": mp.PlanStatus.FEASIBLE, "limit": Limit.TIME}
    told = replace(best, choices=dearer, figures=Figures(), **parts).explain()
    assert told.adopted is not None
    certificate = mp.certify(told.adopted, traces)
    assert told.adopted.samples == certificate.samples
    assert told.certificate_ns == certificate.bound_ns == told.adopted.certificate_ns
    assert told.sample == max(certificate.samples, key=lambda one: one.certificate_ns or 0).name
    verification = mp.verify(told.adopted, traces)
    assert (verification.problems, verification.remarks) == ((), ())


def test_explaining_ends_with_its_limit_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    instance = hand_made()
    best = instance.plan()
    ticks = count()
    with monkeypatch.context() as patch:
        patch.setattr("time.monotonic", lambda: float(next(ticks)))
        told = mp.explain(best, instance.trace, time_limit_s=6.0)
    assert not told.stages_complete
    assert not told.near_complete
    assert "no time for all" in str(told)
    whole = mp.explain(best, instance.trace)
    assert whole.stages_complete
    assert told.critical_path == whole.critical_path
    seen, all_of_it = ({one.stage: one.spare_latency_ns for one in each.stages} for each in (told, whole))
    assert seen.items() < all_of_it.items(), "what was looked at is right, and the rest is left out"


def test_explaining_keeps_back_what_its_end_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate takes a second, of a sample as much less: little is begun that would end after the limit."""
    evaluate = CertificateEvaluator.exits_ns
    for number in range(7000, 7008):
        instance = planning_instance(number)
        plan = instance.plan()
        if not plan.choices:
            continue
        for limit_s in (4.0, 9.0, 30.0):
            clock = [0.0]

            def slow(
                self: CertificateEvaluator,
                services: Any,
                instance: Any = instance,
                clock: list[float] = clock,
            ) -> Mapping[str, Int64]:
                clock[0] += self.workload.queries / len(instance.trace)
                return evaluate(self, services)

            with monkeypatch.context() as patch:
                patch.setattr(CertificateEvaluator, "exits_ns", slow)
                patch.setattr("time.monotonic", lambda clock=clock: clock[0])
                mp.explain(replace(plan, status=mp.PlanStatus.FEASIBLE), instance.trace, time_limit_s=limit_s)
            assert clock[0] <= limit_s + 4.0, (number, limit_s, clock[0])
