"""A replay written down as the log that a system would have made: both sides are then looked at in the same way.

Timed batches that end early are held back until their time, and a server with an allowance holds them that much longer.
The log says when they ended; so the replay is that of the tables with the allowance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mipplan.core import NS_PER_S, Int64
from mipplan.logs import MISSING, LogMetadata, QueryLog, QueryStatus, RunLog, StageLog
from mipplan.pipeline import DispatchLaw
from mipplan.result import Plan, ReplayResult
from mipplan.serving import with_allowance
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


def allowance_ns(run: RunLog) -> int:
    """What a batch could take beyond its table by what the log says of its server."""
    return max((source.allowance_ns for source in run.sources), default=0)


def held_plan(plan: Plan, run: RunLog, laws: Mapping[str, DispatchLaw]) -> Plan:
    """Return the plan by whose tables timed stages hand on their outputs: with the allowance that the log states.

    Plans whose batches begin when tokens and replicas are there are not changed: what is not needed of an allowance
    is not waited for. A table that timed stages share with others is changed for those as well.
    """
    timed = [stage for stage, law in laws.items() if law is DispatchLaw.TIMED]
    longer_s = allowance_ns(run) / NS_PER_S
    return with_allowance(plan, longer_s, timed) if timed and longer_s else plan


def released_log(held: Plan, run: RunLog, laws: Mapping[str, DispatchLaw]) -> RunLog:
    """Return the log with finishes of timed batches no earlier than their outputs may be handed on."""
    stages, finish_ns = run.stages, run.stages.finish_ns.copy()
    for stage in run.stages.stages:
        table_ns = held.service_ns(stage)
        here = (stages.stage == stage) & (finish_ns != MISSING) & (stages.batch_size <= table_ns.size)
        if laws[stage] is DispatchLaw.TIMED:
            due_ns = stages.dispatch_ns[here] + table_ns[stages.batch_size[here] - 1]
            finish_ns[here] = np.maximum(finish_ns[here], due_ns)
    return replace(run, stages=replace(stages, finish_ns=finish_ns))


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
