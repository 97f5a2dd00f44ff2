"""The compiled engine: a loop over batches in machine code (numba), which is loaded when the engine first serves.

Single tokens in order of arrival need no loop where replicas and service times are constant: there is a closed form,
and NumPy finds it faster than any loop.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Int32, Int64, numba_fault
from mipplan.replayer.engines import batches
from mipplan.replayer.engines.batches import SortedArrivals
from mipplan.replayer.stage_task import NEVER, Engine, Served, StageTask, dues_by_end, latest_ends
from mipplan.result import BatchAssignment, Following

_Number = TypeVar("_Number", bound=np.generic)


@dataclass(frozen=True)
class NumbaParams:
    """Thresholds of the compiled engine; no answer depends on them."""

    few_runs: float = 0.6
    """Sorting runs of equal arrivals instead of tokens pays if there are fewer runs than this per token (measured)."""
    ends_room: int = 256
    """Least room for ends of batches beside those that matter: what is full is moved to its start."""


class NumbaEngine(Engine):
    """Does everything."""

    name = "numba"
    follows = True

    def __init__(self, params: NumbaParams = NumbaParams()) -> None:
        self._params = params

    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        fault = numba_fault()
        return None if fault is None else f"the engine numba cannot be used: {fault}"

    def is_cold(self) -> bool:
        """Whether numba and the kernels are still to be loaded: most of a second, and ten if they are not cached."""
        return "mipplan.replayer.engines.numba_kernels" not in sys.modules

    def serve_many(self, tasks: Sequence[StageTask]) -> list[Served]:
        """Serve one stage under several plans."""
        room = _room(max((task.tokens for task in tasks), default=0))
        return [
            _serve_queue(task, *sort_by_arrival(_readable(task.arrival_ns), self._params), room, self._params)
            for task in tasks
        ]

    def follow_many(self, tasks: Sequence[StageTask], following: Following) -> list[Served]:
        """Serve tokens that follow those of a stage above, under several plans; the tasks hold no arrivals."""
        room = _room(following.above.tokens)
        key, order = _behind(following, room, self._params)
        return [_serve_queue(task, key, order, room, self._params) for task in tasks]


def _room(tokens: int) -> Int64:
    """Memory for what is kept for one stage only, or found to be shorter than it could be; used again for every task.

    Shape (5, tokens): sorted arrivals; start, size and service time of batches; batches by their ends. What is never
    written to takes no memory.
    """
    return np.empty((5, tokens), dtype=np.int64)


def _serve_queue(
    task: StageTask, key: Int64, order: Int32 | None, room: Int64, params: NumbaParams
) -> Served:
    """Serve tokens, given their sorted arrivals and the token at each place (None if every one is at its own)."""
    # Sorted in token order, both disciplines are one and the same queue.
    by_arrival = task.fifo or order is None
    in_turn = SortedArrivals(key, None)
    if by_arrival and batches.has_closed_form(task, in_turn):
        found = batches.find_in_closed_form(task, in_turn, batches.DEFAULTS)
        seats = None if order is None else order[: found.start_ns.size]
        return Served(key.size, seats, found.start_ns, found.size, found.service_ns)

    from mipplan.replayer.engines import numba_kernels as kernels

    tokens = key.size
    replicas = np.minimum(task.capacity.replicas, tokens + task.busy_until_ns.size)
    most = int(replicas.max())
    is_paced = task.pace_ns is not None
    is_sorted = most <= kernels.MOST_SORTED or not task.capacity.is_constant or is_paced
    rider = None if by_arrival else np.empty(tokens, dtype=np.int32)
    made = room[1:4]
    by_end = room[4].view(np.int32) if is_sorted else None
    spare = np.empty(max(most, params.ends_room), dtype=np.int64)
    count, served = kernels.serve_queue(
        key,
        order,
        _readable(task.service_ns),
        None if task.level is None else _readable(task.level),
        np.append(task.capacity.from_ns, NEVER),
        replicas,
        np.append(latest_ends(task.busy_until_ns, most), spare),
        by_end,
        _pacing(task, most, spare),
        task.until_ns,
        rider,
        *made,
    )
    start_ns, size, service_ns = (array[:count].copy() for array in made)
    ends = None if by_end is None else by_end[:count].copy()
    rider = order if by_arrival else rider
    seats = None if rider is None else rider[:served]
    return _NumbaAssignment(tokens, seats, start_ns, size, service_ns, ends)


def _pacing(task: StageTask, most: int, spare: Int64) -> tuple[Int64, Int64, Int64] | None:
    """What rule P goes by: its table, all replicas there may be, and when batches should end, by their ends."""
    if task.pace_ns is None:
        return None
    due_ns = np.append(dues_by_end(task, most), spare)
    return _readable(task.pace_ns), _readable(task.capacity.replicas), due_ns


class _NumbaAssignment(BatchAssignment):
    """An assignment whose times per token are written out by machine code."""

    def _hand_out(self, instant_ns: Int64, by_token: Int64) -> None:
        from mipplan.replayer.engines import numba_sorting as sorting

        rider = None if self.rider is None else _readable(self.rider)
        sorting.hand_out(_readable(instant_ns), _readable(self.batch_size), rider, by_token)


def _behind(following: Following, room: Int64, params: NumbaParams) -> tuple[Int64, Int32 | None]:
    """What `sort_by_arrival` returns, for tokens that follow those of a stage above: its batches are sorted instead."""
    from mipplan.replayer.engines import numba_sorting as sorting

    above = following.above
    if above.rider is None and above.batch_size.size == above.tokens:
        # Each alone in its batch, in token order: mostly they come in that order, too, and nothing is left to sort.
        return sort_by_arrival(_readable(following.at_ns), params)
    key, order = room[0], np.empty(above.tokens, dtype=np.int32)
    end_ns = above.batch_start_ns + above.batch_service_ns + following.delay_ns
    by_end = _readable(
        np.argsort(end_ns, kind="stable").astype(np.int32) if above.by_end is None else above.by_end
    )
    in_order = sorting.line_up(
        _readable(end_ns),
        by_end,
        _readable(above.batch_size),
        None if above.rider is None else _readable(above.rider),
        key,
        order,
    )
    return _readable(key), None if in_order else _readable(order)


def sort_by_arrival(arrival_ns: Int64, params: NumbaParams) -> tuple[Int64, Int32 | None]:
    """Arrivals sorted, and the token at each place, or None if every token is at its own."""
    from mipplan.replayer.engines import numba_sorting as sorting

    is_sorted, runs = sorting.survey_arrivals(arrival_ns)
    if is_sorted:
        return arrival_ns, None
    if runs > params.few_runs * arrival_ns.size:
        token = np.argsort(arrival_ns, kind="stable")
        return _readable(arrival_ns[token]), _readable(token.astype(np.int32))
    run_key, run_start = np.empty(runs, dtype=np.int64), np.empty(runs, dtype=np.int32)
    sorting.list_runs(arrival_ns, run_key, run_start)
    run = np.argsort(run_key, kind="stable")
    key, order = np.empty(arrival_ns.size, dtype=np.int64), np.empty(arrival_ns.size, dtype=np.int32)
    sorting.list_tokens(arrival_ns, run_key[run], run_start[run], key, order)
    return _readable(key), _readable(order)


def _readable(array: NDArray[_Number]) -> NDArray[_Number]:
    """Make a contiguous array that is read-only, whether `array` was or not: to numba these are different types."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
