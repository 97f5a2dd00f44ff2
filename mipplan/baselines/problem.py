"""What a baseline is asked: the stages, what each may run on, and how much of the traffic it sees."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from mipplan.calculus import analyse_paths
from mipplan.certificate import certify_services, plan_services
from mipplan.core import Fault, InputError, check_quantile, check_seed

# From the modules that hold them: the package's front also builds problems for solvers, which no baseline needs.
from mipplan.options import Family, check_names, find_families
from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles
from mipplan.result import (
    Choice,
    Effort,
    Objective,
    Plan,
    PlanStatus,
    Provenance,
    TraceReference,
    relevant_profiles,
    resolve_slo_ns,
)
from mipplan.tokens import Workload, realise
from mipplan.trace import Trace


@dataclass(frozen=True)
class Device:
    """A hardware type that a stage may run on.

    Attributes
    ----------
    hardware : str
    families : tuple of Family
        One per batch cap, caps ascending; at least one. Their `fewest` are the replicas that the stage demands
        whatever the traffic.
    """

    hardware: str
    families: tuple[Family, ...]

    @property
    def microusd_per_hour(self) -> int:
        """Price of one replica."""
        return self.families[0].microusd_per_hour

    @property
    def latency_ns(self) -> int:
        """Time of a batch of one."""
        return int(self.families[0].service_ns[0])


@dataclass(frozen=True)
class Problem:
    """A planning problem as every baseline sees it.

    Attributes
    ----------
    base : Plan
        Without choices; holds pipeline, profiles, objective, quantile, seed and trace.
    trace : Trace
    workload : Workload
        The realised tokens.
    devices : mapping of str to tuple of Device
        Of each stage, in the order of the profiles; none empty.
    limits : mapping of str to int
        Devices over all stages, by hardware name, where there is a limit.
    """

    base: Plan
    trace: Trace
    workload: Workload
    devices: Mapping[str, tuple[Device, ...]]
    limits: Mapping[str, int]

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline."""
        return self.base.pipeline

    @property
    def deadline_ns(self) -> int:
        """The objective."""
        return self.base.slo_ns

    def tokens(self, stage: str) -> int:
        """Number of tokens that a stage serves over the trace."""
        return self.workload.stages[stage].count

    def tokens_per_query(self, stage: str) -> Fraction:
        """Mean number of tokens of a query at a stage (InferLine calls it the scale factor)."""
        return Fraction(self.tokens(stage), self.workload.queries)

    def infeasible(self, reason: str, effort: Effort) -> Plan:
        """Return the answer that there is no plan by the baseline's rule."""
        return self._without(PlanStatus.INFEASIBLE, reason, effort)

    def unknown(self, reason: str, effort: Effort) -> Plan:
        """Return the answer that a limit was hit before there was any plan."""
        return self._without(PlanStatus.UNKNOWN, reason, effort)

    def _without(self, status: PlanStatus, reason: str, effort: Effort) -> Plan:
        provenance = replace(self.base.provenance, effort=effort)
        return replace(self.base, status=status, reason=reason, provenance=provenance)

    def with_choices(self, choices: Mapping[str, Choice]) -> Plan:
        """Return the problem with these choices, its latencies unknown."""
        return replace(self.base, choices=choices)

    def given(self, choices: Mapping[str, Choice], effort: Effort, reason: str | None = None) -> Plan:
        """Return these choices with their certified latency and its bound, which no baseline looks at."""
        plan = self.with_choices(choices)
        services, quantile = plan_services(plan), plan.quantile
        return replace(
            plan,
            figures=replace(
                plan.figures,
                bound_ns=analyse_paths(self.workload, quantile).bound_ns(services),
                certificate_ns=certify_services(self.workload, services, quantile).bound_ns,
            ),
            reason=reason,
            provenance=replace(plan.provenance, effort=effort),
        )


def pose(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace,
    name: str,
    *,
    slo_s: float | None,
    quantile: float,
    seed: int,
    checks: tuple[Callable[[], object], ...] = (),
) -> Problem | Plan:
    """Check the arguments and realise the problem.

    Parameters
    ----------
    pipeline, profiles, trace, slo_s, quantile, seed
        As for `mipplan.plan`.
    name : str
        Of the baseline.
    checks : tuple of callable
        Of the baseline's own arguments; each raises InputError.

    Returns
    -------
    Problem, or an infeasible Plan if some stage can run on nothing

    Raises
    ------
    InputError
        Listing every bad argument.
    """
    faults: list[Fault] = []
    for check in (
        lambda: check_quantile(quantile),
        lambda: check_seed(seed),
        lambda: resolve_slo_ns(pipeline, slo_s),
        lambda: check_names(pipeline, profiles),
        lambda: _check_span(trace),
        *checks,
    ):
        try:
            check()
        except InputError as error:
            faults += error.faults
    if faults:
        raise InputError(faults)
    relevant = relevant_profiles(pipeline, profiles)
    base = Plan(
        pipeline,
        relevant,
        Objective(resolve_slo_ns(pipeline, slo_s), quantile, seed),
        provenance=Provenance(TraceReference.of(trace), solver=name),
    )
    # No demand: a family is left out only if its stage or its hardware allows no replica at all.
    found = find_families(pipeline, relevant, dict.fromkeys(pipeline.stages, Fraction(0)))
    blocked = [f"{stage}: {'; '.join(seen.rejected)}" for stage, seen in found.items() if not seen.families]
    if blocked:
        reason = f"nothing can carry {' and '.join(blocked)}"
        provenance = replace(base.provenance, effort=Effort(0, 0.0))
        return replace(base, status=PlanStatus.INFEASIBLE, reason=reason, provenance=provenance)
    return Problem(
        base,
        trace,
        realise(pipeline, trace, base.seed),
        {stage: _devices(seen.families) for stage, seen in found.items()},
        {hw: device.limit for hw, device in relevant.hardware.items() if device.limit is not None},
    )


def _check_span(trace: Trace) -> None:
    if trace.span_ns == 0:
        raise InputError.one("trace", "all arrivals are at one instant: it has no rate to plan for")


def _devices(families: tuple[Family, ...]) -> tuple[Device, ...]:
    by_name: dict[str, list[Family]] = {}
    for family in families:
        by_name.setdefault(family.hardware, []).append(family)
    return tuple(
        Device(name, tuple(sorted(members, key=lambda family: family.batch)))
        for name, members in by_name.items()
    )
