"""Replica counts of paced plans: bounds by brute force, conditions that are kept, and what is not said."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

import mipplan as mp
from campaigns import campaign_size
from mipplan.calculus import ArrivalCurve, StageService, WorstCase, stage_service
from mipplan.core import UNLIMITED_NS
from mipplan.pipeline import DispatchLaw
from mipplan.profiles import Hardware, LatencyTable, Profiles
from mipplan.result import Plan
from random_pipelines import Case, random_case
from tuner_cases import chain, fanned_out_case, single_token_case

MS = 1_000_000


def in_milliseconds(case: Case) -> Case:
    """The same case with tables a million times as long: pacing takes batches of a millisecond and up."""
    tables = [replace(table, latency_ms=table.latency_ms * MS) for table in case.profiles.tables.values()]
    return case._replace(profiles=Profiles.from_parts(case.profiles.hardware.values(), tables))


def services(plan: Plan, counts: Mapping[str, int]) -> dict[str, StageService]:
    """T and R of every stage with these counts."""
    return {
        stage: stage_service(plan.service_ns(stage), n, not plan.pipeline.incoming(stage), DispatchLaw.PACED)
        for stage, n in counts.items()
    }


def paced_tuner(case: Case, curve: ArrivalCurve, slo_ns: int) -> mp.Tuner:
    plan = Plan.from_choices(case.pipeline, case.profiles, case.choices, slo_s=slo_ns / 1e9, dispatch="paced")
    return mp.Tuner(plan, sample=curve)


def random_curve(rng: np.random.Generator) -> ArrivalCurve:
    return ArrivalCurve.token_bucket(float(rng.integers(1, 20)), float(rng.uniform(1, 400)))


def test_bound_is_that_of_the_worst_case() -> None:
    for number in range(campaign_size(quick=30, deep=1_000)):
        rng = np.random.default_rng([63, number])
        case = in_milliseconds(single_token_case(rng))
        curve = random_curve(rng)
        tuner = paced_tuner(case, curve, UNLIMITED_NS // 2)
        counts = {stage: int(rng.integers(1, 40)) for stage in case.pipeline.stages}
        made, worst = tuner.bound_ns(counts, curve), WorstCase(case.pipeline, curve)
        expected = worst.bound_ns(services(tuner.plan, counts))
        if expected >= UNLIMITED_NS:
            assert made >= UNLIMITED_NS, number
        else:
            assert abs(made - expected) <= len(counts) + 1, number


def test_counts_keep_the_objective_and_hardly_any_that_cost_less_do() -> None:
    """T = L + ⌈L/n⌉ falls with every replica; it was reckoned as with half of the plan's, and counts were no fewer."""
    kept = compared = dearer = 0
    for number in range(campaign_size(quick=30, deep=1_000)):
        rng = np.random.default_rng([64, number])
        # With several tokens a query may wait for its own, too, and what binds is a sum that counts share out.
        is_single = number % 3 > 0
        case = in_milliseconds(single_token_case(rng) if is_single else fanned_out_case(rng))
        curve, stages = random_curve(rng), list(case.pipeline.stages)
        case = case._replace(
            choices={s: (h, b, int(rng.integers(1, 30))) for s, (h, b, _) in case.choices.items()}
        )
        plan, worst = case.plan(), WorstCase(case.pipeline, curve)
        calm = WorstCase(case.pipeline, ArrivalCurve.token_bucket(1, 0))
        deadline_ns = int(rng.integers(4, 14)) * calm.bound_ns(services(plan, dict.fromkeys(stages, 4))) // 4
        tuner = paced_tuner(case, curve, deadline_ns)
        counts = tuner.replicas_for(curve)
        step = tuner.retune(0, traffic=curve)
        assert step.replicas == counts
        if step.replan or step.share < 1:
            assert worst.bound_ns(services(plan, dict.fromkeys(stages, 10_000))) > deadline_ns, number
            continue
        kept += 1
        assert worst.bound_ns(services(plan, counts)) <= deadline_ns, number
        # Every replica costs the same, and more of them are never slower: all that cost one less say it all.
        total = sum(counts.values()) - 1
        if not is_single or total < len(stages) or math.comb(total - 1, len(stages) - 1) > 300:
            continue
        compared += 1
        for ends in itertools.combinations(range(1, total), len(stages) - 1):
            fewer = dict(zip(stages, np.diff([0, *ends, total]).tolist(), strict=True))
            # Counts are rounded, and the bound says so.
            if worst.bound_ns(services(plan, fewer)) <= deadline_ns:
                assert (step.lower_bound_microusd_per_hour or 0) <= total * 10**6, f"case {number}: {fewer}"
                dearer += 1
                break
    assert kept > 10
    assert compared > 5
    assert dearer <= compared / 100


@pytest.mark.parametrize("batch_us", [20, 10_000])
def test_short_batches_take_no_more_replicas_than_long_ones(batch_us: int) -> None:
    """Rounding δ up costs a batch as many ns as there may be replicas: much of 20 us only if these are many."""
    pipeline = mp.Pipeline.from_document(
        {
            "slo": f"{100 * batch_us}us",
            "stages": {
                "first": {"model": "one"},
                "paced": {"model": "pair", "dispatch": "paced", "replicas": {"max": 40}},
            },
            "edges": [{"from": "first", "to": "paced"}],
        }
    )
    tables = [
        LatencyTable(model, "h", np.arange(1, batch + 1), np.full(batch, batch_us / 1e3))
        for model, batch in (("one", 64), ("pair", 2))
    ]
    profiles = Profiles.from_parts([Hardware("h", 1.0)], tables)
    plan = Plan.from_choices(pipeline, profiles, {"first": ("h", 64, 2), "paced": ("h", 2, 2)})
    curve = ArrivalCurve.token_bucket(
        2, 0.99 * 40 / batch_us * 1e6
    )  # 20 replicas keep up with 40 tokens a batch time
    tuner = mp.Tuner(plan, sample=curve, keep="objective")
    step = tuner.retune(0, traffic=curve)
    assert step.replicas["paced"] == 20
    assert (
        tuner.bound_ns(step.replicas, curve)
        <= plan.slo_ns
        < tuner.bound_ns({**step.replicas, "paced": 19}, curve)
    )


@pytest.mark.parametrize("limit", [None, 1])
def test_a_plan_is_kept_as_it_is_on_its_own_curve_though_a_line_would_round_it_up(limit: int | None) -> None:
    """One paced replica is eager: a full batch takes it 6 ms, not the 10 of the slowest that the condition goes by."""
    hardware = Hardware("h", 1.0, limit=limit)
    table = LatencyTable("m", "h", np.array([1, 4]), np.array([10.0, 6.0]))
    pipeline = mp.Pipeline.from_document(
        {"slo": "27ms", "stages": {"a": {"model": "m", "dispatch": "paced", "batch": 4}}}
    )
    curve = ArrivalCurve.token_bucket(5, 10)
    trace = mp.Trace.from_seconds([0, 0, 0.2, 0.4, 0.6])
    plan = mp.plan(
        pipeline, Profiles.from_parts([hardware], [table]), trace, guarantee="envelope", envelope=curve
    )
    assert (plan.status, plan.choices["a"].replicas) == (mp.PlanStatus.OPTIMAL, 1)
    step = mp.Tuner(plan).retune(traffic=curve)
    assert (step.replicas, step.share, step.replan, step.notes) == ({"a": 1}, 1.0, False, ())
    assert step.latency_bound_ns == plan.certificate_ns
    assert step.objective_microusd_per_hour == step.microusd_per_hour == plan.microusd_per_hour
    assert (step.gap or 0.0) >= 0.0


def test_nothing_is_promised_while_counts_change() -> None:
    case = in_milliseconds(single_token_case(np.random.default_rng(5)))
    curve = ArrivalCurve.token_bucket(3, 5)
    plan = Plan.from_choices(case.pipeline, case.profiles, case.choices, slo_s=1e5, dispatch="paced")
    step = mp.Tuner(plan, sample=curve, activation_delay_s=5.0).retune(0, traffic=curve, backlog=3)
    assert step.latency_bound_ns is not None
    assert step.transient_bound_ns is None
    eager = mp.Tuner(plan, sample=curve, activation_delay_s=5.0, dispatch="eager")
    assert eager.retune(0, traffic=curve, backlog=3).transient_bound_ns is not None
    assert eager.plan.dispatch == "eager"


def test_fifo_has_no_bound_to_keep() -> None:
    case = random_case(np.random.default_rng(6))
    plan = Plan.from_choices(case.pipeline, case.profiles, case.choices, slo_s=1.0, discipline="fifo")
    with pytest.raises(mp.InputError, match="no theorem covers fifo queues"):
        mp.Tuner(plan, sample=ArrivalCurve.token_bucket(3, 5), tokens="most")
    as_if = mp.Tuner(plan, sample=ArrivalCurve.token_bucket(3, 5), tokens="most", discipline="oldest_first")
    assert as_if.plan.discipline == "oldest_first"
    with pytest.raises(mp.InputError, match="discipline: "):
        mp.Tuner(plan, discipline="lifo")


def test_tables_are_scaled() -> None:
    case = random_case(np.random.default_rng(6))
    table: LatencyTable = next(iter(in_milliseconds(case).profiles.tables.values()))
    assert table.latency_ms.max() >= 1.0


def test_paced_stages_have_as_many_replicas_as_their_own_pace_asks_for() -> None:
    """Half of the plan's were the fewest, whatever limits said; certified plans were told to be replaced."""
    given, calm = chain(a=([10 * MS], 1), b=([10 * MS], 2)), ArrivalCurve.token_bucket(1, 5)
    # The source takes 10 ms; b 15 ms with the plan's two replicas, 20 ms with one.
    for slo_ms, counts, replan in (
        (31, [1, 1], False),
        (28, [1, 2], False),
        (24, [1, 3], False),
        (19, [1, 2], True),
    ):
        plan = Plan.from_choices(
            given.pipeline, given.profiles, given.choices, slo_s=slo_ms / 1e3, dispatch="paced"
        )
        step = mp.Tuner(plan, keep="objective").retune(traffic=calm)
        assert (list(step.replicas.values()), step.replan) == (counts, replan)
        assert (int(step.latency_bound_ns or 0) <= plan.slo_ns) is not replan
        words = (
            "no number of replicas keeps the objective: service times and delays alone take 20 ms of 19 ms"
        )
        assert any(note.startswith(words) for note in step.notes) is replan
