"""One stage under many plans in lockstep: a lane per plan, and each step dispatches one batch in every lane.

A step costs some thirty NumPy calls, whatever the number of lanes, so lanes pay from about a hundred on. The
state of a lane is its place in its queue and, for each replica, when that is idle next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Int64
from mipplan.replayer.engines.batches import Batches, NumpyParams, SortedArrivals, find_in_loop
from mipplan.replayer.stage_task import StageTask

#: Start, since the first arrival, and size of some batches.
Part = tuple[Int64, Int64]

#: Stands for "after everything": an instant shifted by the bits of a replica's number stays within int64.
FAR = 1 << 53


def find_batches(
    tasks: Sequence[StageTask], queues: Sequence[SortedArrivals], params: NumpyParams
) -> list[Batches]:
    """Find the batches of tasks that all fit a lane; they may differ in every other respect.

    `queues` are their tokens. With fewer than `fewest_lanes` left, each is brought to its end by itself.
    """
    if not tasks:
        return []
    lanes = _Lanes(tasks, queues, params)
    while lanes.task.size >= max(params.fewest_lanes, 1):
        lanes.advance()
    for lane, number in enumerate(lanes.task.tolist()):
        lanes.found[number].append(_rest(tasks[number], queues[number], lanes, lane, params))
    found = []
    for task, arrivals, parts in zip(tasks, queues, lanes.found, strict=True):
        start_ns, size = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        parts.clear()
        start_ns += arrivals.at_ns[0]
        found.append(Batches(start_ns, size, task.service_ns[0, size - 1]))
    return found


def _rest(task: StageTask, arrivals: SortedArrivals, lanes: _Lanes, lane: int, params: NumpyParams) -> Part:
    """Batches of a lane from where it has come to until its task is done."""
    origin_ns = arrivals.at_ns[0]
    left_ns = arrivals.at_ns[lanes.place[lane] :]
    busy_until_ns = origin_ns + lanes.idle_since_origin(lane)
    rest = replace(task, arrival_ns=left_ns, busy_until_ns=busy_until_ns)
    batches = find_in_loop(rest, SortedArrivals(left_ns, None), params)
    return batches.start_ns - origin_ns, batches.size


class _Lanes:
    """Tasks not done yet, one a lane.

    `task` is the number of the task in each lane, `place` the position of the next token in its queue, and `found` has
    the batches by task, window by window. `idle`, shape (replicas, lanes), says when each replica is idle next, since
    the first arrival, with the replica's number in the lowest bits: so a minimum over a column tells when and which.
    Lanes with fewer replicas have some that never are.
    """

    def __init__(
        self, tasks: Sequence[StageTask], queues: Sequence[SortedArrivals], params: NumpyParams
    ) -> None:
        lanes = len(tasks)
        self._params = params
        self._queues = [arrivals.at_ns for arrivals in queues]
        self.found: list[list[Part]] = [[] for _ in tasks]
        self.task = np.arange(lanes)
        self.place = np.zeros(lanes, dtype=np.int64)
        self._count = np.array([task.tokens for task in tasks])
        self._cap = np.array([task.batch for task in tasks])
        replicas = np.array([task.capacity.most for task in tasks])
        number = np.arange(replicas.max())[:, np.newaxis]
        self._shift = int(replicas.max()).bit_length()
        self.idle = np.where(number < replicas, 0, FAR << self._shift) | number
        self._service = np.zeros((lanes, self._cap.max() + 1), dtype=np.int64)
        for row, task in zip(self._service, tasks, strict=True):
            row[1 : task.batch + 1] = task.service_ns[0]

    def advance(self) -> None:
        """Dispatch what a window of every lane is good for, and let go of lanes that are done."""
        few_steps, most_steps = self._params.fewest_lane_steps, self._params.lane_steps
        lanes = self.task.size
        # A batch's size is found by halving: what may be looked at beyond its first token is a power of two.
        reach = 1 << int(self._cap.max() - 1).bit_length()
        width = max(self._params.lane_window, 2 * few_steps * reach)
        arrival = self._window(width)
        begin = np.arange(lanes) * width
        left = self._count - self.place
        place = begin.copy()
        start = np.empty((most_steps, lanes), dtype=np.int64)
        size = np.empty((most_steps, lanes), dtype=np.int64)
        done = 0
        while done < most_steps:
            # A lane that has come to its end waits there; what is dispatched in it from then on is dropped (and
            # may lie beyond int64, which wraps around and harms no other lane).
            np.minimum(place, begin + left, out=place)
            safe = (width - int((place - begin).max())) // reach
            if safe < few_steps or bool((place == begin + left).all()):
                break
            upto = min(done + safe, most_steps)
            self._dispatch(arrival, place, start[done:upto], size[done:upto], reach)
            done = upto
        self._put_away(start[:done], size[:done], left)
        self.place += np.minimum(place - begin, left)
        self._keep(self.place < self._count)

    def idle_since_origin(self, lane: int) -> Int64:
        """When each replica of a lane is idle next, since its first arrival."""
        since: Int64 = self.idle[:, lane] >> self._shift
        return since[since < FAR]

    def _window(self, width: int) -> Int64:
        """The next tokens of all lanes since their first arrivals, lane after lane, `width` each."""
        window = np.full((self.task.size, width), FAR, dtype=np.int64)
        for row, task, place in zip(window, self.task.tolist(), self.place.tolist(), strict=True):
            queue = self._queues[task]
            ahead = queue[place : place + width]
            np.subtract(ahead, queue[0], out=row[: ahead.size])
        return window.reshape(-1)

    def _dispatch(self, arrival: Int64, place: Int64, start: Int64, size: Int64, reach: int) -> None:
        """Dispatch one batch in every lane for each row of `start` and `size`, which are filled in.

        `arrival` has shape (lanes · width,); `place` points into it, and moves on.
        """
        lanes = place.size
        lane = np.arange(lanes)
        table = lane * self._service.shape[1]
        service, idle, shift = self._service.reshape(-1), self.idle.reshape(-1), self._shift
        next_idle, replica, seen, ahead, last = (np.empty(lanes, dtype=np.int64) for _ in range(5))
        here = np.empty(lanes, dtype=np.bool_)
        jumps = [reach >> halvings for halvings in range(1, reach.bit_length())]
        for now, taken in zip(start, size, strict=True):
            np.minimum.reduce(self.idle, axis=0, out=next_idle)
            np.bitwise_and(next_idle, (1 << shift) - 1, out=replica)
            np.right_shift(next_idle, shift, out=next_idle)
            arrival.take(place, out=seen, mode="clip")
            np.maximum(next_idle, seen, out=now)
            np.copyto(last, place)
            for jump in jumps:
                np.add(last, jump, out=ahead)
                arrival.take(ahead, out=seen, mode="clip")
                np.less_equal(seen, now, out=here)
                np.copyto(last, ahead, where=here)
            np.subtract(last, place, out=taken)
            np.add(taken, 1, out=taken)
            np.minimum(taken, self._cap, out=taken)
            np.add(place, taken, out=place)
            np.add(table, taken, out=ahead)
            service.take(ahead, out=seen, mode="clip")
            np.add(seen, now, out=seen)
            np.left_shift(seen, shift, out=seen)
            np.bitwise_or(seen, replica, out=seen)
            np.multiply(replica, lanes, out=replica)
            np.add(replica, lane, out=replica)
            idle[replica] = seen

    def _put_away(self, start: Int64, size: Int64, left: Int64) -> None:
        """Append the batches of each lane to those of its task, as far as it has tokens for them."""
        start, size = np.ascontiguousarray(start.T), np.ascontiguousarray(size.T)
        ending = size.sum(axis=1) >= left
        for lane, task in enumerate(self.task.tolist()):
            count = size.shape[1]
            if ending[lane]:
                count = int(np.searchsorted(np.cumsum(size[lane]), left[lane])) + 1
            self.found[task].append((start[lane, :count], size[lane, :count]))

    def _keep(self, kept: NDArray[np.bool_]) -> None:
        """Let go of the other lanes."""
        if kept.all():
            return
        self.task, self.place = self.task[kept], self.place[kept]
        self._count, self._cap = self._count[kept], self._cap[kept]
        self.idle = np.ascontiguousarray(self.idle[:, kept])
        self._service = np.ascontiguousarray(self._service[kept])
