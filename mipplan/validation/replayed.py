"""A replay written down as the log that a system would have made: both sides are then looked at in the same way."""

from __future__ import annotations

import numpy as np

from mipplan.core import Int64
from mipplan.logs import MISSING, LogMetadata, QueryLog, QueryStatus, RunLog, StageLog
from mipplan.result import Plan, ReplayResult
from mipplan.tokens import realise
from mipplan.trace import Trace


def replayed_log(plan: Plan, result: ReplayResult, start_ns: int = 0) -> RunLog:
    """Write a replay as a log.

    Parameters
    ----------
    plan : Plan
        What was replayed.
    result : ReplayResult
    start_ns : int
        The instant that is 0 in the replay.

    Returns
    -------
    RunLog
        Queries are numbered by ingress; every one is answered at the last exit of its tokens, or turned away.
    """
    ingress_ns = result.ingress_ns
    workload = realise(plan.pipeline, Trace(np.array(ingress_ns), "replayed"), result.seed)
    numbers = np.arange(result.queries, dtype=np.int64)
    rejected = np.zeros(result.queries, dtype=np.bool_) if result.rejected is None else result.rejected
    none: list[str | None] = [None] * result.queries
    queries = QueryLog.from_columns(
        {
            "query": numbers,
            "scheduled_ns": ingress_ns + start_ns,
            "sent_ns": ingress_ns + start_ns,
            "answered_ns": ingress_ns + result.latency_ns + start_ns,
            "status": [str(QueryStatus.REJECTED if lost else QueryStatus.OK) for lost in rejected.tolist()],
            "error": none,
            "route": none,
        },
        LogMetadata("replay", "replay", run="replay"),
    )
    parts = [_stage_log(name, workload.stages[name].query, result, start_ns) for name in result.stages]
    return RunLog(queries, parts[0].together(parts[1:]), (queries.metadata,))


def _stage_log(name: str, query: Int64, result: ReplayResult, start_ns: int) -> StageLog:
    stage = result.stages[name]
    query = query if stage.served is None else query[stage.served]
    batch = stage.assignment.per_token(np.arange(stage.batches, dtype=np.int64))
    tokens = stage.tokens
    return StageLog.from_columns(
        {
            "query": query.copy(),
            "stage": [name] * tokens,
            "arrival_ns": stage.arrival_ns + start_ns,
            "dispatch_ns": stage.dispatch_ns + start_ns,
            "finish_ns": stage.exit_ns + start_ns,
            "batch": batch,
            "batch_size": stage.batch_size[batch],
            "replica": np.full(tokens, MISSING, dtype=np.int64),
            "error": [None] * tokens,
        },
        LogMetadata("replay", "replay", run="replay"),
    )
