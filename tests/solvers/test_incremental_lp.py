"""A relaxation that is kept: how often it is passed as a whole is counted, and it is as good as one made anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import mipplan as mp
from campaigns import campaign_size
from mipplan.solvers import IncrementalLp, relax
from mipplan.solvers.lp import HighsLp
from mipplan_formulations import FORMULATIONS, Group, LinearModel, Resource, ScalingActivity, ScalingProblem
from mipplan_formulations.scaling import build
from random_problems import binary_model, random_problem


def problem_of(need: list[int], capacity: int, **changes: object) -> ScalingProblem:
    count = len(need)
    parts: dict[str, object] = {
        "activities": tuple(ScalingActivity(f"a{v}", 3 + v, np.array([1]), up_cost=1) for v in range(count)),
        "groups": (Group("all", 40),),
        "need": need,
        "least": [1] * count,
        "most": [50] * count,
        "present": [2] * count,
        "resources": (Resource("r", capacity),),
    }
    return ScalingProblem(**{**parts, **changes})  # type: ignore[arg-type]


def test_numbers_change_without_a_rebuild() -> None:
    kept = IncrementalLp()
    rng = np.random.default_rng(5)
    for number in range(60):
        model = build(
            problem_of(
                rng.integers(1, 9000, 4).tolist(), int(rng.integers(4, 30)), present=rng.integers(1, 9, 4)
            )
        )
        found = kept.solve(model)
        fresh = IncrementalLp().solve(model)
        assert found is not None
        assert fresh is not None
        assert found.reused == (number > 0)
        assert np.isclose(
            model.objective @ found.values, model.objective @ fresh.values, rtol=1e-9, atol=1e-6
        )
        assert np.isclose(found.bound, fresh.bound, rtol=1e-6, atol=1e-5)
    assert (kept.builds, kept.solves) == (1, 60)


def test_another_shape_is_passed_anew() -> None:
    kept = IncrementalLp()
    for need in ([1500, 800], [1500, 800, 2500], [100, 800, 2600], [1500, 800]):
        assert kept.solve(build(problem_of(need, 20))) is not None
    assert (kept.builds, kept.solves) == (3, 4)


def test_a_column_more_that_no_row_has_is_another_shape() -> None:
    kept = IncrementalLp()
    for count in (2, 3, 2):
        model = binary_model([1, 2, 3][:count], [[1, 1, 0][:count]], [1], [np.inf])
        found = kept.solve(model)
        assert found is not None
        assert found.values.tolist() == [1, 0, 0][:count]
    assert (kept.builds, kept.solves) == (3, 3)


def test_infeasible_is_an_answer_and_feasible_again_is_too() -> None:
    kept = IncrementalLp()
    strict = (Group("none"),)
    # Without shedding, needs are bounds of the columns, so the shape stays.
    capacities = [9, 3, 9, 1, 30]
    found = [kept.solve(build(problem_of([2500, 1500], c, groups=strict))) is not None for c in capacities]
    assert found == [True, False, True, False, True]
    assert kept.builds == 1


def test_bound_is_below_every_solution_and_near_the_relaxation() -> None:
    # On the planner's models too: event times in ns, waits, covers.
    compared = differ = 0
    for seed in range(campaign_size(25, 300)):
        problem = random_problem(np.random.default_rng([21, seed]), unit=1_000_000)
        for formulation in FORMULATIONS.values():
            model = formulation.build(problem)
            found, other = IncrementalLp().solve(model), relax(model)
            compared += 1
            if other is None:  # the solver gave up, which it may
                differ += 1
            elif (found is None) != np.isinf(other.bound):
                # One ns in 33 ms may decide, and be within what solvers tolerate.
                differ += 1
                assert found is None or 0 < _excess(model, found.values) <= 1e-7, seed
            elif found is not None:
                objective = float(model.objective @ found.values)
                assert found.bound <= objective + 1e-6 * (1 + abs(objective))
                near = 1e-4 + 1e-8 * float(np.abs(model.objective).max())
                assert np.isclose(found.bound, other.bound, rtol=1e-6, atol=near), seed
    assert differ <= 0.02 * compared


def _excess(model: LinearModel, values: np.ndarray) -> float:
    """Largest violation of a row, as a share of the largest number in it."""
    rows = model.matrix @ values
    broken = np.maximum(model.row_lower - rows, rows - model.row_upper)
    largest = abs(model.matrix).max(axis=1).toarray().ravel()
    return float(np.max(broken / np.maximum(largest, 1.0)))


def test_bound_holds_with_any_dual_values() -> None:
    # Sides that a row does not have are not used.
    model = build(problem_of([2500, 900], 12))
    loose = LinearModel(
        **{**vars(model), "row_upper": np.full(model.num_rows, np.inf), "name": "loose"}  # type: ignore[arg-type]
    )
    found = IncrementalLp().solve(loose)
    assert found is not None
    assert found.bound <= float(loose.objective @ found.values) + 1e-6


def test_works_after_a_plan_was_made_in_the_same_process() -> None:
    # HiGHS refuses to run if its number of threads is changed after a first run.
    pipeline = mp.Pipeline.read("profiles/pipelines/image-processing.yaml")
    trace = mp.Trace.gamma(rate_rps=50, cv=1, duration_s=5, seed=1)
    plan = mp.plan(pipeline, mp.Profiles.default(), trace)
    assert plan.choices
    assert IncrementalLp().solve(build(problem_of([2500, 900], 12))) is not None


def test_a_basis_that_misleads_costs_a_rebuild_not_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = IncrementalLp()
    model = build(problem_of([2500, 900], 12))
    assert kept.solve(model) is not None
    run, calls = HighsLp.run, []

    def stumble(lp: HighsLp) -> bool | None:
        calls.append(run(lp))
        return calls[-1] if len(calls) > 1 else None

    monkeypatch.setattr(HighsLp, "run", stumble)
    found = kept.solve(replace(model, name="again"))
    assert found is not None
    assert not found.reused
    assert kept.builds == 2
