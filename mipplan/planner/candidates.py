"""Every choice of options that bounds do not rule out, built stage by stage.

A partial choice is dropped as soon as its cost bound exceeds what is asked for, or some path cannot keep the deadline
however the stages to come are chosen, or what it uses of a limited resource is too much already. The planner looks
through these choices near its bound, and so does the pricing of a fleet's pipelines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Float64, Int64

#: More partial choices than this are not worth keeping at once: a MILP solver does better.
MOST_LABELS = 150_000
#: So many times as many extensions are looked at, so many at once, …
_MOST_EXTENSIONS = 100
_AT_ONCE = 500_000
#: … and so many times as many may keep the bounds on cost.
_MOST_PAIRS = 20
#: Up to so many partial choices it hardly matters which stage comes next; of more, so many are looked at to decide.
_FEW, _SAMPLE = 1_000, 100


class TooManyError(Exception):
    """There are more partial choices than are worth keeping."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Complete choices.

    Attributes
    ----------
    picks : int64, shape (k, stages)
        Option of each stage, as its `StagePart` calls it.
    cost : int64, shape (k,)
    labels : int
        So many partial choices were kept at once to find them.
    """

    picks: Int64
    cost: Int64
    labels: int = 0

    def in_order(self) -> Candidates:
        """Return them by cost, those of equal cost by their options: the same order wherever they come from."""
        order = np.lexsort((*self.picks.T[::-1], self.cost))
        return Candidates(self.picks[order], self.cost[order], self.labels)

    def keep(self, kept: NDArray[np.bool_]) -> Candidates:
        """Only those marked, shape (k,)."""
        return Candidates(self.picks[kept], self.cost[kept], self.labels)


@dataclass(frozen=True, eq=False)
class StagePart:
    """The options of one stage that are in question, at least one.

    Attributes
    ----------
    rows : int64, shape (m,)
        What they are called.
    cost : int64, shape (m,)
    added : float64, shape (m,)
        What each adds to the bound on the cost of a choice.
    duration_ns : int64, shape (m,)
    usage : int64, shape (m, r)
        What each takes of every limited resource.
    """

    rows: Int64
    cost: Int64
    added: Float64
    duration_ns: Int64
    usage: Int64


@dataclass(frozen=True, eq=False)
class PathPart:
    """A path that has to keep the deadline: lag, durations, and the longest wait.

    Attributes
    ----------
    stages : tuple of int
    lag_ns : int
    waits : tuple of int64 arrays
        One per stage of the path: of each of its options in question.
    """

    stages: tuple[int, ...]
    lag_ns: int
    waits: tuple[Int64, ...]


@dataclass(frozen=True)
class Bounds:
    """What choices are asked for.

    Attributes
    ----------
    deadline_ns : int
        Of every path.
    spare : float
        What all options of a choice may add to the bound …
    most : int
        … and cost.
    capacities : int64, shape (r,)
        Of the limited resources.
    labels : int, optional
        Partial choices to keep at most; `MOST_LABELS` by default.
    """

    deadline_ns: int
    spare: float
    most: int
    capacities: Int64
    labels: int | None = None


def list_choices(parts: Sequence[StagePart], paths: Sequence[PathPart], bounds: Bounds) -> Candidates:
    """Find all choices of one option per stage that keep the bounds.

    Raises
    ------
    TooManyError
        If there are too many partial ones at some stage.
    """
    to_come = sorted(range(len(parts)), key=lambda stage: parts[stage].rows.size)
    walk = _Walk(parts, paths, bounds)
    while to_come:
        stage = walk.choose(to_come)
        to_come.remove(stage)
        walk.extend(stage, to_come)
    picks = np.empty((walk.cost.size, len(parts)), dtype=np.int64)
    for stage, column in walk.picks.items():
        picks[:, stage] = column
    return Candidates(picks, walk.cost, walk.labels)


class _Walk:
    """Partial choices, one per entry of equally long arrays."""

    def __init__(self, parts: Sequence[StagePart], paths: Sequence[PathPart], bounds: Bounds) -> None:
        self._parts, self._paths, self._bounds = parts, paths, bounds
        self._most_labels = MOST_LABELS if bounds.labels is None else bounds.labels
        self._cheapest = [int(part.cost.min()) for part in parts]
        self._least_ns = [int(part.duration_ns.min()) for part in parts]
        self._least_wait = [[int(waits.min()) for waits in path.waits] for path in paths]
        self.cost = np.zeros(1, dtype=np.int64)
        self._added = np.zeros(1)
        self._duration = [np.zeros(1, dtype=np.int64) for _ in paths]
        self._wait = [np.zeros(1, dtype=np.int64) for _ in paths]
        self._used = np.zeros((1, bounds.capacities.size), dtype=np.int64)
        self.picks: dict[int, Int64] = {}
        self.labels = 1

    def choose(self, to_come: Sequence[int]) -> int:
        """Stage to go on with: the first; where there are many partial choices, the one that leaves fewest of some."""
        if self.cost.size <= _FEW or len(to_come) == 1:
            return to_come[0]
        some = np.arange(0, self.cost.size, self.cost.size // _SAMPLE)
        left = [
            self._extensions(stage, [s for s in to_come if s != stage], some)[0].size for stage in to_come
        ]
        return to_come[int(np.argmin(left))]

    def extend(self, stage: int, to_come: Sequence[int]) -> None:
        """Extend every partial choice by every option of a stage that can still lead to a complete one."""
        part = self._parts[stage]
        if self.cost.size * part.rows.size > _MOST_EXTENSIONS * self._most_labels:
            raise TooManyError
        label, option, used, times = self._extensions(stage, to_come, np.arange(self.cost.size))
        if label.size > self._most_labels:
            raise TooManyError
        for number in range(len(self._paths)):
            if number in times:
                self._duration[number], self._wait[number] = times[number]
            else:
                self._duration[number] = self._duration[number][label]
                self._wait[number] = self._wait[number][label]
        self.cost = self.cost[label] + part.cost[option]
        self._added = self._added[label] + part.added[option]
        self._used = used
        self.picks = {other: column[label] for other, column in self.picks.items()}
        self.picks[stage] = part.rows[option]
        self.labels = max(self.labels, label.size)

    def _extensions(
        self, stage: int, to_come: Sequence[int], some: Int64
    ) -> tuple[Int64, Int64, Int64, dict[int, tuple[Int64, Int64]]]:
        """Some partial choices with every option of a stage that can still lead to a complete one.

        Returns partial choice and option of each, what it uses, and duration and wait along the paths through the
        stage.
        """
        label, option = self._affordable(stage, to_come, some)
        used = self._used[label] + self._parts[stage].usage[option]
        kept = (used <= self._bounds.capacities).all(axis=1)
        label, option, used = label[kept], option[kept], used[kept]
        found: dict[int, tuple[Int64, Int64]] = {}
        for number, path in enumerate(self._paths):
            if stage in path.stages:
                times = self._times(number, stage, label, option)
                kept = self._keep_deadline(number, *times, to_come)
                label, option, used = label[kept], option[kept], used[kept]
                # What one path drops is not worth keeping for the others: there may be hundreds.
                found = {n: (duration[kept], wait[kept]) for n, (duration, wait) in found.items()}
                found[number] = times[0][kept], times[1][kept]
        return label, option, used, found

    def _affordable(self, stage: int, to_come: Sequence[int], some: Int64) -> tuple[Int64, Int64]:
        """Pairs of some partial choices and an option of a stage that keep the bounds on cost."""
        part = self._parts[stage]
        most = self._bounds.most - sum(self._cheapest[other] for other in to_come)
        step = max(1, _AT_ONCE // part.rows.size)
        pairs, count = [], 0
        for start in range(0, max(1, some.size), step):
            own = some[start : start + step]
            keeps = self._added[own, None] + part.added <= self._bounds.spare
            keeps &= self.cost[own, None] + part.cost <= most
            label, option = np.nonzero(keeps)
            pairs.append((own[label], option))
            count += label.size
            if count > _MOST_PAIRS * self._most_labels:
                raise TooManyError
        return np.concatenate([label for label, _ in pairs]), np.concatenate([option for _, option in pairs])

    def _times(self, number: int, stage: int, label: Int64, option: Int64) -> tuple[Int64, Int64]:
        """Duration and wait along one path through a stage, of each partial choice with its new option."""
        path = self._paths[number]
        waits = path.waits[path.stages.index(stage)]
        return (
            self._duration[number][label] + self._parts[stage].duration_ns[option],
            np.maximum(self._wait[number][label], waits[option]),
        )

    def _keep_deadline(
        self, number: int, duration: Int64, wait: Int64, to_come: Sequence[int]
    ) -> NDArray[np.bool_]:
        """Which partial choices may still keep the deadline on one path."""
        path = self._paths[number]
        still = [place for place, stage in enumerate(path.stages) if stage in to_come]
        least_ns = path.lag_ns + sum(self._least_ns[path.stages[place]] for place in still)
        least_wait = max((self._least_wait[number][place] for place in still), default=0)
        kept: NDArray[np.bool_] = (
            duration + np.maximum(wait, least_wait) <= self._bounds.deadline_ns - least_ns
        )
        return kept
