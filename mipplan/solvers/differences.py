"""Event times in exact arithmetic: continuous columns that only occur alone or as differences of two.

Once the integer columns are fixed, rows such as ``early_2 - early_1 >= duration`` form a system of difference
constraints: it has a solution, then one in integers, unless a cycle of its rows adds up to a contradiction
[1]_. The sum of that cycle's rows no longer has event times in it: a row of integer columns that the model
implies, and that can be judged, and cut off, like any other.

References
----------
.. [1] T. H. Cormen, C. E. Leiserson, R. L. Rivest, C. Stein, "Introduction to Algorithms", section on difference
   constraints and shortest paths.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from mipplan_formulations import LinearModel

_UNREACHED = 2**62


@dataclass(frozen=True, eq=False)
class Conflict:
    """A row that a model implies and a choice of its integer columns breaks: ``coefficients @ x <= upper``.

    Attributes
    ----------
    coefficients : int64 array, shape (n,)
        Zero for continuous columns.
    upper : int
    """

    coefficients: NDArray[np.int64]
    upper: int


@dataclass(frozen=True, eq=False)
class DifferenceSystem:
    """The rows and bounds of a model's continuous columns, as arcs ``time[head] <= time[tail] + weight``.

    The origin, whose time is 0, is the node after the last continuous column. A weight depends on the integer
    columns: ``constants - (signs * model rows) @ x``; arcs of column bounds have no row.

    Attributes
    ----------
    times : int64 array, shape (k,)
        Continuous columns.
    integers : int64 csr array, shape (rows, n)
        The model's matrix without continuous columns.
    tails, heads, rows, signs, constants : int64 arrays, shape (arcs,)
        Row -1: none.
    """

    times: NDArray[np.int64]
    integers: sparse.csr_array[Any, tuple[int, int]]
    tails: NDArray[np.int64]
    heads: NDArray[np.int64]
    rows: NDArray[np.int64]
    signs: NDArray[np.int64]
    constants: NDArray[np.int64]

    @property
    def is_row_in(self) -> NDArray[np.bool_]:
        """Whether each row of the model has a continuous column."""
        found = np.zeros(self.integers.shape[0], dtype=np.bool_)
        found[self.rows[self.rows >= 0]] = True
        return found

    def settle(self, values: NDArray[np.float64]) -> NDArray[np.float64] | Conflict:
        """Return the values with the latest times that keep all rows and bounds exactly, or why there are none.

        Parameters
        ----------
        values : float64 array, shape (n,)
            Integer columns hold integers; what continuous ones hold plays no part.
        """
        weights = self._weights(values)
        origin = self.times.size
        distance = np.full(origin + 1, _UNREACHED, dtype=np.int64)
        distance[origin] = 0
        arrived_by = np.full(origin + 1, -1, dtype=np.int64)
        # every time has an upper bound, so all nodes are reached from the origin in the first round
        for _ in range(origin + 2):
            offered = distance[self.tails] + weights
            shortened = distance.copy()
            np.minimum.at(shortened, self.heads, offered)
            news = (offered == shortened[self.heads]) & (offered < distance[self.heads])
            if not news.any():
                settled = values.copy()
                settled[self.times] = distance[:origin]
                return settled
            arrived_by[self.heads[news]] = np.flatnonzero(news)
            distance = shortened
            cycle = self._find_cycle(arrived_by, origin) if distance[origin] < 0 else []
            if cycle and weights[cycle].sum() < 0:
                return self._add_up(cycle)
        last = int(self.heads[news][0])
        for _ in range(origin + 1):  # whoever still comes closer after so many rounds does so around a cycle
            last = int(self.tails[arrived_by[last]])
        return self._add_up(self._find_cycle(arrived_by, last))

    def _weights(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        integers = np.rint(values).astype(np.int64)
        integers[self.times] = 0
        activity = self.integers @ integers
        used = np.where(self.rows >= 0, activity[self.rows] if activity.size else 0, 0)
        return np.asarray(self.constants - self.signs * used, dtype=np.int64)

    def _find_cycle(self, arrived_by: NDArray[np.int64], node: int) -> list[int]:
        """Arcs of the cycle met on the way back from a node; empty if the way ends."""
        position: dict[int, int] = {}
        arcs: list[int] = []
        while node not in position:
            position[node] = len(arcs)
            arc = int(arrived_by[node])
            if arc < 0:
                return []
            arcs.append(arc)
            node = int(self.tails[arc])
        return arcs[position[node] :]

    def _add_up(self, cycle: list[int]) -> Conflict:
        with_row = [arc for arc in cycle if self.rows[arc] >= 0]
        parts = self.integers[self.rows[with_row]].T @ self.signs[with_row]
        return Conflict(np.asarray(parts, dtype=np.int64), int(self.constants[cycle].sum()))


def find_differences(model: LinearModel) -> DifferenceSystem | None:
    """Return the system of a model's continuous columns; None if it has none, or they occur in other ways."""
    times = np.flatnonzero(~model.integrality)
    if times.size == 0:
        return None
    part = sparse.csr_array(model.matrix[:, times])
    part.sort_indices()
    entries = np.diff(part.indptr)
    sums = part @ np.ones(times.size, dtype=np.int64)
    bounds = np.concatenate([model.column_lower[times], model.column_upper[times]])
    if np.any(np.abs(part.data) != 1) or np.any(entries > 2) or np.any((entries == 2) & (sums != 0)):
        return None
    if np.any(bounds % 1):
        return None
    integers: Any = model.matrix @ sparse.diags_array(
        model.integrality.astype(np.int64), format="csr", dtype=np.int64
    )
    tails, heads, rows, signs, constants = _row_arcs(model, part)
    origin, nodes = np.full(times.size, times.size), np.arange(times.size)
    none = np.full(times.size, -1)
    zeros = np.zeros(times.size, dtype=np.int64)
    return DifferenceSystem(
        times.astype(np.int64),
        integers,
        np.concatenate([tails, origin, nodes]).astype(np.int64),
        np.concatenate([heads, nodes, origin]).astype(np.int64),
        np.concatenate([rows, none, none]).astype(np.int64),
        np.concatenate([signs, zeros, zeros]),
        np.concatenate([constants, model.column_upper[times], -model.column_lower[times]]).astype(np.int64),
    )


def _row_arcs(
    model: LinearModel, part: sparse.csr_array[Any, tuple[int, int]]
) -> tuple[NDArray[np.int64], ...]:
    """Tails, heads, rows, signs and constants of the arcs that the sides of rows make."""
    origin = part.shape[1]
    row_of_entry = np.repeat(np.arange(part.shape[0]), np.diff(part.indptr))
    plus, minus = np.full(part.shape[0], origin), np.full(part.shape[0], origin)
    plus[row_of_entry[part.data > 0]] = part.indices[part.data > 0]
    minus[row_of_entry[part.data < 0]] = part.indices[part.data < 0]
    mixed = np.diff(part.indptr) > 0
    above = np.flatnonzero(mixed & np.isfinite(model.row_upper))
    below = np.flatnonzero(mixed & np.isfinite(model.row_lower))
    return (
        np.concatenate([minus[above], plus[below]]),
        np.concatenate([plus[above], minus[below]]),
        np.concatenate([above, below]),
        np.concatenate([np.ones(above.size, dtype=np.int64), np.full(below.size, -1, dtype=np.int64)]),
        np.concatenate([model.row_upper[above], -model.row_lower[below]]).astype(np.int64),
    )
