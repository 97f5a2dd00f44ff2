"""A configuration under construction: what each stage runs on, and figures of the whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeAlias

from mipplan.options import Family
from mipplan.pipeline import Pipeline
from mipplan.result import Choice


@dataclass(frozen=True, eq=False)
class Assignment:
    """A number of replicas of one (hardware, batch cap)."""

    family: Family
    replicas: int

    @property
    def microusd_per_hour(self) -> int:
        """Cost."""
        return self.replicas * self.family.microusd_per_hour

    @property
    def tokens_per_ns(self) -> Fraction:
        """Throughput with full batches."""
        return Fraction(self.replicas * self.family.batch, int(self.family.service_ns[-1]))

    @property
    def choice(self) -> Choice:
        """The assignment as people read it."""
        return Choice(self.family.hardware, self.family.batch, self.replicas)


#: One assignment per stage.
Configuration: TypeAlias = Mapping[str, Assignment]


def choices_of(configuration: Configuration) -> dict[str, Choice]:
    """Return the configuration as people read it."""
    return {stage: assignment.choice for stage, assignment in configuration.items()}


def cost_of(configuration: Configuration) -> int:
    """Micro-dollars per hour."""
    return sum(assignment.microusd_per_hour for assignment in configuration.values())


def devices_used(configuration: Configuration) -> dict[str, int]:
    """Replicas by hardware."""
    used: dict[str, int] = {}
    for assignment in configuration.values():
        hardware = assignment.family.hardware
        used[hardware] = used.get(hardware, 0) + assignment.replicas
    return used


def longest_path(pipeline: Pipeline, duration_ns: Mapping[str, int]) -> tuple[int, tuple[str, ...]]:
    """Find the path with the largest sum of durations and delays.

    Parameters
    ----------
    pipeline : Pipeline
    duration_ns : mapping of str to int
        Of each stage.

    Returns
    -------
    int, tuple of str
        The sum, and the path's stages.
    """
    ends: dict[str, tuple[int, tuple[str, ...]]] = {}
    for stage in pipeline.topological_order:
        arrivals = [
            (ends[edge.parent][0] + edge.delay_ns, ends[edge.parent][1]) for edge in pipeline.incoming(stage)
        ]
        start_ns, path = max(arrivals, default=(0, ()), key=lambda arrival: arrival[0])
        ends[stage] = (start_ns + duration_ns[stage], (*path, stage))
    return max(ends.values(), key=lambda end: end[0])
