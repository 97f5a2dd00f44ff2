"""Workloads of consecutive queries put together and cut again, for replays that hold only some queries at a time.

Queries, tokens and messages of a workload are all in query order, so a cut between two queries is a cut of every
array, and putting two workloads together only shifts the numbers of the second.
"""

from __future__ import annotations

from types import MappingProxyType

import numpy as np

from mipplan.core import Int64, frozen
from mipplan.tokens.workload import Messages, StageTokens, Workload


def joined(first: Workload, second: Workload) -> Workload:
    """The queries of `first`, then those of `second`; both of one pipeline and seed."""
    if first.queries == 0:
        return second
    if second.queries == 0:
        return first
    stages: dict[str, StageTokens] = {}
    for name, left in first.stages.items():
        right = second.stages[name]
        messages = tuple(
            Messages(
                ours.edge,
                _appended(ours.parent, theirs.parent, first.stages[ours.edge.parent].count),
                _appended(ours.child, theirs.child, left.count),
            )
            for ours, theirs in zip(left.messages, right.messages, strict=True)
        )
        query = _appended(left.query, right.query, first.queries)
        stages[name] = StageTokens(name, query, messages, left.queries + right.queries)
    ingress_ns = _appended(first.ingress_ns, second.ingress_ns, 0)
    return Workload(first.pipeline, ingress_ns, first.seed, MappingProxyType(stages))


def without_first(workload: Workload, queries: int) -> Workload:
    """All but the first `queries` queries; the rest are numbered from 0."""
    if queries == 0:
        return workload
    dropped = {name: _before(tokens.query, queries) for name, tokens in workload.stages.items()}
    stages: dict[str, StageTokens] = {}
    for name, tokens in workload.stages.items():
        messages = []
        for sent in tokens.messages:
            gone = _before(sent.child, dropped[name])
            parent = _shifted(sent.parent[gone:], -dropped[sent.edge.parent])
            messages.append(Messages(sent.edge, parent, _shifted(sent.child[gone:], -dropped[name])))
        query = _shifted(tokens.query[dropped[name] :], -queries)
        stages[name] = StageTokens(name, query, tuple(messages), tokens.queries - queries)
    ingress_ns = _shifted(workload.ingress_ns[queries:], 0)
    return Workload(workload.pipeline, ingress_ns, workload.seed, MappingProxyType(stages))


def _before(sorted_numbers: Int64, number: int) -> int:
    """How many of them lie below `number`."""
    return int(np.searchsorted(sorted_numbers, number))


def _appended(first: Int64, second: Int64, shift: int) -> Int64:
    together = np.empty(first.size + second.size, dtype=np.int64)
    together[: first.size] = first
    np.add(second, shift, out=together[first.size :])
    return frozen(together)


def _shifted(numbers: Int64, shift: int) -> Int64:
    """A copy, so that the array that is cut can be freed."""
    return frozen(numbers + shift)
