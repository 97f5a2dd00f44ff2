"""Decision diagrams of paths, one each: what is known of a path after some of its activities, and how it can go on.

A state is a pair of times: T without a wait, and L with the longest so far. A mode of duration d and wait w leads on to

    T + d    and    max(L + d, T + d + w),

and a path may end with any L up to its deadline. So activities that take D together, and with the longest of their
waits X, can follow where L is at most the deadline less D, and T at most the deadline less X: states between the same
of these *limits* go on alike, and are one from the outset. States from which the same modes can follow, all the way,
are one node of the diagram [1]_. If there are too many states, some are joined and given the least T and L of them:
then the diagram has more walks than the path has choices that meet the deadline, never fewer, so bounds stay
bounds [2]_.

References
----------
.. [1] R. E. Bryant, "Graph-based algorithms for Boolean function manipulation", IEEE Transactions on Computers C-35
   (1986), doi:10.1109/TC.1986.1676819.
.. [2] H. R. Andersen, T. Hadzic, J. N. Hooker, P. Tiedemann, "A constraint store based on multivalued decision
   diagrams", CP 2007, doi:10.1007/978-3-540-74970-7_11.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mipplan_formulations.linear import Int64
from mipplan_formulations.time_cost import Path, TimeCostProblem

_BEFORE = -(2**60)
"""A time before any other."""
_MOST_CHOICES = 1 << 14
"""At most this many choices of what follows are looked at for limits, because sorting takes time."""
_MOST_CELLS = 1 << 22
"""Up to so many pairs of limits are numbered without sorting, by a table of all of them."""


@dataclass(frozen=True, eq=False)
class Diagram:
    """The choices of modes along one path that meet its deadline, as walks from the first node to the last.

    Per activity of the path an array, shape (nodes before it, its modes): the node after it, -1 where none follows.
    There is one node before the first activity and one behind the last; walks from the first reach every other.
    """

    children: tuple[Int64, ...]

    @property
    def is_free(self) -> bool:
        """Whether every choice meets the deadline: there is one node before each activity, and every mode leads on."""
        return all(layer.shape[0] == 1 and layer.min() >= 0 for layer in self.children)

    def keep(self, kept: Sequence[Int64]) -> Diagram:
        """The walks along modes that are kept: per activity of the path, their numbers, ascending."""
        if all(own.size == layer.shape[1] for own, layer in zip(kept, self.children, strict=True)):
            return self
        return Diagram(
            _reached(_merged([layer[:, own] for own, layer in zip(kept, self.children, strict=True)]))
        )


def draw(problem: TimeCostProblem, path: Path, most_states: int) -> Diagram:
    """Draw the diagram of a path of a problem, with at most `most_states` states after an activity before any merge."""
    room = problem.deadline - path.lag
    durations = [problem.activities[v].duration for v in path.activities]
    late = [
        duration + np.maximum(waits, path.least_wait)
        for duration, waits in zip(durations, path.waits, strict=True)
    ]
    # What the activities behind take at least: states that do not leave so much lead nowhere.
    least = np.cumsum([0, *(int(own.min()) for own in reversed(durations))])[::-1]
    limits = _limits(durations, late, room)
    early, latest = np.zeros(1, dtype=np.int64), np.full(1, _BEFORE)
    nexts: list[Int64] = []
    for place, (duration, with_wait) in enumerate(zip(durations, late, strict=True)):
        after = step(early, latest, duration, with_wait)
        fits = after[1] + least[place + 1] <= room
        child = np.full(fits.shape, -1, dtype=np.int64)
        if place + 1 == len(durations):
            child[fits] = 0
        else:
            early, latest = after[0][fits], after[1][fits]
            number, own_limits = np.arange(early.size), limits[place + 1]
            if own_limits is not None:
                number, early, latest = _alike_by(own_limits, early, latest)
            if own_limits is None or early.size > most_states:
                joined, early, latest = _gather(early, latest, most_states, room)
                number = np.where(number >= 0, joined[number], -1)
            child[fits] = number
        nexts.append(child)
    if not all(child.size for child in nexts):  # nothing meets the deadline
        nexts = [np.full((1, duration.size), -1, dtype=np.int64) for duration in durations]
    return Diagram(_reached(_merged(nexts)))


def step(early: Int64, latest: Int64, duration: Int64, with_wait: Int64) -> tuple[Int64, Int64]:
    """States after each mode, shape (states, modes), given duration and duration + wait of the modes."""
    after = early[:, None] + duration[None, :]
    return after, np.maximum(latest[:, None] + duration[None, :], early[:, None] + with_wait[None, :])


def _limits(durations: Sequence[Int64], late: Sequence[Int64], room: int) -> list[tuple[Int64, Int64] | None]:
    """Per place of the path, the most that T and that L may be for each choice of what follows, ascending.

    None from the place on, backwards, where there would be too many; and before the first activity.
    """
    found: list[tuple[Int64, Int64] | None] = [None] * len(durations)
    total, waited = np.zeros(1, dtype=np.int64), np.full(1, _BEFORE)
    for place in range(len(durations) - 1, 0, -1):
        duration, with_wait = durations[place], late[place]
        if duration.size * total.size > _MOST_CHOICES:
            break
        longest = np.maximum(duration[:, None] + waited[None, :], with_wait[:, None] + total[None, :])
        fits = longest <= room
        total, waited = (duration[:, None] + total[None, :])[fits], longest[fits]
        found[place] = np.unique(room - waited), np.unique(room - total)
    return found


def _alike_by(limits: tuple[Int64, Int64], early: Int64, latest: Int64) -> tuple[Int64, Int64, Int64]:
    """Which kind each state is of, -1 where nothing can follow, and a state of each kind: between the same limits."""
    width = limits[1].size + 1
    places = [np.searchsorted(own, times) for own, times in zip(limits, (early, latest), strict=True)]
    alive = np.flatnonzero((places[0] < limits[0].size) & (places[1] < limits[1].size))
    cell = places[0][alive] * width + places[1][alive]
    if limits[0].size * width <= _MOST_CELLS:
        is_used = np.zeros(limits[0].size * width, dtype=np.bool_)
        is_used[cell] = True
        used = np.flatnonzero(is_used)
        numbers = np.empty(is_used.size, dtype=np.int64)
        numbers[used] = np.arange(used.size)
        kind = numbers[cell]
    else:
        used, kind = np.unique(cell, return_inverse=True)
        kind = kind.ravel()
    one = np.empty(used.size, dtype=np.int64)
    one[kind] = alive
    number = np.full(early.size, -1, dtype=np.int64)
    number[alive] = kind
    return number, early[one], latest[one]


def _gather(early: Int64, latest: Int64, most: int, room: int) -> tuple[Int64, Int64, Int64]:
    """The place of each state among those that differ, and these; if they are too many, those close by are joined."""
    width = 1
    while True:
        cells = [early // width, latest // width]
        if room // width >= 2**31:  # only their ranks fit one number together
            cells = [np.unique(own, return_inverse=True)[1].ravel() for own in cells]
        _, place = np.unique((cells[0] << 31) + cells[1], return_inverse=True)
        place = place.ravel()
        count = int(place.max(initial=-1)) + 1
        if count <= most:
            break
        width = max(2 * width, room >> 12)
    ends = [np.full(count, room + 1, dtype=np.int64) for _ in range(2)]
    for least, times in zip(ends, (early, latest), strict=True):
        np.minimum.at(least, place, times)
    return place, ends[0], ends[1]


def _merged(nexts: Sequence[Int64]) -> tuple[Int64, ...]:
    """Layers in which states that can be followed by the same are one node, the first layer first."""
    node = np.zeros(1, dtype=np.int64)
    layers: list[Int64] = []
    for child in reversed(nexts):
        after = np.where(child >= 0, node[child], -1)
        kind, first = _alike(after)
        node = np.where((after >= 0).any(axis=1), kind, -1)
        layers.append(after[first])
    return tuple(reversed(layers))


def _alike(rows: Int64) -> tuple[Int64, Int64]:
    """Which kind each row is of, and a row of each kind."""
    weights = np.random.default_rng(0).integers(1, 2**62, rows.shape[1])
    _, first, kind = np.unique(rows @ weights, return_index=True, return_inverse=True)
    if not np.array_equal(rows[first][kind], rows):  # two kinds of rows with the same sum of weights
        _, first, kind = np.unique(rows, axis=0, return_index=True, return_inverse=True)
    return kind.ravel(), first


def _reached(layers: Sequence[Int64]) -> tuple[Int64, ...]:
    """Layers with the nodes only that walks from the first come to."""
    nodes, found = np.zeros(1, dtype=np.int64), list[Int64]()
    for layer in layers:
        own = layer[nodes]
        nodes = np.unique(own[own >= 0])
        place = np.full(int(own.max(initial=0)) + 2, -1, dtype=np.int64)
        place[nodes] = np.arange(nodes.size)  # the last stays -1: that is what -1 finds
        found.append(place[own])
        if nodes.size == 0:  # nothing is left: all that follows is empty
            return tuple(np.full((1, other.shape[1]), -1, dtype=np.int64) for other in layers)
    return tuple(found)
