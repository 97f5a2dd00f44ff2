"""What plans cost at least if every stage chooses from some of its options: by the master's linear relaxation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan.solvers import Relaxations
from mipplan_formulations import Formulation, TimeCostProblem


@dataclass(frozen=True)
class Prices:
    """Lower bounds on cost: ``bound`` plus the reduced costs of its options for every plan.

    Attributes
    ----------
    bound : float
        Infinite if there is no plan.
    reduced : float64 array, shape (options,)
        At least 0; of the options of all stages, one after the other.
    """

    bound: float
    reduced: NDArray[np.float64]


class Pricing:
    """Prices plans within any sets of options.

    Parameters
    ----------
    formulation : Formulation
    problem : TimeCostProblem
        Its modes are the options.
    """

    def __init__(self, formulation: Formulation, problem: TimeCostProblem) -> None:
        model = formulation.build(problem)
        self._relaxations = Relaxations(model)
        self._columns = model.num_columns
        # The binaries come first in every formulation, activity by activity.
        self._binaries = problem.num_binaries
        self._column_of = np.arange(self._binaries)

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """From now on only the options marked in `kept`, shape (options,), count and are numbered."""
        self._column_of = self._column_of[kept]

    def within(
        self, rows: NDArray[np.int64] | None = None, time_limit_s: float | None = None
    ) -> Prices | None:
        """Return prices of plans of the options in `rows`, ascending (None for all); None if that fails."""
        allowed = np.ones(self._columns, dtype=bool)
        if rows is not None:
            allowed[: self._binaries] = False
            allowed[self._column_of[rows]] = True
        relaxation = self._relaxations.within(allowed, time_limit_s)
        if relaxation is None:
            return None
        return Prices(relaxation.bound, np.maximum(relaxation.reduced_costs[self._column_of], 0.0))
