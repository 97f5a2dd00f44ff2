"""Whole units from the relaxation: feasible, above the proven bound, and nearly always the optimum of brute force.

And rows for demands: their slopes are falls of the times, and places move to solutions.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from campaigns import campaign_size, write_summary
from mipplan.tuner.scaling_solver import CutPlaces, ScalingParams, ScalingSolver
from mipplan_formulations import Arc, Demand, Group, ScalingActivity, ScalingProblem, scale_exhaustively
from mipplan_formulations.scaling import Demands
from random_scaling import random_demand, random_scaling, tightened


def test_rounding_stays_within_the_proven_gap() -> None:
    """The campaign of 500 and more random problems against brute force over whole units."""
    seen: Counter[str] = Counter()
    worst = 0.0
    for seed in range(campaign_size(quick=420, deep=6_000)):
        rng = np.random.default_rng([15, seed])
        problem = random_scaling(rng, unit=int(rng.choice([1, 1, 1000])))
        best = scale_exhaustively(problem)
        sized = ScalingSolver().solve(problem)
        assert (sized is None) == (best is None), seed
        if sized is None or best is None:
            seen["infeasible"] += 1
            continue
        evaluation = problem.evaluate(sized.units)
        assert evaluation.feasible, seed
        assert (evaluation.cost, evaluation.shed) == (sized.cost, sized.shed), seed
        assert sized.bound <= best.cost <= sized.cost, seed
        seen["optimal" if sized.cost == best.cost else "dearer"] += 1
        seen["proven optimal"] += sized.cost == sized.bound
        seen["with demands"] += any(problem.is_timed)
        seen["shedding"] += any(best.shed)
        worst = max(worst, (sized.cost - best.cost) / max(1, best.cost))
    solved = seen["optimal"] + seen["dearer"]
    assert solved > 200
    assert seen["optimal"] >= 0.97 * solved
    assert seen["proven optimal"] >= 0.5 * solved
    assert min(seen["with demands"], seen["shedding"], seen["infeasible"]) > 20
    write_summary("scaling_rounding", {**seen, "largest_excess_over_the_optimum": round(worst, 4)})


def test_units_are_found_where_limits_leave_hardly_any() -> None:
    """No more devices than random units take, and deadlines that these just keep."""
    seen: Counter[str] = Counter()
    for seed in range(campaign_size(quick=400, deep=6_000)):
        rng = np.random.default_rng([17, seed])
        problem = tightened(random_scaling(rng, unit=int(rng.choice([1, 1000]))), rng, units=20)
        selections = math.prod((problem.most - problem.least + 1).tolist())
        if not problem.resources or not any(problem.is_timed) or selections > 3_000:
            continue
        best, sized = scale_exhaustively(problem), ScalingSolver().solve(problem)
        if sized is None:
            seen["none" if best is None else "missed"] += 1
            continue
        assert best is not None, seed
        assert problem.evaluate(sized.units).feasible, seed
        assert sized.bound <= best.cost <= sized.cost, seed
        seen["found"] += 1
    assert seen["found"] > 100
    assert seen["missed"] <= 0.005 * seen["found"]


def test_kept_from_one_problem_to_the_next_is_as_good_as_new() -> None:
    for seed in range(12):
        rng = np.random.default_rng([16, seed])
        problem = random_scaling(rng)
        kept = ScalingSolver()
        for _ in range(6):
            count = problem.need.size
            need = np.where(problem.is_timed, problem.need, rng.integers(0, 5000, count))
            moved = replace(problem, need=need, present=rng.integers(1, 6, count))
            found, fresh = kept.solve(moved), ScalingSolver().solve(moved)
            assert (found is None) == (fresh is None)
            best = scale_exhaustively(moved)
            if found is not None and best is not None:
                assert found.bound <= best.cost <= found.cost
        assert kept.relaxation.builds <= 1


def demanding(deadline: int, load: int, own: int = 0, most: int = 100_000) -> ScalingProblem:
    # In thousandths: rows have whole slopes, so times should be large numbers, as nanoseconds are.
    activity = ScalingActivity("only", 3, duration=5_000, deadline=1_000 * deadline)
    demand = Demand(np.array([0, 40_000]), np.array([1_000 * load, 2_000 * load]), 1_000 * own)
    group = (Group("none"),)
    return ScalingProblem((activity,), group, [0], [1], [most], [1], demands=(demand,))  # type: ignore[arg-type]


def test_more_units_are_looked_at_where_few_are_not_enough() -> None:
    # 5 + wait ≤ 15 takes load/10 units, far beyond the numbers that are looked at to begin with.
    solver = ScalingSolver()
    for load in (5_000, 20_000, 90):
        sized = solver.solve(demanding(15, load))
        assert sized is not None
        assert sized.units == (max(load // 10, 2 * load // 50, 1),)
        # The rows of so many units may lie two below the hull.
        assert sized.bound <= sized.cost <= 1.001 * sized.bound + 3


def test_rows_are_put_at_the_solution_until_the_bound_is_right() -> None:
    """Before any units are rounded: one pass of the relaxation knows what so many units cost."""
    for load in (3_000, 5_000, 20_000):
        sized = ScalingSolver(ScalingParams(most_passes=1)).solve(demanding(15, load))
        assert sized is not None
        assert sized.bound <= sized.cost <= 1.001 * sized.bound + 3


def test_each_activity_gets_the_units_it_needs_however_few_others_do() -> None:
    """Thousands for one and a handful for the other: numbers are widened for whoever needs it."""
    alone = [demanding(15, load) for load in (20_000, 90)]
    both = ScalingProblem(
        tuple(replace(problem.activities[0], name=f"a{v}") for v, problem in enumerate(alone)),
        alone[0].groups,
        *(np.array([value] * 2) for value in (0, 1, 100_000, 1)),  # type: ignore[arg-type]
        demands=tuple(problem.demands[0] for problem in alone),
    )
    sized = ScalingSolver().solve(both)
    assert sized is not None
    assert sized.units == (2_000, 9)


def test_the_bound_knows_of_more_units_than_are_looked_at_first() -> None:
    """One after the other, 20.5 for both: with 200 cheap ones 5 dear ones are enough, with 48 it takes 6."""
    activities = tuple(ScalingActivity(f"a{cost}", cost, deadline=20_500) for cost in (1, 1000))
    problem = ScalingProblem(
        activities,
        (Group("none"),),
        *(np.array([value] * 2) for value in (0, 1, 100_000, 1)),  # type: ignore[arg-type]
        arcs=(Arc(0, 1, 0),),
        demands=(Demand(np.array([0]), np.array([0]), 100_000),) * 2,
    )
    best = problem.evaluate([200, 5])
    assert (best.feasible, best.cost) == (True, 5_200)
    sized = ScalingSolver().solve(problem)
    assert sized is not None
    assert sized.bound <= 5_200 <= sized.cost


@pytest.mark.parametrize("seed", [211, 385])
def test_halves_are_looked_at_where_rounding_finds_nothing(seed: int) -> None:
    """Two of the tightened problems: hardly any units keep limits and deadlines."""
    rng = np.random.default_rng([17, seed])
    problem = tightened(random_scaling(rng, unit=int(rng.choice([1, 1000]))), rng, units=20)
    assert ScalingSolver(ScalingParams(most_halves=0)).solve(problem) is None
    sized, best = ScalingSolver().solve(problem), scale_exhaustively(problem)
    assert sized is not None
    assert best is not None
    assert problem.evaluate(sized.units).feasible
    assert sized.bound <= best.cost <= sized.cost


def test_rounding_finds_units_by_itself_where_only_some_are_timed() -> None:
    """Without looking at halves: what has demands is rounded to keep its deadlines, the rest to shed little."""
    found = 0
    for seed in range(400):
        problem = random_scaling(np.random.default_rng([18, seed]), unit=1000)
        if any(problem.is_timed) and not all(problem.is_timed):
            sized = ScalingSolver(ScalingParams(most_halves=0)).solve(problem)
            assert (sized is None) == (scale_exhaustively(problem) is None), seed
            found += sized is not None
    assert found > 20


def test_unreachable_deadlines_are_told_from_tight_ones() -> None:
    assert ScalingSolver().solve(demanding(5, 10)) is None
    assert ScalingSolver().solve(demanding(6, 10, own=5, most=14)) is None
    tight = ScalingSolver().solve(demanding(7, 10, own=5))
    assert tight is not None
    assert tight.units == (8,)
    assert ScalingSolver().solve(demanding(7, 10, own=5, most=7)) is None


# --- where rows are put ----------------------------------------------------------------------------------------------


def slow_slopes(demand: Demand, placed: list[int], least: int, most: int) -> list[list[int]]:
    """One activity's, number by number."""
    found = []
    for kind in ("wait", "own"):
        times = {n: int(demand.times(kind, n)) for n in range(least, most + 1)}
        places = [min(max(n, least), max(least, most - 1)) for n in placed]
        falls = [times[n] - times.get(n + 1, times[n]) for n in places]
        smallest = min((fall for fall in falls if fall > 0), default=1)
        found.append([fall if fall > 0 else smallest for fall in falls])
    return [found[0], found[1] if demand.own_load else [0] * len(placed)]


def test_slopes_are_falls_at_the_places() -> None:
    for seed in range(campaign_size(quick=40, deep=1_000)):
        rng = np.random.default_rng([13, seed])
        mine = [random_demand(rng, unit=int(rng.choice([1, 10**6]))) for _ in range(int(rng.integers(1, 5)))]
        least = rng.integers(1, 20, len(mine))
        most = least + rng.choice([0, 1, 5, 60], len(mine))
        places = CutPlaces(len(mine))
        places.move_to(rng.uniform(1, 40, len(mine)))
        found = places.slopes(Demands(mine), least, most)
        for i, demand in enumerate(mine):
            expected = slow_slopes(demand, places.units[i].tolist(), int(least[i]), int(most[i]))
            assert found[:, i].tolist() == expected, f"case {seed}"


def test_places_move_to_a_solution_and_beside_it_and_keep_their_ends() -> None:
    places = CutPlaces(2)
    before = places.units.copy()
    assert not places.move_to(before[:, 3])
    assert np.array_equal(places.units, before)
    assert places.move_to([float(before[0, 3]), 30.4])
    assert np.array_equal(places.units[0], before[0])
    assert {29, 30, 31, int(before[1].min()), int(before[1].max())} <= set(places.units[1].tolist())
    assert not places.move_to([before[0, 3], 30.0])
    assert places.units.shape == (2, ScalingParams().rows)
