"""A clairvoyant schedule: what somebody who knows the trace would command, to measure the others by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mipplan.core import Int64
from mipplan.replayer import ReplicaSchedule, replay
from mipplan.tokens import realise
from mipplan.trace import Trace
from mipplan.tuner.hindsight import cheapest_cover, required_replicas
from mipplan.tuner.paths import PathTimes
from mipplan.tuner.policies.parameters import check_numbers
from mipplan.tuner.policies.policy import Setting
from mipplan.tuner.stages import Tokens, stage_scales

#: Multiples of the objective to size for, from careful to bold.
FACTORS = (1.0, 1.15, 1.3, 1.5, 1.7, 2.0, 2.4, 3.0, 4.0, 5.5, 8.0)
#: Bolder ones are not tried once one makes so many times the further misses that are allowed.
_HOPELESS = 10.0


@dataclass(frozen=True)
class Oracle:
    """The cheapest schedule found in hindsight, under the same activation delay: an upper bound on the optimum.

    For every control period and stage the least number of replicas r is found with which all tokens of that period keep
    their share of a latency target, at a server of constant rate that inherits the backlog (`required_replicas`).
    Of all schedules with at least r active replicas the cheapest is taken, exactly (`cheapest_cover`), with every order
    placed one activation delay ahead; until the first instant of control the plan's replicas are there, as for
    everybody. The target is the multiple of the objective that makes the cheapest schedule under which, in replay
    (oldest first, whatever the run's discipline), at most `miss_rate` of the queries more miss the objective than under
    any of these: some cannot be helped, before the first order can serve.

    So it is no proven optimum; `least_usd` bounds that from below.

    Attributes
    ----------
    miss_rate : float
        Share of the queries.
    name : str

    Raises
    ------
    InputError
        If that is no share.
    """

    miss_rate: float = 0.001
    name: str = "oracle"

    def __post_init__(self) -> None:
        check_numbers(self, miss_rate=(0.0, 1.0))

    def schedules(self, setting: Setting, trace: Trace, seed: int) -> Mapping[str, ReplicaSchedule]:
        """Choose all commands at once, knowing the trace and its draws."""
        scales = stage_scales(setting.plan, Tokens.MEAN, setting.sample)
        own_ns = {stage: scale.latency_ns for stage, scale in scales.items()}
        spent_ns = PathTimes(setting.plan.pipeline).through_ns(own_ns)
        workload = realise(setting.plan.pipeline, trace, seed)
        found: list[tuple[float, float, dict[str, ReplicaSchedule]]] = []
        for factor in FACTORS:
            target_ns = round(factor * setting.plan.slo_ns)
            if target_ns <= max(spent_ns.values()):
                continue
            made = {}
            for stage, tokens in workload.stages.items():
                slack_ns = target_ns - spent_ns[stage]
                required = required_replicas(setting, stage, workload.ingress_ns[tokens.query], slack_ns)
                made[stage] = _schedule(setting, required, setting.replicas[stage])
            result = replay(setting.plan, trace, schedule=made, seed=seed)
            found.append((result.miss_rate(setting.plan.slo_s), result.usd, made))
            if found[-1][0] > found[0][0] + _HOPELESS * self.miss_rate:
                break
        if not found:
            return {stage: _constant(setting, count) for stage, count in setting.replicas.items()}
        fewest = min(missed for missed, _, _ in found)
        return min(
            ((usd, missed, made) for missed, usd, made in found if missed <= fewest + self.miss_rate),
            key=lambda one: one[:2],
        )[2]


def _schedule(setting: Setting, required: Int64, planned: int) -> ReplicaSchedule:
    """Commands that make these counts active when they are needed, each order one delay ahead."""
    lead = -(-setting.delay_ns // setting.period_ns)
    cover = cheapest_cover(required, lead, planned)
    # What is active now must have been commanded throughout the delay before.
    padded = np.concatenate([cover, np.full(lead, cover[-1])])
    commanded = np.max([padded[shift : shift + cover.size] for shift in range(lead + 1)], axis=0)
    commanded[0] = planned
    changes = np.flatnonzero(np.diff(commanded)) + 1
    instants = setting.start_ns + setting.period_ns * changes.astype(np.int64)
    return ReplicaSchedule(instants, commanded[np.concatenate([[0], changes])], setting.delay_ns)


def _constant(setting: Setting, count: int) -> ReplicaSchedule:
    nothing = np.empty(0, dtype=np.int64)
    return ReplicaSchedule(nothing, np.array([count]), setting.delay_ns)
