"""Formulation `potentials`: its network has the listed paths as walks, and its points are the feasible selections."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise, product

import numpy as np
import pytest

from campaigns import campaign_size
from mipplan.solvers.exact import Conflict, find_differences
from mipplan_formulations import Activity, Arc, Path, TimeCostProblem
from mipplan_formulations.time_cost import END, START, PathNetwork, join_paths, paths
from mipplan_formulations.time_cost.paths import decode
from mipplan_formulations.time_cost.potentials import build, encode
from random_problems import random_problem
from relaxations import is_solution, relaxed_optimum


def layered(layers: int, rng: np.random.Generator, deadline: int) -> TimeCostProblem:
    """Two activities per layer, each followed by both of the next; waits do not depend on the path."""
    activities = tuple(
        Activity(f"a{v}", rng.integers(0, 9, 2), rng.integers(1, 9, 2)) for v in range(2 * layers)
    )
    waits = [rng.integers(0, 9, 2) for _ in activities]
    arcs = tuple(
        Arc(2 * layer + i, 2 * layer + 2 + j, 1)
        for layer in range(layers - 1)
        for i in (0, 1)
        for j in (0, 1)
    )
    walks = [
        tuple(2 * layer + side for layer, side in enumerate(sides))
        for sides in product((0, 1), repeat=layers)
    ]
    listed = tuple(Path(walk, layers - 1, tuple(waits[v] for v in walk)) for walk in walks)
    return TimeCostProblem(activities, arcs, listed, deadline)


def with_some_paths(problem: TimeCostProblem, rng: np.random.Generator) -> TimeCostProblem:
    """Only some paths are listed, some end early, and some share their waits."""
    shared = [rng.integers(0, 15, a.num_modes) for a in problem.activities]
    lags = {(arc.tail, arc.head): arc.lag for arc in problem.arcs}
    kept = []
    for path in problem.paths:
        walk = path.activities[: int(rng.integers(1, len(path.activities) + 1))]
        waits = [shared[v] if rng.random() < 0.7 else w for v, w in zip(walk, path.waits, strict=False)]
        kept.append(Path(walk, sum(lags[step] for step in pairwise(walk)), tuple(waits)))
    return replace(problem, paths=tuple(kept))


def walks_of(network: PathNetwork) -> list[tuple[tuple[int, ...], int]]:
    """Activities and lag of every walk from start to end."""
    open_walks: list[tuple[int, tuple[int, ...], int]] = [(START, (), 0)]
    done = []
    while open_walks:
        node, activities, lag = open_walks.pop()
        for edge in network.edges:
            if edge.tail == node:
                longer = ((*activities, edge.activity), lag + edge.lag)
                if edge.head == END:
                    done.append(longer)
                else:
                    open_walks.append((edge.head, *longer))
    return sorted(done)


def problems(cases: int, unit: int = 1) -> list[TimeCostProblem]:
    found = []
    for seed in range(cases):
        rng = np.random.default_rng([unit, seed])
        problem = random_problem(rng, unit=unit)
        found.append(with_some_paths(problem, rng) if seed % 2 and unit == 1 else problem)
    return found


def test_the_walks_are_the_listed_paths() -> None:
    for problem in problems(120):
        network = join_paths(problem, problem.paths)
        expected = sorted((path.activities, path.lag) for path in problem.paths)
        # equal paths become one walk
        assert set(walks_of(network)) == set(expected)
        assert all(edge.head == END or edge.tail < edge.head < network.num_nodes for edge in network.edges)
        assert [edge.tail for edge in network.edges] == sorted(edge.tail for edge in network.edges)


@pytest.mark.parametrize("unit", [1, 100_000_000])
def test_times_exist_exactly_if_the_problem_allows_the_selection(unit: int) -> None:
    verdicts = set()
    for problem in problems(campaign_size(30, 500), unit):
        model = build(problem)
        system = find_differences(model)
        for selection in product(*(range(m) for m in problem.mode_counts)):
            evaluation = problem.evaluate(selection)
            values = encode(problem, model, selection)
            assert decode(problem, model, values) == selection
            assert int(model.objective @ values.astype(np.int64)) == evaluation.cost
            # the earliest times fit if any do, and an independent search for times agrees
            assert is_solution(model, values) == evaluation.feasible
            settled = values if system is None else system.settle(values)
            exists = not isinstance(settled, Conflict) and is_solution(model, settled)
            assert exists == evaluation.feasible
            verdicts.add(evaluation.feasible)
    assert verdicts == {True, False}


def test_size_follows_the_network_not_the_paths() -> None:
    problem = layered(10, np.random.default_rng(1), deadline=60)
    model = build(problem)
    assert len(problem.paths) == 1024
    assert paths.build(problem).num_rows > 1000
    assert model.num_rows < 20 + 3 * 40
    assert sum(not integral for integral in model.integrality) <= 2 * 20


def test_joins_cost_nothing() -> None:
    # the long branch does not wait, the waiting branch is short: only together they would miss the deadline
    activities = (Activity("long", [0], [50]), Activity("waits", [0], [10]), Activity("join", [0], [5]))
    arcs = (Arc(0, 2), Arc(1, 2))
    none, some = np.array([0]), np.array([30])
    listed = (Path((0, 2), 0, (none, none)), Path((1, 2), 0, (some, none)))
    for deadline, feasible in ((55, True), (54, False)):
        problem = TimeCostProblem(activities, arcs, listed, deadline)
        model = build(problem)
        assert is_solution(model, encode(problem, model, (0, 0, 0))) == feasible


def test_rows_by_hand() -> None:
    activities = (Activity("a", [1, 2], [30, 10]), Activity("b", [1], [20]))
    path = Path((0, 1), 3, (np.array([4, 9]), np.array([6])))
    model = build(TimeCostProblem(activities, (Arc(0, 1, 3),), (path,), 50))
    assert model.column_names == ("y_0_0", "y_0_1", "y_1_0", "early_1", "late_1")
    rows = dict(zip(model.row_names, model.matrix.toarray().tolist(), strict=True))
    assert rows["wait_0"] == [36, 19, 0, 0, -1]  # the wait 4 is raised to 6: b waits that long anyway
    assert rows["early_0"] == [30, 10, 0, -1, 0]
    assert rows["wait_1"] == [0, 0, 26, 1, 0]
    assert rows["late_1"] == [0, 0, 20, 0, 1]
    assert model.row_upper.tolist() == [1, 1, 0, 0, 47, 47]
    assert model.column_upper.tolist() == [1, 1, 1, 50, 50]


def test_without_a_path_that_can_break_there_are_no_times() -> None:
    problem = TimeCostProblem((Activity("a", [1], [5]),), (), (Path((0,), 0, (np.array([2]),)),), 7)
    assert build(problem).column_names == ("y_0_0",)


def test_relaxation_is_never_stronger_than_that_of_paths() -> None:
    for problem in problems(150):
        strong, weak = relaxed_optimum(paths.build(problem)), relaxed_optimum(build(problem))
        assert weak <= strong + 1e-6 * max(1.0, abs(weak)) or strong == np.inf
        same_floor = len({max(int(w.min()) for w in path.waits) for path in problem.paths}) <= 1
        if same_floor:
            assert weak == pytest.approx(strong, rel=1e-6)


def test_the_page_has_a_counterexample_to_equality() -> None:
    wait, long, short = np.array([0, 100]), np.array([90]), np.array([0])
    problem = TimeCostProblem(
        (Activity("a", [100, 0], [0, 0]), Activity("b", [0], [0]), Activity("c", [0], [0])),
        (Arc(0, 1), Arc(0, 2)),
        (Path((0, 1), 0, (wait, long)), Path((0, 2), 0, (wait, short))),
        95,
    )
    assert relaxed_optimum(paths.build(problem)) == pytest.approx(50)
    assert relaxed_optimum(build(problem)) == pytest.approx(5)
