"""Dual ascent on the paths of a problem: a bound that knows of each path everything, and of the whole what prices say.

The cost of every mode is divided among its activity and the paths through that. Then the problem falls apart: an
activity takes the mode whose rest of the cost is least, a path the walk through its diagram whose shares add up to the
least; all these leasts together bound the cost. A pass goes from path to path. Each takes what is left at its
activities, finds what every mode costs it at least (its *min-marginal*), and gives back an equal part of that to each
activity. The bound never falls [1]_ [2]_, but by rounding. Costs are integers, scaled by a power of two: it is exact.

References
----------
.. [1] A. Globerson, T. Jaakkola, "Fixing max-product: convergent message passing algorithms for MAP LP-relaxations",
   NIPS 2007.
.. [2] J.-H. Lange, P. Swoboda, "Efficient message passing for 0-1 ILPs with binary decision diagrams", ICML 2021,
   https://proceedings.mlr.press/v139/lange21a.html.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mipplan_formulations.labelling.diagrams import Diagram
from mipplan_formulations.labelling.lagrange import DualBound
from mipplan_formulations.linear import Float64, Int32, Int64

_DEAR = 2**60
"""Dearer than anything."""
_BITS = 52
"""Scaled costs of all activities together stay below two to this, so that float64 holds every sum exactly."""


@dataclass(frozen=True, eq=False)
class _Layer:
    """Arcs of the diagrams of a group at one place of their paths, in three orders, and where those with equal begin.

    By tail: what follows a node. By head: what leads to one. By slot: the arcs of a mode on a path.
    """

    head_by_tail: Int64
    slot_by_tail: Int64
    starts_by_tail: Int64
    tails: Int64
    tail_by_head: Int64
    slot_by_head: Int64
    starts_by_head: Int64
    heads: Int64
    tail_by_slot: Int64
    head_by_slot: Int64
    starts_by_slot: Int64
    slots: Int64

    @classmethod
    def of(cls, tail: Int64, head: Int64, slot: Int64) -> _Layer:
        parts: list[Int64] = []
        for key, others in ((tail, (head, slot)), (head, (tail, slot)), (slot, (tail, head))):
            order = np.argsort(key, kind="stable")
            ordered = key[order]
            starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
            parts += [*(other[order] for other in others), starts, ordered[starts]]
        return cls(*parts)


class _Group:
    """Diagrams of paths without a common activity, worked on side by side.

    A *slot* is a mode of an activity on a path; slots of a group are numbered from 0, path by path.
    """

    def __init__(self, columns: Sequence[Sequence[Int64]], diagrams: Sequence[Diagram]) -> None:
        self.columns = np.concatenate([own for path in columns for own in path])
        lengths = [sum(own.size for own in path) for path in columns]
        self.path_of = np.repeat(np.arange(len(columns)), lengths)
        self.steps = np.array([len(path) for path in columns], dtype=np.int64)
        self.nodes = sum(1 + sum(len(layer) for layer in diagram.children) for diagram in diagrams)
        roots, ends, layers, cells, node, slot, cell = [], [], [], list[Int32](), 0, 0, 0
        for path, diagram in zip(columns, diagrams, strict=True):
            roots.append(node)
            for place, (own, children) in enumerate(zip(path, diagram.children, strict=True)):
                layers.append((place, cell, *children.shape, node, slot))
                node, slot, cell = node + children.shape[0], slot + own.size, cell + children.size
                heads = np.where(children >= 0, children + node, self.nodes)
                cells.append(heads.astype(np.int32).ravel())
            ends.append(node)
            node += 1
        self.roots, self.ends = np.array(roots), np.array(ends)
        #: Of each activity on each path, in order: place, first cell, nodes before it, modes, first node, first slot.
        self.layers = np.array(layers, dtype=np.int64)
        #: The node after each mode from each node; where none follows, the one after all.
        self.cells = np.concatenate(cells)
        self.arcs = int((self.cells < self.nodes).sum())
        self.possible = np.concatenate(  # slots that some walk goes through
            [(children >= 0).any(axis=0) for diagram in diagrams for children in diagram.children]
        )

    def started(self, nodes: Int64) -> Int64:
        """Costs of nodes, shape (nodes + 1,): nothing at those given, and dearer than anything elsewhere."""
        costs = np.full(self.nodes + 1, _DEAR)
        costs[nodes] = 0
        return costs


class _Walks(Protocol):
    """Least costs of walks through the diagrams of a group, given those of the slots."""

    def to_go(self, costs: Int64) -> Int64:
        """Least cost from each node to the end of its path."""

    def marginals(self, costs: Int64) -> tuple[Int64, Int64]:
        """Least cost of each path, and of each slot that of the walks through it."""


class _LayeredWalks:
    """Place by place, by NumPy."""

    def __init__(self, group: _Group) -> None:
        self._group = group
        arcs: list[list[tuple[Int64, Int64, Int64]]] = [[] for _ in range(int(group.steps.max()))]
        for place, cell, nodes, modes, node, slot in group.layers.tolist():
            heads = group.cells[cell : cell + nodes * modes].reshape(nodes, modes).astype(np.int64)
            tail, mode = np.nonzero(heads < group.nodes)
            arcs[place].append((tail + node, heads[tail, mode], mode + slot))
        parts = [tuple(map(np.concatenate, zip(*own, strict=True))) for own in arcs]
        self._layers = [_Layer.of(*part) for part in parts if part[0].size]

    def to_go(self, costs: Int64) -> Int64:
        found = self._group.started(self._group.ends)
        for layer in reversed(self._layers):
            onwards = costs[layer.slot_by_tail] + found[layer.head_by_tail]
            found[layer.tails] = np.minimum.reduceat(onwards, layer.starts_by_tail)
        return found

    def marginals(self, costs: Int64) -> tuple[Int64, Int64]:
        to_go, spent = self.to_go(costs), self._group.started(self._group.roots)
        least = np.full(costs.size, _DEAR)
        for layer in self._layers:
            through = spent[layer.tail_by_slot] + to_go[layer.head_by_slot]
            least[layer.slots] = costs[layer.slots] + np.minimum.reduceat(through, layer.starts_by_slot)
            reached = spent[layer.tail_by_head] + costs[layer.slot_by_head]
            spent[layer.heads] = np.minimum.reduceat(reached, layer.starts_by_head)
        return to_go[self._group.roots], least


class _CompiledWalks:
    """Node by node, by numba: a fifth of the time."""

    def __init__(self, group: _Group) -> None:
        self._group = group

    def to_go(self, costs: Int64) -> Int64:
        from mipplan_formulations.compiled import go_back

        found = self._group.started(self._group.ends)
        go_back(self._group.layers, self._group.cells, costs, found)
        return found

    def marginals(self, costs: Int64) -> tuple[Int64, Int64]:
        from mipplan_formulations.compiled import go_on

        group, to_go, through = self._group, self.to_go(costs), np.full(costs.size, _DEAR)
        go_on(group.layers, group.cells, costs, to_go, group.started(group.roots), through)
        return to_go[group.roots], through


def _are_loops_compiled() -> bool:
    """Whether numba is there for them; it is loaded to see."""
    from mipplan_formulations.compiled import IS_COMPILED

    return IS_COMPILED


@dataclass(frozen=True)
class AscentParams:
    """Numbers that tune the ascent; measured on the layered graph of 100 stages."""

    most_states: int = 3_000
    """At most this many states of a path after an activity, because drawing takes longer than a hundred passes."""
    stride: int = 5
    """Passes between two attempts to go on farther the same way: five raised the bound faster than ten."""
    first_reach: float = 4.0
    """At first so many times as far as these passes have gone."""
    farther: float = 1.5
    """After a success so many times as far, after a failure half as far."""
    farthest: float = 16.0
    """At most so many times as far, because shares are to stay numbers that add up in int64."""
    worth_compiling: int = 100_000
    """From so many arcs on passes are compiled, where numba is there: with fewer it takes longer to load."""


DEFAULT = AscentParams()


class DualAscent:
    """The shares of the costs, and passes that raise the bound.

    Parameters
    ----------
    costs : sequence of int64 arrays, shape (modes,)
        Of the modes, per activity.
    routes : sequence of sequences of int
        The activities of each path that is to be kept; the more paths, the better the bound.
    diagrams : sequence of Diagram
        Of each path.
    prices : sequence of float64 arrays, shape (modes of all activities,), optional
        Per path, what it takes of the cost of each mode to begin with, as the dual values of a linear relaxation say;
        other modes than those of its activities do not count.
    params : AscentParams, optional
    is_compiled : bool, optional
        Whether passes use machine code; by default where numba is installed and it is worth it. Bounds are the same.
    """

    def __init__(
        self,
        costs: Sequence[Int64],
        routes: Sequence[Sequence[int]],
        diagrams: Sequence[Diagram],
        prices: Sequence[Float64] | None = None,
        params: AscentParams = DEFAULT,
        *,
        is_compiled: bool | None = None,
    ) -> None:
        self._params, self._reach = params, params.first_reach
        cost, self._counts = np.concatenate(costs), np.array([own.size for own in costs])
        self._starts = np.concatenate([[0], np.cumsum(self._counts)]).astype(np.int64)
        dearest = sum(int(own.max()) for own in costs)
        self.scale = 1 << max(0, _BITS - 8 - max(1, dearest).bit_length())
        self._most = self.scale * (dearest + 1)
        self._cost = cost * self.scale
        self.rest = self._cost.copy()
        every = [np.arange(a, b) for a, b in zip(self._starts[:-1], self._starts[1:], strict=True)]
        self._impossible = np.zeros(self.rest.size, dtype=np.bool_)
        self._groups: list[_Group] = []
        self._shares: list[Int64] = []
        self._members = _disjoint(routes)
        for members in self._members:
            group = _Group([[every[v] for v in routes[p]] for p in members], [diagrams[p] for p in members])
            share = np.zeros(group.columns.size, dtype=np.int64)
            if prices is not None:
                taken = np.array([prices[p] for p in members])[group.path_of, group.columns]
                limit = 8.0 * self._most  # prices that nobody would ask for must not leave int64
                share = np.rint(np.clip(taken * self.scale, -limit, limit)).astype(np.int64)
                self.rest[group.columns] -= share
            self._impossible[group.columns[~group.possible]] = True
            self._groups.append(group)
            self._shares.append(share)
        # No plan has a mode that some path has no walk with, so it may cost anything.
        self._cost[self._impossible] += self._most
        self.rest[self._impossible] += self._most
        if is_compiled is None:
            is_compiled = self.arcs >= params.worth_compiling and _are_loops_compiled()
        walks = _CompiledWalks if is_compiled else _LayeredWalks
        self._walks: list[_Walks] = [walks(group) for group in self._groups]

    @property
    def arcs(self) -> int:
        """How many arcs a pass goes along."""
        return sum(group.arcs for group in self._groups)

    def ascend(self, passes: int, ends_at: float) -> int:
        """Make so many passes, to and fro, or fewer if the ``time.monotonic()`` value comes first; say how many.

        Every few passes the way that the shares have gone is gone on for some more, and if that is no better, back.
        """
        done, params = 0, self._params
        while done < passes and time.monotonic() <= ends_at:
            before = [share.copy() for share in self._shares]
            for number in range(min(params.stride, passes - done)):
                order = range(len(self._groups))
                for group in order if number % 2 == 0 else reversed(order):
                    self._visit(group)
                done += 1
                if time.monotonic() > ends_at:
                    return done
            self._stretch(before)
        return done

    def _stretch(self, before: Sequence[Int64]) -> None:
        """Go on from what the shares were before by way of what they are, if the bound says that it is worth it."""
        shares, rest, bound = self._shares, self.rest, self._total()
        sixteenths = round(16 * self._reach)
        self._shares = [now + (now - was) * sixteenths // 16 for was, now in zip(before, shares, strict=True)]
        self.rest = self._cost.copy()
        for group, share in zip(self._groups, self._shares, strict=True):
            self.rest[group.columns] -= share  # no column twice: a group's paths have nothing in common
        if self._total() > bound:
            self._reach = min(self._reach * self._params.farther, self._params.farthest)
        else:
            self._shares, self.rest = shares, rest
            self._reach = max(self._reach / 2, 0.5)

    def _total(self) -> int:
        """The bound, scaled."""
        lowest = sum(int(own.min()) for own in self._split(self.rest))
        paths = (
            walks.to_go(own)[group.roots]
            for walks, group, own in zip(self._walks, self._groups, self._shares, strict=True)
        )
        return lowest + sum(sum(least.tolist()) for least in paths)  # where nothing is allowed, beyond int64

    def _visit(self, number: int) -> None:
        """Let the paths of a group take what is left at their activities, and give back equal parts."""
        group = self._groups[number]
        costs = self._shares[number] + self.rest[group.columns]
        _, through = self._walks[number].marginals(costs)
        given = np.where(group.possible, through // group.steps[group.path_of], costs)
        self.rest[group.columns] = given
        self._shares[number] = costs - given

    def guide(self) -> tuple[DualBound, Float64]:
        """The bound with an excess per mode, all of which add up; and a bound per mode on what selections with it cost.

        The latter, shape (binaries,), knows more of the mode alone. The bound is infinite if a path cannot be kept.
        """
        total, alone = 0, self.rest.copy()
        for walks, group, share in zip(self._walks, self._groups, self._shares, strict=True):
            least, through = walks.marginals(share)
            if least.max() >= _DEAR // 2:
                nothing = np.zeros(self.rest.size)
                return DualBound(float("inf"), self._split(nothing)), nothing + np.inf
            total += int(least.sum())
            alone[group.columns] += np.where(group.possible, through - least[group.path_of], 0)
        lowest = np.array([own.min() for own in self._split(self.rest)])
        total += int(lowest.sum())
        of_activity = np.repeat(lowest, self._counts)
        bound = total / self.scale
        excess = (self.rest - of_activity) / self.scale
        alone_cost = np.where(self._impossible, np.inf, bound + (alone - of_activity) / self.scale)
        return DualBound(bound, self._split(excess)), alone_cost

    def prices(self) -> list[Float64]:
        """What each path takes of the cost of each mode by now, as asked for by the next ascent."""
        taken = [np.zeros(self.rest.size) for _ in range(sum(map(len, self._members)))]
        for members, group, share in zip(self._members, self._groups, self._shares, strict=True):
            for place, p in enumerate(members):
                own = group.path_of == place
                taken[p][group.columns[own]] = share[own] / self.scale
        return taken

    def _split(self, values: Float64 | Int64) -> tuple[Float64, ...]:
        return tuple(np.split(values, self._starts[1:-1]))


def _disjoint(routes: Sequence[Sequence[int]]) -> list[list[int]]:
    """Groups of paths, by number, in which no two have an activity in common."""
    groups: list[list[int]] = []
    used: list[set[int]] = []
    for p, route in enumerate(routes):
        own = set(route)
        place = next((k for k, others in enumerate(used) if not own & others), len(groups))
        if place == len(groups):
            groups.append([])
            used.append(set())
        groups[place].append(p)
        used[place] |= own
    return groups
