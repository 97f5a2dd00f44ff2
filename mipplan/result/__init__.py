"""What planning and replaying return: data with provenance, no theory."""

from mipplan.result.explanation import (
    Alternative,
    CriticalStage,
    Explanation,
    NearPlan,
    StageExplanation,
    step_text,
)
from mipplan.result.plan import Plan
from mipplan.result.plan_file import PlanDocument, altered_parts, document_text, fingerprint, read_document
from mipplan.result.record import (
    Choice,
    Effort,
    Figures,
    Guarantee,
    Limit,
    Objective,
    PlanStatus,
    Provenance,
    Refinement,
    TraceReference,
    check_certified_by,
    check_laws,
    proof_text,
    relevant_profiles,
    resolve_slo_ns,
)
from mipplan.result.replay import ReplayResult, overruns_text
from mipplan.result.runs import CertificateKind, RunClass, Ties
from mipplan.result.stage import BatchAssignment, Following, StageReplay
from mipplan.result.statistics import FIGURES, Estimate, Interval, LatencyStatistics
from mipplan.result.stream import (
    RELATIVE_ERROR,
    LatencyHistogram,
    StageTotals,
    StreamEnd,
    StreamResult,
    exact_sum,
)
from mipplan.result.timeline import StepFunction, Windows, check_window, check_windows

__all__ = [
    "FIGURES",
    "RELATIVE_ERROR",
    "Alternative",
    "BatchAssignment",
    "CertificateKind",
    "Choice",
    "CriticalStage",
    "Effort",
    "Estimate",
    "Explanation",
    "Figures",
    "Following",
    "Guarantee",
    "Interval",
    "LatencyHistogram",
    "LatencyStatistics",
    "Limit",
    "NearPlan",
    "Objective",
    "Plan",
    "PlanDocument",
    "PlanStatus",
    "Provenance",
    "Refinement",
    "ReplayResult",
    "RunClass",
    "StageExplanation",
    "StageReplay",
    "StageTotals",
    "StepFunction",
    "StreamEnd",
    "StreamResult",
    "Ties",
    "TraceReference",
    "Windows",
    "altered_parts",
    "check_certified_by",
    "check_laws",
    "check_window",
    "check_windows",
    "document_text",
    "exact_sum",
    "fingerprint",
    "overruns_text",
    "proof_text",
    "read_document",
    "relevant_profiles",
    "resolve_slo_ns",
    "step_text",
]
