"""What solving a time-cost problem comes to, whoever solved it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mipplan.solvers.answer import Termination


@dataclass(frozen=True)
class RawProblemAnswer:
    """What a solver of problems reports, not yet checked by our own arithmetic.

    Attributes
    ----------
    termination : Termination
    selection : tuple of int or None
        A mode per activity; None unless a solution was found.
    lower_bound : float
        Lower bound on the cost, plus infinity if INFEASIBLE.
    details : mapping
        What else the solver told: numbers and short texts.
    """

    termination: Termination
    selection: tuple[int, ...] | None
    lower_bound: float
    details: Mapping[str, float | int | str]


@dataclass(frozen=True)
class ProblemAnswer:
    """The checked outcome of solving a time-cost problem.

    Attributes
    ----------
    termination : Termination
    selection : tuple of int or None
        The chosen mode of every activity; None unless OPTIMAL or FEASIBLE.
    cost : int or None
        Recomputed by `TimeCostProblem.evaluate`.
    lower_bound : float
        No feasible selection costs less. Equals the cost if OPTIMAL with gap 0; minus infinity if nothing was proven;
        plus infinity if INFEASIBLE.
    solver : str
    formulation : str or None
        None for solvers that work on the problem itself.
    build_s, solve_s : float
        Wall-clock seconds of building a linear model (0 without one), and of all the rest.
    details : mapping
        As the solver tells them.
    """

    termination: Termination
    selection: tuple[int, ...] | None
    cost: int | None
    lower_bound: float
    solver: str
    formulation: str | None
    build_s: float
    solve_s: float
    details: Mapping[str, float | int | str]
