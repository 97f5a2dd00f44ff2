"""The stages of a running pipeline: replicas commanded, within what is allowed, and what a controller sees of them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping

import numpy as np

from mipplan.core import Int64
from mipplan.replayer import NEVER, Capacity, ReplicaSchedule, Served, StageTask
from mipplan.tuner.policies import Setting, StageObservation


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
        within = {
            stage: self._within(stage, wanted.get(stage, count)) for stage, count in self.replicas.items()
        }
        # Nobody loses what it has and wants to keep.
        held = {stage: min(count, self.replicas[stage]) for stage, count in within.items()}
        hardware = {stage: self._plan.choices[stage].hardware for stage in within}
        kinds = self._plan.profiles.hardware
        left = {name: math.inf if kind.limit is None else kind.limit for name, kind in kinds.items()}
        for stage, count in held.items():
            left[hardware[stage]] -= count
        for stage, count in within.items():
            more = int(max(0, min(count - held[stage], left[hardware[stage]])))
            left[hardware[stage]] -= more
            if held[stage] + more != self.replicas[stage]:
                self.replicas[stage] = held[stage] + more
                self._change_ns[stage].append(now_ns)
                self._counts[stage].append(self.replicas[stage])

    def _within(self, stage: str, count: int) -> int:
        bounds = self._plan.pipeline.stages[stage]
        least, most = max(1, bounds.replicas_min), bounds.replicas_max
        # A plan of given choices may start outside: it is not forced in, but kept from going further out.
        planned = self._counts[stage][0]
        least, most = min(least, planned), most and max(most, planned)
        return max(least, count if most is None else min(count, most))

    def capacities(self, since_ns: int) -> dict[str, Capacity]:
        """What may be busy from `since_ns` on, as far as commanded; not valid before."""
        return {stage: self._capacity(stage, since_ns) for stage in self.replicas}

    def _capacity(self, stage: str, since_ns: int) -> Capacity:
        # Only commands of the last δ still matter: capacity is the least count of that time.
        first = bisect_left(self._change_ns[stage], since_ns - self._delay_ns)
        if first == len(self._change_ns[stage]):
            return Capacity.constant(self._counts[stage][-1])
        return self._schedule(stage, first).capacity

    def schedules(self) -> dict[str, ReplicaSchedule]:
        """All commands."""
        return {stage: self._schedule(stage) for stage in self.replicas}

    def _schedule(self, stage: str, first: int = 0) -> ReplicaSchedule:
        """Commands from the `first` on."""
        changes = np.array(self._change_ns[stage][first:], dtype=np.int64)
        return ReplicaSchedule(changes, np.array(self._counts[stage][first:]), self._delay_ns)


class StageMetrics:
    """Totals of one stage's present period; nothing has arrived before the first begins."""

    def __init__(self, start_ns: int) -> None:
        self._since_ns = start_ns
        self._waiting = 0
        self._tokens = 0
        # Ends and sizes of the batches under way.
        self._end_ns = np.empty(0, dtype=np.int64)
        self._size = np.empty(0, dtype=np.int64)

    def read(
        self, task: StageTask, served: Served, now_ns: int, capacity: Capacity, replicas: int
    ) -> StageObservation:
        """Close the period that ends at `now_ns`, in which this was served, and begin the next.

        The task's arrivals are what waited at the begin, and what became ready before `now_ns`.
        """
        since_ns = self._since_ns
        length_ns = now_ns - since_ns
        fresh_ns = task.arrival_ns[task.arrival_ns >= since_ns]
        busy_ns = self._end_ns.size * length_ns + _left_ns(served.batch_start_ns, now_ns)
        ongoing_ns = (self._waiting + self._tokens) * length_ns + _left_ns(fresh_ns, now_ns)
        end_ns = np.concatenate([self._end_ns, served.batch_start_ns + served.batch_service_ns])
        size = np.concatenate([self._size, served.batch_size])
        done = end_ns < now_ns
        spared_ns = now_ns - end_ns[done]
        busy_ns -= int(spared_ns.sum())
        ongoing_ns -= int(spared_ns @ size[done])
        self._end_ns, self._size = end_ns[~done], size[~done]
        self._tokens = int(self._size.sum())
        self._waiting = int(np.count_nonzero(served.dispatch_ns == NEVER))
        self._since_ns = now_ns
        return StageObservation(
            replicas=replicas,
            active=int(capacity.replicas[np.searchsorted(capacity.from_ns, now_ns - 1, side="right") - 1]),
            waiting=self._waiting,
            under_way=self._tokens,
            arrived=int(fresh_ns.size),
            busy_ns=busy_ns,
            active_ns=_active_ns(capacity, since_ns, now_ns),
            ongoing_ns=ongoing_ns,
        )


def _left_ns(begin_ns: Int64, now_ns: int) -> int:
    """Sum of the times from each of these to now."""
    return now_ns * begin_ns.size - int(begin_ns.sum())


def _active_ns(capacity: Capacity, since_ns: int, now_ns: int) -> int:
    """Integral of the capacity."""
    edges = np.concatenate([np.clip(capacity.from_ns, since_ns, now_ns), [now_ns]])
    return int(np.diff(edges) @ capacity.replicas)
