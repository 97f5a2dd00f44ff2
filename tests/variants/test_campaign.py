"""Plans with variants against brute force over every combination: cost, accuracy, fronts, budgets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from multiprocessing import get_context
from typing import NamedTuple

import pytest

import mipplan as mp
from campaigns import Violations, campaign_size, is_deep, write_summary
from mipplan.pipeline import AccuracyKind, combinations
from mipplan.result import PlanDocument
from mipplan.variants import UNSETTLED
from oracle_planner import TooLargeError
from oracle_variants import CLOSE, Combination, cheapest, front, most_accurate_of
from planning_instances import check_ranges
from variant_instances import VariantInstance, variant_instance

RULES = ("product", "sum", "weighted", "worst_path", "path_shares", "table")
COMMON = {*RULES, "changing tokens", "accuracy in profiles", "accuracy with stages", "branch", "chain"}

#: By how much plans of a menu may cost more than the cheapest, as a user writes it.
SHARES = ("0", "0.15", "0.4", "0.5")


class Seen(NamedTuple):
    """What came of one instance: of one too large for brute force nothing."""

    features: Sequence[str] = ()
    verdicts: Mapping[str, int] = {}
    points: int = 0
    violations: Sequence[str] = ()


def check_instance(number: int) -> Seen:
    verdicts: Counter[str] = Counter()
    violations, points = Violations(), 0
    instance = variant_instance(number)
    with violations.case(number):
        try:
            truth = instance.truth()
        except TooLargeError:
            return Seen()
        check_floors(instance, truth, verdicts)
        points += check_front(instance, truth)
        check_frontier(instance, truth)
        check_budgets(instance, truth)
        check_menu(instance, truth, SHARES[number % len(SHARES)])
    return Seen(sorted(instance.features), verdicts, points, violations.found)


def test_plans_and_fronts_are_those_of_brute_force() -> None:
    numbers = range(campaign_size(4, 800))
    # Half an hour of one processor when deep. Children are forked, so they know the modules of tests.
    with ExitStack() as stack:
        if is_deep():
            pool = stack.enter_context(ProcessPoolExecutor(2, mp_context=get_context("fork")))
            every = list(pool.map(check_instance, numbers))
        else:
            every = [check_instance(number) for number in numbers]
    seen = [one for one in every if one.features]
    skipped, points = len(every) - len(seen), sum(one.points for one in seen)
    features = Counter(feature for one in seen for feature in one.features)
    verdicts: Counter[str] = sum((Counter(one.verdicts) for one in seen), Counter())
    violations = Violations()
    violations.found += [violation for one in seen for violation in one.violations]
    assert skipped <= 0.5 * len(numbers)
    assert min(verdicts["optimal"], verdicts["infeasible"]) >= 0.1 * (
        sum(verdicts.values()) - verdicts["settled"]
    )
    assert verdicts["settled"] >= 0.9 * verdicts["optimal"]
    if len(numbers) > 100:
        assert all(features[feature] >= 0.02 * len(numbers) for feature in COMMON), features
    write_summary(
        "variants_against_brute_force",
        {
            "instances": len(numbers) - skipped,
            "too_large_for_brute_force": skipped,
            "mismatches": violations.checked(),
            "verdicts": dict(sorted(verdicts.items())),
            "points_of_fronts": points,
            "features": dict(sorted(features.items())),
        },
    )


@pytest.mark.parametrize("number", [325, 327])
def test_where_only_others_are_in_the_table_they_are_looked_at_for_ties(number: int) -> None:
    instance = variant_instance(number)
    check_floors(instance, instance.truth(), Counter())


def check_floors(instance: VariantInstance, truth: list[Combination], verdicts: Counter[str]) -> None:
    """Whatever the least accuracy, the plan costs what brute force's does, and of these it is the most accurate."""
    values = sorted({one.accuracy for one in truth if one.accuracy is not None})
    floors = [None, values[0], values[len(values) // 2], min(1.0, values[-1] * 0.999), values[-1]]
    before = 0
    for floor in floors:
        plan, least = instance.plan(accuracy=floor), cheapest(truth, floor)
        verdicts[plan.status] += 1
        assert (plan.status == "optimal") == (least is not None), (floor, plan.status, plan.reason)
        if least is None:
            assert plan.status == "infeasible"
            assert plan.reason
            before = 2**62
            continue
        assert plan.microusd_per_hour == plan.lower_bound_microusd_per_hour == least, floor
        assert least >= before
        before = least
        check_chosen(plan, truth)
        # Which rows of a table are more accurate is not looked for.
        verdicts["settled"] += plan.reason is None or plan.pipeline.accuracy.kind is AccuracyKind.TABLE
        assert plan.reason in (None, UNSETTLED)
        assert plan.reason or (plan.accuracy or 0.0) >= most_accurate_of(truth, least) - CLOSE, floor
        # Where variants make other tokens, or accuracy is a table, combinations are planned one by one.
        if len(combinations(plan.pipeline)) == 1 and plan.pipeline.accuracy.kind is not AccuracyKind.TABLE:
            check_ranges(plan)
        assert floor is None or (plan.accuracy or 0) >= floor - CLOSE


def check_chosen(plan: mp.Plan, truth: list[Combination]) -> None:
    """A plan names what it runs, has the accuracy and no less than the cost of that combination, and verifies."""
    runs = {
        stage: choice.variant or plan.pipeline.stages[stage].model for stage, choice in plan.choices.items()
    }
    (own,) = (one for one in truth if dict(one.models) == runs)
    assert own.cost is not None
    assert (plan.microusd_per_hour or 0) >= own.cost
    if own.accuracy is not None:
        assert plan.accuracy == pytest.approx(own.accuracy, abs=1e-12)
    assert plan.provenance.sample is not None
    assert mp.verify(plan, plan.provenance.sample).verified
    assert all(plan.table(stage).model == model for stage, model in runs.items())
    again = mp.Plan.from_document(PlanDocument.model_validate({**plan.to_document(), "checksum": ""}))
    assert again == plan


def check_front(instance: VariantInstance, truth: list[Combination]) -> int:
    """Every breakpoint is there, none is missing."""
    found = mp.pareto(*instance.given, **instance.asked)
    expected = front(truth)
    assert found.complete
    assert [round(cost * 1e6) for cost, _ in found.points] == [cost for cost, _ in expected]
    assert [value for _, value in found.points] == pytest.approx([value for _, value in expected], abs=CLOSE)
    if expected:
        best = found.best_by(10.0, 1.0)
        value = 10 * (best.accuracy or 0) - (best.usd_per_hour or 0)
        assert value == pytest.approx(max(10 * a - cost / 1e6 for cost, a in expected))
    return len(expected)


def check_frontier(instance: VariantInstance, truth: list[Combination]) -> None:
    """The staircase over the least accuracy is right on both sides of every breakpoint, and on a grid between."""
    found = mp.frontier(*instance.given, over="accuracy", time_limit_s=None, **instance.asked)
    assert found.exact
    assert found.complete
    sides = [value + shift for _, value in front(truth) for shift in (-3e-6, 3e-6)]
    for value in [*sides, *(place / 20 for place in range(1, 21))]:
        if 0 < value <= 1 and not any(abs(value - (one.accuracy or 0)) < 2e-6 for one in truth):
            cost, least = found.cost_at(value), cheapest(truth, value)
            assert (None if cost is None else round(1e6 * cost)) == least, value


def check_menu(instance: VariantInstance, truth: list[Combination], within: str) -> None:
    """Every combination that costs little more than the cheapest is offered, with its cheapest plan."""
    least = cheapest(truth, None)
    found = mp.menu(*instance.given, by="variants", within=float(within), **instance.asked)
    assert found.complete
    expected = {
        tuple(one.models.values()): one.cost
        for one in truth
        if one.cost is not None and least is not None and one.cost <= least * (1 + Decimal(within))
    }
    offered = {
        tuple(stage.model for stage in plan.pipeline.stages.values()): plan.microusd_per_hour
        for plan in found.plans
    }
    assert offered == expected


def check_budgets(instance: VariantInstance, truth: list[Combination]) -> None:
    """Of what a budget pays for, the most accurate; of these the cheapest."""
    points = front(truth)
    if not points:
        return
    for budget in {points[0][0] - 1, points[len(points) // 2][0], points[-1][0] + 1}:
        if budget < 1:
            continue
        within = [point for point in points if point[0] <= budget]
        plan = mp.most_accurate(*instance.given, budget_usd_per_hour=budget / 1e6, **instance.asked)
        if not within:
            assert plan.status == "infeasible"
            continue
        assert plan.status == "optimal"
        assert plan.microusd_per_hour == within[-1][0]
        assert plan.accuracy == pytest.approx(within[-1][1], abs=CLOSE)


def test_what_is_stopped_before_all_combinations_were_looked_at_claims_no_more_than_that() -> None:
    """The first combination is refuted, and of the others, one of which has a plan, nothing is known yet."""
    stopped = variant_instance(21).plan(guarantee="replay", time_limit_s=1e-6)
    assert (stopped.status, stopped.limit) == ("unknown", "time")
    assert stopped.lower_bound_usd_per_hour == 0.0
    # On a busy machine the first one is not even refuted.
    reasons = "the search was stopped before every combination", "the time was up before any plan was found"
    assert (stopped.reason or "").startswith(reasons)
    assert variant_instance(21).plan(guarantee="replay").status == "optimal"
