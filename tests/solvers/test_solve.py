"""What all solvers have to do alike: outcomes, bounds, limits, logs, interrupts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mipplan.core import InputError, SolverUnavailableError
from mipplan.solvers import (
    Answer,
    Backend,
    Termination,
    available_solvers,
    resolve_solver,
    solve,
    solve_problem,
)
from mipplan.solvers.register import LINEAR_BACKENDS, PROBLEM_BACKENDS
from mipplan_formulations import FORMULATIONS, LinearModel, solve_exhaustively
from random_problems import binary_model, chain_problem, hard_covering, market_split, random_problem

SOLVERS = list(LINEAR_BACKENDS)
pytestmark = pytest.mark.filterwarnings("error")


def knapsack() -> LinearModel:
    return binary_model([60, 100, 120], [[10, 20, 30]], [50], [np.inf])


@pytest.mark.parametrize("solver", SOLVERS)
def test_optimal(solver: str) -> None:
    answer = solve(knapsack(), solver)
    assert answer.termination is Termination.OPTIMAL
    assert answer.values is not None
    assert answer.values.tolist() == [0, 1, 1]
    assert (answer.objective, answer.lower_bound, answer.solver) == (220, 220.0, solver)
    assert answer.details["version"]
    assert not answer.values.flags.writeable
    assert answer.checked


@pytest.mark.parametrize("solver", SOLVERS)
def test_optimal_beside_a_cost_of_ten_million_dollars(solver: str) -> None:
    # HiGHS said 2, 11 and 3
    for costs, rows, sides, least in (
        ([6, 1, 1, 6], [[1, 2, 2, 3, 1], [0, 1, 1, 3, 3]], [1, 1], 1),
        ([4, 1, 7, 6], [[3, 0, 3, 1, 2], [2, 3, 1, 1, 2]], [1, 5], 10),
        ([2, 4, 2, 1], [[1, 2, 2, 3, 0], [0, 0, 1, 3, 1], [2, 1, 1, 3, 2]], [1, 2, 1], 2),
    ):
        answer = solve(binary_model([10**13, *costs], rows, sides, [np.inf] * len(sides)), solver)
        assert (answer.termination, answer.objective) == (Termination.OPTIMAL, least)
        assert answer.lower_bound == least


@pytest.mark.parametrize(("seed", "unit", "formulation"), [(2649, 10**9, "levels"), (2992, 10**12, "paths")])
def test_cp_sat_keeps_the_optimum_of_long_times(seed: int, unit: int, formulation: str) -> None:
    rng = np.random.default_rng([78, seed])
    rng.integers(5)  # of the campaign that found these
    problem = random_problem(rng, unit=unit)
    best = solve_exhaustively(problem)
    assert best is not None
    assert solve(FORMULATIONS[formulation].build(problem), "cp_sat").objective == best.cost


@pytest.mark.parametrize("solver", SOLVERS)
def test_what_keeps_a_deadline_of_a_day_by_no_nanosecond_is_kept(solver: str) -> None:
    # HiGHS said 86: by its presolve the fifth stage has no mode but the first
    times_ns = [
        *(16_596_305_567_965, 16_596_305_567_967, 0, 0, 1_471_771_621_108),
        *(475_926_638, 70_368_744_177_663, 1, 70_368_744_177_663),
        *(54_504_696, 36_336_465, 54_504_696, 1, 36_336_464),
    ]
    stages = np.repeat(np.eye(6, dtype=np.int64), [2, 1, 1, 1, 4, 5], axis=1)
    costs = [36, 7, 0, 2, 6, 70, 0, 1023, 0, 5, 1, 3, 4, 3]
    sides = [1.0] * 6
    model = binary_model(costs, [*stages, times_ns], [*sides, -np.inf], [*sides, 88_436_857_703_202.0])
    answer = solve(model, solver)
    assert (answer.termination, answer.objective) == (Termination.OPTIMAL, 18)


@pytest.mark.parametrize("solver", SOLVERS)
def test_infeasible_has_no_values(solver: str) -> None:
    answer = solve(binary_model([1, 1], [[1, 1]], [3], [np.inf]), solver)
    assert answer.termination is Termination.INFEASIBLE
    assert (answer.values, answer.objective, answer.lower_bound) == (None, None, np.inf)


@pytest.mark.parametrize("solver", SOLVERS)
def test_infeasible_only_for_integers(solver: str) -> None:
    # the relaxation has the solution (1/2, 1/2, 1/2); branching is needed to see that there is no other
    odd_cycle = binary_model([1, 1, 1], [[1, 1, 0], [0, 1, 1], [1, 0, 1]], [1, 1, 1], [1, 1, 1])
    assert solve(odd_cycle, solver).termination is Termination.INFEASIBLE


@pytest.mark.parametrize("solver", SOLVERS)
def test_an_empty_row_that_fails_is_infeasible(solver: str) -> None:
    assert solve(binary_model([1], [[0]], [1], [np.inf]), solver).termination is Termination.INFEASIBLE


@pytest.mark.parametrize("solver", SOLVERS)
def test_no_rows_and_no_objective(solver: str) -> None:
    answer = solve(binary_model([0, 0], np.zeros((0, 2)), [], []), solver)
    assert (answer.termination, answer.objective, answer.lower_bound) == (Termination.OPTIMAL, 0, 0.0)


@pytest.mark.parametrize("solver", SOLVERS)
def test_continuous_columns_and_negative_costs(solver: str) -> None:
    base = binary_model([-5, 3, 0], [[4, 0, -1], [0, 0, 1]], [0, -np.inf], [np.inf, 9])
    model = replace(base, integrality=np.array([True, True, False]), column_upper=np.array([3.0, 1.0, 10.0]))
    answer = solve(model, solver)
    assert (answer.termination, answer.objective) == (Termination.OPTIMAL, -15)


@pytest.mark.parametrize("solver", SOLVERS)
def test_limit_without_solution(solver: str) -> None:
    answer = solve(market_split(5, 45, seed=1), solver, time_limit_s=0.3)
    assert answer.termination is Termination.NO_SOLUTION_FOUND
    assert (answer.values, answer.objective) == (None, None)
    assert answer.lower_bound < 45


@pytest.mark.parametrize(
    "limit_s", [float("inf"), 1e300, 1e12, 10**400], ids=["inf", "1e300", "1e12", "10^400"]
)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_limit_beyond_all_time_is_none(solver: str, limit_s: float) -> None:
    answer = solve(knapsack(), solver, time_limit_s=limit_s)
    assert (answer.termination, answer.objective) == (Termination.OPTIMAL, 220)


@pytest.mark.parametrize("solver", SOLVERS)
def test_limit_with_solution(solver: str) -> None:
    model = hard_covering(5, 100, seed=1)
    answer = solve(model, solver, time_limit_s=0.7)
    assert answer.termination is Termination.FEASIBLE
    assert answer.values is not None
    assert answer.objective is not None
    assert np.all(model.matrix @ answer.values >= model.row_lower)
    assert 0.9 * answer.objective < answer.lower_bound < answer.objective


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_gap_is_enough_if_asked_for(solver: str) -> None:
    answer = solve(hard_covering(5, 100, seed=1), solver, time_limit_s=20, gap=0.05)
    assert answer.termination is Termination.OPTIMAL
    assert answer.objective is not None
    assert 0.95 * answer.objective <= answer.lower_bound < answer.objective


@pytest.mark.parametrize("solver", SOLVERS)
def test_costs_of_one_microdollar_beside_large_ones_decide(solver: str) -> None:
    costs = [8_000_000_001, 8_000_000_000, 8_000_000_002]
    answer = solve(binary_model(costs, [[1, 1, 1]], [1], [1]), solver)
    assert (answer.objective, answer.lower_bound) == (8_000_000_000, 8_000_000_000.0)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("deadline", [300_000_000, 299_999_999])
def test_one_nanosecond_decides(solver: str, deadline: int) -> None:
    durations = [[200_000_000, 150_000_000, 100_000_000, 150_000_000]]
    model = binary_model(
        [1, 9, 1, 9], [*durations, [1, 1, 0, 0], [0, 0, 1, 1]], [-np.inf, 1, 1], [deadline, 1, 1]
    )
    assert solve(model, solver).objective == (2 if deadline == 300_000_000 else 10)


@pytest.mark.parametrize("solver", SOLVERS)
def test_small_coefficients_beside_large_ones_are_kept(solver: str) -> None:
    # scaled to 1, the coefficient 1 is below 1e-9, which HiGHS drops unless told otherwise
    model = binary_model([-1, -1], [[2_000_000_000, 1]], [-np.inf], [2_000_000_000])
    assert solve(model, solver).objective == -1


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_same_seed_gives_the_same_solution(solver: str) -> None:
    problem = chain_problem(6, 20, 2, seed=5)
    model = FORMULATIONS["paths"].build(problem)
    first, second = (solve(model, solver, seed=3) for _ in range(2))
    assert first.values is not None
    assert second.values is not None
    assert first.values.tolist() == second.values.tolist()


@pytest.mark.parametrize("solver", SOLVERS)
def test_threads_may_change_between_solves(solver: str) -> None:
    assert [solve(knapsack(), solver, threads=threads).objective for threads in (1, 2, 1)] == [220] * 3


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("name", FORMULATIONS)
def test_a_start_helps_but_does_not_bind(solver: str, name: str) -> None:
    for start in ([1, 1, 1], [0, 1, 1], [1, 0, 0]):  # a solution, the optimum, no solution
        assert solve(knapsack(), solver, start=np.array(start, dtype=float)).objective == 220
    problem = chain_problem(4, 4, 1, seed=5)
    formulation = FORMULATIONS[name]
    model = formulation.build(problem)
    best = solve_exhaustively(problem)
    assert best is not None
    for selection in (best.selection, (0, 0, 0, 0), (3, 3, 3, 3)):
        answer = solve(model, solver, start=formulation.encode(problem, model, selection))
        assert answer.objective == best.cost


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_start_is_used(solver: str) -> None:
    # no solver finds a solution of this by itself in a second
    model = market_split(5, 45, seed=1)
    planted = (np.random.default_rng(0).random(45) < 0.5).astype(float)
    sides = model.matrix @ planted
    solvable = replace(model, row_lower=sides, row_upper=sides)
    answer = solve(solvable, solver, time_limit_s=0.5, start=planted)
    assert answer.termination in (Termination.FEASIBLE, Termination.OPTIMAL)
    assert answer.objective is not None
    assert answer.lower_bound <= answer.objective


@pytest.mark.parametrize("solver", SOLVERS)
def test_the_log_goes_to_stderr_and_only_if_asked_for(solver: str, capfd: pytest.CaptureFixture[str]) -> None:
    solve(knapsack(), solver)
    assert capfd.readouterr() == ("", "")
    solve(knapsack(), solver, log=True)
    out, err = capfd.readouterr()
    assert out == ""
    assert "ptimal" in err or "OPTIMAL" in err


def test_a_first_use_prints_no_banner() -> None:
    script = (
        "from mipplan.solvers import solve\n"
        "from random_problems import binary_model\n"
        "solve(binary_model([1], [[1]], [0], [1]), 'highs')"
    )
    done = run_python(script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.skipif(os.name == "nt", reason="signals to oneself differ on Windows")
def test_ctrl_c_gets_through(solver: str) -> None:
    interrupter = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    interrupter.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        solve(market_split(5, 45, seed=1), solver, time_limit_s=3)
    interrupter.join()
    assert time.monotonic() > started


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.skipif(os.name == "nt", reason="signals to oneself differ on Windows")
def test_the_process_ends_well_after_ctrl_c(solver: str) -> None:
    script = (
        "import os, signal, threading\n"
        "from mipplan.solvers import solve\n"
        "from random_problems import binary_model, market_split\n"
        f"solve(binary_model([1], [[1]], [1], [1]), {solver!r})\n"  # imports done, only the search is interrupted
        "threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try:\n"
        f"    solve(market_split(5, 45, seed=1), {solver!r}, time_limit_s=5)\n"
        "except KeyboardInterrupt:\n"
        "    print('stopped')"
    )
    done = run_python(script)
    said = done.stdout.splitlines()
    assert (done.returncode, said[-1], done.stderr) == (0, "stopped", "")
    # SCIP, and nobody else, prints a line of its own when interrupted, and cannot be kept from it
    assert len(said) == 1 or solver == "scip"


@pytest.mark.parametrize(("unit", "seed"), [(1, 762), (1, 831), (100_000, 755)])
def test_what_cbc_gets_wrong_or_crashes_on_by_itself(unit: int, seed: int) -> None:
    problem = random_problem(np.random.default_rng([unit, seed]), unit=unit)
    best = solve_exhaustively(problem)
    answer = solve(FORMULATIONS["paths"].build(problem), "cbc")
    assert answer.objective == (None if best is None else best.cost)


def test_cbc_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    solve(knapsack(), "cbc")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "setting",
    [
        {"time_limit_s": 0.0},
        {"time_limit_s": "5"},
        {"gap": -0.1},
        {"gap": float("nan")},
        {"gap": "1%"},
        {"threads": 0, "seed": -1},
        {"threads": 1.5},
        {"seed": None, "time_limit_s": float("nan")},
        {"start": np.zeros(2)},
        {"start": [0.0, 1.0, np.nan]},
        {"start": "010"},
    ],
)
def test_settings_out_of_range(setting: dict) -> None:
    with pytest.raises(InputError) as refused:
        solve(knapsack(), **setting)
    assert {fault.place for fault in refused.value.faults} == set(setting)


def test_a_problem_is_no_model() -> None:
    problem: Any = chain_problem(3, 4, 1, seed=1)
    with pytest.raises(InputError, match="expected a LinearModel, got a TimeCostProblem; see solve_problem"):
        solve(problem)
    model: Any = knapsack()
    with pytest.raises(InputError, match="expected a TimeCostProblem, got a LinearModel; see solve"):
        solve_problem(model)


def test_auto_is_highs() -> None:
    assert resolve_solver() == "highs"
    assert solve(knapsack()).solver == "highs"


def test_auto_asks_no_more_solvers_than_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = LINEAR_BACKENDS.values()
    for backend in others:
        monkeypatch.setattr(type(backend), "probe", lambda _: pytest.fail("asked in vain"))
    assert resolve_solver() == first.name
    assert solve(knapsack()).solver == first.name


@pytest.mark.parametrize("backend", [*LINEAR_BACKENDS.values(), *PROBLEM_BACKENDS.values()])
def test_a_backend_is_registered_by_the_name_it_goes_by(backend: Backend[Any, Any]) -> None:
    assert backend.probe().name == backend.name
    assert ({**LINEAR_BACKENDS, **PROBLEM_BACKENDS})[backend.name] is backend
    # packages of solvers are named in this room only, which a contract of imports checks for each of them
    contracts = (Path(__file__).parents[2] / ".importlinter").read_text(encoding="utf-8")
    assert all(f"mipplan.solvers.** -> {package}" in contracts for package in backend.packages)


@pytest.mark.parametrize("solver", SOLVERS)
def test_solver_is_available_here(solver: str) -> None:
    info = next(info for info in available_solvers() if info.name == solver)
    assert (info.available, info.reason) == (True, None)
    assert info.version


def test_an_unknown_name_is_answered_with_those_that_work() -> None:
    with pytest.raises(SolverUnavailableError, match=r"did you mean 'highs'\? working solvers: highs,.* cbc"):
        solve(knapsack(), "hihgs")
    with pytest.raises(SolverUnavailableError, match="there is no solver 'gurobi'; working solvers"):
        resolve_solver("gurobi")


@pytest.fixture
def without_highspy() -> Iterator[None]:
    saved = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "highspy"}
    for name in saved:
        del sys.modules[name]
    sys.modules["highspy"] = None  # type: ignore[assignment]
    yield
    del sys.modules["highspy"]
    sys.modules.update(saved)


@pytest.mark.usefixtures("without_highspy")
def test_without_highspy_auto_is_cbc() -> None:
    answer: Answer = solve(knapsack())
    assert (answer.solver, answer.objective) == ("cbc", 220)
    with pytest.raises(SolverUnavailableError, match=r"highspy is not installed; working solvers: .*cbc"):
        solve(knapsack(), "highs")


def test_without_any_package_the_reasons_are_told() -> None:
    script = (
        "import sys\n"
        "sys.modules['highspy'] = sys.modules['pulp'] = sys.modules['ortools'] = None\n"
        "from mipplan.solvers import available_solvers, solve\n"
        "from random_problems import binary_model\n"
        "assert not any(info.available for info in available_solvers())\n"
        "solve(binary_model([1], [[1]], [0], [1]))"
    )
    done = run_python(script)
    assert done.returncode == 1
    for part in (
        "no solver works here (highs: the package highspy",
        "cbc: the package pulp is not installed",
    ):
        assert part in done.stderr


def run_python(script: str) -> subprocess.CompletedProcess[str]:
    tests = Path(__file__).resolve().parents[1]
    paths = [tests, tests.parent, tests.parent / "formulations"]
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))},
        capture_output=True,
        text=True,
        check=False,
    )
