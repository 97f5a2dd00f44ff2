"""The problem: exact evaluation, and every fault named when it is made."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from mipplan_formulations import FORMULATIONS, Activity, Arc, Cover, Path, Resource, TimeCostProblem


def two_in_a_row(**changes: object) -> TimeCostProblem:
    parts: dict[str, object] = {
        "activities": (
            Activity("first", [3, 5], [20, 10], [[2], [1]]),
            Activity("second", [4, 9], [30, 15], [[1], [4]]),
        ),
        "arcs": (Arc(0, 1, 7),),
        "paths": (Path((0, 1), 7, (np.array([6, 2]), np.array([5, 9]))),),
        "deadline": 60,
        "resources": (Resource("t4", 4),),
    }
    return TimeCostProblem(**{**parts, **changes})  # type: ignore[arg-type]


def test_evaluation_by_hand() -> None:
    evaluation = two_in_a_row().evaluate((0, 0))
    assert (evaluation.cost, evaluation.makespan, evaluation.usage.tolist()) == (7, 7 + 20 + 30 + 6, [3])
    assert evaluation.violations == ("makespan 63 exceeds the deadline 60",)
    assert not evaluation.feasible


def test_the_largest_wait_counts_once() -> None:
    assert two_in_a_row().evaluate((1, 0)).makespan == 7 + 10 + 30 + 5
    assert two_in_a_row().evaluate((1, 1)).makespan == 7 + 10 + 15 + 9


def test_the_deadline_itself_is_met() -> None:
    assert two_in_a_row(deadline=63).evaluate((0, 0)).feasible
    assert not two_in_a_row(deadline=62).evaluate((0, 0)).feasible


def test_capacity_and_covers_are_judged() -> None:
    cover = Cover(((0, np.array([True, False])), (1, np.array([False, False]))))
    evaluation = two_in_a_row().with_covers(cover).evaluate((1, 1))
    assert evaluation.violations == ("resource 't4': 5 used of 4", "cover 0 is not met")


def test_with_covers_appends_and_leaves_the_original_alone() -> None:
    problem = two_in_a_row()
    cover = Cover(((0, np.array([False, True])),))
    longer = problem.with_covers(cover).with_covers(cover, cover)
    assert (len(problem.covers), len(longer.covers)) == (0, 3)


def test_evaluation_is_exact_where_floats_are_not() -> None:
    large = 2**53
    problem = TimeCostProblem(
        (Activity("a", [1], [large]), Activity("b", [1], [1])),
        (Arc(0, 1),),
        (Path((0, 1), 0, (np.array([0]), np.array([0]))),),
        large,
    )
    assert problem.evaluate((0, 0)).makespan == large + 1
    assert not problem.evaluate((0, 0)).feasible


def test_counts() -> None:
    problem = two_in_a_row()
    assert problem.num_binaries == 4
    assert problem.mode_counts.tolist() == [2, 2]


def test_problems_and_models_print_in_a_line() -> None:
    """Those of a pipeline have thousands of numbers."""
    activities = Activity("a", [1, 2], [3, 1]), Activity("b", [1], [3])
    problem = TimeCostProblem(activities, (), (Path((0,), 0, ([0, 0],)),), 9)
    assert repr(problem) == "<TimeCostProblem: modes [2, 1], paths 1>"
    model = FORMULATIONS["paths"].build(problem)
    shape = f"{model.num_rows} rows, {model.num_columns} columns, {model.matrix.nnz} coefficients"
    assert repr(model) == f"<LinearModel {model.name}: {shape}>"


def test_without_paths_the_makespan_is_zero() -> None:
    assert two_in_a_row(paths=()).evaluate((0, 0)).makespan == 0


@pytest.mark.parametrize("selection", [(0,), (0, 2), (-1, 0), (0, 0, 0)])
def test_a_wrong_selection_is_refused(selection: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="modes"):
        two_in_a_row().evaluate(selection)


def test_arrays_are_private_and_read_only() -> None:
    cost = np.array([1, 2])
    activity = Activity("a", cost, [1, 2])
    cost[0] = 99
    assert activity.cost.tolist() == [1, 2]
    with pytest.raises(ValueError, match="read-only"):
        activity.cost[0] = 5
    with pytest.raises(FrozenInstanceError):
        activity.name = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("cost", "duration", "usage", "expected"),
    [
        ([], [], [], "at least one mode"),
        ([1.5], [1], [], "must be integers"),
        ([1], [-1], [], "between 0 and 2\\*\\*53"),
        ([1], [2**53 + 1], [], "between 0 and 2\\*\\*53"),
        ([1, 2], [1], [], "duration has 1 modes, cost has 2"),
        ([1, 2], [1, 2], [[1]], "usage has 1 modes, cost has 2"),
        ([[1]], [1], [], "1 dimension"),
    ],
)
def test_faults_of_an_activity(cost: list, duration: list, usage: list, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        Activity("a", cost, duration, np.array(usage))


def test_all_faults_of_a_problem_are_named_at_once() -> None:
    with pytest.raises(ValueError, match="two activity entries") as caught:
        TimeCostProblem(
            (Activity("a", [1], [1]), Activity("a", [1], [1])),
            (Arc(0, 1, 3),),
            (Path((0, 1), 4, (np.array([0]), np.array([0, 0]))),),
            -1,
            (Resource("t4", 1),),
            (Cover(((5, np.array([True])),)),),
        )
    text = str(caught.value)
    for part in (
        "deadline: must be between",
        "usage has 0 columns, there are 1 resources",
        "lag 4, the arcs along it make 3",
        "2 entries for activity 'a', which has 1 modes",
        "there is no activity 5",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("arcs", "expected"),
    [
        ((Arc(0, 1, 7), Arc(1, 0, 0)), "cycle"),
        ((Arc(0, 2, 7),), "no such activity"),
        ((Arc(0, 1, -7),), "between 0"),
        ((), "there is no arc 0 -> 1"),
    ],
)
def test_faulty_arcs(arcs: tuple[Arc, ...], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        two_in_a_row(arcs=arcs)


def test_parallel_arcs_allow_any_lag_between_theirs() -> None:
    two_in_a_row(arcs=(Arc(0, 1, 5), Arc(0, 1, 7)))
    with pytest.raises(ValueError, match="between 8 and 9"):
        two_in_a_row(arcs=(Arc(0, 1, 8), Arc(0, 1, 9)))


@pytest.mark.parametrize(
    ("activities", "waits", "expected"),
    [
        ((), (), "at least one activity"),
        ((0, 0), ([1], [1]), "occurs twice"),
        ((0, 1), ([1],), "1 wait arrays for 2 activities"),
        ((0,), ([-1],), "between 0"),
    ],
)
def test_faulty_paths(activities: tuple, waits: tuple, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        Path(activities, 0, tuple(np.array(w) for w in waits))


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ((), "at least one member"),
        (((0, np.array([1, 0])),), "bool array"),
        (((0, np.array([True])), (0, np.array([True]))), "listed twice"),
    ],
)
def test_faulty_covers(members: tuple, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        Cover(members)


def test_costs_come_in_steps() -> None:
    activities = tuple(
        Activity(name, np.array(costs), np.ones(2, dtype=np.int64), np.empty((2, 0), dtype=np.int64))
        for name, costs in (("a", [0, 60]), ("b", [90, 150]))
    )
    problem = TimeCostProblem(activities, (), (), 10)
    every = {problem.cost_of((a, b)) for a in (0, 1) for b in (0, 1)}
    assert (problem.cost_step, every) == (30, {90, 150, 210})
    assert [problem.next_cost(bound) for bound in (90.0, 90.0 + 1e-9, 90.1, 149.9)] == [90, 90, 120, 150]
    assert [problem.cost_below(cost) for cost in (91, 120, 150)] == [90, 90, 120]
