"""What every oracle in the register promises: monotone, and quick answers never above the guaranteed latency."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from mipplan.calculus import StageService
from mipplan.core import UNLIMITED_NS
from mipplan.planner import ORACLES, Instance, Request
from mipplan.result import Guarantee
from planning_instances import planning_instance


def instances(guarantee: Guarantee) -> Iterator[tuple[int, Instance]]:
    for number in range(4100, 4120):
        drawn = planning_instance(number, shape="diamond")
        plan = drawn.plan(guarantee=guarantee.value, time_limit_s=1e-9)
        instance = Request.of(plan, drawn.trace).instance()
        if instance.has_options:
            yield number, instance


def drawn_services(rng: np.random.Generator, instance: Instance) -> dict[str, StageService]:
    services = {}
    for stage, found in instance.families.items():
        family = found.families[int(rng.integers(len(found.families)))]
        services[stage] = family.service(family.fewest + int(rng.integers(4)))
    return services


@pytest.mark.parametrize("guarantee", ORACLES)
def test_an_oracle_is_made_for_each_guarantee(guarantee: Guarantee) -> None:
    assert all(isinstance(instance.oracle, ORACLES[guarantee]) for _, instance in instances(guarantee))


@pytest.mark.parametrize("guarantee", ORACLES)
def test_quick_answers_are_one_sided(guarantee: Guarantee) -> None:
    said = 0
    for number, instance in instances(guarantee):
        rng, oracle = np.random.default_rng(number), instance.oracle
        for _ in range(4):
            services, others = drawn_services(rng, instance), drawn_services(rng, instance)
            certificate_ns, other_ns = oracle.certificate_ns(services), oracle.certificate_ns(others)
            assert oracle.paths.bound_ns(services) <= certificate_ns
            assert oracle.floor_ns(services) <= certificate_ns
            assert not oracle.exceeds(services, certificate_ns)
            assert oracle.exceeds(services, certificate_ns - 1)
            assert not oracle.surely_exceeds(services, certificate_ns)
            limit_ns = certificate_ns - len(services) - 1
            bound_ns = oracle.quick_bound(services, limit_ns)
            assert bound_ns(others) <= other_ns
            if bound_ns(others) > limit_ns:
                said += 1
                assert other_ns > limit_ns
            cuts = oracle.query_cuts(services, limit_ns, tuple(services))
            if cuts is not None:
                latency = np.array([s.latency_ns for s in others.values()], dtype=np.float64)
                period = np.array([s.period_ns / s.tokens for s in others.values()])
                assert not cuts.refuse(cuts.excess_ns(latency, period)) or other_ns > limit_ns
    assert said > 5


@pytest.mark.parametrize("guarantee", ORACLES)
def test_the_latency_grows_with_t_and_falls_with_r(guarantee: Guarantee) -> None:
    for number, instance in instances(guarantee):
        rng, oracle = np.random.default_rng(number), instance.oracle
        services = drawn_services(rng, instance)
        certificate_ns = oracle.certificate_ns(services)
        assert certificate_ns < UNLIMITED_NS
        path_ns = sum(s.latency_ns + s.wait_ns + s.delay_ns for s in oracle.critical_path(services))
        assert path_ns == certificate_ns
        for stage, own in services.items():
            worse = StageService(own.latency_ns + 5_000, own.period_ns, own.tokens)
            better = StageService(own.latency_ns, own.period_ns, own.tokens + 1)
            assert oracle.certificate_ns({**services, stage: worse}) >= certificate_ns
            assert oracle.certificate_ns({**services, stage: better}) <= certificate_ns
