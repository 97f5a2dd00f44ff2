"""All choices within bounds, against trying everything."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest

from campaigns import campaign_size
from mipplan.planner import Bounds, PathPart, StagePart, TooManyError, WalkParams, list_choices
from mipplan_formulations import TimeCostProblem
from random_problems import random_problem


def parts_of(problem: TimeCostProblem, added: Sequence[np.ndarray]) -> tuple[list[StagePart], list[PathPart]]:
    """All modes, called by ten times their number, as walks take them."""
    parts = [
        StagePart(10 * np.arange(a.num_modes), a.cost, extra, a.duration, a.usage)
        for a, extra in zip(problem.activities, added, strict=True)
    ]
    return parts, [PathPart(path.activities, path.lag, path.waits) for path in problem.paths]


def by_trying_all(problem: TimeCostProblem, added: Sequence[np.ndarray], bounds: Bounds) -> list[list[int]]:
    found = []
    for modes in itertools.product(*(range(a.num_modes) for a in problem.activities)):
        judged = problem.evaluate(modes)
        extra = sum(float(own[mode]) for own, mode in zip(added, modes, strict=True))
        if judged.feasible and judged.cost <= bounds.most and extra <= bounds.spare:
            found.append([judged.cost, *(10 * mode for mode in modes)])
    return sorted(found)


@pytest.mark.parametrize("few", [2, 1_000])
def test_all_choices_within_the_bounds_are_listed_in_order(few: int) -> None:
    # With 2 the order of the stages is always decided by looking at some partial choices, here at two.
    params = WalkParams(few=few, sample=min(few, 100), at_once=3)
    verdicts: Counter[str] = Counter()
    for number in range(campaign_size(300, 6_000)):
        rng = np.random.default_rng([41, number])
        drawn = random_problem(rng)
        problem = TimeCostProblem(
            drawn.activities, drawn.arcs, drawn.paths, drawn.deadline, drawn.resources
        )  # covers are no bounds of the walk
        added = [rng.integers(0, 4, a.num_modes).astype(float) for a in problem.activities]
        dearest = sum(int(a.cost.max()) for a in problem.activities)
        capacities = np.array([resource.capacity for resource in problem.resources], dtype=np.int64)
        bounds = Bounds(
            problem.deadline,
            float(rng.integers(0, 3 * len(added) + 1)),
            int(rng.integers(0, dearest + 1)),
            capacities,
        )
        found = list_choices(*parts_of(problem, added), bounds, params).in_order()
        listed = [
            [cost, *picks] for cost, picks in zip(found.cost.tolist(), found.picks.tolist(), strict=True)
        ]
        expected = by_trying_all(problem, added, bounds)
        assert listed == expected, number
        verdicts["none" if not expected else "some"] += 1
        verdicts["not all"] += 0 < len(expected) < np.prod(problem.mode_counts)
    assert min(verdicts.values()) >= 0.1 * verdicts.total() / 2


def test_more_partial_choices_than_wanted_are_refused() -> None:
    problem = random_problem(np.random.default_rng(7))
    count = int(np.prod(problem.mode_counts))
    assert count > 3
    added = [np.zeros(a.num_modes) for a in problem.activities]
    everything = Bounds(10**15, 1.0, 10**12, np.full(len(problem.resources), 10**6))
    parts = parts_of(problem, added)
    assert list_choices(*parts, everything).cost.size == count
    with pytest.raises(TooManyError):
        list_choices(*parts, Bounds(10**15, 1.0, 10**12, everything.capacities, labels=count - 1))
