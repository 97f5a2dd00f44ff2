"""All pipelines of a small fleet in one MILP, with the certificate of each as judge.

The method of `mipplan.planner.benders` on formulation `joint`: relaxed master, judges, cuts. It shares neither prices
nor columns with column generation, and so is what that is held to.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mipplan.calculus import StageService
from mipplan.core import SolverError
from mipplan.fleet.columns import Column
from mipplan.fleet.request import Fleet
from mipplan.fleet.selection import Chosen
from mipplan.options import StageOptions, build_problem, extremes, undominated
from mipplan.planner import Cut, Instance, cover_of, plan, strengthen, trim
from mipplan.solvers import Termination, solve
from mipplan_formulations import (
    MULTI_PROJECT_FORMULATIONS,
    Activity,
    Cover,
    MultiProjectProblem,
    Resource,
    TimeCostProblem,
)

#: Waits are bounded from below to within this share of the deadline; every optimum is judged exactly.
_TOLERANCE = 0.01
#: At first every pipeline may cost so many times what it costs alone.
_AMPLE = 2


@dataclass(frozen=True)
class JointOutcome:
    """How a joint search ended.

    Attributes
    ----------
    chosen : Chosen or None
    lower_bound : int or None
        No set of certified plans costs less.
    infeasible : bool
        Proven: there is no set.
    alone : tuple of int
        What pipelines cost at least by themselves, as far as that was found out.
    """

    chosen: Chosen | None
    lower_bound: int | None
    infeasible: bool
    alone: tuple[int, ...] = ()


@dataclass
class _Part:
    """One pipeline in the joint master."""

    instance: Instance
    options: Mapping[str, StageOptions]
    cuts: dict[Cut, Cover] = field(default_factory=dict)

    def problem(self, resources: Sequence[Resource]) -> TimeCostProblem:
        """The pipeline's master with all of the fleet's resources, those it does not use included."""
        instance = self.instance
        made = build_problem(
            instance.pipeline,
            self.options,
            instance.judge.paths,
            instance.deadline_ns,
            instance.limits,
            covers=tuple(self.cuts.values()),
            tolerance=_TOLERANCE,
        )
        place = {resource.name: column for column, resource in enumerate(made.resources)}
        activities = []
        for activity in made.activities:
            usage = np.zeros((activity.num_modes, len(resources)), dtype=np.int64)
            for column, resource in enumerate(resources):
                if resource.name in place:
                    usage[:, column] = activity.usage[:, place[resource.name]]
            activities.append(Activity(activity.name, activity.cost, activity.duration, usage))
        return replace(made, activities=tuple(activities), resources=tuple(resources))

    def services(self, modes: Sequence[int]) -> dict[str, StageService]:
        """Service of every stage under an option each."""
        return {
            stage: table.service(mode)
            for (stage, table), mode in zip(self.options.items(), modes, strict=True)
        }

    def accepts(self, modes: Sequence[int]) -> bool:
        """Whether the certificate does; if not, the master is told."""
        services = self.services(modes)
        instance = self.instance
        if instance.keeps_slo(services):
            return True
        if instance.judge.paths.bound_ns(services) > instance.deadline_ns:
            return False  # its waits, now known exactly, are too long already: the next master avoids it by itself

        def test_from(at: Mapping[str, StageService]) -> Callable[[Mapping[str, StageService]], bool]:
            test = instance.quick_test(at).surely_exceeds
            return test if test(at) else instance.surely_misses_slo

        for order in (tuple(self.options), tuple(self.options)[::-1]):
            cut = strengthen(services, self.options, test_from, order, True)
            self.cuts[cut] = cover_of(cut, self.options)
        return False

    def column(self, modes: Sequence[int], hardware: Sequence[str]) -> Column:
        """Return the plan that an option per stage makes."""
        choices = tuple(table.choice(mode) for table, mode in zip(self.options.values(), modes, strict=True))
        devices = tuple(sum(c.replicas for c in choices if c.hardware == name) for name in hardware)
        return Column(choices, devices)


class JointSearch:
    """Finds the cheapest set of certified plans of a small fleet.

    Parameters
    ----------
    fleet : Fleet
    solver : str
    ends_at : float
        ``time.monotonic()`` value at which to stop.
    report : callable
    """

    def __init__(self, fleet: Fleet, solver: str, ends_at: float, report: Callable[[str], None]) -> None:
        self._fleet = fleet
        self._solver = solver
        self._ends_at = ends_at
        self._report = report
        self._resources = tuple(Resource(name, limit) for name, limit in fleet.limits.items())
        self._instances = [make() for make in fleet.realisations]
        self._alone: list[int] = []

    def run(self) -> JointOutcome:
        """Search; Ctrl-C stops as the time limit does."""
        try:
            outcome = self._run()
        except KeyboardInterrupt:
            outcome = JointOutcome(None, sum(self._alone) if self._complete else None, False)
        return replace(outcome, alone=tuple(self._alone))

    @property
    def _complete(self) -> bool:
        return len(self._alone) == len(self._instances)

    def _run(self) -> JointOutcome:
        if not self._plan_alone():
            return JointOutcome(None, None, True)
        if not self._complete:
            return JointOutcome(None, None, False)
        budgets = [_AMPLE * cost for cost in self._alone]
        while True:
            outcome = self._within(budgets)
            if outcome.chosen is None and outcome.infeasible:
                known = self._any_fleet()
                if known.chosen is None:
                    return known
                most = known.chosen.cost
            elif outcome.chosen is not None:
                most = outcome.chosen.cost
            else:
                return replace(outcome, lower_bound=sum(self._alone))
            # No pipeline can cost more than what the others, at their cheapest, leave of the best fleet known.
            needed = [most - sum(self._alone) + cost for cost in self._alone]
            if outcome.chosen is not None and all(n <= b for n, b in zip(needed, budgets, strict=True)):
                return outcome
            if time.monotonic() >= self._ends_at:
                return replace(outcome, lower_bound=sum(self._alone))
            budgets = [max(n, b) for n, b in zip(needed, budgets, strict=True)]

    def _plan_alone(self) -> bool:
        """Plan every pipeline by itself; False if one has no plan."""
        fleet = self._fleet
        for member in fleet.members:
            left_s = self._ends_at - time.monotonic()
            if left_s <= 0:
                return True
            found = plan(
                member.pipeline,
                fleet.profiles,
                member.trace,
                slo_s=member.slo_ns / 1e9,
                quantile=fleet.quantile,
                seed=fleet.seed,
                solver=self._solver,
                time_limit_s=None if math.isinf(left_s) else left_s,
            )
            if found.status == "infeasible":
                return False
            self._alone.append(found.lower_bound_microusd_per_hour or 0)
            self._report(f"{member.name}: at least {self._alone[-1] / 1e6:.4f} $/h by itself")
        return True

    def _within(self, budgets: Sequence[int]) -> JointOutcome:
        parts = [
            _Part(instance, instance.affordable(budget))
            for instance, budget in zip(self._instances, budgets, strict=True)
        ]
        return self._solve(parts, any_fleet=False)

    def _any_fleet(self) -> JointOutcome:
        """Whether anything fits, with the most replicas of everything that is not limited, then trimmed."""
        parts = [
            _Part(
                instance,
                {stage: undominated(extremes(found)) for stage, found in instance.families.items()},
            )
            for instance in self._instances
        ]
        return self._solve(parts, any_fleet=True)

    def _solve(self, parts: Sequence[_Part], *, any_fleet: bool) -> JointOutcome:
        formulation = MULTI_PROJECT_FORMULATIONS["joint"]
        bound: int | None = None
        while True:
            left_s = self._ends_at - time.monotonic()
            if left_s <= 0:
                return JointOutcome(None, bound, False)
            programme = MultiProjectProblem(
                tuple(part.problem(self._resources) for part in parts), self._resources
            )
            model = formulation.build(programme)
            answer = solve(model, self._solver, time_limit_s=None if math.isinf(left_s) else left_s)
            if answer.termination is Termination.INFEASIBLE:
                return JointOutcome(None, None, True)
            if math.isfinite(answer.lower_bound):
                bound = max(bound or 0, math.floor(answer.lower_bound))
            if answer.values is None:
                return JointOutcome(None, bound, False)
            selections = formulation.decode(programme, model, answer.values)
            self._check(programme, selections)
            accepted = [part.accepts(modes) for part, modes in zip(parts, selections, strict=True)]
            self._report(f"all pipelines together: at least {(bound or 0) / 1e6:.4f} $/h")
            if all(accepted):
                found = self._trimmed(parts, selections) if any_fleet else self._chosen(parts, selections)
                return JointOutcome(found, bound, False)
            if answer.termination is not Termination.OPTIMAL:
                return JointOutcome(None, bound, False)

    def _check(self, programme: MultiProjectProblem, selections: Sequence[Sequence[int]]) -> None:
        """Refuse a wrong answer; the deadline is judged by the certificate anyway."""
        used = np.zeros(len(self._resources), dtype=np.int64)
        for project, modes in zip(programme.projects, selections, strict=True):
            used += project.evaluate(modes).usage
        if any(amount > resource.capacity for amount, resource in zip(used, self._resources, strict=True)):
            raise SolverError(f"{self._solver} returned a choice that uses more devices than there are")

    def _chosen(self, parts: Sequence[_Part], selections: Sequence[Sequence[int]]) -> Chosen:
        hardware = self._fleet.hardware
        columns = tuple(part.column(modes, hardware) for part, modes in zip(parts, selections, strict=True))
        return self._priced(columns)

    def _trimmed(self, parts: Sequence[_Part], selections: Sequence[Sequence[int]]) -> Chosen:
        columns = []
        for part, modes in zip(parts, selections, strict=True):
            members = {
                stage: table.member(mode)
                for (stage, table), mode in zip(part.options.items(), modes, strict=True)
            }
            kept = trim(part.instance, members).members
            choices = tuple(
                replace(table.choice(mode), replicas=kept[stage][1])
                for (stage, table), mode in zip(part.options.items(), modes, strict=True)
            )
            devices = tuple(
                sum(c.replicas for c in choices if c.hardware == name) for name in self._fleet.hardware
            )
            columns.append(Column(choices, devices))
        return self._priced(tuple(columns))

    def _priced(self, columns: tuple[Column, ...]) -> Chosen:
        prices = self._fleet.prices
        return Chosen(columns, sum(int(prices @ np.array(column.devices)) for column in columns))
