"""Objectives over windows of time, in a share of them, and of several quantiles, against brute force."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from mipplan.core import Allowance, Criterion, QuantileLimit, Slo
from mipplan.result import Objective
from oracle_planner import OracleAnswer, TooLargeError, cheapest_certified
from oracle_refinement import all_choices, cost
from oracle_windows import kept_limit, window_limits
from planning_instances import PlanningInstance, planning_instance
from refinement_instances import refinement_instance

#: Instances of this campaign are those from here on.
FIRST = 7000


def asked_of(rng: np.random.Generator, trace: mp.Trace, slo_ns: int, quantile: float) -> Slo:
    """Windows, a share of them and a further quantile, each of them now and then."""
    per_ns = max(1, trace.span_ns // int(rng.choice([1, 2, 3, 5, 20]))) if rng.random() < 0.8 else None
    share = float(rng.choice([1.0, 1.0, 0.75, 0.5])) if per_ns else 1.0
    further = QuantileLimit(
        float(rng.choice([0.3, 0.6, 0.9])) * quantile, max(1, round(slo_ns * rng.uniform(0.3, 1.1)))
    )
    return Slo(quantile, per_ns, share, (further,) if rng.random() < 0.4 else ())


def asking(pipeline: mp.Pipeline, slo_ns: int, slo: Slo) -> mp.Pipeline:
    """The pipeline with this objective, by way of the form that files have."""
    return pipeline.asking(slo.to_document(slo_ns))


def objective_of(slo_ns: int, slo: Slo) -> Objective:
    assert slo.quantile is not None
    return Objective(slo_ns, slo.quantile, per_ns=slo.per_ns, share=slo.share, others=slo.others)


def windowed(number: int) -> tuple[PlanningInstance, Slo]:
    instance = planning_instance(number)
    rng = np.random.default_rng([20261126, number])
    slo = asked_of(rng, instance.trace, instance.slo_ns, instance.quantile)
    return replace(instance, pipeline=asking(instance.pipeline, instance.slo_ns, slo)), slo


def brute_force(instance: PlanningInstance, slo: Slo) -> OracleAnswer | None:
    objective, ingress = objective_of(instance.slo_ns, slo), instance.trace.arrival_ns.tolist()
    return cheapest_certified(
        instance.pipeline,
        instance.profiles,
        instance.trace,
        instance.slo_ns,
        seed=instance.seed,
        kept=lambda latency: kept_limit(latency.tolist(), ingress, objective),
    )


def test_cheapest_plan_is_found(tmp_path: Path) -> None:
    violations, seen, skipped = Violations(), Counter[str](), 0
    numbers = range(FIRST, FIRST + campaign_size(14, 1_000))
    for number in numbers:
        with violations.case(number):
            instance, slo = windowed(number)
            try:
                truth = brute_force(instance, slo)
            except TooLargeError:
                skipped += 1
                continue
            plan = mp.plan(instance.pipeline, instance.profiles, instance.trace, seed=instance.seed)
            whole = instance.plan(per_s=np.inf)
            seen.update(
                [plan.status, "share" if slo.share < 1 else "all", "several" if slo.others else "one"]
            )
            if truth is None:
                assert plan.status == "infeasible", plan
                continue
            assert (plan.status, plan.microusd_per_hour) == ("optimal", truth.cost)
            assert dict(plan.choices) in truth.optima
            seen["dearer than over all queries"] += plan.microusd_per_hour != whole.microusd_per_hour
            assert plan.certificate_ns is not None
            assert plan.bound_ns is not None
            assert plan.bound_ns <= plan.certificate_ns <= instance.slo_ns
            if (
                slo.share == 1.0
            ):  # A whole that is kept may be kept although windows are not, never the other way.
                assert whole.microusd_per_hour is not None
                assert plan.microusd_per_hour >= whole.microusd_per_hour
            plan.save(tmp_path / "plan.json")
            assert mp.Plan.load(tmp_path / "plan.json") == plan
            assert mp.verify(tmp_path / "plan.json", instance.trace).problems == ()
            assert mp.replay(plan, instance.trace).objective_ns(plan.objective) <= instance.slo_ns
    assert skipped <= 0.3 * len(numbers)
    assert min(seen[kind] for kind in ("optimal", "infeasible", "share", "several")) >= 0.05 * len(numbers)
    assert seen["dearer than over all queries"] > 0
    summary = {"instances": len(numbers) - skipped, "mismatches": violations.checked()}
    write_summary("planner_windows", summary | {"seen": dict(sorted(seen.items()))})


def test_cheapest_replayed_plan_is_found() -> None:
    """Refinement, and the verdicts of replays that stop early, with the same objectives."""
    violations, found = Violations(), Counter[str]()
    for number in range(campaign_size(9, 600)):
        with violations.case(number):
            instance = refinement_instance(number)
            rng = np.random.default_rng([20261127, number])
            slo = asked_of(rng, instance.trace, instance.slo_ns, instance.quantile)
            pipeline = asking(instance.pipeline, instance.slo_ns, slo)
            choices = list(all_choices(pipeline, instance.profiles))
            plans = [mp.Plan.from_choices(pipeline, instance.profiles, made) for made in choices]
            runs = mp.replay_many(plans, instance.trace, discipline=instance.discipline, seed=instance.seed)
            objective, ingress = plans[0].objective, instance.trace.arrival_ns.tolist()
            limits = [kept_limit(run.latency_ns.tolist(), ingress, objective) for run in runs]
            assert [run.objective_ns(objective) for run in runs] == limits
            good = [
                cost(instance.profiles, made)
                for made, limit in zip(choices, limits, strict=True)
                if limit <= instance.slo_ns
            ]
            start = replace(plans[number % len(plans)], objective=replace(objective, seed=instance.seed))
            refined = mp.refine(start, instance.trace, discipline=instance.discipline, time_limit_s=None)
            found[refined.status] += 1
            assert refined.microusd_per_hour == min(good, default=None)
            if not slo.others:
                slo_s = instance.slo_ns / 1e9
                queue = instance.discipline
                verdicts = mp.replay_many(
                    plans, instance.trace, discipline=queue, seed=instance.seed, slo_s=slo_s
                )
                assert [verdict.keeps for verdict in verdicts] == [
                    limit <= instance.slo_ns for limit in limits
                ]
    violations.checked()
    assert min(found["optimal"], found["infeasible"]) >= 3


def test_looser_windows_never_cost_more() -> None:
    pipeline, profiles = mp.Pipeline.read("profiles/pipelines/cascade.yaml"), mp.Profiles.default()
    trace = mp.Trace.read("profiles/traces/bursty.csv.gz").slice(0, campaign_size(12, 25))

    def cost_of(per_s: float, share: float = 1.0) -> int:
        plan = mp.plan(pipeline, profiles, trace, per_s=per_s, share=share)
        assert plan.microusd_per_hour is not None
        return plan.microusd_per_hour

    # Windows twice as long are made of two: what each of these keeps, both keep together.
    costs = [cost_of(per_s) for per_s in (1.0, 2.0, 4.0, 8.0, np.inf)]
    assert costs == sorted(costs, reverse=True)
    assert costs[0] > costs[-1]
    shares = [costs[0], cost_of(1.0, 0.9), cost_of(1.0, 0.5)]
    assert shares == sorted(shares, reverse=True)


LATENCIES = st.lists(
    st.tuples(st.integers(0, 30), st.integers(0, 5)), min_size=1, max_size=40
)  # latency, and gap since the query before


@given(
    LATENCIES,
    st.sampled_from([0.3, 0.5, 0.9, 0.99, 1.0]),
    st.sampled_from([None, 1, 3, 10, 1000]),
    st.sampled_from([1.0, 0.9, 0.75, 0.5, 0.1]),
    st.integers(0, 31),
    st.integers(0, 12345),
)
def test_allowance_is_what_windows_say(
    drawn: list[tuple[int, int]], quantile: float, per_ns: int | None, share: float, limit: int, seed: int
) -> None:
    latency = np.array([latency for latency, _ in drawn], dtype=np.int64)
    ingress = np.cumsum([gap for _, gap in drawn]).astype(np.int64)
    share = 1.0 if per_ns is None else share
    allowance = Allowance.of(quantile, ingress, per_ns, share)
    objective = Objective(1, quantile, per_ns=per_ns, share=share)
    figure = kept_limit(latency.tolist(), ingress.tolist(), objective)
    assert allowance.limits(latency) == window_limits(latency.tolist(), ingress.tolist(), quantile, per_ns)
    assert allowance.figure(latency) == figure
    assert allowance.is_exceeded(latency > limit) == (figure > limit)
    assert latency[allowance.first_at(latency)] == figure
    if figure <= limit:
        assert np.count_nonzero(latency > limit) <= allowance.total
    # Of some of the queries: what they exceed, all exceed; all of them say what all say.
    kept = np.random.default_rng(seed).random(latency.size) < 0.6
    some = allowance.restricted(kept)
    assert some.figure(latency[kept]) <= figure
    assert not some.is_exceeded(latency[kept] > limit) or allowance.is_exceeded(latency > limit)
    everybody = allowance.restricted(np.ones(latency.size, dtype=bool))
    assert everybody.figure(latency) == figure
    # Queries of the windows that decide: they exceed all below the figure, and what they exceed, all exceed. Of some
    # queries, too, although whole windows may have none of these.
    other = np.random.default_rng(seed + 1).permutation(latency)
    for asked, own, others in ((allowance, latency, other), (some, latency[kept], other[kept])):
        figure = asked.figure(own)
        for queries, few in (asked.slowest(own, 1.5), asked.late(own, figure - 1, 1.5)):
            assert few.is_exceeded(own[queries] > figure - 1) == asked.is_exceeded(own > figure - 1)
            assert not few.is_exceeded(own[queries] > figure)
            assert few.figure(own[queries]) == figure
            assert not few.is_exceeded(others[queries] > limit) or allowance.is_exceeded(other > limit)
            assert np.array_equal(queries, np.unique(queries))
            side_by_side = np.stack([own[queries] > limit, others[queries] > limit])
            assert few.are_exceeded(side_by_side).tolist() == [few.is_exceeded(late) for late in side_by_side]


def test_shares_are_counted_as_written() -> None:
    ingress = np.arange(20) * 10
    assert Allowance.of(0.5, ingress, 10, 0.7).spare == 6  # in floats 20 · (1 − 0.7) is a little more than 6
    assert Allowance.of(0.5, ingress, 10, 0.9).spare == 2  # and 20 · (1 − 0.9) a little less than 2


def test_several_quantiles_are_shifted_to_one_limit() -> None:
    ingress = np.arange(10) * 1_000
    latency = np.array([1, 1, 1, 1, 1, 5, 5, 5, 5, 9])
    objective = Objective(10, 1.0, others=(QuantileLimit(0.5, 4),))
    criterion = objective.criterion(ingress)
    # The median of 5 misses its limit of 4 by one, so the objective would be kept if both were 1 larger.
    assert criterion.figure_ns(latency) == 11
    assert latency[criterion.query_at(latency)] == 5
    assert criterion.exceeds(latency, 10)
    assert not criterion.exceeds(latency, 11)
    assert Criterion.of(0.5, ingress).figure_ns(latency) == 5
    assert objective.text == "P100 ≤ 10 ns, P50 ≤ 4 ns"


def test_objectives_are_written_and_read() -> None:
    pipeline = mp.Pipeline.read("profiles/pipelines/cascade.yaml")
    asked = pipeline.asking({"p99.9": "300ms", "p50": "90ms", "per": "5min", "share": 0.99})
    assert asked.slo == Slo(0.999, 300 * 10**9, 0.99, (QuantileLimit(0.5, 90_000_000),))
    assert mp.Pipeline.from_document(asked.to_document()) == asked
    assert asked != pipeline
    assert pipeline.asking(per_s=60).to_document()["slo"] == {"p99": "80ms", "per": "1min"}
    assert asked.asking(per_s=np.inf, share=1.0).slo.per_ns is None
    with pytest.raises(mp.InputError, match="share"):
        pipeline.asking(share=0.5)
    with pytest.raises(mp.InputError, match="per_s"):
        pipeline.asking(per_s=-1)
    with pytest.raises(mp.InputError, match=r"slo\.share"):
        Slo(share=2.0)
    with pytest.raises(mp.InputError, match="P50 is asked for twice"):
        Slo(0.5, others=(QuantileLimit(0.5, 7),))


def test_what_goes_with_no_windows_is_refused() -> None:
    pipeline = mp.Pipeline.read("profiles/pipelines/cascade.yaml").asking({"p99": "200ms", "p50": "60ms"})
    trace = mp.Trace.read("profiles/traces/bursty.csv.gz").slice(0, 8)
    with pytest.raises(mp.InputError, match="every query: one limit, not several quantiles"):
        mp.plan(pipeline, mp.Profiles.default(), trace, guarantee="envelope")
    plan = mp.plan(pipeline, mp.Profiles.default(), trace, slo_s=0.2)
    assert plan.objective.others == ()  # one limit was given, so it is the only one
