"""Starts that are not the best: no solver may call them optimal."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import cast

import numpy as np
import pytest

from campaigns import campaign_size
from mipplan.solvers import Termination, solve
from mipplan.solvers.answer import RawAnswer, Settings
from mipplan.solvers.starts import run_from_start
from mipplan_formulations import FORMULATIONS, TimeCostProblem, solve_exhaustively
from random_problems import binary_model, chain_problem, random_problem

SOLVERS = ["highs", "pulp_highs", "cbc", "cp_sat", "scip"]


def problem_of(seed: int) -> tuple[TimeCostProblem, np.random.Generator]:
    rng = np.random.default_rng(seed)
    if seed % 2:
        return random_problem(rng), rng
    return replace(chain_problem(5, 6, 1, seed), deadline=int(rng.integers(15, 40)) * 5_000_000), rng


@pytest.mark.parametrize("solver", ["highs", "pulp_highs"])
def test_what_highs_calls_optimal_by_itself(solver: str) -> None:
    problem, _ = problem_of(230)
    best = solve_exhaustively(problem)
    assert best is not None
    formulation = FORMULATIONS["paths"]
    model = formulation.build(problem)
    start = formulation.encode(problem, model, (0, 5, 2, 2, 3))
    answer = solve(model, solver, start=start)
    assert answer.objective == answer.lower_bound == best.cost


def test_any_feasible_start_leads_to_the_optimum() -> None:
    formulation = FORMULATIONS["paths"]
    started = 0
    for seed in range(campaign_size(40, 1500)):
        problem, rng = problem_of(seed)
        best = solve_exhaustively(problem)
        drawn = [tuple(int(rng.integers(m)) for m in problem.mode_counts) for _ in range(20)]
        selection = next((s for s in drawn if problem.evaluate(s).feasible), None)
        if best is None or selection is None:
            continue
        started += 1
        model = formulation.build(problem)
        for solver in SOLVERS:
            answer = solve(model, solver, start=formulation.encode(problem, model, selection))
            assert answer.objective == best.cost, (solver, seed)
    assert started >= 10


def backend_that_says(*answers: RawAnswer) -> tuple[ModuleType, list[Settings]]:
    asked: list[Settings] = []

    def run(_model: object, settings: Settings) -> RawAnswer:
        asked.append(settings)
        return answers[len(asked) - 1]

    return cast(ModuleType, SimpleNamespace(run=run)), asked


def test_only_a_contradiction_is_asked_again() -> None:
    model = binary_model([5, 3], [[1, 1]], [1], [2])
    dear, cheap = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    start = Settings(start=dear, time_limit_s=9)
    wrong = RawAnswer(Termination.OPTIMAL, dear, 2.0, {})
    right = RawAnswer(Termination.OPTIMAL, cheap, 3.0, {})
    nothing = RawAnswer(Termination.NO_SOLUTION_FOUND, None, 1.0, {})
    backend, asked = backend_that_says(wrong, right)
    assert run_from_start(backend, model, start) is right
    assert asked[1].start is None
    assert asked[1].time_limit_s is not None
    assert asked[1].time_limit_s <= 9
    # the solution at hand is kept if the second run finds none
    again = run_from_start(backend_that_says(wrong, nothing)[0], model, start)
    assert (again.termination, again.values, again.lower_bound) == (Termination.FEASIBLE, dear, 1.0)
    for settings, answer in (
        (Settings(), wrong),
        (start, right),
        (replace(start, gap=0.6), wrong),
        (start, replace(wrong, termination=Termination.FEASIBLE)),
        (start, replace(wrong, lower_bound=-np.inf)),
    ):
        backend, asked = backend_that_says(answer)
        assert run_from_start(backend, model, settings) is answer
        assert len(asked) == 1
