"""The batches of a stage, put together from the rows of their tokens."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mipplan.core import Int64
from mipplan.logs import MISSING, StageLog


@dataclass(frozen=True, eq=False, repr=False)
class StageBatches:
    """The batches that a stage has finished, in order of dispatch; arrays of shape (batches,).

    Attributes
    ----------
    dispatch_ns, finish_ns : int64
        When each began, and when the last of its outputs was there.
    size : int64
        Tokens in it.
    failed : int
        Batches that began and did not end well; they are not among these.
    """

    dispatch_ns: Int64
    finish_ns: Int64
    size: Int64
    failed: int

    def __repr__(self) -> str:
        return f"<StageBatches: {self.size.size} batches>"

    @cached_property
    def service_ns(self) -> Int64:
        """How long each batch took."""
        return self.finish_ns - self.dispatch_ns

    @property
    def sizes(self) -> Int64:
        """Sizes that were seen, ascending."""
        return np.unique(self.size)

    @cached_property
    def most_at_once(self) -> int:
        """The most batches that were under way at one time; one that ends as another begins makes way for it."""
        if not self.size.size:
            return 0
        at = np.concatenate([self.finish_ns, self.dispatch_ns])
        change = np.repeat([-1, 1], self.size.size)
        return int(np.cumsum(change[np.argsort(at, kind="stable")]).max())

    def idle_ns(self, arrival_ns: Int64, taken_ns: Int64, replicas: int) -> tuple[Int64, Int64]:
        """Find the stretches in which a token waited although fewer than `replicas` batches were under way.

        Parameters
        ----------
        arrival_ns, taken_ns : int64, shape (tokens,)
            When each token joined the queue and when its batch began.
        replicas : int

        Returns
        -------
        (int64, int64), shape (stretches,)
            When each began and ended.
        """
        count, batches = arrival_ns.size, self.size.size
        at = np.concatenate([taken_ns, self.finish_ns, self.dispatch_ns, arrival_ns])
        waits = np.repeat([-1, 0, 0, 1], [count, batches, batches, count])
        busy = np.repeat([0, -1, 1, 0], [count, batches, batches, count])
        order = np.argsort(at, kind="stable")
        at, waiting, under_way = at[order], np.cumsum(waits[order]), np.cumsum(busy[order])
        last = np.append(np.diff(at) > 0, True)  # What an instant comes to, after all that happens in it.
        at = at[last]
        idle = (waiting[last] > 0) & (under_way[last] < replicas)
        edges = np.diff(np.concatenate([[0], idle.astype(np.int8), [0]]))
        begins, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        return at[begins], at[np.minimum(ends, at.size - 1)]


def batches_of(log: StageLog) -> dict[str, StageBatches]:
    """Put the batches of each stage together, in the order of the stages' first arrivals."""
    return {stage: _together(log.at(stage)) for stage in log.stages}


def _together(log: StageLog) -> StageBatches:
    rows = np.flatnonzero(log.batch != MISSING)
    order = rows[np.argsort(log.batch[rows], kind="stable")]
    if not order.size:
        nothing = np.empty(0, dtype=np.int64)
        return StageBatches(nothing, nothing, nothing, 0)
    begins = np.flatnonzero(np.concatenate([[True], np.diff(log.batch[order]) != 0]))
    has_failed = (log.finish_ns[order] == MISSING) | log.has_error[order]
    failed = np.logical_or.reduceat(has_failed, begins)
    finish = np.maximum.reduceat(log.finish_ns[order], begins)[~failed]
    dispatch = log.dispatch_ns[order][begins][~failed]
    size = log.batch_size[order][begins][~failed]
    by_time = np.argsort(dispatch, kind="stable")
    return StageBatches(dispatch[by_time], finish[by_time], size[by_time], int(np.count_nonzero(failed)))
