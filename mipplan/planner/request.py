"""A planning request: what was asked for, and the instances it gives rise to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from mipplan.calculus import ArrivalCurve
from mipplan.core import UNLIMITED_NS, format_duration
from mipplan.options import find_families
from mipplan.pipeline import Pipeline
from mipplan.planner.instance import Instance, envelope_instance, workload_instance
from mipplan.profiles import Profiles
from mipplan.tokens import Workload, realise
from mipplan.trace import Trace


@dataclass(frozen=True)
class Request:
    """What to plan for.

    Attributes
    ----------
    pipeline : Pipeline
    profiles : Profiles
    trace : Trace
        Headroom included.
    slo_ns : int
    margin_ns : int
        Kept back of the objective.
    quantile : float
    seed : int
    envelope : ArrivalCurve or None
        All traffic the plan must hold for; None to certify it on the trace.
    """

    pipeline: Pipeline
    profiles: Profiles
    trace: Trace
    slo_ns: int
    margin_ns: int
    quantile: float
    seed: int
    envelope: ArrivalCurve | None

    @cached_property
    def _workload(self) -> Workload:
        """Return the tokens of the trace: drawn once, whatever its rate is multiplied by."""
        return realise(self.pipeline, self.trace, self.seed)

    @property
    def objective(self) -> str:
        """The objective as people read it."""
        if self.slo_ns >= UNLIMITED_NS:
            return "any objective"
        share = "every query" if self.envelope is not None else f"P{100 * self.quantile:g}"
        margin = f" less {format_duration(self.margin_ns)} of margin" if self.margin_ns else ""
        return f"{share} ≤ {format_duration(self.slo_ns)}{margin}"

    def instance(self, factor: float = 1.0) -> Instance:
        """Realise the request, with the traffic multiplied by `factor`."""
        trace = self.trace if factor == 1.0 else self.trace.scale(factor)
        deadline_ns = self.slo_ns - self.margin_ns
        if self.envelope is None:
            workload = self._workload.at(trace.arrival_ns)
            return workload_instance(self.profiles, workload, deadline_ns, self.quantile)
        buckets = tuple((burst, rate * factor) for burst, rate in self.envelope.buckets)
        return envelope_instance(self.pipeline, self.profiles, trace, deadline_ns, ArrivalCurve(buckets))

    def without_limit(self, instance: Instance, hardware: str | None) -> Instance:
        """Return the instance without the limit on one hardware, or (None) without the stages' replica limits."""
        pipeline, profiles = self.pipeline, self.profiles
        if hardware is None:
            pipeline = _without_replica_limits(pipeline)
        else:
            unlimited: Mapping[str, int | None] = {hardware: None}
            profiles = _with_limits(profiles, unlimited)
        limits = {name: limit for name, limit in instance.limits.items() if name != hardware}
        return replace(instance, families=find_families(pipeline, profiles, instance.demand), limits=limits)


def _without_replica_limits(pipeline: Pipeline) -> Pipeline:
    document = pipeline.to_document()
    for stage in document["stages"].values():
        replicas = stage.pop("replicas", None)
        least = replicas.get("min") if isinstance(replicas, dict) else replicas
        if least is not None:
            stage["replicas"] = {"min": least}
    return Pipeline.from_document(document)


def _with_limits(profiles: Profiles, limits: Mapping[str, int | None]) -> Profiles:
    hardware = [
        replace(device, limit=limits[name]) if name in limits else device
        for name, device in profiles.hardware.items()
    ]
    return Profiles.from_parts(hardware, profiles.tables.values())
