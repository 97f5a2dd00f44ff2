"""The planner against brute force on random pipelines: same cost, same verdict, figures that hold."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

import mipplan as mp
from campaigns import Violations, campaign_size, write_summary
from mipplan.planner import trace_instance
from oracle_planner import OracleAnswer, TooLargeError, cheapest_certified
from planning_instances import PlanningInstance, check_ranges, hand_made, planning_instance

FIRST = 1000
#: What must turn up in at least this share of the instances, lest the campaign prove nothing.
COMMON = {
    *("limited", "restricted", "ties", "non-monotone", "memory", "exact", "below", "near", "loose"),
    *("chain", "branch", "diamond", "skip", "fanout", "probability", "join all", "join each", "blocked"),
}
LEAST_SHARE = 0.02
#: Instances brute force may give up on.
MOST_SKIPPED = 0.3


def test_cheapest_certified_plan_is_found(tmp_path: Path) -> None:
    numbers = range(FIRST, FIRST + campaign_size(27, 400))
    features: Counter[str] = Counter()
    verdicts: Counter[str] = Counter()
    certificates = skipped = 0
    violations = Violations()
    for number in numbers:
        with violations.case(number):
            instance = planning_instance(number)
            try:
                truth = brute_force(instance)
            except TooLargeError:
                skipped += 1
                continue
            features.update(instance.features)
            plan = instance.plan()
            verdicts[plan.status] += 1
            certificates += truth.certificates if truth else 0
            check(plan, truth, instance, number)
            check_ranges(plan)
            check_file(plan, instance, tmp_path / "plan.json")
    for feature in COMMON:
        assert features[feature] >= LEAST_SHARE * len(numbers), f"too few instances with {feature}"
    assert skipped <= MOST_SKIPPED * len(numbers)
    assert min(verdicts["optimal"], verdicts["infeasible"]) >= 0.15 * len(numbers)
    write_summary(
        "planner_against_brute_force",
        {
            "instances": len(numbers) - skipped,
            "too_large_for_brute_force": skipped,
            "mismatches": violations.checked(),
            "verdicts": dict(sorted(verdicts.items())),
            "certificates_by_brute_force": certificates,
            "features": dict(sorted(features.items())),
        },
    )


def test_cbc_agrees() -> None:
    for number in range(FIRST, FIRST + campaign_size(6, 100)):
        instance = planning_instance(number)
        try:
            truth = brute_force(instance)
        except TooLargeError:
            continue
        plan = instance.plan(solver="cbc")
        assert plan.solver == "cbc"
        check(plan, truth, instance, number)


@pytest.mark.parametrize("solver", ["highs", "pulp_highs", "cbc", "cp_sat", "scip"])
def test_every_solver_agrees_with_formulation_potentials(solver: str) -> None:
    for number in range(FIRST, FIRST + campaign_size(3, 60)):
        instance = planning_instance(number)
        try:
            truth = brute_force(instance)
        except TooLargeError:
            continue
        plan = instance.plan(solver=solver, formulation="potentials")
        assert (plan.solver, plan.formulation) == (solver, "potentials")
        check(plan, truth, instance, number)


def test_infeasibility_of_mixed_ideals_is_proven() -> None:
    # All stages ideal would do, no combination does: the reason must come from the search, not from a pre-check.
    found = 0
    for number in range(FIRST + campaign_size(24, 0), FIRST + campaign_size(32, 400)):
        instance = planning_instance(number, shape="diamond", limited=True)
        plan = instance.plan()
        if plan.status == "infeasible" and ideal_would_do(instance):
            try:
                truth = brute_force(instance)
            except TooLargeError:
                continue
            found += 1
            assert truth is None, f"instance {number}"
    assert found


def ideal_would_do(instance: PlanningInstance) -> bool:
    """Whether every stage has options and the ideal of all of them keeps the objective."""
    realised = trace_instance(
        instance.pipeline,
        instance.profiles,
        instance.trace,
        instance.slo_ns,
        instance.quantile,
        instance.seed,
    )
    if not all(found.families for found in realised.families.values()):
        return False
    return realised.keeps_slo(realised.ideal_services())


def test_cheapest_paced_plan_is_found(tmp_path: Path) -> None:
    violations, verdicts, cheaper, skipped = Violations(), Counter[str](), 0, 0
    numbers = range(FIRST, FIRST + campaign_size(8, 400))
    for number in numbers:
        with violations.case(number):
            instance = planning_instance(number)
            try:
                truth, eager = brute_force(instance, paced=True), brute_force(instance)
            except TooLargeError:
                skipped += 1
                continue
            plan = instance.plan(dispatch="paced")
            verdicts[plan.status] += 1
            check(plan, truth, instance, number)
            check_ranges(plan)
            check_file(plan, instance, tmp_path / "plan.json")
            cheaper += truth is not None and (eager is None or truth.cost < eager.cost)
    assert skipped <= MOST_SKIPPED * len(numbers)
    assert cheaper > 0, "pacing should pay somewhere"
    summary = {"instances": len(numbers) - skipped, "mismatches": violations.checked()}
    write_summary("planner_paced", summary | {"verdicts": dict(verdicts), "cheaper_than_eager": cheaper})


def brute_force(instance: PlanningInstance, *, paced: bool = False) -> OracleAnswer | None:
    return cheapest_certified(
        instance.pipeline,
        instance.profiles,
        instance.trace,
        instance.slo_ns,
        instance.quantile,
        instance.seed,
        paced=paced,
    )


def check(plan: mp.Plan, truth: OracleAnswer | None, instance: PlanningInstance, number: int) -> None:
    place = f"instance {number} ({', '.join(sorted(instance.features))})"
    if truth is None:
        assert plan.status == "infeasible", place
        assert plan.reason, place
        assert not plan.choices, place
        figures = (
            plan.usd_per_hour,
            plan.lower_bound_usd_per_hour,
            plan.bound_s,
            plan.certificate_s,
            plan.gap,
        )
        assert figures == (None,) * 5, place
        return
    assert plan.status == "optimal", place
    assert plan.microusd_per_hour == plan.lower_bound_microusd_per_hour == truth.cost, place
    assert dict(plan.choices) in truth.optima, place
    assert (plan.gap, plan.reason) == (0.0, None), place
    assert plan.bound_ns is not None, place
    assert plan.certificate_ns is not None, place
    assert plan.bound_ns <= plan.certificate_ns <= instance.slo_ns, place
    assert plan.certificate_ns == mp.certify(plan, instance.trace).bound_ns, place


def check_file(plan: mp.Plan, instance: PlanningInstance, path: Path) -> None:
    plan.save(path)
    assert mp.Plan.load(path) == plan
    verification = mp.verify(path, instance.trace)
    assert verification.verified == bool(plan.choices)
    if plan.choices:
        assert (verification.problems, verification.remarks) == ((), ())
        replayed = mp.replay(plan, instance.trace)
        assert verification.certificate is not None
        assert (replayed.latency_ns <= verification.certificate.latency_ns).all()


@pytest.mark.parametrize("slo_s", [0.018, 0.03, 0.05, 0.1, 0.5])
@pytest.mark.parametrize("solver", ["highs", "cbc"])
def test_objective_exactly_at_the_certificate(slo_s: float, solver: str) -> None:
    # The objective is tightened to the nanosecond at which the optimum still holds, and one below.
    instance = hand_made(slo_s)
    plan = instance.plan(solver=solver).require()
    assert plan.certificate_ns is not None
    same = instance.plan(solver=solver, slo_s=plan.certificate_ns / 1e9)
    assert same.microusd_per_hour == plan.microusd_per_hour
    below = cheapest_certified(instance.pipeline, instance.profiles, instance.trace, plan.certificate_ns - 1)
    dearer = instance.plan(solver=solver, slo_s=(plan.certificate_ns - 1) / 1e9)
    assert dearer.microusd_per_hour == (below.cost if below else None)
