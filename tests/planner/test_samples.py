"""Plans for several traces and seeds against brute force that certifies each pair of them by itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from mipplan.calculus import analyse_paths, empirical_envelope, join_paths, least_above
from mipplan.planner import Request
from mipplan.result import Objective
from mipplan.tokens import find_samples, realise
from oracle_planner import TooLargeError
from oracle_samples import all_pairs, cheapest_on_all, cost_on_all
from planner.test_fifo import MOST_CHOICES, Everything, fifo_instance
from planner.test_windows import asked_of, asking, objective_of
from planning_instances import PlanningInstance, planning_instance

FIRST = 8000
CASCADE = mp.Pipeline.read("profiles/pipelines/cascade.yaml")
PROFILES = mp.Profiles.default()
MONDAY = replace(mp.Trace.gamma(90.0, 2.0, 6.0, seed=3), name="monday")
FRIDAY = replace(mp.Trace.gamma(110.0, 1.0, 5.0, seed=4), name="friday")


def several(number: int) -> tuple[PlanningInstance, list[mp.Trace], int]:
    """An instance with one to three traces and one to three seeds, at least two pairs of them."""
    rng = np.random.default_rng([20261128, number])
    instance = planning_instance(number)
    others = [planning_instance(number + 10_000 * k).trace for k in range(1, int(rng.integers(1, 4)))]
    seeds = int(rng.integers(1, 4)) if others else 2
    # Of about the same rate, so that no trace decides everything.
    traces = [
        instance.trace,
        *(t.scale(instance.trace.rate_rps / t.rate_rps * float(rng.uniform(0.8, 1.2))) for t in others),
    ]
    names = rng.permutation(["a", "b", "b"]).tolist()
    return instance, [replace(t, name=name) for t, name in zip(traces, names, strict=False)], seeds


def plan_of(instance: PlanningInstance, traces: Sequence[mp.Trace], seeds: int, **more: Any) -> mp.Plan:
    return mp.plan(
        instance.pipeline,
        instance.profiles,
        list(traces),
        **{**instance.arguments, "seeds": seeds, "time_limit_s": None, **more},
    )


def test_cheapest_plan_on_all_pairs_is_found(tmp_path: Path) -> None:
    violations, seen, skipped = Violations(), Counter[str](), 0
    numbers = range(FIRST, FIRST + campaign_size(6, 1_000))
    for number in numbers:
        with violations.case(number):
            instance, traces, seeds = several(number)
            rng = np.random.default_rng([20261129, number])
            slo_ns = int(instance.slo_ns * float(rng.choice([1.0, 1.0, 1.5])))
            slo = asked_of(rng, instance.trace, slo_ns, instance.quantile)
            instance = replace(instance, pipeline=asking(instance.pipeline, slo_ns, slo))
            pairs = all_pairs(instance, traces, seeds if instance.pipeline.is_random else 1)
            paced = rng.random() < 0.3
            more = {"slo_s": None, "quantile": None, "dispatch": "paced" if paced else "eager"}
            objective = objective_of(slo_ns, slo)
            try:
                truth = cheapest_on_all(pairs, objective, paced=paced)
            except TooLargeError:
                skipped += 1
                continue
            plan = plan_of(instance, traces, seeds, **more)
            seen.update([plan.status, "paced" if paced else "eager", f"{len(pairs)} pairs"])
            if truth is None:
                assert plan.status == "infeasible", plan
                assert plan.reason
                continue
            assert (plan.status, plan.microusd_per_hour) == ("optimal", truth.cost)
            assert dict(plan.choices) in truth.optima
            check_figures(plan, instance, traces, tmp_path / "plan.json")
            costs = [plan_of(p, [p.trace], 1, **more).microusd_per_hour for p in pairs]
            assert plan.microusd_per_hour >= cost_on_all(costs)
            seen["dearer than each alone"] += plan.microusd_per_hour > cost_on_all(costs)
            seen["pairs decide"] += len({c for c in costs if c is not None}) > 1
    assert skipped <= 0.5 * len(numbers)
    assert min(seen["optimal"], 3 * seen["infeasible"], 3 * seen["paced"]) >= 0.1 * len(numbers)
    assert seen["pairs decide"] > 0
    summary = {"instances": len(numbers) - skipped, "mismatches": violations.checked()}
    write_summary("planner_samples", summary | {"seen": dict(sorted(seen.items()))})


def check_figures(plan: mp.Plan, instance: PlanningInstance, traces: Sequence[mp.Trace], path: Path) -> None:
    """Figures are those of each pair by itself, and the file holds them all."""
    singles = {
        (sample.trace.sha256, sample.seed): mp.certify(plan, sample.trace, seed=sample.seed).bound_ns
        for sample in find_samples(plan.pipeline, traces, plan.seed, plan.seeds)
    }
    stated = {(plan.traces[one.trace].sha256, one.seed): one.certificate_ns for one in plan.samples}
    assert stated == (singles if len(singles) > 1 else {})
    assert plan.certificate_ns == max(singles.values())
    assert plan.bound_ns is not None
    assert plan.bound_ns <= plan.certificate_ns <= plan.slo_ns
    plan.save(path)
    assert mp.Plan.load(path) == plan
    verification = mp.verify(path, traces[::-1])
    assert (verification.problems, verification.remarks) == ((), ())
    whole = mp.certify(plan, traces)
    assert whole.bound_ns == plan.certificate_ns
    assert whole.samples == plan.samples


def test_order_of_traces_does_not_matter_and_more_of_them_never_cost_less() -> None:
    for number in range(FIRST, FIRST + campaign_size(4, 200)):
        instance, traces, seeds = several(number)
        plan = plan_of(instance, traces, seeds)
        assert plan_of(instance, traces[::-1], seeds).to_json() == plan.to_json(), number
        less = plan_of(instance, traces[:-1] or traces, seeds)
        fewer = plan_of(instance, traces, max(1, seeds - 1))
        costs = [
            math.inf if p.microusd_per_hour is None else p.microusd_per_hour for p in (less, fewer, plan)
        ]
        assert max(costs[:2]) <= costs[2], number


def test_one_trace_in_a_list_is_the_trace() -> None:
    alone = mp.plan(CASCADE, PROFILES, MONDAY)
    listed = mp.plan(CASCADE, PROFILES, [MONDAY], seeds=1)
    assert listed.to_json() == alone.to_json()
    assert alone.samples == ()
    assert "samples" not in alone.to_document()
    assert str(listed) == str(alone)
    assert str(listed.explain()) == str(alone.explain())


def test_cheapest_fifo_plan_on_all_pairs_is_found() -> None:
    compared = dearer = 0
    for number in range(FIRST, FIRST + campaign_size(12, 400)):
        instance = fifo_instance(number)
        _, traces, seeds = several(number)
        bases = all_pairs(instance.base, traces, seeds if instance.base.pipeline.is_random else 1)
        every = [Everything(replace(instance, base=base)) for base in bases]
        if max(one.count for one in every) > MOST_CHOICES // 6:
            continue
        judged = [{tuple(c.items()): (cost, ns) for cost, ns, c in one.judged()} for one in every]
        kept = [
            cost
            for choices, (cost, _) in judged[0].items()
            if all(choices in one and one[choices][1] <= instance.slo_ns for one in judged)
        ]
        plan = plan_of(
            instance.base,
            traces,
            seeds,
            slo_s=instance.slo_ns / 1e9,
            discipline="fifo",
            runs=instance.runs,
            dispatch=instance.dispatch,
        )
        assert plan.microusd_per_hour == min(kept, default=None), number
        assert (plan.status == "optimal") == bool(kept)
        compared += 1
        dearer += bool(kept)
    assert dearer > 1
    assert compared > 5


def test_all_traffic_inside_any_of_the_curves_is_covered() -> None:
    traces = [MONDAY, FRIDAY]
    plan = mp.plan(CASCADE, PROFILES, traces, guarantee="envelope", slo_s=0.5).require()
    assert plan.envelope == least_above([empirical_envelope(t.arrival_ns) for t in traces]).buckets
    assert plan.samples == ()
    for trace in traces:
        alone = mp.plan(CASCADE, PROFILES, trace, guarantee="envelope", slo_s=0.5)
        assert alone.microusd_per_hour is not None
        assert alone.microusd_per_hour <= (plan.microusd_per_hour or 0)
    verification = mp.verify(plan, traces)
    assert (verification.problems, verification.remarks) == ((), ())


def test_waits_of_several_samples_are_the_longest() -> None:
    instance, traces, _ = several(FIRST + 3)
    loads = [realise(instance.pipeline, trace, instance.seed) for trace in traces]
    each = [analyse_paths(load, instance.quantile) for load in loads]
    families = Request.of(plan_of(instance, traces, 1), traces).instance().families
    services = {stage: found.families[0].service(found.families[0].most) for stage, found in families.items()}
    assert join_paths(each).bound_ns(services) == max(paths.bound_ns(services) for paths in each)


def test_a_budget_buys_the_least_of_the_greatest_certificates() -> None:
    traces = [trace.slice(0, 2) for trace in (MONDAY, FRIDAY)]
    plan = mp.plan(CASCADE, PROFILES, traces, budget_usd_per_hour=8.0).require()
    assert plan.status == "optimal"
    for trace in traces:
        alone = mp.plan(CASCADE, PROFILES, trace, budget_usd_per_hour=8.0)
        assert alone.certificate_ns is not None
        assert plan.certificate_ns is not None
        assert alone.certificate_ns <= plan.certificate_ns
    assert plan.certificate_ns == max(one.certificate_ns or 0 for one in plan.samples)


def test_what_binds_is_named() -> None:
    plan = mp.plan(CASCADE, PROFILES, [MONDAY, FRIDAY], headroom=1.1).require()
    worst = max(plan.samples, key=lambda one: one.certificate_ns or 0)
    assert {one.name for one in plan.samples} == {"friday", "monday"}
    assert f"{worst.name}, the worst of 2 samples" in str(plan)
    explanation = plan.explain()
    assert explanation.sample == worst.name
    assert f"It binds on {worst.name} along" in explanation.lines()[0]
    assert mp.explain(plan, [MONDAY, FRIDAY]) == explanation
    reason = mp.plan(CASCADE, PROFILES, [MONDAY, FRIDAY], slo_s=0.004).reason
    assert reason is not None
    assert ", on friday)" in reason or ", on monday)" in reason


def test_a_file_whose_samples_were_changed_is_not_verified(tmp_path: Path) -> None:
    plan = mp.plan(CASCADE, PROFILES, [MONDAY, FRIDAY]).require()
    first, second = plan.samples
    figures = replace(plan.figures, samples=(replace(first, certificate_ns=1), second))
    changed = replace(plan, figures=figures)
    problems = mp.verify(changed, [MONDAY, FRIDAY]).problems
    assert any("states a certificate of 1 ns on friday" in problem for problem in problems)
    only = mp.verify(plan, FRIDAY)
    assert only.verified
    assert only.remarks == (
        f"not judged on all that the plan was made for, which is also {plan.traces[1].text}",
    )
    other = mp.verify(plan, [MONDAY, FRIDAY, MONDAY.scale(0.5)])
    assert other.verified
    assert "judged on another trace" in other.remarks[0]


@pytest.mark.parametrize("seeds", [0, -1, 1.5, True, 10**9, "2"])
def test_seeds_that_are_none_are_refused(seeds: Any) -> None:
    with pytest.raises(mp.InputError, match="seeds: expected a whole number from 1 to 1,000"):
        mp.plan(CASCADE, PROFILES, MONDAY, seeds=seeds)


def test_where_nothing_is_drawn_one_seed_stands_for_all() -> None:
    document = CASCADE.to_document()
    for edge in document["edges"]:
        edge.pop("probability", None)
        edge.pop("fanout", None)
    pipeline = mp.Pipeline.from_document(document)
    plan = mp.plan(pipeline, PROFILES, MONDAY, seeds=8)
    alone = mp.plan(pipeline, PROFILES, MONDAY)
    assert plan.samples == ()
    assert (plan.choices, plan.certificate_ns, plan.seeds) == (alone.choices, alone.certificate_ns, 8)
    twice = find_samples(pipeline, [MONDAY, MONDAY], 0, 8)
    assert len(twice) == 1


def test_an_objective_over_windows_holds_on_each_trace() -> None:
    """Windows begin anew with every trace."""
    pipeline = CASCADE.asking({"p99": "80ms", "p50": "60ms", "per": "2s"})
    plan = mp.plan(pipeline, PROFILES, [MONDAY, FRIDAY]).require()
    assert isinstance(plan.objective, Objective)
    for trace in (MONDAY, FRIDAY):
        assert mp.replay(plan, trace).objective_ns(plan.objective) <= plan.slo_ns
        assert mp.verify(plan, trace).verified


def test_tuners_and_fleets_take_one_trace() -> None:
    plan = mp.plan(CASCADE, PROFILES, [MONDAY, FRIDAY]).require()
    with pytest.raises(mp.InputError, match="keep=sample needs the sample"):
        mp.Tuner(plan, keep="sample")
    assert mp.Tuner(plan, keep="sample", sample=FRIDAY).keep == "sample"
    with pytest.raises(mp.InputError, match="expected a Trace"):
        mp.plan_fleet({"cascade": (CASCADE, [MONDAY, FRIDAY])}, PROFILES)  # type: ignore[dict-item]
    with pytest.raises(mp.InputError, match="expected a Trace"):
        mp.replay(plan, [MONDAY, FRIDAY])  # type: ignore[arg-type]
