"""The exact method: a relaxed master problem, the certificate as judge, and cuts from what it refuses.

Master: cheapest choice whose latency *bound* keeps the objective. If its certificate does not, a cut says so in
terms of T and R of as few stages as possible. No certified plan is cut off and no refused plan returns, so the
loop ends, and the first master optimum that is certified is the cheapest certified plan. Before the masters, choices
that cost little more than the bound are listed, and between them what is left is looked through by halves
(`Enumeration`); mostly this ends the search.

References
----------
J. N. Hooker, G. Ottosson, "Logic-based Benders decomposition", Math. Program. 96 (2003),
doi:10.1007/s10107-003-0375-9.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan.calculus import StageService
from mipplan.options import StageOptions, build_problem
from mipplan.planner.cuts import Cut, cover_of, strengthen
from mipplan.planner.enumeration import Enumeration
from mipplan.planner.hearing import Hearing
from mipplan.planner.instance import Instance
from mipplan.planner.members import keeps_limits
from mipplan.planner.pricing import Prices, Pricing
from mipplan.planner.repairing import repair
from mipplan.solvers import ProblemAnswer, Termination, choose_formulation, solve_problem
from mipplan_formulations import FORMULATIONS, Cover, Formulation, TimeCostProblem

#: Waits are bounded from below; bounds that differ by less than this share of the deadline are not told apart: in the
#: linear relaxation and in lists, …
_ROUGH = 0.005
#: … and in a master, whose optimum is to be near a certified plan.
_FINE = 0.0002
#: So often a master whose optimum only passes because waits are bounded is solved again with sharper bounds at once.
_SHARPENED = 4
#: After its round r the search looks at no more than 2^r times as many sets of options.
_SETS = 200
_MOST_DOUBLINGS = 40
#: The linear relaxation of a master may take this share of the time left.
_RELAXATION_SHARE = 0.25


@dataclass(frozen=True)
class Certified:
    """A certified selection.

    Attributes
    ----------
    selection : mapping of str to int
        Option of each stage.
    cost : int
    certificate_ns : int
    """

    selection: Mapping[str, int]
    cost: int
    certificate_ns: int


@dataclass(frozen=True)
class SearchOutcome:
    """How the search ended.

    Attributes
    ----------
    best : Certified or None
        Cheapest certified selection found.
    lower_bound : int
        No certified plan costs less (micro-dollars per hour).
    finished : bool
        False if a limit or an interrupt stopped it.
    """

    best: Certified | None
    lower_bound: int
    finished: bool


class PlanSearch:
    """One Benders search.

    Parameters
    ----------
    instance : Instance
    options : mapping of str to StageOptions
        One per stage in file order, none empty.
    formulation : Formulation or None
        Of the masters; None leaves it to the features of each.
    solver : str
    ends_at : float
        ``time.monotonic()`` value at which to stop.
    report : callable
        Told of progress, one line at a time.
    any_plan : bool
        Whether any certified plan will do: the search ends with the first one.
    budget : int, optional
        Most micro-dollars per hour a plan may cost; dearer ones do not count as found.
    known : Certified, optional
        A certified plan to start from: only cheaper ones are looked for.
    required : sequence of Cover
        Further conditions on the selection, over the given options.
    """

    def __init__(
        self,
        instance: Instance,
        options: Mapping[str, StageOptions],
        formulation: Formulation | None,
        solver: str,
        ends_at: float,
        report: Callable[[str], None],
        *,
        any_plan: bool = False,
        budget: int | None = None,
        known: Certified | None = None,
        required: Sequence[Cover] = (),
    ) -> None:
        self._required = tuple(required)
        self._budget = budget
        self._any_plan = any_plan
        self._instance = instance
        self._options = options
        self._rows = {stage: np.ones(table.count, dtype=bool) for stage, table in options.items()}
        self._formulation = formulation
        self._solver = solver
        self._ends_at = ends_at
        self._report = report
        self._cuts: dict[Cut, Cover] = {}
        self._best = known
        self._lower_bound = sum(int(table.cost.min()) for table in options.values())
        # Costs of plans are multiples of this, so a cheaper plan is cheaper by at least as much.
        self._step = math.gcd(*(int(np.gcd.reduce(table.cost)) for table in options.values())) or 1
        self._rounds = self._sharpened = 0
        self._pricing: tuple[Pricing, Prices] | None = None
        self._enumeration: Enumeration | None = None

    def run(self) -> SearchOutcome:
        """Solve masters and add cuts until one is certified, none exists, or time is up; Ctrl-C is a limit too."""
        try:
            finished = not self._instance.keeps_slo(_ideal(self._options)) or self._solve_masters()
        except KeyboardInterrupt:
            finished = False
        return SearchOutcome(self._best, self._lower_bound, finished)

    def _solve_masters(self) -> bool:
        """Return whether the search came to its end: the best plan is proven, or that there is none."""
        while True:
            remaining = self._ends_at - time.monotonic()
            if remaining <= 0:
                return False
            if not self._narrow():
                return self._exhausted()
            if self._climb():
                return self._exhausted()
            if self._is_settled():
                return True
            remaining = self._ends_at - time.monotonic()
            if remaining <= 0:
                return False
            answer = self._solve(self._master(_FINE), None if math.isinf(remaining) else remaining)
            self._rounds += 1
            if answer.termination is Termination.INFEASIBLE:
                return self._exhausted()
            bound = _whole_bound(answer)
            # Only plans that beat the best one were looked at.
            bound = bound if self._best is None else min(bound, self._best.cost)
            self._lower_bound = max(self._lower_bound, bound)
            if self._budget is not None and self._lower_bound > self._budget:
                return True
            if answer.selection is None:
                return False
            if not self._improve(answer.selection):
                return self._exhausted()
            if self._is_settled():
                return True
            if answer.termination is not Termination.OPTIMAL:
                return False
            if self._sharpened >= _SHARPENED and self._enumerate():
                return self._exhausted()
            cost = "none yet" if self._best is None else f"{self._best.cost / 1e6:.4f} $/h"
            self._report(
                f"round {self._rounds}: no plan below {self._lower_bound / 1e6:.4f} $/h, best certified {cost}"
            )

    def _is_settled(self) -> bool:
        """Whether the best plan is good enough, or proven by the bound."""
        return self._best is not None and (self._any_plan or self._best.cost <= self._lower_bound)

    def _exhausted(self) -> bool:
        """Note that no plan beats the best one; if there is none yet, there is none at all."""
        if self._best is not None:
            self._lower_bound = self._best.cost
        return True

    def _narrow(self) -> bool:
        """Give up options that can only be part of plans no cheaper than the best one; False if a stage has none left.

        First by what the other stages cost at least; then by the linear relaxation of the master: an option whose
        reduced cost lifts the bound to the best plan's cost can only be part of plans that are no better.
        """
        self._pricing = None
        if self._best is None:
            return True
        most = self._best.cost - self._step
        tables = self._active()
        cheapest = {stage: int(table.cost.min()) for stage, table in tables.items()}
        spare = most - sum(cheapest.values())
        if not self._give_up(
            {stage: table.cost > cheapest[stage] + spare for stage, table in tables.items()}
        ):
            return False
        problem = self._master(_ROUGH)
        formulation = self._formulation or FORMULATIONS[choose_formulation(problem)]
        pricing = Pricing(formulation, problem)
        # It only saves time, so it may not take all there is.
        left_s = _RELAXATION_SHARE * max(0.0, self._ends_at - time.monotonic())
        prices = pricing.within(None, None if math.isinf(left_s) else left_s)
        if prices is None:
            return True
        useless = prices.bound + prices.reduced > most
        pricing.keep(~useless)
        self._pricing = pricing, Prices(prices.bound, prices.reduced[~useless])
        parts = np.split(useless, np.cumsum([table.count for table in self._active().values()])[:-1])
        if not self._give_up(dict(zip(self._options, parts, strict=True))):
            return False
        return not self._instance.surely_misses_slo(_ideal(self._active()))

    def _active(self) -> dict[str, StageOptions]:
        """Options that may still be part of a better plan."""
        return {stage: table.keep(self._rows[stage]) for stage, table in self._options.items()}

    def _give_up(self, useless: Mapping[str, NDArray[np.bool_]]) -> bool:
        """Drop active options, shape (active,) per stage; return whether every stage has some left."""
        for stage, marked in useless.items():
            self._rows[stage][np.flatnonzero(self._rows[stage])[marked]] = False
        return all(rows.any() for rows in self._rows.values())

    def _master(self, tolerance: float) -> TimeCostProblem:
        order = list(self._options)
        covers = tuple(
            Cover(tuple((index, marked[self._rows[order[index]]]) for index, marked in cover.members))
            for cover in (*self._required, *self._cuts.values())
        )
        return build_problem(
            self._instance.pipeline,
            self._active(),
            self._instance.oracle.paths,
            self._instance.deadline_ns,
            self._instance.limits,
            covers=covers,
            tolerance=tolerance,
        )

    def _solve(self, problem: TimeCostProblem, limit_s: float | None) -> ProblemAnswer:
        """Solve a master; the selection is allowed by the arithmetic of the problem itself."""
        name = "auto" if self._formulation is None else self._formulation.name
        return solve_problem(problem, self._solver, formulation=name, time_limit_s=limit_s)

    def _improve(self, modes: Sequence[int]) -> bool:
        """Oracle a master's optimum; if it is refused, repair it into a certified plan, and exclude it.

        `modes` holds an active option per stage. Returns False if nothing better can be left.
        """
        active = self._active()
        chosen = dict(zip(active, modes, strict=True))
        services = {stage: active[stage].service(option) for stage, option in chosen.items()}
        if self._instance.keeps_slo(services):
            self._accept(self._selection(chosen))
            return True
        if self._sharpened < _SHARPENED and self._misses_by_bound(services):
            self._sharpened += 1
            return self._cut_off(services, active)
        self._sharpened = _SHARPENED
        most = self._budget if self._best is None else self._best.cost - self._step
        if most is not None and time.monotonic() < self._ends_at:
            repaired = repair(self._instance, active, chosen, most)
            if repaired is not None:
                self._accept(self._selection(repaired))
        return self._cut_off(services, active)

    def _climb(self) -> bool:
        """List what costs little more than the bound, unless that was done; return whether nothing better is left."""
        if self._best is None or self._pricing is None:
            return False
        if self._enumeration is not None and self._enumeration.most < self._best.cost:
            return False
        self._enumeration = self._new_enumeration(*self._pricing, self._best)
        try:
            return self._enumeration.climb(self._ends_at)
        finally:  # an interrupt, too, leaves what was found
            if self._enumeration.best is not None:
                self._accept(self._enumeration.best)
            self._lower_bound = max(self._lower_bound, min(self._enumeration.proven, self._best.cost))

    def _enumerate(self) -> bool:
        """Look through some of what is left by halves too; return whether nothing better is left for sure."""
        if self._climb():
            return True
        if self._enumeration is None:
            return False
        try:
            return self._enumeration.run(_SETS << min(self._rounds, _MOST_DOUBLINGS), self._ends_at)
        finally:
            if self._enumeration.best is not None:
                self._accept(self._enumeration.best)

    def _new_enumeration(self, pricing: Pricing, prices: Prices, best: Certified) -> Enumeration:
        hearing = Hearing(
            self._instance,
            self._active(),
            {stage: np.flatnonzero(rows) for stage, rows in self._rows.items()},
            self._is_allowed,
            () if self._enumeration is None else self._enumeration.witnesses,
        )
        return Enumeration(
            hearing,
            self._master(_ROUGH),
            pricing,
            prices,
            best.cost - self._step,
            self._step,
            proven=self._lower_bound,
            near=best.selection,
        )

    def _accept(self, selection: Mapping[str, int]) -> None:
        """Keep a certified selection if it is better than what there is, and allowed."""
        cost = sum(int(self._options[stage].cost[option]) for stage, option in selection.items())
        affordable = self._budget is None or cost <= self._budget
        better = self._best is None or cost < self._best.cost
        if affordable and better and self._is_allowed(selection):
            services = {stage: self._options[stage].service(option) for stage, option in selection.items()}
            self._best = Certified(selection, cost, self._instance.certificate_ns(services))

    def _misses_by_bound(self, services: Mapping[str, StageService]) -> bool:
        """Whether the bound itself misses the deadline with exact waits, which the next master then knows."""
        return self._instance.oracle.bound_ns(services) > self._instance.deadline_ns

    def _selection(self, chosen: Mapping[str, int]) -> dict[str, int]:
        """Turn a choice of active options into one of all."""
        return {stage: int(np.flatnonzero(self._rows[stage])[option]) for stage, option in chosen.items()}

    def _is_allowed(self, selection: Mapping[str, int]) -> bool:
        """Whether a certified selection keeps the device limits and what else is required of it."""
        members = {stage: self._options[stage].member(option) for stage, option in selection.items()}
        chosen = list(selection.values())
        return keeps_limits(members, self._instance.limits) and all(c.is_met(chosen) for c in self._required)

    def _cut_off(self, refused: Mapping[str, StageService], active: Mapping[str, StageOptions]) -> bool:
        """Exclude refused services and as much else as the certificate refuses with them; False if that is all."""
        order = tuple(active)
        for stages, speed_first in ((order, True), (order[::-1], False)):
            cut = strengthen(refused, active, self._test_from, stages, speed_first)
            if not cut:
                return False  # refused even where every stage is ideal
            self._cuts[cut] = cover_of(cut, self._options)
        return True

    def _test_from(self, refused: Mapping[str, StageService]) -> Callable[[Mapping[str, StageService]], bool]:
        test = self._instance.quick_test(refused).surely_exceeds
        # Misses by a fraction of a nanosecond are below the quick test's rounding.
        return test if test(refused) else self._instance.surely_misses_slo


def _ideal(options: Mapping[str, StageOptions]) -> dict[str, StageService]:
    return {stage: table.ideal() for stage, table in options.items()}


def _whole_bound(answer: ProblemAnswer) -> int:
    """Turn a solver's bound into whole micro-dollars: costs are integers, so it rounds up, less its tolerance."""
    if answer.termination is Termination.OPTIMAL and answer.cost is not None:
        return answer.cost
    if not math.isfinite(answer.lower_bound):
        return 0
    return max(0, math.ceil(answer.lower_bound - 1e-6 * max(1.0, abs(answer.lower_bound))))
