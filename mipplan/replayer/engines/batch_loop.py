"""One stage under one plan, batch by batch: the work in Python is per batch, all that is per token is NumPy's."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heapreplace

import numpy as np

from mipplan.core import Int64
from mipplan.replayer.engines.arrivals import SortedArrivals, latest_end_ns
from mipplan.replayer.engines.batches import Batches
from mipplan.replayer.task import StageTask

#: Tokens turned into Python numbers at once.
_WINDOW = 1 << 14
#: Times since the first arrival are whole float64 below this: exact, and faster than Python integers.
_EXACT = 1 << 53
#: Levels of random service are uint16: a token number and its level share an integer.
_LEVEL_BITS = 16
_LEVEL_MASK = (1 << _LEVEL_BITS) - 1


def is_exact(task: StageTask, arrivals: SortedArrivals) -> bool:
    """Whether all instants of the task are whole numbers of nanoseconds in float64, too."""
    return latest_end_ns(task, arrivals) - int(arrivals.at_ns[0]) < _EXACT


def find_batches(task: StageTask, arrivals: SortedArrivals) -> Batches:
    """Find the batches of a task that `is_exact`; with random service, of a queue by arrival."""
    origin_ns = int(arrivals.at_ns[0])
    found = _Found()
    # By level and batch size; sizes count from 1.
    service = [[math.nan, *map(float, row)] for row in task.service_ns.tolist()]
    ends = [float(max(end - origin_ns, 0)) for end in task.busy_until_ns.tolist()]
    window = _Window(task, arrivals, 0)
    for begin, until, replicas in _periods(task, origin_ns):
        if replicas == 0:
            continue
        # A replica that is taken away is busy until its batch ends, and counts then if others are added.
        under_way = sorted(end for end in ends if end > begin)
        kept = under_way[-replicas:]
        idle = [begin] * (replicas - len(kept)) + kept
        while _advance(window, service, idle, until, found):
            if window.next_token == task.tokens:
                return found.batches(task, arrivals)
            found.pack()
            window = _Window(task, arrivals, window.next_token)
        ends = under_way[:-replicas] + idle
    return found.batches(task, arrivals)


def _periods(task: StageTask, origin_ns: int) -> Iterator[tuple[float, float, int]]:
    """Begin, last instant of dispatch (both since the first arrival) and replicas, while these are constant."""
    begins = task.capacity.from_ns.tolist()
    for begin, following, replicas in zip(
        begins, [*begins[1:], None], task.capacity.replicas.tolist(), strict=True
    ):
        until = task.until_ns if following is None else min(following - 1, task.until_ns)
        yield float(max(begin - origin_ns, 0)), float(min(until - origin_ns, _EXACT)), replicas


class _Window:
    """A stretch of the queue in Python numbers, with as many tokens beyond it as a batch may hold."""

    def __init__(self, task: StageTask, arrivals: SortedArrivals, low: int) -> None:
        cap = task.batch
        high = min(low + _WINDOW, task.tokens)
        seen = slice(low, high + cap)
        since = arrivals.at_ns[seen] - arrivals.at_ns[0]
        self.low, self.stop, self.place = low, high - low, 0
        self.arrival: list[float] = since.astype(np.float64).tolist()
        self.arrival += [math.inf] * (self.stop + cap - len(self.arrival))
        self.code: list[int] | None = None
        if task.level is not None:
            token = (
                np.arange(low, min(high + cap, task.tokens))
                if arrivals.token is None
                else arrivals.token[seen]
            )
            self.code = ((token << _LEVEL_BITS) | task.level[token]).tolist()

    @property
    def next_token(self) -> int:
        """Position in the queue of the next token to be dispatched."""
        return self.low + self.place


@dataclass
class _Found:
    """Batches found so far: those of the present window as Python numbers, the others packed.

    Levels and sizes are noted where service is random only: else sizes follow from the starts.
    """

    start: list[float] = field(default_factory=list)
    size: list[int] = field(default_factory=list)
    level: list[int] = field(default_factory=list)
    packed: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)

    def pack(self) -> None:
        """Put away what there is."""
        self.packed.append(
            (
                np.array(self.start, dtype=np.float64).astype(np.int64),
                np.array(self.size, dtype=np.int64),
                np.array(self.level, dtype=np.int64),
            )
        )
        for numbers in (self.start, self.size, self.level):
            numbers.clear()

    def batches(self, task: StageTask, arrivals: SortedArrivals) -> Batches:
        """All of them, for good."""
        self.pack()
        start, size, level = (np.concatenate(arrays) for arrays in zip(*self.packed, strict=True))
        self.packed.clear()
        start += arrivals.at_ns[0]
        if task.level is not None:
            return Batches(start, size, task.service_ns[level, size - 1])
        size = _sizes(start, arrivals.at_ns, task.batch)
        return Batches(start, size, task.service_ns[0].take(size - 1))


def _sizes(start_ns: Int64, at_ns: Int64, cap: int) -> Int64:
    """How many tokens each batch takes, given when it starts.

    Of a_i tokens that have come by then, p_i have left: it takes min(a_i − p_i, cap), so p_{i+1} = min(a_i, p_i + cap).
    In p_i − i·cap that is a cumulative minimum.
    """
    full = np.arange(cap, cap * start_ns.size + 1, cap)
    left = np.searchsorted(at_ns, start_ns, side="right")
    left -= full
    np.minimum.accumulate(left, out=left)
    np.minimum(left, 0, out=left)
    left += full
    return np.diff(left, prepend=0)


def _advance(
    window: _Window, service: list[list[float]], idle: list[float], until: float, found: _Found
) -> bool:
    """Dispatch the tokens of a window; False if the last instant of dispatch comes before its end.

    Parameters
    ----------
    window : _Window
        Its `place` moves on.
    service : list of list of float
        By level and batch size.
    idle : list of float
        When each replica is idle next; a heap, kept up to date.
    """
    if window.code is not None:
        return _advance_by_level(window, window.code, service, idle, until, found)
    busy_for = service[0]
    arrival, place, stop = window.arrival, window.place, window.stop
    cap = len(busy_for) - 1
    add_start = found.start.append
    while place < stop:
        now = idle[0]
        first = arrival[place]
        if first > now:
            # The stage was empty: usually, one token came alone.
            now = first
            following = place + 1
            if arrival[following] <= now:
                following = bisect_right(arrival, now, following, place + cap)
        else:
            following = bisect_right(arrival, now, place + 1, place + cap)
        if now > until:
            break
        heapreplace(idle, now + busy_for[following - place])
        add_start(now)
        place = following
    window.place = place
    return place >= stop


def _advance_by_level(
    window: _Window,
    code: list[int],
    service: list[list[float]],
    idle: list[float],
    until: float,
    found: _Found,
) -> bool:
    """Do the same where service times depend on the oldest token of the batch."""
    arrival, place, stop = window.arrival, window.place, window.stop
    cap = len(service[0]) - 1
    while place < stop:
        now = max(idle[0], arrival[place])
        if now > until:
            break
        size = bisect_right(arrival, now, place + 1, place + cap) - place
        level = min(code[place : place + size]) & _LEVEL_MASK
        heapreplace(idle, now + service[level][size])
        found.start.append(now)
        found.size.append(size)
        found.level.append(level)
        place += size
    window.place = place
    return place >= stop
