"""A clairvoyant schedule: what somebody who knows the trace would command, to measure the others by."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mipplan.replayer import ReplicaSchedule, replay
from mipplan.tokens import realise
from mipplan.trace import Trace
from mipplan.tuner.policies.policy import Setting
from mipplan.tuner.stages import Tokens, longest_through_ns, stage_scales
from mipplan.units import NS_PER_S

Integers = NDArray[np.int64]

#: Multiples of the objective to size for, from careful to bold.
FACTORS = (1.0, 1.15, 1.3, 1.5, 1.7, 2.0, 2.4, 3.0, 4.0)


@dataclass(frozen=True)
class Oracle:
    """The cheapest schedule found in hindsight, under the same activation delay: an upper bound on the optimum.

    For every control period and stage the least number of replicas r is found with which all tokens of that period keep
    their share of a latency target, at a server of constant rate that inherits the backlog. Of all schedules with at
    least r active replicas the cheapest is taken, exactly (`cheapest_cover`), with every order placed one activation
    delay ahead. The target is the multiple of the objective that makes the cheapest schedule of which at most
    `miss_rate` of the queries miss the objective in replay.

    So it is no proven optimum; `least_usd` bounds that from below.

    Attributes
    ----------
    miss_rate : float
        Queries that may miss the objective; if no multiple gets there, the schedule with the fewest misses is taken.
    name : str
    """

    miss_rate: float = 0.001
    name: str = "oracle"

    def schedules(self, setting: Setting, trace: Trace, seed: int) -> Mapping[str, ReplicaSchedule]:
        """Choose all commands at once, knowing the trace and its draws."""
        arrivals = _stage_ingress_ns(setting, trace, seed)
        own = {stage: scale.latency_ns for stage, scale in stage_scales(setting.plan, Tokens.MEAN, setting.sample).items()}
        spent_ns = longest_through_ns(setting.plan.pipeline, own)
        best: tuple[tuple[float, float], Mapping[str, ReplicaSchedule]] | None = None
        for factor in FACTORS:
            slack_ns = {stage: round(factor * setting.plan.slo_ns) - spent for stage, spent in spent_ns.items()}
            if min(slack_ns.values()) <= 0:
                continue
            made = {
                stage: _schedule(setting, required_replicas(setting, stage, arrivals[stage], slack_ns[stage]), setting.replicas[stage])
                for stage in setting.stages
            }
            result = replay(setting.plan, trace, schedule=made, seed=seed)
            missed = result.miss_rate(setting.plan.slo_s)
            rank = (max(missed, self.miss_rate), result.usd)
            if best is None or rank < best[0]:
                best = (rank, made)
            elif missed > 10 * self.miss_rate:
                break
        if best is None:
            return {stage: _constant(setting, count) for stage, count in setting.replicas.items()}
        return best[1]


def _stage_ingress_ns(setting: Setting, trace: Trace, seed: int) -> dict[str, Integers]:
    """Ingress of the query of each token, stage by stage."""
    workload = realise(setting.plan.pipeline, trace, seed)
    return {stage: workload.ingress_ns[tokens.query] for stage, tokens in workload.stages.items()}


def required_replicas(setting: Setting, stage: str, token_ns: Integers, slack_ns: int) -> Integers:
    """Least replicas in each control period, forward in time: no token may find more than a slack of work, shape (t,).

    Parameters
    ----------
    setting : Setting
    stage : str
    token_ns : int64, shape (k,)
        Ingress of the tokens' queries, non-decreasing.
    slack_ns : int
    """
    last_ns = int(token_ns[-1]) if token_ns.size else setting.start_ns
    periods = max(1, -(-(last_ns + 1 - setting.start_ns) // setting.period_ns))
    edges = setting.start_ns + setting.period_ns * np.arange(periods + 1, dtype=np.int64)
    cuts = np.searchsorted(token_ns, edges)
    rate = setting.replica_rate_rps[stage] / NS_PER_S
    required = np.ones(periods, dtype=np.int64)
    backlog = 0.0
    for number in range(periods):
        since = (token_ns[cuts[number] : cuts[number + 1]] - edges[number]).astype(np.float64)
        count = max(1, math.ceil(backlog / (rate * slack_ns)))
        while True:
            most, left = _work(backlog, since, count * rate, float(setting.period_ns))
            if most <= count * rate * slack_ns:
                break
            count = max(count + 1, math.ceil(0.9 * most / (rate * slack_ns)) if slack_ns > NS_PER_S else 0)
        required[number], backlog = count, left
    return required


def _work(backlog: float, since: NDArray[np.float64], rate: float, length: float) -> tuple[float, float]:
    """Tokens ahead of the one that finds the most of them, and those left at the end, at a server of this rate."""
    if not since.size:
        return backlog, max(0.0, backlog - rate * length)
    arrived = np.arange(since.size, dtype=np.float64)
    net = arrived - rate * since
    # Ahead of token i: the backlog if the server never idled, else what came since it last did.
    ahead = net - np.minimum(np.minimum.accumulate(net), -backlog)
    left = max(0.0, float(ahead[-1]) + 1.0 - rate * (length - float(since[-1])))
    return float(ahead.max()), left


def cheapest_cover(required: Sequence[int] | Integers, gap: int) -> Integers:
    """Least-cost counts that are nowhere below `required`, where ordering a replica costs as much as `gap` periods.

    Replicas are a stack: the p-th is needed where ``required >= p``. The cost is a sum over p of the periods it is there
    and of `gap` for every time it is ordered anew, so each p is decided on its own: between two periods that need it,
    it stays if and only if they are at most `gap` periods apart. What is kept for p is kept for p − 1, which is needed
    wherever p is. So the result is optimal.
    """
    cover = np.array(required, dtype=np.int64)
    for level in range(1, int(cover.max()) + 1):
        needed = np.flatnonzero(required >= np.int64(level))
        for left, right in zip(needed[:-1].tolist(), needed[1:].tolist(), strict=True):
            if 1 < right - left <= gap + 1:
                cover[left + 1 : right] = np.maximum(cover[left + 1 : right], level)
    return cover


def _schedule(setting: Setting, required: Integers, planned: int) -> ReplicaSchedule:
    """Commands that make these counts active when they are needed, each order one delay ahead."""
    lead = -(-setting.delay_ns // setting.period_ns)
    cover = cheapest_cover(required, lead)
    # What is active now must have been commanded throughout the delay before.
    padded = np.concatenate([cover, np.full(lead, cover[-1])])
    commanded = np.max([padded[shift : shift + cover.size] for shift in range(lead + 1)], axis=0)
    commanded[0] = planned  # as everybody, until the first instant of control
    changes = np.flatnonzero(np.diff(commanded)) + 1
    instants = setting.start_ns + setting.period_ns * changes.astype(np.int64)
    return ReplicaSchedule(instants, commanded[np.concatenate([[0], changes])], setting.delay_ns)


def _constant(setting: Setting, count: int) -> ReplicaSchedule:
    nothing = np.empty(0, dtype=np.int64)
    return ReplicaSchedule(nothing, np.array([count]), setting.delay_ns)
