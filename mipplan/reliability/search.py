"""The search for a cheap plan that keeps the objective in every scenario of a set.

One scenario, the *pivot*, is the hardest of them for the best plan so far. Plans are made on it as refinement makes
them on a trace; what keeps the objective there, and would be the cheapest, is judged on all others, those first that
refused a plan last. A plan that fails somewhere is *repaired* by more replicas where they make fewest queries late for
their cost, and then loses replicas again that no scenario misses. All of that is heuristic. What is proven is a lower
bound: by refinement's conditions, every one of which is necessary in every scenario that must be kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

from mipplan.core import MICRODOLLARS_PER_DOLLAR, LimitReachedError, Report
from mipplan.options import Configuration, find_families, limits_of
from mipplan.refinement import (
    Heuristics,
    Known,
    RefinementSearch,
    ReplayOracle,
    Screen,
    WorkLimit,
    fastest_plan,
    least_cost,
    narrow,
    propose_plans,
    screen,
    study_stages,
)
from mipplan.reliability.judges import Choices, Judge, Judges
from mipplan.reliability.scenarios import Scenario
from mipplan.result import Choice, Plan


@dataclass(frozen=True)
class ScenarioSearchParams:
    """How much the search tries."""

    # A repair adds replicas at most 400 times; a twentieth of a stage's at once, or one.
    repairs: int = 400
    step: float = 0.05
    # Where no repair helps, the plans of a scenario are gone through, the cheapest first, for 20,000 stage replays.
    sweep_replays: int = 20_000
    # The cost up to which conditions alone refute every plan is found to one part in 100 of itself.
    bound_precision: int = 100


class NoPlanKeepsError(Exception):
    """No plan that was tried keeps the objective in a scenario."""

    def __init__(self, scenario: Scenario, reason: str | None) -> None:
        super().__init__(reason)
        self.scenario, self.reason = scenario, reason  # The reason if it is proven that none can.


@dataclass(eq=False)
class ScenarioSearch:
    """One search under way. All methods but `add` raise `LimitReachedError` when the limit is reached."""

    base: Plan  # What is asked for; its choices do not matter.
    judges: Judges
    scenarios: list[Scenario]  # All must be kept; the hardest first, as far as is known.
    limit: WorkLimit
    report: Report
    params: ScenarioSearchParams = ScenarioSearchParams()
    # The cheapest plan found that keeps all; empty: none.
    best: Choices = field(default_factory=dict, init=False)
    cost: int | None = field(default=None, init=False)
    lower_bound: int = field(default=0, init=False)  # No plan that keeps all scenarios costs less.
    _judged: dict[tuple[Choice, ...], bool] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self._limits = limits_of(self.base.profiles)
        hardware = self.base.profiles.hardware
        self._prices = {name: device.microusd_per_hour for name, device in hardware.items()}
        # Known before any scenario is at hand: the cheapest that each stage can run on, though it may be overloaded.
        nothing = dict.fromkeys(self.base.pipeline.stages, Fraction(0))
        found = find_families(self.base.pipeline, self.base.profiles, nothing, self.base.laws).values()
        self._least = sum(min((f.cost(f.fewest) for f in own.families), default=0) for own in found)
        self.lower_bound = self._least

    def add(self, scenarios: list[Scenario]) -> Choices:
        """Demand more scenarios to be kept; the best plan so far is the best no longer, and returned."""
        before, self.best, self.cost = self.best, {}, None
        self.scenarios[:0] = scenarios
        self._judged.clear()
        return before

    def leave_out(self, scenario: Scenario) -> None:
        """Demand one of them no longer."""
        self.scenarios.remove(scenario)
        self._judged.clear()
        self.lower_bound = self._least

    # ------------------------------------------------------------------------------------------------ judging

    def keeps_all(self, choices: Choices) -> bool:
        """Whether a plan keeps the objective in every scenario."""
        return self._refused_by(choices) is None

    def _refused_by(self, choices: Choices) -> Scenario | None:
        key = tuple(choices.values())
        if self._judged.get(key):
            return None
        for place, scenario in enumerate(self.scenarios):
            if not self.judges.of(scenario).keeps(choices, self.limit):
                # What refuses one plan is likely to refuse the next.
                self.scenarios.insert(0, self.scenarios.pop(place))
                return scenario
        self._judged[key] = True
        return None

    def _take(self, choices: Choices) -> bool:
        """Keep a plan if it is the cheapest so far and keeps all scenarios; whether it is worth going on from."""
        cost = sum(choice.replicas * self._prices[choice.hardware] for choice in choices.values())
        if self.cost is not None and cost >= self.cost:
            return True  # only a step on the way to something cheaper, which will be judged
        if not self.keeps_all(choices):
            return False
        self.best, self.cost = dict(choices), cost
        self._tell(f"found a plan of {cost / MICRODOLLARS_PER_DOLLAR:.4g} $/h")
        return True

    def _tell(self, what: str) -> None:
        least = self.lower_bound / MICRODOLLARS_PER_DOLLAR
        self.report(f"{what}; none below {least:.4g} $/h keeps all {len(self.scenarios)} scenarios")

    # ------------------------------------------------------------------------------------------- making plans

    def check(self, scenario: Scenario) -> None:
        """Raise `NoPlanKeepsError` if conditions prove that no plan keeps a scenario; else they bound its cost."""
        judge = self.judges.of(scenario)
        narrowed = narrow(judge.least, deadline=self.limit.deadline)
        if narrowed.blocked is not None:
            raise NoPlanKeepsError(scenario, self._why_none(judge))
        least = sum(least_cost(domain) for domain in narrowed.problem.domains.values())
        self.lower_bound = max(self.lower_bound, least)

    def find(self, start: Choices) -> None:
        """Find a cheap plan, beginning with one that need not keep anything, or with none."""
        begin = start or self._first(self.scenarios[0])
        self._repair(begin)
        pivot = self._hardest()
        self._improve_on(self.judges.pivot(pivot))

    def _first(self, scenario: Scenario) -> Choices:
        """The cheapest plan that weighs cost against time and keeps one scenario, else the fastest."""
        judge = self.judges.of(scenario)
        if not all(judge.problem.domains.values()):
            raise NoPlanKeepsError(scenario, self._why_none(judge))
        plans: Iterator[Configuration] = iter(())
        stages = study_stages(ReplayOracle(judge.problem, judge.replays), self.base.quantile, self.limit)
        if stages is not None:
            plans = propose_plans(stages)
        for plan in plans:
            if judge.keeps(choices_of(plan), self.limit):
                return choices_of(plan)
        return choices_of(fastest_plan(judge.problem))

    def _hardest(self) -> Scenario:
        """The scenario in which the best plan comes closest to missing the objective."""
        return max(
            self.scenarios, key=lambda scenario: self.judges.of(scenario).lateness_ns(self.best, self.limit)
        )

    def _improve_on(self, pivot: Judge) -> None:
        """Make the best plan cheaper by plans that keep the pivot."""
        whole = ReplayOracle(pivot.problem, pivot.replays)
        part = screen(pivot.problem)
        oracle = whole if part is None else ReplayOracle(part, pivot.replays_of(part))
        screening = Screen(oracle, whole)
        stages = study_stages(oracle, self.base.quantile, self.limit)
        best = pivot.configuration(self.best)
        if stages is None or best is None:
            return

        def accept(plan: Configuration) -> bool:
            return screening.confirms(plan, self.limit) and self._take(choices_of(plan))

        for plan in propose_plans(stages):
            if self.cost is None or plan.microusd_per_hour >= self.cost:
                break
            if oracle.keeps(plan, self.limit) and accept(plan):
                best = plan
                break
        heuristics = Heuristics(lambda: screening.problem, stages, oracle.replays, self.limit, accept)
        drafted = heuristics.redraft(best)
        heuristics.improve([drafted] if drafted is best else [drafted, best])

    # ------------------------------------------------------------------------------------------------- repair

    def _repair(self, choices: Choices) -> None:
        """Add replicas until all scenarios are kept, then take away what none of them misses."""
        current, tries, has_fallen_back = dict(choices), 0, False
        while (scenario := self._refused_by(current)) is not None:
            self._tell("repairing a plan")
            judge, tries = self.judges.of(scenario), tries + 1
            grown = self._grown(judge.raised(current), judge) if tries <= self.params.repairs else None
            if grown is not None:
                current = grown
            elif not has_fallen_back and all(judge.problem.domains.values()):
                current, tries, has_fallen_back = choices_of(fastest_plan(judge.problem)), 0, True
            elif self._sweep(judge):
                return
            else:
                raise NoPlanKeepsError(scenario, self._why_none(judge))
        self._take(self._trimmed(current))

    def _sweep(self, judge: Judge) -> bool:
        """Go through the plans that keep one scenario, as far as that is allowed; whether one keeps all."""
        narrowed = narrow(judge.problem, deadline=self.limit.deadline)
        if narrowed.blocked is None:
            allowance = WorkLimit(self.limit.counters, self.limit.deadline, self.params.sweep_replays)
            domains, accept = narrowed.problem.domains, lambda plan: self._take(choices_of(plan))
            dearest = sum(max(s.family.microusd_per_hour * s.most for s in d) for d in domains.values())
            search = RefinementSearch(
                judge.problem, domains, judge.replays, allowance, False, accept, is_alone=False
            )
            try:
                search.run(dearest + 1)
            except LimitReachedError:
                self.limit.spend(0)  # the time, or only this allowance?
        return self.cost is not None

    def _grown(self, choices: dict[str, Choice], judge: Judge) -> dict[str, Choice] | None:
        """More replicas at the stage where they help most for the money; at all stages where one helps nothing."""
        late_ns, best, gain, everywhere = judge.lateness_ns(choices, self.limit), None, 0.0, choices
        for stage in choices:
            grown = self._with_more(choices, stage, judge)
            if grown is None:
                continue
            price = self._prices[grown[stage].hardware] * (grown[stage].replicas - choices[stage].replicas)
            gained = (late_ns - judge.lateness_ns(grown, self.limit)) / max(1, price)
            if gained > gain:
                best, gain = grown, gained
            everywhere = self._with_more(everywhere, stage, judge) or everywhere
        return best or (everywhere if everywhere is not choices else None)

    def _with_more(self, choices: dict[str, Choice], stage: str, judge: Judge) -> dict[str, Choice] | None:
        """A plan with more replicas at one stage; None if there are none to be had."""
        choice = choices[stage]
        used = sum(other.replicas for other in choices.values() if other.hardware == choice.hardware)
        most = judge.most_replicas(stage, choice)
        spare = min(most - choice.replicas, self._limits.get(choice.hardware, used + most) - used)
        more = min(spare, max(1, int(self.params.step * choice.replicas)))
        return {**choices, stage: replace(choice, replicas=choice.replicas + more)} if more > 0 else None

    def _trimmed(self, choices: Mapping[str, Choice]) -> Choices:
        """Take replicas away, of dear stages first, as long as all scenarios are kept."""
        current = dict(choices)
        by_price = sorted(current, key=lambda stage: -self._prices[current[stage].hardware])
        for stage in by_price:
            current = self._fewest(current, stage)
        return current

    def _fewest(self, choices: dict[str, Choice], stage: str) -> dict[str, Choice]:
        """Take as many replicas of one stage away as can be spared; by steps that double, then by halves."""
        choice, step = choices[stage], 1
        kept = choice.replicas
        while step:
            fewer = {**choices, stage: replace(choice, replicas=kept - step)}
            if kept > step and self.keeps_all(fewer):
                kept, step = kept - step, 2 * step
            else:
                step //= 2
        return {**choices, stage: replace(choice, replicas=kept)}

    # ---------------------------------------------------------------------------------------------- what holds

    def raise_bound(self) -> None:
        """Raise the lower bound by the conditions of the scenario that is hardest to keep."""
        judge, found = self.judges.of(self.scenarios[0]), Known()
        narrowed = narrow(judge.least, None, found, self.limit.deadline)
        if self.cost is None or narrowed.blocked is not None:
            return
        low, high = sum(least_cost(domain) for domain in narrowed.problem.domains.values()), self.cost
        while high - low > max(1, high // self.params.bound_precision):
            self.limit.spend(0)
            middle = (low + high) // 2
            if narrow(narrowed.problem, middle, found, self.limit.deadline).blocked is None:
                high = middle
            else:
                low = middle
        self.lower_bound = max(self.lower_bound, min(low, self.cost))

    def _why_none(self, judge: Judge) -> str | None:
        """The reason why no plan keeps a scenario, if conditions prove that."""
        stage = narrow(judge.least, deadline=self.limit.deadline).blocked
        if stage is None:
            return None
        return (
            f"no option of stage {stage!r} can keep it: whatever the other stages run on, its batch latencies and "
            "theirs, or its capacity within its limits, make too many queries late"
        )


def choices_of(plan: Configuration) -> dict[str, Choice]:
    """A configuration as people read it."""
    return {stage: option.choice for stage, option in plan.items()}
