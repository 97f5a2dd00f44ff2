"""Exact trace replay of the serving model (design §2): the judge of every plan.

The judge shares nothing with the judged: this package knows tokens and batch latencies, and none of the
bounds, options or solvers that made the plan.
"""

from mipplan.replayer.cache import CacheParams, StageOption, StageReplays, StageRun
from mipplan.replayer.chunks import ChunkedReplay
from mipplan.replayer.engines import ENGINES, Engine, Feature, resolve_engine
from mipplan.replayer.engines.compiled_jit import compiled
from mipplan.replayer.noise import ServiceNoise
from mipplan.replayer.replaying import replay, replay_many
from mipplan.replayer.schedule import ReplicaSchedule
from mipplan.replayer.streaming import replay_stream
from mipplan.replayer.task import NEVER, Capacity, Served, StageTask
from mipplan.replayer.tasks import Conditions, Discipline, check_manner, check_plan, check_trace
from mipplan.replayer.verdicts import Verdict

__all__ = [
    "ENGINES",
    "NEVER",
    "CacheParams",
    "Capacity",
    "ChunkedReplay",
    "Conditions",
    "Discipline",
    "Engine",
    "Feature",
    "ReplicaSchedule",
    "Served",
    "ServiceNoise",
    "StageOption",
    "StageReplays",
    "StageRun",
    "StageTask",
    "Verdict",
    "check_manner",
    "check_plan",
    "check_trace",
    "compiled",
    "replay",
    "replay_many",
    "replay_stream",
    "resolve_engine",
]
