"""Sensitivities equal planning every varied problem by itself, and take far fewer plans."""

from __future__ import annotations

from dataclasses import replace

import pytest

import mipplan as mp
from campaigns import campaign_size
from mipplan.core import SearchLimits
from mipplan.profiles import Profiles
from mipplan.questions import Problem
from mipplan.questions.sensitivities import sensitivity_of
from planning_instances import PlanningInstance, planning_instance
from small_problems import arriving_ms, pipeline_of, profiles_of
from variant_instances import variant_instance


def cost(instance: PlanningInstance, profiles: Profiles) -> int | None:
    """Least cost with other profiles, planned from nothing."""
    return replace(instance, profiles=profiles).plan().microusd_per_hour


def varied(profiles: Profiles, key: tuple[str, str], row: int, factor: float) -> Profiles:
    table = profiles.tables[key]
    latency_ms = table.latency_ms.copy()
    latency_ms[row] *= factor
    return Profiles(profiles.hardware, {**profiles.tables, key: replace(table, latency_ms=latency_ms)})


def test_every_measurement_changes_the_cost_by_what_is_said() -> None:
    checked = 0
    for number in range(75_000, 75_000 + campaign_size(8, 200)):
        instance = planning_instance(number)
        plan = instance.plan()
        if not plan.choices:
            continue
        found = sensitivity_of(Problem(plan, [instance.trace]), 0.25, SearchLimits())
        assert found.complete
        told = {(one.model, one.hardware, one.batch): one for one in found.measurements}
        base = plan.microusd_per_hour or 0
        for key, table in list(plan.profiles.tables.items())[:: 1 if checked < 3 else 4]:
            for row, batch in enumerate(table.batch.tolist()):
                slower = cost(instance, varied(plan.profiles, key, row, 1.25))
                faster = cost(instance, varied(plan.profiles, key, row, 0.75))
                one = told.get((*key, batch))
                assert (None if slower is None else slower - base) == (
                    0 if one is None else one.microusd_slower
                )
                assert (faster or 0) - base == (0 if one is None else one.microusd_faster)
        weights = [one.weight for one in found.measurements]
        assert weights == sorted(weights, reverse=True)
        checked += 1
        if checked == campaign_size(3, 60):
            break
    assert checked


def test_prices_and_speeds_at_which_something_changes() -> None:
    instance = next(i for i in map(planning_instance, range(76_000, 76_100)) if i.plan().choices)
    plan = instance.plan()
    base = plan.microusd_per_hour or 0
    found = mp.sensitivity(instance.pipeline, instance.profiles, instance.trace, **instance.arguments)
    for one in found.hardware:
        device = instance.profiles.hardware[one.name]
        for price, more in ((one.chosen_below_usd, True), (one.kept_up_to_usd, False)):
            if price is None:
                continue
            whole = round(1e6 * price)
            beyond = whole - 1 if more else whole + 1
            costs = [
                cost(instance, instance.profiles.with_hardware(replace(device, usd_per_hour=p / 1e6)))
                for p in (whole, beyond)
            ]
            kept = [base + one.devices * (p - device.microusd_per_hour) for p in (whole, beyond)]
            assert costs[0] == kept[0]
            assert (costs[1] or 0) < kept[1]
    for model in found.models:
        if model.faster_by is None:
            continue
        for percent in (round(100 * model.faster_by), round(100 * model.faster_by) - 1):
            tables = {
                key: table.slower(1 - percent / 100) if key[0] == model.model else table
                for key, table in plan.profiles.tables.items()
            }
            saves = (cost(instance, Profiles(plan.profiles.hardware, tables)) or 0) < base
            assert saves == (percent == round(100 * model.faster_by))
    assert str(found).startswith("What the cost of")
    assert len(found.to_pandas()) == len(found.measurements)
    assert "matter" in repr(found)


def test_a_share_is_between_nothing_and_all() -> None:
    instance = planning_instance(76_000)
    with pytest.raises(mp.InputError, match="share: expected a share between 0 and 1"):
        mp.sensitivity(instance.pipeline, instance.profiles, instance.trace, share=2.0)
    with pytest.raises(mp.InputError, match="there is no least cost to look for"):
        mp.sensitivity(instance.pipeline, instance.profiles, instance.trace, budget_usd_per_hour=1.0)
    with pytest.raises(mp.InputError, match="there is no least cost to look for"):
        mp.frontier(instance.pipeline, instance.profiles, instance.trace, budget_usd_per_hour=1.0)


def test_a_variant_that_is_not_chosen_may_be_the_one_that_matters() -> None:
    """12 ms are kept by two replicas of m; half of the 14 ms of k, by one."""
    profiles = profiles_of({"cpu": 0.1}, {("m", "cpu"): {1: 12}, ("k", "cpu"): {1: 14}})
    pipeline = pipeline_of({"a": {"variants": ["m", "k"]}}, slo="16ms")
    found = mp.sensitivity(pipeline, profiles, arriving_ms(range(0, 320, 8)), quantile=1.0, share=0.5)
    assert (found.plan.choices["a"].variant, found.plan.usd_per_hour, found.measured) == ("m", 0.2, 2)
    assert {one.model: one.usd_faster for one in found.measurements} == {"m": -0.1, "k": -0.1}
    assert [(one.model, one.stages, one.usd_per_hour) for one in found.models] == [
        ("m", ("a",), 0.1),
        ("k", ("a",), 0.1),
    ]


def test_every_measurement_of_every_variant_changes_the_cost_by_what_is_said() -> None:
    """Held to planning anew, with a least accuracy and without; where variants make other tokens, of those that run."""
    seen = {"floor": 0, "other": 0, "several": 0}
    for number in range(77_055, 77_055 + campaign_size(7, 120)):
        instance = variant_instance(number)
        floor = (None, 0.5)[number % 2]
        plan = instance.plan(accuracy=floor)
        if plan.status is not mp.PlanStatus.OPTIMAL:
            continue
        problem = Problem(plan, [instance.trace])
        found = sensitivity_of(problem, 0.6, SearchLimits())
        models = {stage.models for stage in plan.pipeline.stages.values()}
        if problem.is_several:
            runs = {stage.model for stage in plan.pipeline.stages.values()}
            assert {one.model for one in (*found.models, *found.measurements)} <= runs
            seen["several"] += 1
            continue
        told = {(one.model, one.hardware, one.batch): one for one in found.measurements}
        tables = {
            key: table for key, table in plan.profiles.tables.items() if any(key[0] in m for m in models)
        }
        assert found.measured == sum(table.batch.size for table in tables.values())
        running = {stage.model for stage in plan.pipeline.stages.values()}
        for key, table in tables.items():
            for row, batch in enumerate(table.batch.tolist()):
                for factor, name in ((1.6, "microusd_slower"), (0.4, "microusd_faster")):
                    other = replace(instance, profiles=varied(plan.profiles, key, row, factor))
                    again = other.plan(accuracy=floor).microusd_per_hour
                    change = None if again is None else again - (plan.microusd_per_hour or 0)
                    assert change == getattr(told.get((*key, batch)), name, 0)
                    seen["other"] += bool(change) and key[0] not in running
        seen["floor"] += floor is not None
    assert min(seen.values()) > 0, seen
