"""Formulation `paths`: its 0-1 points are exactly the feasible selections, and it has no idle rows."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from campaigns import campaign_size
from mipplan_formulations import FORMULATIONS, Activity, Cover, LinearModel, Path, Resource, TimeCostProblem
from mipplan_formulations.time_cost.paths import build, decode, encode
from random_problems import chain_problem, random_problem


def single(**changes: object) -> TimeCostProblem:
    parts: dict[str, object] = {
        "activities": (Activity("a", [1, 2, 3], [30, 20, 10]),),
        "arcs": (),
        "paths": (Path((0,), 0, (np.array([8, 4, 6]),)),),
        "deadline": 25,
    }
    return TimeCostProblem(**{**parts, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("selection", [(-1,), (3,), (0, 0)])
@pytest.mark.parametrize("name", FORMULATIONS)
def test_modes_that_there_are_not_are_refused(name: str, selection: tuple[int, ...]) -> None:
    """Minus one would be the last mode to NumPy: a start of another plan than the one that was meant."""
    problem, formulation = single(), FORMULATIONS[name]
    with pytest.raises(ValueError, match="modes"):
        formulation.encode(problem, formulation.build(problem), selection)


def keeps_all_rows(model: LinearModel, values: np.ndarray) -> bool:
    activity = model.matrix @ values.astype(np.int64)
    return bool(np.all(activity >= model.row_lower) and np.all(activity <= model.row_upper))


@pytest.mark.parametrize("unit", [1, 100_000_000])
def test_a_selection_keeps_all_rows_exactly_if_the_problem_allows_it(unit: int) -> None:
    verdicts = set()
    for seed in range(campaign_size(60, 500)):
        problem = random_problem(np.random.default_rng([unit, seed]), unit=unit)
        model = build(problem)
        for selection in product(*(range(m) for m in problem.mode_counts)):
            evaluation = problem.evaluate(selection)
            values = encode(problem, model, selection)
            assert keeps_all_rows(model, values) == evaluation.feasible, (seed, selection)
            assert int(model.objective @ values.astype(np.int64)) == evaluation.cost
            assert decode(problem, model, values) == selection
            verdicts.add(evaluation.feasible)
    assert verdicts == {True, False}


def test_rows_by_hand() -> None:
    model = build(single())
    assert model.row_names == ("assign_0", "deadline_0_0")
    assert model.matrix.toarray().tolist() == [[1, 1, 1], [38, 24, 16]]
    assert model.row_upper.tolist() == [1, 25]


def test_waits_below_the_least_wait_of_the_path_are_raised_to_it() -> None:
    problem = TimeCostProblem(
        (Activity("a", [1, 2], [9, 1]), Activity("b", [1, 2], [9, 1])),
        (),
        (Path((0,), 0, (np.array([0, 7]),)), Path((1,), 0, (np.array([5, 5]),))),
        10,
    )
    assert build(problem).matrix.toarray().tolist()[2:] == [[9, 8, 0, 0], [0, 0, 14, 6]]


def test_a_path_that_nothing_can_break_has_no_row() -> None:
    assert build(single(deadline=38)).row_names == ("assign_0",)
    assert "deadline_0_0" in build(single(deadline=37)).row_names


def test_an_activity_that_cannot_set_the_wait_has_no_row_of_its_own() -> None:
    problem = chain_problem(2, 3, 1, seed=0)
    path = Path((0, 1), 5, (np.array([1, 2, 3]), np.array([3, 4, 5])))
    tight = TimeCostProblem(problem.activities, problem.arcs, (path,), 10)
    assert build(tight).row_names == ("assign_0", "assign_1", "deadline_0_1")


def test_capacities_and_covers_that_nothing_can_break_have_no_row() -> None:
    activity = Activity("a", [1, 2], [1, 1], [[1], [2]])
    always = Cover(((0, np.array([True, True])),))
    half = Cover(((0, np.array([False, True])),))
    for capacity, covers, expected in ((2, (always,), ()), (1, (always, half), ("capacity_0", "cover_1"))):
        problem = TimeCostProblem((activity,), (), (), 5, (Resource("t4", capacity),), covers)
        assert build(problem).row_names == ("assign_0", *expected)


def test_a_cover_without_marks_is_a_row_that_nothing_keeps() -> None:
    model = build(single(covers=(Cover(((0, np.array([False, False, False])),)),)))
    assert not any(keeps_all_rows(model, np.eye(3)[o]) for o in range(3))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.4, 0.6, 0.0], "y_0_0 is 0.4"),
        ([1.0, 1.0, 0.0], "2 modes instead of one"),
        ([0.0, 0.0, 0.0], "0 modes instead of one"),
        ([1.0, 0.0, np.nan], "y_0_2 is nan"),
        ([1.0, 0.0], "expected 3 values"),
    ],
)
def test_decode_refuses_what_is_no_choice(values: list[float], expected: str) -> None:
    problem = single()
    with pytest.raises(ValueError, match=expected):
        decode(problem, build(problem), np.array(values))


def test_decode_forgives_a_solvers_rounding() -> None:
    problem = single()
    assert decode(problem, build(problem), np.array([1e-6, 1 - 1e-6, -1e-7])) == (1,)


def test_coefficients_are_those_of_the_data_and_python_sees_no_single_one() -> None:
    problem = chain_problem(20, 5000, 1, seed=3)
    model = FORMULATIONS["paths"].build(problem)
    assert (model.num_columns, model.num_rows) == (100_000, 40)
    assert model.matrix.nnz > 2_000_000
