"""Instances made from their descriptions, and fingerprints that show when they are no longer the same."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from benchmarks.compare import shared_data
from benchmarks.compare.specs import Spec
from benchmarks.compare.synthetic import make_pipeline, make_profiles
from mipplan import Pipeline, Profiles, Trace
from mipplan.core import NS_PER_S, seconds_to_ns
from mipplan.documents import shipped_folder
from mipplan.result import relevant_profiles

#: Arrivals are rounded down to this, and objectives: last bits of a machine's logarithms do not matter then.
GRID_NS = 1_000


@dataclass(frozen=True)
class Instance:
    """A planning problem, and traffic to judge its plans on.

    Attributes
    ----------
    spec : Spec
    pipeline : Pipeline
    profiles : Profiles
    planned_on, held_out : Trace
        Equally many queries, the second following the first.
    slo_s : float
    """

    spec: Spec
    pipeline: Pipeline
    profiles: Profiles
    planned_on: Trace
    held_out: Trace
    slo_s: float

    @property
    def fingerprint(self) -> str:
        """Of everything a planner or judge gets to see."""
        text = json.dumps(
            [
                self.pipeline.to_document(),
                [[device.name, device.microusd_per_hour] for device in self.profiles.hardware.values()],
                [
                    [table.model, table.hardware, table.batch.tolist(), table.latency_ms.tolist()]
                    for table in self.profiles.tables.values()
                ],
                self.planned_on.sha256,
                self.held_out.sha256,
                seconds_to_ns(self.slo_s),
            ]
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class DriftError(RuntimeError):
    """An instance is no longer what was frozen."""


def build(spec: Spec) -> Instance:
    """Make an instance.

    Raises
    ------
    DriftError
        If it is not the one that was frozen under this description.
    """
    pipeline, profiles = _problem(spec)
    arrival_ns = _arrivals(spec)
    slo_s = spec.slo_factor * fastest_service_s(pipeline, profiles)
    instance = Instance(
        spec,
        pipeline,
        profiles,
        Trace.from_ns(arrival_ns[: spec.queries], name=spec.name),
        Trace.from_ns(arrival_ns[spec.queries :], name=spec.name),
        seconds_to_ns(slo_s) // GRID_NS * GRID_NS / NS_PER_S,
    )
    if spec.fingerprint and instance.fingerprint != spec.fingerprint:
        raise DriftError(f"{spec.name} is no longer the instance that was frozen")
    return instance


def fastest_service_s(pipeline: Pipeline, profiles: Profiles) -> float:
    """Single tokens on the fastest hardware along the slowest path, no waiting."""
    ends_ns: dict[str, int] = {}
    for name in pipeline.topological_order:
        stage = pipeline.stages[name]
        allowed = stage.hardware or profiles.hardware_for(stage.model)
        tables = (profiles.table(stage.model, hardware) for hardware in allowed)
        least_ns = min(int(table.service_ns(1)[0]) for table in tables if table is not None)
        before = (ends_ns[edge.parent] + edge.delay_ns for edge in pipeline.incoming(name))
        ends_ns[name] = least_ns + max(before, default=0)
    return max(ends_ns.values()) / NS_PER_S


def _problem(spec: Spec) -> tuple[Pipeline, Profiles]:
    if spec.source == "shipped":
        pipeline = Pipeline.read(shipped_folder() / "pipelines" / f"{spec.pipeline}.yaml")
        return pipeline, relevant_profiles(pipeline, _shipped_profiles())
    if spec.source == "measured":
        return shared_data.measured_pipeline(spec.pipeline), shared_data.measured_profiles(spec.pipeline)
    pipeline = make_pipeline(spec.pipeline, spec.stages, spec.seed)
    return pipeline, make_profiles(spec.stages, spec.seed, small=spec.group == "small")


def _arrivals(spec: Spec) -> NDArray[np.int64]:
    """Of the queries to plan on and of those held out, on the grid."""
    wanted = 2 * spec.queries
    kind, _, name = spec.arrivals.partition(":")
    if kind == "gamma":
        if spec.rate_rps is None or spec.cv is None:
            raise ValueError(f"{spec.name}: gamma arrivals need a rate and a CV")
        # Enough for so many arrivals but for once in a million traces.
        expected = wanted + 6.0 * spec.cv * wanted**0.5 + 100.0
        trace = Trace.gamma(spec.rate_rps, spec.cv, expected / spec.rate_rps, spec.traffic_seed)
    else:
        start_s = spec.start_s or 0.0
        if kind == "shipped":
            trace = Trace.read(shipped_folder() / "traces" / f"{name}.csv.gz").slice(start_s)
        else:
            trace = shared_data.read_segment(name, start_s, wanted, spec.traffic_seed)
        trace = trace.scale(spec.rate_factor or 1.0)
    if len(trace) < wanted:
        raise ValueError(f"{spec.name}: {spec.arrivals} has {len(trace)} queries, not {wanted}")
    on_grid: NDArray[np.int64] = (trace.arrival_ns[:wanted] - trace.arrival_ns[0]) // GRID_NS * GRID_NS
    return on_grid


@cache
def _shipped_profiles() -> Profiles:
    return Profiles.default()
