"""A scaling model built once, and its numbers written anew for problems that differ in numbers only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations.arrays import BoolArray, IntArray
from mipplan_formulations.demands import KINDS, side_by_side
from mipplan_formulations.linear import LinearModel
from mipplan_formulations.scaling import build
from mipplan_formulations.scaling_problem import WHOLE, ScalingProblem


class ScalingTemplate:
    """Writes models for problems with the activities, groups, resources and arcs of a first one.

    What may differ: needs, least, most and present units, capacities, penalties, demands, and slopes if the same
    ones are 0. `write` returns what `build` would, without building rows one by one: seven times as fast with 200
    activities.

    Parameters
    ----------
    problem : ScalingProblem
    slopes : int64 array, shape (2, t, r), optional
        As for `build`; needed if activities have demands.

    Raises
    ------
    ValueError
        If slopes are missing, or more is needed of something than is allowed and nothing may be shed.
    """

    def __init__(self, problem: ScalingProblem, slopes: IntArray | None = None) -> None:
        if slopes is None and any(problem.is_timed):
            raise ValueError("a template of activities with demands needs slopes")
        self._problem = problem
        self._model = model = build(problem, slopes)
        columns = {name: place for place, name in enumerate(model.column_names)}
        rows = {name: place for place, name in enumerate(model.row_names)}
        starts = model.matrix.indptr
        shedding = [problem.groups[a.group].penalty is not None for a in problem.activities]
        self._sheds = np.flatnonzero(shedding)
        self._bound = np.flatnonzero(np.logical_not(shedding))
        if self._is_short(problem):
            raise ValueError("a template needs a problem in which no more is needed than is allowed")
        self._need_rows = np.array([rows[f"need_{v}"] for v in self._sheds], dtype=np.int64)
        self._round_rows = np.array([rows[f"round_{v}"] for v in self._sheds], dtype=np.int64)
        # In each of these rows the units come first: columns are sorted, and theirs are the first of all.
        self._need_at, self._round_at = starts[self._need_rows], starts[self._round_rows]
        self._resource_rows = np.array(
            [rows[f"resource_{r}"] for r in range(len(problem.resources))], dtype=np.int64
        )
        changing = [v for v in range(len(problem.activities)) if f"up_{v}" in columns]
        self._changing = np.array(changing, dtype=np.int64)
        self._change_rows = np.array([rows[f"change_{v}"] for v in changing], dtype=np.int64)
        self._up = np.array([columns[f"up_{v}"] for v in changing], dtype=np.int64)
        self._down = np.array([columns[f"down_{v}"] for v in changing], dtype=np.int64)
        self._penal = [
            (g, columns[f"shed_{g}"]) for g, x in enumerate(problem.groups) if x.penalty is not None
        ]
        self._timed = np.flatnonzero(problem.is_timed)
        self._sloped = _with_rows(slopes)
        names = [f"{KINDS[kind]}_{self._timed[i]}_{k}" for kind, i, k in np.argwhere(self._sloped)]
        self._time_rows = np.array([rows[name] for name in names], dtype=np.int64)
        self._time_at = starts[self._time_rows]

    def fits(self, problem: ScalingProblem) -> bool:
        """Whether `write` accepts a problem: the same parts, but for numbers that may differ."""
        mine = self._problem
        return (
            problem.activities is mine.activities
            and problem.arcs is mine.arcs
            and len(problem.resources) == len(mine.resources)
            and [g.penalty is None for g in problem.groups] == [g.penalty is None for g in mine.groups]
            and problem.is_timed == mine.is_timed
            and not self._is_short(problem)
        )

    def write(self, problem: ScalingProblem, slopes: IntArray | None = None) -> LinearModel:
        """Return the model of a problem that fits.

        Raises
        ------
        ValueError
            If it does not fit.
        """
        if not self.fits(problem):
            raise ValueError("the problem differs from that of the template in more than its numbers")
        if not np.array_equal(_with_rows(slopes), self._sloped):
            raise ValueError("the slopes differ from those of the template in which of them are 0")
        model = self._model
        entries = model.matrix.data.copy()
        objective = model.objective.copy()
        lower, upper = model.row_lower.copy(), model.row_upper.copy()
        columns = model.column_lower.copy(), model.column_upper.copy()
        self._write_units(problem, *columns)
        self._write_needs(problem, entries, lower)
        if self._resource_rows.size:
            upper[self._resource_rows] = [resource.capacity for resource in problem.resources]
        lower[self._change_rows] = upper[self._change_rows] = problem.present[self._changing]
        for g, place in self._penal:
            objective[place] = problem.groups[g].penalty or 0
        if slopes is not None:
            self._write_times(problem, slopes, entries, lower)
        return model.renumbered(
            objective=objective,
            entries=entries,
            row_lower=lower,
            row_upper=upper,
            column_lower=columns[0],
            column_upper=columns[1],
        )

    def _is_short(self, problem: ScalingProblem) -> bool:
        """Whether a need that may not be shed exceeds what is allowed: then the model has a row more."""
        return bool(np.any(-(-problem.need[self._bound] // WHOLE) > problem.most[self._bound]))

    def _write_units(
        self, problem: ScalingProblem, lower: NDArray[np.float64], upper: NDArray[np.float64]
    ) -> None:
        count = problem.need.size
        lower[:count], upper[:count] = problem.least, problem.most
        lower[self._bound] = np.maximum(problem.least[self._bound], -(-problem.need[self._bound] // WHOLE))
        now = problem.present[self._changing]
        upper[self._up] = np.maximum(0, problem.most[self._changing] - now)
        upper[self._down] = np.maximum(0, now - problem.least[self._changing])

    def _write_needs(self, problem: ScalingProblem, entries: IntArray, lower: NDArray[np.float64]) -> None:
        need = np.maximum(1, problem.need[self._sheds])
        fraction = (need - 1) % WHOLE + 1
        entries[self._need_at + 1] = entries[self._round_at + 1] = need
        entries[self._round_at] = WHOLE * fraction
        lower[self._need_rows] = need * WHOLE
        lower[self._round_rows] = WHOLE * fraction * -(-need // WHOLE)

    def _write_times(
        self, problem: ScalingProblem, slopes: IntArray, entries: IntArray, lower: NDArray[np.float64]
    ) -> None:
        sides = side_by_side(problem.demands).supports(
            slopes, problem.least[self._timed], problem.most[self._timed]
        )
        entries[self._time_at] = slopes[self._sloped]
        lower[self._time_rows] = sides[self._sloped]


def _with_rows(slopes: IntArray | None) -> BoolArray:
    """Which slopes have a row."""
    return np.zeros((2, 0, 0), dtype=np.bool_) if slopes is None else slopes != 0
