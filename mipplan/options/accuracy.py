"""A least accuracy of plans: caps on what options lose of it, in whole numbers, and a test where these say too little.

Losses are −ln a (in a sum w·(1 − a)/Σw) in billionths, rounded to the nearest. A cap is that of the accuracy asked for
and half a billionth for every number that was rounded. So no plan that reaches it is left out, and one that is let in
falls short by no more than a part in a billion for every stage and one more.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np

from mipplan.calculus import PathWait, slowest_within
from mipplan.core import Bool, Fault, Float64, InputError, Int64
from mipplan.options.families import Cap, Configuration, StageFamilies
from mipplan.options.table import StageOptions, tabulate
from mipplan.pipeline import AccuracyKind, Pipeline, ways
from mipplan.profiles import LatencyTable, Profiles, Use
from mipplan_formulations import Cover
from mipplan_formulations.time_cost import find_undominated

#: Losses are counted in billionths.
_UNITS: Final = 1_000_000_000


@dataclass(frozen=True, eq=False)
class AccuracyFloor:
    """The least accuracy that plans must have, and what their options make of it."""

    pipeline: Pipeline
    floor: float
    families: Mapping[str, StageFamilies]  # As they were found, without what they take of caps.

    @cached_property
    def counted(self) -> tuple[str, ...]:
        """Stages whose accuracy is known: all others count as 1."""
        return tuple(
            stage
            for stage, found in self.families.items()
            if found.families and all(family.accuracy is not None for family in found.families)
        )

    @cached_property
    def best(self) -> float | None:
        """Accuracy with the most accurate option of every stage."""
        most = {stage: max(self._accuracies(stage).tolist()) for stage in self.counted}
        return self.pipeline.accuracy.value(self.pipeline, most)

    @cached_property
    def resolution(self) -> float:
        """Accuracies that differ by less than this part of themselves are not told apart."""
        return (len(self.counted) + 3) / _UNITS

    @cached_property
    def _ways(self) -> dict[frozenset[str], float] | None:
        return ways(self.pipeline, frozenset(self.counted))

    @cached_property
    def caps(self) -> tuple[Cap, ...]:
        """What all stages together may lose."""
        kind, slack = self.pipeline.accuracy.kind, math.ceil((len(self.counted) + 1) / 2)
        if kind is AccuracyKind.PRODUCT:
            return (Cap("accuracy", _loss(self.floor) + slack),)
        if kind is AccuracyKind.SUM:
            return (Cap("accuracy", round((1 - self.floor) * _UNITS) + slack),)
        if kind is AccuracyKind.WORST_PATH:
            return tuple(Cap(f"accuracy {k}", _loss(self.floor) + slack) for k, _ in enumerate(self._longest))
        if kind is AccuracyKind.PATH_SHARES and self._ways is not None:
            return (Cap("accuracy", max(0, math.ceil((self._chord[1] - self.floor) * _UNITS) + 1)),)
        return ()

    @property
    def is_linear(self) -> bool:
        """Whether the caps say all."""
        kind = self.pipeline.accuracy.kind
        return kind in (AccuracyKind.PRODUCT, AccuracyKind.SUM) or bool(
            kind is AccuracyKind.WORST_PATH and self._longest
        )

    @cached_property
    def _longest(self) -> list[frozenset[str]]:
        """Ways that no other one holds."""
        found = self._ways or {}
        return [way for way in found if way and not any(way < other for other in found)]

    @cached_property
    def _chord(self) -> tuple[dict[str, float], float]:
        """A linear bound on the mean of the ways' accuracies: by how much losses of each stage lower it, from what.

        e^−L is convex, so between the least and the greatest loss of a way its chord is no lower.
        """
        slopes, start = dict.fromkeys(self.counted, 0.0), 0.0
        logs = {stage: -np.log(self._accuracies(stage)) for stage in self.counted}
        for way, share in (self._ways or {}).items():
            low, high = (math.fsum(float(end(logs[stage])) for stage in way) for end in (np.min, np.max))
            slope = (math.exp(-low) - math.exp(-high)) / (high - low) if high > low else 0.0
            start += share * (math.exp(-low) + slope * low)
            for stage in way:
                slopes[stage] += share * slope
        return slopes, start

    def loss(self, stage: str, accuracy: float) -> tuple[int, ...]:
        """What an accuracy of a stage takes of every cap."""
        rule = self.pipeline.accuracy
        if stage not in self.counted:
            return (0,) * len(self.caps)
        if rule.kind is AccuracyKind.SUM:
            share = rule.weight(stage) / rule.total_weight(self.pipeline)
            return (round((1 - accuracy) * share * _UNITS),)
        if rule.kind is AccuracyKind.WORST_PATH:
            return tuple(_loss(accuracy) if stage in way else 0 for way in self._longest)
        if rule.kind is AccuracyKind.PATH_SHARES and self.caps:
            return (math.floor(self._chord[0][stage] * -math.log(accuracy) * _UNITS),)
        return (_loss(accuracy),) if self.caps else ()

    def value(self, configuration: Configuration) -> float | None:
        """Accuracy of a configuration; None for a combination that a table does not have."""
        own = {stage: configuration[stage].family.accuracy for stage in self.counted}
        known = {stage: accuracy for stage, accuracy in own.items() if accuracy is not None}
        return self.pipeline.accuracy.value(self.pipeline, known)

    def is_kept(self, configuration: Configuration) -> bool:
        """Whether a configuration has the least accuracy; where the caps say all they are to be asked."""
        return self.is_linear or self._is_enough(self.value(configuration))

    def reaches(self, accuracies: Mapping[str, float]) -> bool:
        """Whether these accuracies of the counted stages are enough."""
        return self._is_enough(self.pipeline.accuracy.value(self.pipeline, accuracies))

    def _is_enough(self, value: float | None) -> bool:
        return value is not None and value >= self.floor * (1 - self.resolution)

    def cover(self, refused: Configuration, tables: Mapping[str, StageOptions]) -> Cover:
        """Say what follows from a configuration of too little accuracy: some stage must be more accurate.

        As few stages as possible, since more accuracy elsewhere would not be enough either.
        """
        own = {stage: refused[stage].family.accuracy or 1.0 for stage in self.counted}
        members = []
        for place, (stage, table) in enumerate(tables.items()):
            if stage not in own:
                continue
            every = self._accuracies(stage)
            raised = {**own, stage: float(every.max())}
            if self.reaches(raised):
                members.append((place, every[table.family] > own[stage]))
            else:
                own = raised
        first = next(iter(tables.values()))
        return Cover(tuple(members) or ((0, np.zeros(first.count, dtype=bool)),))

    def _accuracies(self, stage: str) -> Float64:
        return np.array([family.accuracy for family in self.families[stage].families], dtype=np.float64)


def require_accuracy(
    pipeline: Pipeline, families: Mapping[str, StageFamilies], floor: float
) -> tuple[dict[str, StageFamilies], AccuracyFloor]:
    """Return families that say what they take of the caps of a least accuracy, and that itself.

    A table is of whole combinations: of variants only those are left that the pipeline runs.
    """
    if pipeline.accuracy.kind is AccuracyKind.TABLE:
        runs = {stage: (None, pipeline.stages[stage].model) for stage in families}
        families = {
            stage: replace(found, families=tuple(f for f in found.families if f.variant in runs[stage]))
            for stage, found in families.items()
        }
    asked, counting = AccuracyFloor(pipeline, floor, families), {}
    for stage, found in families.items():
        every = {family.accuracy or 1.0 for family in found.families}
        lost = {accuracy: tuple(map(Use, asked.loss(stage, accuracy))) for accuracy in every}
        own = (replace(f, uses=(*f.uses, *lost[f.accuracy or 1.0])) for f in found.families)
        counting[stage] = replace(found, families=tuple(own))
    return counting, asked


@dataclass(frozen=True)
class PriceParams:
    """What is tried for first plans of a least accuracy."""

    prices: int = 24  # Of accuracy, each half the one before.
    halvings: int = 12  # Of the logarithm of a price on T.
    waits: tuple[float, ...] = (0.04, 0.08, 0.15, 0.25, 0.4, 0.6)  # Shares of the deadline.


def accurate_families(
    floor: AccuracyFloor,
    families: Mapping[str, StageFamilies],
    paths: Sequence[PathWait],
    deadline_ns: int,
    capped: Sequence[Cap],
    params: PriceParams = PriceParams(),
) -> Iterator[list[Int64]]:
    """Yield families of every stage any of which together are accurate enough, the most promising first.

    First one family per stage: where cost plus prices on T and on −log of accuracy is least, for several waits that
    every stage may have, sized for these. Of each price on accuracy the price on T is the least with which the deadline
    is kept, and exchanges of two stages at a time make up for what prices cannot say. Then all that is as accurate as
    these, and last the greatest accuracy of every stage. Nothing here is proven.
    """
    stages = tuple(families)
    tables = [
        tabulate(found, [np.array([family.fewest], dtype=np.int64) for family in found.families])
        for found in families.values()
    ]
    accuracy = [np.array([f.accuracy or 1.0 for f in found.families]) for found in families.values()]
    prices = max(int(table.cost.max()) for table in tables) * 2.0 ** -np.arange(-8, params.prices)
    # What each family takes: T of every path that the stage is on, and of every cap.
    on_path = np.array([[stage in path.stages for path in paths] for stage in stages])
    taken = [
        np.concatenate([table.latency_ns[:, None] * own, table.uses], axis=1)
        for table, own in zip(tables, on_path, strict=True)
    ]
    # Paths through the same stages take the same of a family.
    distinct = [np.unique(own, axis=1) for own in taken]
    lag_ns, caps = np.array([path.lag_ns for path in paths]), np.array([cap.most for cap in capped])
    found: list[tuple[float, tuple[int, ...]]] = []
    for share in params.waits:
        wait_ns = int(share * deadline_ns)
        costs = [_costs_at(paths, *item, wait_ns) for item in zip(stages, tables, strict=True)]
        room = np.concatenate([deadline_ns - wait_ns - lag_ns, caps])
        kept = [_useful(cost, used) for cost, used in zip(costs, distinct, strict=True)]
        if not all(own.size for own in kept):
            continue

        def chosen(logarithms: Float64, kept: list[Int64] = kept, costs: list[Float64] = costs) -> Int64:
            """The family of every stage by prices, of T by their logarithms, shape (prices, stages)."""
            per_ns, picks = np.exp2(logarithms)[:, None], []
            for own, cost, a, table in zip(kept, costs, accuracy, tables, strict=True):
                priced = cost[own] - prices[:, None] * np.log(a[own]) + per_ns * table.latency_ns[own]
                picks.append(own[priced.argmin(axis=1)])
            return np.stack(picks, axis=1)

        def keeps(picks: Int64, ends: int | None = len(paths), room: Int64 = room) -> Bool:
            used = np.sum([own[pick] for own, pick in zip(taken, picks.T, strict=True)], axis=0)
            fits: Bool = np.all((used <= room)[:, :ends], axis=1)
            return fits

        low, high = np.full(prices.size, -40.0), np.full(prices.size, 20.0)
        for _ in range(params.halvings):
            middle = (low + high) / 2
            fits = keeps(chosen(middle))
            low, high = np.where(fits, low, middle), np.where(fits, middle, high)
        picks = chosen(high)
        picks = picks[keeps(picks, None)]
        if picks.size:
            spent = np.sum([cost[own] for cost, own in zip(costs, picks.T, strict=True)], axis=0)
            pick = _exchanged(picks[np.argmin(spent)], kept, costs, taken, room)
            known = {s: float(a[own]) for s, a, own in zip(stages, accuracy, pick, strict=True)}
            if floor.reaches({stage: known[stage] for stage in floor.counted}):
                cost = float(sum(c[own] for c, own in zip(costs, pick, strict=True)))
                found.append((cost, tuple(pick.tolist())))
    ordered = [pattern for _, pattern in sorted(found)]
    for pattern in ordered:
        yield [np.array([own]) for own in pattern]
    for pattern in ordered:
        yield [np.flatnonzero(a >= a[own]) for a, own in zip(accuracy, pattern, strict=True)]
    if floor.reaches(
        {s: float(a.max()) for s, a in zip(stages, accuracy, strict=True) if s in floor.counted}
    ):
        yield [np.flatnonzero(a == a.max()) for a in accuracy]


def _exchanged(
    pick: Int64, kept: Sequence[Int64], costs: Sequence[Float64], taken: Sequence[Int64], room: Int64
) -> Int64:
    """Exchange the families of two stages at a time for cheaper ones within the room, as long as there are any."""
    pick, improved = pick.copy(), True
    while improved:
        improved = False
        for one, other in itertools.combinations(range(len(kept)), 2):
            spare = room - sum(taken[s][own] for s, own in enumerate(pick) if s not in (one, other))
            pairs = kept[one][:, None], kept[other][None, :]
            fits = np.ones((kept[one].size, kept[other].size), dtype=bool)
            for mine, yours, left in zip(taken[one].T, taken[other].T, spare, strict=True):
                fits &= mine[pairs[0]] + yours[pairs[1]] <= left
            spent = np.where(fits, costs[one][pairs[0]] + costs[other][pairs[1]], np.inf)
            best = np.unravel_index(np.argmin(spent), spent.shape)
            if spent[best] < costs[one][pick[one]] + costs[other][pick[other]]:
                pick[one], pick[other], improved = kept[one][best[0]], kept[other][best[1]], True
    return pick


def _useful(cost: Float64, taken: Int64) -> Int64:
    """Families that no other one beats in cost and all that is taken; of those alike in all one."""
    rows = np.flatnonzero(np.isfinite(cost))
    _, rank = np.unique(cost[rows], return_inverse=True)
    return rows[find_undominated(np.column_stack([rank, taken[rows]]))]


def _costs_at(paths: Sequence[PathWait], stage: str, table: StageOptions, wait_ns: int) -> Float64:
    """About what each family costs if the stage waits no longer on any path, shape (m,); infinite if it cannot."""
    ns_per_token, slowest = table.period_ns / table.tokens, math.inf
    for path in paths:
        if stage in path.stages:
            curve = path.curves[path.stages.index(stage)]
            period_ns, tokens = slowest_within(curve, wait_ns, 0.0, float(ns_per_token.max()))
            slowest = min(slowest, max(period_ns, 1) / tokens)
    factor = np.ceil(table.replicas * np.maximum(1.0, ns_per_token / slowest)) / table.replicas
    most = np.array([family.most for family in table.families.families])
    return np.where(factor * table.replicas <= most, table.cost * factor, np.inf)


def check_accuracies(pipeline: Pipeline, profiles: Profiles) -> None:
    """Check that the accuracy of everything that a plan may choose is known, where stages differ in it.

    Raises `InputError` listing every accuracy that is missing or outside (0, 1].
    """
    InputError.raise_if(_accuracy_faults(pipeline, profiles))


def _accuracy_faults(pipeline: Pipeline, profiles: Profiles) -> Iterator[Fault]:
    if pipeline.accuracy.kind is AccuracyKind.TABLE:
        return
    if not any(stage.variants for stage in pipeline.stages.values()):
        yield Fault(
            "accuracy", "no stage of the pipeline lists variants, which a plan could choose by their accuracy"
        )
    for name, stage in pipeline.stages.items():
        place = pipeline.place(("stages", name, "variants" if stage.variants else "model"))
        tables = [
            table
            for model in (stage.models if stage.accuracies is None else ())
            for hardware in stage.hardware or profiles.hardware_for(model)
            if (table := profiles.table(model, hardware)) is not None
        ]
        missing = sorted({table.model for table in tables if table.accuracy is None})
        if missing and (stage.variants or any(table.accuracy is not None for table in tables)):
            where = (
                f"fill the column accuracy of the profiles, or write variants: {{{missing[0]}: 0.7, …}} here"
            )
            yield Fault(place, f"the accuracy of {', '.join(map(repr, missing))} is not known: {where}")
        yield from (Fault(place, problem) for problem in map(column_problem, tables) if problem)


def column_problem(table: LatencyTable) -> str | None:
    """Say which accuracy of a profile is outside (0, 1], or None; a column that is missing is no such fault."""
    wrong = [] if table.accuracy is None else [own for own in table.accuracy.tolist() if not 0 < own <= 1]
    if not wrong:
        return None
    hint = "; a percentage? divide it by 100" if 1 < wrong[0] <= 100 else ""
    return f"the profile of {table.model} on {table.hardware} has accuracy {wrong[0]:g}, outside (0, 1]{hint}"


def _loss(accuracy: float) -> int:
    return round(-math.log(accuracy) * _UNITS)
