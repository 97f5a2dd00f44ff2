"""What a relaxation, whoever solved it, says about the cost of selections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations.arrays import IntArray


@dataclass(frozen=True, eq=False)
class Guide:
    """A bound, and by how much each mode lifts it.

    Attributes
    ----------
    bound : float
    excess : tuple of float64 arrays
        Per activity and mode, not negative. A feasible selection costs at least ``bound`` plus the sum of the excesses
        of its modes: reduced costs are such, whatever dual solution they come from.
    """

    bound: float
    excess: tuple[NDArray[np.float64], ...]

    @staticmethod
    def from_reduced_costs(bound: float, reduced_costs: Sequence[NDArray[np.float64]]) -> Guide:
        """Make a guide of a Lagrangian bound in which every binary stands at its cheaper end, and its reduced costs.

        Exactly one mode per activity is chosen, so of the terms ``min(0, reduced cost)`` in such a bound, all but one
        were too pessimistic. Modes that cannot be chosen, as their binary is fixed at 0, have infinite reduced cost.
        """
        excess = []
        for own in reduced_costs:
            if np.isposinf(own).all():
                return Guide(float("inf"), tuple(np.zeros(modes.size) for modes in reduced_costs))
            bound += float(own.min() - np.minimum(own, 0.0).sum())
            excess.append(own - own.min())
        return Guide(bound, tuple(excess))

    def lower(self, kept: Sequence[IntArray]) -> Guide:
        """The same for the modes kept only, numbers per activity."""
        return Guide(self.bound, tuple(own[numbers] for own, numbers in zip(self.excess, kept, strict=True)))
