"""The search for the cheapest plan, held to what a judge may do: know little beforehand, learn late, be interrupted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

import networkx as nx
import numpy as np
import pytest

import mipplan as mp
from mipplan.calculus import PathWait, PathWaits, StageService
from mipplan.certificate import CertificateEvaluator, classic
from mipplan.core import UNLIMITED_NS, Deadline, Int64
from mipplan.options import Family, Option, StageFamilies, StageOptions, expand
from mipplan.planner import (
    CertifiedChoice,
    Instance,
    PlanSearch,
    SearchMethod,
    SearchOutcome,
    SearchParams,
    SearchSpace,
    SeparationOracle,
    trace_instance,
)
from mipplan.planner.cuts import QueryCuts
from mipplan.planner.heuristics import repair
from mipplan.profiles import Hardware, LatencyTable
from mipplan.result import Choice, CriticalStage
from mipplan.tokens import Workload, realise
from planning_instances import PlanningInstance, hand_made, planning_instance

Services = Mapping[str, StageService]


class WholeOracle(SeparationOracle):
    """Asks another one for whole certificates."""

    def __init__(self, oracle: SeparationOracle) -> None:
        self._oracle = oracle

    @property
    def paths(self) -> PathWaits:
        return self._oracle.paths

    def certificate_ns(self, services: Services) -> int:
        return self._oracle.certificate_ns(services)

    def critical_path(self, services: Services) -> tuple[CriticalStage, ...]:
        return self._oracle.critical_path(services)


class IgnorantOracle(WholeOracle):
    """Knows nothing else: no waits beforehand, no refusal before the whole trace was asked."""

    @property
    def paths(self) -> PathWaits:
        return PathWaits((), False)

    def surely_exceeds(self, services: Services, limit_ns: int) -> bool:
        return False

    def query_cuts(self, services: Services, limit_ns: int, order: Sequence[str]) -> QueryCuts | None:
        return self._oracle.query_cuts(services, limit_ns, order)


class EdgeOracle(WholeOracle):
    """Its quick bound is a few nanoseconds short."""

    def quick_bound(self, refused: Services, limit_ns: int) -> Callable[[Services], float]:
        return lambda services: self.certificate_ns(services) - 3


def realised(
    drawn: PlanningInstance, made: Callable[[SeparationOracle], SeparationOracle] = lambda oracle: oracle
) -> Instance:
    instance = trace_instance(
        drawn.pipeline, drawn.profiles, drawn.trace, drawn.slo_ns, drawn.quantile, drawn.seed
    )
    return replace(instance, oracle=made(instance.oracle))


def searched(instance: Instance, plan: mp.Plan) -> SearchOutcome:
    """Search from the optimum on: all that is left to do is to prove it."""
    assert plan.microusd_per_hour is not None
    assert plan.certificate_ns is not None
    space = SearchSpace(instance.affordable(plan.microusd_per_hour), instance.limits)
    options = [
        space.tables[stage].no_worse(instance.families[stage].option(choice))
        for stage, choice in plan.choices.items()
    ]
    known = CertifiedChoice(space.first + options, plan.microusd_per_hour, plan.certificate_ns)
    return PlanSearch(instance, space, SearchMethod("paths", "highs"), known=known).run()


def test_what_is_left_may_turn_out_to_be_refused_as_a_whole() -> None:
    # Only the whole trace refuses what is cheaper than the optimum, even where all of it is ideal at once: no cut can
    # say that, the search has to end. It used to end in a ValueError.
    proven = 0
    for number in range(1000, 1030):
        drawn = planning_instance(number)
        plan = drawn.plan()
        if not plan.choices:
            continue
        outcome = searched(realised(drawn, IgnorantOracle), plan)
        assert outcome.finished
        assert outcome.best is not None
        assert outcome.best.cost == outcome.lower_bound == plan.microusd_per_hour, number
        proven += 1
    assert proven >= 10


def test_repair_ends_certified_and_within_what_it_may_cost() -> None:
    repaired = beyond = 0
    for number in range(1000, 1030):
        drawn = planning_instance(number)
        plan = drawn.plan()
        if not plan.choices:
            continue
        instance = realised(drawn)
        assert plan.microusd_per_hour is not None
        most = 2 * plan.microusd_per_hour
        space = SearchSpace(instance.affordable(most), instance.limits)
        rows, cheapest = np.arange(space.size), cheapest_of(space)
        if instance.keeps_slo(space.services(cheapest)):
            continue
        found = repair(instance, space, rows, cheapest, most, Deadline())
        if found is None:
            beyond += 1
            continue
        repaired += 1
        assert plan.microusd_per_hour <= space.cost[found].sum() <= most
        assert instance.certificate_ns(space.services(found)) <= instance.deadline_ns
        # One micro-dollar less than what the plan costs, and there is nothing to be found.
        assert repair(instance, space, rows, cheapest, plan.microusd_per_hour - 1, Deadline()) is None
        assert repair(instance, space, rows, cheapest, most, Deadline(0.0)) is None  # Its time is up.
    assert repaired > 2 * beyond


def cheapest_of(space: SearchSpace) -> Int64:
    return np.array([own[np.argmin(space.cost[own])] for own in space.by_stage(np.arange(space.size))])


def test_repair_of_what_the_quick_bound_takes_for_good_enough_is_cheap() -> None:
    # The certificate exceeds the objective by 1 ns; chains, which do not round, see that it is kept by 2.
    drawn = hand_made(1.0)
    instance = realised(drawn, EdgeOracle)
    space = SearchSpace(instance.affordable(3_000_000), instance.limits)
    cheapest = cheapest_of(space)
    tight = instance.with_deadline(instance.certificate_ns(space.services(cheapest)) - 1)
    found = repair(tight, space, np.arange(space.size), cheapest, 3_000_000, Deadline())
    assert found is not None
    better = []
    for row, stage in enumerate(space.stage):
        other = cheapest.copy()
        other[stage] = row
        if tight.keeps_slo(space.services(other)):
            better.append(int((space.cost[other] - space.cost[cheapest]).sum()))
    assert int((space.cost[found] - space.cost[cheapest]).sum()) == min(better)


def test_an_interrupt_leaves_no_stale_exits(monkeypatch: pytest.MonkeyPatch) -> None:
    # Interrupted between two children of a stage that was evaluated anew: the second one must be evaluated, too.
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name in "abc":
        graph.add_node(name, model="m")
    graph.add_edges_from([("a", "b"), ("a", "c")])
    workload = realise(mp.Pipeline(graph), mp.Trace.from_ns(np.arange(50) * 3))
    evaluator = CertificateEvaluator(workload)
    before, after = ({name: StageService(t, 2, 1) for name in "abc"} for t in (5, 9))
    evaluator.exits_ns(before)
    original = classic.stage_exits_ns

    def interrupted(workload: Workload, stage: str, *rest: object) -> object:
        if stage == "b":
            raise KeyboardInterrupt
        return original(workload, stage, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(classic, "stage_exits_ns", interrupted)
        with pytest.raises(KeyboardInterrupt):
            evaluator.exits_ns({**before, "a": after["a"]})
    found = evaluator.exits_ns({**before, "a": after["a"]})
    truth = CertificateEvaluator(workload).exits_ns({**before, "a": after["a"]})
    assert all(np.array_equal(found[name], truth[name]) for name in "abc")


def test_an_option_that_is_no_worse_is_found_whatever_the_size_of_the_numbers() -> None:
    # Batches of hours on many replicas: cross products of 1/R would leave int64 and change sign.
    table = expanded(period_ns=2**46, batch=256)
    family = table.families.families[0]
    for replicas in (1, 1000, 50_000, 99_999):
        assert int(table.replicas[table.no_worse(Option(family, replicas))]) == replicas


def expanded(period_ns: int, batch: int) -> StageOptions:
    family = Family("cpu", batch, np.full(batch, period_ns), 1, 1, 100_000, False, False)
    return expand(StageFamilies("s", (family,), ()), 100_000)


class BluntCurve:
    """Waits by the time of a full batch, of which coarse questions hear nothing."""

    def __init__(self, waits_ns: Mapping[int, int]) -> None:
        self._waits_ns = waits_ns

    def exact(self, period_ns: int, tokens: int) -> int:
        return self._waits_ns[2 * period_ns // tokens]

    def lower(self, period_ns: int, tokens: int, least_ns: int = 0, most_ns: int = UNLIMITED_NS) -> int:
        return 0 if least_ns > 1_000 else self.exact(period_ns, tokens)


class AddingOracle(SeparationOracle):
    """Adds up the waits of two stages, of which the bound takes the longer."""

    waits = (
        BluntCurve({50_000: 900_000, 30_000: 300_000, 10_000: 100_000}),
        BluntCurve({20_000: 0, 40_000: 400_000}),
    )

    @property
    def paths(self) -> PathWaits:
        return PathWaits((PathWait(("a", "b"), 0, self.waits),), truncated=False)

    def certificate_ns(self, services: Services) -> int:
        chosen = [services["a"], services["b"]]
        waits_ns = (c.exact(s.period_ns, s.tokens) for c, s in zip(self.waits, chosen, strict=True))
        return sum(service.latency_ns for service in chosen) + sum(waits_ns)

    def critical_path(self, services: Services) -> tuple[CriticalStage, ...]:
        return ()


def test_an_optimum_that_costs_as_much_as_the_best_plan_may_have_what_was_given_up() -> None:
    """No cut can be made of such a row, which is among the options no more: the search ended with a ValueError."""
    measured = {"a0": (50, 50), "a1": (350, 10), "a2": (100, 30), "b0": (150, 20), "b1": (100, 40)}
    prices = {"a0": 1.0, "a1": 1.0, "a2": 2.0, "b0": 2.0, "b1": 2.0}
    sizes = np.array([1, 2])
    profiles = mp.Profiles.from_parts(
        [Hardware(name, usd) for name, usd in prices.items()],
        [LatencyTable(name[0], name, sizes, np.array(us) / 1e3) for name, us in measured.items()],
    )
    graph: nx.DiGraph[str] = nx.DiGraph()
    for name in "ab":
        graph.add_node(name, model=name, replicas=1, batch=2)
    graph.add_edge("a", "b")
    slow = dict.fromkeys("ab", Fraction(1, 10**9))
    instance = Instance.of(mp.Pipeline(graph), profiles, slow, AddingOracle(), 1_000_000)
    space = instance.space(instance.affordable(10_000_000))
    plan = instance.configuration({"a": Choice("a2", 2, 1), "b": Choice("b0", 2, 1)})
    known = CertifiedChoice.of(space.no_worse(plan), space, instance)
    params = SearchParams(lists=False, halves=False)
    outcome = PlanSearch(instance, space, SearchMethod("paths", "highs"), known=known, params=params).run()
    assert outcome.finished
    assert outcome.best is not None
    assert outcome.best.cost == outcome.lower_bound == known.cost == 4_000_000
