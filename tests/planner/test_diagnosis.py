"""What is said when there is no plan is true: every figure is tried out, and held against brute force."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import networkx as nx
import numpy as np
import pytest

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from mipplan.calculus import ArrivalCurve
from mipplan.core import parse_duration_ns
from mipplan.planner import Instance, Request, benders
from mipplan.profiles import Hardware, LatencyTable
from mipplan.solvers import ProblemAnswer
from mipplan.tokens import realise
from oracle_planner import (
    OracleFamily,
    Services,
    TooLargeError,
    fastest_within,
    oracle_certificate,
    oracle_families,
    oracle_limits,
)
from planning_instances import PlanningInstance, hand_made, planning_instance

HOPELESS_S = 1e-6


def families_of(instance: PlanningInstance) -> dict[str, list[OracleFamily]]:
    workload = realise(instance.pipeline, instance.trace, instance.seed)
    return oracle_families(instance.pipeline, instance.profiles, workload)


def fastest_reachable_ns(instance: PlanningInstance) -> int | None:
    """Least certificate of any choice, at any cost, by trying everything; None if there is no choice."""
    workload = realise(instance.pipeline, instance.trace, instance.seed)

    def certificate(services: Services) -> int:
        return oracle_certificate(workload, services, instance.quantile)

    return fastest_within(families_of(instance), oracle_limits(instance.profiles), certificate, None)


def works(instance: PlanningInstance) -> bool:
    """Whether any plan at all is certified; brute force, because a planner would look for the cheapest one."""
    fastest_ns = fastest_reachable_ns(instance)
    return fastest_ns is not None and fastest_ns <= instance.slo_ns


def test_every_figure_of_every_reason_is_true() -> None:
    numbers = range(8800, 8800 + campaign_size(8, 120))
    said: Counter[str] = Counter()
    violations = Violations()
    for number in numbers:
        with violations.case(number):
            instance = planning_instance(number)
            try:
                fastest_ns = fastest_reachable_ns(instance)
            except TooLargeError:
                said["too large for brute force"] += 1
                continue
            # Just out of reach, so that less traffic helps.
            slo_s = HOPELESS_S if fastest_ns is None else (fastest_ns - 1) / 1e9
            instance = replace(instance, slo_ns=round(slo_s * 1e9))
            plan = instance.plan()
            assert plan.status == "infeasible", number
            reason = plan.reason or ""
            said.update(check_blocked(reason, families_of(instance)))
            if fastest_ns is not None:
                said.update(check_fastest(reason, instance, fastest_ns))
            try:
                said.update(check_limits(reason, instance))
                said.update(check_rate(reason, instance))
            except TooLargeError:
                said["too large for brute force"] += 1
    assert said["too large for brute force"] <= len(numbers) / 5
    assert min(said[kind] for kind in ("blocked", "fastest", "limits", "rate")) > 0, said
    write_summary(
        "diagnosis", {"instances": len(numbers), "false_statements": violations.checked(), "said": dict(said)}
    )


def check_blocked(reason: str, families: Mapping[str, list[OracleFamily]]) -> list[str]:
    named = set(re.findall(r"no hardware can carry stage '(\w+)'", reason))
    assert named == {stage for stage, found in families.items() if not found}
    return ["blocked"] if named else []


def check_fastest(reason: str, instance: PlanningInstance, fastest_ns: int) -> list[str]:
    """The figure named is that of brute force; it works, and less does not."""
    found = re.search(
        r"The fastest reachable certificate is ([\d.e+]+ \w+) \(critical path: (.+?)\)\. ", reason
    )
    assert found, reason
    assert math.isclose(parse_duration_ns(found[1].replace(" ", "")), fastest_ns, rel_tol=1e-3)
    assert all(name in instance.pipeline.stages for name in re.findall(r"(\w+) \(T ", found[2]))
    asked = re.search(r"Ask for at least (\d+)ms", reason)
    assert asked
    assert int(asked[1]) == math.ceil(fastest_ns / 1e6)
    return ["fastest"]


def check_limits(reason: str, instance: PlanningInstance) -> list[str]:
    """Lifting a limit that is named helps, lifting another does not."""
    named = set(re.findall(r"the limit of \d+ on (\w+)", reason.partition("What bind")[2]))
    for name, hardware in instance.profiles.hardware.items():
        if hardware.limit is not None:
            assert works(without_limit(instance, name)) == (name in named), name
    replicas = "the stages' replica limits" in reason
    assert works(without_replica_limits(instance)) == replicas
    return ["limits"] * bool(named) + ["replica limits"] * replicas


def check_rate(reason: str, instance: PlanningInstance) -> list[str]:
    """At the share named it works; with a hundredth more of the traffic it does not."""
    found = re.search(r"At (\d+)% of the traffic \(([\d.e+]+) queries/s\) it would work", reason)
    share = int(found[1]) if found else 0
    if found:
        assert math.isclose(float(found[2]), share / 100 * instance.trace.rate_rps, rel_tol=1e-3)
        assert works(replace(instance, trace=instance.trace.scale(share / 100)))
    if share < 99:
        assert not works(replace(instance, trace=instance.trace.scale((share + 1) / 100)))
    return ["rate"] if found else []


def without_limit(instance: PlanningInstance, name: str) -> PlanningInstance:
    devices = [replace(h, limit=None) if h.name == name else h for h in instance.profiles.hardware.values()]
    return replace(instance, profiles=mp.Profiles.from_parts(devices, instance.profiles.tables.values()))


def without_replica_limits(instance: PlanningInstance) -> PlanningInstance:
    graph: nx.DiGraph[str] = nx.DiGraph(instance.pipeline.graph)
    for name, stage in instance.pipeline.stages.items():
        graph.nodes[name]["replicas"] = {"min": stage.replicas_min}
    return replace(instance, pipeline=mp.Pipeline(graph=graph, slo_s=1.0))


def test_rates_are_looked_at_only_where_one_of_them_works(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []

    class Counting(Request):
        def instance(self, factor: float = 1.0) -> Instance:
            asked.append(factor)
            return super().instance(factor)

    monkeypatch.setattr("mipplan.planner.planning.Request", Counting)
    instance = hand_made()
    reason = instance.plan(slo_s=1e-6).reason  # less than a batch takes
    assert reason is not None
    assert "of the traffic" not in reason
    assert asked == [1.0, 0.01]
    asked.clear()
    graph: nx.DiGraph[str] = nx.DiGraph(instance.pipeline.graph)
    nx.set_node_attributes(graph, 1, "replicas")
    few = replace(instance, pipeline=mp.Pipeline(graph=graph, slo_s=0.08), trace=instance.trace.scale(8.0))
    reason = few.plan().reason
    assert reason is not None
    assert "of the traffic" in reason
    assert asked[:2] == [1.0, 0.01]
    assert len(asked) > 3


def test_fastest_worst_case_is_named_exactly() -> None:
    instance = hand_made()
    curve = ArrivalCurve.token_bucket(4, 200)
    plan = instance.plan(guarantee="envelope", envelope=curve, slo_s=0.005)
    assert plan.status == "infeasible"
    reason = plan.reason or ""
    assert "every query ≤ 5 ms" in reason
    asked_s = int(reason.split("Ask for at least ")[1].split("ms")[0]) / 1e3
    assert instance.plan(guarantee="envelope", envelope=curve, slo_s=asked_s).status == "optimal"
    assert instance.plan(guarantee="envelope", envelope=curve, slo_s=asked_s - 0.001).status == "infeasible"


def test_one_limit_of_two_binds_by_hand() -> None:
    # t4 alone is fast enough and there are too few of them; cpu has a limit too, which is of no interest.
    instance = hand_made()
    limits = {"cpu": 3, "t4": 1}
    devices = [replace(h, limit=limits[h.name]) for h in instance.profiles.hardware.values()]
    limited = replace(instance, profiles=mp.Profiles.from_parts(devices, instance.profiles.tables.values()))
    plan = limited.plan(slo_s=0.012)
    assert plan.status == "infeasible"
    reason = plan.reason or ""
    assert "What binds: the limit of 1 on t4 (with any one of these lifted it would work)" in reason
    assert "on cpu" not in reason


@pytest.mark.parametrize("slo_s", [1e-4, 1.0])
def test_limits_that_leave_no_room_for_any_plan_are_named_whatever_the_objective(slo_s: float) -> None:
    instance = hand_made(limit=1)
    scarce = replace(instance, profiles=instance.profiles.without_hardware("cpu"))
    reason = scarce.plan(slo_s=slo_s).reason or ""
    assert "Whatever the objective, nothing that keeps up is within the limits. " in reason
    assert ("Something would be without any one of these: the limit of 1 on t4" in reason) == (slo_s < 0.01)
    assert ("What binds: the limit of 1 on t4" in reason) == (slo_s > 0.01)


@pytest.mark.parametrize("solver", ["highs", "cbc"])
def test_smallest_objective_under_limits_does_not_depend_on_the_solver(solver: str) -> None:
    for number in range(8900, 8906):
        instance = planning_instance(number, limited=True)
        if any(not found for found in families_of(instance).values()):
            continue
        reasons = [instance.plan(slo_s=HOPELESS_S, solver=s).reason or "" for s in (solver, "highs")]
        asked = [re.findall(r"Ask for at least \d+ms", reason) for reason in reasons]
        assert asked[0] == asked[1]


@pytest.mark.parametrize("days", [60, 3600])
def test_traces_of_months_have_a_reason_too(days: int) -> None:
    """Slowed down to one per cent, as what would do is looked for, they last longer than traces may."""
    instance = hand_made()
    trace = mp.Trace.from_seconds([0.0, 86_400.0 * days, 86_400.0 * days + 1e-6, 86_400.0 * days + 1e-6])
    plan = mp.plan(instance.pipeline, instance.profiles, trace, slo_s=1e-6)
    assert plan.status == "infeasible"
    assert "fastest reachable certificate" in (plan.reason or "")


def test_objectives_beyond_what_solvers_can_count_are_refused() -> None:
    """A deadline of ten years in nanoseconds is no number that solvers tell from the next one."""
    instance = hand_made()
    with pytest.raises(mp.InputError, match="slo_s: plans are searched for up to latencies of 52 days"):
        mp.plan(instance.pipeline, instance.profiles, instance.trace, slo_s=3.15e8)
    assert mp.plan(instance.pipeline, instance.profiles, instance.trace, slo_s=4.5e6).status == "optimal"


@pytest.mark.parametrize("law", ["eager", "timed"])
@pytest.mark.parametrize(("delay", "rare_ms"), [("2600h", 5.0), ("1ms", 9e9), ("87000h", 9e9)])
def test_what_takes_months_for_a_few_queries_is_no_matter_for_solvers(
    delay: str, rare_ms: float, law: str
) -> None:
    """Few enough are late for a P99; their delays and latencies are beyond what solvers count in nanoseconds."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from([("a", {"model": "m"}), ("b", {"model": "m"}), ("rare", {"model": "r"})])
    graph.add_edge("a", "b")
    graph.add_edge("a", "rare", probability=0.002, delay=delay)
    tables = [
        LatencyTable(model, hardware, [1], [latency_ms / speed])
        for model, latency_ms in (("m", 8.0), ("r", rare_ms))
        for hardware, speed in (("slow", 1.0), ("fast", 4.0))
    ]
    devices = [Hardware("slow", 1.0), Hardware("fast", 3.0)]
    years = np.sort(np.random.default_rng(1).integers(0, 9 * 10**16, 3_000))
    profiles, trace = mp.Profiles.from_parts(devices, tables), mp.Trace.from_ns(years)
    plans = [mp.plan(mp.Pipeline(graph), profiles, trace, slo_s=slo_s, dispatch=law) for slo_s in (0.5, 0.02)]
    assert [plan.status for plan in plans] == ["optimal", "optimal"]


def test_waits_of_months_are_no_matter_for_solvers() -> None:
    """A burst at which slow options are years behind, and keep up with the mean of the years after it."""
    tables = [LatencyTable("m", f"h{speed}", [1, 4], [3.6e7 / speed, 7.2e7 / speed]) for speed in (1, 2)]
    profiles = mp.Profiles.from_parts([Hardware(f"h{n}", float(n)) for n in (1, 2)], tables)
    graph: nx.DiGraph[str] = nx.DiGraph([("a", "b")])
    nx.set_node_attributes(graph, "m", "model")
    trace = mp.Trace.from_ns(np.append(np.zeros(1_000, dtype=np.int64), 9 * 10**16))
    plan = mp.plan(mp.Pipeline(graph), profiles, trace, slo_s=4e5)
    assert plan.status == "optimal"


@pytest.mark.parametrize("number", [1009, 1018, 1059])
def test_ctrl_c_ends_the_search_for_a_reason(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches take it for a limit: each of the next questions was asked all the same, until Ctrl-C came again."""
    instance = planning_instance(number, limited=True)
    asked = []

    def interrupted(*arguments: object, **settings: object) -> ProblemAnswer:
        asked.append(arguments)
        raise KeyboardInterrupt

    whole = instance.plan()
    monkeypatch.setattr(benders, "solve_problem", interrupted)
    plan = instance.plan()
    assert len(asked) == 1
    assert plan.status == whole.status == "infeasible"
    assert plan.reason is not None
    assert (whole.reason or "").startswith(plan.reason.split(". ")[0])


@pytest.mark.parametrize("budget", [None, 3.0])
def test_what_takes_longer_than_solvers_can_count_is_told_all_the_same(budget: float | None) -> None:
    """Small batches are soonest and large ones fastest, so that something in between was asked of a solver."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from("ab", model="m", replicas=2)
    graph.add_edge("a", "b", delay="2400h")
    profiles = mp.Profiles.from_parts(
        [Hardware("h", 0.5)], [LatencyTable("m", "h", np.array([1, 4]), np.array([8.0, 14.0]))]
    )
    trace = mp.Trace.from_ns(np.repeat(np.arange(20) * 200_000_000, 9))
    plan = mp.plan(mp.Pipeline(graph, slo_s=1.0), profiles, trace, budget_usd_per_hour=budget)
    if budget is None:
        assert plan.status == "infeasible"
        assert "certificate found in time is 8640000 s" in (plan.reason or "")
    else:
        assert (plan.status, plan.limit, plan.usd_per_hour) == ("feasible", "time", 2.0)
        assert plan.certificate_ns == mp.certify(plan, trace).bound_ns
