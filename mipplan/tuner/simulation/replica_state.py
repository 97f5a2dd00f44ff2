"""The replicas of a running pipeline: what was commanded when, within what plan and hardware allow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mipplan.replayer import Capacity, ReplicaSchedule
from mipplan.tuner.policies import Setting


class ReplicaState:
    """Commands so far, stage by stage; the plan's replicas are there, and active, from the beginning."""

    def __init__(self, setting: Setting) -> None:
        self._plan, self._delay_ns = setting.plan, setting.delay_ns
        self.replicas: dict[str, int] = dict(setting.replicas)
        self._change_ns: dict[str, list[int]] = {stage: [] for stage in self.replicas}
        self._counts: dict[str, list[int]] = {stage: [count] for stage, count in self.replicas.items()}

    def command(self, now_ns: int, wanted: Mapping[str, int]) -> None:
        """Change counts from `now_ns` on, later than every command before.

        A wish beyond the stage's bounds, or beyond what its hardware type has left, is granted as far as possible.
        Stages are granted theirs in topological order, and what others give back at the same time is there already.
        """
        granted = self._granted(wanted)
        for stage, count in granted.items():
            if count != self.replicas[stage]:
                self._change_ns[stage].append(now_ns)
                self._counts[stage].append(count)
                self.replicas[stage] = count

    def _granted(self, wanted: Mapping[str, int]) -> dict[str, int]:
        hardware = {stage: self._plan.choices[stage].hardware for stage in self.replicas}
        within = {
            stage: self._within(stage, wanted.get(stage, count)) for stage, count in self.replicas.items()
        }
        # Nobody loses what it has and wants to keep.
        held = {stage: min(count, self.replicas[stage]) for stage, count in within.items()}
        granted: dict[str, int] = {}
        for stage, count in within.items():
            limit = self._plan.profiles.hardware[hardware[stage]].limit
            if limit is not None:
                others = sum(
                    granted.get(other, held[other])
                    for other in within
                    if other != stage and hardware[other] == hardware[stage]
                )
                count = max(held[stage], min(count, limit - others))
            granted[stage] = count
        return granted

    def _within(self, stage: str, count: int) -> int:
        bounds = self._plan.pipeline.stages[stage]
        least, most = max(1, bounds.replicas_min), bounds.replicas_max
        # A plan of given choices may start outside: it is not forced in, but kept from going further out.
        least, most = min(least, self._counts[stage][0]), most and max(most, self._counts[stage][0])
        return max(least, count if most is None else min(count, most))

    def capacities(self, since_ns: int) -> dict[str, Capacity]:
        """What may be busy from `since_ns` on, as far as commanded; not valid before."""
        return {stage: self._capacity(stage, since_ns) for stage in self.replicas}

    def _capacity(self, stage: str, since_ns: int) -> Capacity:
        changes, counts = self._change_ns[stage], self._counts[stage]
        # Only commands of the last δ still matter: capacity is the least count of that time.
        first = len(changes)
        while first and changes[first - 1] + self._delay_ns >= since_ns:
            first -= 1
        if first == len(changes):
            return Capacity.constant(counts[-1])
        return _schedule(changes[first:], counts[first:], self._delay_ns).capacity

    def schedules(self) -> dict[str, ReplicaSchedule]:
        """All commands."""
        return {
            stage: _schedule(self._change_ns[stage], self._counts[stage], self._delay_ns)
            for stage in self.replicas
        }


def _schedule(change_ns: list[int], counts: list[int], delay_ns: int) -> ReplicaSchedule:
    return ReplicaSchedule(np.array(change_ns, dtype=np.int64), np.array(counts, dtype=np.int64), delay_ns)
