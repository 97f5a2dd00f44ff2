"""Event times in exact arithmetic, against the plainest loop there is."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from mipplan.solvers import Answer, Termination, solve
from mipplan.solvers.exact import Conflict, find_differences
from mipplan.solvers.highs import Highs
from mipplan_formulations import LinearModel
from random_problems import binary_model


def timed(
    matrix: list[list[int]], lower: list[float], upper: list[float], times: int, latest: float
) -> LinearModel:
    """Binaries first, then so many continuous columns from 0 to `latest`."""
    base = binary_model(np.zeros(len(matrix[0])), matrix, lower, upper)
    integral = np.arange(base.num_columns) < base.num_columns - times
    return replace(base, integrality=integral, column_upper=np.where(integral, 1.0, latest))


def random_system(rng: np.random.Generator) -> LinearModel:
    binaries, times, rows = (int(n) for n in rng.integers([1, 1, 1], [4, 4, 7]))
    matrix = np.zeros((rows, binaries + times), dtype=np.int64)
    matrix[:, :binaries] = rng.integers(-5, 6, (rows, binaries))
    for row in matrix:
        chosen = binaries + rng.permutation(times)[: int(rng.integers(0, min(2, times) + 1))]
        signs = [1, -1] if rng.random() < 0.5 else [-1, 1]
        row[chosen] = signs[: chosen.size]
    lower = np.where(rng.random(rows) < 0.4, rng.integers(-6, 3, rows).astype(float), -np.inf)
    upper = np.where(rng.random(rows) < 0.7, rng.integers(3, 9, rows) - 3.0, np.inf)
    return timed(matrix.tolist(), lower.tolist(), np.maximum(lower, upper).tolist(), times, 4.0)


def keeps(model: LinearModel, values: np.ndarray, rows: np.ndarray) -> bool:
    activity = (model.matrix @ values)[rows]
    return bool(np.all(activity >= model.row_lower[rows]) and np.all(activity <= model.row_upper[rows]))


def test_times_are_found_exactly_if_there_are_any() -> None:
    outcomes = set()
    for seed in range(400):
        model = random_system(np.random.default_rng(seed))
        system = find_differences(model)
        assert system is not None
        inner = system.is_row_in
        for choice in product((0.0, 1.0), repeat=int(model.integrality.sum())):
            number = int((~model.integrality).sum())
            exists = any(
                keeps(model, np.array([*choice, *times]), inner) for times in product(range(5), repeat=number)
            )
            outcome = system.settle(np.array([*choice, *[9.0] * number]))
            outcomes.add(exists)
            if isinstance(outcome, Conflict):
                assert not exists, seed
                at_choice = outcome.coefficients[: len(choice)] @ np.array(choice)
                assert at_choice > outcome.upper
                assert not outcome.coefficients[len(choice) :].any()
            else:
                assert exists, seed
                assert keeps(model, outcome, inner)
                assert np.all((outcome >= model.column_lower) & (outcome <= model.column_upper))
    assert outcomes == {True, False}


def test_what_a_conflict_says_holds_for_every_solution() -> None:
    seen = 0
    for seed in range(300):
        model = random_system(np.random.default_rng(seed))
        system = find_differences(model)
        assert system is not None
        number = int((~model.integrality).sum())
        points = [
            np.array([*choice, *[0.0] * number])
            for choice in product((0.0, 1.0), repeat=int(model.integrality.sum()))
        ]
        outcomes = [system.settle(point) for point in points]
        for conflict in (outcome for outcome in outcomes if isinstance(outcome, Conflict)):
            for point, outcome in zip(points, outcomes, strict=True):
                if not isinstance(outcome, Conflict):
                    seen += 1
                    assert conflict.coefficients @ point <= conflict.upper
    assert seen > 50


@pytest.mark.parametrize("matrix", [[[1, 2, 0]], [[1, 1, 1]], [[0, -1, -1]]])
def test_other_continuous_columns_are_no_differences(matrix: list[list[int]]) -> None:
    assert find_differences(timed(matrix, [0], [5], 2, 9.0)) is None


def test_neither_are_models_without_or_with_fractional_bounds() -> None:
    assert find_differences(timed([[1, 1]], [0], [5], 0, 1.0)) is None
    assert find_differences(timed([[1, 1]], [0], [5], 1, 2.5)) is None


def test_a_solution_without_event_times_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    # x0 takes 1,000,000,001 of 1,000,000,000: missed by less than any tolerance; x1 takes less at a higher cost
    day = 10**9
    base = timed(
        [[1, 1, 0], [day + 1, day - 1, -1], [0, 0, 1]], [1, -np.inf, -np.inf], [1, 0, day], 1, 2.0 * day
    )
    model = replace(base, objective=np.array([1, 7, 0]))
    points = iter([np.array([1.0, 0, day]), np.array([0, 1.0, 0])])
    rows: list[int] = []

    def run(_backend: Highs, current: LinearModel, *_: object) -> Answer[np.ndarray]:
        rows.append(current.num_rows)
        point = next(points)
        return Answer(Termination.OPTIMAL, point, lower_bound=float(current.objective @ point))

    monkeypatch.setattr(Highs, "run", run)
    answer = solve(model, "highs")
    assert (answer.objective, answer.lower_bound, rows) == (7, 7.0, [3, 5])
    assert answer.values is not None
    assert day - 1 <= answer.values[2] <= day
