"""The theorem for timed dispatch against executions: every one of them is the replay, query by query.

The executions come from `oracle_paced.TimedLoop`, a dispatcher that holds back what is done early, with any services up
to ℓ, delays up to those stated and any choice among idle replicas, under both disciplines. In the control it forgets to
hold something back now and then, or does not hold back at all, and runs differ.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np

from campaigns import Violations, campaign_size, write_summary
from mipplan.replayer import ServiceNoise, replay
from mipplan.result import Plan
from mipplan.tokens import realise
from mipplan.verification import certify
from oracle_paced import TimedLoop
from oracle_tokens import slow_tokens
from random_pipelines import Case, features, random_case

WANTED = ("join all", "join each", "skip", "fan-out above 1", "overload", "ties", "non-monotone", "delay")
NEVER: Callable[[], bool] = lambda: False  # noqa: E731


def timed(case: Case, number: int, discipline: str) -> Plan:
    return Plan.from_choices(
        case.pipeline,
        case.profiles,
        case.choices,
        slo_s=1.0,
        seed=number,
        dispatch="timed",
        discipline=discipline,
    )


def execution(
    case: Case, number: int, plan: Plan, rng: np.random.Generator, forgets: Callable[[], bool]
) -> list[int]:
    """Latencies of one execution of a timed pipeline."""
    tokens = slow_tokens(case.pipeline, len(case.trace), number)
    return (
        TimedLoop(
            *(tokens, case.ingress_ns(), case.service_ns(), case.replicas(), plan.discipline.value),
            shuffle=rng.shuffle,
            forgets=forgets,
            service_takes=lambda stated: int(rng.choice([0, 1, stated, rng.integers(stated + 1)])),
            delay_takes=lambda stated: int(rng.integers(stated + 1)),
        )
        .run()
        .latency
    )


def test_every_timed_execution_is_the_replay() -> None:
    violations, seen = Violations(), Counter[str]()
    cases = campaign_size(quick=250, deep=100_000)
    for number in range(cases):
        with violations.case(number):
            rng = np.random.default_rng([49, number])
            case = random_case(rng, max_stages=4, max_arrivals=24)
            plan = timed(case, number, ("oldest_first", "fifo")[number % 2])
            replayed = replay(plan, case.trace, engine="python").latency_ns.tolist()
            assert execution(case, number, plan, rng, NEVER) == replayed, f"case {number}"
            if number % 10 == 0:
                assert certify(plan, case.trace).latency_ns.tolist() == replayed
                assert replay(plan, case.trace, dispatch="eager").latency_ns.tolist() == replayed
            seen.update(features(case, realise(case.pipeline, case.trace, number)))
    rare = {name: seen[name] for name in WANTED if seen[name] < cases / 20}
    assert not rare, f"too few of {cases} cases hold these: {rare}"
    summary = {"cases": cases, "violations": violations.checked()}
    write_summary("timed", {**summary, "cases_with_feature": dict(sorted(seen.items()))})


def test_executions_that_forget_to_hold_back_differ() -> None:
    """The planted fault: one thing in ten is not held back; and later than the replay, some of them."""
    differ = later = 0
    for number in range(200):
        rng = np.random.default_rng([49, number])
        case = random_case(rng, max_stages=4, max_arrivals=24)
        plan = timed(case, number, "oldest_first")
        replayed = replay(plan, case.trace, engine="python").latency_ns
        made = np.array(execution(case, number, plan, rng, lambda rng=rng: bool(rng.random() < 0.1)))
        differ += bool((made != replayed).any())
        later += bool((made > replayed).any())
    assert differ > 50
    assert later > 0, "a batching anomaly should make some query later"


def test_queries_that_keep_the_guarantee_are_as_replayed() -> None:
    """Overruns: whoever is not said to lose the guarantee has the latency of the replay, at every stage."""
    overran = kept = beyond = 0
    for number in range(campaign_size(quick=150, deep=20_000)):
        rng = np.random.default_rng([50, number])
        case = random_case(rng, max_stages=4, max_arrivals=50)
        plan = timed(case, number, ("oldest_first", "fifo")[number % 2])
        noise = ServiceNoise.from_factors([0.5] * 19 + [float(rng.choice([1.3, 4.0]))])
        run, stated = replay(plan, case.trace, noise=noise), replay(plan, case.trace)
        assert run.lost is not None
        assert run.overruns is not None
        same = run.latency_ns == stated.latency_ns
        assert same[~run.lost].all(), f"case {number}"
        assert (sum(run.overruns.values()) > 0) == bool(run.lost.any()), f"case {number}"
        assert not run.certificate_applies
        for stage, seen in run.stages.items():
            table = plan.service_ns(stage)[seen.batch_size - 1]
            assert run.overruns[stage] == np.count_nonzero(seen.batch_service_ns > table)
            assert (seen.batch_service_ns >= table).all()
        overran += bool(run.lost.any())
        kept += bool(run.lost.any() and not run.lost.all())
        beyond += bool((run.lost & same).any())
    assert min(overran, kept, beyond) > 20


def test_within_the_table_nothing_is_lost() -> None:
    case = random_case(np.random.default_rng(3))
    plan = timed(case, 0, "oldest_first")
    run = replay(plan, case.trace, noise=ServiceNoise.uniform(0.2, 1.0))
    assert run.latency_ns.tolist() == replay(plan, case.trace).latency_ns.tolist()
    assert run.certificate_applies
    assert (run.overruns, run.lost, run.queries_lost) == (None, None, None)
