"""Who takes part: ours, the others at several settings, and hindsight."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import mipplan as mp
from benchmarks.tuner.lower_bound import least_usd
from benchmarks.tuner.traffic import SEEN, Scenario
from mipplan.core import NS_PER_S
from mipplan.documents import shipped_folder
from mipplan.tuner import POLICIES, simulate
from mipplan.tuner.policies import Clairvoyant, Hpa, Policy, Ray, Setting

#: Queries per second of the samples: such that plans have a few replicas.
RATES_RPS = {
    "image-processing": 600.0,
    "cascade": 600.0,
    "video-monitoring": 400.0,
    "social-media": 150.0,
    "audio-question-answering": 100.0,
}
HPA_TARGETS = (0.4, 0.55, 0.7, 0.85)
#: In full batches per replica.
RAY_TARGETS = (0.3, 0.5, 0.75, 1.0)
PERIOD_S, DELAY_S = 1.0, 5.0
PLAN_LIMIT_S = 30.0

OURS, LEAN, GREEDY, HINDSIGHT = "lp", "lp-lean", "inferline", "oracle"
SWEPT = ("hpa", "ray-tuned")


def contenders() -> list[tuple[str, float | None, Policy | Clairvoyant]]:
    """Family, setting if it is one of several, and policy."""
    plain = [(name, None, POLICIES[name]()) for name in (HINDSIGHT, OURS, LEAN, GREEDY, "ray", "static")]
    hpa = [("hpa", target, Hpa(target=target)) for target in HPA_TARGETS]
    ray = [("ray-tuned", target, Ray.tuned(target)) for target in RAY_TARGETS]
    return [*plain, *hpa, *ray]


@lru_cache(maxsize=16)
def _plan(pipeline_name: str, sample: mp.Trace) -> mp.Plan:
    pipeline = mp.Pipeline.read(shipped_folder() / "pipelines" / f"{pipeline_name}.yaml")
    return mp.plan(pipeline, mp.Profiles.default(), sample, time_limit_s=PLAN_LIMIT_S).require()


def usual_plan(
    pipeline_name: str, scenario: Scenario, draw: int = SEEN
) -> tuple[mp.Plan, mp.Trace, mp.Trace]:
    """The plan for a scenario's sample, the sample, and the trace to run on."""
    sample, trace = scenario.traces(RATES_RPS[pipeline_name], draw)
    return _plan(pipeline_name, sample), sample, trace


def measure(pipeline_name: str, scenario: Scenario, draw: int) -> list[dict[str, Any]]:
    """One row per contender."""
    plan, sample, trace = usual_plan(pipeline_name, scenario, draw)
    setting = Setting(
        plan, sample, int(trace.arrival_ns[0]), round(PERIOD_S * NS_PER_S), round(DELAY_S * NS_PER_S)
    )
    # Draws other than those planned with.
    seed = plan.seed + 1
    least = least_usd(setting, trace, seed)
    rows = []
    for family, target, policy in contenders():
        run = simulate(setting, trace, policy, engine="numba", seed=seed)
        worst = run.worst_window
        rows.append(
            {
                "pipeline": pipeline_name,
                "trace": scenario.name,
                "draw": draw,
                "policy": family,
                "setting": target,
                "queries": run.result.queries,
                "misses": run.misses,
                "miss_rate": run.miss_rate,
                "usd": run.usd,
                "usd_per_hour": run.usd_per_hour,
                "actions": len(run.actions),
                "worst_window_miss_rate": worst.miss_rate,
                "reaction_s": run.reaction_s,
                "least_usd": least,
                "planned_usd_per_hour": plan.usd_per_hour,
                "slo_s": plan.slo_s,
            }
        )
    return rows
