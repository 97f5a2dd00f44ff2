"""The batches of one stage under one plan: in closed form where there is one, else in a loop over batches.

When a batch starts and how many tokens it takes depends on how many tokens wait, never on which ones (as long
as its service time does not depend on its oldest token). So both queue disciplines have the same batches: these
are found from sorted arrivals alone, and the discipline only says which token is in which.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from heapq import heapreplace

import numpy as np

from mipplan.core import Int64
from mipplan.replayer.stage_task import StageTask, latest_end_ns, latest_ends

#: Times since the first arrival are whole float64 below this: exact, and faster than Python integers.
EXACT = 1 << 53
#: Levels of random service are uint16: a token number and its level share an integer.
_LEVEL_BITS = 16
_LEVEL_MASK = (1 << _LEVEL_BITS) - 1


@dataclass(frozen=True)
class NumpyParams:
    """Thresholds of the NumPy engine, measured with the replay benchmark; no answer depends on them."""

    fewest_lanes: int = 80
    """With fewer tasks than this, one after the other is faster: a step of all lanes costs some thirty NumPy calls."""
    most_lanes: int = 1024
    """Lanes served at once, at most, because the state of more no longer fits the cache."""
    most_lane_replicas: int = 256
    """More replicas than this are searched faster by a heap of their own than row by row."""
    largest_lane_cap: int = 256
    """Larger caps would need windows that no longer fit the cache."""
    lanes_memory: int = 1 << 29
    """Bytes for what lanes need at once besides the answers, at most, because a group is held as a whole."""
    lane_bytes_per_token: int = 64
    """Sorted arrivals and their order, and at worst a batch for every token, found and then joined."""
    lane_window: int = 1024
    """Tokens of each lane that are copied side by side at once."""
    lane_steps: int = 512
    """Batches of each lane that are found before they are put away."""
    fewest_lane_steps: int = 8
    """A window is given up for a new one when it is good for fewer steps than this."""
    fewest_to_cut: int = 3 << 18
    """Fewer tokens than this are served faster in one go than in pieces."""
    most_pieces: int = 512
    """Pieces of a task, at most, because more lanes gain little and each runs on over a part of the next."""
    shortest_piece: int = 1 << 12
    """Tokens of a piece, at least."""
    overlap: float = 1 / 8
    """Each piece runs on over this part of the next one."""
    shortest_overlap: int = 1 << 10
    """Tokens over which a piece runs on, at least."""
    trials: int = 8
    """Pairs of runs that are tried before a task is cut into pieces."""
    enough_meet: int = 7
    """Pairs of these that must meet, because a piece that does not meet the next is done again."""
    loop_window: int = 1 << 14
    """Tokens that are turned into Python numbers at once."""
    block: int = 1 << 15
    """Tokens that are worked on at once in closed form: what is read and written stays in the cache."""
    few_waiting: int = 128
    """With more tokens waiting than this, a heap beats sorting the few that have come into those that wait."""


DEFAULTS = NumpyParams()


@dataclass(frozen=True)
class SortedArrivals:
    """When tokens arrive at the stage, non-decreasing, and the number of the token at each position.

    Ties are in token order; `token` is None where all tokens arrive in token order.
    """

    at_ns: Int64
    token: Int64 | None


@dataclass(frozen=True)
class Batches:
    """Batches in order of dispatch."""

    start_ns: Int64
    size: Int64
    service_ns: Int64


def span_ns(task: StageTask, arrivals: SortedArrivals) -> int:
    """Return a time after the first arrival, of at least one, after which no batch of a task ends."""
    at_ns = arrivals.at_ns
    return latest_end_ns(task, int(at_ns[-1]), at_ns.size) - int(at_ns[0])


def has_closed_form(task: StageTask, arrivals: SortedArrivals) -> bool:
    """Whether replicas, each busy for the same time with one token, take turns from the first token on.

    The task need not hold the arrivals.
    """
    if task.batch > 1 or task.level is not None or not task.capacity.is_constant or task.pace_ns is not None:
        return False
    if not arrivals.at_ns.size or span_ns(task, arrivals) >= EXACT:
        return False
    idle_ns = _idle_ns(task, arrivals.at_ns.size)
    first_end_ns = max(int(arrivals.at_ns[0]), int(idle_ns[0])) + int(task.service_ns[0, 0])
    return int(idle_ns[-1]) <= first_end_ns


def _idle_ns(task: StageTask, tokens: int) -> Int64:
    """When each replica is idle first, but for those that can have nothing to do."""
    return latest_ends(task.busy_until_ns, min(task.capacity.most, tokens + task.busy_until_ns.size))


def find_in_closed_form(task: StageTask, arrivals: SortedArrivals, params: NumpyParams) -> Batches:
    """Find the batches of a task that `has_closed_form`.

    Tokens start in order of arrival and all take ℓ, so token i gets the replica that token i − n had:
    ``start[i] = max(arrival[i], start[i − n] + ℓ)``. In ``start[i] − ℓ·⌊i/n⌋`` that is a cumulative maximum over
    every n-th token.

    References
    ----------
    D. V. Lindley, "The theory of queues with a single server", 1952, doi:10.1017/S0305004100027638.
    """
    service_ns = int(task.service_ns[0, 0])
    count = arrivals.at_ns.size
    idle_ns = _idle_ns(task, count)[:count]
    replicas = idle_ns.size
    start_ns = np.empty(count, dtype=np.int64)
    whole = count - count % replicas
    rows = max(min(params.block, whole) // replicas, 1)
    # One number per token, not per row: NumPy is quick where it need not know of columns.
    served_before = np.repeat(np.arange(rows, dtype=np.int64) * service_ns, replicas)
    for low in range(0, whole, rows * replicas):
        high = min(low + rows * replicas, whole)
        since = start_ns[low:high]
        rounds = since.reshape(-1, replicas)
        np.subtract(arrivals.at_ns[low:high], served_before[: since.size], out=since)
        np.maximum(rounds[0], idle_ns, out=rounds[0])
        np.maximum.accumulate(rounds, axis=0, out=rounds)
        np.add(since, served_before[: since.size], out=since)
        idle_ns = rounds[-1] + service_ns
    np.maximum(arrivals.at_ns[whole:], idle_ns[: count - whole], out=start_ns[whole:])
    start_ns = start_ns[: np.searchsorted(start_ns, task.until_ns, side="right")]
    return Batches(
        start_ns,
        np.broadcast_to(np.int64(1), start_ns.shape),
        np.broadcast_to(np.int64(service_ns), start_ns.shape),
    )


def find_in_loop(task: StageTask, arrivals: SortedArrivals, params: NumpyParams) -> Batches:
    """Find the batches of a task whose instants are exact in float64; with random service, of a queue by arrival."""
    origin_ns = int(arrivals.at_ns[0])
    found = _Found()
    # By level and batch size; sizes count from 1.
    service = [[math.nan, *map(float, row)] for row in task.service_ns.tolist()]
    ends = [float(max(end - origin_ns, 0)) for end in task.busy_until_ns.tolist()]
    low = 0
    window = _Window(task, arrivals, low, params.loop_window)
    for begin, until, replicas in _periods(task, origin_ns):
        if replicas == 0:
            continue
        # A replica that is taken away is busy until its batch ends, and counts then if others are added.
        under_way = sorted(end for end in ends if end > begin)
        kept = under_way[-replicas:]
        idle = [begin] * (replicas - len(kept)) + kept
        while window.advance(service, idle, until, found):
            low += window.place
            if low == task.tokens:
                return found.batches(task, arrivals)
            found.pack()
            window = _Window(task, arrivals, low, params.loop_window)
        ends = under_way[:-replicas] + idle
    return found.batches(task, arrivals)


def _periods(task: StageTask, origin_ns: int) -> Iterator[tuple[float, float, int]]:
    """Begin, last instant of dispatch (both since the first arrival) and replicas, while these are constant."""
    begins = task.capacity.from_ns.tolist()
    for begin, following, replicas in zip(
        begins, [*begins[1:], None], task.capacity.replicas.tolist(), strict=True
    ):
        until = task.until_ns if following is None else min(following - 1, task.until_ns)
        yield float(max(begin - origin_ns, 0)), float(min(until - origin_ns, EXACT)), replicas


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


class _Window:
    """A stretch of the queue in Python numbers, with as many tokens beyond it as a batch may hold."""

    def __init__(self, task: StageTask, arrivals: SortedArrivals, low: int, size: int) -> None:
        cap = task.batch
        high = min(low + size, task.tokens)
        seen = slice(low, high + cap)
        since = arrivals.at_ns[seen] - arrivals.at_ns[0]
        self._stop = high - low
        self._arrival: list[float] = since.astype(np.float64).tolist()
        self._arrival += [math.inf] * (self._stop + cap - len(self._arrival))
        #: Token number and level of each, where service is random.
        self._code: list[int] | None = None
        if task.level is not None:
            token = np.arange(low, low + since.size) if arrivals.token is None else arrivals.token[seen]
            self._code = ((token << _LEVEL_BITS) | task.level[token]).tolist()
        #: Of the next token to be dispatched, in the window.
        self.place = 0

    def advance(self, service: list[list[float]], idle: list[float], until: float, found: _Found) -> bool:
        """Dispatch the tokens; False if the last instant of dispatch comes before the window's end.

        `service` is by level and batch size, and `idle`, when each replica is idle next, a heap that is kept up to
        date.
        """
        arrival, code, place, stop = self._arrival, self._code, self.place, self._stop
        busy_for = service[0]
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
            if code is not None:
                level = min(code[place:following]) & _LEVEL_MASK
                busy_for = service[level]
                found.level.append(level)
                found.size.append(following - place)
            heapreplace(idle, now + busy_for[following - place])
            add_start(now)
            place = following
        self.place = place
        return place >= stop
