"""A bound on a pipeline's cost under given prices, by Lagrangean relaxation of its deadline rows.

With a multiplier per row (4) of formulation `paths`, every stage chooses for itself: the option with the least sum of
cost and multiplied latency. Any multipliers at all give a bound, so those of the last prices are where the next
ascent starts; and what an option adds to the bound if it is chosen decides whether it can be part of a plan below
a given cost.

References
----------
M. L. Fisher, "The Lagrangian relaxation method for solving integer programming problems", Management Science 27
(1981), doi:10.1287/mnsc.27.1.1. Steps: B. T. Polyak, "Minimization of unsmooth functionals", USSR Comput. Math.
Math. Phys. 9 (1969), doi:10.1016/0041-5553(69)90061-5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mipplan.core import Float64, Int64

#: Rounding of the sums below, as a share of their terms' absolute values.
_ROUNDING = 1e-10
#: An ascent that has not gained this share for as many steps in a row has arrived.
_GAIN, _PATIENCE = 2e-4, 12


@dataclass(frozen=True, eq=False)
class Relaxed:
    """What multipliers prove.

    Attributes
    ----------
    bound : float
        No choice that keeps the deadline rows costs less.
    added : float64, shape (N,)
        No such choice with this option costs less than ``bound + added``.
    multipliers : float64, shape (R,)
    """

    bound: float
    added: Float64
    multipliers: Float64


@dataclass(frozen=True, eq=False)
class DeadlineRows:
    """All options of all stages side by side, and what they take of every deadline row.

    Attributes
    ----------
    cost : int64, shape (N,)
    taken : float64, shape (N, R)
        Duration, and wait where the row is about this stage, as a share of the deadline.
    room : float64, shape (R,)
        The deadline less the path's lag, as a share of the deadline.
    starts : int64, shape (stages,)
        Where each stage's options start.
    """

    cost: Int64
    taken: Float64
    room: Float64
    starts: Int64

    def relaxed(self, multipliers: Float64) -> Relaxed:
        """Evaluate the bound at given multipliers, safely rounded down."""
        value = self.cost + self.taken @ multipliers
        least = np.minimum.reduceat(value, self.starts)
        terms = float(np.abs(least).sum() + np.abs(self.room) @ multipliers)
        bound = float(least.sum() - self.room @ multipliers) - _ROUNDING * (1.0 + terms)
        return Relaxed(bound, value - np.repeat(least, self._counts()), multipliers)

    def ascend(self, multipliers: Float64, target: float, steps: int) -> Relaxed:
        """Improve multipliers by subgradient steps towards `target`, a cost that is thought to be in reach."""
        best = self.relaxed(multipliers)
        current, reach, waited = best, 1.0, 0
        ends = np.append(self.starts[1:], self.cost.size)
        for _ in range(steps):
            if best.bound >= target:
                break
            chosen = [
                start + int(np.argmin(current.added[start:end]))
                for start, end in zip(self.starts.tolist(), ends.tolist(), strict=True)
            ]
            slope = self.taken[chosen].sum(axis=0) - self.room
            slope[(slope < 0) & (current.multipliers <= 0)] = 0.0
            steepness = float(slope @ slope)
            if steepness <= 1e-18:
                break  # no row is broken, and none that counts is slack: this is the best there is
            step = reach * (target - current.bound) / steepness
            current = self.relaxed(np.maximum(current.multipliers + step * slope, 0.0))
            if current.bound > best.bound * (1.0 + _GAIN):
                waited = 0
            else:
                waited += 1
                if waited % 4 == 0:
                    reach /= 2
                if waited >= _PATIENCE:
                    break
            if current.bound > best.bound:
                best = current
        return best

    def _counts(self) -> Int64:
        return np.diff(np.append(self.starts, self.cost.size))
