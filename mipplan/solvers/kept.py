"""A linear relaxation that is solved again and again while only its numbers change: kept model, kept basis.

HiGHS through highspy: changed bounds and sides go over as arrays, changed coefficients one by one, and the next run
starts from the last basis. A model of another shape is passed anew.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Float64, SolverError
from mipplan.solvers import highs as backend
from mipplan.solvers.highs import require
from mipplan_formulations import LinearModel

#: Columns with larger bounds than this, which are times, are measured in units of about a hundredth of them.
_LARGE = 2.0**20
_HUNDRED = 7
#: Rounding of the sums of `_proven_bound`, as a share of the sum of absolute values: n·ε for far more terms than that.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Solution of a linear relaxation.

    Attributes
    ----------
    values : float64 array, shape (n,)
        Of the columns; rows may be broken by the solver's tolerance.
    bound : float
        Proven from the dual values by our own arithmetic: no solution of the model costs less.
    reused : bool
        Whether the model kept was used, with its basis.
    """

    values: Float64
    bound: float
    reused: bool


class KeptRelaxation:
    """The linear relaxation of models that differ in their numbers only.

    Attributes
    ----------
    builds : int
        How often a model was passed as a whole.
    solves : int
    """

    def __init__(self) -> None:
        self.builds = 0
        self.solves = 0
        self._highs: Any = None
        self._passed: _Numbers | None = None
        self._pattern: tuple[NDArray[Any], NDArray[Any]] | None = None

    def solve(self, model: LinearModel) -> Relaxed | None:
        """Solve the relaxation of a model; None if it is infeasible.

        Raises
        ------
        SolverError
            If HiGHS ends in any other way.
        """
        reused = self._fits(model)
        if reused:
            self._pass_changes(model)
        else:
            self._pass_whole(model)
        self.solves += 1
        if not self._run() and reused:
            reused = False  # a basis can be too far off to start from
            self._pass_whole(model)
            self._run()
        return self._read(model, reused)

    def _fits(self, model: LinearModel) -> bool:
        if self._pattern is None:
            return False
        starts, columns = self._pattern
        return np.array_equal(model.matrix.indptr, starts) and np.array_equal(model.matrix.indices, columns)

    def _pass_whole(self, model: LinearModel) -> None:
        import highspy

        self.builds += 1
        self._passed = None
        highs = backend.make_quiet_highs()
        # Presolve would throw the basis away. The number of threads stays as it is: dual simplex uses one, and HiGHS
        # refuses to run if it is changed after any other run in the process.
        for option, value in (("presolve", "off"), ("parallel", "off"), ("solver", "simplex")):
            require(highs.setOptionValue(option, value), f"option {option}")
        self._units = _column_units(model)
        self._row_of_entry = np.repeat(
            np.arange(model.num_rows, dtype=np.int32), np.diff(model.matrix.indptr)
        )
        self._row_units = _row_units(model, self._units, self._row_of_entry)
        self._cost_unit = float(max(1, np.abs(model.objective).max(initial=1)))
        numbers = self._scale(model)
        status = highs.passModel(
            model.num_columns,
            model.num_rows,
            model.matrix.nnz,
            int(highspy.MatrixFormat.kRowwise),
            int(highspy.ObjSense.kMinimize),
            0.0,
            numbers.cost,
            numbers.column_lower,
            numbers.column_upper,
            numbers.row_lower,
            numbers.row_upper,
            model.matrix.indptr.astype(np.int32),
            model.matrix.indices.astype(np.int32),
            numbers.entries,
            np.zeros(model.num_columns, dtype=np.int32),
        )
        require(status, "the model")
        self._highs, self._passed = highs, numbers
        self._pattern = (model.matrix.indptr.copy(), model.matrix.indices.copy())

    def _pass_changes(self, model: LinearModel) -> None:
        old, new, highs = self._passed, self._scale(model), self._highs
        assert old is not None
        self._passed = None  # an error on the way must not leave a model that nobody knows
        self._pattern, pattern = None, self._pattern
        changed = _where(old.column_lower != new.column_lower, old.column_upper != new.column_upper)
        if changed.size:
            status = highs.changeColsBounds(
                changed.size, changed, new.column_lower[changed], new.column_upper[changed]
            )
            require(status, "column bounds")
        changed = _where(old.row_lower != new.row_lower, old.row_upper != new.row_upper)
        if changed.size:
            status = highs.changeRowsBounds(
                changed.size, changed, new.row_lower[changed], new.row_upper[changed]
            )
            require(status, "row sides")
        changed = _where(old.cost != new.cost)
        if changed.size:
            require(highs.changeColsCost(changed.size, changed, new.cost[changed]), "costs")
        places = np.flatnonzero(old.entries != new.entries)
        rows, columns = self._row_of_entry[places].tolist(), model.matrix.indices[places].tolist()
        change = highs.changeCoeff
        statuses = {
            change(row, column, entry)
            for row, column, entry in zip(rows, columns, new.entries[places].tolist(), strict=True)
        }
        for status in statuses:
            require(status, "a coefficient")
        self._passed, self._pattern = new, pattern

    def _scale(self, model: LinearModel) -> _Numbers:
        units, row_units = self._units, self._row_units
        entries = model.matrix.data * units[model.matrix.indices] / row_units[self._row_of_entry]
        return _Numbers(
            model.objective * units / self._cost_unit,
            model.column_lower / units,
            model.column_upper / units,
            model.row_lower / row_units,
            model.row_upper / row_units,
            entries,
        )

    def _run(self) -> bool:
        """Run HiGHS; False if it ended in a way that tells nothing."""
        import highspy

        self._highs.run()
        ends = highspy.HighsModelStatus
        return self._highs.getModelStatus() in (ends.kOptimal, ends.kInfeasible)

    def _read(self, model: LinearModel, reused: bool) -> Relaxed | None:
        import highspy

        highs, numbers = self._highs, self._passed
        assert numbers is not None
        status = highs.getModelStatus()
        if status == highspy.HighsModelStatus.kInfeasible:
            return None
        if status != highspy.HighsModelStatus.kOptimal:
            raise SolverError(f"highs: ended with {highs.modelStatusToString(status)!r}")
        solution = highs.getSolution()
        values = np.array(solution.col_value, dtype=np.float64)
        duals = _usable_duals(numbers, np.array(solution.row_dual, dtype=np.float64))
        reduced = numbers.cost - np.bincount(
            model.matrix.indices,
            weights=duals[self._row_of_entry] * numbers.entries,
            minlength=model.num_columns,
        )
        bound = _proven_bound(numbers, duals, reduced)
        return Relaxed(values * self._units, bound * self._cost_unit, reused)


@dataclass(frozen=True, eq=False)
class _Numbers:
    """A model's numbers, as they are passed."""

    cost: Float64
    column_lower: Float64
    column_upper: Float64
    row_lower: Float64
    row_upper: Float64
    entries: Float64


def _column_units(model: LinearModel) -> Float64:
    """Powers of two, so that scaling rounds nothing."""
    largest = np.maximum(np.abs(model.column_lower), np.abs(model.column_upper))
    units = np.exp2(np.ceil(np.log2(np.maximum(largest, 1.0))) - _HUNDRED)
    return np.where(largest > _LARGE, units, 1.0)


def _row_units(model: LinearModel, units: Float64, row_of_entry: NDArray[np.int32]) -> Float64:
    largest = np.ones(model.num_rows)
    sizes = np.abs(model.matrix.data) * units[model.matrix.indices]
    np.maximum.at(largest, row_of_entry, sizes)
    return np.asarray(np.exp2(np.round(np.log2(largest))), dtype=np.float64)


def _where(*conditions: NDArray[np.bool_]) -> NDArray[np.int32]:
    return np.flatnonzero(np.logical_or.reduce(conditions)).astype(np.int32)


def _usable_duals(numbers: _Numbers, duals: Float64) -> Float64:
    """Set to 0 what points to a side that its row does not have: no more than the solver's tolerance."""
    return np.where(np.isfinite(np.where(duals > 0, numbers.row_lower, numbers.row_upper)), duals, 0.0)


def _proven_bound(numbers: _Numbers, duals: Float64, reduced: Float64) -> float:
    """Lagrangian bound of any multipliers: a dual solution slightly off costs strength, not validity."""
    side = np.where(duals > 0, numbers.row_lower, np.where(duals < 0, numbers.row_upper, 0.0))
    box = np.where(reduced > 0, numbers.column_lower, numbers.column_upper)
    terms = np.concatenate([duals * side, reduced * box])
    return float(terms.sum() - _ROUNDING * (1.0 + np.abs(terms).sum()))
