"""Choices of one option per stage: how options are numbered, what choices cost at least, and which ones bounds leave.

A *row* is the number of an option among those of all stages, one stage after another; a choice has a row per stage.

Choices are built stage by stage. A partial one is dropped as soon as its cost bound exceeds what is asked for, or some
path cannot keep the deadline however the stages to come are chosen, or it uses too much of a limited resource already.
The planner looks through these choices near its bound, and so does the pricing of a fleet's pipelines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mipplan.calculus import StageService
from mipplan.core import Bool, Float64, Int64
from mipplan.options import AccuracyFloor, Cap, Configuration, StageOptions
from mipplan.result import Limit
from mipplan.solvers import Relaxations
from mipplan_formulations import Cover, Formulation, TimeCostProblem

if TYPE_CHECKING:
    from mipplan.planner.instance import Instance


@dataclass(frozen=True)
class WalkParams:
    """How far choices are built."""

    #: At most this many partial choices are kept at once, because beyond that a MILP solver does better.
    most_labels: int = 150_000
    most_extensions: int = 100  # At most this many times as many extensions are looked at.
    at_once: int = 500_000  # Extensions are looked at in pieces of at most this many, because of memory.
    most_pairs: int = 20  # At most this many times as many extensions may keep the bounds on cost.
    few: int = 1_000  # Up to this many partial choices it hardly matters which stage comes next.
    sample: int = 100  # Of more partial choices this many are looked at to decide which stage comes next.


class SearchSpace:
    """All options that a plan may be chosen from, side by side, and what a choice must keep beside the objective.

    `tables` hold the options of each stage in file order, none empty; `limits` the devices by hardware name; `required`
    further conditions over all options; `caps` what else options take of, and `floor` the accuracy where these do not
    say all. The other arrays have an entry for each of the `size` rows.
    """

    def __init__(
        self,
        tables: Mapping[str, StageOptions],
        limits: Mapping[str, int],
        required: Sequence[Cover] = (),
        caps: Sequence[Cap] = (),
        floor: AccuracyFloor | None = None,
    ) -> None:
        self.tables, self.limits, self.required = tables, limits, tuple(required)
        self.caps, self._floor = tuple(caps), floor
        every = list(tables.values())
        counts = [table.count for table in every]
        self.first: Int64 = np.cumsum([0, *counts[:-1]])  # where each stage's rows start, shape (stages,)
        self.stage = np.repeat(np.arange(len(every)), counts)  # by its place
        self.cost = np.concatenate([table.cost for table in every])
        self.speed = np.concatenate([table.speed for table in every])  # in ranks: floats mistake some rates
        self.latency_ns = np.concatenate([table.latency_ns for table in every])  # T
        self.latency = self.latency_ns.astype(np.float64)
        self.period = np.concatenate([table.period_ns / table.tokens for table in every])  # 1/R in ns
        self.size = int(self.stage.size)
        widest = max(table.passing.shape[1] for table in every)
        self.passing: Int64 = np.concatenate(  # what may overtake, shape (N, widest); 0 where nothing is said
            [np.pad(table.passing, ((0, 0), (0, widest - table.passing.shape[1]))) for table in every]
        )

    def cost_of(self, choice: Int64) -> int:
        """Cost of a choice, shape (stages,), in micro-dollars per hour."""
        return int(self.cost[choice].sum())

    def options(self, choice: Int64) -> dict[str, int]:
        """Which option of every stage's own a choice takes."""
        return dict(zip(self.tables, (choice - self.first).tolist(), strict=True))

    def configuration(self, choice: Int64) -> Configuration:
        """Return what a choice takes as a configuration."""
        return Configuration({name: self.tables[name].option(o) for name, o in self.options(choice).items()})

    def no_worse(self, plan: Configuration) -> Int64:
        """Return a plan as a choice: where its own option was dropped, of one that is no worse."""
        options = [self.tables[stage].no_worse(option) for stage, option in plan.items()]
        return self.first + np.array(options, dtype=np.int64)

    def services(self, choice: Int64) -> dict[str, StageService]:
        """Service of every stage under a choice."""
        return {name: self.tables[name].service(o) for name, o in self.options(choice).items()}

    def beats(self, choices: Int64, refused: Int64) -> Bool:
        """Which choices, shape (k, stages), are better than another one in something at some stage, shape (k,)."""
        better: Bool = self.latency_ns[choices] < self.latency_ns[refused]
        better |= self.speed[choices] > self.speed[refused]
        for column in self.passing.T:
            better |= column[choices] < column[refused]
        found: Bool = np.any(better, axis=1)
        return found

    def is_allowed(self, choice: Int64) -> bool:
        """Whether a choice keeps the device limits and what else is required of it."""
        options = list(self.options(choice).values())
        if not self.configuration(choice).keeps(self.limits, self.caps) or self.refusal(choice) is not None:
            return False
        return all(c.is_met(options) for c in self.required)

    def refusal(self, choice: Int64) -> Cover | None:
        """What any choice must meet, if this one is of too little accuracy, beyond what the caps say of it."""
        if self._floor is None or self._floor.is_kept(made := self.configuration(choice)):
            return None
        return self._floor.cover(made, self.tables)

    def starts(self, rows: Int64) -> Int64 | None:
        """Where in `rows`, ascending, each stage's start; None if a stage has none."""
        starts = np.searchsorted(self.stage[rows], np.arange(self.first.size))
        found: bool = starts[-1] < rows.size and bool((np.diff(starts) > 0).all())
        return starts if found else None

    def by_stage(self, rows: Int64) -> list[Int64]:
        """Rows of each stage among `rows`, ascending."""
        return np.split(rows, np.searchsorted(rows, self.first[1:]))

    def options_by_stage(self, rows: Int64) -> list[Int64]:
        """Which options of each stage's own are among `rows`, ascending."""
        return [own - first for own, first in zip(self.by_stage(rows), self.first, strict=True)]

    def tables_of(self, rows: Int64) -> dict[str, StageOptions]:
        """Only the options in `rows`, ascending."""
        parts = zip(self.tables.items(), self.options_by_stage(rows), strict=True)
        return {name: table.keep(own) for (name, table), own in parts}

    def ideal(self, rows: Int64) -> dict[str, StageService]:
        """Least T, greatest R and least overtaking of every stage among `rows`, ascending."""
        parts = zip(self.tables.items(), self.options_by_stage(rows), strict=True)
        return {name: table.ideal(own) for (name, table), own in parts}

    def affordable(self, rows: Int64, values: Int64 | Float64, most: float) -> Int64 | None:
        """Strike rows with which the least sum of values, shape (N,), exceeds `most`; None if a stage has none left."""
        starts = self.starts(rows)
        if starts is None:
            return None
        least = np.minimum.reduceat(values[rows], starts)
        spare = most - least.sum()
        return None if spare < 0 else rows[values[rows] <= (least + spare)[self.stage[rows]]]


@dataclass(frozen=True, eq=False)
class CertifiedChoice:
    """A certified choice: a row per stage, shape (stages,), cost in micro-dollars per hour, and certificate."""

    choice: Int64
    cost: int
    certificate_ns: int

    @classmethod
    def of(cls, choice: Int64, space: SearchSpace, instance: Instance) -> CertifiedChoice:
        """Certify a choice of the options there are."""
        return cls(choice, space.cost_of(choice), instance.certificate_ns(space.services(choice)))


@dataclass(frozen=True, eq=False)
class SearchOutcome:
    """How a search ended."""

    best: CertifiedChoice | None  # Cheapest certified choice found.
    lower_bound: int  # No certified plan costs less (micro-dollars per hour).
    limit: Limit | None = None  # What stopped the search, if it did not come to its end.

    @property
    def finished(self) -> bool:
        """Whether the best is proven to be the cheapest, or, if there is none, that there is none at all."""
        return self.limit is None


@dataclass(frozen=True, eq=False)
class ReducedCosts:
    """Lower bounds on cost: every plan costs at least `bound` plus the reduced costs, shape (N,), of its rows.

    The bound is infinite if there is no plan; reduced costs are at least 0.
    """

    bound: float
    reduced: Float64


class LpBound:
    """What plans within any sets of rows cost at least, by the linear relaxation of the master over some rows."""

    def __init__(self, formulation: Formulation, problem: TimeCostProblem, rows: Int64, size: int) -> None:
        model = formulation.build(problem)
        self._relaxations = Relaxations(model)
        self._columns, self._binaries = model.num_columns, problem.num_binaries
        self._rows = rows
        # The binaries come first in every formulation, activity by activity.
        self._column_of = np.full(size, -1)
        self._column_of[rows] = np.arange(self._binaries)

    def within(self, rows: Int64, time_limit_s: float | None = None) -> ReducedCosts | None:
        """Return what plans of these rows, among those that the bound is over, cost at least; None if that fails."""
        allowed = np.ones(self._columns, dtype=bool)
        allowed[: self._binaries] = False
        allowed[self._column_of[rows]] = True
        relaxation = self._relaxations.within(allowed, time_limit_s)
        if relaxation is None:
            return None
        reduced = np.zeros(self._column_of.size)
        reduced[self._rows] = np.maximum(relaxation.reduced_costs[: self._binaries], 0.0)
        return ReducedCosts(relaxation.bound, reduced)


class TooManyError(Exception):
    """There are more partial choices than are worth keeping."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Complete choices."""

    picks: Int64  # Shape (k, stages): option of each stage, as its `StagePart` calls it.
    cost: Int64  # Shape (k,).
    labels: int = 0  # The most partial choices that were kept at once to find them.

    def in_order(self, rank: Callable[[Int64], Float64] | None = None) -> Candidates:
        """Return them by a rank of picks, if any, by cost, and by options: the same order wherever they come from."""
        first = () if rank is None else (rank(self.picks),)
        order = np.lexsort((*self.picks.T[::-1], self.cost, *first))
        return Candidates(self.picks[order], self.cost[order], self.labels)

    def keep(self, kept: Bool) -> Candidates:
        """Only those marked, shape (k,)."""
        return Candidates(self.picks[kept], self.cost[kept], self.labels)


@dataclass(frozen=True, eq=False)
class StagePart:
    """The m options of one stage that are in question, at least one; arrays of shape (m,)."""

    rows: Int64  # What they are called.
    cost: Int64
    added: Float64  # What each adds to the bound on the cost of a choice.
    duration_ns: Int64
    usage: Int64  # Shape (m, r): what each takes of every limited resource.


@dataclass(frozen=True, eq=False)
class PathPart:
    """A path that has to keep the deadline: lag, durations, and the longest wait.

    `waits` holds, per stage of the path, those of each of its options in question.
    """

    stages: tuple[int, ...]
    lag_ns: int
    waits: tuple[Int64, ...]


@dataclass(frozen=True)
class Bounds:
    """What choices are asked for."""

    deadline_ns: int  # Of every path.
    spare: float  # What all options of a choice may add to the bound.
    most: int  # What a choice may cost.
    capacities: Int64  # Shape (r,): of the limited resources.
    labels: int | None = None  # Partial choices to keep at most; `WalkParams.most_labels` by default.


def list_choices(
    parts: Sequence[StagePart], paths: Sequence[PathPart], bounds: Bounds, params: WalkParams = WalkParams()
) -> Candidates:
    """Find all choices of one option per stage that keep the bounds.

    Raises `TooManyError` if there are too many partial ones at some stage.
    """
    to_come = sorted(range(len(parts)), key=lambda stage: parts[stage].rows.size)
    walk = _Walk(parts, paths, bounds, params)
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

    def __init__(
        self, parts: Sequence[StagePart], paths: Sequence[PathPart], bounds: Bounds, params: WalkParams
    ) -> None:
        self._parts, self._paths, self._bounds, self._params = parts, paths, bounds, params
        self._most_labels = params.most_labels if bounds.labels is None else bounds.labels
        self._cheapest = [int(part.cost.min()) for part in parts]
        self._least_ns = [int(part.duration_ns.min()) for part in parts]
        self._least_use = [part.usage.min(axis=0) for part in parts]
        self._least_wait = [[int(waits.min()) for waits in path.waits] for path in paths]
        self.cost = np.zeros(1, dtype=np.int64)
        self._added = np.zeros(1)
        #: Duration and wait along every path.
        self._times = [(np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)) for _ in paths]
        self._used = np.zeros((1, bounds.capacities.size), dtype=np.int64)
        self.picks: dict[int, Int64] = {}
        self.labels = 1

    def choose(self, to_come: Sequence[int]) -> int:
        """Stage to go on with: the first; where there are many partial choices, the one that leaves fewest of some."""
        if self.cost.size <= self._params.few or len(to_come) == 1:
            return to_come[0]
        some = np.arange(0, self.cost.size, self.cost.size // self._params.sample)
        return min(
            to_come,
            key=lambda stage: self._extensions(stage, [s for s in to_come if s != stage], some)[0].size,
        )

    def extend(self, stage: int, to_come: Sequence[int]) -> None:
        """Extend every partial choice by every option of a stage that can still lead to a complete one."""
        part = self._parts[stage]
        if self.cost.size * part.rows.size > self._params.most_extensions * self._most_labels:
            raise TooManyError
        label, option, used, times = self._extensions(stage, to_come, np.arange(self.cost.size))
        if label.size > self._most_labels:
            raise TooManyError
        self._times = [
            times.get(number) or (duration[label], wait[label])
            for number, (duration, wait) in enumerate(self._times)
        ]
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
        room = self._bounds.capacities - sum(self._least_use[other] for other in to_come)
        kept = (used <= room).all(axis=1)
        label, option, used = label[kept], option[kept], used[kept]
        found: dict[int, tuple[Int64, Int64]] = {}
        for number, path in enumerate(self._paths):
            if stage in path.stages:
                duration, wait = self._times[number]
                waits = path.waits[path.stages.index(stage)]
                found[number] = (
                    duration[label] + self._parts[stage].duration_ns[option],
                    np.maximum(wait[label], waits[option]),
                )
                still = [place for place, other in enumerate(path.stages) if other in to_come]
                left_ns = self._bounds.deadline_ns - path.lag_ns
                left_ns -= sum(self._least_ns[path.stages[place]] for place in still)
                least_wait = max((self._least_wait[number][place] for place in still), default=0)
                kept = found[number][0] + np.maximum(found[number][1], least_wait) <= left_ns
                label, option, used = label[kept], option[kept], used[kept]
                # What one path drops is not worth keeping for the others: there may be hundreds.
                found = {n: (duration[kept], wait[kept]) for n, (duration, wait) in found.items()}
        return label, option, used, found

    def _affordable(self, stage: int, to_come: Sequence[int], some: Int64) -> tuple[Int64, Int64]:
        """Pairs of some partial choices and an option of a stage that keep the bounds on cost."""
        part = self._parts[stage]
        most = self._bounds.most - sum(self._cheapest[other] for other in to_come)
        step = max(1, self._params.at_once // part.rows.size)
        labels, options, count = [], [], 0
        for start in range(0, max(1, some.size), step):
            own = some[start : start + step]
            keeps = self._added[own, None] + part.added <= self._bounds.spare
            keeps &= self.cost[own, None] + part.cost <= most
            label, option = np.nonzero(keeps)
            labels.append(own[label])
            options.append(option)
            count += label.size
            if count > self._params.most_pairs * self._most_labels:
                raise TooManyError
        return np.concatenate(labels), np.concatenate(options)
