"""Solving problems rather than models: what all ways of it have to do alike."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from campaigns import Violations, campaign_size, write_summary
from mipplan.core import InputError, SolverError, SolverUnavailableError
from mipplan.solvers import Termination, available_problem_solvers, solve_problem
from mipplan.solvers.presolve import find_guide
from mipplan.solvers.register import PROBLEM_BACKENDS
from mipplan_formulations import Activity, Cover, Path, TimeCostProblem, solve_exhaustively
from mipplan_formulations.labelling import solve_by_labels
from random_problems import chain_problem, random_problem

UNITS = [1, 10_000_000, 1_000_000_000]


def check(problem: TimeCostProblem, solver: str, seed: int) -> bool:
    best = solve_exhaustively(problem)
    start = best.selection if best is not None and seed % 3 == 0 else None
    answer = solve_problem(problem, solver, seed=seed, start=start)
    if best is None:
        assert answer.termination is Termination.INFEASIBLE
        assert (answer.selection, answer.cost, answer.lower_bound) == (None, None, np.inf)
        return False
    assert answer.termination is Termination.OPTIMAL
    assert answer.selection is not None
    judged = problem.evaluate(answer.selection)
    assert judged.feasible
    assert judged.cost == answer.cost == answer.lower_bound == best.cost
    return True


def test_optimum_is_that_of_brute_force() -> None:
    cases = campaign_size(20, 600)
    verdicts = {True: 0, False: 0}
    violations = Violations()
    for unit, seed, solver in product(UNITS, range(cases), PROBLEM_BACKENDS):
        with violations.case(f"{solver}, unit {unit}, seed {seed}"):
            problem = random_problem(np.random.default_rng([unit, seed]), unit=unit)
            verdicts[check(problem, solver, seed)] += 1
    assert min(verdicts.values()) > cases
    write_summary(
        "problem_solvers_against_exhaustive",
        {
            "problems": cases * len(UNITS),
            "units": UNITS,
            "solves": cases * len(UNITS) * len(PROBLEM_BACKENDS),
            "feasible": verdicts[True],
            "infeasible": verdicts[False],
            "solvers": {info.name: info.version for info in available_problem_solvers()},
            "differences": violations.checked(),
        },
    )


@pytest.mark.parametrize("solver", [*PROBLEM_BACKENDS, "highs"])
def test_figures_and_words_are_alike(solver: str) -> None:
    problem = replace(chain_problem(4, 6, 1, seed=2), deadline=220_000_000)
    best = solve_exhaustively(problem)
    assert best is not None
    answer = solve_problem(problem, solver, formulation="levels", time_limit_s=30, start=best.selection)
    assert (answer.termination, answer.cost, answer.lower_bound) == ("optimal", best.cost, best.cost)
    assert answer.solver == solver
    assert answer.formulation == ("levels" if solver == "highs" else None)
    assert answer.details["version"]
    assert answer.solve_s > 0
    assert (answer.build_s > 0) == (solver == "highs")
    repeated = solve_problem(problem, solver, formulation="levels", seed=0)
    assert repeated.cost == best.cost


@pytest.mark.parametrize("solver", PROBLEM_BACKENDS)
def test_a_cover_without_marks_is_infeasible(solver: str) -> None:
    problem = TimeCostProblem(
        (Activity("a", [1], [1]),), (), (), 5, covers=(Cover(((0, np.array([False])),)),)
    )
    assert solve_problem(problem, solver).termination is Termination.INFEASIBLE


@pytest.mark.parametrize("solver", PROBLEM_BACKENDS)
def test_costs_of_nothing_and_of_one_activity(solver: str) -> None:
    path = Path((0,), 0, (np.array([3, 0]),))
    free = TimeCostProblem((Activity("a", [0, 0], [5, 5]),), (), (path,), 6)
    answer = solve_problem(free, solver)
    assert (answer.selection, answer.cost, answer.lower_bound) == ((1,), 0, 0.0)


@pytest.mark.parametrize("solver", PROBLEM_BACKENDS)
def test_a_limit_leaves_a_bound(solver: str) -> None:
    problem = replace(chain_problem(25, 60, 3, seed=1), deadline=700_000_000)
    answer = solve_problem(problem, solver, time_limit_s=0.2)
    assert answer.termination in (Termination.FEASIBLE, Termination.NO_SOLUTION_FOUND, Termination.OPTIMAL)
    assert answer.lower_bound >= sum(int(a.cost.min()) for a in problem.activities) - 1
    assert answer.cost is None or answer.lower_bound <= answer.cost


@pytest.mark.parametrize("solver", PROBLEM_BACKENDS)
def test_a_gap_is_enough_if_asked_for(solver: str) -> None:
    problem = chain_problem(6, 8, 1, seed=8)
    answer = solve_problem(problem, solver, gap=0.2)
    assert answer.termination is Termination.OPTIMAL
    assert answer.cost is not None
    best = solve_exhaustively(problem)
    assert best is not None
    assert answer.lower_bound <= best.cost <= answer.cost
    assert answer.cost - answer.lower_bound <= 0.2 * answer.cost


def test_guides_hold_for_every_selection() -> None:
    compared = 0
    for seed in range(campaign_size(40, 500)):
        problem = random_problem(np.random.default_rng(seed))
        guide = find_guide(problem, "levels")
        if guide is None:
            assert solve_exhaustively(problem) is None
            continue
        for selection in product(*(range(m) for m in problem.mode_counts)):
            judged = problem.evaluate(selection)
            if judged.feasible:
                lifted = sum(float(own[o]) for own, o in zip(guide.excess, selection, strict=True))
                assert guide.bound + lifted <= judged.cost + 1e-6
                compared += 1
    assert compared > 100


def test_a_guide_saves_labels() -> None:
    problem = replace(chain_problem(8, 12, 2, seed=3), deadline=192_000_000)
    guided = solve_by_labels(problem, guide=find_guide(problem, "levels"))
    alone = solve_by_labels(problem)
    assert guided.cost == alone.cost
    assert guided.labels < alone.labels / 2


def test_unknown_names() -> None:
    problem = chain_problem(2, 2, 1, seed=0)
    with pytest.raises(SolverUnavailableError, match="there is no solver 'gurobi'"):
        solve_problem(problem, "gurobi")
    with pytest.raises(KeyError, match="edges"):
        solve_problem(problem, "highs", formulation="edges")
    with pytest.raises(InputError, match="time_limit_s"):
        solve_problem(problem, "labels", time_limit_s=0)


def test_sums_that_leave_int64_are_an_error() -> None:
    activities = tuple(Activity(f"a{v}", [2**53], [1]) for v in range(100))
    with pytest.raises(SolverError, match="too large"):
        solve_problem(TimeCostProblem(activities, (), (), 5), "labels")


def test_within_a_gap_the_whole_bound_is_no_more_than_is_proven() -> None:
    wide = 0
    for seed in range(20):
        problem = chain_problem(activities=6, modes=12, paths=3, seed=seed)
        best, near = solve_problem(problem), solve_problem(problem, "cp_sat_native", gap=0.3)
        if best.cost is None:
            continue
        assert best.whole_bound == best.cost
        assert near.cost is not None
        assert near.whole_bound <= best.cost <= near.cost
        wide += best.cost < near.cost
    assert wide > 0


@pytest.mark.parametrize("start", [[0], [0, 9, 0], "000", [0.5, 0, 0], 3])
def test_a_selection_to_start_from_names_modes_that_there_are(start: Any) -> None:
    with pytest.raises(InputError, match=r"^start: "):
        solve_problem(chain_problem(3, 4, 1, seed=1), start=start)
