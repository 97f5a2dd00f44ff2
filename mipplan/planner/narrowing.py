"""Few numbers of replicas that stand for all: for a cheaper first plan, and for whether there is any plan.

In `fifo` queues more replicas of a stage let more tokens overtake, which the next stage has to make up for with more of
its own. The first plan that is found may so cost thousands of times what is needed, and leave hundreds of thousands of
numbers of replicas to look through: it rules out too few. Among few of these a search finds a cheaper plan, next to
which fewer are left.

What is returned is certified, and nothing else is proven here: that takes a search of all options next to it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from mipplan.core import Int64, LimitReachedError
from mipplan.options import Configuration, Option, StageOptions, build_problem, tabulate, undominated
from mipplan.planner.benders import PlanSearch, SearchMethod, SearchParams
from mipplan.planner.choices import CertifiedChoice, LpBound
from mipplan.planner.heuristics import CertifiedConfiguration, FirstPlanParams
from mipplan.planner.instance import Instance, Request
from mipplan.result import Limit, Plan, PlanStatus

if TYPE_CHECKING:
    from mipplan.planner.planning import PlanMaker

#: At most this share of the time left is spent on several limits, each by itself; the rest is for all of them.
_LIMIT_SHARE = 0.5
#: Before that all of them at once have this share of it: mostly what limits prove by themselves is not needed.
_TOGETHER_SHARE = 0.3
#: A limit is looked at by itself where that may take at least so many times as long as what is kept back for analyses.
_WORTH_ANALYSING = 2.0


@dataclass(frozen=True)
class NarrowingParams:
    """What is looked through at a time."""

    most: int = 30_000  # Options of all stages together; more are not searched as they are.
    #: Where the oldest are served first they are, up to so many: listing more takes minutes.
    vast: int = 1_000_000
    #: All numbers of replicas up to this one, and beyond it each larger by so large a part of itself, one in `dense`.
    dense: int = 8
    # Of the time left, for one search among few numbers: without a cheaper plan there is no other.
    share: float = 0.8
    worth_it: float = 0.8  # Another one follows if the plan costs at most this share of what it did.
    many: int = 2_000  # More options are looked at in ranges of replicas first (`options_within`).
    ranges: int = 2  # As `dense`, for where the ranges begin.
    bounding: float = 0.25  # Of the time left, for the bound over ranges at most.


@dataclass(frozen=True)
class PlanningParams:
    """Parameters of all that making a plan consists of."""

    #: Finding out why there is no plan may take this long after that is known, within the time limit.
    diagnosis_s: float = 20.0
    #: At most this share of the time is spent on a plan by services, where it is only the beginning of another.
    first_share: float = 0.3
    #: If no plan at all is found by then, at most this share of the time is.
    any_share: float = 0.7
    #: Looking for a first plan may take this long, even beyond the time limit: without one there is no answer.
    first_s: float = 0.2
    #: Where more options than this could be part of a cheaper plan, the first plan is taken as it is.
    most_options: float = math.inf
    first_plan: FirstPlanParams = field(default_factory=FirstPlanParams)
    narrowing: NarrowingParams = field(default_factory=NarrowingParams)
    search: SearchParams = field(default_factory=SearchParams)


PLANNING = PlanningParams()


@dataclass(frozen=True)
class Known:
    """What is known before a search: a plan, what all plans cost at least, or that there is no plan."""

    plan: CertifiedConfiguration | None = None
    proven: int = 0  # micro-dollars per hour
    is_hopeless: bool = False
    limit: Limit | None = None  # Ctrl-C, where it stopped what was to be known.
    answer: Plan | None = None  # What is asked for, where it was found on the way.


def uninterrupted(made: Plan) -> Plan:
    """Return a plan whose search was not ended by Ctrl-C, else raise `KeyboardInterrupt` once more."""
    if made.limit is Limit.INTERRUPT:
        raise KeyboardInterrupt
    return made


def known_by_limits(maker: PlanMaker) -> Known:
    """Plan for each of an objective's several limits by itself: a master knows one of them only.

    What keeps all of them keeps each. So no plan costs less than the cheapest for one of them, and where that keeps the
    others, too, nothing is cheaper. Where time is short for looking at the trace once more it is left to all of them.

    All of them together come first, in a share of the time, if a plan is found at once: it is often proven the cheapest
    as soon as one for a single limit is. Without a time limit nothing says when to give that up.
    """
    objective, instance, known = maker.asked.objective, maker.instance, Known(proven=maker.proven)
    deadline = maker.method.limits.deadline
    if deadline.at < math.inf:
        made = maker.within(instance.deadline_ns, deadline.share(_TOGETHER_SHARE)).cheapest(quick=True)
        if made.status is PlanStatus.OPTIMAL or made.limit is Limit.INTERRUPT:
            return replace(known, answer=made)
        if made.choices:
            first = CertifiedConfiguration.of(instance.configuration(made.choices), instance)
            known = Known(first, max(known.proven, made.lower_bound_microusd_per_hour or 0))
    later_ns = instance.deadline_ns - objective.deadline_ns
    further = [replace(objective, quantile=one.quantile, slo_ns=one.limit_ns) for one in objective.others]
    end, left = deadline.share(_LIMIT_SHARE), 1 + len(further)
    with suppress(KeyboardInterrupt):
        for number, alone in enumerate((objective, *further)):
            own_end = end.share(1 / (left - number))
            if own_end.left_s() <= _WORTH_ANALYSING * maker.spare_s:
                return known
            asked = replace(maker.asked, objective=replace(alone, others=()))
            # What is at hand for all limits (a request may know its instance) is not that of one of them; tokens are.
            request = Request(asked, maker.request.samples)
            vars(request)["workloads"] = maker.request.workloads
            own = maker.on(asked, request).within(alone.deadline_ns + later_ns, own_end)
            made = own.cheapest()
            if made.limit is Limit.INTERRUPT or made.status is PlanStatus.INFEASIBLE:
                return replace(known, is_hopeless=made.limit is None, limit=made.limit)
            plan, least = known.plan, made.lower_bound_microusd_per_hour or 0
            # Its options may be more than those of the problem at hand.
            with suppress(KeyError):
                found = instance.configuration(made.choices) if made.choices else None
                if found is not None and instance.allows(found) and instance.keeps_slo(found.services):
                    own_plan = CertifiedConfiguration.of(found, instance)
                    plan = own_plan if plan is None or own_plan.cost < plan.cost else plan
            known = Known(plan, max(known.proven, least))
            if plan is not None and plan.cost <= known.proven:
                break  # It is the answer: the limits left would tell nothing new.
        return known
    return replace(known, limit=Limit.INTERRUPT)


def begin(
    instance: Instance,
    first: CertifiedConfiguration,
    method: SearchMethod,
    params: PlanningParams,
    *,
    by_arrival: bool,
) -> tuple[CertifiedConfiguration, Limit | None]:
    """Return the plan that a search begins with, at best a cheaper one than the first, and what forbids a search.

    That is Ctrl-C, or the time where the plan is too dear: too many options could be part of a cheaper one. Where the
    oldest are served first none is left then, since listing them may take longer than all that came before.
    """
    own, stop = params.narrowing, None
    if by_arrival or instance.count_affordable(first.cost) > own.vast:
        first, stop = narrow(instance, first, method, params)
    if by_arrival or stop is Limit.INTERRUPT:
        return first, stop
    is_over = method.limits.deadline.is_over
    return first, Limit.TIME if is_over and instance.count_affordable(first.cost) > own.most else None


def narrow(
    instance: Instance, first: CertifiedConfiguration, method: SearchMethod, params: PlanningParams
) -> tuple[CertifiedConfiguration, Limit | None]:
    """Look for cheaper plans among few numbers of replicas, as long as there are too many and it helps.

    Returns the cheapest, and the time as a limit if too many options for a search with a deadline could be part of a
    cheaper one, or Ctrl-C.
    """
    helps, own = True, params.narrowing
    # A search that there is no time to begin leaves the plan that there is.
    with suppress(LimitReachedError):
        while (is_too_dear := instance.count_affordable(first.cost) > own.most) and helps:
            method.limits.report(
                f"first plan at {first.cost / 1e6:.4f} $/h: looking for a cheaper one to begin with"
            )
            tables = instance.affordable(first.cost, dense=own.dense, also=first.configuration)
            space = instance.space(tables)
            known = CertifiedChoice.of(space.no_worse(first.configuration), space, instance)
            limits = replace(method.limits, deadline=method.limits.deadline.share(own.share))
            hurried = replace(method, limits=limits)
            outcome = PlanSearch(instance, space, hurried, known=known, params=params.search).run()
            best, before = outcome.best or known, first
            first = CertifiedConfiguration(space.configuration(best.choice), best.certificate_ns)
            if outcome.limit is Limit.INTERRUPT:
                return first, outcome.limit
            helps = first.cost <= own.worth_it * before.cost
    return first, Limit.TIME if is_too_dear and method.limits.deadline.at < math.inf else None


def options_within(
    instance: Instance, method: SearchMethod, params: PlanningParams, budget: int
) -> dict[str, StageOptions]:
    """Return options that could be part of a plan within the budget, none that dominance drops, per stage.

    Ranges of replicas stand for them first, since they are many: each costs what its fewest do and serves what its
    most do. So the linear relaxation over ranges is one over all options, too, and a range whose reduced cost lifts its
    bound above the budget holds no option of such a plan.
    """
    starts, ends = instance.ranges(budget, params.narrowing.ranges)
    tables = {s: tabulate(found, ends[s], starts[s]) for s, found in instance.families.items()}
    space = instance.space(tables)
    problem = build_problem(
        instance.pipeline,
        tables,
        instance.oracle.paths,
        instance.deadline_ns,
        instance.limits,
        caps=space.caps,
        tolerance=params.search.rough,
    )
    rows = np.arange(space.size)
    bound = LpBound(method.formulation_for(problem), problem, rows, space.size)
    costs = bound.within(rows, params.narrowing.bounding * method.limits.deadline.left_s())
    if costs is None:
        return instance.affordable(budget)
    kept = space.by_stage(rows[costs.bound + costs.reduced <= budget])

    def numbers(stage: str, own: Int64) -> list[Int64]:
        table, most = tables[stage], np.concatenate(ends[stage])
        by_family = [own[table.family[own] == family] for family in range(len(table.families.families))]
        runs = [[np.arange(table.replicas[row], most[row] + 1) for row in rows] for rows in by_family]
        return [np.concatenate([np.empty(0, dtype=np.int64), *some]) for some in runs]

    return {
        stage: undominated(tabulate(instance.families[stage], numbers(stage, own - first)))
        for stage, own, first in zip(tables, kept, space.first, strict=True)
    }


class Ranges:
    """Numbers of replicas of every family, in ranges that together hold all that matter to feasibility.

    A range is looked at as something no worse than any number in it. So where no plan is made of these there is none;
    and where one is, the ranges that it is made of are halved.
    """

    def __init__(self, instance: Instance) -> None:
        self._families = instance.families
        #: By stage and place of the family: the most replicas of each range by its fewest.
        self._ranges = {
            stage: [_by_fewest(*family.extreme_ranges) for family in found.families]
            for stage, found in self._families.items()
        }

    def options(self) -> dict[str, StageOptions]:
        """Every range as an option, with its fewest replicas."""
        made = {}
        for stage, found in self._families.items():
            most = [np.array(list(ranges.values()), dtype=np.int64) for ranges in self._ranges[stage]]
            fewest = [np.array(list(ranges), dtype=np.int64) for ranges in self._ranges[stage]]
            made[stage] = undominated(tabulate(found, most, fewest))
        return made

    def are_wide(self, chosen: Configuration) -> bool:
        """Whether some of the ranges chosen hold more than one number."""
        return any(most > option.replicas for option, most in self._chosen(chosen))

    def members(self, chosen: Configuration) -> Iterator[Configuration]:
        """Some of the plans that the ranges chosen stand for: with the most replicas, about half, and the fewest."""
        most = dict(zip(chosen, (most for _, most in self._chosen(chosen)), strict=True))
        for share in (1.0, 0.5, 0.0):
            meant = {
                stage: Option(family, fewest + round(share * (most[stage] - fewest)))
                for stage, (family, fewest) in chosen.items()
            }
            yield Configuration(meant)

    def halve(self, chosen: Configuration) -> None:
        """Halve the ranges chosen, where they can be, in terms of ratios."""
        for stage, (family, fewest) in chosen.items():
            ranges = self._ranges[stage][self._families[stage].families.index(family)]
            most = ranges[fewest]
            middle = math.isqrt(fewest * most)
            if most > fewest:
                ranges[fewest], ranges[middle + 1] = middle, most

    def _chosen(self, chosen: Configuration) -> Iterator[tuple[Option, int]]:
        for stage, option in chosen.items():
            place = self._families[stage].families.index(option.family)
            yield option, self._ranges[stage][place][option.replicas]


def _by_fewest(most: Int64, fewest: Int64) -> dict[int, int]:
    return dict(zip(fewest.tolist(), most.tolist(), strict=True))
