"""Walks along an axis: the cheapest plan at every value of it, from as few plans made as there are steps.

Along each axis values are whole numbers (nanoseconds, micro-dollars, parts of a factor), so that a step ends at an
exact value and the next begins one further.

*Objective.* The least cost falls as the objective grows. The cheapest plan at s has a certificate b ≤ s: it is the
cheapest all the way from s down to b, and the next step begins at b − 1.

*Price of a hardware type.* A plan costs a + n·p, where n is how many devices it uses: the least cost is the lower
envelope of lines, concave in p. Where the lines of the cheapest plans at two prices meet, either no plan is cheaper,
and that is the breakpoint, or one is, whose line parts the interval [Eisner and Severance].

*Traffic.* More of it never makes a plan cheaper, but for gaps that are rounded to whole nanoseconds: between two rates
certificates may move by as many against that. The cheapest plan at one rate is the cheapest up to the largest at which
it is still certified, which bisection finds without planning. Not so over windows of a fixed length: queries move from
one to the next as the rate grows, and there single values are planned.

*Accuracy.* The cheapest plan that is at least so accurate is the cheapest up to its own accuracy (`mipplan.variants`).

References
----------
M. J. Eisner, D. G. Severance, "Mathematical techniques for efficient record segmentation in large shared databases",
J. ACM 23 (1976), doi:10.1145/321978.321982.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Protocol

from mipplan.core import SearchLimits, last_true
from mipplan.planner import uninterrupted
from mipplan.profiles import Profiles
from mipplan.questions.problems import Problem, WarmPlanner, is_proven
from mipplan.result import Limit, Plan, PlanStatus
from mipplan.variants import Asker

#: At most this many problems along an axis are kept, because each holds the tokens of a trace.
_PROBLEMS_KEPT = 4


@dataclass(frozen=True)
class StepRange:
    """A plan that is the cheapest for every whole value from `low` to `high`; None: for these there is none."""

    low: int
    high: int
    plan: Plan | None
    proven: bool = True  # Whether no plan is cheaper, at each of these values.


@dataclass
class Walk:
    """What was found along a part of an axis, by ascending values, and how many plans were made for it."""

    steps: list[StepRange] = field(default_factory=list)
    solves: int = 0
    complete: bool = True  # False if time was up, or it was interrupted, before the whole part was walked.
    interrupted: bool = False

    @contextmanager
    def to_its_end(self) -> Iterator[None]:
        """Within this context Ctrl-C ends the walk: what was found until then is kept."""
        try:
            yield
        except KeyboardInterrupt:
            self.complete, self.interrupted = False, True


class Walker(Protocol):
    """Walks along parts of an axis."""

    def walk(self, low: int, high: int, most_steps: int, limits: SearchLimits) -> Walk:
        """Find the steps from one whole value to another, both included; of very many, the first."""


def with_known(steps: list[StepRange], known: Plan, first: int) -> list[StepRange]:
    """Put a plan that serves every value from `first` on where what was found for these is dearer, or nothing.

    Along an axis on which the least cost falls. No step that is proven changes.
    """
    made: list[StepRange] = []
    better = replace(known, status=PlanStatus.FEASIBLE, limit=Limit.TIME)
    for step in steps:
        if step.proven or step.high < first or _cost(step.plan) <= _cost(known):
            made.append(step)
            continue
        if step.low < first:
            made.append(replace(step, high=first - 1))
        made.append(StepRange(max(first, step.low), step.high, better, proven=False))
    return made


def _cost(plan: Plan | None) -> float:
    return math.inf if plan is None or plan.microusd_per_hour is None else plan.microusd_per_hour


class ObjectiveWalker:
    """Along the objective, in ns, from above."""

    def __init__(self, problem: Problem, limits: SearchLimits, horizon_ns: int) -> None:
        self._asked = problem.plan
        # The oracle learns best about the largest objective first.
        self._planner = WarmPlanner(
            replace(problem, plan=problem.plan.with_slo(horizon_ns)), SearchLimits(limits.deadline)
        )
        self._margin_ns = problem.plan.margin_ns

    def walk(self, low: int, high: int, most_steps: int, limits: SearchLimits) -> Walk:
        """Find the steps from `low` to `high` ns."""
        walk, at, after = Walk(), high, None
        low = max(low, self._margin_ns + 1)
        with walk.to_its_end():
            while at >= low and walk.complete:
                plan = self._planner.plan(slo_ns=at, after=after)
                if plan.choices and plan.certificate_ns is not None:
                    least = max(low, plan.certificate_ns + self._margin_ns)
                    walk.steps.append(StepRange(least, at, plan, is_proven(plan)))
                    limits.report(f"{plan.usd_per_hour:.4f} $/h from {least / 1e6:.4g} ms on")
                    at, after = least - 1, plan
                else:
                    walk.steps.append(StepRange(low, at, None, is_proven(plan)))
                    at = low - 1
                is_known = bool(plan.choices) or is_proven(plan)
                goes_on = len(walk.steps) < most_steps and not limits.deadline.is_over
                walk.complete = is_known and (at < low or goes_on)
        walk.steps.reverse()
        walk.solves = self._planner.solves
        if all(step.proven for step in walk.steps):
            return walk
        # What time stopped may have found less than what is at hand: the plan asked about, and plans further down.
        known = [(step.plan, step.low) for step in walk.steps if step.plan is not None]
        if self._asked.choices:
            certified_ns = self._planner.certificate_ns(self._asked)
            known += [] if certified_ns is None else [(self._asked, certified_ns + self._margin_ns)]
        for plan, first in known:
            walk.steps = with_known(walk.steps, plan, first)
        return walk


class PriceWalker:
    """Along the price of a hardware type, in micro-dollars per hour."""

    def __init__(self, planner: WarmPlanner, profiles: Profiles, hardware: str) -> None:
        self._planner, self._profiles, self._hardware = planner, profiles, hardware
        self._limits, self._walk, self._most = SearchLimits(), Walk(), math.inf

    def plan(self, price: int) -> Plan:
        """Return the cheapest plan at a price."""
        return self._planner.plan(profiles=self._at(price))

    def proven(self, price: int) -> Plan:
        """The same; raises `LimitReachedError` where time stops its proof."""
        return self._planner.proven(self._at(price))

    def _at(self, price: int) -> Profiles:
        self._limits.report(f"{self._hardware} at {price / 1e6:.4f} $/h")
        device = replace(self._profiles.hardware[self._hardware], usd_per_hour=price / 1e6)
        return self._profiles.with_hardware(device)

    def walk(self, low: int, high: int, most_steps: int, limits: SearchLimits) -> Walk:
        """Find the steps from `low` to `high` micro-dollars per hour."""
        walk, before, self._limits = Walk(), self._planner.solves, limits
        self._walk, self._most = walk, before + 2 * most_steps + 2
        with walk.to_its_end():
            first = self.plan(low)
            if not first.choices:  # whatever it costs
                walk.steps = [StepRange(low, high, None, is_proven(first))]
                walk.complete = is_proven(first)
            else:
                last = first if low == high else self.plan(high)
                only = [StepRange(low, low, first, is_proven(first))]
                walk.steps = self._between(low, first, high, last) if last.choices else only
                walk.complete &= bool(last.choices)
        walk.solves = self._planner.solves - before
        return walk

    def line(self, plan: Plan) -> tuple[int, int]:
        """How many devices a plan uses, and what its others cost: n and a of a + n·p."""
        prices = plan.profiles.hardware
        devices, others = 0, 0
        for choice in plan.choices.values():
            if choice.hardware == self._hardware:
                devices += choice.replicas
            else:
                others += choice.replicas * prices[choice.hardware].microusd_per_hour
        return devices, others

    def turning_price(self, kept: Plan, far: int) -> int | None:
        """The last whole price, from where a plan is the cheapest towards `far`, at which it still is.

        Newton's method on the least cost, which is concave: where the plan's line meets that of a cheaper one, either
        it is the cheapest again, or the next cheaper one is nearer. None if it is the cheapest as far as `far`.

        Raises `LimitReachedError` where time stops the proof of a cheapest plan.
        """
        devices, others = self.line(kept)
        price, last = far, None
        while True:
            found = self._cheaper(kept, price, self.proven(price))
            if found is kept:
                return last
            own, rest = self.line(found)
            # Of whole prices the last at which `kept` is no dearer: towards lower prices rounded up, else down.
            down = own > devices
            last = -((rest - others) // (own - devices)) if down else (rest - others) // (devices - own)
            price = last

    def _between(self, low: int, first: Plan, high: int, last: Plan) -> list[StepRange]:
        """Steps between two prices, given the cheapest plans there."""
        (many, dear), (few, cheap) = self.line(first), self.line(last)
        proven = is_proven(first) and is_proven(last)
        if low == high or dear + many * high <= cheap + few * high:
            return [StepRange(low, high, first, proven)]
        if cheap + few * low <= dear + many * low:
            return [StepRange(low, high, last, proven)]
        # The last whole price at which the first plan is no dearer than the other: low ≤ middle < high.
        middle = (cheap - dear) // (many - few)
        below, above = first, last
        with self._walk.to_its_end():
            if low < middle and self._walk.complete:
                below = self._better(first, middle)
            if middle + 1 < high and self._walk.complete:
                above = self._better(last, middle + 1)
        if self._limits.deadline.is_over or self._planner.solves > self._most:
            self._walk.complete = False
        if not self._walk.complete:
            return [StepRange(low, middle, first, False), StepRange(middle + 1, high, last, False)]
        lower = [StepRange(low, middle, first, proven)]
        upper = [StepRange(middle + 1, high, last, proven)]
        if below is not first:
            lower = self._between(low, first, middle, below)
        if above is not last:
            upper = self._between(middle + 1, above, high, last)
        return lower + upper

    def _better(self, known: Plan, price: int) -> Plan:
        """Return a plan that is cheaper at a price than a known one, if there is any, else that one."""
        found = self.plan(price)
        self._walk.complete &= is_proven(found)
        return self._cheaper(known, price, found)

    def _cheaper(self, known: Plan, price: int, found: Plan) -> Plan:
        devices, others = self.line(known)
        cost = found.microusd_per_hour
        return known if cost is None or cost >= others + devices * price else found


class TrafficWalker:
    """Along what makes the traffic harder, in steps of some factor; a problem for each step."""

    def __init__(self, problem_at: Callable[[int], Problem], limits: SearchLimits) -> None:
        self._planner = lru_cache(_PROBLEMS_KEPT)(
            lambda step: WarmPlanner(problem_at(step), SearchLimits(limits.deadline))
        )

    def plan(self, step: int) -> Plan:
        """Return the cheapest plan at a value."""
        return self._planner(step).plan()

    def last(self, plan: Plan, step: int, high: int) -> int:
        """The last value up to which the cheapest plan of a value is a plan still, and so the cheapest."""
        return last_true(step, high, lambda further: self._planner(further).keeps(plan))

    def walk(self, low: int, high: int, most_steps: int, limits: SearchLimits) -> Walk:
        """Find the steps from `low` to `high`."""
        walk, at = Walk(), low
        with walk.to_its_end():
            while at <= high and walk.complete:
                walk.solves += 1
                plan = self.plan(at)
                last = self.last(plan, at, high) if plan.choices else high
                walk.steps.append(StepRange(at, last, plan if plan.choices else None, is_proven(plan)))
                limits.report(
                    f"step {len(walk.steps)}: {'no plan' if plan.usd_per_hour is None else plan.usd_per_hour}"
                )
                at = last + 1
                is_known = bool(plan.choices) or is_proven(plan)
                goes_on = len(walk.steps) < most_steps and not limits.deadline.is_over
                walk.complete = is_known and (at > high or goes_on)
        return walk


class AccuracyWalker(TrafficWalker):
    """Along the least accuracy, in so many parts of one: a plan serves up to its own."""

    def __init__(self, problem: Problem, limits: SearchLimits, ticks: int) -> None:
        given = problem.plan.pipeline, problem.profiles, problem.traces, limits.deadline.limit_s()
        self._asker, self._ticks = Asker(*given, limits.report, problem.settings), ticks

    def plan(self, step: int) -> Plan:
        """Return the cheapest plan that is at least so accurate."""
        return uninterrupted(self._asker.at_least(step / self._ticks, brief=True))

    def last(self, plan: Plan, step: int, high: int) -> int:
        """The plan's own accuracy."""
        return min(high, max(step, int(round((plan.accuracy or 0.0) * self._ticks, 3))))


class PointWalker:
    """At single values, each planned by itself: where nothing is known of what lies between."""

    def __init__(self, problem_at: Callable[[int], Problem], values: tuple[int, ...]) -> None:
        self._problem_at, self._values = problem_at, values

    def walk(self, low: int, high: int, most_steps: int, limits: SearchLimits) -> Walk:
        """Plan at the values from `low` to `high`."""
        walk = Walk()
        values = [value for value in self._values if low <= value <= high]
        with walk.to_its_end():
            for number, value in enumerate(values):
                if walk.steps and (limits.deadline.is_over or number == most_steps):
                    walk.complete = False
                    break
                deadline = limits.deadline.share(1.0 / (len(values) - number))
                plan = self._problem_at(value).planned(SearchLimits(deadline, limits.report))
                walk.solves += 1
                walk.steps.append(StepRange(value, value, plan if plan.choices else None, is_proven(plan)))
        return walk


def merged(
    steps: list[StepRange], is_same: Callable[[StepRange, StepRange], bool], *, upper: bool = False
) -> list[StepRange]:
    """Join neighbours that are one step, by ascending values; the plan of the lower one is kept, or the upper."""
    joined: list[StepRange] = []
    for step in steps:
        before = joined[-1] if joined else None
        if before is not None and before.high + 1 == step.low and is_same(before, step):
            plan, proven = (step if upper else before).plan, before.proven and step.proven
            joined[-1] = StepRange(before.low, step.high, plan, proven)
        else:
            joined.append(step)
    return joined
