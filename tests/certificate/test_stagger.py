"""Certificates where the outputs of a batch go on one after another: theorems as written, and runs that do their worst.

Every kind of certificate: classic, paced, of fifo queues, sharp, and the replay of timed stages. Gaps are as stated or
shorter. In the controls outputs are further apart than stated, or a replica's later outputs overtake its earlier ones.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adversarial_runs import adversarial_run, random_taking
from campaigns import Violations, campaign_size, write_summary
from mipplan.certificate import (
    NO_LIMIT,
    CertificateEvaluator,
    FifoEvaluator,
    SharpEvaluator,
    certify_sharply,
    most_passing,
    plan_services,
    plan_settings,
)
from mipplan.core import Int64
from mipplan.pipeline import Join, Pipeline
from mipplan.planner import plan as make_plan
from mipplan.profiles import Profiles
from mipplan.replayer import replay
from mipplan.result import Plan, RunClass, Ties
from mipplan.tokens import Workload, realise
from mipplan.trace import Trace
from mipplan.verification import certify, verify
from oracle_certificate import slow_exits, slow_services
from oracle_fifo import slow_along, slow_fifo_exits, slow_overtakers
from oracle_paced import PacedLoop, TimedLoop
from oracle_replay import EventLoop, SlowReplay
from oracle_sharp import SlowRuns, slow_certificate
from oracle_tokens import slow_tokens
from random_pipelines import Case, random_case, staggered

SHARES = (0.0, 0.5, 0.9, 1.0)


def small_case(rng: np.random.Generator, most: int = 24) -> Case:
    return staggered(rng, random_case(rng, max_stages=4, max_arrivals=most))


def in_order(case: Case) -> set[str]:
    """Stages whose shortest batch takes as long as all gaps."""
    gaps = {stage: (len(times) - 1) * case.stagger_ns()[stage] for stage, times in case.service_ns().items()}
    return {stage for stage, times in case.service_ns().items() if gaps[stage] <= min(times)}


def late_tokens(seen: SlowReplay, bounds: dict[str, Int64]) -> int:
    """How many exits come after their bounds."""
    return sum(
        int(seen.exit[stage][token] > latest)
        for stage, exits in bounds.items()
        for token, latest in enumerate(exits.tolist())
    )


# ------------------------------------------------------------------------------------------- classic


def test_classic_equals_the_theorem_as_written() -> None:
    for number in range(campaign_size(quick=50, deep=5_000)):
        case = small_case(np.random.default_rng([81, number]))
        service, replicas, stagger = case.service_ns(), case.replicas(), case.stagger_ns()
        exits = slow_exits(
            slow_tokens(case.pipeline, len(case.trace), number),
            case.ingress_ns(),
            *slow_services(service, replicas, case.pipeline.sources, stagger),
        )
        workload = realise(case.pipeline, case.trace, number)
        made = CertificateEvaluator(workload).exits_ns(plan_services(case.plan(seed=number)))
        assert {stage: times.tolist() for stage, times in made.items()} == exits, number


@pytest.mark.parametrize("law", ["eager", "paced"])
def test_no_execution_exceeds_the_certificate(law: str) -> None:
    """Services, delays and gaps up to those stated, in any order within an instant."""
    violations, attained, unstated = Violations(), 0, 0
    cases = campaign_size(quick=150, deep=50_000)
    for number in range(cases):
        with violations.case(number):
            rng = np.random.default_rng([82, number])
            case = small_case(rng)
            # A stage's own stagger holds whatever its law.
            plan = Plan.from_choices(
                case.pipeline, case.profiles, case.choices, slo_s=1.0, seed=number, dispatch=law
            )

            def shorter(stated: int, rng: np.random.Generator = rng) -> int:
                return int(rng.choice([1, stated, rng.integers(1, stated + 1)])) if stated else 0

            takes: dict[str, Callable[[int], int]] = {}
            if number % 2:
                takes = dict.fromkeys(("service_takes", "delay_takes", "gap_takes"), shorter)
            loop = (PacedLoop if law == "paced" else EventLoop)(
                slow_tokens(case.pipeline, len(case.trace), number),
                *(case.ingress_ns(), case.service_ns(), case.replicas()),
                stagger=case.stagger_ns(),
                tie=rng.random if number % 3 == 0 else None,
                **takes,
            )
            latency = np.array(loop.run().latency)
            certified = certify(plan, case.trace, certificate="classic").latency_ns
            late = np.flatnonzero(latency > certified).tolist()
            assert not late, f"queries {late} exceed their certificate"
            attained += bool(np.any(latency == certified))
            at_once = certify(plan, case.trace, certificate="classic", stagger_s=0).latency_ns
            unstated += bool(np.any(latency > at_once))
    assert attained > cases / 100
    assert unstated > cases / 100, "a certificate that knew of no gaps would be broken"
    write_summary(
        f"stagger-{law}", {"cases": cases, "violations": violations.checked(), "attained": attained}
    )


# ------------------------------------------------------------------------------------------- fifo


@given(
    service=st.lists(st.integers(1, 12), min_size=1, max_size=4),
    replicas=st.integers(1, 4),
    delay=st.integers(0, 12),
    share=st.sampled_from(SHARES),
    exact=st.booleans(),
    stagger=st.integers(0, 6),
)
def test_overtakers_are_counted_as_written(
    service: list[int], replicas: int, delay: int, share: float, exact: bool, stagger: int
) -> None:
    runs, slack = RunClass(share, 1.0 if exact else 0.0), 0 if exact else delay
    ((found,),) = most_passing(np.array(service), np.array([replicas]), [slack], runs, stagger).tolist()
    slow = slow_along(service, replicas, delay, Fraction(share), exact, stagger)
    apart = slack > 0 or (len(service) - 1) * stagger > min(service)
    assert found == (NO_LIMIT if slow == np.inf else 2 * slow + apart)


def fifo_bounds(case: Case, workload: Workload, runs: RunClass) -> dict[str, Int64]:
    return dict(FifoEvaluator(workload, runs).exits_ns(plan_services(case.plan(seed=workload.seed), runs)))


def test_fifo_equals_the_theorem_as_written() -> None:
    for number in range(campaign_size(quick=50, deep=5_000)):
        rng = np.random.default_rng([83, number])
        case = small_case(rng)
        share, exact = float(rng.choice(SHARES)), bool(rng.integers(2))
        service, replicas, stagger = case.service_ns(), case.replicas(), case.stagger_ns()
        tokens = slow_tokens(case.pipeline, len(case.trace), number)
        slow = slow_fifo_exits(
            tokens,
            case.ingress_ns(),
            *slow_services(service, replicas, case.pipeline.sources, stagger),
            slow_overtakers(case.pipeline, tokens, service, replicas, Fraction(share), exact, stagger),
            exact,
        )
        runs = RunClass(share, 1.0 if exact else 0.0)
        made = fifo_bounds(case, realise(case.pipeline, case.trace, number), runs)
        assert {stage: times.tolist() for stage, times in made.items()} == slow, number


def fifo_run(
    case: Case, number: int, runs: RunClass, rng: np.random.Generator, *, orderly: bool = True
) -> SlowReplay:
    """One run of the class; not orderly, later outputs of a replica may overtake its earlier ones."""

    def service_takes(stated: int) -> int:
        least = max(1, int(np.ceil(runs.least_service * stated)))
        return int(rng.choice([least, stated, rng.integers(least, stated + 1)]))

    return EventLoop(
        slow_tokens(case.pipeline, len(case.trace), number),
        *(case.ingress_ns(), case.service_ns(), case.replicas(), "fifo"),
        service_takes=service_takes,
        delay_takes=lambda stated: int(rng.integers(runs.least_delay_ns(stated), stated + 1)),
        stagger=case.stagger_ns(),
        gap_takes=lambda stated: int(rng.choice([0, stated, stated, rng.integers(stated + 1)])),
        sends_in_order=in_order(case) if orderly else (),
    ).run()


def test_no_fifo_run_exceeds_its_bound() -> None:
    violations = Violations()
    cases = campaign_size(quick=300, deep=100_000)
    for number in range(cases):
        with violations.case(number):
            rng = np.random.default_rng([84, number])
            case = small_case(rng)
            runs = RunClass(float(rng.choice(SHARES)), float(rng.choice([0.0, 1.0, 1.0])))
            bounds = fifo_bounds(case, realise(case.pipeline, case.trace, number), runs)
            late = late_tokens(fifo_run(case, number, runs, rng), bounds)
            assert late == 0, f"{late} exits after their bounds"
    write_summary("stagger-fifo", {"cases": cases, "violations": violations.checked()})


# ------------------------------------------------------------------------------------------- sharp


def random_runs(rng: np.random.Generator) -> RunClass:
    least_delay = float(rng.choice([1.0, 1.0, 1.0, 0.5]))
    return RunClass(float(rng.choice(SHARES)), least_delay, Ties.SETTLED if rng.random() < 0.8 else Ties.ANY)


def test_sharp_equals_the_theorem_as_written() -> None:
    judged, number = 0, 0
    while judged < campaign_size(quick=30, deep=1_000):
        number += 1
        rng = np.random.default_rng([85, number])
        case = staggered(rng, random_case(rng, max_stages=3, max_arrivals=8, scales_ns=(3, 10)))
        tokens = slow_tokens(case.pipeline, len(case.trace), number)
        if sum(map(len, tokens.values())) > 30 or case.trace.span_ns > 60 or len(tokens) < 2:
            continue  # the oracle tries every time and every set of batches
        judged += 1
        runs = random_runs(rng)
        slow = slow_certificate(
            tokens,
            *(case.ingress_ns(), case.service_ns(), case.replicas()),
            SlowRuns(runs.least_service, runs.least_delay, runs.is_settled),
            case.stagger_ns(),
        )
        workload = realise(case.pipeline, case.trace, number)
        for is_compiled in (False, True):
            made = SharpEvaluator(workload, runs, is_compiled=is_compiled).bound(
                plan_settings(case.plan(seed=number))
            )
            for stage, own in slow.items():
                known = [-1 if most is None else most for most in own.overtakers]
                assert made[stage].arrivals.latest_ns.tolist() == own.latest, number
                assert made[stage].arrivals.overtakers.tolist() == known, number
                assert made[stage].tokens.latest_exit_ns.tolist() == own.exit, number


def test_no_run_exceeds_the_sharp_certificate() -> None:
    violations, seen = Violations(), Counter[str]()
    for number in range(campaign_size(quick=150, deep=50_000)):
        rng = np.random.default_rng([86, number])
        case = staggered(rng, random_case(rng, max_arrivals=int(rng.choice([6, 15, 40]))))
        workload, runs = realise(case.pipeline, case.trace, number), random_runs(rng)
        service_ns = case.service_ns()
        slowest = max(max(times) for times in service_ns.values())
        bounds = SharpEvaluator(workload, runs).bound(plan_settings(case.plan(seed=number)))
        for _ in range(4):
            taking = random_taking(rng, slowest), random_taking(rng, slowest)
            run = adversarial_run(
                workload, service_ns, case.replicas(), runs, *taking, rng, case.stagger_ns()
            )
            broken = [
                stage
                for stage, bound in bounds.items()
                if np.any(run.exit[stage] > bound.tokens.latest_exit_ns)
                or np.any(run.dispatch[stage] > bound.tokens.latest_dispatch_ns)
                or np.any(run.sent[stage] > bound.latest_sent_ns)
                or np.any(run.arrival[stage] < bound.arrivals.earliest_ns)
            ]
            violations.expect(not broken, f"case {number}, {runs}: {broken}")
            seen["tokens"] += sum(exits.size for exits in run.exit.values())
            seen["attained"] += sum(
                int(np.count_nonzero(run.exit[stage] == bounds[stage].tokens.latest_exit_ns))
                for stage in bounds
            )
    assert seen["attained"] > seen["tokens"] / 10
    write_summary("stagger-sharp", {**seen, "violations": violations.checked()})


def test_sharp_is_between_replay_and_classic_and_adds_up() -> None:
    for number in range(campaign_size(quick=150, deep=5_000)):
        rng = np.random.default_rng([87, number])
        case, runs = staggered(rng, random_case(rng)), random_runs(rng)
        plan, workload = case.plan(quantile=0.9, seed=number), realise(case.pipeline, case.trace, number)
        sharp = certify_sharply(workload, plan_settings(plan), plan.quantile, runs)
        assert np.all(replay(plan, case.trace).latency_ns <= sharp.latency_ns)
        if runs.is_settled:
            classic = certify(plan, case.trace, certificate="classic")
            assert np.all(sharp.latency_ns <= classic.latency_ns)
        for found in (sharp, certify(plan, case.trace, certificate="classic")):
            path = found.critical_path
            assert sum(step.latency_ns + step.wait_ns + step.delay_ns for step in path) == found.bound_ns
            assert all(step.wait_ns >= 0 for step in path)


def alone(rng: np.random.Generator) -> Case:
    """A case of single replicas, in a tree, whose gaps fit into the shortest batch of every stage."""
    while True:
        case = staggered(rng, random_case(rng, max_stages=4, max_arrivals=24, scales_ns=(10, 100)))
        case = case._replace(choices={stage: (h, b, 1) for stage, (h, b, _) in case.choices.items()})
        is_tree = all(len(case.pipeline.incoming(stage)) < 2 for stage in case.choices)
        if is_tree and len(case.choices) > 1 and in_order(case) == set(case.choices):
            return case


def overtaken(seen: SlowReplay) -> bool:
    """Whether at some stage a younger token arrives before an older one."""
    times = [[arrival[token] for token in sorted(arrival)] for arrival in seen.arrival.values()]
    return any(list(own) != sorted(own) for own in times)


def test_order_behind_single_replicas_is_kept() -> None:
    """Where gaps fit into the shortest batch nothing overtakes, even if batches may take no time; else it may."""
    broken = 0
    for number in range(campaign_size(quick=60, deep=5_000)):
        rng = np.random.default_rng([88, number])
        case = alone(rng)
        workload, plan = realise(case.pipeline, case.trace, number), case.plan(seed=number)
        made = SharpEvaluator(workload, RunClass()).bound(plan_settings(plan))
        at_once = replace(plan, pipeline=plan.pipeline.staggered(0))
        plain = SharpEvaluator(workload, RunClass()).bound(plan_settings(at_once))
        for stage in made:
            assert np.array_equal(made[stage].arrivals.overtakers, plain[stage].arrivals.overtakers)
        if all(case.pipeline.stages[stage].join is Join.EACH for stage in case.choices):
            assert not overtaken(fifo_run(case, number, RunClass(), rng)), number
            broken += overtaken(fifo_run(case, number, RunClass(), rng, orderly=False))
    assert broken > 3, "without the assumption on the order of outputs nothing would be known"


# ------------------------------------------------------------------------------------------- timed, and the public way


def test_every_timed_execution_is_the_replay() -> None:
    """A dispatcher may hand outputs on one by one, if it does so exactly: then it still makes the replay."""
    for number in range(campaign_size(quick=150, deep=20_000)):
        rng = np.random.default_rng([90, number])
        case, discipline = small_case(rng), ("oldest_first", "fifo")[number % 2]
        plan = Plan.from_choices(
            *(case.pipeline, case.profiles, case.choices),
            slo_s=1.0,
            seed=number,
            dispatch="timed",
            discipline=discipline,
        )
        execution = TimedLoop(
            slow_tokens(case.pipeline, len(case.trace), number),
            *(case.ingress_ns(), case.service_ns(), case.replicas(), discipline),
            shuffle=rng.shuffle,
            forgets=lambda: False,
            service_takes=lambda stated, rng=rng: int(rng.choice([0, 1, stated, rng.integers(stated + 1)])),
            delay_takes=lambda stated, rng=rng: int(rng.integers(stated + 1)),
            stagger=case.stagger_ns(),
        ).run()
        replayed = replay(plan, case.trace, engine="python")
        assert execution.latency == replayed.latency_ns.tolist(), number
        found = certify(plan, case.trace)
        assert found.latency_ns.tolist() == execution.latency
        path = found.critical_path
        assert sum(step.latency_ns + step.wait_ns + step.delay_ns for step in path) == found.bound_ns
        assert all(step.wait_ns in replayed.stages[step.stage].wait_ns for step in path)


def test_every_certificate_covers_the_replay_as_if() -> None:
    """`certify` and `replay` under another stagger, all laws and both disciplines."""
    for number in range(campaign_size(quick=30, deep=2_000)):
        rng = np.random.default_rng([91, number])
        case = random_case(rng)
        plan = case.plan(seed=number)
        stagger_s = float(rng.choice([0, 1, 5, 100])) / 1e9
        for law, discipline, kind in itertools.product(
            ("eager", "paced", "timed"), ("oldest_first", "fifo"), ("classic", "auto")
        ):
            # A class of runs goes with the sharp certificate of eager dispatch, and with that of fifo queues.
            with_runs = law == "eager" and kind == "auto" if discipline == "oldest_first" else law != "timed"
            made = certify(
                *(plan, case.trace),
                dispatch=law,
                discipline=discipline,
                stagger_s=stagger_s,
                certificate=kind if law != "timed" else None,
                runs=RunClass(0.9) if with_runs else None,
            )
            seen = replay(plan, case.trace, dispatch=law, discipline=discipline, stagger_s=stagger_s)
            assert np.all(seen.latency_ns <= made.latency_ns), (number, law, discipline, kind)
        assert np.array_equal(
            certify(plan, case.trace, stagger_s=0).latency_ns, certify(plan, case.trace).latency_ns
        )


def test_verify_judges_by_the_files_stagger_or_another(tmp_path: Path) -> None:
    pipeline = Pipeline.read("profiles/pipelines/cascade.yaml").staggered(2e-4)
    trace = Trace.read("profiles/traces/steady.csv.gz").slice(0, 8)
    profiles = Profiles.default()
    planned = make_plan(pipeline, profiles, trace)
    planned.save(tmp_path / "planned.json")
    assert Plan.load(tmp_path / "planned.json").pipeline == pipeline
    found = verify(tmp_path / "planned.json", trace)
    assert found.verified
    assert found.remarks == () or planned.runs is not None
    choices = {stage: (choice.hardware, 4, 8) for stage, choice in planned.choices.items()}
    Plan.from_choices(pipeline, profiles, choices).save(tmp_path / "given.json")
    spreads = {}
    for stagger_s in (None, 0, 2e-4, 1e-3):
        judged = verify(tmp_path / "given.json", trace, stagger_s=stagger_s)
        assert any("stagger" in remark for remark in judged.remarks) == (stagger_s not in (None, 2e-4))
        assert judged.certificate is not None
        spreads[stagger_s] = judged.certificate.bound_ns
    assert spreads[None] == spreads[2e-4] == spreads[0] + 2 * 3 * 200_000, (
        "behind both stages that others follow"
    )
    assert spreads[1e-3] == spreads[0] + 2 * 3 * 1_000_000
