"""The linear relaxation of a model: a bound that holds whatever the solver's rounding, and reduced costs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan.solvers import highs as backend
from mipplan.solvers.scaling import ScaledModel, largest_in_rows, scale_model
from mipplan_formulations import LinearModel

#: Rounding of the sums below, as a share of the sum of absolute values: n·ε for far more terms than there are.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Relaxation:
    """What the linear relaxation proves.

    Attributes
    ----------
    bound : float
        No solution of the model costs less.
    reduced_costs : float64 array, shape (n,)
        Of continuous columns: per unit of the scaled column.
        No solution with column j at 1 instead of its lower bound 0 costs less than ``bound + reduced_costs[j]``.
    """

    bound: float
    reduced_costs: NDArray[np.float64]


class Relaxations:
    """The linear relaxation of a model, again and again, with some columns fixed at 0; each starts from the last.

    Parameters
    ----------
    model : LinearModel
        All column bounds are 0 and 1 where columns are to be fixed.
    """

    def __init__(self, model: LinearModel) -> None:
        self._scaled = scale_model(model)
        self._solver = backend.RelaxationSolver(model, self._scaled)

    def within(self, allowed: NDArray[np.bool_], time_limit_s: float | None = None) -> Relaxation | None:
        """Solve with the columns not marked in `allowed`, shape (n,), at 0 and turn the duals into a proof.

        Any multipliers y give the Lagrangian bound ``Σ y·b + Σ min over the box of (c − Aᵀy)·x``, so a dual solution
        that is slightly off costs a little strength and no validity. None where solving fails or takes too long.
        """
        scaled = self._scaled
        column_upper = np.where(allowed, scaled.column_upper, 0.0)
        found = self._solver.duals(column_upper, time_limit_s)
        if found is None:
            return None
        duals, is_ray = found
        if not is_ray:
            bound, reduced = _lagrangian(scaled, duals, scaled.objective, column_upper)
            return Relaxation(bound * scaled.objective_unit, reduced * scaled.objective_unit)
        # Without the objective, a bound above 0 on what is 0 everywhere: there is no solution.
        nothing = np.zeros(allowed.size)
        proven = any(_lagrangian(scaled, ray, nothing, column_upper)[0] > 0 for ray in (duals, -duals))
        return Relaxation(math.inf, nothing) if proven else None


def relax(model: LinearModel, *, time_limit_s: float | None = None) -> Relaxation | None:
    """Solve the linear relaxation and turn its duals into a proof; None where that fails or takes too long."""
    if not backend.probe().available:
        return None
    return Relaxations(model).within(np.ones(model.num_columns, dtype=bool), time_limit_s)


def prove(scaled: ScaledModel, duals: NDArray[np.float64]) -> Relaxation:
    """Turn multipliers of the rows of a scaled model, shape (k,), into what they prove, whatever they came from."""
    bound, reduced = _lagrangian(scaled, duals, scaled.objective, scaled.column_upper)
    return Relaxation(bound * scaled.objective_unit, reduced * scaled.objective_unit)


def _lagrangian(
    scaled: ScaledModel,
    duals: NDArray[np.float64],
    objective: NDArray[np.float64],
    column_upper: NDArray[np.float64],
) -> tuple[float, NDArray[np.float64]]:
    """Bound by these multipliers, and the reduced costs, shape (n,)."""
    side = np.where(duals > 0, scaled.row_lower, scaled.row_upper)
    duals = np.where(np.isfinite(side), duals, 0.0)
    side = np.where(np.isfinite(side), side, 0.0)
    reduced = objective - scaled.matrix.T @ duals
    box = np.where(reduced > 0, scaled.column_lower, column_upper)
    terms = np.concatenate([duals * side, reduced * box])
    return float(terms.sum() - _ROUNDING * (1.0 + np.abs(terms).sum())), reduced


@dataclass(frozen=True, eq=False)
class Continuous:
    """A solved linear relaxation, as the solver tells it: good for prices and for rounding, no proof of anything.

    Attributes
    ----------
    objective : float
    values : float64 array, shape (n,)
        Of the model's columns.
    row_duals : float64 array, shape (k,)
        What one unit more on the binding side of each row would change the objective by.
    """

    objective: float
    values: NDArray[np.float64]
    row_duals: NDArray[np.float64]


def solve_relaxed(model: LinearModel, *, time_limit_s: float | None = None) -> Continuous | None:
    """Solve the linear relaxation of a model of integer columns; None where that fails or takes too long."""
    if not backend.probe().available:
        return None
    scaled = scale_model(model)
    solved = backend.solve_continuous(model, scaled, time_limit_s)
    if solved is None:
        return None
    values, duals = scaled.lift_values(solved[0]), solved[1]
    given, used = largest_in_rows(model.matrix), largest_in_rows(scaled.matrix)
    # a row was multiplied by a power of two, and so was its dual divided
    factors = np.divide(used, given, out=np.ones_like(used), where=given > 0)
    return Continuous(float(model.objective @ values), values, duals * factors * scaled.objective_unit)
