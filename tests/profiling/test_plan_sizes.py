"""Measuring for a plan: once the rule has stopped, no further measurement changes the plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import mipplan as mp
import oracle_planner
import oracle_sizes
from campaigns import campaign_size
from mipplan.core import InputError
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.profiling.sizes.plans import PlanSizes
from mipplan.profiling.sizes.question import PlanQuestion, Row
from mipplan.result import Guarantee
from planning_instances import planning_instance
from profiling.fake_latencies import follow

MINE = Hardware("mine", 0.5)


def pipeline(slo: str = "100ms", **stage: Any) -> mp.Pipeline:
    return mp.Pipeline.from_document({"name": "one", "slo": slo, "stages": {"a": {"model": "m", **stage}}})


def steady(rate_rps: float) -> mp.Trace:
    return mp.Trace.gamma(rate_rps=rate_rps, cv=1.0, duration_s=5, seed=1)


def posed_for(*arguments: Any) -> PlanQuestion:
    """With time for every plan however busy the machine is, so that each is proven the cheapest."""
    return replace(PlanQuestion.of(*arguments), time_limit_s=3_600.0)


def question(slo: str = "100ms", rate_rps: float = 400, max_batch: int = 64, **stage: Any) -> PlanQuestion:
    return posed_for(pipeline(slo, **stage), steady(rate_rps), None, "m", MINE, max_batch)


def random_latencies(random: np.random.Generator, most: int) -> list[int]:
    """A latency for each size up to the largest, ns: it grows, now steeply and now not at all."""
    steps = random.choice([0.0, 0.0, 0.3, 1.0, 4.0], most) * random.uniform(0.1, 3)
    return [round(1e6 * one) for one in random.uniform(0.5, 6) + np.cumsum(steps)]


# --- the theorem ----------------------------------------------------------------------------------------------------


def with_faster(profiles: Profiles, random: np.random.Generator) -> Profiles:
    """The same tables, some latencies shorter by some factor."""
    tables = [
        replace(
            table,
            latency_ms=np.maximum(
                table.latency_ms * np.where(random.random(table.batch.size) < 0.5, 1, random.random()), 1e-6
            ),
        )
        for table in profiles.tables.values()
    ]
    return Profiles.from_parts(profiles.hardware.values(), tables)


def test_no_plan_gets_dearer_where_batches_get_faster() -> None:
    """What the proof rests on, of the planner as it is, rounding included."""
    compared = 0
    for number in range(campaign_size(quick=20, deep=600)):
        instance = planning_instance(number)
        random = np.random.default_rng(number)
        faster = replace(instance, profiles=with_faster(instance.profiles, random)).plan(time_limit_s=None)
        before = instance.plan(time_limit_s=None)
        if before.microusd_per_hour is None:
            continue
        compared += 1
        assert faster.microusd_per_hour is not None
        assert faster.microusd_per_hour <= before.microusd_per_hour
    assert compared > 10


def small_question(number: int, most: int) -> PlanQuestion:
    """One or two stages, some with other hardware for the model, and so much traffic that batches matter."""
    random = np.random.default_rng([7, number])
    arrival_s = np.cumsum(random.exponential(1 / random.uniform(200, 3_000), 30))
    stages = {"a": {"model": "m"}, **({"b": {"model": "n"}} if number % 3 == 0 else {})}
    document = {"slo": f"{random.integers(10, 150)}ms", "stages": stages}
    if number % 3 == 0:
        document["edges"] = [{"from": "a", "to": "b"}]
    other = Hardware("other", float(random.choice([0.2, 0.5, 1.5])))
    tables = [LatencyTable("n", "other", [1, 4], [2.0, 3.0])]  # type: ignore[arg-type]
    if number % 2:
        tables.append(LatencyTable("m", "other", [1, 2], [6.0, 9.0]))  # type: ignore[arg-type]
    known = Profiles.from_parts([other], tables)
    limited = replace(MINE, limit=int(random.integers(1, 5)) if number % 5 == 0 else None)
    trace = mp.Trace.from_seconds(arrival_s)
    return posed_for(mp.Pipeline.from_document(document), trace, known, "m", limited, most)


def cheapest(posed: PlanQuestion, latency_ns: dict[int, int]) -> int | None:
    """Cost of the cheapest certified plan with such a table, by brute force."""
    plan, trace = posed.asked, posed.asked.provenance.sample
    assert trace is not None
    table = posed.table({batch: Row(value / 1e6) for batch, value in latency_ns.items()})
    profiles = plan.profiles.with_hardware(posed.hardware, [table])
    answer = oracle_planner.cheapest_certified(plan.pipeline, profiles, trace, plan.slo_ns, plan.quantile)
    return None if answer is None else answer.cost


def test_no_completion_of_the_table_has_another_optimum_once_the_rule_has_stopped() -> None:
    """Against brute force over what the sizes left out could take, each table planned by the slow oracle."""
    most, tables, fewer = 6, 0, 0
    steps = campaign_size(quick=2, deep=3)
    for number in range(campaign_size(quick=12, deep=400)):
        posed = small_question(number, most)
        random = np.random.default_rng([8, number])
        truth = random_latencies(random, most)
        fails_at = int(random.integers(3, 2 * most))
        found, _, _, failed = follow(
            PlanSizes(posed, "p99"),
            lambda batch, truth=truth: truth[batch - 1] / 1e6,
            fails=lambda batch, fails_at=fails_at: batch >= fails_at,
        )
        if not found:
            continue
        measured = {batch: truth[batch - 1] for batch in found}
        costs = {
            cheapest(posed, table)
            for table in oracle_sizes.completions(measured, range(1, most + 1), failed, steps)
        }
        assert len(costs) == 1, f"instance {number}: {measured} leaves {costs}"
        tables += 1
        fewer += 2 < len(found) < most
    assert tables > 10
    assert fewer > 2  # neither too few sizes to show anything, nor all of them


def test_it_ends_with_the_plan_of_all_sizes() -> None:
    """Against measuring everything: the same cost, by fewer sizes."""
    fewer = 0
    for seed in range(campaign_size(quick=6, deep=200)):
        random = np.random.default_rng(seed)
        truth = random_latencies(random, 32)
        posed = question(f"{random.integers(20, 200)}ms", float(random.uniform(50, 2_000)), 32)
        found, order, enough, _ = follow(
            PlanSizes(posed, "p99"), lambda batch, truth=truth: truth[batch - 1] / 1e6
        )
        everything = posed.plan({batch: Row(truth[batch - 1] / 1e6) for batch in range(1, 33)})
        ours = posed.plan({batch: Row(truth[batch - 1] / 1e6) for batch in found})
        assert ours.microusd_per_hour == everything.microusd_per_hour
        assert "no further batch size" in enough.why or "can make a plan" in enough.why
        fewer += len(order) <= 16
    assert fewer >= 5


# --- what is measured, and what is said ------------------------------------------------------------------------------


def test_a_size_that_no_plan_needs_is_never_measured() -> None:
    """At 20 queries/s one device is enough whatever the batch, so nothing but batch 1 is measured."""
    found, order, enough, _ = follow(PlanSizes(question(rate_rps=20), "p99"), lambda batch: 5.0 + batch)
    assert list(found) == [1]
    assert order[0].why.startswith("a batch from 1 to 64 could give a plan for 0.5 $/h (now none so far)")
    assert enough.why.startswith(
        "no further batch size can make the plan cheaper than 0.5 $/h (a: 1 × mine, batch 1)"
    )
    assert "if each takes no less time than the faster of its measured neighbours" in enough.why
    assert enough.why.endswith("nor do the intervals of the latencies leave its cost open")


def test_doubling_first_and_then_the_gap_that_the_cheaper_plan_would_use() -> None:
    found, order, _, _ = follow(PlanSizes(question(rate_rps=1500), "p99"), lambda batch: 4 + 0.5 * batch)
    sizes = [choice.batch for choice in order]
    assert sizes[:4] == [1, 2, 4, 8]
    for place, size in enumerate(sizes):
        assert size <= 2 * max(sizes[:place], default=1)  # no leap into what may not fit
    assert len(found) < 20


def test_sizes_that_fail_bound_the_search() -> None:
    found, _, enough, failed = follow(
        PlanSizes(question("2s", rate_rps=1500), "p99"), lambda _batch: 40.0, fails=lambda batch: batch >= 23
    )
    assert 16 < max(found) < 23
    assert failed == {24, 32}
    assert "batches larger than 24, which failed, would fail too" in enough.why


def test_a_model_for_one_batch_size_is_found() -> None:
    found, order, enough, failed = follow(
        PlanSizes(question(rate_rps=20), "p99"), lambda _batch: 5.0, fails=lambda batch: batch != 8
    )
    assert list(found) == [8]
    assert failed >= {1, 2, 4}
    assert len(order) < 8
    nothing, _, enough, _ = follow(
        PlanSizes(question(), "p99"), lambda _batch: 5.0, fails=lambda _batch: True
    )
    assert (nothing, enough.why) == ({}, "")


def test_hopeless_objectives_are_told_after_one_size() -> None:
    found, _, enough, _ = follow(PlanSizes(question("10ms"), "p99"), lambda _batch: 20.0)
    assert list(found) == [1]
    assert enough.why == (
        "no batch size of m on mine can make a plan: even if those not measured took as little as possible, none would "
        "keep the objective"
    )


def test_nothing_is_measured_where_other_hardware_is_cheaper_anyway() -> None:
    other = LatencyTable("m", "cheap", [1], [1.0])  # type: ignore[arg-type]
    known = Profiles.from_parts([Hardware("cheap", 0.1)], [other])
    posed = posed_for(pipeline(), steady(10), known, "m", MINE, 64)
    found, order, enough, _ = follow(PlanSizes(posed, "p99"), lambda _batch: 5.0)
    assert (found, order) == ({}, [])
    assert enough.why.endswith("even if m took no time on mine")


def test_intervals_that_leave_the_plan_open_are_told() -> None:
    """A batch of one takes 81 ms of the 100 ms allowed, and 105 ms at the upper end of its interval."""
    posed = question("100ms", rate_rps=5)
    _, _, enough, _ = follow(PlanSizes(posed, "p99"), lambda batch: 80.0 + batch, noise=0.3)
    assert "within the intervals of the latencies it costs from 1 $/h to no plan at all" in enough.why
    assert enough.why.endswith("measure them longer or more precisely")


def test_stages_say_which_sizes_they_may_use() -> None:
    posed = question(rate_rps=1500, max_batch=64, batch=[4, 6, 16])
    assert posed.candidates == {"a": (4, 6, 16)}
    found, *_ = follow(PlanSizes(posed, "p99"), lambda batch: 4 + 0.5 * batch)
    assert found.keys() <= {4, 6, 16}
    posed = posed_for(pipeline(batch={"min": 2, "max": 5}), steady(10), None, "m", MINE, None)
    assert posed.candidates == {"a": (2, 3, 4, 5)}


def test_a_size_measured_before_counts_and_the_smallest_is_not_forgotten() -> None:
    posed = question(rate_rps=20)
    whole, *_ = follow(PlanSizes(posed, "p99"), lambda batch: 5.0 + batch)
    rest, order, *_ = follow(PlanSizes(posed, "p99"), lambda batch: 5.0 + batch, known={8: whole[1]})
    assert order[0].batch == 1
    assert order[0].why == "the smallest that a may use"
    assert 8 in rest


def test_memory_of_a_size_not_measured_is_taken_as_that_of_the_smaller_neighbour() -> None:
    small = Hardware("mine", 0.5, memory_gib=4)
    posed = posed_for(pipeline("2s"), steady(1500), None, "m", small, 64)
    found, *_ = follow(PlanSizes(posed, "p99"), lambda _batch: 40.0, memory_gib=lambda batch: batch / 8)
    plan = posed.plan({batch: Row(40.0, batch / 8) for batch in found})
    everything = posed.plan({batch: Row(40.0, batch / 8) for batch in range(1, 65)})
    assert plan.microusd_per_hour == everything.microusd_per_hour
    assert plan.choices["a"].batch <= 32


# --- what cannot be asked --------------------------------------------------------------------------------------------


def _made(**changed: Any) -> mp.Plan:
    plan = mp.plan(
        pipeline(), Profiles.from_parts([MINE], [LatencyTable("m", "mine", [1], [1.0])]), steady(10)
    )  # type: ignore[arg-type]
    return replace(plan, objective=replace(plan.objective, **changed))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"about": "video.yaml"}, "for_: expected a pipeline or a plan, found 'video.yaml'"),
    ({"trace": None}, "trace: the plan is made on a trace: which one?"),
    ({"model": "n"}, "name: no stage of one uses the model 'n' (used are m): say its name"),
    ({"about": pipeline(hardware=["t4"])}, "hardware: a of one may not use 'mine'"),
    ({"max_batch": None}, "max_batch: say up to which batch size (--max-batch 64): a of one may use any"),
    ({"about": pipeline(batch=[16]), "max_batch": 8}, "max_batch: a of one may only use larger batches"),
    ({"about": mp.Pipeline.from_document({"stages": {"a": {"model": "m"}}})}, "slo"),
    (
        {
            "about": mp.Pipeline.from_document(
                {"slo": "1s", "stages": {"a": {"model": "m"}, "b": {"model": "other"}}}
            )
        },
        "the profiles have no model 'other'",
    ),
    (
        {"about": _made(guarantee=Guarantee.REPLAY)},
        "for_: the plan has guarantee replay: a faster batch might",
    ),
    ({"about": _made(budget_microusd_per_hour=5)}, "for_: the plan has a budget"),
    (
        {"about": _made(), "profiles": Profiles({}, {})},
        "profiles: a plan brings its own profiles: leave them out",
    ),
    ({"about": pipeline(dispatch="paced")}, "for_: the plan has dispatch that is not eager"),
    (
        {
            "about": mp.Pipeline.from_document(
                {
                    "slo": "1s",
                    "stages": {"a": {"variants": {"m": 0.9, "n": 0.8}}, "b": {"model": "m"}},
                    "edges": [{"from": "a", "to": "b", "fanout": {"m": 3, "n": 1}}],
                }
            )
        },
        "for_: the plan has tokens that depend on the variant",
    ),
]


@pytest.mark.parametrize(("changed", "message"), REFUSED)
def test_what_the_theorem_does_not_cover_is_refused(changed: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {
        "about": pipeline(),
        "trace": steady(10),
        "profiles": None,
        "model": "m",
        "hardware": MINE,
        "max_batch": 64,
    }
    with pytest.raises(InputError) as error:
        PlanQuestion.of(**(given | changed))
    assert message in str(error.value)


def test_plans_for_an_arrival_curve_are_covered() -> None:
    known = Profiles.from_parts([MINE], [LatencyTable("m", "mine", [1], [1.0])])  # type: ignore[arg-type]
    plan = mp.plan(pipeline(), known, steady(100), guarantee="envelope")
    posed = posed_for(plan, steady(100), None, "m", MINE, 16)
    found, _, enough, _ = follow(PlanSizes(posed, "p99"), lambda batch: 20.0 + batch)
    everything = posed.plan({batch: Row(20.0 + batch) for batch in range(1, 17)})
    ours = posed.plan({batch: Row(20.0 + batch) for batch in found})
    assert ours.microusd_per_hour == everything.microusd_per_hour
    assert ours.envelope == plan.envelope
    assert enough.why.startswith("no further batch size")


def test_a_plan_is_asked_for_again_as_it_was() -> None:
    """Its objective, and the trace that is given."""
    plan = _made(quantile=0.5, headroom=1.5)
    posed = posed_for(plan, steady(30), None, "m", MINE, 8)
    made = posed.plan({1: Row(2.0)})
    assert (made.quantile, made.headroom, made.slo_ns) == (0.5, 1.5, plan.slo_ns)
    assert made.trace is not None
    assert made.trace.queries == len(steady(30))


def test_every_variant_of_a_stage_may_be_measured_for_it() -> None:
    """Only the first one counted as used: any other "no stage uses", though the plan may choose it."""
    stages = {"a": {"variants": {"other": 0.9, "m": 0.8}, "batch": [1, 2]}}
    known = Profiles.from_parts([MINE], [LatencyTable("other", "mine", [1, 2], [90.0, 95.0])])  # type: ignore[arg-type]
    about = mp.Pipeline.from_document({"slo": "200ms", "stages": stages})
    posed = posed_for(about, steady(100), known, "m", MINE, None)
    without = posed.plan({})
    assert without.choices["a"].variant == "other"
    found, _, enough, _ = follow(PlanSizes(posed, "p99"), lambda batch: 4.0 + batch)
    ours = posed.plan({batch: Row(4.0 + batch) for batch in found})
    assert ours.choices["a"].variant == "m"
    assert ours.microusd_per_hour == posed.plan({1: Row(5.0), 2: Row(6.0)}).microusd_per_hour
    assert enough.why.startswith("no further batch size")
