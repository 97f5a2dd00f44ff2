"""Results of the library summarised as the documents that are shown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from mipplan.certificate import Certificate
from mipplan.core import MICRODOLLARS_PER_DOLLAR, NS_PER_S, Fault
from mipplan.profiles import Profiles
from mipplan.reporting.documents import (
    BucketReport,
    ChoiceReport,
    CriticalStageReport,
    ErrorReport,
    FaultReport,
    HardwareReport,
    PlanReport,
    ProfilesReport,
    ReplayCommandReport,
    ReplayReport,
    SolverReport,
    SolversReport,
    TableReport,
    TraceReport,
    VerifyReport,
    WindowReport,
)
from mipplan.result import Explanation, Plan, ReplayResult, Windows
from mipplan.solvers import SolverInfo
from mipplan.trace import Trace
from mipplan.verification import Verification


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
    return ReplayReport.model_validate(result.summary(slo_s))


def window_reports(windows: Windows) -> list[WindowReport]:
    """Describe each window of a replay."""
    rows = windows.to_pandas().to_dict(orient="records")
    return [
        WindowReport.model_validate(
            {"miss_rate": None, **{name: None if math.isnan(value) else value for name, value in row.items()}}
        )
        for row in rows
    ]


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
    plan: Plan,
    plan_file: str,
    trace: Trace,
    result: ReplayResult,
    windows: Windows | None = None,
    written: Sequence[str] = (),
) -> ReplayCommandReport:
    """Describe a replay of a plan file, with latencies over time and the files written if there are any."""
    return ReplayCommandReport(
        plan_file=plan_file,
        usd_per_hour=plan.usd_per_hour or 0.0,
        quantile=plan.quantile,
        trace=trace_report(trace),
        in_sample=plan.trace is not None and plan.trace.sha256 == trace.sha256,
        replay=replay_report(result, plan.slo_s),
        window_s=None if windows is None else windows.window_s,
        windows=None if windows is None else window_reports(windows),
        written=list(written),
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
