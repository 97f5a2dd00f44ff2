"""The exact search: bounds and enumeration, and where these do not end it, masters and cuts (logic-based Benders).

Mostly the linear relaxation of the master and the choices that cost little more than its bound settle the search
(`Enumeration`), and no master is solved. Where they do not, a master is solved as a MILP: the cheapest choice whose
latency *bound* keeps the objective. If its certificate does not, a cut says so in terms of T and R of as few stages as
possible. No certified plan is cut off and no refused plan returns, so the loop ends, and the first master optimum that
is certified is the cheapest certified plan.

References
----------
J. N. Hooker, G. Ottosson, "Logic-based Benders decomposition", Math. Program. 96 (2003),
doi:10.1007/s10107-003-0375-9.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from mipplan.calculus import ArrivalCurve, StageService, check_curve
from mipplan.core import (
    Deadline,
    Int64,
    LimitReachedError,
    SearchLimits,
    check_all,
    check_budget,
    check_headroom,
    check_one_of,
    check_time_limit,
)
from mipplan.pipeline import Discipline
from mipplan.planner.choices import CertifiedChoice, LpBound, ReducedCosts, SearchOutcome, SearchSpace
from mipplan.planner.cuts import Cut, cover_of, master_problem
from mipplan.planner.enumeration import Enumeration, EnumerationParams
from mipplan.planner.heuristics import repair
from mipplan.planner.improving import Aim, AimParams, NeighbourhoodParams, Neighbourhoods
from mipplan.planner.instance import Instance
from mipplan.planner.oracle import ORACLES
from mipplan.result import CertificateKind, Guarantee, Limit, Plan, RunClass, check_certified_by
from mipplan.solvers import AUTO, SOLVERS, ProblemAnswer, Termination, choose_formulation, solve_problem
from mipplan_formulations import FORMULATIONS, Cover, Formulation, TimeCostProblem


@dataclass(frozen=True)
class SearchMethod:
    """By what means a search solves its masters, and how long it may take."""

    formulation: str = AUTO  # Key of `FORMULATIONS`, or "auto": by the features of each master.
    solver: str = AUTO  # Name of a solver, or "auto"; see `solve_problem`.
    limits: SearchLimits = field(default_factory=SearchLimits)

    @classmethod
    def of(cls, plan: Plan, limits: SearchLimits) -> SearchMethod:
        """Return the means that a plan names; one from elsewhere may name none that these problems have."""
        formulation, solver = plan.formulation or AUTO, plan.solver or AUTO
        formulation = formulation if formulation in FORMULATIONS else AUTO
        return cls(formulation, solver if solver in SOLVERS else AUTO, limits)

    def formulation_for(self, problem: TimeCostProblem) -> Formulation:
        """Return the formulation of a problem's linear relaxation."""
        return FORMULATIONS[choose_formulation(problem) if self.formulation == AUTO else self.formulation]


@dataclass(frozen=True)
class SearchParams:
    """How a search divides its work between bounds, enumeration, masters and cuts."""

    #: Waits are bounded from below; in linear relaxations and in lists bounds that differ by less than this share of
    #: the deadline are not told apart.
    rough: float = 0.005
    #: The same in a master that is solved as a MILP, whose optimum is to be near a certified plan.
    fine: float = 0.0002
    #: A master whose optimum only passes because waits are bounded is solved again with sharper waits at once, at most
    #: this many times.
    most_sharpened: int = 4
    sets: int = 200  # After its round r the search looks at no more than 2^r times this many sets of choices.
    most_doublings: int = 40  # The doubling ends after this many rounds.
    #: The linear relaxation of a master may take this share of the time left, because it only saves time.
    relaxation_share: float = 0.25
    most_rounds: float = math.inf  # The search ends after so many masters as if its time was up.
    lists: bool = True  # Whether choices near the bound are listed.
    halves: bool = True  # Whether sets of choices are halved where masters do not end the search.
    enumeration: EnumerationParams = field(default_factory=EnumerationParams)
    #: How good plans are looked for once a master's optimum was refused: by tighter deadlines, and near the best plan.
    aim: AimParams | None = field(default_factory=AimParams)
    neighbourhoods: NeighbourhoodParams | None = field(default_factory=NeighbourhoodParams)


class PlanSearch:
    """One search for the cheapest certified choice.

    With `any_plan` any certified choice will do, and the search ends with the first one. Choices dearer than `budget`
    (micro-dollars per hour) do not count as found. If one is `known`, only cheaper ones are looked for, and none if it
    costs no more than what is `proven` of all plans.
    """

    def __init__(
        self,
        instance: Instance,
        space: SearchSpace,
        method: SearchMethod,
        *,
        any_plan: bool = False,
        budget: int | None = None,
        known: CertifiedChoice | None = None,
        proven: int = 0,
        params: SearchParams = SearchParams(),
    ) -> None:
        self._instance, self._space, self._method, self._params = instance, space, method, params
        self._budget, self._any_plan, self._best = budget, any_plan, known
        self._deadline = method.limits.deadline
        self._rows = np.arange(space.size)  # What may still be part of a better plan, ascending.
        self._cuts: dict[Cut, Cover] = {}
        self._refusals: list[Cover] = []  # What follows from choices of too little accuracy.
        self._lower_bound = max(proven, sum(int(table.cost.min()) for table in space.tables.values()))
        # Costs of plans are multiples of this, so a cheaper plan is cheaper by at least as much.
        self._step = math.gcd(*(int(np.gcd.reduce(table.cost)) for table in space.tables.values())) or 1
        self._rounds = self._sharpened = 0
        self._has_aimed = any_plan
        self._narrowed_at: int | None = None  # What a better plan might cost when rows were last given up.
        self._bound: tuple[LpBound, ReducedCosts] | None = None
        self._enumeration: Enumeration | None = None
        self._near: Neighbourhoods | None = None

    def run(self) -> SearchOutcome:
        """Search until the best plan is proven, there is none, or time is up; Ctrl-C is a limit, too."""
        try:
            instance, ideal = self._instance, self._space.ideal(self._rows)  # A plan at hand mostly keeps it.
            if instance.surely_misses_slo(ideal) or (self._best is None and not instance.keeps_slo(ideal)):
                return self._ended()
            while not self._deadline.is_over and self._rounds < self._params.most_rounds:
                # Of choices near the bound few keep caps: there a master sorts them out sooner than a list.
                if not self._narrow() or ((not self._space.caps or self._rounds > 2) and self._list()):
                    return self._exhausted()
                if self._is_settled():
                    return self._ended()
                if self._deadline.is_over:
                    break
                choice, answer = self._solve_master()
                self._rounds += 1
                if answer.termination is Termination.INFEASIBLE:
                    return self._exhausted()
                # Only plans that beat the best one were looked at.
                most = answer.whole_bound if self._best is None else self._best.cost
                self._lower_bound = max(self._lower_bound, min(answer.whole_bound, most))
                if self._budget is not None and self._lower_bound > self._budget:
                    return self._ended()
                if choice is None:
                    break
                if not self._improve(choice):
                    return self._exhausted()
                if self._is_settled():
                    return self._ended()
                if answer.termination is not Termination.OPTIMAL:
                    break
                if self._enumerate():
                    return self._exhausted()
                cost = "none yet" if self._best is None else f"{self._best.cost / 1e6:.4f} $/h"
                # What the few options cost that decide whether there is any plan bounds no plan's cost.
                proven = "" if self._any_plan else f"no plan below {self._lower_bound / 1e6:.4f} $/h, "
                self._method.limits.report(f"round {self._rounds}: {proven}best certified {cost}")
        except (KeyboardInterrupt, LimitReachedError) as stop:
            return self._ended(Limit.INTERRUPT if isinstance(stop, KeyboardInterrupt) else Limit.TIME)
        return self._ended(Limit.TIME)

    def _ended(self, limit: Limit | None = None) -> SearchOutcome:
        return SearchOutcome(self._best, self._lower_bound, limit)

    def _exhausted(self) -> SearchOutcome:
        """No plan beats the best one; if there is none yet, there is none at all."""
        if self._best is not None:
            self._lower_bound = self._best.cost
        return self._ended()

    def _is_settled(self) -> bool:
        """Whether the best plan is good enough, or proven by the bound."""
        return self._best is not None and (self._any_plan or self._best.cost <= self._lower_bound)

    def _narrow(self) -> bool:
        """Give up rows that can only be part of plans no cheaper than the best one; False if a stage has none left.

        First by what the other stages cost at least; then by the linear relaxation of the master: an option whose
        reduced cost lifts the bound to the best plan's cost can only be part of plans that are no better.
        """
        self._bound = None
        if self._best is None:
            return True
        most = self._best.cost - self._step
        rows = self._space.affordable(self._rows, self._space.cost, most)
        if rows is None:
            return False
        self._rows = rows
        if self._space.caps and self._narrowed_at == most and self._rounds <= 2:
            # Masters with caps are shrunk by relaxations of their own, and a cut hardly lifts this one.
            return True
        self._narrowed_at = most
        problem = self._master(self._params.rough, rows)
        lp = LpBound(self._method.formulation_for(problem), problem, rows, self._space.size)
        costs = lp.within(rows, self._params.relaxation_share * self._deadline.left_s())
        if costs is None:
            return True
        self._bound = lp, costs
        self._rows = rows[costs.bound + costs.reduced[rows] <= most]
        if self._space.starts(self._rows) is None:
            return False
        return not self._instance.surely_misses_slo(self._space.ideal(self._rows))

    def _master(self, tolerance: float, rows: Int64) -> TimeCostProblem:
        """Return the time-cost problem over some rows, with all cuts."""
        covers = (*self._space.required, *self._cuts.values(), *self._refusals)
        return master_problem(self._instance, self._space, rows, covers, tolerance)

    def _solve_master(
        self, tighter_ns: int = 0, end: Deadline | None = None
    ) -> tuple[Int64 | None, ProblemAnswer]:
        """Solve the master over the rows left and the best plan, its deadline tighter; return its optimum, too."""
        rows, start = self._rows, None
        if self._best is not None:
            rows = np.union1d(rows, self._best.choice)
            start = np.searchsorted(rows, self._best.choice) - np.searchsorted(rows, self._space.first)
        master = self._master(self._params.fine, rows)
        answer = solve_problem(
            replace(master, deadline=master.deadline - tighter_ns) if tighter_ns else master,
            self._method.solver,
            formulation=self._method.formulation,
            time_limit_s=(end or self._deadline).limit_s(),
            proven=self._lower_bound,
            start=None if start is None else start.tolist(),
        )
        if answer.selection is None:
            return None, answer
        return rows[np.searchsorted(rows, self._space.first) + answer.selection], answer

    def _improve(self, choice: Int64) -> bool:
        """Ask about a master's optimum; if it is refused, repair it into a certified plan, and exclude it.

        Returns False if nothing better can be left.
        """
        space, instance = self._space, self._instance
        if (refusal := space.refusal(choice)) is not None:
            self._refusals.append(refusal)
            return True
        services, best = space.services(choice), self._best
        # What costs as much as the best plan is no better, and may share rows with it that were given up.
        if (best is not None and space.cost_of(choice) >= best.cost) or instance.keeps_slo(services):
            self._accept(choice)
            return True
        bound_ns = instance.oracle.paths.bound_ns
        if self._sharpened < self._params.most_sharpened and bound_ns(services) > instance.deadline_ns:
            # The bound itself misses the deadline with exact waits, which the next master knows.
            self._sharpened += 1
            return self._cut_off(services)
        self._sharpened = self._params.most_sharpened
        most = self._budget if self._best is None else self._best.cost - self._step
        search = instance, space, self._rows, choice
        repaired = None if most is None else repair(*search, most, self._deadline)
        if repaired is not None:
            self._accept(repaired)
        self._look_near()
        return self._cut_off(services) and self._aim(choice)

    def _aim(self, refused: Int64) -> bool:
        """Look for good plans by masters with tighter deadlines, once; return whether anything better may be left."""
        params, space, instance = self._params.aim, self._space, self._instance
        if self._has_aimed or params is None:
            return True
        self._has_aimed, end = True, self._deadline.share(params.share)
        excess_ns = instance.excess_ns(space.services(refused))
        aim = Aim(excess_ns, space.cost_of(refused), instance.deadline_ns, params)
        most = math.inf if self._best is None else self._best.cost
        while not end.is_over and not aim.is_done(most, self._step):
            choice, answer = self._solve_master(aim.tighter_ns, end)
            if choice is None and answer.termination is not Termination.INFEASIBLE:
                break
            excess_ns = 0 if choice is None else instance.excess_ns(space.services(choice))
            if choice is not None and excess_ns > 0 and space.cost_of(choice) < most:
                aim.was_short(excess_ns, space.cost_of(choice))
                continue
            aim.was_enough()
            if choice is not None and excess_ns <= 0:
                self._accept(choice)
                most = most if self._best is None else self._best.cost
                if not self._narrow():
                    return False
        return True

    def _cut_off(self, refused: Mapping[str, StageService]) -> bool:
        """Exclude refused services and as much else as the certificate refuses with them; False if that is all."""
        options = self._space.tables_of(self._rows)
        order = tuple(options)
        for cut in self._instance.cuts(refused, options, ((order, True), (order[::-1], False))):
            if not cut:
                return False  # refused even where every stage is ideal
            if self._deadline.is_over:
                break
            self._cuts[cut] = cover_of(cut, self._space.tables)
        return True

    def _list(self) -> bool:
        """List what costs little more than the bound, unless that was done; return whether nothing better is left."""
        if self._best is None or self._bound is None or not (self._params.lists or self._params.halves):
            return False
        before = self._enumeration
        if before is not None and before.most < self._best.cost:
            return False
        self._enumeration = Enumeration(
            self._instance,
            self._space,
            self._master(self._params.rough, self._rows),
            self._rows,
            *self._bound,
            self._best.cost - self._step,
            self._step,
            proven=self._lower_bound,
            near=self._best.choice,
            query_cuts=() if before is None else before.query_cuts,
            params=self._params.enumeration,
        )
        try:
            return self._params.lists and self._enumeration.raise_bound(self._deadline)
        finally:  # an interrupt, too, leaves what was found
            self._take_over(self._enumeration)
            self._lower_bound = max(self._lower_bound, min(self._enumeration.proven, self._best.cost))

    def _enumerate(self) -> bool:
        """List, and look through some of what is left by halves; return whether nothing better is left for sure."""
        if not self._params.halves or self._sharpened < self._params.most_sharpened:
            return False
        if self._list():
            return True
        if self._enumeration is None:
            return False
        sets = self._params.sets << min(self._rounds, self._params.most_doublings)
        try:
            return self._enumeration.halve(sets, self._deadline)
        finally:
            self._take_over(self._enumeration)

    def _look_near(self) -> None:
        """Look for better plans near the best one; nothing is proven by it."""
        params, instance, space = self._params.neighbourhoods, self._instance, self._space
        # Few choices near the best plan keep caps: there masters with tighter deadlines are worth their time more.
        if self._best is None or self._any_plan or params is None or space.caps:
            return
        if self._near is None:
            rough = self._params.rough
            self._near = Neighbourhoods(instance, space, lambda r: self._master(rough, r), self._step, params)
        try:
            self._near.search(self._best.choice, self._rows, self._rounds, self._deadline)
        finally:  # an interrupt, too, leaves what was found
            if self._near.best is not None:
                self._accept(self._near.best)

    def _take_over(self, enumeration: Enumeration) -> None:
        """Keep the best plan that was found, and what else was learnt."""
        if enumeration.best is not None:
            self._accept(enumeration.best)
        self._cuts |= {cut: cover_of(cut, self._space.tables) for cut in enumeration.cuts}

    def _accept(self, choice: Int64) -> None:
        """Keep a certified choice if it is better than what there is, and allowed."""
        cost = self._space.cost_of(choice)
        affordable = self._budget is None or cost <= self._budget
        better = self._best is None or cost < self._best.cost
        if affordable and better and self._space.is_allowed(choice):
            self._best = CertifiedChoice.of(choice, self._space, self._instance)


def check_search(
    *,
    formulation: str,
    guarantee: str,
    envelope: ArrivalCurve | None,
    time_limit_s: float | None,
    headroom: float,
    budget_usd_per_hour: float | None,
    certificate: str = CertificateKind.CLASSIC,
    runs: RunClass | None = None,
    discipline: str = Discipline.OLDEST_FIRST,
) -> None:
    """Refuse what `plan` cannot search by, whatever the pipeline.

    Raises `InputError` listing every fault.
    """
    # The optimum of a formulation that is not exact would be no lower bound for the certified plans.
    exact = [name for name, formulation in FORMULATIONS.items() if formulation.exact]
    check_all(
        lambda: check_one_of("formulation", formulation, [AUTO, *exact], repr),
        # Plans that rest on replays need no oracle of the planner's.
        lambda: check_one_of("guarantee", guarantee, [*ORACLES, Guarantee.REPLAY, Guarantee.RELIABLE], repr),
        lambda: None if envelope is None else check_curve(envelope, guarantee == Guarantee.ENVELOPE),
        lambda: check_time_limit(time_limit_s),
        lambda: check_headroom(headroom),
        lambda: check_budget(budget_usd_per_hour),
        lambda: check_certified_by(certificate, runs, guarantee, budget_usd_per_hour, discipline),
    )
