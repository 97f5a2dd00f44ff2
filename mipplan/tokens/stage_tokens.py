"""The tokens of one stage and the messages that reach them, and what numbers 0, 1, 2, … make easy."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from mipplan.core import Int64
from mipplan.pipeline import Edge

#: Numbers looked at together: few enough to stay in the processor's cache.
_PIECE = 1 << 14


@dataclass(frozen=True)
class Messages:
    """What passes along one edge: message k leaves parent token ``parent[k]`` and reaches token ``child[k]``.

    Attributes
    ----------
    edge : Edge
    parent, child : int64, shape (m,)
        Token numbers at the edge's two ends; `parent` is non-decreasing.
    known_one_to_one : bool
        Whether that need not be looked at.
    """

    edge: Edge
    parent: Int64
    child: Int64
    known_one_to_one: bool = False

    @cached_property
    def one_to_one(self) -> bool:
        """Whether message k goes from token k to token k."""
        if self.known_one_to_one:
            return True
        return counts_up(self.parent) and (self.child is self.parent or counts_up(self.child))

    @cached_property
    def first_to_child(self) -> Int64:
        """At a join `all`, where `child` is non-decreasing: the first message to each child, shape (children,)."""
        return frozen(run_starts(self.child))


@dataclass(frozen=True)
class StageTokens:
    """The tokens of one stage in token order: (query, incoming edge, parent token, copy).

    Queries are numbered by ingress time, so this is the order of design §2.

    Attributes
    ----------
    name : str
    query : int64, shape (k,)
        The query of each token, non-decreasing.
    messages : tuple of Messages
        One per incoming edge in file order; empty at a source.
    queries : int
        Number of queries in the trace.
    number : int64, shape (k,), or None
        In an extract of a workload, the numbers that the tokens have in the whole of it.
    known_one_per_query : bool
        Whether that need not be looked at.
    """

    name: str
    query: Int64
    messages: tuple[Messages, ...]
    queries: int
    number: Int64 | None = None
    known_one_per_query: bool = False

    @property
    def count(self) -> int:
        """Number of tokens."""
        return int(self.query.size)

    @cached_property
    def one_per_query(self) -> bool:
        """Whether token i belongs to query i, for every query (so token and query numbers are the same)."""
        return self.known_one_per_query or (self.count == self.queries and counts_up(self.query))

    @cached_property
    def first_of_query(self) -> Int64:
        """Token numbers at which a new query starts, shape (distinct queries,)."""
        return frozen(run_starts(self.query))


def numbers_of(array: Int64) -> Int64:
    """0, 1, 2, … in the shape of `array`: the array itself if it is so, since most workloads hold many such."""
    return array if counts_up(array) else np.arange(array.size, dtype=np.int64)


def is_one_of(array: Int64, others: list[Int64]) -> bool:
    """Whether it is the same object as one of these."""
    return any(array is other for other in others)


def counts_up(array: Int64) -> bool:
    """Whether the array is 0, 1, 2, …; looked at piece by piece, in no memory worth mentioning."""
    numbers = np.arange(min(array.size, _PIECE), dtype=np.int64)
    for start in range(0, array.size, _PIECE):
        piece = array[start : start + _PIECE]
        if piece[0] != start or not np.array_equal(piece - start, numbers[: piece.size]):
            return False
    return True


def run_starts(array: Int64) -> Int64:
    """Where runs of equal neighbours start."""
    if array.size == 0:
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(np.r_[True, array[1:] != array[:-1]])


def frozen(array: Int64) -> Int64:
    """Make the array read-only, and return it."""
    array.flags.writeable = False
    return array
