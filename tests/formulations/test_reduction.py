"""Dominance against two plain loops; problems with modes left out keep their optimum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from campaigns import campaign_size
from mipplan_formulations import Activity, Arc, Path, TimeCostProblem, solve_exhaustively
from mipplan_formulations.time_cost import (
    Improver,
    drop_dominated,
    drop_useless,
    find_undominated,
    keep_modes,
)
from random_problems import random_problem


def undominated_rows(measures: np.ndarray) -> set[tuple[int, ...]]:
    rows = {tuple(row) for row in measures.tolist()}
    return {
        row
        for row in rows
        if not any(other != row and all(a <= b for a, b in zip(other, row, strict=True)) for other in rows)
    }


def test_undominated_rows_are_those_of_two_loops() -> None:
    for seed in range(campaign_size(120, 2000)):
        rng = np.random.default_rng(seed)
        shape = int(rng.integers(1, 300)), int(rng.integers(1, 6))
        measures = rng.integers(0, int(rng.integers(2, 40)), shape)
        kept = find_undominated(measures)
        found = [tuple(row) for row in measures[kept].tolist()]
        assert len(found) == len(set(found))
        assert set(found) == undominated_rows(measures)
        partly = find_undominated(measures, most_compared=3)
        assert not np.any(kept & ~partly) or len(set(found)) == len(found)
        assert undominated_rows(measures[partly]) == set(found)


def test_without_columns_or_rows() -> None:
    assert find_undominated(np.zeros((3, 0), dtype=np.int64)).tolist() == [True, False, False]
    assert find_undominated(np.zeros((0, 2), dtype=np.int64)).tolist() == []


def test_leaving_out_dominated_modes_keeps_the_optimum() -> None:
    dropped = 0
    for seed in range(campaign_size(80, 1000)):
        problem = random_problem(np.random.default_rng(seed))
        reduction = drop_dominated(problem)
        dropped += problem.num_binaries - reduction.problem.num_binaries
        before, after = solve_exhaustively(problem), solve_exhaustively(reduction.problem)
        assert (before is None) == (after is None)
        if before is not None and after is not None:
            assert before.cost == after.cost
            lifted = reduction.lift(after.selection)
            assert problem.evaluate(lifted).feasible
            assert problem.evaluate(lifted).cost == before.cost
            assert reduction.lower(lifted) == after.selection
    assert dropped > 50


def test_leaving_out_useless_modes_keeps_the_optimum() -> None:
    beyond_dominance = infeasible = 0
    for seed in range(campaign_size(160, 2000)):
        problem = random_problem(np.random.default_rng(seed))
        before, reduction = solve_exhaustively(problem), drop_useless(problem)
        if reduction is None:
            assert before is None
            infeasible += 1
            continue
        after = solve_exhaustively(reduction.problem)
        assert (before is None) == (after is None)
        if before is not None and after is not None:
            assert before.cost == after.cost == problem.cost_of(reduction.lift(after.selection))
            assert problem.evaluate(reduction.lift(after.selection)).feasible
        beyond_dominance += reduction.problem.num_binaries < drop_dominated(problem).problem.num_binaries
    assert beyond_dominance > 10
    assert infeasible > 3


def test_a_mode_that_waits_longer_can_dominate() -> None:
    """The first mode waits longer than the second, but is over as soon: on no path does it come later."""
    cost, duration, waits = [3, 4], [5, 6], (np.array([2, 1]), np.array([0]))
    problem = TimeCostProblem(
        (Activity("a", cost, duration), Activity("b", [1], [1])), (Arc(0, 1),), (Path((0, 1), 0, waits),), 9
    )
    assert [kept.tolist() for kept in drop_dominated(problem).kept] == [[0], [0]]


def test_modes_that_fit_beside_none_go() -> None:
    """With the slow mode of the one, even the fast mode of the other is late; then its own slow mode is, too."""
    waits = (np.array([0, 0]), np.array([0, 0]))
    problem = TimeCostProblem(
        (Activity("a", [9, 1], [4, 8]), Activity("b", [9, 1], [3, 6])),
        (Arc(0, 1),),
        (Path((0, 1), 0, waits),),
        9,
    )
    reduction = drop_useless(problem)
    assert reduction is not None
    assert [kept.tolist() for kept in reduction.kept] == [[0], [0]]
    assert drop_useless(replace(problem, deadline=6)) is None


def test_activities_that_share_their_waits_keep_what_differs_in_them_only() -> None:
    waits = np.array([0, 9])
    waits.flags.writeable = False  # so that both keep this very array
    problem = TimeCostProblem(
        (Activity("a", [5, 1], [1, 1]), Activity("b", [5, 1], [1, 1])),
        (Arc(0, 1),),
        (Path((0, 1), 0, (waits, waits)),),
        5,
    )
    reduction = drop_dominated(problem)
    assert [kept.tolist() for kept in reduction.kept] == [[0, 1], [0, 1]]
    assert solve_exhaustively(reduction.problem) == solve_exhaustively(problem)


def test_a_selection_with_a_mode_left_out_cannot_be_lowered() -> None:
    problem = random_problem(np.random.default_rng(1))
    marked = [np.arange(m) == m - 1 for m in problem.mode_counts]
    reduction = keep_modes(problem, marked)
    assert reduction is not None
    last = tuple(int(m) - 1 for m in problem.mode_counts)
    assert reduction.lower(last) == (0,) * len(last)
    assert reduction.lower((0,) * len(last)) is None or set(problem.mode_counts.tolist()) == {1}
    assert keep_modes(problem, [np.zeros(int(m), dtype=bool) for m in problem.mode_counts]) is None


@pytest.mark.parametrize("unit", [1, 100_000_000])
def test_improving_ends_where_no_single_exchange_helps(unit: int) -> None:
    improved = 0
    for seed in range(campaign_size(60, 600)):
        rng = np.random.default_rng([unit, seed])
        problem = random_problem(rng, unit=unit)
        drawn = [tuple(int(rng.integers(m)) for m in problem.mode_counts) for _ in range(20)]
        for start in drawn:
            assert Improver(problem).allows(start) == problem.evaluate(start).feasible
            if not problem.evaluate(start).feasible:
                continue
            end = Improver(problem).improve(start)
            judged = problem.evaluate(end)
            assert judged.feasible
            assert judged.cost <= problem.evaluate(start).cost
            improved += judged.cost < problem.evaluate(start).cost
            for v, count in enumerate(problem.mode_counts):
                for o in range(int(count)):
                    other = problem.evaluate((*end[:v], o, *end[v + 1 :]))
                    assert not other.feasible or other.cost >= judged.cost
    assert improved > 10
