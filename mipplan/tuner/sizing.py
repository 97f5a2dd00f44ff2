"""Numbers of units for what is wanted: a relaxation that is kept, then whole units, then our own check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Int64
from mipplan.solvers import KeptRelaxation
from mipplan.tuner.cuts import CutPlaces
from mipplan.tuner.rounding import improve, round_shedding, round_times
from mipplan_formulations import ScalingEvaluation, ScalingProblem
from mipplan_formulations.scaling import WHOLE, ScalingTemplate, side_by_side

#: Rounds of rows put at the solution before what is left is accepted as gap.
_MOST_ROUNDS = 6
#: How often the relaxation is solved again with rows at the whole units found.
_MOST_PASSES = 3
#: Halves of a problem looked at where rounding finds no units that resources admit.
_MOST_HALVES = 50
#: Numbers of units looked at for an activity with a demand, at first.
_WINDOW = 48
#: Up to so many activities a gap is worth looking for something better by hand.
_FEW, _FEW_TIMED = 32, 8


@dataclass(frozen=True)
class Sized:
    """Whole units, and what is proven about them.

    Attributes
    ----------
    units : tuple of int
    shed : tuple of int
        Thousandths, per group.
    cost, bound : int
        Objective of these units, and proven least objective.
    reused : bool
        Whether every relaxation solved was the one kept.
    """

    units: tuple[int, ...]
    shed: tuple[int, ...]
    cost: int
    bound: int
    reused: bool


class Sizing:
    """Solves scaling problems that differ in numbers only."""

    def __init__(self) -> None:
        self.relaxation = KeptRelaxation()
        self._template: ScalingTemplate | None = None
        self._places: CutPlaces | None = None
        self._windows: Int64 | None = None

    def size(self, problem: ScalingProblem) -> Sized | None:
        """Solve a problem; None if no units are feasible, or none were found where resources leave hardly any."""
        builds = self.relaxation.builds
        if _is_short(problem):
            return None
        timed = list(side_by_side(problem.demands).activities)
        best: tuple[list[int], ScalingEvaluation] | None = None
        bound = 0
        for _ in range(_MOST_PASSES):
            solved = self._relax_within(problem, timed) if timed else self._relax(problem, timed)
            if solved is None:
                return None
            bound = max(bound, solved[1])
            found = self._whole(problem, solved[0], timed, bound)
            if found is None and best is None and len(timed) <= _FEW:
                found = self._branch(problem, solved[0], timed, bound)
            if found is None:
                break
            if best is None or found[1].cost < best[1].cost:
                best = found
            # Where a gap is left and no rows tell how it is around these units, the bound can still rise.
            found_units = np.array(best[0])[timed]
            if best[1].cost <= bound or not timed or not self._places_of(timed).move_to(found_units):
                break
            windows = self._windows_of(problem, timed)
            np.maximum(windows, 2 * found_units, out=windows)
        if best is None:
            return None
        units, evaluation = best
        reused = self.relaxation.builds == builds
        return Sized(tuple(units), evaluation.shed, evaluation.cost, bound, reused)

    def _whole(
        self, problem: ScalingProblem, values: NDArray[np.float64], timed: Sequence[int], bound: int
    ) -> tuple[list[int], ScalingEvaluation] | None:
        """Whole units near the relaxation's, and our own judgement of them; None if they are not feasible."""
        units = self._round(problem, values, timed)
        if units is None:
            return None
        evaluation = problem.evaluate(units)
        if not evaluation.feasible:
            return None
        if evaluation.cost > bound and len(units) <= (_FEW_TIMED if timed else _FEW):
            return improve(problem, units, evaluation)
        return units, evaluation

    def _branch(
        self, problem: ScalingProblem, values: NDArray[np.float64], timed: Sequence[int], bound: int
    ) -> tuple[list[int], ScalingEvaluation] | None:
        """Look for whole units by halves where rounding found none: fewer units of an activity first, then more.

        Deadlines can be kept in several ways, of which resources may admit one that is far from the relaxation's.
        """
        halves = _halves(problem, values, timed)
        for _ in range(_MOST_HALVES):
            if not halves:
                return None
            half = halves.pop()
            solved = None if _is_short(half) else self._relax_within(half, timed)
            if solved is None:
                continue
            found = self._whole(half, solved[0], timed, bound)
            if found is not None:
                units, _ = found
                evaluation = problem.evaluate(units)
                return (
                    improve(problem, units, evaluation) if len(units) <= _FEW_TIMED else (units, evaluation)
                )
            halves += _halves(half, solved[0], timed)
        return None

    def _relax_within(
        self, problem: ScalingProblem, timed: Sequence[int]
    ) -> tuple[NDArray[np.float64], int] | None:
        """Relax with few numbers of units at first: more are allowed where the solution would use the most.

        The rows hold for any number of units. So a solution below the most allowed is one without that bound.
        """
        windows = self._windows_of(problem, timed)
        allowed = problem.most[timed]
        needed = np.maximum(problem.least[timed], -(-problem.need[timed] // WHOLE))
        while True:
            most = problem.most.copy()
            most[timed] = np.minimum(allowed, np.maximum(windows, 2 * needed))
            solved = self._relax(problem.within(problem.least, most), timed)
            narrow = most[timed] < allowed
            if solved is not None:
                narrow &= solved[0][timed] > most[timed] - 1.5
            if not narrow.any():
                return solved
            windows[narrow] *= 4

    def _relax(self, problem: ScalingProblem, timed: Sequence[int]) -> tuple[NDArray[np.float64], int] | None:
        """Values of the columns and bound of the relaxation, with rows for demands added where the solution is."""
        values: NDArray[np.float64] | None = None
        bound = 0
        for _ in range(_MOST_ROUNDS if timed else 1):
            slopes = None
            if timed:
                demands = side_by_side(problem.demands)
                slopes = self._places_of(timed).slopes(demands, problem.least[timed], problem.most[timed])
            if self._template is None or not self._template.fits(problem):
                self._template = ScalingTemplate(problem, slopes)
            relaxed = self.relaxation.solve(self._template.write(problem, slopes))
            if relaxed is None:
                return None
            # Costs are whole numbers.
            values, bound = relaxed.values, max(bound, int(np.ceil(relaxed.bound - 1e-6)))
            if not timed or not self._places_of(timed).move_to(values[timed]):
                break
        assert values is not None
        return values, bound

    def _places_of(self, timed: Sequence[int]) -> CutPlaces:
        if self._places is None:
            self._places = CutPlaces(len(timed))
        return self._places

    def _windows_of(self, problem: ScalingProblem, timed: Sequence[int]) -> Int64:
        if self._windows is None:
            self._windows = np.maximum(_WINDOW, 4 * problem.present[timed])
        return self._windows

    def _round(
        self, problem: ScalingProblem, values: NDArray[np.float64], timed: Sequence[int]
    ) -> list[int] | None:
        relaxed = values[: len(problem.activities)]
        shed = [0.0] * len(problem.groups)
        for group, place in self._shed_columns(problem):
            shed[group] = float(values[place])
        if timed:
            whole = round_times(problem, relaxed)
            if whole is None:
                return None
            # Deadlines are kept with these; what is left to round sheds, or is needed as it is.
            is_timed = np.array(problem.is_timed)
            problem = problem.within(
                np.where(is_timed, whole, problem.least), np.where(is_timed, whole, problem.most)
            )
        return round_shedding(problem, relaxed, shed)

    def _shed_columns(self, problem: ScalingProblem) -> list[tuple[int, int]]:
        """(group, column) of what is shed: they follow the units."""
        first = len(problem.activities)
        shedding = [g for g, group in enumerate(problem.groups) if group.penalty is not None]
        return [(g, first + k) for k, g in enumerate(shedding)]


def _halves(
    problem: ScalingProblem, values: NDArray[np.float64], timed: Sequence[int]
) -> list[ScalingProblem]:
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
