"""mipplan: the cheapest configuration of an ML inference pipeline that provably keeps its latency objective.

Everything public is reachable from here and imported on first use, so that ``import mipplan`` stays cheap.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mipplan import baselines, ipa, solvers
    from mipplan.certificate import Certificate, certify
    from mipplan.comparison import compare
    from mipplan.curves import ArrivalCurve
    from mipplan.errors import (
        Fault,
        InputError,
        MipplanError,
        NoPlanError,
        SolverError,
        SolverUnavailableError,
    )
    from mipplan.fleet import FleetPlan, FleetStatus, plan_fleet
    from mipplan.options import time_cost_problem
    from mipplan.pipeline import Pipeline
    from mipplan.planner import explain, plan
    from mipplan.profiles import Profiles
    from mipplan.refinement import refine
    from mipplan.replayer import ReplicaSchedule, ServiceNoise, Verdict, replay, replay_many, replay_stream
    from mipplan.result import Choice, Explanation, Plan, PlanStatus, ReplayResult, StreamResult
    from mipplan.trace import Trace
    from mipplan.tuner import Conditions, JointTuner, Tuner, Tuning, TuningStep, tune
    from mipplan.verification import Verification, verify

__version__ = "0.1.0"

_HOMES = {
    "Certificate": "mipplan.certificate",
    "Choice": "mipplan.result",
    "Conditions": "mipplan.tuner",
    "Fault": "mipplan.errors",
    "FleetPlan": "mipplan.fleet",
    "FleetStatus": "mipplan.fleet",
    "InputError": "mipplan.errors",
    "MipplanError": "mipplan.errors",
    "JointTuner": "mipplan.tuner",
    "NoPlanError": "mipplan.errors",
    "Pipeline": "mipplan.pipeline",
    "Plan": "mipplan.result",
    "PlanStatus": "mipplan.result",
    "Profiles": "mipplan.profiles",
    "ReplayResult": "mipplan.result",
    "ReplicaSchedule": "mipplan.replayer",
    "ServiceNoise": "mipplan.replayer",
    "SolverError": "mipplan.errors",
    "SolverUnavailableError": "mipplan.errors",
    "StreamResult": "mipplan.result",
    "Trace": "mipplan.trace",
    "Tuner": "mipplan.tuner",
    "Tuning": "mipplan.tuner",
    "TuningStep": "mipplan.tuner",
    "Verdict": "mipplan.replayer",
    "Verification": "mipplan.verification",
    "certify": "mipplan.certificate",
    "compare": "mipplan.comparison",
    "explain": "mipplan.planner",
    "ArrivalCurve": "mipplan.curves",
    "Explanation": "mipplan.result",
    "plan": "mipplan.planner",
    "plan_fleet": "mipplan.fleet",
    "refine": "mipplan.refinement",
    "replay": "mipplan.replayer",
    "replay_many": "mipplan.replayer",
    "replay_stream": "mipplan.replayer",
    "time_cost_problem": "mipplan.options",
    "tune": "mipplan.tuner",
    "verify": "mipplan.verification",
}

__all__ = [
    "ArrivalCurve",
    "Certificate",
    "Choice",
    "Conditions",
    "Explanation",
    "Fault",
    "FleetPlan",
    "FleetStatus",
    "InputError",
    "JointTuner",
    "MipplanError",
    "NoPlanError",
    "Pipeline",
    "Plan",
    "PlanStatus",
    "Profiles",
    "ReplayResult",
    "ReplicaSchedule",
    "ServiceNoise",
    "SolverError",
    "SolverUnavailableError",
    "StreamResult",
    "Trace",
    "Tuner",
    "Tuning",
    "TuningStep",
    "Verdict",
    "Verification",
    "baselines",
    "certify",
    "compare",
    "explain",
    "ipa",
    "plan",
    "plan_fleet",
    "refine",
    "replay",
    "replay_many",
    "replay_stream",
    "solvers",
    "time_cost_problem",
    "tune",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name in ("baselines", "ipa", "solvers"):
        return import_module(f"mipplan.{name}")
    if name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'mipplan' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
