"""What a fleet asks for: its pipelines, and the devices and the budget they share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mipplan.core import UNLIMITED_NS
from mipplan.pipeline import Pipeline
from mipplan.planner import Instance, trace_instance
from mipplan.profiles import Profiles
from mipplan.result import Figures, Objective, Plan, PlanStatus, Provenance, TraceReference, relevant_profiles
from mipplan.trace import Trace


@dataclass(frozen=True)
class Member:
    """One pipeline of a fleet.

    Attributes
    ----------
    name : str
    pipeline : Pipeline
    trace : Trace
    slo_ns : int
    weight : int
        What it counts if not all pipelines can be admitted, in thousandths.
    """

    name: str
    pipeline: Pipeline
    trace: Trace
    slo_ns: int
    weight: int


@dataclass(frozen=True)
class Realisation:
    """Makes one pipeline's instance, anywhere and as often as needed.

    Attributes
    ----------
    member : Member
    profiles : Profiles
        Of the pipeline's models, with the fleet's limits.
    quantile : float
    seed : int
    """

    member: Member
    profiles: Profiles
    quantile: float
    seed: int

    def __call__(self) -> Instance:
        """Realise the pipeline's tokens, options and judge."""
        member = self.member
        return trace_instance(
            member.pipeline, self.profiles, member.trace, member.slo_ns, self.quantile, self.seed
        )

    def base_plan(self, solver: str, formulation: str) -> Plan:
        """Return the plan so far: everything but choices and figures."""
        member = self.member
        return Plan(
            member.pipeline,
            self.profiles,
            Objective(member.slo_ns, self.quantile, self.seed),
            status=PlanStatus.UNKNOWN,
            figures=Figures(lower_bound_microusd_per_hour=0),
            provenance=Provenance(TraceReference.of(member.trace), formulation, solver),
        )


@dataclass(frozen=True)
class Fleet:
    """Everything asked for.

    Attributes
    ----------
    members : tuple of Member
    profiles : Profiles
        With the limits of the fleet.
    quantile : float
    seed : int
    budget : int or None
        Most micro-dollars per hour for all pipelines together.
    """

    members: tuple[Member, ...]
    profiles: Profiles
    quantile: float
    seed: int
    budget: int | None = None

    @cached_property
    def hardware(self) -> tuple[str, ...]:
        """Hardware types, in the order in which devices are counted."""
        return tuple(self.profiles.hardware)

    @cached_property
    def prices(self) -> NDArray[np.int64]:
        """Micro-dollars per hour of one device of each type, shape (H,)."""
        devices = self.profiles.hardware.values()
        return np.array([device.microusd_per_hour for device in devices], dtype=np.int64)

    @cached_property
    def limits(self) -> Mapping[str, int]:
        """Devices there are, of the types that are limited."""
        devices = self.profiles.hardware.values()
        return {device.name: device.limit for device in devices if device.limit is not None}

    @cached_property
    def realisations(self) -> tuple[Realisation, ...]:
        """One per member."""
        return tuple(
            Realisation(member, relevant_profiles(member.pipeline, self.profiles), self.quantile, self.seed)
            for member in self.members
        )

    def subset(self, kept: tuple[int, ...]) -> Fleet:
        """Return the fleet of some of the members only."""
        return replace(self, members=tuple(self.members[index] for index in kept))

    def relaxed(self, factor: float) -> Fleet:
        """Return the fleet with every objective multiplied by a factor, rounded up to ns."""
        members = tuple(
            replace(member, slo_ns=min(UNLIMITED_NS, math.ceil(member.slo_ns * factor)))
            for member in self.members
        )
        return replace(self, members=members)
