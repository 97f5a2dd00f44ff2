"""When tokens arrive at the earliest and must leave at the latest, whatever is chosen: bounds from path service.

A token cannot leave before its earliest arrival plus the least batch latency on offer, and what follows from it
needs at least the delays and the least batch latencies below. Neither depends on discipline or replicas
(docs/theory.md, section on refinement).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Int64
from mipplan.pipeline import Edge
from mipplan.refinement.domains import Domain, Domains
from mipplan.tokens import Messages, Workload


@dataclass(frozen=True)
class LeastTimes:
    """Bounds on the times of every token.

    Attributes
    ----------
    workload : Workload
    least_service_ns : mapping of str to int
        No batch of the stage takes less.
    arrival_ns : mapping of str to int64, shape (tokens,)
        No token arrives earlier.
    due_ns : mapping of str to int64, shape (tokens,)
        A token that leaves later makes its query miss the deadline.
    """

    workload: Workload
    least_service_ns: Mapping[str, int]
    arrival_ns: Mapping[str, Int64]
    due_ns: Mapping[str, Int64]

    def late_queries(self, stage: str, exit_ns: Int64) -> NDArray[np.int64]:
        """Queries that miss the deadline for certain, with these exits (or earlier ones than the true) at a stage.

        In order, a query once for each of its tokens that leaves too late.
        """
        return late_queries(self.workload, stage, exit_ns, self.due_ns[stage])

    def late_at_best(self, stage: str, service_ns: int) -> int:
        """Count queries that miss the deadline if no batch of the stage takes less than `service_ns`."""
        return np.unique(self.late_queries(stage, self.arrival_ns[stage] + service_ns)).size


def find_least_times(workload: Workload, domains: Domains, deadline_ns: int) -> LeastTimes:
    """Bound the times of every token under all plans of these domains, none of which may be empty."""
    least = least_services_ns(domains)
    arrival: dict[str, Int64] = {}
    exits: dict[str, Int64] = {}
    for stage in workload.stages:
        arrival[stage] = workload.arrival_ns(stage, exits)
        exits[stage] = arrival[stage] + least[stage]
    return LeastTimes(workload, least, arrival, Following(workload).due_ns(least, deadline_ns))


def least_services_ns(domains: Domains) -> dict[str, int]:
    """Find the least batch latency on offer at every stage."""
    return {stage: _least_service_ns(domain) for stage, domain in domains.items()}


def late_queries(workload: Workload, stage: str, exit_ns: Int64, due_ns: Int64) -> NDArray[np.int64]:
    """Queries of the tokens that leave a stage after their due times, in order."""
    late = np.flatnonzero(exit_ns > due_ns)
    queries: NDArray[np.int64] = workload.stages[stage].query[late]
    return queries


class Following:
    """What follows from every token, made ready for adding up least times from the end.

    Parameters
    ----------
    workload : Workload
    """

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self._links = [
            _Link.of(workload, stage, messages)
            for stage in reversed(list(workload.stages))
            for messages in workload.stages[stage].messages
            if messages.parent.size
        ]

    def due_ns(self, least_service_ns: Mapping[str, int], deadline_ns: int) -> dict[str, Int64]:
        """By when every token must have left its stage, if no batch of the stages below takes less than stated."""
        remaining = self._remaining_ns(least_service_ns)
        return {
            stage: self._workload.ingress_ns[tokens.query] + (deadline_ns - remaining[stage])
            for stage, tokens in self._workload.stages.items()
        }

    def _remaining_ns(self, least_service_ns: Mapping[str, int]) -> dict[str, Int64]:
        """Least time from the exit of each token to the last exit of what follows from it; 0 if nothing does."""
        remaining = {
            stage: np.zeros(tokens.count, dtype=np.int64) for stage, tokens in self._workload.stages.items()
        }
        for link in self._links:
            needed = remaining[link.stage][link.child] + (link.edge.delay_ns + least_service_ns[link.stage])
            if link.first is not None:
                needed = np.maximum.reduceat(needed, link.first)
            above = remaining[link.edge.parent]
            above[link.parents] = np.maximum(above[link.parents], needed)
        return remaining


@dataclass(frozen=True)
class _Link:
    """The messages along one edge, by their parents.

    Attributes
    ----------
    stage : str
        Where they arrive.
    edge : Edge
    child : int64, shape (messages,), or slice
        Token that each of them makes; a slice if it is one each.
    parents : int64, shape (p,), or slice
        Tokens that send any; a slice if all do.
    first : int64, shape (p,), or None
        First message of each; None if none sends several.
    """

    stage: str
    edge: Edge
    child: Int64 | slice
    parents: Int64 | slice
    first: NDArray[np.intp] | None

    @classmethod
    def of(cls, workload: Workload, stage: str, messages: Messages) -> _Link:
        # Messages are in order of their parents, so those of one parent are neighbours.
        first = np.flatnonzero(np.diff(messages.parent, prepend=-1))
        parents = messages.parent[first]
        return cls(
            stage,
            messages.edge,
            _as_slice(messages.child, workload.stages[stage].count),
            _as_slice(parents, workload.stages[messages.edge.parent].count),
            None if first.size == messages.parent.size else first,
        )


def _as_slice(tokens: Int64, count: int) -> Int64 | slice:
    """All tokens in their order are faster to take as a slice."""
    return slice(None) if np.array_equal(tokens, np.arange(count)) else tokens


def _least_service_ns(domain: Domain) -> int:
    return min(int(span.family.service_ns.min()) for span in domain)
