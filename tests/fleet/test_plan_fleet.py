"""`plan_fleet` as users call it: figures that hold, brute force on tiny fleets, what it says where not all fits."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from campaigns import campaign_size
from fleet_instances import arguments_of, fleet_of, small_fleet
from mipplan.fleet.problem import Fleet
from mipplan.profiles import Hardware, LatencyTable
from oracle_fleet import certified_device_vectors, cheapest_selection, greatest_weight


def check_figures(fleet: Fleet, found: mp.FleetPlan) -> None:
    """Everything a fleet with plans claims, recomputed from its plans."""
    traces = {member.name: member.trace for member in fleet.members}
    used: dict[str, int] = {}
    for name, plan in found.plans.items():
        certificate = mp.certify(plan, traces[name])
        assert certificate.bound_ns == plan.certificate_ns <= plan.slo_ns
        assert plan.lower_bound_microusd_per_hour <= plan.microusd_per_hour
        for choice in plan.choices.values():
            used[choice.hardware] = used.get(choice.hardware, 0) + choice.replicas
    assert {name: use.used for name, use in found.devices.items() if use.used} == used
    assert all(use.used <= use.limit for use in found.devices.values() if use.limit is not None)
    total = sum(plan.microusd_per_hour for plan in found.plans.values())
    assert total == found.microusd_per_hour == sum(use.microusd_per_hour for use in found.devices.values())
    assert found.lower_bound_microusd_per_hour <= total
    assert found.gap == pytest.approx(1 - found.lower_bound_microusd_per_hour / total)


def test_brute_force_on_tiny_fleets() -> None:
    verdicts = {"optimal": 0, "infeasible": 0}
    for number in range(campaign_size(4, 120)):
        fleet = small_fleet(number)
        vectors = [certified_device_vectors(member, fleet) for member in fleet.members]
        truth = cheapest_selection(vectors, fleet)
        for method in ("columns", "joint"):
            pipelines, profiles = arguments_of(fleet)
            found = mp.plan_fleet(
                pipelines, profiles, quantile=fleet.quantile, method=method, gap=0.0, alternatives=False
            )
            if truth is None:
                assert found.status == "infeasible", (number, method)
                assert (found.plans, found.microusd_per_hour, found.lower_bound_microusd_per_hour) == (
                    {},
                    None,
                    None,
                )
                continue
            assert found.lower_bound_microusd_per_hour <= truth, (number, method)
            assert (found.status, found.microusd_per_hour) == ("optimal", truth), (number, method)
            check_figures(fleet, found)
        verdicts["infeasible" if truth is None else "optimal"] += 1
    assert min(verdicts.values()) >= 1


def test_where_not_all_fit_the_weight_admitted_is_the_greatest() -> None:
    admitted = 0
    for number in range(campaign_size(3, 80)):
        fleet = small_fleet(number, scarcity=0.35)
        pipelines, profiles = arguments_of(fleet)
        found = mp.plan_fleet(pipelines, profiles, quantile=fleet.quantile, time_limit_s=20)
        if found.status != "infeasible":
            continue
        vectors = [certified_device_vectors(member, fleet) for member in fleet.members]
        truth = greatest_weight(vectors, fleet)
        admission = found.admission
        assert admission is not None
        assert admission.weight <= truth <= admission.weight_bound + 1e-9, number
        assert admission.weight == truth
        weights = {member.name: member.weight / 1000 for member in fleet.members}
        assert sum(weights[name] for name in admission.fleet.plans) == admission.weight
        assert sorted([*admission.fleet.plans, *admission.left_out]) == sorted(weights)
        if admission.fleet.plans:
            check_figures(fleet, admission.fleet)
        admitted += 1
    assert admitted >= 2


def test_relaxed_objectives_fit_and_smaller_ones_do_not() -> None:
    relaxed = 0
    for number in range(campaign_size(5, 80)):
        fleet = small_fleet(number, scarcity=0.6)
        pipelines, profiles = arguments_of(fleet)
        found = mp.plan_fleet(pipelines, profiles, quantile=fleet.quantile, time_limit_s=20)
        if found.relaxation is None:
            assert found.plans or "would not help" in found.reason
            continue
        relaxation = found.relaxation
        assert 1.0 <= relaxation.too_small < relaxation.factor <= relaxation.too_small * 1.011
        assert relaxation.proven
        eased = fleet.relaxed(relaxation.factor)
        assert [plan.slo_ns for plan in relaxation.fleet.plans.values()] == [m.slo_ns for m in eased.members]
        check_figures(eased, relaxation.fleet)
        tight = fleet.relaxed(relaxation.too_small)
        vectors = [certified_device_vectors(member, tight) for member in tight.members]
        assert cheapest_selection(vectors, tight) is None, number
        relaxed += 1
    assert relaxed >= 1


def test_limits_that_bind_are_those_that_cost_something() -> None:
    fleet = fleet_of(3, pipelines=4, scarcity=0.7)
    pipelines, profiles = arguments_of(fleet)
    found = mp.plan_fleet(pipelines, profiles, quantile=fleet.quantile, gap=0.0)
    assert found.binding
    for name in found.binding:
        limits = {**fleet.limits, name: fleet.limits[name] + 1}
        more = mp.plan_fleet(pipelines, profiles, limits=limits, quantile=fleet.quantile, gap=0.0)
        assert more.microusd_per_hour <= found.microusd_per_hour
    loose = {name: use.limit for name, use in found.devices.items() if use.limit and not use.binds}
    lifted = mp.plan_fleet(pipelines, profiles, limits=dict.fromkeys(loose), quantile=fleet.quantile, gap=0.0)
    # the proof of the bound made no use of them
    assert lifted.lower_bound_microusd_per_hour <= found.microusd_per_hour
    for use in found.devices.values():
        assert use.binds == bool(use.one_more_microusd_per_hour)
        assert use.limit is not None or use.one_more_microusd_per_hour is None


def test_without_limits_every_pipeline_has_its_own_cheapest_plan() -> None:
    fleet = fleet_of(5)
    pipelines, profiles = arguments_of(fleet)
    found = mp.plan_fleet(
        pipelines, profiles, limits=dict.fromkeys(profiles.hardware), quantile=fleet.quantile
    )
    assert found.status == "optimal"
    for member in fleet.members:
        pipeline, trace, slo_s, _ = pipelines[member.name]
        alone = mp.plan(pipeline, _unlimited(profiles), trace, slo_s=slo_s, quantile=fleet.quantile)
        assert found.plans[member.name].microusd_per_hour == alone.microusd_per_hour
        assert found.plans[member.name].status == "optimal"


def _unlimited(profiles: mp.Profiles) -> mp.Profiles:
    from dataclasses import replace

    hardware = [replace(device, limit=None) for device in profiles.hardware.values()]
    return mp.Profiles.from_parts(hardware, profiles.tables.values())


def test_a_budget_below_the_bound_is_infeasible_and_one_above_is_kept() -> None:
    fleet = fleet_of(6, pipelines=4, scarcity=0.9)
    pipelines, profiles = arguments_of(fleet)
    free = mp.plan_fleet(pipelines, profiles, quantile=fleet.quantile, gap=0.0)
    kept = mp.plan_fleet(
        pipelines, profiles, quantile=fleet.quantile, gap=0.0, budget=free.usd_per_hour, alternatives=False
    )
    assert (kept.status, kept.microusd_per_hour) == ("optimal", free.microusd_per_hour)
    short = mp.plan_fleet(
        pipelines, profiles, quantile=fleet.quantile, gap=0.0, budget=free.usd_per_hour * 0.6
    )
    assert short.status == "infeasible"
    assert "more than the budget" in short.reason
    assert short.admission is not None
    assert short.admission.fleet.usd_per_hour <= free.usd_per_hour * 0.6
    with pytest.raises(mp.NoPlanError, match="budget"):
        short.require()


def test_a_pipeline_that_nothing_can_carry_is_named() -> None:
    fleet = fleet_of(7)
    pipelines, profiles = arguments_of(fleet)
    first = next(iter(pipelines))
    pipeline, trace, _, weight = pipelines[first]
    found = mp.plan_fleet({**pipelines, first: (pipeline, trace, 1e-6, weight)}, profiles, quantile=0.9)
    assert found.status == "infeasible"
    assert first in found.reason
    assert "1 of" in found.reason
    assert found.admission is not None
    assert first in found.admission.left_out


def test_where_no_pipeline_fits_none_is_admitted() -> None:
    fleet = fleet_of(3)
    pipelines, profiles = arguments_of(fleet)
    found = mp.plan_fleet(
        pipelines, profiles, quantile=fleet.quantile, limits=dict.fromkeys(profiles.hardware, 0)
    )
    assert (found.status, found.plans, found.admission, found.relaxation) == ("infeasible", {}, None, None)
    assert found.reason.endswith("looser latency objectives would not help")


def test_saved_plans_are_verified_by_their_files(tmp_path: Path) -> None:
    fleet = fleet_of(8)
    pipelines, profiles = arguments_of(fleet)
    found = mp.plan_fleet(pipelines, profiles, quantile=fleet.quantile)
    written = found.save(tmp_path / "plans")
    assert [path.name for path in written] == [f"{name}.json" for name in pipelines]
    for path, member in zip(written, fleet.members, strict=True):
        assert mp.verify(path, member.trace).verified


def test_every_fault_is_named_at_once() -> None:
    fleet = fleet_of(8)
    pipelines, profiles = arguments_of(fleet)
    first, second, *_ = pipelines
    pipeline, trace, slo_s, _ = pipelines[first]
    bad: dict[str, Any] = {
        first: (pipeline, trace, -1, 2),
        second: (pipeline, "trace"),
        "a/b": (pipeline, trace, slo_s),
        "heavy": (pipeline, trace, slo_s, 0),
        "short": (pipeline,),
    }
    with pytest.raises(mp.InputError) as caught:
        mp.plan_fleet(
            bad,
            profiles,
            limits={"a10": 3, "t4": -1},
            budget=0,
            gap=2,
            quantile=0,
            seed=-1,
            method="magic",
            time_limit_s=0,
            checkpoint="no/such/folder/x",
        )
    places = [fault.place for fault in caught.value.faults]
    assert places == [
        *(
            "budget",
            "time_limit_s",
            "quantile",
            "seed",
            "gap",
            "method",
            "checkpoint",
            "limits.a10",
            "limits.t4",
        ),
        *(f"pipelines.{first}: slo_s", f"pipelines.{second}", "pipelines.a/b", "pipelines.heavy.weight"),
        "pipelines.short",
    ]
    assert "did you mean 'a100'" in str(caught.value)
    with pytest.raises(mp.InputError, match="expected a mapping of 1 to"):
        mp.plan_fleet({}, profiles)
    with pytest.raises(mp.InputError, match="checkpoint"):
        mp.plan_fleet(pipelines, profiles, method="joint", checkpoint="x.json")
    with pytest.raises(mp.InputError, match="discipline: "):
        mp.plan_fleet(pipelines, profiles, discipline="lifo")
    runs = mp.RunClass(0.9)
    for given, place in (
        ({"runs": runs}, "runs: goes with fifo queues"),
        ({"runs": "0.9", "discipline": "fifo"}, "runs: expected a RunClass"),
        ({"runs": mp.RunClass(ties="any"), "discipline": "fifo"}, "runs.ties: "),
    ):
        with pytest.raises(mp.InputError, match=place):
            mp.plan_fleet({"first": (pipeline, trace)}, profiles, **given)
    in_windows = {"first": (pipeline.asking({"p99": "1s", "per": "5s"}), trace)}
    with pytest.raises(mp.InputError, match="one quantile over all queries"):
        mp.plan_fleet(in_windows, profiles)


def test_an_interrupt_leaves_the_best_fleet_so_far() -> None:
    fleet = fleet_of(3, pipelines=4, scarcity=0.7)
    pipelines, profiles = arguments_of(fleet)
    optimum = mp.plan_fleet(pipelines, profiles, quantile=fleet.quantile, gap=0.0).microusd_per_hour
    statuses = set()
    for stop_at in itertools.count(1):
        seen = 0

        def interrupt(_: str, stop_at: int = stop_at) -> None:
            nonlocal seen
            seen += 1
            if seen == stop_at:
                raise KeyboardInterrupt

        found = mp.plan_fleet(pipelines, profiles, quantile=fleet.quantile, gap=0.0, progress=interrupt)
        statuses.add(str(found.status))
        if found.lower_bound_microusd_per_hour is not None:
            assert found.lower_bound_microusd_per_hour <= optimum
        if found.plans:
            check_figures(fleet, found)
            assert found.microusd_per_hour >= optimum
        else:
            assert "allow more time" in found.reason
        if seen < stop_at:
            break
    assert statuses >= {"unknown", "optimal"}


def test_no_time_is_no_wrong_answer() -> None:
    fleet = fleet_of(3, pipelines=4, scarcity=0.7)
    pipelines, profiles = arguments_of(fleet)
    found = mp.plan_fleet(pipelines, profiles, quantile=fleet.quantile, time_limit_s=1e-6)
    assert found.status in ("unknown", "feasible")
    assert found.lower_bound_microusd_per_hour > 0
    jointly = mp.plan_fleet(pipelines, profiles, quantile=fleet.quantile, time_limit_s=1e-6, method="joint")
    assert jointly.status == "unknown"


def test_the_same_twice_is_the_same() -> None:
    fleet = fleet_of(3, pipelines=4, scarcity=0.7)
    pipelines, profiles = arguments_of(fleet)
    one, two = (mp.plan_fleet(pipelines, profiles, quantile=fleet.quantile) for _ in range(2))
    assert one == two
    texts = [[json.dumps(plan.to_document()) for plan in found.plans.values()] for found in (one, two)]
    assert texts[0] == texts[1]
    assert one.effort.rounds > 2


def test_a_pipeline_is_not_priced_to_the_end_after_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = fleet_of(3, pipelines=2, scarcity=0.7)
    pipelines, profiles = arguments_of(fleet)
    ticks = itertools.count()
    with monkeypatch.context() as patch:  # a second for every look at the clock
        patch.setattr("time.monotonic", lambda: float(next(ticks)))
        found = mp.plan_fleet(pipelines, profiles, quantile=fleet.quantile, time_limit_s=4.0, n_jobs=1)
    assert (found.status, found.plans, found.effort.rounds) == ("unknown", {}, 0)
    assert "allow more time" in found.reason


def one_stage(slo: str | dict[str, str]) -> tuple[mp.Pipeline, mp.Trace]:
    """One stage that takes 1 ms: two queries at once, and three alone."""
    document = {"name": "x", "slo": slo, "stages": {"a": {"model": "m"}}}
    return mp.Pipeline.from_document(document), mp.Trace.from_seconds([0.0, 0.0, 0.012, 0.024, 0.036])


def one_model(limit: int | None = None) -> mp.Profiles:
    table = LatencyTable("m", "cpu", np.array([1]), np.array([1.0]))
    return mp.Profiles.from_parts([Hardware("cpu", 1.0, limit=limit)], [table])


@pytest.mark.parametrize("method", ["columns", "joint"])
def test_hardware_without_limits_is_planned_for(method: str) -> None:
    found = mp.plan_fleet({"x": one_stage("3ms")}, one_model(), method=method)
    assert (found.status, found.usd_per_hour) == ("optimal", 1.0)


@pytest.mark.parametrize("method", ["columns", "joint"])
def test_windows_of_a_pipeline_count_for_nothing_where_its_objective_is_given(method: str) -> None:
    """A fleet is planned over all queries; within 10 ms, one of two queries would be late."""
    asked = {"x": (*one_stage({"p99": "1500us", "per": "10ms"}), 0.0015)}
    found = mp.plan_fleet(asked, one_model(1), quantile=0.5, method=method, alternatives=False)
    assert (found.status, found.usd_per_hour) == ("optimal", 1.0)
    assert found.plans["x"].lower_bound_usd_per_hour <= 1.0


def test_a_pipeline_of_another_quantile_is_refused() -> None:
    flow, trace = one_stage({"p50": "1500us"})
    with pytest.raises(mp.InputError, match="states P50, and the fleet is planned for P99"):
        mp.plan_fleet({"x": (flow, trace)}, one_model())
    for asked in ({"x": (flow, trace, 0.0015)}, {"x": (flow, trace)}):
        found = mp.plan_fleet(asked, one_model(), quantile=0.5)
        assert found.plans["x"].objective.text == "P50 ≤ 1.5 ms"


@pytest.mark.parametrize("n_jobs", [0, 1.5, "all"])
def test_workers_are_counted(n_jobs: Any) -> None:
    with pytest.raises(mp.InputError, match="n_jobs: expected workers, at most 10,000"):
        mp.plan_fleet({"x": one_stage("3ms")}, one_model(), n_jobs=n_jobs)


def test_a_budget_that_the_gap_leaves_open_asks_for_a_smaller_gap() -> None:
    pipelines, profiles = arguments_of(fleet_of(1, pipelines=3, scarcity=0.7))
    settings = {"quantile": 0.9, "method": "columns", "n_jobs": 1}
    wide = mp.plan_fleet(pipelines, profiles, gap=0.3, **settings)
    assert wide.lower_bound_usd_per_hour is not None
    assert wide.usd_per_hour is not None
    budget = (wide.lower_bound_usd_per_hour + wide.usd_per_hour) / 2
    made = mp.plan_fleet(pipelines, profiles, gap=0.3, budget=budget, **settings)
    assert made.status == "unknown"
    assert (made.reason or "").endswith(
        f"{made.lower_bound_usd_per_hour:.4f} $/h only; ask for a smaller gap"
    )
    assert mp.plan_fleet(pipelines, profiles, gap=0.0, budget=budget, **settings).status != "unknown"


def test_what_is_no_profiles_and_no_mapping_of_limits_is_told() -> None:
    pipelines, _ = arguments_of(fleet_of(1))
    told = r"gap: expected a share(.|\n)*profiles: expected a Profiles(.|\n)*limits: expected a mapping"
    with pytest.raises(mp.InputError, match=told):
        mp.plan_fleet(pipelines, "profiles", gap=2, limits=[4])  # type: ignore[arg-type]
