"""The compiled engine: a loop over batches in machine code (numba). Does everything; numba is loaded when it serves."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mipplan.replayer.task import ALWAYS, NEVER, Served, StageTask, Times

#: Sorting runs of equal arrivals instead of tokens pays if there are fewer runs than this per token (measured).
_FEW_RUNS = 0.6

_Number = TypeVar("_Number", bound=np.generic)


def missing() -> str | None:
    """Why this engine cannot run here, or None."""
    if find_spec("numba") is None:
        return "the engine numba needs the package numba: pip install 'mipplan[fast]'"
    return None


def is_cold() -> bool:
    """Whether numba and the kernels are still to be loaded: most of a second, and ten where they are not cached."""
    return "mipplan.replayer.engines.compiled_kernels" not in sys.modules


def serve_many(tasks: Sequence[StageTask]) -> list[Served]:
    """Serve one stage under several plans."""
    return [serve(task) for task in tasks]


def serve(task: StageTask) -> Served:
    """Serve the tokens of one stage."""
    from mipplan.replayer.engines import compiled_kernels as kernels

    key, order = _by_arrival(_readable(task.arrival_ns))
    times = (np.empty(task.tokens, dtype=np.int64), np.empty(task.tokens, dtype=np.int64))
    if task.until_ns != NEVER:
        for array in times:
            array.fill(NEVER)
    # As long as there could be batches; pages that are never written to take no memory.
    batches = tuple(np.empty(task.tokens, dtype=np.int64) for _ in range(3))
    replicas = np.minimum(task.capacity.replicas, task.tokens + task.busy_until_ns.size)
    inputs = (
        key,
        order,
        _readable(task.service_ns),
        None if task.level is None else _readable(task.level),
        np.append(task.capacity.from_ns, NEVER),
        replicas,
        _window(task.busy_until_ns, int(replicas.max())),
        task.until_ns,
    )
    # Sorted in token order, both disciplines are one and the same queue.
    in_order = task.fifo or order is None
    loop = kernels.serve_in_order if in_order else kernels.serve_oldest_first
    count = loop(*inputs, *times, *batches)
    for array in batches:
        array.resize(count, refcheck=False)
    return Served(*times, *batches)


def _by_arrival(arrival_ns: Times) -> tuple[Times, NDArray[np.int32] | None]:
    """Arrivals sorted, and the token at each place, or None if every token is at its own."""
    from mipplan.replayer.engines import compiled_sorting as sorting

    is_sorted, runs = sorting.survey_arrivals(arrival_ns)
    if is_sorted:
        return arrival_ns, None
    if runs > _FEW_RUNS * arrival_ns.size:
        key, order = arrival_ns.copy(), np.arange(arrival_ns.size, dtype=np.int32)
        sorting.sort_together(key, order)
        return _readable(key), order
    run_key, run_start = np.empty(runs, dtype=np.int64), np.empty(runs, dtype=np.int32)
    sorting.list_runs(arrival_ns, run_key, run_start)
    sorting.sort_together(run_key, run_start)
    key, order = np.empty(arrival_ns.size, dtype=np.int64), np.empty(arrival_ns.size, dtype=np.int32)
    sorting.list_tokens(arrival_ns, run_key, run_start, key, order)
    return _readable(key), order


def _window(busy_until_ns: Times, most: int) -> Times:
    """The `most` largest ends of batches under way, sorted, and room for more; idle replicas ended long ago."""
    ends = np.sort(np.append(np.full(most, ALWAYS, dtype=np.int64), busy_until_ns))[-most:]
    return np.append(ends, np.empty(most + 64, dtype=np.int64))


def _readable(array: NDArray[_Number]) -> NDArray[_Number]:
    """Make a contiguous array that is read-only, whether `array` was or not: to numba these are different types."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
