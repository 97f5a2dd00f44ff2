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
from itertools import pairwise

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

    def times_spent(self, problem: TimeCostProblem, selection: Sequence[int]) -> tuple[list[int], list[int]]:
        """What each edge takes with these modes, without its wait and with it."""
        durations = [int(a.duration[o]) for a, o in zip(problem.activities, selection, strict=True)]
        spent = [edge.lag + durations[edge.activity] for edge in self.edges]
        waits = [int(edge.waits[selection[edge.activity]]) for edge in self.edges]
        return spent, [own + wait for own, wait in zip(spent, waits, strict=True)]

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
    # Of parallel arcs a path may mean any; its last step gets what its lag exceeds the least ones by.
    least_lags = {step: least for step, (least, _) in lags_between(problem.arcs).items()}
    kinds: dict[tuple[int, bytes], int] = {}
    waits_of: list[Int64] = []  # per kind, a pair of activity and waits
    floors: list[int] = []  # per kind, the least over its paths of what such a path has to wait at least
    # A path is a word, a sequence of steps: equal exactly if kind, lag and being the last are.
    steps: dict[tuple[int, int, int, bool], int] = {}
    words = []
    for path in paths:
        lags = [0, *(least_lags[step] for step in pairwise(path.activities))]
        lags[-1] += path.lag - sum(lags)
        least, last = path.least_wait, len(lags) - 1
        word = []
        for position, (v, waits) in enumerate(zip(path.activities, path.waits, strict=True)):
            kind = kinds.setdefault((v, waits.tobytes()), len(kinds))
            if kind == len(floors):
                waits_of.append(waits)
                floors.append(least)
            floors[kind] = min(floors[kind], least)
            word.append(steps.setdefault((v, lags[position], kind, position == last), len(steps)))
        words.append(word)
    meanings = list(steps)
    successors = _merge(_grow(words))
    edges = []
    for tail, following in enumerate(successors):
        for symbol, head in following:
            v, lag, kind, _ = meanings[symbol]
            edges.append(PathEdge(tail, head, v, lag, np.maximum(waits_of[kind], floors[kind])))
    return PathNetwork(len(successors), tuple(edges))


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
