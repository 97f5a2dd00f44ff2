"""Scaling, the recheck and the exact treatment of integer rows, each on its own."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pulp
import pytest

from mipplan.core import Float64, InputError, SolverError
from mipplan.solvers import Answer, Termination, solve, write_model
from mipplan.solvers.backend import Settings
from mipplan.solvers.exact import Conflict, check_solution, cut_off, find_broken_row, solve_exactly
from mipplan.solvers.highs import Highs, make_highs
from mipplan.solvers.numerics import scale_model
from mipplan.solvers.register import LINEAR_BACKENDS
from mipplan_formulations import LinearModel
from random_problems import binary_model


def test_rows_are_scaled_by_powers_of_two_to_about_one() -> None:
    model = binary_model([1, 1], [[300_000_000, 1], [1, 1], [7, -5]], [5, 1, 0], [10**8, 1, np.inf])
    scaled = scale_model(model)
    matrix = scaled.entries.reshape(3, 2)  # none of them is 0
    factors = matrix[:, 0] / model.matrix.toarray()[:, 0]
    assert factors.tolist() == [2.0**-28, 1.0, 2.0**-3]
    assert scaled.row_upper.tolist() == [10**8 * 2.0**-28, 1.0, np.inf]
    assert (matrix / factors[:, None]).tolist() == model.matrix.toarray().tolist()


def test_long_rows_gain_resolution_up_to_the_limit_asked_for() -> None:
    model = binary_model([1, 1, 1], np.diag([2**20, 2**30, 2**50]), [1] * 3, [np.inf] * 3)
    assert scale_model(model, gain_bits=12).entries.tolist() == [1, 2**6, 2**12]


def test_sides_out_of_reach_are_dropped() -> None:
    model = binary_model([1, 1], [[2, 3], [2, -3]], [-(10**15), -3], [10**15, 10**15])
    scaled = scale_model(model)
    assert scaled.row_lower.tolist() == [-np.inf, -3 / 4]
    assert scaled.row_upper.tolist() == [np.inf, np.inf]


@pytest.mark.parametrize(
    ("costs", "unit", "step"),
    [([6, 9], 3, 1.0), ([0, 0], 1, 1.0), ([2**30 + 1, 1], 2**11, 2.0**-11), ([-(2**30), 2**29], 2**29, 1.0)],
)
def test_objective_is_divided_by_what_all_costs_share(costs: list[int], unit: int, step: float) -> None:
    scaled = scale_model(binary_model(costs, [[1, 1]], [0], [2]))
    assert (scaled.objective_unit, scaled.objective_step) == (unit, step)
    assert (scaled.objective * unit).tolist() == costs


def test_bounds_are_lifted_to_the_next_value_the_objective_can_take() -> None:
    scaled = scale_model(binary_model([500, 750], [[1, 1]], [0], [2]))
    assert [scaled.lift_bound(bound) for bound in (2.0, 2.1, 1.9999999, 2.0000001)] == [500, 750, 500, 500]
    assert scaled.lift_bound(-np.inf) == -np.inf


def test_bounds_beside_a_large_cost_give_away_what_solvers_may_be_wrong_by() -> None:
    scaled = scale_model(binary_model([10**13, 7], [[1, 1]], [0], [2]))
    assert scaled.lift_bound(scaled.objective_step * 10**6) < 10**6


def sample() -> LinearModel:
    model = binary_model([3, 4, 0], [[1_000_000, 1_000_000, -1], [1, 1, 0]], [0, 1], [np.inf, 1])
    return replace(
        model, integrality=np.array([True, True, False]), column_upper=np.array([1.0, 1.0, 1_000_000.0])
    )


def test_recheck_rounds_and_recomputes() -> None:
    checked = check_solution(sample(), np.array([1 - 1e-7, 1e-9, 1_000_000.5]), "test")
    assert checked.values.tolist() == [1, 0, 1_000_000]
    assert checked.objective == 3


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.75, 0.1, 0], "integer column x0 is 0.75"),
        ([2, 0, 0], "column x0 is 2, outside its bounds 0 to 1"),
        ([1, 0, -3], "column x2 is -3, outside"),
        ([1, 1, 0], "row r1 is violated by 1;"),
        ([0, 0, 0], "row r1 is violated by 1;"),
        ([1, 0, np.nan], "expected 3 finite values"),
        ([1, 0], "expected 3 finite values"),
    ],
)
def test_recheck_names_what_is_wrong(values: list[float], expected: str) -> None:
    with pytest.raises(SolverError, match=f"test: {expected}"):
        check_solution(sample(), np.array(values, dtype=float), "test")


def test_recheck_tolerates_a_millionth_of_the_row() -> None:
    base = binary_model([3, 0], [[1_000_000, -2]], [0], [np.inf])
    model = replace(base, integrality=np.array([True, False]), column_upper=np.array([1.0, 1_000_000.0]))
    check_solution(model, np.array([1, 500_000.4]), "test")
    with pytest.raises(SolverError, match="row r0 is violated by 3; 1 would be tolerated"):
        check_solution(model, np.array([1, 500_001.5]), "test")


def test_a_broken_answer_reaches_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Answer(Termination.OPTIMAL, np.array([1.0, 1.0, 0.0]), lower_bound=7.0)
    monkeypatch.setattr(Highs, "run", lambda self, model, settings, start: broken)
    with pytest.raises(SolverError, match="highs: row r1 is violated"):
        solve(sample(), "highs")


@pytest.mark.parametrize("above", [True, False])
def test_a_cut_removes_only_what_breaks_the_row(above: bool) -> None:
    rng = np.random.default_rng(7)
    for _ in range(200):
        coefficients = rng.integers(-6, 7, 5)
        side = int(rng.integers(-6, 7))
        lower, upper = ([-np.inf], [side]) if above else ([side], [np.inf])
        model = binary_model([1] * 5, [coefficients], lower, upper)
        values = rng.integers(0, 2, 5).astype(float)
        activity = coefficients @ values
        broken = activity > side if above else activity < side
        found = find_broken_row(model, values)
        assert (found is not None) == broken
        if found is None:
            continue
        sign = 1 if above else -1
        assert (found.name, found.upper) == ("r0", sign * side)
        assert np.array_equal(found.coefficients, sign * coefficients)
        cut = cut_off(model, found, values, "test")
        for point in product([0, 1], repeat=5):
            allowed = bool(np.all(cut.matrix[[1]] @ np.array(point) >= cut.row_lower[1]))
            keeps = coefficients @ point <= side if above else coefficients @ point >= side
            assert allowed or not keeps
        assert not np.all(cut.matrix[[1]] @ values.astype(np.int64) >= cut.row_lower[1])


def test_rows_with_continuous_columns_are_left_to_the_tolerance() -> None:
    assert find_broken_row(sample(), np.array([1.0, 0.0, 1_000_000.9])) is None


def test_a_cut_needs_binaries() -> None:
    model = replace(binary_model([1], [[2]], [-np.inf], [3]), column_upper=np.array([5.0]))
    with pytest.raises(SolverError, match="row r0 is broken within the tolerance"):
        cut_off(model, Conflict(np.array([2]), 3, "r0"), np.array([2.0]), "test")


class Saying(Highs):
    """Says one point after the other, and notes how many rows the model had."""

    def __init__(self, *points: list[float]) -> None:
        self.points = iter(points)
        self.rows: list[int] = []

    def run(self, model: LinearModel, settings: Settings, start: Float64 | None) -> Answer[Float64]:
        self.rows.append(model.num_rows)
        point = np.array(next(self.points))
        return Answer(Termination.OPTIMAL, point, lower_bound=float(model.objective @ point))


def test_solutions_within_the_tolerance_are_cut_off_until_one_is_exact() -> None:
    model = binary_model([1, 2, 9], [[1, 1, 1], [10**9 + 1, 10**9 + 1, 10**9]], [1, -np.inf], [1, 10**9])
    backend = Saying([1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0])
    answer = solve_exactly(backend, model, Settings())
    assert (answer.objective, answer.lower_bound, backend.rows) == (9, 9.0, [2, 3, 4])


def test_that_does_not_go_on_for_ever() -> None:
    model = binary_model([1] * 4, [[10**9 + 1] * 4], [-np.inf], [10**9])
    backend = Saying(*np.eye(4).tolist())
    with pytest.raises(SolverError, match="highs: 3 solutions in a row"):
        solve_exactly(backend, model, Settings(), most_rounds=3)
    assert backend.rows == [1, 2, 3]


@pytest.mark.parametrize("ending", ["lp", "mps"])
def test_files_read_back_as_the_same_model(ending: str, tmp_path: Path) -> None:
    model = binary_model([3, 5_000_000_001], [[123_456_789_012_345, 1], [1, 1]], [-np.inf, 1], [10**14, 1])
    path = tmp_path / f"model.{ending}"
    write_model(model, path)
    reader = make_highs()
    reader.readModel(str(path))
    lp = reader.getLp()
    assert list(lp.col_cost_) == model.objective.tolist()
    assert sorted(lp.a_matrix_.value_) == sorted(model.matrix.data.tolist())
    assert list(lp.row_upper_) == model.row_upper.tolist()
    assert list(lp.col_names_) == list(model.column_names)


@pytest.mark.skipif(not LINEAR_BACKENDS["cbc"].probe().available, reason="PuLP brings no CBC here")
@pytest.mark.parametrize("ending", ["lp", "mps"])
def test_files_are_the_same_model_to_cbc(ending: str, tmp_path: Path) -> None:
    """Whose optimum is 2; with fractions it is less."""
    odd_cycle = binary_model([1, 1, 1], [[1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 1]], [1] * 4, [np.inf] * 4)
    model = replace(odd_cycle, column_upper=np.array([1.0, 1.0, 2.0]))
    path = tmp_path / f"model.{ending}"
    write_model(model, path)
    command = [pulp.PULP_CBC_CMD.pulp_cbc_path, str(path), "-solve", "-quit"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "###" not in said, said
    assert float(re.findall(r"Objective value: +(\S+)", said)[0]) == 2 == solve(model, "cp_sat").objective


def test_files_that_cannot_be_written_say_why(tmp_path: Path) -> None:
    model = binary_model([1], [[1]], [0], [1])
    with pytest.raises(InputError, match="there is no folder 'nowhere' to write to"):
        write_model(model, "nowhere/model.lp")
    (tmp_path / "folder.lp").mkdir()
    with pytest.raises(InputError, match="folder"):
        write_model(model, tmp_path / "folder.lp")


def test_files_refuse_what_they_would_round(tmp_path: Path) -> None:
    model = binary_model([1], [[2**52 + 1]], [0], [np.inf])
    with pytest.raises(InputError, match="15 digits"):
        write_model(model, tmp_path / "model.lp")
    with pytest.raises(InputError, match=r"\.lp or \.mps"):
        write_model(model, tmp_path / "model.txt")


@pytest.mark.parametrize("solver", LINEAR_BACKENDS)
def test_a_bound_holds_where_costs_are_negative_and_time_is_over(solver: str) -> None:
    rng = np.random.default_rng(0)
    weights = rng.integers(1, 1000, (20, 60))
    most = weights.sum(axis=1) // 3
    model = binary_model(-rng.integers(1, 1000, 60), weights, np.full(20, -np.inf), most)
    assert np.all(weights[:, :12].sum(axis=1) <= most)
    # CP-SAT said 0, which is what stands where nothing is proven yet
    assert solve(model, solver, time_limit_s=1e-3).lower_bound <= model.objective[:12].sum()
