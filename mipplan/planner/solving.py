"""From a realised request to a finished plan: first plan, options, search, tie-break, status, reason."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from mipplan.calculus import StageService
from mipplan.core import MICRODOLLARS_PER_DOLLAR
from mipplan.options import StageOptions
from mipplan.planner.benders import Certified, SearchOutcome, PlanSearch
from mipplan.planner.feasibility import Feasibility
from mipplan.planner.incumbent import Incumbent, find_incumbent, trim
from mipplan.planner.instance import Instance
from mipplan.planner.members import choices_of, cost_of
from mipplan.planner.polishing import polish
from mipplan.planner.reasons import Diagnosis
from mipplan.planner.request import Request
from mipplan.result import Choice, Figures, Plan, PlanStatus
from mipplan_formulations import Formulation

#: Begins the reason of a search that did not come to its end.
STOPPED = "the search was stopped (time limit or interrupt)"
#: Finding out why there is no plan may take this long after that is known, whatever the time limit.
_DIAGNOSIS_S = 20.0


@dataclass(frozen=True)
class Solving:
    """One request on its way to a plan.

    Attributes
    ----------
    base : Plan
        The answer so far: everything but choices and figures.
    request : Request
    instance : Instance
        The request realised.
    formulation : Formulation or None
        None leaves it to the features of each master.
    solver : str
    ends_at : float
        ``time.monotonic()`` value at which to stop.
    report : callable
        Told of progress.
    """

    base: Plan
    request: Request
    instance: Instance
    formulation: Formulation | None
    solver: str
    ends_at: float
    report: Callable[[str], None]

    def cheapest(self) -> Plan:
        """Return the cheapest plan that keeps the objective."""
        if not all(found.families for found in self.instance.families.values()):
            return self._infeasible()
        self.report("looking for a first certified plan")
        incumbent = find_incumbent(self.instance)
        if incumbent is None:
            self.report("deciding whether any plan can be certified")
            found, outcome = self._feasibility(self.ends_at).find(self.instance)
            if found is None:
                return self._nothing_found(outcome)
            incumbent = trim(self.instance, found.members)
        self.report(f"first certified plan: {incumbent.cost / 1e6:.4f} $/h")
        options = self.instance.affordable(incumbent.cost)
        self.report(f"choosing among {sum(table.count for table in options.values()):,} options")
        outcome = PlanSearch(
            self.instance,
            options,
            self.formulation,
            self.solver,
            self.ends_at,
            self.report,
            known=self._among(options, incumbent),
        ).run()
        if outcome.best is None:
            raise AssertionError("a search that starts from a plan ends with one")
        best = polish(self.instance, options, outcome.best)
        choices = {stage: options[stage].choice(option) for stage, option in best.selection.items()}
        optimal = outcome.finished or outcome.lower_bound >= best.cost
        lower_bound = best.cost if optimal else outcome.lower_bound
        return self._made(choices, best.cost, lower_bound, best.certificate_ns, optimal)

    def _among(self, options: Mapping[str, StageOptions], incumbent: Incumbent) -> Certified:
        """Write the first plan in terms of the options: where its own was dropped, by one that is no worse."""
        selection = {stage: options[stage].no_worse(*member) for stage, member in incumbent.members.items()}
        services = {stage: options[stage].service(option) for stage, option in selection.items()}
        cost = sum(int(options[stage].cost[option]) for stage, option in selection.items())
        return Certified(selection, cost, self.instance.certificate_ns(services))

    def fastest(self, budget: int) -> Plan:
        """Return the plan with the least certified latency that costs at most `budget` (micro-dollars per hour)."""
        self.report("looking for the least latency within the budget")
        smallest = self._feasibility(self.ends_at, budget).smallest_deadline(self.instance)
        if smallest is None:
            if time.monotonic() >= self.ends_at:
                return replace(self.base, reason=f"{STOPPED} before any plan within the budget was found")
            return self._over_budget(budget)
        members = smallest.plan.members
        certificate_ns = smallest.plan.certificate_ns
        made = self._made(choices_of(members), cost_of(members), None, certificate_ns, smallest.proven)
        return replace(made, objective=replace(made.objective, slo_ns=max(1, certificate_ns)))

    def _feasibility(self, ends_at: float, budget: int | None = None) -> Feasibility:
        return Feasibility(self.formulation, self.solver, ends_at, self.report, budget)

    def _made(
        self,
        choices: Mapping[str, Choice],
        cost: int,
        lower_bound: int | None,
        certificate_ns: int,
        optimal: bool,
    ) -> Plan:
        services = {stage: self._service(stage, choice) for stage, choice in choices.items()}
        return replace(
            self.base,
            status=PlanStatus.OPTIMAL if optimal else PlanStatus.FEASIBLE,
            choices=choices,
            figures=Figures(cost, lower_bound, self.instance.oracle.bound_ns(services), certificate_ns),
            reason=None if optimal else f"{STOPPED} before this plan was proven the best",
        )

    def _nothing_found(self, outcome: SearchOutcome) -> Plan:
        if outcome.finished:
            return self._infeasible()
        return replace(
            self.base,
            # The search for any plan bounds no cost: what keeps up with the mean rate does.
            figures=Figures(lower_bound_microusd_per_hour=sum(self.instance.cheapest_by_stage().values())),
            reason=f"{STOPPED} before any certified plan was found; allow more time",
        )

    def _infeasible(self) -> Plan:
        self.report("finding out why there is no plan")
        feasibility = self._feasibility(time.monotonic() + _DIAGNOSIS_S)
        reason = Diagnosis(self.request, self.instance, feasibility).reason()
        return self._without_plan(reason)

    def _over_budget(self, budget: int) -> Plan:
        # With a budget the instance has no deadline: this is what any plan takes, device limits included.
        cheapest = self.cheapest()
        if cheapest.microusd_per_hour is None:
            return cheapest
        figures = [
            f"{cost / MICRODOLLARS_PER_DOLLAR:.10g} $/h" for cost in (budget, cheapest.microusd_per_hour)
        ]
        known = "the cheapest" if cheapest.status is PlanStatus.OPTIMAL else "the cheapest found in time"
        return self._without_plan(
            f"no plan costs at most {figures[0]}: {known} that keeps up with the mean rate costs {figures[1]}"
        )

    def _without_plan(self, reason: str) -> Plan:
        return replace(self.base, status=PlanStatus.INFEASIBLE, reason=reason, figures=Figures())

    def _service(self, stage: str, choice: Choice) -> StageService:
        families = self.instance.families[stage].families
        family = next(f for f in families if (f.hardware, f.batch) == (choice.hardware, choice.batch))
        return family.service(choice.replicas)
