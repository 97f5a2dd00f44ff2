"""The one register of formulations: which there are, of which problem, and on which page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from mipplan_formulations import projects
from mipplan_formulations.linear import Float64, LinearModel
from mipplan_formulations.projects import ColumnPool, MultiProjectProblem
from mipplan_formulations.scaling import ScalingProblem
from mipplan_formulations.scaling import model as scaling
from mipplan_formulations.time_cost import TimeCostProblem, levels, paths, potentials

P = TypeVar("P")
E = TypeVar("E")


@dataclass(frozen=True)
class FormulationOf(Generic[P, E]):
    """One way to write a problem of type P as a `LinearModel`; sought is a choice of an E per activity or project.

    Attributes
    ----------
    name : str
        Key in the register.
    problem : type
        What it is a formulation of.
    build : callable
        Writes a problem as a model.
    decode : callable
        Reads the choice off values of the model's columns, shape (model.num_columns,).
    encode : callable
        Writes a choice as values of the model's columns: a start for a solver; inverse of `decode`.
    exact : bool
        Whether its optimum is that of the problem, and it is infeasible exactly if the problem is. If not, its
        solutions are solutions of the problem, but it may miss some, so it may cost more.
    """

    name: str
    problem: type[P]
    build: Callable[[P], LinearModel]
    decode: Callable[[P, LinearModel, Float64], tuple[E, ...]]
    encode: Callable[[P, LinearModel, Sequence[E]], Float64]
    exact: bool = True

    @property
    def page(self) -> str:
        """File name of the page with the mathematics, beside this package."""
        return f"{self.name}.md"


Formulation = FormulationOf[TimeCostProblem, int]
"""A formulation of the time-cost problem; a choice is a mode per activity."""

ScalingFormulation = FormulationOf[ScalingProblem, int]
"""A formulation of the scaling problem; a choice is a number of units per activity."""

MultiProjectFormulation = FormulationOf[Any, Any]
"""A formulation of `MultiProjectProblem` or `ColumnPool`; a choice is modes or a column, or None, per project."""


_FORMULATIONS: tuple[FormulationOf[Any, Any], ...] = (
    FormulationOf("paths", TimeCostProblem, paths.build, paths.decode, paths.encode),
    FormulationOf("potentials", TimeCostProblem, potentials.build, paths.decode, potentials.encode),
    FormulationOf("levels", TimeCostProblem, levels.build, paths.decode, levels.encode),
    FormulationOf("scaling", ScalingProblem, scaling.build, scaling.decode, scaling.encode),
    FormulationOf(
        "joint", MultiProjectProblem, projects.build_joint, projects.decode_joint, projects.encode_joint
    ),
    FormulationOf(
        "columns", ColumnPool, projects.build_columns, projects.decode_columns, projects.encode_columns
    ),
)

REGISTER = MappingProxyType({formulation.name: formulation for formulation in _FORMULATIONS})
"""All formulations, by name. A new one needs an entry above, a page and golden files; a test sees to it."""


def _of(*problems: type) -> Mapping[str, Any]:
    return MappingProxyType({name: entry for name, entry in REGISTER.items() if entry.problem in problems})


FORMULATIONS: Mapping[str, Formulation] = _of(TimeCostProblem)
"""The formulations of the time-cost problem: those that `mipplan.plan` takes."""

SCALING: Mapping[str, ScalingFormulation] = _of(ScalingProblem)
"""The formulations of the scaling problem."""

MULTI_PROJECT_FORMULATIONS: Mapping[str, MultiProjectFormulation] = _of(MultiProjectProblem, ColumnPool)
"""The formulations of problems with several projects."""
