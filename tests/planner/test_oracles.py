"""What every oracle promises: monotone, and quick answers never above the guaranteed latency."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import pytest

import mipplan as mp
from mipplan.calculus import PathWaits, StageService
from mipplan.core import UNLIMITED_NS
from mipplan.planner import ORACLES, Instance, Request
from mipplan.planner.cuts import QueryCuts, Services
from mipplan.planner.oracle import FifoOracle, JointOracle, SeparationOracle
from mipplan.result import CriticalStage, Guarantee, RunClass
from mipplan.tokens import find_samples
from planning_instances import planning_instance


@dataclass(frozen=True)
class Kind:
    """What is asked of `mipplan.plan` for its search to judge by an oracle of this kind."""

    made: type[SeparationOracle]
    asked: Mapping[str, Any] = field(default_factory=dict)
    traces: int = 1
    quantiles: int = 1


BY_ARRIVAL = MappingProxyType({"discipline": "fifo", "runs": RunClass(0.9)})
KINDS: dict[str, Kind] = {
    **{guarantee.value: Kind(made, {"guarantee": guarantee.value}) for guarantee, made in ORACLES.items()},
    "two quantiles": Kind(ORACLES[Guarantee.TRACE], quantiles=2),
    "fifo": Kind(FifoOracle, BY_ARRIVAL),
    "fifo, two quantiles": Kind(FifoOracle, BY_ARRIVAL, quantiles=2),
    "three traces": Kind(JointOracle, traces=3),
    "fifo, three traces": Kind(JointOracle, BY_ARRIVAL, traces=3),
}


def requests(kind: Kind) -> Iterator[tuple[int, mp.Plan, list[mp.Trace]]]:
    for number in range(4100, 4120):
        drawn = planning_instance(number, shape="diamond")
        pipeline, asked = drawn.pipeline, {**drawn.arguments, **kind.asked}
        if kind.quantiles == 2:
            ms = drawn.slo_ns / 1e6
            pipeline = pipeline.asking({"p95": f"{ms:.6f}ms", "p60": f"{0.6 * ms:.6f}ms"})
            asked = {key: value for key, value in asked.items() if key not in ("slo_s", "quantile")}
        # Of other rates and bursts, so that no trace is always the worst.
        traces = [drawn.trace, *(planning_instance(number + 1000 * k).trace for k in range(1, kind.traces))]
        plan = mp.plan(pipeline, drawn.profiles, traces, **asked, time_limit_s=1e-9)
        yield number, plan, traces


def instances(kind: Kind) -> Iterator[tuple[int, Instance]]:
    for number, plan, traces in requests(kind):
        instance = Request.of(plan, traces).instance()
        if instance.has_options:
            yield number, instance


def drawn_services(rng: np.random.Generator, instance: Instance) -> dict[str, StageService]:
    services = {}
    for stage, found in instance.families.items():
        family = found.families[int(rng.integers(len(found.families)))]
        services[stage] = family.service(family.fewest + int(rng.integers(4)))
    return services


def excess(cuts: QueryCuts, services: Services) -> Any:
    """What the queries of cuts take beyond the limit, at least, under some services."""
    latency = np.array([s.latency_ns for s in services.values()], dtype=np.float64)
    period = np.array([s.period_ns / s.tokens for s in services.values()])
    return cuts.excess_ns(latency, period)


@pytest.mark.parametrize("kind", KINDS)
def test_an_oracle_is_made_for_each_kind(kind: str) -> None:
    made = [instance.oracle for _, instance in instances(KINDS[kind])]
    assert len(made) > 10
    assert all(isinstance(oracle, KINDS[kind].made) for oracle in made)
    assert all(oracle.paths is oracle.paths for oracle in made), "waits are remembered"


@pytest.mark.parametrize("kind", KINDS)
def test_quick_answers_are_one_sided(kind: str) -> None:
    said = sure = 0
    for number, instance in instances(KINDS[kind]):
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
            is_sure = oracle.surely_exceeds(services, limit_ns)
            assert bound_ns(services) > limit_ns or not is_sure
            cuts = oracle.query_cuts(services, limit_ns, tuple(services))
            if cuts is not None:
                assert not cuts.refuse(excess(cuts, others)) or other_ns > limit_ns
                assert cuts.refuse(excess(cuts, services)) or not is_sure
                sure += is_sure
    assert said > 5
    # By arrival it is mostly not the oldest first that is refused, and of that alone there are cuts.
    assert sure > 0 or kind == "envelope"


@pytest.mark.parametrize("kind", KINDS)
def test_the_latency_grows_with_t_and_falls_with_r(kind: str) -> None:
    for number, instance in instances(KINDS[kind]):
        rng, oracle = np.random.default_rng(number), instance.oracle
        services = drawn_services(rng, instance)
        certificate_ns = oracle.certificate_ns(services)
        assert certificate_ns < UNLIMITED_NS
        path_ns = sum(s.latency_ns + s.wait_ns + s.delay_ns for s in oracle.critical_path(services))
        # A path is that of a query at the quantile; where two are asked for, the further one's limit is another.
        assert path_ns == certificate_ns or KINDS[kind].quantiles == 2
        for stage, own in services.items():
            worse = replace(own, latency_ns=own.latency_ns + 5_000)
            better = replace(own, tokens=own.tokens + 1)
            assert oracle.certificate_ns({**services, stage: worse}) >= certificate_ns
            assert oracle.certificate_ns({**services, stage: better}) <= certificate_ns


@pytest.mark.parametrize("kind", ["three traces", "fifo, three traces"])
def test_several_samples_are_judged_one_by_one_and_the_worst_counts(kind: str) -> None:
    worst = set()
    for number, plan, traces in requests(KINDS[kind]):
        instance = Request.of(plan, traces).instance()
        if not instance.has_options:
            continue
        services = drawn_services(np.random.default_rng(number), instance)
        alone = [
            Request.of(plan, [one.trace]).instance().certificate_ns(services)
            for one in find_samples(plan.pipeline, traces, plan.seed, plan.seeds)
        ]
        assert list(instance.oracle.by_sample(services)) == alone
        assert instance.oracle.certificate_ns(services) == max(alone)
        worst.add(int(np.argmax(alone)))
    assert worst == {0, 1, 2}


def test_fifo_queues_are_refused_by_the_quickest_bound_that_sees_why() -> None:
    """First the oldest first; then a sample of those queues; else everything."""
    seen = set()
    for number, instance in instances(KINDS["fifo"]):
        oracle, rng = instance.oracle, np.random.default_rng(number)
        assert isinstance(oracle, FifoOracle)
        for _ in range(4):
            services = drawn_services(rng, instance)
            floor_ns, certificate_ns = oracle.floor_ns(services), oracle.certificate_ns(services)
            for limit_ns in {certificate_ns - 1, floor_ns - 1, min(floor_ns, certificate_ns - 1)}:
                bound_ns = oracle.quick_bound(services, limit_ns)
                assert bound_ns(services) > limit_ns
                cuts = oracle.query_cuts(services, limit_ns, tuple(services))
                if bound_ns not in (oracle.floor_ns, oracle.certificate_ns):
                    assert cuts is not None
                    seen.add("oldest first")
                else:
                    assert cuts is None, "by arrival nothing is known of single queries"
                    assert (bound_ns == oracle.floor_ns) == (floor_ns > limit_ns)
                    seen.add("sample" if floor_ns > limit_ns else "everything")
                    assert oracle.surely_exceeds(services, limit_ns) == (floor_ns > limit_ns)
    assert seen == {"oldest first", "sample", "everything"}


@dataclass(eq=False)
class Part(SeparationOracle):
    """One of several samples, that notes what it is asked."""

    name: str
    log: list[str]
    is_sure: bool = False
    refuses: bool = False
    value_ns: int = 0

    @property
    def paths(self) -> PathWaits:
        """None are asked for."""
        raise NotImplementedError

    def certificate_ns(self, services: Services) -> int:
        """The same, whatever the services."""
        return self.value_ns

    def critical_path(self, services: Services) -> tuple[CriticalStage, ...]:
        """Its name, in the place of a path."""
        return cast("tuple[CriticalStage, ...]", (self.name,))

    def surely_exceeds(self, services: Services, limit_ns: int) -> bool:
        """As it was made."""
        self.log.append(self.name)
        return self.is_sure

    def exceeds(self, services: Services, limit_ns: int) -> bool:
        """As it was made."""
        self.log.append(f"{self.name}, in full")
        return self.refuses

    def quick_bound(self, refused: Services, limit_ns: int) -> Callable[[Services], float]:
        """Its value."""
        self.log.append(self.name)
        return self.certificate_ns

    def query_cuts(self, services: Services, limit_ns: int, order: Any) -> QueryCuts | None:
        """Its name, in the place of cuts."""
        return cast("QueryCuts", self.name)


def three_parts() -> tuple[list[str], list[Part], JointOracle]:
    log: list[str] = []
    parts = [Part(name, log) for name in "abc"]
    return log, parts, JointOracle(cast("Any", parts))


def test_what_refused_last_is_asked_first() -> None:
    log, (_, b, c), joint = three_parts()

    def asked(limit_ns: int = 5) -> tuple[bool, list[str]]:
        log.clear()
        return joint.surely_exceeds({}, limit_ns), list(log)

    c.is_sure = True
    assert asked() == (True, ["a", "b", "c"])
    assert asked() == (True, ["c"])
    assert cast("Any", joint.query_cuts({}, 5, ())) == "c"
    c.is_sure = False
    assert asked() == (False, ["c", "a", "b"])
    b.is_sure = True
    assert asked() == (True, ["c", "a", "b"])
    assert asked() == (True, ["b"])
    b.is_sure = False
    assert asked() == (False, ["b", "c", "a"])


def test_whole_traces_are_asked_only_if_no_sample_of_them_knows() -> None:
    log, (a, b, _), joint = three_parts()
    assert not joint.exceeds({}, 5)
    assert log == ["a", "b", "c", "a, in full", "b, in full", "c, in full"]
    log.clear()
    b.refuses = True
    assert joint.exceeds({}, 5)
    assert log == ["a", "b", "c", "a, in full", "b, in full"]
    log.clear()
    a.is_sure = True
    assert joint.exceeds({}, 5)
    assert log == ["b", "a"]


def test_the_bound_is_that_of_the_first_sample_that_sees_why() -> None:
    log, (a, b, c), joint = three_parts()
    a.value_ns, b.value_ns, c.value_ns = 5, 6, 7
    assert joint.quick_bound({}, 5)({}) == 6
    assert log == ["a", "b"]
    log.clear()
    assert joint.quick_bound({}, 8)({}) == 7, "that of any of them is a bound"
    assert log == ["a", "b", "c"]
    assert joint.certificate_ns({}) == joint.floor_ns({}) == 7
    assert joint.by_sample({}) == (5, 6, 7)
    assert cast("Any", joint.critical_path({})) == ("c",)
