"""Exact trace replay of the serving model (design §2): the judge of every plan.

The judge shares nothing with the judged: this package knows tokens and batch latencies, and none of the
bounds, options or solvers that made the plan.
"""

from mipplan.replayer.engines import ENGINES
from mipplan.replayer.replaying import Discipline, replay, replay_many

__all__ = ["ENGINES", "Discipline", "replay", "replay_many"]
