"""Who is compared: each as it would be called, with nothing but the instance."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from unittest.mock import patch

import mipplan as mp
from benchmarks.compare.instances import Instance
from mipplan import baselines

#: Of what greedy and refinement replay, and of all judging: InferLine's estimator and common servers queue so.
DISCIPLINE = "fifo"
GREEDY, CERTIFIED, REFINED, EXHAUSTIVE = "greedy", "certified", "refined", "exhaustive"
PACED, TIMED, SHARP, SHARP_ANY = "paced", "timed", "sharp, φ ≥ 0.9", "sharp, φ ≥ 0"
#: Paced dispatch, by the sharp certificate for batches that may be as short as they like.
PACED_SHARP = "paced, sharp"
#: Of servers as they are: eager dispatch, queues in order of arrival.
FIFO = "fifo, φ ≥ 0.9"
#: Generous, since it is of wall-clock time, and the machine may be busy with other things.
CERTIFIED_LIMIT_S = 30.0
#: Of processor time: with three times as much these plans took two fifths of the suite's time.
FIFO_LIMIT_S = 10.0
#: Of processor time: what refinement (and with it timed and sharp plans) finds must not depend on what else the
#: machine does.
REFINED_LIMIT_S = 5.0
#: Greedy has no limit of its own; no suite should hang on it.
GREEDY_LIMIT_S = 300.0

Call = Callable[[Instance], mp.Plan]
#: Of an instance and its certified plan.
CallFrom = Callable[[Instance, mp.Plan], mp.Plan]


def _greedy(instance: Instance) -> mp.Plan:
    return baselines.inferline(
        instance.pipeline,
        instance.profiles,
        instance.planned_on,
        slo_s=instance.slo_s,
        time_limit_s=GREEDY_LIMIT_S,
    )


def _coarse(mode: str) -> Call:
    return lambda instance: baselines.coarse_grained(
        instance.pipeline, instance.profiles, instance.planned_on, mode=mode, slo_s=instance.slo_s
    )


def _half_slo(mode: str) -> Call:
    return lambda instance: baselines.half_slo(
        instance.pipeline, instance.profiles, instance.planned_on, mode=mode, slo_s=instance.slo_s
    )


def _certified(instance: Instance, dispatch: str = "eager", limit_s: float = CERTIFIED_LIMIT_S) -> mp.Plan:
    return mp.plan(
        instance.pipeline,
        instance.profiles,
        instance.planned_on,
        slo_s=instance.slo_s,
        dispatch=dispatch,
        time_limit_s=limit_s,
    )


PLANNERS: Mapping[str, Call] = {
    GREEDY: _greedy,
    "coarse, mean": _coarse("mean"),
    "coarse, peak": _coarse("peak"),
    "half SLO, mean": _half_slo("mean"),
    "half SLO, peak": _half_slo("peak"),
    CERTIFIED: _certified,
}


def _sharp(least_service: float) -> CallFrom:
    runs = mp.RunClass(least_service=least_service)
    return lambda instance, certified: mp.sharpen(
        certified, instance.planned_on, runs=runs, time_limit_s=REFINED_LIMIT_S
    )


def _paced_sharply(instance: Instance, certified: mp.Plan) -> mp.Plan:  # noqa: ARG001
    """Begin from the paced plan, as the eager ones begin from the certified plan: the limit is for what comes after."""
    paced = _certified(instance, "paced")
    return mp.sharpen(paced, instance.planned_on, time_limit_s=REFINED_LIMIT_S)


def _fifo(instance: Instance, certified: mp.Plan) -> mp.Plan:  # noqa: ARG001
    return mp.plan(
        instance.pipeline,
        instance.profiles,
        instance.planned_on,
        slo_s=instance.slo_s,
        discipline="fifo",
        runs=mp.RunClass(least_service=0.9),
        time_limit_s=FIFO_LIMIT_S,
    )


#: What other dispatch laws, queues and the sharper certificate make of an instance; each is judged by its own law.
BY_LAW: Mapping[str, CallFrom] = {
    PACED: lambda instance, certified: _certified(instance, "paced"),  # noqa: ARG005
    PACED_SHARP: _paced_sharply,
    TIMED: lambda instance, certified: _certified(instance, "timed", REFINED_LIMIT_S),  # noqa: ARG005
    SHARP: _sharp(0.9),
    SHARP_ANY: _sharp(0.0),
    FIFO: _fifo,
}


def refined(instance: Instance, certified: mp.Plan) -> mp.Plan:
    """Refine the certified plan (an empty one, where nothing can be certified); greedy's is not shown to it."""
    return mp.refine(certified, instance.planned_on, discipline=DISCIPLINE, time_limit_s=REFINED_LIMIT_S)


def by_processor_time(call: Call) -> Call:
    """Let a planner's time limit count the time of the processor."""

    def timed(instance: Instance) -> mp.Plan:
        with patch("time.monotonic", time.process_time):
            return call(instance)

    return timed
