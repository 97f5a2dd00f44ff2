"""Single-token service in closed form: n interleaved Lindley recursions."""

from __future__ import annotations

import numpy as np

from mipplan.core import Int64
from mipplan.replayer.engines.arrivals import SortedArrivals
from mipplan.replayer.engines.batches import Batches
from mipplan.replayer.task import ALWAYS, StageTask

#: Tokens worked on at once: what is read and written stays in the cache.
_BLOCK = 1 << 15


def has_closed_form(task: StageTask, arrivals: SortedArrivals) -> bool:
    """Whether replicas, each busy for the same time with one token, take turns from the first token on."""
    if task.batch > 1 or task.level is not None or not task.capacity.is_constant:
        return False
    idle_ns = _idle_from(task)
    first_end_ns = max(int(arrivals.at_ns[0]), int(idle_ns[0])) + int(task.service_ns[0, 0])
    return int(idle_ns[-1]) <= first_end_ns


def find_batches(task: StageTask, arrivals: SortedArrivals) -> Batches:
    """Find the batches of a task that `has_closed_form`.

    Tokens start in order of arrival and all take ℓ, so token i gets the replica that token i − n had:
    ``start[i] = max(arrival[i], start[i − n] + ℓ)``. In ``start[i] − ℓ·⌊i/n⌋`` that is a cumulative maximum over
    every n-th token.

    References
    ----------
    D. V. Lindley, "The theory of queues with a single server", 1952, doi:10.1017/S0305004100027638.
    """
    service_ns = int(task.service_ns[0, 0])
    count = task.tokens
    idle_ns = _idle_from(task)[:count]
    replicas = idle_ns.size
    start_ns = np.empty(count, dtype=np.int64)
    whole = count - count % replicas
    rows = max(min(_BLOCK, whole) // replicas, 1)
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


def _idle_from(task: StageTask) -> Int64:
    """When each replica is idle first, ascending.

    With more batches under way than replicas, the first to end make way for none.
    """
    replicas = task.capacity.most
    busy_ns = np.sort(task.busy_until_ns)[-replicas:]
    return np.concatenate([np.full(replicas - busy_ns.size, ALWAYS, dtype=np.int64), busy_ns])
