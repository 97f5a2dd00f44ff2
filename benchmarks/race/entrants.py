"""Who runs: every policy at each of its settings, on the plan of its own planner and on ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

import mipplan as mp
from mipplan.core import NS_PER_S
from mipplan.documents import shipped_folder
from mipplan.tuner import POLICIES, simulate
from mipplan.tuner.policies import Clairvoyant, Hpa, InferLine, Lp, Newsvendor, Policy, Ray, Setting

#: Queries per second of the samples: such that plans have a few replicas.
RATES_RPS = {
    "image-processing": 150.0,
    "cascade": 150.0,
    "video-monitoring": 100.0,
    "social-media": 60.0,
    "audio-question-answering": 60.0,
}
PERIOD_S, DELAY_S, PLAN_LIMIT_S = 1.0, 5.0, 30.0
OURS, HINDSIGHT = "ours", "oracle"
#: Settings of our one knob: dollars that a missed query is worth. A step is a tenth of a decade.
WORTHS_USD = tuple(float(f"{worth:.2g}") for worth in np.logspace(-7.0, -1.0, 61))
#: Settings of rivals' knobs, as closely set: after so many quiet seconds InferLine lets go; utilisation, and requests
#: per replica in batches, that autoscalers aim for, each with its own and a shorter or longer window for scaling down.
QUIET_S = (5.0, 8.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0)
UTILISATIONS = tuple(percent / 100 for percent in range(15, 95, 5))
HPA_WINDOWS_S = (300.0, 60.0)
BATCHES = (0.05, 0.07, 0.1, 0.12, 0.15, 0.17, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0)
RAY_DELAYS_S = (60.0, 600.0)


@dataclass(frozen=True)
class Entrant:
    """One policy at one setting on one planner's plan.

    Attributes
    ----------
    family : str
        What its settings are settings of: points of one curve. A policy on another planner's plan is another family.
    setting : str
    planner : str
        ``certified`` or ``inferline``.
    policy : Policy or Clairvoyant
    """

    family: str
    setting: str
    planner: str
    policy: Policy | Clairvoyant


def entrants(worths_usd: Sequence[float] = WORTHS_USD) -> Iterator[Entrant]:
    """All that run, hindsight first; our knob at these settings."""
    for planner in PLANNERS:
        yield Entrant(f"{HINDSIGHT}, {planner}", "", planner, POLICIES[HINDSIGHT]())
        yield Entrant(f"static, {planner}", "", planner, POLICIES["static"]())
        for worth_usd in worths_usd:
            yield Entrant(f"{OURS}, {planner}", f"worth {worth_usd:g} $", planner, Newsvendor(worth_usd))
        for policy in (Lp(), Lp.lean()):
            yield Entrant(f"{OURS}, {planner}", policy.name, planner, policy)
        for quiet_s in QUIET_S:
            published = " (as published)" if quiet_s == InferLine().quiet_s else ""
            setting = f"quiet {quiet_s:g} s{published}"
            yield Entrant(f"inferline, {planner}", setting, planner, InferLine(quiet_s=quiet_s))
        for target in UTILISATIONS:
            for window_s in HPA_WINDOWS_S:
                hpa = Hpa(target=target, down_window_s=window_s)
                yield Entrant(f"hpa, {planner}", f"{target:g}, down {window_s:g} s", planner, hpa)
        yield Entrant(f"ray, {planner}", "defaults", planner, Ray())
        for target in BATCHES:
            for down_s in RAY_DELAYS_S:
                ray = replace(Ray.tuned(target), down_delay_s=down_s)
                yield Entrant(f"ray-tuned, {planner}", f"{target:g}, down {down_s:g} s", planner, ray)


def _certified(pipeline: mp.Pipeline, sample: mp.Trace) -> mp.Plan:
    return mp.plan(pipeline, mp.Profiles.default(), sample, time_limit_s=PLAN_LIMIT_S)


def _greedy(pipeline: mp.Pipeline, sample: mp.Trace) -> mp.Plan:
    return mp.baselines.inferline(pipeline, mp.Profiles.default(), sample)


PLANNERS: dict[str, Callable[[mp.Pipeline, mp.Trace], mp.Plan]] = {
    "certified": _certified,
    "inferline": _greedy,
}


@lru_cache(maxsize=16)
def planned(planner: str, pipeline_name: str, sample: mp.Trace) -> mp.Plan:
    """Return a planner's plan for a sample; without choices if it has none."""
    pipeline = mp.Pipeline.read(shipped_folder() / "pipelines" / f"{pipeline_name}.yaml")
    return PLANNERS[planner](pipeline, sample)


@lru_cache(maxsize=4)
def _setting(planner: str, pipeline_name: str, sample: mp.Trace, start_ns: int) -> Setting:
    """What every policy on a planner's plan is told; kept for what is measured of the plan once."""
    plan = planned(planner, pipeline_name, sample)
    return Setting(plan, sample, start_ns, round(PERIOD_S * NS_PER_S), round(DELAY_S * NS_PER_S))


def measure(pipeline_name: str, sample: mp.Trace, trace: mp.Trace, entrant: Entrant) -> dict[str, Any] | None:
    """Run one entrant; None where its planner has no plan."""
    plan = planned(entrant.planner, pipeline_name, sample)
    if not plan.choices:
        return None
    setting = _setting(entrant.planner, pipeline_name, sample, int(trace.arrival_ns[0]))
    # Draws other than those planned with.
    run = simulate(setting, trace, entrant.policy, engine="numba", seed=plan.seed + 1)
    return {
        "family": entrant.family,
        "setting": entrant.setting,
        "queries": run.result.queries,
        "misses": run.misses,
        "usd": run.usd,
        "actions": len(run.actions),
        "planned_usd_per_hour": plan.usd_per_hour,
    }
