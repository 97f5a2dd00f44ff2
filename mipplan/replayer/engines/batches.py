"""The batches of a stage, and which token rides in which.

When a batch starts and how many tokens it takes depends on how many tokens wait, never on which ones (as long
as its service time does not depend on its oldest token). So both queue disciplines have the same batches: these
are found from sorted arrivals alone, and the discipline only says who rides.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Int64
from mipplan.replayer.engines.arrivals import SortedArrivals
from mipplan.replayer.task import NEVER, Served

#: With more tokens waiting than this, a heap beats sorting the few that have come into those that wait.
_FEW_WAITING = 128


@dataclass(frozen=True)
class Batches:
    """Batches in order of dispatch.

    Attributes
    ----------
    start_ns, size, service_ns : int64, shape (batches,)
    """

    start_ns: Int64
    size: Int64
    service_ns: Int64


def board(arrivals: SortedArrivals, batches: Batches, *, fifo: bool) -> Served:
    """Put every token into its batch; tokens beyond the last batch are left waiting.

    The arrays of the answer may share memory with `arrivals` and `batches`.
    """
    by_arrival = fifo or arrivals.token is None
    rider = arrivals.token if by_arrival else _oldest_first(arrivals, batches)
    if rider is not None:
        rider = rider[: int(batches.size.sum())]
    return Served(arrivals.at_ns.size, rider, batches.start_ns, batches.size, batches.service_ns)


def _oldest_first(arrivals: SortedArrivals, batches: Batches) -> Int64:
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
    rider[slots] = _lowest_first(token[slots].tolist(), position[arrived].tolist(), sizes[entangled].tolist())
    return rider


def _lowest_first(token: list[int], arrived: list[int], size: list[int]) -> list[int]:
    """Serve tokens in batches, the lowest of those that have come first.

    Parameters
    ----------
    token : list of int
        By arrival.
    arrived, size : list of int
        For each batch, how many have arrived in all, and how many it takes.
    """
    served: list[int] = []
    waiting: list[int] = []  # Always a heap: so is a sorted list.
    enqueued = 0
    for upto, taken in zip(arrived, size, strict=True):
        if len(waiting) <= _FEW_WAITING:
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


def _entangled(token: Int64, size: Int64, emptied: NDArray[np.bool_]) -> NDArray[np.bool_]:
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
