"""How much worse a plan does when the world is not quite the one it was refined for."""

from __future__ import annotations

from mipplan.replayer import ServiceNoise, replay
from mipplan.result import Plan
from mipplan.trace import Trace

#: Coefficients of variation of the service times that are tried.
_NOISE = (0.1, 0.3)
_OTHER_SEEDS = 3


def noisy_quantiles_ns(plan: Plan, trace: Trace, discipline: str, engine: str) -> dict[str, int]:
    """Latency quantile under random service times of the same mean, by their description."""
    noises = [ServiceNoise.lognormal(cv) for cv in _NOISE]
    return {
        noise.label: replay(plan, trace, discipline=discipline, engine=engine, noise=noise).quantile_ns(
            plan.quantile
        )
        for noise in noises
    }


def other_seeds_quantiles_ns(plan: Plan, trace: Trace, discipline: str, engine: str) -> dict[int, int]:
    """Latency quantile with other draws of branches and fan-outs, by seed; empty if nothing is drawn."""
    if not plan.pipeline.is_random:
        return {}
    return {
        seed: replay(plan, trace, discipline=discipline, engine=engine, seed=seed).quantile_ns(plan.quantile)
        for seed in range(plan.seed + 1, plan.seed + 1 + _OTHER_SEEDS)
    }
