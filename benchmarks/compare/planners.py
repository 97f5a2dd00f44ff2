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
#: Generous, since it is of wall-clock time, and the machine may be busy with other things.
CERTIFIED_LIMIT_S = 30.0
#: Of processor time: what refinement finds must not depend on what else the machine does.
REFINED_LIMIT_S = 5.0
#: Greedy has no limit of its own; no suite should hang on it.
GREEDY_LIMIT_S = 300.0

Call = Callable[[Instance], mp.Plan]


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


def _certified(instance: Instance) -> mp.Plan:
    return mp.plan(
        instance.pipeline,
        instance.profiles,
        instance.planned_on,
        slo_s=instance.slo_s,
        time_limit_s=CERTIFIED_LIMIT_S,
    )


PLANNERS: Mapping[str, Call] = {
    GREEDY: _greedy,
    "coarse, mean": _coarse("mean"),
    "coarse, peak": _coarse("peak"),
    "half SLO, mean": _half_slo("mean"),
    "half SLO, peak": _half_slo("peak"),
    CERTIFIED: _certified,
}


def refined(instance: Instance, certified: mp.Plan) -> mp.Plan:
    """Refine the certified plan (an empty one, where nothing can be certified); greedy's is not shown to it."""
    with patch("time.monotonic", time.process_time):
        return mp.refine(certified, instance.planned_on, discipline=DISCIPLINE, time_limit_s=REFINED_LIMIT_S)
