"""Small random scaling problems that look for trouble: too little of everything, ties, changes that cost too much."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mipplan_formulations import Arc, Demand, Group, Resource, ScalingActivity, ScalingProblem


def random_scaling(rng: np.random.Generator, *, unit: int = 1) -> ScalingProblem:
    """Draw a problem of one or two parts, each with needs that may be shed or with demands and deadlines."""
    resources = int(rng.integers(0, 3))
    activities: list[ScalingActivity] = []
    demands: list[Demand | None] = []
    groups: list[Group] = []
    arcs: list[Arc] = []
    for part in range(int(rng.integers(1, 3))):
        timed = rng.random() < 0.5
        penalty = None if timed or rng.random() < 0.3 else int(rng.integers(0, 4))
        if not groups or rng.random() < 0.7 or timed or groups[-1].penalty is None:
            groups.append(Group(f"group{part}", penalty))
        size = int(rng.integers(1, 4))
        first = len(activities)
        durations = rng.integers(0, 10, size) * unit
        deadline = int(durations.sum() + rng.integers(0, 60) * unit)
        for v in range(size):
            activities.append(
                ScalingActivity(
                    f"a{first + v}",
                    cost=int(rng.integers(0, 9)),
                    usage=rng.integers(0, 3, resources),
                    group=len(groups) - 1,
                    duration=int(durations[v]),
                    deadline=deadline,
                    up_cost=int(rng.choice([0, 0, 1, 5])),
                    down_cost=int(rng.choice([0, 0, 1, 12])),
                )
            )
            demands.append(random_demand(rng, unit) if timed else None)
            if v and timed:
                tails = rng.choice(v, int(rng.integers(0, min(v, 2) + 1)), replace=False)
                arcs += [Arc(first + int(t), first + v, int(rng.integers(0, 4)) * unit) for t in tails]
    count = len(activities)
    least = rng.integers(1, 3, count)
    need = rng.choice([0, 300, 1000, 1500, 2000, 2999, 3001, 4600], count)
    return ScalingProblem(
        tuple(activities),
        tuple(groups),
        need=np.where([demand is None for demand in demands], need, rng.choice([0, 1000], count)),
        least=least,
        most=least + rng.integers(0, 5, count),
        present=rng.integers(1, 6, count),
        resources=tuple(Resource(f"r{r}", int(rng.integers(2, 7 * count))) for r in range(resources)),
        arcs=tuple(arcs),
        demands=tuple(demands),
    )


def tightened(problem: ScalingProblem, rng: np.random.Generator, *, units: int) -> ScalingProblem:
    """The problem with up to `units` more units allowed, and no more of anything than random units of it take."""
    most = problem.least + rng.integers(1, units + 1, problem.need.size)
    floors = np.minimum(most, np.maximum(problem.least, -(-problem.need // 1000)))
    chosen = rng.integers(floors, most + 1)
    problem = replace(problem, most=most)
    longest = problem.longest_paths(chosen.tolist())
    part = [{v} for v in range(chosen.size)]
    for arc in problem.arcs:
        joined = part[arc.tail] | part[arc.head]
        for v in joined:
            part[v] = joined
    activities = [
        replace(activity, deadline=int(longest[list(part[v])].max()))
        for v, activity in enumerate(problem.activities)
    ]
    resources = [
        Resource(
            resource.name, sum(int(a.usage[r]) * int(n) for a, n in zip(activities, chosen, strict=True))
        )
        for r, resource in enumerate(problem.resources)
    ]
    return replace(problem, activities=tuple(activities), resources=tuple(resources))


def random_demand(rng: np.random.Generator, unit: int = 1) -> Demand:
    """Draw loads that grow with their offsets."""
    corners = int(rng.integers(0, 4))
    offset = np.cumsum(np.concatenate([[0], rng.integers(1, 20, corners)])) * unit
    load = np.cumsum(rng.integers(0, 60, corners + 1)) * unit
    return Demand(offset, load, int(rng.choice([0, 0, 7, 40])) * unit)
