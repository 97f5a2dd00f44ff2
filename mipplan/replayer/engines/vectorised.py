"""The NumPy engine: no compiler, and no work in Python for single tokens where that can be avoided.

Tasks with a cap of one token are served in closed form, many tasks together in lockstep lanes, a very long one in
pieces in such lanes, others in a loop over batches. Only random service times that hang on the oldest of tokens
which have overtaken each other need the plain engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from enum import StrEnum

import numpy as np

from mipplan.replayer.engines import batch_loop, closed_form, lanes, pieces, plain
from mipplan.replayer.engines.arrivals import SortedArrivals, sort_arrivals
from mipplan.replayer.engines.batches import Batches, board
from mipplan.replayer.task import Capacity, Served, StageTask

#: More lanes at once gain nothing: their state no longer fits the cache.
MOST_LANES = 1024
#: Memory for what lanes need at once besides the answers, in bytes.
LANES_MEMORY = 1 << 29
#: Sorted arrivals and their order, and at worst a batch per token, found and then joined.
_LANE_BYTES_PER_TOKEN = 64


class Way(StrEnum):
    """How a task is served."""

    CLOSED_FORM = "closed form"
    LANES = "lanes"
    PIECES = "pieces"
    """In pieces side by side, if it turns out that these soon meet; else in the batch loop."""
    BATCH_LOOP = "batch loop"
    PLAIN = "plain"


def serve_many(tasks: Sequence[StageTask]) -> list[Served]:
    """Serve one stage under several plans."""
    tasks = [_trimmed(task) for task in tasks]
    answers: dict[int, Served] = {}
    for group in group_lanes(tasks):
        answers.update(_serve_together(tasks, group))
    return [answers[number] if number in answers else serve(task) for number, task in enumerate(tasks)]


def _trimmed(task: StageTask) -> StageTask:
    """Leave out replicas that can have nothing to do: each is kept in memory."""
    useful = task.tokens + task.busy_until_ns.size
    if not task.tokens or task.capacity.most <= useful:
        return task
    capacity = Capacity(task.capacity.from_ns, np.minimum(task.capacity.replicas, useful))
    return replace(task, capacity=capacity)


def serve(task: StageTask) -> Served:
    """Serve one task by itself."""
    task = _trimmed(task)
    arrivals = sort_arrivals(task.arrival_ns)
    way = choose_way(task, arrivals)
    if way is Way.PLAIN:
        return plain.serve(task)
    return board(arrivals, _find_batches(task, arrivals, way), fifo=task.fifo)


def _find_batches(task: StageTask, arrivals: SortedArrivals, way: Way) -> Batches:
    if way is Way.CLOSED_FORM:
        return closed_form.find_batches(task, arrivals)
    in_pieces = pieces.find_batches(task, arrivals) if way is Way.PIECES else None
    return batch_loop.find_batches(task, arrivals) if in_pieces is None else in_pieces


def choose_way(task: StageTask, arrivals: SortedArrivals, *, together: bool = False) -> Way:
    """Return the fastest way to serve a task, by itself or in the same breath as others like it."""
    if task.tokens == 0 or not batch_loop.is_exact(task, arrivals):
        return Way.PLAIN
    if task.level is not None and arrivals.token is not None and not task.fifo:
        return Way.PLAIN
    if closed_form.has_closed_form(task, arrivals):
        return Way.CLOSED_FORM
    if not lanes.fits_lane(task, arrivals):
        return Way.BATCH_LOOP
    if together:
        return Way.LANES
    return Way.PIECES if task.tokens >= pieces.FEWEST_TOKENS else Way.BATCH_LOOP


def group_lanes(tasks: Sequence[StageTask]) -> Iterator[list[int]]:
    """Numbers of the tasks to be served together, alike ones in a group; the others are in none.

    A group has at least `lanes.FEWEST` and at most `MOST_LANES` tasks, and stays within `LANES_MEMORY`.
    """
    suited = [number for number, task in enumerate(tasks) if task.batch > 1 and lanes.suits_lanes(task)]
    suited.sort(key=lambda number: (tasks[number].batch, tasks[number].capacity.most, number))
    group: list[int] = []
    free = LANES_MEMORY
    for number in suited:
        needed = _LANE_BYTES_PER_TOKEN * tasks[number].tokens
        if len(group) == MOST_LANES or needed > free:
            yield from _if_worthwhile(group)
            group, free = [], LANES_MEMORY
        group.append(number)
        free -= needed
    yield from _if_worthwhile(group)


def _if_worthwhile(group: list[int]) -> list[list[int]]:
    return [group] if len(group) >= lanes.FEWEST else []


def _serve_together(tasks: Sequence[StageTask], group: list[int]) -> dict[int, Served]:
    """Serve the tasks of a group, but for those that turn out not to fit a lane."""
    queues = {number: sort_arrivals(tasks[number].arrival_ns) for number in group}
    together = [
        number for number in group if choose_way(tasks[number], queues[number], together=True) is Way.LANES
    ]
    found: list[Batches] = lanes.find_batches(
        [tasks[number] for number in together], [queues[number] for number in together]
    )
    return {
        number: board(queues[number], batches, fifo=tasks[number].fifo)
        for number, batches in zip(together, found, strict=True)
    }
