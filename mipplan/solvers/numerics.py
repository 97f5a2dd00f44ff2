"""Scaling of integer models for solvers that compute in floating point.

Rows in nanoseconds have coefficients up to 10¹² while solvers compare with absolute tolerances near 10⁻⁹; an
objective in micro-dollars dwarfs their gap tolerances. Rows and objective are therefore multiplied by powers
of two, which rounds nothing. Continuous columns are measured in units of about their largest value; integer ones
keep their meaning.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mipplan.core import Float64, Int64, SolverError
from mipplan.solvers.exact import find_differences
from mipplan_formulations import LinearModel

# Scaled objective coefficients stay below 2**20: far from overflow, far above every solver's tolerances.
_OBJECTIVE_BITS = 20

# A column that is off by 1e-9, the tightest tolerance in use, at the largest scaled cost.
_BOUND_ERROR = 1e-9 * 2**_OBJECTIVE_BITS

# A unit in a row scaled to 1 is 2**-24 or more up to here, which is 60 times the tightest tolerance in use.
_RESOLVED_BITS = 24

# Beyond that a unit in a row, even if that is scaled up, is less than the tolerance: in nanoseconds, a minute.
_BLURRED_BITS = 36


@dataclass(frozen=True, eq=False)
class LpArrays:
    """The numbers of a linear program: minimise ``objective @ x`` over rows and columns between their sides."""

    objective: Float64
    starts: NDArray[np.integer]
    """Where each row begins in `columns` and `entries`, and where the last one ends."""
    columns: NDArray[np.integer]
    entries: Float64
    row_lower: Float64
    row_upper: Float64
    column_lower: Float64
    column_upper: Float64

    @classmethod
    def of(cls, model: LinearModel, columns: Float64, rows: Float64, cost: float) -> LpArrays:
        """Measure a model in units of its columns, shape (n,), of its rows, shape (k,), and of costs."""
        starts, places = model.matrix.indptr, model.matrix.indices
        return cls(
            model.objective * columns / cost,
            starts,
            places,
            model.matrix.data * columns[places] / np.repeat(rows, np.diff(starts)),
            model.row_lower / rows,
            model.row_upper / rows,
            model.column_lower / columns,
            model.column_upper / columns,
        )

    def price(self, duals: Float64) -> Float64:
        """Sum the rows, each times its dual: shape (n,)."""
        weights = np.repeat(duals, np.diff(self.starts)) * self.entries
        return np.bincount(self.columns, weights=weights, minlength=self.objective.size).astype(np.float64)


@dataclass(frozen=True, eq=False)
class ScaledModel(LpArrays):
    """A model as floating-point solvers want it.

    The largest coefficient of each row lies in [1/√2, √2], or up to 2**gain_bits times that. Sides of rows are infinite
    where no point within the column bounds could break them.
    """

    # Shape (n,). A column of the model is this one times 2**exponent; 0 for integer columns.
    column_exponents: Int64
    objective_unit: int  # What 1 in the scaled objective stands for.
    # Two different values of the scaled objective differ by at least this; a multiple of it is attained.
    objective_step: float

    def lift_values(self, values: Float64) -> Float64:
        """Turn values of the scaled columns into values of the model's, shape (n,)."""
        return np.ldexp(values, self.column_exponents)

    def lower_values(self, values: Float64) -> Float64:
        """Turn values of the model's columns into values of the scaled ones, shape (n,)."""
        return np.ldexp(values, -self.column_exponents)

    def lift_bound(self, scaled_bound: float) -> float:
        """Turn a bound on the scaled objective into one on the model's, raised to the next value it can take.

        The rounding error of the solver, taken as 10⁻⁹ of the bound, of the largest cost, and at least 10⁻⁶ steps, is
        given away first, so that a bound computed a little too high does not become one step too high.
        """
        if not math.isfinite(scaled_bound):
            return scaled_bound
        steps = scaled_bound / self.objective_step
        safe = steps - max(1e-6, 1e-9 * abs(steps), _BOUND_ERROR / self.objective_step)
        return float(math.ceil(safe) * round(self.objective_step * self.objective_unit))


def scale_model(model: LinearModel, *, gain_bits: int = 0, slack: float = 0.0) -> ScaledModel:
    """Scale each row and the objective by a power of two; the objective by its common divisor, too.

    Rows whose coefficients have more than 24 bits are scaled up to 2**gain_bits beyond 1: the solver's absolute
    tolerance then still tells apart what differs by one unit. Rows with event times are relaxed by `slack` once scaled,
    those of more than 36 bits by a tenth of it. It should exceed what the solver's tolerance and arithmetic can do to
    such a row, lest it miss a solution by a hair; what it finds is judged exactly.
    """
    starts, columns = model.matrix.indptr, model.matrix.indices
    # Exponents that bring continuous columns to values of at most 1.
    extent = np.maximum(1.0, np.maximum(np.abs(model.column_lower), np.abs(model.column_upper)))
    column_exponents = np.where(model.integrality, 0, np.ceil(np.log2(extent))).astype(np.int64)
    entries = np.ldexp(model.matrix.data.astype(np.float64), column_exponents[columns])
    # 2**exponent is nearest to 1 over the largest coefficient of the row, but for the gain.
    largest = largest_in_rows(starts, entries)
    bits = np.rint(np.log2(np.where(largest > 0, largest, 1.0)))
    exponents = np.asarray(np.clip(bits - _RESOLVED_BITS, 0, gain_bits) - bits, dtype=np.int64)
    entries = np.ldexp(entries, np.repeat(exponents, np.diff(starts)))
    lower, upper = _binding_sides(model)
    objective, unit, step = _scale_objective(model.objective)
    differences = find_differences(model) if slack else None
    is_timed = np.zeros(bits.size, dtype=np.bool_) if differences is None else differences.is_row_in
    # Presolving loses what keeps a blurred row by no unit; given more, these let in more that has to be cut off.
    given = np.where(is_timed, slack, np.where(bits > _BLURRED_BITS, slack / 10, 0.0))
    return ScaledModel(
        objective,
        starts,
        columns,
        entries,
        np.ldexp(lower, exponents) - given,
        np.ldexp(upper, exponents) + given,
        np.ldexp(model.column_lower, -column_exponents),
        np.ldexp(model.column_upper, -column_exponents),
        column_exponents,
        unit,
        step,
    )


def largest_in_rows(starts: NDArray[np.integer], entries: NDArray[Any]) -> Float64:
    """Largest absolute entry of each row, 0 for an empty row."""
    largest = np.zeros(starts.size - 1)
    filled = np.diff(starts) > 0
    if filled.any():
        # reduceat over the starts of filled rows only: an empty row would repeat its successor's first entry
        largest[filled] = np.maximum.reduceat(np.abs(entries), starts[:-1][filled])
    return largest


def _binding_sides(model: LinearModel) -> tuple[Float64, Float64]:
    """Drop the sides no point of the box can break: far larger than their row, they only harm precision."""
    positive = model.matrix.maximum(0).astype(np.float64)
    negative = model.matrix.minimum(0).astype(np.float64)
    most = positive @ model.column_upper + negative @ model.column_lower
    least = positive @ model.column_lower + negative @ model.column_upper
    margin = 1 + 1e-9 * np.maximum(np.abs(most), np.abs(least))
    lower = np.where(model.row_lower < least - margin, -np.inf, model.row_lower)
    upper = np.where(model.row_upper > most + margin, np.inf, model.row_upper)
    return lower, upper


def _scale_objective(objective: Int64) -> tuple[Float64, int, float]:
    divisor = int(np.gcd.reduce(objective))
    if divisor == 0:  # nothing to minimise
        return objective.astype(np.float64), 1, 1.0
    reduced = objective // divisor
    excess_bits = max(0, int(np.abs(reduced).max()).bit_length() - _OBJECTIVE_BITS)
    scaled = np.ldexp(reduced.astype(np.float64), -excess_bits)
    return scaled, divisor << excess_bits, math.ldexp(1.0, -excess_bits)


def require(status: Any, what: str) -> None:
    """Turn an error status of HiGHS into an exception; a mere warning passes."""
    import highspy

    if status == highspy.HighsStatus.kError:
        raise SolverError(f"highs refused {what}")


def values_of(highs: Any) -> Float64:
    """Columns of the solution at hand, shape (n,)."""
    return np.array(highs.getSolution().col_value, dtype=np.float64)
