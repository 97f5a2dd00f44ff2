"""What replicas serve in time: measured stage by stage in replays of drawn traffic, and a formula for all between."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np

from mipplan.core import NS_PER_S, Float64, Int64, first_true
from mipplan.replayer import replay
from mipplan.result import Figures, Plan
from mipplan.trace import Trace
from mipplan.tuner.stages import StageScale


@dataclass(frozen=True)
class ProbeParams:
    """What is measured before a run."""

    replicas: tuple[int, ...] = (1, 2, 4, 8)
    """Counts of one stage; a power of the count is taken between them, and the last one beyond."""
    ample: int = 1_000
    """Replicas of all other stages, so that nothing waits there."""
    queries: int = 6_000
    """Each replay is of so many: with one in a hundred late that is sixty, enough to tell 5 % of rate."""
    probes: tuple[tuple[float, float], tuple[float, float]] = ((1.0, 0.05), (3.0, 0.01))
    """Burstiness, and the share that may miss. Two are needed for two unknowns; apart, so that they are told apart."""
    steps: int = 255
    """Rates that are tried, by bisection, down from what full batches serve: each is 2 % below the one before."""
    ratio: float = 0.98
    seed: int = 20_261_126


_PARAMS = ProbeParams()
#: Burstinesses that are measured.
PROBED = tuple(cv for cv, _ in _PARAMS.probes)


@dataclass(frozen=True)
class StageCapacity:
    """The share of queries that one stage makes late, by replicas, rate and burstiness.

    Queries of rate r whose counts vary as much as those of gaps with the coefficient of variation v meet n replicas as
    the diffusion limit of a queue says: ``exp(−2 W c (c − r) / (r v²))`` of them wait longer than W, and all if r ≥ c.
    Capacity c and admissible wait W were measured for a few n; between them their logarithms are linear.

    References
    ----------
    Kingman, "The single server queue in heavy traffic", 1961, doi:10.1017/S0305004100036094.
    """

    replicas: Int64
    """Counts measured, increasing, shape (k,)."""
    rate_rps: Float64
    """c: queries per second, shape (k,)."""
    burstiness: Float64
    """v that was measured with, increasing, shape (v,)."""
    wait_s: Float64
    """W, shape (v, k)."""

    def of(self, replicas: Int64, burstiness: float) -> tuple[Float64, Float64]:
        """Capacity and admissible wait of any counts of at least 1, each of their shape."""
        known, asked = np.log(self.replicas), np.log(np.asarray(replicas, dtype=np.float64))
        rate, wait = np.log(self.rate_rps), np.log(self.wait_s)
        last = (rate[-1] - rate[-2]) / (known[-1] - known[-2])
        capacity = np.interp(asked, known, rate) + np.maximum(asked - known[-1], 0.0) * last
        calm, bursty = np.log(self.burstiness)
        part = min(max((math.log(burstiness) - calm) / (bursty - calm), 0.0), 1.0)
        return np.exp(capacity), np.exp(np.interp(asked, known, (1 - part) * wait[0] + part * wait[1]))

    def missed(self, replicas: Int64, rate_rps: Float64, burstiness: float, wait: float = 1.0) -> Float64:
        """Share of the queries that are late, shape (counts, rates), with this share of the admissible wait."""
        capacity, wait_s = (column[:, None] for column in self.of(replicas, burstiness))
        spare = np.maximum(capacity - rate_rps, 0.0)
        return np.asarray(np.exp(-2.0 * wait * wait_s * capacity * spare / (rate_rps * burstiness**2)))


def least_missed(plan: Plan, stages: Mapping[str, StageScale], params: ProbeParams = _PARAMS) -> float:
    """Share of the queries that are late however many replicas there are."""
    rate_rps = min(float(stage.pace) for stage in stages.values()) * NS_PER_S
    return missed_in_replay(plan, dict.fromkeys(stages, params.ample), rate_rps, 1.0, params)


def measure_capacities(
    plan: Plan, stages: Mapping[str, StageScale], floor: float = 0.0, params: ProbeParams = _PARAMS
) -> dict[str, StageCapacity]:
    """Find capacity and admissible wait of every stage, all others being ample.

    For a count and each of two burstinesses the largest rate is sought at which no more than a share of gamma traffic
    misses the objective in replay, beyond a `floor` that misses it anyway. The formula then has two unknowns and two
    equations. The sample only tells how many tokens a query has.
    """
    return {name: _measured(plan, stages, name, floor, params) for name in stages}


def _measured(
    plan: Plan, stages: Mapping[str, StageScale], name: str, floor: float, params: ProbeParams
) -> StageCapacity:
    counts, probed = np.array(params.replicas), np.array([cv for cv, _ in params.probes])
    if not stages[name].tokens_per_query:  # No query comes here.
        return StageCapacity(counts, counts * 1e12, probed, np.ones((2, counts.size)))
    full = counts * float(stages[name].pace) * NS_PER_S

    def largest_rate(count: int, most_rps: float, cv: float, share: float) -> float:
        replicas = {stage: count if stage == name else params.ample for stage in stages}
        allowed = floor + (1.0 - floor) * share

        def kept(step: int) -> bool:
            return missed_in_replay(plan, replicas, most_rps * params.ratio**step, cv, params) <= allowed

        return most_rps * params.ratio ** first_true(0, params.steps, kept)

    calm, bursty = (
        np.array([largest_rate(*pair, *probe) for pair in zip(params.replicas, full.tolist(), strict=True)])
        for probe in params.probes
    )
    # Bursts cannot help: what looks so is chance.
    bursty = np.minimum(bursty, params.ratio * calm)
    loads = [cv**2 * -math.log(share) for cv, share in params.probes]
    # By the formula c − r is in proportion to r v² ln(1/share), whatever W is.
    part = np.minimum(calm * loads[0] / (bursty * loads[1]), params.ratio)
    capacity = np.maximum.accumulate(np.minimum((calm - part * bursty) / (1.0 - part), full))
    # Where full batches bind, each burstiness has a wait of its own; everywhere else both are the same.
    waits = [
        rate * load / (2.0 * capacity * np.maximum(capacity - rate, (1.0 - params.ratio) * capacity))
        for rate, load in zip((calm, bursty), loads, strict=True)
    ]
    return StageCapacity(counts, capacity, probed, np.array(waits))


def missed_in_replay(
    plan: Plan, counts: Mapping[str, int], rate_rps: float, cv: float, params: ProbeParams = _PARAMS
) -> float:
    """Share of drawn traffic of this rate and burstiness that misses the objective with these replicas."""
    return miss_rate_with(plan, counts, _drawn(cv, params).scale(rate_rps))


@lru_cache(maxsize=8)
def _drawn(cv: float, params: ProbeParams) -> Trace:
    """Traffic of one query per second; kept because some two hundred replays take it at one rate after another."""
    return Trace.gamma(rate_rps=1.0, cv=cv, duration_s=float(params.queries), seed=params.seed)


def miss_rate_with(plan: Plan, counts: Mapping[str, int], trace: Trace) -> float:
    """Share of a trace's queries that miss the objective with these replicas, the plan's where none are given."""
    choices = {
        s: replace(choice, replicas=counts.get(s, choice.replicas)) for s, choice in plan.choices.items()
    }
    return replay(replace(plan, choices=choices, figures=Figures()), trace).miss_rate(plan.slo_s)
