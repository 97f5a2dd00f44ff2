"""What planning and replaying return: data with provenance, no theory."""

from mipplan.result.choices import Choice
from mipplan.result.plan import Guarantee, Plan, PlanStatus, TraceReference
from mipplan.result.replay import ReplayResult, StageReplay

__all__ = ["Choice", "Guarantee", "Plan", "PlanStatus", "ReplayResult", "StageReplay", "TraceReference"]
