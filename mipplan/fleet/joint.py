"""All pipelines of a small fleet in one MILP, with the certificate of each as oracle.

The method of `mipplan.planner.benders` on formulation `joint`: relaxed master, oracles, cuts. It shares neither prices
nor columns with column generation, and so is what that is held to.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from mipplan.core import NS_PER_S, SearchLimits, SolverError
from mipplan.fleet.problem import Column, Fleet, FleetChoice, FleetSolution, ReplayedMember
from mipplan.options import Cap, Configuration, StageOptions, build_problem, extremes, undominated
from mipplan.planner import Cut, Instance, cover_of, plan, trim
from mipplan.result import Limit
from mipplan.solvers import Termination, solve
from mipplan_formulations import (
    MULTI_PROJECT_FORMULATIONS,
    Cover,
    MultiProjectProblem,
    Resource,
    TimeCostProblem,
)


@dataclass(frozen=True)
class JointParams:
    """How the joint master is made."""

    #: Waits are bounded from below to within this share of the deadline; every optimum is judged exactly.
    wait_tolerance: float = 0.01
    #: At first every pipeline may cost this many times what it costs alone.
    first_budget: int = 2


@dataclass(eq=False)
class _Part:
    """One pipeline in the joint master."""

    name: str
    instance: Instance
    options: Mapping[str, StageOptions]
    cuts: dict[Cut, Cover] = field(default_factory=dict)
    refusals: list[Cover] = field(default_factory=list)  # What follows from choices of too little accuracy.

    def problem(self, resources: Sequence[Resource], tolerance: float) -> TimeCostProblem:
        """The pipeline's master with all of the fleet's resources, those it does not use included."""
        instance = self.instance
        made = build_problem(
            instance.pipeline,
            self.options,
            instance.oracle.paths,
            instance.deadline_ns,
            instance.limits,
            caps=self.caps,
            covers=(*self.cuts.values(), *self.refusals),
            tolerance=tolerance,
        )
        same = [[own.name == shared.name for shared in resources] for own in made.resources]
        spread = np.array(same, dtype=np.int64).reshape(len(made.resources), len(resources))
        activities = (replace(activity, usage=activity.usage @ spread) for activity in made.activities)
        return replace(made, activities=tuple(activities), resources=tuple(resources))

    @property
    def caps(self) -> tuple[Cap, ...]:
        """What its stages take of beside devices, by a name of its own."""
        return tuple(cap._replace(name=f"{cap.name} of {self.name}") for cap in self.instance.caps)

    def accepts(self, modes: Sequence[int]) -> bool:
        """Whether the certificate does, and the accuracy is enough; if not, the master is told."""
        made, instance = self.configuration(modes), self.instance
        if instance.floor is not None and not instance.floor.is_kept(made):
            self.refusals.append(instance.floor.cover(made, self.options))
            return False
        services = made.services
        if instance.keeps_slo(services):
            return True
        if instance.oracle.paths.bound_ns(services) > instance.deadline_ns:
            return False  # its waits, now known exactly, are too long already: the next master avoids it by itself
        order = tuple(self.options)
        cuts = instance.cuts(services, self.options, ((order, True), (order[::-1], True)))
        self.cuts |= {cut: cover_of(cut, self.options) for cut in cuts}
        return False

    def configuration(self, modes: Sequence[int]) -> Configuration:
        """Return the configuration of an option per stage."""
        tables = zip(self.options.items(), modes, strict=True)
        return Configuration({stage: table.option(mode) for (stage, table), mode in tables})


@dataclass(eq=False)
class JointSearch:
    """Finds the cheapest set of certified plans of a small fleet."""

    fleet: Fleet
    solver: str
    search: SearchLimits
    params: JointParams = field(default_factory=JointParams)

    def __post_init__(self) -> None:
        self._instances: list[Instance] = []
        self._alone: list[int] = []

    def run(self) -> FleetSolution:
        """Search; Ctrl-C stops as the time limit does."""
        try:
            made = self.fleet.realisations
            self._instances = [make() for make in made if not isinstance(make, ReplayedMember)]
            caps = (cap for part in self._parts([{}] * len(self._instances)) for cap in part.caps)
            devices = tuple(Resource(name, most) for name, most in self.fleet.limits.items())
            self._resources = devices + tuple(Resource(cap.name, cap.most) for cap in caps)
            solution = self._run()
        except KeyboardInterrupt:
            least = sum(self._alone) if self._is_complete else None
            solution = FleetSolution(None, least, False, interrupted=True)
        return replace(solution, alone=tuple(self._alone))

    @property
    def _is_complete(self) -> bool:
        return len(self._alone) == len(self._instances)

    def _run(self) -> FleetSolution:
        if not self._plan_alone():
            return FleetSolution(None, None, True)
        if not self._is_complete:
            return FleetSolution(None, None, False)
        # What is solved for below bounds only fleets within these budgets, or of the most replicas.
        least = sum(self._alone)
        budgets = [self.params.first_budget * cost for cost in self._alone]
        while True:
            afforded = zip(self._instances, budgets, strict=True)
            solution = self._solve(self._parts([one.affordable(budget) for one, budget in afforded]))
            known = self._any_fleet() if solution.infeasible else solution
            if known.chosen is None:
                return known if known.infeasible else replace(known, lower_bound=least)
            # No pipeline can cost more than what the others, at their cheapest, leave of the best fleet known.
            spare = known.chosen.cost - least
            needed = [spare + cost for cost in self._alone]
            if solution.chosen is not None and all(n <= b for n, b in zip(needed, budgets, strict=True)):
                return solution
            if self.search.deadline.is_over:
                return replace(known, lower_bound=least)
            budgets = [max(n, b) for n, b in zip(needed, budgets, strict=True)]

    def _plan_alone(self) -> bool:
        """Plan every pipeline by itself; False if one has no plan."""
        fleet = self.fleet
        for member in fleet.members:
            if self.search.deadline.is_over:
                return True
            found = plan(
                member.pipeline,
                fleet.profiles,
                member.trace,
                slo_s=member.slo_ns / NS_PER_S,
                quantile=fleet.quantile,
                per_s=math.inf,  # As everywhere in a fleet: over all queries, whatever windows the pipeline states.
                seed=fleet.seed,
                accuracy=member.min_accuracy,
                dispatch=member.asked_laws,
                discipline=member.discipline,
                runs=member.overtaking,
                solver=self.solver,
                time_limit_s=self.search.deadline.limit_s(),
            )
            if found.limit is Limit.INTERRUPT:
                raise KeyboardInterrupt  # it took that for its time limit
            if found.status == "infeasible":
                return False
            self._alone.append(found.lower_bound_microusd_per_hour or 0)
            self.search.report(f"{member.name}: at least {self._alone[-1] / 1e6:.4f} $/h by itself")
        return True

    def _any_fleet(self) -> FleetSolution:
        """Whether anything fits, with the most replicas of everything that is not limited, then trimmed."""
        offered = [
            {stage: undominated(extremes(found)) for stage, found in instance.families.items()}
            for instance in self._instances
        ]
        return self._solve(self._parts(offered), trims=True)

    def _parts(self, options: Sequence[Mapping[str, StageOptions]]) -> list[_Part]:
        names = (member.name for member in self.fleet.members)
        return list(map(_Part, names, self._instances, options))

    def _solve(self, parts: Sequence[_Part], *, trims: bool = False) -> FleetSolution:
        """Solve masters until the certificates accept the answer, and make plans of it, perhaps trimmed ones."""
        formulation = MULTI_PROJECT_FORMULATIONS["joint"]
        tolerance = self.params.wait_tolerance
        bound: int | None = None
        while not self.search.deadline.is_over:
            problem = MultiProjectProblem(
                tuple(part.problem(self._resources, tolerance) for part in parts), self._resources
            )
            model = formulation.build(problem)
            answer = solve(model, self.solver, time_limit_s=self.search.deadline.limit_s())
            if answer.termination is Termination.INFEASIBLE:
                return FleetSolution(None, None, True)
            if math.isfinite(answer.lower_bound):
                bound = max(bound or 0, math.floor(answer.lower_bound))
            if answer.values is None:
                break
            selections = formulation.decode(problem, model, answer.values)
            # The deadline is judged by the certificate anyway.
            used = problem.evaluate(selections).usage
            if np.any(used > [resource.capacity for resource in self._resources]):
                raise SolverError(f"{self.solver} returned a choice that uses more devices than there are")
            accepted = [part.accepts(modes) for part, modes in zip(parts, selections, strict=True)]
            least = f"at least {(bound or 0) / 1e6:.4f} $/h"
            self.search.report(f"all pipelines together: {'whether they fit at all' if trims else least}")
            if all(accepted):
                chosen = [part.configuration(modes) for part, modes in zip(parts, selections, strict=True)]
                if trims:
                    found = zip(self._instances, chosen, strict=True)
                    chosen = [trim(instance, most).configuration for instance, most in found]
                columns = tuple(Column.of(configuration, self.fleet.hardware) for configuration in chosen)
                cost = sum(column.cost(self.fleet.prices) for column in columns)
                return FleetSolution(FleetChoice(columns, cost), bound, False)
            if answer.termination is not Termination.OPTIMAL:
                break
        return FleetSolution(None, bound, False)
