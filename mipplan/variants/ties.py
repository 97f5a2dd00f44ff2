"""Of all plans of the least cost the most accurate: one more search, among plans of just that cost.

Once the least cost is known, few choices keep it: an option whose reduced cost lifts the linear relaxation above it is
in none of them. What is left is listed with a cap on the accuracy that may be lost, the most accurate first, and put
before the oracle: the first certified one is the answer, and where there is none the plan at hand is. How much is
looked through is limited by number, not by the clock, so that the same question has the same answer; where these
limits end the search, it says so.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

import numpy as np

from mipplan.core import Float64, InputError, Int64, LimitReachedError
from mipplan.options import build_problem, check_accuracies
from mipplan.pipeline import AccuracyKind
from mipplan.planner import (
    CertifiedConfiguration,
    Enumeration,
    Instance,
    LpBound,
    PlanMaker,
    ReducedCosts,
    SearchMethod,
    TooManyError,
    break_ties,
)
from mipplan.result import Limit, Plan, PlanStatus
from mipplan_formulations import TimeCostProblem

#: Why a plan of the least cost may not be the most accurate one.
UNSETTLED: Final = (
    "the cheapest, but it is not settled whether another plan of this cost is more accurate: ask for the most accurate "
    "one within this budget"
)


@dataclass(frozen=True)
class TieParams:
    """How far more accurate plans of the same cost are looked for."""

    most: int = 2_000  # More options are not looked through.
    #: A list may hold so many partial choices; where all are no more, no linear relaxation is solved before.
    labels: int = 20_000
    rough: float = 0.005  # As in `SearchParams`.


class Tie(NamedTuple):
    """The most accurate certified configuration found, if any is more accurate, and whether none is still more."""

    found: CertifiedConfiguration | None
    settled: bool


def cheapest_of(maker: PlanMaker) -> Plan:
    """Return the most accurate of the cheapest plans, or the cheapest one found that says that this is not settled."""
    best, asked, method = maker.cheapest(), maker.asked, maker.method
    in_rows = asked.pipeline.accuracy.kind is AccuracyKind.TABLE
    if best.status is not PlanStatus.OPTIMAL or (best.accuracy is None and not in_rows):
        return best
    try:
        check_accuracies(asked.pipeline, asked.profiles)
    except InputError:  # Where some are not known nothing is said of them.
        return best
    above, cost = told_apart(best.accuracy or 0.0, len(asked.pipeline.stages)), best.microusd_per_hour or 0
    try:
        method.limits.report("looking for a more accurate plan of the same cost")
        found, settled = most_accurate_of(maker.instance, above, cost, method)
    except (KeyboardInterrupt, LimitReachedError) as stop:
        is_time = isinstance(stop, LimitReachedError)
        return replace(best, reason=UNSETTLED, limit=Limit.TIME if is_time else Limit.INTERRUPT)
    if found is not None:
        best = maker.made(found.configuration, cost, found.certificate_ns, None)
    return best if settled else replace(best, reason=UNSETTLED)


def most_accurate_of(
    instance: Instance, above: float, most: int, method: SearchMethod, params: TieParams = TieParams()
) -> Tie:
    """Look for the most accurate certified plan that costs at most `most`, which is the least cost.

    `instance` may have a floor already; `above` is the least accuracy that is told apart from what is at hand.
    """
    rule = instance.pipeline.accuracy
    # In a table nothing says which options are more accurate: its rows would be searched one by one.
    if above > max((known for _, known in rule.rows), default=1.0):
        return Tie(None, True)
    if rule.kind is AccuracyKind.TABLE or instance.count_affordable(most) > params.most:
        return Tie(None, False)
    return _Ties(_raised(instance, above, most), most, method, params).look()


def told_apart(accuracy: float, stages: int) -> float:
    """The least accuracy of so many stages that is told apart from this one, above it."""
    return accuracy + 2 * (stages + 3) / 1e9


def _raised(instance: Instance, least: float, most: int) -> Instance:
    """The same request, whose plans must be so accurate, whatever they had to be before, and cost at most so much."""
    before = instance.floor
    if before is None:
        own = instance.cheapest_by_stage()
        spare = most - sum(own.values())
        paid = {
            stage: replace(
                found, families=tuple(f for f in found.families if f.count_within(own[stage] + spare))
            )
            for stage, found in instance.families.items()
        }
        return replace(instance, families=paid).with_floor(least)
    floor = replace(before, floor=least)
    caps = instance.caps[: len(instance.caps) - len(before.caps)]
    return replace(instance, caps=(*caps, *floor.caps), floor=floor)


class _Ties:
    def __init__(self, instance: Instance, most: int, method: SearchMethod, params: TieParams) -> None:
        assert instance.floor is not None  # accuracy is asked for
        self._instance, self._floor, self._most = instance, instance.floor, most
        self._method, self._params = method, params

    def look(self) -> Tie:
        """Narrow down what may be chosen, then list it."""
        instance = self._instance
        if not instance.has_options:
            return Tie(None, True)
        tables = instance.affordable(self._most)
        if not all(table.count for table in tables.values()):
            return Tie(None, True)
        self._space = space = instance.space(tables)
        self._accuracy = np.concatenate(
            [
                np.array([f.accuracy or 1.0 for f in table.families.families])[table.family]
                for table in tables.values()
            ]
        )
        rows = space.affordable(np.arange(space.size), space.cost, self._most)
        if rows is None or self._best_of(rows) < self._floor.floor * (1 - self._floor.resolution):
            return Tie(None, True)
        costs = ReducedCosts(0.0, np.zeros(space.size))
        if math.prod(own.size for own in space.by_stage(rows)) > self._params.labels:
            problem = self._master(rows)
            lp = LpBound(self._method.formulation_for(problem), problem, rows, space.size)
            costs = lp.within(rows, self._method.limits.deadline.left_s()) or costs
            rows = rows[costs.bound + costs.reduced[rows] <= self._most]
            if space.starts(rows) is None or instance.surely_misses_slo(space.ideal(rows)):
                return Tie(None, True)
        return self._listed(rows, costs)

    def _listed(self, rows: Int64, costs: ReducedCosts) -> Tie:
        """List what is left, and ask about the most accurate first."""
        space, deadline = self._space, self._method.limits.deadline
        listing = Enumeration(
            self._instance,
            space,
            self._master(rows),
            rows,
            None,
            costs,
            self._most,
            1,
            near=rows[np.searchsorted(space.stage[rows], np.arange(space.first.size))],
            rank=lambda picks: -self._accuracies(picks),
        )
        try:
            listing.is_listed(rows, costs, self._most, self._params.labels, deadline)
        except TooManyError:
            return Tie(None, False)
        if listing.best is None:
            return Tie(None, True)
        certificate_ns = self._instance.certificate_ns(space.services(listing.best))
        choice, own_ns = break_ties(self._instance, space, listing.best, certificate_ns, deadline)
        return Tie(CertifiedConfiguration(space.configuration(choice), own_ns), True)

    def _best_of(self, rows: Int64) -> float:
        """Accuracy with the most accurate option of every stage among some rows, ascending."""
        most = [self._accuracy[own].max() for own in self._space.by_stage(rows)]
        return self._value(most)

    def _value(self, accuracies: Sequence[float]) -> float:
        """Accuracy of the pipeline, given that of every stage."""
        known = dict(zip(self._space.tables, accuracies, strict=True))
        pipeline = self._instance.pipeline
        counted = {stage: known[stage] for stage in self._floor.counted}
        return pipeline.accuracy.value(pipeline, counted) or 0.0

    def _master(self, rows: Int64) -> TimeCostProblem:
        instance = self._instance
        return build_problem(
            instance.pipeline,
            self._space.tables_of(rows),
            instance.oracle.paths,
            instance.deadline_ns,
            instance.limits,
            caps=instance.caps,
            tolerance=self._params.rough,
        )

    def _accuracies(self, picks: Int64) -> Float64:
        """Accuracies of choices, shape (k, stages); those of the same variants are made once."""
        own = self._accuracy[picks]
        unlike, which = np.unique(own, axis=0, return_inverse=True)
        values = [self._value(row) for row in unlike.tolist()]
        found: Float64 = np.array(values, dtype=np.float64)[which.reshape(-1)]
        return found
