"""What a greedy search may do to one stage of a configuration, and how it ranks what it could do."""

from __future__ import annotations

import math
from fractions import Fraction

from mipplan.baselines.configuration import Assignment, Configuration, cost_of, devices_used
from mipplan.baselines.problem import Device, Problem
from mipplan.options import Family


class Actions:
    """The moves of InferLine's planner within a problem's caps, replica bounds and device limits.

    Parameters
    ----------
    problem : Problem
    """

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._load = {stage: problem.tokens_per_query(stage) for stage in problem.devices}

    # ------------------------------------------------------------------------------------- starting

    def start(self, stage: str, device: Device, others: Configuration) -> Configuration | None:
        """Put a stage on a device with the smallest cap and the fewest replicas; None if no device is left."""
        family = device.families[0]
        started = {**others, stage: Assignment(family, family.fewest)}
        return started if self._within_limits(started) else None

    def can_grow(self, configuration: Configuration, stage: str) -> bool:
        """Whether one more replica is allowed and could be of use: never more than there are tokens."""
        assignment = configuration[stage]
        most = min(assignment.family.most, self._problem.tokens(stage))
        return assignment.replicas < most and self._within_limits(self.add_replica(configuration, stage))

    def add_replica(self, configuration: Configuration, stage: str) -> Configuration:
        """One replica more."""
        family, replicas = configuration[stage].family, configuration[stage].replicas
        return {**configuration, stage: Assignment(family, replicas + 1)}

    def bottleneck(self, configuration: Configuration, stages: list[str]) -> str:
        """The stage with the least throughput in queries; of equal ones the first."""
        return min(stages, key=lambda stage: self.queries_per_ns(configuration, stage))

    def queries_per_ns(self, configuration: Configuration, stage: str) -> Fraction | float:
        """Throughput of a stage in queries; infinite where no query has a token."""
        load = self._load[stage]
        return configuration[stage].tokens_per_ns / load if load else math.inf

    # ------------------------------------------------------------------------------------- improving

    def remove_replica(self, configuration: Configuration, stage: str) -> Configuration | None:
        """One replica less; None at the fewest allowed."""
        family, replicas = configuration[stage].family, configuration[stage].replicas
        if replicas <= family.fewest:
            return None
        return {**configuration, stage: Assignment(family, replicas - 1)}

    def increase_batch(self, configuration: Configuration, stage: str) -> Configuration | None:
        """At least double the cap, to the next measured one that raises throughput; None if there is none.

        Where no cap is twice the current one, the largest one will do.
        """
        now = configuration[stage]
        caps = self._families(stage, now.family.hardware)
        doubled = [family for family in caps if family.batch >= 2 * now.family.batch] or [caps[-1]]
        for family in doubled:
            increased = Assignment(family, now.replicas)
            if family.batch > now.family.batch and increased.tokens_per_ns > now.tokens_per_ns:
                return {**configuration, stage: increased}
        return None

    def next_cheaper(self, configuration: Configuration, stage: str) -> Device | None:
        """The most expensive device below the current one's price, of equal ones the fastest."""
        price = configuration[stage].family.microusd_per_hour
        cheaper = [device for device in self._problem.devices[stage] if device.microusd_per_hour < price]
        return max(cheaper, key=lambda device: (device.microusd_per_hour, -device.latency_ns), default=None)

    # ------------------------------------------------------------------------------------- ranking

    def rank(self, configuration: Configuration) -> tuple[int, Fraction | float]:
        """Sort key of configurations that lower the cost: the cheapest, then the one with most throughput left."""
        slowest = min(self.queries_per_ns(configuration, stage) for stage in configuration)
        return cost_of(configuration), -slowest

    def promise(
        self, configuration: Configuration, increased: Configuration, stage: str
    ) -> tuple[Fraction, int]:
        """Sort key of batch increases: the money that the added throughput could free, then the added latency."""
        before, after = configuration[stage], increased[stage]
        needed = before.replicas * (before.tokens_per_ns / after.tokens_per_ns)
        spare = before.replicas - max(needed, Fraction(before.family.fewest))
        added_ns = int(after.family.service_ns[-1] - before.family.service_ns[-1])
        return -spare * before.family.microusd_per_hour, added_ns

    def _families(self, stage: str, hardware: str) -> tuple[Family, ...]:
        return next(d.families for d in self._problem.devices[stage] if d.hardware == hardware)

    def _within_limits(self, configuration: Configuration) -> bool:
        used = devices_used(configuration)
        return all(used.get(name, 0) <= limit for name, limit in self._problem.limits.items())
