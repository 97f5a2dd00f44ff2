"""Reliable plans the slow and obvious way: every plan in every scenario by the public replay, and textbook formulas."""

from __future__ import annotations

import math
from collections.abc import Sequence

import mipplan as mp
from mipplan.reliability import Scenario
from oracle_refinement import Choices, all_choices, cost, higher_quantile


def quantile_in(
    pipeline: mp.Pipeline,
    profiles: mp.Profiles,
    choices: Choices,
    scenario: Scenario,
    quantile: float,
    discipline: str,
) -> int:
    """Latency quantile (ns) of one plan in one scenario; service times are drawn where the profile has a P99."""
    plan = mp.Plan.from_choices(pipeline, profiles, choices, slo_s=1.0)
    noise = {
        stage: mp.ServiceNoise.from_p99() for stage in choices if plan.table(stage).latency_p99_ms is not None
    }
    replayed = mp.replay(
        plan, scenario.trace, discipline=discipline, seed=scenario.seed, noise=noise, engine="python"
    )
    return higher_quantile(replayed.latency_ns.tolist(), quantile)


def kept_by(
    pipeline: mp.Pipeline,
    profiles: mp.Profiles,
    scenarios: Sequence[Scenario],
    slo_ns: int,
    quantile: float,
    discipline: str,
) -> dict[int, list[Choices]]:
    """All plans that keep the objective in every scenario, by cost in micro-dollars per hour, the cheapest first."""
    found: dict[int, list[Choices]] = {}
    for choices in all_choices(pipeline, profiles):
        if all(
            quantile_in(pipeline, profiles, choices, scenario, quantile, discipline) <= slo_ns
            for scenario in scenarios
        ):
            found.setdefault(cost(profiles, choices), []).append(choices)
    return dict(sorted(found.items()))


def interval(kept: int, scenarios: int, level: float) -> tuple[float, float]:
    """Clopper and Pearson's interval by bisection of the two tails of the binomial distribution."""
    tail = (1.0 - level) / 2.0

    def at_least(share: float) -> float:
        return sum(_chance(count, scenarios, share) for count in range(kept, scenarios + 1))

    def at_most(share: float) -> float:
        return sum(_chance(count, scenarios, share) for count in range(kept + 1))

    low = 0.0 if kept == 0 else _bisect(lambda share: at_least(share) > tail)
    high = 1.0 if kept == scenarios else _bisect(lambda share: at_most(share) < tail)
    return low, high


def _chance(count: int, scenarios: int, share: float) -> float:
    return math.comb(scenarios, count) * share**count * (1.0 - share) ** (scenarios - count)


def _bisect(is_above: object) -> float:
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if is_above(middle) else (middle, high)  # type: ignore[operator]
    return low


def best_block(gaps: Sequence[float]) -> float:
    """Block length of Politis and White (2004), corrected in 2009, for the stationary bootstrap: sums written out."""
    count = len(gaps)
    mean = math.fsum(gaps) / count

    def covariance(lag: int) -> float:
        lag = abs(lag)
        return math.fsum((gaps[i] - mean) * (gaps[i + lag] - mean) for i in range(count - lag)) / count

    run = max(5, math.ceil(math.sqrt(math.log10(count))))
    most = min(count - 1, math.ceil(math.sqrt(count)) + run)
    known = [covariance(lag) for lag in range(most + 1)]
    if known[0] <= 0:
        return 1.0
    limit = 2.0 * math.sqrt(math.log10(count) / count)
    loud = [lag for lag in range(1, most + 1) if abs(known[lag] / known[0]) >= limit]
    last = next(
        (lag for lag in range(most - run + 1) if not any(lag < other <= lag + run for other in loud)),
        max(loud, default=0),
    )
    window = min(2 * max(last, 1), most)

    def weight(lag: int) -> float:
        return min(1.0, 2.0 * (1.0 - abs(lag) / window))

    lags = range(-window, window + 1)
    big = math.fsum(weight(lag) * abs(lag) * known[abs(lag)] for lag in lags)
    small = math.fsum(weight(lag) * known[abs(lag)] for lag in lags)
    return 1.0 if small <= 0 else (big**2 / small**2) ** (1 / 3) * count ** (1 / 3)


def longest_busy_period(gaps: Sequence[float], faster: float) -> int:
    """Most queries served without a pause by a server at a constant rate, one query after the other."""
    service = math.fsum(gaps) / len(gaps) / faster
    longest, here, left = 1, 1, service
    for gap in gaps:
        left -= gap
        if left <= 0:
            here, left = 0, 0.0
        here, left = here + 1, left + service
        longest = max(longest, here)
    return longest
