"""The certificate against the theorem as written, and against itself under change."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from campaigns import campaign_size
from mipplan.calculus import StageService
from mipplan.certificate import CertificateEvaluator, certify_services, plan_services
from mipplan.tokens import realise
from mipplan.verification import certify
from oracle_certificate import slow_exits, slow_latencies, slow_services
from oracle_curves import slow_quantile
from oracle_tokens import slow_tokens
from random_pipelines import random_case


def test_equals_the_theorem_as_written() -> None:
    for number in range(campaign_size(quick=75, deep=5_000)):
        rng = np.random.default_rng([21, number])
        case = random_case(rng, max_arrivals=40)
        quantile = float(rng.choice([0.3, 0.9, 0.99, 1.0]))
        plan = case.plan(quantile=quantile, seed=number)
        tokens, ingress = slow_tokens(case.pipeline, len(case.trace), number), case.ingress_ns()
        exits = slow_exits(
            tokens,
            ingress,
            *slow_services(case.service_ns(), case.replicas(), case.pipeline.sources),
        )
        latencies = slow_latencies(tokens, ingress, exits)
        made = CertificateEvaluator(realise(case.pipeline, case.trace, number)).exits_ns(plan_services(plan))
        assert {stage: times.tolist() for stage, times in made.items()} == exits, f"case {number}"
        certificate = certify(plan, case.trace)
        assert certificate.latency_ns.tolist() == latencies, f"case {number}"
        assert certificate.bound_ns == slow_quantile(latencies, quantile), f"case {number}"


def test_critical_path_adds_up_and_follows_edges() -> None:
    for number in range(200):
        case = random_case(np.random.default_rng([22, number]))
        certificate = certify(case.plan(quantile=0.9), case.trace, seed=number)
        steps = certificate.critical_path
        assert sum(step.latency_ns + step.wait_ns + step.delay_ns for step in steps) == certificate.bound_ns
        assert all(step.wait_ns >= 0 for step in steps)
        assert steps[0].stage in case.pipeline.sources
        assert steps[0].delay_ns == 0
        for before, step in itertools.pairwise(steps):
            (edge,) = [e for e in case.pipeline.incoming(step.stage) if e.parent == before.stage]
            assert edge.delay_ns == step.delay_ns


def test_seed_argument_overrides_the_plan() -> None:
    differing = 0
    for number in range(40):
        case = random_case(np.random.default_rng([23, number]))
        own, other = (certify(case.plan(seed=seed), case.trace).latency_ns for seed in (0, 1))
        assert np.array_equal(certify(case.plan(seed=1), case.trace, seed=0).latency_ns, own)
        differing += not np.array_equal(own, other)
    assert differing > 0


def random_services(rng: np.random.Generator, stages: list[str]) -> dict[str, StageService]:
    return {
        stage: StageService(*(int(v) for v in (rng.integers(1, 50), rng.integers(0, 60), rng.integers(1, 9))))
        for stage in stages
    }


def test_evaluator_equals_a_fresh_certificate_after_any_change() -> None:
    for number in range(60):
        rng = np.random.default_rng([24, number])
        case = random_case(rng)
        workload = realise(case.pipeline, case.trace, number)
        stages = list(workload.stages)
        evaluator = CertificateEvaluator(workload)
        services = random_services(rng, stages)
        for _ in range(12):
            changed = rng.choice(stages, int(rng.integers(0, len(stages) + 1)), replace=False).tolist()
            services = {**services, **random_services(rng, changed)}
            expected = certify_services(workload, services, 0.9).latency_ns
            assert np.array_equal(evaluator.latency_ns(services), expected)


def test_certificate_is_monotone_in_latency_and_rate() -> None:
    """The planner's dominance rule and its Benders cuts rest on this."""
    for number in range(200):
        rng = np.random.default_rng([25, number])
        case = random_case(rng)
        workload = realise(case.pipeline, case.trace, number)
        worse = random_services(rng, list(workload.stages))
        stage = str(rng.choice(list(worse)))
        better = dict(worse)
        better[stage] = dataclasses.replace(
            worse[stage],
            latency_ns=worse[stage].latency_ns - int(rng.integers(0, 2)),
            tokens=worse[stage].tokens + int(rng.integers(0, 5)),
        )
        low, high = (certify_services(workload, s, 0.9).latency_ns for s in (better, worse))
        assert np.all(low <= high)


def test_later_queries_do_not_change_the_certificate_of_earlier_ones() -> None:
    """Under oldest first a query waits only for older ones, so a longer trace keeps the bounds of a shorter."""
    for number in range(100):
        case = random_case(np.random.default_rng([26, number]))
        plan = case.plan(seed=number)
        half = max(2, len(case.trace) // 2)
        cut = dataclasses.replace(case.trace, arrival_ns=case.trace.arrival_ns[:half].copy())
        assert np.array_equal(certify(plan, cut).latency_ns, certify(plan, case.trace).latency_ns[:half])


def test_fewer_queries_are_certified_no_later() -> None:
    """What is dropped can only have been in the way."""
    for number in range(100):
        rng = np.random.default_rng([27, number])
        case = random_case(rng)
        workload, services = realise(case.pipeline, case.trace, number), plan_services(case.plan())
        kept = rng.random(workload.queries) < 0.5
        kept[0] = True
        whole = certify_services(workload, services, 0.9).latency_ns
        assert np.all(certify_services(workload.restricted(kept), services, 0.9).latency_ns <= whole[kept])
