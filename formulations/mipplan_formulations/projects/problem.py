"""Several projects that share resources, and pools of ways to carry each of them out.

Each project is a `TimeCostProblem` of its own, with its own deadline. What joins them are the resources: all projects
together may use no more than there is. A *column* is one way to carry out one project as far as the others can
tell: what it costs and what it uses.

All data are integers, so that evaluation is exact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mipplan_formulations.linear import Int64, check_number, raise_if_any, set_integers
from mipplan_formulations.time_cost import Evaluation, Resource, TimeCostProblem

Selections = Sequence[Sequence[int] | None]


@dataclass(frozen=True)
class MultiProjectProblem:
    """Carry out every project, at least cost, within the shared capacities.

    Attributes
    ----------
    projects : tuple of TimeCostProblem
        At least one. Each has the shared resources, by name and in order; capacities it states itself bind
        it alone.
    resources : tuple of Resource
        What all projects share.
    forgone : tuple of int, or None
        Cost of leaving each project out; None if all have to be carried out.

    Raises
    ------
    ValueError
        Naming every fault, one a line.
    """

    projects: tuple[TimeCostProblem, ...]
    resources: tuple[Resource, ...]
    forgone: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        names = [resource.name for resource in self.resources]
        faults = [] if self.projects else ["a programme needs at least one project"]
        faults += [
            f"project {index}: has the resources {[r.name for r in project.resources]}, not {names}"
            for index, project in enumerate(self.projects)
            if [resource.name for resource in project.resources] != names
        ]
        faults += _shared_faults(self.resources, self.forgone, len(self.projects))
        raise_if_any(faults)

    def evaluate(self, selections: Selections) -> MultiProjectEvaluation:
        """Judge a selection of modes per project (None: left out) by plain integer arithmetic."""
        parts = [
            None if selection is None else project.evaluate(selection)
            for project, selection in zip(self.projects, selections, strict=True)
        ]
        return _add_up(self.resources, self.forgone, parts)


@dataclass(frozen=True, eq=False)
class MultiProjectEvaluation:
    """What a choice costs and whether it is allowed, in exact integers.

    Attributes
    ----------
    cost : int
    usage : int64 array, shape (r,)
    violations : tuple of str
        One sentence per constraint that is not kept.
    """

    cost: int
    usage: Int64
    violations: tuple[str, ...]

    @property
    def feasible(self) -> bool:
        """Whether every constraint is kept."""
        return not self.violations


@dataclass(frozen=True, eq=False)
class Columns:
    """Ways to carry out one project.

    Attributes
    ----------
    cost : int64 array, shape (k,)
        Not negative.
    usage : int64 array, shape (k, r)
        Amount that each uses of each shared resource, not negative.
    """

    cost: Int64
    usage: Int64

    def __post_init__(self) -> None:
        faults: list[str] = []
        set_integers(self, "columns: ", faults, cost=1, usage=2)
        if self.usage.shape[0] != self.cost.size:
            faults.append(f"columns: usage has {self.usage.shape[0]} rows, cost has {self.cost.size}")
        raise_if_any(faults)


@dataclass(frozen=True)
class ColumnPool:
    """Choose one known column per project: a multi-project problem restricted to what is known of it.

    Attributes
    ----------
    projects : tuple of Columns
        One entry per project; an entry may be empty if the project can be left out.
    resources : tuple of Resource
    forgone : tuple of int, or None
        Cost of leaving each project out; None if all have to be carried out.
    excess : tuple of int, or None
        Cost of one unit of each resource beyond its capacity; None if capacities are firm.

    Raises
    ------
    ValueError
        Naming every fault, one a line.
    """

    projects: tuple[Columns, ...]
    resources: tuple[Resource, ...]
    forgone: tuple[int, ...] | None = None
    excess: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        faults = [] if self.projects else ["a pool needs at least one project"]
        for index, columns in enumerate(self.projects):
            if columns.usage.shape[1] != len(self.resources):
                faults.append(f"project {index}: usage has {columns.usage.shape[1]} columns")
            if self.forgone is None and columns.cost.size == 0:
                faults.append(f"project {index}: has no column and cannot be left out")
        faults += _shared_faults(self.resources, self.forgone, len(self.projects))
        if self.excess is not None:
            if len(self.excess) != len(self.resources):
                faults.append(f"excess: {len(self.excess)} prices for {len(self.resources)} resources")
            for price in self.excess:
                check_number(price, "excess", faults)
        raise_if_any(faults)

    def evaluate(self, chosen: Sequence[int | None]) -> MultiProjectEvaluation:
        """Judge a column per project (None: left out) by plain integer arithmetic; excess is a violation."""
        parts = [
            None
            if column is None
            else MultiProjectEvaluation(int(columns.cost[column]), columns.usage[column], ())
            for columns, column in zip(self.projects, chosen, strict=True)
        ]
        return _add_up(self.resources, self.forgone, parts)


def _shared_faults(resources: Sequence[Resource], forgone: Sequence[int] | None, projects: int) -> list[str]:
    faults: list[str] = []
    for resource in resources:
        check_number(resource.capacity, f"resource {resource.name!r}: capacity", faults)
    if len({resource.name for resource in resources}) != len(resources):
        faults.append("two resources have one name")
    if forgone is not None:
        if len(forgone) != projects:
            faults.append(f"forgone: {len(forgone)} costs for {projects} projects")
        for cost in forgone:
            check_number(cost, "forgone", faults)
    return faults


def _add_up(
    resources: Sequence[Resource],
    forgone: Sequence[int] | None,
    parts: Sequence[Evaluation | MultiProjectEvaluation | None],
) -> MultiProjectEvaluation:
    """Cost, usage and violations of all projects, given those of each; None for a project left out."""
    cost, usage = 0, np.zeros(len(resources), dtype=np.int64)
    violations: list[str] = []
    for index, part in enumerate(parts):
        if part is not None:
            cost += part.cost
            usage += part.usage
            violations += [f"project {index}: {violation}" for violation in part.violations]
        elif forgone is not None:
            cost += forgone[index]
        else:
            violations.append(f"project {index} is left out")
    for resource, used in zip(resources, usage, strict=True):
        if used > resource.capacity:
            violations.append(f"resource {resource.name!r}: {used} used of {resource.capacity}")
    return MultiProjectEvaluation(cost, usage, tuple(violations))
