"""A clairvoyant schedule, to measure policies by: what a trace needs, known in hindsight."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from mipplan.core import NS_PER_S, Bool, Float64, Int64, first_true
from mipplan.replayer import ReplicaSchedule, replay
from mipplan.tokens import realise
from mipplan.trace import Trace
from mipplan.tuner.policies.base import Parameters, Setting, Share
from mipplan.tuner.stages import Tokens, stage_scales


@dataclass(frozen=True)
class OracleParams:
    """What targets are tried."""

    factors: tuple[float, ...] = (1.0, 1.15, 1.3, 1.5, 1.7, 2.0, 2.4, 3.0, 4.0, 5.5, 8.0)
    """Multiples of the objective to size for, from careful to bold."""
    hopeless: float = 10.0
    """Bolder ones are not tried once one makes 10 times the further misses that are allowed."""


_PARAMS = OracleParams()
#: Where nothing bounds a stage, no period needs so many replicas.
_MANY = 1 << 40


@dataclass(frozen=True)
class Oracle(Parameters):
    """The cheapest schedule found in hindsight, under the same activation delay: an upper bound on the optimum.

    For every control period and stage the least number of replicas r is found with which all tokens of that period keep
    their share of a latency target, at a server of constant rate that inherits the backlog (`required_replicas`).
    Of all schedules with at least r active replicas the cheapest is taken, exactly (`cheapest_cover`), with every order
    placed one activation delay ahead; until the first order can serve there are at most the plan's replicas, and
    afterwards what bounds and device limits grant, as for everybody. The target is the multiple of the objective that
    makes the cheapest schedule under which, in replay (oldest first, whatever the run's discipline), at most
    `miss_rate` of the queries more miss the objective than under any of these: some cannot be helped, before the first
    order can serve.

    So it is no proven optimum.
    """

    miss_rate: Share = 0.001
    """Share of the queries."""
    name: str = "oracle"

    def schedules(self, setting: Setting, trace: Trace, seed: int) -> Mapping[str, ReplicaSchedule]:
        """Choose all commands at once, knowing the trace and its draws."""
        scales = stage_scales(setting.plan, Tokens.MEAN, setting.sample)
        own_ns = {stage: scale.latency_ns for stage, scale in scales.items()}
        spent_ns = setting.plan.pipeline.longest_paths().through(own_ns)
        workload = realise(setting.plan.pipeline, trace, seed)
        found: list[tuple[float, float, dict[str, ReplicaSchedule]]] = []
        for factor in _PARAMS.factors:
            target_ns = round(factor * setting.plan.slo_ns)
            if target_ns <= max(spent_ns.values()):
                continue
            wanted = {}
            for stage, tokens in workload.stages.items():
                slack_ns = target_ns - spent_ns[stage]
                required = required_replicas(setting, stage, workload.ingress_ns[tokens.query], slack_ns)
                wanted[stage] = _commands(setting, required, setting.replicas[stage])
            made = _schedules(setting, wanted)
            result = replay(setting.plan, trace, schedule=made, seed=seed)
            found.append((result.miss_rate(setting.plan.slo_s), result.usd, made))
            if found[-1][0] > found[0][0] + _PARAMS.hopeless * self.miss_rate:
                break
        if not found:
            return _schedules(setting, {stage: np.array([n]) for stage, n in setting.replicas.items()})
        fewest = min(missed for missed, _, _ in found)
        kept = [(usd, missed, made) for missed, usd, made in found if missed <= fewest + self.miss_rate]
        return min(kept, key=lambda one: one[:2])[2]


def _lead(setting: Setting) -> int:
    """Control periods from an order to the replicas it makes active, rounded up."""
    return -(-setting.delay_ns // setting.period_ns)


def _commands(setting: Setting, required: Int64, planned: int) -> Int64:
    """What to be told to have in each period, so that these counts are active when they are needed, shape (t,)."""
    lead = _lead(setting)
    cover = cheapest_cover(required, lead, planned)
    # What is active now must have been commanded throughout the delay before.
    padded = np.concatenate([cover, np.full(lead, cover[-1])])
    commanded: Int64 = np.max([padded[shift : shift + cover.size] for shift in range(lead + 1)], axis=0)
    commanded[0] = planned
    return commanded


def _schedules(setting: Setting, wanted: Mapping[str, Int64]) -> dict[str, ReplicaSchedule]:
    """Commands of all stages, period by period, as far as bounds and device limits grant them."""
    periods = max(counts.size for counts in wanted.values())
    every = {s: np.append(n, np.full(periods - n.size, n[-1])) for s, n in wanted.items()}
    held, granted = {stage: int(counts[0]) for stage, counts in every.items()}, []
    for asked in zip(*(counts.tolist() for counts in every.values()), strict=True):
        if asked != tuple(held.values()):
            held = setting.granted(held, dict(zip(every, asked, strict=True)))
        granted.append(tuple(held.values()))
    made = {}
    for stage, commanded in zip(every, np.array(granted, dtype=np.int64).T, strict=True):
        changes = np.flatnonzero(np.diff(commanded)) + 1
        instants = setting.start_ns + setting.period_ns * changes.astype(np.int64)
        counts = commanded[np.concatenate([[0], changes])]
        made[stage] = ReplicaSchedule(instants, counts, setting.delay_ns)
    return made


def required_replicas(setting: Setting, stage: str, token_ns: Int64, slack_ns: int) -> Int64:
    """Least replicas in each control period, forward in time: no token may find more than a slack of work, shape (t,).

    As far as a stage may have them: until the first order can serve the plan's at most, and then those within its
    bounds. Where these are too few, what they leave is there in the next period. `token_ns` holds the ingress of the
    tokens' queries, non-decreasing, shape (k,); the slack is positive.
    """
    last_ns = int(token_ns[-1]) if token_ns.size else setting.start_ns
    periods = max(1, -(-(last_ns + 1 - setting.start_ns) // setting.period_ns))
    edges = setting.start_ns + setting.period_ns * np.arange(periods + 1, dtype=np.int64)
    cuts = np.searchsorted(token_ns, edges)
    rate = setting.replica_rate_rps[stage] / NS_PER_S
    required = np.ones(periods, dtype=np.int64)
    backlog, planned, first = 0.0, setting.replicas[stage], 1 + _lead(setting)
    least, most = setting.bounds(stage)
    for number in range(periods):
        since = (token_ns[cuts[number] : cuts[number + 1]] - edges[number]).astype(np.float64)
        within = (least if number else planned, planned if number < first else most)
        required[number], backlog = _least(backlog, since, rate, slack_ns, setting.period_ns, within)
    return required


def _least(
    backlog: float, since: Float64, rate: float, slack_ns: int, length_ns: int, within: tuple[int, int | None]
) -> tuple[int, float]:
    """Least replicas of a rate for one period, of those within bounds, and the tokens left at its end."""
    least, most = within[0], within[1] or _MANY

    def suffice(count: int) -> bool:
        return _work(backlog, since, count * rate, length_ns)[0] <= count * rate * slack_ns

    low = high = min(most, max(least, math.ceil(backlog / (rate * slack_ns))))
    while high < most and not suffice(high):
        low, high = high + 1, min(most, 2 * high)
    count = first_true(low, high, lambda n: n == most or suffice(n))
    return count, _work(backlog, since, count * rate, length_ns)[1]


def _work(backlog: float, since: Float64, rate: float, length_ns: int) -> tuple[float, float]:
    """Tokens ahead of the one that finds the most of them, and those left at the end, at a server of this rate."""
    if not since.size:
        return backlog, max(0.0, backlog - rate * length_ns)
    net = np.arange(since.size, dtype=np.float64) - rate * since
    # Ahead of token i: the backlog and all before it if the server never idled, else what came since it last did.
    ahead = net - np.minimum(np.minimum.accumulate(net), -backlog)
    left = max(0.0, float(ahead[-1]) + 1.0 - rate * (length_ns - float(since[-1])))
    return max(backlog, float(ahead.max())), left


def cheapest_cover(required: Int64, gap: int, initial: int, free: Bool | None = None) -> Int64:
    """Least-cost counts that are nowhere below `required`, where ordering a replica costs as much as `gap` periods.

    Replicas are a stack: the p-th is needed where ``required >= p``, and the first `initial` are there just before the
    first period. The cost is a sum over p of the periods it is there and of `gap` for every time it is ordered, so each
    p is decided on its own: between two periods that need it (or the beginning, if it is there then, and the first), it
    stays if and only if at most `gap` periods lie between. What is kept for p is kept for p − 1, too, which is needed
    wherever p is. So the result is a stack, and optimal. Where periods are not `free`, shape (t,), nothing is kept over
    them that they do not need; the result is then optimal among those.
    """
    cover = np.array(required, dtype=np.int64)
    for level in range(1, int(cover.max()) + 1):
        needed = np.flatnonzero(required >= level).tolist()
        there = [-1, *needed] if level <= initial else needed
        for left, right in pairwise(there):
            if 1 < right - left <= gap + 1 and (free is None or free[left + 1 : right].all()):
                cover[left + 1 : right] = np.maximum(cover[left + 1 : right], level)
    return cover
