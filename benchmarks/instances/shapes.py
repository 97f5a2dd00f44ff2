"""Graphs of activities: arcs by shape and seed, and all paths through them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

#: More paths than this are a mistake in a description, not a benchmark.
MOST_PATHS = 20_000
#: Links out of a stage of a layered graph.
DEGREE = 2
#: Chance (in thousandths) of an arc between two stages of a random graph, and how far apart they may be.
DENSITY, REACH = 400, 4

Step = tuple[int, int]


def make_arcs(shape: str, stages: int, width: int, rng: np.random.Generator) -> list[Step]:
    """Arcs (tail, head) between stages 0 to ``stages - 1``, tails before heads."""
    return sorted(set(SHAPES[shape](stages, width, rng)))


def list_paths(stages: int, arcs: list[Step]) -> list[tuple[int, ...]]:
    """Every path from a stage that nothing enters to one that nothing leaves, in lexicographic order.

    Raises
    ------
    ValueError
        If there are more than `MOST_PATHS`.
    """
    following: list[list[int]] = [[] for _ in range(stages)]
    entered = [False] * stages
    for tail, head in arcs:
        following[tail].append(head)
        entered[head] = True
    paths: list[tuple[int, ...]] = []
    begun = [(v,) for v in reversed(range(stages)) if not entered[v]]
    while begun:
        path = begun.pop()
        if not following[path[-1]]:
            paths.append(path)
            if len(paths) > MOST_PATHS:
                raise ValueError(f"more than {MOST_PATHS} paths")
        begun += [(*path, head) for head in reversed(following[path[-1]])]
    return paths


def _chain(stages: int, _width: int, _rng: np.random.Generator) -> list[Step]:
    return list(pairwise(range(stages)))


def _diamond(stages: int, width: int, _rng: np.random.Generator) -> list[Step]:
    """From the first stage over `width` chains, as equally long as possible, to the last."""
    branches = [list(range(1 + first, stages - 1, width)) for first in range(width)]
    return [step for branch in branches if branch for step in pairwise((0, *branch, stages - 1))]


def _layered(stages: int, width: int, rng: np.random.Generator) -> list[Step]:
    """Layers of `width` stages; each stage leads to `DEGREE` of the next layer, and none is left out."""
    layers = [list(range(first, min(first + width, stages))) for first in range(0, stages, width)]
    arcs: list[Step] = []
    for layer, following in pairwise(layers):
        for position, tail in enumerate(layer):
            arcs.append((tail, following[position % len(following)]))
            arcs += [(tail, following[int(i)]) for i in rng.permutation(len(following))[: DEGREE - 1]]
        arcs += [(layer[i % len(layer)], head) for i, head in enumerate(following)]
    return arcs


def _parallel(stages: int, _width: int, rng: np.random.Generator) -> list[Step]:
    """Series-parallel: stage after stage is set behind another, or beside it between the same neighbours."""
    before: list[set[int]] = [set() for _ in range(stages)]
    after: list[set[int]] = [set() for _ in range(stages)]
    for new in range(1, stages):
        old = int(rng.integers(new))
        if rng.integers(3) and before[old] | after[old]:
            before[new], after[new] = set(before[old]), set(after[old])
        else:
            before[new], after[new] = {old}, after[old]
            for head in after[new]:
                before[head] = before[head] - {old} | {new}
            after[old] = {new}
        for tail in before[new]:
            after[tail].add(new)
        after[new] = set(after[new])
        for head in after[new]:
            before[head].add(new)
    return _in_order(stages, [(tail, head) for tail in range(stages) for head in sorted(after[tail])])


def _ladder(stages: int, width: int, _rng: np.random.Generator) -> list[Step]:
    """One after the other, but for `width` pairs of stages side by side: 2**width paths."""
    levels = [[2 * pair, 2 * pair + 1] for pair in range(width)]
    levels += [[stage] for stage in range(2 * width, stages)]
    return [(tail, head) for before, behind in pairwise(levels) for tail in before for head in behind]


def _random(stages: int, _width: int, rng: np.random.Generator) -> list[Step]:
    """Arcs between stages not far apart; every stage but the first is entered."""
    arcs: list[Step] = []
    for head in range(1, stages):
        reach = range(max(0, head - REACH), head)
        drawn = [(tail, head) for tail in reach if rng.integers(1_000) < DENSITY]
        arcs += drawn or [(int(rng.integers(max(0, head - REACH), head)), head)]
    return arcs


def _tree(stages: int, width: int, rng: np.random.Generator) -> list[Step]:
    """An out-tree: each stage follows one of the last `width` before it."""
    return [(int(rng.integers(max(0, head - width), head)), head) for head in range(1, stages)]


def _in_order(stages: int, arcs: list[Step]) -> list[Step]:
    """Renumber such that tails come before heads."""
    waiting = [0] * stages
    for _, head in arcs:
        waiting[head] += 1
    ready, rank = [v for v in range(stages) if waiting[v] == 0], {}
    while ready:
        v = ready.pop(0)
        rank[v] = len(rank)
        for tail, head in arcs:
            if tail == v:
                waiting[head] -= 1
                if waiting[head] == 0:
                    ready.append(head)
    return [(rank[tail], rank[head]) for tail, head in arcs]


SHAPES: dict[str, Callable[[int, int, np.random.Generator], list[Step]]] = {
    "chain": _chain,
    "diamond": _diamond,
    "layered": _layered,
    "series-parallel": _parallel,
    "ladder": _ladder,
    "random": _random,
    "tree": _tree,
}
