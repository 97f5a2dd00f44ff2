"""Certificates where replicas collect a batch before it begins: theorems as written, and runs that do their worst.

Any replica that listens may be given what comes, as much at a time as may be, and begins at any instant within the
window. In the controls it is known of no window, or one is longer than stated.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from mipplan.certificate import NO_LIMIT, CertificateEvaluator, FifoEvaluator, most_passing, plan_services
from mipplan.core import Int64
from mipplan.pipeline import Collecting, ServingSystem
from mipplan.result import RunClass
from mipplan.tokens import realise
from oracle_certificate import slow_exits, slow_services
from oracle_fifo import slow_along, slow_fifo_exits, slow_overtakers
from oracle_replay import SlowReplay
from oracle_systems import Desk, SystemLoop
from oracle_tokens import slow_tokens
from random_pipelines import Case, collecting, random_case, staggered
from serving_plans import MS, small_plan

SHARES = (0.0, 0.5, 0.9, 1.0)
#: Rules of central queues by which a replica collects.
RULES = (Collecting.FROM_FIRST, Collecting.TOGETHER, Collecting.OPEN, Collecting.BY_CLOCK)


class AnyLoop(SystemLoop):
    """Whoever listens gets what comes, some or all of it, and begins when it likes within the window."""

    def __init__(self, *arguments: Any, chance: random.Random, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self.chance = chance

    def taker(self, stage: str, desk: Desk) -> int:
        return self.chance.choice(desk.listening)

    def at_most(self, stage: str) -> int:
        return self.chance.randint(1, len(self.service[stage]))

    def collects_for(self, stage: str) -> int:
        window = self.systems[stage].window_ns
        return self.chance.choice([1, window, self.chance.randint(1, window)])


def small_case(rng: np.random.Generator, most: int = 24) -> Case:
    case = collecting(rng, random_case(rng, max_stages=4, max_arrivals=most))
    return staggered(rng, case) if rng.random() < 0.3 else case


def played(
    case: Case, number: int, rng: np.random.Generator, runs: RunClass, window: Mapping[str, int], fifo: bool
) -> SlowReplay:
    """One run: by a rule of the register, or at will; batches and messages at least as long as the class says."""

    def service_takes(stated: int) -> int:
        least = max(1, int(np.ceil(runs.least_service * stated)))
        return int(rng.choice([least, stated, rng.integers(least, stated + 1)]))

    def delay_takes(stated: int) -> int:
        return int(rng.integers(runs.least_delay_ns(stated), stated + 1))

    rule = RULES[int(rng.integers(len(RULES)))]
    systems = {stage: ServingSystem("any", collecting=rule, window_ns=ns) for stage, ns in window.items()}
    how: dict[str, Any] = {"systems": systems, "seed": number, "stagger": case.stagger_ns()}
    if number % 3:
        how |= {"service_takes": service_takes, "delay_takes": delay_takes}
    if fifo:
        gaps, tables = case.stagger_ns(), case.service_ns()
        how["sends_in_order"] = {s for s, t in tables.items() if (len(t) - 1) * gaps[s] <= min(t)}
    elif number % 4 == 0:
        how["tie"] = rng.random
    given = (
        slow_tokens(case.pipeline, len(case.trace), number),
        *(case.ingress_ns(), case.service_ns(), case.replicas(), "fifo" if fifo else "oldest_first"),
    )
    at_will = AnyLoop(*given, chance=random.Random(number), **how) if number % 2 else None
    return (at_will or SystemLoop(*given, **how)).run()


def late_tokens(seen: SlowReplay, bounds: Mapping[str, Int64]) -> tuple[int, int]:
    """How many exits come after their bounds, and at them."""
    late = attained = 0
    for stage, bound in bounds.items():
        exits = np.array([seen.exit[stage][token] for token in range(bound.size)], dtype=np.int64)
        late, attained = late + int(np.sum(exits > bound)), attained + int(np.sum(exits == bound))
    return late, attained


# --- the theorems as written -----------------------------------------------------------------------------------------


def test_equals_the_theorems_as_written() -> None:
    for number in range(campaign_size(quick=60, deep=5_000)):
        rng = np.random.default_rng([91, number])
        case = small_case(rng)
        tables, replicas = case.service_ns(), case.replicas()
        gap, window = case.stagger_ns(), case.window_ns()
        tokens = slow_tokens(case.pipeline, len(case.trace), number)
        latency, rate = slow_services(tables, replicas, case.pipeline.sources, gap, window)
        workload, plan = realise(case.pipeline, case.trace, number), case.plan(seed=number)
        made = CertificateEvaluator(workload).exits_ns(plan_services(plan))
        exits = slow_exits(tokens, case.ingress_ns(), latency, rate)
        assert {stage: times.tolist() for stage, times in made.items()} == exits, number
        share, exact = float(rng.choice(SHARES)), bool(rng.integers(2))
        over = slow_overtakers(case.pipeline, tokens, tables, replicas, Fraction(share), exact, gap, window)
        runs = RunClass(share, 1.0 if exact else 0.0)
        by_arrival = FifoEvaluator(workload, runs).exits_ns(plan_services(plan, runs))
        slow = slow_fifo_exits(tokens, case.ingress_ns(), latency, rate, over, exact)
        assert {stage: times.tolist() for stage, times in by_arrival.items()} == slow, number


@given(
    service=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    replicas=st.integers(1, 4),
    delay=st.integers(0, 12),
    share=st.sampled_from(SHARES),
    stagger=st.integers(0, 6),
    window=st.integers(0, 30),
)
def test_overtakers_are_counted_as_written(
    service: list[int], replicas: int, delay: int, share: float, stagger: int, window: int
) -> None:
    runs = RunClass(share, 0.0)
    ((found,),) = most_passing(
        np.array(service), np.array([replicas]), [delay], runs, stagger, window
    ).tolist()
    slow = slow_along(service, replicas, delay, Fraction(share), False, stagger, window)
    apart = delay > 0 or (len(service) - 1) * stagger > min(service)
    assert found == (NO_LIMIT if slow == np.inf else 2 * slow + apart)


# --- runs that do their worst ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("discipline", ["oldest_first", "fifo"])
def test_no_run_exceeds_its_bound(discipline: str) -> None:
    fifo, violations, seen = discipline == "fifo", Violations(), Counter[str]()
    for number in range(campaign_size(quick=250, deep=100_000)):
        with violations.case(number):
            rng = np.random.default_rng([92, number])
            case = small_case(rng)
            plan, workload = case.plan(seed=number), realise(case.pipeline, case.trace, number)
            runs = RunClass(float(rng.choice(SHARES)), float(rng.choice([0.0, 0.5, 1.0])))
            evaluator = FifoEvaluator(workload, runs) if fifo else CertificateEvaluator(workload)
            bounds = dict(evaluator.exits_ns(plan_services(plan, runs if fifo else None)))
            run = played(case, number, rng, runs if fifo else RunClass(0.0, 0.0), case.window_ns(), fifo)
            late, attained = late_tokens(run, bounds)
            assert late == 0, f"case {number}: {late} exits after their bounds"
            seen["runs"] += 1
            seen["attained"] += attained
            seen["at will" if number % 2 else "by a rule"] += 1
            at_once = replace(plan, pipeline=plan.pipeline.collecting(0))
            unknown = evaluator.exits_ns(plan_services(at_once, runs if fifo else None))
            seen["beyond bounds that know of no window"] += late_tokens(run, unknown)[0] > 0
    assert seen["attained"] > seen["runs"] / 4
    assert seen["beyond bounds that know of no window"] > seen["runs"] / 100
    write_summary(
        f"collecting-{discipline}", {**dict(sorted(seen.items())), "violations": violations.checked()}
    )


@pytest.mark.parametrize("discipline", ["oldest_first", "fifo"])
def test_harness_catches_windows_that_are_longer_than_stated(discipline: str) -> None:
    fifo, caught = discipline == "fifo", 0
    for number in range(200):
        rng = np.random.default_rng([93, number])
        case = small_case(rng)
        plan, workload = case.plan(seed=number), realise(case.pipeline, case.trace, number)
        runs = RunClass(0.9)
        evaluator = FifoEvaluator(workload, runs) if fifo else CertificateEvaluator(workload)
        bounds = dict(evaluator.exits_ns(plan_services(plan, runs if fifo else None)))
        longer = {
            stage: 3 * max(case.service_ns()[stage]) + 2 * ns if ns else 0
            for stage, ns in case.window_ns().items()
        }
        caught += late_tokens(played(case, number, rng, runs, longer, fifo), bounds)[0] > 0
    assert caught > 5


def test_fifo_needs_the_window_in_what_may_pass_and_not_only_in_t() -> None:
    """Added to T alone, or kept back of the objective as a margin, it is no bound under fifo.

    The first query is collected for 30 ms; meanwhile each of the seven other workers is given two that came later, by
    mosec's rule, and all fourteen are served before it by the single replica that follows.
    """
    plan = small_plan({"a": ([10, 10], 8), "b": ([20], 1)}, {("a", "b"): {}}, discipline="fifo")
    plan = replace(plan, pipeline=plan.pipeline.collecting({"a": 0.03}))
    trace = mp.Trace.from_ns([0, *(number * MS for number in range(1, 8) for _ in range(2))])
    rule = ServingSystem("mosec", collecting=Collecting.TOGETHER)
    run = mp.replay(plan, trace, system=rule, window_s={"a": 0.03})
    assert run.latency_ns[0] == (11 + 15 * 20) * MS
    assert run.certificate_applies
    runs = RunClass(1.0)
    assert (run.latency_ns <= mp.certify(plan, trace, runs=runs).latency_ns).all()
    at_once = mp.certify(plan, trace, runs=runs, window_s=0.0)
    assert run.latency_ns[0] > at_once.latency_ns[0] + 30 * MS


def test_a_system_is_covered_by_a_plan_that_states_its_habits_and_by_no_other() -> None:
    """Outputs as far apart as Triton's own, whatever less the pipeline says; windows where a batch may hold two."""
    plan = small_plan({"a": ([1.0] * 32, 1), "b": ([0.01], 8)}, {("a", "b"): {}}, discipline="fifo")
    trace, runs = mp.Trace.from_ns([0] * 64), RunClass(1.0)

    def stated(stagger_s: float, window_s: float | dict[str, float]) -> mp.Plan:
        return replace(plan, pipeline=plan.pipeline.staggered(stagger_s).collecting(window_s))

    less = stated(1e-9, 6e-4)
    assert (
        mp.replay(less, trace, system="triton").latency_ns.max() > mp.certify(less, trace, runs=runs).bound_ns
    )
    for system in ("triton", "triton:stagger=200us"):
        assert not mp.replay(less, trace, system=system).certificate_applies
    enough = stated(2e-4, {"a": 6e-4})  # a batch of one is full at once
    run = mp.replay(enough, trace, system="triton")
    assert run.certificate_applies
    assert "not cover" not in str(run)
    assert run.latency_ns.max() <= mp.certify(enough, trace, runs=runs).bound_ns
    for other in ("triton:window=1ms", "triton:waiting=80", "triton:routing=round_robin", "mosec", "ray"):
        assert not mp.replay(enough, trace, system=other).certificate_applies, other
    assert "replay only" in str(mp.replay(enough, trace, system="mosec"))
    assert not mp.replay(enough, trace, system="triton", discipline="oldest_first").certificate_applies


# --- plans, files and replays ----------------------------------------------------------------------------------------


def test_replays_are_by_the_plans_windows_and_below_its_certificate() -> None:
    seen = Counter[str]()
    for number in range(campaign_size(quick=60, deep=2_000)):
        rng = np.random.default_rng([95, number])
        case = small_case(rng)
        windows_s = {stage: ns / 1e9 for stage, ns in case.window_ns().items()}
        plan = case.plan(seed=number)
        at_once = replace(plan, pipeline=plan.pipeline.collecting(0))
        assert not at_once.collects
        run = mp.replay(plan, case.trace)
        assert run.certificate_applies
        as_if = mp.replay(at_once, case.trace, window_s=windows_s)
        assert np.array_equal(run.latency_ns, as_if.latency_ns)
        assert as_if.certificate_applies == (not plan.collects)
        assert np.array_equal(
            mp.replay(plan, case.trace, window_s=0.0).latency_ns, mp.replay(at_once, case.trace).latency_ns
        )
        certified = mp.certify(plan, case.trace)
        assert np.array_equal(
            certified.latency_ns, mp.certify(at_once, case.trace, window_s=windows_s).latency_ns
        )
        assert (run.latency_ns <= certified.latency_ns).all()
        fifo = mp.replay(plan, case.trace, discipline="fifo")
        by_arrival = mp.certify(plan, case.trace, discipline="fifo", runs=RunClass(0.9))
        assert (fifo.latency_ns <= by_arrival.latency_ns).all()
        seen["collects"] += plan.collects
        seen["differs"] += not np.array_equal(run.latency_ns, mp.replay(at_once, case.trace).latency_ns)
    assert min(seen.values()) > 10
