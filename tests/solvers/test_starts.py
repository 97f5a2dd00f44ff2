"""Starts that are not the best: no solver may call them optimal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from campaigns import campaign_size
from mipplan.core import Float64
from mipplan.solvers import Answer, Termination, solve
from mipplan.solvers.backend import Settings
from mipplan.solvers.exact import run_from_start
from mipplan.solvers.highs import Highs
from mipplan.solvers.register import LINEAR_BACKENDS
from mipplan_formulations import FORMULATIONS, LinearModel, TimeCostProblem, solve_exhaustively
from random_problems import binary_model, chain_problem, random_problem


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
        for solver in LINEAR_BACKENDS:
            answer = solve(model, solver, start=formulation.encode(problem, model, selection))
            assert answer.objective == best.cost, (solver, seed)
    assert started >= 10


class Saying(Highs):
    """Gives one answer after the other, and notes what it was asked."""

    def __init__(self, *answers: Answer[Float64]) -> None:
        self.answers = iter(answers)
        self.asked: list[tuple[Settings, Float64 | None]] = []

    def run(self, model: LinearModel, settings: Settings, start: Float64 | None) -> Answer[Float64]:
        self.asked.append((settings, start))
        return next(self.answers)


def test_only_a_contradiction_is_asked_again() -> None:
    model = binary_model([5, 3], [[1, 1]], [1], [2])
    dear, cheap = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    limited = Settings(time_limit_s=9)
    wrong = Answer(Termination.OPTIMAL, dear, lower_bound=2.0)
    right = Answer(Termination.OPTIMAL, cheap, lower_bound=3.0)
    nothing: Answer[Float64] = Answer(Termination.NO_SOLUTION_FOUND, None, lower_bound=1.0)
    backend = Saying(wrong, right)
    assert run_from_start(backend, model, limited, dear) is right
    again, start = backend.asked[1]
    assert start is None
    assert again.time_limit_s is not None
    assert again.time_limit_s <= 9
    # the solution at hand is kept if the second run finds none
    kept = run_from_start(Saying(wrong, nothing), model, limited, dear)
    assert (kept.termination, kept.values, kept.lower_bound) == (Termination.FEASIBLE, dear, 1.0)
    for settings, start, answer in (
        (Settings(), None, wrong),
        (limited, dear, right),
        (replace(limited, gap=0.6), dear, wrong),
        (limited, dear, replace(wrong, termination=Termination.FEASIBLE)),
        (limited, dear, replace(wrong, lower_bound=-np.inf)),
    ):
        backend = Saying(answer)
        assert run_from_start(backend, model, settings, start) is answer
        assert len(backend.asked) == 1
