"""From a fleet to its cheapest set of plans: prices, then whole numbers, then the proof."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from mipplan.fleet.generation import Generation, Pool, Progress
from mipplan.fleet.objective import Objective, cost_objective
from mipplan.fleet.request import Fleet
from mipplan.fleet.selection import Chosen, choose_by_rounding, choose_exactly
from mipplan.fleet.workers import Office

#: The relaxed master may stay this share of the gap asked for, or of this gap, above the bound.
_RELAXED_SHARE, _RELAXED_GAP = 0.25, 0.01
#: Who asks for no smaller gap than this wants any choice, and no proof.
_ANY_GAP = 0.05
#: Whether all fits at all is asked once excess was made dearer so often and is still needed.
_DOUBTS = 2
#: Choosing among known plans may take so long.
_CHOICE_S = 20.0
#: … first within a part of what they may cost: the better the best choice, the fewer there are in the end.
_SHARES = (0.1, 0.25, 0.5, 1.0)
#: Fleets of at most so many pipelines are closed: all plans that could be part of a cheaper fleet are looked up.
_MOST_CLOSED = 200


@dataclass(frozen=True, eq=False)
class Settled:
    """Where an objective stands in the end.

    Attributes
    ----------
    chosen : Chosen or None
        The best choice found.
    lower_bound : int or None
        No allowed choice costs less; None if nothing is known.
    saved : mapping of str to int
        What one unit more of each scarce thing would save, by the duals that prove the bound.
    infeasible : bool
        Proven: nothing fits.
    rounds : int
    interrupted : bool
        By Ctrl-C.
    """

    chosen: Chosen | None
    lower_bound: int | None
    saved: Mapping[str, int]
    infeasible: bool
    rounds: int
    interrupted: bool = False

    def within(self, gap: float) -> bool:
        """Whether the choice is proven to be at most that share dearer than the best."""
        if self.chosen is None or self.lower_bound is None:
            return False
        return self.chosen.cost - self.lower_bound <= gap * self.chosen.cost


@dataclass
class Settling:
    """Settles one objective by column generation.

    Attributes
    ----------
    objective : Objective
    pool : Pool
    office : Office
    gap : float
        Relative gap that is good enough.
    ends_at : float
    report : callable
    name : str
        What is minimised, for progress.
    unit : float
        What the objective counts in, for progress.
    keep : callable
        Called with progress and choice after every round: keeps a checkpoint.
    progress : Progress or None
        To go on from.
    best : Chosen or None
        To improve on.
    """

    objective: Objective
    pool: Pool
    office: Office
    gap: float
    ends_at: float
    report: Callable[[str], None]
    name: str
    unit: float
    keep: Callable[[Progress, Chosen | None], None]
    progress: Progress | None = None
    best: Chosen | None = None

    def run(self) -> Settled:
        """Generate, round, choose; Ctrl-C stops as a time limit does."""
        generation = self._generation(self.objective)
        interrupted = False
        going_on = self.progress is not None and self.progress.rounds > 0
        self.progress = generation.progress
        try:
            if not (going_on and self._enough(generation.progress)):
                generation.run()
            if self._doubtful(generation):
                if self._cannot_fit(generation):
                    return self._settled(infeasible=True)
                generation.run()
            self._choose(generation)
            self._close(generation)
        except KeyboardInterrupt:
            interrupted = True
        hopeless = bool(self.pool.hopeless) and self.objective.forgone is None
        return replace(self._settled(infeasible=hopeless), interrupted=interrupted)

    def _generation(self, objective: Objective) -> Generation:
        return Generation(
            objective, self.pool, self.office, self.ends_at, self.report, self._after_round, self.progress
        )

    def _after_round(self, generation: Generation) -> bool:
        progress = generation.progress
        if generation.master is not None and not progress.excess:
            self._offer(choose_by_rounding(self.objective, self.pool.columns, generation.shares()))
        elif generation.master is None and not self.pool.hopeless:
            self._offer_cheapest()
        self.report(self._line(progress))
        self.keep(progress, self.best)
        return self._enough(progress)

    def _enough(self, progress: Progress) -> bool:
        """Whether generating more plans is not what helps now; it depends on nothing but what a checkpoint holds."""
        if self._good_enough(self.gap):
            return True
        bound = progress.lower_bound
        if progress.excess:
            return progress.raises >= _DOUBTS and not progress.converged and not progress.doubted
        tail = _RELAXED_SHARE * min(self.gap, _RELAXED_GAP) * progress.relaxation
        return (
            bound is not None and math.isfinite(progress.relaxation) and progress.relaxation - bound <= tail
        )

    def _doubtful(self, generation: Generation) -> bool:
        progress = generation.progress
        doubtful = progress.excess and progress.raises >= _DOUBTS and not progress.doubted
        return doubtful and time.monotonic() < self.ends_at

    def _cannot_fit(self, generation: Generation) -> bool:
        """Whether it is proven that the plans of all pipelines need more devices than there are (claim 2)."""
        generation.progress.doubted = True
        if self.objective.forgone is not None:
            return False
        fit = Objective(
            np.zeros_like(self.objective.prices),
            self.objective.rows,
            self.objective.usage,
            self.objective.capacity,
            np.maximum(self.objective.usage @ self.objective.prices, 1),
        )

        def after(generation: Generation) -> bool:
            bound = generation.progress.lower_bound
            self.report(f"whether it fits at all, round {generation.progress.rounds}")
            return (bound is not None and bound > 0) or (
                generation.master is not None and generation.master.objective < 0.5
            )

        fitting = Generation(fit, self.pool, self.office, self.ends_at, self.report, after)
        fitting.run()
        bound = fitting.progress.lower_bound
        return bound is not None and bound > 0

    def _offer_cheapest(self) -> None:
        """Where nothing is scarce, every pipeline has its cheapest plan."""
        columns = tuple(min(known, key=self.objective.cost) for known in self.pool.columns if known)
        if len(columns) == len(self.pool.columns):
            devices = np.sum([column.devices for column in columns], axis=0)
            if np.all(self.objective.usage @ devices <= self.objective.capacity):
                self._offer(Chosen(columns, sum(map(self.objective.cost, columns))))

    def _choose(self, generation: Generation) -> None:
        """Choose among all known plans, unless what there is is good enough."""
        if self.pool.hopeless and self.objective.forgone is None:
            return
        if self._good_enough(self.gap) or generation.progress.lower_bound is None:
            return
        left_s = min(_CHOICE_S, max(1.0, self.ends_at - time.monotonic()))
        self.report("choosing among all known plans")
        target = _RELAXED_SHARE * min(self.gap, _RELAXED_GAP)
        self._offer(choose_exactly(self.objective, self.pool.columns, self.best, left_s, target)[0])

    def _close(self, generation: Generation) -> None:
        """Look up every plan that could be part of a better choice, and choose among them: that is then the best.

        A better choice costs at most `spare` more than the bound. At the prices that prove it, so does, more than it
        costs at least, each of its plans: otherwise all of them together cost too much.
        """
        progress = generation.progress
        bound = progress.lower_bound  # what the prices prove; what is looked up may prove more
        if self.best is None or bound is None or self._good_enough(0.0) or self.gap >= _ANY_GAP:
            return
        if len(self.pool.columns) > _MOST_CLOSED or time.monotonic() >= self.ends_at:
            return
        self.report("looking up every plan that could be part of a better choice")
        for share in _SHARES:
            spare = math.ceil(share * (self.best.cost - 1 - bound))
            complete = self._look_up(progress, spare)
            left_s = min(_CHOICE_S, max(1.0, self.ends_at - time.monotonic()))
            chosen, least = choose_exactly(self.objective, self.pool.columns, self.best, left_s, 0.0)
            self._offer(chosen)
            if not complete:
                return
            # A choice either takes known plans only, or one that costs more than `spare` above its pipeline's least.
            known = math.ceil(least) if math.isfinite(least) else bound
            progress.lower_bound = max(bound, min(self.best.cost, known, bound + spare + 1))
            if self._good_enough(0.0) or time.monotonic() >= self.ends_at:
                return

    def _look_up(self, progress: Progress, spare: int) -> bool:
        """Take in all plans that cost at most `spare` more than their pipeline's least; False if these are too many."""
        most = {
            index: least + spare
            for index, least in enumerate(progress.least)
            if index not in self.pool.hopeless
        }
        prices = self.objective.device_prices(progress.duals)
        asked = iter(most.items())
        while part := dict(itertools.islice(asked, self.office.at_once)):
            answers = self.office.ask(prices, part, wants_all=True)
            self.pool.add(answers)
            if time.monotonic() >= self.ends_at or not all(a.complete for a in answers.values()):
                return False
        return True

    def _offer(self, chosen: Chosen | None) -> None:
        if chosen is not None and (self.best is None or chosen.cost < self.best.cost):
            self.best = chosen

    def _good_enough(self, gap: float) -> bool:
        if self.best is None or self.progress is None or self.progress.lower_bound is None:
            return False
        bound = self.objective.raised_to_step(self.progress.lower_bound)
        return self.best.cost - bound <= gap * self.best.cost

    def _settled(self, *, infeasible: bool) -> Settled:
        if self.progress is None:
            raise AssertionError("settled before it began")
        bound = self.progress.lower_bound
        if bound is not None and self.best is not None:
            bound = min(self.objective.raised_to_step(bound), self.best.cost)
        return Settled(
            None if infeasible else self.best,
            bound,
            dict(zip(self.objective.rows, self.progress.duals.tolist(), strict=True)),
            infeasible,
            self.progress.rounds,
        )

    def _line(self, progress: Progress) -> str:
        bound = "none yet" if progress.lower_bound is None else f"{progress.lower_bound / self.unit:,.4f}"
        best = "none yet" if self.best is None else f"{self.best.cost / self.unit:,.4f}"
        gap = ""
        if self.best is not None and progress.lower_bound is not None:
            gap = f", gap {100 * max(0.0, 1 - progress.lower_bound / max(self.best.cost, 1)):.2f} %"
        return f"{self.name}, round {progress.rounds}: bound {bound}, best {best}{gap}"


def settle_cost(
    fleet: Fleet,
    pool: Pool,
    office: Office,
    gap: float,
    ends_at: float,
    report: Callable[[str], None],
    keep: Callable[[Progress, Chosen | None], None],
    progress: Progress | None = None,
    best: Chosen | None = None,
) -> Settled:
    """Find the cheapest set of plans within the limits of a fleet."""
    return Settling(
        cost_objective(fleet), pool, office, gap, ends_at, report, "cost in $/h", 1e6, keep, progress, best
    ).run()
