"""One stage under many plans in lockstep: a lane per plan, and each step dispatches one batch in every lane.

A step costs some thirty NumPy calls, whatever the number of lanes, so lanes pay from about a hundred on. The
state of a lane is its place in its queue and, for each replica, when that is idle next.

**Pieces.** One long task is cut into pieces, each served in a lane from an empty stage.
A stage forgets: two runs of it that start differently soon dispatch the same batches at the same instants, unless
it is busy almost always. So each piece runs on into the next one until both have met, and what is true of the
first piece is then true of all. Pieces that have not met are done again, one after the other.

References
----------
A. G. Greenberg, B. D. Lubachevsky, I. Mitrani, "Algorithms for unboundedly parallel simulations", ACM TOCS 9(3),
1991, doi:10.1145/128738.128739 (the idea of cutting time, and of repairing).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mipplan.core import Bool, Int64
from mipplan.replayer.engines.batches import Batches, NumpyParams, SortedArrivals, find_in_loop
from mipplan.replayer.stage_task import ALWAYS, NEVER, StageTask, no_times

#: Start, since the first arrival, and size of some batches.
Part = tuple[Int64, Int64]

#: Stands for "after everything": an instant shifted by the bits of a replica's number stays within int64.
FAR = 1 << 53


def find_in_lanes(
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
        lanes.found[number].append(lanes.rest(lane, tasks[number]))
    found = []
    for task, arrivals, parts in zip(tasks, queues, lanes.found, strict=True):
        start_ns, size = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        parts.clear()
        start_ns += arrivals.at_ns[0]
        found.append(Batches(start_ns, size, task.service_ns[0, size - 1]))
    return found


class _Lanes:
    """Tasks not done yet, one a lane.

    `task` is the number of the task in each lane, `_place` the position of the next token in its queue, and `found` has
    the batches by task, window by window. `_idle`, shape (replicas, lanes), says when each replica is idle next, since
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
        self._place = np.zeros(lanes, dtype=np.int64)
        self._count = np.array([task.tokens for task in tasks])
        self._cap = np.array([task.batch for task in tasks])
        replicas = np.array([task.capacity.most for task in tasks])
        number = np.arange(replicas.max())[:, np.newaxis]
        self._shift = int(replicas.max()).bit_length()
        self._idle = np.where(number < replicas, 0, FAR << self._shift) | number
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
        left = self._count - self._place
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
        self._place += np.minimum(place - begin, left)
        self._keep(self._place < self._count)

    def rest(self, lane: int, task: StageTask) -> Part:
        """Find the batches of a lane from where it has come to until its task is done."""
        at_ns = self._queues[self.task[lane]]
        left = SortedArrivals(at_ns[self._place[lane] :], None)
        idle = self._idle[:, lane] >> self._shift
        busy_until_ns = at_ns[0] + idle[idle < FAR]
        undone = replace(task, arrival_ns=left.at_ns, busy_until_ns=busy_until_ns)
        batches = find_in_loop(undone, left, self._params)
        return batches.start_ns - at_ns[0], batches.size

    def _window(self, width: int) -> Int64:
        """The next tokens of all lanes since their first arrivals, lane after lane, `width` each."""
        window = np.full((self.task.size, width), FAR, dtype=np.int64)
        for row, task, place in zip(window, self.task.tolist(), self._place.tolist(), strict=True):
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
        service, idle, shift = self._service.reshape(-1), self._idle.reshape(-1), self._shift
        next_idle, replica, seen, ahead, last = (np.empty(lanes, dtype=np.int64) for _ in range(5))
        here = np.empty(lanes, dtype=np.bool_)
        jumps = [reach >> halvings for halvings in range(1, reach.bit_length())]
        for now, taken in zip(start, size, strict=True):
            np.minimum.reduce(self._idle, axis=0, out=next_idle)
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

    def _keep(self, kept: Bool) -> None:
        """Let go of the other lanes."""
        if kept.all():
            return
        self.task, self._place = self.task[kept], self._place[kept]
        self._count, self._cap = self._count[kept], self._cap[kept]
        self._idle = np.ascontiguousarray(self._idle[:, kept])
        self._service = np.ascontiguousarray(self._service[kept])


@dataclass(frozen=True)
class Run:
    """Some consecutive batches, all certain given the tokens that were seen.

    `first` is the position in the queue of the first token. Batches that start up to `new_ns` are not to be handed
    out: they tell what was under way.
    """

    start_ns: Int64
    size: Int64
    end_ns: Int64
    first: int
    new_ns: int = ALWAYS

    @property
    def next(self) -> int:
        """Position in the queue of the token after the last one."""
        return self.first + int(self.size.sum())

    @property
    def last_ns(self) -> int:
        """The start of the last batch."""
        return int(self.start_ns[-1]) if self.start_ns.size else ALWAYS

    def within(self, after_ns: int = ALWAYS, upto_ns: int = NEVER) -> Run:
        """Only what starts after the one instant, and not after the other."""
        low, high = np.searchsorted(self.start_ns, (after_ns, upto_ns), side="right").tolist()
        return replace(
            self,
            start_ns=self.start_ns[low:high],
            size=self.size[low:high],
            end_ns=self.end_ns[low:high],
            first=self.first + int(self.size[:low].sum()),
        )


class Pieces:
    """A task that fits a lane, to be cut."""

    def __init__(self, task: StageTask, arrivals: SortedArrivals, params: NumpyParams) -> None:
        self._task, self._arrivals, self._params = task, arrivals, params
        self._longest_ns = int(task.service_ns.max())

    def find_batches(self) -> Batches | None:
        """Find its batches; None if the stage forgets too slowly for this to pay."""
        tokens, params = self._task.tokens, self._params
        length = -(-tokens // min(max(tokens // params.shortest_piece, 1), params.most_pieces))
        overlap = max(int(length * params.overlap), params.shortest_overlap)
        if not self._forgets(overlap):
            return None
        spans = [(low, min(low + length + overlap, tokens)) for low in range(0, tokens, length)]
        queues = [SortedArrivals(self._arrivals.at_ns[low:high], None) for low, high in spans]
        tasks = [replace(self._task, arrival_ns=queue.at_ns) for queue in queues]
        found = find_in_lanes(tasks, queues, params)
        runs = [
            _certain(batches, low, self._decided_until_ns(high))
            for batches, (low, high) in zip(found, spans, strict=True)
        ]
        whole = _joined(self._stitched(runs, [high for _, high in spans]))
        return Batches(whole.start_ns, whole.size, whole.end_ns - whole.start_ns)

    def meeting(self, earlier: Run, later: Run) -> int | None:
        """Return an instant from which on the two are one, if they are at the end of what both know.

        They are if they have dispatched the same tokens, and the same batches at the same instants for as long as a
        batch may take: then the same replicas' worth of work is under way.
        """
        instant_ns = min(earlier.last_ns, later.last_ns)
        if instant_ns == ALWAYS or instant_ns < earlier.new_ns:
            return None
        earlier, later = earlier.within(upto_ns=instant_ns), later.within(upto_ns=instant_ns)
        if earlier.next != later.next:
            return None
        ours, theirs = (run.within(instant_ns - self._longest_ns) for run in (earlier, later))
        same_starts = np.array_equal(ours.start_ns, theirs.start_ns)
        return instant_ns if same_starts and np.array_equal(ours.size, theirs.size) else None

    def _forgets(self, overlap: int) -> bool:
        """Whether runs from an empty stage, one started before the other, meet soon, at most places tried."""
        tokens = self._task.tokens
        met = 0
        for place in np.linspace(overlap, tokens - overlap, self._params.trials, dtype=np.int64).tolist():
            high = min(place + overlap, tokens)
            earlier, later = (self._by_itself(low, high, no_times()) for low in (place - overlap, place))
            met += self.meeting(earlier, later) is not None
        return met >= self._params.enough_meet

    def _by_itself(self, low: int, high: int, busy_until_ns: Int64) -> Run:
        """Serve the tokens at these positions as far as later ones make no difference."""
        until_ns = self._decided_until_ns(high)
        queue = SortedArrivals(self._arrivals.at_ns[low:high], None)
        alone = replace(self._task, arrival_ns=queue.at_ns, busy_until_ns=busy_until_ns, until_ns=until_ns)
        return _certain(find_in_loop(alone, queue, self._params), low, until_ns)

    def _decided_until_ns(self, high: int) -> int:
        """The last instant before tokens from this position on arrive."""
        at_ns = self._arrivals.at_ns
        return int(at_ns[high]) - 1 if high < at_ns.size else NEVER

    def _stitched(self, runs: list[Run], highs: list[int]) -> list[Run]:
        """The true run, in parts; the first of `runs` is true, and the others are from where they meet a true one."""
        parts: list[Run] = []
        true = runs[0]
        for following, high in zip(runs[1:], highs[1:], strict=True):
            met_ns = self.meeting(true, following)
            if met_ns is None:
                parts.append(true.within(true.new_ns))
                true = self._continued(true, high)
            else:
                parts.append(true.within(true.new_ns, met_ns))
                true = replace(following, new_ns=met_ns)
        return [*parts, true.within(true.new_ns)]

    def _continued(self, true: Run, high: int) -> Run:
        """What follows a true run, as far as tokens up to a position decide it."""
        last_ns = true.last_ns
        recent = true.within(last_ns - self._longest_ns) if true.start_ns.size else true
        if true.next >= high:
            return replace(recent, new_ns=last_ns)
        more = self._by_itself(true.next, high, recent.end_ns[recent.end_ns > last_ns])
        return _joined([recent, more], last_ns)


def _certain(batches: Batches, low: int, until_ns: int) -> Run:
    """Batches from position `low` on that start while no token that was not seen can have come."""
    end_ns = batches.start_ns + batches.service_ns
    return Run(batches.start_ns, batches.size, end_ns, low).within(upto_ns=until_ns)


def _joined(parts: list[Run], new_ns: int = ALWAYS) -> Run:
    start_ns = np.concatenate([part.start_ns for part in parts])
    size = np.concatenate([part.size for part in parts])
    return Run(start_ns, size, np.concatenate([part.end_ns for part in parts]), parts[0].first, new_ns)
