"""Every choice of options that a bound does not rule out, built stage by stage.

A partial choice is dropped as soon as its cost bound exceeds what is asked for, or some path cannot keep the deadline
however the stages to come are chosen, or its devices alone exceed a limit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan.fleet.tables import PricingTables

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
#: More partial choices than this are not worth keeping at once: a MILP solver does better.
MOST_LABELS = 150_000


class TooManyError(Exception):
    """There are more partial choices than are worth keeping."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Complete choices.

    Attributes
    ----------
    picks : int64, shape (k, stages)
        Option of each stage, as a row of its table.
    cost : int64, shape (k,)
    """

    picks: Integers
    cost: Integers

    def in_order(self) -> Candidates:
        """Return them by cost, those of equal cost by their options: the same order wherever they come from."""
        order = np.lexsort((*self.picks.T[::-1], self.cost))
        return Candidates(self.picks[order], self.cost[order])

    def keep(self, kept: NDArray[np.bool_]) -> Candidates:
        """Only those marked, shape (k,)."""
        return Candidates(self.picks[kept], self.cost[kept])


@dataclass(frozen=True, eq=False)
class StagePart:
    """What enumeration needs of one stage.

    Attributes
    ----------
    rows : int64, shape (m,)
        Rows of the stage's table that are still in question.
    cost : int64, shape (m,)
    added : float64, shape (m,)
        As in `Relaxed`.
    """

    rows: Integers
    cost: Integers
    added: Floats


def enumerate_choices(
    tables: PricingTables,
    parts: Sequence[StagePart],
    deadline_ns: int,
    spare: float,
    most: int,
    limits: Integers,
    most_labels: int | None = None,
) -> Candidates:
    """Find all choices within the deadline rows that cost at most `most`.

    Parameters
    ----------
    tables : PricingTables
    parts : sequence of StagePart
        One per stage.
    deadline_ns : int
    spare : float
        What all options of a choice may add to the bound.
    most : int
    limits : int64, shape (H,)
        Devices of each type that one pipeline can have at most.
    most_labels : int, optional
        Partial choices to keep at most; `MOST_LABELS` by default.

    Raises
    ------
    TooManyError
        If there are more of them at some stage.
    """
    order = sorted(range(len(parts)), key=lambda stage: parts[stage].rows.size)
    walk = _Walk(tables, parts, deadline_ns, spare, most, limits, most_labels or MOST_LABELS)
    for depth, stage in enumerate(order):
        walk.extend(stage, order[depth + 1 :])
    picks = np.empty((walk.cost.size, len(parts)), dtype=np.int64)
    for column, stage in zip(walk.picks, order, strict=True):
        picks[:, stage] = column
    return Candidates(picks, walk.cost)


class _Walk:
    """Partial choices, one per entry of equally long arrays."""

    def __init__(
        self,
        tables: PricingTables,
        parts: Sequence[StagePart],
        deadline_ns: int,
        spare: float,
        most: int,
        limits: Integers,
        most_labels: int,
    ) -> None:
        self._tables, self._parts = tables, parts
        self._deadline_ns, self._spare, self._most, self._limits = deadline_ns, spare, most, limits
        self._most_labels = most_labels
        self._limited = [
            device
            for device in np.flatnonzero(limits < np.iinfo(np.int64).max).tolist()
            if any((tables.stages[v].device[p.rows] == device).any() for v, p in enumerate(parts))
        ]
        self._least_ns = [
            int(tables.stages[v].options.latency_ns[part.rows].min()) for v, part in enumerate(parts)
        ]
        self._least_wait = [
            int(tables.waits[entry][parts[owner].rows].min()) for entry, owner in enumerate(tables.owners)
        ]
        self.cost = np.zeros(1, dtype=np.int64)
        self._added = np.zeros(1)
        self._duration = [np.zeros(1, dtype=np.int64) for _ in tables.paths]
        self._wait = [np.zeros(1, dtype=np.int64) for _ in tables.paths]
        self._used = [np.zeros(1, dtype=np.int64) for _ in self._limited]
        self.picks: list[Integers] = []

    def extend(self, stage: int, to_come: Sequence[int]) -> None:
        """Extend every partial choice by every option of a stage that can still lead to a complete one."""
        part = self._parts[stage]
        table = self._tables.stages[stage]
        if self.cost.size * part.rows.size > 20 * self._most_labels:
            raise TooManyError
        cheapest = sum(int(self._parts[other].cost.min()) for other in to_come)
        keeps = self._added[:, None] + part.added <= self._spare
        keeps &= self.cost[:, None] + part.cost <= self._most - cheapest
        label, option = np.nonzero(keeps)
        row = part.rows[option]
        duration, wait = self._times(stage, label, row)
        kept = self._keep_deadline(label.size, duration, wait, to_come)
        used = [
            used[label] + np.where(table.device[row] == device, table.charged[row], 0)
            for used, device in zip(self._used, self._limited, strict=True)
        ]
        for amount, device in zip(used, self._limited, strict=True):
            kept &= amount <= self._limits[device]
        if int(np.count_nonzero(kept)) > self._most_labels:
            raise TooManyError
        label, option = label[kept], option[kept]
        self.cost = self.cost[label] + part.cost[option]
        self._added = self._added[label] + part.added[option]
        self._duration = [array[kept] for array in duration]
        self._wait = [array[kept] for array in wait]
        self._used = [array[kept] for array in used]
        self.picks = [*(column[label] for column in self.picks), part.rows[option]]

    def _times(self, stage: int, label: Integers, row: Integers) -> tuple[list[Integers], list[Integers]]:
        """Durations and waits along every path, of each partial choice with its new option."""
        latency_ns = self._tables.stages[stage].options.latency_ns[row]
        duration, wait = [], []
        for p, path in enumerate(self._tables.paths):
            if stage in path.stages:
                entry = path.waits[path.stages.index(stage)]
                duration.append(self._duration[p][label] + latency_ns)
                wait.append(np.maximum(self._wait[p][label], self._tables.waits[entry][row]))
            else:
                duration.append(self._duration[p][label])
                wait.append(self._wait[p][label])
        return duration, wait

    def _keep_deadline(
        self, count: int, duration: list[Integers], wait: list[Integers], to_come: Sequence[int]
    ) -> NDArray[np.bool_]:
        """Which partial choices may still keep the deadline on every path."""
        kept = np.ones(count, dtype=bool)
        for p, path in enumerate(self._tables.paths):
            still = [(v, entry) for v, entry in zip(path.stages, path.waits, strict=True) if v in to_come]
            least_ns = path.lag_ns + sum(self._least_ns[v] for v, _ in still)
            least_wait = max((self._least_wait[entry] for _, entry in still), default=0)
            kept &= duration[p] + np.maximum(wait[p], least_wait) <= self._deadline_ns - least_ns
        return kept
