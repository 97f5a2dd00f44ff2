"""What the linear relaxation claims, against every selection of small problems."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from mipplan.solvers import Relaxations, relax
from mipplan_formulations import FORMULATIONS
from random_problems import random_problem


@pytest.mark.parametrize("name", FORMULATIONS)
@pytest.mark.parametrize("unit", [1, 100_000_000])
def test_bound_and_reduced_costs_hold_for_every_selection(name: str, unit: int) -> None:
    compared = 0
    for seed in range(60):
        problem = random_problem(np.random.default_rng([unit, seed]), unit=unit)
        formulation = FORMULATIONS[name]
        model = formulation.build(problem)
        relaxation = relax(model)
        if relaxation is None:
            continue
        for selection in product(*(range(m) for m in problem.mode_counts)):
            evaluation = problem.evaluate(selection)
            if evaluation.feasible:
                binaries = formulation.encode(problem, model, selection)[: problem.num_binaries]
                raised = np.maximum(relaxation.reduced_costs[: problem.num_binaries][binaries > 0.5], 0.0)
                assert evaluation.cost >= relaxation.bound + raised.sum() - 1e-6
                compared += 1
    assert compared > 100


@pytest.mark.parametrize("name", FORMULATIONS)
def test_what_is_claimed_within_some_modes_holds_there(name: str) -> None:
    compared = impossible = 0
    for seed in range(60):
        rng = np.random.default_rng([7, seed])
        problem = random_problem(rng, unit=1000)
        formulation = FORMULATIONS[name]
        model = formulation.build(problem)
        relaxations = Relaxations(model)
        first = np.concatenate([[0], np.cumsum(problem.mode_counts)[:-1]])
        for _ in range(4):  # one after another, each from where the last one ended
            allowed = np.ones(model.num_columns, dtype=bool)
            allowed[: problem.num_binaries] = rng.random(problem.num_binaries) < 0.6
            relaxation = relaxations.within(allowed)
            if relaxation is None:
                continue
            for selection in product(*(range(m) for m in problem.mode_counts)):
                chosen = first + np.array(selection)
                evaluation = problem.evaluate(selection)
                if evaluation.feasible and allowed[chosen].all():
                    raised = np.maximum(relaxation.reduced_costs[chosen], 0.0)
                    assert evaluation.cost >= relaxation.bound + raised.sum() - 1e-6
                    compared += 1
            impossible += relaxation.bound == float("inf")
    assert compared > 100
    assert impossible > 10
