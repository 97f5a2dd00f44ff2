"""Linear relaxations by HiGHS, which keeps the model and its basis from one solve to the next.

`Relaxations` fixes columns of one model, `IncrementalLp` takes models that differ in their numbers only. What either
claims is proven by our own arithmetic: any multipliers y of the rows give the Lagrangian bound
``Σ y·b + Σ min over the box of (c − Aᵀy)·x``, so dual values that are slightly off cost a little strength and no
validity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Bool, Float64, Int32, SolverError
from mipplan.solvers.highs import Highs, make_highs, pass_arrays
from mipplan.solvers.numerics import LpArrays, ScaledModel, largest_in_rows, require, scale_model, values_of
from mipplan_formulations import LinearModel

# Rounding of the sums of a proof, as a share of the sum of absolute values: n·ε for far more terms than there are.
_ROUNDING = 1e-9

# Columns with bounds above 2**20, which are times, are measured in units of about a hundredth (2**-7) of them.
_LARGE = 2.0**20
_HUNDRED = 7


class HighsLp:
    """A linear program in HiGHS: each run starts from the last basis."""

    def __init__(self, arrays: LpArrays) -> None:
        self.arrays = arrays
        self._highs = make_highs()
        # Presolve would throw the basis away, and takes longer to look at all columns than simplex, with few rows,
        # to be done. The number of threads stays as it is: dual simplex uses one, and HiGHS refuses to run if it is
        # changed after any other run in the process.
        for option, value in (("presolve", "off"), ("parallel", "off"), ("solver", "simplex")):
            require(self._highs.setOptionValue(option, value), f"option {option}")
        pass_arrays(self._highs, arrays, np.zeros(arrays.objective.size, dtype=np.bool_))

    def run(self, time_limit_s: float | None = None) -> bool | None:
        """Solve, and tell whether there is an optimum (else the program is infeasible), or None if HiGHS cannot."""
        import highspy

        highs, ends = self._highs, highspy.HighsModelStatus
        limit_s = highs.inf if time_limit_s is None else highs.getRunTime() + float(time_limit_s)
        require(highs.setOptionValue("time_limit", limit_s), "option time_limit")
        highs.run()
        status = highs.getModelStatus()
        return status == ends.kOptimal if status in (ends.kOptimal, ends.kInfeasible) else None

    def status(self) -> str:
        """How the last run ended, in the words of HiGHS."""
        return str(self._highs.modelStatusToString(self._highs.getModelStatus()))

    def values(self) -> Float64:
        """Columns of the last optimum, shape (n,)."""
        return values_of(self._highs)

    def duals(self) -> Float64:
        """Row duals of the last optimum, shape (k,)."""
        return np.array(self._highs.getSolution().row_dual, dtype=np.float64)

    def ray(self) -> Float64 | None:
        """Multipliers, shape (k,), that may prove that the program is infeasible; None if HiGHS has none."""
        _, has_ray, ray = self._highs.getDualRay()
        return np.array(ray, dtype=np.float64) if has_ray else None

    def bound(self, columns: Int32, lower: Float64, upper: Float64) -> None:
        """Change the bounds of some columns."""
        require(self._highs.changeColsBounds(columns.size, columns, lower, upper), "column bounds")

    def change(self, new: LpArrays) -> None:
        """Hand over the numbers that differ; coefficients go one by one, there is no other way."""
        old, self.arrays, highs = self.arrays, new, self._highs
        changed = _where((old.column_lower != new.column_lower) | (old.column_upper != new.column_upper))
        if changed.size:
            self.bound(changed, new.column_lower[changed], new.column_upper[changed])
        changed = _where((old.row_lower != new.row_lower) | (old.row_upper != new.row_upper))
        if changed.size:
            lower, upper = new.row_lower[changed], new.row_upper[changed]
            require(highs.changeRowsBounds(changed.size, changed, lower, upper), "row sides")
        changed = _where(old.objective != new.objective)
        if changed.size:
            require(highs.changeColsCost(changed.size, changed, new.objective[changed]), "costs")
        changed = _where(old.entries != new.entries)
        rows = np.searchsorted(new.starts, changed, side="right") - 1
        cells = (each.tolist() for each in (rows, new.columns[changed], new.entries[changed]))
        for status in {highs.changeCoeff(*cell) for cell in zip(*cells, strict=True)}:
            require(status, "a coefficient")


def _where(condition: Bool) -> Int32:
    return np.flatnonzero(condition).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Relaxation:
    """What the linear relaxation proves."""

    bound: float
    """No solution of the model costs less."""
    reduced_costs: Float64
    """Shape (n,). Of continuous columns: per unit of the scaled column. No solution with column j at 1
    instead of its lower bound 0 costs less than ``bound + reduced_costs[j]``."""


class Relaxations:
    """The linear relaxation of a model, again and again, with some columns fixed at 0; each starts from the last.

    Parameters
    ----------
    model : LinearModel
        All column bounds are 0 and 1 where columns are to be fixed.
    """

    def __init__(self, model: LinearModel) -> None:
        self._scaled = scale_model(model)
        self._columns = np.arange(model.num_columns, dtype=np.int32)
        self._lp = HighsLp(self._scaled)

    def within(self, allowed: Bool, time_limit_s: float | None = None) -> Relaxation | None:
        """Solve with the columns not marked in `allowed`, shape (n,), at 0 and turn the duals into a proof.

        None where solving fails or takes too long.
        """
        scaled, lp = self._scaled, self._lp
        column_upper = np.where(allowed, scaled.column_upper, 0.0)
        lp.bound(self._columns, scaled.column_lower, column_upper)
        solved = lp.run(time_limit_s)
        if solved:
            return prove(scaled, lp.duals(), column_upper)
        ray = None if solved is None else lp.ray()
        if ray is None:
            return None
        # Without the objective, a bound above 0 on what is 0 everywhere: there is no solution.
        nothing = np.zeros(allowed.size)
        proven = any(_lagrangian(scaled, each, nothing, column_upper)[0] > 0 for each in (ray, -ray))
        return Relaxation(math.inf, nothing) if proven else None


def relax(model: LinearModel, *, time_limit_s: float | None = None) -> Relaxation | None:
    """Solve the linear relaxation and turn its duals into a proof; None where that fails or takes too long."""
    if not Highs().probe().available:
        return None
    return Relaxations(model).within(np.ones(model.num_columns, dtype=bool), time_limit_s)


def prove(scaled: ScaledModel, duals: Float64, column_upper: Float64) -> Relaxation:
    """Turn multipliers of the rows of a scaled model, shape (k,), into what they prove, whatever they came from."""
    bound, reduced = _lagrangian(scaled, duals, scaled.objective, column_upper)
    return Relaxation(bound * scaled.objective_unit, reduced * scaled.objective_unit)


def _lagrangian(
    arrays: LpArrays, duals: Float64, objective: Float64, column_upper: Float64
) -> tuple[float, Float64]:
    """Bound by these multipliers, and the reduced costs, shape (n,).

    What points to a side that its row does not have is set to 0: it is no more than the solver's tolerance.
    """
    side = np.where(duals > 0, arrays.row_lower, arrays.row_upper)
    is_there = np.isfinite(side)
    duals, side = np.where(is_there, duals, 0.0), np.where(is_there, side, 0.0)
    reduced = objective - arrays.price(duals)
    box = np.where(reduced > 0, arrays.column_lower, column_upper)
    terms = np.concatenate([duals * side, reduced * box])
    return float(terms.sum() - _ROUNDING * (1.0 + np.abs(terms).sum())), reduced


@dataclass(frozen=True, eq=False)
class Continuous:
    """A solved linear relaxation, as the solver tells it: good for prices and rounding; only the bound is proven."""

    objective: float
    bound: float
    """No solution of the model costs less, as the dual values prove by our own arithmetic."""
    values: Float64
    """Shape (n,). Of the model's columns."""
    row_duals: Float64
    """Shape (k,). What one unit more on the binding side of each row would change the objective by."""


def solve_relaxed(model: LinearModel, *, time_limit_s: float | None = None) -> Continuous | None:
    """Solve the linear relaxation of a model of integer columns; None where that fails or takes too long."""
    if not Highs().probe().available:
        return None
    scaled = scale_model(model)
    lp = HighsLp(scaled)
    if not lp.run(time_limit_s):
        return None
    values, scaled_duals = scaled.lift_values(lp.values()), lp.duals()
    bound = prove(scaled, scaled_duals, scaled.column_upper).bound
    given, used = (largest_in_rows(scaled.starts, each) for each in (model.matrix.data, scaled.entries))
    # a row was multiplied by a power of two, and so was its dual divided
    factors = np.divide(used, given, out=np.ones_like(used), where=given > 0)
    duals = scaled_duals * factors * scaled.objective_unit
    return Continuous(float(model.objective @ values), bound, values, duals)


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Solution of a linear relaxation."""

    values: Float64
    """Shape (n,). Of the columns; rows may be broken by the solver's tolerance."""
    bound: float
    """Proven from the dual values by our own arithmetic: no solution of the model costs less."""
    reused: bool
    """Whether the model kept was used, with its basis."""


class IncrementalLp:
    """The linear relaxation of models that differ in their numbers only, solved from the last basis.

    Only numbers that differ are handed over. A model of another shape is passed anew.

    Attributes
    ----------
    builds : int
        How often a model was passed as a whole.
    solves : int
    """

    def __init__(self) -> None:
        self.builds = 0
        self.solves = 0
        self._kept: tuple[HighsLp, _Units] | None = None

    def solve(self, model: LinearModel) -> Relaxed | None:
        """Solve the relaxation of a model; None if it is infeasible.

        Raises
        ------
        SolverError
            If HiGHS ends in any other way.
        """
        kept, self._kept = self._kept, None  # an error on the way must not leave a model that nobody knows
        reused = kept is not None and kept[1].fit(model)
        if kept and reused:
            lp, units = kept
            lp.change(units.scale(model))
        else:
            lp, units = self._pass_whole(model)
        self.solves += 1
        solved = lp.run()
        if solved is None and reused:
            reused = False  # a basis can be too far off to start from
            lp, units = self._pass_whole(model)
            solved = lp.run()
        self._kept = lp, units
        if solved is None:
            raise SolverError(f"highs: ended with {lp.status()!r}")
        if not solved:
            return None
        bound, _ = _lagrangian(lp.arrays, lp.duals(), lp.arrays.objective, lp.arrays.column_upper)
        return Relaxed(lp.values() * units.columns, bound * units.cost, reused)

    def _pass_whole(self, model: LinearModel) -> tuple[HighsLp, _Units]:
        self.builds += 1
        units = _Units.of(model)
        return HighsLp(units.scale(model)), units


@dataclass(frozen=True, eq=False)
class _Units:
    """The shape of a model, and what its columns, rows and costs are measured in.

    Columns and rows are in powers of two, so that scaling rounds nothing. Units stay when numbers change.
    """

    starts: NDArray[Any]
    indices: NDArray[Any]
    columns: Float64
    rows: Float64
    cost: float

    @classmethod
    def of(cls, model: LinearModel) -> _Units:
        """Choose units for a model: entries of rows are at most about 1."""
        starts, indices = model.matrix.indptr.copy(), model.matrix.indices.copy()
        extent = np.maximum(np.abs(model.column_lower), np.abs(model.column_upper))
        units = np.exp2(np.ceil(np.log2(np.maximum(extent, 1.0))) - _HUNDRED)
        columns = np.where(extent > _LARGE, units, 1.0)
        largest = largest_in_rows(starts, model.matrix.data * columns[indices])
        rows = np.asarray(np.exp2(np.round(np.log2(np.maximum(largest, 1.0)))), dtype=np.float64)
        cost = float(max(1, np.abs(model.objective).max(initial=1)))
        return cls(starts, indices, columns, rows, cost)

    def fit(self, model: LinearModel) -> bool:
        """Whether a model has this shape."""
        pairs = (model.matrix.indptr, self.starts), (model.matrix.indices, self.indices)
        return model.num_columns == self.columns.size and all(np.array_equal(*pair) for pair in pairs)

    def scale(self, model: LinearModel) -> LpArrays:
        """Measure a model of this shape in these units."""
        return LpArrays.of(model, self.columns, self.rows, self.cost)
