"""Exact trace replay of the serving model (design §2): the judge of every plan.

The judge shares nothing with the judged: this package knows tokens and batch latencies, and none of the
bounds, options or solvers that made the plan.
"""

from mipplan.replayer.engines import ENGINES
from mipplan.replayer.noise import ServiceNoise
from mipplan.replayer.replaying import replay, replay_many
from mipplan.replayer.schedule import ReplicaSchedule
from mipplan.replayer.streaming import replay_stream
from mipplan.replayer.tasks import Discipline, check_manner
from mipplan.replayer.verdicts import Verdict

__all__ = [
    "ENGINES",
    "Discipline",
    "ReplicaSchedule",
    "ServiceNoise",
    "Verdict",
    "check_manner",
    "replay",
    "replay_many",
    "replay_stream",
]
