"""The theorem for paced dispatch against executions: no query of any of them may be later than its certificate.

The executions come from the event loop of `oracle_paced`: rule P as the serving model has it, and the wider class that
the theorem speaks of. The control dispatches eagerly, which breaks the paced bound, and a bound one step of δ too small
is broken by paced executions: so the campaign can fail.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from campaigns import Violations, campaign_size, write_summary
from mipplan.calculus import StageService, stage_service
from mipplan.certificate import certify_services, certify_sharply, plan_settings
from mipplan.pipeline import DispatchLaw
from mipplan.result import RunClass, Ties
from mipplan.tokens import realise
from oracle_certificate import slow_exits, slow_latencies
from oracle_paced import PacedLoop, slow_paced_service
from oracle_replay import EventLoop
from oracle_tokens import SlowTokens, slow_tokens
from random_pipelines import Case, features, random_case

#: What at least one case in twenty must hold, or the campaign would prove little.
WANTED = ("join all", "join each", "skip", "fan-out above 1", "overload", "ties", "non-monotone")


def small_case(rng: np.random.Generator) -> Case:
    """A case of at most four stages: what goes wrong at all goes wrong in small ones, and these are quick."""
    return random_case(rng, max_stages=4, max_arrivals=24)


def services(case: Case) -> dict[str, StageService]:
    """T and R of every stage under paced dispatch."""
    plan = case.plan()
    return {
        stage: stage_service(
            plan.service_ns(stage), choice.replicas, not case.pipeline.incoming(stage), DispatchLaw.PACED
        )
        for stage, choice in plan.choices.items()
    }


def execution(
    case: Case, tokens: SlowTokens, kind: int, rng: np.random.Generator, least_ns: int = 0
) -> list[int]:
    """Latencies of one execution: the serving model, shorter times, any order within an instant, or both."""
    given = (tokens, case.ingress_ns(), case.service_ns(), case.replicas())
    settings = {}
    if kind & 1:
        least = max(least_ns, int(rng.integers(2)))  # often nothing at all
        settings["service_takes"] = lambda stated: int(
            rng.choice([least, stated, rng.integers(least_ns, stated + 1)])
        )
        settings["delay_takes"] = lambda stated: int(rng.integers(stated + 1))
    if kind & 2:
        settings["tie"] = rng.random
    return PacedLoop(*given, **settings).run().latency


def test_no_paced_execution_exceeds_its_certificate() -> None:
    violations, seen, attained = Violations(), Counter[str](), 0
    cases = campaign_size(quick=200, deep=300_000)
    for number in range(cases):
        with violations.case(number):
            rng = np.random.default_rng([47, number])
            case = small_case(rng)
            workload = realise(case.pipeline, case.trace, number)
            certificate = certify_services(workload, services(case), 0.99).latency_ns
            tokens = slow_tokens(case.pipeline, len(case.trace), number)
            latency = np.array(execution(case, tokens, number % 4, rng))
            late = np.flatnonzero(latency > certificate).tolist()
            assert not late, f"case {number}: queries {late} exceed their certificate"
            seen.update(features(case, workload))
            attained += bool(np.any(latency == certificate))
    rare = {name: seen[name] for name in WANTED if seen[name] < cases / 20}
    assert not rare, f"too few of {cases} cases hold these: {rare}"
    assert attained > cases / 100  # to the nanosecond, so that a term too small by 1 ns would have failed
    summary = {
        "cases": cases,
        "violations": violations.checked(),
        "cases_with_a_query_at_its_certificate": attained,
    }
    write_summary("paced", {**summary, "cases_with_feature": dict(sorted(seen.items()))})


def test_no_paced_execution_exceeds_its_sharp_certificate() -> None:
    """By this event loop, too; `test_sharp_campaign` plays its runs stage by stage."""
    violations, attained, lower = Violations(), 0, 0
    cases = campaign_size(quick=150, deep=100_000)
    for number in range(cases):
        with violations.case(number):
            rng, kind = np.random.default_rng([49, number]), number % 4
            case = small_case(rng)
            runs = RunClass(0.0, 0.0 if kind & 1 else 1.0, Ties.ANY if kind & 2 else Ties.SETTLED)
            workload = realise(case.pipeline, case.trace, number)
            settings = plan_settings(case.plan(dispatch=dict.fromkeys(case.choices, "paced")))
            certificate = certify_sharply(workload, settings, 0.99, runs).latency_ns
            tokens = slow_tokens(case.pipeline, len(case.trace), number)
            latency = np.array(execution(case, tokens, kind, rng, least_ns=1))
            late = np.flatnonzero(latency > certificate).tolist()
            assert not late, f"case {number}: queries {late} exceed their certificate"
            attained += bool(np.any(latency == certificate))
            classic = certify_services(workload, services(case), 0.99).latency_ns
            if runs.is_settled:
                assert np.all(certificate <= classic), f"case {number}: above the classic certificate"
            lower += bool(np.any(certificate < classic))
    assert attained > cases / 3
    assert lower > cases / 2
    summary = {"cases": cases, "violations": violations.checked()}
    write_summary("paced_sharp", {**summary, "cases_with_a_query_at_its_certificate": attained})


def test_the_bound_is_the_one_that_is_written() -> None:
    for number in range(campaign_size(quick=60, deep=1_000)):
        case = small_case(np.random.default_rng([48, number]))
        tables, replicas = case.service_ns(), case.replicas()
        written = {
            stage: slow_paced_service(table, replicas[stage], not case.pipeline.incoming(stage))
            for stage, table in tables.items()
        }
        tokens = slow_tokens(case.pipeline, len(case.trace), number)
        latency, rate = ({s: pair[k] for s, pair in written.items()} for k in (0, 1))
        exits = slow_exits(tokens, case.ingress_ns(), latency, rate)
        workload = realise(case.pipeline, case.trace, number)
        made = certify_services(workload, services(case), 0.99).latency_ns
        assert made.tolist() == slow_latencies(tokens, case.ingress_ns(), exits)


def test_eager_executions_exceed_the_paced_certificate() -> None:
    """The control: it is the spreading that the bound rests on."""
    broken = 0
    for number in range(800):
        case = small_case(np.random.default_rng([47, number]))
        workload = realise(case.pipeline, case.trace, number)
        certificate = certify_services(workload, services(case), 0.99).latency_ns
        tokens = slow_tokens(case.pipeline, len(case.trace), number)
        loop = EventLoop(tokens, case.ingress_ns(), case.service_ns(), case.replicas())
        broken += bool(np.any(np.array(loop.run().latency) > certificate))
    assert broken > 5


def test_a_bound_without_the_wait_for_a_dispatch_is_broken() -> None:
    """The planted fault: T = L, as if the first dispatch came at once."""
    broken = 0
    for number in range(800):
        rng = np.random.default_rng([47, number])
        case = small_case(rng)
        workload = realise(case.pipeline, case.trace, number)
        wrong = {
            stage: StageService(max(table), service.period_ns, service.tokens)
            for (stage, table), service in zip(
                case.service_ns().items(), services(case).values(), strict=True
            )
        }
        certificate = certify_services(workload, wrong, 0.99).latency_ns
        latency = execution(case, slow_tokens(case.pipeline, len(case.trace), number), number % 4, rng)
        broken += bool(np.any(np.array(latency) > certificate))
    assert broken > 50
