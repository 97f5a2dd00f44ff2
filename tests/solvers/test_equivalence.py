"""Every formulation with every solver against brute force, down to the last unit."""

from __future__ import annotations

from itertools import product

import numpy as np

from campaigns import Violations, campaign_size, write_summary
from mipplan.solvers import Termination, available_solvers, solve
from mipplan.solvers.register import LINEAR_BACKENDS
from mipplan_formulations import FORMULATIONS, Formulation, Optimum, TimeCostProblem, solve_exhaustively
from random_problems import random_problem

UNITS = [1, 10_000_000, 1_000_000_000]
"""Times of up to 20 units, so the largest are nanoseconds of many seconds; nearly all tie to within one."""


def check(
    problem: TimeCostProblem, best: Optimum | None, formulation: Formulation, solver: str, seed: int
) -> None:
    model = formulation.build(problem)
    start = None
    if best is not None and seed % 3 == 0:
        start = formulation.encode(problem, model, best.selection)
    answer = solve(model, solver, seed=seed, start=start)
    if answer.termination is Termination.INFEASIBLE:
        assert best is None or not formulation.exact
        assert (answer.values, answer.objective, answer.lower_bound) == (None, None, np.inf)
        return
    assert answer.termination is Termination.OPTIMAL
    assert best is not None
    assert answer.values is not None
    evaluation = problem.evaluate(formulation.decode(problem, model, answer.values))
    assert evaluation.feasible, evaluation.violations
    assert evaluation.cost == answer.objective == answer.lower_bound
    assert evaluation.cost == best.cost or (evaluation.cost > best.cost and not formulation.exact)


def test_optimum_is_that_of_brute_force() -> None:
    cases = campaign_size(8, 200)
    counts = {"feasible": 0, "infeasible": 0, "with resources": 0, "with covers": 0, "several paths": 0}
    violations = Violations()
    for unit, seed in product(UNITS, range(cases)):
        problem = random_problem(np.random.default_rng([unit, seed]), unit=unit)
        best = solve_exhaustively(problem)
        counts["infeasible" if best is None else "feasible"] += 1
        counts["with resources"] += bool(problem.resources)
        counts["with covers"] += bool(problem.covers)
        counts["several paths"] += len(problem.paths) > 1
        for (name, formulation), solver in product(FORMULATIONS.items(), LINEAR_BACKENDS):
            with violations.case(f"{name} with {solver}, unit {unit}, seed {seed}"):
                check(problem, best, formulation, solver, seed)
    problems = cases * len(UNITS)
    assert min(counts.values()) > problems // 10
    write_summary(
        "formulations_against_exhaustive",
        {
            "problems": problems,
            **counts,
            "units": UNITS,
            "formulations": list(FORMULATIONS),
            "solvers": {info.name: info.version for info in available_solvers()},
            "solves": problems * len(FORMULATIONS) * len(LINEAR_BACKENDS),
            "differences": violations.checked(),
        },
    )
