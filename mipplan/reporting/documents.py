"""The JSON documents of ``mipplan … --json``; docs/json.md describes every field, a test holds the two together."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from mipplan.certificate import Certificate
from mipplan.errors import Fault
from mipplan.profiles import Profiles
from mipplan.result import Explanation, Plan, ReplayResult
from mipplan.solvers import SolverInfo
from mipplan.trace import Trace
from mipplan.units import MICRODOLLARS_PER_DOLLAR, NS_PER_S
from mipplan.verification import Verification

_QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p99_9": 0.999, "max": 1.0}


class _Report(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TraceReport(_Report):
    """The trace a command worked on."""

    name: str
    note: str
    sha256: str
    queries: int
    duration_s: float
    rate_rps: float | None
    cv: float | None


class ChoiceReport(_Report):
    """Configuration of one stage and what it costs."""

    hardware: str
    batch: int
    replicas: int
    usd_per_hour: float


class StageReport(_Report):
    """What one stage did in a replay."""

    replicas: int
    tokens: int
    batches: int
    mean_batch: float
    utilisation: float
    mean_wait_s: float
    max_wait_s: float


class ReplayReport(_Report):
    """Figures of one replay."""

    discipline: str
    engine: str
    seed: int
    latency_s: dict[str, float]
    slo_s: float
    miss_rate: float
    stages: dict[str, StageReport]


class CriticalStageReport(_Report):
    """One stage on the critical path of a query at the quantile."""

    stage: str
    latency_s: float
    wait_s: float
    delay_s: float


class BucketReport(_Report):
    """One token bucket of an arrival curve: at most ``burst + rate_rps·u`` queries in any window of u seconds."""

    burst: float
    rate_rps: float


class PlanReport(_Report):
    """``mipplan plan --json``."""

    command: Literal["plan"] = "plan"
    pipeline: str
    status: str
    reason: str | None
    slo_s: float
    quantile: float
    guarantee: str
    headroom: float
    margin_s: float
    envelope: list[BucketReport] | None
    budget_usd_per_hour: float | None
    seed: int
    formulation: str | None
    solver: str | None
    usd_per_hour: float | None
    lower_bound_usd_per_hour: float | None
    gap: float | None
    bound_s: float | None
    certificate_s: float | None
    choices: dict[str, ChoiceReport]
    trace: TraceReport
    in_sample: bool = True
    replay: ReplayReport | None
    explanation: list[str] | None
    remarks: list[str]
    plan_file: str | None


class ReplayCommandReport(_Report):
    """``mipplan replay --json``."""

    command: Literal["replay"] = "replay"
    plan_file: str
    usd_per_hour: float
    trace: TraceReport
    in_sample: bool
    replay: ReplayReport


class VerifyReport(_Report):
    """``mipplan verify --json``."""

    command: Literal["verify"] = "verify"
    plan_file: str
    verified: bool
    problems: list[str]
    remarks: list[str]
    slo_s: float
    quantile: float
    usd_per_hour: float | None
    certificate_s: float | None
    worst_case_s: float | None
    critical_path: list[CriticalStageReport]
    trace: TraceReport


class HardwareReport(_Report):
    """One hardware type."""

    usd_per_hour: float
    memory_gib: float | None
    limit: int | None
    source: str


class TableReport(_Report):
    """One latency table."""

    model: str
    hardware: str
    batch: list[int]
    latency_ms: list[float]


class ProfilesReport(_Report):
    """``mipplan profiles --json``."""

    command: Literal["profiles"] = "profiles"
    folder: str
    hardware: dict[str, HardwareReport]
    tables: list[TableReport]
    shipped_pipelines: list[str]
    shipped_traces: list[str]
    remarks: list[str]


class SolverReport(_Report):
    """One solver."""

    name: str
    available: bool
    version: str | None
    reason: str | None


class SolversReport(_Report):
    """``mipplan solvers --json``."""

    command: Literal["solvers"] = "solvers"
    solvers: list[SolverReport]
    formulations: list[str]


class FaultReport(_Report):
    """One thing wrong, and where."""

    place: str
    message: str


class ErrorReport(_Report):
    """Printed instead of a command's own document when it could not do its work."""

    error: Literal["input", "solver", "no_plan", "interrupted"]
    message: str
    faults: list[FaultReport]


def trace_report(trace: Trace) -> TraceReport:
    """Describe a trace; rate and CV are null where all queries arrive at once."""
    return TraceReport(
        name=trace.name,
        note=trace.note,
        sha256=trace.sha256,
        queries=len(trace),
        duration_s=trace.duration_s,
        rate_rps=trace.rate_rps if math.isfinite(trace.rate_rps) else None,
        cv=trace.cv if math.isfinite(trace.cv) else None,
    )


def replay_report(result: ReplayResult, slo_s: float) -> ReplayReport:
    """Summarise a replay."""
    stages = {
        name: StageReport(
            replicas=stage.replicas,
            tokens=stage.tokens,
            batches=int(stage.batch_size.size),
            mean_batch=stage.mean_batch,
            utilisation=stage.utilisation,
            mean_wait_s=stage.mean_wait_s,
            max_wait_s=stage.max_wait_s,
        )
        for name, stage in result.stages.items()
    }
    return ReplayReport(
        discipline=result.discipline,
        engine=result.engine,
        seed=result.seed,
        latency_s={
            **{name: result.quantile(quantile) for name, quantile in _QUANTILES.items()},
            "mean": float(np.mean(result.latency_ns)) / NS_PER_S,
        },
        slo_s=slo_s,
        miss_rate=result.miss_rate(slo_s),
        stages=stages,
    )


def plan_report(
    plan: Plan,
    trace: Trace,
    replayed: ReplayResult | None,
    explanation: Explanation | None,
    remarks: list[str],
    plan_file: str | None,
) -> PlanReport:
    """Describe a plan made on `trace`, with its replay on the same trace if there was one."""
    return PlanReport(
        pipeline=plan.pipeline.name,
        status=plan.status.value,
        reason=plan.reason,
        slo_s=plan.slo_s,
        quantile=plan.quantile,
        guarantee=plan.guarantee.value,
        headroom=plan.headroom,
        margin_s=plan.margin_ns / NS_PER_S,
        envelope=None
        if plan.envelope is None
        else [BucketReport(burst=burst, rate_rps=rate) for burst, rate in plan.envelope],
        budget_usd_per_hour=None
        if plan.budget_microusd_per_hour is None
        else plan.budget_microusd_per_hour / MICRODOLLARS_PER_DOLLAR,
        seed=plan.seed,
        formulation=plan.formulation,
        solver=plan.solver,
        usd_per_hour=plan.usd_per_hour,
        lower_bound_usd_per_hour=plan.lower_bound_usd_per_hour,
        gap=plan.gap,
        bound_s=plan.bound_s,
        certificate_s=plan.certificate_s,
        choices={
            stage: ChoiceReport(
                hardware=choice.hardware,
                batch=choice.batch,
                replicas=choice.replicas,
                usd_per_hour=choice.replicas
                * plan.profiles.hardware[choice.hardware].microusd_per_hour
                / 1e6,
            )
            for stage, choice in plan.choices.items()
        },
        trace=trace_report(trace),
        replay=None if replayed is None else replay_report(replayed, plan.slo_s),
        explanation=None if explanation is None else explanation.lines(),
        remarks=remarks,
        plan_file=plan_file,
    )


def replay_command_report(
    plan: Plan, plan_file: str, trace: Trace, result: ReplayResult
) -> ReplayCommandReport:
    """Describe a replay of a plan file."""
    return ReplayCommandReport(
        plan_file=plan_file,
        usd_per_hour=plan.usd_per_hour or 0.0,
        trace=trace_report(trace),
        in_sample=plan.trace is not None and plan.trace.sha256 == trace.sha256,
        replay=replay_report(result, plan.slo_s),
    )


def verify_report(verification: Verification, plan_file: str, trace: Trace) -> VerifyReport:
    """Describe the re-check of a plan file."""
    certificate = verification.certificate
    return VerifyReport(
        plan_file=plan_file,
        verified=verification.verified,
        problems=list(verification.problems),
        remarks=list(verification.remarks),
        slo_s=verification.plan.slo_s,
        quantile=verification.plan.quantile,
        usd_per_hour=verification.plan.usd_per_hour,
        certificate_s=None if certificate is None else certificate.bound_s,
        worst_case_s=None if verification.worst_case_ns is None else verification.worst_case_ns / NS_PER_S,
        critical_path=[] if certificate is None else critical_path_report(certificate),
        trace=trace_report(trace),
    )


def critical_path_report(certificate: Certificate) -> list[CriticalStageReport]:
    """How a query at the quantile comes to its bound."""
    return [
        CriticalStageReport(
            stage=step.stage,
            latency_s=step.latency_ns / NS_PER_S,
            wait_s=step.wait_ns / NS_PER_S,
            delay_s=step.delay_ns / NS_PER_S,
        )
        for step in certificate.critical_path
    ]


def profiles_report(
    profiles: Profiles, folder: str, pipelines: list[str], traces: list[str]
) -> ProfilesReport:
    """Describe a profile folder."""
    return ProfilesReport(
        folder=folder,
        hardware={
            name: HardwareReport(
                usd_per_hour=device.usd_per_hour,
                memory_gib=device.memory_gib,
                limit=device.limit,
                source=device.source,
            )
            for name, device in profiles.hardware.items()
        },
        tables=[
            TableReport(
                model=model,
                hardware=hardware,
                batch=table.batch.tolist(),
                latency_ms=table.latency_ms.tolist(),
            )
            for (model, hardware), table in profiles.tables.items()
        ],
        shipped_pipelines=pipelines,
        shipped_traces=traces,
        remarks=list(profiles.remarks),
    )


def solvers_report(solvers: tuple[SolverInfo, ...], formulations: list[str]) -> SolversReport:
    """Describe the solvers and formulations there are."""
    return SolversReport(
        solvers=[
            SolverReport(name=s.name, available=s.available, version=s.version, reason=s.reason)
            for s in solvers
        ],
        formulations=formulations,
    )


def error_report(
    kind: Literal["input", "solver", "no_plan", "interrupted"], message: str, faults: tuple[Fault, ...]
) -> ErrorReport:
    """Describe why a command could not do its work."""
    return ErrorReport(
        error=kind, message=message, faults=[FaultReport(place=f.place, message=f.message) for f in faults]
    )
