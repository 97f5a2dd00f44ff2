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

from collections.abc import Iterable, Sequence
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


@dataclass(frozen=True)
class Clocks:
    """Longest times until each node is reached, and on to the end, each without a wait and with one."""

    early: list[int]
    late: list[int]
    to_go: list[int]
    to_go_waiting: list[int]

    def longest_through(self, edge: PathEdge, duration: Int64) -> Int64:
        """Value of the longest path through an edge with each mode of its activity, given how long these take."""
        before, waited = self.early[edge.tail], self.late[edge.tail]
        after, waiting = self.to_go[edge.head], self.to_go_waiting[edge.head]
        beside = np.maximum(before + edge.waits + after, max(waited + after, before + waiting))
        return np.asarray(edge.lag + duration + beside)


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

    def clocks(self, spent: Sequence[int], waited: Sequence[int]) -> Clocks:
        """Longest times on both sides of each node, given what each edge takes without its wait, and with it."""
        return Clocks(*self.times_reached(spent, waited), *self.times_to_go(spent, waited))

    def times_spent(self, problem: TimeCostProblem, selection: Sequence[int]) -> tuple[list[int], list[int]]:
        """What each edge takes with these modes, without its wait and with it."""
        durations = [int(a.duration[o]) for a, o in zip(problem.activities, selection, strict=True)]
        spent = [edge.lag + durations[edge.activity] for edge in self.edges]
        waits = [int(edge.waits[selection[edge.activity]]) for edge in self.edges]
        return spent, [own + wait for own, wait in zip(spent, waits, strict=True)]

    def times_reached(self, spent: Sequence[int], waited: Sequence[int]) -> tuple[list[int], list[int]]:
        """Longest time until each node, and last until the end, is reached, without a wait and with one.

        Given is what each edge takes without its wait, and with it.
        """
        ends = [(edge.tail, edge.head) for edge in self.edges]
        return _longest(START, self.num_nodes + 1, zip(ends, spent, waited, strict=True))

    def times_to_go(self, spent: Sequence[int], waited: Sequence[int]) -> tuple[list[int], list[int]]:
        """Longest time from each node to the end, the last entry, without a wait and with one; see `times_reached`."""
        ends = [(edge.head, edge.tail) for edge in reversed(self.edges)]
        return _longest(END, self.num_nodes + 1, zip(ends, reversed(spent), reversed(waited), strict=True))


def _longest(
    origin: int, count: int, steps: Iterable[tuple[tuple[int, int], int, int]]
) -> tuple[list[int], list[int]]:
    """Longest times from a node on, given all steps to its successors first: their two ends, and times as above."""
    early, late = [NEVER] * count, [NEVER] * count
    early[origin] = 0
    for (here, there), alone, both in steps:
        early[there] = max(early[there], early[here] + alone)
        late[there] = max(late[there], late[here] + alone, early[here] + both)
    return early, late


def breakable_network(problem: TimeCostProblem) -> PathNetwork:
    """Network of the paths that some choice of modes might make miss the deadline."""
    paths = [path for _, path in breakable_paths(problem)]
    return join_paths(problem, paths) if paths else PathNetwork(0, ())


def join_paths(problem: TimeCostProblem, paths: Sequence[Path]) -> PathNetwork:
    """Join paths, some of the problem's, into the smallest network whose walks they are."""
    # Of parallel arcs a path may mean any; its last step gets what its lag exceeds the least ones by.
    least_lags = {step: least for step, (least, _) in lags_between(problem.arcs).items()}
    # Per activity and waits, the least over the paths with both of what such a path has to wait at least.
    floors: dict[tuple[int, bytes], int] = {}
    # A path is a word, a sequence of steps: equal exactly if lag, kind and being the last are.
    steps: dict[tuple[int, tuple[int, bytes], bool], int] = {}
    words = []
    for path in paths:
        lags = [0, *(least_lags[step] for step in pairwise(path.activities))]
        lags[-1] += path.lag - sum(lags)
        least, last = path.least_wait, len(lags) - 1
        word = []
        for position, (v, waits) in enumerate(zip(path.activities, path.waits, strict=True)):
            kind = (v, waits.tobytes())
            floors[kind] = min(least, floors.get(kind, least))
            word.append(steps.setdefault((lags[position], kind, position == last), len(steps)))
        words.append(word)
    meanings = list(steps)
    successors = _merge(_grow(words))
    edges = []
    for tail, following in enumerate(successors):
        for symbol, head in following:
            lag, kind, _ = meanings[symbol]
            raised = np.maximum(np.frombuffer(kind[1], dtype=np.int64), floors[kind])
            edges.append(PathEdge(tail, head, kind[0], lag, raised))
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
