"""Formulation `scaling`: its optimum is that of brute force, and what is written anew is what would be built."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from campaigns import campaign_size, write_summary
from mipplan.solvers import Termination, solve
from mipplan_formulations import (
    SCALING,
    Arc,
    Demand,
    Group,
    LinearModel,
    Resource,
    ScalingActivity,
    ScalingProblem,
    scale_exhaustively,
)
from mipplan_formulations.scaling import Demands, ScalingTemplate, build, lower_hull
from random_scaling import random_demand, random_scaling
from relaxations import is_solution


def single(**changes: object) -> ScalingProblem:
    parts: dict[str, object] = {
        "activities": (ScalingActivity("a", 5), ScalingActivity("b", 2)),
        "groups": (Group("all", 1),),
        "need": [2500, 900],
        "least": [1, 1],
        "most": [4, 4],
        "present": [1, 1],
    }
    return ScalingProblem(**{**parts, **changes})  # type: ignore[arg-type]


def test_optimum_is_that_of_brute_force() -> None:
    seen: Counter[str] = Counter()
    for seed in range(campaign_size(quick=80, deep=2_000)):
        rng = np.random.default_rng([9, seed])
        problem = random_scaling(rng, unit=int(rng.choice([1, 1, 1000])))
        best = scale_exhaustively(problem)
        for name, formulation in SCALING.items():
            model = formulation.build(problem)
            answer = solve(model, "highs")
            if best is None:
                assert answer.termination is Termination.INFEASIBLE, (name, seed)
                continue
            assert answer.values is not None
            units = formulation.decode(problem, model, answer.values)
            evaluation = problem.evaluate(units)
            assert is_solution(model, formulation.encode(problem, model, units)), (name, seed)
            assert formulation.exact
            assert (answer.objective, evaluation.cost, evaluation.feasible) == (best.cost, best.cost, True), (
                seed
            )
        seen["infeasible" if best is None else "feasible"] += 1
        seen["with demands"] += best is not None and any(problem.is_timed)
        seen["shedding"] += best is not None and any(best.shed)
        seen["dear changes"] += any(a.down_cost for a in problem.activities)
    assert min(seen[kind] for kind in ("feasible", "infeasible", "with demands", "shedding")) >= 5
    write_summary("scaling_against_exhaustive", dict(seen))


def test_values_of_units_keep_all_rows_exactly_if_the_problem_allows_them() -> None:
    verdicts = Counter()
    for seed in range(campaign_size(quick=40, deep=500)):
        rng = np.random.default_rng([10, seed])
        problem = random_scaling(rng, unit=int(rng.choice([1, 1000])))
        for name, formulation in SCALING.items():
            model = formulation.build(problem)
            for _ in range(10):
                units = tuple(
                    int(rng.integers(low, high + 1))
                    for low, high in zip(problem.least, problem.most, strict=True)
                )
                evaluation, values = problem.evaluate(units), formulation.encode(problem, model, units)
                assert formulation.decode(problem, model, values) == units
                assert is_solution(model, values) == evaluation.feasible, (name, seed, units)
                assert not evaluation.feasible or int(model.objective @ values) == evaluation.cost
                verdicts[evaluation.feasible] += 1
    assert min(verdicts[True], verdicts[False]) >= 10


def test_rows_by_hand() -> None:
    model = build(single(resources=(Resource("r", 9),), activities=tuple(with_usage(single(), [[2], [1]]))))
    assert model.row_names == ("need_0", "round_0", "need_1", "round_1", "resource_0")
    assert model.matrix.toarray().tolist() == [
        [1_000_000, 0, 2500],
        [500_000, 0, 2500],
        [0, 1_000_000, 900],
        [0, 900_000, 900],
        [2, 1, 0],
    ]
    assert model.row_lower.tolist() == [2_500_000, 1_500_000, 900_000, 900_000, -np.inf]
    assert model.objective.tolist() == [5, 2, 1]


def with_usage(problem: ScalingProblem, usage: list[list[int]]) -> list[ScalingActivity]:
    return [replace(a, usage=np.array(u)) for a, u in zip(problem.activities, usage, strict=True)]


def test_rounding_rows_hold_for_whole_units_and_bind_for_parts() -> None:
    # Without shedding the relaxation itself needs whole units: that is what rows (2) are there for.
    model = build(single())
    for units, shed in product(product(range(1, 5), repeat=2), range(0, 1001, 50)):
        needed = all(n * 10**6 >= need * (1000 - shed) for n, need in zip(units, (2500, 900), strict=True))
        assert keeps_all_rows(model, [*units, shed]) == needed
    assert not keeps_all_rows(model, [2.6, 1, 0])
    assert keeps_all_rows(model, [3, 1, 0])


def keeps_all_rows(model: LinearModel, values: list[float]) -> bool:
    activity = model.matrix @ np.array(values)
    return bool(np.all(activity >= model.row_lower - 1e-9) and np.all(activity <= model.row_upper + 1e-9))


def test_hull_rows_tell_every_number_of_units() -> None:
    # For whole times: the least whole time that the rows admit is the time itself, though times are rounded up.
    for seed in range(60):
        rng = np.random.default_rng([10, seed])
        demand = random_demand(rng, unit=int(rng.choice([1, 7])))
        units = np.arange(1, 12, dtype=np.int64)
        for kind in ("wait", "own"):
            times = demand.times(kind, units)
            rows = lower_hull(units, times)
            for n, time in zip(units.tolist(), times.tolist(), strict=True):
                least = max([int(times[-1]), *(-(-(side - a * n) // b) for a, b, side in rows)])
                assert least == time, f"case {seed}"


def test_rows_of_a_slope_touch_and_never_cut() -> None:
    """Each activity's against brute force, whatever stands beside it."""
    for seed in range(campaign_size(quick=60, deep=1_000)):
        rng = np.random.default_rng([11, seed])
        mine = [random_demand(rng, unit=int(rng.choice([1, 10**6]))) for _ in range(int(rng.integers(1, 5)))]
        least = rng.integers(1, 30, len(mine))
        most = least + rng.choice([0, 1, 20, 70, 511, 512, 5000], len(mine))
        slopes = rng.integers(1, 10 ** int(rng.integers(1, 8)), (2, len(mine), 5))
        found = Demands([None, *mine]).supports(slopes, least, most)
        for i, demand in enumerate(mine):
            units = np.arange(least[i], most[i] + 1, dtype=np.int64)
            for kind, name in enumerate(("wait", "own")):
                sums = demand.times(name, units) + slopes[kind, i][:, None] * units
                true = sums.min(axis=1)
                assert np.all(found[kind, i] <= true), f"case {seed}"
                assert np.all(found[kind, i] >= true - (0 if units.size <= 512 else 2)), f"case {seed}"


def test_times_side_by_side_are_those_of_each() -> None:
    for seed in range(campaign_size(quick=60, deep=1_000)):
        rng = np.random.default_rng([12, seed])
        drawn = [random_demand(rng, unit=int(rng.choice([1, 10**6]))) for _ in range(int(rng.integers(1, 6)))]
        without = Demand(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), int(rng.integers(0, 9)))
        given = [drawn[0], None, *drawn[1:], without]
        demands = Demands(given)
        units = rng.integers(1, 10 ** int(rng.integers(1, 7)), (len(demands.activities), 4))
        waits, owns = demands.times(units)
        assert demands.activities == tuple(v for v, demand in enumerate(given) if demand is not None)
        for i, v in enumerate(demands.activities):
            assert waits[i].tolist() == given[v].waits(units[i]).tolist(), f"case {seed}"
            assert owns[i].tolist() == given[v].own_times(units[i]).tolist(), f"case {seed}"


def test_longest_paths_are_those_found_by_walking_all() -> None:
    walked = 0
    for seed in range(campaign_size(quick=60, deep=1_000)):
        rng = np.random.default_rng([14, seed])
        problem = random_scaling(rng)
        units = rng.integers(1, 9, len(problem.activities)).tolist()
        expected = [0] * len(units)
        own = [
            0 if demand is None else activity.duration + int(demand.own_times(n))
            for activity, demand, n in zip(problem.activities, problem.demands, units, strict=True)
        ]
        for path, lags in all_paths(problem):
            length = lags + sum(own[v] for v in path)
            for v in path:
                demand = problem.demands[v]
                if demand is not None:
                    expected[v] = max(expected[v], length + int(demand.waits(units[v])))
                    walked += len(path) > 1
        assert problem.longest_paths(units).tolist() == expected, f"case {seed}"
    assert walked > 20


def all_paths(problem: ScalingProblem) -> list[tuple[list[int], int]]:
    """Every path from an activity that no arc leads to, to one that none leaves, and the sum of its lags."""
    heads = {arc.head for arc in problem.arcs}
    found = []
    waiting = [([v], 0) for v in range(len(problem.activities)) if v not in heads]
    while waiting:
        path, lags = waiting.pop()
        onward = [arc for arc in problem.arcs if arc.tail == path[-1]]
        waiting += [([*path, arc.head], lags + arc.lag) for arc in onward]
        if not onward:
            found.append((path, lags))
    return found


def test_demand_by_hand() -> None:
    demand = Demand(np.array([0, 10]), np.array([30, 90]), 8)
    assert demand.waits([1, 2, 3, 4, 9]).tolist() == [80, 35, 20, 13, 4]
    assert demand.own_times([1, 3, 8, 9]).tolist() == [8, 3, 1, 1]
    assert demand.units_for(13, 2) == 4
    assert demand.units_for(12, 2) == 5
    assert demand.units_for(100, 0) is None
    assert demand.units_for(0, 8) is None
    assert Demand(np.array([3]), np.array([6]), 0).units_for(0, 0) == 2


@pytest.mark.parametrize("timed", [False, True])
def test_written_anew_is_what_would_be_built(timed: bool) -> None:
    compared = 0
    for seed in range(campaign_size(60, 600)):
        rng = np.random.default_rng([12, seed])
        problem = random_scaling(rng)
        if any(problem.is_timed) != timed:
            continue
        problem = replace(problem, most=np.maximum(problem.most, 5))  # as many as are ever needed
        slopes = random_slopes(rng, problem) if timed else None
        template = ScalingTemplate(problem, slopes)
        for _ in range(3):
            other = with_other_numbers(rng, problem)
            slopes = random_slopes(rng, problem) if timed else None
            if not template.fits(other):
                with pytest.raises(ValueError, match="more than its numbers"):
                    template.write(other, slopes)
                continue
            written, built = template.write(other, slopes), build(other, slopes)
            for name in ("objective", "row_lower", "row_upper", "column_lower", "column_upper"):
                assert np.array_equal(getattr(written, name), getattr(built, name)), (seed, name)
            assert np.array_equal(written.matrix.toarray(), built.matrix.toarray()), seed
            assert (written.row_names, written.column_names) == (built.row_names, built.column_names)
            compared += 1
    assert compared > 20


def with_other_numbers(rng: np.random.Generator, problem: ScalingProblem) -> ScalingProblem:
    """Draw other needs, limits and demands for the same activities."""
    count = problem.need.size
    least = rng.integers(1, 4, count)
    return replace(
        problem,
        need=rng.integers(0, 5000, count),
        least=least,
        most=least + rng.integers(0, 6, count),
        present=rng.integers(1, 6, count),
        resources=tuple(Resource(r.name, int(rng.integers(0, 30))) for r in problem.resources),
        groups=tuple(
            Group(g.name, None if g.penalty is None else int(rng.integers(0, 9))) for g in problem.groups
        ),
        demands=tuple(
            None if d is None else replace(random_demand(rng), own_load=d.own_load) for d in problem.demands
        ),
    )


def random_slopes(rng: np.random.Generator, problem: ScalingProblem) -> np.ndarray:
    demands = [demand for demand in problem.demands if demand is not None]
    slopes = np.array([rng.integers(1, 30, (len(demands), 3)), rng.integers(1, 9, (len(demands), 3))])
    slopes[1, :, 2] = 0
    slopes[1, [not demand.own_load for demand in demands]] = 0
    return slopes


def test_template_of_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="no more is needed than is allowed"):
        ScalingTemplate(single(groups=(Group("none"),), need=[9000, 0]))
    timed = single(groups=(Group("none"),), demands=(Demand(np.array([0]), np.array([1])),) * 2)
    with pytest.raises(ValueError, match="needs slopes"):
        ScalingTemplate(timed)
    slopes = np.array([[[3, 2], [5, 4]], [[0, 0], [0, 0]]])
    template = ScalingTemplate(timed, slopes)
    for others in (None, np.where(slopes == 5, 0, slopes), slopes[:, :, :1]):
        with pytest.raises(ValueError, match="which of them are 0"):
            template.write(timed, others)


def test_many_units_need_slopes() -> None:
    problem = single(
        activities=(ScalingActivity("a", 1, deadline=10),),
        groups=(Group("none"),),
        need=[0],
        least=[1],
        most=[10_000],
        present=[1],
        demands=(Demand(np.array([0]), np.array([50])),),
    )
    with pytest.raises(ValueError, match="give slopes"):
        build(problem)
    model = build(problem, np.array([[[25, 8]], [[0, 0]]]))
    assert [name for name in model.row_names if name.startswith("wait")] == ["wait_0_0", "wait_0_1"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"activities": ()}, "at least one activity"),
        ({"need": [1]}, "need: 1 entries for 2 activities"),
        ({"least": [0, 1]}, "1 <= least <= most"),
        ({"most": [4, 0]}, "1 <= least <= most"),
        ({"groups": ()}, "there is no group 0"),
        ({"groups": (Group("g"), Group("g"))}, "two group entries"),
        ({"resources": (Resource("r", 1),)}, "usage of 0 resources"),
        ({"arcs": (Arc(0, 5),)}, "no such activity"),
        ({"arcs": (Arc(0, 1, -7),)}, "arc 0 -> 1: lag -7 is negative"),
        ({"arcs": (Arc(0, 1), Arc(1, 0))}, "cycle"),
        ({"demands": (Demand(np.array([0]), np.array([1])), None)}, "its group may shed nothing"),
        ({"need": [0.5, 1.0]}, "must be integers"),
        ({"need": [-1, 1]}, "between 0 and 2"),
    ],
)
def test_wrong_problems_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        single(**changes)


def test_wrong_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="needs a name"):
        ScalingActivity("", 1)
    with pytest.raises(ValueError, match="cost: must be between"):
        ScalingActivity("a", -1)
    with pytest.raises(ValueError, match="2 offsets for 1 loads"):
        Demand(np.array([0, 1]), np.array([1]))
    with pytest.raises(ValueError, match="expected 2 numbers"):
        single().evaluate([1])
