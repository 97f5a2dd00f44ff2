"""What a fleet minimises, in numbers: prices of devices, what is scarce, and what leaving a pipeline out costs."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from mipplan.core import Int64
from mipplan.fleet.columns import Column
from mipplan.fleet.request import Fleet
from mipplan_formulations import ColumnPool, Columns, Resource

#: The price of one device beyond a limit starts at this many times that of the dearest device.
_EXCESS = 1
#: A thousandth of a weight, in what admission maximises; large, so that rounded duals say enough.
WEIGHT_UNIT = 10**9


@dataclass(frozen=True, eq=False)
class Objective:
    """Minimise device prices and prices of leaving out, such that each row's use stays within its capacity.

    Attributes
    ----------
    prices : int64, shape (H,)
        Of one device of each hardware type.
    rows : tuple of str
        Names of what is scarce: limited hardware types, and the budget.
    usage : int64, shape (r, H)
        What one device of each type takes of each row.
    capacity : int64, shape (r,)
    excess : int64, shape (r,)
        Price of one unit beyond a capacity: the most a dual can rise to.
    forgone : int64, shape (N,), or None
        Price of leaving each pipeline out; None if all have to be served.
    """

    prices: Int64
    rows: tuple[str, ...]
    usage: Int64
    capacity: Int64
    excess: Int64
    forgone: Int64 | None = None

    @cached_property
    def step(self) -> int:
        """Costs of choices are multiples of this."""
        forgone = [] if self.forgone is None else self.forgone.tolist()
        return math.gcd(*self.prices.tolist(), *forgone) or 1

    def raised_to_step(self, bound: int) -> int:
        """Return the least cost of a choice, given that none is below `bound`."""
        return -(-bound // self.step) * self.step

    def device_prices(self, duals: Int64) -> Int64:
        """Prices of devices with the duals of all rows added, shape (H,)."""
        return self.prices + duals @ self.usage

    def cost(self, column: Column) -> int:
        """What a plan costs."""
        return int(self.prices @ np.array(column.devices, dtype=np.int64))

    def pool(self, columns: list[list[Column]], *, firm: bool) -> ColumnPool:
        """Return the restricted master over the known columns of every pipeline."""
        return ColumnPool(
            tuple(self._columns(known) for known in columns),
            tuple(
                Resource(name, int(capacity))
                for name, capacity in zip(self.rows, self.capacity.tolist(), strict=True)
            ),
            None if self.forgone is None else tuple(self.forgone.tolist()),
            None if firm else tuple(self.excess.tolist()),
        )

    def raised(self, factor: int) -> Objective:
        """Return the same with dearer excess."""
        return replace(self, excess=self.excess * factor)

    def _columns(self, known: list[Column]) -> Columns:
        devices = np.array([column.devices for column in known], dtype=np.int64).reshape(-1, self.prices.size)
        return Columns(devices @ self.prices, devices @ self.usage.T)


def cost_objective(fleet: Fleet) -> Objective:
    """Return the objective of the cheapest fleet within the limits."""
    names, usage, capacity = _limits(fleet)
    excess = np.full(len(names), int(fleet.prices.max()) * _EXCESS, dtype=np.int64)
    return Objective(fleet.prices, names, usage, capacity, excess)


def fit_objective(fleet: Fleet) -> Objective:
    """Return the objective of missing as few devices as possible, by price: 0 exactly if all fits."""
    names, usage, capacity = _limits(fleet)
    excess = usage @ fleet.prices
    return Objective(np.zeros_like(fleet.prices), names, usage, capacity, excess)


def weight_objective(fleet: Fleet) -> Objective:
    """Return the objective of leaving out as little weight as possible, within limits and budget."""
    names, usage, capacity = _limits(fleet)
    if fleet.budget is not None:
        names = (*names, "budget")
        usage = np.vstack([usage, fleet.prices])
        capacity = np.append(capacity, fleet.budget)
    forgone = np.array([member.weight * WEIGHT_UNIT for member in fleet.members], dtype=np.int64)
    excess = np.full(len(names), int(forgone.max()) + 1, dtype=np.int64)
    return Objective(np.zeros_like(fleet.prices), names, usage, capacity, excess, forgone)


def _limits(fleet: Fleet) -> tuple[tuple[str, ...], Int64, Int64]:
    """Names, uses and capacities of the rows of limited hardware."""
    names = tuple(name for name in fleet.hardware if name in fleet.limits)
    usage = np.array(
        [[int(name == other) for other in fleet.hardware] for name in names], dtype=np.int64
    ).reshape(-1, len(fleet.hardware))
    return names, usage, np.array([fleet.limits[name] for name in names], dtype=np.int64)
