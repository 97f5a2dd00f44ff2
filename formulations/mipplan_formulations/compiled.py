"""Loops compiled by numba: walks through decision diagrams, and annealing. Imported only where they are of use.

All that the loops call is in this file, since numba's cache looks for changes only here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mipplan_formulations.linear import Int32, Int64

try:
    from numba import njit
except ImportError:  # it is not installed, or not for the NumPy that is there
    IS_COMPILED = False
else:
    IS_COMPILED = True


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile at the first call; remember the machine code where there is a place for it."""
    if not IS_COMPILED:  # as it is written it takes hundreds of times as long
        return function
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no place for a cache
        return njit(nogil=True)(function)


@_compiled
def go_back(layers: Int64, cells: Int32, costs: Int64, to_go: Int64) -> None:
    """Set the least costs to the ends, shape (nodes + 1,), from the last layer to the first.

    A row of `layers` is an activity on a path: its place, first cell, nodes before it, modes, first node, first slot.
    Cells are the node after each mode from each node; where none follows, it is the one after all, dear as it is.
    """
    for layer in range(layers.shape[0] - 1, -1, -1):
        cell, modes, node, slot = layers[layer, 1], layers[layer, 3], layers[layer, 4], layers[layer, 5]
        own, dear = costs[slot : slot + modes], to_go[-1]
        for _ in range(layers[layer, 2]):
            heads, least = cells[cell : cell + modes], dear
            # Places are unsigned, for numba asks of others whether they are counted from the end.
            for mode in range(modes):
                least = min(least, own[mode] + to_go[np.uint32(heads[mode])])
            to_go[node] = least
            cell += modes
            node += 1


@_compiled
def go_on(layers: Int64, cells: Int32, costs: Int64, to_go: Int64, spent: Int64, through: Int64) -> None:
    """Lower the least costs from the roots, shape (nodes + 1,), and those of walks through each slot.

    In two loops, since that of the slots takes several at a time where no node may be another's.
    """
    for layer in range(layers.shape[0]):
        cell, modes, node, slot = layers[layer, 1], layers[layer, 3], layers[layer, 4], layers[layer, 5]
        own, least = costs[slot : slot + modes], through[slot : slot + modes]
        for _ in range(layers[layer, 2]):
            heads, before = cells[cell : cell + modes], spent[node]
            for mode in range(modes):
                least[mode] = min(least[mode], before + own[mode] + to_go[np.uint32(heads[mode])])
            for mode in range(modes):
                head, reached = np.uint32(heads[mode]), before + own[mode]
                if reached < spent[head]:
                    spent[head] = reached
            cell += modes
            node += 1


@_compiled
def _is_late(path: int, problem: Any, chosen: Int64) -> bool:
    _, duration, first, _, room, activity, wait_at, wait, starts, _, _ = problem
    taken, longest = 0, 0
    for place in range(starts[path], starts[path + 1]):
        mode = chosen[activity[place]]
        taken += duration[first[activity[place]] + mode]
        longest = max(longest, wait[wait_at[place] + mode])
    return bool(taken + longest > room[path])


@_compiled
def _is_any_late(v: int, problem: Any, chosen: Int64) -> bool:
    _, _, _, _, _, _, _, _, _, through, paths = problem
    late = False
    for place in range(through[v], through[v + 1]):
        late = late or _is_late(paths[place], problem, chosen)
    return late


@_compiled
def _below(most: int, rng: np.random.Generator) -> int:
    return int(rng.random() * most)


@_compiled
def anneal(
    problem: Any,
    chosen: Int64,
    best: Int64,
    moves: int,
    hottest: float,
    coldest: float,
    rng: np.random.Generator,
) -> None:
    """Exchange modes at random, and such that cost more the less the colder it is; `best` becomes the cheapest seen.

    Where an exchange makes a path late, that of one other activity on a late path has to make up for it: selections
    stay feasible, so `chosen` and `best`, shape (activities,), have to be. `problem` is that of
    `mipplan_formulations.time_cost.annealing`.
    """
    cost, _, first, count, _, activity, _, _, starts, through, paths = problem
    now, least = 0, 0
    for v in range(count.size):
        now += cost[first[v] + chosen[v]]
        least += cost[first[v] + best[v]]
    for move in range(moves):
        heat = hottest * (coldest / hottest) ** (move / moves)
        v = _below(count.size, rng)
        if count[v] < 2:
            continue
        before = chosen[v]
        after = (before + 1 + _below(count[v] - 1, rng)) % count[v]
        more = cost[first[v] + after] - cost[first[v] + before]
        if more > 0 and rng.random() >= math.exp(-more / heat):
            continue
        chosen[v] = after
        late, seen = -1, 0
        for place in range(through[v], through[v + 1]):
            if _is_late(paths[place], problem, chosen):
                seen += 1
                if _below(seen, rng) == 0:
                    late = paths[place]
        if late >= 0:
            place = starts[late] + _below(starts[late + 1] - starts[late], rng)
            u = activity[place]
            was, is_kept = chosen[u], False
            if u != v and count[u] > 1:
                chosen[u] = (was + 1 + _below(count[u] - 1, rng)) % count[u]
                more += cost[first[u] + chosen[u]] - cost[first[u] + was]
                is_kept = more <= 0 or rng.random() < math.exp(-more / heat)
                is_kept = is_kept and not _is_late(late, problem, chosen)
                is_kept = is_kept and not _is_any_late(v, problem, chosen)
                is_kept = is_kept and not _is_any_late(u, problem, chosen)
            if not is_kept:
                chosen[u] = was
                chosen[v] = before
                continue
        now += more
        if now < least:
            least = now
            best[:] = chosen
