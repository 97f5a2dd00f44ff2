"""The exact method: a relaxed master problem, the certificate as judge, and cuts from what it refuses.

Master: cheapest choice whose latency *bound* keeps the objective. If its certificate does not, a cut says so in
terms of T and R of as few stages as possible. No certified plan is cut off and no refused plan returns, so the
loop ends, and the first master optimum that is certified is the cheapest certified plan.

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

from mipplan.curves import StageService
from mipplan.errors import SolverError
from mipplan.options import StageOptions, build_problem
from mipplan.planner.cuts import Cut, cover_of, strengthen
from mipplan.planner.instance import Instance
from mipplan.planner.members import keeps_limits
from mipplan.solvers import Answer, Termination, relax, solve
from mipplan_formulations import Cover, Formulation, TimeCostProblem

#: Waits are bounded from below to within this share of the deadline; every optimum is re-evaluated exactly.
TOLERANCE = 0.01
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
class Outcome:
    """How the search ended.

    Attributes
    ----------
    best : Certified or None
        Cheapest certified selection found.
    lower_bound : int
        No certified plan costs less (micro-dollars per hour).
    finished : bool
        False if a limit or an interrupt stopped it.
    rounds : int
        Master problems solved.
    """

    best: Certified | None
    lower_bound: int
    finished: bool
    rounds: int


class Search:
    """One Benders search.

    Parameters
    ----------
    instance : Instance
    options : mapping of str to StageOptions
        One per stage in file order, none empty.
    formulation : Formulation
    solver : str
    ends_at : float
        ``time.monotonic()`` value at which to stop.
    report : callable
        Told of progress, one line at a time.
    any_plan : bool
        Whether any certified plan will do: the search ends with the first one.
    budget : int, optional
        Most micro-dollars per hour a plan may cost; dearer ones do not count as found.
    known_cost : int, optional
        What some certified plan among these options costs at most: only plans no dearer are looked for.
    required : sequence of Cover
        Further conditions on the selection, over the given options.
    """

    def __init__(
        self,
        instance: Instance,
        options: Mapping[str, StageOptions],
        formulation: Formulation,
        solver: str,
        ends_at: float,
        report: Callable[[str], None],
        *,
        any_plan: bool = False,
        budget: int | None = None,
        known_cost: int | None = None,
        required: Sequence[Cover] = (),
    ) -> None:
        self._known_cost = known_cost
        self._required = tuple(required)
        self._budget = budget
        self._any_plan = any_plan
        self._instance = instance
        self._options = options
        self._formulation = formulation
        self._solver = solver
        self._ends_at = ends_at
        self._report = report
        self._cuts: dict[Cut, Cover] = {}
        self._best: Certified | None = None
        self._lower_bound = sum(int(table.cost.min()) for table in options.values())
        # Costs of plans are multiples of this, so a cheaper plan is cheaper by at least as much.
        self._step = math.gcd(*(int(np.gcd.reduce(table.cost)) for table in options.values())) or 1
        self._rounds = 0

    def run(self) -> Outcome:
        """Solve masters and add cuts until one is certified, none exists, or time is up; Ctrl-C is a limit too."""
        ideal = {stage: table.ideal() for stage, table in self._options.items()}
        if not self._instance.keeps_slo(ideal):
            return Outcome(None, self._lower_bound, True, 0)
        try:
            finished = self._solve_masters()
        except KeyboardInterrupt:
            finished = False
        return Outcome(self._best, self._lower_bound, finished, self._rounds)

    def _solve_masters(self) -> bool:
        """Return whether the search came to its end: the best plan is proven, or that there is none."""
        while True:
            remaining = self._ends_at - time.monotonic()
            if remaining <= 0:
                return False
            rows = self._promising()
            if rows is None:
                return self._exhausted()
            problem = self._master(rows)
            model = self._formulation.build(problem)
            limit_s = None if math.isinf(remaining) else remaining
            answer = solve(model, self._solver, time_limit_s=limit_s)
            self._rounds += 1
            if answer.termination is Termination.INFEASIBLE:
                return self._exhausted()
            bound = _whole_bound(answer)
            # Only plans that beat the best one were looked at.
            bound = bound if self._best is None else min(bound, self._best.cost)
            self._lower_bound = max(self._lower_bound, bound)
            if self._budget is not None and self._lower_bound > self._budget:
                return True
            if answer.values is None:
                return False
            modes = self._formulation.decode(problem, model, answer.values)
            self._check(problem, modes)
            selection = {
                stage: int(np.flatnonzero(rows[stage])[mode])
                for stage, mode in zip(self._options, modes, strict=True)
            }
            self._improve(selection)
            if self._best is not None and (self._any_plan or self._best.cost <= self._lower_bound):
                return True
            if answer.termination is not Termination.OPTIMAL:
                return False
            cost = "none yet" if self._best is None else f"{self._best.cost / 1e6:.4f} $/h"
            self._report(
                f"round {self._rounds}: no plan below {self._lower_bound / 1e6:.4f} $/h, best certified {cost}"
            )

    def _exhausted(self) -> bool:
        """Note that no plan beats the best one; if there is none yet, there is none at all."""
        if self._best is not None:
            self._lower_bound = self._best.cost
        return True

    def _promising(self) -> dict[str, NDArray[np.bool_]] | None:
        """Options that could be part of a plan cheaper than the best one, shape (m,) per stage; None if none could.

        Until there is one, of a plan no dearer than what is known from elsewhere.

        First by what the other stages cost at least; then by the linear relaxation of the master: an option whose
        reduced cost lifts the bound to the best plan's cost can only be part of plans that are no better.
        """
        if self._best is not None:
            most = self._best.cost - self._step
        elif self._known_cost is not None:
            most = self._known_cost
        else:
            return {stage: np.ones(table.count, dtype=bool) for stage, table in self._options.items()}
        cheapest = {stage: int(table.cost.min()) for stage, table in self._options.items()}
        spare = most - sum(cheapest.values())
        rows = {stage: table.cost <= cheapest[stage] + spare for stage, table in self._options.items()}
        if not all(marked.any() for marked in rows.values()):
            return None
        problem = self._master(rows)
        # It only saves time, so it may not take all there is.
        left_s = _RELAXATION_SHARE * max(0.0, self._ends_at - time.monotonic())
        limit_s = None if math.isinf(left_s) else left_s
        relaxation = relax(self._formulation.build(problem), time_limit_s=limit_s)
        if relaxation is None:
            return rows
        # The binaries come first in every formulation, activity by activity.
        lifted = relaxation.bound + np.maximum(relaxation.reduced_costs[: problem.num_binaries], 0.0)
        for stage, values in zip(rows, np.split(lifted, np.cumsum(problem.mode_counts)[:-1]), strict=True):
            rows[stage][np.flatnonzero(rows[stage])[values > most]] = False
        return rows if all(marked.any() for marked in rows.values()) else None

    def _master(self, rows: Mapping[str, NDArray[np.bool_]]) -> TimeCostProblem:
        order = list(self._options)
        covers = tuple(
            Cover(tuple((index, marked[rows[order[index]]]) for index, marked in cover.members))
            for cover in (*self._required, *self._cuts.values())
        )
        return build_problem(
            self._instance.pipeline,
            {stage: table.keep(rows[stage]) for stage, table in self._options.items()},
            self._instance.paths,
            self._instance.deadline_ns,
            self._instance.limits,
            covers=covers,
            tolerance=TOLERANCE,
        )

    def _check(self, problem: TimeCostProblem, modes: tuple[int, ...]) -> None:
        """Refuse a wrong answer.

        Only the deadline may fail here: it is the one row with nanoseconds in it, which a solver's tolerance can
        bend, and the certificate judges it anyway. Devices and cuts are small whole numbers.
        """
        exact = problem.evaluate(modes)
        broken = [
            resource.name
            for used, resource in zip(exact.usage, problem.resources, strict=True)
            if used > resource.capacity
        ]
        if broken or not all(cover.is_met(modes) for cover in problem.covers):
            raise SolverError(
                f"{self._solver} returned a choice that breaks its own problem ({exact.violations})"
            )

    def _improve(self, master_optimum: dict[str, int]) -> None:
        """Judge a selection; while it is refused, cut it off and better one stage at the least extra cost.

        The master's optimum itself only needs one cut. Walking on from it to a certified plan costs a few more
        certificates, and gives cuts where the optimum is to be expected and a plan that bounds what is worthwhile.
        """
        selection: dict[str, int] | None = master_optimum
        while selection is not None and (selection is master_optimum or time.monotonic() < self._ends_at):
            services = self._services(selection)
            # The waits at this selection become known exactly, which sharpens later masters.
            self._instance.paths.bound_ns(services)
            certificate_ns = self._instance.certificate_ns(services)
            cost = sum(int(self._options[stage].cost[option]) for stage, option in selection.items())
            if certificate_ns <= self._instance.deadline_ns:
                affordable = self._budget is None or cost <= self._budget
                better = self._best is None or cost < self._best.cost
                if affordable and better and self._is_allowed(selection):
                    self._best = Certified(dict(selection), cost, certificate_ns)
                return
            covers = self._cut_off(services)
            if self._best is not None and cost >= self._best.cost:
                return
            selection = self._bettered(selection, covers)

    def _is_allowed(self, selection: Mapping[str, int]) -> bool:
        """Whether a certified selection keeps the device limits and what else is required of it."""
        members = {stage: self._options[stage].member(option) for stage, option in selection.items()}
        chosen = list(selection.values())
        return keeps_limits(members, self._instance.limits) and all(c.is_met(chosen) for c in self._required)

    def _services(self, selection: Mapping[str, int]) -> dict[str, StageService]:
        return {stage: self._options[stage].service(option) for stage, option in selection.items()}

    def _cut_off(self, refused: Mapping[str, StageService]) -> list[Cover]:
        """Cuts that exclude refused services and as much else as the certificate refuses with them."""
        order = tuple(self._options)
        is_refused = self._instance.refusal_test(refused)
        found = {
            strengthen(refused, self._options, is_refused, stages, speed_first)
            for stages in (order, order[::-1])
            for speed_first in (True, False)
        }
        covers = {cut: cover_of(cut, self._options) for cut in sorted(found)}
        self._cuts.update(covers)
        return list(covers.values())

    def _bettered(self, selection: Mapping[str, int], covers: list[Cover]) -> dict[str, int] | None:
        """Move one stage to an option no worse in T and R that meets as many cuts as possible, cheapest first.

        None if no stage has one: what beats the cut in T is slower, what beats it in R has a greater T, or the
        option that beats it in both is limited away or too dear. Then only the next master can tell what to do.
        """
        best: tuple[int, int, str, int] | None = None
        order = list(self._options)
        for index, stage in enumerate(order):
            table, chosen = self._options[stage], selection[stage]
            met = np.zeros(table.count, dtype=np.int64)
            for cover in covers:
                for member, marked in cover.members:
                    if member == index:
                        met += marked
            no_worse = (table.latency_ns <= table.latency_ns[chosen]) & (table.speed >= table.speed[chosen])
            for option in np.flatnonzero(no_worse & (met > 0)).tolist():
                candidate = (-int(met[option]), int(table.cost[option] - table.cost[chosen]), stage, option)
                if best is None or candidate < best:
                    best = candidate
        if best is None:
            return None
        return {**selection, best[2]: best[3]}


def _whole_bound(answer: Answer) -> int:
    """Turn a solver's bound into whole micro-dollars: costs are integers, so it rounds up, less its tolerance."""
    if answer.termination is Termination.OPTIMAL and answer.objective is not None:
        return answer.objective
    if not math.isfinite(answer.lower_bound):
        return 0
    return max(0, math.ceil(answer.lower_bound - 1e-6 * max(1.0, abs(answer.lower_bound))))
