"""Longest paths through the stages of a pipeline, again and again: the order is worked out once."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import TypeVar

from mipplan.pipeline import Pipeline

Rate = TypeVar("Rate", int, Fraction)


class PathTimes:
    """Passes over a pipeline's edges, forth and back.

    Parameters
    ----------
    pipeline : Pipeline
    """

    def __init__(self, pipeline: Pipeline) -> None:
        place = {stage: i for i, stage in enumerate(pipeline.topological_order)}
        edges = [(edge.parent, edge.child, edge.delay_ns) for edge in pipeline.edges]
        self._forth = sorted(edges, key=lambda edge: place[edge[0]])
        self._back = sorted(edges, key=lambda edge: -place[edge[1]])

    def through_ns(self, own_ns: Mapping[str, int]) -> dict[str, int]:
        """Longest path through each stage, ns: own times and delays."""
        before, after = dict(own_ns), dict(own_ns)
        for parent, child, delay_ns in self._forth:
            reached = before[parent] + delay_ns + own_ns[child]
            if reached > before[child]:
                before[child] = reached
        for parent, child, delay_ns in self._back:
            reached = after[child] + delay_ns + own_ns[parent]
            if reached > after[parent]:
                after[parent] = reached
        return {stage: before[stage] + after[stage] - own for stage, own in own_ns.items()}

    def longest_ns(self, own_ns: Mapping[str, int], waits_ns: Mapping[str, int]) -> int:
        """Longest path, ns: own times, delays, and once the largest wait on it."""
        return max(length + waits_ns[stage] for stage, length in self.through_ns(own_ns).items())

    def least(self, values: Mapping[str, Rate]) -> dict[str, Rate]:
        """Least value of the stages on a path with each stage, itself included."""
        above, below = dict(values), dict(values)
        for parent, child, _ in self._forth:
            above[child] = min(above[child], above[parent])
        for parent, child, _ in self._back:
            below[parent] = min(below[parent], below[child])
        return {stage: min(above[stage], below[stage]) for stage in values}
