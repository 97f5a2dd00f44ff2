"""Column generation: ever better prices for what is scarce, a proven bound from each, and plans to choose from.

References
----------
formulations/columns.md: claim 1 is the bound, rows and steps are numbered there.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from mipplan.core import Int64, SolverError
from mipplan.fleet.columns import Column, Priced
from mipplan.fleet.objective import Objective
from mipplan.fleet.workers import Office
from mipplan.solvers import Continuous, solve_relaxed
from mipplan_formulations import MULTI_PROJECT_FORMULATIONS

#: How much of the best prices so far is kept in the next ones: at most so much, and so many times the relative gap
#: between bound and master, so that the last steps are full ones.
_SMOOTHING, _PER_GAP = 0.4, 10.0
#: Pricing looks for plans that are better by more than this share; the bound is lower by at most as much.
_SHARE = 10_000
#: A dual that presses against the price of excess makes it so many times dearer.
_DEARER = 4
#: … until units in excess cost so many times what everything costs.
_MOST_RAISES = 6


@dataclass
class Pool:
    """The known plans of every pipeline, in the order in which they were found.

    Attributes
    ----------
    columns : list of list of Column
    hopeless : set of int
        Pipelines that no plan can be certified for, whatever devices cost.
    """

    columns: list[list[Column]]
    hopeless: set[int] = field(default_factory=set)

    def add(self, answers: dict[int, Priced]) -> int:
        """Take in the plans that came with answers; return how many were new."""
        new = 0
        for index, priced in answers.items():
            if not priced.feasible:
                self.hopeless.add(index)
            for column in priced.columns:
                if column not in self.columns[index]:
                    self.columns[index].append(column)
                    new += 1
        return new

    def cheapest(self, index: int, prices: Int64) -> int | None:
        """Least cost of a known plan at these device prices."""
        costs = [int(prices @ np.array(column.devices)) for column in self.columns[index]]
        return min(costs, default=None)


@dataclass
class Progress:
    """Where the generation for one objective stands; all of it that a checkpoint needs.

    Attributes
    ----------
    rounds : int
    lower_bound : int or None
        No allowed choice costs less; None before the first round.
    duals : int64, shape (r,)
        That prove it.
    least : list of int
        What each pipeline costs at least at these.
    raises : int
        How often excess was made dearer.
    converged : bool
        Whether no plan is missing that would lower the master's relaxation (but for the tolerance of pricing).
    doubted : bool
        Whether it was asked if all fits at all.
    excess : bool
        Whether the relaxation of the master needs more than there is.
    relaxation : float
        Its optimum.
    """

    duals: Int64
    least: list[int] = field(default_factory=list)
    rounds: int = 0
    lower_bound: int | None = None
    raises: int = 0
    converged: bool = False
    doubted: bool = False
    excess: bool = False
    relaxation: float = float("inf")


class Generation:
    """Column generation for one objective.

    Parameters
    ----------
    objective : Objective
    pool : Pool
        Grows.
    office : Office
    ends_at : float
        ``time.monotonic()`` value at which to stop.
    report : callable
        Told of progress.
    after_round : callable
        Called after every round, with the master's relaxed solution; returns True to stop.
    progress : Progress, optional
        To go on from.
    """

    def __init__(
        self,
        objective: Objective,
        pool: Pool,
        office: Office,
        ends_at: float,
        report: Callable[[str], None],
        after_round: Callable[[Generation], bool],
        progress: Progress | None = None,
    ) -> None:
        self.objective = objective
        self.pool = pool
        self._office = office
        self._ends_at = ends_at
        self._report = report
        self._after_round = after_round
        self.progress = progress or Progress(np.zeros(len(objective.rows), dtype=np.int64))
        self.master: Continuous | None = None
        self._known: list[int] = []

    def run(self) -> None:
        """Generate until nothing is missing, `after_round` has enough, or time is up."""
        progress = self.progress
        if progress.rounds == 0:
            self._round(progress.duals)
            progress.converged = self.objective.forgone is None and bool(self.pool.hopeless)
            if self._after_round(self):
                return
        while not progress.converged and time.monotonic() < self._ends_at:
            master = self._solve_master()
            self.master = master
            duals = self._duals_of(master)
            new = 0
            for kept in (self._smoothing(master), 0.0):
                mixed = np.rint(kept * progress.duals + (1 - kept) * duals).astype(np.int64)
                before = progress.lower_bound
                new = self._round(mixed)
                if new or progress.lower_bound != before or time.monotonic() >= self._ends_at:
                    break
            self._settle(master, new)
            if self._after_round(self):
                return

    def _smoothing(self, master: Continuous) -> float:
        bound = self.progress.lower_bound
        if bound is None or master.objective <= 0:
            return _SMOOTHING
        return float(np.clip(_PER_GAP * (1.0 - bound / master.objective), 0.0, _SMOOTHING))

    def shares(self) -> list[Sequence[float]]:
        """How much the master's relaxation takes of every plan that it knew, per pipeline."""
        values = [] if self.master is None else self.master.values.tolist()
        ends = list(itertools.accumulate(self._known))
        return [values[end - count : end] for end, count in zip(ends, self._known, strict=True)]

    def _settle(self, master: Continuous, new: int) -> None:
        """Note what a round has shown of the master."""
        progress = self.progress
        used = master.values[master.values.size - len(self.objective.rows) :]
        progress.excess = bool((used > 1e-6).any())
        progress.relaxation = master.objective
        if new:
            return
        if progress.excess and progress.raises < _MOST_RAISES:
            progress.raises += 1
        else:
            progress.converged = True

    def _round(self, duals: Int64) -> int:
        """Price every pipeline at these duals, take in plans and bound; return how many plans were new."""
        prices = self.objective.device_prices(duals)
        known = {
            index: self.pool.cheapest(index, prices)
            for index in range(len(self.pool.columns))
            if index not in self.pool.hopeless
        }
        most = {index: self._most(index, cost) for index, cost in known.items()}
        answers = self._office.ask(prices, most)
        new = self.pool.add(answers)
        self._take_bound(duals, {i: _least(answers[i], cost) for i, cost in known.items()})
        self.progress.rounds += 1
        return new

    def _most(self, index: int, known: int | None) -> int | None:
        """What a plan may cost to be worth knowing."""
        forgone = None if self.objective.forgone is None else int(self.objective.forgone[index]) - 1
        if known is None:
            return forgone
        better = known - max(1, known // _SHARE)
        return better if forgone is None else min(better, forgone)

    def _take_bound(self, duals: Int64, least: dict[int, int | None]) -> None:
        """Claim 1: what all pipelines cost at least at these prices, less what all capacities are worth."""
        forgone = self.objective.forgone
        total = -int(duals @ self.objective.capacity)
        costs = []
        for index in range(len(self.pool.columns)):
            cost = least.get(index)
            if forgone is not None:
                cost = int(forgone[index]) if cost is None else min(cost, int(forgone[index]))
            if cost is None:
                return  # a pipeline without any plan: there is no fleet to bound
            costs.append(cost)
        total += sum(costs)
        if self.progress.lower_bound is None or total > self.progress.lower_bound:
            self.progress.lower_bound, self.progress.duals, self.progress.least = total, duals, costs

    def _solve_master(self) -> Continuous:
        objective = self.objective.raised(_DEARER**self.progress.raises)
        model = MULTI_PROJECT_FORMULATIONS["columns"].build(objective.pool(self.pool.columns, firm=False))
        self._known = [len(columns) for columns in self.pool.columns]
        solved = solve_relaxed(model)
        if solved is None:
            raise SolverError("highs could not solve the relaxation of the master problem")
        return solved

    def _duals_of(self, master: Continuous) -> Int64:
        """Duals of the capacities, as prices: whole and not negative."""
        return np.rint(np.maximum(-master.row_duals[len(self.pool.columns) :], 0.0)).astype(np.int64)


def _least(priced: Priced, known: int | None) -> int | None:
    """What a pipeline costs at least, given the answer and its cheapest known plan; None if it has no plan."""
    if not priced.feasible:
        return None
    return priced.lower_bound if known is None else min(known, priced.lower_bound)


def fresh_pool(pipelines: int) -> Pool:
    """Return a pool without any plan."""
    return Pool([[] for _ in range(pipelines)])
