"""Solves scaling problems that differ in numbers only: a relaxation that is kept, whole units, and an own check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mipplan.core import Float64, Int64
from mipplan.solvers import IncrementalLp
from mipplan.tuner.rounding import improve, round_shedding, round_times
from mipplan_formulations import ScalingEvaluation, ScalingProblem
from mipplan_formulations.scaling import OWN, WHOLE, Demands, ScalingTemplate, side_by_side


@dataclass(frozen=True)
class ScalingParams:
    """How much is tried before what is left is accepted as gap."""

    rows: int = 9
    """Rows per activity for its wait, and for its own time."""
    most_rounds: int = 6
    """At most 6 rounds of rows are put at the relaxation's solution in one pass."""
    most_passes: int = 3
    """At most 3 times the relaxation is solved with rows at the whole units found."""
    most_halves: int = 50
    """At most 50 halves of a problem are looked at where rounding finds no units that resources admit."""
    first_window: int = 48
    """At first no more units than this are allowed for an activity with a demand."""
    few: int = 32
    """With up to 32 activities a gap is worth looking for something better by hand."""
    few_timed: int = 8
    """Where some activities have demands, that is so with up to 8 of them."""


_PARAMS = ScalingParams()


@dataclass(frozen=True)
class ScalingSolution:
    """Whole units, thousandths that each group sheds, the objective of these, and its proven least value."""

    units: tuple[int, ...]
    shed: tuple[int, ...]
    cost: int
    bound: int


#: Whole units, and our own judgement of them.
_Judged = tuple[list[int], ScalingEvaluation]


class ScalingSolver:
    """Solves problems with the same activities, groups, resources and arcs; the model is kept with its basis."""

    def __init__(self, params: ScalingParams = _PARAMS) -> None:
        self.relaxation = IncrementalLp()
        self._params = params
        self._template: ScalingTemplate | None = None
        self._places = CutPlaces(0, params.rows)
        # The activities with a demand, and how many units of each are allowed for now.
        self._timed: Sequence[int] = ()
        self._windows = np.zeros(0, dtype=np.int64)

    def solve(self, problem: ScalingProblem) -> ScalingSolution | None:
        """Solve a problem; None if no units are feasible, or none were found where resources leave hardly any."""
        if _is_short(problem):
            return None
        self._timed = timed = list(side_by_side(problem.demands).activities)
        if self._windows.size != len(timed):
            self._places = CutPlaces(len(timed), self._params.rows)
            self._windows = np.maximum(self._params.first_window, 4 * problem.present[timed])
        best: _Judged | None = None
        bound = 0
        for _ in range(self._params.most_passes):
            solved = self._relax_within(problem) if timed else self._relax(problem)
            if solved is None:
                return None
            bound = max(bound, solved[1])
            found = self._judge(problem, _round(problem, solved[0]), bound)
            if found is None and best is None and len(timed) <= self._params.few:
                found = self._branch(problem, solved[0], bound)
            if found is None:
                break
            if best is None or found[1].cost < best[1].cost:
                best = found
            # Where a gap is left and no rows tell how it is around these units, the bound can still rise.
            found_units = np.array(best[0])[timed]
            if best[1].cost <= bound or not timed or not self._places.move_to(found_units):
                break
            np.maximum(self._windows, 2 * found_units, out=self._windows)
        if best is None:
            return None
        units, evaluation = best
        return ScalingSolution(tuple(units), evaluation.shed, evaluation.cost, bound)

    def _judge(self, problem: ScalingProblem, units: list[int] | None, bound: int) -> _Judged | None:
        """Evaluate whole units, and improve them by hand where a gap is worth it; None if they are not feasible."""
        if units is None or not (evaluation := problem.evaluate(units)).feasible:
            return None
        few = self._params.few_timed if self._timed else self._params.few
        is_worth_it = evaluation.cost > bound and len(units) <= few
        return improve(problem, units, evaluation) if is_worth_it else (units, evaluation)

    def _branch(self, problem: ScalingProblem, values: Float64, bound: int) -> _Judged | None:
        """Look for whole units by halves where rounding found none: fewer units of an activity first, then more.

        Deadlines can be kept in several ways, of which resources may admit one that is far from the relaxation's.
        """
        halves = _halves(problem, values, self._timed)
        for _ in range(self._params.most_halves):
            if not halves:
                return None
            half = halves.pop()
            solved = None if _is_short(half) else self._relax_within(half)
            found = solved and self._judge(half, _round(half, solved[0]), bound)
            if found:
                return self._judge(problem, found[0], bound)
            halves += _halves(half, solved[0], self._timed) if solved else []
        return None

    def _relax_within(self, problem: ScalingProblem) -> tuple[Float64, int] | None:
        """Relax with few numbers of units at first: more are allowed where the solution would use the most.

        The rows hold for any number of units. So a solution below the most allowed is one without that bound.
        """
        timed, windows = self._timed, self._windows
        allowed = problem.most[timed]
        needed = np.maximum(problem.least[timed], -(-problem.need[timed] // WHOLE))
        while True:
            most = problem.most.copy()
            most[timed] = np.minimum(allowed, np.maximum(windows, 2 * needed))
            solved = self._relax(problem.within(problem.least, most))
            narrow = most[timed] < allowed
            if solved is not None:
                narrow &= solved[0][timed] > most[timed] - 1.5
            if not narrow.any():
                return solved
            windows[narrow] *= 4

    def _relax(self, problem: ScalingProblem) -> tuple[Float64, int] | None:
        """Values of the columns and bound of the relaxation, with rows for demands added where the solution is."""
        timed, bound, slopes = self._timed, 0, None
        for _ in range(self._params.most_rounds):
            if timed:
                demands = side_by_side(problem.demands)
                slopes = self._places.slopes(demands, problem.least[timed], problem.most[timed])
            if self._template is None or not self._template.fits(problem):
                self._template = ScalingTemplate(problem, slopes)
            relaxed = self.relaxation.solve(self._template.write(problem, slopes))
            if relaxed is None:
                return None
            # Costs are whole numbers.
            values, bound = relaxed.values, max(bound, int(np.ceil(relaxed.bound - 1e-6)))
            if not timed or not self._places.move_to(values[timed]):
                break
        return values, bound


class CutPlaces:
    """Numbers of units n at which the chord from n to n + 1 becomes a row, for every activity with a demand.

    They are few, near the solution, and kept from one solve to the next: `units` has the shape (t, rows).
    """

    def __init__(self, count: int, rows: int = _PARAMS.rows) -> None:
        # Between neighbours a·2^(1/2) apart a function c/n is cut off by at most 3 %; the solution adds its own.
        units = np.unique(np.rint(2.0 ** (np.arange(rows) / 2)).astype(np.int64))
        units = np.concatenate([units, units[-1] * 2 ** np.arange(1, rows - units.size + 1)])
        self.units: Int64 = np.tile(units, (count, 1))

    def slopes(self, demands: Demands, least: Int64, most: Int64) -> Int64:
        """Positive slopes of the rows (5) and (6) for `least` to `most` units, shape (2, t, rows).

        Where a time no longer falls by 1, or beyond what is allowed, the smallest slope of the activity's others
        stands in: the row then holds for any number of units. Without an own time there are no rows (6): 0.
        """
        last = np.maximum(least, most - 1)[:, None]
        places = np.clip(self.units, least[:, None], last)
        # Where one number of units is allowed, there is no next: no fall.
        beside = np.minimum(places + 1, most[:, None])
        times = demands.times(np.concatenate([places, beside], axis=1))
        rows = self.units.shape[1]
        falls = times[:, :, :rows] - times[:, :, rows:]
        none = np.iinfo(np.int64).max
        smallest = np.where(falls > 0, falls, none).min(axis=2, keepdims=True)
        slopes = np.where(falls > 0, falls, np.where(smallest < none, smallest, 1))
        slopes[OWN, demands.own_load == 0] = 0
        return np.asarray(slopes, dtype=np.int64)

    def move_to(self, units: ArrayLike) -> bool:
        """Put rows at a solution, shape (t,), and those beside it; False if all are there."""
        here = np.maximum(1, (np.asarray(units) + 1e-6).astype(np.int64))
        absent = np.flatnonzero(~(self.units == here[:, None]).any(axis=1))
        for i in absent.tolist():
            placed, there, middle = self.units[i], self.units[i].tolist(), int(here[i])
            for n in (n for n in (middle, middle - 1, middle + 1) if n >= 1 and n not in there):
                distance = np.abs(np.log(placed / middle))
                # The ends stay: they bound what is far away.
                distance[[int(np.argmin(placed)), int(np.argmax(placed))]] = -1.0
                placed[int(np.argmax(distance))] = n
        return bool(absent.size)


def _round(problem: ScalingProblem, values: Float64) -> list[int] | None:
    """Whole units near the relaxation's; None if none are found."""
    count = len(problem.activities)
    relaxed = values[:count]
    # What is shed follows the units, in the order of the groups that may shed.
    shedding = [g for g, group in enumerate(problem.groups) if group.penalty is not None]
    shed = np.zeros(len(problem.groups))
    shed[shedding] = values[count : count + len(shedding)]
    is_timed = np.array(problem.is_timed)
    if is_timed.any():
        whole = round_times(problem, relaxed)
        if whole is None:
            return None
        # Deadlines are kept with these; what is left to round sheds, or is needed as it is.
        problem = problem.within(
            np.where(is_timed, whole, problem.least), np.where(is_timed, whole, problem.most)
        )
    return round_shedding(problem, relaxed, shed)


def _halves(problem: ScalingProblem, values: Float64, timed: Sequence[int]) -> list[ScalingProblem]:
    """The problem with more, and with fewer units of the activity furthest from whole ones; none if all are fixed."""
    free = [v for v in timed if problem.least[v] < problem.most[v]]
    if not free:
        return []
    whole = {v: int(np.clip(np.floor(values[v] + 1e-6), problem.least[v], problem.most[v] - 1)) for v in free}
    v = max(
        free, key=lambda v: (min(values[v] - whole[v], whole[v] + 1 - values[v]), problem.most[v] - whole[v])
    )
    more, fewer = problem.least.copy(), problem.most.copy()
    more[v], fewer[v] = whole[v] + 1, whole[v]
    return [problem.within(more, problem.most), problem.within(problem.least, fewer)]


def _is_short(problem: ScalingProblem) -> bool:
    """Whether more is needed of something than is allowed, and nothing may be shed."""
    strict = np.array([problem.groups[a.group].penalty is None for a in problem.activities])
    return bool(np.any(strict & (problem.need > WHOLE * problem.most)))
