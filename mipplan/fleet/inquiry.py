"""One pipeline under one set of prices: a bound, the choices that it leaves, and those that are certified."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mipplan.core import UNLIMITED_NS, Int64
from mipplan.fleet.columns import Refused
from mipplan.fleet.knowledge import Knowledge
from mipplan.fleet.relaxation import DeadlineRows, Relaxed
from mipplan.fleet.tables import StageTable
from mipplan.options import StageOptions, frontier
from mipplan.planner import Bounds, Candidates, PathPart, StagePart, TooManyError, list_choices

#: Steps of an ascent from scratch, and with fewer options in question.
_FIRST_STEPS, _LATER_STEPS = 80, 25
#: Of all plans within a cost no more than this are judged, and no more choices listed.
_MOST_JUDGED, _MOST_LISTED = 400, 400_000


class Inquiry:
    """One pipeline under one set of prices, with or without the limits on devices."""

    def __init__(self, knowledge: Knowledge, prices: Int64, *, firm: bool) -> None:
        self._knowledge = knowledge
        self.prices = prices
        self._limits = knowledge.limits if firm else np.full_like(knowledge.limits, np.iinfo(np.int64).max)
        self._limited = np.flatnonzero(self._limits < np.iinfo(np.int64).max)
        self._tables = knowledge.required_tables
        costs = [prices[table.device] * table.charged for table in self._tables.stages]
        self._rows = [
            # What beats another at these prices may use more of a limited device.
            np.arange(cost.size) if firm else np.flatnonzero(_frontier(table, cost))
            for table, cost in zip(self._tables.stages, costs, strict=True)
        ]
        self._cost = [cost[rows] for cost, rows in zip(costs, self._rows, strict=True)]
        self._kept = [np.ones(rows.size, dtype=bool) for rows in self._rows]
        self.dearest = sum(int(cost.max()) for cost in self._cost)
        self._proven = 0
        known = np.array(knowledge.memory.multipliers)
        size = sum(len(path.stages) for path in self._tables.paths)
        self._relaxed = self._ascend(known if known.size == size else np.zeros(size), _FIRST_STEPS)

    @property
    def bound(self) -> int:
        """No certified plan costs less."""
        return max(self._proven, math.ceil(self._relaxed.bound))

    def raise_bound(self, proven: int) -> None:
        """Note that no certified plan costs less than `proven`."""
        self._proven = max(self._proven, proven)

    def cheapest_within(self, most: int) -> tuple[Int64, int] | None:
        """Cheapest certified choice that costs at most `most`, and its cost; None if there is none.

        Raises
        ------
        TooManyError
        """
        while True:
            parts = self._parts(most)
            if parts is None:
                return None
            found = self._without_refused(self._listed(parts, most))
            best, learnt = self._first_certified(found)
            if not learnt:
                return best

    def all_within(self, most: int) -> list[Int64]:
        """All certified choices of at most that cost, but for those that another one beats in every device.

        Raises
        ------
        TooManyError
            Also if judging them all would take too long.
        """
        parts = self._parts(most)
        if parts is None:
            return []
        found = self._without_refused(self._listed(parts, most, _MOST_LISTED))
        devices = self._devices(found)
        certified: list[Int64] = []
        for _ in range(_MOST_JUDGED):
            if not found.cost.size:
                return certified
            pick = found.picks[0]
            refused = self._knowledge.judge(pick)
            if refused is None:
                certified.append(pick)
                kept = (devices < devices[0]).any(axis=1)
            else:
                kept = ~self._is_refused(found, refused)
            found, devices = found.keep(kept), devices[kept]
        raise TooManyError

    def _devices(self, found: Candidates) -> Int64:
        """Devices of each type that the choices are charged for, shape (k, H)."""
        used = np.zeros((found.cost.size, self.prices.size), dtype=np.int64)
        for place, table in enumerate(self._tables.stages):
            rows = found.picks[:, place]
            used[np.arange(rows.size), table.device[rows]] += table.charged[rows]
        return used

    def _first_certified(self, found: Candidates) -> tuple[tuple[Int64, int] | None, bool]:
        """First choice that the certificate does not refuse; or whether refusing one has taught something."""
        while found.cost.size:
            pick = found.picks[0]
            refused = self._knowledge.judge(pick)
            if refused is None:
                return (pick, int(found.cost[0])), False
            if self._knowledge.has_learnt():
                return None, True
            found = found.keep(~self._is_refused(found, refused))
        return None, False

    def _without_refused(self, found: Candidates) -> Candidates:
        for refused in self._knowledge.memory.refused:
            found = found.keep(~self._is_refused(found, refused))
        return found

    def _parts(self, most: int) -> list[StagePart] | None:
        """Options that may be part of a plan of at most that cost; None if some stage has none."""
        for _ in range(2):
            if not self._drop(most):
                return None
            if not self._sharpen():
                break
            self._relaxed = self._ascend(self._relaxed.multipliers, _LATER_STEPS)
        if not self._drop(most):
            return None
        self._sharpen()  # of what the last ascent has brought back
        added = self._split(self._relaxed.added)
        return [
            StagePart(
                rows[kept],
                cost[kept],
                extra[kept],
                table.options.latency_ns[rows[kept]],
                np.where(table.device[rows[kept], None] == self._limited, table.charged[rows[kept], None], 0),
            )
            for table, rows, cost, extra, kept in zip(
                self._tables.stages, self._rows, self._cost, added, self._kept, strict=True
            )
        ]

    def _listed(self, parts: list[StagePart], most: int, labels: int | None = None) -> Candidates:
        """All choices of at most that cost within the deadline rows and the limits."""
        paths = [
            PathPart(
                path.stages,
                path.lag_ns,
                tuple(
                    self._tables.waits[entry][parts[stage].rows]
                    for stage, entry in zip(path.stages, path.waits, strict=True)
                ),
            )
            for path in self._tables.paths
        ]
        spare = most - self._relaxed.bound
        capacities = self._limits[self._limited]
        bounds = Bounds(self._knowledge.deadline_ns, spare, most, capacities, labels)
        return list_choices(parts, paths, bounds, self._knowledge.walk).in_order()

    def _drop(self, most: int) -> bool:
        """Mark what may be part of a plan of at most that cost; return whether every stage has such an option."""
        self._kept = [self._relaxed.bound + extra <= most for extra in self._split(self._relaxed.added)]
        return all(kept.any() for kept in self._kept)

    def _sharpen(self) -> bool:
        """Make the waits of options in question exact; return whether any was not."""
        sharper = False
        for entry, owner in enumerate(self._tables.owners):
            rows = self._rows[owner][self._kept[owner]]
            if not self._tables.exact[entry][rows].all():
                self._knowledge.sharpen(entry, rows)
                sharper = True
        return sharper

    def _ascend(self, multipliers: NDArray[np.float64], steps: int) -> Relaxed:
        rows = self._deadline_rows()
        best = rows.relaxed(multipliers)
        target = max(best.bound, float(self._proven), float(sum(c.min() for c in self._cost))) * 1.03 + 1.0
        for _ in range(6):
            reached = rows.ascend(best.multipliers, target, steps)
            best = reached if reached.bound > best.bound else best
            if best.bound < target * 0.99:
                break
            target = best.bound * 1.2 + 1.0  # the goal was too near
        memory = self._knowledge.memory
        self._knowledge.memory = replace(memory, multipliers=tuple(best.multipliers.tolist()))
        return best

    def _deadline_rows(self) -> DeadlineRows:
        """Rows (4) of formulation `paths` over the options on the frontier."""
        tables, deadline = self._tables, float(self._knowledge.deadline_ns)
        starts = np.cumsum([0, *(rows.size for rows in self._rows)])
        taken = np.zeros((int(starts[-1]), sum(len(path.stages) for path in tables.paths)))
        room = np.empty(taken.shape[1])
        first = 0
        for path in tables.paths:
            columns = slice(first, first + len(path.stages))
            room[columns] = (deadline - path.lag_ns) / deadline
            for place, (stage, entry) in enumerate(zip(path.stages, path.waits, strict=True)):
                block = slice(starts[stage], starts[stage + 1])
                rows = self._rows[stage]
                taken[block, columns] = (tables.stages[stage].options.latency_ns[rows] / deadline)[:, None]
                taken[block, first + place] += tables.waits[entry][rows] / deadline
            first += len(path.stages)
        return DeadlineRows(np.concatenate(self._cost), taken, room, starts[:-1])

    def _split(self, values: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        return np.split(values, np.cumsum([rows.size for rows in self._rows])[:-1])

    def _is_refused(self, found: Candidates, refused: Refused) -> NDArray[np.bool_]:
        """Which choices are no better than what was refused, shape (k,)."""
        mask = np.ones(found.cost.size, dtype=bool)
        for stage, latency_ns, period_ns, tokens in refused:
            place = self._knowledge.stages.index(stage)
            options = self._tables.stages[place].options
            worse = (options.latency_ns >= latency_ns) & _no_faster(options, period_ns, tokens)
            mask &= worse[found.picks[:, place]]
        return mask


def _frontier(table: StageTable, cost: Int64) -> NDArray[np.bool_]:
    return frontier(cost, table.options.latency_ns, table.options.speed)


def _no_faster(options: StageOptions, period_ns: int, tokens: int) -> NDArray[np.bool_]:
    """Which options have R ≤ tokens/period_ns, shape (m,); exactly."""
    largest = max(int(options.tokens.max()) * period_ns, int(options.period_ns.max()) * tokens)
    if largest < UNLIMITED_NS * 1024:
        return options.tokens * period_ns <= tokens * options.period_ns
    left = options.tokens.astype(object) * period_ns
    return np.asarray(left <= options.period_ns.astype(object) * tokens, dtype=bool)
