"""What planning and replaying return: data with provenance, no theory."""

from mipplan.result.choices import Choice
from mipplan.result.explanation import (
    Alternative,
    CriticalStage,
    Explanation,
    NearPlan,
    StageExplanation,
)
from mipplan.result.plan import Guarantee, Plan, PlanStatus, TraceReference
from mipplan.result.replay import ReplayResult, StageReplay

__all__ = [
    "Alternative",
    "Choice",
    "CriticalStage",
    "Explanation",
    "Guarantee",
    "NearPlan",
    "Plan",
    "PlanStatus",
    "ReplayResult",
    "StageExplanation",
    "StageReplay",
    "TraceReference",
]
