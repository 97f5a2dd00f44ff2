"""The JSON documents of ``mipplan … --json``; docs/json.md describes every field, a test holds the two together."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


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
    batch_sizes: dict[str, int]
    utilisation: float
    mean_wait_s: float
    p99_wait_s: float
    max_wait_s: float
    mean_service_s: float
    mean_queue: float
    max_queue: int


class IntervalReport(_Report):
    """A confidence interval."""

    low: float
    high: float


class ReplayReport(_Report):
    """Figures of one replay: what `mipplan.result.ReplayResult.summary` returns."""

    discipline: str
    engine: str
    seed: int
    service: str
    certificate_applies: bool
    queries: int
    span_s: float
    latency_s: dict[str, float]
    slo_s: float | None
    misses: int | None
    miss_rate: float | None
    confidence: float
    latency_interval_s: dict[str, IntervalReport | None]
    miss_rate_interval: IntervalReport | None
    no_interval: dict[str, str]
    usd: float
    usd_per_query: float
    stages: dict[str, StageReport]


class WindowReport(_Report):
    """Latencies of the queries that came in one window; null where none did."""

    start_s: float
    queries: int
    mean_s: float | None
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None
    max_s: float | None
    miss_rate: float | None


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
    quantile: float
    trace: TraceReport
    in_sample: bool
    replay: ReplayReport
    window_s: float | None
    windows: list[WindowReport] | None
    written: list[str]


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
