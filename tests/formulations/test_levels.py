"""Formulation `levels`: its points are the feasible selections, and its relaxation is at least that of `paths`."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from campaigns import campaign_size
from mipplan_formulations import Activity, Arc, Path, TimeCostProblem
from mipplan_formulations.time_cost import LevelsParams, paths
from mipplan_formulations.time_cost.levels import build, encode
from mipplan_formulations.time_cost.paths import decode
from random_problems import chain_problem, random_problem
from relaxations import is_solution, relaxed_optimum


def by_hand(deadline: int) -> TimeCostProblem:
    """Two activities on one path; with deadline 95 the wait may be 20, 30, 45 or 60."""
    return TimeCostProblem(
        (Activity("a", [9, 4, 1], [10, 20, 25]), Activity("b", [8, 5, 2], [15, 30, 35])),
        (Arc(0, 1, 5),),
        (Path((0, 1), 5, (np.array([20, 30, 60]), np.array([10, 45, 90]))),),
        deadline,
    )


@pytest.mark.parametrize("unit", [1, 100_000_000])
@pytest.mark.parametrize("most", [1, 2, 256])
def test_a_selection_keeps_all_rows_exactly_if_the_problem_allows_it(unit: int, most: int) -> None:
    params = LevelsParams(most_steps_per_path=most)
    verdicts = set()
    for seed in range(campaign_size(20, 500)):
        problem = random_problem(np.random.default_rng([unit, seed]), unit=unit)
        model = build(problem, params)
        binaries = model.num_columns - problem.num_binaries
        steps = [np.array(bits) for bits in product((0, 1), repeat=binaries)] if binaries <= 4 else []
        for selection in product(*(range(m) for m in problem.mode_counts)):
            evaluation = problem.evaluate(selection)
            values = encode(problem, model, selection, params)
            assert decode(problem, model, values) == selection
            assert int(model.objective @ values.astype(np.int64)) == evaluation.cost
            assert is_solution(model, values) == evaluation.feasible, (seed, selection)
            for bits in steps:  # no other setting of the steps lets a selection in that is not allowed
                values[problem.num_binaries :] = bits
                assert evaluation.feasible or not is_solution(model, values), (seed, selection)
            verdicts.add(evaluation.feasible)
    assert verdicts == {True, False}


@pytest.mark.parametrize("most", [1, 3, 256])
def test_relaxation_is_never_weaker_than_that_of_paths(most: int) -> None:
    params = LevelsParams(most_steps_per_path=most)
    stronger = 0
    for seed in range(campaign_size(40, 500)):
        problem = random_problem(np.random.default_rng(seed))
        if seed % 2:
            problem = chain_problem(3, 6, 2, seed)
            problem = replace(problem, deadline=int(problem.deadline * (0.8 + 0.02 * (seed % 20))))
        weak, strong = relaxed_optimum(paths.build(problem)), relaxed_optimum(build(problem, params))
        assert strong >= weak - 1e-6 * max(1.0, abs(weak)) or strong == weak == np.inf, seed
        stronger += strong > weak + 1e-4 * max(1.0, abs(weak))
    assert stronger >= 5


def test_the_page_has_an_example_of_a_stronger_relaxation() -> None:
    problem = TimeCostProblem(
        (Activity("a", [10, 0], [0, 0]), Activity("b", [10, 0], [0, 10])),
        (Arc(0, 1),),
        (Path((0, 1), 0, (np.array([0, 100]), np.array([0, 50]))),),
        100,
    )
    model = build(problem)
    assert relaxed_optimum(paths.build(problem)) == pytest.approx(1)
    assert relaxed_optimum(model) == pytest.approx(10)
    kept = np.array([not name.startswith("clash") for name in model.row_names])
    without = replace(
        model,
        matrix=model.matrix[kept],
        row_lower=model.row_lower[kept],
        row_upper=model.row_upper[kept],
        row_names=tuple(np.array(model.row_names)[kept].tolist()),
    )
    assert relaxed_optimum(without) == pytest.approx(20 / 11)


def test_rows_by_hand() -> None:
    model = build(by_hand(95))
    # 45 is the highest that leaves room for lag and shortest durations (5 + 10 + 15): 65 would, too, 90 would not
    assert model.column_names[-3:] == ("step_0_0", "step_0_1", "step_0_2")
    rows = dict(zip(model.row_names, model.matrix.toarray().tolist(), strict=True))
    assert rows == {
        "assign_0": [1, 1, 1, 0, 0, 0, 0, 0, 0],
        "assign_1": [0, 0, 0, 1, 1, 1, 0, 0, 0],
        "climb_0_0_0": [0, 1, 1, 0, 0, 0, -1, 0, 0],  # 30
        "climb_0_0_2": [0, 0, 1, 0, 0, 0, 0, 0, -1],  # 60
        "climb_0_1_1": [0, 0, 0, 0, 1, 1, 0, -1, 0],  # 45
        "climb_0_1_2": [0, 0, 0, 0, 0, 1, 0, 0, -1],  # 90 counts as 60, and is fixed at 0 besides
        "clash_0_0_2": [0, 1, 1, 0, 0, 0, 0, 0, 1],  # 20 and 15 and 60 and 5 are 100
        "clash_0_1_2": [0, 0, 0, 0, 1, 1, 0, 0, 1],
        "order_0_1": [0, 0, 0, 0, 0, 0, -1, 1, 0],
        "order_0_2": [0, 0, 0, 0, 0, 0, 0, -1, 1],
        "total_0": [10, 20, 25, 15, 30, 35, 10, 15, 15],
    }
    assert dict(zip(model.row_names, model.row_upper, strict=True))["total_0"] == 95 - 5 - 20
    assert model.column_upper.tolist() == [1, 1, 0, 1, 1, 0, 1, 1, 1]


def test_without_a_path_that_can_break_there_are_no_steps() -> None:
    assert build(by_hand(5 + 25 + 35 + 90)).column_names == tuple(
        f"y_{v}_{o}" for v in range(2) for o in range(3)
    )


def test_many_modes_make_a_coarser_staircase_and_keep_the_rows_of_paths() -> None:
    problem = chain_problem(4, 500, 1, seed=3)
    model = build(problem)
    assert model.num_columns == problem.num_binaries + LevelsParams().most_steps_per_path
    assert sum(name.startswith("deadline_0_") for name in model.row_names) == 4
    fine = build(chain_problem(4, 20, 1, seed=3))
    assert not any(name.startswith("deadline_") for name in fine.row_names)
