"""What solving a linear model comes to, in the same words for every solver."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray


class Termination(StrEnum):
    """How a solve ended. That a limit was hit says nothing about feasibility, hence two outcomes for it."""

    OPTIMAL = "optimal"
    """A best solution within the gap asked for, and the proof."""
    FEASIBLE = "feasible"
    """A limit was hit; the solution at hand may not be the best."""
    INFEASIBLE = "infeasible"
    """Proven: there is no solution."""
    NO_SOLUTION_FOUND = "no_solution_found"
    """A limit was hit before any solution was found; there may be one."""


@dataclass(frozen=True, eq=False)
class Settings:
    """What a caller may ask of any solver.

    Attributes
    ----------
    time_limit_s : float or None
        Wall-clock seconds, above 0; None: no limit.
    gap : float
        Relative gap between objective and bound that counts as optimal; 0 asks for a full proof.
    threads : int
        Most threads to use, at least 1.
    seed : int
        Random seed handed to the solver, from 0 to 2**31 - 1.
    log : bool
        Write the solver's own log to stderr.
    start : float64 array, shape (n,), or None
        A solution to start from, one value per column; solvers that cannot use one ignore it.

    Raises
    ------
    ValueError
        If one of them is out of range.
    """

    time_limit_s: float | None = None
    gap: float = 0.0
    threads: int = 1
    seed: int = 0
    log: bool = False
    start: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        if self.time_limit_s is not None and not self.time_limit_s > 0:
            raise ValueError(f"time_limit_s must be above 0 or None, not {self.time_limit_s}")
        if not 0 <= self.gap < np.inf:
            raise ValueError(f"gap must be 0 or more, not {self.gap}")
        if self.threads < 1:
            raise ValueError(f"threads must be at least 1, not {self.threads}")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed must be from 0 to 2**31 - 1, not {self.seed}")


@dataclass(frozen=True, eq=False)
class RawAnswer:
    """What a backend reports, not yet checked by our own arithmetic.

    Attributes
    ----------
    termination : Termination
    values : float64 array, shape (n,), or None
        One value per column; None unless a solution was found.
    lower_bound : float
        Lower bound on the model's objective, minus infinity if the solver gives none, plus infinity if
        INFEASIBLE.
    details : mapping
        What else the solver told: numbers and short texts.
    """

    termination: Termination
    values: NDArray[np.float64] | None
    lower_bound: float
    details: Mapping[str, float | int | str]


@dataclass(frozen=True, eq=False)
class Answer:
    """The checked outcome of a solve.

    Attributes
    ----------
    termination : Termination
    values : float64 array, shape (n,), or None
        One value per column, integer columns rounded to integers; None unless OPTIMAL or FEASIBLE.
    objective : int or None
        Recomputed in integers from `values`.
    lower_bound : float
        No solution of the model costs less. Equals the objective if OPTIMAL with gap 0; minus infinity if the
        solver proved nothing; plus infinity if INFEASIBLE.
    solver : str
    solve_s : float
        Wall-clock seconds inside the backend, building its data structures included.
    details : mapping
        `version`, and where the solver tells them `nodes` and `gap` (relative).
    """

    termination: Termination
    values: NDArray[np.float64] | None
    objective: int | None
    lower_bound: float
    solver: str
    solve_s: float
    details: Mapping[str, float | int | str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class SolverInfo:
    """Whether a solver can be used here.

    Attributes
    ----------
    name : str
    available : bool
    version : str or None
        The solver's own if it tells one, else that of the Python package it comes in.
    reason : str or None
        Why it is not available.
    """

    name: str
    available: bool
    version: str | None
    reason: str | None
