"""The restricted master: column generation makes better and better prices and plans, then plans are chosen among.

Column generation solves the relaxed master over the known plans of every pipeline, prices what is scarce by its duals,
proves a bound from these prices, and asks pricing for the plans that are missing. A choice of one known plan per
pipeline is then made by rounding the relaxed master, or by a MILP.

References
----------
formulations/columns.md: claim 1 is the bound, rows and steps are numbered there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import numpy as np

from mipplan.core import Int64, LimitReachedError, Positions, SearchLimits, SolverError
from mipplan.fleet.pricing import Priced
from mipplan.fleet.problem import Column, FleetChoice, FleetObjective
from mipplan.fleet.workers import WorkerPool
from mipplan.solvers import Continuous, solve, solve_relaxed
from mipplan_formulations import MULTI_PROJECT_FORMULATIONS


@dataclass(frozen=True)
class MasterParams:
    """How prices move, and how plans are chosen among by rounding."""

    #: At most this share of the best prices so far is kept in the next ones.
    smoothing: float = 0.4
    #: The share is at most this many times the relative gap between bound and master, so the last steps are full ones.
    smoothing_per_gap: float = 10.0
    #: Pricing looks for plans that are better by more than one part in this many; the bound is as much lower.
    better_share: int = 10_000
    #: While the relaxed master needs more than there is, excess gets this many times as dear.
    excess_growth: int = 4
    #: Excess gets dearer at most this many times, because one unit of it then costs far more than any plan.
    most_raises: int = 6
    #: At most this many combinations of the plans of split pipelines are tried one by one.
    most_combinations: int = 20_000
    #: At most this many plans per pipeline are exchanged for others before rounding gives up.
    exchanges: int = 3


@dataclass
class Pool:
    """The known plans of every pipeline, in the order in which they were found."""

    columns: list[list[Column]]
    #: Nothing can be certified for these, whatever devices cost.
    hopeless: set[int] = field(default_factory=set)
    #: What a pipeline costs at least by itself, by index, as far as it was priced at the hardware's own prices.
    alone: dict[int, int] = field(default_factory=dict)

    @classmethod
    def empty(cls, pipelines: int) -> Pool:
        """Return a pool without any plan."""
        return cls([[] for _ in range(pipelines)])

    def add(self, answers: Mapping[int, Priced]) -> int:
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

    def note_alone(self, answers: Mapping[int, Priced], known: Mapping[int, int | None]) -> None:
        """Take in what answers at the hardware's own prices prove of each pipeline, whose known plans cost so much."""
        for index, priced in answers.items():
            cost = known[index]
            least = priced.lower_bound if cost is None else min(cost, priced.lower_bound)
            if priced.feasible:
                self.alone[index] = max(least, self.alone.get(index, 0))


@dataclass
class Progress:
    """Where column generation stands; all of it that a checkpoint needs."""

    duals: Int64  # that prove the bound, shape (r,)
    least: list[int] = field(default_factory=list)  # what each pipeline costs at least at these
    rounds: int = 0
    lower_bound: int | None = None  # no allowed choice costs less; None before the first round
    raises: int = 0  # how often excess was made dearer
    converged: bool = False  # no plan is missing that would lower the relaxed master
    doubted: bool = False  # it was asked whether all fits at all
    excess: bool = False  # the relaxed master needs more than there is
    relaxation: float = float("inf")  # its optimum


@dataclass(eq=False)
class ColumnGeneration:
    """Column generation for one objective: its pool grows until `after_round` returns True, or nothing is missing."""

    objective: FleetObjective
    pool: Pool
    workers: WorkerPool
    search: SearchLimits
    after_round: Callable[[ColumnGeneration], bool]
    start: Progress | None = None
    params: MasterParams = field(default_factory=MasterParams)

    def __post_init__(self) -> None:
        self.progress = self.start or Progress(np.zeros(len(self.objective.rows), dtype=np.int64))
        #: The relaxed master's last solution; None before the first.
        self.master: Continuous | None = None
        self._known: list[int] = []

    def run(self) -> None:
        """Generate until nothing is missing, `after_round` has enough, or time is up."""
        with suppress(LimitReachedError):  # a round that there was no time for counts for nothing
            self._generate()

    def _generate(self) -> None:
        progress = self.progress
        if progress.rounds == 0:
            self._round(progress.duals)
            progress.converged = self.objective.forgone is None and bool(self.pool.hopeless)
            if self.after_round(self):
                return
        while not progress.converged and not self.search.deadline.is_over:
            if not self.has_choice:
                # A search had too little time for any plan; without one there is nothing to choose among.
                self._round(progress.duals)
                progress.converged = not self.has_choice and math.isinf(self.search.deadline.at)
                if self.after_round(self):
                    return
                continue
            self.master = master = self._solve_master()
            # Duals of the capacities, as prices: whole and not negative.
            pressing = np.maximum(-master.row_duals[len(self.pool.columns) :], 0.0)
            duals = np.rint(pressing).astype(np.int64)
            new = 0
            for kept in (self._smoothing(master), 0.0):
                mixed = np.rint(kept * progress.duals + (1 - kept) * duals).astype(np.int64)
                before = progress.lower_bound
                new = self._round(mixed)
                if new or progress.lower_bound != before or self.search.deadline.is_over:
                    break
            self._settle(master, new)
            if self.after_round(self):
                return

    def shares(self) -> list[Sequence[float]]:
        """How much the master's relaxation takes of every plan that it knew, per pipeline."""
        values = iter(() if self.master is None else self.master.values.tolist())
        return [list(itertools.islice(values, count)) for count in self._known]

    @property
    def has_choice(self) -> bool:
        """Whether every pipeline has a known plan, or may be left out."""
        return self.objective.forgone is not None or all(self.pool.columns)

    def _smoothing(self, master: Continuous) -> float:
        bound, most = self.progress.lower_bound, self.params.smoothing
        if bound is None or master.objective <= 0:
            return most
        return float(np.clip(self.params.smoothing_per_gap * (1.0 - bound / master.objective), 0.0, most))

    def _settle(self, master: Continuous, new: int) -> None:
        """Note what a round has shown of the master."""
        progress = self.progress
        used = master.values[master.values.size - len(self.objective.rows) :]
        progress.excess = bool((used > 1e-6).any())
        progress.relaxation = master.objective
        if new:
            return
        if progress.excess and progress.raises < self.params.most_raises:
            progress.raises += 1
        else:
            progress.converged = True

    def _round(self, duals: Int64) -> int:
        """Price every pipeline at these duals, take in plans and bound; return how many plans were new."""
        prices = self.objective.device_prices(duals)
        known = {
            index: min((column.cost(prices) for column in columns), default=None)
            for index, columns in enumerate(self.pool.columns)
            if index not in self.pool.hopeless
        }
        most = {index: self._most(index, cost) for index, cost in known.items()}
        answers = self.workers.price(prices, most, self.search.deadline)
        new = self.pool.add(answers)
        if self.objective.forgone is None and not duals.any():
            self.pool.note_alone(answers, known)
        self._take_bound(duals, answers, known)
        self.progress.rounds += 1
        return new

    def _most(self, index: int, known: int | None) -> int | None:
        """What a plan may cost to be worth knowing."""
        forgone = None if self.objective.forgone is None else int(self.objective.forgone[index]) - 1
        if known is None:
            return forgone
        better = known - max(1, known // self.params.better_share)
        return better if forgone is None else min(better, forgone)

    def _take_bound(
        self, duals: Int64, answers: Mapping[int, Priced], known: Mapping[int, int | None]
    ) -> None:
        """Claim 1: what all pipelines cost at least at these prices, less what all capacities are worth."""
        costs = []
        for index in range(len(self.pool.columns)):
            least = []
            if index in answers and answers[index].feasible:
                least = [cost for cost in (known[index], answers[index].lower_bound) if cost is not None]
            if self.objective.forgone is not None:
                least.append(int(self.objective.forgone[index]))
            if not least:
                return  # a pipeline without any plan: there is no fleet to bound
            costs.append(min(least))
        total = sum(costs) - int(duals.astype(object) @ self.objective.capacity)
        if self.progress.lower_bound is None or total > self.progress.lower_bound:
            self.progress.lower_bound, self.progress.duals, self.progress.least = total, duals, costs

    def _solve_master(self) -> Continuous:
        growth = self.params.excess_growth**self.progress.raises
        objective = replace(self.objective, excess=self.objective.excess * growth)
        self._known = list(map(len, self.pool.columns))
        pool = objective.pool(self.pool.columns, firm=False)
        solved = solve_relaxed(MULTI_PROJECT_FORMULATIONS["columns"].build(pool))
        if solved is None:
            raise SolverError("highs could not solve the relaxation of the master problem")
        return solved


def choose_exactly(
    objective: FleetObjective,
    known: Sequence[Sequence[Column]],
    start: FleetChoice | None,
    time_limit_s: float | None,
    gap: float,
) -> tuple[FleetChoice | None, float]:
    """Choose among the known plans by a MILP (price and branch); return what any choice of *known* plans costs, too.

    None is chosen if nothing is found in time; what is found may be no better than the start.
    """
    pool = objective.pool(known, firm=True)
    formulation = MULTI_PROJECT_FORMULATIONS["columns"]
    model = formulation.build(pool)
    values = None if start is None else formulation.encode(pool, model, start.places(known))
    answer = solve(model, time_limit_s=time_limit_s, gap=gap, start=values)
    if answer.values is None:
        return None, answer.lower_bound
    picked = formulation.decode(pool, model, answer.values)
    found = pool.evaluate(picked)
    chosen = FleetChoice.at(known, picked, found.cost) if found.feasible else None
    return chosen, answer.lower_bound


def choose_by_rounding(
    objective: FleetObjective,
    known: Sequence[Sequence[Column]],
    shares: Sequence[Sequence[float]],
    params: MasterParams = MasterParams(),
) -> FleetChoice | None:
    """Round a solution of the relaxed master to a fleet that fits; None where that does not succeed.

    Pipelines that the relaxation does not split keep their plan. For the few others all combinations are tried; where
    none fits, plans are exchanged, each time the one that costs least per unit of what is missing.
    """
    rounding = _Rounding(objective, known)
    picks, split = rounding.first.copy(), []
    for index, taken in enumerate(shares):
        whole = [place for place, share in enumerate(taken) if share > 1.0 - 1e-6]
        if whole:
            picks[index] += whole[0]
        elif objective.forgone is not None and sum(taken) < 1e-6:
            picks[index] += len(known[index])
        else:
            split.append(index)
    best = rounding.best_combination(picks, split, params.most_combinations)
    if best is None:
        for index in split:
            picks[index] += np.argmin(rounding.cost[rounding.rows(index)])
        best = rounding.exchanged(picks, params.exchanges)
    return None if best is None else rounding.choice(best)


class _Rounding:
    """All k known plans side by side, pipeline after pipeline; the last of a pipeline may be to leave it out."""

    def __init__(self, objective: FleetObjective, known: Sequence[Sequence[Column]]) -> None:
        pool = objective.pool(known, firm=True)
        cost = [columns.cost for columns in pool.projects]
        usage = [columns.usage for columns in pool.projects]
        if objective.forgone is not None:
            nothing = np.zeros((1, len(objective.rows)), dtype=np.int64)
            cost = [np.append(own, forgone) for own, forgone in zip(cost, objective.forgone, strict=True)]
            usage = [np.concatenate([own, nothing]) for own in usage]
        counts = [own.size for own in cost]
        self.known, self.capacity = known, objective.capacity
        self.first = np.cumsum([0, *counts[:-1]])  # row of each pipeline's first plan, shape (N,)
        self.owner = np.repeat(np.arange(len(known)), counts)
        self.cost, self.usage = np.concatenate(cost), np.concatenate(usage)

    def rows(self, index: int) -> Positions:
        return np.flatnonzero(self.owner == index)

    def choice(self, picks: Int64) -> FleetChoice | None:
        """Return the fleet that takes a row per pipeline, if that fits."""
        if np.any(self.usage[picks].sum(axis=0) > self.capacity):
            return None
        chosen = zip(self.known, (picks - self.first).tolist(), strict=True)
        places = [place if place < len(own) else None for own, place in chosen]
        return FleetChoice.at(self.known, places, sum(self.cost[picks].tolist()))

    def best_combination(self, picks: Int64, split: list[int], most: int) -> Int64 | None:
        """Cheapest combination of the split pipelines' plans that fits beside the others; None if none does."""
        rows = [self.rows(index).tolist() for index in split]
        if math.prod(map(len, rows)) > most:
            return None
        free = self.capacity - self.usage[np.delete(picks, split)].sum(axis=0)
        fitting = (
            combination
            for combination in map(list, itertools.product(*rows))
            if np.all(self.usage[combination].sum(axis=0) <= free)
        )
        best = min(fitting, key=lambda combination: int(self.cost[combination].sum()), default=None)
        if best is None:
            return None
        found = picks.copy()
        found[split] = best
        return found

    def exchanged(self, picks: Int64, most: int) -> Int64 | None:
        """Exchange plans, at most `most` per pipeline, until all fits; None if that does not come about."""
        for _ in range(most * picks.size):
            used = self.usage[picks].sum(axis=0)
            missing = np.maximum(used - self.capacity, 0)
            if not missing.any():
                return picks
            after = used - self.usage[picks[self.owner]] + self.usage
            less = (missing - np.maximum(after - self.capacity, 0)) @ (1.0 / np.maximum(self.capacity, 1))
            extra = self.cost - self.cost[picks[self.owner]]
            helpful = np.flatnonzero(less > 1e-12)
            if helpful.size == 0:
                return None
            best = helpful[np.argmin(np.maximum(extra[helpful], 0) / less[helpful])]
            picks[self.owner[best]] = best
        return None
