"""Choosing by itself: whatever step settles a problem, the answer is that of brute force."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from campaigns import Violations, campaign_size, write_summary
from mipplan.solvers import SolverInfo, Termination, choose_formulation, solve_problem
from mipplan.solvers.backend import Settings
from mipplan.solvers.presolve import PresolveParams
from mipplan.solvers.register import LINEAR_BACKENDS, Auto, AutoParams, run_checked
from mipplan_formulations import TimeCostProblem, solve_exhaustively
from random_problems import chain_problem, random_problem

UNITS = (1, 10_000_000)


def check(problem: TimeCostProblem, auto: Auto, settings: Settings) -> str:
    """Hold the answer to brute force and tell what has settled the problem."""
    best = solve_exhaustively(problem)
    answer = run_checked(auto, problem, settings)
    if best is None:
        assert (answer.termination, answer.selection) == (Termination.INFEASIBLE, None)
    else:
        assert answer.termination is Termination.OPTIMAL
        assert answer.cost == answer.lower_bound == best.cost
    return str(answer.details["by"])


@pytest.mark.parametrize("few_labels", [AutoParams().few_labels, 1])
@pytest.mark.parametrize("few_modes", [AutoParams().few_modes, 0])
def test_every_way_leads_to_the_optimum(few_labels: int, few_modes: int) -> None:
    # What shrinking leaves of so small problems is rarely worth a model.
    presolve = PresolveParams(most_rounds=0) if few_labels == 1 else PresolveParams()
    own = {"one_path": 1} if few_labels == 1 else {}
    auto = Auto(AutoParams(few_labels=few_labels, few_modes=few_modes, presolve=presolve, **own))
    seen: Counter[str] = Counter()
    cases = campaign_size(25, 1_500)
    violations = Violations()
    for unit in UNITS:
        for seed in range(cases):
            with violations.case(f"unit {unit}, seed {seed}"):
                problem = random_problem(np.random.default_rng([seed, 77]), unit=unit)
                seen[check(problem, auto, Settings(seed=seed))] += 1
    assert seen["labels"] > 3
    if few_labels == 1:
        assert seen["paths/cp_sat" if few_modes else "potentials/highs"] > 3
    else:
        assert seen["shrinking"] > 0
    write_summary(
        f"auto_{few_labels}_labels_{few_modes}_modes",
        {
            "problems": cases * len(UNITS),
            "units": UNITS,
            "settled_by": dict(seen),
            "differences": violations.checked(),
        },
    )


def test_a_chain_is_for_labels_at_any_size() -> None:
    answer = solve_problem(replace(chain_problem(30, 200, 1, seed=3)))
    assert answer.termination is Termination.OPTIMAL
    assert answer.details["by"] == "labels"
    assert (answer.solver, answer.formulation) == ("auto", None)


def test_a_named_formulation_or_solver_is_kept_to() -> None:
    problem = chain_problem(4, 6, 2, seed=1)
    by_solver = solve_problem(problem, "cp_sat")
    by_formulation = solve_problem(problem, formulation="levels")
    assert (by_solver.solver, by_solver.formulation) == ("cp_sat", "paths")
    assert (by_formulation.solver, by_formulation.formulation) == ("highs", "levels")
    assert by_solver.cost == by_formulation.cost == solve_problem(problem).cost


def test_many_paths_choose_potentials() -> None:
    problem = chain_problem(5, 3, 3, seed=1)
    assert Auto().choose_pair(problem) == ("paths", "cp_sat")
    assert Auto(AutoParams(few_stops=14)).choose_pair(problem) == ("potentials", "cp_sat")
    assert Auto(AutoParams(few_stops=14, few_modes=14)).choose_pair(problem) == ("potentials", "highs")
    assert choose_formulation(problem, AutoParams(few_stops=15, few_modes=14)) == "paths"


def test_without_solvers_labels_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing = SolverInfo("none", False, None, "not here")
    for backend in LINEAR_BACKENDS.values():
        monkeypatch.setattr(type(backend), "probe", lambda _: nothing)
    auto = Auto(AutoParams(few_labels=1))
    for seed in range(15):
        problem = random_problem(np.random.default_rng(seed))
        best, answer = solve_exhaustively(problem), run_checked(auto, problem, Settings())
        assert answer.cost == (None if best is None else best.cost)


def test_a_limit_leaves_a_sound_answer() -> None:
    problem = chain_problem(40, 150, 12, seed=5)
    answer = solve_problem(problem, time_limit_s=0.2)
    assert answer.termination in (Termination.FEASIBLE, Termination.NO_SOLUTION_FOUND, Termination.OPTIMAL)
    if answer.cost is not None:
        assert answer.selection is not None
        assert problem.evaluate(answer.selection).feasible
        assert answer.lower_bound <= answer.cost


def test_the_gap_is_kept_to() -> None:
    problem = chain_problem(6, 8, 2, seed=2)
    exact = solve_problem(problem)
    rough = solve_problem(problem, gap=0.2)
    assert exact.cost is not None
    assert rough.cost is not None
    assert rough.lower_bound <= exact.cost <= rough.cost
    assert rough.cost - rough.lower_bound <= 0.2 * rough.cost
