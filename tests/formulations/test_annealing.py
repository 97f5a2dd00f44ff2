"""Annealing finds feasible selections that are never dearer, and on small problems mostly the cheapest."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from campaigns import campaign_size
from mipplan_formulations import TimeCostProblem, solve_exhaustively
from mipplan_formulations.time_cost import Annealer, can_anneal
from mipplan_formulations.time_cost.annealing import AnnealingParams
from random_problems import random_problem

pytest.importorskip("numba")

#: Enough for a few activities.
FEW_MOVES = AnnealingParams(moves=5_000)


def with_paths_alone(problem: TimeCostProblem) -> TimeCostProblem:
    activities = (replace(a, usage=a.usage[:, :0]) for a in problem.activities)
    return replace(problem, activities=tuple(activities), resources=(), covers=())


def dearest_plan(problem: TimeCostProblem) -> tuple[int, ...] | None:
    """A feasible selection that leaves much to do, found by trying the dearest of some at random."""
    rng = np.random.default_rng(0)
    drawn = (tuple(int(rng.integers(m)) for m in problem.mode_counts) for _ in range(200))
    return max((plan for plan in drawn if problem.evaluate(plan).feasible), key=problem.cost_of, default=None)


def test_what_is_found_is_feasible_and_mostly_the_cheapest() -> None:
    runs = cheaper = cheapest = 0
    for seed in range(campaign_size(80, 1000)):
        problem = with_paths_alone(random_problem(np.random.default_rng([seed, 7])))
        start = dearest_plan(problem)
        if start is None:
            continue
        annealer = Annealer(problem, FEW_MOVES)
        found = annealer.run(start, seed)
        assert problem.evaluate(found).feasible
        assert problem.cost_of(found) <= problem.cost_of(start)
        assert annealer.run(start, seed) == found
        best = solve_exhaustively(problem)
        assert best is not None
        runs, cheaper = runs + 1, cheaper + (problem.cost_of(found) < problem.cost_of(start))
        cheapest += problem.cost_of(found) == best.cost
    assert runs > 40
    assert cheaper > 0.5 * runs
    assert cheapest > 0.9 * runs


def test_of_several_runs_the_cheapest_counts_and_time_may_be_over() -> None:
    for seed in range(20):
        problem = with_paths_alone(random_problem(np.random.default_rng([seed, 8])))
        start = dearest_plan(problem)
        if start is not None:
            annealer = Annealer(problem, FEW_MOVES)
            each = [problem.cost_of(annealer.run(start, number)) for number in range(3)]
            assert problem.cost_of(annealer.improve(start, range(3), math.inf)) == min(each)
            assert annealer.improve(start, range(3), -math.inf) == start


def test_fewer_exchanges_are_tried_where_they_look_at_many_stops() -> None:
    changed = 0
    for seed in range(20):
        problem = with_paths_alone(random_problem(np.random.default_rng([seed, 8])))
        start = dearest_plan(problem)
        if start is not None:
            few = replace(FEW_MOVES, stops=0)
            assert Annealer(problem, few).run(start, 0) == start
            changed += Annealer(problem, FEW_MOVES).run(start, 0) != start
    assert changed > 3


def test_problems_with_more_to_keep_than_paths_are_refused() -> None:
    refused = 0
    for seed in range(40):
        problem = random_problem(np.random.default_rng([seed, 9]))
        if problem.resources or problem.covers:
            assert not can_anneal(problem)
            with pytest.raises(ValueError, match="resources and covers"):
                Annealer(problem)
            refused += 1
    assert refused > 3
