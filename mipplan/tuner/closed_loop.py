"""A plan on a trace under a controller: replayed one control period at a time, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mipplan.core import Int64
from mipplan.replayer import (
    NEVER,
    Capacity,
    ChunkedReplay,
    Engine,
    ReplaySettings,
    ReplicaSchedule,
    Served,
    StageTask,
)
from mipplan.trace import Trace
from mipplan.tuner.gauges import StageGauge
from mipplan.tuner.observation import Observation, StageObservation
from mipplan.tuner.policies.policy import Controller, Setting
from mipplan.tuner.staffing import Staffing


@dataclass(frozen=True)
class LoopRun:
    """What came of a closed loop.

    Attributes
    ----------
    schedules : mapping of str to ReplicaSchedule
        What the controller commanded, stage by stage.
    latency_ns : int64, shape (n,)
        Of each query.
    decisions : int
        Instants of control.
    """

    schedules: Mapping[str, ReplicaSchedule]
    latency_ns: Int64
    decisions: int


def control_instants(trace: Trace, setting: Setting) -> Int64:
    """Every instant of control: period by period, until after the last arrival."""
    last_ns = int(trace.arrival_ns[-1])
    count = max(0, -(-(last_ns + 1 - setting.start_ns) // setting.period_ns))
    return setting.start_ns + setting.period_ns * np.arange(1, count + 1, dtype=np.int64)


def run_closed_loop(
    setting: Setting,
    trace: Trace,
    controller: Controller,
    conditions: ReplaySettings,
    engine: Engine,
    seed: int,
) -> LoopRun:
    """Replay a trace while a controller looks at it and changes replicas.

    At an instant of control everything before it is seen, and what is decided counts from that very instant on. So
    the replay up to it is final when the controller looks at it, and the run as a whole is the replay of the
    schedules that come of it.

    Parameters
    ----------
    setting : Setting
    trace : Trace
        No arrival before `setting.start_ns`.
    controller : Controller
    conditions : ReplaySettings
        Without schedules.
    engine : Engine
    seed : int
        Of the token draws.
    """
    staffing = Staffing(setting)
    gauges = {stage: StageGauge(setting.start_ns) for stage in setting.stages}
    answers: dict[str, tuple[StageTask, Served]] = {}
    replay = ChunkedReplay(
        [setting.plan], conditions, engine, seed, lambda stage, *answer: answers.update({stage: answer})
    )
    latency_ns = np.full(len(trace), -1, dtype=np.int64)
    instants = control_instants(trace, setting)
    cuts = np.searchsorted(trace.arrival_ns, instants)
    before_ns, begin = setting.start_ns, 0
    for now_ns, end in zip(instants.tolist(), cuts.tolist(), strict=True):
        arrival_ns = trace.arrival_ns[begin:end]
        capacities = staffing.capacities(before_ns)
        replay.set_capacity(capacities)
        replay.advance(arrival_ns, now_ns - 1)
        _collect(replay, latency_ns)
        seen = Observation(
            now_ns,
            now_ns - before_ns,
            arrival_ns,
            _read(gauges, answers, now_ns, capacities, staffing.replicas),
        )
        staffing.command(now_ns, controller.decide(seen))
        before_ns, begin = now_ns, end
    replay.set_capacity(staffing.capacities(before_ns))
    replay.advance(trace.arrival_ns[begin:], NEVER)
    _collect(replay, latency_ns)
    return LoopRun(staffing.schedules(), latency_ns, instants.size)


def _collect(replay: ChunkedReplay, latency_ns: Int64) -> None:
    released = replay.release([0])
    latency_ns[released.query] = released.latency_ns[0]


def _read(
    gauges: Mapping[str, StageGauge],
    answers: Mapping[str, tuple[StageTask, Served]],
    now_ns: int,
    capacities: Mapping[str, Capacity],
    replicas: Mapping[str, int],
) -> dict[str, StageObservation]:
    return {
        stage: gauge.read(*answers[stage], now_ns, capacities[stage], replicas[stage])
        for stage, gauge in gauges.items()
    }
