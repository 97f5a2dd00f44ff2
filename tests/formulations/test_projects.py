"""Formulations of several projects against brute force on random problems and pools."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from campaigns import campaign_size
from mipplan.solvers import Termination, solve
from mipplan_formulations import (
    MULTI_PROJECT_FORMULATIONS,
    ColumnPool,
    Columns,
    MultiProjectProblem,
    Resource,
    TimeCostProblem,
)
from oracle_fleet import TooLargeError, cheapest_of_pool, cheapest_programme
from random_problems import random_problem


def optimum_of(problem: MultiProjectProblem | ColumnPool) -> int | None:
    return (
        cheapest_programme(problem) if isinstance(problem, MultiProjectProblem) else cheapest_of_pool(problem)
    )


def random_programme(rng: np.random.Generator) -> MultiProjectProblem:
    """Two or three small projects that share two resources, often scarce, at times with a way out."""
    projects = []
    for _ in range(int(rng.integers(2, 4))):
        project = random_problem(rng)
        while len(project.resources) != 2 or project.num_binaries > 9:
            project = random_problem(rng)
        projects.append(project)
    most = sum(
        np.sum([activity.usage.max(axis=0) for activity in project.activities], axis=0)
        for project in projects
    )
    resources = tuple(Resource(f"r{r}", int(rng.integers(0, int(most[r]) + 1))) for r in range(2))
    forgone = tuple(int(c) for c in rng.integers(0, 40, len(projects))) if rng.random() < 0.5 else None
    return MultiProjectProblem(tuple(projects), resources, forgone)


def random_pool(rng: np.random.Generator) -> ColumnPool:
    forgone = rng.random() < 0.5
    projects = tuple(
        Columns(rng.integers(0, 30, known), rng.integers(0, 5, (known, 2)))
        for known in rng.integers(0 if forgone else 1, 6, int(rng.integers(1, 5)))
    )
    resources = tuple(Resource(f"r{r}", int(rng.integers(0, 9))) for r in range(2))
    return ColumnPool(
        projects, resources, tuple(int(c) for c in rng.integers(0, 50, len(projects))) if forgone else None
    )


def check_solved(
    problem: MultiProjectProblem | ColumnPool, name: str, truth: int | None, solver: str = "highs"
) -> None:
    formulation = MULTI_PROJECT_FORMULATIONS[name]
    model = formulation.build(problem)
    answer = solve(model, solver)
    if truth is None:
        assert answer.termination is Termination.INFEASIBLE
        return
    assert answer.values is not None
    chosen = formulation.decode(problem, model, answer.values)
    found = problem.evaluate(chosen)
    assert (answer.objective, found.cost, found.feasible) == (truth, truth, True)
    again = formulation.encode(problem, model, chosen)
    assert formulation.decode(problem, model, again) == chosen
    assert int(model.objective @ again) == truth


@pytest.mark.parametrize(("name", "make"), [("joint", random_programme), ("columns", random_pool)])
def test_optimum_is_that_of_brute_force(name: str, make: Any) -> None:
    verdicts = {True: 0, False: 0}
    for seed in range(campaign_size(60, 1500)):
        problem = make(np.random.default_rng([8, seed]))
        try:
            truth = optimum_of(problem)
        except TooLargeError:
            continue
        check_solved(problem, name, truth)
        verdicts[truth is None] += 1
    assert min(verdicts.values()) >= 10


def test_excess_is_paid_for() -> None:
    pool = ColumnPool(
        (Columns(np.array([1, 9]), np.array([[3], [1]])), Columns(np.array([1, 9]), np.array([[3], [1]]))),
        (Resource("r", 4),),
        excess=(3,),
    )
    model = MULTI_PROJECT_FORMULATIONS["columns"].build(pool)
    answer = solve(model)
    # both cheap ones take 6 of 4: 2 + 2·3 = 8, while any other choice costs at least 10
    assert answer.objective == 8
    assert MULTI_PROJECT_FORMULATIONS["columns"].encode(pool, model, (0, 0))[-1] == 2


def test_a_project_that_cannot_be_carried_out_can_be_left_out() -> None:
    project = random_problem(np.random.default_rng(3))
    hopeless = TimeCostProblem(
        project.activities, project.arcs, project.paths, 0, project.resources, project.covers
    )
    hopeless = replace(hopeless, deadline=max(0, min(path.lag for path in project.paths) - 1))
    programme = MultiProjectProblem((hopeless,), hopeless.resources, (7,))
    check_solved(programme, "joint", cheapest_programme(programme))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: MultiProjectProblem((), ()), "at least one project"),
        (
            lambda: MultiProjectProblem((random_problem(np.random.default_rng(0)),), (Resource("q", 1),)),
            "has the resources",
        ),
        (lambda: ColumnPool((), ()), "at least one project"),
        (lambda: ColumnPool((Columns(np.zeros(0, int), np.zeros((0, 0), int)),), ()), "has no column"),
        (lambda: ColumnPool((Columns(np.ones(1, int), np.ones((1, 1), int)),), ()), "usage has 1 columns"),
        (lambda: Columns(np.ones(2, int), np.ones((1, 1), int)), "usage has 1 rows, cost has 2"),
        (
            lambda: ColumnPool((Columns(np.ones(1, int), np.ones((1, 0), int)),), (), forgone=(1, 2)),
            "2 costs for 1 projects",
        ),
    ],
)
def test_faults_are_named(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()
