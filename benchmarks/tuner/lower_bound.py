"""What a trace costs at least, whoever commands the replicas."""

from __future__ import annotations

import numpy as np

from mipplan.core import MICRODOLLARS_PER_DOLLAR, NS_PER_HOUR, Int64
from mipplan.tokens import Workload, realise
from mipplan.trace import Trace
from mipplan.tuner.policies import Setting


def least_usd(setting: Setting, trace: Trace, seed: int) -> float:
    """Bound from below what any schedule costs in which every query of a trace keeps the objective.

    Let every stage have a replica at all times. Let a token of stage v be ready at the earliest ρ_v after its query's
    ingress (fastest batches and delays on the way), and need r_v at least from its exit on. A batch of k tokens takes
    ℓ(k), so each token takes at least ``c = min ℓ(k)/k`` of some replica's time, after its ingress plus ρ_v and before
    its ingress plus ``D − r_v``. For queries that enter in [x, y] all this lies in ``[x + ρ_v, y + D − r_v]``. So in an
    interval [x, z] of time shifted by ρ_v, replicas are paid for at least c times the tokens whose queries enter in
    ``[x, z − ω]``, ``ω = D − r_v − ρ_v``, and for at least its length. The bound is the largest sum over intervals that
    follow each other, cut at instants of control. It says nothing about schedules in which some queries are late.
    """
    workload = realise(setting.plan.pipeline, trace, seed)
    before_ns, after_ns = _least_ways_ns(setting, workload)
    hardware = setting.plan.profiles.hardware
    microusd_ns = 0.0
    for stage, tokens in workload.stages.items():
        choice = setting.plan.choices[stage]
        service_ns = setting.plan.service_ns(stage)
        share_ns = float(np.min(service_ns / np.arange(1, service_ns.size + 1)))
        spare_ns = max(0, setting.plan.slo_ns - after_ns[stage] - before_ns[stage])
        ingress_ns = workload.ingress_ns[tokens.query]
        # Shifted by ρ, time runs to the last ingress, before which nobody stops paying; and one replica until ρ, when
        # somebody comes. Where nobody ever does, the run may end before that.
        reached_ns = before_ns[stage] if tokens.count else 0
        end_ns = max(setting.start_ns, int(trace.arrival_ns[-1]) - reached_ns)
        paid_ns = reached_ns + _least_paid_ns(setting, ingress_ns, end_ns, share_ns, spare_ns)
        microusd_ns += paid_ns * hardware[choice.hardware].microusd_per_hour
    return microusd_ns / (NS_PER_HOUR * MICRODOLLARS_PER_DOLLAR)


def _least_ways_ns(setting: Setting, workload: Workload) -> tuple[dict[str, int], dict[str, int]]:
    """Least time from ingress to a stage, over all its tokens, and from its exit on: 0, as a token may end there."""
    pipeline, plan = setting.plan.pipeline, setting.plan
    before: dict[str, int] = {}
    for stage in workload.stages:
        ways = [
            before[edge.parent] + int(plan.service_ns(edge.parent).min()) + edge.delay_ns
            for edge in pipeline.incoming(stage)
        ]
        before[stage] = min(ways, default=0)
    after = dict.fromkeys(before, 0)
    for stage in reversed(list(before)):
        certain = [
            edge.delay_ns + int(plan.service_ns(edge.child).min()) + after[edge.child]
            for edge in pipeline.outgoing(stage)
            if edge.probability >= 1.0 and edge.fanout.is_constant_integer and edge.fanout.values[0] >= 1
        ]
        after[stage] = max(certain, default=0)
    return before, after


def _least_paid_ns(setting: Setting, token_ns: Int64, end_ns: int, share_ns: float, spare_ns: int) -> float:
    """Largest sum, over intervals that follow each other, of what is paid at least; cut at instants of control."""
    count = max(1, (end_ns - setting.start_ns) // setting.period_ns)
    edges = setting.start_ns + setting.period_ns * np.arange(count + 1, dtype=np.int64)
    edges[-1] = end_ns
    entered = np.searchsorted(token_ns, edges)
    inside = np.searchsorted(token_ns, edges - spare_ns, side="right")
    best = np.zeros(count + 1)
    for end in range(1, count + 1):
        work = share_ns * np.maximum(0, inside[end] - entered[:end])
        length = (edges[end] - edges[:end]).astype(np.float64)
        best[end] = float(np.max(best[:end] + np.maximum(work, length)))
    return float(best[-1])
