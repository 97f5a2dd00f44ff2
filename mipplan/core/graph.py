"""Directed acyclic graphs of named nodes: cycles, longest paths, and extremes along paths."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Generic, TypeVar

_NodeT = TypeVar("_NodeT", bound=Hashable)
_Rate = TypeVar("_Rate", int, Fraction)


def find_cycle(arcs: Iterable[tuple[str, str]]) -> list[str]:
    """Return the nodes of one directed cycle in order, the same one every time, or an empty list.

    Walks on from node to node, back where there is nowhere left to go: from there no cycle can be reached.
    """
    successors: dict[str, list[str]] = {}
    for parent, child in arcs:
        successors.setdefault(parent, []).append(child)
    untried = {name: iter(children) for name, children in successors.items()}
    for start in successors:
        walk = {start: None} if start in untried else {}
        while walk:
            last = next(reversed(walk))
            following = next((child for child in untried[last] if child in untried), None)
            if following is None:
                del walk[last], untried[last]
            elif following in walk:
                names = list(walk)
                return names[names.index(following) :]
            else:
                walk[following] = None
    return []


class LongestPaths(Generic[_NodeT]):
    """Longest paths of a directed acyclic graph under weights that change: its order is worked out once.

    Parameters
    ----------
    nodes : sequence of str or int
        Parents before children.
    edges : iterable of (node, node, int)
        Parent, child, and the length of the edge itself (a delay in ns).
    """

    def __init__(self, nodes: Sequence[_NodeT], edges: Iterable[tuple[_NodeT, _NodeT, int]]) -> None:
        place = {node: i for i, node in enumerate(nodes)}
        arcs = list(edges)
        self.nodes = tuple(nodes)
        self._down = sorted(arcs, key=lambda arc: place[arc[0]])
        self._up = sorted(arcs, key=lambda arc: -place[arc[1]])

    def down_to(self, weights: Mapping[_NodeT, int]) -> dict[_NodeT, int]:
        """Longest path that ends with each node, its own weight included."""
        longest = dict(weights)
        for parent, child, length in self._down:
            reached = longest[parent] + length + weights[child]
            if reached > longest[child]:
                longest[child] = reached
        return longest

    def up_from(self, weights: Mapping[_NodeT, int]) -> dict[_NodeT, int]:
        """Longest path that begins with each node, its own weight included."""
        longest = dict(weights)
        for parent, child, length in self._up:
            reached = longest[child] + length + weights[parent]
            if reached > longest[parent]:
                longest[parent] = reached
        return longest

    def through(self, weights: Mapping[_NodeT, int]) -> dict[_NodeT, int]:
        """Longest path through each node."""
        before, after = self.down_to(weights), self.up_from(weights)
        return {node: before[node] + after[node] - own for node, own in weights.items()}

    def least_along(self, values: Mapping[_NodeT, _Rate]) -> dict[_NodeT, _Rate]:
        """Least value of the nodes on a path with each node, itself included."""
        above, below = dict(values), dict(values)
        for parent, child, _ in self._down:
            above[child] = min(above[child], above[parent])
        for parent, child, _ in self._up:
            below[parent] = min(below[parent], below[child])
        return {node: min(above[node], below[node]) for node in values}
