"""Exact trace replay of the serving model: the judge of every plan.

The judge shares nothing with the judged: this package knows tokens and batch latencies, and none of the
bounds, options or solvers that made the plan.
"""

from mipplan.pipeline import Discipline
from mipplan.replayer.cache import CacheParams, DrawnService, StageReplays, StageRun
from mipplan.replayer.engines import ENGINES, EngineParams, resolve_engine
from mipplan.replayer.noise import ServiceNoise
from mipplan.replayer.replaying import Verdict, replay, replay_many
from mipplan.replayer.schedule import ReplicaSchedule
from mipplan.replayer.settings import (
    Noise,
    ReplaySettings,
    check_at_once,
    check_manner,
    check_plan,
    check_trace,
    plan_features,
    read_settings,
)
from mipplan.replayer.stage_task import NEVER, Capacity, Engine, EngineFeature, Served, StageTask
from mipplan.replayer.stream import replay_stream
from mipplan.replayer.walk import ChunkedReplay, replay_together

__all__ = [
    "ENGINES",
    "NEVER",
    "CacheParams",
    "Capacity",
    "ChunkedReplay",
    "Discipline",
    "DrawnService",
    "Engine",
    "EngineFeature",
    "EngineParams",
    "Noise",
    "ReplaySettings",
    "ReplicaSchedule",
    "Served",
    "ServiceNoise",
    "StageReplays",
    "StageRun",
    "StageTask",
    "Verdict",
    "check_at_once",
    "check_manner",
    "check_plan",
    "check_trace",
    "plan_features",
    "read_settings",
    "replay",
    "replay_many",
    "replay_stream",
    "replay_together",
    "resolve_engine",
]
