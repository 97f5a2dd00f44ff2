"""Shrinking keeps the optimum, whoever solves what is left, and says what it has proven."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from campaigns import Violations, campaign_size, write_summary
from mipplan.core import Deadline
from mipplan.solvers import Termination, presolve, shrink, solve_problem
from mipplan.solvers.backend import Answer, Selection, Settings
from mipplan.solvers.presolve import PresolveParams, ReducedProblem, solve_reduced, tighten
from mipplan.solvers.register import Auto, AutoParams, run_checked
from mipplan_formulations import FORMULATIONS, TimeCostProblem, solve_exhaustively
from mipplan_formulations.labelling import AscentParams
from random_problems import chain_problem, random_problem

#: So little that something is left to do.
ONE_ROUND = PresolveParams(most_rounds=1)


def problem_of(seed: int) -> tuple[TimeCostProblem, np.random.Generator]:
    rng = np.random.default_rng([seed, 5])
    if seed % 3:
        problem = random_problem(rng, unit=(1, 1_000_000_000)[seed % 2])
        # Costs that hardly any two selections share: of others a bound is often the optimum once it is rounded up.
        costs = (1_000 * a.cost + rng.integers(0, 1_000, a.num_modes) for a in problem.activities)
        finer = (replace(a, cost=cost) for a, cost in zip(problem.activities, costs, strict=True))
        return (replace(problem, activities=tuple(finer)) if seed % 4 < 3 else problem), rng
    paths = 1 + seed % 2
    return replace(chain_problem(4, 6, paths, seed), deadline=int(rng.integers(10, 60)) * 4_000_000), rng


def test_every_better_selection_is_left_and_bounds_hold() -> None:
    dropped, proven = 0, 0
    for seed in range(campaign_size(60, 1500)):
        problem, rng = problem_of(seed)
        drawn = tuple(int(rng.integers(m)) for m in problem.mode_counts)
        shrunk = shrink(problem, start=drawn if seed % 2 else None)
        best = solve_exhaustively(problem)
        dropped += shrunk.counts[1] - shrunk.counts[-1]
        if best is None:
            assert (shrunk.selection, shrunk.cost) == (None, None)
            continue
        assert shrunk.lower_bound <= best.cost
        if shrunk.selection is None:
            assert solve_exhaustively(shrunk.problem) is not None
            continue
        judged = problem.evaluate(shrunk.selection)
        assert judged.feasible
        assert judged.cost == shrunk.cost
        proven += shrunk.lower_bound >= best.cost
        left = solve_exhaustively(shrunk.problem)
        assert judged.cost == best.cost or (left is not None and left.cost == best.cost)
        if shrunk.guide is not None:
            for selection in product(*(range(m) for m in shrunk.problem.mode_counts)):
                allowed = shrunk.problem.evaluate(selection)
                if allowed.feasible:
                    lifts = zip(shrunk.guide.excess, selection, strict=True)
                    assert shrunk.guide.bound + sum(float(own[o]) for own, o in lifts) <= allowed.cost + 1e-6
    assert dropped > 30
    assert proven > 3


@pytest.mark.parametrize("solver", ["highs", "cp_sat_native", "labels", "cbc"])
def test_the_optimum_is_that_of_brute_force(solver: str) -> None:
    formulations = list(FORMULATIONS)
    cases = campaign_size(24, 500)
    violations = Violations()
    for seed in range(cases):
        with violations.case(seed):
            problem, _ = problem_of(seed)
            best = solve_exhaustively(problem)
            name = formulations[seed % len(formulations)]
            answer = solve_problem(problem, solver, formulation=name, shrinking=True, time_limit_s=60)
            if best is None:
                assert (answer.termination, answer.lower_bound) == (Termination.INFEASIBLE, np.inf)
            else:
                assert answer.termination is Termination.OPTIMAL
                assert answer.cost == answer.lower_bound == best.cost
    write_summary(
        f"shrunk_against_exhaustive_{solver}", {"problems": cases, "differences": violations.checked()}
    )


@pytest.mark.parametrize("annealing_s", [0.0, math.inf])
def test_dual_ascent_keeps_the_optimum(annealing_s: float) -> None:
    """`tighten` where it would not be worth it: what is better than the selection at hand is left, and bounds hold."""
    closed = dropped = 0
    for seed in range(campaign_size(120, 600)):
        problem, _ = problem_of(seed)
        best, state = solve_exhaustively(problem), shrink(problem, time_limit_s=60, params=ONE_ROUND)
        params = PresolveParams(annealing_s=annealing_s, anneal_runs=1)
        tight = tighten(state, Deadline.after([None, 60.0][seed % 2]), 0.0, params)
        if best is None:
            assert tight.selection is None
            continue
        assert tight.lower_bound <= best.cost
        if tight.selection is None or tight.cost is None:
            continue
        assert problem.evaluate(tight.selection).feasible
        assert problem.cost_of(tight.selection) == tight.cost
        left = solve_exhaustively(tight.problem)
        assert tight.cost == best.cost or (left is not None and left.cost == best.cost)
        closed += tight.lower_bound > state.lower_bound
        dropped += tight.problem.num_binaries < state.problem.num_binaries
    assert closed > 3
    assert dropped > 3


@pytest.mark.parametrize(("most_states", "annealing_s"), [(2, 0.0), (3_000, 0.0), (3_000, math.inf)])
def test_many_paths_are_solved_by_dual_ascent(most_states: int, annealing_s: float) -> None:
    params = PresolveParams(
        few_paths=1,
        few_modes=0,
        most_rounds=1,
        annealing_s=annealing_s,
        anneal_runs=1,
        ascent=AscentParams(most_states=most_states),
    )
    for seed in range(campaign_size(24, 500)):
        problem, _ = problem_of(seed)
        best = solve_exhaustively(problem)
        limit_s = 60.0 if annealing_s else None
        answer = run_checked(Auto(AutoParams(presolve=params)), problem, Settings(time_limit_s=limit_s))
        if best is None:
            assert answer.termination is Termination.INFEASIBLE
        else:
            assert answer.termination is Termination.OPTIMAL
            assert answer.cost == answer.lower_bound == best.cost


@pytest.mark.parametrize("ends", [True, False])
def test_few_modes_are_tried_before_dual_ascent_and_what_that_finds_counts(ends: bool) -> None:
    params = PresolveParams(few_paths=0, most_rounds=0, annealing_s=math.inf)
    limits_s: list[float | None] = []

    def solve(reduced: ReducedProblem, settings: Settings, _: Selection | None) -> Answer[Selection]:
        limits_s.append(settings.time_limit_s)
        best = solve_exhaustively(reduced.problem)
        if best is None:  # nothing better than the selection at hand is left
            return Answer(Termination.INFEASIBLE, None)
        termination = Termination.OPTIMAL if ends else Termination.FEASIBLE
        return Answer(termination, best.selection, lower_bound=float(best.cost if ends else best.cost - 1))

    tried = 0
    for seed in range(campaign_size(40, 500)):
        problem, _ = problem_of(seed)
        best, start = solve_exhaustively(problem), first_feasible(problem)
        limits_s.clear()
        answer = solve_reduced(problem, Settings(time_limit_s=60.0), start, solve, params)
        assert answer.objective == (None if best is None else best.cost)
        if limits_s and limits_s[0] is not None and limits_s[0] <= params.try_s:
            tried += 1
            assert len(limits_s) == 1 or not ends
    assert tried > 5


def first_feasible(problem: TimeCostProblem) -> Selection | None:
    every = product(*(range(m) for m in problem.mode_counts))
    return next((selection for selection in every if problem.evaluate(selection).feasible), None)


def test_time_may_run_out_at_once() -> None:
    problem = replace(chain_problem(6, 30, 3, seed=1), deadline=220_000_000)
    shrunk = shrink(problem, time_limit_s=1e-9)
    assert shrunk.guide is None
    assert shrunk.cost is None
    answer = solve_problem(problem, "highs", shrinking=True, time_limit_s=1e-3)
    assert answer.lower_bound <= (np.inf if answer.cost is None else answer.cost)


def test_without_highs_dominated_modes_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presolve, "relax", lambda *_, **__: None)
    problem = replace(chain_problem(3, 6, 2, seed=1), deadline=200_000_000)
    shrunk = shrink(problem)
    assert shrunk.counts[-1] <= shrunk.counts[0]
    assert shrunk.guide is None
    best, left = solve_exhaustively(problem), solve_exhaustively(shrunk.problem)
    assert best is not None
    assert left is not None
    assert left.cost == best.cost


def test_shrinking_saves_modes_and_says_so() -> None:
    problem = replace(chain_problem(6, 40, 2, seed=3), deadline=150_000_000)
    answer = solve_problem(problem, "highs", shrinking=True)
    assert int(answer.details["modes_left"]) < int(answer.details["modes"]) / 2
    assert answer.cost == solve_problem(problem, "highs").cost
