"""What planning and replaying return: data with provenance, no theory."""

from mipplan.result.choices import Choice
from mipplan.result.explanation import (
    Alternative,
    CriticalStage,
    Explanation,
    NearPlan,
    StageExplanation,
    step_text,
)
from mipplan.result.figures import Figures, Limit, PlanStatus
from mipplan.result.histogram import RELATIVE_ERROR, LatencyHistogram
from mipplan.result.latency_statistics import Estimate, Interval, LatencyStatistics
from mipplan.result.objective import Guarantee, Objective, resolve_slo_ns
from mipplan.result.plan import Plan, relevant_profiles
from mipplan.result.plan_file import altered_parts, read_document
from mipplan.result.provenance import Effort, Provenance, TraceReference
from mipplan.result.refinement import Refinement
from mipplan.result.replay import ReplayResult
from mipplan.result.replay_summary import FIGURES
from mipplan.result.rides import Following, Rides
from mipplan.result.stage_replay import StageReplay
from mipplan.result.steps import StepFunction
from mipplan.result.stream import StageTotals, StreamEnd, StreamResult
from mipplan.result.totals import exact_sum
from mipplan.result.windows import Windows, check_window, check_windows

__all__ = [
    "FIGURES",
    "RELATIVE_ERROR",
    "Alternative",
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
    "PlanStatus",
    "Provenance",
    "Refinement",
    "ReplayResult",
    "Rides",
    "StageExplanation",
    "StageReplay",
    "StageTotals",
    "StepFunction",
    "StreamEnd",
    "StreamResult",
    "TraceReference",
    "Windows",
    "altered_parts",
    "check_window",
    "check_windows",
    "exact_sum",
    "read_document",
    "relevant_profiles",
    "resolve_slo_ns",
    "step_text",
]
