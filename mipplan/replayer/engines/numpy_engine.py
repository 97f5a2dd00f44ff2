"""The NumPy engine: no compiler, and no work in Python for single tokens where that can be avoided.

Tasks with a cap of one token are served in closed form, many tasks together in lockstep lanes, a very long one in
pieces in such lanes, others in a loop over batches. Only paced tasks, and random service times that depend on the
oldest of tokens which have overtaken each other, need the plain engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import StrEnum
from heapq import heappop, heappush

import numpy as np

from mipplan.core import Bool, Int64
from mipplan.replayer.engines import batches, lanes, plain
from mipplan.replayer.engines.batches import DEFAULTS, EXACT, Batches, NumpyParams, SortedArrivals
from mipplan.replayer.stage_task import NEVER, Capacity, Engine, Served, StageTask


class Way(StrEnum):
    """How a task is served."""

    CLOSED_FORM = "closed form"
    LANES = "lanes"
    PIECES = "pieces"
    """In pieces side by side, if it turns out that these soon meet; else in the batch loop."""
    BATCH_LOOP = "batch loop"
    PLAIN = "plain"


class NumpyEngine(Engine):
    """Chooses for every task the fastest way that is exact; `params` has the thresholds."""

    name = "numpy"
    together = 32

    def __init__(self, params: NumpyParams = DEFAULTS) -> None:
        self.params = params

    def serve_many(self, tasks: Sequence[StageTask]) -> list[Served]:
        """Serve one stage under several plans."""
        tasks = [_trimmed(task) for task in tasks]
        answers: dict[int, Served] = {}
        for group in self.group_lanes(tasks):
            answers.update(self._serve_in_lanes(tasks, group))
        return [
            answers[number] if number in answers else self._serve(task) for number, task in enumerate(tasks)
        ]

    def choose_way(self, task: StageTask, arrivals: SortedArrivals, *, together: bool = False) -> Way:
        """Return the fastest way to serve a task, alone or together with others like it."""
        if task.tokens == 0 or task.pace_ns is not None:
            return Way.PLAIN
        span_ns = batches.span_ns(task, arrivals)
        if span_ns >= EXACT:
            return Way.PLAIN
        if task.level is not None and arrivals.token is not None and not task.fifo:
            return Way.PLAIN
        if batches.has_closed_form(task, arrivals):
            return Way.CLOSED_FORM
        if not self._suits_lanes(task) or span_ns >= lanes.FAR // 2:
            return Way.BATCH_LOOP
        if together:
            return Way.LANES
        return Way.PIECES if task.tokens >= self.params.fewest_to_cut else Way.BATCH_LOOP

    def group_lanes(self, tasks: Sequence[StageTask]) -> Iterator[list[int]]:
        """Numbers of the tasks to be served together, alike ones in a group; the others are in none.

        A group has at least `fewest_lanes` and at most `most_lanes` tasks, and stays within `lanes_memory`.
        """
        params = self.params
        suited = [number for number, task in enumerate(tasks) if task.batch > 1 and self._suits_lanes(task)]
        suited.sort(key=lambda number: (tasks[number].batch, tasks[number].capacity.most, number))
        group: list[int] = []
        free = params.lanes_memory
        for number in suited:
            needed = params.lane_bytes_per_token * tasks[number].tokens
            if len(group) == params.most_lanes or needed > free:
                if len(group) >= params.fewest_lanes:
                    yield group
                group, free = [], params.lanes_memory
            group.append(number)
            free -= needed
        if len(group) >= params.fewest_lanes:
            yield group

    def _suits_lanes(self, task: StageTask) -> bool:
        """Whether the task can be in a lane as long as its instants are not too far apart."""
        return (
            task.tokens > 0
            and task.is_plain
            and task.batch <= self.params.largest_lane_cap
            and task.capacity.most <= self.params.most_lane_replicas
        )

    def _serve(self, task: StageTask) -> Served:
        """Serve one task by itself."""
        arrivals = sort_arrivals(task.arrival_ns)
        way = self.choose_way(task, arrivals)
        if way is Way.PLAIN:
            return plain.serve(task)
        if way is Way.CLOSED_FORM:
            found = batches.find_in_closed_form(task, arrivals, self.params)
        else:
            in_pieces = (
                lanes.Pieces(task, arrivals, self.params).find_batches() if way is Way.PIECES else None
            )
            found = batches.find_in_loop(task, arrivals, self.params) if in_pieces is None else in_pieces
        return board(arrivals, found, fifo=task.fifo, params=self.params)

    def _serve_in_lanes(self, tasks: Sequence[StageTask], group: list[int]) -> dict[int, Served]:
        """Serve the tasks of a group, but for those that turn out not to fit a lane."""
        queues = {number: sort_arrivals(tasks[number].arrival_ns) for number in group}
        fit = [
            number
            for number in group
            if self.choose_way(tasks[number], queues[number], together=True) is Way.LANES
        ]
        found = lanes.find_in_lanes(
            [tasks[number] for number in fit], [queues[number] for number in fit], self.params
        )
        return {
            number: board(queues[number], made, fifo=tasks[number].fifo, params=self.params)
            for number, made in zip(fit, found, strict=True)
        }


def _trimmed(task: StageTask) -> StageTask:
    """Leave out replicas that can have nothing to do: each is kept in memory."""
    useful = task.tokens + task.busy_until_ns.size
    if not task.tokens or task.capacity.most <= useful or task.pace_ns is not None:
        return task
    capacity = Capacity(task.capacity.from_ns, np.minimum(task.capacity.replicas, useful))
    return replace(task, capacity=capacity)


def sort_arrivals(arrival_ns: Int64) -> SortedArrivals:
    """Sort tokens by arrival; costs next to nothing where they are in order, little where they nearly are."""
    if (arrival_ns[1:] >= arrival_ns[:-1]).all():
        return SortedArrivals(arrival_ns, None)
    token = np.argsort(arrival_ns, kind="stable")
    return SortedArrivals(arrival_ns[token], token)


def board(
    arrivals: SortedArrivals, batches: Batches, *, fifo: bool, params: NumpyParams = DEFAULTS
) -> Served:
    """Put every token into its batch; tokens beyond the last batch are left waiting.

    The arrays of the answer may share memory with `arrivals` and `batches`.
    """
    by_arrival = fifo or arrivals.token is None
    rider = arrivals.token if by_arrival else _oldest_first(arrivals, batches, params.few_waiting)
    if rider is not None:
        rider = rider[: int(batches.size.sum())]
    return Served(arrivals.at_ns.size, rider, batches.start_ns, batches.size, batches.service_ns)


def _oldest_first(arrivals: SortedArrivals, batches: Batches, few_waiting: int) -> Int64:
    """Token in each slot (batch after batch) if every batch takes the lowest token numbers that wait."""
    token = arrivals.token
    assert token is not None
    tokens = token.size
    starts, sizes = batches.start_ns, batches.size
    left = tokens - int(sizes.sum())
    if left:  # One more batch, at the end of time, for those left waiting.
        starts, sizes = np.append(starts, NEVER), np.append(sizes, left)
    emptied = arrivals.at_ns[np.cumsum(sizes)[:-1]] > starts[:-1]
    entangled = _entangled(token, sizes, emptied)
    if not entangled.any():
        return token
    slots = np.repeat(entangled, sizes)
    position = np.concatenate([[0], np.cumsum(slots)])
    arrived = np.searchsorted(arrivals.at_ns, starts[entangled], side="right")
    rider = token.copy()
    rider[slots] = _lowest_first(
        token[slots].tolist(), position[arrived].tolist(), sizes[entangled].tolist(), few_waiting
    )
    return rider


def _lowest_first(token: list[int], arrived: list[int], size: list[int], few_waiting: int) -> list[int]:
    """Serve tokens, given by arrival, in batches of the lowest that have come.

    `arrived` tells how many have when each batch starts, and `size` how many it takes.
    """
    served: list[int] = []
    waiting: list[int] = []  # Always a heap: so is a sorted list.
    enqueued = 0
    for upto, taken in zip(arrived, size, strict=True):
        if len(waiting) <= few_waiting:
            waiting += token[enqueued:upto]
            waiting.sort()
            served += waiting[:taken]
            del waiting[:taken]
        else:
            for number in token[enqueued:upto]:
                heappush(waiting, number)
            served += [heappop(waiting) for _ in range(taken)]
        enqueued = upto
    return served


def _entangled(token: Int64, size: Int64, emptied: Bool) -> Bool:
    """Batches in whose neighbourhood the order of arrival and the token order disagree.

    Between two batches everything can be cut apart where the earlier one emptied the queue, or where all tokens
    that arrived up to then are older than all that come later: they then fill the slots so far under either
    discipline. What lies between two cuts and is one batch only has the same riders under either.
    """
    # Numbers that rise from busy period to busy period make every emptied queue a cut of the second kind.
    period = np.concatenate([[0], np.cumsum(emptied)])
    number = token + np.repeat(period * token.size, size)
    first = np.cumsum(size) - size
    highest_so_far = np.maximum.accumulate(number)[first[1:] - 1]
    lowest_to_come = np.minimum.accumulate(number[::-1])[::-1][first[1:]]
    joined = highest_so_far > lowest_to_come
    entangled = np.zeros(size.size, dtype=np.bool_)
    entangled[1:] |= joined
    entangled[:-1] |= joined
    return entangled
