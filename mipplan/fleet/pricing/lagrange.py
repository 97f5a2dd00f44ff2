"""One pipeline under one set of prices: a Lagrangean bound on its cost, and the choices that the bound leaves.

With a multiplier per row (4) of formulation `paths`, and per cap, every stage chooses for itself: the option with the
least sum of cost and what it takes of the rows, multiplied. Any multipliers at all give a bound, so those of the last
prices are where the next ascent starts; and what an option adds to the bound if it is chosen decides whether it can be
part of a plan below a given cost.

References
----------
M. L. Fisher, "The Lagrangian relaxation method for solving integer programming problems", Management Science 27
(1981), doi:10.1287/mnsc.27.1.1. Steps: B. T. Polyak, "Minimization of unsmooth functionals", USSR Comput. Math.
Math. Phys. 9 (1969), doi:10.1016/0041-5553(69)90061-5.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Bool, Float64, Int64
from mipplan.fleet.pricing.tables import PricingParams, PricingTables
from mipplan.options import frontier
from mipplan.planner import Bounds, Candidates, PathPart, StagePart, list_choices

#: The sums below are rounded by at most this share of their terms' absolute values.
_ROUNDING = 1e-10
#: Where there is no limit on devices.
_NO_LIMIT = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class LagrangianBound:
    """What multipliers prove of all choices that keep the rows."""

    bound: float  # none of them costs less
    added: Float64  # none with this option costs less than the bound and this, shape (N,)
    multipliers: Float64  # shape (R,)


@dataclass(frozen=True, eq=False)
class PricedRows:
    """All N options of all stages side by side, and what they take of R rows: shares of the deadline, or of caps."""

    cost: Int64  # shape (N,)
    #: Duration, and wait where the row is about this stage; last what is taken of caps; shape (N, R).
    taken: Float64
    room: Float64  # the deadline less the path's lag, or a cap; shape (R,)
    starts: Int64  # where each stage's options start

    @cached_property
    def _counts(self) -> Int64:
        """How many options each stage has."""
        return np.diff(self.starts, append=self.cost.size)

    def bound(self, multipliers: Float64) -> LagrangianBound:
        """Evaluate the bound at given multipliers, safely rounded down."""
        value = self.cost + self.taken @ multipliers
        least = np.minimum.reduceat(value, self.starts)
        terms = float(np.abs(least).sum() + np.abs(self.room) @ multipliers)
        bound = float(least.sum() - self.room @ multipliers) - _ROUNDING * (1.0 + terms)
        return LagrangianBound(bound, value - np.repeat(least, self._counts), multipliers)

    def ascend(
        self, best: LagrangianBound, target: float, steps: int, params: PricingParams
    ) -> LagrangianBound:
        """Improve multipliers by subgradient steps towards `target`, a cost that is thought to be in reach."""
        current, reach, waited = best, 1.0, 0
        spans = list(itertools.pairwise([*self.starts.tolist(), self.cost.size]))
        for _ in range(steps):
            if best.bound >= target:
                break
            chosen = [start + int(np.argmin(current.added[start:end])) for start, end in spans]
            slope = self.taken[chosen].sum(axis=0) - self.room
            slope[(slope < 0) & (current.multipliers <= 0)] = 0.0
            steepness = float(slope @ slope)
            if steepness <= 1e-18:
                break  # no row is broken, and none that counts is slack: this is the best there is
            step = reach * (target - current.bound) / steepness
            current = self.bound(np.maximum(current.multipliers + step * slope, 0.0))
            waited = 0 if current.bound > best.bound * (1.0 + params.least_gain) else waited + 1
            if waited >= params.patience:
                break
            if waited and waited % 4 == 0:
                reach /= 2
            if current.bound > best.bound:
                best = current
        return best


@dataclass(eq=False)
class PricedTables:
    """The tables of one pipeline under one set of prices, and perhaps limits on devices, both of shape (H,)."""

    tables: PricingTables
    prices: Int64
    limits: Int64 | None
    multipliers: Float64  # where the last ascent ended; to start from, of no use if they belong to other rows
    params: PricingParams

    def __post_init__(self) -> None:
        capacities = np.full_like(self.prices, _NO_LIMIT) if self.limits is None else self.limits
        self._limited = np.flatnonzero(capacities < _NO_LIMIT)
        caps = np.array([cap.most for cap in self.tables.caps], dtype=np.int64)
        self._capacities = np.concatenate([capacities[self._limited], caps])
        costs = [table.cost(self.prices) for table in self.tables.stages]
        self._rows = [
            # What beats another at these prices may use more of a limited device, or of a cap, or let more overtake.
            np.arange(cost.size)
            if self.limits is not None or self.tables.caps or table.options.passing.size
            else np.flatnonzero(frontier(cost, table.options.latency_ns, table.options.speed))
            for table, cost in zip(self.tables.stages, costs, strict=True)
        ]
        self._starts = np.cumsum([0, *(rows.size for rows in self._rows[:-1])])
        self._cost = np.concatenate([cost[rows] for cost, rows in zip(costs, self._rows, strict=True)])
        #: What the dearest choice costs.
        self.dearest = sum(np.maximum.reduceat(self._cost, self._starts).tolist())
        self._proven = 0
        size = sum(len(path.stages) for path in self.tables.paths) + len(self.tables.caps)
        known = self.multipliers if self.multipliers.size == size else np.zeros(size)
        self._ascend(known, self.params.first_steps)

    @property
    def bound(self) -> int:
        """No certified plan costs less."""
        return max(self._proven, math.ceil(self._best.bound))

    def raise_bound(self, proven: int) -> None:
        """Note that no certified plan costs less than `proven`."""
        self._proven = max(self._proven, proven)

    def parts(self, most: int, sharpen: Callable[[int, Int64], None]) -> list[StagePart] | None:
        """Return options that may be part of a plan of at most that cost; None if some stage has none.

        `sharpen` makes the waits of some options exact, given the entry of the tables' waits and the rows.
        """
        for ascends in (True, True, False):
            kept = self._best.bound + self._best.added <= most
            if not np.logical_or.reduceat(kept, self._starts).all():
                return None
            # After the last ascent waits of what it has brought back are sharpened, too.
            if not self._sharpen(self._split(kept), sharpen) or not ascends:
                break
            self._ascend(self.multipliers, self.params.later_steps)
        parts = []
        by_stage = map(self._split, (kept, self._cost, self._best.added))
        for table, own, marked, cost, added in zip(self.tables.stages, self._rows, *by_stage, strict=True):
            rows = own[marked]
            usage = np.where(table.device[rows, None] == self._limited, table.charged[rows, None], 0)
            usage = np.concatenate([usage, table.options.uses[rows]], axis=1)
            parts.append(StagePart(rows, cost[marked], added[marked], table.options.latency_ns[rows], usage))
        return parts

    def choices(self, parts: Sequence[StagePart], most: int, labels: int | None) -> Candidates:
        """List all choices of at most that cost within the deadline rows, limits and caps, the cheapest first.

        Raises `TooManyError` if there are more than `labels` partial ones.
        """
        paths = []
        for path in self.tables.paths:
            members = zip(path.stages, path.waits, strict=True)
            waits = tuple(self.tables.waits[entry].ns[parts[stage].rows] for stage, entry in members)
            paths.append(PathPart(path.stages, path.lag_ns, waits))
        bounds = Bounds(self.tables.deadline_ns, most - self._best.bound, most, self._capacities, labels)
        return list_choices(parts, paths, bounds, self.params.walk).in_order()

    def _sharpen(self, kept: Sequence[Bool], sharpen: Callable[[int, Int64], None]) -> bool:
        """Make the waits of options in question exact; return whether any was not."""
        sharper = False
        for entry, wait in enumerate(self.tables.waits):
            rows = self._rows[wait.stage][kept[wait.stage]]
            if not wait.exact[rows].all():
                sharpen(entry, rows)
                sharper = True
        return sharper

    def _split(self, values: NDArray[Any]) -> list[NDArray[Any]]:
        """Part values of all options by stage."""
        return np.split(values, self._starts[1:])

    def _ascend(self, multipliers: Float64, steps: int) -> None:
        rows = self._priced_rows()
        best = rows.bound(multipliers)
        cheapest = float(sum(np.minimum.reduceat(self._cost, self._starts).tolist()))
        target = max(best.bound, float(self._proven), cheapest) * 1.03 + 1.0
        for _ in range(6):
            best = rows.ascend(best, target, steps, self.params)
            if best.bound < target * 0.99:
                break
            target = best.bound * 1.2 + 1.0  # the goal was too near
        self._best, self.multipliers = best, best.multipliers

    def _priced_rows(self) -> PricedRows:
        """Rows (4) of formulation `paths` over the options in question, and one per cap."""
        deadline, count = float(self.tables.deadline_ns), len(self.tables.caps)
        taken = np.zeros((self._cost.size, sum(len(path.stages) for path in self.tables.paths) + count))
        room = np.empty(taken.shape[1])
        blocks = self._split(taken)
        first = 0
        for path in self.tables.paths:
            columns = slice(first, first + len(path.stages))
            room[columns] = (deadline - path.lag_ns) / deadline
            for place, (stage, entry) in enumerate(zip(path.stages, path.waits, strict=True)):
                rows = self._rows[stage]
                latency_ns = self.tables.stages[stage].options.latency_ns[rows]
                blocks[stage][:, columns] = (latency_ns / deadline)[:, None]
                blocks[stage][:, first + place] += self.tables.waits[entry].ns[rows] / deadline
            first += len(path.stages)
        for place, cap in enumerate(self.tables.caps):
            used = [t.options.uses[r, place] for t, r in zip(self.tables.stages, self._rows, strict=True)]
            taken[:, first + place] = np.concatenate(used) / max(1, cap.most)
            room[first + place] = cap.most / max(1, cap.most)
        return PricedRows(self._cost, taken, room, self._starts)
