"""Brute force against an even plainer loop, and its refusal of large problems."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from mipplan_formulations import Activity, ExhaustiveParams, Optimum, TimeCostProblem, solve_exhaustively
from random_problems import random_problem


def try_one_by_one(problem: TimeCostProblem) -> Optimum | None:
    allowed = [
        (problem.evaluate(selection).cost, selection)
        for selection in product(*(range(int(m)) for m in problem.mode_counts))
        if problem.evaluate(selection).feasible
    ]
    return Optimum(*min(allowed)) if allowed else None


def test_agrees_with_a_loop_over_evaluate() -> None:
    params = ExhaustiveParams(chunk=7)  # several pieces even for small problems
    found = set()
    for seed in range(60):
        problem = random_problem(np.random.default_rng(seed))
        best = solve_exhaustively(problem, params)
        assert best == try_one_by_one(problem), seed
        found.add(best is not None)
    assert found == {True, False}


def test_among_equally_cheap_selections_the_first_is_returned() -> None:
    problem = TimeCostProblem((Activity("a", [2, 1, 1], [0, 0, 0]), Activity("b", [5, 5], [0, 0])), (), (), 0)
    assert solve_exhaustively(problem) == Optimum(6, (1, 0))


def test_too_many_selections_are_refused() -> None:
    activities = tuple(Activity(f"a{v}", [1] * 10, [1] * 10) for v in range(7))
    with pytest.raises(ValueError, match="10000000 selections are too many"):
        solve_exhaustively(TimeCostProblem(activities, (), (), 0))
