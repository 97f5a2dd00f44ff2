"""The formulations that exist, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from mipplan_formulations import levels, paths, potentials, scaling
from mipplan_formulations.linear import LinearModel
from mipplan_formulations.problem import TimeCostProblem
from mipplan_formulations.scaling_problem import ScalingProblem


@dataclass(frozen=True)
class Formulation:
    """One way to write a `TimeCostProblem` as a `LinearModel`.

    Attributes
    ----------
    name : str
    build : callable
        Problem to model.
    decode : callable
        Problem, model, values of its columns to the chosen mode of every activity.
    encode : callable
        Problem, model, a chosen mode of every activity to values of the model's columns: a start for a solver.
    exact : bool
        True: its optimum is the problem's optimum, and it is infeasible exactly if the problem is. False: its
        solutions are solutions of the problem, but it may miss some, so it may cost more.
    page : str
        File name of the page with the mathematics, beside this package.
    """

    name: str
    build: Callable[[TimeCostProblem], LinearModel]
    decode: Callable[[TimeCostProblem, LinearModel, NDArray[np.float64]], tuple[int, ...]]
    encode: Callable[[TimeCostProblem, LinearModel, Sequence[int]], NDArray[np.float64]]
    exact: bool
    page: str


FORMULATIONS: Mapping[str, Formulation] = MappingProxyType(
    {
        "paths": Formulation("paths", paths.build, paths.decode, paths.encode, exact=True, page="paths.md"),
        "potentials": Formulation(
            "potentials",
            potentials.build,
            potentials.decode,
            potentials.encode,
            exact=True,
            page="potentials.md",
        ),
        "levels": Formulation(
            "levels", levels.build, levels.decode, levels.encode, exact=True, page="levels.md"
        ),
    }
)
"""All formulations, by name. A new one needs an entry here, a page and golden files; a test sees to it."""


@dataclass(frozen=True)
class ScalingFormulation:
    """One way to write a `ScalingProblem` as a `LinearModel`.

    Attributes
    ----------
    name : str
    build : callable
        Problem to model.
    decode : callable
        Problem, model, values of its columns to the number of units of every activity.
    exact : bool
        As for `Formulation`.
    page : str
        File name of the page with the mathematics, beside this package.
    """

    name: str
    build: Callable[[ScalingProblem], LinearModel]
    decode: Callable[[ScalingProblem, LinearModel, NDArray[np.float64]], tuple[int, ...]]
    exact: bool
    page: str


SCALING: Mapping[str, ScalingFormulation] = MappingProxyType(
    {"scaling": ScalingFormulation("scaling", scaling.build, scaling.decode, exact=True, page="scaling.md")}
)
"""The formulations of the scaling problem, by name: not for `mipplan.plan`, and held to the same rules."""
