"""The stages of a running pipeline: replicas commanded, within what is allowed, and what a controller sees of them."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence

import numpy as np

from mipplan.core import Int64
from mipplan.replayer import NEVER, Capacity, ReplicaSchedule, Served, StageTask
from mipplan.tuner.policies import Setting


class ReplicaState:
    """Commands so far, stage by stage; the plan's replicas are there, and active, from the beginning."""

    def __init__(self, setting: Setting) -> None:
        self._setting, self._delay_ns = setting, setting.delay_ns
        self.replicas: dict[str, int] = dict(setting.replicas)
        self._change_ns: dict[str, list[int]] = {stage: [] for stage in self.replicas}
        self._counts: dict[str, list[int]] = {stage: [count] for stage, count in self.replicas.items()}

    def command(self, now_ns: int, wanted: Mapping[str, int]) -> int:
        """Change counts from `now_ns` on, later than every command before; until when capacities stay what they were.

        What is wanted is granted within bounds and limits (`Setting.granted`).
        """
        if all(wanted.get(stage, count) == count for stage, count in self.replicas.items()):
            return NEVER
        same_ns = NEVER
        for stage, count in self._setting.granted(self.replicas, wanted).items():
            if count != self.replicas[stage]:
                rises = count > self.replicas[stage]
                same_ns = min(same_ns, now_ns + self._delay_ns if rises else now_ns)
                self.replicas[stage] = count
                self._change_ns[stage].append(now_ns)
                self._counts[stage].append(count)
        return same_ns

    def capacities(self, since_ns: int) -> dict[str, Capacity]:
        """What may be busy from `since_ns` on, as far as commanded; not valid before."""
        return {stage: self._capacity(stage, since_ns) for stage in self.replicas}

    def _capacity(self, stage: str, since_ns: int) -> Capacity:
        # Only commands of the last δ still matter: capacity is the least count of that time.
        first = bisect_left(self._change_ns[stage], since_ns - self._delay_ns)
        if first == len(self._change_ns[stage]):
            return Capacity.constant(self._counts[stage][-1])
        return self._schedule(stage, first).capacity

    def schedules(self, until_ns: int = NEVER) -> dict[str, ReplicaSchedule]:
        """All commands up to an instant."""
        return {stage: self._schedule(stage, 0, until_ns) for stage in self.replicas}

    def _schedule(self, stage: str, first: int, until_ns: int = NEVER) -> ReplicaSchedule:
        """Commands from the `first` on."""
        last = bisect_right(self._change_ns[stage], until_ns)
        changes = np.array(self._change_ns[stage][first:last], dtype=np.int64)
        return ReplicaSchedule(changes, np.array(self._counts[stage][first : last + 1]), self._delay_ns)


class StageMetrics:
    """What one stage does, control period by control period; nothing has arrived before the first begins."""

    def __init__(self) -> None:
        #: Begins, ends and sizes of the batches that may be under way.
        self._batches: Int64 = np.empty((3, 0), dtype=np.int64)

    def read(
        self, task: StageTask, served: Served, edges_ns: Int64, capacity: Capacity
    ) -> list[tuple[int, ...]]:
        """Return what is seen of each period between two edges: a `StageObservation` but for its first number.

        This was served from the first edge to the last. The task's arrivals are what waited at the first, and what
        became ready before the last.
        """
        begin_ns, sizes = served.batch_start_ns, served.batch_size
        batches = np.stack([begin_ns, begin_ns + served.batch_service_ns, sizes])
        self._batches = np.concatenate([self._batches, batches], axis=1)
        (*both, size), joins = self._batches, np.ones(task.tokens, dtype=np.int64)
        waiting, waiting_ns = _course(edges_ns, [task.arrival_ns, begin_ns], [joins, -sizes])
        under_way, under_way_ns = _course(edges_ns, both, [size, -size])
        _, busy_ns = _course(edges_ns, both, [np.ones_like(size), -np.ones_like(size)])
        arrived, _ = _course(edges_ns, [task.arrival_ns], [joins])
        active, active_ns = _course(edges_ns, [capacity.from_ns], [np.diff(capacity.replicas, prepend=0)])
        ongoing_ns = waiting_ns + under_way_ns
        counts = (active[1:], waiting[1:], under_way[1:], np.diff(arrived))
        columns = (*counts, *(np.diff(integral) for integral in (busy_ns, active_ns, ongoing_ns)))
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def close(self, now_ns: int) -> None:
        """Go on from an edge of those read last."""
        begin_ns, end_ns, _ = self._batches
        self._batches = self._batches[:, (begin_ns < now_ns) & (end_ns >= now_ns)]


def _course(edges_ns: Int64, at_ns: Sequence[Int64], by: Sequence[Int64]) -> tuple[Int64, Int64]:
    """Return what a count is just before each edge, and its integral up to there from the first; it changes `by` `at`.

    Sums wrap around: an integral between two edges is exact if it fits int64, whatever those up to them do.
    """
    times, changes = np.concatenate(at_ns), np.concatenate(by)
    order = np.argsort(times)
    times, changes = times[order], changes[order]
    place, origin_ns = np.searchsorted(times, edges_ns), edges_ns[0]
    sums = np.zeros((2, times.size + 1), dtype=np.int64)
    np.cumsum(changes, out=sums[0, 1:])
    np.cumsum(changes * (np.maximum(times, origin_ns) - origin_ns), out=sums[1, 1:])
    level, moment = sums[:, place]
    return level, level * (edges_ns - origin_ns) - moment
