"""All paths of a problem as one network without double parts.

Paths share beginnings and ends. The network has a node wherever some paths are about to go on alike, and an edge
for a step that some of them take there: its walks from start to end are exactly the paths, so what holds along
all walks can be asked for edge by edge.

References
----------
The construction is that of the minimal acyclic automaton of a finite language: J. Daciuk, S. Mihov,
B. W. Watson, R. E. Watson, "Incremental construction of minimal acyclic finite-state automata", Computational
Linguistics 26 (2000), doi:10.1162/089120100561601.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mipplan_formulations.linear import Int64
from mipplan_formulations.time_cost.paths import breakable_paths
from mipplan_formulations.time_cost.problem import Path, TimeCostProblem, lags_between

START = 0
"""Node at which all walks begin."""
END = -1
"""Node at which all walks end."""
NEVER = -(2**60)
"""A time that nothing has."""


@dataclass(frozen=True, eq=False)
class PathEdge:
    """A step that walks take: on to an activity, through it, and to the next node.

    The lag passes before the activity; at the last step of a path, what its lag exceeds those of its arcs by comes on
    top. Waits, one per mode of the activity, are raised to the least wait that all paths with this step have anyway.
    `START` is nobody's head, `END` nobody's tail.
    """

    tail: int
    head: int
    activity: int
    lag: int
    waits: Int64


@dataclass(frozen=True)
class PathNetwork:
    """Nodes (`END` does not count) and edges; the walks from `START` to `END` are the paths.

    Edges are ordered by tail; tails and inner heads are numbered such that every edge leads to a larger number.
    """

    num_nodes: int
    edges: tuple[PathEdge, ...]

    def times_reached(self, spent: Sequence[int], waited: Sequence[int]) -> tuple[list[int], list[int]]:
        """Longest time until each node is reached, without a wait and with one.

        Given is what each edge takes without its wait, and with it.
        """
        early, late = [NEVER] * self.num_nodes, [NEVER] * self.num_nodes
        if self.num_nodes:
            early[START] = 0
        for edge, alone, both in zip(self.edges, spent, waited, strict=True):
            if edge.head != END:  # both times of the tail are final
                early[edge.head] = max(early[edge.head], early[edge.tail] + alone)
                late[edge.head] = max(late[edge.head], late[edge.tail] + alone, early[edge.tail] + both)
        return early, late

    def times_to_go(self, spent: Sequence[int], waited: Sequence[int]) -> tuple[list[int], list[int]]:
        """Longest time from each node to the end, the last entry, without a wait and with one; see `times_reached`."""
        alone, waiting = [NEVER] * (self.num_nodes + 1), [NEVER] * (self.num_nodes + 1)
        alone[END] = 0
        for edge, own, both in zip(reversed(self.edges), reversed(spent), reversed(waited), strict=True):
            alone[edge.tail] = max(alone[edge.tail], own + alone[edge.head])
            waiting[edge.tail] = max(waiting[edge.tail], own + waiting[edge.head], both + alone[edge.head])
        return alone, waiting


def breakable_network(problem: TimeCostProblem) -> PathNetwork:
    """Network of the paths that some choice of modes might make miss the deadline."""
    paths = [problem.paths[p] for p, _ in breakable_paths(problem)]
    return join_paths(problem, paths) if paths else PathNetwork(0, ())


def join_paths(problem: TimeCostProblem, paths: Sequence[Path]) -> PathNetwork:
    """Join paths, some of the problem's, into the smallest network whose walks they are."""
    steps = _Steps(problem, paths)
    successors = _merge(_grow(steps.words))
    floors = steps.find_floors()
    edges = []
    for tail, following in enumerate(successors):
        for symbol, head in following:
            activity, lag, waits = steps.meaning(symbol)
            edges.append(PathEdge(tail, head, activity, lag, np.maximum(waits, floors[activity, id(waits)])))
    return PathNetwork(len(successors), tuple(edges))


class _Steps:
    """Paths as words: sequences of numbers, equal exactly if activity, lag, waits and being the last are."""

    def __init__(self, problem: TimeCostProblem, paths: Sequence[Path]) -> None:
        self._paths = paths
        # Of parallel arcs a path may mean any; its last step gets what its lag exceeds the least ones by.
        self._lags = {step: least for step, (least, _) in lags_between(problem.arcs).items()}
        self._pool: dict[tuple[int, bytes], Int64] = {}
        self._numbers: dict[tuple[int, int, int, bool], int] = {}
        self._meanings: list[tuple[int, int, Int64]] = []
        self.words = [self._spell(path) for path in paths]

    def meaning(self, symbol: int) -> tuple[int, int, Int64]:
        """Activity, lag and waits (one array object for all that are equal) of a step."""
        return self._meanings[symbol]

    def find_floors(self) -> dict[tuple[int, int], int]:
        """Least over the paths with a pair of activity and waits of what such a path has to wait at least."""
        floors: dict[tuple[int, int], int] = {}
        for path, word in zip(self._paths, self.words, strict=True):
            least = max(int(waits.min()) for waits in path.waits)
            for symbol in word:
                activity, _, waits = self._meanings[symbol]
                key = (activity, id(waits))
                floors[key] = min(floors.get(key, least), least)
        return floors

    def _spell(self, path: Path) -> list[int]:
        steps = zip(path.activities, path.activities[1:], strict=False)
        lags = [0, *(self._lags[step] for step in steps)]
        lags[-1] += path.lag - sum(lags)
        word = []
        for position, (activity, waits) in enumerate(zip(path.activities, path.waits, strict=True)):
            pooled = self._pool.setdefault((activity, waits.tobytes()), waits)
            is_last = position == len(path.activities) - 1
            key = (activity, lags[position], id(pooled), is_last)
            if key not in self._numbers:
                self._numbers[key] = len(self._meanings)
                self._meanings.append((activity, lags[position], pooled))
            word.append(self._numbers[key])
        return word


def _grow(words: Sequence[Sequence[int]]) -> list[dict[int, int]]:
    """Tree of words, a dictionary from symbol to child per node; last symbols, known as such, lead to the end."""
    tree: list[dict[int, int]] = [{}]
    for word in words:
        node = START
        for symbol in word[:-1]:
            if symbol not in tree[node]:
                tree[node][symbol] = len(tree)
                tree.append({})
            node = tree[node][symbol]
        tree[node][word[-1]] = END
    return tree


def _merge(tree: list[dict[int, int]]) -> list[tuple[tuple[int, int], ...]]:
    """Merge nodes that are followed by the same, and number them so that edges lead to larger numbers."""
    merged = {END: END}
    known: dict[tuple[tuple[int, int], ...], int] = {}
    for node in range(len(tree) - 1, -1, -1):  # children come after their parents
        following = tuple(sorted((symbol, merged[child]) for symbol, child in tree[node].items()))
        merged[node] = known.setdefault(following, len(known))
    last = len(known) - 1  # the root's number: it was merged last, and nothing is followed by as much as it
    return [
        tuple((symbol, END if head == END else last - head) for symbol, head in following)
        for following in reversed(known)
    ]
