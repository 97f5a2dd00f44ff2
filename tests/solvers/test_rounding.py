"""LP rounding: its rows cut off no plan, its bound and plans enclose the optimum, and d/2 holds where it is proven."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from campaigns import campaign_size
from mipplan.core import Deadline
from mipplan.solvers import Termination, solve_problem
from mipplan.solvers.rounding import Rounding, RoundingParams, _joint_uniforms
from mipplan_formulations import Activity, Path, Resource, TimeCostProblem, solve_exhaustively
from random_problems import random_problem


def plain(problem: TimeCostProblem) -> TimeCostProblem:
    """The problem without resources and covers."""
    activities = tuple(replace(a, usage=a.usage[:, :0]) for a in problem.activities)
    return replace(problem, activities=activities, resources=(), covers=())


def without_waits(problem: TimeCostProblem) -> TimeCostProblem:
    """The problem in which nothing waits: the one that the theorem is about."""
    paths = [Path(p.activities, p.lag, tuple(np.zeros_like(w) for w in p.waits)) for p in problem.paths]
    return replace(problem, paths=tuple(paths))


def test_bound_and_plan_enclose_the_optimum() -> None:
    outcomes: dict[Termination, int] = {}
    for seed in range(campaign_size(150, 2000)):
        problem = random_problem(np.random.default_rng(seed), unit=int([1, 10**8][seed % 2]))
        answer, best = solve_problem(problem, "lp_rounding"), solve_exhaustively(problem)
        outcomes[answer.termination] = outcomes.get(answer.termination, 0) + 1
        if best is None:
            assert answer.selection is None
        else:
            assert answer.lower_bound <= best.cost
            assert answer.cost is None or answer.cost >= best.cost
            assert answer.termination is not Termination.INFEASIBLE
            if answer.termination is Termination.OPTIMAL:
                assert answer.cost == best.cost
    assert {Termination.OPTIMAL, Termination.FEASIBLE, Termination.INFEASIBLE} <= outcomes.keys()


def test_half_the_depth_is_kept_where_nothing_waits() -> None:
    unlucky = 0
    for seed in {*range(campaign_size(150, 2000)), 1802}:  # 1802: an optimum that costs nothing
        problem = without_waits(plain(random_problem(np.random.default_rng(seed))))
        best = solve_exhaustively(problem)
        if best is None:
            continue
        rounding = Rounding(problem, Deadline(), RoundingParams())
        shares, _ = rounding.relax()
        assert shares is not None
        plan = rounding.round(shares)
        assert plan is not None
        assert problem.evaluate(plan).feasible
        assert problem.cost_of(plan) <= max(1, rounding.depth / 2) * best.cost
        unlucky += problem.cost_of(plan) > best.cost
    assert unlucky < campaign_size(150, 2000) / 10


def test_no_violated_row_is_missed() -> None:
    """Of all choices on a path that are late, none has shares below it that add up to less than 1."""
    looked_at = 0
    for seed in range(campaign_size(60, 600)):
        problem = plain(random_problem(np.random.default_rng(seed)))
        if solve_exhaustively(problem) is None:
            continue
        rounding = Rounding(problem, Deadline(), RoundingParams())
        shares, _ = rounding.relax()
        assert shares is not None
        own = np.split(shares, np.cumsum(problem.mode_counts)[:-1])
        for path in rounding.paths:
            for modes in product(*(range(problem.activities[v].num_modes) for v in path.activities)):
                for place in range(len(modes)):
                    total, value = 0.0, path.lag
                    for k, (v, o) in enumerate(zip(path.activities, modes, strict=True)):
                        measure = problem.activities[v].duration
                        if k == place:
                            measure = measure + np.maximum(path.waits[k], path.least_wait)
                        total += float(own[v][measure < measure[o]].sum())
                        value += int(measure[o])
                    if value > problem.deadline:
                        looked_at += 1
                        assert total >= 1 - 1e-5
    assert looked_at > 500


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9])
def test_thresholds_are_uniform_and_add_up(count: int) -> None:
    draws = (np.arange(1000) + 0.5) / 1000
    drawn = np.array([list(_joint_uniforms(count, u, branch)) for branch in (0, 1) for u in draws])
    assert drawn.shape == (2000, count)
    assert np.allclose(drawn.sum(axis=1), count / 2)
    if count > 1:  # one alone has nothing to make up for it
        for column in drawn.T:
            assert np.allclose(np.sort(column)[::2], draws, atol=2e-3)


def test_time_may_run_out_at_once() -> None:
    problem = plain(random_problem(np.random.default_rng(3)))
    answer = solve_problem(problem, "lp_rounding", time_limit_s=1e-9)
    assert answer.termination in (Termination.NO_SOLUTION_FOUND, Termination.OPTIMAL)
    best = solve_exhaustively(problem)
    assert best is not None
    assert answer.lower_bound <= best.cost


def test_a_start_is_kept_though_it_has_a_mode_that_another_beats() -> None:
    """Two cheap modes use more than there is, so rounding finds nothing; the start was thrown away."""
    modes: tuple[list[int], list[int], list[list[int]]] = ([1, 2, 3], [0, 0, 0], [[1], [0], [0]])
    problem = TimeCostProblem((Activity("a", *modes), Activity("b", *modes)), (), (), 0, (Resource("r", 1),))
    assert solve_problem(problem, "lp_rounding").selection is None
    answer = solve_problem(problem, "lp_rounding", start=(2, 0))
    assert (answer.termination, answer.selection, answer.cost) == (Termination.FEASIBLE, (2, 0), 4)
    assert answer.lower_bound <= 3
