"""Brute force for problems with several projects: every selection of every project together.

Only for problems so small that the product of all choices can be walked through one by one.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import mipplan as mp
from mipplan.fleet.problem import Fleet, FleetMember
from mipplan.pipeline import choosing
from mipplan.tokens import realise
from mipplan_formulations import ColumnPool, MultiProjectProblem, TimeCostProblem

MOST = 400_000


class TooLargeError(Exception):
    """There are more combinations than patience."""


def cheapest_programme(programme: MultiProjectProblem) -> int | None:
    """Cost of the cheapest allowed choice of modes of every project; None if nothing is allowed."""
    choices = [_allowed(project) for project in programme.projects]
    if programme.forgone is not None:
        choices = [[*allowed, None] for allowed in choices]
    if math.prod(len(allowed) for allowed in choices) > MOST:
        raise TooLargeError
    costs = [
        found.cost
        for selections in itertools.product(*choices)
        if (found := programme.evaluate(selections)).feasible
    ]
    return min(costs, default=None)


def cheapest_of_pool(pool: ColumnPool) -> int | None:
    """Cost of the cheapest allowed column per project; capacities are firm."""
    choices: list[Sequence[int | None]] = [range(columns.cost.size) for columns in pool.projects]
    if pool.forgone is not None:
        choices = [[*known, None] for known in choices]
    if math.prod(len(known) for known in choices) > MOST:
        raise TooLargeError
    costs = [
        found.cost for chosen in itertools.product(*choices) if (found := pool.evaluate(chosen)).feasible
    ]
    return min(costs, default=None)


def _allowed(project: TimeCostProblem) -> list[tuple[int, ...] | None]:
    modes = [range(int(count)) for count in project.mode_counts]
    return [selection for selection in itertools.product(*modes) if project.evaluate(selection).feasible]


def certified_device_vectors(member: FleetMember, fleet: Fleet) -> set[tuple[int, ...]]:
    """Devices used, of each hardware type, by every certified plan of a pipeline: each plan is certified by itself.

    Plans of too little accuracy do not count.
    """
    found: set[tuple[int, ...]] = set()
    for models in itertools.product(*(stage.models for stage in member.pipeline.stages.values())):
        if _is_accurate(member, models):
            runs = dict(zip(member.pipeline.stages, models, strict=True))
            _add_vectors(replace(member, pipeline=choosing(member.pipeline, runs)), fleet, found)
    return found


def _add_vectors(member: FleetMember, fleet: Fleet, found: set[tuple[int, ...]]) -> None:
    """Add those of plans with the models that the pipeline runs."""
    options = []
    for name, stage in member.pipeline.stages.items():
        assert stage.replicas_max is not None
        options.append(
            [
                (hardware, int(batch), replicas)
                for hardware in fleet.profiles.hardware_for(stage.model)
                for batch in fleet.profiles.tables[stage.model, hardware].batch
                for replicas in range(1, stage.replicas_max + 1)
                if _keeps_up(member, fleet, name, (hardware, int(batch), replicas))
            ]
        )
    for choices in itertools.product(*options):
        vector = tuple(
            sum(choice[2] for choice in choices if choice[0] == name) for name in fleet.profiles.hardware
        )
        if vector in found:
            continue
        plan = mp.Plan.from_choices(
            member.pipeline,
            fleet.profiles,
            dict(zip(member.pipeline.stages, choices, strict=True)),
            slo_s=member.slo_ns / 1e9,
            quantile=fleet.quantile,
            seed=fleet.seed,
            dispatch=member.asked_laws,
            discipline=member.discipline,
        )
        if mp.certify(plan, member.trace, runs=member.overtaking).bound_ns <= member.slo_ns:
            found.add(vector)


def check_verdict(
    made: mp.FleetPlan, optimum: int | None, vectors: Sequence[set[tuple[int, ...]]], fleet: Fleet
) -> bool:
    """Hold what is said of a fleet, or of whom to admit, to brute force; whether there are plans."""
    assert (made.status == "infeasible") == (optimum is None), made.effort.method
    if optimum is None:
        if made.admission is not None:
            assert made.admission.weight == greatest_weight(vectors, fleet)
        return False
    assert made.status == "optimal", made.effort.method
    assert made.microusd_per_hour == made.lower_bound_microusd_per_hour == optimum, made.effort.method
    return True


def _is_accurate(member: FleetMember, models: Sequence[str]) -> bool:
    """Whether these models of every stage have the accuracy asked for, but for rounding."""
    if member.min_accuracy is None:
        return True
    stages = member.pipeline.stages
    own = {
        name: stage.accuracies[stage.models.index(model)]
        for (name, stage), model in zip(stages.items(), models, strict=True)
        if stage.accuracies is not None
    }
    value = member.pipeline.accuracy.value(member.pipeline, own)
    return value is not None and value >= member.min_accuracy * (1 - 1e-8)


def _keeps_up(member: FleetMember, fleet: Fleet, stage: str, choice: tuple[str, int, int]) -> bool:
    """Whether the replicas serve more than the stage's mean rate."""
    tokens = realise(member.pipeline, member.trace, fleet.seed).stages[stage].count
    hardware, batch, replicas = choice
    table = fleet.profiles.tables[member.pipeline.stages[stage].model, hardware]
    return replicas * batch * member.trace.span_ns > tokens * int(table.service_ns(batch)[-1])


def cheapest_selection(vectors: Sequence[set[tuple[int, ...]]], fleet: Fleet) -> int | None:
    """Cost of the cheapest choice of one device vector per pipeline that fits; None if none fits."""
    costs = [
        sum(amount * int(price) for amount, price in zip(total, fleet.prices, strict=True))
        for chosen in itertools.product(*vectors)
        if fits(total := [sum(column) for column in zip(*chosen, strict=True)], fleet)
    ]
    return min(costs, default=None)


def greatest_weight(vectors: Sequence[set[tuple[int, ...]]], fleet: Fleet) -> float:
    """Weight of the heaviest set of pipelines that fits."""
    best = 0.0
    for kept in itertools.product([False, True], repeat=len(vectors)):
        some = [vector for vector, keep in zip(vectors, kept, strict=True) if keep]
        if not some or cheapest_selection(some, fleet) is not None:
            weight = sum(m.weight / 1000 for m, keep in zip(fleet.members, kept, strict=True) if keep)
            best = max(best, weight)
    return best


def fits(devices: Sequence[int], fleet: Fleet) -> bool:
    """Whether that many devices of each type are within the limits."""
    limits = (fleet.limits.get(name) for name in fleet.hardware)
    return all(limit is None or used <= limit for used, limit in zip(devices, limits, strict=True))
