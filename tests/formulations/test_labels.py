"""Labels against brute force and, on chains too large for it, against what prices of time prove."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from campaigns import campaign_size
from mipplan_formulations import (
    FORMULATIONS,
    Activity,
    Arc,
    Cover,
    Path,
    Resource,
    TimeCostProblem,
    solve_exhaustively,
)
from mipplan_formulations.labelling import (
    ChainParams,
    DualBound,
    LabelAnswer,
    LabelParams,
    is_chain,
    solve_by_labels,
)
from mipplan_formulations.labelling.lagrange import ChainTable, Heights, all_heights, tabulate
from random_problems import chain_problem, random_problem
from relaxations import relaxed_optimum


def chains(cases: int, unit: int) -> list[TimeCostProblem]:
    """Single paths over all activities, waits and durations that tie, deadlines from hopeless to loose."""
    found = []
    for seed in range(cases):
        rng = np.random.default_rng([unit, seed, 7])
        count = int(rng.integers(1, 5))
        modes = rng.integers(1, 8, count).tolist()
        times = [rng.integers(0, 20, (2, m)) * unit + rng.integers(0, 3, (2, m)) for m in modes]
        activities = tuple(
            Activity(f"a{v}", rng.integers(0, 12, m) * int(rng.choice([1, 250_000])), times[v][0])
            for v, m in enumerate(modes)
        )
        arcs = tuple(Arc(v, v + 1, unit) for v in range(count - 1))
        path = Path(tuple(range(count)), unit * (count - 1), tuple(own[1] for own in times))
        found.append(
            TimeCostProblem(activities, arcs, (path,), int(rng.integers(0, 25)) * count * unit + count)
        )
    return found


def table_of(problem: TimeCostProblem) -> ChainTable:
    """Everything on the only path."""
    path = problem.paths[0]
    costs = [activity.cost for activity in problem.activities]
    durations = [activity.duration for activity in problem.activities]
    return tabulate(costs, durations, path.waits, problem.deadline - path.lag)


def check(problem: TimeCostProblem, answer: LabelAnswer) -> bool:
    """Hold an answer to brute force; whether the problem is feasible."""
    best = solve_exhaustively(problem)
    assert answer.finished
    if best is None:
        assert (answer.selection, answer.cost, answer.lower_bound) == (None, None, np.inf)
        return False
    assert answer.selection is not None
    judged = problem.evaluate(answer.selection)
    assert judged.feasible
    assert judged.cost == answer.cost == answer.lower_bound == best.cost
    return True


@pytest.mark.parametrize("unit", [1, 1_000_000_000])
def test_chains_are_solved_to_the_optimum_of_brute_force(unit: int) -> None:
    problems = chains(campaign_size(150, 4000), unit)
    assert all(is_chain(problem) for problem in problems)
    assert {check(problem, solve_by_labels(problem)) for problem in problems} == {True, False}


@pytest.mark.parametrize("unit", [1, 1_000_000_000])
def test_networks_resources_and_covers_too(unit: int) -> None:
    verdicts, bare = set(), 0
    for seed in range(campaign_size(120, 3000)):
        problem = random_problem(np.random.default_rng([unit, seed]), unit=unit)
        bare += is_chain(problem)
        verdicts.add(check(problem, solve_by_labels(problem)))
    assert verdicts == {True, False}
    assert bare < seed / 2


@pytest.mark.parametrize(
    ("costs", "longer", "spare", "best"),
    [
        ([[829_887, 842_675], [657_652, 4_722]], [[2, 0], [3, 3]], 3, (1, 1)),
        ([[329_959, 851_589], [461_589, 659_125]], [[1, 0], [3, 0]], 0, (1, 1)),
        ([[349_694, 474_482], [616_442, 639_790]], [[1, 0], [2, 2]], 2, (1, 0)),
    ],
)
def test_a_price_of_dollars_per_nanosecond_cuts_off_no_optimum(
    costs: list[list[int]], longer: list[list[int]], spare: int, best: tuple[int, ...]
) -> None:
    # durations of a quarter of an hour that differ by a nanosecond: all were called infeasible
    unit = 10**12
    durations = np.array(longer, dtype=np.int64) + unit
    activities = tuple(Activity(f"a{v}", costs[v], durations[v]) for v in (0, 1))
    path = Path((0, 1), 0, (np.zeros(2, dtype=np.int64),) * 2)
    problem = TimeCostProblem(activities, (Arc(0, 1),), (path,), 2 * unit + spare)
    answer = solve_by_labels(problem)
    assert check(problem, answer)
    assert answer.selection == best


def test_gathered_heights_bound_and_solve_alike() -> None:
    params = LabelParams(chain=ChainParams(most_heights=3))
    for problem in chains(60, 1):
        check(problem, solve_by_labels(problem, params=params))


def test_a_guide_that_holds_changes_nothing_but_the_work() -> None:
    for seed in range(60):
        problem = random_problem(np.random.default_rng(seed))
        best = solve_exhaustively(problem)
        if best is None:
            continue
        # the sharpest guide there can be: the optimum itself, and what each mode makes of it
        least = [
            [
                min(
                    (
                        problem.evaluate(selection).cost
                        for selection in product(*(range(m) for m in problem.mode_counts))
                        if selection[v] == o and problem.evaluate(selection).feasible
                    ),
                    default=np.inf,
                )
                for o in range(activity.num_modes)
            ]
            for v, activity in enumerate(problem.activities)
        ]
        # a sum of excesses must not exceed what is left: one activity's share each
        share = 1 / len(problem.activities)
        excess = tuple((np.array(own, dtype=float) - best.cost) * share for own in least)
        check(problem, solve_by_labels(problem, guide=DualBound(float(best.cost), excess)))


def test_reduced_costs_at_both_ends_of_the_box_make_a_guide() -> None:
    guide = DualBound.from_reduced_costs(10.0, [np.array([-3.0, -1.0]), np.array([2.0, 5.0, np.inf])])
    # -4 was taken for the first activity, -3 is the least it can be; the second costs 2 at least
    assert guide.bound == 10 + 1 + 2
    assert [own.tolist() for own in guide.excess] == [[0, 2], [0, 3, np.inf]]


def test_a_bound_by_heights_holds_for_every_selection() -> None:
    for problem in chains(80, 1):
        table = table_of(problem)
        for heights in (all_heights(table, 1000), all_heights(table, 2)):
            if heights.lows.size == 0:
                continue
            for price in (0.0, 0.3, 7.0, 123_456.0):
                _, total = heights.weigh(price)
                among, _ = heights.bound_modes(price)
                for selection in product(*(range(m) for m in problem.mode_counts)):
                    judged = problem.evaluate(selection)
                    if judged.feasible:
                        assert total.min() <= judged.cost
                        for v, mode in enumerate(selection):
                            column = int(np.flatnonzero(table.allowed[v] & (table.number[v] == mode))[0])
                            assert among[v, column] <= judged.cost + 1e-6


def test_the_bound_is_that_of_the_best_price() -> None:
    # by hand: without time limits 0; at price 1 the long modes cost as much as the short ones
    table = tabulate([np.array([10, 0])] * 2, [np.array([0, 10])] * 2, [np.array([0, 0])] * 2, 10)
    heights = Heights(table, np.array([0]), np.array([0]))
    heights.maximise()
    assert heights.bound == pytest.approx(10, rel=1e-6)
    assert heights.best_prices(1) == [pytest.approx(1)]


def test_the_best_bound_is_the_relaxation_of_levels_without_clashes() -> None:
    compared = 0
    for problem in chains(120, 1):
        table = table_of(problem)
        heights = all_heights(table, 1000)
        model = FORMULATIONS["levels"].build(problem)
        if heights.fastest().min() > table.room or not any(name == "total_0" for name in model.row_names):
            continue
        heights.maximise()
        kept = np.array([not name.startswith("clash") for name in model.row_names])
        upper = np.ones(model.num_columns)
        waits = np.concatenate(problem.paths[0].waits)
        upper[: waits.size][waits > heights.lows[-1]] = 0.0
        relaxed = relaxed_optimum(
            replace(
                model,
                matrix=model.matrix[kept],
                row_lower=model.row_lower[kept],
                row_upper=model.row_upper[kept],
                row_names=tuple(np.array(model.row_names)[kept].tolist()),
                column_upper=upper,
            )
        )
        assert heights.bound == pytest.approx(relaxed, rel=1e-6, abs=1e-6)
        compared += 1
    assert compared > 20


def test_large_chains_are_proven() -> None:
    problem = replace(chain_problem(30, 200, 1, seed=4), deadline=350_000_000)
    answer = solve_by_labels(problem)
    assert answer.finished
    assert answer.selection is not None
    assert problem.evaluate(answer.selection).feasible
    assert answer.cost == answer.lower_bound
    loose = solve_by_labels(problem, gap=0.05)
    assert loose.cost is not None
    assert answer.cost is not None
    assert loose.lower_bound <= answer.cost <= loose.cost <= 1.05 * loose.lower_bound + 1
    assert loose.labels <= answer.labels


def test_a_start_is_returned_if_nothing_is_better_or_time_is_over() -> None:
    problem = chain_problem(4, 5, 1, seed=5)
    best = solve_exhaustively(problem)
    assert best is not None
    answer = solve_by_labels(problem, start=best.selection)
    assert (answer.selection, answer.finished) == (best.selection, True)
    feasible = next(
        selection
        for selection in product(range(5), repeat=4)
        if problem.evaluate(selection).feasible and problem.evaluate(selection).cost > best.cost
    )
    assert check(problem, solve_by_labels(problem, start=feasible))
    assert check(problem, solve_by_labels(problem, start=(0, 0, 0, 0)))


def test_limits_leave_a_bound_and_perhaps_a_selection() -> None:
    rng = np.random.default_rng(3)
    activities = tuple(
        Activity(f"a{v}", rng.integers(1, 10**6, 40), rng.integers(1, 10**6, 40), rng.integers(0, 9, (40, 1)))
        for v in range(12)
    )
    path = Path(tuple(range(12)), 0, tuple(rng.integers(0, 10**6, 40) for _ in range(12)))
    arcs = tuple(Arc(v, v + 1) for v in range(11))
    problem = TimeCostProblem(activities, arcs, (path,), 6_000_000, (Resource("r", 45),))
    answer = solve_by_labels(problem, most_labels=50, time_limit_s=5)
    assert not answer.finished
    assert answer.lower_bound <= (np.inf if answer.cost is None else answer.cost)
    hurried = solve_by_labels(problem, time_limit_s=1e-9)
    assert (hurried.selection, hurried.finished) == (None, False)
    assert np.isfinite(hurried.lower_bound)


def test_activities_off_the_path_take_their_cheapest_mode() -> None:
    problem = TimeCostProblem(
        (Activity("on", [9, 1], [1, 50]), Activity("off", [7, 3, 5], [1, 99, 5])),
        (),
        (Path((0,), 0, (np.array([1, 1]),)),),
        20,
        covers=(Cover(((1, np.array([True, True, True])),)),),
    )
    assert solve_by_labels(problem).selection == (0, 1)
    assert solve_by_labels(replace(problem, paths=())).selection == (1, 1)


def test_sums_beyond_int64_are_refused() -> None:
    huge = 2**53
    activities = tuple(Activity(f"a{v}", [huge], [1]) for v in range(100))
    with pytest.raises(ValueError, match="too large to be added up"):
        solve_by_labels(TimeCostProblem(activities, (), (), 5))
