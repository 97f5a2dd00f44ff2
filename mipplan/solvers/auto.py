"""The choice for whoever names neither formulation nor solver, by the features of the problem.

Chosen from the solver benchmark (docs/benchmarks.md, "Formulations and solvers"):

1. One path that may miss the deadline, and no resource or cover that may fail: labels, at any size.
2. Otherwise the problem is shrunk by reduced costs, and few labels are tried on what is left: small problems end here.
3. What is harder becomes a linear model: `paths` for CP-SAT, or `potentials` for HiGHS where paths or modes are many.

CBC is fast on these models, too, but left out: it has been seen to call a problem infeasible that is not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from mipplan.errors import SolverUnavailableError
from mipplan.solvers import cp_sat, highs, labels
from mipplan.solvers.answer import Answer, Settings, SolverInfo, Termination
from mipplan.solvers.dispatch import resolve_solver, solve
from mipplan.solvers.problem_answer import RawProblemAnswer
from mipplan.solvers.shrinking import Shrunk, shrink
from mipplan_formulations import FORMULATIONS, TimeCostProblem
from mipplan_formulations.labelling import LabelAnswer, is_chain, solve_by_labels

NAME = "auto"

FEW_STOPS = 500
"""Paths together visit at most so many activities: `paths` then has as many rows at most."""

FEW_MODES = 3_000
"""Beyond so many modes CP-SAT no longer finds a solution in the time HiGHS takes for the optimum."""

FEW_LABELS = 5_000
"""More labels take longer than the model that would be solved instead."""

_SHRINKING_SHARE = 0.3
_LABELS_SHARE = 0.2


def probe() -> SolverInfo:
    """It is part of this package: labels need no other."""
    return labels.probe()


def choose_pair(problem: TimeCostProblem) -> tuple[str, str]:
    """Formulation and solver for a problem that labels do not settle.

    Parameters
    ----------
    problem : TimeCostProblem
        Already shrunk, if it is to be.

    Returns
    -------
    formulation, solver : str
        The solver works here.

    Raises
    ------
    SolverUnavailableError
        If no solver works here.
    """
    formulation = choose_formulation(problem)
    if formulation == "paths" and problem.num_binaries <= FEW_MODES and cp_sat.probe().available:
        return formulation, cp_sat.NAME
    return "potentials" if highs.probe().available else formulation, resolve_solver("auto")


def choose_formulation(problem: TimeCostProblem) -> str:
    """`paths` unless its rows, one per path and activity on it, would be many; then `potentials`."""
    stops = sum(len(path.activities) for path in problem.paths)
    return "paths" if stops <= FEW_STOPS else "potentials"


def run(problem: TimeCostProblem, settings: Settings, start: Sequence[int] | None) -> RawProblemAnswer:
    """Solve a problem; `details` names what has settled it under ``by``.

    Raises
    ------
    SolverError
        If a solver fails.
    """
    if is_chain(problem):
        raw = labels.run(problem, settings, start)
        return replace(raw, details={"by": labels.NAME, **raw.details})
    clock = _Clock(settings.time_limit_s, time.monotonic())
    shrunk = shrink(problem, start=start, time_limit_s=clock.left(_SHRINKING_SHARE))
    best = _Best.of(shrunk)
    if best.is_settled(settings.gap):
        return best.answer(settings.gap, "shrinking")
    best.learn(shrunk, _try_labels(shrunk, settings, clock))
    if best.is_settled(settings.gap):
        return best.answer(settings.gap, labels.NAME)
    try:
        formulation, solver = choose_pair(shrunk.problem)
    except SolverUnavailableError:  # then labels have to go on
        return labels.run(problem, replace(settings, time_limit_s=clock.left()), best.selection)
    best.solve(shrunk, formulation, solver, replace(settings, time_limit_s=clock.left()))
    return best.answer(settings.gap, f"{formulation}/{solver}")


@dataclass(frozen=True)
class _Clock:
    limit_s: float | None
    started: float

    def left(self, share: float = 1.0) -> float | None:
        """Seconds left, or a share of them; None without a limit."""
        if self.limit_s is None:
            return None
        return max(1e-3, share * (self.limit_s - (time.monotonic() - self.started)))


def _try_labels(shrunk: Shrunk, settings: Settings, clock: _Clock) -> LabelAnswer:
    return solve_by_labels(
        shrunk.problem,
        time_limit_s=clock.left(_LABELS_SHARE),
        gap=settings.gap,
        start=None if shrunk.selection is None else shrunk.reduction.lower(shrunk.selection),
        guide=shrunk.guide,
        most_labels=FEW_LABELS,
    )


@dataclass
class _Best:
    """The best selection so far, in terms of the original problem, and the best bound."""

    selection: tuple[int, ...] | None
    cost: int | None
    lower_bound: float

    @staticmethod
    def of(shrunk: Shrunk) -> _Best:
        return _Best(shrunk.selection, shrunk.cost, shrunk.lower_bound)

    def is_settled(self, gap: float) -> bool:
        """Whether it is proven the best within the gap, or that there is none."""
        if self.cost is None:
            return self.lower_bound == math.inf
        return self.cost - self.lower_bound <= gap * self.cost

    def learn(self, shrunk: Shrunk, found: LabelAnswer) -> None:
        """Take over what labels found on the smaller problem."""
        self._improve(shrunk, found.selection, found.cost)
        self._raise(found.lower_bound)

    def solve(self, shrunk: Shrunk, formulation: str, solver: str, settings: Settings) -> None:
        """Solve the smaller problem as a linear model, from the best selection if it is one of it still."""
        chosen, problem = FORMULATIONS[formulation], shrunk.problem
        model = chosen.build(problem)
        lowered = None if self.selection is None else shrunk.reduction.lower(self.selection)
        answer: Answer = solve(
            model,
            solver,
            time_limit_s=settings.time_limit_s,
            gap=settings.gap,
            threads=settings.threads,
            seed=settings.seed,
            log=settings.log,
            start=None if lowered is None else chosen.encode(problem, model, lowered),
        )
        if answer.values is not None:
            self._improve(shrunk, chosen.decode(problem, model, answer.values), answer.objective)
        self._raise(math.inf if answer.termination is Termination.INFEASIBLE else answer.lower_bound)

    def answer(self, gap: float, by: str) -> RawProblemAnswer:
        """Put together what is known; `by` names what came last."""
        settled = self.is_settled(gap)
        if self.cost is None:
            termination = Termination.INFEASIBLE if settled else Termination.NO_SOLUTION_FOUND
        else:
            termination = Termination.OPTIMAL if settled else Termination.FEASIBLE
        return RawProblemAnswer(termination, self.selection, self.lower_bound, {"by": by})

    def _improve(self, shrunk: Shrunk, selection: tuple[int, ...] | None, cost: int | None) -> None:
        if selection is not None and cost is not None and (self.cost is None or cost < self.cost):
            self.selection, self.cost = shrunk.reduction.lift(selection), cost
            self.lower_bound = min(self.lower_bound, float(cost))

    def _raise(self, bound: float) -> None:
        """The smaller problem has everything better than the best: its bound holds up to the best's cost."""
        self.lower_bound = max(self.lower_bound, bound if self.cost is None else min(bound, float(self.cost)))
