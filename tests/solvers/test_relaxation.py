"""What the linear relaxation claims, against every selection of small problems."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from mipplan.solvers import relax
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
                raised = relaxation.reduced_costs[: problem.num_binaries][binaries > 0.5].max()
                assert evaluation.cost >= relaxation.bound + max(0.0, raised) - 1e-6
                compared += 1
    assert compared > 100
