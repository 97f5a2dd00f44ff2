"""IPA's weighted objective over certified plans: the greatest α·A − β·C − δ·Σ b, proven.

A is the accuracy of the pipeline, C its dollars per hour, b the batch size of a stage. A is no sum in general, and the
price on batch sizes is none of the plan's cost, so both are bounded instead (the ε-constraint method, twice): accuracy
from below, by segments between the breakpoints of its front, and Σ b from above, which is one more shared resource. Of
a segment it is known what its plans cost at least; only one whose bound is above the best value is looked at again,
with a smaller Σ b, until none is. With the weights of the paper a handful of plans is made.

References
----------
S. Ghafouri et al., "IPA: Inference pipeline adaptation to achieve high accuracy and cost-efficiency", Journal of
Systems Research 4(1), 2024, doi:10.5070/SR34163500. Y. Y. Haimes, L. S. Lasdon, D. A. Wismer, "On a bicriterion
formulation …", IEEE Trans. Systems, Man, and Cybernetics 1 (1971), doi:10.1109/TSMC.1971.4308298.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, NamedTuple

from mipplan.core import MICRODOLLARS_PER_DOLLAR, InputError, Printable, Summary, usd_text
from mipplan.ipa import Weights, check_weights
from mipplan.pipeline import Pipeline
from mipplan.profiles import Profiles
from mipplan.result import Limit, Plan, PlanStatus
from mipplan.trace import Trace
from mipplan.variants.asking import Asker


@dataclass(frozen=True, eq=False, repr=False)
class WeighedPlan(Printable):
    """The certified plan with the greatest weighted value.

    Attributes
    ----------
    plan : Plan
        ``optimal`` where it is the cheapest plan of all, too, else ``feasible`` with the reason; without choices if
        none was found. Its own `limit` is None, since no search for the cheapest plan was stopped at it.
    weights : Weights
    value : float or None
        α·A − β·C − δ·Σ b of the plan; None without one.
    bound : float or None
        No certified plan has a greater value; None if there is no certified plan.
    limit : Limit or None
        What stopped the search for a greater value, if anything did.
    """

    plan: Plan
    weights: Weights
    value: float | None
    bound: float | None
    limit: Limit | None = None

    @property
    def optimal(self) -> bool:
        """Whether it is proven that no certified plan has a greater value."""
        return self.value is not None and self.value == self.bound

    def _summary(self) -> Summary:
        weights = self.weights
        return Summary(
            f"Plan by α = {weights.accuracy:g}, β = {weights.cost:g}, δ = {weights.batch:g}",
            figures=(
                ("value", None if self.value is None else f"{self.value:.6g}"),
                ("at most", None if self.bound is None else f"{self.bound:.6g}"),
                (
                    "cost",
                    None if self.plan.usd_per_hour is None else f"{usd_text(self.plan.usd_per_hour)} $/h",
                ),
                ("accuracy", None if self.plan.accuracy is None else f"{self.plan.accuracy:.4g}"),
                ("reason", self.plan.reason),
            ),
            headings=("stage", "variant", "hardware", ">batch", ">replicas"),
            rows=(
                (stage, choice.variant or "", choice.hardware, f"{choice.batch}", f"{choice.replicas}")
                for stage, choice in self.plan.choices.items()
            ),
            count=len(self.plan.choices),
            what="stages",
        )

    def _line(self) -> str:
        return f" value {self.value}, at most {self.bound}"


def weigh(
    pipeline: Pipeline,
    profiles: Profiles,
    trace: Trace | Sequence[Trace],
    *,
    weights: Weights | None = None,
    time_limit_s: float | None = 60.0,
    progress: Callable[[str], None] | None = None,
    **settings: Any,
) -> WeighedPlan:
    """Find the certified plan with the greatest α·A − β·C − δ·Σ b.

    Parameters
    ----------
    weights : Weights, optional
        α per unit of the pipeline's accuracy A (by its rule), β per dollar an hour, δ per item of batch size.
    pipeline, profiles, trace, time_limit_s, progress, **settings
        As for `mipplan.pareto`.

    Returns
    -------
    WeighedPlan

    Raises
    ------
    InputError
        Listing every bad argument.

    Notes
    -----
    Values are compared exactly, accuracies as `mipplan.pareto` tells them apart.
    """
    weights = Weights() if weights is None else weights
    InputError.raise_if(check_weights(weights))
    return _Search(Asker(pipeline, profiles, trace, time_limit_s, progress, settings), weights).run()


class _Segment(NamedTuple):
    """Accuracies above `low`, up to `high`: within the batch sizes asked for, no plan with one of these is cheaper."""

    low: float
    high: float
    microusd_per_hour: int


class _Search:
    def __init__(self, asker: Asker, weights: Weights) -> None:
        self._asker, self._weights = asker, weights
        alpha, beta, delta = (Fraction(float(w)) for w in (weights.accuracy, weights.cost, weights.batch))
        self._alpha, self._beta, self._delta = alpha, beta / MICRODOLLARS_PER_DOLLAR, delta
        self._least_batches = len(asker.asked.pipeline.stages)
        self._best: tuple[Fraction, Plan] | None = None
        self._limit: Limit | None = None

    def run(self) -> WeighedPlan:
        """Look at all segments, then again with less and less Σ b at those that are promising."""
        first = self._asker.first()
        if not first.choices:
            return WeighedPlan(first, self._weights, None, None, first.limit)
        self._take(first)
        least, known = first.lower_bound_microusd_per_hour or 0, first.accuracy or 0.0
        if first.status is not PlanStatus.OPTIMAL:
            self._limit, known = first.limit or Limit.TIME, 0.0
        segments = [_Segment(0.0, known, least), *self._narrowed([_Segment(known, 1.0, least)], None)]
        while self._limit is None and (most := self._most_batches(segments)) is not None:
            segments = list(self._narrowed(segments, most))
        return self._concluded(first, segments)

    def _value(self, accuracy: float, microusd_per_hour: int, batches: int) -> Fraction:
        return self._alpha * Fraction(accuracy) - self._beta * microusd_per_hour - self._delta * batches

    def _potential(self, segment: _Segment) -> Fraction:
        """No plan of a segment has a greater value."""
        return self._value(segment.high, segment.microusd_per_hour, self._least_batches)

    def _promises(self, segment: _Segment) -> bool:
        return self._best is None or self._potential(segment) > self._best[0]

    def _take(self, plan: Plan) -> None:
        batches = sum(choice.batch for choice in plan.choices.values())
        value = self._value(plan.accuracy or 0.0, plan.microusd_per_hour or 0, batches)
        if self._best is None or value > self._best[0]:
            self._best = value, plan

    def _most_batches(self, segments: Sequence[_Segment]) -> int | None:
        """The largest Σ b with which a plan may still have a greater value; None if there is none."""
        if not self._delta or self._best is None:
            return None
        above = [
            self._value(segment.high, segment.microusd_per_hour, 0) - self._best[0]
            for segment in segments
            if self._promises(segment)
        ]
        # A plan of such a segment is better only if δ·Σ b is less than that.
        return math.ceil(max(above) / self._delta) - 1 if above else None

    def _narrowed(self, segments: Sequence[_Segment], most_batches: int | None) -> Iterator[_Segment]:
        """The segments for plans with at most so much Σ b; those that promise nothing stay as they are."""
        # Any accuracy from the last one asked for up to `covered` costs at least `least`.
        covered, least = 0.0, 0
        for segment in segments:
            low, cost = segment.low, max(segment.microusd_per_hour, least)
            while low < segment.high:
                if covered > low:
                    yield _Segment(low, min(covered, segment.high), cost)
                    low = covered
                    continue
                rest = _Segment(low, segment.high, cost)
                floor = self._asker.next_above(low)
                if floor > segment.high:
                    break  # What is left of it is not told apart from where it begins.
                if self._limit is not None or not self._promises(rest):
                    yield rest
                    break
                if self._asker.deadline.is_over:
                    self._limit = Limit.TIME
                    continue
                plan = self._asker.at_least(floor, cost, most_batches=most_batches)
                if plan.status is PlanStatus.INFEASIBLE:
                    return  # Nothing is more accurate than this segment begins, with so little Σ b.
                if plan.choices:
                    self._take(plan)
                cost = least = max(cost, plan.lower_bound_microusd_per_hour or 0)
                covered = plan.accuracy or 0.0
                if plan.status is not PlanStatus.OPTIMAL:
                    self._limit, covered = plan.limit or Limit.TIME, low

    def _concluded(self, first: Plan, segments: Sequence[_Segment]) -> WeighedPlan:
        if self._best is None:
            raise AssertionError("the first plan was taken")
        value, plan = self._best
        bound = max([value, *map(self._potential, segments)]) if self._limit else value
        least = first.lower_bound_microusd_per_hour
        proof = ", which is proven;" if float(bound) == float(value) else " that was found,"
        is_cheapest = plan.microusd_per_hour == least
        plan = replace(
            plan,
            objective=replace(plan.objective, min_accuracy=None),
            status=PlanStatus.OPTIMAL if is_cheapest else PlanStatus.FEASIBLE,
            figures=replace(plan.figures, lower_bound_microusd_per_hour=least),
            reason=None if is_cheapest else f"of the greatest weighted value{proof} not of the least cost",
            limit=None,
        )
        return WeighedPlan(plan, self._weights, float(value), float(bound), self._limit)
