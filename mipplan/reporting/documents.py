"""The JSON documents of ``mipplan … --json``; docs/json.md describes every field, a test holds the two together."""

from __future__ import annotations

import math
from operator import attrgetter
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from mipplan.core import MICRODOLLARS_PER_DOLLAR, NS_PER_S, Fault
from mipplan.result import Interval

#: What is infinite, or no number at all, is null in JSON.
Finite = Annotated[
    float | None, BeforeValidator(lambda value: None if value is None or not math.isfinite(value) else value)
]


class Report(BaseModel):
    """A document, or a part of one; what a result has under a field's name is taken from there.

    Where a result calls it otherwise, a text beside the field's type says how: ``pipeline.name``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def of(cls, *results: object, **others: object) -> Self:
        """Take what is not given from the first of the results that has it."""
        return cls.model_validate(cls._fields_of(*results, **others))

    @model_validator(mode="before")
    @classmethod
    def _of_part(cls, part: Any) -> Any:
        """Describe a result that stands where its description belongs."""
        return part if isinstance(part, dict | Report) else cls._fields_of(part)

    @classmethod
    def _fields_of(cls, *results: object, **others: object) -> dict[str, object]:
        fields = cls.model_fields
        marks = {name: [m for m in field.metadata if isinstance(m, str)] for name, field in fields.items()}
        return others | {
            name: _taken(results, (marks[name] or [name])[0])
            for name, field in fields.items()
            if (field.is_required() or marks[name]) and name not in others
        }


def _taken(results: tuple[object, ...], path: str) -> Any:
    """Seconds and dollars are also made of whole nanoseconds and micro-dollars; what None has is None."""
    name, *inner = path.split(".")
    for result in results:
        if hasattr(result, name):
            found = getattr(result, name)
            return found if found is None or not inner else attrgetter(".".join(inner))(found)
    if "usd" in name:
        exact, scale = name.replace("usd", "microusd"), MICRODOLLARS_PER_DOLLAR
    else:
        exact, scale = f"{name.removesuffix('_s')}_ns", NS_PER_S
    whole = next(getattr(result, exact) for result in results if hasattr(result, exact))
    return None if whole is None else whole / scale


# --- parts -----------------------------------------------------------------------------------------------------------


class BriefReport(Report):
    """One that leaves out what is not asked about: fields that are None unless given, and are."""

    @model_serializer(mode="wrap")
    def _brief(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        unless = {name for name, field in type(self).model_fields.items() if field.get_default() is None}
        return {name: value for name, value in write(self).items() if value is not None or name not in unless}


class TraceReport(BriefReport):
    """The trace a command worked on."""

    name: str
    note: str
    sha256: str
    queries: Annotated[int, "arrival_ns.size"]
    duration_s: float
    # Null where all queries arrive at once.
    rate_rps: Finite
    cv: Finite
    zero: Annotated[str | None, "zero"] = None  # The date of time 0 (UTC); left out where none is known.


class ChoiceReport(BriefReport):
    """Configuration of one stage and what it costs."""

    hardware: str
    batch: int
    replicas: int
    usd_per_hour: float
    variant: str | None = None


class BucketReport(Report):
    """One token bucket of an arrival curve: at most ``burst + rate_rps·u`` queries in any window of u seconds."""

    burst: float
    rate_rps: float


class RunClassReport(Report):
    """The runs that a sharp certificate, or one of ``fifo`` queues, holds for."""

    least_service: float
    least_delay: float
    ties: str


class WorstScenarioReport(Report):
    """The fresh scenario with the largest latency quantile."""

    number: int
    trace: str
    rate: float
    quantile_s: float
    stage: str | None


class ReliabilityReport(Report):
    """A test on fresh scenarios."""

    confidence: float
    scenarios: int
    kept: int
    low: float
    high: float
    fastest_rps: float
    passed: bool
    tests: int
    chosen_on: int
    left_out: int
    drift: float
    blocks: list[float]
    noise: bool
    worst: WorstScenarioReport | None
    summary: str


class GuaranteeCostReport(Report):
    """What the objective costs under one guarantee."""

    label: str
    guarantee: str
    dispatch: str
    is_answer: bool
    status: str
    limit: str | None
    usd_per_hour: float | None
    lower_bound_usd_per_hour: float | None
    certificate_s: float | None
    proof: str
    holds_for: str
    void_if: str


class SampleReport(Report):
    """What a plan does on one of several traces and seeds."""

    name: str
    seed: int
    certificate_s: float | None
    replayed_s: float | None


class StageReport(Report):
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


class ReplayReport(BriefReport):
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
    latency_interval_s: dict[str, Interval | None]
    miss_rate_interval: Interval | None
    no_interval: dict[str, str]
    usd: float
    usd_per_query: float
    stages: dict[str, StageReport]
    overruns: dict[str, int] | None = None
    queries_lost: int | None = None
    stagger_s: dict[str, float] | None = None
    systems: dict[str, str] | None = None
    rejected: int | None = None
    energy: Annotated[dict[str, float] | None, "energy.figures"] = None
    stage_energy_j: Annotated[dict[str, dict[str, float]] | None, "energy.by_stage"] = None


class WindowReport(Report):
    """Latencies of the queries that came in one window; null where none did."""

    start_s: float
    queries: int
    mean_s: Finite
    p50_s: Finite
    p90_s: Finite
    p99_s: Finite
    max_s: Finite
    miss_rate: Finite = None


class CriticalStageReport(Report):
    """One stage on the critical path of a query at the quantile."""

    stage: str
    latency_s: float
    wait_s: float
    delay_s: float


class DeviceUseReport(Report):
    """What a fleet uses of one hardware type."""

    used: int
    limit: int | None
    usd_per_hour: float
    one_more_usd_per_hour: float | None


class FleetMemberReport(BriefReport):
    """One pipeline's plan."""

    status: str
    slo_s: float
    usd_per_hour: float
    alone_usd_per_hour: Annotated[float, "lower_bound_usd_per_hour"]
    certificate_s: float
    choices: dict[str, ChoiceReport]
    accuracy: Annotated[float | None, "accuracy"] = None
    min_accuracy: Annotated[float | None, "min_accuracy"] = None


class FleetSetReport(Report):
    """Plans for a set of pipelines."""

    usd_per_hour: float
    lower_bound_usd_per_hour: float
    gap: float
    devices: dict[str, DeviceUseReport]
    pipelines: dict[str, FleetMemberReport]


class AdmissionReport(Report):
    """Pipelines to admit where not all fit."""

    weight: float
    total_weight: float
    weight_bound: float
    left_out: list[str]
    fleet: FleetSetReport | None


class SloRelaxationReport(Report):
    """Objectives with which all pipelines fit."""

    factor: float
    too_small: float
    proven: bool
    fleet: FleetSetReport


# --- whole documents -------------------------------------------------------------------------------------------------


class PlanReport(BriefReport):
    """``mipplan plan --json``."""

    command: Literal["plan"] = "plan"
    pipeline: Annotated[str, "pipeline.name"]
    status: str
    reason: str | None
    limit: str | None
    objective: Annotated[str, "objective.text"]
    slo_s: float
    quantile: float
    per_s: Annotated[float | None, "objective.per_s"]
    share: Annotated[float, "objective.share"]
    guarantee: str
    headroom: float
    margin_s: float
    envelope: list[BucketReport] | None
    budget_usd_per_hour: float | None
    dispatch: str
    laws: dict[str, str]
    discipline: str
    certificate: str
    runs: RunClassReport | None
    seed: int
    formulation: str | None
    solver: str | None
    usd_per_hour: float | None
    lower_bound_usd_per_hour: float | None
    gap: float | None
    bound_s: float | None
    certificate_s: float | None
    choices: dict[str, ChoiceReport]
    guarantee_costs: dict[str, GuaranteeCostReport] | None
    trace: TraceReport
    in_sample: bool = True
    replay: ReplayReport | None
    explanation: list[str] | None
    remarks: list[str]
    plan_file: str | None
    reliability: ReliabilityReport | None = None
    # Of several traces and seeds: the draws of each, all traces, and the figures on each.
    seeds: int | None = None
    traces: list[TraceReport] | None = None
    samples: list[SampleReport] | None = None
    accuracy: float | None = None
    min_accuracy: float | None = None
    energy: dict[str, float] | None = None


class ReplayCommandReport(Report):
    """``mipplan replay --json``."""

    command: Literal["replay"] = "replay"
    plan_file: str
    usd_per_hour: float
    objective: Annotated[str, "objective.text"]
    quantile: float
    kept: bool
    trace: TraceReport
    dispatch: str
    in_sample: bool
    replay: ReplayReport
    window_s: float | None
    windows: list[WindowReport] | None
    remarks: list[str]
    written: list[str]


class FleetReport(Report):
    """``mipplan fleet --json``."""

    command: Literal["fleet"] = "fleet"
    name: str
    status: str
    reason: str | None
    quantile: float
    seed: int
    usd_per_hour: float | None
    lower_bound_usd_per_hour: float | None
    gap: float | None
    budget_usd_per_hour: float | None
    devices: dict[str, DeviceUseReport]
    pipelines: dict[str, FleetMemberReport]
    admission: AdmissionReport | None
    relaxation: SloRelaxationReport | None
    method: str
    rounds: int
    columns: int
    seconds: float
    notes: list[str]
    written: list[str]


class ErrorReport(Report):
    """Printed instead of a command's own document when it could not do its work."""

    error: Literal["input", "solver", "no_plan", "interrupted"]
    message: str
    faults: list[Fault]
