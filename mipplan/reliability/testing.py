"""Tests of plans on fresh scenarios, by the public replay, and what a number of scenarios kept says.

Scenarios are independent draws of one generator, and none of them had a part in choosing the plan. So the number kept
is binomial, and the interval of Clopper and Pearson (1934) holds its probability with at least the stated confidence,
whatever it is. A search may test several plans and ends with the first that passes; to be right about every interval
with 95 %, the a-th has the error 5 % / (a·(a + 1)), and these sum to 5 %.

References
----------
C. J. Clopper, E. S. Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial",
*Biometrika* 26 (1934), [doi:10.1093/biomet/26.4.404](https://doi.org/10.1093/biomet/26.4.404).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from mipplan.core import Int64, SearchLimits
from mipplan.reliability.judges import ServiceDraws
from mipplan.reliability.scenarios import Purpose, Scenario, ScenarioSource
from mipplan.replayer import replay
from mipplan.result import Plan, Reliability, ReplayResult, WorstScenario
from mipplan.tokens import realise

#: All intervals of a search hold with this probability.
_LEVEL = 0.95


def fewest_scenarios(confidence: float) -> int:
    """How many scenarios it takes so that keeping all of them shows, with 95 %, that at least the share is kept."""
    return max(1, math.ceil(math.log(1.0 - _LEVEL) / math.log(confidence)))


def clopper_pearson(kept: int, scenarios: int, level: float = _LEVEL) -> tuple[float, float]:
    """Exact two-sided confidence interval of a probability, from how often something happened."""
    from scipy.special import betaincinv

    tail = (1.0 - level) / 2.0
    low = float(betaincinv(kept, scenarios - kept + 1, tail)) if kept else 0.0
    high = float(betaincinv(kept + 1, scenarios - kept, 1.0 - tail)) if kept < scenarios else 1.0
    return low, high


def level_of_test(number: int) -> float:
    """Confidence of the interval of one test of a search, counted from 1."""
    return 1.0 - (1.0 - _LEVEL) / (number * (number + 1))


@dataclass
class ReliabilityTest:
    """One test under way; what it has found out so far can be asked for at any time."""

    plan: Plan
    source: ScenarioSource
    draws: ServiceDraws
    number: int  # Of the tests of a search, from 1: each has scenarios of its own.
    record: Reliability  # What is known of the plan without the test.
    missed: list[Scenario] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.record = replace(self.record, tests=self.number)

    def run(self, limits: SearchLimits) -> bool:
        """Test until all scenarios are done or the time is up; whether they are done."""
        every = fewest_scenarios(self.record.confidence)
        for number in range(every):
            if limits.deadline.is_over:
                return False
            limits.report(f"testing plan {self.number} on fresh scenarios: {number / every:.0%}")
            self._judge(self.source.scenario(number, Purpose.TEST + self.number - 1))
        return True

    def _judge(self, scenario: Scenario) -> None:
        """Replay one scenario, and count."""
        noise = self.draws.of_plan(self.plan.choices)
        replayed = replay(self.plan, scenario.trace, seed=scenario.seed, noise=noise)
        quantile_ns = replayed.objective_ns(self.plan.objective)
        is_kept = quantile_ns <= self.plan.objective.deadline_ns
        if not is_kept:
            self.missed.append(scenario)
        record = self.record
        worst = record.worst
        if worst is None or quantile_ns > worst.quantile_ns:
            stage = longest_wait(self.plan, scenario, replayed)
            worst = WorstScenario(scenario.number, scenario.trace.name, scenario.rate, quantile_ns, stage)
        scenarios, kept = record.scenarios + 1, record.kept + is_kept
        low, high = clopper_pearson(kept, scenarios, level_of_test(self.number))
        rate_rps = scenario.trace.rate_rps  # Infinite where all arrive at once.
        fastest = max(record.fastest_rps, rate_rps if math.isfinite(rate_rps) else 0.0)
        self.record = replace(
            record, scenarios=scenarios, kept=kept, low=low, high=high, fastest_rps=fastest, worst=worst
        )


def longest_wait(plan: Plan, scenario: Scenario, replayed: ReplayResult) -> str | None:
    """The stage where the queries at and beyond the quantile wait longest on average; None if they wait nowhere."""
    workload = realise(plan.pipeline, scenario.trace, scenario.seed)
    slow = replayed.latency_ns >= replayed.quantile_ns(plan.quantile)
    waits: dict[str, float] = {}
    for stage, seen in replayed.stages.items():
        longest: Int64 = np.zeros(workload.queries, dtype=np.int64)
        np.maximum.at(longest, workload.stages[stage].query, seen.wait_ns)
        waits[stage] = float(longest[slow].mean())
    stage = max(waits, key=lambda name: waits[name])
    return stage if waits[stage] > 0 else None
