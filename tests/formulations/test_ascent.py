"""Diagrams hold the choices of a path that meet its deadline, and what the ascent says holds for every plan."""

from __future__ import annotations

import math
from itertools import product

import numpy as np

from campaigns import campaign_size
from mipplan_formulations import TimeCostProblem
from mipplan_formulations.labelling import AscentParams, DualAscent
from mipplan_formulations.labelling.ascent import Diagram, draw
from mipplan_formulations.time_cost import breakable_paths
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
        ascent = DualAscent(problem, paths, prices, params=FEW if seed % 4 == 0 else AscentParams())
        plans, before = all_plans(problem), -math.inf
        starts = np.concatenate([[0], np.cumsum(problem.mode_counts)[:-1]])
        for _ in range(4):
            guide, alone = ascent.guide()
            assert guide.bound >= before
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
        paths = [path for _, path in breakable_paths(problem)]
        first = DualAscent(problem, paths)
        first.ascend(10, math.inf)
        second = DualAscent(problem, paths, first.prices())
        assert second.guide()[0].bound == first.guide()[0].bound


def test_time_may_be_over_before_it_begins() -> None:
    problem = random_problem(np.random.default_rng(5))
    ascent = DualAscent(problem, [path for _, path in breakable_paths(problem)])
    before = ascent.guide()[0].bound
    assert ascent.ascend(10, -math.inf) == 0
    assert ascent.guide()[0].bound == before
