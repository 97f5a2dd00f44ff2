"""Variants that make different tokens: a planning problem for each combination of them, the most promising first.

What later stages have to carry then depends on the choice. So the search goes over combinations: one variant of each
group that makes the same tokens, or a row of the pipeline's table of accuracies. Within one the demand is fixed, and
all other variants are options like any others. Before any is planned for, each is realised and bounded from below by
what keeping up with its demand costs; they are opened in the order of these bounds, until the next bound is no cheaper
than the best plan. Realising one is linear in its tokens, so a million tokens and a hundred combinations take a minute
or so; opening one is a plan.

References
----------
P. E. Hart, N. J. Nilsson, B. Raphael, "A formal basis for the heuristic determination of minimum cost paths", IEEE
Trans. Systems Science and Cybernetics 4 (1968), doi:10.1109/TSSC.1968.300136: best first is right to stop there.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from mipplan.core import MICRODOLLARS_PER_DOLLAR, SearchLimits
from mipplan.options import find_families
from mipplan.pipeline import AccuracyKind, Pipeline, choosing, combinations, pinned
from mipplan.planner import Request
from mipplan.result import Figures, Guarantee, Limit, Plan, PlanStatus, accuracy_of
from mipplan.variants.ties import UNSETTLED

#: At most this many combinations are opened only because one may have a more accurate plan of the same cost.
_MOST_TIED = 3
#: Why nothing is known of some.
_NOT_ALL = "the search was stopped before every combination of variants was looked at"
#: Plans that rest on replays, which may be overloaded.
_BY_REPLAY = (Guarantee.REPLAY, Guarantee.RELIABLE)
#: Makes what answers the question that a plan without choices states, within limits.
Answering = Callable[[Plan, SearchLimits], Callable[[], Plan]]


@dataclass(order=True)
class Combination:
    """A problem with fixed demand; ordered by what its plans cost at least."""

    lower_bound: float
    number: int
    asked: Plan = field(compare=False)
    runs: Mapping[str, str] = field(compare=False)  # What is fixed, by stage.
    #: How accurate it can be, where that is too little.
    most_accurate: float = field(default=0.0, compare=False)

    def restored(self, plan: Plan, asked: Plan) -> Plan:
        """Name in a plan the variants that were fixed, and what was asked for of all combinations."""
        choices = {
            stage: replace(choice, variant=choice.variant or self.runs.get(stage))
            for stage, choice in plan.choices.items()
        }
        objective = replace(plan.objective, min_accuracy=asked.min_accuracy)
        pipeline = choosing(asked.pipeline, self.runs)
        return replace(plan, pipeline=pipeline, profiles=asked.profiles, objective=objective, choices=choices)


def best_combination(asked: Plan, answering: Answering, limits: SearchLimits) -> Plan:
    """Return the best plan over all combinations of variants, with what is proven of it over all of them.

    `asked` is a plan without choices that states the question, with its sample at hand; `answering` makes what answers
    it for the variants that its pipeline runs, and those alike. Raises `InputError` if there are too many combinations.
    """
    each = list(each_combination(asked))
    if len(each) == 1 and not each[0].runs:
        return answering(asked, limits)()
    if not each:
        most = max(known for _, known in asked.pipeline.accuracy.rows)
        reason = (
            f"no row of the table has an accuracy of {asked.min_accuracy:g}: the most accurate has {most:.6g}"
        )
        return replace(asked, status=PlanStatus.INFEASIBLE, reason=reason, figures=Figures())
    limits.report(f"bounding {len(each):,} combinations of variants that make different tokens")
    by_budget = asked.budget_microusd_per_hour is not None
    if len(each) > 1 and not by_budget:
        for combination in each:
            combination.lower_bound, combination.most_accurate = _bounds(combination.asked)
            if limits.deadline.is_over:
                break
    return _Search(asked, answering, limits, each).run()


def each_combination(asked: Plan) -> Iterator[Combination]:
    """All combinations, not bounded yet; where a table says what is accurate enough, its rows that are."""
    numbers, pipeline = itertools.count(), asked.pipeline
    rows: list[dict[str, str]] = [{}]
    if asked.min_accuracy is not None and pipeline.accuracy.kind is AccuracyKind.TABLE:
        rows = [dict(row) for row, known in pipeline.accuracy.rows if known >= asked.min_accuracy]
    for row in rows:
        # A stage that the table fixes has no other variants; nothing is left to ask of accuracy.
        fixed = choosing(pipeline, row, only=True) if row else pipeline
        objective = replace(asked.objective, min_accuracy=None) if row else asked.objective
        every = [{}] if asked.guarantee is Guarantee.RELIABLE else combinations(fixed)
        for runs in _all_variants(fixed) if asked.guarantee is Guarantee.RELIABLE else every:
            made = choosing(fixed, runs)
            if asked.guarantee is Guarantee.RELIABLE:
                made = pinned(made)
            question = replace(asked, pipeline=made, objective=objective)
            yield Combination(0.0, next(numbers), question, {**row, **runs})


def _all_variants(pipeline: Pipeline) -> Iterator[dict[str, str]]:
    """Every choice of variants: where plans are tested on scenarios, each choice is planned for by itself."""
    several = {name: stage.models for name, stage in pipeline.stages.items() if len(stage.models) > 1}
    for models in itertools.product(*several.values()):
        yield dict(zip(several, models, strict=True))


def _bounds(asked: Plan) -> tuple[float, float]:
    """What plans of a combination cost at least, by its demand; infinite if none has the accuracy or keeps up.

    And how accurate they can be, where that is too little, else 0. A plan that only has to replay within the objective
    may be overloaded: nothing is known of it before it is looked for but what it can run, and how accurate that is.
    """
    if asked.provenance.sample is None:
        raise AssertionError("a plan is made for a trace")
    instance = Request.of(asked, asked.provenance.samples).instance()
    by_replay = asked.guarantee in _BY_REPLAY
    if by_replay:
        nothing = dict.fromkeys(instance.demand, Fraction(0))
        families = find_families(asked.pipeline, asked.profiles, nothing, asked.laws)
        instance = replace(instance, families=families).with_floor(asked.min_accuracy)
    if not instance.has_options:
        return math.inf, 0.0
    floor = instance.floor
    if floor is not None and floor.best is not None and floor.best < floor.floor * (1 - floor.resolution):
        return math.inf, floor.best
    return 0.0 if by_replay else float(sum(instance.cheapest_by_stage().values())), 0.0


class _Search:
    """Opens combinations, the one of the least bound first."""

    def __init__(
        self, asked: Plan, answering: Answering, limits: SearchLimits, each: list[Combination]
    ) -> None:
        self._asked, self._answering, self._limits = asked, answering, limits
        self._open = [combination for combination in each if combination.lower_bound < math.inf]
        heapq.heapify(self._open)
        self._all = each
        self._best: Plan | None = None
        # The answer for the first combination, or for the first that is not refuted: what it says if there is no plan.
        self._first: Plan | None = None
        self._lower_bound = math.inf  # Of what was opened.
        self._stopped: Limit | None = None
        self._unsettled: set[int | None] = set()  # Costs of which another plan may be more accurate.
        self._tied = 0  # Combinations opened for ties alone.
        self.opened = 0

    def run(self) -> Plan:
        """Open combinations until none can be better; Ctrl-C while one is analysed leaves what the others gave."""
        try:
            self._open_all()
        except KeyboardInterrupt:
            if self._first is None:
                raise
            self._stopped = Limit.INTERRUPT
        return self._concluded()

    def _open_all(self) -> None:
        while self._open and (
            self._best is None
            or _has_failed(self._best)
            or self._value(self._best) > self._open[0].lower_bound
            or self._is_tied(self._best)
        ):
            self._tied += self._best is not None and self._is_tied(self._best)
            if self.opened and (self._limits.deadline.is_over or self._stopped is Limit.INTERRUPT):
                self._stopped = self._stopped or Limit.TIME
                break
            next_one = heapq.heappop(self._open)
            try:
                answer = self._answering(next_one.asked, self._share())()
            except KeyboardInterrupt:
                heapq.heappush(self._open, next_one)  # what it costs at least still counts
                raise
            self._take(next_one, answer)

    def _is_tied(self, best: Plan) -> bool:
        """Whether the next combination, which is no cheaper, may have a more accurate plan of the same cost."""
        settles = best.status is PlanStatus.OPTIMAL and self._is_told(best) and self._tied < _MOST_TIED
        return settles and self._value(best) == self._open[0].lower_bound

    def _is_told(self, best: Plan) -> bool:
        """Whether accuracies are known; a table may know those of other combinations only."""
        return best.accuracy is not None or self._asked.pipeline.accuracy.kind is AccuracyKind.TABLE

    def _share(self) -> SearchLimits:
        """Where nothing is known of the combinations to come, each has its share of the time that is left."""
        unknown = sum(1 for combination in self._open if combination.lower_bound == 0.0)
        return replace(self._limits, deadline=self._limits.deadline.share(1.0 / (1 + unknown)))

    def _take(self, combination: Combination, plan: Plan) -> None:
        self.opened += 1
        plan = combination.restored(plan, self._asked)
        self._stopped = plan.limit or self._stopped
        is_open = plan.status is not PlanStatus.INFEASIBLE
        if self._first is None or (is_open and self._first.status is PlanStatus.INFEASIBLE):
            self._first = plan
        if is_open:
            bound = plan.lower_bound_microusd_per_hour
            self._lower_bound = min(self._lower_bound, combination.lower_bound if bound is None else bound)
        if plan.reason == UNSETTLED:
            self._unsettled.add(plan.microusd_per_hour)
        if plan.choices and (self._best is None or self._rank(plan) < self._rank(self._best)):
            self._best = plan
        cost = (
            "none yet"
            if self._best is None
            else f"{self._value(self._best) / MICRODOLLARS_PER_DOLLAR:.4f} $/h"
        )
        left = f"{len(self._open):,} left" if self._open else "all opened"
        self._limits.report(
            f"opened {self.opened:,} of {len(self._all):,} combinations ({left}), best {cost}"
        )

    def _value(self, plan: Plan) -> int:
        """What is to be least: cost, or within a budget the latency, too."""
        value = (
            plan.microusd_per_hour if self._asked.budget_microusd_per_hour is None else plan.certificate_ns
        )
        return value or 0

    def _rank(self, plan: Plan) -> tuple[bool, int, float, int]:
        """Whatever did not pass its test comes last; of equal ones the more accurate, then the faster."""
        accuracy, failed = accuracy_of(plan.pipeline, plan.profiles, plan.choices), _has_failed(plan)
        return failed, self._value(plan), -(accuracy or 0.0), plan.certificate_ns or 0

    def _concluded(self) -> Plan:
        left = min((combination.lower_bound for combination in self._open), default=math.inf)
        lower_bound = min(self._lower_bound, left)
        if self._best is None:
            count, floor = len(self._all), self._asked.min_accuracy
            if self._first is None:
                asked = "keeps up" if floor is None else f"keeps up and has an accuracy of {floor:g}"
                reason = f"none of {count:,} combinations of variants {asked}"
                if (most := max(combination.most_accurate for combination in self._all)) > 0:
                    reason += f": with the most accurate variants it is {most:.6g}"
                return replace(self._asked, status=PlanStatus.INFEASIBLE, reason=reason, figures=Figures())
            plan = self._first
            if math.isfinite(lower_bound):  # else all were opened, and each was refuted
                why = _NOT_ALL if plan.status is PlanStatus.INFEASIBLE else plan.reason
                figures = replace(plan.figures, lower_bound_microusd_per_hour=int(lower_bound))
                limit, unknown = self._stopped or plan.limit, PlanStatus.UNKNOWN
                return replace(plan, status=unknown, figures=figures, reason=why, limit=limit)
            return replace(
                plan,
                reason=f"none of {count:,} combinations of variants has a plan; of the first: {plan.reason}",
            )
        reason = self._best.reason or _NOT_ALL
        limit = self._best.limit or self._stopped
        if self._asked.budget_microusd_per_hour is not None:
            # Nothing bounds the latency of combinations that were not opened, or not to the end.
            if self._stopped is None:
                return self._best
            return replace(self._best, status=PlanStatus.FEASIBLE, reason=reason, limit=limit)
        cost = self._value(self._best)
        if self._asked.guarantee is Guarantee.RELIABLE:
            # It rests on its test, which says nothing of what is cheapest.
            figures = replace(self._best.figures, lower_bound_microusd_per_hour=int(min(cost, lower_bound)))
            why = reason if self._stopped else self._best.reason
            return replace(self._best, figures=figures, reason=why, limit=limit)
        if lower_bound >= cost or not math.isfinite(lower_bound):
            figures = replace(self._best.figures, lower_bound_microusd_per_hour=cost)
            # Plans found otherwise than by certificates, and those of unknown accuracy, have no ties to settle.
            has_ties = self._is_told(self._best) and self._best.guarantee is not Guarantee.REPLAY
            open_tie = cost in self._unsettled or self._stopped is not None or left <= cost
            why = UNSETTLED if has_ties and open_tie else None
            return replace(self._best, status=PlanStatus.OPTIMAL, figures=figures, reason=why, limit=None)
        figures = replace(self._best.figures, lower_bound_microusd_per_hour=int(lower_bound))
        return replace(self._best, status=PlanStatus.FEASIBLE, figures=figures, reason=reason, limit=limit)


def _has_failed(plan: Plan) -> bool:
    """Whether a plan, which is at hand, did not pass its test, or had none."""
    return plan.status is PlanStatus.UNKNOWN
