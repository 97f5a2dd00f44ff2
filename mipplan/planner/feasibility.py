"""Whether any plan at all keeps a deadline, and the smallest deadline that any plan keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mipplan.calculus import StageService
from mipplan.core import UNLIMITED_NS
from mipplan.options import Family, StageOptions, extremes, undominated
from mipplan.planner.benders import SearchOutcome, PlanSearch
from mipplan.planner.instance import Instance
from mipplan.planner.members import Members, keeps_limits, services_of
from mipplan_formulations import Formulation


@dataclass(frozen=True)
class AnyPlan:
    """Some plan that keeps the deadline, whatever it costs.

    Attributes
    ----------
    members : mapping of str to (Family, int)
        Family and replicas of every stage.
    certificate_ns : int
    """

    members: Members
    certificate_ns: int

    def services(self) -> dict[str, StageService]:
        """Service of every stage."""
        return services_of(self.members)


@dataclass(frozen=True)
class Smallest:
    """The smallest deadline found that a plan keeps.

    Attributes
    ----------
    plan : AnyPlan
        Its certificate is that deadline.
    proven : bool
        Whether no plan keeps a smaller one; False if time ran out.
    """

    plan: AnyPlan
    proven: bool


@dataclass(frozen=True)
class Feasibility:
    """Decides feasibility with the same search that plans, over the few options that matter for it.

    Attributes
    ----------
    formulation : Formulation or None
    solver : str
    ends_at : float
        ``time.monotonic()`` value at which to stop.
    report : callable
    budget : int or None
        Most micro-dollars per hour a plan may cost.
    """

    formulation: Formulation | None
    solver: str
    ends_at: float
    report: Callable[[str], None]
    budget: int | None = None

    def find(self, instance: Instance, start: AnyPlan | None = None) -> tuple[AnyPlan | None, SearchOutcome]:
        """Find any plan that keeps the instance's deadline.

        Parameters
        ----------
        instance : Instance
        start : AnyPlan, optional
            A plan for a similar instance: if it serves this one as well, there is nothing to search for.

        Returns
        -------
        plan, outcome
            No plan and a finished outcome: there is none.
        """
        if not all(found.families for found in instance.families.values()):
            return None, SearchOutcome(None, 0, True)
        members = None if start is None else _moved(start.members, instance)
        if members is not None and instance.keeps_slo(services_of(members)):
            return AnyPlan(members, instance.certificate_ns(services_of(members))), SearchOutcome(None, 0, True)
        options = self._options(instance)
        if not all(table.count for table in options.values()):
            return None, SearchOutcome(None, 0, True)
        search = PlanSearch(
            instance,
            options,
            self.formulation,
            self.solver,
            self.ends_at,
            self.report,
            any_plan=True,
            budget=self.budget,
        )
        outcome = search.run()
        if outcome.best is None:
            return None, outcome
        members = {stage: options[stage].member(option) for stage, option in outcome.best.selection.items()}
        return AnyPlan(members, outcome.best.certificate_ns), outcome

    def _options(self, instance: Instance) -> dict[str, StageOptions]:
        """Without a budget the most replicas of everything; with one, whatever could be part of a plan within it."""
        if self.budget is None:
            return {stage: undominated(extremes(found)) for stage, found in instance.families.items()}
        return instance.affordable(self.budget)

    def smallest_deadline(self, instance: Instance) -> Smallest | None:
        """Smallest deadline that any plan keeps, by bisection between proven bounds; None if none was found."""
        best, _ = self.find(instance.with_deadline(UNLIMITED_NS))
        if best is None:
            return None
        if self.budget is None:
            best = _quickened(instance, best)
        low = instance.certificate_ns(instance.ideal_services())
        # The first question is whether anything at all is faster: mostly the answer is no, and that is all.
        guess = best.certificate_ns - 1
        while low < best.certificate_ns:
            found, outcome = self.find(instance.with_deadline(guess))
            if found is not None:
                best = found
            elif outcome.finished:
                low = guess + 1
            else:
                return Smallest(best, False)
            guess = (low + best.certificate_ns - 1) // 2
        return Smallest(best, True)


def _moved(members: Members, instance: Instance) -> Members | None:
    """Return the same choices as members of another instance; None if one is not on offer there."""
    moved: dict[str, tuple[Family, int]] = {}
    for stage, (family, replicas) in members.items():
        for offered in instance.families[stage].families:
            alike = (offered.hardware, offered.batch) == (family.hardware, family.batch)
            if alike and offered.fewest <= replicas <= offered.most:
                moved[stage] = offered, replicas
    return moved if len(moved) == len(members) and keeps_limits(moved, instance.limits) else None


def _quickened(instance: Instance, plan: AnyPlan) -> AnyPlan:
    """Exchange families for others, one stage at a time with the most replicas, while the certificate falls."""
    if any(family.limited for found in instance.families.values() for family in found.families):
        return plan  # the most replicas for every stage are not to be had together
    members, best = dict(plan.members), plan.certificate_ns
    improved = True
    while improved:
        improved = False
        for stage, found in instance.families.items():
            for family in found.families:
                trial = {**members, stage: (family, family.most)}
                certificate_ns = instance.certificate_ns(services_of(trial))
                if certificate_ns < best:
                    members, best, improved = trial, certificate_ns, True
    return AnyPlan(members, best)
