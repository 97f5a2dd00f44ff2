"""What a solver is asked and what it answers, in the same words for all: the Protocol of a backend."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Mapping
from concurrent.futures import wait
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from mipplan.core import (
    Deadline,
    Fault,
    Float64,
    InputError,
    array_of,
    begun,
    check_all,
    check_time_limit,
    is_finite,
    is_whole,
    remake,
    shown,
    version_of,
)
from mipplan_formulations import LinearModel, TimeCostProblem

#: A mode per activity of a `TimeCostProblem`.
Selection = tuple[int, ...]

Input_contra = TypeVar("Input_contra", contravariant=True)
Found = TypeVar("Found")
Result = TypeVar("Result")

# Less would be taken for no time at all by some solvers, and for no limit by others.
_LEAST_TIME_S = 1e-3


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


@dataclass(frozen=True)
class Settings:
    """What a caller may ask of any solver, as `mipplan.solvers.solve` explains it."""

    time_limit_s: float | None = None
    gap: float = 0.0
    threads: int = 1
    seed: int = 0
    log: bool = False
    #: No selection of interest costs less: it is known before. Solvers may leave out what does.
    proven: int = 0

    def __post_init__(self) -> None:
        ranges = {
            "gap": (is_finite(self.gap) and self.gap >= 0, "a finite number of at least 0"),
            "threads": (is_whole(self.threads) and self.threads >= 1, "a whole number of at least 1"),
            "seed": (is_whole(self.seed) and 0 <= self.seed < 2**31, "a whole number from 0 to 2**31 - 1"),
            "proven": (is_whole(self.proven), "a whole number"),
        }
        check_all(
            lambda: check_time_limit(self.time_limit_s),
            lambda: InputError.raise_if(
                Fault(name, f"expected {expected}, found {shown(getattr(self, name))}")
                for name, (is_right, expected) in ranges.items()
                if not is_right
            ),
        )

    def deadline(self) -> Deadline:
        """Return when the limit is over, counted from now."""
        return Deadline.after(self.time_limit_s)

    def until(self, deadline: Deadline) -> Settings:
        """Return the same settings with the time left until a deadline of theirs, at least a millisecond."""
        if self.time_limit_s is None:
            return self
        return replace(self, time_limit_s=deadline.left_s(_LEAST_TIME_S))

    def share(self, part: float) -> Settings:
        """Return the same settings with a part of the time."""
        return self if self.time_limit_s is None else replace(self, time_limit_s=part * self.time_limit_s)


def check_kind(name: str, given: object, kind: type, hint: str = "build one from a problem") -> None:
    """Refuse what is not of the kind that is solved or written; raises `InputError`."""
    if not isinstance(given, kind):
        raise InputError.one(name, f"expected a {kind.__name__}, got a {type(given).__name__}; {hint}")


def read_start(columns: int, start: object) -> Float64 | None:
    """Return the solution to start from as an array with a value per column; None stays None.

    Raises `InputError` if it is something else: solvers take what is too short or not finite for very different things.
    """
    if start is None:
        return None
    values = array_of(start)
    if values.dtype.kind not in "iuf" or values.shape != (columns,) or not np.isfinite(values).all():
        raise InputError.one(
            "start", f"expected {columns} finite numbers, one per column, found {shown(start)}"
        )
    return values.astype(np.float64)


def read_selection(problem: TimeCostProblem, start: object) -> Selection | None:
    """Return the selection to start from as plain integers; None stays None.

    Raises `InputError` if it does not name a mode that there is for each activity.
    """
    if start is None:
        return None
    modes = array_of(start)
    if modes.ndim != 1 or (modes.size and modes.dtype.kind not in "iu"):
        raise InputError.one("start", f"expected the number of a mode per activity, found {shown(start)}")
    try:
        return problem.modes_of(modes.tolist())
    except ValueError as fault:
        raise InputError.one("start", str(fault)) from None


@dataclass(frozen=True, eq=False)
class Answer(Generic[Found]):
    """The outcome of a solve."""

    termination: Termination
    values: Found | None = field(repr=False)
    """Shape (n,). One value per column, integer columns rounded to integers; None unless OPTIMAL or FEASIBLE.
    Of a problem: a mode per activity."""
    objective: int | None = None
    """Recomputed in integers from `values`."""
    lower_bound: float = -math.inf
    """No solution costs less. Equals the objective if OPTIMAL with gap 0; minus infinity if the solver proved
    nothing; plus infinity if INFEASIBLE."""
    solver: str = ""
    """Empty while nobody has checked what a backend returned."""
    solve_s: float = 0.0
    """Wall-clock seconds inside the backend, building its data structures included."""
    details: Mapping[str, float | int | str] = field(default_factory=lambda: MappingProxyType({}))
    """`version`, and where the solver tells them `nodes` and `gap` (relative), or other numbers and short
    texts."""

    def __post_init__(self) -> None:
        if self.termination is Termination.INFEASIBLE:  # whatever bound the solver tells then
            object.__setattr__(self, "lower_bound", math.inf)

    def __reduce__(self) -> tuple[Any, ...]:
        return remake(self)

    @property
    def checked(self) -> bool:
        """Whether our own arithmetic confirms it. What a backend returns is not checked, and nobody else sees it."""
        return bool(self.solver)


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
        As of an `Answer`.
    solver : str
    formulation : str or None
        None for solvers that work on the problem itself.
    build_s, solve_s : float
        Wall-clock seconds of building a linear model (0 without one), and of all the rest.
    details : mapping
        As the solver tells them.
    """

    termination: Termination
    selection: Selection | None
    cost: int | None
    lower_bound: float
    solver: str
    formulation: str | None
    build_s: float
    solve_s: float
    details: Mapping[str, float | int | str] = field(hash=False)  # a mapping has none

    def __reduce__(self) -> tuple[Any, ...]:
        return remake(self)

    @property
    def whole_bound(self) -> int:
        """The lower bound as a whole cost of at least 0: costs are integers, so it rounds up, less its tolerance."""
        if self.cost is not None and self.lower_bound >= self.cost:  # not so within a gap that was asked for
            return self.cost
        if not math.isfinite(self.lower_bound):
            return 0
        return max(0, math.ceil(self.lower_bound - 1e-6 * max(1.0, abs(self.lower_bound))))


@dataclass(frozen=True)
class SolverInfo:
    """Whether a solver can be used here."""

    name: str
    available: bool
    version: str | None
    """The solver's own if it tells one, else that of the Python package it comes in."""
    reason: str | None
    """Why it is not available."""


class SolverFeature(StrEnum):
    """What not every backend can do, for whoever chooses among them."""

    CONTINUOUS = "continuous"
    """Takes any continuous columns, not only event times, which integers are enough for."""
    INTEGRAL = "integral"
    """Computes in integers: costs are told apart whatever their size."""
    PRESOLVES = "presolves"
    """Leaves out modes of a problem by itself (`mipplan.solvers.presolve`)."""


class Backend(Protocol[Input_contra, Found]):
    """A solver of linear models, or one of time-cost problems.

    Packages are imported inside of `run`: asking whether a solver is there must not load any other.
    """

    name: str
    features: frozenset[SolverFeature]

    @property
    def packages(self) -> tuple[str, ...]:
        """Python packages it comes in, without which it does not work."""

    def probe(self) -> SolverInfo:
        """Tell whether the solver works here; cheap, as every solve asks."""

    def run(self, model: Input_contra, settings: Settings, start: Found | None) -> Answer[Found]:
        """Solve, from a start that need not be feasible and does not bind.

        Raises
        ------
        SolverError
            If the solver refuses the model, or ends in a way that tells nothing.
        """


LinearBackend = Backend[LinearModel, Float64]
ProblemBackend = Backend[TimeCostProblem, Selection]


class PackageBackend:
    """What backends have in common that come in Python packages, whose last one tells the version, or in this one."""

    name: str
    packages: tuple[str, ...] = ()
    features: frozenset[SolverFeature] = frozenset()

    def probe(self) -> SolverInfo:
        """Tell whether the packages are installed, without importing them."""
        missing, last = self.missing(), ("mipplan", *self.packages)[-1]
        return missing or SolverInfo(self.name, True, version_of(last), None)

    def missing(self) -> SolverInfo | None:
        """Name the first package that is not installed, if one is not."""
        for package in self.packages:
            if importlib.util.find_spec(package) is None:
                return SolverInfo(self.name, False, None, f"the package {package} is not installed")
        return None


def run_interruptibly(work: Callable[[], Result], stop: Callable[[], object], name: str) -> Result:
    """Work in a second thread, so that Ctrl-C reaches this one, which then stops the solver and passes it on.

    `work` must return soon after `stop` was called; `name` is that of the solver.
    """
    # not Thread.join: interrupted in it, Python 3.11 takes the thread for ended while it still runs, and the
    # process would end, and abort, beneath the solver
    outcome = begun(work, f"mipplan-{name}")
    try:
        while not outcome.done():  # without a timeout, Ctrl-C would not get through on Windows
            wait([outcome], timeout=0.2)
    except BaseException:
        # a solver that had not begun yet when asked to stop needs to be asked again
        while not outcome.done():
            stop()
            wait([outcome], timeout=0.2)
        raise
    return outcome.result()
