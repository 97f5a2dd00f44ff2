"""What planning and replaying return: data with provenance, no theory."""

from mipplan.result.choices import Choice
from mipplan.result.effort import Effort
from mipplan.result.explanation import (
    Alternative,
    CriticalStage,
    Explanation,
    NearPlan,
    StageExplanation,
)
from mipplan.result.latency_statistics import Estimate, Interval, LatencyStatistics
from mipplan.result.plan import Guarantee, Plan, PlanStatus, TraceReference
from mipplan.result.replay import ReplayResult
from mipplan.result.stage_replay import StageReplay
from mipplan.result.steps import StepFunction
from mipplan.result.stream import StageTotals, StreamEnd, StreamResult
from mipplan.result.windows import Windows

__all__ = [
    "Alternative",
    "Choice",
    "CriticalStage",
    "Effort",
    "Estimate",
    "Explanation",
    "Guarantee",
    "Interval",
    "LatencyStatistics",
    "NearPlan",
    "Plan",
    "PlanStatus",
    "ReplayResult",
    "StageExplanation",
    "StageReplay",
    "StageTotals",
    "StepFunction",
    "StreamEnd",
    "StreamResult",
    "TraceReference",
    "Windows",
]
