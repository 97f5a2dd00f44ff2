"""Energy by hand: what devices draw, what runs take by the hour, faults, and what is told of it all."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mipplan as mp
from mipplan.core import InputError
from mipplan.profiles import Hardware, LatencyTable, Use, power_draw, use_column
from planning_instances import hand_made, powered_profiles
from variant_instances import variant_instance

TABLE = LatencyTable("m", "gpu", np.array([1, 3]), np.array([10.0, 20.0]))
GPU = Hardware("gpu", 1.0, idle_w=10.0, tdp_w=70.0)


def powered() -> tuple[mp.Pipeline, mp.Profiles, mp.Trace]:
    """The example that can be followed by hand, its devices of 20 W and 100 W."""
    instance = hand_made()
    return instance.pipeline, powered_profiles(instance), instance.trace


@given(*(st.integers(0, 50) for _ in range(4)), st.none() | st.integers(0, 50))
def test_as_many_replicas_fit_as_take_no_more(
    fixed: int, each: int, room: int, more: int, peak: int | None
) -> None:
    use, counts = Use(fixed, each, peak), np.arange(1, 200)
    which = counts % 2
    of = [Use(more), use]
    assert use_column(of, which, counts).tolist() == [of[n % 2].of(n) for n in counts.tolist()]
    fitting = [n for n in counts.tolist() if use.of(n) <= room]
    assert max(0, min(199, use.most(room))) == max(fitting, default=0)


def test_draws_are_measured_or_assumed() -> None:
    assert power_draw(TABLE, GPU, 3).busy_mw.tolist() == [70_000] * 3
    assert power_draw(TABLE, replace(GPU, idle_w=None), 2).idle_mw == 35_000
    watts = replace(TABLE, power_w=np.array([20.0, 60.0]))
    assert power_draw(watts, GPU, 3).busy_mw.tolist() == [20_000, 40_000, 60_000]
    # 0.5 J in 10 ms, 0.7 J in 15 ms, 0.9 J in 20 ms; what is measured per batch goes first.
    joules = replace(watts, energy_j=np.array([0.5, 0.9]))
    assert power_draw(joules, GPU, 3).busy_mw.tolist() == [50_000, round(0.7e6 / 15), 45_000]


def test_power_of_a_plan_by_hand() -> None:
    pipeline, profiles, trace = powered()
    choices = {"detect": ("t4", 1, 2), "identify": ("cpu", 2, 1)}
    told = mp.EnergyTerms(gco2_per_kwh=360.0, usd_per_kwh=0.36)
    plan = mp.Plan.from_choices(pipeline, profiles, choices, energy=told)
    energy = mp.replay(plan, trace).energy
    assert energy is not None
    seen = mp.replay(plan, trace).stages
    busy_s = {stage: seen[stage].total_service_ns / 1e9 for stage in seen}
    span_s = energy.span_ns / 1e9
    assert energy.stages["detect"].busy_j == pytest.approx(100 * busy_s["detect"])
    assert energy.stages["detect"].idle_j == pytest.approx(50 * (2 * span_s - busy_s["detect"]))
    assert energy.stages["identify"].idle_j == pytest.approx(10 * (span_s - busy_s["identify"]))
    assert energy.gco2 == pytest.approx(energy.energy_j / 3.6e6 * 360)
    assert energy.usd == pytest.approx(energy.energy_j / 3.6e6 * 0.36)
    assert energy.mean_power_w == pytest.approx(energy.energy_j / span_s)
    assert energy.j_per_thousand == pytest.approx(1000 * energy.energy_j / 50)


def test_no_price_is_a_price_of_nothing() -> None:
    """A plan file holds a number: None was written, and could not be read."""
    terms: Any = {"usd_per_kwh": None, "max_power_w": 500.0}
    assert mp.EnergyTerms(**terms) == mp.EnergyTerms(max_power_w=500.0)


def test_carbon_goes_by_the_hour() -> None:
    # One query of 10 ms at 0 s, one an hour less 4 ms later: 4 ms of its batch are in the first hour, 6 in the second.
    pipeline = mp.Pipeline.from_document({"slo": "1s", "stages": {"only": {"model": "m"}}})
    trace = mp.Trace.from_ns(np.array([0, 3600 * 10**9 - 4_000_000]))
    terms = mp.EnergyTerms(gco2_per_kwh=(100.0, 0.0), usd_per_tonne=50.0, usd_per_kwh=(0.0, 2.0))
    profiles = mp.Profiles.from_parts([GPU], [TABLE])
    plan = mp.Plan.from_choices(pipeline, profiles, {"only": ("gpu", 1, 1)}, energy=terms)
    energy = mp.replay(plan, trace).energy
    assert energy is not None
    first_j, second_j = 10 * 3600 + 60 * 0.014, 70 * 0.006
    assert energy.energy_j == pytest.approx(first_j + second_j, abs=1e-9)
    assert energy.gco2 == pytest.approx(first_j / 3.6e6 * 100, abs=1e-12)
    assert energy.usd == pytest.approx(first_j / 3.6e6 * 100 * 50 / 1e6 + second_j / 3.6e6 * 2, abs=1e-15)
    # All hours count alike in what idle devices cost; the dearest counts for batches.
    mean, dearest = terms.prices
    assert (float(mean), float(dearest)) == (1 + 50 * 50 / 1e6, 2 + 100 * 50 / 1e6)


def test_runs_whose_energy_is_not_known_are_told_nevertheless() -> None:
    pipeline, profiles, trace = powered()
    hourly = mp.EnergyTerms(usd_per_kwh=(0.1, 0.2))
    choices = {"detect": ("t4", 1, 2), "identify": ("cpu", 2, 1)}
    plan = mp.Plan.from_choices(pipeline, profiles, choices, energy=hourly)
    late = mp.ReplicaSchedule(trace.arrival_ns[5:6], np.array([2, 3]))
    assert "not known: what goes by the hour" in str(mp.replay(plan, trace, schedule={"detect": late}))


def test_what_is_not_known_is_told_in_one_error() -> None:
    pipeline, profiles, trace = powered()
    bare = profiles.without_power()
    with pytest.raises(InputError) as caught:
        mp.plan(pipeline, bare, trace, energy=mp.EnergyTerms())
    assert len(caught.value.faults) == 8  # Idle and busy, of two models on two devices.
    assert "idle_w or tdp_w" in str(caught.value)
    low = replace(TABLE, power_w=np.array([5.0, 60.0]))
    with pytest.raises(InputError, match="a batch of 1 takes 5 W on average, less than the 10 W"):
        power_draw(low, GPU, 1)


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("max_power_w", -1.0, "expected watts of at least 0"),
        ("max_power_w", math.nan, "expected watts of at least 0"),
        ("usd_per_kwh", -0.1, "expected a number of at least 0"),
        ("usd_per_kwh", (), "one for each hour"),
        ("gco2_per_kwh", [100.0, "x"], "one for each hour"),
        ("usd_per_kwh", (0.1, 10_001.0), "a kWh and its CO₂ may cost 10,000"),
        ("usd_per_tonne", 80.0, "needs gco2_per_kwh"),
        ("usd_per_tonne", -1.0, "expected dollars"),
    ],
)
def test_terms_that_cannot_be(field: str, value: Any, said: str) -> None:
    with pytest.raises(InputError, match=f"energy.{field}: .*{said}"):
        mp.EnergyTerms(**{field: value})


@pytest.mark.parametrize("how", [{"guarantee": "replay"}, {"certificate": "sharp"}, {"dispatch": "timed"}])
def test_caps_do_not_go_with_plans_found_otherwise(how: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="energy"):
        mp.plan(*powered(), energy=mp.EnergyTerms(max_power_w=500.0), **how)
    capped = mp.plan(*powered(), energy=mp.EnergyTerms(max_power_w=500.0))
    with pytest.raises(InputError, match="refining does not keep"):
        mp.refine(capped, powered()[2])
    with pytest.raises(InputError, match=r"expected mipplan\.EnergyTerms"):
        mp.plan(*powered(), energy=300)  # type: ignore[arg-type]


def test_an_impossible_cap_is_named() -> None:
    pipeline, profiles, trace = powered()
    found = mp.plan(pipeline, profiles, trace, energy=mp.EnergyTerms(max_power_w=1.0))
    assert found.status == "infeasible"
    assert (found.reason or "").startswith("the stages may draw ")
    assert (
        "W together, whatever they run on: more than the 1 W asked for. What binds: the cap on power"
        in found.reason
    )
    # No stage is to blame that could be served.
    assert "no hardware can carry" not in found.reason
    # Where one cannot be served, that comes first.
    swamped = mp.Trace.from_ns(trace.arrival_ns // 1_000)
    none = replace(profiles, hardware={n: replace(h, limit=1) for n, h in profiles.hardware.items()})
    both = mp.plan(pipeline, none, swamped, energy=mp.EnergyTerms(max_power_w=1.0))
    assert both.status == "infeasible"
    assert (both.reason or "").startswith("no hardware can carry stage")
    assert "the stages may draw" not in both.reason


def test_no_run_of_a_trace_planned_for_takes_less_than_the_lower_bound() -> None:
    pipeline, profiles, trace = powered()
    calm = mp.Trace.from_ns(trace.arrival_ns * 5)
    asked: list[tuple[Any, dict[str, Any]]] = [
        (trace, {"headroom": 1.5}),
        ([trace, calm], {}),
        (trace, {"guarantee": "envelope"}),
    ]
    for traces, more in asked:
        plan = mp.plan(pipeline, profiles, traces, energy=mp.EnergyTerms(), slo_s=5.0, **more)
        assert mp.verify(plan, traces).problems == ()
        for one in traces if isinstance(traces, list) else [traces]:
            energy = mp.replay(plan, one).energy
            assert energy is not None
            assert energy.pj >= (plan.figures.least_power_mw or 0) * one.span_ns
            assert energy.mean_power_w <= (plan.power_w or 0.0)


def test_fewer_replicas_draw_less_even_where_none_draw_anything_idle() -> None:
    # One by one the tokens take 300 W on devices enough; two devices draw 200 W at most.
    table = LatencyTable("m", "gpu", np.array([1, 4]), np.array([10.0, 12.0]))
    profiles = mp.Profiles.from_parts([Hardware("gpu", 1.0, idle_w=0.0, tdp_w=100.0)], [table])
    stage = {"model": "m", "batch": [4]}
    pipeline = mp.Pipeline.from_document(
        {"slo": "1s", "stages": {"a": stage, "b": stage}, "edges": [{"from": "a", "to": "b"}]}
    )
    trace = mp.Trace.from_ns(np.sort(np.random.default_rng(3).integers(0, 500_000_000, 150)))
    fewest = mp.Plan.from_choices(pipeline, profiles, {"a": ("gpu", 4, 2), "b": ("gpu", 4, 2)})
    slo_s = mp.certify(fewest, trace).bound_ns / 1e9
    plan = mp.plan(pipeline, profiles, trace, slo_s=slo_s, energy=mp.EnergyTerms(max_power_w=400.0))
    assert (plan.status, plan.choices, plan.power_w) == ("optimal", fewest.choices, 400.0)


def test_files_that_claim_less_power_do_not_verify() -> None:
    pipeline, profiles, trace = powered()
    plan = mp.plan(pipeline, profiles, trace, energy=mp.EnergyTerms(max_power_w=500.0, usd_per_kwh=1.0))
    assert mp.verify(plan, trace).verified
    lying = replace(plan, figures=replace(plan.figures, power_mw=1))
    assert any("mean power" in problem for problem in mp.verify(lying, trace).problems)
    cheap = replace(plan, figures=replace(plan.figures, microusd_per_hour=1, lower_bound_microusd_per_hour=1))
    assert any("states a cost" in problem for problem in mp.verify(cheap, trace).problems)
    terms = replace(plan.energy or mp.EnergyTerms(), max_power_w=1.0)
    tight = replace(plan, objective=replace(plan.objective, energy=terms))
    assert any("above the 1 W asked for" in problem for problem in mp.verify(tight, trace).problems)


def test_plans_without_energy_hold_nothing_of_it() -> None:
    pipeline, profiles, trace = powered()
    plain = mp.plan(pipeline, profiles, trace)
    text = plain.to_json()
    assert not any(word in text for word in ("energy", "power", "tdp_w"))
    assert text == mp.plan(pipeline, profiles.without_power(), trace).to_json()
    assert mp.replay(plain, trace).energy is None


@pytest.mark.parametrize("number", [1, 3])
def test_fronts_of_all_three_hold_every_point_that_no_plan_beats(number: int) -> None:
    """Of cost, accuracy and power: at the accuracy of any point and the power of any other, nothing cheaper is left."""
    instance = variant_instance(number)
    devices = [replace(d, tdp_w=30.0 + 90 * k) for k, d in enumerate(instance.profiles.hardware.values())]
    profiles = mp.Profiles.from_parts(devices, instance.profiles.tables.values())
    asked = instance.pipeline, profiles, instance.trace
    front = mp.pareto(*asked, by="both", time_limit_s=None, **instance.asked)
    assert front.complete
    points = [(p.microusd_per_hour or 0, p.accuracy or 0.0, p.figures.power_mw or 0) for p in front.plans]
    assert points
    for a, b in itertools.permutations(points, 2):
        assert not (a[0] <= b[0] and a[1] >= b[1] and a[2] <= b[2]), "one beats the other"
    for (_, accuracy, _), (_, _, mw) in itertools.product(points, points):
        for cap in (mw, mw - 1):
            terms = mp.EnergyTerms(max_power_w=cap / 1000)
            plan = mp.plan(*asked, accuracy=accuracy, energy=terms, **instance.asked)
            known = [c for c, a, p in points if a >= accuracy - 1e-7 and p <= cap]
            assert plan.microusd_per_hour == min(known, default=None)


def test_draws_do_not_depend_on_the_column_that_plans_go_by() -> None:
    """The energy of a batch was measured over what it mostly takes, not over its P99."""
    measured = replace(TABLE, latency_p99_ms=np.array([15.0, 30.0]), energy_j=np.array([0.5, 1.5]))
    draws = [
        power_draw(replace(measured, latency=latency), GPU, 3).busy_mw.tolist()
        for latency in ("table", "p99")
    ]
    assert draws[0] == draws[1]
    assert draws[0][0] == 50_000
    typical = replace(measured, latency_p50_ms=np.array([8.0, 16.0]))
    assert power_draw(typical, GPU, 3).busy_mw[0] == 62_500


def test_questions_about_slower_service_are_answered_where_a_batch_draws_little_more_than_nothing() -> None:
    pipeline = mp.Pipeline.from_document({"slo": "1s", "stages": {"one": {"model": "m"}}})
    low = replace(TABLE, energy_j=np.array([0.11, 0.22]))
    profiles, trace = mp.Profiles.from_parts([GPU], [low]), mp.Trace.poisson(20, 5, seed=1)
    plan = mp.plan(pipeline, profiles, trace, energy=mp.EnergyTerms())
    assert plan.power_w is not None
    assert mp.fragility(plan, trace).axes
    assert mp.whatif(plan, trace, {"one.latency": "+50%"}).cases
    assert mp.sensitivity(pipeline, profiles, trace, share=0.5, energy=mp.EnergyTerms()).models
