"""The tokens of a stage by arrival, as the vectorised engine works on them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mipplan.core import Int64
from mipplan.replayer.task import StageTask


@dataclass(frozen=True)
class SortedArrivals:
    """Tokens by arrival at the stage, ties by token order.

    Attributes
    ----------
    at_ns : int64, shape (tokens,)
        Non-decreasing.
    token : int64, shape (tokens,), or None
        Number of the token at each position; None where tokens arrive in token order.
    """

    at_ns: Int64
    token: Int64 | None


def sort_arrivals(arrival_ns: Int64) -> SortedArrivals:
    """Sort tokens by arrival; costs next to nothing where they are in order, little where they nearly are."""
    if (arrival_ns[1:] >= arrival_ns[:-1]).all():
        return SortedArrivals(arrival_ns, None)
    token = np.argsort(arrival_ns, kind="stable")
    return SortedArrivals(arrival_ns[token], token)


def latest_end_ns(task: StageTask, arrivals: SortedArrivals) -> int:
    """Return an instant after which no batch of the task ends, for a task with tokens.

    Once everything has arrived and the last change of capacity is past, some replica always works until the
    last dispatch, in whole batches.
    """
    settled_ns = max(int(arrivals.at_ns[-1]), int(task.capacity.from_ns[-1]))
    settled_ns = max(settled_ns, int(task.busy_until_ns.max(initial=settled_ns)))
    return settled_ns + task.tokens * int(task.service_ns.max())
