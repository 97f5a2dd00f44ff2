"""What a baseline is asked: the stages, what each may run on, and how much of the traffic it sees."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import groupby
from operator import attrgetter

from mipplan.certificate import certified_figures
from mipplan.core import MAX_DURATION_NS, FieldOf, InputError, LongestPaths, check_all, check_kinds, shown
from mipplan.options import Configuration, Family, Option, check_names, check_span, find_families, limits_of
from mipplan.pipeline import Dispatch, Pipeline, are_timed, pinned
from mipplan.profiles import Profiles
from mipplan.replayer import replay
from mipplan.result import (
    Effort,
    Limit,
    Plan,
    PlanStatus,
    Provenance,
    check_laws,
    relevant_profiles,
    resolve_objective,
)
from mipplan.tokens import Workload, realise
from mipplan.trace import Trace


@dataclass(frozen=True)
class Device:
    """A hardware type that a stage may run on."""

    hardware: str
    # One per batch cap, caps ascending; at least one. Their `fewest` are the replicas that the stage demands
    # whatever the traffic.
    families: tuple[Family, ...]

    @property
    def microusd_per_hour(self) -> int:
        """Price of one replica."""
        return self.families[0].microusd_per_hour

    @property
    def latency_ns(self) -> int:
        """Time of a batch of one."""
        return int(self.families[0].service_ns[0])


def size_family(family: Family, tokens_per_ns: Fraction) -> Option | None:
    """Give a family as few replicas as keep up with that rate; None if that is more than it may have."""
    needed = math.ceil(tokens_per_ns * int(family.service_ns[-1]) / family.batch)
    replicas = max(needed, family.fewest)
    return Option(family, replicas) if replicas <= family.most else None


def filled_ns(family: Family, tokens_per_ns: Fraction) -> int:
    """Time of a full batch and of waiting until it is full, ℓ(b) + (b − 1)/λ, rounded up; ℓ(b) where nothing comes."""
    filling_ns = math.ceil((family.batch - 1) / tokens_per_ns) if tokens_per_ns else 0
    return int(family.service_ns[-1]) + min(filling_ns, MAX_DURATION_NS)  # longer than any objective


@dataclass(frozen=True)
class BaselineProblem:
    """A planning problem as every baseline sees it."""

    base: Plan  # Without choices; holds pipeline, profiles, objective, quantile, seed and trace.
    trace: Trace
    devices: Mapping[str, tuple[Device, ...]]  # Of each stage, in the order of the profiles; none empty.
    limits: Mapping[str, int]  # Devices over all stages, by hardware name, where there is a limit.
    started: float  # When it was posed, on the clock of `time.monotonic`.

    pipeline = FieldOf[Pipeline]("base.pipeline")
    deadline_ns = FieldOf[int]("base.slo_ns")

    @cached_property
    def workload(self) -> Workload:
        """The realised tokens."""
        return realise(self.pipeline, self.trace, self.base.seed)

    @cached_property
    def paths(self) -> LongestPaths[str]:
        """Longest paths through the pipeline, its delays included."""
        return self.pipeline.longest_paths()

    def tokens_per_query(self, stage: str) -> Fraction:
        """Mean number of tokens of a query at a stage (InferLine calls it the scale factor)."""
        return Fraction(self.workload.stages[stage].count, self.workload.queries)

    def longest_path(self, duration_ns: Mapping[str, int]) -> tuple[int, tuple[str, ...]]:
        """Find the path with the largest sum of stages' durations and delays: the sum, and the path's stages."""
        end_ns = self.paths.down_to(duration_ns)
        path = [max(self.paths.nodes, key=end_ns.__getitem__)]
        while incoming := self.pipeline.incoming(path[0]):
            latest = max(incoming, key=lambda edge: end_ns[edge.parent] + edge.delay_ns)
            path.insert(0, latest.parent)
        return end_ns[path[-1]], tuple(path)

    def running(self, pipeline: Pipeline, profiles: Profiles) -> BaselineProblem:
        """The same with variants to name: `pipeline` runs those chosen, which make the same tokens."""
        return replace(
            self, base=replace(self.base, pipeline=pipeline, profiles=relevant_profiles(pipeline, profiles))
        )

    def without_plan(self, reason: str, calls: int = 0, limit: Limit | None = None) -> Plan:
        """Return the answer that there is no plan by the baseline's rule, or that a limit was hit before any."""
        status = PlanStatus.INFEASIBLE if limit is None else PlanStatus.UNKNOWN
        return replace(self._judged(calls), status=status, reason=reason, limit=limit)

    def given(
        self, made: Configuration, calls: int = 0, reason: str | None = None, limit: Limit | None = None
    ) -> Plan:
        """Return a configuration with its certified latency and its bound, which no baseline looks at."""
        plan = replace(self._judged(calls), choices=made.choices, reason=reason, limit=limit)
        figures = certified_figures(plan, self.workload)
        if are_timed(plan.laws):  # then the replay is the certificate
            certificate_ns = replay(plan, self.trace).objective_ns(plan.objective)
            figures = replace(figures, certificate_ns=certificate_ns)
        return replace(plan, figures=figures)

    def _judged(self, calls: int) -> Plan:
        """The plan without choices, with what the search took up to now; `calls` configurations were simulated."""
        effort = Effort(calls, time.monotonic() - self.started)
        return replace(self.base, provenance=replace(self.base.provenance, effort=effort))


def pose(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace,
    name: str,
    slo_s: float | None,
    quantile: float | None,
    seed: int,
    checks: tuple[Callable[[], object], ...] = (),
    dispatch: Dispatch = None,
) -> BaselineProblem | Plan:
    """Check the arguments and realise the problem; an infeasible plan if some stage can run on nothing.

    `name` is that of the baseline, and `checks` are of its own arguments: each raises InputError. No baseline chooses
    between variants: it plans for those that the pipeline runs.

    Raises `InputError` listing every bad argument.
    """
    started = time.monotonic()
    check_kinds(pipeline=(pipeline, Pipeline), profiles=(profiles, Profiles))
    pipeline = pinned(pipeline)
    check_all(
        lambda: resolve_objective(pipeline, slo_s, quantile, seed),
        lambda: check_names(pipeline, profiles),
        lambda: _check_trace(trace),
        lambda: check_laws(pipeline, dispatch),
        *checks,
    )
    laws = check_laws(pipeline, dispatch)
    relevant = relevant_profiles(pipeline, profiles)
    base = Plan(
        pipeline,
        relevant,
        resolve_objective(pipeline, slo_s, quantile, seed).under(laws, pipeline.discipline),
        provenance=Provenance.on(trace, solver=name),
    )
    # No demand: a family is left out only if its stage or its hardware allows no replica at all.
    found = find_families(pipeline, relevant, dict.fromkeys(pipeline.stages, Fraction(0)), laws)
    blocked = [f"{stage}: {'; '.join(seen.rejected)}" for stage, seen in found.items() if not seen.families]
    # Families come by hardware, and those of one by batch.
    devices = {
        stage: tuple(Device(name, tuple(own)) for name, own in groupby(seen.families, attrgetter("hardware")))
        for stage, seen in found.items()
    }
    problem = BaselineProblem(base, trace, devices, limits_of(relevant), started)
    return problem.without_plan(f"nothing can carry {' and '.join(blocked)}") if blocked else problem


def _check_trace(trace: object) -> None:
    if not isinstance(trace, Trace):
        message = f"a baseline plans for one Trace, found {shown(trace)}; mipplan.compare(…) takes several"
        raise InputError.one("trace", message)
    check_span(trace.span_ns)
