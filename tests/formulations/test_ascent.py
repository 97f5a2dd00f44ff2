"""Diagrams hold the choices of a path that meet its deadline, and what the ascent says holds for every plan."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise, product

import numpy as np
import pytest

from campaigns import campaign_size
from mipplan_formulations import TimeCostProblem
from mipplan_formulations.labelling import AscentParams, DualAscent, PricedPaths, dive
from mipplan_formulations.labelling.diagrams import Diagram, draw
from mipplan_formulations.linear import Float64
from mipplan_formulations.time_cost import Activity, Arc, Improver, Path, breakable_paths, keep_modes
from random_problems import random_problem

#: So few states that most diagrams are joined.
FEW = AscentParams(most_states=2, stride=1)


def walks(diagram: Diagram) -> set[tuple[int, ...]]:
    """Every choice of modes that leads from the first node to the end."""
    found = {(): 0}
    for layer in diagram.children:
        found = {
            (*modes, mode): int(child)
            for modes, node in found.items()
            for mode, child in enumerate(layer[node].tolist())
            if child >= 0
        }
    return set(found)


def ascent_on(
    problem: TimeCostProblem,
    prices: list[Float64] | None = None,
    params: AscentParams | None = None,
    is_compiled: bool | None = None,
) -> DualAscent:
    """An ascent on all paths of a problem that may miss the deadline."""
    paths, params = [path for _, path in breakable_paths(problem)], params or AscentParams()
    return DualAscent(
        [activity.cost for activity in problem.activities],
        [path.activities for path in paths],
        [draw(problem, path, params.most_states) for path in paths],
        prices,
        params,
        is_compiled=is_compiled,
    )


def test_walks_are_the_choices_that_meet_the_deadline() -> None:
    paths = joined = 0
    for seed in range(campaign_size(120, 2000)):
        problem = random_problem(np.random.default_rng(seed), unit=int([1, 10**8][seed % 2]))
        for _, path in breakable_paths(problem):
            allowed = set()
            for modes in product(*(range(problem.activities[v].num_modes) for v in path.activities)):
                times = [
                    int(problem.activities[v].duration[o])
                    for v, o in zip(path.activities, modes, strict=True)
                ]
                wait = max(int(own[o]) for own, o in zip(path.waits, modes, strict=True))
                if path.lag + sum(times) + wait <= problem.deadline:
                    allowed.add(modes)
            assert walks(draw(problem, path, 10**6)) == allowed
            few = walks(draw(problem, path, 2))
            assert few >= allowed
            joined += few > allowed
            paths += 1
    assert paths > 100
    assert joined > 5


@pytest.mark.parametrize(("activities", "modes"), [(4, 26), (3, 62)])
def test_diagrams_of_many_choices_are_exact(activities: int, modes: int) -> None:
    """With so many, limits are looked for on a part of the path only, or their pairs are sorted."""
    rng = np.random.default_rng(modes)
    duration = rng.integers(1, 10**9, (activities, modes))
    waits = rng.integers(0, 10**9, (activities, modes))
    path = Path(tuple(range(activities)), 0, tuple(waits))
    problem = TimeCostProblem(
        tuple(Activity(f"a{v}", np.arange(modes), duration[v]) for v in range(activities)),
        tuple(Arc(v, v + 1) for v in range(activities - 1)),
        (path,),
        deadline=activities * 6 * 10**8,
    )
    took, waited = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    for own, wait in zip(duration, waits, strict=True):
        took = (took[:, None] + own).ravel()
        waited = np.maximum(waited[:, None], wait).ravel()
    ways = np.ones(1, dtype=np.int64)  # from each node to the end
    for layer in reversed(draw(problem, path, 10**6).children):
        ways = np.where(layer >= 0, ways[layer], 0).sum(axis=1)
    assert ways.tolist() == [int((took + waited <= problem.deadline).sum())]


def test_diagrams_of_fewer_modes_are_those_of_the_smaller_problem() -> None:
    kept_some = 0
    for seed in range(campaign_size(100, 1500)):
        rng = np.random.default_rng(seed)
        problem = random_problem(rng)
        marked = [rng.random(activity.num_modes) < 0.6 for activity in problem.activities]
        for own in marked:
            own[rng.integers(own.size)] = True
        smaller = keep_modes(problem, marked)
        assert smaller is not None
        for path, fewer in zip(problem.paths, smaller.problem.paths, strict=True):
            kept = [smaller.kept[v] for v in path.activities]
            diagram = draw(problem, path, 10**6).keep(kept)
            assert walks(diagram) == walks(draw(smaller.problem, fewer, 10**6))
            for layer, following in pairwise(diagram.children):  # walks come to every node
                assert set(layer[layer >= 0].tolist()) >= set(range(len(following))) or layer.max() < 0
            choices = math.prod(own.size for own in kept)
            assert diagram.is_free == (len(walks(diagram)) == choices)
            kept_some += 0 < len(walks(diagram)) < choices
    assert kept_some > 10


def all_plans(problem: TimeCostProblem) -> list[tuple[int, ...]]:
    choices = product(*(range(int(count)) for count in problem.mode_counts))
    return [plan for plan in choices if problem.evaluate(plan).makespan <= problem.deadline]


def test_bounds_hold_for_every_plan_and_never_fall() -> None:
    reached = 0
    for seed in range(campaign_size(100, 1500)):
        rng = np.random.default_rng(seed)
        problem = random_problem(rng, unit=int([1, 10**8][seed % 2]))
        paths = [path for _, path in breakable_paths(problem)]
        prices = None
        if seed % 3:  # whatever is taken to begin with, bounds hold
            prices = list(
                rng.normal(0, 1 + problem.activities[0].cost.max(), (len(paths), problem.num_binaries))
            )
        ascent = ascent_on(problem, prices, FEW if seed % 4 == 0 else None)
        plans, before = all_plans(problem), -math.inf
        starts = np.concatenate([[0], np.cumsum(problem.mode_counts)[:-1]])
        for _ in range(4):
            guide, alone = ascent.guide()
            # Shares are whole parts of a scale: each path may lose one.
            assert guide.bound >= before - len(paths) / ascent.scale
            before = guide.bound
            for plan in plans:
                cost, excess = (
                    problem.cost_of(plan),
                    sum(own[o] for own, o in zip(guide.excess, plan, strict=True)),
                )
                assert guide.bound + excess <= cost
                assert alone[starts + np.array(plan)].max() <= cost
            ascent.ascend(7, math.inf)
        if not plans:
            continue
        best = min(map(problem.cost_of, plans))
        assert before <= best
        reached += before > best - 1e-6 * (best + 1)
    assert reached > 30


def test_prices_carry_an_ascent_over() -> None:
    for seed in range(40):
        problem = random_problem(np.random.default_rng(seed))
        first = ascent_on(problem)
        first.ascend(10, math.inf)
        second = ascent_on(problem, first.prices())
        assert second.guide()[0].bound == first.guide()[0].bound


def test_time_may_be_over_before_it_begins() -> None:
    problem = random_problem(np.random.default_rng(5))
    ascent = ascent_on(problem)
    before = ascent.guide()[0].bound
    assert ascent.ascend(10, -math.inf) == 0
    assert ascent.guide()[0].bound == before


@pytest.mark.skipif(find_spec("numba") is None, reason="numba is not installed")
def test_compiled_passes_are_those_by_numpy() -> None:
    for seed in range(campaign_size(60, 600)):
        problem = random_problem(np.random.default_rng(seed), unit=int([1, 10**8][seed % 2]))
        plain, fast = (ascent_on(problem, is_compiled=is_compiled) for is_compiled in (False, True))
        for _ in range(3):
            for one, other in zip(plain.prices(), fast.prices(), strict=True):
                assert np.array_equal(one, other)
            (bound, alone), (same, alike) = plain.guide(), fast.guide()
            assert bound.bound == same.bound
            assert np.array_equal(alone, alike)
            assert plain.ascend(7, math.inf) == fast.ascend(7, math.inf) == 7


def test_leaving_modes_out_keeps_what_the_others_can_do() -> None:
    """Bounds hold for every plan of the modes left, and no plan of the modes kept is lost."""
    lost = none_left = 0
    for seed in range(campaign_size(100, 1500)):
        rng = np.random.default_rng([seed, 1])
        problem = random_problem(rng)
        priced = PricedPaths.drawn(
            problem, {n: np.zeros(problem.num_binaries) for n in range(len(problem.paths))}
        )
        assert priced is not None
        priced.climb(5)
        kept = [
            np.sort(rng.choice(a.num_modes, rng.integers(1, a.num_modes + 1), replace=False))
            for a in problem.activities
        ]
        plans = [
            plan
            for plan in all_plans(problem)
            if all(mode in own for mode, own in zip(plan, kept, strict=True))
        ]
        fewer = priced.keep(kept)
        if fewer is None:
            assert not plans
            none_left += 1
            continue
        smaller, left = fewer
        guide, alone = smaller.climb(5)
        starts = np.concatenate([[0], np.cumsum(smaller.counts)[:-1]])
        for plan in plans:
            places = [np.flatnonzero(own == mode) for own, mode in zip(left, plan, strict=True)]
            assert all(place.size == 1 for place in places)
            assert guide.bound <= problem.cost_of(plan)
            assert alone[starts + np.concatenate(places)].max() <= problem.cost_of(plan)
        lost += sum(map(len, kept)) - sum(map(len, left))
    assert lost > 20
    assert none_left > 3


def test_dives_come_to_plans_below_the_cost_that_is_asked_for() -> None:
    found = best_found = asked = 0
    for seed in range(campaign_size(100, 1000)):
        problem = replace(random_problem(np.random.default_rng([seed, 2])), covers=())
        if problem.resources:
            continue
        improver = Improver(problem)
        plans = [plan for plan in all_plans(problem) if improver.allows(plan)]
        priced = PricedPaths.drawn(
            problem, {n: np.zeros(problem.num_binaries) for n in range(len(problem.paths))}
        )
        assert priced is not None
        guide, alone = priced.climb(20)
        if not plans or math.isinf(guide.bound):
            continue
        costs = [problem.cost_of(plan) for plan in plans]
        first = dive(priced, alone, improver)
        asked += 1
        if first is not None:
            assert problem.evaluate(first).feasible
            found, best_found = found + 1, best_found + (problem.cost_of(first) == min(costs))
        assert dive(priced, alone, improver, most=float(min(costs))) is None
        assert dive(priced, alone, improver, ends_at=-math.inf) is None
    assert found > 0.8 * asked
    assert best_found > 0.6 * asked


def test_drawing_ends_with_the_time() -> None:
    problem = next(
        p for p in (random_problem(np.random.default_rng(seed)) for seed in range(50)) if breakable_paths(p)
    )
    assert PricedPaths.drawn(problem, {}, ends_at=-math.inf) is None
