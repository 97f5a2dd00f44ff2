"""Queries that lose what they were promised: to batches that overrun, or because a full queue turns them away.

**Overruns.** Without overruns a timed run *is* the replay ([Theorem (timed)][theorem-timed]). With some, it is the
replay outside disturbed stretches. A *busy stretch* of a stage is a longest interval throughout which a token is at the
stage, waiting or in service, in the run or in the replay; it is disturbed if a batch in it overran, or a token in it
did not arrive as in the replay. A query loses the guarantee if one of its tokens is in a disturbed stretch.

Where not all stages are timed the certificate holds for queries without a disturbed token
([Disturbances][disturbances]): none that is at a stage from when a batch there should have ended, or a disturbed token
came, until the stage is empty; nor one that is made of such.

**Queries that are turned away.** A token that is turned away at a stage leaves nothing for those below, and its query
gets no answer; other tokens of it are served all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from mipplan.core import Bool, Int64, frozen
from mipplan.pipeline import ServingSystem, are_timed
from mipplan.replayer.settings import ReplaySettings
from mipplan.replayer.stage_task import NEVER, UNKNOWN
from mipplan.result import Plan, ReplayResult, StageReplay
from mipplan.tokens import Workload


def may_overrun(plan: Plan, settings: ReplaySettings) -> bool:
    """Whether batches may take longer than their tables say, where all else is as the plan's guarantee has it."""
    if all(noise.stays_within(0.0) for noise in settings.noises):
        return False
    return are_timed(settings.laws_of(plan)) or replace(settings, noise=None).certificate_applies(plan)


def with_disturbances(plan: Plan, run: ReplayResult, workload: Workload) -> ReplayResult:
    """Add to a run of a pipeline that is not timed what overran in it, and which queries lose the certificate by that.

    References
    ----------
    [Proposition (disturbances)][disturbances]: stage by stage, from the sources down.
    """
    overruns: dict[str, int] = {}
    disturbed: dict[str, Bool] = {}
    for stage, tokens in workload.stages.items():
        seen = run.stages[stage]
        due_ns = seen.batch_start_ns + plan.service_ns(stage)[seen.batch_size - 1]
        late = seen.batch_start_ns + seen.batch_service_ns > due_ns
        overruns[stage] = int(np.count_nonzero(late))
        since_ns = np.where(
            seen.assignment.per_token(late.astype(np.int64)).astype(bool),
            seen.assignment.per_token(due_ns),
            NEVER,
        )
        for messages in tokens.messages:
            from_disturbed = messages.child[disturbed[messages.edge.parent][messages.parent]]
            since_ns[from_disturbed] = seen.arrival_ns[from_disturbed]
        stretch = _stretches(seen.arrival_ns, seen.exit_ns)
        first_ns = np.full(int(stretch.max(initial=-1)) + 1, NEVER, dtype=np.int64)
        np.minimum.at(first_ns, stretch, since_ns)
        disturbed[stage] = seen.exit_ns > first_ns[stretch]
    lost = np.zeros(workload.queries, dtype=bool)
    for stage, tokens in workload.stages.items():
        lost[tokens.query[disturbed[stage]]] = True
    return replace(run, overruns=overruns, lost=frozen(lost))


def with_overruns(
    plan: Plan, run: ReplayResult, as_planned: ReplayResult, workload: Workload
) -> ReplayResult:
    """Add to a run of a timed pipeline what overran in it, and which queries lose the guarantee by that.

    `as_planned` is the replay of the same with every batch as its table says.
    """
    overruns: dict[str, int] = {}
    lost = np.zeros(workload.queries, dtype=bool)
    for stage, tokens in workload.stages.items():
        seen, stated = run.stages[stage], as_planned.stages[stage]
        late = seen.batch_service_ns > plan.service_ns(stage)[seen.batch_size - 1]
        overruns[stage] = int(np.count_nonzero(late))
        # Where nothing overran and everything came as planned, nothing is disturbed.
        disturbed = seen.arrival_ns != stated.arrival_ns
        disturbed |= seen.assignment.per_token(late.astype(np.int64)).astype(bool)
        if disturbed.any():
            lost[tokens.query[_in_disturbed_stretches(seen, stated, disturbed)]] = True
    return replace(run, overruns=overruns, lost=frozen(lost))


def _in_disturbed_stretches(seen: StageReplay, stated: StageReplay, disturbed: Bool) -> Bool:
    """Which tokens are, in the run or in the replay, in a stretch with one of those marked; shape (tokens,)."""
    start_ns = np.concatenate([seen.arrival_ns, stated.arrival_ns])
    stretch = _stretches(start_ns, np.concatenate([seen.exit_ns, stated.exit_ns]))
    is_disturbed = np.zeros(start_ns.size, dtype=bool)
    is_disturbed[stretch[np.tile(disturbed, 2)]] = True
    in_run, in_replay = np.split(is_disturbed[stretch], 2)
    found: Bool = in_run | in_replay
    return found


def _stretches(start_ns: Int64, end_ns: Int64) -> Int64:
    """Number the busy stretches, and say in which each stay is; shape (stays,).

    A stretch ends where whoever came so far has left: at one instant completions come first.
    """
    order = np.argsort(start_ns, kind="stable")
    latest_ns = np.maximum.accumulate(end_ns[order])
    begins = np.concatenate([[False], start_ns[order][1:] >= latest_ns[:-1]])[: order.size]
    stretch = np.empty(order.size, dtype=np.int64)
    stretch[order] = np.cumsum(begins)
    return stretch


def look_for_rejected(
    workload: Workload, stages: Mapping[str, StageReplay], systems: Iterable[ServingSystem]
) -> tuple[Mapping[str, StageReplay], Int64, Bool | None]:
    """Find the latencies of queries, and those that were turned away where a system's queue has a bound.

    Returns
    -------
    stages : mapping of str to StageReplay
        About the tokens that were served alone.
    latency_ns : int64, shape (queries,)
        Of a query that was turned away: the time until its first token was.
    rejected : bool, shape (queries,), or None
    """
    if all(system.most_waiting is None for system in systems):
        return (
            stages,
            workload.latency_ns({stage: stages[stage].exit_ns for stage in workload.last_stages}),
            None,
        )
    exit_ns = {stage: np.minimum(stages[stage].exit_ns, UNKNOWN) for stage in workload.last_stages}
    latency_ns = workload.latency_ns(exit_ns)
    rejected = latency_ns > UNKNOWN // 2
    for stage, seen in stages.items():
        here = (seen.dispatch_ns == NEVER) & (seen.arrival_ns < UNKNOWN)
        query = workload.stages[stage].query[here]
        np.minimum.at(latency_ns, query, seen.arrival_ns[here] - workload.ingress_ns[query])
    return {stage: seen.of_served() for stage, seen in stages.items()}, latency_ns, frozen(rejected)
